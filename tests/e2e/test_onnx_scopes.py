"""Scopes under the ONNX target: programs, targets and readers that take turns find the newest values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fluidc.frontend as fluid
from fluidc.runtime import buffers, onnx_engine
from fluidc.runtime.errors import EngineError

L: Any = fluid.layers
NAMES = ("w", "b", "v")
RANDOM = np.random.default_rng(5)
INITIAL = {"w": RANDOM.normal(size=(4, 3)).astype("f4"), "b": np.zeros(3, "f4"), "v": np.ones((3, 1), "f4")}


def given(name: str, trainable: bool = True) -> fluid.ParamAttr:
    return fluid.ParamAttr(
        name, initializer=fluid.initializer.NumpyArrayInitializer(INITIAL[name]), trainable=trainable
    )


class Programs:
    """A training program, its test clone, and one that trains the last layer alone."""

    def __init__(self) -> None:
        self.main, self.startup, self.last = fluid.Program(), fluid.Program(), fluid.Program()
        with fluid.unique_name.guard(), fluid.program_guard(self.main, self.startup):
            self.loss = self._model()
            self.test = self.main.clone(for_test=True)
            fluid.optimizer.Momentum(0.1, 0.9).minimize(self.loss)
        with fluid.unique_name.guard("last/"), fluid.program_guard(self.last, self.startup):
            self.last_loss = self._model()
            fluid.optimizer.SGD(0.2, parameter_list=["v"]).minimize(self.last_loss)

    def _model(self) -> Any:
        x, y = L.data("x", [4]), L.data("y", [1])
        out = L.fc(L.fc(x, 3, act="tanh", param_attr=given("w"), bias_attr=given("b")), 1, param_attr=given("v"),
                   bias_attr=False)  # fmt: skip
        return L.mean(L.square(out - y))


class Runs:
    """One scope, and executors by target; every action returns what it saw."""

    def __init__(self, targets: tuple[str, ...], programs: Programs) -> None:
        self.programs, self.scope = programs, fluid.Scope()
        self.executors = [fluid.Executor(fluid.CPUPlace(), target=target) for target in targets]
        self.executors[0].run(programs.startup, scope=self.scope)

    def act(self, what: str, which: int, seed: int) -> list[Any]:
        exe, programs = self.executors[which], self.programs
        random = np.random.default_rng(seed)
        feed = {"x": random.normal(size=(6, 4)).astype("f4"), "y": random.normal(size=(6, 1)).astype("f4")}
        if what == "set":
            self.tensor("w").set(random.normal(size=(4, 3)).astype("f4"), fluid.CPUPlace())
            return []
        if what == "write":
            array = self.tensor("v").array
            array[0] *= 0.5
            return []
        if what == "read":
            return [np.array(self.tensor(name)) for name in NAMES]
        if what == "restart":
            return exe.run(programs.startup, scope=self.scope)
        program, loss = {
            "train": (programs.main, programs.loss),
            "test": (programs.test, programs.loss),
            "last": (programs.last, programs.last_loss),
        }[what]
        return exe.run(program, feed=feed, fetch_list=[loss, "v"], scope=self.scope)

    def tensor(self, name: str) -> fluid.LoDTensor:
        return self.scope.var(name).get_tensor()


ACTIONS = ("train", "train", "train", "test", "last", "last", "set", "write", "read", "restart")


@pytest.mark.parametrize("targets", [("onnx",), ("onnx", "reference"), ("reference", "onnx", "cpu")])
def test_whoever_comes_next_finds_the_newest_values(targets: tuple[str, ...]) -> None:
    programs = Programs()
    found, expected = Runs(targets, programs), Runs(("reference",), programs)
    random = np.random.default_rng(0)
    for number in range(150):
        what, which = ACTIONS[int(random.integers(len(ACTIONS)))], int(random.integers(len(targets)))
        ours, theirs = found.act(what, which, number), expected.act(what, 0, number)
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(one, other, rtol=2e-4, atol=1e-5, err_msg=f"action {number}: {what}")


def test_programs_in_turn_copy_nothing_until_somebody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs(("onnx",), Programs())
    for what in ("train", "last", "test"):
        runs.act(what, 0, 0)
    copies: list[Any] = []
    original = np.copyto
    monkeypatch.setattr(buffers.np, "copyto", lambda *arrays: (copies.append(arrays), original(*arrays)))
    for number in range(7):
        for what in ("train", "train", "last", "test"):
            runs.act(what, 0, number)
    assert not copies
    runs.act("read", 0, 0)
    assert copies
    before = len(copies)
    runs.act("read", 0, 0)
    assert len(copies) == before


def test_what_was_fetched_and_copied_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs(("onnx",), Programs())
    fetched = runs.act("train", 0, 1)
    copied = runs.act("read", 0, 0)
    kept = [array.copy() for array in (*fetched, *copied)]
    for number in range(3):
        runs.act("train", 0, number)
    for array, was in zip((*fetched, *copied), kept, strict=True):
        np.testing.assert_array_equal(array, was)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_run_that_fails_leaves_the_scope_as_it_was(monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    programs = Programs()
    runs, others = (Runs(("onnx",), programs) for _ in range(2))
    original: Callable[[Any, Any], None] = onnx_engine._Function._run

    def fail(function: Any, io: Any) -> None:
        if when == "after":
            original(function, io)
        raise EngineError("told to fail", "here", "do not")

    for number in range(3):
        runs.act("train", 0, number)
        others.act("train", 0, number)
        with monkeypatch.context() as patch:
            patch.setattr(onnx_engine._Function, "_run", fail)
            with pytest.raises(EngineError, match="told to fail"):
                runs.act("train", 0, 77)
        if number:
            for ours, theirs in zip(runs.act("read", 0, 0), others.act("read", 0, 0), strict=True):
                np.testing.assert_array_equal(ours, theirs)


def test_variables_that_every_run_sets_to_an_array_and_those_it_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    main, startup, other, scope = fluid.Program(), fluid.Program(), fluid.Program(), fluid.Scope()
    with fluid.unique_name.guard(), fluid.program_guard(main, startup):
        x = L.data("x", [2])
        made = L.create_global_var([1], 0.0, "float32", persistable=True, name="made")
        stated = L.create_global_var([3], 0.0, "float32", persistable=True, name="stated")
        L.assign(np.array([1, 2, 3], "f4"), stated)
        L.assign(L.reduce_sum(x) * 2.0 + made, made)
        total = L.reduce_sum(stated) + made
    with fluid.unique_name.guard(), fluid.program_guard(other, fluid.Program()):
        L.assign(
            L.reduce_sum(L.data("x", [3]), dim=[0]),
            L.create_global_var([3], 0.0, "float32", persistable=True, name="stated"),
        )
    exe = fluid.Executor(fluid.CPUPlace(), target="onnx")
    exe.run(startup, scope=scope)

    def run() -> float:
        (found,) = exe.run(main, feed={"x": np.ones((3, 2), "f4")}, fetch_list=[total], scope=scope)
        return float(np.ravel(found)[0])

    def fail(function: Any, io: Any) -> None:
        raise EngineError("told to fail", "here", "do not")

    for number in range(1, 4):
        exe.run(other, feed={"x": np.full((2, 3), number, "f4")}, scope=scope)  # leaves its value away
        with monkeypatch.context() as patch:
            patch.setattr(onnx_engine._Function, "_run", fail)
            with pytest.raises(EngineError, match="told to fail"):
                run()
        assert np.array(scope.var("stated").get_tensor()).tolist() == [2 * number] * 3
        exe.run(other, feed={"x": np.full((2, 3), number, "f4")}, scope=scope)
        assert run() == 6 + 12 * number
        if number == 2:
            assert np.array(scope.var("made").get_tensor()).tolist() == [24]
    assert np.array(scope.var("stated").get_tensor()).tolist() == [1, 2, 3]
