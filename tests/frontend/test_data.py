"""Readers, feeders, LoD tensors, scopes, places and metrics."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fluidc.frontend as fluid
from fluidc.frontend.errors import ArgumentTypeError, ProgramError
from fluidc.runtime.cuda import cudart

CPU = fluid.CPUPlace()


def counting(n: int) -> Any:
    return lambda: iter(range(n))


def test_batch() -> None:
    assert list(fluid.io.batch(counting(5), 2)()) == [[0, 1], [2, 3], [4]]
    assert list(fluid.io.batch(counting(5), 2, drop_last=True)()) == [[0, 1], [2, 3]]
    with pytest.raises(ValueError, match="batch_size is 0"):
        fluid.io.batch(counting(5), 0)


def test_shuffle_stays_within_its_window() -> None:
    random.seed(0)
    found = list(fluid.io.shuffle(counting(10), 5)())
    assert found != list(range(10))
    assert sorted(found[:5]) == [0, 1, 2, 3, 4]
    assert sorted(found[5:]) == [5, 6, 7, 8, 9]


def test_chain_map_firstn_cache() -> None:
    assert list(fluid.io.chain(counting(2), counting(3))()) == [0, 1, 0, 1, 2]
    assert list(fluid.io.map_readers(lambda a, b: a * b, counting(4), counting(4))()) == [0, 1, 4, 9]
    assert list(fluid.io.firstn(counting(10), 3)()) == [0, 1, 2]
    reads: list[int] = []

    def noted() -> Iterator[int]:
        reads.append(1)
        yield from range(3)

    cached = fluid.io.cache(noted)
    assert [list(cached()), list(cached())] == [[0, 1, 2]] * 2
    assert len(reads) == 1


def test_compose_flattens_and_checks() -> None:
    pairs = lambda: iter([(1, 2), (3, 4)])  # noqa: E731 - a reader is a function
    assert list(fluid.io.compose(counting(2), pairs)()) == [(0, 1, 2), (1, 3, 4)]
    with pytest.raises(fluid.io.ComposeNotAligned):
        list(fluid.io.compose(counting(3), counting(2))())
    assert list(fluid.io.compose(counting(3), counting(2), check_alignment=False)()) == [(0, 0), (1, 1)]


def test_buffered_hands_over_samples_and_errors() -> None:
    assert list(fluid.io.buffered(counting(100), 3)()) == list(range(100))

    def broken() -> Iterator[int]:
        yield 1
        raise KeyError("row 2")

    stream = iter(fluid.io.buffered(broken, 2)())
    assert next(stream) == 1
    with pytest.raises(KeyError, match="row 2"):
        next(stream)


def test_buffered_stops_its_thread_when_abandoned() -> None:
    produced: list[int] = []

    def endless() -> Iterator[int]:
        while True:
            produced.append(1)
            yield 0

    stream = iter(fluid.io.buffered(endless, 2)())
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    count = len(produced)
    time.sleep(0.25)
    assert len(produced) == count


def test_lod_tensor_from_array_and_lists() -> None:
    rows = np.arange(10, dtype=np.float32).reshape(5, 2)
    tensor = fluid.create_lod_tensor(rows, [[2, 3]], CPU)
    assert (tensor.lod(), tensor.recursive_sequence_lengths()) == ([[0, 2, 5]], [[2, 3]])
    np.testing.assert_array_equal(np.array(tensor), rows)
    listed = fluid.create_lod_tensor([[1, 2], [3]], [[2, 1]], CPU)
    assert (listed.shape(), np.array(listed).dtype) == ([3, 1], np.int64)
    again = fluid.create_lod_tensor(listed, [[1, 2]], CPU)
    assert again.lod() == [[0, 1, 3]]


def test_lod_tensor_refuses_wrong_lengths() -> None:
    with pytest.raises(ProgramError, match=r"lengths \[\[2, 2\]\] for 5 rows"):
        fluid.create_lod_tensor(np.zeros((5, 1)), [[2, 2]], CPU)
    with pytest.raises(ProgramError, match="the sequences have lengths"):
        fluid.create_lod_tensor([[1, 2], [3]], [[1, 2]], CPU)


def test_random_lod_tensor() -> None:
    tensor = fluid.create_random_int_lodtensor([[2, 4]], [3], CPU, low=1, high=2)
    values = np.array(tensor)
    assert values.shape == (6, 3)
    assert set(values.flat) <= {1, 2}


def test_buffers_are_aligned_and_kept() -> None:
    tensor = fluid.LoDTensor()
    with pytest.raises(ProgramError, match="holds no data"):
        _ = tensor.array
    tensor.set(np.ones((3, 5), np.float32), CPU)
    buffer = tensor.array
    assert buffer.ctypes.data % 64 == 0
    tensor.set(np.zeros((3, 5), np.float32), CPU)
    assert tensor.array is buffer
    assert not buffer.any()
    copy = np.array(tensor)
    copy[...] = 7
    assert not buffer.any()
    tensor.set(np.zeros((4, 5), np.float32), CPU)
    assert tensor.array is not buffer
    with pytest.raises(ArgumentTypeError, match="Python objects"):
        tensor.set(np.array([None]), CPU)


def test_scopes() -> None:
    scope = fluid.Scope()
    assert scope.find_var("w") is None
    with fluid.scope_guard(scope):
        assert fluid.global_scope() is scope
        scope.var("w").get_tensor().set(np.ones(3), CPU)
    assert fluid.global_scope() is not scope
    found = scope.find_var("w")
    assert found is not None
    assert np.array(found.get_tensor()).tolist() == [1, 1, 1]
    scope.erase(["w"])
    assert scope.find_var("w") is None


def test_data_feeder() -> None:
    main = fluid.Program()
    with fluid.program_guard(main, fluid.Program()):
        image = fluid.layers.data("image", [1, 2, 2])
        fluid.layers.data("label", [1], dtype="int64")
        words = fluid.layers.data("words", [1], dtype="int64", lod_level=1)
    feeder = fluid.DataFeeder([image, "label", words], CPU, main)
    fed = feeder.feed([([0, 1, 2, 3], 5, [7, 8]), ([4, 5, 6, 7], 6, [9])])
    assert {n: (t.shape(), np.array(t).dtype.name) for n, t in fed.items()} == {
        "image": ([2, 1, 2, 2], "float32"),
        "label": ([2, 1], "int64"),
        "words": ([3, 1], "int64"),
    }
    assert fed["words"].lod() == [[0, 2, 3]]
    with pytest.raises(ProgramError, match="a sample has 2 fields, but feed_list has 3"):
        feeder.feed([([0, 1, 2, 3], 5)])
    with pytest.raises(ProgramError, match=r"field image has samples of shape \[3\], declared is \[1, 2, 2\]"):
        feeder.feed([([0, 1, 2], 5, [1])])


def test_places() -> None:
    assert fluid.CUDAPlace(1) == fluid.CUDAPlace(1) != fluid.CUDAPlace(0)
    assert len(fluid.cpu_places(3)) == 3
    assert fluid.cuda_places([0, 2]) == [fluid.CUDAPlace(0), fluid.CUDAPlace(2)]


@pytest.mark.parametrize("count", [0, 2])
def test_places_are_those_of_the_devices_that_are_there(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cudart, "device_count", lambda: count)
    monkeypatch.delenv("FLAGS_selected_gpus", raising=False)
    assert fluid.is_compiled_with_cuda() is (count > 0)
    assert fluid.cuda_places() == [fluid.CUDAPlace(i) for i in range(count)]
    monkeypatch.setenv("FLAGS_selected_gpus", "1,3")
    assert fluid.cuda_places() == [fluid.CUDAPlace(1), fluid.CUDAPlace(3)]


def test_accuracy_is_weighted() -> None:
    metric = fluid.metrics.Accuracy()
    with pytest.raises(ProgramError, match="nothing has been taken in"):
        metric.eval()
    metric.update(value=np.array([0.5]), weight=10)
    metric.update(value=0.8, weight=30)
    assert metric.eval() == pytest.approx(0.725)
    metric.reset()
    metric.update(1.0, 1)
    assert metric.eval() == 1.0


def test_precision_and_recall() -> None:
    both = fluid.metrics.CompositeMetric()
    both.add_metric(fluid.metrics.Precision())
    both.add_metric(fluid.metrics.Recall())
    both.update(np.array([[0.9], [0.8], [0.1], [0.7]]), np.array([[1], [0], [1], [1]]))
    assert both.eval() == [pytest.approx(2 / 3), pytest.approx(2 / 3)]


def test_auc_against_pairs() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.random(200), rng.integers(0, 2, 200)
    metric = fluid.metrics.Auc("auc")
    for part in np.split(np.arange(200), 4):
        metric.update(np.stack([1 - scores[part], scores[part]], 1), labels[part, None])
    positive, negative = scores[labels == 1], scores[labels == 0]
    exact = np.mean(positive[:, None] > negative[None, :])
    assert metric.eval() == pytest.approx(exact, abs=2e-3)
