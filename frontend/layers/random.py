"""Random numbers drawn afresh in every step."""

from __future__ import annotations

import random
from collections.abc import Sequence

from .. import unique_name
from ..errors import invalid, unsupported, wrong_type
from ..framework import AttrValue
from ..initializer import ConstantInitializer
from ..layer_helper import LayerHelper, check_variable
from ..variable import Variable
from ..vartype import DTypeLike, VarType, convert_dtype
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
    shape: ShapeLike | Variable, dtype: DTypeLike = "float32", min: float = -1.0, max: float = 1.0, seed: int = 0
) -> Variable:
    """Uniform on [min, max); a seed repeats the same numbers in every step, as in Paddle."""
    return _random("uniform_random", shape, dtype, min=float(min), max=float(max), seed=seed)


def gaussian_random(
    shape: ShapeLike | Variable, mean: float = 0.0, std: float = 1.0, seed: int = 0, dtype: DTypeLike = "float32"
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


def _whole(layer: str, dtype: DTypeLike, device: str | None, out: Variable | None) -> VarType:
    """The element type of whole numbers, after a look at what else was asked for."""
    kind = convert_dtype(dtype)
    if kind not in (VarType.INT32, VarType.INT64):
        raise wrong_type(f"{layer}: dtype is {dtype!r}", "use 'int32' or 'int64'")
    if device not in (None, "cpu"):
        raise unsupported(f"{layer}: device is {device!r}", "leave it out: the executor's place says where")
    if out is not None and out.dtype != kind:
        raise wrong_type(
            f"{layer}: out {out.name} holds {out.dtype.numpy.name}, not {kind.numpy.name}", "give dtype, too"
        )
    return kind


def randint(
    low: int,
    high: int | None = None,
    shape: ShapeLike | Variable | None = None,
    out: Variable | None = None,
    dtype: DTypeLike | None = None,
    device: str | None = None,
    stop_gradient: bool = False,
    seed: int = 0,
    name: str | None = None,
) -> Variable:
    """Whole numbers of [low, high), or of [0, low) without ``high``; a seed repeats the same ones in every step."""
    helper = LayerHelper("randint", name)
    kind = _whole("randint", dtype or "int64", device, out)
    low, high = (0, low) if high is None else (low, high)
    if not low < high or high - low > 2**31 - 2:
        raise invalid(f"randint: numbers of [{low}, {high})", "give low < high, at most 2^31 - 2 apart")
    wanted = static_shape("randint", [1] if shape is None else shape)
    out = helper.temporary(kind, wanted.numbers) if out is None else out
    attrs: dict[str, AttrValue] = {"shape": wanted.numbers, "low": low, "high": high, "seed": seed, "dtype": kind}
    helper.op("randint", wanted.inputs, {"Out": [out]}, attrs)
    out.stop_gradient = stop_gradient
    return out


def randperm(
    n: int,
    out: Variable | None = None,
    dtype: DTypeLike = "int64",
    device: str | None = None,
    stop_gradient: bool = True,
    seed: int = 0,
) -> Variable:
    """The numbers from 0 to n - 1 in random order; a seed repeats the same order in every step."""
    helper = LayerHelper("randperm")
    kind = _whole("randperm", dtype, device, out)
    if n < 1:
        raise invalid(f"randperm: n is {n}", "give at least 1")
    out = helper.temporary(kind, [n]) if out is None else out
    helper.op("randperm", {}, {"Out": [out]}, {"n": n, "dtype": kind, "seed": seed})
    out.stop_gradient = stop_gradient
    return out


def sampling_id(
    x: Variable, min: float = 0.0, max: float = 1.0, seed: int = 0, dtype: DTypeLike = "float32"
) -> Variable:
    """A column for each row of probabilities ``[N, C]``, drawn by them: int64 [N], whatever ``dtype`` says.

    The column is the first whose sum with all before it exceeds a number of [min, max); the last if none does.
    """
    del dtype
    helper = LayerHelper("sampling_id")
    helper.check_dtype("x", x, (VarType.FP32, VarType.FP64))
    if len(x.shape) != 2:
        raise invalid(f"sampling_id: x {x.name} has shape {list(x.shape)}", "give rows of probabilities, [N, C]")
    out = helper.temporary(VarType.INT64, [x.shape[0]], stop_gradient=True)
    helper.op("sampling_id", {"X": [x]}, {"Out": [out]}, {"min": float(min), "max": float(max), "seed": seed})
    return out


def random_crop(x: Variable, shape: Sequence[int], seed: int | None = None) -> Variable:
    """Parts of extents ``shape`` of the last axes of ``x``, cut out of each element of its first ones at random.

    Where a step begins depends on ``seed``, drawn when the program is built if None, and on the number of the step.
    """
    helper = LayerHelper("random_crop")
    check_variable("random_crop", "x", x)
    sizes = [int(d) for d in shape]
    cut = x.shape[len(x.shape) - len(sizes) :]
    if not 0 < len(sizes) < len(x.shape) or any(not 0 < s <= d for s, d in zip(sizes, cut)):
        raise invalid(
            f"random_crop: {sizes} of x {x.name} {list(x.shape)}",
            "give extents of the last axes, no larger than they are",
        )
    if isinstance(seed, Variable):
        raise unsupported("random_crop: seed is a Variable", "give a number, or leave it out")
    begin = random.randint(1, 65535) if seed is None else int(seed)
    if not 0 < begin < 2**31 - 1:
        raise invalid(f"random_crop: seed is {seed}", "give a number from 1 to 2^31 - 2")
    state = helper.initialised_variable(
        unique_name.generate("random_crop_seed"), [1], VarType.INT64, ConstantInitializer(begin), stop_gradient=True
    )
    out = helper.temporary(x.dtype, [*x.shape[: len(x.shape) - len(sizes)], *sizes])
    attrs: dict[str, AttrValue] = {"shape": sizes, "startup_seed": begin}
    helper.op("random_crop", {"X": [x], "Seed": [state]}, {"Out": [out], "SeedOut": [state]}, attrs)
    return out
