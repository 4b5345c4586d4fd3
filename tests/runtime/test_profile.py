"""Functions run kernel by kernel: the same bits as a whole, and what is told of their times."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from small_modules import plain_mlp, private_mlp

import fluidc.frontend as fluid
from fluidc.compiler.codegen.tvm.build import Options, compile_module
from fluidc.compiler.codegen.tvm.cpu import host_cpu
from fluidc.compiler.ir.core import Module
from fluidc.compiler.passes.manager import run_passes
from fluidc.compiler.pipeline import pipeline
from fluidc.frontend.lower import lower
from fluidc.runtime.engine import aligned_copy
from fluidc.runtime.errors import EngineError
from fluidc.runtime.kernels import FusedOp, KernelCall, KernelTable, Work, numpy_shape
from fluidc.runtime.manifest import numpy_dtype
from fluidc.runtime.profile import WARM_UP, FunctionTime, KernelTime, Profile, ProfilingEngine
from fluidc.runtime.profile_report import ProfileReport, check_file, share, unattributed
from fluidc.runtime.roofline import FMA, TRIAD, Roofline, measure
from fluidc.runtime.sizes import Size
from fluidc.runtime.tvm_engine import TvmEngine

Array = NDArray[Any]
SIZES = {"N": 12, "T": 40}


def of_program(build: Callable[[], fluid.Variable], optimizer: fluid.optimizer.Optimizer) -> Module:
    main, startup = fluid.Program(), fluid.Program()
    with fluid.program_guard(main, startup), fluid.unique_name.guard():
        loss = build()
        optimizer.minimize(loss)
    return lower(main, startup=startup, fetches=(loss.name,)).module


def recurrent() -> fluid.Variable:
    """A loop of computed steps, and an embedding."""
    ids = fluid.layers.data("ids", [5, 1], dtype="int64")
    steps = fluid.layers.transpose(fluid.layers.embedding(ids, [7, 6]), [1, 0, 2])
    rnn = fluid.layers.StaticRNN()
    with rnn.step():
        x = rnn.step_input(steps)
        before = rnn.memory(shape=[-1, 4], batch_ref=x)
        after = fluid.layers.fc([x, before], 4, act="tanh")
        rnn.update_memory(before, after)
        rnn.step_output(after)
    hidden = rnn()
    assert isinstance(hidden, fluid.Variable)
    return fluid.layers.mean(fluid.layers.square(hidden))


def ragged() -> fluid.Variable:
    words = fluid.layers.data("words", [1], dtype="int64", lod_level=1)
    pooled = fluid.layers.sequence_pool(fluid.layers.embedding(words, [7, 6]), "average")
    return fluid.layers.mean(fluid.layers.square(fluid.layers.dropout(pooled, 0.3)))


MODULES: dict[str, Callable[[], Module]] = {
    "plain": plain_mlp,
    "private": private_mlp,
    "recurrent": lambda: of_program(recurrent, fluid.optimizer.Adam(0.1)),
    "ragged": lambda: of_program(ragged, fluid.optimizer.Momentum(0.1, 0.9)),
}


def built(module: Module, batch: int = 0) -> tuple[TvmEngine, KernelTable]:
    made = compile_module(run_passes(module, pipeline(module, batch=batch)), Options(host_cpu(), 2))
    return made.engine(), made.kernels


def arguments(table: KernelTable, function: str, sizes: dict[str, int]) -> list[Array]:
    """Numbers of the right kind for every argument: small integers, lengths that add up."""
    found = table.function(function)
    assert found is not None
    rng = np.random.default_rng(0)
    made: list[Array] = []
    for buffer in found.buffers:
        if buffer.kind == "argument":
            shape, dtype = numpy_shape(buffer, sizes), numpy_dtype(buffer.dtype, buffer.name)
            if buffer.name.endswith("@lengths"):
                value = np.diff(np.linspace(0, sizes["T"], shape[0] + 1).astype(dtype))
            elif dtype.kind == "f":
                value = rng.normal(size=shape).astype(dtype)
            else:
                value = rng.integers(0, 2, shape).astype(dtype)
            made.append(aligned_copy(np.asarray(value)))
    return made


@pytest.mark.parametrize("name", MODULES)
def test_kernel_by_kernel_gives_the_same_bits_as_the_whole(name: str) -> None:
    engine, table = built(MODULES[name](), batch=12 if name == "private" else 0)
    clocked = ProfilingEngine(engine, table)
    first = [array.copy() for array in arguments(table, "step", SIZES)]
    results: list[list[Array]] = []
    for run in (engine, clocked, clocked):  # the engine, as a whole, kernel by kernel
        arrays = [aligned_copy(array) for array in first]
        handles = [run.tensor(array) for array in arrays]
        fetched = [run.call("step", handles) for _ in range(1)]
        results.append([*arrays, *fetched[0]])
    assert any(not np.array_equal(a, b) for a, b in zip(first, results[0], strict=False)), "the step changes its state"
    for others in results[1:]:
        for expected, found in zip(results[0], others, strict=True):
            np.testing.assert_array_equal(expected, found)


def test_every_size_has_memory_of_its_own() -> None:
    engine, table = built(plain_mlp())
    clocked = ProfilingEngine(engine, table)
    for rows in (12, 5, 12, 5, 300, 300, 5, 5):
        arrays = arguments(table, "step", {"N": rows})
        expected = engine.call("step", [engine.tensor(aligned_copy(array)) for array in arrays])
        found = clocked.call("step", [engine.tensor(aligned_copy(array)) for array in arrays])
        np.testing.assert_array_equal(expected, found)


def test_what_is_measured() -> None:
    engine, table = built(plain_mlp())
    clocked = ProfilingEngine(engine, table)
    handles = [engine.tensor(array) for array in arguments(table, "step", SIZES)]
    for _ in range(2 * WARM_UP):
        clocked.call("step", handles)
    with pytest.raises(EngineError, match="too short to profile: 4 calls"):
        clocked.profile()
    for _ in range(10):
        clocked.call("step", handles)
    profile = clocked.profile()
    (step,) = profile.functions
    assert len(step.whole) == 5
    assert all(len(times.readings) == 5 for times in step.kernels)
    assert len(step.between) == 10
    kernels = table.function("step")
    assert kernels is not None
    for times, kernel in zip(step.kernels, kernels.kernels, strict=True):
        assert times.kernel is kernel
        assert times.flops == 5 * kernel.work.flops.at(SIZES)
        assert times.moved == 5 * kernel.work.bytes.at(SIZES)
        assert all(0 < reading < 1 for reading in times.readings)
    assert 0 < profile.reading < 50e-6
    assert step.in_kernels == pytest.approx(sum(times.seconds for times in step.kernels))


def test_the_kernels_that_measure_the_machine_compute_what_they_say() -> None:
    engine, table = built(plain_mlp())
    lanes, chunk = table.lanes, 1 << 14
    x = aligned_copy(np.array([0.5, 3.0], np.float32))
    out = aligned_copy(np.zeros(2 * lanes, np.float32))
    engine.kernel(FMA)(engine.tensor(x), 5, 2, engine.tensor(out))
    expected = np.arange(12, dtype=np.float32)
    for _ in range(5):
        expected = expected * np.float32(0.5) + np.float32(3.0)
    np.testing.assert_allclose(out, np.full(2 * lanes, expected.sum()), rtol=1e-6)
    a, b, c = (aligned_copy(np.arange(2 * chunk, dtype=np.float32) * k) for k in (1, 2, 0))
    engine.kernel(TRIAD)(*map(engine.tensor, (a, b)), 2, engine.tensor(c))
    np.testing.assert_array_equal(c, a + 3 * b)


def test_the_machine_is_measured() -> None:
    engine, table = built(plain_mlp())
    found = measure(engine, engine.threads, table.lanes)
    assert 1e9 < found.flops < 1e14
    assert 1e8 < found.bandwidth < 1e13
    assert found.limit(found.ridge) == pytest.approx(found.flops)
    assert found.limit(found.ridge / 2) == pytest.approx(found.flops / 2)
    with pytest.raises(EngineError, match="no kernel 'roofline_gpu'"):
        engine.kernel("roofline_gpu")


# What is told ---------------------------------------------------------------------------------------------


def times(symbol: str, microseconds: float, flops: int, moved: int, integer: int = 0) -> KernelTime:
    ops = (FusedOp("unary.relu", ""), FusedOp("linear.matmul", "a.py:3 fc"))
    work = Work(*map(Size.of, (flops, integer, moved, 0)))
    kernel = KernelCall(symbol, ops, 1, (), (), (), (), Size.of(0), Size.of(0), work)
    readings = [(microseconds - 0.5) * 1e-6, (microseconds + 0.5) * 1e-6]
    return KernelTime(kernel, readings, 2 * flops, 2 * integer, 2 * moved)


KERNELS = (
    times("copy", 10.0, 0, 50_000),  # 5 GB/s
    times("matmul", 100.0, 5_000_000, 100_000),  # 50 GFLOP/s at 50 flop/B
    times("cached", 1.0, 1_000, 20_000),  # 20 GB/s, 1 GFLOP/s
    times("words", 20.0, 10, 1_000, 10_000),
    times("sum", 8.0, 10_000, 40_000),  # 5 GB/s at 0.25 flop/B
)
PROFILE = Profile(
    (FunctionTime("step", KERNELS, whole=[150e-6, 152e-6], between=[3e-6]),),
    Roofline(flops=100e9, bandwidth=10e9, threads=2, lanes=8),
    reading=0.5e-6,
)
TABLE = """\
profile of a.fluidc on 2 threads
machine: 100 GFLOP/s in multiply-adds of 8 lanes, 10.0 GB/s from memory, ridge at 10.0 flop/B

