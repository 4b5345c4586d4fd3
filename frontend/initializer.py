"""Initial values of parameters: each initializer records one op in the startup program."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from .errors import invalid, wrong_type

if TYPE_CHECKING:
    from .framework import AttrValue, Block, Operator
    from .variable import Variable


class Initializer(ABC):
    """Calling it records how ``var`` gets its first value, at the front of ``block``."""

    @abstractmethod
    def __call__(self, var: Variable, block: Block) -> Operator:
        """Prepend the op; a seed of 0 becomes the program's ``random_seed`` of this moment."""


def _fans(var: Variable) -> tuple[int, int]:
    """Fan-in and fan-out: of a matrix its two extents, of a filter channels times its window."""
    shape = var.shape
    if len(shape) < 2:
        extent = shape[0] if shape else 1
        return extent, extent
    if len(shape) == 2:
        return shape[0], shape[1]
    window = math.prod(shape[2:])
    return shape[1] * window, shape[0] * window


def _uniform(
    var: Variable, block: Block, low: float, high: float, seed: int, diagonal: tuple[int, int, float] = (0, 0, 1.0)
) -> Operator:
    attrs: dict[str, AttrValue] = {
        "shape": list(var.shape),
        "dtype": var.dtype,
        "min": float(low),
        "max": float(high),
        "seed": seed or block.program.random_seed,
    }
    if diagonal[0]:
        attrs |= dict(zip(("diag_num", "diag_step", "diag_val"), diagonal))
    return block.prepend_op("uniform_random", {}, {"Out": [var]}, attrs)


def _gaussian(op: str, var: Variable, block: Block, mean: float, std: float, seed: int) -> Operator:
    return block.prepend_op(
        op,
        {},
        {"Out": [var]},
        {
            "shape": list(var.shape),
            "dtype": var.dtype,
            "mean": float(mean),
            "std": float(std),
            "seed": seed or block.program.random_seed,
        },
    )


class ConstantInitializer(Initializer):
    """Every element is ``value``."""

    def __init__(self, value: float = 0.0, force_cpu: bool = False) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float | np.number):
            raise wrong_type(f"Constant: value is {value!r}", "give a number")
        self.value = float(value)
        self.force_cpu = force_cpu

    def __call__(self, var: Variable, block: Block) -> Operator:
        return block.prepend_op(
            "fill_constant",
            {},
            {"Out": [var]},
            {"shape": list(var.shape), "dtype": var.dtype, "value": self.value, "force_cpu": self.force_cpu},
        )


class UniformInitializer(Initializer):
    """Uniform on [low, high); then ``diag_num`` elements, ``diag_step + 1`` apart from the first, are ``diag_val``.

    With as many as rows and ``diag_step`` the number of columns, they are the main diagonal.
    """

    def __init__(
        self,
        low: float = -1.0,
        high: float = 1.0,
        seed: int = 0,
        diag_num: int = 0,
        diag_step: int = 0,
        diag_val: float = 1.0,
    ) -> None:
        if not high >= low:
            raise invalid(f"Uniform: low is {low} and high is {high}", "low must not exceed high")
        if diag_num < 0 or diag_step < 0:
            raise invalid(f"Uniform: diag_num is {diag_num}, diag_step {diag_step}", "give numbers of at least 0")
        self.low, self.high, self.seed = low, high, seed
        self.diagonal = (diag_num, diag_step, float(diag_val))

    def __call__(self, var: Variable, block: Block) -> Operator:
        number, step, _ = self.diagonal
        if number and (number - 1) * (step + 1) >= math.prod(var.shape):
            raise invalid(
                f"Uniform: diag_num is {number} and diag_step {step}, but {var.name} has shape {list(var.shape)}",
                "the last of the elements must be in the parameter",
            )
        return _uniform(var, block, self.low, self.high, self.seed, self.diagonal)


class NormalInitializer(Initializer):
    """Normal with mean ``loc`` and standard deviation ``scale``."""

    def __init__(self, loc: float = 0.0, scale: float = 1.0, seed: int = 0) -> None:
        self.loc, self.scale, self.seed = loc, scale, seed

    def __call__(self, var: Variable, block: Block) -> Operator:
        return _gaussian("gaussian_random", var, block, self.loc, self.scale, self.seed)


