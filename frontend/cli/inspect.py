"""``fluidc inspect``: what an artifact is and needs."""

from __future__ import annotations

from pathlib import Path

import click

from ...runtime import commands
from .options import artifact_argument


@click.command("inspect", epilog="Example:  fluidc inspect mlp.fluidc")
@artifact_argument
@click.pass_context
def command(ctx: click.Context, artifact: Path) -> None:
    """Show the feeds, functions, state, privacy constants and members of ARTIFACT; every hash is checked."""
    ctx.exit(commands.inspect(artifact))
