"""Control flow that depends on values: ``control.if`` and ``control.while``.

A region reads its own parameters only: what it needs from outside is an operand.  A ``while`` has a gradient
only when a bound on the number of its steps is stated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..ir.core import Region, Value
from ..ir.types import DType, TensorType, Type
from .base import Array, Op, OpBuilder
from .control import scan_op
from .emit import OnnxEmitter, OnnxGraph, OnnxValue
from .kinds import Kind, MixedKind, PublicKind
from .onnx_loops import flat, grouped, results, tensors
from .region import (
    INDEX,
    Body,
    Control,
    build_region,
    fixpoint,
    inline,
    join_kinds,
    or_zeros,
    pullback,
    region_kinds,
    run_region,
    split,
)

_REMEDY = "compute both and choose by a mask (a comparison, cast), or run a fixed number of trips and mask the rest"


@dataclass(frozen=True, eq=False)
class If(Control):
    """``then(*arguments)`` if ``predicate`` (bool[]) holds, else ``otherwise(*arguments)``, of the same types."""

    name: ClassVar[str] = "control.if"

    predicate: Value
    arguments: tuple[Value, ...]
    then: Region
    otherwise: Region

    def infer(self) -> tuple[Type, ...]:
        if self.predicate.type != TensorType(DType.BOOL, ()):
            raise self.fail(f"the predicate is bool[], not {self.predicate.type}")
        given = [value.type for value in self.arguments]
        kinds = tuple(value.type for value in self.then.results)
        self.takes(self.then, given, "the first branch")
        self.takes(self.otherwise, given, "the second branch")
        self.yields(self.otherwise, kinds, "the second branch")
        return kinds

    def evaluate(self, predicate: Array, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return run_region(self.then if predicate else self.otherwise, arguments)

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        """The pullback of the branch that was taken."""
        live = [o for o, ct in enumerate(cts) if ct is not None]
        wanted = [k for k, need in enumerate(needs[1:]) if need]
        if not live or not wanted:
            return [None] * len(needs)

        def reverse(branch: Region) -> Body:
            def body(inner: OpBuilder, *rest: Value) -> Sequence[Value]:
                arguments, dresults = split(rest, len(self.arguments), len(live))
                ops, results = inline(inner, branch, arguments)
                into = [arguments[k] for k in wanted]
                grads = pullback(inner, ops, [(results[o], ct) for o, ct in zip(live, dresults, strict=True)], into)
                return [or_zeros(inner, ct, like) for ct, like in zip(grads, into, strict=True)]

            return body

        given = (*self.arguments, *(ct for ct in cts if ct is not None))
        found = branch(b, self.predicate, given, reverse(self.then), reverse(self.otherwise))
        grads: list[Value | None] = [None] * len(needs)
        for k, ct in zip(wanted, found, strict=True):
            grads[1 + k] = ct
        return grads

    def example_axis(self, kinds: Sequence[Kind]) -> tuple[Kind, ...]:
        if not isinstance(kinds[0], PublicKind):
            return (_data_dependent(self),) * len(self.results)
        then, otherwise = region_kinds(self.then, kinds[1:]), region_kinds(self.otherwise, kinds[1:])
        return tuple(join_kinds(self, a, b) for a, b in zip(then, otherwise, strict=True))

    def to_onnx(
        self, o: OnnxEmitter, predicate: str, arguments: tuple[OnnxValue, ...]
    ) -> OnnxValue | tuple[OnnxValue, ...]:
        kinds = [kind for _, kind in tensors(self.results)]

        def branch(region: Region) -> OnnxGraph:
            return o.graph((), kinds, lambda: flat(o.inline(region, arguments)))

        branches = branch(self.then), branch(self.otherwise)
        found = o.many("If", len(kinds), predicate, then_branch=branches[0], else_branch=branches[1])
        return results(grouped(found, [value.type for value in self.results]))


def _data_dependent(op: Op) -> MixedKind:
    return MixedKind(f"{op.name} decides for the whole batch by a value that depends on the data", op, _REMEDY)


@dataclass(frozen=True, eq=False)
class While(Control):
    """``carried = body(*carried, *whole)`` while ``condition(*carried, *whole)`` holds; the results are the last
    carried values.  ``max_trip`` bounds the number of steps; None means no bound."""

    name: ClassVar[str] = "control.while"

    init: tuple[Value, ...]
    whole: tuple[Value, ...]
    condition: Region
    body: Region
    max_trip: int | None = None

    def infer(self) -> tuple[Type, ...]:
        carried = tuple(value.type for value in self.init)
        given = (*carried, *(value.type for value in self.whole))
        self.takes(self.condition, given, "the condition")
        self.yields(self.condition, [TensorType(DType.BOOL, ())], "the condition")
        self.takes(self.body, given, "the body")
        self.yields(self.body, carried, "the body")
        return carried

    def evaluate(self, init: tuple[Any, ...], whole: tuple[Any, ...]) -> tuple[Any, ...]:
        carried, trips = init, 0
        while (self.max_trip is None or trips < self.max_trip) and run_region(self.condition, (*carried, *whole))[0]:
            carried, trips = run_region(self.body, (*carried, *whole)), trips + 1
        return carried

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        """As a scan of ``max_trip`` steps that keep their values once the condition has failed."""
        if self.max_trip is None:
            raise self.missing("vjp", "the number of its steps is not known beforehand")
        count = len(self.init)

        def advance(inner: OpBuilder, *values: Value) -> Sequence[Value]:
            return inner.inline(self.body, values)

        def keep(inner: OpBuilder, *values: Value) -> Sequence[Value]:
            return values[:count]

        def step(inner: OpBuilder, i: Value, *rest: Value) -> Sequence[Value]:
            (goes_on,) = inner.inline(self.condition, rest)
            return branch(inner, goes_on, rest, advance, keep)

        return scan_op(b, self.init, (), self.whole, self.max_trip, step).vjp(b, cts, needs)

    def example_axis(self, kinds: Sequence[Kind]) -> tuple[Kind, ...]:
        init, whole = split(kinds, len(self.init), len(self.whole))
        carried = fixpoint(self, init, lambda now: region_kinds(self.body, (*now, *whole)))
        (goes_on,) = region_kinds(self.condition, (*carried, *whole))
        if not isinstance(goes_on, PublicKind):
            return (_data_dependent(self),) * len(self.results)
        return carried

    def to_onnx(
        self, o: OnnxEmitter, init: tuple[OnnxValue, ...], whole: tuple[OnnxValue, ...]
    ) -> OnnxValue | tuple[OnnxValue, ...]:
        if self.max_trip == 0:
            return results(init)
        kinds, carried = [value.type for value in self.init], tensors(self.init)
        boolean = TensorType(DType.BOOL, ())

        def goes_on(now: Sequence[OnnxValue]) -> str:
            (found,) = flat(o.inline(self.condition, (*now, *whole)))
            return found

        def step(i: str, going: str, *names: str) -> Sequence[str]:
            after = o.inline(self.body, (*grouped(names, kinds), *whole))
            # Asked once more where the bound ends the loop: rules compute something for all operands there are.
            return goes_on(after), *flat(after)

        body = o.graph([("i", INDEX), ("going", boolean), *carried], [boolean, *(kind for _, kind in carried)], step)
        bound = "" if self.max_trip is None else o.scalar(self.max_trip, DType.I64)
        found = o.many("Loop", len(carried), bound, goes_on(init), *flat(init), body=body)
        return results(grouped(found, kinds))


def branch_op(b: OpBuilder, predicate: Value, arguments: Sequence[Value], then: Body, otherwise: Body) -> If:
    """An ``if``, not yet appended; ``then(b, *arguments)`` and ``otherwise(b, *arguments)`` write its branches."""
    types, hints = [value.type for value in arguments], [value.hint for value in arguments]
    regions = build_region(b, types, hints, then), build_region(b, types, hints, otherwise)
    return If(predicate, tuple(arguments), *regions)


def branch(
    b: OpBuilder, predicate: Value, arguments: Sequence[Value], then: Body, otherwise: Body
) -> tuple[Value, ...]:
    """Append an ``if``; returns what the branch taken yields."""
    return b.emit(branch_op(b, predicate, arguments, then, otherwise))


def loop_op(
    b: OpBuilder,
    init: Sequence[Value],
    whole: Sequence[Value],
    condition: Body,
    body: Body,
    max_trip: int | None = None,
) -> While:
    """A ``while``, not yet appended; functions of ``(b, *carried, *whole)`` write its regions."""
    values = (*init, *whole)
    types, hints = [value.type for value in values], [value.hint for value in values]
    regions = build_region(b, types, hints, condition), build_region(b, types, hints, body)
    return While(tuple(init), tuple(whole), *regions, max_trip)


def loop(
    b: OpBuilder,
    init: Sequence[Value],
    whole: Sequence[Value],
    condition: Body,
    body: Body,
    max_trip: int | None = None,
) -> tuple[Value, ...]:
    """Append a ``while``; returns the last carried values."""
    return b.emit(loop_op(b, init, whole, condition, body, max_trip))


OPS: tuple[type[Op], ...] = (If, While)
