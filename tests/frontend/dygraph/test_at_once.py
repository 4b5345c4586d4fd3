"""Ops of eager mode whose results are as long as the data says."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import fluidc.frontend as fluid
from fluidc.frontend.dygraph.base import eager_program
from fluidc.frontend.errors import ProgramError, UnsupportedError

L = fluid.layers


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(eager_program().recorder, "has_private", False)
    with fluid.dygraph.guard():
        yield


def variable(values: list[object], dtype: str) -> fluid.Variable:
    return fluid.dygraph.to_variable(np.array(values, dtype))


def test_what_is_distinct_and_what_is_true() -> None:
    x = variable([3, 1, 3, 7], "int64")
    distinct, index, count = L.unique_with_counts(x)
    assert distinct.shape == [3]
    assert distinct.numpy().tolist() == [3, 1, 7]
    assert index.numpy().dtype == np.int32
    assert index.numpy().tolist() == [0, 1, 0, 2]
    assert count.numpy().tolist() == [2, 1, 1]
    places = L.where(x > 2)
    assert places.shape == [3, 1]
    assert L.gather(x, L.reshape(places, [-1])).numpy().tolist() == [3, 3, 7]


def test_no_gradient_passes() -> None:
    weight = L.create_parameter([3], "float32", default_initializer=fluid.initializer.ConstantInitializer(2.0))
    distinct, _ = L.unique(weight * 1.0)
    assert distinct.stop_gradient
    L.reduce_sum(distinct * weight).backward()
    assert weight.gradient().tolist() == [2.0, 2.0, 2.0]


def test_print_shows_the_value_and_passes_it_on(capsys: pytest.CaptureFixture[str]) -> None:
    weight = L.create_parameter([2], "float32", default_initializer=fluid.initializer.ConstantInitializer(0.5))
    L.reduce_sum(L.Print(weight * 3.0, message="here")).backward()
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].endswith("\there\tThe place is:CPUPlace")
    assert printed[-1] == "\tdata: 1.5,1.5,"
    assert weight.gradient().tolist() == [3.0, 3.0]


def test_what_does_not_fit() -> None:
    with pytest.raises(ProgramError, match=r"edit_distance: .* has neither LoD nor lengths"):
        L.edit_distance(variable([[1], [2]], "int64"), variable([[1], [2]], "int64"))


def test_after_private_training_nothing_is_computed_out_of_sight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eager_program().recorder, "has_private", True)
    with pytest.raises(UnsupportedError, match=r"unique runs at once, on values, and there was private training"):
        L.unique(variable([1, 1], "int64"))
