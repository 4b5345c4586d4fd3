"""A model with numbers in it: state variables get values, so that one file is all a caller needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, checker, numpy_helper

from ...errors import TargetError

LIMIT = checker.MAXIMUM_PROTOBUF


def with_defaults(data: bytes, state: Mapping[str, NDArray[Any]]) -> bytes:
    """The model ``data`` with values for those of its inputs that ``state`` names.

    Of a function that changes state they are defaults: such an input need not be fed, and what is fed replaces it.
    Callers begin without state and feed back what the step returns. Of any other function they are constants, which
    ONNX Runtime computes with ahead of time.

    Raises TargetError where the file would pass the 2 GB that protobuf allows.
    """
    model = ModelProto.FromString(data)
    held = {constant.name for constant in model.graph.initializer}
    added = {value.name: state[value.name] for value in model.graph.input if value.name in state.keys() - held}
    size = len(data) + sum(array.nbytes for array in added.values())
    if size > LIMIT:
        raise TargetError(
            f"the model and its parameters take {size / 1e9:.1f} GB, more than the 2 GB of one ONNX file",
            hint="write an artifact instead (-o NAME.fluidc): it holds the parameters beside the models",
        )
    for name, array in added.items():
        model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))
    notes = {entry.key: entry for entry in model.metadata_props}
    if all(output["kind"] != "state" for output in json.loads(notes["fluidc.outputs"].value)):
        kept = [value for value in model.graph.input if value.name not in added]
        del model.graph.input[:]
        model.graph.input.extend(kept)
        inputs = json.loads(notes["fluidc.inputs"].value)
        told = [{**given, "input": "" if given["input"] in added else given["input"]} for given in inputs]
        notes["fluidc.inputs"].value = json.dumps(told)
    return model.SerializeToString(deterministic=True)
