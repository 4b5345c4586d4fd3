"""Grids over images, diagonals and products of features."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import invalid
from ..framework import AttrValue
from ..layer_helper import LayerHelper
from ..variable import Variable
from ..vartype import VarType
from .sizes import stated

_REALS = (VarType.FP32, VarType.FP64)


def affine_grid(theta: Variable, out_shape: Variable | Sequence[int], name: str | None = None) -> Variable:
    """Where the pixels of images ``out_shape`` = [N, C, H, W] lie in others: ``[N, H, W, 2]``, x and y of [-1, 1].

    ``theta`` ``[N, 2, 3]`` maps ``(x, y, 1)``, with the outer pixels of the result at -1 and 1.
    """
    layer = "affine_grid"
    helper = LayerHelper(layer, name)
    helper.check_dtype("theta", theta, _REALS)
    wanted = stated(layer, "out_shape", out_shape, "OutputShape", "OutputShape")
    if len(theta.shape) != 3 or theta.shape[1:] != (2, 3) or len(wanted.numbers) != 4:
        raise invalid(
            f"{layer}: theta {theta.name} has shape {list(theta.shape)}, out_shape is {wanted.numbers}",
            "give [N, 2, 3], and four extents",
        )
    out = helper.temporary(theta.dtype, [theta.shape[0], *wanted.numbers[2:], 2])
    attrs: dict[str, AttrValue] = {"output_shape": wanted.numbers}
    helper.op(layer, {"Theta": [theta], **wanted.inputs}, {"Output": [out]}, attrs)
    return out


def grid_sampler(x: Variable, grid: Variable, name: str | None = None) -> Variable:
    """Images ``[N, C, H, W]`` read between their pixels, at the places ``grid`` ``[N, H', W', 2]`` of [-1, 1].

    -1 and 1 are the outer pixels; around the image everything is 0.
    """
    layer = "grid_sampler"
    helper = LayerHelper(layer, name)
    helper.check_dtype("x", x, _REALS)
    helper.check_dtype("grid", grid, _REALS)
    if len(x.shape) != 4 or len(grid.shape) != 4 or grid.shape[3] != 2:
        raise invalid(
            f"{layer}: x {x.name} has shape {list(x.shape)} and grid {grid.name} {list(grid.shape)}",
            "give [N, C, H, W] and [N, H', W', 2]",
        )
    out = helper.temporary(x.dtype, [x.shape[0], x.shape[1], grid.shape[1], grid.shape[2]])
    helper.op(layer, {"X": [x], "Grid": [grid]}, {"Output": [out]})
    return out


def diag_embed(input: Variable, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Variable:
    """The last axis of ``input`` on a diagonal of matrices along ``dim1`` and ``dim2``, ``offset`` above the main one.

    As in Paddle 1.8.5 no gradient flows through it.
    """
    layer = "diag_embed"
    helper = LayerHelper(layer)
    helper.check_dtype("input", input, (*_REALS, VarType.INT32, VarType.INT64))
    rank = len(input.shape) + 1
    axes = [d + rank if d < 0 else d for d in (dim1, dim2)]
    if rank < 2 or input.shape[-1] < 1 or axes[0] == axes[1] or not all(0 <= axis < rank for axis in axes):
        raise invalid(
            f"{layer}: dim1 is {dim1}, dim2 {dim2}, input {input.name} has shape {list(input.shape)}",
            "give two different axes of the result, and a known last extent",
        )
    shape = list(input.shape[:-1])
    for axis in sorted(axes):
        shape.insert(axis, input.shape[-1] + abs(offset))
    out = helper.temporary(input.dtype, shape, stop_gradient=True)
    attrs: dict[str, AttrValue] = {"offset": offset, "dim1": dim1, "dim2": dim2}
    helper.op(layer, {"Input": [input]}, {"Out": [out]}, attrs)
    return out


def fsp_matrix(x: Variable, y: Variable) -> Variable:
    """``[N, C, C']``: products of the features of ``[N, C, H, W]`` and ``[N, C', H, W]``, their mean over the pixels.

    (Yim et al., CVPR 2017.)
    """
    helper = LayerHelper("fsp_matrix")
    for argument, image in (("x", x), ("y", y)):
        helper.check_dtype(argument, image, _REALS)
        if len(image.shape) != 4 or image.shape[2:] != x.shape[2:] or min(image.shape[1:]) < 1:
            raise invalid(
                f"fsp_matrix: x {x.name} {list(x.shape)}, y {y.name} {list(y.shape)}",
                "give images [N, C, H, W] of one height and width",
            )
    out = helper.temporary(x.dtype, [x.shape[0], x.shape[1], y.shape[1]])
    helper.op("fsp", {"X": [x], "Y": [y]}, {"Out": [out]})
    return out
