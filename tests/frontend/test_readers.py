"""Readers of programs and loaders: what they say to mistakes, when their threads end, and what they leave alone.

Their batches are held to Paddle's in test_running_as_paddle.py.
"""

from __future__ import annotations

import gc
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fluidc.frontend as fluid
from fluidc.frontend.dataloader import BatchSampler, Dataset
from fluidc.frontend.errors import EOFException, ProgramError
from fluidc.frontend.prefetch import Prefetch
from fluidc.runtime.errors import FluidcError

CPU = fluid.CPUPlace()
ROWS = np.ones((2, 3), np.float32)
THREE: Any = 3  # what no argument takes


@pytest.fixture(autouse=True)
def _programs() -> Iterator[None]:
    with (
        fluid.program_guard(fluid.Program(), fluid.Program()),
        fluid.unique_name.guard(),
        fluid.scope_guard(fluid.Scope()),
    ):
        yield


def executor() -> fluid.Executor:
    return fluid.Executor(target="reference")


def run(*fetches: Any, **named: Any) -> list[Any]:
    return executor().run(fluid.default_main_program(), fetch_list=list(fetches), **named)


def loader(source: Callable[[], Iterator[Any]] | None = None, **options: Any) -> tuple[Any, fluid.Variable]:
    """A reader of the program, and the sum of what it reads."""
    x = fluid.data("x", [None, 3])
    made = fluid.io.DataLoader.from_generator(feed_list=[x], capacity=4, iterable=False, **options)
    if source is not None:
        made.set_batch_generator(source)
    return made, fluid.layers.reduce_sum(x)


def one_batch() -> Iterator[Any]:
    yield (ROWS,)


def alive() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


# Mistakes -----------------------------------------------------------------------------------------------


def test_start_was_forgotten() -> None:
    _, total = loader(one_batch)
    with pytest.raises(ProgramError, match=r"was not started\n  at .*test_readers.py:.*\n  call start\(\)"):
        run(total)


def test_reset_was_forgotten() -> None:
    made, total = loader(one_batch)
    made.start()
    run(total)
    with pytest.raises(EOFException, match=r"no more data after 1 batches\n  at .*test_readers.py:.*\n  catch "):
        run(total)
    with pytest.raises(EOFException, match="at the end of its data since an earlier run"):
        run(total)
    with pytest.raises(ProgramError, match=r"at the end of its data\n.*\n  call reset\(\)"):
        made.start()
    made.reset()
    made.start()
    assert run(total)[0] == 6.0
    with pytest.raises(ProgramError, match="was started already"):
        made.start()


