"""The products of 2-D convolution as ONNX nodes.

ONNX has the convolution and its transpose in the images.  The other products are convolutions in disguise; which form
is used was chosen by what ONNX Runtime's kernels are fast at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..ir.types import Dim, DType, Shape, TensorType, dim_mul, static_shape
from .emit import ConvGeometry, OnnxEmitter

WIDE = 32
"""From so many channels per group on, a convolution is faster than `ConvTranspose`, which writes all its products to
memory and adds them up on one thread."""
SMALL_KERNEL = 16
"""Up to so many taps, a matrix product of windows written to memory is faster than one convolution per example."""
LARGE_IMAGE = 128
"""From so many pixels on, ONNX Runtime's kernel for 3x3 filters of single channels is the fastest copier."""
MANY_PIXELS = 100
"""From so many pixels on, the gradient kernel of onnxruntime-training, a product per example, is faster on one thread;
on two it is about even, and behind on more."""


@dataclass(frozen=True)
class ConvNodes:
    """Writes the products of one convolution.

    Attributes:
        o: Where nodes go.
        at: Strides, pads, dilations and groups.
        x_shape: Of the images, [N, C, H, W]; all but N is fixed.
        w_shape: Of the filters, [O, C / groups, KH, KW].
        out: Rows and columns of the convolved images.
    """

    o: OnnxEmitter
    at: ConvGeometry
    x_shape: Shape
    w_shape: Shape
    out: tuple[int, int]

    @property
    def batch(self) -> Dim:
        return self.x_shape[0]

    @property
    def image(self) -> tuple[int, int]:
        height, width = static_shape(self.x_shape[2:])
        return height, width

    @property
    def filters(self) -> int:
        return static_shape(self.w_shape)[0]

    @property
    def per_group(self) -> int:
        """Channels that a filter reads."""
        return static_shape(self.w_shape)[1]

    @property
    def kernel(self) -> tuple[int, int]:
        _, _, height, width = static_shape(self.w_shape)
        return height, width

    @property
    def taps(self) -> int:
        """Elements of a filter in one channel."""
        return self.kernel[0] * self.kernel[1]

    @property
    def pixels(self) -> int:
        """Elements of a convolved image."""
        return self.out[0] * self.out[1]

    @property
    def geometry(self) -> dict[str, Any]:
        """The attributes of the forward convolution, without its groups."""
        at = self.at
        return {"strides": list(at.strides), "pads": list(at.pads), "dilations": list(at.dilations)}

    def convolve(self, x: str, w: str) -> str:
        """The convolution itself."""
        return self.o.node("Conv", x, w, group=self.at.groups, **self.geometry)

    # Images -------------------------------------------------------------------------------------------

    def input_grad(self, w: str, ct: str) -> str:
        """The transpose in the images."""
        at = self.at
        spans = [dilation * (size - 1) for dilation, size in zip(at.dilations, self.kernel, strict=True)]
        rests = [span - pad for span, pad in zip((*spans, *spans), at.pads, strict=True)]
        simple = self.taps == 1 or self.per_group == 1 or self.per_group >= WIDE
        if simple and at.strides == (1, 1) and min(rests) >= 0:
            return self.o.node("Conv", ct, self._mirrored(w), pads=rests, dilations=list(at.dilations), group=at.groups)
        unseen = [self._excess(axis) for axis in (0, 1)]
        return self.o.node(
            "ConvTranspose", ct, w, group=at.groups, output_padding=unseen if any(unseen) else None, **self.geometry
        )

    def _mirrored(self, w: str) -> str:
        """The filters with which the transpose is a convolution: [C, O / groups, KH, KW], rows and columns reversed."""
        o, groups = self.o, self.at.groups
        if groups == 1:
            w = o.node("Transpose", w, perm=[1, 0, 2, 3])
        else:
            each = self.filters // groups
            w = o.reshape(w, (groups, each, self.per_group, *self.kernel))
            w = o.reshape(o.node("Transpose", w, perm=[0, 2, 1, 3, 4]), (groups * self.per_group, each, *self.kernel))
        if self.taps == 1:
            return w
        start = np.iinfo(np.int64).min
        return o.node("Slice", w, o.ints(-1, -1), o.ints(start, start), o.ints(2, 3), o.ints(-1, -1))

    # Filters ------------------------------------------------------------------------------------------

    def filter_grad(self, x: str, ct: str) -> str:
        """The transpose in the filters.

        The images are convolved with the cotangents, strides and dilations swapped: examples are the channels that
        are summed over.  With the images' channels as a third axis to move along, this is one matrix product.
        """
        o, at = self.o, self.at
        if o.ort_training and (self.taps == 1 or self.pixels >= MANY_PIXELS):
            return self._filter_grad_kernel(x, ct)
        if self.taps == 1 and at.groups == 1 and not any(at.pads):
            each = self._example_products(ct, self.windows(x))
            return o.reshape(o.node("ReduceSum", each, o.ints(0), keepdims=0), self.w_shape)
        if at.groups > 1:
            x = o.reshape(x, (self.batch, at.groups, self.per_group, *self.image))
            x = o.node("Transpose", x, perm=[1, 0, 2, 3, 4])
        images = o.reshape(x, (1, dim_mul(self.batch, at.groups), self.per_group, *self.image))
        ct = o.reshape(o.node("Transpose", ct, perm=[1, 0, 2, 3]), (self.filters, self.batch, 1, *self.out))
        return o.reshape(self._along_channels(images, ct, at.groups), self.w_shape)

    def _filter_grad_kernel(self, x: str, ct: str) -> str:
        """By the gradient kernel of onnxruntime-training, which wants filters, and reads only their shape."""
        o, shape = self.o, self.o.full(self.w_shape, 0, DType.F32)
        _, found = o.many(
            "ConvGrad", 2, ct, x, shape, domain="com.microsoft", unused=(0,), group=self.at.groups,
            kernel_shape=list(self.kernel), **self.geometry,
        )  # fmt: skip
        return o.typed(found, TensorType(DType.F32, self.w_shape))

    def example_filter_grad(self, x: str, ct: str) -> str:
        """The transpose in the filters before the sum over the batch, [N, *w_shape]."""
        o, groups = self.o, self.at.groups
        if isinstance(self.batch, int) and self.taps > SMALL_KERNEL:
            images = o.reshape(x, (1, self.batch * groups, self.per_group, *self.image))
            ct = o.reshape(ct, (self.batch * self.filters, 1, 1, *self.out))
            found = self._along_channels(images, ct, self.batch * groups)
        else:
            found = self._example_products(ct, self.windows(x))
        return o.reshape(found, (self.batch, *self.w_shape))

    def _example_products(self, ct: str, seen: str) -> str:
        """Cotangents times windows, group by group."""
        o, groups = self.o, self.at.groups
        by_group: Shape = (self.batch, groups) if groups > 1 else (self.batch,)
        ct = o.reshape(ct, (*by_group, self.filters // groups, self.pixels))
        seen = o.reshape(seen, (*by_group, self.per_group * self.taps, self.pixels)) if groups > 1 else seen
        last = len(by_group)
        return o.node("MatMul", ct, o.node("Transpose", seen, perm=[*range(last), last + 1, last]))

    def _along_channels(self, images: str, ct: str, groups: int) -> str:
        """Images [1, …, C / groups, H, W] under cotangents [O, …, 1, OH, OW]: [1, …, C / groups, KH, KW]."""
        o, at = self.o, self.at
        excess = [self._excess(axis) for axis in (0, 1)]
        after = [max(at.pads[axis + 2] - excess[axis], 0) for axis in (0, 1)]
        # What the filters never see behind the last window would make rows of products behind the last tap.
        left = [excess[axis] - (at.pads[axis + 2] - after[axis]) for axis in (0, 1)]
        found = o.node(
            "Conv",
            images,
            ct,
            strides=[1, *at.dilations],
            dilations=[1, *at.strides],
            pads=[0, at.pads[0], at.pads[1], 0, *after],
            group=groups,
        )
        if any(rest >= dilation for rest, dilation in zip(left, at.dilations, strict=True)):
            found = o.node("Slice", found, o.ints(0, 0), o.ints(*self.kernel), o.ints(3, 4))
        return found

    def _excess(self, axis: int) -> int:
        """Rows (axis 0) or columns of a padded image behind what the last window sees."""
        at = self.at
        size = self.image[axis] + at.pads[axis] + at.pads[axis + 2]
        return size - at.dilations[axis] * (self.kernel[axis] - 1) - 1 - (self.out[axis] - 1) * at.strides[axis]

    # Windows ------------------------------------------------------------------------------------------

    def windows(self, x: str) -> str:
        """What the filters see, [N, C * KH * KW, OH * OW]: a convolution whose filters pick one tap each."""
        o, at = self.o, self.at
        channels = at.groups * self.per_group
        shape: Shape = (self.batch, channels * self.taps, self.pixels)
        if self.taps == 1 and not any(at.pads):
            if at.strides != (1, 1):
                end = np.iinfo(np.int64).max
                x = o.node("Slice", x, o.ints(0, 0), o.ints(end, end), o.ints(2, 3), o.ints(*at.strides))
            return o.reshape(x, shape)
        pick = np.eye(self.taps, dtype=np.float32).reshape(self.taps, 1, *self.kernel)
        fast = self.kernel == (3, 3) and at.strides == at.dilations == (1, 1) and self.pixels >= LARGE_IMAGE
        if fast:
            picks = o.array(np.tile(pick, (channels, 1, 1, 1)))
            return o.reshape(o.node("Conv", x, picks, group=channels, **self.geometry), shape)
        planes = o.reshape(x, (dim_mul(self.batch, channels), 1, *self.image))
        return o.reshape(o.node("Conv", planes, o.array(pick), **self.geometry), shape)
