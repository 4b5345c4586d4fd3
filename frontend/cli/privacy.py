"""``fluidc privacy``: what noise costs or must cost, and what runs have spent together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from ...runtime.limits import Adjacency, SamplerKind

if TYPE_CHECKING:
    from ...compiler.privacy import Mechanism
    from ...runtime.privacy import PrivacySpec

_SAMPLERS = click.Choice(get_args(SamplerKind))
_ADJACENCIES = click.Choice(get_args(Adjacency))

_rate = click.option("--sample-rate", type=float, required=True, metavar="Q", help="Chance of one example per lot.")
_steps = click.option("--steps", type=click.IntRange(min=1), required=True, metavar="T", help="Number of steps.")
_sampler = click.option("--sampler", type=_SAMPLERS, default="poisson", show_default=True)
_adjacency = click.option("--adjacency", type=_ADJACENCIES, help="The sampler's own if left out.")
_slack = click.option("--slack", type=float, default=0.0, show_default=True, help="2^-10 is what float32 steps use.")


@click.group(name="privacy", no_args_is_help=True)
def command() -> None:
    """Privacy accounting: epsilon, sigma, plots, and several runs together."""


@command.command(epilog="Example: fluidc privacy epsilon --sample-rate 0.01 --sigma 1.1 --steps 1000 --delta 1e-5")
@_rate
@click.option("--sigma", type=float, required=True, help="Noise multiplier.")
@_steps
@click.option("--delta", type=float, required=True, help="Failure probability.")
@_slack
@_sampler
@_adjacency
def epsilon(**arguments: Any) -> None:
    """What steps with this noise cost, with the cross-check of a second accountant."""
    from ...compiler.privacy import epsilon_report

    click.echo(str(epsilon_report(**arguments)))


@command.command(epilog="Example: fluidc privacy sigma --sample-rate 0.01 --epsilon 2 --steps 1000 --delta 1e-5")
@_rate
@click.option("--epsilon", type=float, required=True, help="The budget.")
@_steps
@click.option("--delta", type=float, required=True, help="Failure probability.")
@_slack
@_sampler
@_adjacency
def sigma(
    sample_rate: float, epsilon: float, steps: int, delta: float, slack: float, sampler: str, adjacency: str | None
) -> None:
    """The least noise that keeps a budget."""
    from ...compiler.privacy import resolve

    # The lot size and the clip scale the noise, not its multiplier.
    plan = resolve(
        clip=1.0, lot=1.0, sample_rate=sample_rate, delta=delta, max_steps=steps, epsilon=epsilon,
        sampler=sampler, adjacency=adjacency, slack=slack,
    )  # fmt: skip
    assert plan.budget is not None
    click.echo(f"sigma        {plan.sigma:.6g}")
    click.echo(f"epsilon      {plan.budget.epsilon:.5f} at delta {delta:g} after {steps} steps")


@command.command(epilog="Example: fluidc privacy plot --sample-rate 0.01 --sigma 1 --steps 1000 --delta 1e-5 -o e.svg")
@_rate
@click.option("--sigma", type=float, required=True, help="Noise multiplier.")
@_steps
@click.option("--delta", type=float, required=True, help="Failure probability.")
@_slack
@_sampler
@_adjacency
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="svg, png or pdf.")
def plot(
    sample_rate: float,
    sigma: float,
    steps: int,
    delta: float,
    slack: float,
    sampler: str,
    adjacency: str | None,
    output: Path,
) -> None:
    """Draw epsilon over the number of steps (needs matplotlib)."""
    from ...compiler.privacy import resolve
    from ...runtime.errors import FluidcError

    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise FluidcError(
            "matplotlib is not installed", where="Python environment", hint="pip install matplotlib"
        ) from None
    plan = resolve(
        clip=1.0, lot=1.0, sigma=sigma, sample_rate=sample_rate, delta=delta, max_steps=steps,
        sampler=sampler, adjacency=adjacency, slack=slack,
    )  # fmt: skip
    assert plan.budget is not None
    rows = [(count, bound) for count, d, bound in plan.budget.table().entries() if d == delta]
    unit = "steps" if sampler == "poisson" else "epochs"
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, *(count for count, _ in rows)], [0.0, *(bound for _, bound in rows)], marker=".")
    axes.set_xlabel(unit)
    axes.set_ylabel(f"ε at δ = {delta:g}")
    axes.set_title(f"σ = {sigma:g}, q = {sample_rate:g}, {plan.sampler}, {plan.adjacency}")
    axes.grid(alpha=0.3)
    try:
        figure.savefig(output)
    except (OSError, ValueError) as error:
        raise FluidcError(
            f"the plot cannot be written: {error}", where=str(output), hint="name a .svg, .png or .pdf file"
        ) from None
    click.echo(f"{output}: ε = {rows[-1][1]:.4f} after {rows[-1][0]} {unit}")


@command.command(epilog="Example: fluidc privacy compose first.fluidc.run second.fluidc.run --delta 1e-5")
@click.argument("ledgers", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path), metavar="LEDGER...")
@click.option("--delta", type=float, required=True, help="The joint failure probability.")
@click.option("--adjacency", type=_ADJACENCIES, help="Account all runs under this relation.")
def compose(ledgers: tuple[Path, ...], delta: float, adjacency: Any) -> None:
    """What several runs on the same data have cost together.

    LEDGER is a run directory, or the ledger.jsonl in it.
    """
    from ...compiler.privacy import compose as joint
    from ...compiler.privacy import epsilon as epsilon_of

    _check_different(ledgers)
    runs = [(ledger, run) for ledger in ledgers for run in runs_in(ledger)]
    for ledger, (mechanism, steps) in runs:
        alone = epsilon_of([(mechanism, steps)], delta)
        click.echo(f"{ledger}: {steps} steps, ε = {alone:.5f}, {mechanism.sampler}, {mechanism.adjacency}")
    total = joint([run for _, run in runs], delta, adjacency)
    click.echo(f"together: ε = {total:.5f} at δ = {delta:g}")


def _check_different(ledgers: Sequence[Path]) -> None:
    """Refuse a ledger that would be counted twice, under whatever path."""
    from ...compiler.errors import PrivacyError
    from ...runtime.ledger import LEDGER

    seen: set[Path] = set()
    for ledger in ledgers:
        folder = (ledger.parent if ledger.name == LEDGER else ledger).resolve()
        if folder in seen:
            raise PrivacyError(
                "a ledger is named twice, and its steps would count twice", where=str(ledger), hint="name it once"
            )
        seen.add(folder)


def runs_in(ledger: Path) -> list[tuple[Mechanism, int]]:
    """The mechanism of a run directory and the steps its ledger counts.

    Raises:
        LedgerError: The ledger is missing or damaged.
        PrivacyError: No epsilon holds for it.
    """
    from ...compiler.errors import PrivacyError
    from ...compiler.privacy import Mechanism
    from ...runtime.errors import LedgerError
    from ...runtime.ledger import LEDGER, read_ledger

    if ledger.is_file() and ledger.name != LEDGER:
        raise LedgerError("this file is no ledger", str(ledger), f"name the run directory, such as {ledger}.run")
    spec, reading = read_ledger(ledger.parent if ledger.name == LEDGER else ledger)
    totals = reading.totals
    reason = spec.reason if spec.accounting == "none" else ""
    if totals.voids:
        reason = "noise or lots came from a known key" if "seeded" in totals.voids else "lots were fed by the caller"
    if reason or spec.q_num is None:
        raise PrivacyError(
            f"no epsilon holds for this ledger: {reason}",
            where=str(ledger),
            hint="what it was trained on cannot be accounted for; leave it out only if the data are others",
        )
    per_epoch = spec.steps_per_epoch or 1
    steps = totals.steps if spec.unit == "step" else totals.epochs * per_epoch
    mechanism = Mechanism(spec.sampler, spec.adjacency, spec.q_num, spec.sigma / (1.0 + spec.slack), per_epoch)
    if spec.phases:
        return _taken(spec, mechanism, steps)
    return [(mechanism, steps)]


def _taken(spec: PrivacySpec, mechanism: Mechanism, steps: int) -> list[tuple[Mechanism, int]]:
    """The first ``steps`` steps of a run in phases."""
    runs: list[tuple[Mechanism, int]] = []
    for phase in spec.phases:
        assert phase.q_num is not None, "accounted, so every phase states its rate"
        of_phase = replace(mechanism, q_num=phase.q_num, noise=phase.sigma / (1.0 + spec.slack))
        runs.append((of_phase, min(steps, phase.steps)))
        steps -= runs[-1][1]
    return [run for run in runs if run[1]]
