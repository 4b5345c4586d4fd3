"""How cuBLAS is called: by a stand-in that computes what it is asked for, and writes that down."""

from __future__ import annotations

import itertools

import cuda_blas
import cuda_device
import pytest
from cuda_blas import Product
from cuda_worker import Worker

from fluidc.runtime.cuda.cublas import WORKSPACE

pytestmark = pytest.mark.skipif(cuda_device.available() is not None, reason=str(cuda_device.available()))

HALF_ULP = (2.0**-23, 2.0**-52, 2.0**-10, 2.0**-7)
COMPUTE_32F, PEDANTIC_32F, FAST_TF32, PEDANTIC_64F = 68, 69, 77, 71

WANTED = [
    *(Product(t, 1, 3, 5, 4, a, b) for t, a, b in itertools.product(range(4), (False, True), (False, True))),
    *(Product(0, 4, 3, 5, 2, a, b, gap=3) for a, b in itertools.product((False, True), (False, True))),
    Product(0, 2, 1, 1, 7),
    Product(0, 1, 3, 5, 4, tf32=True),
    Product(1, 1, 3, 5, 4, tf32=True),
]


def test_products() -> None:
    with Worker(late=1) as worker:
        differences, records = worker.run(cuda_blas.products, WANTED).value
        without, _ = worker.run(cuda_blas.products, WANTED[:1], "0").value
    for product, difference, record in zip(WANTED, differences, records, strict=True):
        assert difference <= HALF_ULP[product.dtype], product
        exact = (PEDANTIC_32F, PEDANTIC_64F, COMPUTE_32F, COMPUTE_32F)[product.dtype]
        tf32 = product.tf32 and product.dtype == 0
        assert record["compute_type"] == (FAST_TF32 if tf32 else exact), product
        assert record["data_type"] == (0, 1, 2, 14)[product.dtype]
    last = records[-1]
    assert (last["created"], last["streams"], last["calls"]) == (1, 1, len(WANTED)), "one handle for all"
    assert (last["workspace_bytes"], last["has_workspace"]) == (WORKSPACE, 1), "set after the stream, which takes it"
    assert last["math_mode"] == 16, "or partial sums of halves may be added as halves"
    assert without == [-1.0], "FLUIDC_CUBLAS=0 leaves the product to the caller"


def test_without_cublas_the_caller_is_told() -> None:
    with Worker() as worker:
        assert worker.run(cuda_blas.without_cublas).value == 0
