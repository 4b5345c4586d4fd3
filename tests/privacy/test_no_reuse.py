"""No keystream block is ever used twice: the keys and draws that reach the engine, and the noise that comes out.

Every way to begin again is taken: a second run of startup, state that is put back, an engine that fails in the middle
of a step, a retry, a fork, a resumed run, two sessions at once. What is handed to the engine is written down, the
noise in the parameters is held to it, and no block of the streams may occur twice.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from private_runs import Array, Program_, Recording, Use, compiled, dpsgd, emitted, rows, trained

import fluidc.frontend as fluid
from fluidc.runtime.errors import DataError, LedgerError, PrivacyWarning
from fluidc.runtime.session import Checkpoints, Session

CLIP, LOT, SIGMA, RATE = 0.7, 16.0, 1.3, 0.5
GAIN = RATE * CLIP * SIGMA / LOT
L: Any = fluid.layers


def model() -> Any:
    x, label = L.data("x", [5]), L.data("label", [1], dtype="int64")
    return L.mean(L.softmax_with_cross_entropy(L.fc(L.fc(x, 64, act="tanh"), 3), label))


@cache
def program(target: str) -> Program_:
    return compiled(model, target, 8, dpsgd(CLIP, LOT, SIGMA, RATE))


EMPTY = {name: value[:0] for name, value in rows(1).items()}


@pytest.fixture(autouse=True)
def fed_lots_are_meant() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PrivacyWarning)
        yield


def assert_fresh(uses: Sequence[Use]) -> None:
    """Every key is used by one draw, and no 64-byte block of any stream occurs twice."""
    assert len({use.key for use in uses}) == len(uses), "a key was used twice"
    assert all(any(use.key) for use in uses)
    blocks: set[bytes] = set()
    for use in uses:
        for tensor in range(4):
            for block in use.words(tensor, 640):
                blocks.add(block.tobytes())
    assert len(blocks) == len(uses) * 4 * 64, "a block of the keystream was used twice"


def noise_of(session: Session, recorded: Recording) -> Array:
    """One step on an empty lot: its noise, which is that of the streams its key and draw give."""
    before = trained(session)
    session.run(EMPTY)
    use = recorded.uses[-1]
    found: list[Array] = []
    for tensor, (name, value) in enumerate(sorted(emitted(session, before, GAIN).items())):
        np.testing.assert_allclose(value.ravel(), use.normals(tensor, value.size), rtol=0, atol=1e-5, err_msg=name)
        found.append(value.ravel())
    return np.concatenate(found)


def assert_unlike(noises: Sequence[Array]) -> None:
    for (i, one), (j, other) in itertools.combinations(enumerate(noises), 2):
        rho = float(np.dot(one, other)) / one.size
        assert abs(rho) < 6.5 / math.sqrt(one.size) * (1 + 20 / math.sqrt(one.size)), f"noise {i} is like noise {j}"


@pytest.mark.parametrize("target", ["reference", "cpu", "onnx"])
def test_steps_sessions_and_states_that_are_put_back(target: str) -> None:
    """Steps of one session; a second session of the same seed; startup again; old state loaded again."""
    first, one = program(target).session(seed=3)
    second, two = program(target).session(seed=3)
    noises = [noise_of(first, one), noise_of(second, two), noise_of(first, one), noise_of(second, two)]
    first.model.stepper.run("startup", {})
    noises.append(noise_of(first, one))
    kept = {name: array.copy() for name, array in first.model.state.items()}
    noises.append(noise_of(first, one))
    first.model.load_state(kept)
    first.model.step -= 1
    noises.append(noise_of(first, one))
    assert_fresh([*one.uses, *two.uses])
    assert [use.draw for use in one.uses] == list(range(5))
    assert_unlike(noises)


@pytest.mark.parametrize("target", ["reference", "cpu", "onnx"])
@pytest.mark.parametrize("failing", ["step", "accumulate", "apply"])
def test_a_step_that_fails_and_is_taken_again(target: str, failing: str) -> None:
    """What a failed call saw is never seen again, whoever asks for the step once more."""
    session, recorded = program(target).session(seed=3)
    lot = rows(5 if failing == "step" else 20)
    session.run(lot)
    for _ in range(2):
        recorded.fail_at = len(recorded.calls) + (3 if failing == "apply" else 0)
        before = trained(session)
        with pytest.raises(RuntimeError, match="told to fail"):
            session.run(lot)
        assert all(np.array_equal(value, before[name]) for name, value in trained(session).items())
        session.run(lot)
    with pytest.raises(DataError):
        session.run({"x": lot["x"]})  # refused before any key is made
    session.run(lot)
    assert_fresh(recorded.uses)
    draws = [use.draw for use in recorded.uses]
    assert draws == sorted(set(draws)), "a number of a draw was given twice"
    assert len(draws) == (4 if failing == "accumulate" else 6)


class _Flaky(Recording):
    """Fails once, in the third call that draws noise."""

    def call(self, function: str, arguments: Any) -> list[Array]:
        if len(self.uses) == 2 and self.fail_at is None and not getattr(self, "failed", False):
            self.failed = True
            self.fail_at = len(self.calls)
        return super().call(function, arguments)


@pytest.mark.parametrize("batch", [8, 64])
def test_a_run_that_fails_in_a_step_and_begins_again(batch: int, tmp_path: Path) -> None:
    """``train`` on one ledger: an exception, the same session again, then another session, then a resumed one."""
    made = compiled(model, "cpu", batch, dpsgd(CLIP, LOT, SIGMA, RATE))
    engine = _Flaky(made.engine(), made.artifact.manifest)
    session = Session.load(made.artifact, engine, seed=1)
    data = rows(90)
    with pytest.raises(RuntimeError, match="told to fail"):
        session.train(data, steps=6, run_dir=tmp_path / "run")
    session.train(data, steps=4, run_dir=tmp_path / "run")
    other, again = made.session(seed=1)
    other.train(data, steps=4, run_dir=tmp_path / "run", checkpoints=Checkpoints(tmp_path / "kept", every_steps=2))
    resumed, third = made.session(seed=1)
    resumed.train(
        data, steps=8, run_dir=tmp_path / "run", checkpoints=Checkpoints(tmp_path / "kept", every_steps=2), resume=True
    )
    uses = [*engine.uses, *again.uses, *third.uses]
    assert len(uses) >= 3 + 4 + 4 + 4 - 1
    assert_fresh(uses)
    draws = [use.draw for use in uses]
    assert draws == sorted(set(draws)), "a number of a draw was given twice, or went back"


def test_a_forked_child() -> None:
    """A session from before the fork takes no step in the child; one of its own draws noise of its own."""
    session, recorded = program("reference").session(seed=3)
    session.run(EMPTY)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        told: dict[str, Any] = {"refused": False, "uses": []}
        try:
            try:
                session.run(EMPTY)
            except LedgerError:
                told["refused"] = True
            mine, own = program("reference").session(seed=3)
            for _ in range(2):
                mine.run(EMPTY)
            told["uses"] = [(use.function, use.key.hex(), use.draw) for use in own.uses]
            os.write(writing, json.dumps(told).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = json.loads(pipe.read())
    os.waitpid(child, 0)
    session.run(EMPTY)
    assert told["refused"]
    assert len(told["uses"]) == 2
    assert_fresh([*recorded.uses, *(Use(name, bytes.fromhex(key), draw) for name, key, draw in told["uses"])])


def test_training_draws_what_it_counted(tmp_path: Path) -> None:
    """One draw per step, numbered as the ledger numbers it; physical batches of a lot share the one draw."""
    session, recorded = program("cpu").session(seed=3)
    result = session.train(rows(90), steps=10, run_dir=tmp_path)
    assert result.step == 10
    assert [use.draw for use in recorded.uses] == list(range(10))
    assert {use.function for use in recorded.uses} <= {"step", "apply"}
    assert_fresh(recorded.uses)
