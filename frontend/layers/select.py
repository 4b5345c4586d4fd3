"""Layers that take elements by their places, or move them."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import invalid, unsupported
from ..framework import AttrValue
from ..layer_helper import LayerHelper, check_variable
from ..shapes import axis_of
from ..variable import Variable
from ..vartype import VarType
from .arrange import reshape
from .tensor import fill_constant

_INDICES = (VarType.INT32, VarType.INT64)


def index_select(input: Variable, index: Variable, dim: int = 0) -> Variable:
    """Elements of the axis ``dim`` by an index of shape [M]."""
    helper = LayerHelper("index_select")
    check_variable("index_select", "input", input)
    helper.check_dtype("index", index, _INDICES)
    at = axis_of("index_select", input, dim)
    if len(index.shape) != 1:
        raise invalid(f"index_select: index {index.name} has shape {list(index.shape)}", "give a vector [M]")
    out = helper.temporary(input.dtype, [*input.shape[:at], index.shape[0], *input.shape[at + 1 :]])
    helper.op("index_select", {"X": [input], "Index": [index]}, {"Out": [out]}, {"dim": dim})
    return out


def index_sample(x: Variable, index: Variable) -> Variable:
    """``out[i, j] = x[i, index[i, j]]`` of x ``[N, M]`` and an index ``[N, K]``."""
    helper = LayerHelper("index_sample")
    helper.check_dtype("x", x, (VarType.FP32, VarType.FP64, *_INDICES))
    helper.check_dtype("index", index, _INDICES)
    if len(x.shape) != 2 or len(index.shape) != 2:
        raise invalid(
            f"index_sample: {x.name} has shape {list(x.shape)}, index {index.name} {list(index.shape)}",
            "give [N, M] and [N, K]",
        )
    out = helper.temporary(x.dtype, index.shape)
    helper.op("index_sample", {"X": [x], "Index": [index]}, {"Out": [out]})
    return out


def scatter_nd_add(ref: Variable, index: Variable, updates: Variable, name: str | None = None) -> Variable:
    """``ref`` with ``updates`` added at the index tuples in the last axis of ``index``; repeated places add up."""
    helper = LayerHelper("scatter_nd_add", name)
    check_variable("scatter_nd_add", "ref", ref)
    helper.check_dtype("index", index, _INDICES)
    helper.check_dtype("updates", updates, (ref.dtype,))
    depth = index.shape[-1] if index.shape else 0
    wanted = [*index.shape[:-1], *ref.shape[depth:]]
    fits = len(wanted) == len(updates.shape) and all(p == q or min(p, q) < 0 for p, q in zip(wanted, updates.shape))
    if not 0 < depth <= len(ref.shape) or not fits:
        raise invalid(
            f"scatter_nd_add: index {list(index.shape)} into ref {ref.name} {list(ref.shape)} with updates "
            f"{list(updates.shape)}",
            f"the last extent of the index is how many leading axes it addresses; updates have the shape {wanted}",
        )
    out = helper.temporary(ref.dtype, ref.shape)
    helper.op("scatter_nd_add", {"X": [ref], "Index": [index], "Updates": [updates]}, {"Out": [out]})
    return out


def scatter_nd(index: Variable, updates: Variable, shape: Sequence[int], name: str | None = None) -> Variable:
    """`scatter_nd_add` into zeros of a shape."""
    return scatter_nd_add(fill_constant(shape, updates.dtype, 0.0), index, updates, name)


def _cropped(
    layer: str, x: Variable, shape: Sequence[int] | None, offsets: Sequence[int] | None
) -> tuple[list[int], list[int]]:
    """Extents and offsets as numbers, one each per axis."""
    for argument, value in (("shape", shape), ("offsets", offsets)):
        if isinstance(value, Variable) or (value is not None and any(isinstance(v, Variable) for v in value)):
            raise unsupported(f"{layer}: {argument} holds a Variable", "give numbers known when the program is built")
    if shape is None:
        raise invalid(f"{layer}: shape is None", "give one extent per axis, -1 for all that is there")
    size = [int(d) for d in shape]
    start = [0] * len(x.shape) if offsets is None else [int(d) for d in offsets]
    if not len(size) == len(start) == len(x.shape):
        raise invalid(
            f"{layer}: shape {size} and offsets {start}, but {x.name} has shape {list(x.shape)}", "give one per axis"
        )
    for have, want, first in zip(x.shape, size, start):
        if want == 0 or want < -1 or first < 0 or (have >= 0 and first + max(want, 1) > have):
            raise invalid(
                f"{layer}: shape {size} at {start} does not lie in {x.name} {list(x.shape)}",
                "give positive extents, or -1, inside the input",
            )
    return size, start


def crop(
    x: Variable,
    shape: Variable | Sequence[int] | None = None,
    offsets: Sequence[int] | None = None,
    name: str | None = None,
) -> Variable:
    """The part of x of a shape (that of a Variable, if one is given) that starts at ``offsets``, zeros if None."""
    helper = LayerHelper("crop", name)
    helper.check_dtype("x", x, (VarType.FP32,))
    like = shape if isinstance(shape, Variable) else None
    size, start = _cropped("crop", x, shape.shape if isinstance(shape, Variable) else shape, offsets)
    inputs = {"X": [x]} if like is None else {"X": [x], "Y": [like]}
    attrs: dict[str, AttrValue] = {"offsets": start} if like is not None else {"offsets": start, "shape": size}
    out = helper.temporary(x.dtype, size)
    helper.op("crop", inputs, {"Out": [out]}, attrs)
    return out


def crop_tensor(
    x: Variable, shape: Sequence[int] | None = None, offsets: Sequence[int] | None = None, name: str | None = None
) -> Variable:
    """The part of x of a shape that starts at ``offsets`` (zeros if None); -1 in the shape means to the end."""
    helper = LayerHelper("crop_tensor", name)
    helper.check_dtype("x", x, (VarType.FP32, VarType.FP64, *_INDICES))
    size, start = _cropped("crop_tensor", x, shape, offsets)
    found = [want if want >= 0 else -1 if have < 0 else have - first for have, want, first in zip(x.shape, size, start)]
    out = helper.temporary(x.dtype, found)
    helper.op("crop_tensor", {"X": [x]}, {"Out": [out]}, {"offsets": start, "shape": size})
    return out


def roll(input: Variable, shifts: int | Sequence[int], dims: int | Sequence[int] | None = None) -> Variable:
    """``input`` with the elements of each axis in ``dims`` moved on, the last ones to the front; flat if None."""
    helper = LayerHelper("roll")
    check_variable("roll", "input", input)
    moves = [shifts] if isinstance(shifts, int) else list(shifts)
    axes = None if dims is None else [dims] if isinstance(dims, int) else list(dims)
    if axes is not None and len(axes) != len(moves):
        raise invalid(f"roll: {len(moves)} shifts along {len(axes)} axes", "give one shift per axis")
    for axis in axes or []:
        axis_of("roll", input, axis)
    x = input
    if axes is None:
        if len(moves) != 1:
            raise invalid(f"roll: {len(moves)} shifts without dims", "give one shift, or name the axes")
        x, axes = reshape(input, [-1, 1]), [0]
    out = helper.temporary(input.dtype, x.shape)
    helper.op("roll", {"X": [x]}, {"Out": [out]}, {"dims": axes, "shifts": moves})
    return reshape(out, input.shape, inplace=True)


def flip(input: Variable, dims: int | Sequence[int], name: str | None = None) -> Variable:
    """``input`` with the elements of each axis in ``dims`` in the other order."""
    helper = LayerHelper("flip", name)
    check_variable("flip", "input", input)
    axes = [dims] if isinstance(dims, int) else list(dims)
    for axis in axes:
        axis_of("flip", input, axis)
    out = helper.temporary(input.dtype, input.shape)
    helper.op("flip", {"X": [input]}, {"Out": [out]}, {"dims": axes})
    return out


def meshgrid(input: Sequence[Variable], name: str | None = None) -> list[Variable]:
    """K vectors as k tensors over all their combinations: the i-th one varies along axis i."""
    helper = LayerHelper("meshgrid", name)
    inputs = list(input)
    if not inputs:
        raise invalid("meshgrid: the list of Variables is empty", "give at least one vector")
    for i, x in enumerate(inputs):
        check_variable("meshgrid", f"input[{i}]", x)
        if len(x.shape) != 1:
            raise invalid(f"meshgrid: {x.name} has shape {list(x.shape)}", "give vectors")
    shape = [x.shape[0] for x in inputs]
    outs = [helper.temporary(x.dtype, shape) for x in inputs]
    helper.op("meshgrid", {"X": inputs}, {"Out": outs})
    return outs


def t(input: Variable, name: str | None = None) -> Variable:
    """A matrix transposed; a vector as it is."""
    check_variable("t", "input", input)
    if len(input.shape) > 2:
        raise invalid(f"t: {input.name} has shape {list(input.shape)}", "use transpose for more than two axes")
    if len(input.shape) < 2:
        return input
    helper = LayerHelper("t", name)
    out = helper.temporary(input.dtype, input.shape[::-1])
    x_shape = helper.x_shape(input)
    helper.op("transpose2", {"X": [input]}, {"Out": [out], "XShape": [x_shape]}, {"axis": [1, 0]})
    return out


def multiplex(inputs: Sequence[Variable], index: Variable) -> Variable:
    """Row i of the Variable that ``index[i]`` names; they have one shape ``[N, ...]``, the index is ``[N, 1]``."""
    helper = LayerHelper("multiplex")
    xs = list(inputs)
    if len(xs) < 2:
        raise invalid("multiplex: fewer than two Variables", "give a list of candidates")
    for i, x in enumerate(xs):
        check_variable("multiplex", f"inputs[{i}]", x)
        if len(x.shape) != len(xs[0].shape) or len(x.shape) < 2:
            raise invalid(
                f"multiplex: {xs[0].name} {list(xs[0].shape)} and {x.name} {list(x.shape)}", "give equal shapes"
            )
    helper.check_dtype("index", index, _INDICES)
    if len(index.shape) != 2 or index.shape[1] != 1:
        raise invalid(f"multiplex: index {index.name} has shape {list(index.shape)}", "give [N, 1]")
    out = helper.temporary(xs[0].dtype, xs[0].shape)
    helper.op("multiplex", {"X": xs, "Ids": [index]}, {"Out": [out]})
    return out


def pad_constant_like(x: Variable, y: Variable, pad_value: float = 0.0, name: str | None = None) -> Variable:
    """Y with ``pad_value`` after it along every axis, up to the shape of x."""
    helper = LayerHelper("pad_constant_like", name)
    check_variable("pad_constant_like", "x", x)
    helper.check_dtype("y", y, (x.dtype,))
    if len(x.shape) != len(y.shape) or any(0 <= p < q for p, q in zip(x.shape, y.shape)):
        raise invalid(
            f"pad_constant_like: {y.name} {list(y.shape)} to the shape of {x.name} {list(x.shape)}",
            "x must be at least as large along every axis",
        )
    out = helper.temporary(y.dtype, x.shape)
    helper.op("pad_constant_like", {"X": [x], "Y": [y]}, {"Out": [out]}, {"pad_value": float(pad_value)})
    return out


def shard_index(input: Variable, index_num: int, nshards: int, shard_id: int, ignore_value: int = -1) -> Variable:
    """Numbers below ``index_num``, counted within shard ``shard_id`` of ``nshards``; ``ignore_value`` elsewhere."""
    helper = LayerHelper("shard_index")
    helper.check_dtype("input", input, _INDICES)
    if nshards < 1 or not 0 <= shard_id < nshards:
        raise invalid(f"shard_index: shard {shard_id} of {nshards}", f"give a shard from 0 to {nshards - 1}")
    out = helper.temporary(input.dtype, input.shape)
    attrs = {"index_num": index_num, "nshards": nshards, "shard_id": shard_id, "ignore_value": ignore_value}
    helper.op("shard_index", {"X": [input]}, {"Out": [out]}, attrs)
    return out
