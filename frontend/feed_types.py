"""The types that a program is compiled for: what it declares of its feeds, completed by the arrays at hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from ..compiler.errors import PrivacyError
from ..compiler.ir.types import DType, Sym, TensorType
from .errors import invalid
from .framework import Program
from .lod import LENGTHS, OUTER
from .open_sizes import Place
from .token_symbols import token_symbol, token_symbols


def feed_type(
    program: Program,
    name: str,
    array: NDArray[Any],
    batch: int | None = None,
    symbols: Mapping[Place, Sym] | None = None,
) -> TensorType:
    """The declared type of a feed; sizes that the program leaves open are the batch, symbols, or those of the array.

    In a private program the only open size is the batch, on any axis: the array's sizes are not public.

    ``batch`` is the size that the other feeds' axis 0 has: the one open size of a feed that equals it is the batch on
    any axis (time-major data, ``[T, -1, D]``).  ``symbols`` are those of open sizes beside axis 0 (`open_sizes`).

    Raises:
        ProgramError: An array of another rank than the program declares.
        PrivacyError: A feed of a private program with a second open size.
    """
    if name.endswith(OUTER):
        return TensorType(DType.I64, (Sym("N"),))
    if name.endswith(LENGTHS):
        fed = name.removesuffix(LENGTHS)
        nested = program.global_block().vars[fed].lod_level > 1
        return TensorType(DType.I64, (Sym(f"S_{token_symbol(program, fed)}" if nested else "N"),))
    variable = program.global_block().vars[name]
    dtype = DType.of(variable.dtype.numpy)
    shape: list[int | Sym] = []
    declared = list(variable.shape)
    if variable.lod_level == 0 and program.global_block().private_backward() is not None:
        return TensorType(dtype, _private_shape(program, name, declared))
    for axis, extent in enumerate(declared):
        if extent >= 0:
            shape.append(extent)
        elif axis == 0:
            rows = token_symbol(program, name) if variable.lod_level else token_symbols(program).get(name, "N")
            shape.append(Sym(rows))
        elif symbols and (name, axis) in symbols:
            shape.append(symbols[name, axis])
        elif len(declared) == array.ndim:
            same = declared.count(-1) == 1 and array.shape[axis] == batch
            shape.append(Sym("N") if same else array.shape[axis])
        else:
            raise invalid(
                f"feed {name!r} has {array.ndim} dims, the program declares {declared}",
                "feed an array of the declared rank",
            )
    return TensorType(dtype, tuple(shape))


def _private_shape(program: Program, name: str, declared: list[int]) -> tuple[int | Sym, ...]:
    if sum(extent < 0 for extent in declared) > 1:
        reader = next((op for op in program.global_block().ops if name in op.input_arg_names), None)
        raise PrivacyError(
            f"feed {name!r} is declared {declared}; in a private program only the batch may be open, since a size "
            "that follows the data at hand tells of them",
            where=None if reader is None else reader.loc.place,
            hint="declare the other sizes, and pad to them; they are public",
        )
    return tuple(Sym("N") if extent < 0 else extent for extent in declared)


def batch_size(program: Program, feeds: Mapping[str, NDArray[Any]]) -> int:
    """The size of the batch that is fed; 0 where feeds have several, or none."""
    rows = {len(array) for name, array in feeds.items() if array.ndim and _is_batched(program, name)}
    return next(iter(rows)) if len(rows) == 1 else 0


def _is_batched(program: Program, name: str) -> bool:
    variable = program.global_block().vars.get(name)
    return (
        variable is not None
        and bool(variable.shape)
        and variable.shape[0] == -1
        and not variable.lod_level
        and name not in token_symbols(program)
    )
