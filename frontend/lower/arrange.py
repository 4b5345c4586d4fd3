"""Ops that rearrange or select elements, and lookups."""

from __future__ import annotations

from ...compiler.ir.core import Value
from ...compiler.ir.types import Dim, DType, Sym, dim_div, numel
from ...compiler.ops import embedding, indexing, reduce
from ...compiler.ops.grad import StopGradient
from ..vartype import VarType
from .context import OpLowering, Rules
from .loss import check_range
from .numbers import dims, integer, integers
from .paddle_gradients import scattered, trained


def _reshape(o: OpLowering) -> None:
    x = o.tokens()
    wanted = dims(o, ("ShapeTensor", "Shape"), "shape")
    shape: list[Dim] = [x.tensor.shape[i] if d == 0 else d for i, d in enumerate(wanted)]
    if -1 in wanted:
        at = wanted.index(-1)
        known = numel(d for i, d in enumerate(shape) if i != at)
        rest = dim_div(numel(x.tensor.shape), known)
        if rest is None:
            raise o.error(
                f"{x.type} cannot take the shape [{', '.join(map(str, wanted))}]",
                "the extents must multiply to the same size",
            )
        shape[at] = rest
    if shape[:1] != list(x.tensor.shape[:1]):
        o.apart()  # its rows are tokens no longer
    o.set(o.b.reshape(x, tuple(shape)))


def _transpose(o: OpLowering) -> None:
    o.set(o.b.transpose(o.x(), o.attr("axis")))


def _squeeze(o: OpLowering) -> None:
    x = o.x()
    dropped = set(o.axes(x, o.attr("axes", []))) or {i for i, d in enumerate(x.tensor.shape) if d == 1}
    o.set(o.b.reshape(x, tuple(d for i, d in enumerate(x.tensor.shape) if i not in dropped)))


def _unsqueeze(o: OpLowering) -> None:
    x = o.x()
    shape: list[Dim] = list(x.tensor.shape)
    for axis in integers(o, ("AxesTensorList", "AxesTensor"), "axes"):
        shape.insert(axis + len(shape) + 1 if axis < 0 else axis, 1)
    o.set(o.b.reshape(x, tuple(shape)))


def _flatten(o: OpLowering) -> None:
    x, at = o.x(), o.attr("axis", 1)
    o.set(o.b.reshape(x, (numel(x.tensor.shape[:at]), numel(x.tensor.shape[at:]))))


def _concat(o: OpLowering) -> None:
    o.set(o.b.concat(o.xs("X"), integer(o, "AxisTensor", "axis", 0)))


def _fixed(o: OpLowering, x: Value, axis: int) -> int:
    extent = x.tensor.shape[axis]
    if not isinstance(extent, int):
        raise o.error(f"axis {axis} of {x.type} has the open extent {extent}", "choose another axis, or fix the shape")
    return extent


