"""Shape rules of fluid's layers. An extent of -1 is known only when data is fed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from .errors import invalid

if TYPE_CHECKING:
    from .variable import Variable

Shape = tuple[int, ...]


class Extents(tuple[int, ...]):
    """A shape: a tuple that is equal to, and can be joined with, lists too, which shapes are in Paddle's eager mode."""

    __slots__ = ()
    __hash__ = tuple.__hash__

    def __eq__(self, other: object) -> bool:
        return tuple.__eq__(self, tuple(other) if isinstance(other, list) else other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __getitem__(self, at: Any) -> Any:
        found = tuple.__getitem__(self, at)
        return Extents(found) if isinstance(at, slice) else found

    def __add__(self, other: Any) -> Any:
        return [*self, *other] if isinstance(other, list) else Extents(tuple.__add__(self, other))

    def __radd__(self, other: Any) -> Any:
        return [*other, *self] if isinstance(other, list) else NotImplemented


def product(extents: Iterable[int]) -> int:
    """The product of extents, -1 as soon as one of them is unknown."""
    total = 1
    for extent in extents:
        if extent < 0:
            return -1
        total *= extent
    return total


def axis_of(layer: str, x: Variable, axis: int) -> int:
    """``axis`` counted from the front; refuses what x does not have."""
    rank = len(x.shape)
    if not -rank <= axis < rank:
        raise invalid(
            f"{layer}: axis {axis} of {x.name}, which has shape {list(x.shape)}",
            f"give an axis from {-rank} to {rank - 1}",
        )
    return axis % rank


def broadcast_shape(layer: str, x: Variable, y: Variable, axis: int = -1) -> Shape:
    """Shape of an elementwise op: the shorter operand lies along the longer from ``axis`` on (-1: at the right)."""
    a, b = x.shape, y.shape
    short, long = (b, a) if len(a) >= len(b) else (a, b)
    at = len(long) - len(short) if axis == -1 else axis
    if not 0 <= at <= len(long):
        raise _no_broadcast(layer, x, y, axis)
    # fluid ignores trailing ones of the shorter operand when it looks for its place.
    while at + len(short) > len(long) and short and short[-1] == 1:
        short = short[:-1]
    if at + len(short) > len(long):
        raise _no_broadcast(layer, x, y, axis)
    padded = (1,) * at + tuple(short) + (1,) * (len(long) - at - len(short))
    out: list[int] = []
    for p, q in zip(long, padded):
        if p != q and p != 1 and q != 1 and p >= 0 and q >= 0:
            raise _no_broadcast(layer, x, y, axis)
        if p == 1:
            out.append(q)
        elif q in (1, -1):
            out.append(p)
        else:
            out.append(q)
    return tuple(out)


def _no_broadcast(layer: str, x: Variable, y: Variable, axis: int) -> Exception:
    return invalid(
        f"{layer}: {x.name} {list(x.shape)} and {y.name} {list(y.shape)} do not fit together along axis {axis}",
        "extents must be equal or 1 where the operands overlap; reshape one of them or give another axis",
    )


def reduced_shape(layer: str, x: Variable, dims: Sequence[int], keep: bool) -> Shape:
    """``x`` without the axes ``dims`` (all of them if empty), at least one-dimensional as fluid has it."""
    axes = {axis_of(layer, x, d) for d in dims} or set(range(len(x.shape)))
    if keep:
        return tuple(1 if i in axes else d for i, d in enumerate(x.shape))
    return tuple(d for i, d in enumerate(x.shape) if i not in axes) or (1,)


def slice_extent(extent: int, start: int, end: int, stride: int = 1) -> int:
    """Elements of ``range(extent)[start:end:stride]``; an unknown extent stays unknown unless start:end fix it."""
    if extent < 0:
        same_side = (start >= 0) == (end >= 0)
        if stride == 1 and same_side and end - start == 1:
            return 1
        return -1
    return len(range(extent)[start:end:stride])


def conv_extent(extent: int, kernel: int, stride: int, pad: tuple[int, int], dilation: int = 1) -> int:
    """Output extent of a convolution along one axis."""
    if extent < 0:
        return -1
    return (extent + sum(pad) - (dilation * (kernel - 1) + 1)) // stride + 1


def transposed_extent(extent: int, kernel: int, stride: int, pad: tuple[int, int], dilation: int = 1) -> int:
    """The least output extent of a transposed convolution along one axis; up to ``stride - 1`` more have that input."""
    return -1 if extent < 0 else (extent - 1) * stride - sum(pad) + dilation * (kernel - 1) + 1


def pool_extent(extent: int, kernel: int, stride: int, pad: tuple[int, int], ceil_mode: bool) -> int:
    """Output extent of a pooling along one axis."""
    if extent < 0:
        return -1
    rest = extent + sum(pad) - kernel
    return (rest + stride - 1 if ceil_mode else rest) // stride + 1


def reshaped(layer: str, x: Variable, shape: Sequence[int]) -> Shape:
    """``shape`` with 0 replaced by x's extent and one -1 inferred where everything else is known."""
    if sum(d == -1 for d in shape) > 1:
        raise invalid(f"{layer}: shape {list(shape)} has more than one -1", "leave one extent open at most")
    if any(d < -1 for d in shape):
        raise invalid(f"{layer}: shape {list(shape)} has a negative extent", "use -1 for the inferred one")
    for i, d in enumerate(shape):
        if d == 0 and i >= len(x.shape):
            raise invalid(
                f"{layer}: extent 0 at axis {i} copies that axis of {x.name}, which has shape {list(x.shape)}",
                "0 means: as in the input",
            )
    out = [x.shape[i] if d == 0 else d for i, d in enumerate(shape)]
    # Extents copied from the input cancel, known or not.
    rest_in = [d for i, d in enumerate(x.shape) if not (i < len(shape) and shape[i] == 0)]
    rest_out = [d for d in shape if d != 0]
    size_in, size_out = product(rest_in), product(d for d in rest_out if d != -1)
    if -1 in rest_out:
        if size_in >= 0:
            if size_out == 0 or size_in % size_out:
                raise _no_reshape(layer, x, shape)
            out[list(shape).index(-1)] = size_in // size_out
        elif rest_in.count(-1) == 1 and product(d for d in rest_in if d != -1) == size_out:
            out[list(shape).index(-1)] = -1
    elif size_in >= 0 and size_in != size_out:
        raise _no_reshape(layer, x, shape)
    return tuple(out)


def _no_reshape(layer: str, x: Variable, shape: Sequence[int]) -> Exception:
    return invalid(
        f"{layer}: {x.name} {list(x.shape)} does not have the elements of {list(shape)}",
        "the products of the extents must agree; -1 infers one extent, 0 copies one",
    )


def spatial_pads(
    paddings: Sequence[int], algorithm: str, extents: Sequence[int], kernel: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    """Padding before and after, per spatial axis, from fluid's attributes; 'SAME' needs known extents."""
    if algorithm == "VALID":
        return [(0, 0)] * len(kernel)
    if algorithm == "SAME":
        pads: list[tuple[int, int]] = []
        for extent, size, stride in zip(extents, kernel, strides):
            total = max((-(-extent // stride) - 1) * stride + size - extent, 0) if extent >= 0 else 0
            pads.append((total // 2, total - total // 2))
        return pads
    if len(paddings) == len(kernel):
        return [(p, p) for p in paddings]
    return [(paddings[2 * i], paddings[2 * i + 1]) for i in range(len(kernel))]
