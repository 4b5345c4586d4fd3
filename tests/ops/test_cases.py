"""Every facet of every op case: types, values, gradients, kinds, norms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import pytest
from cases import (
    Built,
    Case,
    ErrorCase,
    all_cases,
    all_errors,
    as_float64,
    batch_size,
    built,
    built_on,
    outcome,
    rng,
    rows,
    symbolic,
    symbolic_values,
    type_of,
    with_example_replaced,
)

from fluidc.compiler.errors import VerifyError
from fluidc.compiler.ir.bind import bind
from fluidc.compiler.ir.core import Function, Output, Param, Value
from fluidc.compiler.ir.types import TensorType
from fluidc.compiler.ops.base import Op
from fluidc.compiler.ops.kinds import ExampleKind, Kind, MixedKind, PublicKind, TotalKind
from fluidc.compiler.ops.region import evaluate_op, pullback

CASES = all_cases()


def cases(*having: Callable[[Case], bool]) -> Any:
    chosen = [case for case in CASES if all(test(case) for test in having)]
    return pytest.mark.parametrize("case", chosen, ids=[case.id for case in chosen])


@cases()
def test_types(case: Case) -> None:
    """What ``infer`` says is what ``evaluate`` returns, in shape and element type."""
    made = built(case, case.inputs)
    assert made.op.name == case.op_name
    assert [v.type for v in made.results] == [v.type for v in made.op.results]
    for value, array in zip(made.results, made.run(case.inputs, made.results), strict=True):
        if isinstance(value.type, TensorType):
            assert type_of(np.asarray(array)) == value.type


@cases()
def test_evaluate(case: Case) -> None:
    expected = case.expect(*case.inputs)
    expected = expected if isinstance(expected, tuple) else (expected,)
    found = outcome(case, case.inputs)
    assert len(found) == len(expected)
    for have, want in zip(found, expected, strict=True):
        for a, e in _dense(have, want):
            if np.issubdtype(e.dtype, np.integer) and np.issubdtype(a.dtype, np.integer):
                np.testing.assert_array_equal(a, e)
                continue
            np.testing.assert_allclose(a.astype(np.float64), e.astype(np.float64), rtol=case.rtol, atol=case.atol)


def _dense(have: Any, want: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    if hasattr(have, "offsets"):
        return [(have.data, np.asarray(want.data)), (have.offsets, np.asarray(want.offsets))]
    want = np.asarray(want)
    assert np.shape(have) == want.shape
    return [(np.asarray(have), want)]


# Gradients ----------------------------------------------------------------------------------------------


class Gradient:
    """The op in float64 with its vjp, as a function of the inputs."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.inputs = tuple(as_float64(x) for x in case.inputs)
        self.made: Built = built(case, self.inputs)
        self.wanted = [self.made.values[i] for i in case.wrt]
        draw = rng(1)
        self.cts: dict[Value, Any] = {}
        seeds: list[tuple[Value, Value]] = []
        for result, array in zip(self.made.results, self.made.run(self.inputs, self.made.results), strict=True):
            if result.type.dtype.is_float:
                ct = Value(result.type, "ct")
                self.cts[ct] = _like(array, lambda a: draw.uniform(0.5, 1.5, a.shape))
                seeds.append((result, ct))
        self.grads = pullback(self.made.b, tuple(self.made.b.ops), seeds, self.wanted)

    def objective(self, inputs: Sequence[Any]) -> float:
        """``sum(ct * result)`` over all results."""
        results = [v for v in self.made.results if v.type.dtype.is_float]
        found = self.made.run(inputs, results, self.cts)
        return sum(float(np.sum(_data(ct) * _data(a))) for ct, a in zip(self.cts.values(), found, strict=True))

    def gradients(self, inputs: Sequence[Any], known: dict[Value, Any] | None = None) -> list[np.ndarray]:
        found = self.made.run(inputs, self.grads, self.cts | (known or {}))
        held = zip((_data(inputs[i]) for i in self.case.wrt), found, strict=True)
        return [np.zeros(x.shape) if g is None else _data(g) for x, g in held]


def _data(x: Any) -> np.ndarray:
    return x.data if hasattr(x, "offsets") else np.asarray(x)


def _like(x: Any, change: Callable[[np.ndarray], np.ndarray]) -> Any:
    return type(x)(change(x.data), x.offsets) if hasattr(x, "offsets") else change(np.asarray(x))


