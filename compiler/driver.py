"""From a captured module to something that runs: the only place that knows the whole route."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from ..runtime.artifact import Artifact
from ..runtime.manifest import Binding, Combine, FeedSpec, FunctionSpec, Manifest, OutputSpec, StateSpec
from ..runtime.privacy import (
    AutomaticOptions,
    Clipping,
    ClippingOptions,
    EpsilonEntry,
    Mechanism,
    PhaseSpec,
    PrivacySpec,
    QuantileOptions,
)
from .codegen.built import BuildOptions, Built
from .codegen.target import build
from .errors import PrivacyError
from .ir.core import Function, Module, PrivacyConfig, StateDecl, walk
from .ir.printer import to_text
from .ir.stage import Stage
from .ir.types import Shape
from .ops.dp import ClippedSum
from .ops.dpsgd import Dpsgd
from .ops.drawing import Drawing
from .ops.grid import GridSum
from .ops.state import Write, state_of
from .passes.manager import Observer, Trace, run_passes
from .pipeline import pipeline, stage_ends
from .privacy import PrivacyPlan

State = Mapping[str, NDArray[np.generic]]

LARGE = 1 << 30
"""Bytes of per-example gradients that are worth a warning."""


@dataclass(frozen=True)
class Source:
    """A captured module and what the compiler needs to know beside it.

    Attributes:
        module: At stage ``captured``.
        fetches: Names fetched by default.
        ranges: Integer feeds with a range of valid values ``[low, high)``: labels, word ids.
        initial: State given as arrays; ``startup`` makes the rest.
        plan: The resolved privacy constants of a private program.
        seed: ``program.random_seed``, None when it is 0.
    """

    module: Module
    fetches: tuple[str, ...] = ()
    ranges: Mapping[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    initial: State = field(default_factory=dict[str, NDArray[np.generic]])
    plan: PrivacyPlan | None = None
    seed: int | None = None


@dataclass
class Compiled:
    """A compiled program: what `fluidc compile` writes, and what the Executor runs at once.

    Attributes:
        source: What was compiled.
        module: The module at stage ``target``.
        stages: IR text of each stage (`pipeline.stage_ends`); filled only when asked for.
        built: The code.
        manifest: What the runtime needs to know.
        trace: Seconds per pass, and of code generation (``codegen``).
    """

    source: Source
    module: Module
    stages: dict[Stage, str]
    built: Built
    manifest: Manifest
    trace: Trace

    def artifact(self) -> Artifact:
        """The artifact as written to a ``.fluidc`` file; code is linked now if it was not yet."""
        return Artifact(
            manifest=self.manifest,
            ir={str(stage): text for stage, text in self.stages.items()},
            modules=self.built.members(),
            state=dict(self.source.initial),
            proof="\n".join(self.module.proof) or None,
            kernels=self.built.kernels,
        )


def compile_source(
    source: Source,
    *,
    target: str = "cpu",
    batch: int = 0,
    options: BuildOptions | None = None,
    observe: Observer | None = None,
    keep_ir: bool = False,
) -> Compiled:
    """Compile a captured module.

    Args:
        source: The module and its surroundings.
        target: A name of ``codegen.target.TARGETS``.
        batch: Physical rows of a step.  0: symbolic, or for a private program its lot size rounded up to 16.
        options: Code generation.
        observe: Called after every pass (dumping).
        keep_ir: Keep the text of every stage, as artifacts do.

    Raises:
        FluidcError: what the program, its privacy constants or the target do not allow.
    """
    module, trace = source.module, Trace()
    privacy = privacy_block(source)
    if module.privacy is not None and not batch:
        batch = default_batch(module.privacy.largest_lot)
    stages: dict[Stage, str] = {}
    ends = stage_ends(module, batch=batch)

    def watch(number: int, name: str, current: Module) -> None:
        if keep_ir and number in ends:
            stages[ends[number]] = to_text(current)
        if observe is not None:
            observe(number, name, current)

    module = run_passes(module, pipeline(module, batch=batch), observe=watch, trace=trace)
    _tell_large_gradients(module)
    start = time.perf_counter()
    notes = file_notes(privacy, _caution(source.module))
    built = build(module, target, replace(options or BuildOptions(), metadata=notes))
    trace.timings.append(("codegen", time.perf_counter() - start))
    manifest = _manifest(source, module, built, batch or None, privacy)
    return Compiled(source, module, stages, built, manifest, trace)


def file_notes(privacy: PrivacySpec | None, caution: str) -> dict[str, str]:
    """What a file of code that people open by itself tells of the program: the version, and the privacy block."""
    notes = {"fluidc.version": metadata.version("fluidc")}
    if privacy is not None:
        notes["fluidc.privacy"] = json.dumps(privacy.to_json(), allow_nan=False)
    if caution:
        notes["fluidc.caution"] = caution
    return notes


def default_batch(lot: float) -> int:
    """The physical batch of a private step: the lot size rounded up to a multiple of 16.

    >>> default_batch(0.999), default_batch(64), default_batch(1437)
    (16, 64, 1440)
    """
    return max(16, -(-int(np.ceil(lot)) // 16) * 16)


def _manifest(source: Source, module: Module, built: Built, batch: int | None, privacy: PrivacySpec | None) -> Manifest:
    return Manifest(
        fluidc_version=metadata.version("fluidc"),
        target=built.spec,
        batch=batch,
        feeds=feed_specs(source),
        fetches=source.fetches,
        state=tuple(_state(declaration) for declaration in module.state),
        functions=tuple(_function(module, function) for function in module.functions),
        privacy=privacy,
        caution=_caution(module),
        seed=source.seed,
        max_rows=_max_rows(module),
    )


def _tell_large_gradients(module: Module) -> None:
    """Warn, before minutes are spent, of per-example gradients that fill the memory.

    Warns:
        UserWarning: They take more than `LARGE` bytes; with the number, and what makes it smaller.
    """
    stored: list[tuple[int, ClippedSum | GridSum]] = []
    for op in module.function("step").ops if module.has_function("step") else ():
        if isinstance(op, ClippedSum | GridSum) and isinstance(count := op.g.tensor.numel, int):
            stored.append((count * op.g.type.dtype.numpy.itemsize, op))
    total = sum(size for size, _ in stored)
    if total <= LARGE:
        return
    largest = max(stored, key=lambda found: found[0])[1]
    shape = largest.g.tensor.shape
    share = total / int(str(shape[0])) / 2**20
    discrete = isinstance(largest, GridSum)
    why = "mechanism='discrete' rounds every example's gradient" if discrete else "no norm rule spares storing them"
    warnings.warn(
        f"per-example gradients take up to {total / 2**30:.1f} GiB, {share:.2f} MiB for each of {shape[0]} rows ({why}"
        f"; the largest is {list(shape)}): a smaller physical batch (--batch) takes less, costs no privacy and leaves "
        "the lot as it is",
        UserWarning,
        stacklevel=3,
    )


def _max_rows(module: Module) -> int | None:
    """Rows of a call or of a lot from which a stream of model randomness would begin again; None without such."""
    found = [
        most
        for function in module.functions
        for op in walk(function.ops)
        if isinstance(op, Drawing) and (most := op.most_rows(op.results[0].tensor.shape)) is not None
    ]
    return min(found, default=None)


def _caution(module: Module) -> str:
    """What readers of the artifact must be told first."""
    if any(isinstance(op, Dpsgd) for function in module.functions for op in walk(function.ops)):
        return (
            "NOT PRIVATE: Dpsgd(mechanism='paddle') is Paddle's own kernel, for comparison. It clips whole batch "
            "gradients and adds one number seeded by the clock; no epsilon holds."
        )
    return ""


def feed_specs(source: Source) -> tuple[FeedSpec, ...]:
    """What callers feed, with the batch symbolic: the captured module's parameters."""
    module = source.module
    public = module.privacy.public_feeds if module.privacy is not None else ()
    found: dict[str, FeedSpec] = {}
    for function in module.functions:
        for param in function.params:
            if param.role == "feed" and param.name not in found:
                kind = param.value.tensor
                low, high = source.ranges.get(param.name, (None, None))
                role = "public" if param.name in public else "data"
                found[param.name] = FeedSpec(param.name, kind.dtype.value, _dims(kind.shape), low, high, role)
    return tuple(found.values())


