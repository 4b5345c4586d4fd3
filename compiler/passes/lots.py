"""lots: a private step also as ``accumulate`` (per micro-batch) and ``apply`` (per lot).

``accumulate`` adds the clipped sums of one physical batch to ``lot`` state; ``apply`` reads them, draws the
noise once, updates, and clears them.  ``step`` stays: it equals one accumulate and one apply.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from ..errors import PrivacyError
from ..ir.core import Function, Module, OpBase, Output, StateDecl, StateName, Value
from ..ir.stage import Stage
from ..ops.construct import OpBuilder
from ..ops.dp import Accumulate
from ..ops.dp_noise import NoisyMean
from ..ops.grid import GridMean
from ..ops.state import Read, Write
from .base import Pass
from .dce import Dce
from .separability import LOT_PREFIX


@dataclass(frozen=True)
class Lots(Pass):
    """Add the functions ``accumulate`` and ``apply`` to a private module."""

    name: ClassVar[str] = "lots"
    requires: ClassVar[Stage] = Stage.UPDATE
    ensures: ClassVar[Stage] = Stage.TARGET

    def run(self, module: Module) -> Module:
        state = list(module.state)
        functions: list[Function] = []
        for function in module.functions:
            functions.append(function)
            means = [op for op in function.ops if isinstance(op, NoisyMean | GridMean)]
            if means:
                state += [StateDecl(LOT_PREFIX + op.param, op.total.tensor, "lot", "accumulator") for op in means]
                functions += [_accumulate(module, function, means), _apply(module, function, means)]
        return Dce().run(replace(module, stage=Stage.TARGET, state=tuple(state), functions=tuple(functions)))


def _accumulate(module: Module, function: Function, means: Sequence[NoisyMean | GridMean]) -> Function:
    b = OpBuilder()
    kept = _independent(function.ops, {op.result for op in means})
    kept_results = {v for op in kept for v in op.results} | {p.value for p in function.params}
    b.ops += [op for op in kept if not isinstance(op, Write)]
    writes: list[OpBase] = [
        op for op in kept if isinstance(op, Write) and module.declaration(op.state).kind == "diagnostic"
    ]
    for op in means:
        with b.at(op.loc):
            name = StateName(LOT_PREFIX + op.param)
            acc = b(Accumulate(b(Read(name, op.total.tensor)), op.total), f"acc_{op.param}")
            writes.append(Write(acc, name, loc=op.loc))
    b.ops += writes
    params = tuple(p for p in function.params if p.role not in ("key", "draw", "noise", "phase"))
    outputs = tuple(out for out in function.outputs if out.value in kept_results and _per_batch(out))
    return Function("accumulate", params, tuple(b.ops), outputs)


def _apply(module: Module, function: Function, means: Sequence[NoisyMean | GridMean]) -> Function:
    b = OpBuilder()
    mapping: dict[Value, Value] = {}
    # By the mean and not by its sum: parameters with equal gradients share a sum, and have a lot sum each.
    totals: dict[OpBase, Value] = {}
    clears: list[OpBase] = []
    for op in means:
        with b.at(op.loc):
            name = StateName(LOT_PREFIX + op.param)
            totals[op] = b(Read(name, op.total.tensor), f"lot_{op.param}")
            kind = op.total.tensor
            zero = b.fill(kind.shape, kind.dtype, 0 if kind.dtype.is_integer else 0.0)
            clears.append(Write(zero, name, loc=op.loc))
    for op in _needed(module, function, means):
        copy = op.clone(mapping, None, **({"c": None, "total": totals[op]} if op in totals else {}))
        b.ops.append(copy)
        mapping.update(zip(op.results, copy.results, strict=True))
    b.ops += clears
    read = {v for op in b.ops for v in op.operands}
    # Random numbers that all examples share are drawn in the update, too.
    noise, shared = {"key", "draw", "noise", "phase"}, {"rng_key", "rng_counter"}
    params = tuple(p for p in function.params if p.role in noise or (p.role in shared and p.value in read))
    made = {v for op in b.ops for v in op.results}
    outputs = tuple(
        Output(out.name, mapping[out.value], out.combine)
        for out in function.outputs
        if out.combine == "last" and mapping.get(out.value) in made
    )
    return Function("apply", params, tuple(b.ops), outputs)


def _per_batch(out: Output) -> bool:
    return out.combine != "last"


def _independent(ops: tuple[OpBase, ...], roots: set[Value]) -> list[OpBase]:
    """Ops that do not depend on ``roots``."""
    tainted = set(roots)
    kept: list[OpBase] = []
    for op in ops:
        if any(v in tainted for v in (*op.operands, *op.results)):
            tainted.update(op.results)
        else:
            kept.append(op)
    return kept


def _needed(module: Module, function: Function, means: Sequence[NoisyMean | GridMean]) -> list[OpBase]:
    """What writes of model state and public fetches depend on, behind the clipped sums."""
    stops = {op.total for op in means} | {op.c for op in means if op.c is not None}
    needed = {out.value for out in function.outputs if out.combine == "last"}
    feeds = {p.value for p in function.params if p.role in ("feed", "mask")}
    kept: list[OpBase] = []
    for op in reversed(function.ops):
        written = isinstance(op, Write) and module.declaration(op.state).kind == "model"
        if written or any(v in needed for v in op.results):
            kept.append(op)
            needed.update(v for v in op.operands if v not in stops)
    reached = next((v for v in feeds if v in needed), None)
    if reached is not None:
        raise PrivacyError(
            f"the update reads feed %{reached.hint} without privatising it",
            hint="only privatised gradients, state and constants may reach an update",
        )
    return kept[::-1]
