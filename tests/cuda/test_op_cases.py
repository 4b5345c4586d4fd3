"""Every op case as CUDA kernels on the emulated device: forward and backward, fixed and symbolic batch."""

from __future__ import annotations

from functools import cache

import cuda_cases
import cuda_device
import pytest
from cuda_worker import Worker

CHUNK = 40

pytestmark = pytest.mark.skipif(cuda_device.available() is not None, reason=str(cuda_device.available()))


@cache
def worker() -> Worker:
    return Worker()


@cache
def faults(start: int) -> dict[int, str]:
    return worker().run(cuda_cases.run, start, min(start + CHUNK, len(cuda_cases.JOBS))).value


def check(number: int) -> None:
    fault = faults(number // CHUNK * CHUNK).get(number)
    assert fault is None, fault


HALF = len(cuda_cases.JOBS) // 2 // CHUNK * CHUNK


class TestFirstHalf:
    """A class of its own, so that two processes share the work."""

    @pytest.mark.parametrize("number", range(HALF), ids=cuda_cases.IDS[:HALF])
    def test_case(self, number: int) -> None:
        check(number)


class TestSecondHalf:
    @pytest.mark.parametrize("number", range(HALF, len(cuda_cases.JOBS)), ids=cuda_cases.IDS[HALF:])
    def test_case(self, number: int) -> None:
        check(number)
