"""Steps of one model, side by side: compiled plain and private, and what peers offer, in turns within one run."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np

from ...compiler.codegen.built import BuildOptions
from ...compiler.driver import compile_source
from ...runtime.errors import FluidcError
from ...runtime.kernels import KernelTable, total, typical
from .memory import growth
from .models import Benchmark
from .peers import Peer
from .step import feeds, source, step_of, weights
from .timing import PAUSE, burst

PLAIN, PRIVATE = "fluidc", "fluidc Dpsgd"
"""Labels of the steps for the cpu target."""
LONGEST = 5.0
"""A contestant that has had this many seconds is not asked again."""


@dataclass
class Contestant:
    """How one way to take the step went.

    Attributes:
        private: DP-SGD.
        seconds: per step, one mean per round.
        losses: before the first step and, of plain ones, after it.
        compile_seconds: of fluidc's own, in this process; kernels may come from the cache on disk.
        flops: of a step of fluidc's own, as its table of kernels predicts.
        megabytes: by which a fresh process grows when it takes steps, where that was asked for.
    """

    private: bool
    seconds: list[float] = field(default_factory=list[float])
    losses: list[float] = field(default_factory=list[float])
    compile_seconds: float | None = None
    flops: float | None = None
    megabytes: float | None = None

    @property
    def median(self) -> float:
        """Seconds of the median round."""
        return median(self.seconds)

    @property
    def best(self) -> float:
        """Seconds of the best round."""
        return min(self.seconds)


@dataclass
class Comparison:
    """The contestants of one model by label; ``missing`` tells why a label has none."""

    title: str
    batch: int
    contestants: dict[str, Contestant]
    missing: dict[str, str]


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        threads: of a step.
        rounds: turns of every contestant.
        burst: seconds of a turn.
        private: only private steps, or only plain ones; None for both.
        memory: also the memory of fluidc's own steps.
        targets: that fluidc's own steps are compiled for.
        skip: labels to leave out.
    """

    threads: int
    rounds: int = 9
    burst: float = 0.25
    private: bool | None = None
    memory: bool = False
    targets: tuple[str, ...] = ("cpu",)
    skip: frozenset[str] = frozenset()

    def wants(self, label: str, private: bool) -> bool:
        """Whether a contestant is measured."""
        return label not in self.skip and self.private in (None, private)


def compare(
    name: str, benchmark: Benchmark, batch: int, plan: Plan, peers: Sequence[Peer], tell: Callable[[str], None]
) -> Comparison:
    """Measure one model with every contestant in turns.

    Raises:
        FluidcError: A program does not compile, a peer ends, or the losses of two libraries differ: then they did
            not take the same step, and no ratio means anything.
    """
    result = Comparison(benchmark.title, batch, {}, {})
    bursts: dict[str, Callable[[], float]] = {}
    data = feeds(benchmark.model, batch)
    for label, (target, private) in own_labels(plan.targets).items():
        if plan.wants(label, private):
            tell(f"{name}: compiling {label}")
            start = time.perf_counter()
            program = source(benchmark.model, batch, private=private)
            compiled = compile_source(program, target=target, batch=batch, options=BuildOptions(threads=plan.threads))
            taken = time.perf_counter() - start
            step = step_of(compiled, data)
            losses = [step()] if private else [step(), step()]
            grown = growth(compiled, name, batch, plan.threads) if plan.memory else None
            result.contestants[label] = Contestant(
                private, losses=losses, compile_seconds=taken, flops=flops(compiled.built.kernels), megabytes=grown
            )
            bursts[label] = lambda step=step: burst(step, plan.burst)
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "arrays.npz")
        np.savez(file, allow_pickle=False, **weights(source(benchmark.model, batch, private=False)), **data)
        for peer in peers:
            for offered in peer.contestants(name):
                label = offered.label
                if not plan.wants(label, offered.private):
                    continue
                tell(f"{name}: loading {label}")
                found = peer.load(label, name, file)
                if isinstance(found, str):
                    result.missing[label] = found
                else:
                    result.contestants[label] = Contestant(offered.private, losses=found)
                    bursts[label] = lambda peer=peer, label=label: peer.time(label, plan.burst)
    check_losses(name, result)
    for number in range(plan.rounds):
        tell(f"{name}: round {number + 1} of {plan.rounds}")
        for label, take in bursts.items():
            seconds = result.contestants[label].seconds
            if not seconds or sum(seconds) + seconds[-1] < LONGEST:
                time.sleep(PAUSE)
                seconds.append(take())
    for peer in peers:
        peer.forget()
    return result


def own_labels(targets: Sequence[str]) -> dict[str, tuple[str, bool]]:
    """Label of each of fluidc's own contestants to its target, and whether it is private."""
    found: dict[str, tuple[str, bool]] = {}
    for target in targets:
        for label, private in ((PLAIN, False), (PRIVATE, True)):
            found[label if target == "cpu" else label.replace(PLAIN, f"{PLAIN} {target}")] = target, private
    return found


def flops(kernels: KernelTable | None) -> float | None:
    """Floating-point operations of one call of ``step``."""
    step = None if kernels is None else kernels.function("step")
    return None if step is None else float(typical(total([kernel.work for kernel in step.kernels]).flops))


def check_losses(name: str, found: Comparison, tolerance: float = 1e-3) -> None:
    """Raise FluidcError unless all contestants computed the losses of the first, to a relative ``tolerance``."""
    for which, order in enumerate(("first", "second")):
        losses = {label: c.losses[which] for label, c in found.contestants.items() if len(c.losses) > which}
        for label, loss in losses.items():
            base = next(iter(losses))
            if not abs(loss - losses[base]) <= tolerance * abs(losses[base]):
                raise FluidcError(
                    f"{label} computes another {order} loss than {base}: {loss:.6g} and {losses[base]:.6g}",
                    where=f"model {name}",
                    hint=f"they take different steps, so times say nothing; leave one out: --skip {label!r}",
                )