def _dims(shape: Shape) -> tuple[int | str, ...]:
    return tuple(dim if isinstance(dim, int) else str(dim) for dim in shape)


def _state(declaration: StateDecl) -> StateSpec:
    shape = tuple(int(str(dim)) for dim in declaration.type.shape)
    return StateSpec(
        declaration.name, declaration.type.dtype.value, shape, declaration.kind, declaration.trainable, declaration.role
    )


def _function(module: Module, function: Function) -> FunctionSpec:
    inputs = [Binding("state", name) for name in state_of(module, function)]
    for param in function.params:
        inputs.append(Binding(param.role, param.name if param.role in ("feed", "noise", "extent") else ""))
    outputs: list[OutputSpec] = []
    for out in function.outputs:
        kind = out.value.tensor
        combine: Combine = "none" if out.combine == "last" else out.combine
        exposed = module.privacy is not None and combine != "none"
        outputs.append(OutputSpec("fetch", out.name, kind.dtype.value, _dims(kind.shape), combine, exposed))
    for op in function.ops:
        if isinstance(op, Write):
            kind = op.value.tensor
            outputs.append(OutputSpec("state", op.state, kind.dtype.value, _dims(kind.shape)))
    return FunctionSpec(function.name, tuple(inputs), tuple(outputs))