def central_differences(f: Callable[[Sequence[Any]], float], inputs: Sequence[Any], i: int) -> np.ndarray:
    """The gradient of ``f`` for input ``i``, element by element."""
    base = _data(inputs[i])
    out = np.zeros(base.shape)
    for index in np.ndindex(base.shape):
        step = 1e-5 * max(1.0, abs(float(base[index])))
        ends = []
        for sign in (1.0, -1.0):
            moved = base.copy()
            moved[index] += sign * step
            point = moved
            ends.append(f([*inputs[:i], _like(inputs[i], lambda _, p=point: p), *inputs[i + 1 :]]))
        out[index] = (ends[0] - ends[1]) / (2 * step)
    return out


@cases(lambda case: bool(case.wrt))
def test_vjp(case: Case) -> None:
    gradient = Gradient(case)
    for i, found in zip(case.wrt, gradient.gradients(gradient.inputs), strict=True):
        wanted = central_differences(gradient.objective, gradient.inputs, i)
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-7, err_msg=f"input {i}")


@cases(lambda case: bool(case.wrt))
def test_vjp_needs(case: Case) -> None:
    """Each operand's cotangent is the same when it alone is asked for, and absent when nothing flows back."""
    made = built(case, tuple(as_float64(x) for x in case.inputs))
    if made.op.has_decomposition:
        return
    operands = made.op.operands
    assert all(g is None for g in made.op.vjp(made.b, [None] * len(made.op.results), [True] * len(operands)))
    for i in case.wrt:
        alone = Gradient(Case(**{**vars(case), "wrt": (i,)}))
        together = Gradient(case)
        (a,) = alone.gradients(alone.inputs)
        np.testing.assert_array_equal(a, together.gradients(together.inputs)[case.wrt.index(i)])


@cases(lambda case: bool(case.at_kink))
def test_gradient_at_kink(case: Case) -> None:
    made = built(case, case.inputs)
    b = made.b
    seeds = [(v, b.fill(v.tensor.shape, v.tensor.dtype, 1.0)) for v in made.results]
    wrt = [value for value in made.values if value.type.dtype.is_float]
    grads = pullback(b, tuple(b.ops), seeds, wrt)
    for have, want in zip(made.run(case.inputs, grads), case.at_kink, strict=True):
        assert (have is None) == (want is None)
        if have is not None:
            np.testing.assert_allclose(have, want, rtol=1e-6, atol=0)


def has_batch_gradient(case: Case) -> bool:
    """Whether there are gradients of a batch whose examples stay apart."""
    return bool(case.wrt) and any(isinstance(k, ExampleKind) for k in case.kinds)


@cases(has_batch_gradient)
def test_vjp_of_any_batch(case: Case) -> None:
    """The gradient written for a symbolic batch is the gradient of every batch size."""
    fixed = Gradient(case)
    made = built_on(case, symbolic_values(Case(**{**vars(case), "inputs": fixed.inputs})))
    results = [v for v in made.results if v.type.dtype.is_float]
    cts = {Value(v.type, "ct"): array for v, array in zip(results, fixed.cts.values(), strict=True)}
    seeds = list(zip(results, cts, strict=True))
    grads = pullback(made.b, tuple(made.b.ops), seeds, [made.values[i] for i in case.wrt])
    params = [Param(f"p{i}", v) for i, v in enumerate([*made.values, *cts])]
    outputs = [Output(f"o{i}", v) for i, v in enumerate(g for g in grads if g is not None)]
    function = bind(Function("f", tuple(params), tuple(made.b.ops), tuple(outputs)), {"N": batch_size(case)})
    environment = dict(zip((p.value for p in function.params), [*fixed.inputs, *cts.values()], strict=True))
    for op in function.ops:
        evaluate_op(op, environment)
    wanted = [g for g, kept in zip(fixed.gradients(fixed.inputs), grads, strict=True) if kept is not None]
    for output, want in zip(function.outputs, wanted, strict=True):
        np.testing.assert_allclose(environment[output.value], want, rtol=1e-12, atol=1e-14)


