"""Products on the CPU: how they are cut, and every kind of them against numpy."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm_rules import module_of

from fluidc.compiler.codegen.tvm.build import Options, compile_module
from fluidc.compiler.codegen.tvm.cpu import host_cpu
from fluidc.compiler.codegen.tvm.expr import index
from fluidc.compiler.codegen.tvm.kernels.product import part_of
from fluidc.compiler.codegen.tvm.kernels.tiling import DEPTH, choose_grid, choose_passes, choose_tiling
from fluidc.compiler.codegen.tvm.kit import LARGEST_ON_STACK, STACK_BYTES, Block, integer
from fluidc.compiler.codegen.tvm.llvm import cpu_host
from fluidc.compiler.ir.core import Function, Module
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ir.types import DType, Sym, TensorType
from fluidc.runtime.engine import aligned_copy

os.environ.setdefault("TVM_NUM_THREADS", "2")
N = Sym("N")
quick = settings(max_examples=60, deadline=None)


# How they are cut -----------------------------------------------------------------------------------------
@quick
@given(
    st.integers(1, 400), st.integers(1, 100), st.sampled_from([(4, 16), (8, 16), (16, 32), (8, 32)]), st.integers(0, 30)
)
def test_a_tile_fits_the_registers(rows: int, columns: int, machine: tuple[int, int], line: int) -> None:
    lanes, registers = machine
    tile = choose_tiling(rows, columns, lanes, registers, line)
    assert 1 <= tile.rows <= max(rows, 4), "fewer sums than that wait for each other"
    assert tile.rows * tile.vectors + tile.vectors + 1 <= registers, "sums, a line of the panel, an element of the left"
    assert tile.columns < columns + lanes, "no vector of a panel is all padding"


@quick
@given(st.lists(st.integers(0, 40), min_size=1, max_size=3), st.sampled_from([1, 30, 300]))
def test_passes_take_every_term_once(extents: list[int], scale: int) -> None:
    extents = [extents[0] * scale, *extents[1:]]
    indices = [index(extent) for extent in extents]
    passes = choose_passes(indices)
    assert (*passes.outer, passes.cut, *passes.within) == tuple(indices)
    assert isinstance(passes.size, int)
    assert passes.cuts is not None
    assert isinstance(passes.depth, int)
    assert passes.depth <= DEPTH
    whole = extents[len(passes.outer)]
    cuts = [range(i * passes.size, min((i + 1) * passes.size, whole)) for i in range(passes.cuts)]
    assert [k for part in cuts for k in part] == list(range(whole))
    assert not passes.even or {len(part) for part in cuts} <= {passes.size} or not whole
    assert passes.count == passes.cuts * int(np.prod(extents[: len(passes.outer)]))


def test_passes_are_even_where_they_can_be() -> None:
    assert [choose_passes([index(k)]).size for k in (512, 513, 784, 1024, 1031)] == [512, 171, 392, 512, 344]
    assert choose_passes([index(N)]).count is None


@quick
@given(
    st.integers(1, 8), st.integers(1, 70), st.integers(1, 14), st.integers(1, 20), st.integers(0, 3000),
    st.booleans(), st.booleans(), st.booleans(),
)  # fmt: skip
def test_tasks_take_every_part_once(
    threads: int, units: int, unit: int, panels: int, terms: int, noisy: bool, whole: bool, apart: bool
) -> None:
    grid = choose_grid(threads, units, unit, panels, 32, terms, 0.0, noisy=noisy, whole=whole, apart=apart)
    assert 1 <= grid.tasks <= threads
    assert grid.panels == 1 or not noisy
    assert grid.rows == 1 or not whole
    assert grid.terms == 1 or (whole and apart)
    for parts, total in ((grid.rows, units), (grid.panels, panels), (grid.terms, units)):
        assert list(_parts(parts, total)) == list(range(total))


def _parts(parts: int, total: int) -> Sequence[int]:
    block = Block(cpu_host())
    found: list[int] = []
    for number in range(parts):
        first, count = part_of(block, integer(number), parts, integer(total))
        found += range(int(first.value), int(first.value) + int(count.value))
    return found


# Results --------------------------------------------------------------------------------------------------
def floats(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng((seed, *shape)).normal(size=shape)


def product(dtype: DType, m: Any, n: Any, k: Any, ta: bool, tb: bool, batch: tuple[Any, ...] = ()) -> Function:
    """``max(x @ w + 1, 0)``: with something fused behind it."""

    def rule(t: Any, x: Any, w: Any) -> Any:
        return t.pointwise(lambda u: t.maximum(u + 1.0, 0.0), t.matmul(x, w, ta, tb))

    types = [
        TensorType(dtype, (*batch, *((k, m) if ta else (m, k)))),
        TensorType(dtype, (*batch, *((n, k) if tb else (k, n)))),
    ]
    return module_of(types, [TensorType(dtype, (*batch, m, n))], rule).functions[0]


SHAPES = [
    (1, 40, 70),
    (5, 1, 3),
    (9, 10, 64),
    (33, 17, 1),
    (6, 32, 520),  # even passes of 260
    (29, 47, 523),  # a prime above the depth of a pass
    (64, 300, 130),  # enough for threads
    (7, 700, 300),  # few rows: threads take columns
]
FORMS = list(itertools.product((False, True), repeat=2))


# The machine may have fewer cores, and a test before this one a smaller pool.
@pytest.mark.filterwarnings("ignore:.* threads")
@pytest.mark.parametrize(("threads", "forms"), [(1, FORMS[1:3]), (2, FORMS), (4, FORMS[1:3])], ids=["1", "2", "4"])
def test_every_orientation_on_every_number_of_threads(threads: int, forms: list[tuple[bool, bool]]) -> None:
    cases: list[tuple[Any, ...]] = [(*shape, *form) for shape in SHAPES for form in forms]
    cases += [(12, 70, 90, *form, batch) for batch in ((3,), (4, 8)) for form in forms]
    functions = [product(DType.F32, *case) for case in cases]
    functions = [Function(f"f{i}", f.params, f.ops, f.outputs) for i, f in enumerate(functions)]
    made = compile_module(Module(Stage.TARGET, (), tuple(functions)), Options(host_cpu(), threads)).engine()
    for i, (m, n, k, ta, tb, *batch) in enumerate(cases):
        lead = batch[0] if batch else ()
        x = floats(*lead, *((k, m) if ta else (m, k)), seed=1).astype(np.float32)
        w = floats(*lead, *((n, k) if tb else (k, n)), seed=2).astype(np.float32)
        found, again = (made.call(f"f{i}", [made.tensor(aligned_copy(a)) for a in (x, w)])[0] for _ in range(2))
        wide = (x.swapaxes(-1, -2) if ta else x).astype(np.float64) @ (w.swapaxes(-1, -2) if tb else w)
        np.testing.assert_allclose(found, np.maximum(wide + 1, 0), rtol=1e-4, atol=3e-4, err_msg=str(cases[i]))
        np.testing.assert_array_equal(found, again)


@pytest.mark.parametrize(("dtype", "kind", "error"), [(DType.F64, np.float64, 1e-12), (DType.F16, np.float16, 2e-2)])
def test_other_numbers(dtype: DType, kind: Any, error: float) -> None:
    for m, n, k in ((3, 10, 20), (13, 35, 530)):
        function = product(dtype, m, n, k, False, True)
        made = compile_module(Module(Stage.TARGET, (), (function,))).engine()
        x, w = floats(m, k).astype(kind), floats(n, k).astype(kind)
        (found,) = made.call("f", [made.tensor(aligned_copy(a)) for a in (x, w)])
        assert found.dtype == kind
        wide = x.astype(np.float64) @ w.astype(np.float64).T
        np.testing.assert_allclose(found, np.maximum(wide + 1, 0), rtol=error, atol=error)


@cache
def symbolic() -> Any:
    """Rows, and terms, of unknown number."""

    def rule(t: Any, x: Any, w: Any, g: Any) -> Any:
        return t.matmul(x, w, False, False), t.matmul(x, g, True, False)

    types = [TensorType(DType.F32, shape) for shape in ((N, 70), (70, 40), (N, 40))]
    results = [TensorType(DType.F32, shape) for shape in ((N, 40), (70, 40))]
    return compile_module(module_of(types, results, rule)).engine()


@pytest.mark.parametrize("rows", [0, 1, 2, 13, 511, 512, 513, 1100])
def test_a_sum_of_any_number_of_terms(rows: int) -> None:
    """No term at all included: the sum is then stored as zero."""
    made = symbolic()
    x, w, g = (a.astype(np.float32) for a in (floats(rows, 70), floats(70, 40), floats(rows, 40)))
    forward, gradient = made.call("f", [made.tensor(aligned_copy(a)) for a in (x, w, g)])
    np.testing.assert_allclose(forward, x @ w, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(gradient, x.T @ g, rtol=1e-4, atol=1e-3)


def test_tasks_of_a_kernel_share_one_budget_of_stack() -> None:
    """The body of a loop is one kernel, with as many products as it has layers."""
    block = Block(cpu_host())
    for _ in range(10):
        block.memory(DType.F32, integer(LARGEST_ON_STACK // 4))
    assert len(block.workspaces) == 10 - STACK_BYTES // LARGEST_ON_STACK
    block.memory(DType.F32, integer(LARGEST_ON_STACK // 4 + 1))
    assert len(block.workspaces) == 11 - STACK_BYTES // LARGEST_ON_STACK
