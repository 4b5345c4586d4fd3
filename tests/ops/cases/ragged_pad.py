"""Rows of different lengths, padded to one width and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from cases import Case, ErrorCase, distinct, floats, tensor

from fluidc.compiler.ir.types import DType, RaggedType, Sym, TensorType
from fluidc.compiler.ops import ragged_pad
from fluidc.compiler.ops.ragged import RaggedArray

X = RaggedArray(distinct(6, 2), np.asarray([0, 3, 3, 4, 6]))  # the second row is empty
SCALARS = RaggedArray(floats(5), np.asarray([0, 2, 5]))
WORDS = RaggedArray(np.asarray([7, 8, 9, 4, 5]), np.asarray([0, 1, 5]))
DEEP = RaggedArray(floats(4, 2, 3), np.asarray([0, 1, 4]))


def pad(width: int, value: float = 0.0, reverse: bool = False) -> Any:
    return lambda x: ragged_pad.Pad(x, width, value, reverse)


def padded(width: int, value: float = 0.0, reverse: bool = False) -> Any:
    def expect(x: RaggedArray) -> np.ndarray:
        out = np.empty((len(x.offsets) - 1, width, *x.data.shape[1:]), x.data.dtype)
        for i in range(len(out)):
            for t in range(width):
                start, stop = x.offsets[i], x.offsets[i + 1]
                out[i, t] = x.data[stop - 1 - t if reverse else start + t] if t < stop - start else value
        return out

    return expect


def unpadded(x: np.ndarray, rows: RaggedArray) -> RaggedArray:
    tokens = [
        x[i, t] if t < x.shape[1] else np.zeros(x.shape[2:])
        for i in range(len(x))
        for t in range(rows.offsets[i + 1] - rows.offsets[i])
    ]
    return RaggedArray(np.stack(tokens).astype(x.dtype), rows.offsets)


def unpadded_reversed(x: np.ndarray, rows: RaggedArray) -> RaggedArray:
    out = unpadded(x, rows)
    tokens = [t for a, b in zip(rows.offsets[:-1], rows.offsets[1:], strict=True) for t in range(b - 1, a - 1, -1)]
    return RaggedArray(out.data[tokens], rows.offsets)


CASES = (
    Case("ragged.pad", pad(3), (X,), padded(3), wrt=(0,)),
    Case("ragged.pad-wide", pad(5, -1.5), (X,), padded(5, -1.5), wrt=(0,)),
    Case("ragged.pad-cut", pad(2), (X,), padded(2), wrt=(0,)),
    *(
        Case(f"ragged.pad-reverse{width}", pad(width, 0.5, True), (X,), padded(width, 0.5, True), wrt=(0,))
        for width in (3, 2, 4)
    ),
    *(
        Case(
            f"ragged.pad-steps_first{width}",
            lambda x, width=width: ragged_pad.Pad(x, width, 0.5, width == 3, True),
            (X,),
            lambda x, width=width: padded(width, 0.5, width == 3)(x).swapaxes(0, 1),
            wrt=(0,),
        )
        for width in (3, 2, 4)
    ),
    Case("ragged.pad-scalars", pad(3), (SCALARS,), padded(3), wrt=(0,)),
    Case("ragged.pad-words", pad(4, -1), (WORDS,), padded(4, -1)),
    Case("ragged.pad-deep", pad(3), (DEEP,), padded(3), wrt=(0,)),
    Case("ragged.unpad", ragged_pad.Unpad, (floats(4, 3, 2), X), unpadded, wrt=(0,)),
    Case("ragged.unpad-narrow", ragged_pad.Unpad, (floats(4, 2, 2), X), unpadded, wrt=(0,)),
    Case("ragged.unpad-wide", ragged_pad.Unpad, (floats(4, 5, 3), X), unpadded, wrt=(0,)),
    *(
        Case(
            f"ragged.unpad-reverse{width}",
            lambda x, rows: ragged_pad.Unpad(x, rows, True),
            (floats(4, width, 2), X),
            unpadded_reversed,
            wrt=(0,),
        )
        for width in (3, 2, 4)
    ),
    *(
        Case(
            f"ragged.unpad-steps_first{width}",
            lambda x, rows, width=width: ragged_pad.Unpad(x, rows, width == 3, True),
            (floats(width, 4, 2), X),
            lambda x, rows, width=width: (unpadded_reversed if width == 3 else unpadded)(x.swapaxes(0, 1), rows),
            wrt=(0,),
        )
        for width in (3, 2, 5)
    ),
    Case("ragged.unpad-scalars", ragged_pad.Unpad, (floats(2, 3), SCALARS), unpadded, wrt=(0,)),
    Case("ragged.unpad-words", ragged_pad.Unpad, (np.arange(8).reshape(2, 4), WORDS), unpadded),
)

ROWS = RaggedType(TensorType(DType.F32, (Sym("T"), 2)), Sym("N"))

ERRORS = (
    ErrorCase(
        "ragged.unpad-count",
        lambda x, rows: ragged_pad.Unpad(x, rows),
        (tensor("f32[T,3,2]"), ROWS),
        "has not one row of tokens per row",
    ),
    ErrorCase(
        "ragged.unpad-rank",
        lambda x, rows: ragged_pad.Unpad(x, rows),
        (tensor("f32[N]"), ROWS),
        "has not one row of tokens per row",
    ),
)
