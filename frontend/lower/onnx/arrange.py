"""Parts of tensors, and elements in another order: slices, padding, blocks, triangles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from ....compiler.ir.core import Value
from ....compiler.ir.types import Dim, DType, Sym
from ..known import Known
from .node import OPEN_EXTENTS, Node, NodeRules, Results

FAR = 2**31 - 1
"""An end of a slice that no extent reaches: exporters write it for "to the end"."""


def _slice(n: Node) -> Value:
    x = n.x("data")
    for axis, start, end, step in slices(n, x.tensor.rank):
        x = _sliced(n, x, start, end, axis, step)
    return x


def slices(n: Node, rank: int) -> list[tuple[int, Dim, Dim, int]]:
    """(axis, start, end, step) of a Slice."""
    if n.version < 10:
        starts, ends = list(n.attr("starts")), list(n.attr("ends"))
        axes, steps = n.attr("axes") or range(len(starts)), [1] * len(starts)
    else:
        starts, ends = n.dims("starts"), n.dims("ends")
        axes, steps = n.ints("axes", range(len(starts))), n.ints("steps", [1] * len(starts))
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise n.error("starts, ends, axes and steps do not belong together", "correct the model")
    found = [
        (n.axis(axis, rank), start, end, step) for axis, start, end, step in zip(axes, starts, ends, steps, strict=True)
    ]
    if len({axis for axis, *_ in found}) != len(found):
        raise n.error("an axis is sliced twice", "correct the model")
    return found


def _sliced(n: Node, x: Value, start: Dim, end: Dim, axis: int, step: int) -> Value:
    extent = x.tensor.shape[axis]
    if isinstance(extent, int) and isinstance(start, int) and isinstance(end, int):
        first, last, _ = slice(start, end, step).indices(extent)
        if step < 0:
            # Backwards from the front is forwards from the back.
            first, last = (extent - 1 - first, extent - 1 - last) if first > last else (0, 0)
            x = n.b.reverse(x, (axis,))
        return n.b.slice(x, axis, first, max(first, last), abs(step))
    if step == 1:
        begin, stop = _bound(n, x, start, extent), _bound(n, x, end, extent)
        return n.b.slice(x, axis, begin, stop)
    if step == -1 and _is_last(start, extent) and isinstance(end, int) and end <= -FAR:
        return n.b.reverse(x, (axis,))
    raise n.error(f"the slice {start}:{end}:{step} of axis {axis} of {x.type}", OPEN_EXTENTS)


def _bound(n: Node, x: Value, at: Dim, extent: Dim) -> Dim:
    """An end of a slice of an open extent, or at an open one."""
    if at == extent or (isinstance(at, int) and at >= FAR):
        return extent
    if isinstance(at, int) and at < 0:
        at = extent if at >= 0 else _less(n, x, extent, -at)
    if isinstance(at, Sym) and not (isinstance(extent, Sym) and at.name == extent.name and at.scale <= extent.scale):
        raise n.error(f"a slice of {x.type} ends at {at}", OPEN_EXTENTS)
    return at


def _less(n: Node, x: Value, extent: Dim, by: int) -> Dim:
    if isinstance(extent, int):
        return max(extent - by, 0)
    raise n.error(f"a slice of {x.type} is counted from its open end", OPEN_EXTENTS)


def _is_last(start: Dim, extent: Dim) -> bool:
    return start in (-1, extent) or (isinstance(start, int) and start >= FAR)


def _split(n: Node) -> Results:
    x = n.x("input")
    axis = n.axis(n.attr("axis"), x.tensor.rank)
    count = n.output_count
    sizes = n.attr("split") if n.version < 13 else (n.ints("split") if n.has("split") else None)
    if sizes is None:
        extent = n.fixed(x, axis)
        each = -(-extent // max(n.attr("num_outputs", count), 1))
        sizes = [max(min(each, extent - i * each), 0) for i in range(count)]
        if n.version < 18 and extent % count:
            raise n.error(f"axis {axis} of {x.type} is not {count} equal parts", "state the sizes of the parts")
    if len(sizes) != count or sum(sizes) != x.tensor.shape[axis] or min(sizes, default=0) < 0:
        raise n.error(f"axis {axis} of {x.type} is not {count} parts of {list(sizes)}", "correct the model")
    return n.b.split(x, axis, sizes)


def _pad(n: Node) -> Value:
    x, rank = n.x("data"), n.x("data").tensor.rank
    if n.version < 11:
        pads, axes, value = list(n.attr("pads")), list(range(rank)), n.attr("value")
    else:
        pads = n.ints("pads")
        axes = [n.axis(axis, rank) for axis in n.ints("axes", range(rank))]
        fill = n.numbers("constant_value", np.zeros(1)).reshape(-1)
        value = fill[0].item() if fill.size else 0
    if len(pads) != 2 * len(axes):
        raise n.error(f"{len(pads)} paddings of {len(axes)} axes", "there are two per axis: before and after")
    low, high = [0] * rank, [0] * rank
    for place, axis in enumerate(axes):
        low[axis], high[axis] = pads[place], pads[place + len(axes)]
    for axis in range(rank):
        # Padding by less than nothing takes away.
        begin, end = max(-low[axis], 0), max(-high[axis], 0)
        if begin or end:
            extent = n.fixed(x, axis)
            if begin + end > extent:
                raise n.error(f"axis {axis} of {x.type} is padded by {low[axis]} and {high[axis]}", "correct the model")
            x = n.b.slice(x, axis, begin, extent - end)
    low, high = [max(p, 0) for p in low], [max(p, 0) for p in high]
    if n.attr("mode") == "constant":
        return n.b.pad(x, low, high, value)
    for axis in range(rank):
        if low[axis] or high[axis]:
            x = _mirrored(n, x, axis, low[axis], high[axis])
    return x


_MIRRORS: Mapping[str, Literal["reflect", "edge", "wrap"]] = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}


def _mirrored(n: Node, x: Value, axis: int, low: int, high: int) -> Value:
    """Padding by elements of the axis itself."""
    extent = n.fixed(x, axis)
    if n.attr("mode") not in _MIRRORS or extent == 0:
        raise n.error(
            f"axis {axis} of {x.type} is padded in the mode {n.attr('mode')!r}", f"use one of {', '.join(_MIRRORS)}"
        )
    n.within("elements of a padded axis", low + extent + high)
    places = np.pad(np.arange(extent), (low, high), mode=_MIRRORS[n.attr("mode")])
    return n.b.gather(x, n.array(places, f"places{axis}"), axis)


def _tile(n: Node) -> Value:
    x, repeats = n.x("input"), n.ints("repeats")
    if len(repeats) != x.tensor.rank:
        raise n.error(f"{len(repeats)} repeats of the axes of {x.type}", "there is one per axis")
    return n.b.tile(x, repeats)


def _center_crop_pad(n: Node) -> Value:
    x = n.x("input_data")
    wanted = n.ints("shape")
    axes = [n.axis(axis, x.tensor.rank) for axis in n.attr("axes", range(x.tensor.rank))]
    low, high = [0] * x.tensor.rank, [0] * x.tensor.rank
    for axis, target in zip(axes, wanted, strict=True):
        extent = n.fixed(x, axis)
        if target <= extent:
            first = (extent - target) // 2
            x = n.b.slice(x, axis, first, first + target)
        else:
            low[axis] = (target - extent) // 2
            high[axis] = target - extent - low[axis]
    return n.b.pad(x, low, high)


def _depth_to_space(n: Node) -> Value:
    x, block = n.x("input"), n.attr("blocksize")
    rows, channels, height, width = _image(n, x)
    if channels % (block * block):
        raise n.error(f"the channels of {x.type} are not {block} x {block} blocks", "correct the model")
    depth = channels // (block * block)
    if n.attr("mode", "DCR") == "DCR":
        parts = n.b.reshape(x, (rows, block, block, depth, height, width))
        parts = n.b.transpose(parts, (0, 3, 4, 1, 5, 2))
    else:
        parts = n.b.reshape(x, (rows, depth, block, block, height, width))
        parts = n.b.transpose(parts, (0, 1, 4, 2, 5, 3))
    return n.b.reshape(parts, (rows, depth, height * block, width * block))


def _space_to_depth(n: Node) -> Value:
    x, block = n.x("input"), n.attr("blocksize")
    rows, depth, height, width = _image(n, x)
    if height % block or width % block:
        raise n.error(f"{x.type} is not {block} x {block} blocks", "correct the model")
    parts = n.b.reshape(x, (rows, depth, height // block, block, width // block, block))
    perm = (0, 3, 5, 1, 2, 4) if n.attr("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    parts = n.b.transpose(parts, perm)
    return n.b.reshape(parts, (rows, depth * block * block, height // block, width // block))


def _image(n: Node, x: Value) -> tuple[Dim, int, int, int]:
    if x.tensor.rank != 4:
        raise n.error(f"takes images [N, C, H, W], not {x.type}", "correct the model")
    return x.tensor.shape[0], n.fixed(x, 1), n.fixed(x, 2), n.fixed(x, 3)


def _trilu(n: Node) -> Value:
    x = n.x("input")
    k = int(n.one("k", np.int64(0)))
    shape = x.tensor.shape[-2:]
    row, column = n.positions(shape, 0), n.positions(shape, 1)
    diagonal = n.b.add(row, n.number(DType.I64, k))
    kept = n.b.less_equal(diagonal, column) if n.attr("upper") else n.b.less_equal(column, diagonal)
    return n.b.where(kept, x, n.number(x.tensor.dtype, 0))


def _eye_like(n: Node) -> Value:
    x = n.x("input")
    dtype = n.dtype("dtype") or x.tensor.dtype
    if x.tensor.rank != 2:
        raise n.error(f"takes a matrix, not {x.type}", "correct the model")
    row, column = n.positions(x.tensor.shape, 0), n.positions(x.tensor.shape, 1)
    return n.b.cast(n.b.equal(n.b.add(row, n.number(DType.I64, n.attr("k"))), column), dtype)


def _range(n: Node) -> Results:
    first, step = n.one("start"), n.one("delta")
    dtype = DType.of(first.dtype)
    known = n.known("limit")
    if known is not None and known.symbolic:
        (limit,) = n.dims("limit")
        if first != 0 or step != 1:
            raise n.error(f"counts from {first} to {limit} by {step}", OPEN_EXTENTS)
        return n.b.iota((limit,), 0, dtype)
    limit = n.one("limit")
    if step == 0:
        raise n.error("counts by steps of 0", "correct the model")
    # Of elements of numpy the difference may overflow.
    count = max(n.within("numbers", float(np.ceil((limit.item() - first.item()) / step.item()))), 0)
    return Known((first + np.arange(count, dtype=first.dtype) * step).astype(first.dtype), dtype)


def _reverse_sequence(n: Node) -> Value:
    """The first ``sequence_lens[i]`` elements of row i along the time axis in reverse order, the rest as it is."""
    x, lengths = n.x("input"), n.x("sequence_lens")
    rank = x.tensor.rank
    batch, time = n.axis(n.attr("batch_axis"), rank), n.axis(n.attr("time_axis"), rank)
    rows: list[Dim] = [1] * rank
    rows[batch] = x.tensor.shape[batch]
    length = n.b.reshape(n.b.cast(lengths, DType.I64), tuple(rows))
    place = n.positions(x.tensor.shape, time)
    back = n.b.sub(n.b.sub(length, n.number(DType.I64, 1)), place)
    source = n.b.where(n.b.less(place, length), back, place)
    return n.b.take_along(x, n.b.broadcast(source, x.tensor.shape), time)


RULES: NodeRules = {
    "Slice": _slice,
    "Split": _split,
    "Pad": _pad,
    "Tile": _tile,
    "CenterCropPad": _center_crop_pad,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "Trilu": _trilu,
    "EyeLike": _eye_like,
    "Range": _range,
    "ReverseSequence": _reverse_sequence,
}
