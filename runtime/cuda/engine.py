"""`CudaEngine`: compiled modules on an NVIDIA GPU.

State stays in device memory from call to call (``buffers.Buffer``); what is fed goes there in one copy, and a step is
one launch from its third call on: docs/adr/0037-cuda-runtime.md.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from ..buffers import ALIGNMENT, Array, Buffer
from ..manifest import TargetSpec
from ..tvm_abi import Module
from .architectures import check_architecture
from .cublas import register_gemm
from .device import open_device
from .machine import Machine, load_tvm
from .plan import Fed, Handle, Key, Means, Plan, Stated
from .staging import Feeding, Fetching, placed
from .values import values_on

GRAPH_SWITCH = "FLUIDC_CUDA_GRAPH"

PLANS = 32
"""Functions and sizes of arguments that an engine remembers; beyond, what was not called for longest goes."""


class CudaEngine:
    """A compiled module on a CUDA device (``runtime.engine.Engine``).

    All engines of a process work on a device in one stream, one after the other, and share state there.

    Args:
        module: The shared library as bytes or as a path, or a module that was made in this process.
        target: What it was compiled for, whose architectures are compared with the device; None trusts it.
        device: The device's number.
        graphs: Whether work is captured and launched as a whole; None: unless FLUIDC_CUDA_GRAPH is 0.

    Attributes:
        device: Where it runs.

    Raises EngineError: there is no driver, it is too old, there is no such device, the device does not execute this
    code, a library is not installed, or the module does not load.
    """

    def __init__(
        self,
        module: bytes | Path | str | Module,
        target: TargetSpec | None = None,
        device: int = 0,
        *,
        graphs: bool | None = None,
    ) -> None:
        self.device = open_device(device)
        if target is not None:
            check_architecture(target, self.device.capability, self.device.name)
        load_tvm()
        register_gemm()
        with self.device.used():
            machine = Machine(module, self.device)
        captured = os.environ.get(GRAPH_SWITCH, "1") != "0" if graphs is None else graphs
        self._means = Means(self.device, machine, Fetching(self.device), captured, set())
        self._feeding: Feeding | None = None
        self._plans: OrderedDict[Key, Plan] = OrderedDict()

    @property
    def in_place(self) -> bool:
        """State is written on the device."""
        return False

    def tensor(self, array: Array, *, secret: bool = False) -> Handle:
        """Wrap an array, which every call copies.

        Raises ValueError unless the array is C-contiguous and 64-byte aligned.
        """
        if array.__array_interface__["data"][0] % ALIGNMENT or not array.flags.c_contiguous:
            raise ValueError("an engine takes C-contiguous arrays on 64-byte boundaries; see `engine.aligned`")
        return Fed(array, secret)

    def state(self, buffer: Buffer) -> Handle:
        """A buffer with memory on the device.  Raises EngineError when that is used up."""
        return Stated(buffer, values_on(self.device, buffer))

    def call(self, function: str, arguments: Sequence[Handle]) -> list[Array]:
        """Run one function; returns its fetches as new arrays.

        Without fetches it may return before the work has ended, and a failure of the device is then told by a later
        call.  State is as before after a call that was refused, and after a first one that found too little memory,
        if the device had room for a copy of it; after a failure of the device it is lost.

        Raises EngineError when there is no such function, an argument does not fit, memory is used up, or the device
        fails.
        """
        key: Key = (function, *(argument.key for argument in arguments))
        with self.device.used():
            plan = self._plans.get(key)
            if plan is None:
                plan = self._plans[key] = Plan(self._means, function, arguments, self._room(arguments))
                if len(self._plans) > PLANS:
                    self._plans.popitem(last=False)
            else:
                self._plans.move_to_end(key)
            return plan.call(arguments)

    def _room(self, arguments: Sequence[Handle]) -> Feeding:
        """Memory for what is fed; plans that were made before keep theirs."""
        _, size = placed([argument.array for argument in arguments if isinstance(argument, Fed)])
        if self._feeding is None or size > self._feeding.capacity:
            self._feeding = Feeding(self.device, size)
        return self._feeding