step: 151.0 µs a call, mean of 2 calls
     µs  least  % of call   Mflop     MB  GFLOP/s  GB/s   roofline  kernel  op                at
  100.0   99.5       66.2       5    0.1       50     1       50 %  matmul  linear.matmul +1  a.py:3 fc
   20.0   19.5       13.2  <0.001  0.001   <0.001  0.05    integer  words   linear.matmul +1  a.py:3 fc
   10.0    9.5        6.6       -   0.05        -     5       50 %  copy    linear.matmul +1  a.py:3 fc
    8.0    7.5        5.3    0.01   0.04     1.25     5       50 %  sum     linear.matmul +1  a.py:3 fc
    1.0    0.5        0.7   0.001   0.02        1    20  cache 1 %  cached  linear.matmul +1  a.py:3 fc
  5 kernels take 139.0 µs, one by one in 2 calls; +14.5 µs of a call are not theirs (Python, virtual machine, and \
what one kernel leaves the next)
  33.2 GFLOP/s over the call; 3.0 µs between calls (batches, feeds, progress)

every reading of a kernel holds 0.50 µs of clock and call
"""


def test_the_table() -> None:
    text = "\n".join(ProfileReport("a.fluidc", PROFILE).lines())
    assert text.startswith(TABLE)
    assert "NOT PRIVATE" not in text
    assert next(ProfileReport("a.fluidc", PROFILE, "NOT PRIVATE").lines()).endswith("(NOT PRIVATE)")


def test_kernels_beyond_the_longest_share_a_line() -> None:
    many = tuple(times(f"k{i}", 100.0 - i, 1000, 1000) for i in range(30))
    text = "\n".join(ProfileReport("a", Profile((FunctionTime("step", many),), PROFILE.roofline, 0.0)).lines())
    assert "k23 " in text
    assert "k24 " not in text
    assert "6 others" in text


def test_shares_of_the_roofline() -> None:
    assert [share(each, PROFILE) for each in KERNELS] == ["50 %", "50 %", "cache 1 %", "integer", "50 %"]
    assert unattributed(PROFILE.functions[0], PROFILE) == pytest.approx(151e-6 - 139e-6 + 5 * 0.5e-6)


def test_the_data(tmp_path: Path) -> None:
    ProfileReport("a.fluidc", PROFILE, "NOT PRIVATE").write(tmp_path / "p.json")
    data = json.loads((tmp_path / "p.json").read_text())
    assert data["mark"] == "NOT PRIVATE"
    assert data["roofline"] == {"flops": 100e9, "bandwidth": 10e9, "threads": 2, "lanes": 8}
    (step,) = data["functions"]
    assert step["seconds"] == pytest.approx(151e-6)
    by_name = {kernel["symbol"]: kernel for kernel in step["kernels"]}
    assert by_name["matmul"]["flops"] == 5_000_000
    assert by_name["matmul"]["roofline_share"] == pytest.approx(0.5)
    assert by_name["cached"]["roofline_share"] is None
    assert by_name["words"]["integer"] == 10_000


@pytest.mark.parametrize(("name", "begins"), [("p.png", b"\x89PNG"), ("p.svg", b"<?xml"), ("p.pdf", b"%PDF")])
def test_the_plot(tmp_path: Path, name: str, begins: bytes) -> None:
    pytest.importorskip("matplotlib")
    ProfileReport("a.fluidc", PROFILE).write(tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(begins)
    if name == "p.svg":
        text = (tmp_path / name).read_text()
        assert "<!-- matmul  a.py:3 -->" in text
        assert "<!-- 100 GFLOP/s -->" in text
        assert "<!-- 10 GB/s -->" in text


def test_files_that_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_file(tmp_path / "p.json")
    with pytest.raises(Exception, match=r"a profile is a plot or data, not \.txt"):
        check_file(tmp_path / "p.txt")
    monkeypatch.setattr("fluidc.runtime.profile_report.find_spec", lambda _: None)
    check_file(tmp_path / "p.json")
    with pytest.raises(Exception, match="needs matplotlib") as refused:
        check_file(tmp_path / "p.png")
    assert "pip install matplotlib" in str(refused.value)
