"""Which steps of a program count as steps on an accounted lot: not those that read rows elsewhere, nor those undone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fluidc.frontend as fluid
from fluidc.compiler.errors import PrivacyError
from fluidc.frontend.errors import EOFException
from fluidc.frontend.host.registry import RULES
from fluidc.runtime.errors import BudgetError, PrivacyWarning

L: Any = fluid.layers
ROWS = 8
X = np.random.default_rng(1).normal(size=(ROWS, 4)).astype("float32")
Y = np.arange(ROWS, dtype="int64").reshape(-1, 1) % 3
DATA = {"x": X, "y": Y}
STEPS = 4


@pytest.fixture(autouse=True)
def _programs() -> Iterator[None]:
    with (
        fluid.program_guard(fluid.Program(), fluid.Program()),
        fluid.unique_name.guard(),
        fluid.scope_guard(fluid.Scope()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", PrivacyWarning)
        yield


def model(x: Any = None, y: Any = None) -> tuple[Any, Any]:
    """Scores and the loss that Dpsgd minimises."""
    x = fluid.data("x", [None, 4]) if x is None else x
    y = fluid.data("y", [None, 1], "int64") if y is None else y
    scores = L.fc(x, 3)
    loss = L.mean(L.softmax_with_cross_entropy(scores, y))
    fluid.optimizer.Dpsgd(
        0.1, clip=1.0, batch_size=4.0, sigma=1.0, dataset_size=ROWS, delta=1e-3, max_steps=STEPS
    ).minimize(loss)
    return scores, loss


def executor() -> fluid.Executor:
    exe = fluid.Executor(target="reference")
    exe.run(fluid.default_startup_program())
    return exe


def spent() -> fluid.privacy.Spent:
    return fluid.privacy.spent(fluid.default_main_program())


def lots() -> Any:
    return fluid.privacy.poisson_batches(DATA, fluid.default_main_program())


def weights() -> list[bytes]:
    scope = fluid.global_scope()
    params = fluid.default_main_program().global_block().all_parameters()
    return [np.array(scope.var(p.name).get_tensor()).tobytes() for p in params]


def whole() -> Iterator[Any]:
    while True:
        yield X, Y


def last_ends_small() -> Iterator[Any]:
    yield X, Y
    yield X[:3], Y[:3]


def test_a_reader_in_the_place_of_the_lot() -> None:
    """The reader's rows are trained on; the lot that was fed with them buys no step."""
    with pytest.warns(DeprecationWarning, match="py_reader is deprecated"):
        reader = L.py_reader(4, [[-1, 4], [-1, 1]], ["float32", "int64"])
    x, y = L.read_file(reader)
    _, loss = model(x, y)
    reader.decorate_tensor_provider(whole)
    exe = executor()
    reader.start()
    drawn = fluid.privacy.poisson_batches({x.name: X, y.name: Y}, fluid.default_main_program())
    exe.run(feed=next(drawn), fetch_list=[loss])
    reader.reset()
    assert spent().epsilon is None
    assert spent().steps == 2  # the lot's, and that of the rows that were read


def test_batches_of_a_reader_are_lots_of_the_users_own() -> None:
    x, y = fluid.data("x", [None, 4]), fluid.data("y", [None, 1], "int64")
    loader = fluid.io.DataLoader.from_generator([x, y], 2, iterable=False)
    loader.set_batch_generator(last_ends_small)
    _, loss = model(x, y)
    exe = executor()
    loader.start()
    for step in (1, 2):
        exe.run(fetch_list=[loss])
        assert spent().steps == step
    before = weights()
    with pytest.raises(EOFException):
        exe.run(fetch_list=[loss])
    assert spent().steps == 2, "a run that read nothing is no step"
    assert spent().epsilon is None
    assert weights() == before


def test_a_reader_after_the_budget() -> None:
    x, y = fluid.data("x", [None, 4]), fluid.data("y", [None, 1], "int64")
    loader = fluid.io.DataLoader.from_generator([x, y], 2, iterable=False)
    loader.set_batch_generator(whole)
    model(x, y)
    exe = executor()
    loader.start()
    for _ in range(STEPS):
        exe.run()
    before = weights()
    with pytest.raises(BudgetError):
        exe.run()
    assert weights() == before
    loader.reset()
    loader.start()
    with pytest.raises(BudgetError):
        exe.run()
    assert spent().steps == STEPS
    loader.reset()


