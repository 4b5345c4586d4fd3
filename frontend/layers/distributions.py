"""Probability distributions whose parameters may be Variables: what they draw, and how likely that is."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..errors import invalid, wrong_type
from ..variable import Variable
from . import ops
from .arrange import reshape
from .arrange import shape as shape_of
from .compare import less_than
from .math import elementwise_pow, matmul, reduce_max, reduce_prod, reduce_sum
from .random import gaussian_random, uniform_random, uniform_random_batch_size_like
from .tensor import assign, cast, diag, fill_constant_batch_size_like, ones, zeros

Parameter = float | Sequence[float] | np.ndarray | Variable


class Distribution:
    """Base of the distributions."""

    def entropy(self) -> Variable:
        """The entropy of each, in nats."""
        raise NotImplementedError

    def _parameters(self, *given: Parameter) -> tuple[Variable, ...]:
        """Variables of one shape and type; numbers are of shape [1]."""
        layer = type(self).__name__
        if any(isinstance(value, Variable) for value in given):
            found = [value for value in given if isinstance(value, Variable)]
            if len(found) < len(given):
                raise wrong_type(f"{layer}: Variables and numbers are mixed", "give Variables, or numbers, for all")
            return tuple(found)
        for value in given:
            if not isinstance(value, float | int | list | tuple | np.ndarray):
                raise wrong_type(f"{layer}: a parameter is {type(value).__name__}", "give numbers or Variables")
        try:
            arrays = np.broadcast_arrays(*(np.atleast_1d(np.asarray(value, np.float32)) for value in given))
        except ValueError:
            raise invalid(f"{layer}: the parameters' shapes do not fit", "give them one shape") from None
        return tuple(assign(np.array(array)) for array in arrays)


class _LocationScale(Distribution):
    """What normal and uniform distributions share: two parameters that stretch and shift what is drawn."""

    def __init__(self, first: Parameter, second: Parameter) -> None:
        self._plain = isinstance(first, float) and isinstance(second, float)
        self._fed = isinstance(first, Variable)
        self._first, self._second = self._parameters(first, second)

    def _stretched(self, drawn: Variable, size: list[int], by: Variable, shift: Variable) -> Variable:
        return drawn * (zeros(size, by.dtype) + by) + shift

    def _whole(self, sample_shape: Sequence[int]) -> tuple[list[int], list[int]]:
        own = list((self._first + self._second).shape)
        return own, [*(int(d) for d in sample_shape), *own]


class Uniform(_LocationScale):
    """Uniform on [low, high), element by element."""

    def __init__(self, low: Parameter, high: Parameter) -> None:
        super().__init__(low, high)
        self.low, self.high = self._first, self._second

    def sample(self, shape: Sequence[int], seed: int = 0) -> Variable:
        """Numbers of ``shape``, followed by that of the parameters.

        With parameters that are numbers they come from [2 low - high, high), as in Paddle 1.8.5.
        """
        own, size = self._whole(shape)
        if self._fed:
            like = fill_constant_batch_size_like(self.low + self.high, [*own, *shape], self.low.dtype, 0.0)
            drawn = uniform_random_batch_size_like(like, like.shape, min=0.0, max=1.0, seed=seed)
            return reshape(drawn * (like + self.high - self.low) + self.low, size)
        found = self._stretched(uniform_random(size, seed=seed), size, self.high - self.low, self.low)
        return reshape(found, list(shape)) if self._plain else found

    def log_prob(self, value: Variable) -> Variable:
        """The logarithm of the density at ``value``; minus infinity outside."""
        above, below = (
            cast(inside, value.dtype) for inside in (less_than(self.low, value), less_than(value, self.high))
        )
        return ops.log(above * below) - ops.log(self.high - self.low)

    def entropy(self) -> Variable:
        """``log(high - low)``."""
        return ops.log(self.high - self.low)


class Normal(_LocationScale):
    """Normal of mean ``loc`` and standard deviation ``scale``, element by element."""

    def __init__(self, loc: Parameter, scale: Parameter) -> None:
        super().__init__(loc, scale)
        self.loc, self.scale = self._first, self._second

    def sample(self, shape: Sequence[int], seed: int = 0) -> Variable:
        """Numbers of ``shape``, followed by that of the parameters."""
        own, size = self._whole(shape)
        if self._fed:
            like = fill_constant_batch_size_like(self.loc + self.scale, [*own, *shape], self.loc.dtype, 0.0)
            drawn = gaussian_random(shape_of(like), mean=0.0, std=1.0, seed=seed)
            return reshape(drawn * (like + self.scale) + self.loc, size)
        found = self._stretched(gaussian_random(size, seed=seed), size, self.scale, self.loc)
        return reshape(found, list(shape)) if self._plain else found

    def entropy(self) -> Variable:
        """``log(scale sqrt(2 pi e))``."""
        like = fill_constant_batch_size_like(self.loc + self.scale, list((self.loc + self.scale).shape), "float32", 0.0)
        return 0.5 + 0.5 * math.log(2 * math.pi) + ops.log(self.scale + like)

    def log_prob(self, value: Variable) -> Variable:
        """The logarithm of the density at ``value``."""
        away, variance = value - self.loc, self.scale * self.scale
        return -1.0 * (away * away) / (2.0 * variance) - ops.log(self.scale) - math.log(math.sqrt(2.0 * math.pi))

    def kl_divergence(self, other: Normal) -> Variable:
        """From ``other``, in nats."""
        if not isinstance(other, Normal):
            raise wrong_type(f"kl_divergence: other is {type(other).__name__}", "give a Normal")
        ratio, away = self.scale / other.scale, (self.loc - other.loc) / other.scale
        squared = ratio * ratio
        return 0.5 * (squared + away * away - 1.0 - ops.log(squared))


class Categorical(Distribution):
    """One of several classes, by ``logits`` along the last axis."""

    def __init__(self, logits: Parameter) -> None:
        (self.logits,) = self._parameters(logits)

    def _scores(self) -> tuple[Variable, Variable, Variable]:
        """Logits below their largest, the logarithm of the sum of their exponentials, and probabilities."""
        scores = self.logits - reduce_max(self.logits, dim=-1, keep_dim=True)
        weights = ops.exp(scores)
        total = reduce_sum(weights, dim=-1, keep_dim=True)
        return scores, ops.log(total), weights / total

    def kl_divergence(self, other: Categorical) -> Variable:
        """From ``other``, in nats, with a last axis of extent 1."""
        if not isinstance(other, Categorical):
            raise wrong_type(f"kl_divergence: other is {type(other).__name__}", "give a Categorical")
        (scores, total, p), (other_scores, other_total, _) = self._scores(), other._scores()
        return reduce_sum(p * (scores - total - other_scores + other_total), dim=-1, keep_dim=True)

    def entropy(self) -> Variable:
        """In nats, with a last axis of extent 1."""
        scores, total, p = self._scores()
        return -1.0 * reduce_sum(p * (scores - total), dim=-1, keep_dim=True)


class MultivariateNormalDiag(Distribution):
    """Normal of mean ``loc`` ``[D]`` and a diagonal matrix ``scale`` ``[D, D]``."""

    def __init__(self, loc: Parameter, scale: Parameter) -> None:
        if isinstance(loc, Variable) != isinstance(scale, Variable):
            raise wrong_type("MultivariateNormalDiag: Variables and numbers are mixed", "give Variables for both")
        (self.loc,), (self.scale,) = self._parameters(loc), self._parameters(scale)

    def _unit(self, like: Variable) -> tuple[Variable, Variable]:
        size = list(like.shape)
        return ones(size, self.loc.dtype), diag(ones([size[0]], self.loc.dtype))

    def _determinant(self, matrix: Variable) -> Variable:
        all_ones, unit = self._unit(matrix)
        return reduce_prod(matrix + all_ones - unit)

    def _inverse(self, matrix: Variable) -> Variable:
        all_ones, unit = self._unit(matrix)
        return elementwise_pow(matrix, all_ones - 2 * unit)

    def entropy(self) -> Variable:
        """In nats."""
        count = self.scale.shape[0]
        return 0.5 * (count * (1.0 + math.log(2 * math.pi)) + ops.log(self._determinant(self.scale)))

    def kl_divergence(self, other: MultivariateNormalDiag) -> Variable:
        """From ``other``, in nats."""
        if not isinstance(other, MultivariateNormalDiag):
            raise wrong_type(f"kl_divergence: other is {type(other).__name__}", "give a MultivariateNormalDiag")
        inverse, away = self._inverse(other.scale), other.loc - self.loc
        trace = reduce_sum(inverse * self.scale)
        distance = matmul(matmul(away, inverse), away)
        ratio = ops.log(self._determinant(other.scale)) - ops.log(self._determinant(self.scale))
        return 0.5 * (trace + distance - self.scale.shape[0] + ratio)
