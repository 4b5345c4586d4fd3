"""The geometry that convolutions and pooling share: kernels, strides, dilations, and the padding that they ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ....compiler.ir.core import Value
from .node import Node

Ints = tuple[int, ...]


@dataclass(frozen=True)
class Windows:
    """Windows over the axes of a tensor from 2 on; one number per axis.

    Attributes:
        sizes: Extents of the tensor.
        low, high: Padding before and after that the model asks for.
        counts: Windows along the axis.
    """

    sizes: Ints
    kernel: Ints
    strides: Ints
    dilations: Ints
    low: Ints
    high: Ints
    counts: Ints

    @property
    def ends(self) -> Ints:
        """Padding after such that the last window ends with it; 0 where it ends earlier."""
        found = zip(self.counts, self.strides, self.reach, self.sizes, self.low, strict=True)
        return tuple(max((count - 1) * stride + reach - size - low, 0) for count, stride, reach, size, low in found)

    @property
    def reach(self) -> Ints:
        """Extents of a window."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilations, strict=True))


def windows(n: Node, x: Value, kernel: Sequence[int], *, ceil: bool = False) -> Windows:
    """The windows of a node with the usual attributes.

    Raises:
        LoweringError: The attributes do not fit the tensor, or an extent is open.
    """
    axes = x.tensor.rank - 2
    if axes < 1:
        raise n.error(f"takes [N, C, ...] with at least one more axis, not {x.type}", "correct the model")
    sizes = tuple(n.fixed(x, axis + 2) for axis in range(axes))
    strides, dilations = per_axis(n, "strides", axes), per_axis(n, "dilations", axes)
    if len(kernel) != axes or min(*kernel, *strides, *dilations) < 1:
        raise n.error(f"a kernel {list(kernel)} over {x.type}", "there is one extent per axis, at least 1")
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    low, high = padding(n, sizes, reach, strides)
    counts: list[int] = []
    for size, span, stride, before, after in zip(sizes, reach, strides, low, high, strict=True):
        room = size + before + after - span
        count = (-(-room // stride) if ceil else room // stride) + 1
        if ceil and count > 1 and (count - 1) * stride >= size + before:
            count -= 1  # a window that would begin in the padding after
        if room < 0:
            raise n.error(f"a window that spans {span} does not fit into {x.type}", "correct the model")
        n.within("places of a kernel", max(kernel), 1 << 16)
        n.within("windows along an axis", count * max(kernel))
        counts.append(count)
    return Windows(sizes, tuple(kernel), strides, dilations, low, high, tuple(counts))


def per_axis(n: Node, name: str, axes: int, default: int = 1) -> Ints:
    """An attribute with one number per axis."""
    found = tuple(n.attr(name) or [default] * axes)
    if len(found) != axes:
        raise n.error(f"{name} {list(found)} for {axes} axes", "there is one number per axis")
    return found


def padding(n: Node, sizes: Sequence[int], reach: Sequence[int], strides: Sequence[int]) -> tuple[Ints, Ints]:
    """Padding before and after every axis."""
    axes, mode = len(sizes), n.attr("auto_pad", "NOTSET")
    if mode == "NOTSET":
        pads = n.attr("pads") or [0] * (2 * axes)
        if len(pads) != 2 * axes or min(pads) < 0:
            raise n.error(f"pads {list(pads)} of {axes} axes", "there are two per axis, at least 0")
        return tuple(pads[:axes]), tuple(pads[axes:])
    if mode == "VALID":
        return (0,) * axes, (0,) * axes
    total = [
        max((-(-size // stride) - 1) * stride + span - size, 0)
        for size, span, stride in zip(sizes, reach, strides, strict=True)
    ]
    less, more = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
    return (less, more) if mode == "SAME_UPPER" else (more, less)
