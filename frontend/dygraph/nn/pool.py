"""Pooling of images."""

from __future__ import annotations

from ...errors import invalid
from ...layers.pool import pool2d
from ...layers.spatial import Padding, Pair
from ...variable import Variable
from ..constructor import two_forms
from ..layers import Layer


class Pool2D(Layer):
    """Maximum or mean over windows of ``[N, C, H, W]``; the older form has a ``name_scope`` first.

    Args:
        pool_size: Height and width of a window, or one number for both.
        pool_type: ``'max'`` or ``'avg'``.
        pool_stride: Step of the window, likewise.
        pool_padding: Padding around the image, likewise; or 'SAME', 'VALID'.
        global_pooling: Take the whole image as one window.
        use_cudnn: Has no effect.
        ceil_mode: Keep a last, partial window.
        exclusive: Leave padding out of the mean.
    """

    def _older(
        self,
        name_scope: str | None,
        pool_size: Pair = -1,
        pool_type: str = "max",
        pool_stride: Pair = 1,
        pool_padding: Padding = 0,
        global_pooling: bool = False,
        use_cudnn: bool = True,
        ceil_mode: bool = False,
        exclusive: bool = True,
    ) -> None:
        del use_cudnn
        Layer.__init__(self, name_scope)
        if pool_type not in ("max", "avg"):
            raise invalid(f"Pool2D: unknown pool_type {pool_type!r}", "use 'max' or 'avg'")
        if pool_size == -1 and not global_pooling:
            raise invalid("Pool2D: there is no pool_size", "give the window's size, or global_pooling=True")
        self._pool_type, self._global_pooling = pool_type, global_pooling
        self._pool_size, self._pool_stride, self._pool_padding = pool_size, pool_stride, pool_padding
        self._ceil_mode, self._exclusive = ceil_mode, exclusive

    @two_forms(_older)
    def __init__(
        self,
        pool_size: Pair = -1,
        pool_type: str = "max",
        pool_stride: Pair = 1,
        pool_padding: Padding = 0,
        global_pooling: bool = False,
        use_cudnn: bool = True,
        ceil_mode: bool = False,
        exclusive: bool = True,
    ) -> None:
        given = pool_size, pool_type, pool_stride, pool_padding, global_pooling, use_cudnn, ceil_mode, exclusive
        self._older(None, *given)

    def forward(self, input: Variable) -> Variable:
        return pool2d(
            input,
            self._pool_size,
            self._pool_type,
            self._pool_stride,
            self._pool_padding,
            self._global_pooling,
            ceil_mode=self._ceil_mode,
            exclusive=self._exclusive,
            name=self._full_name,
        )
