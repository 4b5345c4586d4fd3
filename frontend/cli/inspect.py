"""``fluidc inspect``: what an artifact is and needs."""

from __future__ import annotations

from pathlib import Path

import click

from ...runtime import commands
from .options import artifact_argument, signature_option


@click.command("inspect", epilog="Example:  fluidc inspect mlp.fluidc")
@artifact_argument
@click.option("--verify", is_flag=True, help="Derive the privacy guarantee's premises again; 1 if one fails.")
@signature_option
@click.pass_context
def command(ctx: click.Context, artifact: Path, verify: bool, require_signature: tuple[Path, ...]) -> None:
    """Show the feeds, functions, state, privacy constants, signature and members of ARTIFACT; every hash is checked.

    --verify reads the program's text by rules of its own, and compares what it finds with the stored proof and the
    privacy constants.
    """
    ctx.exit(commands.inspect(artifact, verify, require_signature))
