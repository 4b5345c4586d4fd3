"""Libraries: compiled side by side, the same bytes however; kept on disk, and believed only where that is safe."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fluidc.compiler import folders
from fluidc.compiler.codegen import cache as code_cache
from fluidc.compiler.codegen.built import BuildOptions
from fluidc.compiler.codegen.cache import Cache
from fluidc.compiler.codegen.tvm import kept as compiling
from fluidc.compiler.codegen.tvm import link, objects
from fluidc.compiler.codegen.tvm.build import Compiled, compile_module
from fluidc.compiler.codegen.tvm.cpu import CPUS, Options, host_cpu
from fluidc.compiler.errors import TargetError
from fluidc.compiler.ir.core import Function, Module, Output, Param, Value
from fluidc.compiler.ir.location import Loc
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ir.types import DType, TensorType
from fluidc.compiler.ops.construct import OpBuilder
from fluidc.runtime.engine import Engine, aligned_copy
from fluidc.runtime.errors import EngineError
from fluidc.runtime.processor import host_flags

KEY = "0f" * 32
OPTIONS = BuildOptions(threads=2)


def layers(count: int, scale: float = 1.0) -> Module:
    """``count`` products in a row; the inner ones are equal and share a kernel that is called again and again."""
    b = OpBuilder()
    x = Value(TensorType(DType.F32, (8, 16)), "x")
    w = Value(TensorType(DType.F32, (16, 16)), "w")
    h = x
    for _ in range(count):
        h = b.scale(b.matmul(h, w), scale)
    return Module(Stage.TARGET, (), (Function("f", (Param("x", x), Param("w", w)), tuple(b.ops), (Output("y", h),)),))


def kernels(count: int) -> Module:
    """A function per kernel, none like another."""
    functions: list[Function] = []
    for k in range(1, count + 1):
        b = OpBuilder()
        x, w = Value(TensorType(DType.F32, (8, k)), "x"), Value(TensorType(DType.F32, (k, 16)), "w")
        y = b.matmul(x, w)
        functions.append(Function(f"f{k - 1}", (Param("x", x), Param("w", w)), tuple(b.ops), (Output("y", y),)))
    return Module(Stage.TARGET, (), tuple(functions))


def call(engine: Engine, name: str, *arrays: np.ndarray) -> np.ndarray:
    return engine.call(name, [engine.tensor(aligned_copy(a)) for a in arrays])[0]


def inputs() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return rng.normal(size=(8, 16)).astype(np.float32), rng.normal(scale=0.3, size=(16, 16)).astype(np.float32)


# Compiling ------------------------------------------------------------------------------------------------


def test_the_bytes_do_not_depend_on_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    module, options = kernels(20), Options(host_cpu(), 2)
    made: set[bytes] = set()
    for cores in (1, 4, 4):
        monkeypatch.setattr(objects, "available_cores", lambda cores=cores: cores)
        made.add(objects.compile_library(module, options)[0])
    assert len(made) == 1


def test_kernels_of_several_object_files_run() -> None:
    engine = compiling.build(kernels(20), OPTIONS).engine()
    for k in (1, 9, 20):
        x, w = np.ones((8, k), np.float32), np.full((k, 16), 2, np.float32)
        np.testing.assert_array_equal(call(engine, f"f{k - 1}", x, w), 2 * k * np.ones((8, 16)))


def test_a_kernel_that_is_called_again() -> None:
    """One object file calls it several times in another, and the result is that of one object file for all."""
    module, (x, w) = layers(4), inputs()
    found = call(compiling.build(module, OPTIONS).engine(), "f", x, w)
    np.testing.assert_allclose(found, x @ w @ w @ w @ w, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found, call(compile_module(module, Options(host_cpu(), 2)).engine(), "f", x, w))


def test_a_failure_in_a_kernel_reaches_the_caller() -> None:
    with pytest.raises(EngineError, match="refused its arguments"):
        call(compiling.build(layers(2), OPTIONS).engine(), "f", np.ones((8, 3), np.float32), inputs()[1])


def test_without_a_linker_code_runs_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link.shutil, "which", lambda name: None)
    monkeypatch.setattr(link.importlib.util, "find_spec", lambda name: None)
    made = compiling.build(layers(2), OPTIONS)
    assert isinstance(made, Compiled)
    x, w = inputs()
    np.testing.assert_allclose(call(made.engine(), "f", x, w), x @ w @ w, rtol=1e-4, atol=1e-5)


def test_code_for_another_processor_does_not_become_an_engine() -> None:
    own = [cpu for cpu in CPUS.values() if cpu.machine == host_cpu().machine]
    other = max(own, key=lambda cpu: len(set(cpu.features) - host_flags()))
    if host_flags().issuperset(other.features):
        pytest.skip("this processor has all that there is")
    made = compiling.build(layers(1), BuildOptions(other.name, 1))
    with pytest.raises(EngineError, match="this processor lacks"):
        made.engine()


def test_a_full_disk_is_found_before_llvm_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(objects.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(objects.shutil, "disk_usage", lambda folder: SimpleNamespace(free=3_210_000))
    with pytest.raises(TargetError) as caught:
        objects.compile_library(layers(1), Options(host_cpu(), 1))
    assert str(caught.value).splitlines() == [
        "no room to compile: 3.2 MB are free for temporary files",
        f"  at {tmp_path}",
        "  free 34 MB there, or name another folder in TMPDIR",
    ]


# Finding what was compiled --------------------------------------------------------------------------------


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of the cache."""
    monkeypatch.setattr(compiling, "user_cache", lambda: Cache(tmp_path / "code"))
    return tmp_path / "code"


