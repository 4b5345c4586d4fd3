"""What ops with regions share: building a body, running it, differentiating it, passing kinds through it."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias, cast

import numpy as np

from ..ir.core import OpBase, Region, Value, fields_of
from ..ir.types import Dim, DType, Sym, TensorType, Type, static_shape
from .base import Array, Op, OpBuilder
from .kinds import ExampleKind, Kind, MixedKind, PublicKind

Environment: TypeAlias = MutableMapping[Value, Any]
Body: TypeAlias = Callable[..., Sequence[Value]]
INDEX = TensorType(DType.I64, ())


class Control(Op):
    """Base of the ops with regions."""

    no_tvm: ClassVar[str] = "the code generator makes loops and branches of its regions"

    def takes(self, region: Region, kinds: Sequence[Type], what: str) -> None:
        """Raises VerifyError unless the region's parameters have the types ``kinds``."""
        found = [value.type for value in region.params]
        if found != list(kinds):
            raise self.fail(f"{what} takes ({_listed(found)}), it is given ({_listed(kinds)})")

    def yields(self, region: Region, kinds: Sequence[Type], what: str) -> None:
        """Raises VerifyError unless the region yields values of the types ``kinds``."""
        found = [value.type for value in region.results]
        if found != list(kinds):
            raise self.fail(f"{what} yields ({_listed(found)}) where ({_listed(kinds)}) is expected")


def _listed(kinds: Sequence[Type]) -> str:
    return ", ".join(map(str, kinds))


def stacked_type(trip: Dim, value: Value) -> TensorType:
    """The type of one result per trip, stacked on a new axis 0."""
    return TensorType(value.tensor.dtype, (trip, *value.tensor.shape))


def or_zeros(b: OpBuilder, ct: Value | None, like: Value) -> Value:
    """``ct``, or zeros of the type of ``like`` where there is none."""
    return b.zeros_like(like) if ct is None else ct


def split(items: Sequence[Any], *counts: int) -> tuple[tuple[Any, ...], ...]:
    """Consecutive groups of ``items``."""
    groups: list[tuple[Any, ...]] = []
    start = 0
    for count in counts:
        groups.append(tuple(items[start : start + count]))
        start += count
    assert start == len(items)
    return tuple(groups)


def empty(kind: TensorType) -> Array:
    """An uninitialised array of a fixed type."""
    return np.empty(static_shape(kind.shape), kind.dtype.numpy)


def build_region(b: OpBuilder, types: Sequence[Type], hints: Sequence[str], body: Body) -> Region:
    """A region whose parameters have ``types``; ``body(inner, *params)`` appends to ``inner`` and returns
    what the region yields.  It must read nothing but its parameters."""
    inner = b.nested()
    params = tuple(Value(kind, hint) for kind, hint in zip(types, hints, strict=True))
    results = tuple(body(inner, *params))
    return Region(params, live_ops(inner.ops, results), results)


def live_ops(ops: Sequence[OpBase], results: Sequence[Value]) -> tuple[OpBase, ...]:
    """The ops that ``results`` depend on: a gradient that inlines a body seldom needs all of it."""
    needed = set(results)
    kept: list[OpBase] = []
    for op in reversed(ops):
        if any(value in needed for value in op.results):
            needed.update(op.operands)
            kept.append(op)
    return tuple(reversed(kept))


def evaluate_op(op: OpBase, environment: Environment) -> None:
    """Run ``evaluate`` of one op on the arrays of its operands; its results join ``environment``."""
    arguments: list[Any] = []
    for field in fields_of(type(op)):
        held = getattr(op, field.name)
        if field.kind == "variadic":
            arguments.append(tuple(environment[value] for value in held))
        elif field.kind in ("operand", "optional"):
            arguments.append(None if held is None else environment[held])
    found = cast(Op, op).evaluate(*arguments)
    arrays = cast("tuple[Any, ...]", found if isinstance(found, tuple) else (found,))
    environment.update(zip(op.results, arrays, strict=True))


def run_region(region: Region, arguments: Sequence[Any]) -> tuple[Any, ...]:
    """What the region yields for numpy ``arguments``, one per parameter."""
    environment: Environment = dict(zip(region.params, arguments, strict=True))
    for op in region.ops:
        evaluate_op(op, environment)
    return tuple(environment[value] for value in region.results)


def inline(b: OpBuilder, region: Region, arguments: Sequence[Value]) -> tuple[tuple[OpBase, ...], tuple[Value, ...]]:
    """Append a copy of the body on ``arguments``; returns the copied ops and what the region yields."""
    start = len(b.ops)
    results = b.inline(region, arguments)
    return tuple(b.ops[start:]), results


