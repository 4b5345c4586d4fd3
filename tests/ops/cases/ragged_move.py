"""Tokens of rows of different lengths, moved."""

from __future__ import annotations

from typing import Any

import numpy as np
from cases import Case, ErrorCase, distinct, floats, tensor

from fluidc.compiler.ir.types import DType, RaggedType, Sym, TensorType
from fluidc.compiler.ops import ragged_move
from fluidc.compiler.ops.ragged import RaggedArray

X = RaggedArray(distinct(6, 2), np.asarray([0, 3, 3, 4, 6]))  # the second row is empty
SCALARS = RaggedArray(floats(5), np.asarray([0, 2, 5]))
WORDS = RaggedArray(np.asarray([7, 8, 9, 4, 5]), np.asarray([0, 1, 5]))
DEEP = RaggedArray(floats(4, 2, 3), np.asarray([0, 1, 4]))


def context(first: int, size: int, value: float = 0.0) -> Any:
    return lambda x: ragged_move.Context(x, first, size, value)


def neighbours(first: int, size: int, value: float = 0.0) -> Any:
    def expect(x: RaggedArray) -> np.ndarray:
        out = np.full((len(x.data), size, *x.data.shape[1:]), value, x.data.dtype)
        for start, stop in zip(x.offsets[:-1], x.offsets[1:], strict=True):
            for t in range(start, stop):
                for k in range(size):
                    if start <= t + first + k < stop:
                        out[t, k] = x.data[t + first + k]
        return out

    return expect


def gathered(first: int) -> Any:
    def expect(ct: np.ndarray, rows: RaggedArray) -> RaggedArray:
        out = np.zeros((ct.shape[0], *ct.shape[2:]))
        for start, stop in zip(rows.offsets[:-1], rows.offsets[1:], strict=True):
            for t in range(start, stop):
                for k in range(ct.shape[1]):
                    if start <= t + first + k < stop:
                        out[t + first + k] += ct[t, k]
        return RaggedArray(out, rows.offsets)

    return expect


def turned(x: RaggedArray) -> RaggedArray:
    tokens = [t for a, b in zip(x.offsets[:-1], x.offsets[1:], strict=True) for t in range(b - 1, a - 1, -1)]
    return RaggedArray(x.data[tokens], x.offsets)


def taken(x: np.ndarray, starts: np.ndarray, rows: RaggedArray) -> RaggedArray:
    none = np.zeros(x.shape[1:])
    tokens = [
        x[start + k] if 0 <= start + k < len(x) else none
        for i, start in enumerate(starts)
        for k in range(rows.offsets[i + 1] - rows.offsets[i])
    ]
    return RaggedArray(np.stack(tokens).astype(x.dtype), rows.offsets)


def placed(size: int) -> Any:
    def expect(x: RaggedArray, starts: np.ndarray) -> np.ndarray:
        out = np.zeros((size, *x.data.shape[1:]))
        for i, start in enumerate(starts):
            for k in range(x.offsets[i + 1] - x.offsets[i]):
                if 0 <= start + k < size:
                    out[start + k] += x.data[x.offsets[i] + k]
        return out

    return expect


def place(size: int, disjoint: bool = False) -> Any:
    return lambda x, starts: ragged_move.Place(x, starts, size, disjoint)


def take(disjoint: bool = False) -> Any:
    return lambda x, starts, rows: ragged_move.Take(x, starts, rows, disjoint)


APART, MEETING = np.asarray([4, 1, 0, 2]), np.asarray([2, 0, 3, 2])
ROWS = RaggedArray(np.zeros(6, np.float32), X.offsets)
CASES = (
    *(
        Case(f"ragged.context-{first}_{size}", context(first, size), (X,), neighbours(first, size), wrt=(0,))
        for first, size in ((-1, 3), (0, 2), (1, 1), (-2, 2), (-5, 3))
    ),
    Case("ragged.context-value", context(-1, 2, 2.5), (X,), neighbours(-1, 2, 2.5), wrt=(0,)),
    Case("ragged.context-scalars", context(0, 2), (SCALARS,), neighbours(0, 2), wrt=(0,)),
    Case("ragged.context-words", context(0, 3, -1), (WORDS,), neighbours(0, 3, -1)),
    Case("ragged.context-deep", context(-1, 2), (DEEP,), neighbours(-1, 2), wrt=(0,)),
    *(
        Case(
            f"ragged.context_grad-{first}",
            lambda ct, rows, first=first: ragged_move.ContextGrad(ct, rows, first),
            (floats(6, 3, 2), X),
            gathered(first),
            wrt=(0,),
        )
        for first in (-1, 0, 2)
    ),
    Case("ragged.reverse", lambda x: ragged_move.Reverse(x), (X,), turned, wrt=(0,)),
    Case("ragged.reverse-words", lambda x: ragged_move.Reverse(x), (WORDS,), turned),
    Case("ragged.reverse-deep", lambda x: ragged_move.Reverse(x), (DEEP,), turned, wrt=(0,)),
    Case("ragged.take", take(), (floats(5, 2), MEETING, ROWS), taken, wrt=(0,)),
    Case("ragged.take-apart", take(True), (floats(7, 2), APART, ROWS), taken, wrt=(0,)),
    Case("ragged.take-beyond", take(), (floats(4, 2), np.asarray([-1, 9, 4, 3]), ROWS), taken, wrt=(0,)),
    Case("ragged.take-words", take(), (np.asarray([7, 8, 9, 4]), np.asarray([1, 0, 3, 2]), ROWS), taken),
    Case("ragged.place", place(5), (X, MEETING), placed(5), wrt=(0,)),
    Case("ragged.place-apart", place(8, True), (X, APART), placed(8), wrt=(0,)),
    Case("ragged.place-beyond", place(3), (X, np.asarray([-1, 9, 3, 2])), placed(3), wrt=(0,)),
    Case("ragged.place-scalars", place(4), (SCALARS, np.asarray([0, 1])), placed(4), wrt=(0,)),
)

T, N = Sym("T"), Sym("N")
SEQUENCES = RaggedType(TensorType(DType.F32, (T, 2)), N)
ERRORS = (
    ErrorCase("ragged.context-none", context(0, 0), (SEQUENCES,), "at least one neighbour, not 0"),
    ErrorCase(
        "ragged.context_grad-tokens",
        lambda ct, rows: ragged_move.ContextGrad(ct, rows, 0),
        (tensor("f32[S,3,2]"), SEQUENCES),
        "has not the neighbours of each token",
    ),
    ErrorCase("ragged.take-starts", take(), (tensor("f32[T,2]"), tensor("i32[N]"), SEQUENCES), "one i64 start per row"),
    ErrorCase("ragged.place-starts", place(4), (SEQUENCES, tensor("i64[T]")), "one i64 start per row"),
)
