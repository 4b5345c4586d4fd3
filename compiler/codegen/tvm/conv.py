"""2-D convolution and its gradients as sums of products.

No image of all windows is ever stored: ``kernels/contract.py`` reads the windows where they overlap, in images that
are brought into scratch memory with zeros around them, some at a time.  Pixels are the rows and channels the columns,
so every kernel likes its images with the channels innermost (``layout.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ...ir.types import Dim, DType, Shape, static_shape
from ...ops.emit import ConvGeometry, Tensor
from .expr import Index, Node, const, expr, index, load, loop_index
from .graph import Contract, Padded, TensorDef

if TYPE_CHECKING:
    from .emit import Emitter

CHANNELS_LAST = (0, 2, 3, 1)

BLOCK_PIXELS = 100
"""Pixels from which the images of a block keep the register tiles busy."""

BLOCK_FLOATS = 1 << 18
"""Most elements of a block of images: they stay in the second-level cache."""


def forward(t: Emitter, x: Tensor, w: Tensor, out: Shape, geometry: ConvGeometry) -> Tensor:
    """``out[n, o, y, z] = sum over c, i, j of x[n, c, y s + i d - p, z s + j d - p] w[o, c, i, j]``."""
    outputs, inputs, kh, kw = static_shape(w.shape)
    per_group = outputs // geometry.groups
    (sh, sw), (dh, dw) = geometry.strides, geometry.dilations
    images = _Images(x, out, geometry.groups, inputs, geometry.pads)
    o, y, z = index(per_group), index(out[2]), index(out[3])
    i, j, c = index(kh), index(kw), index(inputs)
    left = images.pixel(c, y * sh + i * dh, z * sw + j * dw)
    right = w[expr(images.group * per_group + o), expr(c), expr(i), expr(j)]
    where = (images.number, images.group * per_group + _unit(o), _unit(y), _unit(z))
    product = Contract(
        x.dtype, out, batch=images.batch, rows=(*images.block, y, z), columns=(o,), inner=(i, j, c),
        left=left, right=cast("Node", right), where=where, block=images.block[0],
    )  # fmt: skip
    return cast("Tensor", t.define(product))


def input_grad(t: Emitter, w: Tensor, ct: Tensor, x_shape: Shape, geometry: ConvGeometry) -> Tensor:
    """The cotangent of ``x``.

    Pixels of ``x`` are ``(y s + a, z s + b)``: for all phases (a, b) together, the cotangents within reach of (y, z)
    are multiplied by those elements of the filter that lead there, and by zeros.
    """
    outputs, inputs, kh, kw = static_shape(w.shape)
    per_group = outputs // geometry.groups
    height, width = _fixed(x_shape[2]), _fixed(x_shape[3])
    rows, columns = _fixed(ct.shape[2]), _fixed(ct.shape[3])
    top, left_pad, _, _ = geometry.pads
    down = _Reach(geometry.strides[0], geometry.dilations[0], top, kh)
    across = _Reach(geometry.strides[1], geometry.dilations[1], left_pad, kw)
    high, wide = -(-height // down.stride), -(-width // across.stride)
    frame = (
        max(0, -down.first), max(0, -across.first),
        max(0, high - 1 + down.last - (rows - 1)), max(0, wide - 1 + across.last - (columns - 1)),
    )  # fmt: skip
    images = _Images(ct, (x_shape[0], outputs, high, wide), geometry.groups, per_group, frame)
    y, z = index(high), index(wide)
    a, b, c = index(down.stride), index(across.stride), index(inputs)
    i, j, o = index(down.count), index(across.count), index(per_group)
    left = images.pixel(o, y + i + (down.first + frame[0]), z + j + (across.first + frame[1]))
    row, row_there = down.element(a, i)
    column, column_there = across.element(b, j)
    element = w[expr(images.group * per_group + o), expr(c), expr(row), expr(column)]
    there = [condition for condition in (row_there, column_there) if condition is not None]
    right = element
    if there:
        right = t.select(expr(_all(there)), element, 0)
    u, v = y * down.stride + a, z * across.stride + b
    where = (images.number, images.group * inputs + _unit(c), u if height != 1 else _ZERO, v if width != 1 else _ZERO)
    limits = [
        place < size for place, size, step in ((u, height, down.stride), (v, width, across.stride)) if size % step
    ]
    product = Contract(
        ct.dtype, x_shape, batch=images.batch, rows=(*images.block, y, z), columns=(a, b, c), inner=(i, j, o),
        left=left, right=cast("Node", right), where=where, block=images.block[0],
        valid=_all(limits) if limits else None,
    )  # fmt: skip
    return cast("Tensor", t.define(product))


def filter_grad(t: Emitter, x: Tensor, ct: Tensor, w_shape: Shape, geometry: ConvGeometry) -> Tensor:
    """The cotangent of ``w``."""
    return _filter_grad(t, x, ct, w_shape, geometry, apart=False)


def example_filter_grad(t: Emitter, x: Tensor, ct: Tensor, w_shape: Shape, geometry: ConvGeometry) -> Tensor:
    """The cotangent of ``w`` of every example, [N, *w_shape]."""
    return _filter_grad(t, x, ct, w_shape, geometry, apart=True)


def _filter_grad(t: Emitter, x: Tensor, ct: Tensor, w_shape: Shape, geometry: ConvGeometry, *, apart: bool) -> Tensor:
    outputs, inputs, kh, kw = static_shape(w_shape)
    per_group = outputs // geometry.groups
    (sh, sw), (dh, dw) = geometry.strides, geometry.dilations
    images = _Images(x, ct.shape, geometry.groups, inputs, geometry.pads, apart=apart)
    i, j, c, o = index(kh), index(kw), index(inputs), index(per_group)
    y, z = index(ct.shape[2]), index(ct.shape[3])
    left = images.pixel(c, y * sh + i * dh, z * sw + j * dw)
    right = ct[expr(images.number), expr(images.group * per_group + o), expr(y), expr(z)]
    where = (images.group * per_group + _unit(o), _unit(c), _unit(i), _unit(j))
    shape = w_shape
    if apart:
        where, shape = (images.number, *where), (x.shape[0], *w_shape)
    product = Contract(
        ct.dtype, shape, batch=images.batch, rows=(i, j, c), columns=(o,), inner=(*images.block, y, z),
        left=left, right=cast("Node", right), where=where, block=images.block[0] if images.block else None,
    )  # fmt: skip
    return cast("Tensor", t.define(product))


class _Images:
    """The images of one group of channels, block by block.

    ``block`` holds the indices of a block and of an image in it, ``number`` the image's number, ``batch`` the indices
    that products are made apart for: the group, and with ``apart`` the image.
    """

    def __init__(
        self,
        x: Tensor,
        out: Shape,
        groups: int,
        channels: int,
        pads: tuple[int, int, int, int],
        *,
        apart: bool = False,
    ) -> None:
        self.group = loop_index(groups)
        self.batch: tuple[Index, ...] = (self.group,) if isinstance(self.group, Index) else ()
        self._x, self._pads, self._channels = x, pads, channels
        count = x.shape[0]
        height, width = _fixed(x.shape[2]) + pads[0] + pads[2], _fixed(x.shape[3]) + pads[1] + pads[3]
        self._frame = (height, width)
        if apart:
            self.number = loop_index(count)
            self.block: tuple[Index, ...] = ()
            self._size, self._within = 1, _ZERO
            if isinstance(self.number, Index):
                self.batch = (*self.batch, self.number)
            return
        self._size = _block_size(count, _fixed(out[2]) * _fixed(out[3]), channels * height * width)
        blocks: Dim = count // self._size if isinstance(count, int) else count
        first, within = index(blocks), index(self._size)
        self.block, self._within = (first, within), _unit(within)
        self.number = _unit(first) if self._size == 1 else first * self._size + within

    def pixel(self, channel: Node, y: Node, z: Node) -> Node:
        """The element at a place of the padded image."""
        x = cast("TensorDef", self._x)
        height, width = static_shape(x.shape[2:])
        if not any(self._pads):
            return load(x, (self.number, self.group * self._channels + channel, _at(y, height), _at(z, width)))
        top, left, _, _ = self._pads
        own = index(self._size)
        c, u, v = index(self._channels), index(height), index(width)
        number = self.number
        if self.block:
            first = self.block[0]
            number = _unit(first) if self._size == 1 else first * self._size + own
        body = load(x, (number, self.group * self._channels + c, _unit(u), _unit(v)))
        padded = Padded(
            x.dtype, (self._size, self._channels, *self._frame), layout=CHANNELS_LAST, name=x.name,
            indices=(own, c, u, v), before=(0, 0, top, left), body=body,
        )  # fmt: skip
        return load(padded, (self._within, channel, y, z))


class _Reach:
    """Along one axis: which cotangents a pixel gets from.

    Pixel ``q stride + a`` gets from cotangent ``q + d`` through filter element ``(a + pad - d stride) / dilation``,
    where that is an element: for ``d`` from ``first`` to ``last``.
    """

    def __init__(self, stride: int, dilation: int, pad: int, size: int) -> None:
        self.stride, self._dilation, self._pad, self._size = stride, dilation, pad, size
        found = [
            (phase + pad - element * dilation) // stride
            for phase in range(stride)
            for element in range(size)
            if (phase + pad - element * dilation) % stride == 0
        ]
        self.first, self.last = min(found), max(found)
        self.count = self.last - self.first + 1

    def element(self, phase: Node, number: Node) -> tuple[Node, Node | None]:
        """The filter element of a phase and of cotangent ``first + number``; whether there is one (None: always)."""
        distance = phase + self._pad - (number + self.first) * self.stride
        whole = self.stride == 1 and self._dilation == 1
        if whole:
            return distance, None
        conditions = [distance >= 0, distance < (self._size - 1) * self._dilation + 1]
        if self._dilation > 1:
            conditions.append((distance % self._dilation).eq(0))
        return distance // self._dilation, _all(conditions)


_ZERO = const(0, DType.I64)


def _block_size(count: Dim, pixels: int, floats: int) -> int:
    """Images of a block: few enough for the cache, and enough pixels for the register tiles."""
    if not isinstance(count, int):
        return 1
    fitting = [size for size in range(1, count + 1) if count % size == 0 and size * floats <= BLOCK_FLOATS]
    enough = [size for size in fitting if size * pixels >= BLOCK_PIXELS]
    return enough[0] if enough else max(fitting, default=1)


def _all(conditions: list[Node]) -> Node:
    found = conditions[0]
    for condition in conditions[1:]:
        found = found & condition
    return found


def _unit(node: Index) -> Node:
    """An index as it stands among the indices of a tensor: an axis of extent 1 needs none."""
    return _ZERO if node.extent == 1 else node


def _at(place: Node, extent: int) -> Node:
    return _ZERO if extent == 1 else place


def _fixed(dim: Dim) -> int:
    (value,) = static_shape((dim,))
    return value
