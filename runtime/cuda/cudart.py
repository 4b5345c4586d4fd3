"""CUDA's runtime library: the calls that are made of it, each checked."""

from __future__ import annotations

import ctypes
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint, c_ulonglong, c_void_p
from functools import cache
from typing import Any

from ..errors import EngineError
from . import libraries

OUT_OF_MEMORY, DRIVER_TOO_OLD, NO_DEVICE = 2, 35, 100
_TO_DEVICE, _TO_HOST, _ON_DEVICE = 1, 2, 3  # cudaMemcpyKind
_RELAXED = 2  # cudaStreamCaptureMode: the memory pool may grow meanwhile
_WITHOUT_TIME = 2  # cudaEventDisableTiming
_MAJOR, _MINOR = 75, 76  # cudaDeviceAttr: compute capability

_RELEASE = "13.0"
"""Of CUDA, whose runtime library TVM is linked with."""


class CudaError(EngineError):
    """A call that CUDA refused; ``status`` is its number."""

    def __init__(self, what: str, where: str, hint: str, status: int) -> None:
        super().__init__(what, where, hint)
        self.status = status


class NoDeviceError(EngineError):
    """This machine has no NVIDIA driver, or no device that this process may use."""


class Runtime:
    """``libcudart.so``, loaded; all calls raise CudaError.

    Handles of streams, events and graphs are addresses.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        library.cudaGetErrorName.restype = library.cudaGetErrorString.restype = c_char_p
        self._copy = _typed(library.cudaMemcpyAsync, c_void_p, c_void_p, c_size_t, c_int, c_void_p)
        self._set = _typed(library.cudaMemsetAsync, c_void_p, c_int, c_size_t, c_void_p)
        self._launch = _typed(library.cudaGraphLaunch, c_void_p, c_void_p)
        self._wait = _typed(library.cudaStreamSynchronize, c_void_p)
        self._record = _typed(library.cudaEventRecord, c_void_p, c_void_p)
        self._wait_event = _typed(library.cudaEventSynchronize, c_void_p)
        self._use = _typed(library.cudaSetDevice, c_int)

    def check(self, status: int, call: str) -> None:
        """Raise CudaError unless ``status`` is 0."""
        if not status:
            return
        name, text = (
            (function(c_int(status)) or b"").decode("utf-8", "replace")
            for function in (self._library.cudaGetErrorName, self._library.cudaGetErrorString)
        )
        self._library.cudaGetLastError()  # or the next call would be told of it
        raise CudaError(
            f"CUDA refused {call}: {text} ({name or 'error'}, {status})",
            "GPU",
            "go on from the last checkpoint in a new process; nvidia-smi shows the state of the device",
            status,
        )

    # Devices ------------------------------------------------------------------------------------------
    def devices(self) -> int:
        """How many there are."""
        found = c_int()
        self.check(self._library.cudaGetDeviceCount(byref(found)), "to count the devices")
        return found.value

    def driver_release(self) -> tuple[int, int]:
        """The newest CUDA that the driver supports; (0, 0) without one."""
        found = c_int()
        self.check(self._library.cudaDriverGetVersion(byref(found)), "to name the driver's version")
        return found.value // 1000, found.value % 1000 // 10

    def capability(self, device: int) -> tuple[int, int]:
        """Compute capability of a device."""
        return self._attribute(_MAJOR, device), self._attribute(_MINOR, device)

    def _attribute(self, attribute: int, device: int) -> int:
        found = c_int()
        status = self._library.cudaDeviceGetAttribute(byref(found), c_int(attribute), c_int(device))
        self.check(status, "to describe the device")
        return found.value

    def use(self, device: int) -> None:
        """Make it this thread's."""
        status = self._use(device)
        if status:
            self.check(status, f"to use device {device}")

    def current(self) -> int:
        """The device of this thread."""
        found = c_int()
        self.check(self._library.cudaGetDevice(byref(found)), "to name the device")
        return found.value

    def free_memory(self) -> tuple[int, int]:
        """Bytes of the device of this thread: free, and in all."""
        free, total = c_size_t(), c_size_t()
        self.check(self._library.cudaMemGetInfo(byref(free), byref(total)), "to tell its free memory")
        return free.value, total.value

    # Memory -------------------------------------------------------------------------------------------
    def allocate_pinned(self, size: int) -> int:
        """The address of host memory that the device copies from and to."""
        made = c_void_p()
        self.check(self._library.cudaMallocHost(byref(made), c_size_t(size)), f"{size:,} bytes of pinned host memory")
        return made.value or 0

    def free_pinned(self, address: int) -> None:
        """Give it back; what the device has to say to that is of no use to anybody."""
        self._library.cudaFreeHost(c_void_p(address))

    def to_device(self, device: int, host: int, size: int, stream: int) -> None:
        """Begin to copy from host memory; done at once where it is not pinned."""
        status = self._copy(device, host, size, _TO_DEVICE, stream)
        if status:
            self.check(status, f"a copy of {size:,} bytes to the device")

    def to_host(self, host: int, device: int, size: int, stream: int) -> None:
        """Begin to copy to host memory."""
        status = self._copy(host, device, size, _TO_HOST, stream)
        if status:
            self.check(status, f"a copy of {size:,} bytes from the device")

    def on_device(self, to: int, source: int, size: int, stream: int) -> None:
        """Begin to copy on the device."""
        status = self._copy(to, source, size, _ON_DEVICE, stream)
        if status:
            self.check(status, f"a copy of {size:,} bytes on the device")

    def clear(self, device: int, size: int, stream: int) -> None:
        """Begin to write zeros."""
        status = self._set(device, 0, size, stream)
        if status:
            self.check(status, f"zeros in {size:,} bytes")

    # Order --------------------------------------------------------------------------------------------
    def make_stream(self) -> int:
        """A stream that waits for the default stream, and is waited for by it: TVM copies there."""
        made = c_void_p()
        self.check(self._library.cudaStreamCreate(byref(made)), "a stream")
        return made.value or 0

    def make_event(self) -> int:
        """An event that knows no time."""
        made = c_void_p()
        self.check(self._library.cudaEventCreateWithFlags(byref(made), c_uint(_WITHOUT_TIME)), "an event")
        return made.value or 0

    def record(self, event: int, stream: int) -> None:
        """The event is what was begun in the stream up to now."""
        status = self._record(event, stream)
        if status:
            self.check(status, "an event")

    def wait(self, stream: int) -> None:
        """Until all that was begun in the stream has ended."""
        status = self._wait(stream)
        if status:
            self.check(status, "the work of a step")

    def wait_event(self, event: int) -> None:
        """Until all that the event stands for has ended; at once where it stands for nothing."""
        status = self._wait_event(event)
        if status:
            self.check(status, "the work of a step")

    # Graphs -------------------------------------------------------------------------------------------
    def begin_capture(self, stream: int) -> None:
        """From now on what is begun in the stream is only written down."""
        self.check(self._library.cudaStreamBeginCapture(c_void_p(stream), c_int(_RELAXED)), "to capture a stream")

    def end_capture(self, stream: int) -> int:
        """What was written down: a graph."""
        made = c_void_p()
        self.check(self._library.cudaStreamEndCapture(c_void_p(stream), byref(made)), "to capture a stream")
        return made.value or 0

    def abandon_capture(self, stream: int) -> None:
        """End a capture that failed."""
        made = c_void_p()
        self._library.cudaStreamEndCapture(c_void_p(stream), byref(made))
        if made.value:
            self._library.cudaGraphDestroy(made)
        self._library.cudaGetLastError()

    def instantiate(self, graph: int) -> int:
        """A graph that can be launched; the one given is gone."""
        made = c_void_p()
        status = self._library.cudaGraphInstantiate(byref(made), c_void_p(graph), c_ulonglong(0))
        self._library.cudaGraphDestroy(c_void_p(graph))
        self.check(status, "a graph")
        return made.value or 0

    def launch(self, graph: int, stream: int) -> None:
        """Begin all that is in it."""
        status = self._launch(graph, stream)
        if status:
            self.check(status, "to launch a graph")

    def destroy(self, graph: int) -> None:
        """Of `instantiate`."""
        self._library.cudaGraphExecDestroy(c_void_p(graph))


