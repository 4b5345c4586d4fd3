"""Spectral normalisation of a weight."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import invalid
from ...initializer import NormalInitializer
from ...layers.norm import spectral_norm_op
from ...param_attr import ParamAttr
from ...shapes import product
from ...variable import Variable
from ...vartype import DTypeLike
from ..constructor import two_forms
from ..layers import Layer
from .parameters import check_kind, check_shape, count, needed


class SpectralNorm(Layer):
    """A weight over an estimate of its largest singular value, see `layers.spectral_norm`.

    The older form ``SpectralNorm(name_scope, dim=0, power_iters=1, eps=1e-12, name=None)`` takes the shape from the
    first weight.

    Args:
        weight_shape: Extents of the weight.
        dim: The axis that counts the rows of the weight as a matrix.
        power_iters: Steps of the power iteration.
        eps: Added where the iteration divides.
        dtype: Element type of the weight.

    Attributes:
        weight_u, weight_v: The vectors from which the iteration starts, of one element per row and per column;
            gradients stop at them.
    """

    _sized = False

    def _older(
        self,
        name_scope: str | None,
        dim: int = 0,
        power_iters: int = 1,
        eps: float = 1e-12,
        name: str | None = None,
        dtype: DTypeLike = "float32",
    ) -> None:
        del name
        Layer.__init__(self, name_scope, dtype)
        self._dim, self._power_iters, self._eps = dim, power_iters, eps

    @two_forms(_older)
    def __init__(
        self,
        weight_shape: Sequence[int],
        dim: int = 0,
        power_iters: int = 1,
        eps: float = 1e-12,
        dtype: DTypeLike = "float32",
    ) -> None:
        self._older(None, dim, power_iters, eps, None, dtype)
        self._create([count(self, "an extent of weight_shape", extent) for extent in weight_shape])

    def _create(self, shape: Sequence[int]) -> None:
        if not -len(shape) <= self._dim < len(shape):
            raise invalid(
                f"SpectralNorm: dim is {self._dim}, the weight has shape {list(shape)}",
                f"give an axis from 0 to {len(shape) - 1}",
            )
        self._weight_shape = list(shape)
        rows = shape[self._dim]
        drawn = NormalInitializer(0.0, 1.0)
        self.weight_u = needed(self, "weight_u", ParamAttr(), [rows], default=drawn)
        self.weight_v = needed(self, "weight_v", ParamAttr(), [product(shape) // rows], default=drawn)
        self.weight_u.stop_gradient = self.weight_v.stop_gradient = True
        self._sized = True

    def _take_sizes(self, weight: Variable) -> None:
        check_kind(self, "weight", weight)
        self._create(weight.shape)

    def forward(self, weight: Variable) -> Variable:
        check_kind(self, "weight", weight)
        check_shape(self, "weight", weight, self._weight_shape)
        options = self._dim, self._power_iters, self._eps
        return spectral_norm_op(self._helper, weight, self.weight_u, self.weight_v, *options)
