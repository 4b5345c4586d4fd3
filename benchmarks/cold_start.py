"""Seconds from starting a process to the end of its first training step, its memory, and what has to be on the disk.

python cold_start.py

The digits MLP, plain and private, by a bundle of either target, by fluidc as it is installed, and by PyTorch (private:
Opacus): each in a new process, in turns.  TORCH_PYTHON names an interpreter that has torch and opacus; without it
.venv-peers is taken, which `make bench-peers` makes, or PyTorch is left out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import harness
import numpy as np

from fluidc.compiler.driver import compile_source
from fluidc.frontend.bench.machine import load, machine
from fluidc.frontend.bundle import bundle_of, write_archive, write_folder
from fluidc.frontend.cli.source import Request, lowered
from fluidc.runtime.threads import thread_count

HERE = Path(__file__).resolve().parent
CHILDREN = HERE / "peers" / "cold_start_child.py", HERE / "peers" / "torch_cold_start.py"
ROUNDS, ROWS = 5, 64
TARGETS = {"cpu": ("numpy",), "onnx": ("numpy", "onnxruntime")}


@dataclass
class Contestant:
    """One way of taking a first step.

    Attributes:
        command: prints a line once it has, a JSON object with its peak ``megabytes``, and ``versions`` if it has some.
        folder: MB of what has to be on the disk beside Python, numpy and onnxruntime; None where it was not summed up.
        archive: MB of them compressed.
    """

    command: list[str]
    folder: float | None = None
    archive: float | None = None


def megabytes(folder: Path) -> float:
    """Of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def bare(folder: Path, packages: Sequence[str]) -> Path:
    """A folder from which these packages can be imported and no others."""
    folder.mkdir()
    for name in packages:
        spec = find_spec(name)
        assert spec is not None
        assert spec.submodule_search_locations
        found = Path(next(iter(spec.submodule_search_locations)))
        for path in (found, found.with_name(f"{name}.libs")):
            if path.exists():
                (folder / path.name).symlink_to(path)
    return folder


def installed(package: str) -> float:
    """MB of an installed package."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    return megabytes(Path(next(iter(spec.submodule_search_locations))))


def contestants(folder: Path) -> dict[str, Contestant]:
    """All that can run here, by label."""
    data = folder / "data.npz"
    with_compiler = sum(map(installed, ("tvm", "tvm_ffi", "safetensors")))
    rng = np.random.default_rng(0)
    images, labels = rng.random((ROWS, 64), np.float32), rng.integers(0, 10, (ROWS, 1))
    np.savez(data, allow_pickle=False, image=images, label=labels)
    child = str(CHILDREN[0])
    found: dict[str, Contestant] = {}
    for kind, program in (("plain", "plain"), ("private", None)):
        for target, packages in TARGETS.items():
            path = folder / f"{kind}-{target}.fluidc"
            source = lowered(Request(HERE.parent / "examples" / "digits.py", program, ())).source
            compile_source(source, target=target, batch=512 if kind == "private" else 0).artifact().write(path)
            bundle, place = bundle_of(path), folder / f"{kind}-{target}"
            write_folder(bundle, place)
            archive = write_archive(bundle, folder / f"{kind}-{target}.tar.xz") / 1e6
            packages_at = folder / f"packages-{kind}-{target}"
            command = [sys.executable, "-I", "-S", child, str(bare(packages_at, packages)), str(place), str(data)]
            found[f"{kind}, bundle, {target}"] = Contestant(command, megabytes(place), archive)
            command = [sys.executable, child, "-", str(path), str(data)]
            found[f"{kind}, installed, {target}"] = Contestant(command, with_compiler if target == "cpu" else None)
    torch = Path(os.environ.get("TORCH_PYTHON", HERE.parent / ".venv-peers" / "bin" / "python"))
    if torch.exists():
        where = "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
        place = subprocess.run([torch, "-c", where], capture_output=True, text=True, check=True).stdout.strip()
        for kind in ("plain", "private"):
            command = [str(torch), "-W", "ignore", str(CHILDREN[1]), kind, str(data)]
            found[f"{kind}, PyTorch"] = Contestant(command, megabytes(Path(place)))
    return found


def measured(command: Sequence[str], threads: int) -> tuple[float, dict[str, float | dict[str, str]]]:
    """Seconds until a new process has taken its step, and what it says."""
    settings = {"FLUIDC_THREADS": str(threads), "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    start = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | settings, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = time.perf_counter() - start
    assert process.returncode == 0, command
    return seconds, json.loads(line)


def main() -> None:
    """Measure, print and store."""
    threads, before = thread_count(), load()
    figures: dict[str, dict[str, float | list[float]]] = {}
    versions: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as made:
        everybody = contestants(Path(made))
        seconds: dict[str, list[float]] = {label: [] for label in everybody}
        memory: dict[str, list[float]] = {label: [] for label in everybody}
        for number in range(ROUNDS + 1):
            for label, contestant in everybody.items():
                taken, told = measured(contestant.command, threads)
                if number:  # the first one warms the caches of the disk, and of Python's bytecode
                    seconds[label].append(taken)
                    memory[label].append(float(told["megabytes"]))  # type: ignore[arg-type]
                elif "versions" in told:
                    versions |= told["versions"]  # type: ignore[arg-type]
    for label, contestant in everybody.items():
        figures[label] = {"seconds": median(seconds[label]), "megabytes": median(memory[label]), "all": seconds[label]}
        if contestant.folder is not None:
            figures[label]["folder"] = contestant.folder
        if contestant.archive is not None:
            figures[label]["archive"] = contestant.archive
        told = "  ".join(
            f"{figures[label][name]:8.1f} MB {name}" for name in ("folder", "archive") if name in figures[label]
        )
        print(f"{label:28} {figures[label]['seconds']:7.3f} s  {figures[label]['megabytes']:7.1f} MB memory  {told}")
    harness.save("cold_start", figures, machine(threads, before, versions))


if __name__ == "__main__":
    main()
