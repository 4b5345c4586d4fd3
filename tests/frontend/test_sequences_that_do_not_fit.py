"""What Paddle 1.8.5 refuses when a program runs is refused by compiled code, too: rows of one sequence never pass for
those of another, and no row is left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fluidc.frontend as fluid
from fluidc.compiler.errors import LoweringError
from fluidc.runtime.errors import DataError

layers = fluid.layers
ROWS = np.arange(12, dtype=np.float32).reshape(6, 2)


def trained(build: Callable[[Any], Any], feeds: dict[str, Any], target: str) -> np.ndarray:
    """A step on rows that a weight scales; returns what ``build`` made of them."""
    main, startup = fluid.Program(), fluid.Program()
    with fluid.unique_name.guard(), fluid.program_guard(main, startup), fluid.scope_guard(fluid.Scope()):
        x = layers.data("x", [2], lod_level=1)
        weight = layers.create_parameter([2], "float32", default_initializer=fluid.initializer.Constant(1.0))
        out = build(layers.elementwise_mul(x, weight))
        fluid.optimizer.SGD(0.1).minimize(layers.reduce_sum(out))
        exe = fluid.Executor(fluid.CPUPlace(), target=target)
        exe.run(startup)
        rows = fluid.create_lod_tensor(ROWS, [[3, 3]], fluid.CPUPlace())
        (found,) = exe.run(main, feed={"x": rows, **feeds}, fetch_list=[out], return_numpy=False)
    return np.array(found)


def cut(x: Any) -> Any:
    return layers.sequence_slice(
        x, layers.data("offset", [1], dtype="int64"), layers.data("length", [1], dtype="int64")
    )


def by_offsets(x: Any) -> Any:
    offsets = layers.data("offsets", [3], dtype="int32", append_batch_size=False)
    return layers.sequence_pool(layers.lod_reset(x, y=offsets), "sum")


@pytest.mark.parametrize("target", ["reference", "cpu"])
def test_what_fits(target: str) -> None:
    found = trained(cut, {"offset": np.array([[1], [0]]), "length": np.array([[2], [1]])}, target)
    assert np.array_equal(found, ROWS[[1, 2, 3]])
    found = trained(by_offsets, {"offsets": np.array([0, 2, 6], np.int32)}, target)
    assert np.array_equal(found, [ROWS[:2].sum(0), ROWS[2:].sum(0)])


@pytest.mark.parametrize(
    ("offset", "length", "message"),
    [([1, 0], [3, 1], r"\[4, 1\], and not within 0 and \[3, 3\]"), ([-1, 0], [2, 1], r"\[-1, 0\], and not within 0")],
)
def test_a_slice_beyond_its_sequence(offset: list[int], length: list[int], message: str) -> None:
    feeds = {"offset": np.array(offset)[:, None], "length": np.array(length)[:, None]}
    with pytest.raises(DataError, match=message):
        trained(cut, feeds, "reference")


@pytest.mark.parametrize("offsets", [[0, 2, 5], [0, 2, 7], [0, 7, 6], [1, 2, 6]])
def test_offsets_that_do_not_divide_the_rows(offsets: list[int]) -> None:
    message = "and not to 6|do not ascend from 0"
    with pytest.raises(DataError, match=message):
        trained(by_offsets, {"offsets": np.array(offsets, np.int32)}, "reference")
    if offsets[0] == 0 and sorted(offsets) == offsets:
        with pytest.raises(DataError, match=message):
            trained(lambda x: layers.sequence_pool(layers.lod_reset(x, target_lod=offsets), "sum"), {}, "reference")


def test_offsets_that_never_divide_the_rows() -> None:
    def fixed(x: Any) -> Any:
        weight = layers.create_parameter([4, 2], "float32")
        parts = layers.sequence_pool(layers.lod_reset(weight, target_lod=[0, 2, 5]), "sum")
        return layers.elementwise_add(layers.reduce_sum(x), layers.reduce_sum(parts))

    with pytest.raises(LoweringError, match="the offsets do not divide"):
        trained(fixed, {}, "reference")


def test_offsets_of_another_number_of_sequences() -> None:
    def fixed(x: Any) -> Any:
        return layers.sequence_slice(x, layers.assign(np.array([[0], [0]])), layers.assign(np.array([[0], [0]])))

    with pytest.raises(LoweringError, match="for N sequences"):
        trained(fixed, {}, "reference")