@cases(lambda case: bool(case.wrt) and case.second)
def test_second_vjp(case: Case) -> None:
    """The gradient of the gradient, against central differences of the gradient."""
    first = Gradient(case)
    draw = rng(2)
    seeds: list[tuple[Value, Value]] = []
    known: dict[Value, Any] = {}
    weights: list[np.ndarray] = []
    for grad, array in zip(first.grads, first.gradients(first.inputs), strict=True):
        weight = draw.uniform(0.5, 1.5, array.shape)
        weights.append(weight)
        if grad is not None:
            ct = Value(grad.type, "ct2")
            known[ct] = _like(_as_held(first, grad), lambda a, w=weight: w)
            seeds.append((grad, ct))

    def slope(inputs: Sequence[Any]) -> float:
        return sum(float(np.sum(w * g)) for w, g in zip(weights, first.gradients(inputs, known), strict=True))

    ops_before = len(first.made.b.ops)
    wanted = [central_differences(slope, first.inputs, i) for i in case.wrt]
    second = pullback(first.made.b, tuple(first.made.b.ops[:ops_before]), seeds, first.wanted)
    found = first.made.run(first.inputs, second, first.cts | known)
    for have, want in zip(found, wanted, strict=True):
        have = np.zeros(want.shape) if have is None else _data(have)
        np.testing.assert_allclose(have, want, rtol=1e-5, atol=1e-6)


def _as_held(gradient: Gradient, value: Value) -> Any:
    return gradient.made.run(gradient.inputs, [value], gradient.cts)[0]


# Examples -----------------------------------------------------------------------------------------------


def _kinds(case: Case) -> tuple[Op, tuple[Kind, ...]]:
    op = symbolic(case)
    found = op.example_axis(case.kinds)
    return op, found if isinstance(found, tuple) else (found,) * len(op.results)


@cases(lambda case: bool(case.kinds))
def test_kinds(case: Case) -> None:
    _, found = _kinds(case)
    wanted = case.kind if isinstance(case.kind, tuple) else (case.kind,) * len(found)
    for have, want in zip(found, wanted, strict=True):
        if want == "mixed":
            assert isinstance(have, MixedKind)
            assert have.reason
        else:
            assert have == want


@cases(lambda case: bool(case.kinds) and any(isinstance(k, ExampleKind) for k in case.kinds))
def test_kinds_hold(case: Case) -> None:
    """What is called example(…) changes in row j alone when example j changes; a total is a sum over examples."""
    _, kinds = _kinds(case)
    n = batch_size(case)
    before = outcome(case, case.inputs)
    for kind, i in zip(kinds, range(len(before)), strict=True):
        if isinstance(kind, ExampleKind):
            for j in range(n):
                after = outcome(case, with_example_replaced(case, [j]))[i]
                same = [k for k in range(n) if k != j]
                np.testing.assert_array_equal(rows(after, kind, n)[same], rows(before[i], kind, n)[same])
        if isinstance(kind, TotalKind):
            one, other, both = (outcome(case, with_example_replaced(case, r))[i] for r in ([0], [1], [0, 1]))
            left, right = before[i].astype(np.float64) + both, one.astype(np.float64) + other
            np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-5)


@cases(lambda case: case.norm is not None)
def test_norm(case: Case) -> None:
    """``example_norm_sq`` against gradients of one example at a time, by way of the op's own vjp."""
    assert case.norm is not None
    op, kinds = _kinds(case)
    made = built(case, case.inputs)
    (result,) = made.results
    n = batch_size(case)
    ct = Value(result.type, "ct")
    array = rng(3).normal(size=outcome(case, case.inputs)[0].shape).astype(np.float32)
    norm = made.op.example_norm_sq(made.b, case.norm, ct, case.kinds)
    assert norm is not None
    assert str(norm.type) == f"f64[{n}]"
    (found,) = made.run(case.inputs, [norm], {ct: array})
    assert isinstance(kinds[0], ExampleKind)
    double = Case(**{**vars(case), "inputs": tuple(as_float64(x) for x in case.inputs)})
    for j in range(n):
        alone = np.zeros(array.shape)
        rows(alone, kinds[0], n)[j] = rows(array, kinds[0], n)[j]
        wide = built(double, double.inputs)
        dct = Value(wide.results[0].type, "ct")
        needs = [i == case.norm for i in range(len(op.operands))]
        grad = cast(Value, wide.op.vjp(wide.b, [dct], needs)[case.norm])
        (materialised,) = wide.run(double.inputs, [grad], {dct: alone})
        np.testing.assert_allclose(found[j], np.sum(np.square(materialised)), rtol=1e-10, atol=1e-300)


