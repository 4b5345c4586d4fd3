"""No barrier of a generated kernel can be left out without the emulated device saying so, unless it orders nothing."""

from __future__ import annotations

import cuda_device
import cuda_mutants
import pytest
from cuda_worker import Worker
from large_cases import LARGE

pytestmark = pytest.mark.skipif(cuda_device.available() is not None, reason=str(cuda_device.available()))

FEW = ("sum-by-blocks", "softmax", "lookup_grad", "max_pool")


def check(names: list[str]) -> None:
    with Worker() as worker:
        mutants = worker.run(cuda_mutants.run, names).value
    # The first barrier of a kernel stands between writing shared memory and reading it; a later one may be the last
    # of a buffer that is not used again.
    kernels = {(mutant.case, mutant.kernel) for mutant in mutants}
    first = [mutant for mutant in mutants if mutant.barrier == 0]
    assert len(first) == len(kernels) > 0
    assert [mutant for mutant in first if mutant.fault is None] == []
    caught = [mutant for mutant in mutants if mutant.fault is not None]
    assert all("a race" in (mutant.fault or "") or "nothing has written" in (mutant.fault or "") for mutant in caught)


def test_barriers_of_some_kernels() -> None:
    check([f"large.{name}" for name in FEW])


@pytest.mark.nightly
def test_barriers_of_all_kernels() -> None:
    check([case.id for case in LARGE])
