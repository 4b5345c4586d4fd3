"""2-D convolution and its gradients as matrix products whose right operand is read in windows.

No image of all windows is ever stored: ``kernels/contract.py`` packs the few columns of one panel straight from the
(padded) input.  The input gradient is a convolution of the spread-out cotangent with the turned filter; it multiplies
by zeros where the stride is above one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ...ir.types import Dim, DType, Shape, static_shape
from ...ops.emit import ConvGeometry, Expr, Tensor
from .expr import Index, Load, Node, const, expr, index, loop_index
from .graph import Contract, TensorDef

if TYPE_CHECKING:
    from .emit import Emitter


def forward(t: Emitter, x: Tensor, w: Tensor, out: Shape, geometry: ConvGeometry) -> Tensor:
    """``out[n, o, i, j] = sum over c, kh, kw of x[n, c, i s + kh d - p, j s + kw d - p] w[o, c, kh, kw]``."""
    padded = _padded(t, x, geometry.pads)
    return _correlate(t, padded, w, out, geometry.strides, geometry.dilations, geometry.groups)


def input_grad(t: Emitter, w: Tensor, ct: Tensor, x_shape: Shape, geometry: ConvGeometry) -> Tensor:
    """The cotangent of ``x``."""
    outputs, inputs, kh, kw = static_shape(w.shape)
    groups, per_group = geometry.groups, outputs // geometry.groups
    (sh, sw), (dh, dw) = geometry.strides, geometry.dilations
    top, left, _, _ = geometry.pads
    height, width = _fixed(x_shape[2]), _fixed(x_shape[3])
    rows, columns = _fixed(ct.shape[2]), _fixed(ct.shape[3])
    before = (kh - 1) * dh - top, (kw - 1) * dw - left

    def spread(n: Expr, o: Expr, y: Expr, x: Expr) -> Expr:
        u, v = y - before[0], x - before[1]
        inside = (u >= 0) & (u <= (rows - 1) * sh) & (v >= 0) & (v <= (columns - 1) * sw)
        if sh > 1:
            inside = inside & (u % sh).eq(0)
        if sw > 1:
            inside = inside & (v % sw).eq(0)
        return t.select(inside, ct[n, o, u // sh, v // sw], 0)

    size = height + (kh - 1) * dh, width + (kw - 1) * dw
    spread_ct = _kept(t, t.compute((ct.shape[0], outputs, *size), ct.dtype, spread))

    def turned(c: Expr, o: Expr, i: Expr, j: Expr) -> Expr:
        # Channel c of group g takes the filters of that group only.
        return w[(c // inputs) * per_group + o, c % inputs, (kh - 1) - i, (kw - 1) - j]

    filters = _kept(t, t.compute((groups * inputs, per_group, kh, kw), w.dtype, turned))
    return _correlate(t, spread_ct, filters, x_shape, (1, 1), geometry.dilations, groups)


def filter_grad(t: Emitter, x: Tensor, ct: Tensor, w_shape: Shape, geometry: ConvGeometry) -> Tensor:
    """The cotangent of ``w``: one product per example, added up."""
    kh, kw = static_shape(w_shape)[2:]
    partial = _products(t, x, ct, w_shape, geometry)

    def term(o: Expr, c: Expr, i: Expr, j: Expr, r: Expr) -> Expr:
        return partial[r, o, (c * kh + i) * kw + j]

    return t.reduce("sum", w_shape, (x.shape[0],), term, ct.dtype)


def example_filter_grad(t: Emitter, x: Tensor, ct: Tensor, w_shape: Shape, geometry: ConvGeometry) -> Tensor:
    """The cotangent of ``w`` of every example, [N, *w_shape]."""
    kh, kw = static_shape(w_shape)[2:]
    partial = _products(t, x, ct, w_shape, geometry)

    def element(n: Expr, o: Expr, c: Expr, i: Expr, j: Expr) -> Expr:
        return partial[n, o, (c * kh + i) * kw + j]

    return t.compute((x.shape[0], *w_shape), ct.dtype, element)


def _products(t: Emitter, x: Tensor, ct: Tensor, w_shape: Shape, geometry: ConvGeometry) -> Tensor:
    """Cotangents times windows, example by example: [N, O, C / groups * KH * KW]."""
    outputs, inputs, kh, kw = static_shape(w_shape)
    groups = geometry.groups
    per_group, window = outputs // groups, inputs * kh * kw
    (sh, sw), (dh, dw) = geometry.strides, geometry.dilations
    padded = _padded(t, x, geometry.pads)
    n, g = loop_index(x.shape[0]), loop_index(groups)
    row, q = index(per_group), index(window)
    oh, ow = index(ct.shape[2]), index(ct.shape[3])
    channel = g * inputs + q // (kh * kw)
    y = oh * sh + (q // kw % kh) * dh
    z = ow * sw + (q % kw) * dw
    left = ct[expr(n), expr(g * per_group + row), expr(oh), expr(ow)]
    right = padded[expr(n), expr(channel), expr(y), expr(z)]
    zero = const(0, DType.I64)
    where = (n, g * per_group + (row if per_group != 1 else zero), q if window != 1 else zero)
    product = Contract(
        ct.dtype, (x.shape[0], outputs, window), batch=_loops(n, g), rows=(row,), columns=(q,), inner=(oh, ow),
        left=cast("Load", left), right=cast("Node", right), where=where,
    )  # fmt: skip
    return cast("Tensor", t.define(product))


def _correlate(
    t: Emitter, x: Tensor, w: Tensor, out: Shape, strides: tuple[int, int], dilations: tuple[int, int], groups: int
) -> Tensor:
    """Correlation without padding."""
    outputs, inputs, kh, kw = static_shape(w.shape)
    per_group = outputs // groups
    n, g = loop_index(out[0]), loop_index(groups)
    row, oh, ow = index(per_group), index(out[2]), index(out[3])
    c, i, j = index(inputs), index(kh), index(kw)
    y = oh * strides[0] + i * dilations[0]
    z = ow * strides[1] + j * dilations[1]
    left = w[expr(g * per_group + row), expr(c), expr(i), expr(j)]
    right = x[expr(n), expr(g * inputs + c), expr(y), expr(z)]
    zero = const(0, DType.I64)
    channel = g * per_group + (row if per_group != 1 else zero)
    where = (n, channel, oh if out[2] != 1 else zero, ow if out[3] != 1 else zero)
    product = Contract(
        x.dtype, out, batch=_loops(n, g), rows=(row,), columns=(oh, ow), inner=(c, i, j),
        left=cast("Load", left), right=cast("Node", right), where=where,
    )  # fmt: skip
    return cast("Tensor", t.define(product))


def _padded(t: Emitter, x: Tensor, pads: tuple[int, int, int, int]) -> Tensor:
    """``x`` with zeros around its last two axes; ``x`` itself where there are none."""
    if not any(pads):
        return x
    top, left, bottom, right = pads
    n, channels, height, width = x.shape
    rows, columns = _fixed(height), _fixed(width)

    def element(n: Expr, c: Expr, y: Expr, z: Expr) -> Expr:
        inside = (y >= top) & (y < top + rows) & (z >= left) & (z < left + columns)
        return t.select(inside, x[n, c, y - top, z - left], 0)

    return _kept(t, t.compute((n, channels, rows + top + bottom, columns + left + right), x.dtype, element))


def _kept(t: Emitter, tensor: Tensor) -> Tensor:
    """A tensor that is stored: its elements are read many times, and cheaply only in memory."""
    t.keep.add(cast("TensorDef", tensor))
    return tensor


def _loops(*indices: Node) -> tuple[Index, ...]:
    return tuple(i for i in indices if isinstance(i, Index))


def _fixed(dim: Dim) -> int:
    (value,) = static_shape((dim,))
    return value
