"""The reference target: sizes from arguments, state, refusals, and the engine over it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from graphs import arguments, initial_state, modules
from hypothesis import HealthCheck, given, settings

from fluidc.compiler.codegen.reference import Reference, ReferenceEngine, build
from fluidc.compiler.codegen.target import BuildOptions
from fluidc.compiler.errors import MissingRule, TargetError, VerifyError
from fluidc.compiler.ir.core import walk
from fluidc.compiler.ir.parser import parse
from fluidc.compiler.ir.types import DType
from fluidc.compiler.ops import OPSET
from fluidc.compiler.ops.ragged import RaggedArray
from fluidc.runtime.errors import FluidcError

TEXT = """
module {stage = target} {
  state @unused : f32[]
  state @w : f32[3]
  state @count : i64[]
  func @startup() {
    %one = elementwise.fill() {value=1.0} : f32[3]
    state.write @w, %one
    %zero = elementwise.fill() {value=0.0} : i64[]
    state.write @count, %zero
    return
  }
  func @step(feed "x" %x: f32[N,3], feed "y" %y: f32[2*N]) {
    %count = state.read @count : i64[]
    %w = state.read @w : f32[3]
    %h = elementwise.mul(%x, %w) : f32[N,3]
    %g = reduce.sum(%h) {axes=(0,)} : f32[3]
    state.write @w, %g
    %one = elementwise.fill() {value=1.0} : i64[]
    %next = elementwise.add(%count, %one) : i64[]
    state.write @count, %next
    return "h" = %h, "w" = %w, "y" = %y
  }
  func @keep(feed "v" %v: f32[3]) {
    state.write @w, %v
    return
  }
  func @pool(feed "r" %r: ragged<f32[T,2], N>, feed "s" %s: f32[N]) {
    %p = ragged.pool(%r) {how="sum"} : f32[N,2]
    %e = ragged.softmax(%r) : ragged<f32[T,2], N>
    return "p" = %p, "e" = %e, "s" = %s
  }
}
"""
X, Y = np.arange(6, dtype=np.float32).reshape(2, 3), np.arange(4, dtype=np.float32)


@pytest.fixture
def program() -> Reference:
    return Reference(parse(TEXT, OPSET))


def started() -> dict[str, np.ndarray]:
    return {"w": np.asarray([1, 2, 3], np.float32), "count": np.asarray(4)}


def test_a_step(program: Reference) -> None:
    state = started()
    out = program.run("step", {"x": X, "y": Y}, state)
    assert list(out) == ["h", "w", "y"]
    np.testing.assert_array_equal(out["h"], [[0, 2, 6], [3, 8, 15]])
    np.testing.assert_array_equal(out["w"], [1, 2, 3])
    np.testing.assert_array_equal(state["w"], [3, 10, 21])
    assert state["count"] == 5


def test_startup_needs_no_state(program: Reference) -> None:
    state: dict[str, np.ndarray] = {}
    assert program.run("startup", {}, state) == {}
    np.testing.assert_array_equal(state["w"], np.ones(3, np.float32))
    assert state["count"].dtype == np.int64


def test_every_batch_size(program: Reference) -> None:
    for n in (3, 0, 1, 3):
        out = program.run("step", {"x": np.ones((n, 3), np.float32), "y": np.ones(2 * n, np.float32)}, started())
        assert np.shape(out["h"]) == (n, 3)


def test_outputs_are_no_views(program: Reference) -> None:
    out, y = program.run("step", {"x": X, "y": (y := Y.copy())}, started()), y
    assert isinstance(out["y"], np.ndarray)
    out["y"][:] = -1
    np.testing.assert_array_equal(y, Y)


def test_state_is_no_view_of_an_argument(program: Reference) -> None:
    state, v = started(), np.ones(3, np.float32)
    program.run("keep", {"v": v}, state)
    v[:] = 7
    np.testing.assert_array_equal(state["w"], np.ones(3))


def test_ragged(program: Reference) -> None:
    rows = RaggedArray.of([np.ones((2, 2), np.float32), np.ones((0, 2), np.float32), np.full((1, 2), 5, np.float32)])
    out = program.run("pool", {"r": rows, "s": np.ones(3, np.float32)})
    np.testing.assert_array_equal(out["p"], [[2, 2], [0, 0], [5, 5]])
    soft = out["e"]
    assert isinstance(soft, RaggedArray)
    np.testing.assert_array_equal(soft.offsets, [0, 2, 2, 3])
    np.testing.assert_array_equal(soft.data, [[0.5, 0.5], [0.5, 0.5], [1, 1]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": None}, "function 'step' needs a value for 'y'"),
        ({"x": X[:, :2]}, "'x' has shape [2, 2], the program takes f32[N,3]"),
        ({"x": X[0]}, "'x' has shape [3], the program takes f32[N,3]"),
        ({"y": Y[:2]}, "'y' has shape [2], the program takes f32[2*N] with N = 2"),
        ({"y": Y[:3]}, "'y' has shape [3], the program takes f32[2*N] with N = 2"),
        ({"x": X.astype(np.float64)}, "'x' is float64, the program takes float32"),
        ({"x": RaggedArray(X, np.asarray([0, 2]))}, "'x' is f32[N,3]; one array is expected"),
    ],
)
def test_refused_arguments(program: Reference, change: dict[str, Any], message: str) -> None:
    given = {name: value for name, value in ({"x": X, "y": Y} | change).items() if value is not None}
    state = started()
    with pytest.raises(TargetError) as caught:
        program.run("step", given, state)
    assert message in str(caught.value)
    np.testing.assert_array_equal(state["w"], started()["w"])


def test_refused_state(program: Reference) -> None:
    with pytest.raises(TargetError, match="'count' has no value"):
        program.run("step", {"x": X, "y": Y}, {"w": started()["w"]})
    with pytest.raises(TargetError, match=r"'w' has shape \[2\], it is declared f32\[3\]"):
        program.run("step", {"x": X, "y": Y}, started() | {"w": np.ones(2, np.float32)})


def test_a_failed_run_leaves_the_state() -> None:
    # The table has 2 rows; id 5 fails after @count has been computed.
    text = """
    module {stage = target} {
      state @table : f32[2,3]
      state @count : i64[]
      func @step(feed "ids" %ids: i64[N]) {
        %count = state.read @count : i64[]
        %more = elementwise.add(%count, %count) : i64[]
        state.write @count, %more
        %table = state.read @table : f32[2,3]
        %rows = indexing.gather(%table, %ids) {axis=0} : f32[N,3] loc(net.py:4 embedding)
        return "rows" = %rows
      }
    }
    """
    program = Reference(parse(text, OPSET))
    state = {"table": np.ones((2, 3), np.float32), "count": np.asarray(3)}
    with pytest.raises(FluidcError, match=r"embedding: id 5 at \[1\] is outside a table of 2 rows\n  at net\.py:4"):
        program.run("step", {"ids": np.asarray([0, 5])}, state)
    assert state["count"] == 3


def test_engine(program: Reference) -> None:
    engine = ReferenceEngine(parse(TEXT, OPSET))
    w, count = started()["w"], np.asarray(4)
    h, old, y = engine.call("step", [engine.tensor(a) for a in (w, count, X, Y)])
    np.testing.assert_array_equal(h, [[0, 2, 6], [3, 8, 15]])
    np.testing.assert_array_equal(old, [1, 2, 3])
    np.testing.assert_array_equal(y, Y)
    np.testing.assert_array_equal(w, [3, 10, 21])  # in place
    assert count == 5
    data, offsets = np.ones((3, 2), np.float32), np.asarray([0, 2, 3])
    found = engine.call("pool", [data, offsets, np.ones(2, np.float32)])
    np.testing.assert_array_equal(found[0], [[2, 2], [1, 1]])
    np.testing.assert_array_equal(found[2], offsets)
    assert len(found) == 4


def test_build() -> None:
    built = build(parse(TEXT, OPSET), BuildOptions())
    assert built.spec.kind == "reference"
    assert built.members() == {}
    w, count = np.zeros(3, np.float32), np.asarray(0)
    built.engine().call("startup", [w, count])
    np.testing.assert_array_equal(w, np.ones(3))


def test_what_cannot_run_is_not_built() -> None:
    text = TEXT.replace("stage = target", "stage = core").replace(
        "%h = elementwise.mul(%x, %w)", "%d = grad.stop(%x) : f32[N,3]\n    %h = elementwise.mul(%d, %w)"
    )
    with pytest.raises(MissingRule, match=r"grad\.stop has no `evaluate` rule: removed by the backward pass"):
        build(parse(text, OPSET), BuildOptions())


@given(modules())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_promoted(module: Any) -> None:
    """In float64 the same program gives nearly the same numbers, and holds no float32."""
    wide = Reference(module, promote=True)
    for op in walk(wide.module.function("step").ops):
        assert all(value.type.dtype is not DType.F32 for value in op.results)
    state, wide_state = initial_state(), initial_state()
    found = wide.run("step", arguments(3), wide_state)
    wanted = Reference(module).run("step", arguments(3), state)
    assert isinstance(found["loss"], np.ndarray)
    assert found["loss"].dtype == np.float64
    np.testing.assert_allclose(np.asarray(wanted["loss"]), found["loss"], rtol=1e-3, atol=1e-3)
    for name, value in state.items():
        assert wide_state[name].dtype == np.float64
        np.testing.assert_allclose(value, wide_state[name], rtol=1e-5, atol=1e-6)


def test_what_fixes_its_types_is_not_promoted() -> None:
    text = """
    module {stage = private} {
      func @step(feed "x" %x: f32[N,3], feed "c" %c: f32[N]) {
        %y = dp.scale_rows(%x, %c) : f32[N,3]
        return "y" = %y
      }
    }
    """
    with pytest.raises(VerifyError, match=r"clip factors are f32\[N\]"):
        Reference(parse(text, OPSET), promote=True)
