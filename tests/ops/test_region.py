"""Kinds in and around regions, where the op cases (which draw a symbolic batch) do not reach."""

from __future__ import annotations

import pytest

from fluidc.compiler.ir.core import Value
from fluidc.compiler.ir.types import DType, Sym, TensorType
from fluidc.compiler.ops import branching, control, unary
from fluidc.compiler.ops.construct import OpBuilder
from fluidc.compiler.ops.kinds import PUBLIC, ExampleKind, Kind, MixedKind, TotalKind
from fluidc.compiler.ops.region import fixpoint, join_kinds, kinds_of

ROWS = TensorType(DType.F32, (3, 3))
OP = unary.Neg(Value(ROWS))
MIXED = MixedKind("a reason", OP)


@pytest.mark.parametrize(
    ("a", "b", "joined"),
    [
        (PUBLIC, PUBLIC, PUBLIC),
        (PUBLIC, ExampleKind(1), ExampleKind(1)),
        (ExampleKind(1), PUBLIC, ExampleKind(1)),
        (ExampleKind(0), ExampleKind(0), ExampleKind(0)),
        (TotalKind("sum"), PUBLIC, TotalKind("sum")),
        (MIXED, PUBLIC, MIXED),
        (ExampleKind(0), MIXED, MIXED),
    ],
)
def test_join(a: Kind, b: Kind, joined: Kind) -> None:
    assert join_kinds(OP, a, b) == joined


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (ExampleKind(0), ExampleKind(1)),
        (ExampleKind(0, 2, 1), ExampleKind(0, 1, 2)),
        (TotalKind("sum"), TotalKind("mean")),
        (TotalKind("sum"), ExampleKind(0)),
    ],
)
def test_what_does_not_join(a: Kind, b: Kind) -> None:
    assert isinstance(join_kinds(OP, a, b), MixedKind)


def test_a_loop_with_a_fixed_batch_does_not_run_over_examples() -> None:
    """Soundness does not hang on the batch being a symbol."""
    total, x = Value(TensorType(DType.F32, (3,))), Value(ROWS)
    op = control.scan_op(OpBuilder(), [total], [x], [], 3, lambda b, i, t, row: (b.add(t, row),))
    (kind,) = kinds_of(op, [PUBLIC, ExampleKind(0)])
    assert isinstance(kind, MixedKind)
    assert kinds_of(op, [PUBLIC, ExampleKind(1)]) == (ExampleKind(0),)


def test_branches_on_different_axes() -> None:
    predicate, x, y = Value(TensorType(DType.BOOL, ())), Value(ROWS), Value(ROWS)
    op = branching.branch_op(OpBuilder(), predicate, [x, y], lambda b, x, y: (x,), lambda b, x, y: (y,))
    (kind,) = kinds_of(op, [PUBLIC, ExampleKind(0), ExampleKind(1)])
    assert isinstance(kind, MixedKind)
    assert kinds_of(op, [PUBLIC, ExampleKind(0), PUBLIC]) == (ExampleKind(0),)


def test_kinds_rise_through_several_rounds() -> None:
    """a takes b, b takes c, c takes a slice: it takes three rounds until a is known to depend on examples."""
    start = [Value(TensorType(DType.F32, (3,))) for _ in range(3)]
    op = control.scan_op(OpBuilder(), start, [Value(ROWS)], [], 3, lambda b, i, u, v, w, row: (v, w, row))
    assert kinds_of(op, [PUBLIC, PUBLIC, PUBLIC, ExampleKind(1)]) == (ExampleKind(0),) * 3


def test_fixpoint_ends_on_mixed() -> None:
    fresh = lambda now: [MixedKind("new each round", OP) for _ in now]  # noqa: E731
    (kind,) = fixpoint(OP, [PUBLIC], fresh)
    assert isinstance(kind, MixedKind)


def test_a_public_value_as_long_as_the_batch_is_mixed() -> None:
    x = Value(TensorType(DType.F32, (Sym("N"),)))
    (kind,) = kinds_of(unary.Neg(x), [PUBLIC])
    assert isinstance(kind, MixedKind)
    assert "the size of the batch" in kind.reason
