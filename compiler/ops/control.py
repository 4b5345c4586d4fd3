"""Loops whose number of steps is known on entry.

A region reads its own parameters only: what it needs from outside is an operand.  Gradients recompute the
body of a step instead of storing its intermediates; only loop-carried values are kept.  The code generators
make loops of these ops, out of the ops in their regions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..ir.core import OpBase, Region, Value
from ..ir.types import Dim, DType, Sym, Type, dim_div, static_shape
from .base import Array, Op, OpBuilder
from .emit import OnnxEmitter, OnnxValue
from .kinds import PUBLIC, ExampleKind, Kind, MixedKind, PublicKind, first_mixed
from .onnx_loops import Sliced, counted, flat, grouped, results, tensors
from .region import (
    INDEX,
    Body,
    Control,
    Reading,
    build_region,
    empty,
    fixpoint,
    inline,
    live_ops,
    or_zeros,
    pullback,
    pullback_apart,
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

    def returning(self, outputs: Iterable[int]) -> Scan:
        """The same loop with only some of its outputs, and without operands that its body then never reads."""
        count = len(self.init)
        results = (*self.body.results[:count], *(self.outputs[o] for o in outputs))
        ops = live_ops(self.body.ops, results)
        read = {value for op in ops for value in op.operands} | set(results)
        index, carried, slices, whole = split(self.body.params, 1, count, len(self.stacked), len(self.whole))
        stacked = [(p, v) for p, v in zip(slices, self.stacked, strict=True) if p in read]
        fixed = [(p, v) for p, v in zip(whole, self.whole, strict=True) if p in read]
        body = Region((*index, *carried, *(p for p, _ in stacked), *(p for p, _ in fixed)), ops, results)
        kept = tuple(v for _, v in stacked), tuple(v for _, v in fixed)
        return Scan(self.init, *kept, self.trip, body, self.reverse, loc=self.loc)

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
        return self.vjp_apart(b, cts, needs, ())[0]

    def vjp_apart(
        self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool], apart: Sequence[int]
    ) -> tuple[list[Value | None], list[Reading]]:
        """As ``vjp``, but for the operands ``whole[j]``, j in ``apart``, the single reads.

        A read becomes one op over all steps, appended to ``b``, and the cotangents of its results: the reverse
        loop stacks these, and what of the op's operands nothing outside of it holds.  Needs ``lifts(b, j)``.
        """
        if all(ct is None for ct in cts):
            return [None] * len(needs), []
        return _ReverseLoop(b, self, cts, needs, apart).run()

    def lifts(self, b: OpBuilder, j: int) -> bool:
        """Whether every read of ``whole[j]`` in the body has a form for all steps at once; ``b`` stays as it is."""
        params = self.body.params[1 + len(self.init) + len(self.stacked) :]
        if params[j] in self.body.results:
            return False
        fixed = set(params)
        for op in self.body.ops:
            if not op.operands:
                fixed.update(op.results)
            elif params[j] in op.operands and not self._op_lifts(b, op, [v not in fixed for v in op.operands]):
                return False
        return True

    def _op_lifts(self, b: OpBuilder, op: OpBase, over: Sequence[bool]) -> bool:
        operands = [
            Value(stacked_type(self.trip, value)) if stacked else value
            for value, stacked in zip(op.operands, over, strict=True)
        ]
        return isinstance(op, Op) and any(over) and op.lifted(b.nested(), operands, over) is not None

    def history(self, b: OpBuilder) -> tuple[Value, ...]:
        """Every carried value as it was before each step, stacked.

        The forward scan may return it: as it was before a step, or after, then shifted by one step where their number
        is fixed.  Otherwise another scan makes it.
        """
        count = len(self.init)
        before, after = self.body.params[1 : 1 + count], self.body.results[:count]
        fixed = isinstance(self.trip, int) and self.trip > 0
        found: list[Value] = []
        for start, old, new in zip(self.init, before, after, strict=True):
            place = _place(self.outputs, old)
            if place is not None:
                found.append(self.results[count + place])
                continue
            place = _place(self.outputs, new) if fixed else None
            if place is not None:
                found.append(self._shifted(b, start, self.results[count + place]))
        if len(found) == count:
            return tuple(found)

        def step(inner: OpBuilder, i: Value, *rest: Value) -> Sequence[Value]:
            return (*inner.inline(self.body, (i, *rest))[:count], *rest[:count])

        return b.emit(scan_op(b, self.init, self.stacked, self.whole, self.trip, step, self.reverse))[count:]

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

    def to_onnx(
        self, o: OnnxEmitter, init: tuple[OnnxValue, ...], stacked: tuple[str, ...], whole: tuple[OnnxValue, ...]
    ) -> OnnxValue | tuple[OnnxValue, ...]:
        kinds = [value.type for value in self.init]
        index, before, slices, _ = split(self.body.params, 1, len(init), len(stacked), len(whole))
        carried = tensors(before)

        def step(i: str, *names: str) -> Sequence[str]:
            now, rows = grouped(names[: len(carried)], kinds), names[len(carried) :]
            return flat(o.inline(self.body, (i, *now, *rows, *whole)))

        found = counted(
            o,
            self.trip,
            flat(init),
            carried,
            [Sliced(x, 0, row) for x, row in zip(stacked, tensors(slices), strict=True)],
            [value.tensor for value in self.outputs],
            step,
            indexed=self.body.reads(index[0]),
            reverse=self.reverse,
        )
        return results(grouped(found, [value.type for value in self.results]))


class _ReverseLoop:
    """The scan that takes the cotangents of a scan's results to those of its operands.

    It computes a step of the body again, except what the scan returned, and goes through it backwards.  Sums for ragged
    operands are carried as their tokens.
    """

    def __init__(
        self, b: OpBuilder, scan: Scan, cts: Sequence[Value | None], needs: Sequence[bool], apart: Sequence[int]
    ) -> None:
        count, sliced = len(scan.init), len(scan.stacked)
        self.b, self.scan, self.cts, self.needs, self.apart = b, scan, cts, needs, apart
        self.floats = [k for k, value in enumerate(scan.init) if value.type.dtype.is_float]
        self.slices = [j for j in range(sliced) if needs[count + j]]
        self.sums = [j for j in range(len(scan.whole)) if needs[count + sliced + j] and j not in apart]
        self.live = [o for o, ct in enumerate(cts[count:]) if ct is not None]
        self.returned = scan.results[count:]
        self.history = scan.history(b)
        self.outside: dict[Value, Value] = {}  # values of one step -> all steps, stacked
        self.fixed: dict[Value, Value] = {}  # values of one step that are the same in every step -> outside
        self.readings: list[Reading] = []
        self.dslices: tuple[Value | None, ...] = ()
        self.kept: tuple[Value, ...] = ()
        self.index: Value | None = None

    def run(self) -> tuple[list[Value | None], list[Reading]]:
        b, scan, count, sliced = self.b, self.scan, len(self.scan.init), len(self.scan.stacked)
        reverse = scan_op(
            b,
            [
                *(or_zeros(b, self.cts[k], scan.init[k]) for k in self.floats),
                *(b.zeros_like(b.tokens(scan.whole[j])) for j in self.sums),
            ],
            [*self.history, *scan.stacked, *self.returned, *(ct for ct in self.cts[count:] if ct is not None)],
            scan.whole,
            scan.trip,
            self._step,
            not scan.reverse,
        )
        found = b.emit(reverse.returning(range(len(reverse.outputs))))
        dinit, dwhole, dstacked, kept = split(found, len(self.floats), len(self.sums), len(self.slices), len(self.kept))
        for value, rows in zip((*self.dslices, *self.kept), (*dstacked, *kept), strict=True):
            if value is not None:
                self.outside[value] = rows
        grads: list[Value | None] = [None] * len(self.needs)
        for k, ct in zip(self.floats, dinit, strict=True):
            grads[k] = ct if self.needs[k] else None
        for j, ct in zip(self.slices, dstacked, strict=True):
            grads[count + j] = ct
        for j, ct in zip(self.sums, dwhole, strict=True):
            grads[count + sliced + j] = b.as_rows(ct, scan.whole[j])
        return grads, [self._lifted(reading) for reading in self.readings]

    def _step(self, inner: OpBuilder, i: Value, *rest: Value) -> Sequence[Value]:
        scan = self.scan
        dcarried, dwhole, before, slices, returned, doutputs, whole = split(
            rest,
            len(self.floats),
            len(self.sums),
            len(scan.init),
            len(scan.stacked),
            len(self.returned),
            len(self.live),
            len(scan.whole),
        )
        again = inner.nested()
        ops, results = inline(again, scan.body, (i, *before, *slices, *whole))
        outputs = results[len(scan.init) :]
        seeds = [(results[k], ct) for k, ct in zip(self.floats, dcarried, strict=True)]
        seeds += [(outputs[o], ct) for o, ct in zip(self.live, doutputs, strict=True)]
        into = [before[k] for k in self.floats], [slices[j] for j in self.slices], [whole[j] for j in self.sums]
        grads, self.readings = pullback_apart(
            again, ops, seeds, [*into[0], *into[1], *into[2]], [whole[j] for j in self.apart]
        )
        self.fixed = dict(zip(whole, scan.whole, strict=True))
        self.fixed |= {v: w for op in ops if not op.operands for v, w in zip(op.results, op.results, strict=True)}
        self.outside = dict(zip(before, self.history, strict=True)) | dict(zip(slices, scan.stacked, strict=True))
        self.outside |= {v: w for v, w in zip(outputs, self.returned, strict=True) if v.op is not None}
        self.outside |= zip(doutputs, (ct for ct in self.cts[len(scan.init) :] if ct is not None), strict=True)
        self.index = i
        dbefore, dslices, added = split(grads, len(self.floats), len(self.slices), len(self.sums))
        self.dslices = dslices
        needed = [v for reading in self.readings for v in (*reading.op.operands, *reading.cts) if v is not None]
        held = {i, *self.outside, *self.fixed, *dslices}
        self.kept = tuple(v for v in dict.fromkeys(needed) if v not in held)
        yielded = (
            *(or_zeros(again, ct, like) for ct, like in zip(dbefore, into[0], strict=True)),
            *(
                total if ct is None else again.add(total, again.tokens(ct))
                for total, ct in zip(dwhole, added, strict=True)
            ),
            *(or_zeros(again, ct, like) for ct, like in zip(dslices, into[1], strict=True)),
            *self.kept,
        )
        mapping = {v: w for v, w in zip(outputs, returned, strict=True) if v.op is not None}
        for op in again.ops:
            copy = op.clone(mapping)
            inner.ops.append(copy)
            for old, new in zip(op.results, copy.results, strict=True):
                mapping.setdefault(old, new)
        return [mapping.get(value, value) for value in yielded]

    def _lifted(self, reading: Reading) -> Reading:
        """A read in one step as one op over all steps."""
        op, b = reading.op, self.b
        over = [value not in self.fixed for value in op.operands]
        lifted = op.lifted(b, [self._all_steps(value) for value in op.operands], over)
        assert lifted is not None, f"{op.name} was found to lift"
        lifted = lifted.clone({}, op.loc)
        b.emit(lifted, *(value.hint for value in op.results))
        cts = tuple(None if ct is None else self.outside[ct] for ct in reading.cts)
        return Reading(lifted, reading.operand, cts)

    def _all_steps(self, value: Value) -> Value:
        b = self.b
        if value is self.index:
            return b.iota((self.scan.trip,), 0, DType.I64)
        if value not in self.fixed:
            return self.outside[value]
        found = self.fixed[value]
        if found is value:  # a constant made in the body
            assert value.op is not None
            copy = value.op.clone({})
            b.emit(copy)
            return copy.results[value.index]
        return found


def _place(values: Sequence[Value], wanted: Value) -> int | None:
    """Where ``wanted`` itself first stands among ``values``."""
    return next((i for i, value in enumerate(values) if value is wanted), None)


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

    def to_onnx(self, o: OnnxEmitter, arguments: tuple[OnnxValue, ...]) -> OnnxValue | tuple[OnnxValue, ...]:
        slices = [
            self._sliced_onnx(o, name, value, axis, parameter)
            for name, value, axis, parameter in zip(arguments, self.arguments, self.axes, self.body.params, strict=True)
        ]

        def step(i: str, *rows: str) -> Sequence[str]:
            rest = iter(rows)
            given = [x if piece is None else next(rest) for x, piece in zip(arguments, slices, strict=True)]
            return flat(o.inline(self.body, given))

        taken = [piece for piece in slices if piece is not None]
        outputs = [value.tensor for value in self.body.results]
        return results(counted(o, self.trip, (), (), taken, outputs, step, indexed=False))

    def _sliced_onnx(self, o: OnnxEmitter, x: OnnxValue, value: Value, axis: int, parameter: Value) -> Sliced | None:
        """An operand with the index on an axis of its own; None if it is passed whole."""
        if axis < 0:
            return None
        assert isinstance(x, str)
        shape, block = value.tensor.shape, parameter.tensor.shape[axis]
        apart = o.reshape(x, (*shape[:axis], self.trip, block, *shape[axis + 1 :]))
        return Sliced(apart, axis, (parameter.hint, parameter.tensor))


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
    """Append a scan; returns its last carried values and its stacked outputs.

    Of an open number of steps it also puts out what it carries before each, which the gradient reads; where there is
    none, dead code elimination takes that away.
    """
    if isinstance(trip, int) or not init:
        return b.emit(scan_op(b, init, stacked, whole, trip, body, reverse))

    def keeping(inner: OpBuilder, i: Value, *values: Value) -> Sequence[Value]:
        return (*body(inner, i, *values), *values[: len(init)])

    return b.emit(scan_op(b, init, stacked, whole, trip, keeping, reverse))[: -len(init)]


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
