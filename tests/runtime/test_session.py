from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from linear_engine import LinearEngine, TwoSidedEngine, linear_artifact, linear_data
from manifests import POISSON, SHUFFLE
from numpy.typing import NDArray

from fluidc.runtime import train
from fluidc.runtime.artifact import Artifact, PrivacySpec, Trained
from fluidc.runtime.checkpoint import load_checkpoint
from fluidc.runtime.errors import (
    ArtifactError,
    BudgetError,
    CheckpointError,
    DataError,
    EngineError,
    FluidcError,
    LedgerError,
    NumericsError,
    SamplerError,
)
from fluidc.runtime.keystream import Domain, gaussian
from fluidc.runtime.ledger import Ledger, read_ledger
from fluidc.runtime.model import init_key
from fluidc.runtime.progress import StepReport
from fluidc.runtime.sampler import PoissonSampler
from fluidc.runtime.session import Checkpoints, PrivacyWarning, Session

Array = NDArray[Any]
PRIVATE = replace(POISSON, clip=0.7, lot=8.0, sigma=0.5, q_num=1 << 29)  # q = 1/8
DATA = linear_data(90)


@pytest.fixture(autouse=True, params=[LinearEngine, TwoSidedEngine])
def _sides(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test also on an engine that leaves new state away from the session's own arrays."""
    monkeypatch.setitem(globals(), "LinearEngine", request.param)


def plain(batch: int | None = None, **options: Any) -> Session:
    return Session.load(linear_artifact(batch=batch), LinearEngine(), **options)


def private(spec: PrivacySpec = PRIVATE, **options: Any) -> Session:
    return Session.load(linear_artifact(spec, 16), LinearEngine(spec), **options)


def weights(session: Session) -> Array:
    return np.append(session.model.state["w"], session.model.state["b"])


# -- loading ----------------------------------------------------------------------------------------------------------


def test_startup_makes_the_state_from_the_seed() -> None:
    expected = gaussian(init_key(7), domain=Domain.MODEL, tensor=0, draw=0, count=1)
    assert weights(plain())[3] == expected
    assert weights(plain(seed=8))[3] != expected
    fresh = [Session.load(linear_artifact(seed=None), LinearEngine()) for _ in range(2)]
    assert fresh[0].model.seed != fresh[1].model.seed


def test_stored_values_win_over_startup_and_survive_export(tmp_path: Path) -> None:
    session = plain()
    session.train(DATA, steps=5)
    session.export(tmp_path / "trained.fluidc")
    again = Session.load(tmp_path / "trained.fluidc", LinearEngine(), seed=99)
    np.testing.assert_array_equal(weights(again), weights(session))
    assert int(again.model.state["seen"]) == 0  # metric counters are not exported


def test_state_that_nothing_initialises_is_refused() -> None:
    artifact = linear_artifact()
    without = tuple(f for f in artifact.manifest.functions if f.name != "startup")
    with pytest.raises(ArtifactError, match="'w' has no first value"):
        Session.load(replace(artifact, manifest=replace(artifact.manifest, functions=without)), LinearEngine())


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"kind": "reference"}, "the runtime does not contain"),
        ({"kind": "onnx"}, "the artifact holds no code"),
        ({"kind": "cuda"}, "the artifact holds no code"),
        ({"kind": "cpu"}, "the artifact holds no code"),
    ],
)
def test_what_this_runtime_cannot_execute_is_refused(target: dict[str, Any], message: str) -> None:
    artifact = linear_artifact()
    changed = replace(artifact.manifest, target=replace(artifact.manifest.target, **target))
    with pytest.raises(EngineError, match=message):
        Session.load(replace(artifact, manifest=changed))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"triple": "s390x-unknown-linux-gnu"}, "compiled for s390x processors"),
        ({"features": ("avx9000",)}, "this processor lacks avx9000"),
    ],
)
def test_code_for_another_processor_is_refused_before_it_is_loaded(target: dict[str, Any], message: str) -> None:
    artifact = linear_artifact()
    changed = replace(artifact.manifest, target=replace(artifact.manifest.target, kind="cpu", **target))
    with pytest.raises(EngineError, match=message):
        Session.load(Artifact(changed, modules={"module.so": b"never loaded"}))


