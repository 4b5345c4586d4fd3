"""``fluidc bench``: time training steps of known models, alone or beside other libraries."""

from __future__ import annotations

import sys
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import NEW_FILE, threads_option
from .writing import check_file, write_text

if TYPE_CHECKING:
    from collections.abc import Collection

    from ..bench.report import Report

_WIDTH = 140  # of the table where it goes into a file or a pipe


@click.command("bench", epilog="Example: fluidc bench mlp cnn --threads 2 -o bench.json --plot bench.png")
@click.argument("models", nargs=-1, metavar="[MODEL...]")
@click.option("--private/--plain", default=None, help="Only private steps, or only plain ones; both if left out.")
@click.option(
    "--target", "targets", multiple=True, default=["cpu"], show_default=True, type=click.Choice(["cpu", "onnx"]),
    help="What fluidc's own steps are compiled for; may be repeated.",
)  # fmt: skip
@threads_option
@click.option("--rounds", type=click.IntRange(1), default=9, show_default=True, help="Turns of every contestant.")
@click.option("--batch", type=click.IntRange(1), help="Rows of a step; each model's own number if left out.")
@click.option("--memory", is_flag=True, help="Also by how much a fresh process grows.")
@click.option(
    "--with", "peers", multiple=True, metavar="COMMAND",
    help="A process that takes the same steps with another library (benchmarks/peers); may be repeated.",
)  # fmt: skip
@click.option("--skip", multiple=True, metavar="LABEL", help="Leave this contestant out; may be repeated.")
@click.option("-o", "--output", type=NEW_FILE, metavar="FILE.json", help="Write the numbers here.")
@click.option("--plot", type=NEW_FILE, metavar="FILE.png", help="Draw a bar chart (needs matplotlib).")
def command(
    models: tuple[str, ...],
    private: bool | None,
    targets: tuple[str, ...],
    threads: int | None,
    rounds: int,
    batch: int | None,
    memory: bool,
    peers: tuple[str, ...],
    skip: tuple[str, ...],
    output: Path | None,
    plot: Path | None,
) -> None:
    """Time training steps of built-in models, plain SGD and Dpsgd.

    MODEL: mlp, cnn, lenet, resnet, embedding, lstm, transformer; all if left out. Contestants take turns, from the
    same weights on the same batch, and must compute the same losses. What counts is the median of the rounds.
    """
    from ...runtime.threads import numpy_threads, thread_count
    from ..bench.compare import Plan, compare, own_labels
    from ..bench.machine import load, machine
    from ..bench.models import BENCHMARKS
    from ..bench.peers import Peer
    from ..bench.report import Report, check_plot, draw

    if unknown := [name for name in models if name not in BENCHMARKS]:
        raise click.BadParameter(f"there is no model {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    for option, path in (("-o", output), ("--plot", plot)):
        if path is not None:
            check_file(path, option)
    if plot is not None:
        check_plot(plot)
    if not peers:
        _check_labels(skip, own_labels(targets).keys())
    before, count = load(), thread_count(threads)
    plan = Plan(count, rounds, private=private, memory=memory, targets=targets, skip=frozenset(skip))
    versions: dict[str, str] = {}
    report = Report({}, machine(count, before))
    with ExitStack() as stack:
        stack.enter_context(numpy_threads(1))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        started = [stack.enter_context(Peer(line, count)) for line in peers]
        if skip:
            offered = {found.label for peer in started for name in BENCHMARKS for found in peer.contestants(name)}
            _check_labels(skip, own_labels(targets).keys() | offered)
        for name in models or BENCHMARKS:
            chosen = BENCHMARKS[name]
            report.models[name] = compare(name, chosen, batch or chosen.batch, plan, started, _tell)
            for peer in started:
                versions |= peer.versions
            report.machine = machine(count, before, versions)
            if output is not None:  # after every model: what was measured stays if a later one fails
                write_text(output, report.to_json())
    _show(report)
    if plot is not None:
        draw(report, plot)


def _check_labels(skip: tuple[str, ...], known: Collection[str]) -> None:
    """Refuse to leave out what would not take part anyway: a label that was misspelt."""
    for label in skip:
        if label not in known:
            raise click.BadParameter(
                f"there is no contestant {label!r}; there are {', '.join(sorted(known))}", param_hint="--skip"
            )


def _tell(text: str) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[K{text}", nl=False, err=True)


def _show(report: Report) -> None:
    from rich.console import Console

    from ..bench.report import missing, table

    if sys.stderr.isatty():
        click.echo("\r\x1b[K", nl=False, err=True)
    console = Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False)
    console.print(table(report))
    for line in missing(report):
        click.echo(line)
