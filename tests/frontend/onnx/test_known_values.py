"""What a model computes of constants and shapes is known while it is imported, whatever ops it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from onnx import NodeProto, numpy_helper
from onnx_models import FLOAT, model, node, results

from fluidc.frontend.compat.onnx import import_model
from fluidc.frontend.lower.module import lower

Array = np.ndarray
X = np.arange(6, dtype=np.float32).reshape(3, 1, 2)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def computed(nodes: Sequence[NodeProto], initial: Mapping[str, Array], batch: int | str) -> Array:
    proto = model(nodes, {"x": (FLOAT, [batch, 1, 2])}, ["y"], initial)
    return results(proto, {"x": X}, trainable=())[0]


@pytest.mark.parametrize("batch", [3, "N"])
def test_expand_as_pytorch_writes_it(batch: int | str) -> None:
    """``x.expand(-1, 4, -1)``: where -1 is asked for, the extent is kept."""
    ones = numpy_helper.from_array(np.ones(1, np.int64))
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "first"], ["rows"]),
        node("Unsqueeze", ["rows", "front"], ["rows1"]),
        node("Concat", ["rows1", "rest"], ["wanted"], axis=0),
        node("Shape", ["wanted"], ["rank"]),
        node("ConstantOfShape", ["rank"], ["ones"], value=ones),
        node("Mul", ["ones", "minus"], ["kept"]),
        node("Equal", ["wanted", "kept"], ["same"]),
        node("Where", ["same", "ones", "wanted"], ["asked"]),
        node("Expand", ["x", "asked"], ["y"]),
    ]
    initial = {"first": np.array(0), "front": ints(0), "rest": ints(4, -1), "minus": np.array(-1)}
    np.testing.assert_array_equal(computed(nodes, initial, batch), np.broadcast_to(X, (3, 4, 2)))


def test_arithmetic_of_a_fixed_shape() -> None:
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("ReduceProd", ["shape"], ["count"], keepdims=0),
        node("Cast", ["count"], ["real"], to=FLOAT),
        node("Sqrt", ["real"], ["root"]),
        node("Floor", ["root"], ["floor"]),
        node("Cast", ["floor"], ["side"], to=7),
        node("Unsqueeze", ["side", "front"], ["side1"]),
        node("Concat", ["side1", "open"], ["wanted"], axis=0),
        node("Reshape", ["x", "wanted"], ["y"]),
    ]
    np.testing.assert_array_equal(computed(nodes, {"front": ints(0), "open": ints(-1)}, 3), X.reshape(2, 3))


def test_places_of_a_constant_mask() -> None:
    nodes = [
        node("NonZero", ["mask"], ["places"]),
        node("Transpose", ["places"], ["columns"]),
        node("Squeeze", ["columns", "last"], ["index"]),
        node("Gather", ["x", "index"], ["y"], axis=0),
    ]
    initial: dict[str, Any] = {"mask": np.array([True, False, True]), "last": ints(1)}
    np.testing.assert_array_equal(computed(nodes, initial, 3), X[[0, 2]])


def test_a_causal_mask_is_a_constant() -> None:
    """Made of a shape by Trilu; the scores that it masks are data."""
    one = numpy_helper.from_array(np.ones(1, np.float32))
    nodes = [
        node("ConstantOfShape", ["square"], ["full"], value=one),
        node("Trilu", ["full"], ["mask"], upper=0),
        node("Cast", ["mask"], ["seen"], to=9),
        node("Where", ["seen", "x", "low"], ["y"]),
    ]
    found = computed(nodes, {"square": ints(2, 2), "low": np.array(-1, np.float32)}, "N")
    np.testing.assert_array_equal(found, np.where(np.tri(2, dtype=bool), X, -1))


def test_what_is_known_is_no_state_of_the_program() -> None:
    nodes = [
        node("Mul", ["left", "right"], ["wanted"]),
        node("Reshape", ["x", "wanted"], ["y"]),
    ]
    proto = model(nodes, {"x": (FLOAT, [3, 1, 2])}, ["y"], {"left": ints(2, 1), "right": ints(1, 3)})
    found = import_model(proto)
    source = lower(found.program, fetches=[found.outputs[0].name])
    assert source.module.state == ()