# -- single calls -----------------------------------------------------------------------------------------------------


def test_run_trains_and_predict_does_not() -> None:
    session = plain()
    first = session.run(DATA)
    assert list(first) == ["loss"]
    assert list(session.run(DATA, ["out", "loss"])) == ["out", "loss"]
    before = weights(session)
    assert session.predict({"x": DATA["x"], "y": DATA["y"]}, ["loss"])["loss"] < first["loss"]
    np.testing.assert_array_equal(weights(session), before)
    assert session.model.step == 2
    with pytest.raises(DataError, match=r"'acc' is not fetched by this artifact[\s\S]*loss, out"):
        session.predict(DATA, ["acc"])


def test_private_run_counts_fed_lots_but_knows_no_epsilon() -> None:
    session = private()
    with pytest.warns(PrivacyWarning, match="lots are fed by the caller"):
        session.run(linear_data(3))
    session.run(linear_data(40))  # warned once
    spent = session.spent()
    assert (spent.steps, spent.so_far, spent.budget) == (2, None, None)
    with pytest.raises(BudgetError, match="unknown: lots were fed by the caller"):
        session.epsilon()


def test_private_noise_never_repeats_from_the_same_seed() -> None:
    results: list[Array] = []
    for _ in range(2):
        session = private(seed=3)
        with pytest.warns(PrivacyWarning):
            session.run(linear_data(3))
        results.append(weights(session))
    assert (results[0] != results[1]).all()


def test_a_lot_that_does_not_fit_is_not_counted() -> None:
    session = private()
    with pytest.warns(PrivacyWarning), pytest.raises(DataError):
        session.run({"x": DATA["x"]})
    assert session.spent().steps == 0


def test_the_budget_ends_fed_lots_too() -> None:
    session = private(replace(PRIVATE, max_steps=10))
    with pytest.warns(PrivacyWarning):
        session.run(DATA)
    for _ in range(9):
        session.run(DATA)
    before = weights(session)
    with pytest.raises(BudgetError, match="budget of 10 steps is used up"):
        session.run(DATA)
    np.testing.assert_array_equal(weights(session), before)


# -- plain training ---------------------------------------------------------------------------------------------------


def test_training_repeats_from_its_seed_and_shuffles_by_default() -> None:
    def train(**options: Any) -> Array:
        session = plain(seed=options.pop("seed", None))
        result = session.train(DATA, epochs=3, batch=20, **options)
        assert (result.step, result.taken, result.examples) == (15, 15, 270)
        return weights(session)

    np.testing.assert_array_equal(train(), train())
    assert (train() != train(seed=8)).any()
    assert (train() != train(sampler="sequential")).any()


def test_sequential_training_is_what_a_loop_over_slices_gives() -> None:
    session, by_hand = plain(), plain()
    session.train(DATA, steps=7, batch=40, sampler="sequential")
    for _ in range(3):
        for start in (0, 40, 80):
            if by_hand.model.step < 7:
                by_hand.run({name: array[start : start + 40] for name, array in DATA.items()})
    np.testing.assert_array_equal(weights(session), weights(by_hand))


def test_a_fixed_batch_leaves_the_tail_out_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    session = plain(batch=40)
    assert session.train(DATA, epochs=1, progress=True).examples == 80
    assert "the last 10 rows of each epoch are left out" in capsys.readouterr().err
    with pytest.raises(DataError, match="batches of 8 rows are wanted, the program was compiled for 40"):
        session.train(DATA, epochs=1, batch=8)
    with pytest.raises(DataError, match="has 30 rows, the program was compiled for batches of 40"):
        session.train(linear_data(30), epochs=1)


def test_training_goes_on_with_a_new_order_and_new_steps() -> None:
    once, twice = plain(), plain()
    once.train(DATA, epochs=2, batch=20)
    twice.train(DATA, epochs=1, batch=20)
    twice.train(DATA, epochs=1, batch=20)
    np.testing.assert_array_equal(weights(once), weights(twice))


