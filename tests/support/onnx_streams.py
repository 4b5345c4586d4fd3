"""The keystreams that an exported model takes as inputs, made from its own metadata."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from fluidc.runtime import keystream


def about(model: onnx.ModelProto) -> dict[str, Any]:
    """What the model says of itself, by key: lists and records."""
    return {entry.key: json.loads(entry.value) for entry in model.metadata_props if entry.value[0] in "[{"}


def streams(model: onnx.ModelProto, arguments: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """The words of every stream, by input; ``arguments`` are those of the function, in order."""
    properties = about(model)
    sizes = {"": 1}
    for symbol, (argument, axis, scale) in properties["fluidc.symbols"].items():
        sizes[symbol] = arguments[argument].shape[axis] // scale
    found: dict[str, np.ndarray] = {}
    for stream in properties["fluidc.streams"]:
        first, window = 0, stream["window"]
        if window is not None:
            first = int(arguments[window["row"]]) * window["part"] // window["group"] * window["per"]
        found[stream["input"]] = keystream.words(
            arguments[stream["key"]],
            domain=keystream.Domain(stream["domain"]),
            tensor=stream["tensor"],
            draw=int(arguments[stream["draw"]]),
            count_blocks=stream["blocks"]["scale"] * sizes[stream["blocks"]["symbol"]],
            first_block=first,
        ).reshape(-1)
    return found


def run(model: onnx.ModelProto, arguments: Sequence[np.ndarray], threads: int = 1) -> list[np.ndarray]:
    """The model's outputs in ONNX Runtime, its streams filled."""
    names = [entry["input"] for entry in about(model)["fluidc.inputs"]]
    given = {name: array for name, array in zip(names, arguments, strict=True) if name}
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, given | streams(model, arguments))
