"""Training in phases, from a script to a trained artifact: noise, lots, budget and reports of each phase."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import fluidc.frontend as fluid
from fluidc.compiler.codegen.reference import ReferenceEngine
from fluidc.compiler.ir.parser import parse
from fluidc.compiler.ops import OPSET
from fluidc.compiler.privacy import Mechanism, epsilon, inclusion_threshold
from fluidc.frontend.audit.checks import FOR_MUTANTS
from fluidc.frontend.audit.run import audit
from fluidc.frontend.cli import main
from fluidc.frontend.cli.privacy import runs_in
from fluidc.runtime import Session, keystream
from fluidc.runtime.artifact import Artifact
from fluidc.runtime.certificate import verify
from fluidc.runtime.errors import BudgetError
from fluidc.runtime.keystream import Domain
from fluidc.runtime.progress import StepReport
from fluidc.runtime.session import Checkpoints

SCRIPT = """
import fluidc.frontend as fluid

x, y = fluid.layers.data("x", [6]), fluid.layers.data("y", [1], dtype="int64")
logits = fluid.layers.fc(fluid.layers.fc(x, 5, act="tanh"), 3)
loss = fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(logits, y))
fluid.optimizer.Dpsgd(
    1.0, clip=0.5, batch_size=20, delta=1e-3, clipping={clipping!r}, clipping_options={options},
    phases=[
        fluid.privacy.Phase(steps=3, sigma=1.0, sample_rate=0.05),
        fluid.privacy.Phase(steps=4, sigma=2.0, batch_size=40, sample_rate=1.0),
    ],
).minimize(loss)
"""
CLIP, LATE, ALL = 0.5, 3, 7
SIGMAS, LOTS, RATES = [1.0] * 3 + [2.0] * 4, [20.0] * 3 + [40.0] * 4, [0.05] * 3 + [1.0] * 4
RNG = np.random.default_rng(0)
DATA = {"x": RNG.normal(size=(40, 6)).astype("f4"), "y": RNG.integers(0, 3, (40, 1))}
NOBODY = {"x": DATA["x"][:0], "y": DATA["y"][:0]}
SECRET = bytes(range(32))

pytestmark = pytest.mark.filterwarnings("ignore::fluidc.runtime.errors.PrivacyWarning")


def run(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def compiled(folder: Path, target: str = "reference", clipping: str = "flat", options: str = "{}") -> Path:
    folder.mkdir(exist_ok=True)
    script, out = folder / "script.py", folder / "out.fluidc"
    script.write_text(SCRIPT.replace("{clipping!r}", repr(clipping)).replace("{options}", options))
    told = run("compile", script, "-o", out, "--target", target)
    assert "phase 2: 4 steps, L = 40, σ = 2, q = 1" in told
    return out


def loaded(path: Path, secret: bytes | None = None) -> Session:
    artifact = Artifact.read(path)
    here = artifact.manifest.target.kind == "reference"
    engine = ReferenceEngine(parse(artifact.ir["target"], OPSET)) if here else None
    return Session.load(artifact, engine, seed=1, insecure_noise_key=secret)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("phases"))


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("native"), "cpu")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("exported"), "onnx")


def normals(name: str, session: Session, draw: int, count: int) -> np.ndarray:
    spec = session.model.manifest.privacy
    assert spec is not None
    words = keystream.words(
        SECRET,
        domain=Domain.GRADIENT,
        tensor=spec.parameters.index(name),
        draw=draw,
        count_blocks=keystream.blocks_for(count),
    )
    return keystream.normals_from_words(words.reshape(-1), count)


@pytest.mark.parametrize("target", ["artifact", "native", "exported"])
def test_every_step_has_the_noise_of_its_phase(target: str, request: pytest.FixtureRequest) -> None:
    """On an empty lot with learning rate 1 a parameter moves by sigma C z / L."""
    session = loaded(request.getfixturevalue(target))
    state = session.model.state
    for draw in range(ALL):
        before = {name: array.copy() for name, array in state.items()}
        session.model.stepper.run_lot(NOBODY, key=SECRET, draw=draw)
        for name in ("fc_0.w_0", "fc_1.b_0"):
            z = normals(name, session, draw, state[name].size).reshape(state[name].shape)
            moved = before[name] - state[name]
            np.testing.assert_allclose(moved, SIGMAS[draw] * CLIP * z / LOTS[draw], rtol=1e-4, atol=1e-6)
    with pytest.raises(BudgetError, match="step 8 is after the last phase"):
        session.model.stepper.run_lot(NOBODY, key=SECRET, draw=ALL)


def test_the_batch_holds_the_largest_lot(artifact: Path) -> None:
    assert Artifact.read(artifact).manifest.batch == 48


def test_targets_train_alike(artifact: Path, native: Path, exported: Path, tmp_path: Path) -> None:
    found: list[dict[str, np.ndarray]] = []
    for path in (artifact, native, exported):
        with loaded(path, SECRET) as session:
            session.train(DATA, run_dir=tmp_path / path.parent.name)
            found.append({name: array.copy() for name, array in session.model.state.items()})
    for other in found[1:]:
        for name, array in found[0].items():
            np.testing.assert_allclose(other[name], array, rtol=1e-4, atol=1e-5, err_msg=name)


def test_lots_budget_and_resume(artifact: Path, tmp_path: Path) -> None:
    """Lots change their rate with the fourth step, also when a run is taken up in the second phase."""
    rows: list[int] = []
    told: list[float] = []

    def watch(report: StepReport) -> None:
        assert report.rows is not None
        assert report.spent is not None
        assert report.spent.so_far is not None
        rows.append(report.rows)
        told.append(report.spent.so_far)

    options: dict[str, Any] = {"run_dir": tmp_path / "run", "callback": watch, "allow_nonprivate": True}
    checkpoints = Checkpoints(tmp_path / "kept", every_steps=1)
    with loaded(artifact) as session:
        session.train(DATA, steps=5, checkpoints=checkpoints, **options)
    with loaded(artifact) as session:
        result = session.train(DATA, resume=True, checkpoints=checkpoints, **options)
        assert result.step == ALL
        with pytest.raises(BudgetError, match="budget of 7 steps is used up"):
            session.train(DATA, **options)
    assert len(rows) == ALL
    assert all(count < 20 for count in rows[:LATE])
    assert rows[LATE:] == [40] * 4
    spec = Artifact.read(artifact).manifest.privacy
    assert spec is not None
    for taken in range(1, ALL + 1):
        exact = epsilon(_mechanisms(taken, spec.slack), 1e-3)
        assert exact * (1 - 1e-9) <= told[taken - 1] <= exact * 1.05 + 1e-3, taken
    assert sorted(told) == told
    assert runs_in(tmp_path / "run") == _mechanisms(ALL, spec.slack)
    assert "together: ε" in run("privacy", "compose", tmp_path / "run", "--delta", "1e-3")


def _mechanisms(taken: int, slack: float) -> list[tuple[Mechanism, int]]:
    """The first steps, as (mechanism, how many) of each phase that began."""
    counts = {(RATES[n], SIGMAS[n]): SIGMAS[:taken].count(SIGMAS[n]) for n in range(taken)}
    return [
        (Mechanism("poisson", "add-remove", inclusion_threshold(rate), sigma / (1 + slack)), count)
        for (rate, sigma), count in counts.items()
    ]


def test_lost_steps_belong_to_their_phase(artifact: Path, tmp_path: Path) -> None:
    """What was reserved before a crash is counted in the order of the draws: the second phase begins no later."""
    from fluidc.runtime.ledger import Ledger

    spec = Artifact.read(artifact).manifest.privacy
    assert spec is not None
    ledger = Ledger.open(tmp_path / "run", spec)
    ledger.step(ahead=2)
    ledger._log.release()  # the process ends without closing: both steps stay counted
    rows: list[int | None] = []
    with loaded(artifact) as session:
        session.train(
            DATA, run_dir=tmp_path / "run", callback=lambda report: rows.append(report.rows), allow_nonprivate=True
        )
    assert len(rows) == ALL - 2
    assert rows[1:] == [40] * 4


def test_the_second_checker_and_the_reports_know_the_phases(artifact: Path, tmp_path: Path) -> None:
    report = verify(Artifact.read(artifact))
    assert report.ok, report.lines()
    told = run("inspect", artifact)
    assert "phase 1: 3 steps, sigma 1, lot 20, sampling rate 0.05" in told
    assert "phase 2: 4 steps, sigma 2, lot 40, sampling rate 1" in told


@pytest.mark.parametrize("clipping", ["per-group", "automatic"])
def test_other_clipping_modes(clipping: str, tmp_path: Path) -> None:
    script = SCRIPT.replace("clip=0.5", 'clip={"fc_0": 0.3, "fc_1": 0.4}') if clipping == "per-group" else SCRIPT
    text = script.replace("{clipping!r}", repr(clipping)).replace("{options}", "{}")
    (tmp_path / "script.py").write_text(text)
    out = tmp_path / "out.fluidc"
    run("compile", tmp_path / "script.py", "-o", out, "--target", "reference")
    report = verify(Artifact.read(out))
    assert report.ok, report.lines()
    session = loaded(out)
    before = session.model.state["fc_1.b_0"].copy()
    session.model.stepper.run_lot(NOBODY, key=SECRET, draw=4)
    scale = 0.4 * np.sqrt(2) if clipping == "per-group" else CLIP
    z = normals("fc_1.b_0", session, 4, 3)
    np.testing.assert_allclose(before - session.model.state["fc_1.b_0"], 2.0 * scale * z / 40, rtol=1e-4, atol=1e-6)


@pytest.mark.nightly  # half a minute of noise
def test_an_audit_measures_the_noise_of_every_phase(artifact: Path) -> None:
    """Code that goes on with the first phase's noise in the second fails there, and only there."""
    made = Artifact.read(artifact)
    text = made.ir["target"]
    assert "sigmas=(1.0, 2.0)" in text
    failed = _failed(made, text.replace("sigmas=(1.0, 2.0)", "sigmas=(1.0, 1.0)"))
    assert {"noise variance, phase 2", "canary, phase 2"} <= failed
    assert all(name.endswith("phase 2") for name in failed)


