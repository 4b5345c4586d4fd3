"""Layers that rearrange or select elements."""

from __future__ import annotations

import builtins
from collections.abc import Sequence

from ..errors import invalid, unsupported
from ..framework import AttrValue
from ..layer_helper import LayerHelper, check_variable
from ..shapes import axis_of, product, reshaped, slice_extent
from ..variable import Variable
from ..vartype import VarType
from .sizes import Stated, stated

_INDICES = (VarType.INT32, VarType.INT64)


def _integers(layer: str, argument: str, values: object) -> list[int]:
    """A list of plain numbers; Variables in it are refused."""
    if isinstance(values, int):
        return [values]
    if isinstance(values, Variable) or any(isinstance(v, Variable) for v in values):  # type: ignore[attr-defined]
        raise unsupported(f"{layer}: {argument} holds a Variable", "give numbers known when the program is built")
    return [int(v) for v in values]  # type: ignore[attr-defined]


def reshape(
    x: Variable,
    shape: Variable | Sequence[int | Variable],
    actual_shape: Variable | None = None,
    act: str | None = None,
    inplace: bool = False,
    name: str | None = None,
) -> Variable:
    """X with another shape: 0 copies the input's extent, one -1 is inferred; ``inplace`` renames nothing.

    ``shape``, or an extent of it, may be a Variable of constants or of extents of layers.shape. ``actual_shape`` comes
    before ``shape``.
    """
    helper = LayerHelper("reshape2", name)
    check_variable("reshape", "x", x)
    wanted = stated("reshape", "shape", shape, "Shape", "ShapeTensor")
    if wanted.open:
        extents = tuple(x.shape[i] if d == 0 else d for i, d in enumerate(wanted.numbers))
    elif actual_shape is not None:
        wanted.inputs = stated("reshape", "actual_shape", actual_shape, "Shape", "ShapeTensor").inputs
        extents = reshaped("reshape", x, wanted.numbers)
    else:
        extents = reshaped("reshape", x, wanted.numbers)
    inplace = inplace and not x.is_data  # what is fed keeps the shape that it is declared with
    out = x if inplace else helper.temporary(x.dtype, extents, lod_level=x.lod_level)
    x_shape = helper.x_shape(x)
    inputs = {"X": [x], **wanted.inputs}
    helper.op("reshape2", inputs, {"Out": [out], "XShape": [x_shape]}, {"shape": wanted.numbers})
    if inplace:
        out.shape = extents
    return helper.activate(out, act)


def transpose(x: Variable, perm: Sequence[int], name: str | None = None) -> Variable:
    """X with its axes in the order ``perm``."""
    helper = LayerHelper("transpose", name)
    check_variable("transpose", "x", x)
    axes = _integers("transpose", "perm", perm)
    if sorted(axes) != list(builtins.range(len(x.shape))):
        raise invalid(
            f"transpose: perm is {axes}, but {x.name} has shape {list(x.shape)}",
            f"give each of 0 to {len(x.shape) - 1} once",
        )
    out = helper.temporary(x.dtype, [x.shape[a] for a in axes])
    x_shape = helper.x_shape(x)
    helper.op("transpose2", {"X": [x]}, {"Out": [out], "XShape": [x_shape]}, {"axis": axes})
    return out


def squeeze(input: Variable, axes: Sequence[int], name: str | None = None) -> Variable:
    """``input`` without the axes of extent 1 that ``axes`` names (all of them if empty)."""
    helper = LayerHelper("squeeze", name)
    check_variable("squeeze", "input", input)
    wanted = _integers("squeeze", "axes", axes)
    dropped = {axis_of("squeeze", input, a) for a in wanted}
    for a in dropped:
        if input.shape[a] not in (1, -1):
            raise invalid(
                f"squeeze: axis {a} of {input.name} {list(input.shape)} is not 1", "squeeze axes of extent 1 only"
            )
    if not wanted:
        dropped = {i for i, d in enumerate(input.shape) if d == 1}
    shape = [d for i, d in enumerate(input.shape) if i not in dropped]
    out = helper.temporary(input.dtype, shape, lod_level=input.lod_level)
    x_shape = helper.x_shape(input)
    helper.op("squeeze2", {"X": [input]}, {"Out": [out], "XShape": [x_shape]}, {"axes": wanted})
    return out


