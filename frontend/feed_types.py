"""The types that a program is compiled for: what it declares of its feeds, completed by the arrays at hand."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from ..compiler.ir.types import DType, Sym, TensorType
from .errors import invalid
from .framework import Program

LENGTHS = "@lengths"
"""Suffix of the feed that holds the lengths of a LoD feed's sequences."""


def feed_type(program: Program, name: str, array: NDArray[Any]) -> TensorType:
    """The declared type of a feed; sizes that the program leaves open are the batch, or those of the array.

    Raises:
        ProgramError: An array of another rank than the program declares.
    """
    if name.endswith(LENGTHS):
        return TensorType(DType.I64, (Sym("N"),))
    variable = program.global_block().vars[name]
    dtype = DType.of(variable.dtype.numpy)
    shape: list[int | Sym] = []
    declared = list(variable.shape)
    for axis, extent in enumerate(declared):
        if extent >= 0:
            shape.append(extent)
        elif axis == 0:
            shape.append(Sym("T" if variable.lod_level else "N"))
        elif len(declared) == array.ndim:
            shape.append(array.shape[axis])
        else:
            raise invalid(
                f"feed {name!r} has {array.ndim} dims, the program declares {declared}",
                "feed an array of the declared rank",
            )
    return TensorType(dtype, tuple(shape))
