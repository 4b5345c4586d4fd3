"""Clipping modes from a script to a trained artifact: compiled, run from the file, resumed, predicted with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from fluidc.compiler.codegen.reference import ReferenceEngine
from fluidc.compiler.ir.parser import parse
from fluidc.compiler.ops import OPSET
from fluidc.frontend.cli import main
from fluidc.runtime import Session
from fluidc.runtime.artifact import Artifact
from fluidc.runtime.session import Checkpoints

SCRIPT = """
import fluidc.frontend as fluid

x, y = fluid.layers.data("x", [6]), fluid.layers.data("y", [1], dtype="int64")
logits = fluid.layers.fc(fluid.layers.fc(x, 5, act="tanh"), 3)
loss = fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(logits, y))
fluid.optimizer.DpOptimizer(
    fluid.optimizer.Adam(0.05), {clip}, 20.0, 1.0, clipping="{mode}", sample_rate=0.5, delta=1e-3, max_steps=12
).minimize(loss)
"""
CLIPS = {"per-group": '{"fc_0": 1.0, "*_1.?_0": 0.5}', "automatic": "1.0", "quantile": "1.0"}
RNG = np.random.default_rng(0)

pytestmark = pytest.mark.filterwarnings("ignore::fluidc.runtime.errors.PrivacyWarning")
DATA = {"x": RNG.normal(size=(50, 6)).astype("f4"), "y": RNG.integers(0, 3, (50, 1))}


def compiled(mode: str, folder: Path, target: str = "reference") -> Path:
    script, out = folder / "script.py", folder / "out.fluidc"
    script.write_text(SCRIPT.replace("{clip}", CLIPS[mode]).replace("{mode}", mode))
    result = CliRunner().invoke(main, ["compile", str(script), "-o", str(out), "--target", target, "--batch", "16"])
    assert result.exit_code == 0, result.output
    return out


def loaded(path: Path, secret: bytes | None = None) -> Session:
    artifact = Artifact.read(path)
    here = artifact.manifest.target.kind == "reference"
    engine = ReferenceEngine(parse(artifact.ir["target"], OPSET)) if here else None
    return Session.load(artifact, engine, seed=1, insecure_noise_key=secret)


@pytest.mark.parametrize("mode", CLIPS)
def test_lots_beyond_the_batch_train_alike_on_all_targets(mode: str, tmp_path: Path) -> None:
    """Some of the lots take two batches, so accumulate and apply run too."""
    found: list[dict[str, np.ndarray]] = []
    for target in ("reference", "cpu", "onnx"):
        folder = tmp_path / target
        folder.mkdir()
        with loaded(compiled(mode, folder, target), bytes(32)) as session:
            session.train(DATA, steps=12, run_dir=folder / "run")
            found.append({name: array.copy() for name, array in session.model.state.items()})
    for other in found[1:]:
        assert found[0].keys() == other.keys()
        for name, array in found[0].items():
            np.testing.assert_allclose(other[name], array, rtol=1e-4, atol=1e-5, err_msg=name)
    if mode == "quantile":
        assert found[0]["dp_clip_0"][0] != 1.0


def test_the_bound_goes_on_where_a_run_was_left(tmp_path: Path) -> None:
    path = compiled("quantile", tmp_path)
    kept = Checkpoints(tmp_path / "checkpoints", every_steps=1)
    with loaded(path) as session:
        session.train(DATA, steps=5, run_dir=tmp_path / "run", checkpoints=kept)
        before = session.model.state["dp_clip_0"].copy()
    assert before[0] != 1.0
    with loaded(path) as session:
        session.resume(tmp_path / "checkpoints")
        np.testing.assert_array_equal(session.model.state["dp_clip_0"], before)
        session.train(DATA, steps=1, run_dir=tmp_path / "run")
        after = session.model.state["dp_clip_0"].copy()
        session.export(tmp_path / "trained.fluidc")
    assert after[0] != before[0]
    with loaded(tmp_path / "trained.fluidc") as session:
        np.testing.assert_array_equal(session.model.state["dp_clip_0"], after)
