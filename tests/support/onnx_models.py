"""Small ONNX models for tests, and what fluidc computes from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

import fluidc.frontend as fluid
from fluidc.frontend.compat.onnx import import_model

Array = NDArray[Any]
MODELS = Path(__file__).parents[1] / "frontend" / "onnx" / "models"
"""Models exported by PyTorch, made by tests/frontend/make_onnx_models.py."""

node = helper.make_node
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def model(
    nodes: Sequence[NodeProto],
    inputs: Mapping[str, tuple[int, Sequence[int | str | None]]],
    outputs: Sequence[str],
    initial: Mapping[str, Array] | None = None,
    *,
    opset: int = 18,
) -> ModelProto:
    """A model: inputs by name as (element type, shape)."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(name, kind, list(shape)) for name, (kind, shape) in inputs.items()],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in (initial or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def results(proto: ModelProto, feeds: Mapping[str, Array], target: str = "reference", **options: Any) -> list[Array]:
    """All outputs of a model that is imported and run once."""
    found = import_model(proto, **options)
    exe, scope = fluid.Executor(fluid.CPUPlace(), target=target), fluid.Scope()
    if found.startup.global_block().ops:
        exe.run(found.startup, scope=scope)
    feed = {var.name: np.asarray(feeds[name.name]) for var, name in zip(found.feeds, _inputs(proto))}
    return exe.run(found.program, feed=feed, fetch_list=found.outputs, scope=scope)


def _inputs(proto: ModelProto) -> list[Any]:
    initial = {tensor.name for tensor in proto.graph.initializer}
    return [value for value in proto.graph.input if value.name not in initial]
