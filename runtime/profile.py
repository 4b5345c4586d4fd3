"""Where the time of a step goes: an engine that runs compiled functions kernel by kernel, with a clock around each.

Every other call of a function is run as a whole, as always: the difference is what the kernels do not account for.
Results are the same bits either way, since the same kernels run on the same numbers in the same order. Nothing of this
is in the way of a run that is not profiled.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .artifact import Artifact
from .engine import ALIGNMENT, Array, Buffer, Engine, Handle, aligned_zeros
from .errors import EngineError
from .kernels import FunctionKernels, KernelCall, KernelTable, bind_symbols, numpy_shape
from .manifest import Dtype, numpy_dtype
from .roofline import Roofline, call_seconds, measure
from .tvm_engine import TvmEngine

WARM_UP = 2
"""First calls of each kind that are not counted: pages are touched and threads are woken."""

LEAST_CALLS = 2 * WARM_UP + 2
TAKE_MORE = f"take at least {LEAST_CALLS} steps; the first {2 * WARM_UP} are not counted"

_SLACK = 16
"""Times its size up to which a free piece of memory is used again for an intermediate."""


@dataclass
class KernelTime:
    """A kernel in its place in a function, over all calls that were clocked.

    Attributes:
        kernel: what it does.
        readings: seconds of each call.
        flops: operations of all of them, as predicted.
        integer: integer operations.
        moved: bytes.
    """

    kernel: KernelCall
    readings: list[float] = field(default_factory=list[float])
    flops: int = 0
    integer: int = 0
    moved: int = 0

    @property
    def seconds(self) -> float:
        """Mean of a call."""
        return sum(self.readings) / len(self.readings) if self.readings else 0.0

    @property
    def flops_per_second(self) -> float:
        """Operations per second."""
        return self.flops / self._total

    @property
    def bytes_per_second(self) -> float:
        """Bytes per second."""
        return self.moved / self._total

    @property
    def intensity(self) -> float:
        """Operations per byte; 0 where no bytes are moved."""
        return self.flops / self.moved if self.moved else 0.0

    @property
    def _total(self) -> float:
        return max(sum(self.readings), 1e-12)

    def share(self, roofline: Roofline) -> float | None:
        """Least time that the machine allows for this work, over the time it took.

        None where the roofline says nothing: data came from the caches faster than memory gives it, or most of the
        work is on integers.
        """
        if self.bytes_per_second > roofline.bandwidth or self.integer > self.flops:
            return None
        return max(self.flops / roofline.flops, self.moved / roofline.bandwidth) / self._total


@dataclass
class FunctionTime:
    """A function: its kernels one by one, and calls of it as a whole.

    Attributes:
        name: of the function.
        kernels: in the order they run.
        whole: seconds of each call as a whole.
        between: seconds from the end of a call of any function to the begin of one of this.
    """

    name: str
    kernels: tuple[KernelTime, ...]
    whole: list[float] = field(default_factory=list[float])
    between: list[float] = field(default_factory=list[float])
    calls: int = 0

    @property
    def seconds(self) -> float:
        """Mean of a call as a whole; of its kernels where it was never called so."""
        return sum(self.whole) / len(self.whole) if self.whole else self.in_kernels

    @property
    def in_kernels(self) -> float:
        """Sum of the kernels' means."""
        return sum(kernel.seconds for kernel in self.kernels)


@dataclass(frozen=True)
class Profile:
    """What was measured.

    Attributes:
        functions: those that were called often enough, the longest first.
        roofline: the machine.
        reading: seconds that every reading of a kernel holds beside the kernel.
    """

    functions: tuple[FunctionTime, ...]
    roofline: Roofline
    reading: float


class ProfilingEngine:
    """An engine over another one that measures (``runtime.engine.Engine``).

    Args:
        engine: has loaded the artifact's code.
        table: the artifact's kernels.

    Raises EngineError when the code lacks a kernel of the table.
    """

    def __init__(self, engine: TvmEngine, table: KernelTable) -> None:
        self._engine = engine
        self._table = table
        self._times: dict[str, FunctionTime] = {}
        self._runs: dict[str, _ByKernel] = {}
        for function in table.functions:
            if function.name != "startup":  # called once
                times = FunctionTime(function.name, tuple(map(KernelTime, function.kernels)))
                self._times[function.name] = times
                self._runs[function.name] = _ByKernel(engine, function, times)
        self._before = self._measured()
        self._left = time.perf_counter()

    @property
    def in_place(self) -> bool:
        """As the engine below."""
        return self._engine.in_place

    def tensor(self, array: Array, *, secret: bool = False) -> Handle:
        """As the engine below."""
        return self._engine.tensor(array, secret=secret)

    def state(self, buffer: Buffer) -> Handle:
        """As the engine below."""
        return self._engine.state(buffer)

    def call(self, function: str, arguments: Sequence[Handle]) -> list[Array]:
        """Run a function: every other time as a whole, else kernel by kernel. Raises EngineError as the engine does."""
        times = self._times.get(function)
        if times is None:
            return self._engine.call(function, arguments)
        warm = times.calls >= 2 * WARM_UP
        start = time.perf_counter()
        if warm:
            times.between.append(start - self._left)
        if times.calls % 2:
            results = self._runs[function].call(arguments, record=warm)
        else:
            # First of all as a whole: the engine checks what the kernels take on trust.
            results = self._engine.call(function, arguments)
            if warm:
                times.whole.append(time.perf_counter() - start)
        times.calls += 1
        self._left = time.perf_counter()
        return results

    def profile(self) -> Profile:
        """What was measured so far. The machine is measured again; the better of both counts.

        Raises EngineError when no function was called often enough.
        """
        found = [times for times in self._times.values() if times.kernels and times.kernels[0].readings]
        if not found:
            most = max((times.calls for times in self._times.values()), default=0)
            raise EngineError(
                f"the run was too short to profile: {most} calls of its longest function",
                "--profile",
                TAKE_MORE,
            )
        before, after = self._before, self._measured()
        roofline = Roofline(
            max(before.flops, after.flops), max(before.bandwidth, after.bandwidth), after.threads, after.lanes
        )
        longest = sorted(found, key=lambda times: -times.seconds * times.calls)
        return Profile(tuple(longest), roofline, call_seconds(self._engine))

    def _measured(self) -> Roofline:
        return measure(self._engine, self._engine.threads, self._table.lanes)