def unsqueeze(input: Variable, axes: int | Sequence[int], name: str | None = None) -> Variable:
    """``input`` with axes of extent 1 inserted, one after the other, at the positions ``axes``."""
    helper = LayerHelper("unsqueeze2", name)
    check_variable("unsqueeze", "input", input)
    wanted = _integers("unsqueeze", "axes", axes)
    shape = list(input.shape)
    for a in wanted:
        at = a + len(shape) + 1 if a < 0 else a
        if not 0 <= at <= len(shape):
            raise invalid(f"unsqueeze: axis {a} for {input.name} {list(input.shape)}", "give a position in the result")
        shape.insert(at, 1)
    out = helper.temporary(input.dtype, shape, lod_level=input.lod_level)
    x_shape = helper.x_shape(input)
    helper.op("unsqueeze2", {"X": [input]}, {"Out": [out], "XShape": [x_shape]}, {"axes": wanted})
    return out


def flatten(x: Variable, axis: int = 1, name: str | None = None) -> Variable:
    """X as a matrix whose rows span the axes before ``axis``."""
    helper = LayerHelper("flatten", name)
    check_variable("flatten", "x", x)
    if not 0 <= axis <= len(x.shape):
        raise invalid(f"flatten: axis {axis} of {x.name} {list(x.shape)}", f"give a number from 0 to {len(x.shape)}")
    out = helper.temporary(x.dtype, [product(x.shape[:axis]), product(x.shape[axis:])], lod_level=x.lod_level)
    x_shape = helper.x_shape(x)
    helper.op("flatten2", {"X": [x]}, {"Out": [out], "XShape": [x_shape]}, {"axis": axis})
    return out


