"""Products on CUDA devices: every way they are cut, against numpy, on the emulated device."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import cuda_device
import cuda_products
import numpy as np
import pytest
from cuda_products import DTYPES, Matmul, with_library, without_barrier, without_edge
from cuda_worker import Worker, WorkerError
from hypothesis import given, settings
from hypothesis import strategies as st
from small_modules import private_mlp

from fluidc.compiler.codegen.tvm.cpu import host_cpu
from fluidc.compiler.codegen.tvm.cuda.arch import Options
from fluidc.compiler.codegen.tvm.cuda.build import compile_module, kernel_table
from fluidc.compiler.codegen.tvm.cuda.device import SHARED_BYTES, THREADS
from fluidc.compiler.codegen.tvm.cuda.kernels.tiles import (
    MANY_PARTS,
    MOST_SPLITS,
    PADDING,
    PARTS_TOGETHER,
    TILES,
    WIDEST_REGISTERS,
    Cut,
    Sizes,
    Tile,
    choose_cut,
)
from fluidc.compiler.errors import TargetError
from fluidc.compiler.ir.core import Module
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ir.types import DType
from fluidc.compiler.passes.manager import run_passes
from fluidc.compiler.pipeline import pipeline

os.environ.setdefault("TVM_NUM_THREADS", "2")
reason = cuda_device.available()
pytestmark = pytest.mark.skipif(reason is not None, reason=reason or "")

quick = settings(max_examples=60, deadline=None)
FORMS = [(a, b) for a in (False, True) for b in (False, True)]


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker(order="random", seed=7) as made:
        yield made


def numbers(case: Matmul) -> list[np.ndarray]:
    draw = np.random.default_rng((case.m, case.n, case.k))
    kind = {DType.F32: "f4", DType.F64: "f8", DType.F16: "f2", DType.I32: "i4"}[case.dtype]
    return [
        draw.integers(-9, 9, shape).astype(kind) if kind == "i4" else draw.standard_normal(shape).astype(kind)
        for shape in case.shapes
    ]


def check(worker: Worker, cases: Sequence[Matmul]) -> None:
    arguments = [numbers(case) for case in cases]
    found = worker.run(cuda_products.compute, cases, arguments).value
    for case, operands, have in zip(cases, arguments, found, strict=True):
        error = {DType.F16: 2e-2, DType.F64: 1e-12}.get(case.dtype, 1e-4)
        np.testing.assert_allclose(have, case.expected(*operands), rtol=error, atol=error, err_msg=str(case))


@pytest.mark.parametrize("tile", TILES, ids=lambda tile: f"{tile.rows}x{tile.columns}x{tile.depth}")
def test_every_tile_in_every_orientation(worker: Worker, tile: Tile) -> None:
    rows, columns, depth = tile.rows, tile.columns, tile.depth
    cases = [Matmul(rows + 3, columns + 5, 2 * depth + 4, form, cut=Cut("tiled", tile, 1)) for form in FORMS]
    check(worker, cases)


def test_every_way_to_cut(worker: Worker) -> None:
    """In parts of uneven length, by a thread or a warp per element; products of unknown size, of several at a time."""
    small, wide = TILES[-1], TILES[3]
    ways = [
        Cut("tiled", small, 4), Cut("tiled", wide, 2), Cut("direct"), Cut("direct", None, 8), Cut("direct", None, 32),
        Cut("dot"),
    ]  # fmt: skip
    cases = [Matmul(19, 21, 230, form, cut=cut) for cut in ways for form in FORMS]
    cases += [Matmul(5, 18, 70, form, (3,), cut=cut) for cut in ways for form in FORMS[:2]]
    cases += [Matmul(35, 18, 70, FORMS[1], (), cut, symbolic=True) for cut in ways]
    cases += [Matmul(6, 18, 70, cut=cut) for cut in ways] + [Matmul(18, 2, 70, cut=cut) for cut in ways]
    check(worker, cases)


def test_other_numbers(worker: Worker) -> None:
    ways = [Cut("tiled", TILES[3]), Cut("tiled", TILES[-1], 2), Cut("direct"), Cut("dot")]
    cases = [Matmul(37, 40, 72, dtype=dtype, cut=cut) for dtype in (DType.F64, DType.I32) for cut in ways]
    check(worker, cases)


def test_what_has_no_terms_is_zero(worker: Worker) -> None:
    check(worker, [Matmul(5, 6, 0, cut=cut) for cut in (None, Cut("tiled", TILES[-1]), Cut("dot"), Cut("direct"))])


@pytest.mark.parametrize(
    "cut",
    [
        pytest.param(Cut("tiled", TILES[3], 2), id="64x64"),
        pytest.param(Cut("tiled", TILES[-1]), id="16x16", marks=pytest.mark.nightly),
        pytest.param(Cut("dot"), id="dot", marks=pytest.mark.nightly),
    ],
)
def test_images_with_frames_strides_dilations_and_groups(cut: Cut) -> None:
    """Convolutions are products of images that no memory holds."""
    with Worker(order="random", seed=5) as worker:
        assert worker.run(cuda_products.images, cut).value == {}


@pytest.mark.parametrize("cut", [Cut("tiled", TILES[3]), Cut("tiled", TILES[-1], 3), Cut("direct", None, 16)])
def test_a_product_updates_a_state_where_it_lies(worker: Worker, cut: Cut) -> None:
    draw = np.random.default_rng(3)
    x, g, w = (draw.standard_normal(shape).astype("f4") for shape in ((70, 30), (70, 20), (30, 20)))
    (found,) = worker.run(cuda_products.descend, x, g, w, cut).value
    np.testing.assert_allclose(found, w - 0.5 * x.T.astype("f8") @ g, rtol=1e-4, atol=1e-4)


# What is chosen -------------------------------------------------------------------------------------------
@quick
@given(
    st.integers(1, 64), st.integers(1, 5000), st.integers(1, 5000), st.integers(0, 60000), st.sampled_from([1, 4, 8]),
    st.booleans(), st.booleans(),
)  # fmt: skip
def test_a_cut_fits_the_device(b: int, m: int, n: int, k: int, itemsize: int, beside: bool, along: bool) -> None:
    cut = choose_cut(Sizes(b, m, n, k, itemsize, beside, along))
    assert 1 <= cut.splits <= MOST_SPLITS
    assert cut.splits < MANY_PARTS or cut.splits % PARTS_TOGETHER == 0
    if cut.tile is not None:
        assert cut.tile.threads == THREADS
        assert cut.tile.down * cut.tile.across * itemsize <= WIDEST_REGISTERS
        lines = cut.tile.rows + cut.tile.columns + 2 * PADDING
        assert 2 * lines * cut.tile.depth * itemsize <= SHARED_BYTES


def test_large_products_take_large_tiles_and_long_sums_are_split() -> None:
    assert choose_cut(Sizes(1, 4096, 4096, 4096, 4)) == Cut("tiled", TILES[0])
    gradient = choose_cut(Sizes(1, 64, 16, 50176, 4))
    assert gradient.tile is not None
    assert gradient.splits >= 100, "a filter's gradient has fewer tiles than there are multiprocessors"
    assert choose_cut(Sizes(1, 8, 8, 4, 4)).kind == "direct"


def test_tf32_is_not_for_private_programs() -> None:
    module = run_passes(private_mlp(), pipeline(private_mlp(), batch=16))
    options = Options(host_cpu(), tf32=True)
    with pytest.raises(TargetError, match="TF32 rounds products by more than the privacy") as caught:
        compile_module(module, options)
    assert "without --tf32" in str(caught.value)


@pytest.mark.parametrize("splits", [1, 4])
def test_partial_sums_are_counted_as_traffic(splits: int) -> None:
    case = Matmul(48, 40, 520, cut=Cut("tiled", TILES[-1], splits))
    with cuda_products.cuts([case.cut]):
        (kernel,) = kernel_table(Module(Stage.TARGET, (), (case.function("f"),))).functions[0].kernels
    work, between = kernel.work, 4 * splits * 48 * 40 * (splits > 1)
    assert work.flops.at({}) == 2 * 48 * 40 * 520 + 2 * 48 * 40
    assert work.read.at({}) == 4 * 520 * (48 + 40) + between
    assert work.written.at({}) == 4 * 48 * 40 + between


# Mistakes -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("number", [0, 1])
def test_each_barrier_is_needed(number: int) -> None:
    """Without it the device finds a race, in whatever order threads run."""
    case = Matmul(40, 40, 40, cut=Cut("tiled", TILES[-1]))
    for order in cuda_device.ORDERS:
        with Worker(order=order, seed=3) as worker, pytest.raises(WorkerError, match=r"race|nothing has written"):
            worker.run(cuda_products.compute, [case], [numbers(case)], without_barrier, number)


def test_elements_beyond_the_edge_are_not_stored() -> None:
    # The result fills whole pages: what is written behind it lies in no buffer.
    case = Matmul(17, 1024, 8, cut=Cut("tiled", TILES[-1]))
    with Worker() as worker:
        worker.run(cuda_products.compute, [case], [numbers(case)])
        with pytest.raises(WorkerError, match="writes 4 bytes"):
            worker.run(cuda_products.compute, [case], [numbers(case)], without_edge)


# The library ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("answers", [True, False])
def test_a_library_is_asked_for_matrices(worker: Worker, answers: bool) -> None:
    cases = [Matmul(12, 20, 9, form, batch) for form in FORMS for batch in ((), (3,))]
    cases += [Matmul(12, 20, 9, dtype=DType.F64), Matmul(12, 20, 9, symbolic=True)]
    arguments = [numbers(case) for case in cases]
    found, asked = worker.run(with_library, cases, arguments, answers).value
    for case, operands, have in zip(cases, arguments, found, strict=True):
        error = {DType.F16: 2e-2, DType.F64: 1e-12}.get(case.dtype, 1e-4)
        np.testing.assert_allclose(have, case.expected(*operands), rtol=error, atol=error, err_msg=str(case))
    for case, (dtype, batch, m, n, k, trans_a, trans_b, *_, tf32) in zip(
        cases, (a.numbers for a in asked), strict=True
    ):
        assert (dtype, batch) == (DTYPES.index(case.dtype), *(case.batch or (1,)))
        assert (m, n, k, bool(trans_a), bool(trans_b), tf32) == (case.m, case.n, case.k, *case.transposed, 0)


@pytest.mark.parametrize("answers", [True, False])
def test_a_library_may_be_asked_for_a_gradient(worker: Worker, answers: bool) -> None:
    """What is made of it then overwrites a state."""
    draw = np.random.default_rng(3)
    x, g, w = (draw.standard_normal(shape).astype("f4") for shape in ((70, 30), (70, 20), (30, 20)))
    found, product = worker.run(cuda_products.descend_by_library, x, g, w, answers).value
    np.testing.assert_allclose(product, x.T.astype("f8") @ g, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found, w - 0.5 * x.T.astype("f8") @ g, rtol=1e-4, atol=1e-4)
