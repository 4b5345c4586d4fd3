"""How many threads a step gets, and engines of different numbers in one process."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from fluidc.runtime import threads
from fluidc.runtime.errors import EngineError
from fluidc.runtime.threads import available_cores, cpu_quota, numpy_threads, thread_count


@pytest.fixture(autouse=True)
def _four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: {0, 1, 2, 5}, raising=False)
    monkeypatch.setattr(threads, "cpu_quota", lambda: None)
    monkeypatch.setattr(threads, "_ENGINE_THREADS", None)
    monkeypatch.delenv("FLUIDC_THREADS", raising=False)


def test_all_cores_of_the_process() -> None:
    assert thread_count() == 4


def test_the_environment_says_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_ENGINE_THREADS", "3")
    assert thread_count() == 3
    monkeypatch.setenv("FLUIDC_THREADS", "2")
    assert thread_count() == 2
    assert thread_count(1) == 1
    monkeypatch.setenv("FLUIDC_THREADS", "")
    assert thread_count() == 3


@pytest.mark.parametrize("text", ["0", "-2", "two", "1.5", "²", "9999999", "٢", " 2 ", "+2", "9" * 5000])
def test_the_environment_says_nonsense(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("FLUIDC_THREADS", text)
    with pytest.raises(EngineError) as caught:
        thread_count()
    assert caught.value.what == f"FLUIDC_THREADS is {text!r}"
    assert caught.value.hint == "give a number from 1 to 1024, or leave it out: this process has 4"


@pytest.mark.parametrize("count", [0, -1, 1025])
def test_an_argument_that_is_no_number_of_threads(count: int) -> None:
    with pytest.raises(EngineError, match=f"threads is {count}"):
        thread_count(count)


def test_more_threads_than_cores() -> None:
    with pytest.warns(UserWarning, match="5 threads on 4 cores: a step waits"):
        assert thread_count(5) == 5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert thread_count(4) == 4


# Control groups -------------------------------------------------------------------------------------------


def files(root: Path, **content: str) -> Path:
    for name, text in content.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_no_control_groups(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) is None


@pytest.mark.parametrize(
    ("content", "cores"),
    [
        ({"sys/fs/cgroup/a/b/cpu.max": "150000 100000\n"}, 1.5),
        ({"sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, None),
        ({"sys/fs/cgroup/a/b/cpu.max": "max 100000", "sys/fs/cgroup/a/cpu.max": "250000 100000"}, 2.5),
        ({"sys/fs/cgroup/a/b/cpu.max": "300000 100000", "sys/fs/cgroup/a/cpu.max": "50000 100000"}, 0.5),
        # A container whose own mount begins at its group.
        ({"sys/fs/cgroup/cpu.max": "200000 100000"}, 2.0),
        ({"sys/fs/cgroup/a/b/cpu.max": "rubbish"}, None),
    ],
)
def test_quota_of_the_second_version(tmp_path: Path, content: dict[str, str], cores: float | None) -> None:
    assert cpu_quota(files(tmp_path, **{"proc/self/cgroup": "0::/a/b\n"}, **content)) == cores


@pytest.mark.parametrize("folder", ["cpu,cpuacct", "cpu"])
@pytest.mark.parametrize(("quota", "cores"), [("130000", 1.3), ("-1", None)])
def test_quota_of_the_first_version(tmp_path: Path, folder: str, quota: str, cores: float | None) -> None:
    group = f"sys/fs/cgroup/{folder}/job"
    files(
        tmp_path,
        **{
            "proc/self/cgroup": "5:memory:/job\n4:cpu,cpuacct:/job\n1:name=systemd:/job\n",
            f"{group}/cpu.cfs_quota_us": quota + "\n",
            f"{group}/cpu.cfs_period_us": "100000\n",
        },
    )
    assert cpu_quota(tmp_path) == cores


@pytest.mark.parametrize(("quota", "cores"), [(None, 4), (0.3, 1), (1.5, 2), (2.0, 2), (9.0, 4)])
def test_quota_is_rounded_up(monkeypatch: pytest.MonkeyPatch, quota: float | None, cores: int) -> None:
    monkeypatch.setattr(threads, "cpu_quota", lambda: quota)
    assert available_cores() == cores


# Engines --------------------------------------------------------------------------------------------------

POOLS = """
import os, sys, threading, warnings
import numpy as np
sys.path.insert(0, sys.argv[1])
from tvm_rules import module_of
from fluidc.compiler.codegen.tvm.build import Options, compile_module
from fluidc.compiler.codegen.tvm.cpu import host_cpu
from fluidc.compiler.ir.types import DType, TensorType
from fluidc.runtime.engine import aligned_copy
from fluidc.runtime.tvm_engine import TvmEngine

types = [TensorType(DType.F32, shape) for shape in ((256, 320), (320, 256), (256, 256))]
module = module_of(types[:2], types[2:], lambda t, x, w: t.matmul(x, w, False, False))
library = compile_module(module, Options(host_cpu(), 2)).members()["module.so"]
rng = np.random.default_rng(0)
x, w = (aligned_copy(rng.normal(size=shape.shape).astype(np.float32)) for shape in types[:2])
warnings.simplefilter("ignore")

def step(engine):
    return engine.call("f", [engine.tensor(x), engine.tensor(w)])[0].tobytes()

def workers():
    return len(os.listdir("/proc/self/task"))

one, alone = TvmEngine(library, 1), workers()
first = step(one)
assert workers() == alone, "one thread needs no pool"
four = TvmEngine(library, 4)
assert step(four) == first
assert workers() == alone + 3
two = TvmEngine(library, 2)
for engine in (two, one, four, two):
    assert step(engine) == first
assert workers() == alone + 3, "one pool for all"
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    assert step(TvmEngine(library, 6)) == first
assert "6 threads are wanted" in str(told[-1].message), told
results = []
other = threading.Thread(target=lambda: results.append(step(two)))
other.start(); other.join()
assert results == [first]
if child := os.fork():
    assert os.waitpid(child, 0)[1] == 0
else:
    # The workers stayed in the parent: nothing may wait for them.
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        late = TvmEngine(library, 2)
    ok = step(two) == first and step(late) == first and "forked after a step" in str(told[-1].message)
    os._exit(0 if ok else 1)
"""


def test_engines_of_different_numbers() -> None:
    """The same bits on 1, 2 and 4 threads in one process; pools are made once; a forked child does not hang."""
    support = str(Path(__file__).parents[1] / "support")
    done = subprocess.run(
        [sys.executable, "-c", POOLS, support], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_numpy_gets_its_share_and_has_it_back() -> None:
    library = threads._openblas()  # pyright: ignore[reportPrivateUsage]
    if library is None:
        pytest.skip("numpy has another BLAS")
    get = library.scipy_openblas_get_num_threads64_
    before = get()
    with numpy_threads(1):
        assert get() == 1
    assert get() == before