def refuse(*_: object) -> None:
    raise AssertionError("compiled again")


def test_the_second_time_is_not_compiled(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = compiling.build(layers(2), OPTIONS)
    table = first.kernels
    assert table is not None
    assert len(list(kept.iterdir())) == 2
    assert {path.stat().st_mode & 0o777 for path in kept.iterdir()} == {0o600}
    assert kept.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(objects, "compile_library", refuse)
    again = compiling.build(layers(2), OPTIONS)
    assert again.members() == first.members()
    assert again.kernels == table
    x, w = inputs()
    np.testing.assert_array_equal(call(again.engine(), "f", x, w), call(first.engine(), "f", x, w))


def test_what_differs_is_compiled(kept: Path) -> None:
    options = Options(host_cpu(), 2)

    def key(module: Module, options: Options) -> str:
        given = (options.cpu, options.threads)
        return compiling._key("code", module, given, locations=False)  # pyright: ignore[reportPrivateUsage]

    others = [
        (layers(3), options), (layers(2, scale=1.5), options), (layers(2), Options(host_cpu(), 3)),
        (layers(2), Options(CPUS["x86-64-v2"], 2)), (layers(2), Options(CPUS["aarch64"], 2)),
    ]  # fmt: skip
    assert len({key(*other) for other in others} | {key(layers(2), options)}) == 1 + len(others)


def test_moved_lines_are_the_same_code(kept: Path) -> None:
    def at(line: int) -> Module:
        x = Value(TensorType(DType.F32, (8, 16)), "x")
        b = OpBuilder()
        b.scale(x, 2.0)
        op = replace(b.ops[0], loc=Loc("net.py", line, "scale"))
        return Module(Stage.TARGET, (), (Function("f", (Param("x", x),), (op,), (Output("y", op.results[0]),)),))

    def key(kind: str, line: int, *, locations: bool) -> str:
        return compiling._key(kind, at(line), (), locations=locations)  # pyright: ignore[reportPrivateUsage]

    assert key("code", 1, locations=False) == key("code", 2, locations=False)
    assert key("kernels", 1, locations=True) != key("kernels", 2, locations=True)


def test_damaged_code_is_compiled_and_written_again(kept: Path) -> None:
    first = compiling.build(layers(2), OPTIONS).members()
    (path,) = kept.iterdir()
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:50], b"", whole[:-100] + bytes(100), whole + b"\0"):
        path.write_bytes(damaged)
        assert compiling.build(layers(2), OPTIONS).members() == first
        assert path.read_bytes() == whole


FROM_CACHE = """
import sys
import numpy as np
import fluidc.frontend as fluid

x, y = fluid.data("x", [None, 4]), fluid.data("y", [None, 1])
loss = fluid.layers.mean(fluid.layers.square(fluid.layers.fc(x, 1) - y))
fluid.optimizer.SGD(0.1).minimize(loss)
exe = fluid.Executor()
fluid.default_startup_program().random_seed = 1
exe.run(fluid.default_startup_program())
feed = {"x": np.ones((3, 4), "float32"), "y": np.ones((3, 1), "float32")}
print(exe.run(feed=feed, fetch_list=[loss])[0].tobytes().hex(), "tvm" in sys.modules)
"""