BAD_TRAINING: dict[str, tuple[dict[str, Any], type[FluidcError], str]] = {
    "no length": ({}, DataError, "how long to train is not said"),
    "two lengths": ({"epochs": 1, "steps": 1}, DataError, "epochs and steps are both given"),
    "no epochs": ({"epochs": 0}, DataError, "epochs is 0"),
    "no rows": ({"epochs": 1, "batch": -1}, DataError, "batch is -1"),
    "sampler": ({"epochs": 1, "sampler": "poisson"}, SamplerError, "is for private programs"),
    "fetch": ({"epochs": 1, "fetches": ["los"]}, DataError, "'los' is not fetched"),
}


@pytest.mark.parametrize("case", BAD_TRAINING)
def test_wrong_arguments_of_train_are_refused(case: str) -> None:
    options, error, message = BAD_TRAINING[case]
    session = plain()
    with pytest.raises(error, match=message):
        session.train(DATA, **options)
    assert session.model.step == 0


def write_npz(path: Path, **arrays: Array) -> Path:
    np.savez(path, **arrays)  # pyright: ignore[reportArgumentType]
    return path


def test_data_comes_from_npz_and_a_wrong_key_lists_both_sides(tmp_path: Path) -> None:
    good = write_npz(tmp_path / "good.npz", **DATA)
    plain().train(good, steps=1)
    bad = write_npz(tmp_path / "bad.npz", x=DATA["x"], targets=DATA["y"], label=DATA["label"])
    with pytest.raises(DataError) as caught:
        plain().train(bad, steps=1)
    assert caught.value.what == "'y' is not fed; 'targets' is no feed of the program"
    assert caught.value.where == f"{bad}: given 'label', 'targets', 'x'; wanted 'x', 'y', 'label'"


def spoiled(**changed: Array) -> dict[str, Array]:
    return {**DATA, **changed}