@dataclass(frozen=True)
class Reading:
    """One read of a value by operand number ``operand`` of ``op``, whose results have the cotangents ``cts``."""

    op: Op
    operand: int
    cts: tuple[Value | None, ...]


def pullback(
    b: OpBuilder, ops: Sequence[OpBase], seeds: Sequence[tuple[Value, Value]], wanted: Sequence[Value]
) -> list[Value | None]:
    """Append the reverse sweep over ``ops``.

    Args:
        b: The builder that holds ``ops`` already.
        ops: Straight-line code, in program order.
        seeds: Values together with cotangents that reach them from outside; a value may occur several times.
        wanted: The values whose cotangents are asked for.

    Returns:
        The cotangent of every wanted value, None for zero.
    """
    return pullback_apart(b, ops, seeds, wanted, ())[0]


def pullback_apart(
    b: OpBuilder,
    ops: Sequence[OpBase],
    seeds: Sequence[tuple[Value, Value]],
    wanted: Sequence[Value],
    apart: Sequence[Value],
) -> tuple[list[Value | None], list[Reading]]:
    """As `pullback`; what the ops contribute to the values ``apart`` is not written but returned, read by read."""
    reached = {*wanted, *apart}
    for op in ops:
        if any(value in reached for value in op.operands):
            reached.update(value for value in op.results if value.type.dtype.is_float)
    cts: dict[Value, Value] = {}
    readings: list[Reading] = []

    def add(value: Value, ct: Value) -> None:
        cts[value] = b.add(cts[value], ct) if value in cts else ct

    for value, ct in seeds:
        if value in reached:
            add(value, ct)
    for op in reversed(ops):
        found = tuple(cts.get(value) for value in op.results)
        if all(ct is None for ct in found):
            continue
        rule = cast(Op, op)
        readings += [Reading(rule, number, found) for number, value in enumerate(op.operands) if value in apart]
        needs = [value in reached and value not in apart for value in op.operands]
        if any(needs):
            grads = rule.vjp(b, found, needs)
            for value, grad, need in zip(op.operands, grads, needs, strict=True):
                if need and grad is not None:
                    add(value, grad)
    return [cts.get(value) for value in wanted], readings


def kinds_of(op: OpBase, kinds: Sequence[Kind]) -> tuple[Kind, ...]:
    """The kinds of all results of ``op``.

    A public value must not have an extent that tells the size of the lot, so such results are mixed.
    """
    found = cast(Op, op).example_axis(kinds)
    every = found if isinstance(found, tuple) else (found,) * len(op.results)
    return tuple(_guarded(op, value, kind) for value, kind in zip(op.results, every, strict=True))


def _guarded(op: OpBase, value: Value, kind: Kind) -> Kind:
    dims = value.type.shape if isinstance(value.type, TensorType) else (*value.type.data.shape, value.type.count)
    if isinstance(kind, PublicKind) and any(isinstance(dim, Sym) for dim in dims):
        return MixedKind(f"{op.name} makes a value whose extent is the size of the batch", op)
    return kind


def region_kinds(region: Region, kinds: Sequence[Kind]) -> tuple[Kind, ...]:
    """The kinds of what a region yields, from those of its parameters."""
    known: dict[Value, Kind] = dict(zip(region.params, kinds, strict=True))
    for op in region.ops:
        known.update(zip(op.results, kinds_of(op, [known[value] for value in op.operands]), strict=True))
    return tuple(known[value] for value in region.results)


def join_kinds(op: OpBase, a: Kind, b: Kind) -> Kind:
    """The kind of a value that is sometimes of kind ``a`` and sometimes of kind ``b``."""
    if a == b or isinstance(a, MixedKind) or isinstance(b, PublicKind):
        return a
    if isinstance(b, MixedKind) or isinstance(a, PublicKind):
        return b
    return MixedKind(f"{op.name} puts values with different batch axes into one", op)


def fixpoint(op: OpBase, start: Sequence[Kind], step: Callable[[Sequence[Kind]], Sequence[Kind]]) -> tuple[Kind, ...]:
    """The kinds of loop-carried values: ``start`` joined with ``step`` of itself until nothing changes.

    Ends because a kind only ever rises: public, then example or total, then mixed.
    """
    current = tuple(start)
    while True:
        after = tuple(join_kinds(op, a, b) for a, b in zip(current, step(current), strict=True))
        if all(a == b or (isinstance(a, MixedKind) and isinstance(b, MixedKind)) for a, b in zip(current, after)):
            return current
        current = after


def shifted(kind: Kind, by: int) -> Kind:
    """``kind`` after ``by`` axes were added in front (removed, when negative)."""
    return ExampleKind(kind.axis + by, kind.pre, kind.post) if isinstance(kind, ExampleKind) else kind
