"""``fluidc sign``: vouch for an artifact."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from ...runtime.artifact import MANIFEST, ArtifactFile
from ...runtime.commands import plain_warnings
from ...runtime.errors import SignatureError
from ...runtime.files import write_atomically
from ...runtime.signature import Signature, load_private
from .options import NEW_FILE, OLD_FILE, artifact_argument

PASSPHRASE = "FLUIDC_KEY_PASSPHRASE"


@click.command("sign", epilog="Example:  fluidc sign mlp.fluidc --key release.pem")
@artifact_argument
@click.option("--key", type=OLD_FILE, required=True, metavar="KEY.pem", help="Private key, as keygen makes it.")
@click.option("-o", "--output", type=NEW_FILE, help="Write the signed artifact here, not in place of ARTIFACT.")
def command(artifact: Path, key: Path, output: Path | None) -> None:
    """Sign ARTIFACT: its manifest, and with it the hash of every member.

    Whoever gives KEY.pub to --require-signature executes this very program and no other. A signature that is there is
    replaced. It changes nothing that checkpoints and ledgers are bound to; an artifact that is trained afterwards is
    written without it. The passphrase of an encrypted key is asked for, or read from FLUIDC_KEY_PASSPHRASE.
    """
    file = ArtifactFile.read(artifact)
    with plain_warnings():
        private = load_private(key, lambda: _passphrase(key))
    made = Signature.make(file.members[MANIFEST], private)
    path = output or artifact
    try:
        write_atomically(path, file.with_signature(made), artifact.stat().st_mode & 0o777)
    except OSError as error:
        raise SignatureError(
            f"the signed artifact cannot be written: {error.strerror}",
            str(path),
            "choose a folder that exists, is writable and has space",
        ) from None
    if file.signature is not None and file.signature != made:
        click.echo(f"the signature by {file.signature.fingerprint} is replaced")
    click.echo(f"signed by {made.fingerprint}")
    click.echo(f"wrote {path}")


def _passphrase(key: Path) -> bytes:
    given = os.environ.get(PASSPHRASE)
    if given is not None:
        return given.encode()
    if not sys.stdin.isatty():
        raise SignatureError("the key is encrypted, and there is nobody to ask", str(key), f"set {PASSPHRASE}")
    return click.prompt("Passphrase", hide_input=True, err=True).encode()
