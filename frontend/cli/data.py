"""``fluidc data``: what can be done with a data set before a run."""

from __future__ import annotations

from pathlib import Path

import click

from ...runtime import commands
from .options import DATA, NEW_FILE, artifact_argument, columns_option


@click.group("data")
def command() -> None:
    """Make data ready to be mapped."""


@command.command(
    "convert",
    epilog="Example:  fluidc data convert mlp.fluidc train.parquet -o train --columns x=p0..p783 --columns y=label",
)
@artifact_argument
@click.argument("data", type=DATA)
@click.option("-o", "--output", type=NEW_FILE, required=True, metavar="FOLDER", help="Write the .npy files here.")
@columns_option
@click.option("--function", default="step", show_default=True, help="Whose feeds the data holds: step, or infer.")
@click.pass_context
def convert(
    ctx: click.Context, artifact: Path, data: Path, output: Path, columns: tuple[str, ...], function: str
) -> None:
    """Write DATA as a folder of .npy files, one for each feed of ARTIFACT.

    Lots are drawn from all over a data set, and a table, or a compressed archive, can only be read from its beginning.
    So one that is too large for memory is decoded once, block by block and checked on the way; `fluidc run --data
    FOLDER` maps the result.
    """
    ctx.exit(commands.convert(artifact, data, output, columns, function))
