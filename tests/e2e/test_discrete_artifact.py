"""mechanism="discrete" from script to trained artifact: every command, every sampler, and lots cut into batches."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import fluidc.frontend as fluid
from fluidc.compiler import driver
from fluidc.frontend.cli import main
from fluidc.frontend.cli.engines import choose_engine
from fluidc.frontend.lower import lower
from fluidc.runtime import Session
from fluidc.runtime.artifact import Artifact, ArtifactError
from fluidc.runtime.privacy import SamplerKind

SCRIPT = """
import fluidc.frontend as fluid

x = fluid.layers.data(name="x", shape=[5], dtype="float32")
label = fluid.layers.data(name="label", shape=[1], dtype="int64")
hidden = fluid.layers.fc(x, size=8, act="tanh")
scores = fluid.layers.fc(hidden, size=3, name="scores")
loss = fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(scores, label))
fluid.optimizer.Dpsgd(
    learning_rate=0.5, clip=0.7, batch_size=16.0, sigma=1.0, max_steps=24, dataset_size=90, delta=1e-3,
    mechanism="discrete", sampler="{sampler}",
).minimize(loss)
"""
ROWS = 90
TARGETS = pytest.mark.parametrize("target", ["reference", "cpu"])

pytest.importorskip("tvm")


def fluidc(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="fluidc")
    assert result.exit_code == 0, result.output
    return result


def examples(rows: int = ROWS) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {"x": random.normal(size=(rows, 5)).astype(np.float32), "label": random.integers(0, 3, (rows, 1))}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """Artifacts by target and sampler."""
    folder, made = tmp_path_factory.mktemp("discrete"), {}
    for target, sampler in [
        ("cpu", "poisson"), ("reference", "poisson"), ("reference", "balls"), ("reference", "shuffle"),
        ("reference", "sequential"),
    ]:  # fmt: skip
        script = folder / f"{sampler}.py"
        script.write_text(SCRIPT.format(sampler=sampler))
        made[target, sampler] = folder / f"{target}-{sampler}.fluidc"
        said = fluidc("compile", script, "-o", made[target, sampler], "--target", target, "--fetch", "scores.tmp_1")
        assert "discrete mechanism of 20 grid_bits" in said.stdout
    return made


def loaded(path: Path, seed: int = 3, key: bytes | None = None) -> Session:
    artifact = Artifact.read(path)
    return Session.load(artifact, choose_engine(artifact, None), seed=seed, insecure_noise_key=key)


def parameters(session: Session) -> dict[str, np.ndarray]:
    return {s.name: session.model.state[s.name].copy() for s in session.model.manifest.state if s.trainable}


@TARGETS
def test_commands(target: str, compiled: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    path, data = compiled[target, "poisson"], tmp_path / "data.npz"
    trained, out = tmp_path / "trained.fluidc", tmp_path / "out.npz"
    feeds = examples()
    np.savez(data, x=feeds["x"], label=feeds["label"])
    shown = fluidc("inspect", "--verify", path).stdout
    assert "✓ mechanism     discrete" in shown
    assert "✓ clipping      1 clip group over 4 parameters" in shown
    assert "✓ noise         4 tensors" in shown
    run = ("--data", data, "--checkpoint-every", 2, "--run-dir", tmp_path / "run", "-o", trained)
    assert "4 of 24 steps counted" in fluidc("run", path, *run, "--steps", 4).stdout
    done = fluidc("run", path, *run, "--steps", 7, "--resume", "--report", tmp_path / "page.html").stdout
    assert "7 of 24 steps counted" in done
    assert "mechanism discrete, slack 0" in done
    assert "<td>discrete</td>" in (tmp_path / "page.html").read_text()
    assert "mechanism discrete" in fluidc("inspect", trained).stdout
    assert "trained.fluidc: verified" in fluidc("inspect", "--verify", trained).stdout
    fluidc("predict", trained, "--data", data, "-o", out)
    with np.load(out) as found:
        assert found["scores.tmp_1"].shape == (ROWS, 3)
        assert np.isfinite(found["scores.tmp_1"]).all()


@pytest.mark.parametrize("sampler", ["poisson", "balls", "shuffle", "sequential"])
def test_samplers(sampler: SamplerKind, compiled: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    session = loaded(compiled["reference", sampler])
    before = parameters(session)
    result = session.train(examples(), steps=8, run_dir=tmp_path / "run")
    assert result.spent is not None
    assert (result.taken, result.spent.steps) == (8, 8)
    assert result.spent.so_far is not None
    for name, value in parameters(session).items():
        assert np.isfinite(value).all()
        assert np.all(value != before[name]), name  # noise is on every coordinate


@TARGETS
@pytest.mark.filterwarnings("ignore::fluidc.frontend.PrivacyWarning")
def test_how_a_lot_is_cut_into_batches_changes_no_bit(target: str, compiled: dict[tuple[str, str], Path]) -> None:
    """Lots of up to four physical batches of 16 rows, in any order, with rows that are not finite."""
    random = np.random.default_rng(1)
    lots = [examples(rows) for rows in (61, 17, 16, 33)]
    lots[0]["x"][5], lots[3]["x"][32] = np.nan, np.inf
    found: list[dict[str, np.ndarray]] = []
    for shuffled in (False, True, True):
        session = loaded(compiled[target, "poisson"], key=b"the same noise")
        for lot in lots:
            order = random.permutation(len(lot["x"])) if shuffled else np.arange(len(lot["x"]))
            session.run({name: array[order] for name, array in lot.items()})
        found.append(parameters(session))
    for name, value in found[0].items():
        assert np.isfinite(value).all()
        np.testing.assert_array_equal(value, found[1][name])
        np.testing.assert_array_equal(value, found[2][name])
    assert any(np.any(value != loaded_value) for value, loaded_value in zip(
        found[0].values(), parameters(loaded(compiled[target, "poisson"])).values(), strict=True
    ))  # fmt: skip


def test_noise_is_bound_for_every_parameter_where_a_lot_is_released(compiled: dict[tuple[str, str], Path]) -> None:
    manifest = Artifact.read(compiled["reference", "poisson"]).manifest
    assert manifest.privacy is not None
    noise = {f.name: [b for b in f.inputs if b.kind == "noise"] for f in manifest.functions}
    assert sorted(b.name for b in noise["step"]) == list(manifest.privacy.parameters)
    assert noise["apply"] == noise["step"]
    assert not noise["accumulate"]
    for name, says, change in (
        ("step", "trained without noise", lambda f: [b for b in f.inputs if b != noise["step"][0]]),
        ("apply", "trained without noise", lambda f: [b for b in f.inputs if b.kind != "noise"]),
        ("apply", "occurs twice", lambda f: [*f.inputs, noise["step"][0]]),
        ("accumulate", "outside the functions", lambda f: [*f.inputs, noise["step"][0]]),
        ("infer", "outside the functions", lambda f: [*f.inputs, noise["step"][0]]),
    ):
        functions = [replace(f, inputs=tuple(change(f))) if f.name == name else f for f in manifest.functions]
        with pytest.raises(ArtifactError, match=says):
            replace(manifest, functions=tuple(functions))


def test_gradients_that_fill_the_memory_are_told_before_the_code_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def compile_it(batch: int, mechanism: str) -> list[str]:
        with fluid.program_guard(fluid.Program(), fluid.Program()), fluid.unique_name.guard():
            x = fluid.data("x", [-1, 40], "float32")
            loss = fluid.layers.mean(fluid.layers.square(fluid.layers.fc(x, 256)))
            optimizer = fluid.optimizer.Dpsgd(0.1, clip=1.0, batch_size=8.0, sigma=1.0, mechanism=mechanism)
            optimizer.minimize(loss)
            source = lower(loss.block.program, startup=fluid.default_startup_program())
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            driver.compile_source(source, target="reference", batch=batch)
        return [str(warning.message) for warning in told]

    monkeypatch.setattr(driver, "LARGE", 16 * 41 * 256 * 4)  # 41 x 256 numbers of 4 bytes in each row
    assert compile_it(16, "discrete") == []
    (said,) = compile_it(1 << 16, "discrete")
    assert "take up to 2.6 GiB, 0.04 MiB for each of 65536 rows (mechanism='discrete' rounds" in said
    assert "the largest is [65536, 40, 256]" in said
    assert "--batch" in said
    assert compile_it(1 << 16, "gaussian") == []  # book-keeping stores none