def split(
    input: Variable, num_or_sections: int | Sequence[int], dim: int = -1, name: str | None = None
) -> list[Variable]:
    """``input`` cut along ``dim`` into equal parts, or into parts of the given extents (one may be -1)."""
    helper = LayerHelper("split", name)
    check_variable("split", "input", input)
    at = axis_of("split", input, dim)
    extent = input.shape[at]
    if isinstance(num_or_sections, int):
        num, sections = num_or_sections, []
        if num < 1 or (extent >= 0 and extent % num):
            raise invalid(
                f"split: axis {dim} of {input.name} {list(input.shape)} into {num} equal parts",
                "give a divisor of the extent, or a list of extents",
            )
        sizes = [-1 if extent < 0 else extent // num] * num
    else:
        num, sections = 0, _integers("split", "num_or_sections", num_or_sections)
        sizes = list(sections)
        if sizes.count(-1) > 1:
            raise invalid(f"split: sections {sizes} have more than one -1", "leave one section open at most")
        if -1 in sizes and extent >= 0:
            sizes[sizes.index(-1)] = extent - (builtins.sum(sizes) + 1)
        if any(s < -1 or s == 0 for s in sizes) or (extent >= 0 and builtins.sum(sizes) != extent):
            raise invalid(
                f"split: axis {dim} of {input.name} {list(input.shape)} into {sections}",
                "the sections must add up to the extent",
            )
    outs = [
        helper.temporary(input.dtype, [*input.shape[:at], s, *input.shape[at + 1 :]], lod_level=input.lod_level)
        for s in sizes
    ]
    helper.op("split", {"X": [input]}, {"Out": outs}, {"axis": at, "num": num, "sections": sections})
    return outs


def stack(x: Sequence[Variable], axis: int = 0) -> Variable:
    """Variables of one shape joined along a new axis."""
    helper = LayerHelper("stack")
    xs = [x] if isinstance(x, Variable) else list(x)
    if not xs:
        raise invalid("stack: the list of Variables is empty", "give at least one")
    for i, v in enumerate(xs):
        check_variable("stack", f"x[{i}]", v)
        if len(v.shape) != len(xs[0].shape) or any(p != q and p >= 0 and q >= 0 for p, q in zip(v.shape, xs[0].shape)):
            raise invalid(
                f"stack: {xs[0].name} {list(xs[0].shape)} and {v.name} {list(v.shape)}", "the shapes must agree"
            )
    rank = len(xs[0].shape)
    if not -rank - 1 <= axis <= rank:
        raise invalid(f"stack: axis {axis} for shapes {list(xs[0].shape)}", f"give {-rank - 1} to {rank}")
    shape = list(xs[0].shape)
    shape.insert(axis % (rank + 1), len(xs))
    out = helper.temporary(xs[0].dtype, shape, lod_level=xs[0].lod_level)
    helper.op("stack", {"X": xs}, {"Y": [out]}, {"axis": axis})
    return out


def unstack(x: Variable, axis: int = 0, num: int | None = None) -> list[Variable]:
    """X cut along ``axis`` into parts without that axis; ``num`` is needed where the extent is unknown."""
    helper = LayerHelper("unstack")
    check_variable("unstack", "x", x)
    at = axis_of("unstack", x, axis)
    extent = x.shape[at]
    if num is None:
        num = extent
    if num < 1 or (extent >= 0 and num != extent):
        raise invalid(
            f"unstack: axis {axis} of {x.name} {list(x.shape)} into {num} parts", "num must be the axis' extent"
        )
    shape = [d for i, d in enumerate(x.shape) if i != at]
    outs = [helper.temporary(x.dtype, shape) for _ in builtins.range(num)]
    helper.op("unstack", {"X": [x]}, {"Y": outs}, {"axis": axis, "num": num})
    return outs


def _sliced(layer: str, input: Variable, axes: list[int], *bounds: Stated) -> list[int]:
    if len({len(axes), *(len(b.numbers) for b in bounds)}) > 1:
        raise invalid(f"{layer}: axes, starts, ends differ in length", "give one start and one end per axis")
    shape = list(input.shape)
    for i, axis in enumerate(axes):
        at = axis_of(layer, input, axis)
        known = not any(i in b.open for b in bounds)
        shape[at] = slice_extent(shape[at], *(b.numbers[i] for b in bounds)) if known else -1
    return shape


def slice(
    input: Variable,
    axes: Sequence[int],
    starts: Variable | Sequence[int | Variable],
    ends: Variable | Sequence[int | Variable],
) -> Variable:
    """``input[start:end]`` along each of ``axes``; negative bounds count from the end.

    Bounds may be Variables of constants or of extents of layers.shape.
    """
    helper = LayerHelper("slice")
    check_variable("slice", "input", input)
    a = _integers("slice", "axes", axes)
    s = stated("slice", "starts", starts, "StartsTensor", "StartsTensorList")
    e = stated("slice", "ends", ends, "EndsTensor", "EndsTensorList")
    out = helper.temporary(input.dtype, _sliced("slice", input, a, s, e), lod_level=input.lod_level)
    attrs = {"axes": a, "starts": s.numbers, "ends": e.numbers, "decrease_axis": []}
    helper.op("slice", {"Input": [input], **s.inputs, **e.inputs}, {"Out": [out]}, attrs)
    return out


def strided_slice(
    input: Variable,
    axes: Sequence[int],
    starts: Variable | Sequence[int | Variable],
    ends: Variable | Sequence[int | Variable],
    strides: Variable | Sequence[int | Variable],
) -> Variable:
    """``input[start:end:stride]`` along each of ``axes``; bounds and strides may be Variables as in `slice`."""
    helper = LayerHelper("strided_slice")
    check_variable("strided_slice", "input", input)
    a = _integers("strided_slice", "axes", axes)
    s = stated("strided_slice", "starts", starts, "StartsTensor", "StartsTensorList")
    e = stated("strided_slice", "ends", ends, "EndsTensor", "EndsTensorList")
    t = stated("strided_slice", "strides", strides, "StridesTensor", "StridesTensorList")
    out = helper.temporary(input.dtype, _sliced("strided_slice", input, a, s, e, t))
    attrs: dict[str, AttrValue] = {"axes": a, "starts": s.numbers, "ends": e.numbers, "strides": t.numbers}
    inputs = {"Input": [input], **s.inputs, **e.inputs, **t.inputs}
    helper.op("strided_slice", inputs, {"Out": [out]}, attrs)
    return out


def expand(x: Variable, expand_times: Variable | Sequence[int | Variable], name: str | None = None) -> Variable:
    """X repeated ``expand_times[i]`` times along axis i; the numbers may be Variables as in `reshape`."""
    helper = LayerHelper("expand", name)
    check_variable("expand", "x", x)
    wanted = stated("expand", "expand_times", expand_times, "ExpandTimes", "expand_times_tensor")
    times = wanted.numbers
    if len(times) != len(x.shape) or any(t < 1 and i not in wanted.open for i, t in enumerate(times)):
        raise invalid(
            f"expand: expand_times is {times}, but {x.name} has shape {list(x.shape)}",
            "give one positive number per axis",
        )
    shape = [-1 if d < 0 or t < 0 else d * t for d, t in zip(x.shape, times)]
    out = helper.temporary(x.dtype, shape, lod_level=x.lod_level)
    helper.op("expand", {"X": [x], **wanted.inputs}, {"Out": [out]}, {"expand_times": times})
    return out


def expand_as(x: Variable, target_tensor: Variable, name: str | None = None) -> Variable:
    """X repeated along its axes to the shape of ``target_tensor``."""
    helper = LayerHelper("expand_as", name)
    check_variable("expand_as", "x", x)
    check_variable("expand_as", "target_tensor", target_tensor)
    target = target_tensor.shape
    if len(target) != len(x.shape) or any(p > 0 and q > 0 and q % p for p, q in zip(x.shape, target)):
        raise invalid(
            f"expand_as: {x.name} {list(x.shape)} to {target_tensor.name} {list(target)}",
            "each extent of the target must be a multiple of x's",
        )
    out = helper.temporary(x.dtype, target)
    helper.op("expand_as", {"X": [x], "target_tensor": [target_tensor]}, {"Out": [out]})
    return out


def pad(x: Variable, paddings: Sequence[int], pad_value: float = 0.0, name: str | None = None) -> Variable:
    """X with ``paddings[2i]`` elements before and ``paddings[2i + 1]`` after axis i."""
    helper = LayerHelper("pad", name)
    check_variable("pad", "x", x)
    widths = _integers("pad", "paddings", paddings)
    if len(widths) != 2 * len(x.shape) or any(w < 0 for w in widths):
        raise invalid(f"pad: paddings is {widths}, but {x.name} has shape {list(x.shape)}", "give two numbers per axis")
    shape = [-1 if d < 0 else d + widths[2 * i] + widths[2 * i + 1] for i, d in enumerate(x.shape)]
    out = helper.temporary(x.dtype, shape)
    helper.op("pad", {"X": [x]}, {"Out": [out]}, {"paddings": widths, "pad_value": float(pad_value)})
    return out


def gather(input: Variable, index: Variable, overwrite: bool = True) -> Variable:
    """Rows of ``input`` (axis 0) by an index of shape [M] or [M, 1].

    The gradient of a row that is taken twice is the sum of both, whatever ``overwrite`` says: with its default Paddle
    1.8.5 keeps one of them only.
    """
    helper = LayerHelper("gather")
    check_variable("gather", "input", input)
    helper.check_dtype("index", index, _INDICES)
    if len(index.shape) != 1 and (len(index.shape) != 2 or index.shape[1] != 1):
        raise invalid(f"gather: index {index.name} has shape {list(index.shape)}", "give [M] or [M, 1]")
    out = helper.temporary(input.dtype, [index.shape[0], *input.shape[1:]])
    helper.op("gather", {"X": [input], "Index": [index]}, {"Out": [out]}, {"overwrite": overwrite})
    return out


def gather_nd(input: Variable, index: Variable, name: str | None = None) -> Variable:
    """Slices of ``input`` by the index tuples in the last axis of ``index``."""
    helper = LayerHelper("gather_nd", name)
    check_variable("gather_nd", "input", input)
    helper.check_dtype("index", index, _INDICES)
    depth = index.shape[-1] if index.shape else 0
    if not 0 < depth <= len(input.shape):
        raise invalid(
            f"gather_nd: index {index.name} {list(index.shape)} into input {input.name} {list(input.shape)}",
            "the last extent of the index is the number of leading axes it addresses",
        )
    out = helper.temporary(input.dtype, [*index.shape[:-1], *input.shape[depth:]])
    helper.op("gather_nd", {"X": [input], "Index": [index]}, {"Out": [out]})
    return out


def scatter(
    input: Variable, index: Variable, updates: Variable, name: str | None = None, overwrite: bool = True
) -> Variable:
    """``input`` with the rows ``index`` replaced by ``updates``, or (``overwrite=False``) set to their sum."""
    helper = LayerHelper("scatter", name)
    check_variable("scatter", "input", input)
    check_variable("scatter", "updates", updates)
    helper.check_dtype("index", index, _INDICES)
    out = helper.temporary(input.dtype, input.shape)
    inputs = {"X": [input], "Ids": [index], "Updates": [updates]}
    helper.op("scatter", inputs, {"Out": [out]}, {"overwrite": overwrite})
    return out


def where(condition: Variable) -> Variable:
    """int64 indices of the true elements, one row each; their number is known only when the step runs."""
    helper = LayerHelper("where_index")
    helper.check_dtype("condition", condition, (VarType.BOOL,))
    out = helper.temporary(VarType.INT64, [-1, len(condition.shape)])
    helper.op("where_index", {"Condition": [condition]}, {"Out": [out]})
    return out


def topk(input: Variable, k: int, name: str | None = None) -> tuple[Variable, Variable]:
    """The k largest elements of the last axis, largest first, and their int64 indices."""
    helper = LayerHelper("top_k", name)
    check_variable("topk", "input", input)
    if isinstance(k, Variable):
        raise unsupported("topk: k is a Variable", "give a number")
    if k < 1 or not input.shape or 0 <= input.shape[-1] < k:
        raise invalid(
            f"topk: k is {k}, but {input.name} has shape {list(input.shape)}",
            "k must be from 1 to the last extent",
        )
    shape = [*input.shape[:-1], k]
    values = helper.temporary(input.dtype, shape, lod_level=input.lod_level, stop_gradient=True)
    indices = helper.temporary(VarType.INT64, shape, lod_level=input.lod_level, stop_gradient=True)
    helper.op("top_k", {"X": [input]}, {"Out": [values], "Indices": [indices]}, {"k": k})
    return values, indices


def shape(input: Variable) -> Variable:
    """The extents of ``input`` as an int32 vector."""
    helper = LayerHelper("shape")
    check_variable("shape", "input", input)
    out = helper.temporary(VarType.INT32, [len(input.shape)])
    helper.op("shape", {"Input": [input]}, {"Out": [out]})
    return out


def size(input: Variable) -> Variable:
    """The number of elements, int64 of shape [1]."""
    helper = LayerHelper("size")
    check_variable("size", "input", input)
    out = helper.temporary(VarType.INT64, [1])
    helper.op("size", {"Input": [input]}, {"Out": [out]})
    return out
