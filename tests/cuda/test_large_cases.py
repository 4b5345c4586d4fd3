"""Ops at sizes at which their kernels share the work out, on the emulated device."""

from __future__ import annotations

from functools import cache

import cuda_cases
import cuda_device
import pytest
from cuda_worker import Worker
from large_cases import LARGE

pytestmark = pytest.mark.skipif(cuda_device.available() is not None, reason=str(cuda_device.available()))


@cache
def worker() -> Worker:
    return Worker()


@cache
def faults() -> dict[str, str]:
    return worker().run(cuda_cases.run_large, LARGE_IDS).value


LARGE_IDS = tuple(case.id for case in LARGE)


@pytest.mark.parametrize("name", LARGE_IDS)
def test_case(name: str) -> None:
    assert faults().get(name) is None, faults()[name]
