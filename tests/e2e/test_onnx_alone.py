"""Exported training steps in ONNX Runtime alone: a script without fluidc trains as the reference target does.

``FLUIDC_BARE_PYTHON`` names an interpreter with numpy and another onnxruntime to run the script in (`make stock`).
"""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import fluidc.frontend as fluid
from fluidc.compiler.codegen.built import BuildOptions
from fluidc.compiler.driver import Source, compile_source
from fluidc.frontend.bench.models import BENCHMARKS
from fluidc.frontend.bench.step import source
from fluidc.frontend.cli.engines import reference_engine
from fluidc.frontend.cli.onnx_file import onnx_file
from fluidc.frontend.cli.source import Request, lowered
from fluidc.runtime.artifact import Artifact
from fluidc.runtime.keystream import key_words, step_model_key
from fluidc.runtime.manifest import numpy_dtype
from fluidc.runtime.model import Model, model_key

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SCRIPT = Path(__file__).resolve().parents[1] / "support" / "bare_onnxruntime.py"
BARE_PYTHON = os.environ.get("FLUIDC_BARE_PYTHON", sys.executable)
KEY, SEED, ROWS, STEPS = bytes(range(32)), 3, 16, 100

Programs = dict[str, Callable[[], Source]]


def benchmark(name: str, *, private: bool) -> Callable[[], Source]:
    return lambda: source(BENCHMARKS[name].small, ROWS, private=private)


def example(name: str, *arguments: str, program: str | None = None) -> Callable[[], Source]:
    return lambda: lowered(Request(EXAMPLES / name, program, arguments)).source


PROGRAMS: Programs = {
    **{name: benchmark(name, private=False) for name in BENCHMARKS},
    **{f"{name} private": benchmark(name, private=True) for name in BENCHMARKS},
    "dpsgd_minimal.py": example("dpsgd_minimal.py"),
    "digits.py:plain": example("digits.py", program="plain"),
    "digits.py": example("digits.py"),
    "fit_a_line.py": example("fit_a_line.py"),
    "rnn_digits.py": example("rnn_digits.py"),
    "lstm_private.py": example("lstm_private.py"),
    "sequence_pool.py": example("sequence_pool.py"),
}


def test_every_script_is_exported() -> None:
    scripts = {path.name for path in EXAMPLES.glob("*.py")} - {
        "demo.py",
        "dygraph_digits.py",
        "train_on_device.py",
        "train_with_onnxruntime.py",
    }
    assert scripts == {name.partition(":")[0] for name in PROGRAMS if ".py" in name}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_hundred_steps(name: str, tmp_path: Path) -> None:
    """Fetches and parameters are those of the reference, to 1e-4."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fluid.PrivacyWarning)
        artifact = compile_source(PROGRAMS[name](), target="reference", batch=ROWS, keep_ir=True).artifact()
    model = onnx_file(artifact, "step", BuildOptions(self_contained=True), SEED)
    strictly_checked(model)
    (tmp_path / "step.onnx").write_bytes(model)
    data = batch(artifact)
    secret = KEY if artifact.manifest.privacy is not None else None
    np.savez(tmp_path / "feeds.npz", allow_pickle=False, **data, **supplied(secret))
    command = [BARE_PYTHON, SCRIPT, "step.onnx", "feeds.npz", str(STEPS), "out.npz"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found, expected = dict(np.load(tmp_path / "out.npz")), trained(artifact, data, STEPS, secret)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert np.isfinite(value).all()
        assert np.abs(found[key] - value).max() <= 1e-4 * np.abs(value).max() + 1e-7, key


def strictly_checked(data: bytes) -> None:
    model = onnx.load_model_from_string(data)
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    assert {opset.domain for opset in model.opset_import} <= {"", "fluidc"}


def batch(artifact: Artifact) -> dict[str, np.ndarray]:
    """A batch of random rows; sequences, where a feed has such, are three tokens long."""
    rng, found = np.random.default_rng(0), dict[str, np.ndarray]()
    for spec in artifact.manifest.feeds:
        shape = [ROWS if dim == "N" else 3 * ROWS if isinstance(dim, str) else dim for dim in spec.shape]
        if spec.name.endswith("@lengths"):
            found[spec.name] = np.full(shape, 3, np.int64)
        elif spec.dtype == "f32":
            found[spec.name] = rng.normal(size=shape).astype(np.float32)
        else:
            values = rng.integers(spec.low or 0, spec.high or 2, shape)
            found[spec.name] = values.astype(numpy_dtype(spec.dtype, spec.name))
    return found


def supplied(secret: bytes | None) -> dict[str, np.ndarray]:
    """What the runtime supplies beside the feeds, for a lot that fills the batch."""
    numbers = model_key(SEED) if secret is None else step_model_key(secret)
    found = {"@mask": np.ones(ROWS, np.bool_), "@key": key_words(secret or KEY), "@rng_key": key_words(numbers)}
    found |= {"@draw": np.zeros((), np.uint64), "@rng_counter": np.zeros((), np.uint64)}
    return found | {"@row": np.zeros((), np.int64), "@phase": np.zeros((), np.int64)}


def trained(artifact: Artifact, data: dict[str, np.ndarray], steps: int, secret: bytes | None) -> dict[str, np.ndarray]:
    """Fetches of all steps and the last state on the reference target."""
    model = Model(artifact, reference_engine(artifact), SEED)
    fetched: dict[str, list[np.ndarray]] = {}
    for step in range(steps):
        if secret is None:
            values = model.stepper.run("step", data)
        else:
            values = model.stepper.run_lot(data, key=secret, draw=step)
        for name, value in values.items():
            fetched.setdefault(name, []).append(value)
    written = {output.name for output in artifact.manifest.function("step").outputs if output.kind == "state"}
    return {name: np.stack(found) for name, found in fetched.items()} | {
        name: np.array(model.state[name]) for name in written
    }