def _split(o: OpLowering) -> None:
    x, num = o.x(), o.attr("num", 0)
    (axis,) = o.axes(x, [integer(o, "AxisTensor", "axis", 0)])
    extent = _fixed(o, x, axis)
    sections = [extent // num] * num if num else integers(o, ("SectionsTensorList",), "sections")
    if -1 in sections:
        sections[sections.index(-1)] = extent - (sum(sections) + 1)
    o.set_all(o.b.split(x, axis, sections))


def _stack(o: OpLowering) -> None:
    o.set(o.b.stack(o.xs("X"), o.attr("axis", 0)), "Y")


def _unstack(o: OpLowering) -> None:
    x = o.x()
    (axis,) = o.axes(x, [o.attr("axis", 0)])
    count = _fixed(o, x, axis)
    rest = (*x.tensor.shape[:axis], *x.tensor.shape[axis + 1 :])
    o.set_all([o.b.reshape(part, rest) for part in o.b.split(x, axis, [1] * count)], "Y")


_TO_THE_END = 10_000_000
"""What fluid records as the bound of ``x[1:]``, which no axis reaches."""


def _bounds(o: OpLowering, extent: Dim, start: Dim, end: Dim) -> tuple[Dim, Dim]:
    """Python's meaning of ``[start:end]``; an open extent allows whole axes and bounds from the front."""
    if not isinstance(start, int) or not isinstance(end, int):
        if end != extent or (isinstance(start, int) and start < 0):
            raise o.error(f"[{start}:{end}] of the extent {extent}", "bounds that are extents must be this axis's own")
        return start, end
    if isinstance(extent, int):
        first, last, _ = slice(start, end).indices(extent)
        return first, max(first, last)
    if start >= 0 and end >= 0:
        # A bound that no batch reaches means: to the end.
        return (start, extent) if end >= _TO_THE_END else (start, end)
    raise o.error(f"[{start}:{end}] counts from the end of the open extent {extent}", "count from the front")


def _slice(o: OpLowering) -> None:
    x = o.x("Input")
    axes = o.attr("axes")
    starts = dims(o, ("StartsTensor", "StartsTensorList"), "starts")
    ends = dims(o, ("EndsTensor", "EndsTensorList"), "ends")
    strides = [1] * len(axes)
    if o.op.type == "strided_slice":
        strides = integers(o, ("StridesTensor", "StridesTensorList"), "strides")
    out = x
    for axis, start, end, stride in zip(o.axes(x, axes), starts, ends, strides, strict=True):
        extent = out.tensor.shape[axis]
        if isinstance(extent, Sym) and (start, stride) == (-1, 1) and isinstance(end, int) and end >= _TO_THE_END:
            place = o.b.sub(o.b.extent(extent, DType.I64), o.b.fill((), DType.I64, 1))
            out = o.b.gather(out, o.b.reshape(place, (1,)), axis)
            continue
        if stride > 0:
            first, last = _bounds(o, extent, start, end)
            out = o.b.slice(out, axis, first, last, stride)
            continue
        if not isinstance(extent, int) or not isinstance(start, int) or not isinstance(end, int):
            raise o.error(f"a stride of {stride} along the open extent {extent}", "slice forwards, then reverse")
        # The elements that [start:end:stride] takes, from the last to the first.
        taken = range(*slice(start, None if end < -extent else end, stride).indices(extent))
        first = taken[-1] if taken else 0
        out = o.b.reverse(o.b.slice(out, axis, first, taken[0] + 1 if taken else 0, -stride), (axis,))
    dropped = set(o.attr("decrease_axis", []))
    shape = tuple(d for i, d in enumerate(out.tensor.shape) if i not in dropped)
    o.set(o.b.reshape(out, shape or (1,)))


def _expand(o: OpLowering) -> None:
    x, times = o.x(), dims(o, ("ExpandTimes", "expand_times_tensor"), "expand_times")
    # As often as the batch has rows: an axis of extent 1 is stretched.
    open = [axis for axis, t in enumerate(times) if not isinstance(t, int)]
    for axis in open:
        if x.tensor.shape[axis] != 1:
            raise o.error(f"axis {axis} of {x.type} repeated {times[axis]} times", "only an axis of extent 1 can be")
    tiled = o.b.tile(x, [t if isinstance(t, int) else 1 for t in times])
    shape = tuple(times[axis] if axis in open else d for axis, d in enumerate(tiled.tensor.shape))
    o.set(o.b.broadcast(tiled, shape))


def _expand_as(o: OpLowering) -> None:
    x, target = o.x(), o.x("target_tensor")
    repeats: list[int] = []
    for have, want in zip(x.tensor.shape, target.tensor.shape, strict=True):
        times = dim_div(want, have)
        if isinstance(times, int):
            repeats.append(times)
        elif have == 1:
            repeats.append(1)  # broadcast below: the batch
        else:
            raise o.error(f"{x.type} cannot be repeated to {target.type}", "extents must be multiples")
    o.set(o.b.broadcast(o.b.tile(x, repeats), target.tensor.shape))


def _pad(o: OpLowering) -> None:
    widths = o.attr("paddings")
    o.set(o.b.pad(o.x(), widths[::2], widths[1::2], o.attr("pad_value", 0.0)))


def _reverse(o: OpLowering) -> None:
    o.set(o.b.reverse(o.x(), o.attr("axis")))


def _index(o: OpLowering, slot: str) -> Value:
    """An index of rows, without its axis of extent 1."""
    index = o.x(slot)
    return o.b.reshape(index, index.tensor.shape[:1]) if index.tensor.rank == 2 else index


def _gather(o: OpLowering) -> None:
    o.set(o.b.gather(o.x(), _index(o, "Index"), 0))


def _gather_nd(o: OpLowering) -> None:
    o.set(o.b(indexing.GatherNd(o.x(), o.x("Index"))))


def _scatter(o: OpLowering) -> None:
    x, index, updates = o.x(), _index(o, "Ids"), o.x("Updates")
    whole = trained(o) and x.tensor.dtype.is_float
    kept = o.b(StopGradient(x)) if whole else x
    if o.attr("overwrite", True):
        out = o.b(indexing.Scatter(kept, index, updates, 0))
    else:
        cleared = o.b(indexing.Scatter(kept, index, o.b.zeros_like(updates), 0))
        out = o.b.scatter_add(cleared, index, updates, 0)
    o.set(scattered(o, x, out) if whole else out)


def _argmax(o: OpLowering) -> None:
    _extreme(o, reduce.Argmax)


def _argmin(o: OpLowering) -> None:
    _extreme(o, reduce.Argmin)


def _extreme(o: OpLowering, op: type[reduce.Argmax] | type[reduce.Argmin]) -> None:
    x = o.x()
    (axis,) = o.axes(x, [o.attr("axis", -1)])
    found = o.b(op(x, axis))
    if o.attr("keepdims", False):
        found = o.b.reshape(found, (*x.tensor.shape[:axis], 1, *x.tensor.shape[axis + 1 :]))
    if o.attr("dtype", -1) is VarType.INT32:
        found = o.b.cast(found, DType.I32)
    o.set(found)


def _argsort(o: OpLowering) -> None:
    x = o.x()
    (axis,) = o.axes(x, [o.attr("axis", -1)])
    values, indices = o.b.emit(indexing.Argsort(x, axis, bool(o.attr("descending", False))))
    o.set(values)
    o.set(indices, "Indices")


def _cumsum(o: OpLowering) -> None:
    o.set(o.b.cumsum(o.x(), o.attr("axis", -1), bool(o.attr("exclusive", False)), bool(o.attr("reverse", False))))


def _shape(o: OpLowering) -> None:
    dims = o.x("Input").tensor.shape
    o.set(o.b.concat([o.one(o.b.extent(d, DType.I32)) for d in dims], 0))


def _size(o: OpLowering) -> None:
    count = numel(o.x("Input").tensor.shape)
    o.set(o.one(o.b.extent(count, DType.I64)))


def _lookup(o: OpLowering) -> None:
    ids, table = o.tokens("Ids"), o.x("W")
    check_range(o, "Ids", table.tensor.shape[0])
    if o.op.type == "lookup_table":
        ids = o.b.reshape(ids, ids.tensor.shape[:-1])
    padding = o.attr("padding_idx", -1)
    o.set(o.b.lookup(table, ids, None if padding == -1 else padding))


def _one_hot(o: OpLowering) -> None:
    ids = o.tokens("X")
    if o.op.type == "one_hot":
        ids = o.b.reshape(ids, ids.tensor.shape[:-1])
    depth = integer(o, "depth_tensor", "depth")
    if not o.attr("allow_out_of_range", False):
        check_range(o, "X", depth)
    o.set(o.b(embedding.OneHot(ids, depth, DType.F32)))


RULES: Rules = {
    # Those without the 2 are of Paddle before 1.0.
    "reshape": _reshape,
    "reshape2": _reshape,
    "transpose": _transpose,
    "transpose2": _transpose,
    "squeeze": _squeeze,
    "squeeze2": _squeeze,
    "unsqueeze": _unsqueeze,
    "unsqueeze2": _unsqueeze,
    "flatten": _flatten,
    "flatten2": _flatten,
    "concat": _concat,
    "split": _split,
    "stack": _stack,
    "unstack": _unstack,
    "slice": _slice,
    "strided_slice": _slice,
    "expand": _expand,
    "expand_as": _expand_as,
    "pad": _pad,
    "reverse": _reverse,
    "gather": _gather,
    "gather_nd": _gather_nd,
    "scatter": _scatter,
    "arg_max": _argmax,
    "arg_min": _argmin,
    "argsort": _argsort,
    "cumsum": _cumsum,
    "shape": _shape,
    "size": _size,
    "lookup_table": _lookup,
    "lookup_table_v2": _lookup,
    "one_hot": _one_hot,
    "one_hot_v2": _one_hot,
}