def profiling(artifact: Artifact, engine: Engine) -> ProfilingEngine:
    """An engine that measures, over the one of ``artifact``. Raises EngineError where there are no kernels to clock."""
    kind = artifact.manifest.target.kind
    if kind == "cuda":
        raise EngineError(
            "a step on a GPU is launched as one, and its kernels are not clocked one by one",
            "--profile",
            "profile the run by NVIDIA's tools: FLUIDC_CUDA_GRAPH=0 nsys profile fluidc run ...",
        )
    if not isinstance(engine, TvmEngine):
        raise EngineError(
            f"artifacts for the target {kind} have no kernels that could be clocked",
            "--profile",
            "compile with --target cpu",
        )
    if artifact.kernels is None:
        raise EngineError(
            "the artifact was written before artifacts held the table of their kernels",
            "member kernels.json",
            "compile the script again",
        )
    return ProfilingEngine(engine, artifact.kernels)


@dataclass(frozen=True)
class _Bound:
    """A function for one set of sizes: memory of its own, and per kernel what it is called with."""

    own: tuple[Handle, ...]
    results: tuple[Array, ...]
    calls: tuple[tuple[Callable[..., Any], tuple[int, ...], tuple[int, ...], tuple[int, ...]], ...]
    work: tuple[tuple[int, int, int], ...]


class _ByKernel:
    """Runs one function kernel by kernel."""

    def __init__(self, engine: TvmEngine, function: FunctionKernels, times: FunctionTime) -> None:
        self._engine = engine
        self._function = function
        self._times = times
        self._kernels = [engine.kernel(kernel.symbol) for kernel in function.kernels]
        self._bound: dict[tuple[tuple[int, ...], ...], _Bound] = {}

    def call(self, arguments: Sequence[Handle], record: bool) -> list[Array]:
        shapes = tuple(tuple(map(int, argument.shape)) for argument in arguments)
        bound = self._bound.get(shapes)
        if bound is None:
            bound = self._bound[shapes] = self._bind(shapes)
            record = False  # its memory is new
        memory = (*arguments, *bound.own)
        calls = [
            (kernel, (*(memory[i] for i in inputs), *sizes, *(memory[i] for i in outputs)))
            for kernel, inputs, sizes, outputs in bound.calls
        ]
        clock = time.perf_counter
        readings: list[float] = []
        for kernel, values in calls:
            start = clock()
            kernel(*values)
            readings.append(clock() - start)
        if record:
            for times, reading, (flops, integer, moved) in zip(self._times.kernels, readings, bound.work, strict=True):
                times.readings.append(reading)
                times.flops += flops
                times.integer += integer
                times.moved += moved
        return [np.array(result) for result in bound.results]

    def _bind(self, shapes: tuple[tuple[int, ...], ...]) -> _Bound:
        function = self._function
        values = bind_symbols(function.buffers, shapes)
        own = _allocate(function, len(shapes), values)
        handles = tuple(self._engine.tensor(array) for array in own)
        calls = tuple(
            (kernel, call.inputs, tuple(size.at(values) for size in call.sizes), call.outputs)
            for kernel, call in zip(self._kernels, function.kernels, strict=True)
        )
        work = tuple(
            (call.work.flops.at(values), call.work.integer.at(values), call.work.bytes.at(values))
            for call in function.kernels
        )
        return _Bound(handles, tuple(own[number - len(shapes)] for number in function.results), calls, work)


def _allocate(function: FunctionKernels, first: int, values: Mapping[str, int]) -> list[Array]:
    """Memory of the buffers from number ``first`` on; intermediates share it where their lifetimes allow."""
    lives = function.lifetimes()
    free: list[Array] = []
    pieces: dict[int, Array] = {}
    for place, kernel in enumerate(function.kernels):
        for number in kernel.outputs:
            size = function.buffers[number].nbytes.at(values)
            fitting = [piece for piece in free if size <= piece.size <= _SLACK * max(size, ALIGNMENT)]
            if number in lives and fitting:
                pieces[number] = min(fitting, key=lambda piece: piece.size)
                free = [piece for piece in free if piece is not pieces[number]]
            else:
                pieces[number] = aligned_zeros((max(size, ALIGNMENT),), np.dtype(np.uint8))
        free += [pieces[number] for number, (_, last) in lives.items() if last == place]
    return [
        np.ndarray(numpy_shape(buffer, values), _stored(buffer.dtype, buffer.name), pieces[number].data)
        for number, buffer in enumerate(function.buffers)
        if number >= first
    ]


def _stored(dtype: Dtype, name: str) -> np.dtype[Any]:
    """A dtype of the same size, where numpy has none of this name: kernels look at nothing but the memory."""
    return np.dtype(np.uint16) if dtype == "bf16" else numpy_dtype(dtype, name)
