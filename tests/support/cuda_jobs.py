"""What a `cuda_worker.Worker` runs: kernels written by hand, and modules of TVM."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cuda_device import compile_kernels
from cuda_worker import device


@dataclass(frozen=True)
class Empty:
    """An argument that is a buffer which nothing has written; returned as an array."""

    shape: tuple[int, ...]
    dtype: str = "float32"


def kernel(
    code: str, grid: Sequence[int], block: Sequence[int], arguments: Sequence[np.ndarray | Empty], shared: int = 0,
    checked: bool = True,
) -> list[np.ndarray]:  # fmt: skip
    """Launch the kernel ``k`` of a text; returns its arguments, which are arrays, as they then are."""
    found = device()
    launched = found.kernel(compile_kernels(code, checked=checked), "k")
    like = [np.empty(a.shape, a.dtype) for a in arguments]
    addresses = [found.allocate(x.nbytes) if isinstance(a, Empty) else found.put(a) for a, x in zip(arguments, like)]
    if shared > 49152:
        found.check(found.driver.cuFuncSetAttribute(launched, 8, shared))
    found.launch(launched, grid, block, addresses, shared)
    found.check(found.runtime.cudaDeviceSynchronize())
    return [found.get(address, x) for address, x in zip(addresses, like)]


def library(content: bytes, function: str, arguments: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Call a function of a compiled Relax module, the bytes of its shared library, on the device."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "module.so"
        path.write_bytes(content)
        return call(tvm_for_device().runtime.load_module(str(path)), function, arguments)


def call(module: Any, function: str, arguments: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Call a function of a Relax executable, or of a module loaded from a library."""
    tvm = tvm_for_device()
    from tvm import relax

    place = tvm.cuda(0)
    machine = relax.VirtualMachine(module, place)
    result = machine[function](*(tvm.runtime.tensor(a, place) for a in arguments))
    return [r.numpy() for r in ([result] if hasattr(result, "numpy") else result)]


def tvm_for_device() -> Any:
    """TVM, which compiles for the device."""
    import tvm

    device().register()
    return tvm
