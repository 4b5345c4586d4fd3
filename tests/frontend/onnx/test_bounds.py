"""What nodes state beyond the bounds of their operators: refused with the node's name, and what lies just within."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import NodeProto
from onnx_models import FLOAT, INT64, model, node, results

from fluidc.compiler.errors import FluidcError
from fluidc.frontend.compat.onnx import building, import_model

X = np.arange(24, dtype=np.float32).reshape(3, 8)


def i(*numbers: int) -> Any:
    return np.array(numbers, np.int64)


REFUSED: dict[str, tuple[NodeProto, dict[str, Any], str]] = {
    "an index": (
        node("Gather", ["x", "i"], ["y"], axis=1),
        {"i": i(8)},
        "Gather y: the index 8 lies outside of axis 1",
    ),
    "indices": (node("Gather", ["x", "i"], ["y"], axis=1), {"i": i(0, -9)}, "the index -9 lies outside of axis 1"),
    "elements": (
        node("GatherElements", ["x", "i"], ["y"], axis=1),
        {"i": np.full((3, 1), 8)},
        "GatherElements y: the index 8 lies outside of axis 1",
    ),
    "two numbers": (node("TopK", ["x", "k"], ["y", "z"]), {"k": i(1, 2)}, "TopK y: the input K holds 2 numbers"),
    "no number": (node("CumSum", ["x", "k"], ["y"]), {"k": i()}, "CumSum y: the input axis holds 0 numbers"),
    "a wide range": (
        node("Range", ["a", "b", "c"], ["y"]),
        {"a": np.array(-(2**63)), "b": np.array(2**63 - 1), "c": np.array(1)},
        "Range y: numbers: 1.84467e",
    ),
    "a norm": (node("LpNormalization", ["x"], ["y"], p=3), {}, "LpNormalization y: p is 3"),
    "a negative extent": (node("ConstantOfShape", ["s"], ["y"]), {"s": i(-1, 3)}, "y would have the shape [-1, 3]"),
    "negative repeats": (node("Tile", ["x", "s"], ["y"]), {"s": i(1, -2)}, "y would have the shape [3, -16]"),
    "a large choice": (
        node("Where", ["c", "a", "b"], ["y"]),
        {"c": np.ones((1, 1), bool), "a": np.zeros((60_000, 1), np.int64), "b": np.zeros((1, 60_000), np.int64)},
        "y would have the shape [60000, 60000]",
    ),
    "a large choice of rows": (
        node("Gather", ["a", "b"], ["y"]),
        {"a": np.zeros((2, 60_000), np.int64), "b": np.zeros(60_000, np.int64)},
        "y would have the shape [60000, 60000]",
    ),
    "many axes": (
        node("GatherND", ["i", "i"], ["y"], batch_dims=2**31),
        {"i": i(1, 2)},
        "GatherND y: 2147483648 axes of",
    ),
    "a large block": (
        node("Col2Im", ["x3", "s", "b"], ["y"]),
        {"x3": np.ones((1, 2**16, 1), np.float32), "s": i(256, 256), "b": i(256, 256)},
        "Col2Im y: weights of blocks: 4.29497e+09",
    ),
    "many ops of constants": (node("Sum", ["c"] * 20_000, ["y"]), {"c": i(1)}, "Sum y: it takes more than 10000 ops"),
    "many ops": (node("Sum", ["x"] * 20_000, ["y"]), {}, "Sum y: it takes more than 10000 ops"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_out_of_bounds_is_refused(case: str) -> None:
    made, constants, what = REFUSED[case]
    with pytest.raises(FluidcError) as caught:
        import_model(model([made], {"x": (FLOAT, [3, 8])}, ["y"], constants))
    assert what in caught.value.what
    assert caught.value.hint
    assert "shapes=" not in caught.value.hint  # no extent is open


TOGETHER: dict[str, tuple[NodeProto, dict[str, Any]]] = {
    "ranges": (node("Range", ["a", "b", "c"], ["z"]), {"a": np.array(0), "b": np.array(2**16), "c": np.array(1)}),
    "places": (node("Pad", ["x", "p"], ["z"], mode="edge"), {"p": i(0, 0, 0, 2**16)}),
}


@pytest.mark.parametrize("kind", TOGETHER)
def test_constants_that_nodes_become_have_a_bound_together(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "MOST_MADE", 1 << 21)
    made, constants = TOGETHER[kind]
    nodes = [made, node("Relu", ["x"], ["y"])]
    import_model(model(nodes, {"x": (FLOAT, [3, 8])}, ["y"], constants))
    for number in range(4):
        nodes.insert(0, type(made).FromString(made.SerializeToString()))
        nodes[0].output[0] = f"z{number}"
    with pytest.raises(FluidcError, match="the constants that are computed while importing take more than"):
        import_model(model(nodes, {"x": (FLOAT, [3, 8])}, ["y"], constants))


def test_numbers_of_the_file_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "MOST_MADE", 1 << 10)
    proto = model([node("MatMul", ["x", "w"], ["y"])], {"x": (FLOAT, [3, 8])}, ["y"], {"w": np.eye(8, 99, dtype="f")})
    assert not import_model(proto, trainable=[]).parameters


def test_all_ops_together_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "MOST_MODEL_OPS", 100)
    nodes = [node("LRN", ["x"], [f"y{number}"], size=30) for number in range(10)]
    with pytest.raises(FluidcError, match="LRN y1: with it the model takes more than 100 ops"):
        import_model(model(nodes, {"x": (FLOAT, [3, 8, 2, 2])}, ["y0"]))


def test_indices_count_from_either_end() -> None:
    made = node("Gather", ["x", "i"], ["y"], axis=1)
    for index in (i(-8), i(7), i(-8, 7)):
        (y,) = results(model([made], {"x": (FLOAT, ["n", 8])}, ["y"], {"i": index}), {"x": X})
        np.testing.assert_array_equal(y, X[:, index])


def test_a_convolution_may_begin_in_the_padding_behind() -> None:
    """The last filter of a convolution may see zeros alone; that of a pooling that rounds up may not."""
    made = node("Conv", ["x", "w"], ["y"], pads=[1, 3])
    (y,) = results(
        model([made], {"x": (FLOAT, ["n", 1, 4])}, ["y"], {"w": np.ones((1, 1, 3), np.float32)}),
        {"x": np.array([[[1, 2, 3, 4]]], np.float32)},
    )
    np.testing.assert_array_equal(y, [[[3, 6, 9, 7, 4, 0]]])


def test_ids_that_are_computed_may_count_from_the_end() -> None:
    made = [node("Add", ["x", "one"], ["ids"]), node("Gather", ["w", "ids"], ["y"])]
    proto = model(made, {"x": (INT64, ["n"])}, ["y"], {"w": X, "one": np.array(1)})
    (y,) = results(proto, {"x": i(-2, 0)})
    np.testing.assert_array_equal(y, X[[-1, 1]])
