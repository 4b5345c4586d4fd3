"""Bundles on Pythons that have numpy (and onnxruntime for onnx) and nothing else.

What they train, resume and predict has the bits of the installed runtime; no file is read but the bundle's, Python's,
numpy's, the data, and what Linux says about the machine.  ``FLUIDC_OTHER_PYTHONS`` names more interpreters with numpy,
separated by colons, that the cpu bundles are run on (`make other-pythons`).
"""

from __future__ import annotations

import json
import os
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from bundles import PREDICTION, STEPS, artifact, bare_python, run, write_data

from fluidc.frontend.bundle import bundle_of, write_folder
from fluidc.runtime.__main__ import main
from fluidc.runtime.artifact import Artifact

OTHERS = [Path(path) for path in os.environ.get("FLUIDC_OTHER_PYTHONS", "").split(":") if path]
CASES = [(target, private) for target in ("cpu", "onnx") for private in (False, True)]
KEY = ("--insecure-noise-key", "00ff17")


def packages(target: str) -> list[str]:
    """onnxruntime-training's package imports its other dependencies only for training by its own API."""
    return ["numpy", "onnxruntime"] if target == "onnx" else ["numpy"]


class Trained:
    """A run of half the steps, its resumption, and predictions, by some command line in some folder."""

    def __init__(self, folder: Path, private: bool) -> None:
        self.folder = folder
        length = ("--steps", STEPS // 2), ("--steps", STEPS)
        options = ("--data", "data.npz", "--seed", 3, "--checkpoint", "kept", "--checkpoint-every", 2)
        options += ("--run-dir", "ledger", *KEY) if private else ("--batch", 32)
        self.commands = [
            ["run", *options, *length[0], "-o", "half.fluidc"],
            ["run", *options, *length[1], "--resume", "-o", "whole.fluidc"],
            ["predict", "whole.fluidc", "--data", "data.npz", "--fetch", PREDICTION, "-o", "predictions.npz"],
        ]

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything that the run wrote."""
        found: dict[str, np.ndarray] = {}
        for name in ("half", "whole"):
            for key, value in Artifact.read(self.folder / f"{name}.fluidc").state.items():
                found[f"{name} {key}"] = value
        with np.load(self.folder / "predictions.npz") as predictions:
            return found | dict(predictions)


def installed(folder: Path, target: str, private: bool) -> dict[str, np.ndarray]:
    """The same by the runtime that is installed here."""
    made = Trained(folder, private)
    (folder / "digits.fluidc").write_bytes(artifact(target, private))
    write_data(folder / "data.npz")
    for command in made.commands:
        given = [str(part) for part in command]
        if given[0] == "run":
            given.insert(1, "digits.fluidc")
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setenv("FLUIDC_THREADS", "1")
            assert main(given) == 0
    return made.arrays()


def bundled(python: Path, bundle: Path, folder: Path, private: bool) -> dict[str, np.ndarray]:
    """By a bundle, which is told no artifact to train."""
    made = Trained(folder, private)
    write_data(folder / "data.npz")
    for command in made.commands:
        done = run([python, bundle / "run.py", *command], folder)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr
    return made.arrays()


def make_bundle(folder: Path, target: str, private: bool) -> Path:
    path = folder / "digits.fluidc"
    path.write_bytes(artifact(target, private))
    write_folder(bundle_of(path), folder / "bundle")
    path.unlink()
    return folder / "bundle"


@pytest.mark.parametrize(("target", "private"), CASES)
def test_a_bundle_does_what_the_installed_runtime_does(target: str, private: bool, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    python = bare_python(tmp_path / "bare", packages(target))
    for package in ("fluidc", "tvm", "tvm_ffi", "safetensors", "rich", "cryptography", "ml_dtypes", "click", "pip"):
        assert run([python, "-c", f"import {package}"], tmp_path).returncode == 1
    found = bundled(python, make_bundle(tmp_path, target, private), there, private)
    expected = installed(here, target, private)
    assert found.keys() == expected.keys()
    assert len(found) > 8
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name, strict=True)


AUDITED = """
import json, os, runpy, sys
seen = set()
def note(event, arguments):
    if event in ("open", "os.listdir", "os.scandir", "ctypes.dlopen"):
        seen.add(arguments[0])
    elif event == "import" and arguments[1]:
        seen.add(arguments[1])
sys.addaudithook(note)
out, run, *arguments = sys.argv[1:]
sys.argv = [run, *arguments]
sys.path[0] = os.path.dirname(run)
try:
    runpy.run_path(run, run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
mapped = {line.split(None, 5)[5].strip() for line in open("/proc/self/maps") if line.count("/")}
paths = sorted({os.path.realpath(os.fsdecode(each)) for each in seen if isinstance(each, (str, bytes))})
json.dump({"opened": paths, "mapped": sorted(mapped)}, open(out, "w"))
"""


def others(paths: Sequence[str], allowed: Sequence[Path | str]) -> list[str]:
    """The paths that are in none of the allowed folders."""
    return [path for path in paths if not any(Path(path).is_relative_to(folder) for folder in allowed)]


@pytest.mark.parametrize("private", [False, True])
def test_nothing_outside_the_bundle_is_read(private: bool, tmp_path: Path) -> None:
    """Neither opened by Python nor mapped by the system's loader."""
    python = bare_python(tmp_path / "bare", ["numpy"])
    bundle = make_bundle(tmp_path, "cpu", private)
    work = tmp_path / "work"
    work.mkdir()
    (work / "audited.py").write_text(AUDITED)
    write_data(work / "data.npz")
    options = ["--data", "data.npz", "--steps", 3, "-o", "out.fluidc", "--run-dir", "ledger"]
    done = run([python, "audited.py", "seen.json", bundle / "run.py", "run", *options], work)
    assert done.returncode == 0, done.stderr
    seen = json.loads((work / "seen.json").read_text())
    numpy = Path(np.__file__).parent
    own = (bundle, work, numpy, numpy.with_name("numpy.libs"), tmp_path / "bare")
    machine = (sysconfig.get_path("stdlib"), "/proc", "/sys", "/dev")
    assert others(seen["opened"], own + machine) == []
    libraries = (sys.base_prefix, "/lib", "/usr/lib", "/usr/local/lib", "/dev")
    assert others(seen["mapped"], own + libraries) == []
    assert {Path(path).name for path in seen["mapped"]} >= {"libtvm_runtime.so", "libtvm_ffi.so"}
    assert {Path(path).name for path in seen["opened"]} >= {"data.npz", "train.py", "digits.fluidc"}


SMALL_AND_SOON = """
import os, resource, runpy, sys
artifact = runpy.run_path(sys.argv[1])["prepare"]()
import numpy as np
from fluidc.runtime import Session
with np.load("data.npz") as data:
    Session.load(artifact).run({name: data[name][:64] for name in data})
used = resource.getrusage(resource.RUSAGE_SELF)
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(used.ru_utime + used.ru_stime, peak / 1024)
"""


@pytest.mark.parametrize("target", ["cpu", "onnx"])
def test_the_first_step_is_soon_and_small(target: str, tmp_path: Path) -> None:
    """Half a second and 120 MB; the time is the processor's, which other work on the machine hardly changes."""
    bundle = make_bundle(tmp_path, target, False)
    python = bare_python(tmp_path / "bare", packages(target))
    (tmp_path / "step.py").write_text(SMALL_AND_SOON)
    write_data(tmp_path / "data.npz")
    found: list[tuple[float, ...]] = []
    for _ in range(3):
        done = run([python, "step.py", bundle / "run.py"], tmp_path)
        assert done.returncode == 0, done.stderr
        found.append(tuple(map(float, done.stdout.split())))
    assert min(seconds for seconds, _ in found) <= 0.5
    assert max(megabytes for _, megabytes in found) <= 120


@pytest.mark.skipif(not OTHERS, reason="FLUIDC_OTHER_PYTHONS names no interpreters")
@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("python", OTHERS, ids=str)
def test_other_versions_of_python(python: Path, private: bool, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    found = bundled(python, make_bundle(tmp_path, "cpu", private), there, private)
    for name, value in installed(here, "cpu", private).items():
        np.testing.assert_array_equal(found[name], value, err_msg=name, strict=True)
