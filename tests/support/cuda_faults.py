"""Calls of CUDA's runtime on the emulated device, right and wrong ones: run in a `cuda_worker.Worker`."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from cuda_device import Device, compile_kernels
from cuda_worker import device

ADD = 'extern "C" __global__ void k(float* x) { x[threadIdx.x] += 1; }'
N = 32
SIZE = ctypes.c_size_t(4 * N)


def _pointer(address: int) -> ctypes.c_void_p:
    return ctypes.c_void_p(address)


def _stream(on: Device, flags: int = 0) -> ctypes.c_void_p:
    stream = ctypes.c_void_p()
    on.check(on.runtime.cudaStreamCreateWithFlags(ctypes.byref(stream), flags))
    return stream


def _event(on: Device) -> ctypes.c_void_p:
    event = ctypes.c_void_p()
    on.check(on.runtime.cudaEventCreate(ctypes.byref(event)))
    return event


def _pinned(on: Device) -> tuple[int, np.ndarray]:
    """The address of pinned memory, and the memory as an array."""
    pointer = ctypes.c_void_p()
    on.check(on.runtime.cudaMallocHost(ctypes.byref(pointer), SIZE))
    address = pointer.value or 0
    return address, np.ctypeslib.as_array((ctypes.c_float * N).from_address(address))


def _launch(on: Device, address: int, stream: ctypes.c_void_p | None = None) -> None:
    on.launch(on.kernel(compile_kernels(ADD), "k"), (1,), (N,), [address], stream=stream.value if stream else None)


def _copy(on: Device, to: int, source: int, kind: int, stream: ctypes.c_void_p, size: Any = SIZE) -> None:
    on.check(on.runtime.cudaMemcpyAsync(_pointer(to), _pointer(source), size, kind, stream))


# Right ------------------------------------------------------------------------------------------------
def overlapped(waits: bool) -> list[float]:
    """Copy in and out in a stream of its own, ordered by events; returns the first element that came back.

    Args:
        waits: The streams wait for each other, as they must.
    """
    on = device()
    copies, work = _stream(on, 1), _stream(on, 1)
    copied, done = _event(on), _event(on)
    buffer, (source, given), (target, taken) = on.put(np.zeros(N, "f4")), _pinned(on), _pinned(on)
    found: list[float] = []
    for step in range(3):
        given[:] = step * 10
        _copy(on, buffer, source, 1, copies)
        on.check(on.runtime.cudaEventRecord(copied, copies))
        if waits:
            on.check(on.runtime.cudaStreamWaitEvent(work, copied, 0))
        _launch(on, buffer, work)
        on.check(on.runtime.cudaEventRecord(done, work))
        if waits:
            on.check(on.runtime.cudaStreamWaitEvent(copies, done, 0))
        _copy(on, target, buffer, 2, copies)
        on.check(on.runtime.cudaStreamSynchronize(copies))
        found.append(float(taken[0]))
    return found


def reused_too_early(waits: bool) -> float:
    """Overwrite a pinned buffer after a copy from it was enqueued; returns what arrived."""
    on = device()
    stream, buffer, (source, given) = _stream(on, 1), on.put(np.zeros(N, "f4")), _pinned(on)
    given[:] = 1
    _copy(on, buffer, source, 1, stream)
    if waits:
        on.check(on.runtime.cudaStreamSynchronize(stream))
    given[:] = 2
    on.check(on.runtime.cudaStreamSynchronize(stream))
    return float(on.get(buffer, given)[0])


def default_stream_orders() -> float:
    """Blocking streams and the default stream wait for each other without being told."""
    on = device()
    stream, buffer = _stream(on), on.put(np.zeros(N, "f4"))
    _launch(on, buffer, stream)
    on.check(on.runtime.cudaMemsetAsync(_pointer(buffer), 0, SIZE, None))
    _launch(on, buffer, stream)
    return float(on.get(buffer, np.zeros(N, "f4"))[0])


def captured(steps: int) -> tuple[float, int, bool]:
    """Capture a launch and copies to and from pinned memory over two streams; replay them.

    Returns the result, the number of nodes, and whether anything ran while it was captured.
    """
    on = device()
    main, side, fork, join = _stream(on, 1), _stream(on, 1), _event(on), _event(on)
    buffer, (source, given), (target, taken) = on.put(np.zeros(N, "f4")), _pinned(on), _pinned(on)
    graph, ready, count = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_size_t()
    on.check(on.runtime.cudaStreamBeginCapture(main, 0))
    _copy(on, buffer, source, 1, main)
    on.check(on.runtime.cudaEventRecord(fork, main))
    on.check(on.runtime.cudaStreamWaitEvent(side, fork, 0))
    _launch(on, buffer, side)
    on.check(on.runtime.cudaEventRecord(join, side))
    on.check(on.runtime.cudaStreamWaitEvent(main, join, 0))
    _copy(on, target, buffer, 2, main)
    on.check(on.runtime.cudaStreamEndCapture(main, ctypes.byref(graph)))
    ran = on.counters()["launches"] > 0
    on.check(on.runtime.cudaGraphGetNodes(graph, None, ctypes.byref(count)))
    on.check(on.runtime.cudaGraphInstantiate(ctypes.byref(ready), graph, ctypes.c_ulonglong(0)))
    on.check(on.runtime.cudaGraphDestroy(graph))
    for step in range(steps):
        given[:] = step
        on.check(on.runtime.cudaGraphLaunch(ready, main))
        on.check(on.runtime.cudaStreamSynchronize(main))
    return float(taken[0]), count.value, ran


def devices() -> list[int]:
    """The numbers of the devices that can be chosen, and where a buffer of the last one may be used."""
    on, count, chosen = device(), ctypes.c_int(), ctypes.c_int()
    on.check(on.runtime.cudaGetDeviceCount(ctypes.byref(count)))
    found: list[int] = []
    for number in range(count.value):
        on.check(on.runtime.cudaSetDevice(number))
        on.check(on.runtime.cudaGetDevice(ctypes.byref(chosen)))
        found.append(chosen.value)
        _launch(on, on.put(np.zeros(N, "f4")))
    on.check(on.runtime.cudaSetDevice(0))
    return found


# Wrong ------------------------------------------------------------------------------------------------
def _host_address(on: Device) -> None:
    _launch(on, np.zeros(N, "f4").ctypes.data)


def _pinned_in_a_kernel(on: Device) -> None:
    _launch(on, _pinned(on)[0])


def _freed(on: Device) -> None:
    address = on.put(np.zeros(N, "f4"))
    on.check(on.runtime.cudaFree(_pointer(address)))
    _launch(on, address)


def _freed_twice(on: Device) -> None:
    address = on.put(np.zeros(N, "f4"))
    for _ in range(2):
        on.check(on.runtime.cudaFree(_pointer(address)))


def _copy_too_long(on: Device) -> None:
    on.get(on.put(np.zeros(N, "f4")), np.zeros(N + 1, "f4"))


def _copy_of_freed(on: Device) -> None:
    address = on.put(np.zeros(N, "f4"))
    on.check(on.runtime.cudaFree(_pointer(address)))
    on.get(address, np.zeros(N, "f4"))


def _copy_the_wrong_way(on: Device) -> None:
    host, address = np.zeros(N, "f4"), on.put(np.zeros(N, "f4"))
    on.check(on.runtime.cudaMemcpy(_pointer(address), host.ctypes, SIZE, 2))


def _another_device(on: Device) -> None:
    on.check(on.runtime.cudaSetDevice(1))
    address = on.put(np.zeros(N, "f4"))
    on.check(on.runtime.cudaSetDevice(0))
    _launch(on, address)


def _no_such_device(on: Device) -> None:
    on.check(on.runtime.cudaSetDevice(7))


def _too_much(on: Device) -> None:
    on.allocate(1 << 45)


def _no_such_kernel(on: Device) -> None:
    on.kernel(compile_kernels(ADD), "other")


def _other_image(on: Device) -> None:
    on.kernel(b"\x7fELF" + bytes(100), "k")


def _destroyed_stream(on: Device) -> None:
    stream = _stream(on)
    on.check(on.runtime.cudaStreamDestroy(stream))
    _launch(on, on.put(np.zeros(N, "f4")), stream)


def _in_capture(act: Callable[[Device, ctypes.c_void_p, int], None]) -> Callable[[Device], None]:
    """What happens to a capture in which ``act`` is done to its stream and a buffer."""

    def call(on: Device) -> None:
        address, stream, graph = on.put(np.zeros(N, "f4")), _stream(on), ctypes.c_void_p()
        on.check(on.runtime.cudaStreamBeginCapture(stream, 0))
        try:
            _launch(on, address, stream)
            act(on, stream, address)
        finally:
            ended = on.runtime.cudaStreamEndCapture(stream, ctypes.byref(graph))
        on.check(ended)

    return call


def _pageable(on: Device, stream: ctypes.c_void_p, address: int) -> None:
    _copy(on, address, np.zeros(N, "f4").ctypes.data, 1, stream)


def _waits(on: Device, stream: ctypes.c_void_p, address: int) -> None:
    on.check(on.runtime.cudaStreamSynchronize(stream))


def _waits_for_all(on: Device, stream: ctypes.c_void_p, address: int) -> None:
    on.check(on.runtime.cudaDeviceSynchronize())


def _allocates(on: Device, stream: ctypes.c_void_p, address: int) -> None:
    on.allocate(4)


def _frees(on: Device, stream: ctypes.c_void_p, address: int) -> None:
    on.check(on.runtime.cudaFree(_pointer(address)))


def _default_stream(on: Device, stream: ctypes.c_void_p, address: int) -> None:
    _launch(on, address)


def _begins_again(on: Device, stream: ctypes.c_void_p, address: int) -> None:
    on.check(on.runtime.cudaStreamBeginCapture(stream, 0))


def _broken_before(on: Device, stream: ctypes.c_void_p, address: int) -> None:
    on.runtime.cudaStreamSynchronize(stream)  # nobody looks at what it returns


WRONG: dict[str, Callable[[Device], None]] = {
    "a host address": _host_address,
    "pinned memory in a kernel": _pinned_in_a_kernel,
    "a freed buffer": _freed,
    "freed twice": _freed_twice,
    "a copy that is too long": _copy_too_long,
    "a copy of a freed buffer": _copy_of_freed,
    "a copy the wrong way": _copy_the_wrong_way,
    "memory of another device": _another_device,
    "no such device": _no_such_device,
    "too much memory": _too_much,
    "no such kernel": _no_such_kernel,
    "another image": _other_image,
    "a destroyed stream": _destroyed_stream,
    "a copy of pageable memory in a capture": _in_capture(_pageable),
    "a wait in a capture": _in_capture(_waits),
    "a wait for the device in a capture": _in_capture(_waits_for_all),
    "memory allocated in a capture": _in_capture(_allocates),
    "memory freed in a capture": _in_capture(_frees),
    "the default stream in a capture": _in_capture(_default_stream),
    "a capture in a capture": _in_capture(_begins_again),
    "a capture that was broken": _in_capture(_broken_before),
}


def wrong(name: str) -> None:
    """Do something that CUDA does not allow; raises DeviceError."""
    gc.collect()
    device().runtime.cudaSetDevice(0)
    WRONG[name](device())


# The process ------------------------------------------------------------------------------------------
def kill() -> None:
    """End this process."""
    os.kill(os.getpid(), signal.SIGKILL)


def sleep() -> None:
    """Never return."""
    time.sleep(3600)
