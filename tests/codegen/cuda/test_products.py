"""Products on CUDA devices: every way they are cut, against numpy, on the emulated device."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence

import cuda_device
import cuda_products
import numpy as np
import pytest
from cuda_products import DTYPES, Matmul, with_library, without_barrier, without_edge
from cuda_worker import Worker, WorkerError

from fluidc.compiler.codegen.tvm.cuda.kernels.tiles import TILES, Cut, Tile
from fluidc.compiler.ir.types import DType

os.environ.setdefault("TVM_NUM_THREADS", "2")
reason = cuda_device.available()
pytestmark = pytest.mark.skipif(reason is not None, reason=reason or "")

FORMS = list(itertools.product((False, True), repeat=2))


@pytest.fixture(scope="module", params=["forward", "random"])
def worker(request: pytest.FixtureRequest) -> Iterator[Worker]:
    with Worker(order=request.param, seed=7) as made:
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
    for case, given, have in zip(cases, arguments, found, strict=True):
        error = {DType.F16: 2e-2, DType.F64: 1e-12}.get(case.dtype, 1e-4)
        np.testing.assert_allclose(have, case.expected(*given), rtol=error, atol=error, err_msg=str(case))


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


# Mistakes -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("number", [0, 1])
def test_each_barrier_is_needed(number: int) -> None:
    """Without it the device finds a race, in whatever order threads run."""
    case = Matmul(40, 40, 40, cut=Cut("tiled", TILES[-1]))
    for order in cuda_device.ORDERS:
        with Worker(order=order, seed=3) as worker, pytest.raises(WorkerError, match="race|nothing has written"):
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
    for case, given, have in zip(cases, arguments, found, strict=True):
        error = {DType.F16: 2e-2, DType.F64: 1e-12}.get(case.dtype, 1e-4)
        np.testing.assert_allclose(have, case.expected(*given), rtol=error, atol=error, err_msg=str(case))
    for case, (dtype, batch, m, n, k, trans_a, trans_b, *_, tf32) in zip(
        cases, (a.numbers for a in asked), strict=True
    ):
        assert (dtype, batch) == (DTYPES.index(case.dtype), *(case.batch or (1,)))
        assert (m, n, k, bool(trans_a), bool(trans_b), tf32) == (case.m, case.n, case.k, *case.transposed, 0)
