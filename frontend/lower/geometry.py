"""Grids over images, diagonals and products of features."""

from __future__ import annotations

import numpy as np

from ...compiler.ir.core import Value
from ...compiler.ir.types import Dim, DType, dim_mul
from .context import OpLowering, Rules
from .creation import array
from .numbers import integers


def _affine_grid(o: OpLowering) -> None:
    theta = o.x("Theta")
    _, _, height, width = integers(o, ("OutputShape",), "output_shape")
    down, across = (np.linspace(-1.0, 1.0, extent, dtype=np.float32) for extent in (height, width))
    ones = np.ones((height, width), np.float32)
    places = np.stack([ones * across, ones * down[:, None], ones], -1).reshape(height * width, 3)
    base = array(o, places.astype(theta.tensor.dtype.numpy))
    grid = o.b.transpose(o.b.matmul(theta, o.b.transpose(base, (1, 0))), (0, 2, 1))
    o.set(o.b.reshape(grid, (theta.tensor.shape[0], height, width, 2)), "Output")


def _grid_sampler(o: OpLowering) -> None:
    """Four neighbours, each with its weight; those outside of the image weigh nothing."""
    x, grid = o.x(), o.x("Grid")
    n, channels, *size = x.tensor.shape
    _, rows, columns, _ = grid.tensor.shape
    dtype = x.tensor.dtype
    height, width = size
    if not isinstance(height, int) or not isinstance(width, int):
        raise o.error(f"the size of {x.type} is open", "declare images with a fixed height and width")
    count = dim_mul(rows, columns) if isinstance(columns, int) else dim_mul(columns, rows)
    flat = o.b.reshape(x, (n, channels, height * width))
    places = o.b.reshape(grid, (n, count, 2))
    zero, one = o.b.fill((), dtype, 0.0), o.b.fill((), dtype, 1.0)
    corners: list[list[tuple[Value, Value]]] = []
    for axis, extent in ((0, width), (1, height)):
        at = o.b.scale(o.b.slice(places, 2, axis, axis + 1), 0.5 * (extent - 1), 0.5 * (extent - 1))
        low = o.b.floor(at)
        far = o.b.sub(at, low)
        corners.append([(low, o.b.sub(one, far)), (o.b.add(low, one), far)])
    total: Value | None = None
    for column, across in corners[0]:
        for row, down in corners[1]:
            inside = o.b.fill((), DType.BOOL, True)
            for at, extent in ((column, width), (row, height)):
                within = o.b.less_equal(at, o.b.fill((), dtype, float(extent - 1)))
                inside = o.b.logical_and(inside, o.b.logical_and(o.b.less_equal(zero, at), within))
            weight = o.b.where(inside, o.b.mul(across, down), zero)
            index = o.b.add(
                o.b.scale(o.b.clip(row, 0.0, float(height - 1)), float(width)), o.b.clip(column, 0.0, float(width - 1))
            )
            shape: tuple[Dim, ...] = (n, channels, count)
            chosen = o.b.broadcast(o.b.reshape(o.b.cast(index, DType.I64), (n, 1, count)), shape)
            part = o.b.mul(o.b.take_along(flat, chosen, 2), o.b.reshape(weight, (n, 1, count)))
            total = part if total is None else o.b.add(total, part)
    assert total is not None
    o.set(o.b.reshape(total, (n, channels, rows, columns)), "Output")


def _diag_embed(o: OpLowering) -> None:
    x, offset = o.x("Input"), o.attr("offset", 0)
    extent, rank = x.tensor.shape[-1], x.tensor.rank + 1
    assert isinstance(extent, int)
    unit = array(o, np.eye(extent, dtype=x.tensor.dtype.numpy))
    square = o.b.mul(o.b.reshape(x, (*x.tensor.shape[:-1], 1, extent)), unit)
    outer = [0] * (rank - 2)
    low, high = [*outer, max(-offset, 0), max(offset, 0)], [*outer, max(offset, 0), max(-offset, 0)]
    square = o.b.pad(square, low, high)
    first, second = (d % rank for d in (o.attr("dim1", -2), o.attr("dim2", -1)))
    order = list(range(rank - 2))
    for axis, source in sorted(((first, rank - 2), (second, rank - 1))):
        order.insert(axis, source)
    o.set(o.b.transpose(square, order))


def _fsp(o: OpLowering) -> None:
    x, y = o.x(), o.x("Y")
    pixels = dim_mul(x.tensor.shape[2], x.tensor.shape[3])
    assert isinstance(pixels, int)
    first, second = (o.b.reshape(image, (*image.tensor.shape[:2], pixels)) for image in (x, y))
    o.set(o.b.scale(o.b.matmul(first, second, tb=True), 1.0 / pixels))


RULES: Rules = {
    "affine_grid": _affine_grid,
    "grid_sampler": _grid_sampler,
    "diag_embed": _diag_embed,
    "fsp": _fsp,
}
