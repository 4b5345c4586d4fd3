"""TVM's runtime, virtual machine and memory pool on the emulated device."""

from __future__ import annotations

import cuda_device
import cuda_tvm
import numpy as np
import pytest
from cuda_worker import Worker

pytestmark = pytest.mark.skipif(cuda_device.available() is not None, reason=str(cuda_device.available()))


def test_a_scheduled_module() -> None:
    draw = np.random.default_rng(0)
    x, w, b = (draw.standard_normal(shape).astype("f4") for shape in ((25, 78), (78, 51), (51,)))
    with Worker() as worker:
        outcome = worker.run(cuda_tvm.layer, x, w, b)
    np.testing.assert_allclose(outcome.value[0], np.maximum(x @ w + b, 0).sum(0), rtol=1e-5, atol=1e-5)
    assert [launch.name for launch in outcome.trace] == ["fused_matmul_add_relu_kernel", "sum_kernel"]


@pytest.mark.parametrize("late", [0, 1])
def test_a_captured_step_is_replayed(late: int) -> None:
    with Worker(late=late) as worker:
        outcome = worker.run(cuda_tvm.captured_steps, 3)
    assert outcome.value["largest difference"] < 1e-5
    assert outcome.value["nodes"] > 0
    assert outcome.counters["graph_launches"] == 3
    assert outcome.value["allocated in the capture"] == 0
    assert sum(launch.graph for launch in outcome.trace) == 3 * outcome.value["nodes"]
