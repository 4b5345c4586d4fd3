"""run.py of a bundle: what it refuses before it loads anything, and that every Python can read it."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bundles import artifact, bare_python, run, write_data

from fluidc.frontend.bundle import bundle_of, launcher, write_folder
from fluidc.runtime.artifact import Artifact

OLD = [f"python{version}" for version in ("2.7", "3.6", "3.8", "3.10")]
SOURCE = Path(launcher.__file__).read_text()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, which tests copy before they change it."""
    folder = tmp_path_factory.mktemp("bundle")
    (folder / "digits.fluidc").write_bytes(artifact("cpu", False))
    write_folder(bundle_of(folder / "digits.fluidc"), folder / "made")
    return folder / "made"


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "copy")


def inspected(bundle: Path, python: Path | str = sys.executable) -> tuple[int, str]:
    """Exit code of `inspect`, and what is on standard error."""
    done = run([python, bundle / "run.py", "inspect"], bundle.parent)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def rewrite(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change bundle.json."""
    manifest = json.loads((bundle / "bundle.json").read_text())
    change(manifest)
    (bundle / "bundle.json").write_text(json.dumps(manifest))


def test_it_runs_from_anywhere(made: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(made)
    assert inspected(tmp_path / "link") == (0, "")


def test_files_beside_it_are_not_imported(copy: Path) -> None:
    for name in ("json", "hashlib", "numpy", "fluidc", "pathlib"):
        (copy / f"{name}.py").write_text("raise SystemExit('imported')")
    assert inspected(copy) == (0, "")


# The bundle is not whole ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "member",
    [
        "digits.fluidc",
        "run.py",
        "lib/fluidc/runtime/train.py",
        "lib/fluidc/runtime/lib/libtvm_runtime.so",
        "lib/safetensors/_safetensors_rust.abi3.so",
    ],
)
def test_a_damaged_member(copy: Path, member: str) -> None:
    data = bytearray((copy / member).read_bytes())
    if member == "run.py":
        data += b"# more\n"
    else:
        data[len(data) // 2] ^= 1
    (copy / member).write_bytes(data)
    code, text = inspected(copy)
    assert code == 1
    assert text == (
        f"error: the bundle is damaged: {member} has another SHA-256 than when it was made\n  at {copy}\n"
        "  copy or unpack the bundle again\n"
    )


def test_a_member_that_was_cut_off(copy: Path) -> None:
    path = copy / "lib/fluidc/runtime/lib/libtvm_ffi.so"
    path.write_bytes(path.read_bytes()[:-1])
    assert "libtvm_ffi.so has another SHA-256" in inspected(copy)[1]


def test_a_missing_member(copy: Path) -> None:
    (copy / "lib/fluidc/runtime/model.py").unlink()
    code, text = inspected(copy)
    assert code == 1
    assert "not whole: lib/fluidc/runtime/model.py cannot be read (No such file or directory)" in text


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": 1}', '{"format": 1, "members": []}', '{"format": 1, "members": [1]}']
)
def test_a_damaged_manifest(copy: Path, text: str) -> None:
    (copy / "bundle.json").write_text(text)
    code, found = inspected(copy)
    assert code == 1
    assert "the bundle has no readable bundle.json" in found


def test_a_missing_manifest(copy: Path) -> None:
    (copy / "bundle.json").unlink()
    assert "no readable bundle.json" in inspected(copy)[1]


def test_another_format(copy: Path) -> None:
    rewrite(copy, lambda manifest: manifest.update(format=2))
    assert "the bundle has format 2, this launcher reads format 1" in inspected(copy)[1]


# Another machine, another Python ----------------------------------------------------------------------------


def test_another_machine(copy: Path) -> None:
    rewrite(copy, lambda manifest: manifest.update(machine="riscv64"))
    code, text = inspected(copy)
    assert code == 1
    assert "the bundle's libraries are for Linux on riscv64" in text
    assert f"at Linux on {os.uname().machine}" in text


def test_an_older_c_library(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rewrite(copy, lambda manifest: manifest.update(glibc=[9, 1]))
    assert "the bundle's libraries need glibc 9.1 or newer" in inspected(copy)[1]


def test_another_c_library(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> str:
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(os, "confstr", unknown)
    with pytest.raises(launcher.Refusal, match="this system's C library is another one"):
        launcher.check_machine(launcher.read_manifest(str(made / "bundle.json")))


def test_another_processor(made: Path, tmp_path: Path) -> None:
    """As the runtime says it, before the code is loaded."""
    read = Artifact.read(made / "digits.fluidc")
    target = replace(read.manifest.target, features=(*read.manifest.target.features, "sse99"))
    changed = replace(read, manifest=replace(read.manifest, target=target))
    changed.write(tmp_path / "other.fluidc")
    write_folder(bundle_of(tmp_path / "other.fluidc"), tmp_path / "other")
    data = write_data(tmp_path / "data.npz")
    done = run([sys.executable, "other/run.py", "run", "--data", data, "--steps", 1], tmp_path)
    assert done.returncode == 1
    assert "error: this processor lacks sse99, which the code uses" in done.stderr


@pytest.mark.parametrize(
    ("name", "flags", "what"),
    [("cpython", "t", "this is a free-threaded build"), ("pypy", "", "this is pypy")],
)
def test_another_implementation(monkeypatch: pytest.MonkeyPatch, name: str, flags: str, what: str) -> None:
    monkeypatch.setattr(sys, "implementation", SimpleNamespace(name=name))
    monkeypatch.setattr(sys, "abiflags", flags)
    with pytest.raises(launcher.Refusal, match=rf"the bundle needs CPython 3\.11 or newer, {what}"):
        launcher.check_python({"python": [3, 11]})


def test_an_older_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 4, "final", 0))
    with pytest.raises(launcher.Refusal, match=r"needs CPython 3\.11 or newer, this is Python 3\.10"):
        launcher.check_python({"python": [3, 11]})


def test_old_pythons_can_read_it() -> None:
    ast.parse(SOURCE, feature_version=(3, 4))
    tree = ast.parse(SOURCE)
    assert not any(isinstance(node, (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr)) for node in ast.walk(tree))
    assert not any(node.returns or node.args.kwonlyargs for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("python", OLD)
def test_old_pythons_say_that_they_are(made: Path, python: str) -> None:
    found = shutil.which(python)
    if found is None or subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip(f"there is no {python} here")
    done = subprocess.run([found, made / "run.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"error: the bundle needs CPython 3.11 or newer, this is Python {python[6:]}\n" in done.stderr


# Packages ---------------------------------------------------------------------------------------------------


def test_numpy_is_missing(made: Path, tmp_path: Path) -> None:
    python = bare_python(tmp_path / "bare", [])
    code, text = inspected(made, python)
    assert code == 1
    assert text.startswith(
        "error: numpy cannot be imported, and the bundle needs it (No module named 'numpy')\n  at Py"
    )
    assert f"\n  {python} -m pip install 'numpy>=1.26'\n" in text


def test_numpy_is_too_old(copy: Path) -> None:
    rewrite(copy, lambda manifest: manifest["needs"].update(numpy="9.0"))
    assert "error: the bundle needs numpy 9.0 or newer, this is " in inspected(copy)[1]


def test_onnxruntime_is_missing(tmp_path: Path) -> None:
    """Only what executes the artifact needs it."""
    (tmp_path / "digits.fluidc").write_bytes(artifact("onnx", False))
    write_folder(bundle_of(tmp_path / "digits.fluidc"), tmp_path / "made")
    python = bare_python(tmp_path / "bare", ["numpy"])
    assert inspected(tmp_path / "made", python) == (0, "")
    data = write_data(tmp_path / "data.npz")
    done = run([python, "made/run.py", "run", "--data", data, "--steps", 1], tmp_path)
    assert done.returncode == 1
    assert "error: onnxruntime is not installed, and onnx artifacts run on it" in done.stderr


def test_its_own_packages_come_first(copy: Path, tmp_path: Path) -> None:
    """Whatever else of these names is installed or on PYTHONPATH."""
    for name in ("fluidc", "safetensors"):
        (tmp_path / "other" / name).mkdir(parents=True)
        (tmp_path / "other" / name / "__init__.py").write_text("raise SystemExit('imported')")
    environment = {"PYTHONPATH": str(tmp_path / "other")}
    done = subprocess.run(
        [sys.executable, copy / "run.py", "inspect"], capture_output=True, text=True, check=False, env=environment
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_launcher_is_copied_as_it_is(made: Path) -> None:
    assert hashlib.sha256((made / "run.py").read_bytes()).digest() == hashlib.sha256(SOURCE.encode()).digest()