def test_the_end_of_the_data_is_no_error_of_the_program() -> None:
    assert fluid.core.EOFException is EOFException
    assert not issubclass(EOFException, fluid.core.EnforceNotMet)
    with pytest.raises(fluid.core.EnforceNotMet, match="has no value: the startup program has not been run"):
        run(fluid.layers.fc(fluid.data("z", [None, 2]), 1), feed={"z": np.ones((1, 2), "f4")})


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda x, made: made.start(), "has no data source"),
        (lambda x, made: iter(made), "not iterable"),
        (lambda x, made: made.set_batch_generator(THREE), "the data source is int"),
        (lambda x, made: made.set_sample_generator(one_batch, 0), "batch_size is 0"),
        (lambda x, made: fluid.io.DataLoader.from_generator(feed_list=[x]), "capacity is None"),
        (lambda x, made: fluid.io.DataLoader.from_generator(capacity=2), "feed_list is None"),
        (lambda x, made: fluid.io.DataLoader.from_generator([THREE], 2), "feed_list holds int"),
        (lambda x, made: fluid.io.DataLoader.from_generator([x], 2).start(), "start: the DataLoader is iterable"),
        (lambda x, made: fluid.io.DataLoader.from_generator([x], 2).reset(), "reset: the DataLoader is iterable"),
        (lambda x, made: iter(fluid.io.DataLoader.from_generator([x], 2)), "has no data source"),
        (lambda x, made: fluid.io.DataLoader.from_generator([x], 2).set_batch_generator(one_batch), "places is None"),
        (lambda x, made: fluid.io.PyReader([x], 2).decorate_batch_generator(one_batch, [THREE]), "places holds 3"),
        (lambda x, made: fluid.layers.read_file(x), "the reader is Variable"),
        (lambda x, made: fluid.layers.py_reader(2, [(-1, 3)], []), "1 shapes, 0 dtypes"),
        (lambda x, made: fluid.layers.create_py_reader_by_data(2, x), "feed_list is Variable"),
        (lambda x, made: fluid.io.DataLoader(THREE, [x], CPU), "dataset is int"),
        (lambda x, made: fluid.io.DataLoader(Counting(), [x]), "places is None"),
        (lambda x, made: fluid.io.DataLoader(Counting(), None, CPU), "feed_list is None"),
        (lambda x, made: fluid.io.DataLoader(Counting(), [x], CPU, num_workers=-1), "num_workers=-1"),
        (
            lambda x, made: fluid.io.DataLoader(
                Counting(), [x], CPU, batch_sampler=BatchSampler(Counting()), batch_size=2
            ),
            "are the batch_sampler's",
        ),
        (lambda x, made: BatchSampler(), "give either dataset or indices"),
        (lambda x, made: BatchSampler(Counting(), batch_size=0), "batch_size is 0"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_mistakes_are_refused_where_they_are_made(act: Callable[..., object], says: str) -> None:
    x = fluid.data("x", [None, 3])
    made = fluid.io.DataLoader.from_generator([x], 2, iterable=False)
    with pytest.raises(FluidcError, match=says) as caught:
        act(x, made)
    assert "test_readers.py:" in (caught.value.where or "")
    assert caught.value.hint


def test_batches_that_do_not_fit() -> None:
    made, total = loader(lambda: iter([(ROWS, ROWS)]))
    made.start()
    with pytest.raises(ProgramError, match="a batch has 2 fields, but is read into 1 variables \\(x\\)"):
        run(total)
    made.reset()
    made.set_batch_generator(lambda: iter([([[1.0, 2.0, 3.0], [1.0]],)]))
    made.start()
    with pytest.raises(FluidcError, match="field x holds lists of different lengths"):
        run(total)


def test_an_error_of_the_data_reaches_the_script_as_it_is() -> None:
    def broken() -> Iterator[Any]:
        yield (ROWS,)
        raise KeyError("no such file")

    made, total = loader(broken)
    made.start()
    run(total)
    with pytest.raises(KeyError, match="no such file") as caught:
        run(total)
    assert "broken" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    made.reset()
    assert not alive()


def test_samples_that_do_not_fit_have_the_line_of_the_run() -> None:
    x, y = fluid.data("x", [None, 3]), fluid.data("y", [None, 1])
    made = fluid.io.DataLoader.from_generator([x, y], 2)
    made.set_sample_list_generator(lambda: iter([[(np.ones(3),)]]), CPU)
    with pytest.raises(ProgramError, match="a sample has 1 fields") as caught:
        next(iter(made))
    assert "test_readers.py:" in (caught.value.where or "")


# Threads ------------------------------------------------------------------------------------------------


def endless() -> Iterator[Any]:
    while True:
        yield (ROWS,)


def test_threads_end_with_reset_and_with_the_last_item() -> None:
    made, total = loader(endless)
    made.start()
    run(total)
    assert len(alive()) == 1
    made.reset()
    assert not alive()


def test_threads_do_not_outlive_what_reads() -> None:
    x = fluid.data("x", [None, 3])
    made = fluid.io.DataLoader.from_generator([x], 2)
    made.set_batch_generator(endless, CPU)
    for _ in made():
        break
    (thread,) = alive()
    iter(made)  # begins anew, and ends the thread of the first time
    assert not thread.is_alive()
    (thread,) = alive()
    del made
    gc.collect()
    thread.join(5.0)
    assert not thread.is_alive()


def test_the_program_owns_its_reader() -> None:
    with fluid.program_guard(program := fluid.Program(), fluid.Program()):
        made, total = loader(endless)
        made.start()
    (thread,) = alive()
    del made, total, program
    gc.collect()
    thread.join(5.0)
    assert not thread.is_alive()


def test_prefetch_makes_no_more_than_it_is_told() -> None:
    made: list[int] = []

    def counting() -> Iterator[int]:
        for i in range(100):
            made.append(i)
            yield i

    ahead = Prefetch(counting, 3)
    assert next(ahead) == 0
    ahead.close()
    assert len(made) <= 6  # three wait, one is taken, one is in the source's hand, one in the thread's
    assert list(ahead) == []


# What a reader leaves alone -----------------------------------------------------------------------------


def test_a_reader_that_is_not_started_may_be_fed() -> None:
    made, total = loader(one_batch)
    assert run(total, feed={"x": 5 * ROWS})[0] == 30.0
    made.start()
    assert run(total, feed={"x": 5 * ROWS})[0] == 6.0, "a reader that runs takes the place of what is fed"


def test_a_failed_run_changes_nothing() -> None:
    x = fluid.data("x", [None, 3])
    made = fluid.io.DataLoader.from_generator([x], 2, iterable=False)
    made.set_batch_generator(one_batch)
    counter = fluid.layers.autoincreased_step_counter()
    fluid.optimizer.SGD(0.1).minimize(fluid.layers.mean(fluid.layers.fc(x, 1)))
    exe = executor()
    exe.run(fluid.default_startup_program())
    made.start()
    assert exe.run(fetch_list=[counter])[0] == 1
    before = {name: np.array(fluid.global_scope().var(name).get_tensor()) for name in ("fc_0.w_0", "@STEP_COUNTER@")}
    with pytest.raises(EOFException):
        exe.run(fetch_list=[counter])
    for name, value in before.items():
        np.testing.assert_array_equal(np.array(fluid.global_scope().var(name).get_tensor()), value)


def test_programs_with_readers_are_cloned_saved_and_read(tmp_path: Path) -> None:
    x = fluid.data("x", [None, 3])
    made = fluid.io.DataLoader.from_generator([x], 2, iterable=False)
    made.set_batch_generator(one_batch)
    out = fluid.layers.fc(x, 1, param_attr=fluid.initializer.Constant(1.0))
    test = fluid.default_main_program().clone(for_test=True)
    exe = executor()
    exe.run(fluid.default_startup_program())
    made.start()
    np.testing.assert_array_equal(exe.run(test, fetch_list=[out])[0], [[3.0], [3.0]])
    with pytest.raises(EOFException):  # the clone reads from the same queue
        exe.run(fetch_list=[out])
    fluid.io.save_persistables(exe, tmp_path / "values")
    assert sorted(path.name for path in (tmp_path / "values").iterdir()) == ["fc_0.b_0", "fc_0.w_0"]
    fluid.io.save_inference_model(tmp_path / "model", ["x"], [out], exe)
    program, feeds, fetches = fluid.io.load_inference_model(tmp_path / "model", exe)
    assert feeds == ["x"]
    np.testing.assert_array_equal(exe.run(program, feed={"x": 2 * ROWS}, fetch_list=fetches)[0], [[6.0], [6.0]])
    again = fluid.Program.parse_from_string(fluid.default_main_program().desc.serialize_to_string())
    with pytest.raises(ProgramError, match=r"came with a saved program, without its data\n.*\n  feed what it read: x"):
        exe.run(again, fetch_list=[out.name])
    np.testing.assert_array_equal(exe.run(again, feed={"x": ROWS}, fetch_list=[out.name])[0], [[3.0], [3.0]])


# Data sets by index -------------------------------------------------------------------------------------


class Counting(Dataset):
    def __len__(self) -> int:
        return 7

    def __getitem__(self, idx: int) -> Any:
        return (np.full(3, idx, np.float32),)


def firsts(loader: Any) -> list[list[float]]:
    return [np.asarray(data[0]["x"])[:, 0].tolist() for data in loader]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_workers_keep_the_order(workers: int) -> None:
    started: list[int] = []
    x = fluid.data("x", [None, 3])
    options: dict[str, Any] = {"batch_size": 2, "num_workers": workers, "worker_init_fn": started.append}
    made = fluid.io.DataLoader(Counting(), [x], CPU, **options)
    assert firsts(made) == [[0, 1], [2, 3], [4, 5], [6]]
    assert (started == []) if not workers else (0 in started and set(started) <= set(range(workers)))


def test_an_error_of_a_worker_reaches_the_script() -> None:
    class Broken(Counting):
        def __getitem__(self, idx: int) -> Any:
            raise LookupError(f"sample {idx}")

    x = fluid.data("x", [None, 3])
    for workers in (0, 2):
        with pytest.raises(LookupError, match="sample 0"):
            firsts(fluid.io.DataLoader(Broken(), [x], CPU, num_workers=workers))


def test_a_shuffle_follows_the_seed() -> None:
    x = fluid.data("x", [None, 3])
    orders = []
    for _ in range(2):
        np.random.seed(3)
        orders.append(firsts(fluid.io.DataLoader(Counting(), [x], CPU, batch_size=7, shuffle=True)))
    assert orders[0] == orders[1]
    assert sorted(orders[0][0]) == list(range(7)) != orders[0][0]


def test_places_take_turns() -> None:
    x = fluid.data("x", [None, 3])
    found = [len(data) for data in fluid.io.DataLoader(Counting(), [x], [CPU] * 2, batch_size=2)]
    assert found == [2, 2]


# Decorators ---------------------------------------------------------------------------------------------


def test_xmap_readers_keep_the_order() -> None:
    for order in (True, False):
        mapped = fluid.io.xmap_readers(lambda i: i * i, lambda: iter(range(20)), 4, 3, order)
        assert list(mapped()) == [i * i for i in range(20)] == list(mapped())


def test_xmap_readers_hand_over_errors_and_end_their_threads() -> None:
    def fails(i: int) -> int:
        return 1 // (3 - i)

    with pytest.raises(ZeroDivisionError):
        list(fluid.io.xmap_readers(fails, lambda: iter(range(9)), 2, 2)())
    endless: Any = fluid.io.xmap_readers(lambda i: i, lambda: iter(lambda: 1, 2), 2, 2)()
    assert next(iter(endless)) == 1
    endless.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("prefetch", "xmap_readers"))]
    with pytest.raises(ValueError, match="both must be positive"):
        fluid.io.xmap_readers(fails, lambda: iter(()), 0, 2)