def of_a_loader(exe: fluid.Executor, loss: Any) -> None:
    block = fluid.default_main_program().global_block()
    made = fluid.io.DataLoader.from_generator([block.var("x"), block.var("y")], 2)
    made.set_batch_generator(lambda: iter([tuple(next(lots()).values())]), fluid.cpu_places(1))
    exe.run(feed=next(iter(made)), fetch_list=[loss])


def of_a_data_parallel_program(exe: fluid.Executor, loss: Any) -> None:
    program = fluid.CompiledProgram(fluid.default_main_program()).with_data_parallel(loss.name)
    exe.run(program, feed=[next(lots()), next(lots())], fetch_list=[loss])


def of_a_parallel_executor(exe: fluid.Executor, loss: Any) -> None:
    fluid.ParallelExecutor(False, loss.name).run([loss], feed=dict(next(lots())))


@pytest.mark.parametrize("run", [of_a_loader, of_a_data_parallel_program, of_a_parallel_executor])
def test_rows_that_come_another_way(run: Callable[[fluid.Executor, Any], None]) -> None:
    _, loss = model()
    exe = executor()
    exe.run(feed=next(lots()), fetch_list=[loss])
    assert spent().epsilon is not None
    run(exe, loss)
    assert spent().epsilon is None


def test_a_lot_in_a_compiled_program_stays_one() -> None:
    _, loss = model()
    exe = executor()
    program = fluid.CompiledProgram(fluid.default_main_program()).with_data_parallel(loss.name)
    exe.run(program, feed=next(lots()), fetch_list=[loss])
    assert spent().steps == 1
    assert spent().epsilon is not None


def test_files_of_a_dataset_are_lots_of_the_users_own(tmp_path: Path) -> None:
    _, loss = model()
    block = fluid.default_main_program().global_block()
    dataset = fluid.DatasetFactory().create_dataset("QueueDataset")
    file = tmp_path / "rows"
    file.write_text("".join(f"4 {' '.join(map(str, x))} 1 {y[0]}\n" for x, y in zip(X, Y)))
    dataset.set_batch_size(4)
    dataset.set_use_var([block.var("x"), block.var("y")])
    dataset.set_filelist([str(file)])
    exe = executor()
    exe.train_from_dataset(dataset=dataset, fetch_list=[loss])
    assert spent().steps == 2
    assert spent().epsilon is None


def test_a_metric_that_fails_on_a_lot(monkeypatch: pytest.MonkeyPatch) -> None:
    """The step that it undoes stays counted; that it is undone depends on examples, and ends the accounting."""
    x, y = fluid.data("x", [None, 4]), fluid.data("y", [None, 1], "int64")
    scores, _ = model(x, y)
    drawn = lots()  # of the program without the metric: no lots are drawn for what cannot be compiled
    one = L.fill_constant_batch_size_like(y, [-1], "int64", 1)
    guess = L.reshape(L.argmax(scores, 1), [-1, 1])
    (distance, _) = L.edit_distance(guess, y, normalized=False, input_length=one, label_length=one)
    exe = executor()
    exe.run(feed=next(drawn), fetch_list=[distance])
    assert spent().epsilon is not None
    before = weights()

    def fails(o: object) -> None:
        raise ValueError("told to fail")

    monkeypatch.setitem(RULES, "edit_distance", fails)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="told to fail"):
        exe.run(feed=next(drawn), fetch_list=[distance])
    assert weights() == before
    assert spent().steps == 2
    assert spent().epsilon is None


def test_a_metric_does_not_divide_a_step() -> None:
    """A part of its own would write what examples say into state, unseen by the rules of privacy."""
    x, y = fluid.data("x", [None, 4]), fluid.data("y", [None, 1], "int64")
    kept = L.create_global_var([1, 1], 0, "int64", persistable=True)
    one = L.fill_constant([1, 1], "int64", 1)
    L.edit_distance(kept, one, normalized=False, input_length=one, label_length=one)
    _, loss = model(x, y)
    L.assign(L.reduce_sum(y, dim=[0], keep_dim=True), kept)
    with pytest.raises(PrivacyError, match=r"edit_distance runs on the host and reads a variable .* divide the step"):
        executor().run(feed=DATA, fetch_list=[loss])
