"""Random numbers drawn afresh in every step."""

from __future__ import annotations

from collections.abc import Sequence

from ..framework import AttrValue
from ..layer_helper import LayerHelper
from ..variable import Variable
from ..vartype import DTypeLike, convert_dtype
from .tensor import ShapeLike, batch_like_shape, static_shape


def _random(op: str, shape: ShapeLike | Variable, dtype: DTypeLike, **attrs: AttrValue) -> Variable:
    helper = LayerHelper(op)
    kind = convert_dtype(dtype)
    wanted = static_shape(op, shape)
    out = helper.temporary(kind, wanted.numbers)
    helper.op(op, wanted.inputs, {"Out": [out]}, {"shape": wanted.numbers, "dtype": kind, **attrs})
    return out


def _like(
    op: str, input: Variable, shape: Sequence[int], dtype: DTypeLike, from_dim: int, to_dim: int, **attrs: AttrValue
) -> Variable:
    helper = LayerHelper(op)
    kind = convert_dtype(dtype)
    out = helper.temporary(kind, batch_like_shape(op, input, shape, from_dim, to_dim))
    fixed: dict[str, AttrValue] = {
        "shape": [int(d) for d in shape],
        "dtype": kind,
        "input_dim_idx": from_dim,
        "output_dim_idx": to_dim,
    }
    helper.op(op, {"Input": [input]}, {"Out": [out]}, {**fixed, **attrs})
    return out


def uniform_random(
    shape: ShapeLike, dtype: DTypeLike = "float32", min: float = -1.0, max: float = 1.0, seed: int = 0
) -> Variable:
    """Uniform on [min, max); a seed repeats the same numbers in every step, as in Paddle."""
    return _random("uniform_random", shape, dtype, min=float(min), max=float(max), seed=seed)


def gaussian_random(
    shape: ShapeLike, mean: float = 0.0, std: float = 1.0, seed: int = 0, dtype: DTypeLike = "float32"
) -> Variable:
    """Normal with the given mean and standard deviation; a seed repeats the same numbers in every step."""
    return _random("gaussian_random", shape, dtype, mean=float(mean), std=float(std), seed=seed)


def uniform_random_batch_size_like(
    input: Variable,
    shape: Sequence[int],
    dtype: DTypeLike = "float32",
    input_dim_idx: int = 0,
    output_dim_idx: int = 0,
    min: float = -1.0,
    max: float = 1.0,
    seed: int = 0,
) -> Variable:
    """`uniform_random` with extent ``output_dim_idx`` taken from the input's ``input_dim_idx``."""
    return _like(
        "uniform_random_batch_size_like",
        input,
        shape,
        dtype,
        input_dim_idx,
        output_dim_idx,
        min=float(min),
        max=float(max),
        seed=seed,
    )


def gaussian_random_batch_size_like(
    input: Variable,
    shape: Sequence[int],
    input_dim_idx: int = 0,
    output_dim_idx: int = 0,
    mean: float = 0.0,
    std: float = 1.0,
    seed: int = 0,
    dtype: DTypeLike = "float32",
) -> Variable:
    """`gaussian_random` with extent ``output_dim_idx`` taken from the input's ``input_dim_idx``."""
    return _like(
        "gaussian_random_batch_size_like",
        input,
        shape,
        dtype,
        input_dim_idx,
        output_dim_idx,
        mean=float(mean),
        std=float(std),
        seed=seed,
    )