def _typed(function: Any, *arguments: Any) -> Any:
    function.argtypes, function.restype = arguments, c_int
    return function


@cache
def runtime() -> Runtime:
    """CUDA's runtime library, and a driver for it.

    Raises EngineError where there is no driver, it is too old, or the library is not installed.
    """
    if libraries.load(libraries.DRIVER) is None:
        raise _without_driver()
    library = libraries.load(libraries.RUNTIME)
    if library is None:
        raise EngineError(
            f"CUDA's runtime library {libraries.RUNTIME} is not found",
            "Python environment",
            "pip install 'nvidia-cuda-runtime>=13,<14', or set CUDA_PATH to the folder of a CUDA 13 toolkit",
        )
    made = Runtime(library)
    try:
        made.devices()
    except CudaError as error:
        raise _without_device(made, error) from None
    return made


@cache
def device_count() -> int:
    """How many CUDA devices this process can use; 0 where something that they need is missing. Raises nothing."""
    try:
        return runtime().devices()
    except (EngineError, AttributeError):  # or what is called libcudart has none of its functions
        return 0


def _without_driver() -> EngineError:
    return NoDeviceError(
        f"this machine has no NVIDIA driver: {libraries.DRIVER} is not found",
        "target cuda",
        "install the driver of an NVIDIA GPU; to run without one, compile with --target cpu",
    )


def _without_device(runtime: Runtime, error: CudaError) -> EngineError:
    if error.status == NO_DEVICE:
        return NoDeviceError(
            "this machine has no CUDA device",
            "target cuda",
            "see what nvidia-smi lists, and whether CUDA_VISIBLE_DEVICES hides it; or compile with --target cpu",
        )
    if error.status == DRIVER_TOO_OLD:
        major, minor = runtime.driver_release()
        if not major:  # what stands for it where code is only compiled
            return _without_driver()
        return EngineError(
            f"the NVIDIA driver is too old: it knows CUDA up to {major}.{minor}, and {_RELEASE} is needed",
            "target cuda",
            "install driver 580 or newer",
        )
    return error
