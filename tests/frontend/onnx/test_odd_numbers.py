"""Models whose numbers are odd: attributes, constants and extents that no exporter writes are refused, in no time."""

from __future__ import annotations

import random
import time
import warnings
from typing import Any

import numpy as np
import pytest
from onnx import AttributeProto, ModelProto
from onnx_backend import Case, single_node_cases
from onnx_models import FLOAT, Array, model, node

from fluidc.compiler.errors import FluidcError
from fluidc.frontend.compat.onnx import import_model

ODD = (-(2**63), -(2**31), -2, -1, 0, 1, 2, 3, 5, 7, 100, 2**31 - 1, 2**31, 2**62, 2**63 - 1)
EXTENTS = (0, 1, 2, 3, 5, 100, 2**20, 2**31)


def changed(proto: ModelProto, given: dict[str, Array], rng: random.Random) -> ModelProto:
    """A copy with one attribute, extent or order of inputs changed; or an element of a constant in ``given``."""
    copy = ModelProto()
    copy.CopyFrom(proto)
    (only,) = copy.graph.node
    how = rng.randrange(5)
    if how < 2 and only.attribute:
        attribute = rng.choice(only.attribute)
        if attribute.type == AttributeProto.INT:
            attribute.i = rng.choice(ODD)
        elif attribute.type == AttributeProto.INTS:
            attribute.ints[:] = [rng.choice(ODD) for _ in range(rng.choice((0, 1, 2, 4, len(attribute.ints))))]
        elif attribute.type == AttributeProto.FLOAT:
            attribute.f = rng.choice((0.0, -1.0, float("nan"), 1e38))
        elif attribute.type == AttributeProto.STRING:
            attribute.s = b"other"
    elif how == 2 and given:
        numbers = given[rng.choice(list(given))].reshape(-1)
        if numbers.size:
            value = rng.choice(ODD)
            numbers[rng.randrange(numbers.size)] = value if abs(value) < 2**31 or numbers.itemsize == 8 else 0
    elif how == 3 and copy.graph.input:
        extents = rng.choice(copy.graph.input).type.tensor_type.shape.dim
        if extents:
            rng.choice(extents).dim_value = rng.choice(EXTENTS)
    else:
        names = list(only.input)
        rng.shuffle(names)
        only.input[:] = names
    return copy


def constants(case: Case) -> dict[str, Array]:
    """The inputs that say how an op works: axes, shapes and the like."""
    pairs = zip(case.proto.graph.input, case.inputs)
    return {
        value.name: array.copy()
        for value, array in pairs
        if array is not None and array.dtype in (np.int32, np.int64) and array.ndim <= 1 and array.size < 64
    }


@pytest.mark.nightly
def test_odd_numbers_are_imported_or_refused() -> None:
    """Ten changes of each of onnx's own single-node cases."""
    slowest = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in single_node_cases():
            rng = random.Random(case.name)
            for number in range(10):
                given = constants(case)
                proto = changed(case.proto, given, rng)
                start = time.perf_counter()
                try:
                    import_model(proto, inputs={v.name: given[v.name] for v in proto.graph.input if v.name in given})
                except FluidcError:
                    pass
                except Exception as error:
                    pytest.fail(f"{case.name}, change {number}: {type(error).__name__}: {error}")
                slowest = max(slowest, time.perf_counter() - start)
    assert slowest < 10


LARGE: dict[str, tuple[Any, dict[str, Array]]] = {
    "Range": (node("Range", ["a", "b", "c"], ["y"]), {"a": np.array(0), "b": np.array(2**60), "c": np.array(1)}),
    "LRN": (node("LRN", ["x"], ["y"], size=2**40 + 1), {}),
    "LpPool": (node("LpPool", ["x"], ["y"], kernel_shape=[2**40, 1], pads=[2**40, 0, 2**40, 0]), {}),
    "Resize": (node("Resize", ["x", "", "", "s"], ["y"], mode="linear"), {"s": np.array([1, 1, 2**40, 4])}),
    "Pad": (node("Pad", ["x", "p"], ["y"], mode="reflect"), {"p": np.array([0, 0, 2**40, 0, 0, 0, 0, 0])}),
}


@pytest.mark.parametrize("op", LARGE)
def test_nothing_is_laid_out_that_is_too_large(op: str) -> None:
    only, initial = LARGE[op]
    proto = model([only], {"x": (FLOAT, [1, 2, 4, 4])}, ["y"], initial)
    start = time.perf_counter()
    with pytest.raises(FluidcError, match=op):
        import_model(proto)
    assert time.perf_counter() - start < 5