BAD_DATA: dict[str, tuple[dict[str, Array], str]] = {
    "rows": (spoiled(y=DATA["y"][:80]), r"'x' has 90, 'y' has 80, 'label' has 90"),
    "dtype": (spoiled(x=DATA["x"].astype(np.float64)), r"'x' is float64"),
    "label": (spoiled(label=np.where(np.arange(90) == 61, 5, DATA["label"][:, 0])[:, None]), "holds 5 in row 61"),
    "empty": ({name: array[:0] for name, array in DATA.items()}, "the data set has no rows"),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_data_that_does_not_fit_is_refused_before_the_first_step(case: str) -> None:
    data, message = BAD_DATA[case]
    session = plain()
    with pytest.raises(DataError, match=message):
        session.train(data, steps=1, batch=4)
    assert session.model.step == 0


def test_files_that_are_no_data_sets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        plain().train(tmp_path / "none.npz", steps=1)
    (tmp_path / "text.npz").write_text("x,y\n1,2\n")
    with pytest.raises(DataError, match=r"not a \.npz archive of plain arrays"):
        plain().train(tmp_path / "text.npz", steps=1)
    np.save(tmp_path / "one.npy", DATA["x"])
    with pytest.raises(DataError, match="one array without a name"):
        plain().train(tmp_path / "one.npy", steps=1)
    objects = write_npz(tmp_path / "objects.npz", **spoiled(x=np.array([{}] * 90)))
    with pytest.raises(DataError, match="arrays of Python objects are not accepted"):
        plain().train(objects, steps=1)


def test_evaluation_weights_chunks_by_their_rows() -> None:
    data = linear_data(2500)
    session = plain()
    session.train(data, epochs=1)
    before = weights(session)
    result = session.evaluate(data)
    out = data["x"].astype(np.float64) @ before[:3] + before[3]
    assert result.rows == 2500
    assert not result.private
    np.testing.assert_allclose(result.values["loss"], ((out - data["y"][:, 0]) ** 2).mean(), rtol=1e-5)
    np.testing.assert_array_equal(weights(session), before)
    np.testing.assert_allclose(session.predict_all(data)["out"][:, 0], out, rtol=1e-4, atol=1e-5)
    with pytest.raises(DataError, match="'out' is no scalar"):
        session.evaluate(data, ["out"])
    with pytest.raises(DataError, match="'loss' is one value for the whole batch"):
        session.predict_all(data, ["loss"])


def test_a_step_that_makes_nan_is_undone_and_named() -> None:
    data = spoiled(x=DATA["x"].copy())
    data["x"][50] = np.nan
    session, reference = plain(), plain()
    with pytest.raises(NumericsError) as caught:
        session.train(data, steps=20, batch=10, sampler="sequential", check_numerics=True)
    assert caught.value.what == "the parameter 'w' became NaN or infinite"
    assert caught.value.where == "step 6"
    reference.train(data, steps=5, batch=10, sampler="sequential")
    for name, array in session.model.state.items():
        np.testing.assert_array_equal(array, reference.model.state[name])
    assert session.model.stepper.rng_counter == reference.model.stepper.rng_counter == 5
    assert session.model.sampler == reference.model.sampler


def test_a_fetched_loss_that_is_nan_counts_in_plain_programs_only() -> None:
    data = spoiled(y=np.full_like(DATA["y"], 3e30))  # the square overflows, the gradient does not
    with np.errstate(over="ignore"), pytest.raises(NumericsError, match="fetched value 'loss'"):
        plain().train(data, steps=1, batch=10, check_numerics=True)
    session = private()
    with np.errstate(over="ignore"), pytest.warns(PrivacyWarning):
        session.train(data, steps=1, check_numerics=True)
    assert session.model.step == 1


# -- checkpoints ------------------------------------------------------------------------------------------------------


def test_a_resumed_run_is_the_run_that_never_stopped(tmp_path: Path) -> None:
    whole = plain()
    whole.train(DATA, steps=23, batch=20)
    first = plain(seed=7)
    first.train(DATA, steps=13, batch=20, checkpoints=Checkpoints(tmp_path, every_steps=4, keep=2))
    assert sorted(p.name for p in tmp_path.glob("step-*")) == ["step-000012.safetensors", "step-000013.safetensors"]
    second = Session.load(linear_artifact(), LinearEngine(), seed=1234)  # the checkpoint knows the seed
    result = second.train(DATA, steps=23, resume=True, checkpoints=Checkpoints(tmp_path))
    assert (result.step, result.taken) == (23, 10)
    for name, array in second.model.state.items():
        np.testing.assert_array_equal(array, whole.model.state[name])
    assert second.model.stepper.rng_counter == whole.model.stepper.rng_counter


def test_save_and_resume_by_hand(tmp_path: Path) -> None:
    whole, first, second = plain(), plain(), plain(seed=5)
    whole.train(DATA, steps=9, batch=20)
    first.train(DATA, steps=6, batch=20)
    path = first.save(tmp_path / "deep" / "folder")
    assert load_checkpoint(path, linear_artifact().sha256()).meta.step == 6
    second.resume(tmp_path / "deep" / "folder")
    second.train(DATA, steps=3, batch=20)
    np.testing.assert_array_equal(weights(second), weights(whole))
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        plain().resume(tmp_path)


def test_a_run_is_not_resumed_differently_nor_overwritten(tmp_path: Path) -> None:
    plain().train(DATA, steps=3, batch=20, checkpoints=Checkpoints(tmp_path, every_steps=1))
    with pytest.raises(CheckpointError, match=r"batches of 20 from 90 rows .* to go on with batches of 30"):
        plain().train(DATA, steps=5, batch=30, resume=True, checkpoints=Checkpoints(tmp_path))
    with pytest.raises(CheckpointError, match="to go on with batches of 20 from 40 rows"):
        plain().train(linear_data(40), steps=5, resume=True, checkpoints=Checkpoints(tmp_path))
    with pytest.raises(CheckpointError, match="holds an earlier run"):
        plain().train(DATA, steps=5, checkpoints=Checkpoints(tmp_path, every_steps=1))


def test_seconds_between_checkpoints(tmp_path: Path) -> None:
    plain().train(DATA, steps=3, checkpoints=Checkpoints(tmp_path, every_seconds=1e-9, keep=9))
    assert len(list(tmp_path.glob("step-*"))) == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_the_step_with_a_checkpoint(number: int, tmp_path: Path) -> None:
    def stop(report: StepReport) -> None:
        if report.step == 4:
            os.kill(os.getpid(), number)

    session, before = plain(), signal.getsignal(number)
    result = session.train(DATA, steps=50, batch=20, checkpoints=Checkpoints(tmp_path), callback=stop)
    assert result.interrupted
    # The callback runs after the step was over: the signal ends the next one.
    assert result.step in (4, 5)
    assert result.checkpoint == tmp_path / f"step-{result.step:06d}.safetensors"
    assert signal.getsignal(number) is before
    whole, again = plain(), plain()
    whole.train(DATA, steps=12, batch=20)
    again.train(DATA, steps=12, resume=True, checkpoints=Checkpoints(tmp_path))
    np.testing.assert_array_equal(weights(again), weights(whole))


def test_without_checkpoints_an_interrupt_is_an_interrupt() -> None:
    def stop(report: StepReport) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        plain().train(DATA, steps=3, callback=stop)


# -- private training -------------------------------------------------------------------------------------------------


def test_private_training_draws_poisson_lots_and_spends_the_whole_budget_by_default(tmp_path: Path) -> None:
    session = private()
    rows: list[int | None] = []
    result = session.train(DATA, run_dir=tmp_path, callback=lambda r: rows.append(r.rows))
    assert result.step == 100
    assert result.examples is None
    assert rows == [None] * 100  # lot sizes are not for callbacks
    assert result.spent is not None
    assert result.spent.steps == 100
    assert result.spent.so_far == result.spent.budget == PRIVATE.epsilon(100, 1e-5)
    assert session.epsilon() == PRIVATE.epsilon(100, 1e-5)
    assert 40 < int(session.model.state["seen"]) / 100 * 8 < 140  # mean lot 90/8
    _, reading = read_ledger(tmp_path)
    assert reading.totals.steps == 100
    with pytest.raises(BudgetError, match="budget of 100 steps is used up"):
        private().train(DATA, run_dir=tmp_path)


def test_every_lot_is_counted_on_disk_before_it_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    draw, key = PoissonSampler.next_lot, train.fresh_key

    def drawing(sampler: PoissonSampler, phase: int = 0) -> Any:
        counted.append(read_ledger(tmp_path)[1].totals.steps)
        return draw(sampler, phase)

    def keyed() -> bytes:
        if counted:  # the first key is the sampler's
            assert read_ledger(tmp_path)[1].totals.steps >= len(counted)
        return key()

    monkeypatch.setattr(PoissonSampler, "next_lot", drawing)
    monkeypatch.setattr(train, "fresh_key", keyed)
    private().train(DATA, steps=12, run_dir=tmp_path)
    assert len(counted) == 12
    assert counted[0] == 1
    assert all(on_disk >= begun for begun, on_disk in enumerate(counted, start=1))


def test_a_crash_between_steps_leaves_every_taken_step_counted(tmp_path: Path) -> None:
    support = Path(__file__).parents[1] / "support"
    code = f"""
        import os, sys, warnings
        sys.path.insert(0, {str(support)!r})
        from dataclasses import replace
        from fluidc.runtime.session import Session
        from linear_engine import LinearEngine, linear_artifact, linear_data
        from manifests import POISSON
        spec = replace(POISSON, clip=0.7, lot=8.0, sigma=0.5, q_num=1 << 29)
        session = Session.load(linear_artifact(spec, 16), LinearEngine(spec))
        session.train(linear_data(90), run_dir={str(tmp_path)!r}, callback=lambda r: r.step == 7 and os._exit(9))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert done.returncode == 9
    with Ledger.open(tmp_path, PRIVATE) as ledger:
        assert 7 <= ledger.steps <= 100


def test_steps_beyond_the_budget_are_refused_before_any_is_taken(tmp_path: Path) -> None:
    session = private()
    session.train(DATA, steps=60, run_dir=tmp_path)
    before = weights(session)
    with pytest.raises(BudgetError, match="60 steps are wanted, the privacy budget has 40 of 100 left"):
        session.train(DATA, steps=60, run_dir=tmp_path)
    np.testing.assert_array_equal(weights(session), before)
    session.train(DATA, epochs=5, run_dir=tmp_path)  # 5 epochs are 40 steps at q = 1/8
    assert session.spent().steps == 100


def test_an_epoch_of_private_training_does_not_look_at_the_data_size(tmp_path: Path) -> None:
    assert private().train(linear_data(5), epochs=1, run_dir=tmp_path / "a").step == 8
    assert private().train(linear_data(500), epochs=1, run_dir=tmp_path / "b").step == 8
    unstated = replace(PRIVATE, accounting="none", table=(), q_num=None, reason="dataset_size not stated",
                       accountant="", accountant_version="")  # fmt: skip
    with pytest.raises(BudgetError, match="the sampling rate is not stated"):
        private(unstated).train(DATA, epochs=1, run_dir=tmp_path / "c")


def test_data_of_another_size_than_stated_is_mentioned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    private().train(linear_data(64), steps=1, run_dir=tmp_path / "a", progress=True)  # q n = 8 = L
    assert "on average" not in capsys.readouterr().err
    private().train(linear_data(90), steps=1, run_dir=tmp_path / "b", progress=True)
    assert "lots of these 90 rows hold 11.2 examples on average, batch_size is 8" in capsys.readouterr().err


def test_private_resume_counts_its_steps_and_needs_its_ledger(tmp_path: Path) -> None:
    run_dir, kept = tmp_path / "run", Checkpoints(tmp_path / "checkpoints", every_steps=5)
    first = private()
    first.train(DATA, steps=30, run_dir=run_dir, checkpoints=kept)
    second = private()
    result = second.train(DATA, steps=50, run_dir=run_dir, checkpoints=kept, resume=True)
    assert (result.step, result.taken) == (50, 20)
    assert result.spent is not None
    assert result.spent.steps == 50
    third = private()
    with pytest.raises(LedgerError, match="took steps that this privacy ledger does not count"):
        third.train(DATA, steps=60, run_dir=tmp_path / "other", checkpoints=kept, resume=True)
    with pytest.raises(LedgerError, match="counted in a ledger on disk"):
        third.train(DATA, steps=1)
    with pytest.raises(LedgerError, match="need its ledger on disk"):
        private().train(DATA, steps=1, checkpoints=Checkpoints(tmp_path / "new"))


def test_steps_lost_in_a_crash_shorten_a_resumed_run(tmp_path: Path) -> None:
    run_dir, kept = tmp_path / "run", Checkpoints(tmp_path / "checkpoints", every_steps=10)
    private().train(DATA, steps=90, run_dir=run_dir, checkpoints=kept)
    for path in sorted(kept.directory.glob("step-*"))[-2:]:
        path.unlink()
    result = private().train(DATA, steps=100, run_dir=run_dir, checkpoints=kept, resume=True)
    assert result.step == 80  # from 70: the last 10 steps of the budget
    assert result.spent is not None
    assert result.spent.steps == 100


def test_private_state_is_not_saved_without_its_ledger(tmp_path: Path) -> None:
    session = private()
    with pytest.warns(PrivacyWarning, match="in memory only"):
        session.train(DATA, steps=2)
    with pytest.raises(LedgerError, match="counted in memory only"):
        session.save(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert session.epsilon() == PRIVATE.epsilon(2, 1e-5)


def test_metric_counters_of_a_private_program_stay_out_of_checkpoints(tmp_path: Path) -> None:
    session = private()
    session.train(DATA, steps=2, run_dir=tmp_path / "run")
    path = session.save(tmp_path / "saved")
    state = load_checkpoint(path, session.model.artifact_sha256).state
    assert sorted(state) == ["b", "w"]


def test_callbacks_see_public_values_unless_the_ledger_says_otherwise(tmp_path: Path) -> None:
    seen: list[StepReport] = []
    session = private()
    session.train(DATA, steps=2, run_dir=tmp_path, fetches=["loss", "w_sum"], callback=seen.append)
    assert [sorted(r.fetches) for r in seen] == [["w_sum"], ["w_sum"]]
    assert seen[0].examples_per_second is None
    assert session.spent().taints == ()
    session.train(
        DATA, steps=1, run_dir=tmp_path, fetches=["loss", "w_sum"], callback=seen.append, allow_nonprivate=True
    )
    assert sorted(seen[-1].fetches) == ["loss", "w_sum"]
    assert session.spent().taints == ("a callback saw values that are not private",)


def test_other_samplers_and_batches_are_refused_for_private_programs(tmp_path: Path) -> None:
    with pytest.raises(SamplerError, match="accounted for the poisson sampler, not shuffle"):
        private().train(DATA, sampler="shuffle", run_dir=tmp_path)
    with pytest.raises(DataError, match="batches of 16 rows are wanted"):
        private().train(DATA, batch=16, run_dir=tmp_path)
    assert not list(tmp_path.iterdir())


def test_epochs_of_a_shuffled_private_program_add_up_in_memory_too() -> None:
    spec = replace(SHUFFLE, lot=30.0)
    session = private(spec)
    with pytest.warns(PrivacyWarning):
        session.train(DATA, steps=3)
    assert session.spent().epochs == 1
    session.train(DATA, steps=2)  # a new permutation: a new counted epoch
    assert session.spent().epochs == 2
    session.train(DATA, steps=3)
    with pytest.raises(BudgetError, match="budget of 3 epochs is used up"):
        session.train(DATA, steps=1)


def test_a_run_ends_well_where_its_epochs_are_used_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    session = private(replace(SHUFFLE, lot=30.0))
    kept = Checkpoints(tmp_path / "checkpoints", every_steps=100)
    result = session.train(DATA, steps=20, run_dir=tmp_path / "run", checkpoints=kept, progress=True)
    assert result.step == 9  # 3 epochs of 3 lots
    assert not result.interrupted
    assert result.checkpoint == kept.directory / "step-000009.safetensors"
    assert "training ends after step 9: the privacy budget of 3 epochs is used up" in capsys.readouterr().err
    with pytest.raises(BudgetError, match="budget of 3 epochs is used up"):
        session.train(DATA, steps=1, run_dir=tmp_path / "run")


@pytest.mark.parametrize("seed", [-1, 1 << 64])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(DataError, match="is outside"):
        plain(seed=seed)


def test_a_known_key_repeats_the_run_and_voids_epsilon(tmp_path: Path) -> None:
    results: list[Array] = []
    for name in ("a", "b"):
        with pytest.warns(PrivacyWarning, match="no privacy guarantee"):
            session = private(insecure_noise_key=b"test")
        session.train(DATA, steps=5, run_dir=tmp_path / name)
        results.append(weights(session))
        assert session.spent().reason == "none (seeded)"
        session.export(tmp_path / "trained.fluidc")
        assert Artifact.read(tmp_path / "trained.fluidc").manifest.insecure_noise_key
    np.testing.assert_array_equal(results[0], results[1])


def test_nothing_but_train_draws_counts_epsilon_of_several_ledgers_is_unknown(tmp_path: Path) -> None:
    session = private()
    assert session.epsilon() == 0
    session.train(DATA, steps=3, run_dir=tmp_path / "a")
    with pytest.warns(PrivacyWarning):
        session.run(linear_data(3))
    assert session.spent().steps == 4
    assert session.spent().reason == "unknown: lots were fed by the caller"
    with pytest.raises(BudgetError, match="the program is not private"):
        plain().epsilon()


# -- trained artifacts of private programs -----------------------------------------------------------------------------


def trained_privately(path: Path, steps: int, run_dir: Path | None) -> Session:
    session = private()
    session.train(DATA, steps=steps, run_dir=run_dir)
    session.export(path)
    return session


def further(path: Path) -> Session:
    return Session.load(path, LinearEngine(PRIVATE))


def test_a_trained_artifact_is_trained_further_beside_its_ledger_only(tmp_path: Path) -> None:
    path, run_dir = tmp_path / "trained.fluidc", tmp_path / "run"
    first = trained_privately(path, 60, run_dir)
    manifest = Artifact.read(path).manifest
    assert manifest.trained == Trained(60, first.model.ledger)
    assert manifest.privacy_block_sha256() == private().model.manifest.privacy_block_sha256()

    with pytest.raises(LedgerError) as caught:
        further(path).train(DATA, steps=20, run_dir=tmp_path / "new")
    assert caught.value.what == "the training so far took steps that this privacy ledger does not count"
    assert caught.value.where == str(tmp_path / "new" / "ledger.jsonl")
    assert "run directory of the earlier run (--run-dir)" in str(caught.value)
    assert not (tmp_path / "new").exists()
    private().train(DATA, steps=3, run_dir=tmp_path / "other")
    with pytest.raises(LedgerError, match="does not count"):
        further(path).train(DATA, steps=20, run_dir=tmp_path / "other")
    with pytest.raises(LedgerError, match="counted in a ledger on disk"):
        further(path).train(DATA, steps=20)
    assert len(further(path).predict_all(DATA)["out"]) == 90
    assert further(path).evaluate(DATA).rows == 90

    second = further(path)
    with pytest.raises(BudgetError, match="41 steps are wanted, the privacy budget has 40 of 100 left"):
        second.train(DATA, steps=41, run_dir=run_dir)
    np.testing.assert_array_equal(weights(second), weights(first))
    second.train(DATA, steps=30, run_dir=run_dir)
    assert second.epsilon() == PRIVATE.epsilon(90, 1e-5)
    second.export(tmp_path / "again.fluidc")
    assert Artifact.read(tmp_path / "again.fluidc").manifest.trained == Trained(90, second.model.ledger)


def test_a_ledger_that_was_put_back_is_refused(tmp_path: Path) -> None:
    path, run_dir = tmp_path / "trained.fluidc", tmp_path / "run"
    private().train(DATA, steps=5, run_dir=run_dir)
    older = (run_dir / "ledger.jsonl").read_bytes()
    trained_privately(path, 5, run_dir)
    (run_dir / "ledger.jsonl").write_bytes(older)
    with pytest.raises(LedgerError, match="does not count"):
        further(path).train(DATA, steps=5, run_dir=run_dir)


def test_what_was_counted_in_memory_only_is_not_trained_further(tmp_path: Path) -> None:
    path = tmp_path / "trained.fluidc"
    with pytest.warns(PrivacyWarning, match="in memory only"):
        trained_privately(path, 20, None)
    assert Artifact.read(path).manifest.trained == Trained(20, None)
    for run_dir in (None, tmp_path / "run"):
        with pytest.raises(LedgerError, match="20 private steps are behind this artifact, and they were counted in"):
            further(path).train(DATA, steps=20, run_dir=run_dir)
    assert not (tmp_path / "run").exists()


def test_steps_on_fed_lots_leave_no_ledger_to_go_on_with(tmp_path: Path) -> None:
    session = private()
    session.train(DATA, steps=5, run_dir=tmp_path / "run")
    with pytest.warns(PrivacyWarning, match="lots are fed"):
        session.run(linear_data(3))
    with pytest.raises(LedgerError, match="counted in memory only"):
        session.save(tmp_path / "saved")
    session.export(tmp_path / "trained.fluidc")
    assert Artifact.read(tmp_path / "trained.fluidc").manifest.trained == Trained(6, None)


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.filterwarnings("ignore:privacy is counted in memory only")
def test_an_interrupt_right_after_the_first_step_is_told_of_its_export_too(kept: bool, tmp_path: Path) -> None:
    class Pressed(LinearEngine):
        def call(self, function: str, arguments: Sequence[Array]) -> list[Array]:
            results = super().call(function, arguments)
            if function in ("step", "apply"):
                signal.raise_signal(signal.SIGINT)
            return results

    session = Session.load(linear_artifact(PRIVATE, 16), Pressed(PRIVATE))
    before = weights(session)
    with pytest.raises(KeyboardInterrupt):
        session.train(DATA, steps=5, run_dir=tmp_path / "run" if kept else None)
    assert (weights(session) != before).all()
    assert session.spent().steps >= 1
    assert session.model.export().manifest.trained == Trained(0, session.model.ledger)
    assert (session.model.ledger is not None) == kept


def test_only_private_steps_are_told_of_an_export(tmp_path: Path) -> None:
    session = plain()
    session.train(DATA, steps=5)
    session.export(tmp_path / "plain.fluidc")
    private().export(tmp_path / "untrained.fluidc")
    for name in ("plain", "untrained"):
        assert Artifact.read(tmp_path / f"{name}.fluidc").manifest.trained is None


def test_checkpoints_of_a_trained_artifact_are_resumed_and_exported(tmp_path: Path) -> None:
    path, run_dir = tmp_path / "trained.fluidc", tmp_path / "run"
    trained_privately(path, 20, run_dir)
    kept = Checkpoints(tmp_path / "kept", every_steps=5)
    further(path).train(DATA, steps=10, run_dir=run_dir, checkpoints=kept)
    resumed = further(path)
    resumed.train(DATA, steps=15, run_dir=run_dir, checkpoints=kept, resume=True)
    trained = resumed.model.export().manifest.trained
    assert trained == Trained(35, resumed.model.ledger)
    assert read_ledger(run_dir)[1].totals.steps == 35
