"""Small modules of TVM on which `CudaEngine` is tested: run in a `cuda_worker.Worker`."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from cuda_jobs import tvm_for_device
from cuda_tvm import TARGET
from cuda_worker import device

from fluidc.runtime.cuda.engine import CudaEngine
from fluidc.runtime.cuda.staging import Feeding
from fluidc.runtime.engine import Array, Buffer, aligned_copy
from fluidc.runtime.errors import EngineError


def _engine(builder: Any) -> CudaEngine:
    """The functions of a Relax builder, scheduled by dlight's fallback."""
    tvm = tvm_for_device()
    from tvm import relax
    from tvm.s_tir import dlight

    target = tvm.target.Target(TARGET, host="llvm")
    passes = [relax.transform.LegalizeOps(), dlight.ApplyDefaultSchedule(dlight.gpu.Fallback())]
    with target:
        made = tvm.compile(tvm.ir.transform.Sequential(passes)(builder.get()), target=target)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "module.so"
        made.export_library(str(path))
        return CudaEngine(path)


def _relax() -> Any:
    """TVM's package, whose types say less than it takes."""
    tvm_for_device()
    from tvm import relax

    return relax


def looks_at_device_values() -> dict[str, Any]:
    """A function that decides on the host by a value on the device: it cannot be captured."""
    relax = _relax()
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((4,), "float32"))
    flag = relax.Var("flag", relax.TensorType((), "bool"))

    def branch(op: Any) -> Any:
        made = relax.Var("made", x.ty)
        return relax.SeqExpr([relax.BindingBlock([relax.VarBinding(made, op(x, x))])], made)

    with builder.function("main", [x, flag]):
        taken = builder.emit(relax.If(flag, branch(relax.op.add), branch(relax.op.multiply)))
        builder.emit_func_output(relax.Tuple([taken]))
    engine = _engine(builder)
    values, truth = aligned_copy(np.arange(4, dtype=np.float32)), aligned_copy(np.array(True))
    found: list[Array] = []
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for given in (True, False, True, False):
            truth[...] = given
            found.append(engine.call("main", [engine.tensor(values), engine.tensor(truth)])[0])
    return {"found": found, "told": [str(each.message) for each in told]}


def updates_before_it_runs_out_of_memory() -> dict[str, Any]:
    """State that is changed by a call which then finds no memory: given by its owner, and left by a call before."""
    tvm, relax = tvm_for_device(), _relax()
    from tvm.script import tirx as T

    @T.prim_func(s_tir=True)
    def count(state: T.Buffer((4,), "float32")):  # pyright: ignore[reportInvalidTypeForm]
        T.func_attr({"global_symbol": "count", "op_pattern": 8, "tirx.is_scheduled": True})
        for i in T.thread_binding(1, thread="blockIdx.x"):
            for j in T.thread_binding(4, thread="threadIdx.x"):
                with T.sblock("O"):
                    at = T.axis.spatial(4, i * 4 + j)
                    state[at] = state[at] + T.float32(1)

    builder, rows = relax.BlockBuilder(), tvm.tirx.Var("N", "int64")
    w, x = relax.Var("w", relax.TensorType((4,), "float32")), relax.Var("x", relax.TensorType((rows,), "float32"))
    with builder.function("main", [w, x]):
        with builder.dataflow():
            update = builder.add_func(count, "count")
            counted = relax.op.call_tir_inplace(update, relax.Tuple([w]), inplace_indices=[0], out_ty=w.ty)
            after = builder.emit(counted)
            twice = builder.emit(relax.op.add(x, x))
            made = builder.emit_output(relax.Tuple([after, builder.emit(relax.op.sum(twice))]))
        builder.emit_func_output(made)
    engine = _engine(builder)
    engine._feeding = Feeding(engine.device, 1 << 20)
    few, many = (engine.tensor(aligned_copy(np.ones(count, np.float32))) for count in (8, 200_000))
    seen: list[float] = []
    begun: list[int] = []
    for left_by_a_call in (False, True):
        buffer = Buffer(aligned_copy(np.zeros(4, np.float32)))
        handle = engine.state(buffer)
        if left_by_a_call:
            engine.call("main", [handle, few])
        device().check(device().runtime.cudaDeviceSynchronize())
        device().configure(memory=device().counters()["live_bytes"] + (100 << 10))
        device().reset()
        try:
            engine.call("main", [handle, many])
        except EngineError as error:
            begun.append(device().counters()["launches"] if "out of memory" in error.what else -1)
        device().configure(memory=8 << 30)
        seen.append(float(buffer.array[0]))
    return {"seen": seen, "begun": begun}
