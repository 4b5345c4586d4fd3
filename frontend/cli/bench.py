"""``fluidc bench``: time training steps of known models, alone or beside other libraries."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack

import click


@click.command("bench", epilog="Example: fluidc bench mlp cnn --threads 2 -o bench.json --plot bench.png")
@click.argument("models", nargs=-1, metavar="[MODEL...]")
@click.option("--private/--plain", default=None, help="Only private steps, or only plain ones.")
@click.option("--threads", type=click.IntRange(1), help="Threads of a step; all cores if left out.")
@click.option("--rounds", type=click.IntRange(1), default=9, show_default=True, help="Turns of every contestant.")
@click.option("--batch", type=click.IntRange(1), help="Rows of a step; the model's own if left out.")
@click.option("--with", "peers", multiple=True, metavar="COMMAND", help="A process that takes the same steps.")
@click.option("--skip", multiple=True, metavar="LABEL", help="Leave out a contestant; may be repeated.")
def command(
    models: tuple[str, ...], private: bool | None, threads: int | None, rounds: int, batch: int | None,
    peers: tuple[str, ...], skip: tuple[str, ...],
) -> None:  # fmt: skip
    """Time training steps of built-in models."""
    from ..bench.compare import Plan, compare
    from ..bench.models import BENCHMARKS
    from ..bench.peers import Peer

    threads = threads or len(os.sched_getaffinity(0))
    os.environ["TVM_NUM_THREADS"] = str(threads)
    plan = Plan(threads, rounds, private=private, skip=frozenset(skip))
    with ExitStack() as stack:
        started = [stack.enter_context(Peer(command, threads)) for command in peers]
        for name in models or BENCHMARKS:
            found = compare(name, BENCHMARKS[name], batch or BENCHMARKS[name].batch, plan, started, _tell)
            base = {c.private: c.median for c in reversed(found.contestants.values())}
            for label, c in found.contestants.items():
                click.echo(
                    f"{name:12} {label:20} {1e3 * c.median:9.3f} ms median {1e3 * c.best:9.3f} best  {c.median / base[False] if False in base else 0:6.2f} x fluidc plain"
                )
            for label, why in found.missing.items():
                click.echo(f"{name:12} {label:20} missing: {why}")


def _tell(text: str) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[K{text}", nl=False, err=True)
