"""Layers whose results are as long as the data says, and integers from hashes and draws; all run on the host."""

from __future__ import annotations

from ..errors import invalid
from ..layer_helper import LayerHelper
from ..variable import Variable
from ..vartype import DTypeLike, VarType, convert_dtype
from .arrange import slice, where

_NUMBERS = (VarType.FP32, VarType.FP64, VarType.INT32, VarType.INT64)
_INDICES = (VarType.INT32, VarType.INT64)


def _check_index(layer: str, dtype: DTypeLike) -> VarType:
    kind = convert_dtype(dtype)
    if kind not in _INDICES:
        raise invalid(f"{layer}: dtype is {dtype!r}", "indices are 'int32' or 'int64'")
    return kind


def unique(x: Variable, dtype: DTypeLike = "int32") -> tuple[Variable, Variable]:
    """The distinct elements of ``x`` [n] in the order in which they come, and for each element which of them it is."""
    helper = LayerHelper("unique")
    helper.check_dtype("x", x, _NUMBERS)
    kind = _check_index("unique", dtype)
    out = helper.temporary(x.dtype, [-1], stop_gradient=True)
    index = helper.temporary(kind, x.shape, stop_gradient=True)
    helper.op("unique", {"X": [x]}, {"Out": [out], "Index": [index]}, {"dtype": kind})
    return out, index


def unique_with_counts(x: Variable, dtype: DTypeLike = "int32") -> tuple[Variable, Variable, Variable]:
    """`unique`, and how often each of the distinct elements comes."""
    helper = LayerHelper("unique_with_counts")
    helper.check_dtype("x", x, _NUMBERS)
    kind = _check_index("unique_with_counts", dtype)
    if len(x.shape) != 1:
        raise invalid(f"unique_with_counts: {x.name} has shape {list(x.shape)}", "flatten it: reshape(x, [-1])")
    out = helper.temporary(x.dtype, [-1], stop_gradient=True)
    index = helper.temporary(kind, x.shape, stop_gradient=True)
    count = helper.temporary(kind, [-1], stop_gradient=True)
    helper.op("unique_with_counts", {"X": [x]}, {"Out": [out], "Index": [index], "Count": [count]}, {"dtype": kind})
    return out, index, count


def nonzero(input: Variable, as_tuple: bool = False) -> Variable | tuple[Variable, ...]:
    """Indices of the true elements of ``input`` (bool), int64 [n, rank]; ``as_tuple``: one [n, 1] for each axis."""
    found = where(input)
    rank = len(input.shape)
    if not as_tuple:
        return found
    if rank == 1:
        return (found,)
    return tuple(slice(found, [1], [axis], [axis + 1]) for axis in range(rank))


def hash(input: Variable, hash_size: int, num_hash: int = 1, name: str | None = None) -> Variable:
    """``num_hash`` hashes (xxHash64) of each row of integers, below ``hash_size``: ``[..., num_hash, 1]``."""
    helper = LayerHelper("hash", name)
    helper.check_dtype("input", input, _INDICES)
    if hash_size < 1 or num_hash < 1:
        raise invalid(f"hash: hash_size is {hash_size}, num_hash {num_hash}", "give at least 1")
    out = helper.temporary(input.dtype, [*input.shape[:-1], num_hash, 1], lod_level=input.lod_level, stop_gradient=True)
    helper.op("hash", {"X": [input]}, {"Out": [out]}, {"num_hash": num_hash, "mod_by": hash_size})
    return out
