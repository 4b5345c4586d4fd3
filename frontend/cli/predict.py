"""``fluidc predict``: an artifact's outputs for a data set."""

from __future__ import annotations

from pathlib import Path

import click

from ...runtime import commands
from .engines import choose_engine
from .options import (
    NEW_FILE,
    artifact_argument,
    columns_option,
    data_option,
    device_option,
    fetch_option,
    signature_option,
    threads_option,
)


@click.command("predict", epilog="Example:  fluidc predict trained.fluidc --data test.npz -o predictions.npz")
@artifact_argument
@data_option
@columns_option
@click.option("-o", "--output", type=NEW_FILE, required=True, help="Write the outputs to this .npz file.")
@fetch_option
@signature_option
@threads_option
@device_option
@click.pass_context
def command(
    ctx: click.Context,
    artifact: Path,
    data: Path,
    columns: tuple[str, ...],
    output: Path,
    fetch: tuple[str, ...],
    require_signature: tuple[Path, ...],
    threads: int | None,
    device: int | None,
) -> None:
    """Write what ARTIFACT returns for every row of DATA, in the order of the rows."""
    ctx.exit(
        commands.predict(artifact, data, output, fetch, threads, choose_engine, require_signature, device, columns)
    )