def _failed(artifact: Artifact, text: str) -> set[str]:
    checks = audit(artifact, ReferenceEngine(parse(text, OPSET)), FOR_MUTANTS).checks
    return {check.name for check in checks if check.verdict == "failed"}


def test_earlier_runs_count_in(artifact: Path, tmp_path: Path) -> None:
    with loaded(artifact) as session:
        session.train(DATA, steps=4, run_dir=tmp_path / "run")
    told = run(
        "compile", artifact.parent / "script.py", "-o", tmp_path / "again.fluidc", "--target", "reference",
        "--prior", tmp_path / "run",
    )  # fmt: skip
    assert "together with the earlier runs" in told


def test_executor_and_poisson_batches() -> None:
    program, startup = fluid.Program(), fluid.Program()
    with fluid.program_guard(program, startup), fluid.unique_name.guard():
        x = fluid.layers.data("x", [6])
        loss = fluid.layers.mean(fluid.layers.square(fluid.layers.fc(x, 1)))
        phases = [fluid.privacy.Phase(2, 1.0, 5), fluid.privacy.Phase(2, 1.5, 40)]
        fluid.optimizer.Dpsgd(0.1, 1.0, dataset_size=40, delta=1e-3, phases=phases).minimize(loss)
    executor = fluid.Executor(fluid.CPUPlace(), target="reference")
    with fluid.scope_guard(fluid.Scope()):
        executor.run(startup)
        sizes: list[int] = []
        for lot in fluid.privacy.poisson_batches({"x": DATA["x"]}, program):
            sizes.append(len(lot["x"]))
            executor.run(program, feed=lot)
    assert len(sizes) == 4
    assert sizes[2:] == [40, 40]
    assert max(sizes[:2]) < 40
    spent = fluid.privacy.spent(program)
    assert spent.steps == spent.max_steps == 4
    assert spent.epsilon == spent.budget
