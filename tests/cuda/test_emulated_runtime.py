"""CUDA's runtime on the emulated device: streams, events, pinned memory, graphs, and what they do not allow."""

from __future__ import annotations

from collections.abc import Generator

import cuda_device
import cuda_faults
import pytest
from cuda_worker import Worker, WorkerError

pytestmark = pytest.mark.skipif(cuda_device.available() is not None, reason=str(cuda_device.available()))


@pytest.fixture(scope="module")
def worker() -> Generator[Worker]:
    with Worker(devices=2) as made:
        yield made


@pytest.fixture(scope="module")
def late() -> Generator[Worker]:
    """Work runs when somebody waits for it, as late as it may on a real device."""
    with Worker(devices=2, late=1) as made:
        yield made


def test_streams_that_wait_for_each_other(worker: Worker, late: Worker) -> None:
    assert worker.run(cuda_faults.overlapped, True).value == [1, 11, 21]
    assert late.run(cuda_faults.overlapped, True).value == [1, 11, 21]


def test_streams_that_do_not_wait_are_found_late(worker: Worker, late: Worker) -> None:
    assert worker.run(cuda_faults.overlapped, False).value == [1, 11, 21]  # by luck
    assert late.run(cuda_faults.overlapped, False).value != [1, 11, 21]


def test_pinned_memory_is_read_when_it_is_copied(worker: Worker, late: Worker) -> None:
    assert worker.run(cuda_faults.reused_too_early, True).value == 1
    assert late.run(cuda_faults.reused_too_early, True).value == 1
    assert late.run(cuda_faults.reused_too_early, False).value == 2


def test_the_default_stream_waits(worker: Worker, late: Worker) -> None:
    assert worker.run(cuda_faults.default_stream_orders).value == 1
    assert late.run(cuda_faults.default_stream_orders).value == 1


def test_graphs_over_two_streams(worker: Worker, late: Worker) -> None:
    for which in (worker, late):
        outcome = which.run(cuda_faults.captured, 3)
        assert outcome.value == (3.0, 3, False)
        assert outcome.counters["graph_launches"] == outcome.counters["launches"] == 3
        assert all(launch.graph for launch in outcome.trace)


def test_several_devices(worker: Worker) -> None:
    outcome = worker.run(cuda_faults.devices)
    assert outcome.value == [0, 1]
    assert [launch.device for launch in outcome.trace] == [0, 1]


MESSAGES = {
    "a host address": r"kernel k: .* reads 4 bytes at an address that is none of the device: a host address",
    "pinned memory in a kernel": "a host address",
    "a freed buffer": r"reads 4 bytes at offset 0 of parameter 0, a freed buffer of 128 bytes",
    "freed twice": "a buffer of 128 bytes is freed twice",
    "a copy that is too long": "source of a copy: 132 bytes at offset 0 of a buffer of 128 bytes",
    "a copy of a freed buffer": "source of a copy: a freed buffer of 128 bytes",
    "a copy the wrong way": "destination of a copy: a device address, not the host's",
    "memory of another device": "memory of another device",
    "no such device": "device 7 of 2",
    "too much memory": "out of device memory",
    "no such kernel": "the module has no kernel other",
    "another image": "the code is none of the emulated device",
    "a destroyed stream": "a launch on a stream that does not exist",
    "a copy of pageable memory in a capture": "a copy of pageable memory cannot be captured",
    "a wait in a capture": "waits for a stream that is captured",
    "a wait for the device in a capture": "waits for the device while a stream is captured",
    "memory allocated in a capture": "memory is allocated while a stream is captured",
    "memory freed in a capture": "memory is freed while a stream is captured",
    "the default stream in a capture": "a launch on the default stream, which would wait for a stream that is captured",
    "a capture in a capture": "captures a stream that is captured already",
    "a capture that was broken": "the capture has been broken by a call that it does not allow",
}


@pytest.mark.parametrize("name", cuda_faults.WRONG)
def test_what_cuda_does_not_allow(worker: Worker, name: str) -> None:
    with pytest.raises(WorkerError, match=MESSAGES[name]):
        worker.run(cuda_faults.wrong, name)


def test_a_process_that_dies_or_hangs_is_replaced(worker: Worker) -> None:
    with pytest.raises(WorkerError, match="kill ended its process: SIGKILL"):
        worker.run(cuda_faults.kill)
    with pytest.raises(WorkerError, match=r"sleep took longer than 0.5 s"):
        worker.run(cuda_faults.sleep, timeout=0.5)
    assert worker.run(cuda_faults.devices).value == [0, 1]