def privacy_block(source: Source) -> PrivacySpec | None:
    """The privacy block of the manifest: public constants and the table of epsilons; None for a plain program.

    Raises:
        PrivacyError: The module is private, and no plan was resolved.
    """
    module, plan = source.module, source.plan
    config = module.privacy
    if config is None:
        return None
    if plan is None:
        raise PrivacyError("a private module without a resolved privacy plan", hint="pass Source(plan=...)")
    budget = plan.budget
    entries: tuple[EpsilonEntry, ...] = ()
    if budget is not None:
        entries = tuple(EpsilonEntry(count, delta, value) for count, delta, value in budget.table().entries())
    trainable = {declaration.name for declaration in module.state if declaration.trainable}
    startup = module.function("startup").ops if module.has_function("startup") else ()
    written = {op.state for op in startup if isinstance(op, Write)}
    given = tuple(sorted(name for name in source.initial if name not in written))
    return PrivacySpec(
        mechanism=_mechanism(config.mechanism),
        clipping=_clipping(config.clipping),
        clip=config.clips if config.clipping == "per-group" else config.clip,
        lot=config.lot,
        sigma=config.sigma,
        grid_bits=config.grid_bits or None,
        slack=config.slack,
        sampler=plan.sampler,
        adjacency=plan.adjacency,
        q_num=plan.q_num,
        delta=budget.delta if budget is not None else None,
        max_steps=plan.max_steps,
        max_epochs=budget.max_epochs if budget is not None else None,
        steps_per_epoch=None if budget is None or plan.sampler == "poisson" else budget.mechanism.steps_per_epoch,
        table=entries,
        accounting="pld" if budget is not None else "none",
        reason=plan.reason,
        accountant="dp-accounting" if budget is not None else "",
        accountant_version=metadata.version("dp-accounting") if budget is not None else "",
        parameters=tuple(sorted(trainable)),
        assumed_public=given,
        groups=tuple(tuple(map(str, group)) for group in config.groups),
        clipping_options=_clipping_options(config),
        phases=tuple(PhaseSpec(phase.steps, phase.sigma, phase.lot, phase.q_num) for phase in plan.phases),
    )


def _mechanism(name: str) -> Mechanism:
    for known in get_args(Mechanism):
        if name == known:
            return known
    raise PrivacyError(f"unknown mechanism {name!r}", hint=f"use one of {', '.join(get_args(Mechanism))}")


def _clipping(name: str) -> Clipping:
    for known in get_args(Clipping):
        if name == known:
            return known
    raise PrivacyError(f"unknown clipping {name!r}", hint=f"use one of {', '.join(get_args(Clipping))}")


def _clipping_options(config: PrivacyConfig) -> ClippingOptions | None:
    if config.clipping == "automatic":
        return AutomaticOptions(config.gamma)
    if config.clipping == "quantile":
        return QuantileOptions(
            config.quantile, config.eta, config.sigma_b, config.c_min, config.c_max, str(config.bound)
        )
    return None
