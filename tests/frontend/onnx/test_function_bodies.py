"""onnx's backend cases of several nodes, most of them operators written as others: what is imported computes them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from onnx import ModelProto, helper
from onnx_backend import ELEMENTS, Array, Case, Prepared, function_body_cases, lowered, run_reference

from fluidc.compiler.errors import FluidcError
from fluidc.frontend.compat.onnx import OnnxModel, import_model
from fluidc.frontend.lower.onnx.node import NotConstant

FEWEST = 350
"""Cases that pass: 371 in onnx 1.23."""


def numeric() -> Iterator[tuple[Case, dict[str, Array]]]:
    """Cases of fluid's element types, and their inputs by name."""
    for case in function_body_cases():
        arrays = [array for array in (*case.inputs, *case.outputs) if array is not None]
        if len(arrays) == len(case.inputs) + len(case.outputs) and all(a.dtype.name in ELEMENTS for a in arrays):
            names = [value.name for value in case.proto.graph.input]
            yield case, dict(zip(names, arrays, strict=False))


def imported(case: Case, given: dict[str, Array]) -> tuple[OnnxModel, set[str]]:
    """The model, and which inputs are constants of it: as few as it takes."""
    model = ModelProto()
    model.CopyFrom(case.proto)
    for value in model.graph.input:
        kind = helper.np_dtype_to_tensor_dtype(given[value.name].dtype)
        value.CopyFrom(helper.make_tensor_value_info(value.name, kind, given[value.name].shape))
    whole = {name for name, array in given.items() if array.dtype.kind != "f"}
    small = {name for name, array in given.items() if array.size <= 8}
    for constants in (set[str](), whole):
        try:
            return import_model(model, inputs={name: given[name] for name in constants}, trainable=()), constants
        except NotConstant:
            continue
    return import_model(model, inputs={name: given[name] for name in small}, trainable=()), small


@pytest.mark.nightly
def test_what_is_imported_computes_its_case() -> None:
    passed = 0
    for case, given in numeric():
        try:
            made, constants = imported(case, given)
        except FluidcError:
            continue
        feeds = [array for name, array in given.items() if name not in constants]
        prepared = Prepared(case, *lowered(made, feeds, case.name), ())
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            prepared.check(run_reference(prepared))
        passed += 1
    assert passed >= FEWEST
