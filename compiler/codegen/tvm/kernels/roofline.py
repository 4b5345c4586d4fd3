"""Two kernels that measure the machine an artifact runs on: its arithmetic peak and its memory bandwidth.

They are compiled like the program's own, for the same instructions and vector width, and run on the same threads, so
that a profile compares like with like.  `runtime.roofline` calls them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .....runtime.roofline import ACCUMULATORS, CHUNK, FMA, TRIAD
from ....ir.types import DType
from ..kit import Block, Host, broadcast, const, integer
from ..tvm_api import tirx


def roofline_kernels(host: Host) -> Mapping[str, Any]:
    """The kernels by name."""
    return {FMA: _fma(host), TRIAD: _triad(host)}


def _fma(host: Host) -> Any:
    """``out[task * lanes + j]`` = what ``trips`` rounds of ``a = a * x[0] + x[1]`` make of ``ACCUMULATORS`` vectors,
    which depend on nothing but themselves."""
    block, lanes = Block(host), host.lanes
    x = tirx.decl_buffer((2,), "float32", name="x")
    trips, tasks = tirx.Var("trips", "int64"), tirx.Var("tasks", "int64")
    out = tirx.decl_buffer((tasks * integer(lanes),), "float32", name="out")
    # Without a task nothing is launched: the call then costs what every call costs.
    with block.when(tasks > integer(0)), block.loop(tasks, "task", parallel=True) as task:
        factor = block.let(broadcast(block.read(x, integer(0)), lanes), DType.F32)
        added = block.let(broadcast(block.read(x, integer(1)), lanes), DType.F32)
        registers = [block.register(DType.F32, lanes) for _ in range(ACCUMULATORS)]
        for number, register in enumerate(registers):
            block.put(register, const(float(number), DType.F32, lanes))
        with block.loop(trips, "trip"):
            for register in registers:
                block.put(register, block.get(register) * factor + added)
        total = block.get(registers[0])
        for register in registers[1:]:
            total = total + block.get(register)
        block.write(out, block.simplify(task * integer(lanes)), total)
    return tirx.PrimFunc([x, trips, tasks, out], block.finish()).with_attr("tirx.noalias", True)


def _triad(host: Host) -> Any:
    """``out = x + 3 y`` on ``chunks * CHUNK`` elements: two streams read, one written."""
    block, lanes = Block(host), host.lanes
    chunks = tirx.Var("chunks", "int64")
    count = chunks * integer(CHUNK)
    x, y, out = (tirx.decl_buffer((count,), "float32", name=name) for name in ("x", "y", "out"))
    with block.loop(chunks, "chunk", parallel=True) as chunk, block.loop(CHUNK // lanes, "j") as vector:
        offset = block.simplify(chunk * integer(CHUNK) + vector * integer(lanes))
        value = block.read(x, offset, lanes) + block.read(y, offset, lanes) * const(3.0, DType.F32, lanes)
        block.write(out, offset, value)
    return tirx.PrimFunc([x, y, chunks, out], block.finish()).with_attr("tirx.noalias", True)
