"""``fluid.privacy``: which lots are accounted for, what is counted when, and what people are told."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fluidc.frontend as fluid
from fluidc.compiler.codegen.reference import ReferenceEngine
from fluidc.compiler.privacy import Mechanism, epsilon, inclusion_threshold
from fluidc.frontend.dpsgd import PrivacyWarning
from fluidc.frontend.steps import PrivateSteps
from fluidc.runtime.errors import BudgetError, DataError, FluidcError, LedgerError
from fluidc.runtime.keystream import insecure_key
from fluidc.runtime.sampler import PoissonSampler

ROWS, LOT, STEPS, DELTA = 60, 30, 6, 1e-4
STATED: dict[str, Any] = {"dataset_size": ROWS, "delta": DELTA, "max_steps": STEPS}

pytestmark = pytest.mark.filterwarnings("ignore:poisson_batches. steps are counted in memory")


@dataclass
class Model:
    """A linear model with its data and an executor; every one has a scope of its own."""

    program: fluid.Program
    loss: fluid.Variable
    data: dict[str, np.ndarray]
    exe: fluid.Executor
    scope: fluid.Scope

    def run(self, feed: object) -> np.ndarray:
        (loss,) = self.exe.run(self.program, feed=feed, fetch_list=[self.loss], scope=self.scope)  # type: ignore[arg-type]
        return loss

    def lots(self, run_dir: Path | None = None) -> fluid.privacy.PoissonBatches:
        return fluid.privacy.poisson_batches(self.data, self.program, run_dir)

    def spent(self) -> fluid.privacy.Spent:
        return fluid.privacy.spent(self.program)

    def weights(self) -> np.ndarray:
        return np.array(self.scope.var("w").get_tensor())


def build(*, sigma: float = 1.0, lot: float = LOT, **stated: Any) -> Model:
    main, startup, scope = fluid.Program(), fluid.Program(), fluid.Scope()
    startup.random_seed = 1
    with fluid.program_guard(main, startup), fluid.unique_name.guard():
        x, y = fluid.layers.data("x", [3]), fluid.layers.data("y", [1])
        guess = fluid.layers.fc(x, 1, param_attr=fluid.ParamAttr("w"))
        loss = fluid.layers.mean(fluid.layers.square_error_cost(guess, y))
        fluid.optimizer.Dpsgd(0.1, clip=1.0, batch_size=lot, sigma=sigma, **stated).minimize(loss)
    rng = np.random.default_rng(0)
    data = {"x": rng.normal(size=(ROWS, 3)).astype("f4"), "y": rng.normal(size=(ROWS, 1)).astype("f4")}
    exe = fluid.Executor(target="reference")
    exe.run(startup, scope=scope)
    return Model(main, loss, data, exe, scope)


def test_poisson_batches_take_the_whole_budget_and_no_step_more() -> None:
    model = build(**STATED)
    sizes = [len(lot["x"]) for lot in model.lots() if model.run(lot).shape == (1,)]
    assert len(sizes) == STEPS
    assert len(set(sizes)) > 1, "Poisson lots have different sizes"
    told = model.spent()
    exact = epsilon([(Mechanism("poisson", "add-remove", inclusion_threshold(0.5), 1.0 / (1 + 2**-10)), STEPS)], DELTA)
    assert told.budget == told.epsilon == pytest.approx(exact, rel=1e-6)
    assert str(told) == f"ε = {np.ceil(exact * 100) / 100:.2f} (δ = 1e-4) after 6 of 6 steps"
    with pytest.warns(PrivacyWarning, match="no lot is left: the budget of 6 steps is used up"):
        assert list(model.lots()) == []
    with pytest.raises(BudgetError):
        model.run(model.data)
    assert model.spent() == told, "a refused step voids nothing"


def test_lots_come_from_files_as_from_arrays(tmp_path: Path) -> None:
    model = build(**STATED)
    np.savez(tmp_path / "data.npz", **model.data)  # pyright: ignore[reportArgumentType]
    (tmp_path / "folder").mkdir()
    for name, array in model.data.items():
        np.save(tmp_path / "folder" / f"{name}.npy", array)
    found = []
    with pytest.warns(PrivacyWarning, match="INSECURE"):
        known = fluid.privacy.insecure_noise_key(b"key")
    with known:
        for source in (model.data, tmp_path / "data.npz", str(tmp_path / "folder")):
            trained = build(**STATED)
            for lot in fluid.privacy.poisson_batches(source, trained.program):
                trained.run(lot)
            found.append(trained.weights().tobytes())
    assert found[0] == found[1] == found[2]
    with pytest.raises(DataError, match="does not exist"):
        fluid.privacy.poisson_batches(tmp_path / "none.npz", model.program)


def test_a_loop_that_gets_no_lot_says_so_once() -> None:
    model = build(**STATED)
    lots = model.lots()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len([model.run(lot) for lot in lots]) == STEPS
    with pytest.warns(PrivacyWarning, match="this loop trains nothing"):
        assert list(lots) == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(lots) == []


def test_rows_of_a_lot_belong_together() -> None:
    model = build(**STATED)
    for lot in model.lots():
        for x, y in zip(lot["x"], lot["y"], strict=True):
            (row,) = np.flatnonzero((model.data["x"] == x).all(axis=1))
            assert model.data["y"][row] == y


def test_spent_so_far_and_before_the_first_step() -> None:
    model = build(**STATED)
    assert str(model.spent()).startswith("ε = 0.00 so far (δ = 1e-4) after 0 of 6 steps; guaranteed")
    lots = model.lots()
    for count in (1, 2):
        model.run(next(lots))
        told = model.spent()
        assert told.steps == count
        assert told.epsilon is not None
        assert told.budget is not None
        assert 0 < told.epsilon < told.budget
        assert f"after {count} of 6 steps; guaranteed whenever it stops: ε = " in str(told)


def test_a_step_is_counted_before_its_lot_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(**STATED)
    counted: list[int] = []
    draw = PoissonSampler.next_lot

    def watched(self: PoissonSampler, phase: int = 0) -> np.ndarray:
        steps = PrivateSteps.find(model.program)
        assert steps is not None
        counted.append(steps.counted)
        return draw(self, phase)

    monkeypatch.setattr(PoissonSampler, "next_lot", watched)
    list(model.lots())
    assert counted == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("between", ["own data", "changed lot", "same lot again", "lot of another program"])
def test_any_other_feed_voids_epsilon(between: str) -> None:
    model = build(**STATED)
    lots = model.lots()
    lot = next(lots)
    model.run(lot)
    other = build(**STATED)
    foreign = next(other.lots())
    feed = {"own data": model.data, "changed lot": dict(lot), "same lot again": lot, "lot of another program": foreign}
    model.run(feed[between])
    assert str(model.spent()) == "unknown: lots were fed by the caller (2 steps)"
    model.run(next(lots))
    assert model.spent().epsilon is None, "later lots do not bring epsilon back"
    assert model.spent().steps == 3


@pytest.mark.parametrize("fault", [RuntimeError, KeyboardInterrupt])
def test_a_step_that_failed_has_used_its_lot_up(monkeypatch: pytest.MonkeyPatch, fault: type[BaseException]) -> None:
    model = build(**STATED)
    lots = model.lots()
    lot = next(lots)
    call = ReferenceEngine.call

    def interrupted(*args: Any) -> None:
        call(*args)
        raise fault

    with monkeypatch.context() as broken:
        broken.setattr(ReferenceEngine, "call", interrupted)
        with pytest.raises(fault):
            model.run(lot)
    model.run(next(lots))
    assert model.spent().steps == 2
    assert model.spent().epsilon is not None, "the next lot goes on"
    model.run(lot)
    assert model.spent().steps == 3
    assert model.spent().epsilon is None, "the lot of the failed step buys no second one"


def test_lots_are_read_only() -> None:
    lot = next(build(**STATED).lots())
    with pytest.raises(ValueError, match="read-only"):
        lot["x"][0] = 0
    with pytest.raises(TypeError):
        lot["x"] = np.zeros(3)  # type: ignore[index]


def test_nothing_a_caller_can_reach_changes_the_rows_of_a_lot() -> None:
    model = build(**STATED)
    lot = next(model.lots())
    before = {name: array.copy() for name, array in lot.items()}
    for array in lot.values():
        owner = array if array.base is None else array.base
        owner.flags.writeable = True
        owner[...] = 0
    assert not hasattr(lot, "arrays")
    for name, array in before.items():
        np.testing.assert_array_equal(lot[name], array)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_lot_cannot_be_copied(copied: Callable[[object], object]) -> None:
    lot = next(build(**STATED).lots())
    with pytest.raises(FluidcError, match="cannot be copied"):
        copied(lot)


def test_a_twin_of_a_lot_buys_no_second_step() -> None:
    model = build(**STATED)
    lot = next(model.lots())
    twin = object.__new__(fluid.privacy.Lot)
    vars(twin).update(vars(lot))
    model.run(lot)
    model.run(twin)
    assert str(model.spent()) == "unknown: lots were fed by the caller (2 steps)"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_takes_no_step() -> None:
    model = build(**STATED)
    lot = next(model.lots())
    child = os.fork()
    if not child:
        status = 1
        try:
            model.run(lot)
        except LedgerError:
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "the child was not refused"
    model.run(lot)
    assert model.spent().epsilon is not None


def test_an_empty_lot_is_a_step_of_noise_alone() -> None:
    model = build(lot=1e-4, sigma=1.0, sample_rate=1e-9, delta=1e-5, max_steps=3)
    with pytest.warns(PrivacyWarning, match="lots of about"):
        lots = model.lots()
    before = model.weights()
    lot = next(lots)
    assert lot["x"].shape == (0, 3)
    assert np.isnan(model.run(lot)).all(), "there is no loss of no rows"
    assert np.isfinite(model.weights()).all()
    assert (model.weights() != before).all()
    assert model.spent().steps == 1


def test_without_a_rate_nothing_is_promised_and_nothing_drawn() -> None:
    model = build()
    assert str(model.spent()) == "unknown: dataset_size, delta and max_steps not stated (0 steps)"
    with pytest.raises(FluidcError, match="sampling rate is not stated"):
        model.lots()


def test_runs_on_one_directory_add_up(tmp_path: Path) -> None:
    first = build(**STATED)
    for lot, _ in zip(first.lots(tmp_path), range(2)):
        first.run(lot)
    second = build(**STATED)
    with pytest.raises(LedgerError, match="another run"):
        second.lots(tmp_path)
    lot = first = None  # the first program is gone, and its run ends
    gc.collect()
    with pytest.warns(PrivacyWarning, match="3 steps of earlier runs are counted"):
        lots = second.lots(tmp_path)
    assert sum(1 for _ in lots) == STEPS - 3, "the third lot of the first run was drawn"
    assert second.spent().steps == STEPS


def test_the_ledger_has_its_place_before_the_first_step(tmp_path: Path) -> None:
    model = build(**STATED)
    model.lots()
    model.lots(tmp_path)  # nothing was counted yet
    next(model.lots(tmp_path))
    with pytest.raises(FluidcError, match=r"the run directory was given after private steps .*1 so far"):
        model.lots(tmp_path / "other")


def test_a_program_that_changes_after_its_first_step_is_refused() -> None:
    model = build(**STATED)
    model.run(next(model.lots()))
    record = model.program.global_block().private_backward()
    assert record is not None
    other = build(**(STATED | {"max_steps": STEPS - 1})).program.global_block().private_backward()
    assert other is not None
    record.set_attr("privacy", other.attr("privacy"))
    with pytest.raises(FluidcError, match="Dpsgd arguments changed after private steps"):
        model.run(model.data)


@pytest.mark.parametrize("cloned", [fluid.Program.clone, copy.copy])
def test_a_clone_spends_the_budget_of_its_origin(cloned: Callable[[fluid.Program], fluid.Program]) -> None:
    model = build(**STATED)
    twin = Model(cloned(model.program), model.loss, model.data, model.exe, model.scope)
    for lots in (model.lots(), twin.lots()):
        for one, _ in zip((model, twin), range(2)):
            one.run(next(lots))
    assert model.spent() == twin.spent()
    assert model.spent().steps == 4
    assert model.spent().epsilon is not None, "a lot of either is a lot of both"
    assert len(list(twin.lots())) == STEPS - 4


def test_the_test_clone_has_no_part_in_the_budget() -> None:
    model = build(**STATED)
    with pytest.raises(FluidcError, match="not private"):
        fluid.privacy.spent(model.program.clone(for_test=True))


def test_clones_made_before_dpsgd_are_programs_of_their_own() -> None:
    main, startup = fluid.Program(), fluid.Program()
    with fluid.program_guard(main, startup), fluid.unique_name.guard():
        loss = fluid.layers.mean(fluid.layers.fc(fluid.layers.data("x", [3]), 1))
    clone = main.clone()
    for program in (main, clone):
        with fluid.program_guard(program, startup):
            cost = program.global_block().var(loss.name)
            fluid.optimizer.Dpsgd(0.1, clip=1.0, batch_size=LOT, sigma=1.0, **STATED).minimize(cost)
    next(fluid.privacy.poisson_batches({"x": np.ones((ROWS, 3), "f4")}, main))
    assert fluid.privacy.spent(main).steps == 1
    assert fluid.privacy.spent(clone).steps == 0


def test_one_warning_without_a_run_directory() -> None:
    model = build(**STATED)
    with pytest.warns(PrivacyWarning, match="counted in memory"):
        model.lots()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.lots()


def test_a_known_key_repeats_the_run_and_is_marked() -> None:
    seen = []
    for secret in (b"one", b"one", b"two"):
        model = build(**STATED)
        with pytest.warns(PrivacyWarning, match="INSECURE"):
            known = fluid.privacy.insecure_noise_key(secret)
        with known:
            for lot in model.lots():
                model.run(lot)
        assert str(model.spent()) == "none (seeded) (6 steps)"
        seen.append(model.weights())
    np.testing.assert_array_equal(seen[0], seen[1])
    assert (seen[0] != seen[2]).all()


def test_keys_are_fresh_again_after_the_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[bytes] = []
    model = build(**STATED)
    run_lot = "fluidc.runtime.stepper.Stepper.run_lot"
    monkeypatch.setattr(run_lot, lambda self, feeds, *, key, draw: keys.append(key) or {model.loss.name: draw})
    with pytest.warns(PrivacyWarning), fluid.privacy.insecure_noise_key(b"k"):
        model.run(model.data)
    model.run(model.data)
    model.run(model.data)
    assert keys[0] == insecure_key(b"k", "step", 0)
    assert len(set(keys)) == 3
    assert all(len(key) == 32 for key in keys)
    assert str(model.spent()).startswith("none (seeded)"), "the ledger does not forget the known key"


def weighted(declared: bool) -> tuple[fluid.Program, fluid.Program]:
    main, startup = fluid.Program(), fluid.Program()
    with fluid.program_guard(main, startup), fluid.unique_name.guard():
        x = fluid.layers.data("x", [3])
        weight = fluid.layers.data("weight", [3], append_batch_size=False)
        if declared:
            assert fluid.privacy.public(weight) is weight
        loss = fluid.layers.mean(fluid.layers.fc(x * weight, 1, param_attr=fluid.ParamAttr("w")))
        fluid.optimizer.Dpsgd(0.1, clip=1.0, batch_size=LOT, sigma=1.0, **STATED).minimize(loss)
    return main, startup


def test_public_feeds_are_given_whole() -> None:
    main, startup = weighted(declared=True)
    exe, scope = fluid.Executor(target="reference"), fluid.Scope()
    exe.run(startup, scope=scope)
    data = {"x": np.ones((ROWS, 3), "f4"), "weight": np.arange(3, dtype="f4")}
    lot = next(fluid.privacy.poisson_batches(data, main))
    assert len(lot["x"]) < ROWS
    np.testing.assert_array_equal(lot["weight"], data["weight"])
    exe.run(main, feed=lot, scope=scope)
    assert fluid.privacy.spent(main).epsilon is not None


def test_a_feed_without_example_axis_must_be_declared() -> None:
    main, startup = weighted(declared=False)
    exe, scope = fluid.Executor(target="reference"), fluid.Scope()
    exe.run(startup, scope=scope)
    feed = {"x": np.ones((LOT, 3), "f4"), "weight": np.ones(3, "f4")}
    with pytest.raises(FluidcError, match="weight"):
        exe.run(main, feed=feed, scope=scope)


def test_what_cannot_be_public() -> None:
    with fluid.program_guard(fluid.Program(), fluid.Program()):
        x = fluid.layers.data("x", [3])
        with pytest.raises(FluidcError, match="one row per example"):
            fluid.privacy.public(x)
        with pytest.raises(FluidcError, match="is not fed"):
            fluid.privacy.public(fluid.layers.fc(x, 2))
        with pytest.raises(FluidcError, match="not a Variable"):
            fluid.privacy.public("x")  # type: ignore[arg-type]


def test_wrong_arrays_are_refused_before_anything_is_counted() -> None:
    model = build(**STATED)
    x, y = model.data["x"], model.data["y"]
    for arrays, said in (
        ({"x": x}, "the program feeds x, y; given: x"),
        ({"x": x, "y": y[:7]}, "x has 60, y has 7"),
        ({"x": x[:0], "y": y[:0]}, "at least one"),
    ):
        with pytest.raises(FluidcError, match=said):
            fluid.privacy.poisson_batches(arrays, model.program)
    assert model.spent().steps == 0


def test_data_of_an_unused_variable_is_left_out() -> None:
    model = build(**STATED)
    with fluid.program_guard(model.program):
        fluid.layers.data("unused", [1])
    lot = next(fluid.privacy.poisson_batches({**model.data, "unused": np.zeros((ROWS, 1), "f4")}, model.program))
    assert set(lot) == {"x", "y"}
    assert model.run(lot).shape == (1,)
    with pytest.raises(FluidcError, match="the program feeds x, y; given: unknown, x, y"):
        fluid.privacy.poisson_batches({**model.data, "unknown": model.data["y"]}, model.program)


def test_sequences_by_lod_are_refused_with_what_to_do() -> None:
    main = fluid.Program()
    with fluid.program_guard(main, fluid.Program()), fluid.unique_name.guard():
        x = fluid.layers.data("x", [3], lod_level=1)
        loss = fluid.layers.mean(fluid.layers.fc(fluid.layers.sequence_pool(x, "sum"), 1))
        fluid.optimizer.Dpsgd(0.1, clip=1.0, batch_size=LOT, sigma=1.0, **STATED).minimize(loss)
    with pytest.raises(FluidcError, match=r"x has lod_level 1[\s\S]*pad the sequences") as caught:
        fluid.privacy.poisson_batches({"x": np.zeros((ROWS, 3), "f4")}, main)
    assert "mask" in str(caught.value)


def labelled() -> tuple[fluid.Program, fluid.Variable, fluid.Scope]:
    main, startup, scope = fluid.Program(), fluid.Program(), fluid.Scope()
    with fluid.program_guard(main, startup), fluid.unique_name.guard():
        x, label = fluid.layers.data("x", [3]), fluid.layers.data("label", [1], dtype="int64")
        logits = fluid.layers.fc(x, 4)
        loss = fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(logits, label))
        fluid.optimizer.Dpsgd(0.1, clip=1.0, batch_size=LOT, sigma=1.0, **STATED).minimize(loss)
    fluid.Executor(target="reference").run(startup, scope=scope)
    return main, loss, scope


@pytest.mark.parametrize("wrong", ["range", "dtype", "shape"])
def test_every_row_is_checked_before_the_first_lot(wrong: str) -> None:
    main, _, _ = labelled()
    x, label = np.ones((ROWS, 3), "f4"), np.zeros((ROWS, 1), "i8")
    if wrong == "range":
        label[-1] = 4
    bad = {"range": x, "dtype": x.astype("f8"), "shape": x[:, :2]}[wrong]
    with pytest.raises(DataError, match="'label' holds 4 in row 59" if wrong == "range" else "'x'"):
        fluid.privacy.poisson_batches({"x": bad, "label": label}, main)
    assert fluid.privacy.spent(main).steps == 0


def test_a_lot_that_is_refused_for_its_rows_voids_epsilon() -> None:
    main, loss, scope = labelled()
    x, label = np.ones((ROWS, 3), "f4"), np.zeros((ROWS, 1), "i8")
    lots = fluid.privacy.poisson_batches({"x": x, "label": label}, main)
    label[...] = 4  # after the check
    exe = fluid.Executor(target="reference")
    with pytest.raises(DataError, match="label"):
        exe.run(main, feed=next(lots), fetch_list=[loss], scope=scope)
    assert fluid.privacy.spent(main).epsilon is None


def test_a_refused_feed_of_the_callers_own_is_no_step() -> None:
    model = build(**STATED)
    model.run(next(model.lots()))
    told = model.spent()
    with pytest.raises(DataError, match="wants float32"):
        model.run({"x": model.data["x"].astype("f8"), "y": model.data["y"]})
    assert model.spent() == told


def test_programs_without_privacy_and_other_samplers_are_refused() -> None:
    with pytest.raises(FluidcError, match="Dpsgd did not minimise it"):
        fluid.privacy.spent(fluid.Program())
    model = build(sampler="shuffle", **STATED)
    with pytest.raises(FluidcError, match="sampler='shuffle'"):
        model.lots()
    with pytest.warns(PrivacyWarning, match="no differential privacy"):
        model = build(mechanism="paddle")
    with pytest.raises(FluidcError, match="mechanism='paddle' is Paddle's own kernel"):
        model.lots()


def test_remedies_fit_what_was_written() -> None:
    def stated(clip: object, clipping: str) -> None:
        fluid.optimizer.Dpsgd(0.1, clip=clip, batch_size=LOT, sigma=1.0, clipping=clipping)  # type: ignore[arg-type]

    with pytest.raises(FluidcError, match="leave clipping out for one bound"):
        stated(1.0, "per-group")
    with pytest.raises(FluidcError, match="or say clipping='per-group'"):
        stated([1.0, 2.0], "flat")
    with pytest.warns(PrivacyWarning, match="sigma=None, and no epsilon"):
        fluid.optimizer.Dpsgd(0.1, clip=1.0, batch_size=LOT, sigma=None)


@pytest.mark.parametrize("key", [b"", "00ff", 7])
def test_a_known_key_is_bytes(key: object) -> None:
    with pytest.raises(FluidcError, match="cannot be a key"):
        fluid.privacy.insecure_noise_key(key)  # type: ignore[arg-type]
