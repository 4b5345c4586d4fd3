"""Small modules of TVM that test the emulated device: a `cuda_worker.Worker` runs these functions."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from cuda_jobs import call, tvm_for_device
from cuda_worker import device

TARGET = {
    "kind": "cuda", "arch": "sm_90", "max_threads_per_block": 1024, "max_shared_memory_per_block": 49152,
    "thread_warp_size": 32,
}  # fmt: skip


def _scheduled(make: Any) -> Any:
    """A Relax function that ``make(builder, ops)`` emits, scheduled by dlight and compiled."""
    tvm = tvm_for_device()
    from tvm import relax
    from tvm.s_tir import dlight

    builder = relax.BlockBuilder()
    make(builder, relax)
    target = tvm.target.Target(TARGET, host="llvm")
    rules = [dlight.gpu.Matmul(), dlight.gpu.Reduction(), dlight.gpu.GeneralReduction(), dlight.gpu.Fallback()]
    r = relax.transform
    with target:
        passes = [
            r.LegalizeOps(),
            r.AnnotateTIROpPattern(),
            r.FuseOps(),
            r.FuseTIR(),
            dlight.ApplyDefaultSchedule(*rules),
        ]
        return tvm.compile(tvm.ir.transform.Sequential(passes)(builder.get()), target=target)


def _layer(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> Any:
    def make(builder: Any, relax: Any) -> None:
        arguments = [relax.Var(n, relax.TensorType(a.shape, "float32")) for n, a in (("x", x), ("w", w), ("b", b))]
        with builder.function("main", arguments):
            with builder.dataflow():
                product = builder.emit(relax.op.matmul(*arguments[:2]))
                active = builder.emit(relax.op.nn.relu(builder.emit(relax.op.add(product, arguments[2]))))
                found = builder.emit_output(relax.op.sum(active, axis=[0]))
            builder.emit_func_output(found)

    return _scheduled(make)


def layer(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> list[np.ndarray]:
    """The sum of the rows of relu(x w + b)."""
    return call(_layer(x, w, b), "main", [x, w, b])


def captured_steps(steps: int) -> dict[str, Any]:
    """Capture the launches of a call, and replay them with other inputs."""
    tvm = tvm_for_device()
    import tvm_ffi
    from tvm import relax

    runtime, place, draw = device().runtime, tvm.cuda(0), np.random.default_rng(0)
    x, w, b = (draw.standard_normal(shape).astype("f4") for shape in ((8, 12), (12, 20), (20,)))
    machine = relax.VirtualMachine(_layer(x, w, b), place)
    held = [tvm.runtime.tensor(a, place) for a in (x, w, b)]
    for _ in range(2):  # warms up: modules are loaded, the pool is filled for a call and for what the last one left
        machine["main"](*held)
    allocated = device().counters()["allocations"]
    stream, graph, ready, nodes = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_size_t()
    check = device().check
    check(runtime.cudaStreamCreate(ctypes.byref(stream)))
    with tvm_ffi.use_raw_stream(place, stream.value or 0):
        check(runtime.cudaStreamBeginCapture(stream, 0))
        result = machine["main"](*held)
        check(runtime.cudaStreamEndCapture(stream, ctypes.byref(graph)))
    check(runtime.cudaGraphGetNodes(graph, None, ctypes.byref(nodes)))
    check(runtime.cudaGraphInstantiate(ctypes.byref(ready), graph, ctypes.c_ulonglong(0)))
    worst = 0.0
    for _ in range(steps):
        x = draw.standard_normal(x.shape).astype("f4")
        held[0].copyfrom(x)
        check(runtime.cudaGraphLaunch(ready, stream))
        check(runtime.cudaStreamSynchronize(stream))
        worst = max(worst, float(np.abs(result.numpy() - np.maximum(x @ w + b, 0).sum(0)).max()))
    return {
        "largest difference": worst,
        "nodes": nodes.value,
        "allocated in the capture": device().counters()["allocations"] - allocated,
    }
