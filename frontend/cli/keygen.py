"""``fluidc keygen``: a pair of keys to sign artifacts with."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ...runtime.signature import new_key
from .options import NEW_FILE
from .sign import PASSPHRASE


@click.command("keygen", epilog="Example:  fluidc keygen release.pem --passphrase")
@click.argument("key", type=NEW_FILE, metavar="KEY.pem")
@click.option("--passphrase", is_flag=True, help="Encrypt the private key; asks, or reads FLUIDC_KEY_PASSPHRASE.")
def command(key: Path, passphrase: bool) -> None:
    """Make a pair of Ed25519 keys: KEY.pem, which signs and stays with you, and KEY.pub, which checks.

    KEY.pem can be read by its owner only. Files that exist are never replaced. Give KEY.pub, or its fingerprint, to
    those who run your artifacts by a way that they trust.
    """
    public, made = new_key(key, _chosen() if passphrase else None)
    click.echo(f"wrote {key}, which signs: keep it secret")
    click.echo(f"wrote {public}, for --require-signature")
    click.echo(f"fingerprint {made.fingerprint}")


def _chosen() -> bytes:
    given = os.environ.get(PASSPHRASE)
    if given is None:
        given = click.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True)
    if not given:
        raise click.UsageError("the passphrase is empty")
    return given.encode()