class TruncatedNormalInitializer(Initializer):
    """Normal restricted to two standard deviations around ``loc``."""

    def __init__(self, loc: float = 0.0, scale: float = 1.0, seed: int = 0) -> None:
        self.loc, self.scale, self.seed = loc, scale, seed

    def __call__(self, var: Variable, block: Block) -> Operator:
        return _gaussian("truncated_gaussian_random", var, block, self.loc, self.scale, self.seed)


class XavierInitializer(Initializer):
    """Variance 2 / (fan_in + fan_out), uniform or normal (Glorot and Bengio, AISTATS 2010)."""

    def __init__(
        self, uniform: bool = True, fan_in: float | None = None, fan_out: float | None = None, seed: int = 0
    ) -> None:
        self.uniform, self.fan_in, self.fan_out, self.seed = uniform, fan_in, fan_out, seed

    def __call__(self, var: Variable, block: Block) -> Operator:
        own_in, own_out = _fans(var)
        fan_in = own_in if self.fan_in is None else self.fan_in
        fan_out = own_out if self.fan_out is None else self.fan_out
        if self.uniform:
            limit = math.sqrt(6.0 / (fan_in + fan_out))
            return _uniform(var, block, -limit, limit, self.seed)
        std = math.sqrt(2.0 / (fan_in + fan_out))
        return _gaussian("gaussian_random", var, block, 0.0, std, self.seed)


class MSRAInitializer(Initializer):
    """Variance 2 / fan_in, uniform or normal (He et al., ICCV 2015)."""

    def __init__(self, uniform: bool = True, fan_in: float | None = None, seed: int = 0) -> None:
        self.uniform, self.fan_in, self.seed = uniform, fan_in, seed

    def __call__(self, var: Variable, block: Block) -> Operator:
        fan_in = _fans(var)[0] if self.fan_in is None else self.fan_in
        if self.uniform:
            limit = math.sqrt(6.0 / fan_in)
            return _uniform(var, block, -limit, limit, self.seed)
        return _gaussian("gaussian_random", var, block, 0.0, math.sqrt(2.0 / fan_in), self.seed)


class NumpyArrayInitializer(Initializer):
    """The given array; its shape must be the parameter's."""

    def __init__(self, value: np.ndarray) -> None:
        if not isinstance(value, np.ndarray):
            raise wrong_type(f"NumpyArrayInitializer: value is {type(value).__name__}", "give a numpy array")
        self.value = value

    def __call__(self, var: Variable, block: Block) -> Operator:
        if var.shape != self.value.shape:
            raise invalid(
                f"NumpyArrayInitializer: the array has shape {list(self.value.shape)}, "
                f"but {var.name} has {list(var.shape)}",
                "give an array of the parameter's shape",
            )
        values = np.ascontiguousarray(self.value, dtype=var.dtype.numpy)
        return block.prepend_op(
            "assign_value", {}, {"Out": [var]}, {"shape": list(var.shape), "dtype": var.dtype, "values": values}
        )


class BilinearInitializer(Initializer):
    """Weights with which a transposed convolution interpolates linearly; for square filters."""

    def __call__(self, var: Variable, block: Block) -> Operator:
        if len(var.shape) != 4 or var.shape[2] != var.shape[3]:
            raise invalid(
                f"Bilinear: {var.name} has shape {list(var.shape)}", "it is for filters of shape [C, G, K, K]"
            )
        size = var.shape[3]
        factor = math.ceil(size / 2.0)
        centre = (2 * factor - 1 - factor % 2) / (2.0 * factor)
        # As in Paddle 1.8.5 under Python 3 rows lie between those of the weights: element i is of row i / size.
        place = np.arange(math.prod(var.shape))
        column, row = place % size, place / size % size
        weights = (1 - np.abs(column / factor - centre)) * (1 - np.abs(row / factor - centre))
        return NumpyArrayInitializer(weights.reshape(var.shape).astype(var.dtype.numpy))(var, block)


Constant = ConstantInitializer
Uniform = UniformInitializer
Normal = NormalInitializer
TruncatedNormal = TruncatedNormalInitializer
Xavier = XavierInitializer
MSRA = MSRAInitializer
Bilinear = BilinearInitializer
