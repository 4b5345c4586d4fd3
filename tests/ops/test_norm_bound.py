"""Norms under cancellation: never below the exact value, and close to it where nothing cancels."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from cases import tensor
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fluidc.compiler.ir.core import Value
from fluidc.compiler.ops.construct import OpBuilder
from fluidc.compiler.ops.elementwise import Add
from fluidc.compiler.ops.embedding import Lookup
from fluidc.compiler.ops.kinds import PUBLIC, ExampleKind
from fluidc.compiler.ops.linear import MatMul
from fluidc.compiler.ops.region import evaluate_op

E0 = ExampleKind(0)
TOKENS = hnp.arrays(np.float32, (2, 6, 2), elements=st.floats(-1e6, 1e6, width=32))


def exact_square(rows: list[np.ndarray]) -> Fraction:
    """The squared norm of the sum of ``rows``, without rounding."""
    columns = [sum((Fraction(float(v)) for v in column), Fraction(0)) for column in zip(*rows, strict=True)]
    return sum((c * c for c in columns), Fraction(0))


def norms(
    op: Add | Lookup | MatMul, operand: int, kinds: tuple[object, ...], known: dict[Value, np.ndarray]
) -> np.ndarray:
    b = OpBuilder()
    ct = next(value for value in known if value.hint == "ct")
    found = op.example_norm_sq(b, operand, ct, kinds)  # type: ignore[arg-type]
    assert found is not None
    environment: dict[Value, object] = dict(known)
    for made in b.ops:
        evaluate_op(made, environment)
    return np.asarray(environment[found])


def bias_norms(deltas: np.ndarray) -> np.ndarray:
    n, t, d = deltas.shape
    kind = tensor(f"f32[{n},{t},{d}]")
    x, bias, ct = Value(kind, "x"), Value(tensor(f"f32[{d}]"), "b"), Value(kind, "ct")
    return norms(Add(x, bias), 1, (E0, PUBLIC), {x: deltas, bias: np.zeros(d, np.float32), ct: deltas})


def lookup_norms(ids: np.ndarray, deltas: np.ndarray) -> np.ndarray:
    n, t, d = deltas.shape
    table, index, ct = (
        Value(tensor(s), h) for s, h in ((f"f32[4,{d}]", "w"), (f"i64[{n},{t}]", "i"), (f"f32[{n},{t},{d}]", "ct"))
    )
    return norms(Lookup(table, index), 0, (PUBLIC, E0), {index: ids, ct: deltas})


def cancelling(deltas: np.ndarray) -> np.ndarray:
    """The second half of the tokens takes back the first, up to single rounding."""
    half = deltas.shape[1] // 2
    deltas = deltas.copy()
    deltas[:, half:] = -deltas[:, :half] * np.float32(1 + 2**-20)
    return deltas


@given(TOKENS, st.booleans())
@settings(max_examples=60, deadline=None)
def test_bias_never_below(deltas: np.ndarray, cancel: bool) -> None:
    deltas = cancelling(deltas) if cancel else deltas
    for found, rows in zip(bias_norms(deltas), deltas, strict=True):
        # Up to the relative rounding of the final sum, which the slack of the accountant covers many times over.
        assert Fraction(float(found)) * (1 + Fraction(1, 2**11)) ** 2 >= exact_square(list(rows))


@given(TOKENS, hnp.arrays(np.int64, (2, 6), elements=st.integers(0, 3)), st.booleans())
@settings(max_examples=60, deadline=None)
def test_lookup_never_below(deltas: np.ndarray, ids: np.ndarray, cancel: bool) -> None:
    if cancel:
        deltas, ids = cancelling(deltas), np.concatenate([ids[:, :3], ids[:, :3]], axis=1)
    for found, row, keys in zip(lookup_norms(ids, deltas), deltas, ids, strict=True):
        groups = {int(k): [d for d, key in zip(row, keys, strict=True) if key == k] for k in keys}
        exact = sum((exact_square(group) for group in groups.values()), Fraction(0))
        assert Fraction(float(found)) * (1 + Fraction(1, 2**11)) ** 2 >= exact


def test_tight_where_nothing_cancels() -> None:
    deltas = np.abs(np.random.default_rng(0).normal(size=(3, 64, 8))).astype(np.float32)
    wanted = np.sum(np.square(np.sum(deltas.astype(np.float64), axis=1)), axis=1)
    np.testing.assert_allclose(bias_norms(deltas), wanted, rtol=1e-14)
    np.testing.assert_allclose(lookup_norms(np.zeros((3, 64), np.int64), deltas), wanted, rtol=1e-14)


def test_the_bound_covers_total_cancellation() -> None:
    """The exact sum is 0; what is stated is a share of the vectors' lengths, beyond what a float32 sum can be off."""
    deltas = np.array([[[1e6, 3.0], [1e6, -3.0], [-2e6, 0.0]]], np.float32)
    wanted = (4e6 / 1024) ** 2
    assert wanted >= ((3 + 2) * 2.0**-24 * 4e6) ** 2
    np.testing.assert_allclose(bias_norms(deltas), [wanted], rtol=1e-6)
    np.testing.assert_allclose(lookup_norms(np.zeros((1, 3), np.int64), deltas), [wanted], rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_products_neither_under_nor_overflow(scale: float) -> None:
    """|x|²|ct|² of single-precision extremes stays exact: float32 squares would be 0 or infinite."""
    x, w, ct = (Value(tensor(s), h) for s, h in (("f32[2,3]", "x"), ("f32[3,2]", "w"), ("f32[2,2]", "ct")))
    rows, cts = np.full((2, 3), scale, np.float32), np.full((2, 2), 1 / scale, np.float32)
    found = norms(MatMul(x, w), 1, (E0, PUBLIC), {x: rows, w: np.zeros((3, 2), np.float32), ct: cts})
    np.testing.assert_allclose(found, [6.0, 6.0], rtol=1e-6)