# Rules of per-example gradients that an op has, and the cases in which they leave it to the mapped vjp.
LEFT = {
    "example_grad": {"conv.conv2d-folded"},  # several images of an example share its filter
    "example_factors": {"linear.matmul-broadcast"},  # the batch meets a parameter of as many axes
}


def is_left(op: Op, rule: str, case: Case, operand: int) -> bool:
    """Whether ``rule`` may have nothing for an operand."""
    own = getattr(type(op), rule) is not getattr(Op, rule)
    return not own or not isinstance(case.kinds[operand], PublicKind) or case.id in LEFT[rule]


@cases(has_batch_gradient)
def test_example_grad(case: Case) -> None:
    """``example_grad`` against the op's own vjp, one example at a time; None leaves it to the mapped vjp."""
    first = next(iter(case.kinds), None)
    double = Case(**{**vars(case), "inputs": tuple(as_float64(x) for x in case.inputs)})
    for i in case.wrt:
        made = built(double, double.inputs)
        if made.op.has_decomposition or len(made.results) > 1 or not isinstance(first, ExampleKind | PublicKind):
            return
        kind = made.op.example_axis(case.kinds)
        ct = Value(next(iter(made.results)).type, "ct")
        (result,) = outcome(double, double.inputs)
        array = rng(3).normal(size=result.shape)
        grads = made.op.example_grad(made.b, i, ct, case.kinds)
        if grads is None:
            assert is_left(made.op, "example_grad", case, i)
            continue
        assert isinstance(kind, ExampleKind)
        (found,) = made.run(double.inputs, [grads], {ct: array})
        needs = [k == i for k in range(len(made.op.operands))]
        grad = cast(Value, made.op.vjp(made.b, [ct], needs)[i])
        for j in range(batch_size(case)):
            alone = np.zeros(array.shape)
            rows(alone, kind, batch_size(case))[j] = rows(array, kind, batch_size(case))[j]
            (want,) = made.run(double.inputs, [grad], {ct: alone})
            np.testing.assert_allclose(found[j], want, rtol=1e-10, atol=1e-12)


@cases(has_batch_gradient)
def test_example_factors(case: Case) -> None:
    """The outer products of every example, added up, are what the op's own vjp gives for it alone."""
    first = next(iter(case.kinds), None)
    double = Case(**{**vars(case), "inputs": tuple(as_float64(x) for x in case.inputs)})
    for i in case.wrt:
        made = built(double, double.inputs)
        if made.op.has_decomposition or len(made.results) > 1 or not isinstance(first, ExampleKind | PublicKind):
            return
        kind = made.op.example_axis(case.kinds)
        ct = Value(next(iter(made.results)).type, "ct")
        (result,) = outcome(double, double.inputs)
        array, n = rng(3).normal(size=result.shape), batch_size(case)
        block = made.op.example_factors(made.b, i, ct, case.kinds)
        if block is None:
            assert is_left(made.op, "example_factors", case, i)
            continue
        assert isinstance(kind, ExampleKind)
        assert not block.dense or block.left.tensor.shape[2] == block.rows
        left, right = made.run(double.inputs, [block.left, block.right], {ct: array})
        if not block.dense:
            left = np.where(left == block.padding, -1, left)[..., None] == np.arange(block.rows)
        matrices = np.einsum("itd,itp->idp", left.astype(np.float64), right)
        needs = [k == i for k in range(len(made.op.operands))]
        grad = cast(Value, made.op.vjp(made.b, [ct], needs)[i])
        for j in range(n):
            alone = np.zeros(array.shape)
            rows(alone, kind, n)[j] = rows(array, kind, n)[j]
            (want,) = made.run(double.inputs, [grad], {ct: alone})
            mine = matrices[j * block.groups : (j + 1) * block.groups]
            np.testing.assert_allclose(mine.reshape(want.shape), want, rtol=1e-10, atol=1e-12)


# Errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", all_errors(), ids=lambda case: case.id)
def test_error(case: ErrorCase) -> None:
    values = [Value(kind, f"x{i}") for i, kind in enumerate(case.types)]
    with pytest.raises(VerifyError) as caught:
        case.build(*values)
    assert case.message in str(caught.value)
    assert case.id.split("-", 1)[0] in str(caught.value)
