"""What is drawn for an example of a private step depends on its index in the lot, not on how the lot is divided."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fluidc.frontend as fluid
from fluidc.compiler.driver import Source, compile_source
from fluidc.compiler.errors import PrivacyError
from fluidc.compiler.ir.parser import parse
from fluidc.compiler.ir.printer import to_text
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ops import OPSET
from fluidc.compiler.ops.drawing import Drawing
from fluidc.compiler.passes.manager import run_passes
from fluidc.compiler.passes.privacy_flow import check_privacy_flow
from fluidc.compiler.pipeline import pipeline
from fluidc.frontend.framework import Program
from fluidc.frontend.lower import lower
from fluidc.runtime.certificate import verify
from fluidc.runtime.session import Checkpoints, Session

L = fluid.layers
Array = np.ndarray[Any, Any]

LOT = 11
KEY = bytes(range(32))
FETCHED = ("rows", "columns", "folded", "joined", "noise", "clipped", "shared")


def model(lot: float = LOT) -> tuple[Program, Program, list[str]]:
    """Dropout on every layout of the batch, noise of examples and noise that they share.

    Fetches, row by row, the masks (dropout of ones) and the noise; ``shared`` is one value of every row.
    """
    main, startup = Program(), Program()
    main.random_seed = startup.random_seed = 3
    with fluid.unique_name.guard(), fluid.program_guard(main, startup):
        x = L.data("x", [5])
        s = L.data("s", [3, -1, 2], append_batch_size=False)

        def ones(like: fluid.Variable) -> fluid.Variable:
            return like * 0.0 + 1.0

        rows = L.dropout(ones(x), 0.5)
        columns = L.transpose(L.dropout(ones(s), 0.4, dropout_implementation="upscale_in_train"), [1, 0, 2])
        folded = L.reshape(L.dropout(L.reshape(ones(columns), [-1, 2]), 0.5), [-1, 6])
        both = L.dropout(L.concat([ones(x), ones(x)], axis=0), 0.5)
        joined = L.reshape(L.transpose(L.reshape(both, [2, -1, 5]), [1, 0, 2]), [-1, 10])
        noise = L.gaussian_random_batch_size_like(x, [-1, 5])
        clipped = L.uniform_random_batch_size_like(x, [-1, 160], min=0.0, max=1.0)
        shared = ones(x) * L.uniform_random([5])
        h = L.concat([L.fc(x * rows + noise * 0.1, 4), L.reshape(columns, [-1, 6]), folded, joined, shared], axis=1)
        each = L.square(L.fc(L.dropout(h, 0.3), 2))
        loss = L.mean(each * L.reduce_mean(clipped, dim=[1], keep_dim=True))
        fluid.optimizer.Dpsgd(0.5, 0.2, lot, 0.0, sample_rate=0.25).minimize(loss)
        made = (rows, columns, folded, joined, noise, clipped, shared)
    return main, startup, [v.name for v in made]


def feeds(rows: int = LOT) -> dict[str, Array]:
    rng = np.random.default_rng(rows)
    return {"x": rng.normal(size=(rows, 5)).astype("f"), "s": rng.normal(size=(3, rows, 2)).astype("f")}


def session(target: str, batch: int, **options: Any) -> Session:
    main, startup, fetches = model()
    compiled = compile_source(lower(main, startup=startup, fetches=fetches), target=target, batch=batch)
    return Session.load(compiled.artifact(), compiled.built.engine(), **options)


def stepped(found: Session, count: int) -> list[Mapping[str, Array]]:
    """The fetches of ``count`` private steps on one lot, without a ledger and without noise."""
    stepper = found.model.stepper
    return [dict(zip(FETCHED, stepper.run_lot(feeds(), key=KEY, draw=i).values())) for i in range(count)]


@pytest.fixture(scope="module")
def whole() -> tuple[Session, list[Mapping[str, Array]]]:
    """The lot as one physical batch, in numpy."""
    found = session("reference", LOT)
    return found, stepped(found, 2)


@pytest.mark.parametrize(("target", "batch"), [
    ("reference", 1), ("reference", 4), ("reference", 16), ("cpu", 1), ("cpu", 4), ("cpu", LOT), ("cpu", 16),
    ("onnx", 1), ("onnx", 4), ("onnx", 16),
])  # fmt: skip
def test_a_lot_divided_in_another_way_meets_the_same_numbers(
    whole: tuple[Session, list[Mapping[str, Array]]], target: str, batch: int
) -> None:
    found = session(target, batch)
    for ours, theirs in zip(stepped(found, 2), whole[1], strict=True):
        for name in FETCHED:
            assert ours[name].shape[0] == LOT
            if name == "noise":
                np.testing.assert_allclose(ours[name], theirs[name], atol=2e-6, err_msg=name)
            else:
                np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    trained = [name for name, array in whole[0].model.state.items() if name.startswith("fc_")]
    assert len(trained) == 4
    for name in trained:
        np.testing.assert_allclose(found.model.state[name], whole[0].model.state[name], rtol=2e-5, atol=1e-6)
    assert found.model.stepper.rng_counter == 2


def test_steps_ops_and_examples_differ(whole: tuple[Session, list[Mapping[str, Array]]]) -> None:
    first, second = whole[1]
    for name in FETCHED:
        assert np.any(first[name] != second[name]), name
        distinct = {row.tobytes() for row in first[name]}
        assert len(distinct) == 1 if name == "shared" else len(distinct) > LOT // 2, name
    assert 0.3 < first["rows"].mean() < 0.7
    assert set(np.unique(first["columns"])) == {np.float32(0), np.float32(1 / 0.6)}
    assert not np.array_equal(first["rows"], first["joined"][:, :5])
    assert not np.array_equal(first["joined"][:, 5:], first["joined"][:, :5])


def test_every_random_op_of_a_private_step_with_a_batch_reads_the_row() -> None:
    main, startup, fetches = model()
    module = compile_source(lower(main, startup=startup, fetches=fetches), target="reference", batch=4).module
    for name in ("step", "accumulate"):
        function = module.function(name)
        drawn = [op for op in function.ops if isinstance(op, Drawing)]
        assert all(op.generator == "chacha20" for op in drawn)  # never Paddle's, whatever the program's seed
        assert len({op.stream for op in drawn}) == len(drawn) == 8
        assert [op.row is function.param("row") for op in drawn].count(True) == 7
    assert module.function("apply").param("row") is None


def test_the_second_checker_follows_them() -> None:
    main, startup, fetches = model()
    source = lower(main, startup=startup, fetches=fetches)
    report = verify(compile_source(source, target="reference", batch=4, keep_ir=True).artifact())
    assert report.contradiction is None
    assert "separability" in {check.what for check in report.checks}


def test_an_empty_lot_is_a_step_too() -> None:
    found = session("reference", 4)
    found.model.stepper.run_lot(feeds(0), key=KEY, draw=0)
    assert found.model.stepper.rng_counter == 1
    after = stepped(found, 1)[0]
    other = session("reference", 16)
    np.testing.assert_array_equal(after["rows"], stepped(other, 2)[1]["rows"])


def test_resuming_goes_on_with_the_next_numbers(tmp_path: Path) -> None:
    data = feeds(40)
    kept = Checkpoints(tmp_path / "checkpoints", every_steps=3)
    with session("reference", 4) as first:
        first.train(data, steps=3, checkpoints=kept, run_dir=tmp_path / "run")
        assert first.model.stepper.rng_counter == 3
    second = session("reference", 4)
    second.train(data, steps=4, resume=True, checkpoints=kept, run_dir=tmp_path / "run")
    assert second.model.stepper.rng_counter == 4
    again = session("reference", LOT)
    np.testing.assert_array_equal(stepped(second, 1)[0]["rows"], stepped(again, 5)[4]["rows"])


@pytest.mark.filterwarnings("ignore::fluidc.runtime.errors.PrivacyWarning")
@pytest.mark.parametrize("target", ["reference", "cpu", "onnx"])
def test_executor_divides_lots_alike(target: str) -> None:
    def run(lot: float) -> list[Array]:
        main, startup, fetches = model(lot)
        scope, found = fluid.Scope(), list[Array]()
        with fluid.scope_guard(scope), fluid.privacy.insecure_noise_key(KEY):
            executor = fluid.Executor(fluid.CPUPlace(), target=target)
            executor.run(startup)
            for _ in range(2):
                found += executor.run(main, feed=feeds(40), fetch_list=fetches)
        return found

    # Lots of 10 are run as batches of 16 rows, lots of 48 as one.
    small, large = run(10.0), run(48.0)
    for ours, theirs in zip(small, large, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-6)
    assert np.any(small[0] != small[len(FETCHED)])


def test_evaluation_drops_nothing() -> None:
    main, startup, fetches = model()
    source: Source = lower(main, startup=startup, fetches=fetches, infer_fetches=[fetches[0]])
    compiled = compile_source(source, target="reference", batch=4)
    infer = compiled.module.function("infer")
    assert infer.param("row") is None
    assert not any(isinstance(op, Drawing) for op in infer.ops)
    found = Session.load(compiled.artifact(), compiled.built.engine())
    np.testing.assert_array_equal(found.predict({"x": feeds(3)["x"]})[fetches[0]], np.full((3, 5), 0.5, np.float32))


@pytest.mark.parametrize("operand", ["%row", "%rng_counter"])
def test_a_draw_that_depends_on_the_data_is_refused(operand: str) -> None:
    main, startup = Program(), Program()
    with fluid.unique_name.guard(), fluid.program_guard(main, startup):
        h = L.dropout(L.fc(L.data("x", [5]), 4), 0.5)
        loss = L.mean(L.softmax_with_cross_entropy(h, L.data("y", [1], dtype="int64")))
        fluid.optimizer.Dpsgd(0.5, 0.2, 8.0, 1.0).minimize(loss)
    module = lower(main, startup=startup).module
    text = to_text(run_passes(module, pipeline(module, to=Stage.PRIVATE)))
    check_privacy_flow(parse(text, OPSET))
    (line,) = (line for line in text.splitlines() if " = random.dropout(" in line)
    assert "(%rng_key, %rng_counter, %row, " in line
    sums = "    %seen = reduce.sum(%y) {axes=(0, 1)} : i64[]\n"
    cast = "" if operand == "%row" else "    %chosen = elementwise.cast(%seen) {dtype=u64} : u64[]\n"
    chosen = "%seen" if operand == "%row" else "%chosen"
    tampered = text.replace(line, sums + cast + line.replace(f"{operand}, ", f"{chosen}, "))
    with pytest.raises(PrivacyError, match=r"raw examples|mixed"):
        check_privacy_flow(parse(tampered, OPSET))


def test_a_second_open_size_is_refused() -> None:
    """A padded length that follows the longest row at hand would tell of it."""
    main, startup = Program(), Program()
    with fluid.unique_name.guard(), fluid.program_guard(main, startup):
        words = fluid.data("words", [None, None, 4])
        loss = L.mean(L.fc(L.reduce_mean(words, dim=1), 1))
        fluid.optimizer.Dpsgd(0.5, 0.2, 8.0, 1.0).minimize(loss)
    with fluid.scope_guard(fluid.Scope()):
        executor = fluid.Executor(fluid.CPUPlace(), target="reference")
        executor.run(startup)
        with pytest.raises(PrivacyError, match="only the batch may be open") as caught:
            executor.run(main, feed={"words": np.zeros((8, 3, 4), np.float32)}, fetch_list=[loss])
    assert (caught.value.where or "").startswith(__file__)
    assert "pad to them" in (caught.value.hint or "")


def test_a_random_number_of_the_update_is_drawn_once() -> None:
    """A learning rate drawn at random, public and the same in ``step`` and in ``apply``."""
    found: list[Array] = []
    for batch in (4, 16):
        main, startup = Program(), Program()
        main.random_seed = startup.random_seed = 3
        with fluid.unique_name.guard(), fluid.program_guard(main, startup):
            loss = L.mean(L.square(L.fc(L.data("x", [5]), 2)))
            fluid.optimizer.Dpsgd(L.uniform_random([1], min=0.1, max=1.0), 0.2, 8.0, 0.0).minimize(loss)
        compiled = compile_source(lower(main, startup=startup), target="reference", batch=batch)
        session = Session.load(compiled.artifact(), compiled.built.engine())
        for draw in range(2):
            session.model.stepper.run_lot({"x": feeds()["x"]}, key=KEY, draw=draw)
        assert session.model.stepper.rng_counter == 2
        found.append(session.model.state["fc_0.w_0"])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5, atol=1e-7)


def test_masks_of_a_recurrence() -> None:
    """The masks of all steps are drawn before the loop, with the batch on axis 1."""
    found: list[Array] = []
    for batch in (1, 4, 16):
        main, startup = Program(), Program()
        main.random_seed = startup.random_seed = 3
        with fluid.unique_name.guard(), fluid.program_guard(main, startup):
            s = L.data("s", [3, -1, 2], append_batch_size=False)
            rnn = L.StaticRNN()
            with rnn.step():
                now = rnn.step_input(s)
                before = rnn.memory(shape=[-1, 4], batch_ref=now)
                after = L.dropout(L.fc([now, before], 4, act="tanh"), 0.5)
                rnn.update_memory(before, after)
                rnn.step_output(after)
            states = rnn()
            assert isinstance(states, fluid.Variable)
            rows = L.transpose(states, [1, 0, 2])
            fluid.optimizer.Dpsgd(0.5, 0.2, 8.0, 0.0).minimize(L.mean(L.square(rows)))
        source = lower(main, startup=startup, fetches=[rows.name])
        compiled = compile_source(source, target="reference", batch=batch)
        stepper = Session.load(compiled.artifact(), compiled.built.engine()).model.stepper
        found.append(stepper.run_lot({"s": feeds()["s"]}, key=KEY, draw=0)[rows.name])
    kept = found[0] != 0
    assert 0.3 < kept.mean() < 0.7
    for other in found[1:]:
        np.testing.assert_array_equal(other != 0, kept)
        np.testing.assert_allclose(other, found[0], rtol=1e-5, atol=1e-7)


def test_masks_follow_from_the_key_of_the_step_and_from_nothing_public(
    whole: tuple[Session, list[Mapping[str, Array]]],
) -> None:
    """Known masks would change for everybody who comes after a new example, and all gradients with them."""
    again, other = session("reference", LOT), session("reference", LOT, seed=99)
    drawn = [dict(zip(FETCHED, again.model.stepper.run_lot(feeds(), key=bytes(32), draw=0).values()))]
    drawn += stepped(other, 1)
    for name in FETCHED:
        assert np.any(drawn[0][name] != whole[1][0][name]), name
        np.testing.assert_array_equal(drawn[1][name], whole[1][0][name], err_msg=name)
