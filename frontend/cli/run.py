"""``fluidc run``: train an artifact."""

from __future__ import annotations

from typing import Any

import click

from ...runtime import commands
from .engines import choose_engine
from .options import (
    DATA,
    NEW_FILE,
    artifact_argument,
    columns_option,
    data_option,
    device_option,
    fetch_option,
    signature_option,
    threads_option,
)

EXAMPLES = """\b
Examples:
  fluidc run mlp.fluidc --data train.npz --epochs 10 -o trained.fluidc
  fluidc run mlp.fluidc --data train.csv --columns x=p0..p783 --columns y=label --steps 500
  fluidc run mlp.fluidc --data train/ --eval test.npz --epochs 10 --report run.html --log logs/1
  fluidc run private.fluidc --data train.npz --checkpoint-every 60s --resume -o trained.fluidc"""


@click.command("run", epilog=EXAMPLES)
@artifact_argument
@data_option
@columns_option
@click.option("-o", "--output", type=NEW_FILE, help="Write the trained artifact here.")
@click.option("--epochs", type=click.IntRange(1), help="Passes over the data; private: 1/q steps each.")
@click.option("--steps", type=click.IntRange(1), help="Steps; default of a private artifact: its whole budget.")
@click.option("--batch", type=click.IntRange(1), help="Rows of a batch, where the artifact does not fix them [32].")
@click.option("--sampler", type=click.Choice(commands.SAMPLERS), help="shuffle or sequential; private: the stored one.")
@fetch_option
@click.option("--eval", "evaluate", type=DATA, help="Evaluate on this data afterwards.")
@click.option("--run-dir", type=NEW_FILE, help="Privacy ledger and checkpoints [ARTIFACT.run].")
@click.option("--checkpoint", type=NEW_FILE, help="Folder of the checkpoints [RUN_DIR/checkpoints].")
@click.option("--checkpoint-every", metavar="N|SECONDSs", help="When to write one [60s where --checkpoint is given].")
@click.option("--keep", type=click.IntRange(1), default=3, show_default=True, help="Newest checkpoints kept.")
@click.option("--resume", is_flag=True, help="Go on from the newest checkpoint.")
@click.option(
    "--report", type=NEW_FILE, metavar="FILE.html", help="Write a page: curves, graph, times, constants, results."
)
@click.option("--log", type=NEW_FILE, metavar="DIR", help="Write event files for TensorBoard.")
@click.option(
    "--profile",
    type=NEW_FILE,
    metavar="FILE.png",
    help="Clock every kernel: print a table, and draw times and roofline (.png, .svg, .pdf) or write data (.json; "
    "of an artifact for onnx nothing else).",
)
@click.option("--private-report", is_flag=True, help="Show and write public values only: no loss, metric or time.")
@click.option("--check-numerics", is_flag=True, help="Refuse and undo a step that gives NaN or infinity.")
@click.option("--insecure-noise-key", metavar="HEX", help="Reproducible noise WITHOUT PRIVACY, for tests.")
@click.option(
    "--seed", type=click.IntRange(0, 2**64 - 1), help="Of initialisers, shuffles, dropout; in private steps of nothing."
)
@signature_option
@threads_option
@device_option
@click.pass_context
def command(ctx: click.Context, **options: Any) -> None:
    """Train ARTIFACT on a data set, and write the trained artifact.

    DATA holds an array for each feed, or a table with columns for it; what is large is mapped, so it may be larger
    than memory (docs/data.md). A private artifact draws its lots by the sampler it was accounted
    for, counts every step in the ledger of the run directory before its lot is drawn, and stops at its budget.
    """
    if options["epochs"] is not None and options["steps"] is not None:
        raise click.UsageError("--epochs and --steps exclude each other", ctx)
    ctx.exit(commands.run(commands.RunArguments(**options), choose_engine))