def test_a_program_that_is_kept_runs_without_the_compiler(tmp_path: Path) -> None:
    """Two processes, one after the other; the second does not even load TVM's compiler."""
    environment = os.environ | {"FLUIDC_CACHE": str(tmp_path)}
    found = [
        subprocess.run([sys.executable, "-c", FROM_CACHE], env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    (first, loaded), (second, again) = (done.stdout.split() for done in found)
    assert first == second
    assert (loaded, again) == ("True", "False")


# The folder -----------------------------------------------------------------------------------------------


def test_keeps_and_finds(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "new" / "code")
    assert cache.read(KEY) is None
    cache.write(KEY, b"code")
    assert cache.read(KEY) == b"code"
    cache.write(KEY, b"other")
    assert cache.read(KEY) == b"other"
    os.rename(tmp_path / "new" / "code" / KEY, tmp_path / "new" / "code" / ("aa" * 32))
    assert cache.read("aa" * 32) is None, "a file under another name"


def test_no_folder() -> None:
    cache = Cache(None)
    cache.write(KEY, b"code")
    assert cache.read(KEY) is None


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = Cache(tmp_path / "file" / "code")
    cache.write(KEY, b"code")
    assert cache.read(KEY) is None


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_folder_that_others_can_write_to(tmp_path: Path, mode: int) -> None:
    cache = Cache(tmp_path / "code")
    cache.write(KEY, b"code")
    (tmp_path / "code").chmod(mode)
    with pytest.warns(UserWarning, match=r"can be written by others; make the folder yours alone.*FLUIDC_CACHE"):
        assert cache.read(KEY) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it was said already
        cache.write("11" * 32, b"more")
    assert [path.name for path in (tmp_path / "code").iterdir()] == [KEY]


def test_a_folder_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path / "code")
    cache.write(KEY, b"code")
    mine = os.geteuid()
    monkeypatch.setattr(code_cache.os, "geteuid", lambda: mine + 1)
    with pytest.warns(UserWarning, match="belongs to another user"):
        assert cache.read(KEY) is None


def test_files_that_others_can_write_and_links_are_not_believed(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "code")
    cache.write(KEY, b"code")
    path = tmp_path / "code" / KEY
    path.chmod(0o666)
    assert cache.read(KEY) is None
    path.chmod(0o600)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert cache.read(KEY) is None
    cache.write(KEY, b"code")
    assert cache.read(KEY) == b"code"
    (tmp_path / "link").symlink_to(tmp_path / "code")
    assert Cache(tmp_path / "link").read(KEY) is None


def test_a_pipe_in_the_way_is_replaced(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    os.mkfifo(tmp_path / KEY, 0o600)
    assert cache.read(KEY) is None
    cache.write(KEY, b"code")
    assert cache.read(KEY) == b"code"


def test_a_folder_in_the_way_is_replaced_if_it_is_empty(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    (tmp_path / KEY).mkdir()
    assert cache.read(KEY) is None
    cache.write(KEY, b"code")
    assert cache.read(KEY) == b"code"
    other = "aa" * 32
    (tmp_path / other / "something").mkdir(parents=True)
    cache.write(other, b"code")
    assert cache.read(other) is None
    assert {path.name for path in tmp_path.iterdir()} == {KEY, other}
    descriptors = len(os.listdir("/proc/self/fd"))
    assert cache.read(other) is None
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_what_was_not_used_for_longest_goes(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit=3_500)
    keys = [f"{n:064x}" for n in range(4)]
    for age, key in enumerate(keys[:3]):
        cache.write(key, bytes(1000))
        os.utime(tmp_path / key, (age, age))
    assert cache.read(keys[0]) is not None  # used now
    cache.write(keys[3], bytes(1000))
    assert {path.name for path in tmp_path.iterdir()} == {keys[0], keys[2], keys[3]}


def test_leftovers_of_a_killed_compiler_go(tmp_path: Path) -> None:
    for name, age in ((".new-old", 7200), (".new-young", 10)):
        (tmp_path / name).write_bytes(b"half")
        then = time.time() - age
        os.utime(tmp_path / name, (then, then))
    Cache(tmp_path).write(KEY, b"code")
    assert {path.name for path in tmp_path.iterdir()} == {".new-young", KEY}


def test_many_at_a_time(tmp_path: Path) -> None:
    """Writers and readers of the same few keys see whole files or none."""
    cache = Cache(tmp_path / "code", limit=600_000)
    keys = [f"{n:064x}" for n in range(8)]

    def work(number: int) -> None:
        key = keys[number % len(keys)]
        content = key.encode() * 1000
        assert cache.read(key) in (None, content)
        cache.write(key, content)

    with warnings.catch_warnings(), ThreadPoolExecutor(8) as pool:
        warnings.simplefilter("error")
        list(pool.map(work, range(200)))
    assert not [path for path in (tmp_path / "code").iterdir() if path.name.startswith(".")]


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FLUIDC_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert folders.user_folder("code") == tmp_path / "fluidc" / "code"
    monkeypatch.setenv("FLUIDC_CACHE", str(tmp_path / "mine"))
    assert folders.user_folder("code") == tmp_path / "mine" / "code"
    monkeypatch.setenv("FLUIDC_CACHE", "")
    assert folders.user_folder("code") is None
    assert code_cache.user_cache() == Cache(None)
