"""Bundles of the digits MLP, and Pythons that have nothing but what a bundle says it needs."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import venv
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from digits_programs import batches, digits

import fluidc.frontend as fluid
from fluidc.compiler.driver import compile_source
from fluidc.frontend.lower import lower

ROWS, LOT, STEPS = 192, 32, 12
PREDICTION = "fc_1.tmp_1"


@cache
def artifact(target: str, private: bool) -> bytes:
    """The digits MLP, by Momentum, or by Dpsgd on Poisson lots with a budget of `STEPS`."""
    optimizer = None
    if private:
        stated = {"dataset_size": ROWS, "delta": 1e-3, "max_steps": STEPS}
        optimizer = fluid.optimizer.Dpsgd(0.5, clip=1.0, batch_size=LOT, sigma=1.0, **stated)
    made = digits(optimizer)
    source = lower(made.main, startup=made.startup, fetches=(made.loss,), infer_fetches=(made.loss, PREDICTION))
    return compile_source(source, target=target, batch=2 * LOT if private else 0, keep_ir=True).artifact().to_bytes()


def write_data(path: Path) -> Path:
    """A data set of `ROWS` digits as .npz."""
    parts = list(batches(ROWS // 64))
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in ("image", "label")}
    np.savez(path, allow_pickle=False, **arrays)
    return path


def bare_python(folder: Path, packages: Sequence[str]) -> Path:
    """A new environment without pip in ``folder``, which sees these packages of the present one and no others."""
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = (folder / "lib").glob("python*/site-packages")
    for name in packages:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.submodule_search_locations
        found = Path(next(iter(spec.submodule_search_locations)))
        for path in (found, found.with_name(f"{name}.libs")):
            if path.exists():
                (site / path.name).symlink_to(path)
    return folder / "bin" / Path(sys.executable).name


def run(command: Sequence[object], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in ``folder``, with nothing of this environment but these variables."""
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={"FLUIDC_THREADS": "1", "TMPDIR": str(folder), "FLUIDC_STATE": str(folder / "state"), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
