"""Loops whose number of steps is known on entry.

A region reads its own parameters only: what it needs from outside is an operand.  Gradients recompute the
body of a step instead of storing its intermediates; only loop-carried values are kept.  The code generators
make loops of these ops, out of the ops in their regions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..ir.core import Region, Value
from ..ir.types import Dim, Sym, Type, dim_div, static_shape
from .base import Array, Op, OpBuilder
from .kinds import PUBLIC, ExampleKind, Kind, MixedKind, PublicKind, first_mixed
from .region import (
    INDEX,
    Body,
    Control,
    build_region,
    empty,
    fixpoint,
    inline,
    or_zeros,
    pullback,
    region_kinds,
    run_region,
    shifted,
    split,
    stacked_type,
)


@dataclass(frozen=True, eq=False)
class Scan(Control):
    """A loop of ``trip`` steps.

    Step i runs ``body(i, *carried, *slices, *whole)``: ``carried`` starts as ``init``, ``slices`` are
    ``stacked[…][i]`` and ``whole`` is the same in every step.  The body yields the next carried values, then
    outputs.  Results: the last carried values, then every output stacked on a new axis 0.  With ``reverse``
    i runs from ``trip - 1`` down to 0; outputs still stand at their i.
    """

    name: ClassVar[str] = "control.scan"

    init: tuple[Value, ...]
    stacked: tuple[Value, ...]
    whole: tuple[Value, ...]
    trip: Dim
    body: Region
    reverse: bool = False

    def infer(self) -> tuple[Type, ...]:
        for value in self.stacked:
            if value.tensor.rank == 0 or value.tensor.shape[0] != self.trip:
                raise self.fail(f"an operand to slice has {self.trip} entries on axis 0, not {value.type}")
        slices = [v.tensor.with_shape(v.tensor.shape[1:]) for v in self.stacked]
        carried = [value.type for value in self.init]
        self.takes(self.body, [INDEX, *carried, *slices, *(v.type for v in self.whole)], "the body")
        self.yields(Region((), (), self.body.results[: len(carried)]), carried, "the body")
        return (*carried, *(stacked_type(self.trip, value) for value in self.outputs))

    @property
    def outputs(self) -> tuple[Value, ...]:
        """The values of the body that are stacked."""
        return self.body.results[len(self.init) :]

    def evaluate(self, init: tuple[Any, ...], stacked: tuple[Array, ...], whole: tuple[Any, ...]) -> tuple[Any, ...]:
        carried, rows = init, [empty(result.tensor) for result in self.results[len(init) :]]
        (trip,) = static_shape((self.trip,))
        for i in range(trip - 1, -1, -1) if self.reverse else range(trip):
            found = run_region(self.body, (np.asarray(i, np.int64), *carried, *(x[i] for x in stacked), *whole))
            carried = found[: len(init)]
            for row, output in zip(rows, found[len(init) :], strict=True):
                row[i] = output
        return (*carried, *rows)

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        """A scan the other way.  It carries the cotangents of the carried values and the sums for ``whole``."""
        count, sliced = len(self.init), len(self.stacked)
        if all(ct is None for ct in cts):
            return [None] * len(needs)
        floats = [k for k, value in enumerate(self.init) if value.type.dtype.is_float]
        wanted_slices = [j for j in range(sliced) if needs[count + j]]
        wanted_whole = [j for j in range(len(self.whole)) if needs[count + sliced + j]]
        live = [o for o, ct in enumerate(cts[count:]) if ct is not None]

        carried = [or_zeros(b, cts[k], self.init[k]) for k in floats]
        sums = [b.zeros_like(self.whole[j]) for j in wanted_whole]
        history = self._history(b)
        from_outputs = [ct for ct in cts[count:] if ct is not None]

        def step(inner: OpBuilder, i: Value, *rest: Value) -> Sequence[Value]:
            dcarried, dwhole, before, slices, doutputs, whole = split(
                rest, len(floats), len(sums), count, sliced, len(live), len(self.whole)
            )
            ops, results = inline(inner, self.body, (i, *before, *slices, *whole))
            seeds = [(results[k], ct) for k, ct in zip(floats, dcarried, strict=True)]
            seeds += [(results[count + o], ct) for o, ct in zip(live, doutputs, strict=True)]
            into = [before[k] for k in floats], [slices[j] for j in wanted_slices], [whole[j] for j in wanted_whole]
            grads = pullback(inner, ops, seeds, [*into[0], *into[1], *into[2]])
            dbefore, dslices, added = split(grads, len(floats), len(wanted_slices), len(wanted_whole))
            return (
                *(or_zeros(inner, ct, like) for ct, like in zip(dbefore, into[0], strict=True)),
                *(total if ct is None else inner.add(total, ct) for total, ct in zip(dwhole, added, strict=True)),
                *(or_zeros(inner, ct, like) for ct, like in zip(dslices, into[1], strict=True)),
            )

        found = scan(
            b,
            [*carried, *sums],
            [*history, *self.stacked, *from_outputs],
            self.whole,
            self.trip,
            step,
            not self.reverse,
        )
        dinit, dwhole, dstacked = split(found, len(floats), len(sums), len(wanted_slices))
        grads: list[Value | None] = [None] * len(needs)
        for k, ct in zip(floats, dinit, strict=True):
            grads[k] = ct if needs[k] else None
        for j, ct in zip(wanted_slices, dstacked, strict=True):
            grads[count + j] = ct
        for j, ct in zip(wanted_whole, dwhole, strict=True):
            grads[count + sliced + j] = ct
        return grads

    def _history(self, b: OpBuilder) -> tuple[Value, ...]:
        """Every carried value as it was before each step, stacked."""
        count = len(self.init)
        sources = [
            next((o for o, out in enumerate(self.outputs) if out is new), None) for new in self.body.results[:count]
        ]
        if isinstance(self.trip, int) and self.trip > 0 and all(o is not None for o in sources):
            # The forward scan returns what it carries: shift that by one step.
            return tuple(
                self._shifted(b, start, self.results[count + o])
                for start, o in zip(self.init, sources, strict=True)
                if o is not None
            )

        def step(inner: OpBuilder, i: Value, *rest: Value) -> Sequence[Value]:
            return (*inner.inline(self.body, (i, *rest))[:count], *rest[:count])

        return scan(b, self.init, self.stacked, self.whole, self.trip, step, self.reverse)[count:]

    def _shifted(self, b: OpBuilder, start: Value, after: Value) -> Value:
        first = b.reshape(start, (1, *start.tensor.shape))
        trip = self.trip
        assert isinstance(trip, int)
        if trip == 1:
            return first
        if self.reverse:
            return b.concat((b.slice(after, 0, 1, trip), first), 0)
        return b.concat((first, b.slice(after, 0, 0, trip - 1)), 0)

    def example_axis(self, kinds: Sequence[Kind]) -> tuple[Kind, ...]:
        if isinstance(self.trip, Sym):
            # Also with public operands: a counter carried along would end as the size of the batch.
            mixed = first_mixed(kinds) or _over_examples(self)
            return (mixed,) * len(self.results)
        init, stacked, whole = split(kinds, len(self.init), len(self.stacked), len(self.whole))
        slices = [_slice_kind(self, kind) for kind in stacked]
        carried = fixpoint(
            self, init, lambda now: region_kinds(self.body, (PUBLIC, *now, *slices, *whole))[: len(init)]
        )
        outputs = region_kinds(self.body, (PUBLIC, *carried, *slices, *whole))[len(init) :]
        return (*carried, *(shifted(kind, 1) for kind in outputs))


def _slice_kind(op: Op, kind: Kind) -> Kind:
    if isinstance(kind, ExampleKind) and kind.axis == 0:
        return _over_examples(op)
    return shifted(kind, -1)


def _over_examples(op: Op) -> MixedKind:
    return MixedKind(f"{op.name} runs over the examples one after another", op, "loop over another axis")


@dataclass(frozen=True, eq=False)
class Map(Control):
    """``body(*slices)`` for every index i < ``trip``, in no particular order.

    ``axes[k]`` is the axis of operand k that the index runs over: its slice keeps that axis, with extent
    ``extent / trip``; -1 passes the operand whole.  Results are stacked on a new axis 0.
    """

    name: ClassVar[str] = "control.map"

    arguments: tuple[Value, ...]
    axes: tuple[int, ...]
    trip: Dim
    body: Region

    def infer(self) -> tuple[Type, ...]:
        if len(self.axes) != len(self.arguments):
            raise self.fail(f"{len(self.arguments)} operands and {len(self.axes)} axes")
        slices = [
            _map_slice(self, value, axis, self.trip) for value, axis in zip(self.arguments, self.axes, strict=True)
        ]
        self.takes(self.body, slices, "the body")
        return tuple(stacked_type(self.trip, value) for value in self.body.results)

    def evaluate(self, arguments: tuple[Any, ...]) -> tuple[Array, ...]:
        rows = [empty(result.tensor) for result in self.results]
        (trip,) = static_shape((self.trip,))
        for i in range(trip):
            slices = [_block(x, axis, i, trip) for x, axis in zip(arguments, self.axes, strict=True)]
            for row, output in zip(rows, run_region(self.body, slices), strict=True):
                row[i] = output
        return tuple(rows)

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        """The same map over pullbacks; contributions to whole operands are summed over the index."""
        live = [o for o, ct in enumerate(cts) if ct is not None]
        wanted = [k for k, need in enumerate(needs) if need]
        if not live or not wanted:
            return [None] * len(needs)

        def body(inner: OpBuilder, *rest: Value) -> Sequence[Value]:
            slices, dresults = split(rest, len(self.arguments), len(live))
            ops, results = inline(inner, self.body, slices)
            # Cotangents are sliced on axis 0, which slices keep.
            seeds = [
                (results[o], inner.reshape(ct, results[o].tensor.shape)) for o, ct in zip(live, dresults, strict=True)
            ]
            into = [slices[k] for k in wanted]
            grads = pullback(inner, ops, seeds, into)
            return [or_zeros(inner, ct, like) for ct, like in zip(grads, into, strict=True)]

        given = [ct for ct in cts if ct is not None]
        found = map_over(b, (*self.arguments, *given), (*self.axes, *(0 for _ in given)), self.trip, body)
        grads: list[Value | None] = [None] * len(needs)
        for k, rows in zip(wanted, found, strict=True):
            grads[k] = self._joined(b, rows, k)
        return grads

    def _joined(self, b: OpBuilder, rows: Value, k: int) -> Value:
        """The cotangent of operand ``k`` from those of its slices, stacked on axis 0."""
        axis, shape = self.axes[k], self.arguments[k].tensor.shape
        if axis < 0:
            return b.reduce_sum(rows, (0,))
        order = (*range(1, axis + 1), 0, *range(axis + 1, len(shape) + 1))
        return b.reshape(b.transpose(rows, order) if axis > 0 else rows, shape)

    def example_axis(self, kinds: Sequence[Kind]) -> tuple[Kind, ...]:
        mixed = first_mixed(kinds)
        if mixed is not None:
            return (mixed,) * len(self.results)
        over = [
            isinstance(kind, ExampleKind) and kind.axis == axis for kind, axis in zip(kinds, self.axes, strict=True)
        ]
        if any(over):
            return (self._per_example(kinds, over),) * len(self.results)
        return tuple(shifted(kind, 1) for kind in region_kinds(self.body, kinds))

    def _per_example(self, kinds: Sequence[Kind], over: Sequence[bool]) -> Kind:
        """Trips are examples, if every slice belongs to one and nothing else of the batch is read."""
        for kind, value, axis, mapped in zip(kinds, self.arguments, self.axes, over, strict=True):
            if mapped:
                assert isinstance(kind, ExampleKind)
                alone = kind.pre == 1 and dim_div(value.tensor.shape[axis], self.trip) == kind.post
            else:
                alone = isinstance(kind, PublicKind) and axis < 0
            if not alone:
                return MixedKind(f"{self.name} runs over blocks of several examples", self)
        # In one trip all values belong to one example; what remains is a body that reads the batch's size.
        return first_mixed(region_kinds(self.body, [PUBLIC] * len(kinds))) or ExampleKind(0)


def _map_slice(op: Op, value: Value, axis: int, trip: Dim) -> Type:
    if axis < 0:
        return value.type
    kind = value.tensor
    extent = dim_div(kind.shape[axis], trip) if axis < kind.rank else None
    if extent is None:
        raise op.fail(f"axis {axis} of {kind} does not divide into {trip} slices")
    return kind.with_shape((*kind.shape[:axis], extent, *kind.shape[axis + 1 :]))


def _block(x: Any, axis: int, i: int, trip: int) -> Any:
    if axis < 0:
        return x
    size = x.shape[axis] // trip
    return x[(*(slice(None),) * axis, slice(i * size, (i + 1) * size))]


# Builders ---------------------------------------------------------------------------------------------


def scan_op(
    b: OpBuilder,
    init: Sequence[Value],
    stacked: Sequence[Value],
    whole: Sequence[Value],
    trip: Dim,
    body: Body,
    reverse: bool = False,
) -> Scan:
    """A scan, not yet appended, whose body is written by ``body(b, i, *carried, *slices, *whole)``."""
    slices = [value.tensor.with_shape(value.tensor.shape[1:]) for value in stacked]
    types = [INDEX, *(v.type for v in init), *slices, *(v.type for v in whole)]
    hints = ["i", *(v.hint for v in (*init, *stacked, *whole))]
    region = build_region(b, types, hints, body)
    return Scan(tuple(init), tuple(stacked), tuple(whole), trip, region, reverse)


def scan(
    b: OpBuilder,
    init: Sequence[Value],
    stacked: Sequence[Value],
    whole: Sequence[Value],
    trip: Dim,
    body: Body,
    reverse: bool = False,
) -> tuple[Value, ...]:
    """Append a scan; returns its last carried values and its stacked outputs."""
    return b.emit(scan_op(b, init, stacked, whole, trip, body, reverse))


def map_op(b: OpBuilder, arguments: Sequence[Value], axes: Sequence[int], trip: Dim, body: Body) -> Map:
    """A map, not yet appended, whose body is written by ``body(b, *slices)``.

    Raises ValueError when a mapped axis does not divide into ``trip`` slices.
    """
    types: list[Type] = []
    for value, axis in zip(arguments, axes, strict=True):
        extent = dim_div(value.tensor.shape[axis], trip) if axis >= 0 else None
        if axis >= 0 and extent is None:
            raise ValueError(f"axis {axis} of {value.type} does not divide into {trip} slices")
        shape = value.tensor.shape if axis >= 0 else ()
        types.append(
            value.type if extent is None else value.tensor.with_shape((*shape[:axis], extent, *shape[axis + 1 :]))
        )
    region = build_region(b, types, [value.hint for value in arguments], body)
    return Map(tuple(arguments), tuple(axes), trip, region)


def map_over(b: OpBuilder, arguments: Sequence[Value], axes: Sequence[int], trip: Dim, body: Body) -> tuple[Value, ...]:
    """Append a map; returns the stacked results."""
    return b.emit(map_op(b, arguments, axes, trip, body))


OPS: tuple[type[Op], ...] = (Scan, Map)