def test_multiprocess_reader_takes_turns() -> None:
    readers = [lambda: iter([1, 2, 3]), lambda: iter([10]), lambda: iter([20, 30])]
    assert list(fluid.io.multiprocess_reader(readers)()) == [1, 10, 20, 2, 30, 3]
    with pytest.raises(ValueError, match="readers is empty"):
        fluid.io.multiprocess_reader([])
    with pytest.raises(ValueError, match="None as a sample"):
        list(fluid.io.multiprocess_reader([lambda: iter([1, None])])())


def test_feeders_make_batches_for_several_devices() -> None:
    feeder = fluid.DataFeeder([fluid.data("x", [None, 3])], CPU)
    batch = [(np.ones(3),), (np.zeros(3),)]
    feeds = list(feeder.feed_parallel([batch, batch[:1]]))
    assert [feed["x"].shape() for feed in feeds] == [[2, 3], [1, 3]]
    with pytest.raises(ProgramError, match="2 batches for 3 places"):
        feeder.feed_parallel([batch, batch], 3)
    reader = feeder.decorate_reader(lambda: iter([batch] * 3), multi_devices=True, num_places=2)
    assert [len(feeds) for feeds in reader()] == [2]
    reader = feeder.decorate_reader(lambda: iter([batch] * 3), multi_devices=True, num_places=2, drop_last=False)
    with pytest.raises(ProgramError, match="the last 1 batches are too few for 2 places"):
        list(reader())
    assert [feed["x"].shape() for feed in feeder.decorate_reader(lambda: iter([batch]), False)()] == [[2, 3]]
