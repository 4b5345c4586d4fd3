"""Small ONNX models made by hand that carry the metadata by which the runtime calls them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime.capi.onnxruntime_pybind11_state as native
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

Json = dict[str, Any]

HAS_TRAINING_OPS = hasattr(native, "GradientGraphBuilder")
"""Whether the installed ONNX Runtime is onnxruntime-training."""

TYPES = {
    "f32": TensorProto.FLOAT, "f64": TensorProto.DOUBLE, "i64": TensorProto.INT64, "u32": TensorProto.UINT32,
    "u64": TensorProto.UINT64, "bool": TensorProto.BOOL, "bf16": TensorProto.BFLOAT16,
}  # fmt: skip


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> NodeProto:
    """``node("Add", "x y", "z")``."""
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


def info(spec: str) -> Any:
    """``x: f32[N,3]`` as ONNX notes it."""
    name, _, kind = spec.partition(": ")
    dtype, _, dims = kind.rstrip("]").partition("[")
    shape = [int(dim) if dim.isdecimal() else dim for dim in dims.split(",") if dim]
    return helper.make_tensor_value_info(name, TYPES[dtype], shape)


def model(
    nodes: Sequence[NodeProto],
    arguments: Sequence[str],
    results: Sequence[str],
    *,
    streams: Sequence[Json] = (),
    symbols: Json | None = None,
    **constants: Any,
) -> ModelProto:
    """A function.

    Args:
        nodes: Its graph.
        arguments: ``state w: f32[3,1]``, ``feed x: f32[N,3]``, or without a name ``key: u32[8]``, whose input is
            ``@key``. What no node reads is no input.
        results: ``fetch loss: f32[]``, ``state w: f32[3,1]``, whose output is ``w@NEXT``.
        streams: As the metadata has them; ``input`` is made an input.
        symbols: Likewise.
        constants: Initialisers.
    """
    read = {name for each in nodes for name in each.input}
    inputs, taken = [], []
    for argument in arguments:
        kind, _, rest = argument.partition(" ")
        kind, spec = (kind, rest) if not kind.endswith(":") else (kind[:-1], f"@{kind} {rest}")
        graph_name = spec.partition(":")[0]
        if graph_name in read:
            inputs.append(info(spec))
        name = "" if graph_name.startswith("@") else graph_name
        taken.append({"kind": kind, "name": name, "input": graph_name if graph_name in read else ""})
    outputs, given = [], []
    for result in results:
        kind, _, spec = result.partition(" ")
        name, _, rest = spec.partition(":")
        output = f"{name}@NEXT" if kind == "state" else name
        outputs.append(info(f"{output}:{rest}"))
        given.append({"kind": kind, "name": name, "output": output})
    words = [
        info(f"{s['input']}: u32[{s['blocks']['scale'] * 16}{'*N' if s['blocks']['symbol'] else ''}]") for s in streams
    ]
    made = helper.make_model(
        helper.make_graph(
            list(nodes),
            "function",
            [*inputs, *words],
            outputs,
            [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=9,
    )
    metadata = {"inputs": taken, "outputs": given, "symbols": symbols or {}, "streams": list(streams)}
    helper.set_model_props(made, {f"fluidc.{name}": json.dumps(value) for name, value in metadata.items()})
    return made


def stream(
    name: str = "words",
    *,
    key: int = 0,
    draw: int = 1,
    domain: int = 1,
    tensor: int = 0,
    scale: int = 1,
    symbol: str = "",
    window: Json | None = None,
) -> Json:
    """An input of random words, as the metadata has it."""
    blocks = {"scale": scale, "symbol": symbol}
    return {
        "input": name, "key": key, "draw": draw, "domain": domain, "tensor": tensor, "blocks": blocks, "window": window,
    }  # fmt: skip


def edited(made: ModelProto, key: str, text: str | None) -> bytes:
    """The model with other metadata under ``key``; without any for None."""
    metadata = {prop.key: prop.value for prop in made.metadata_props} | ({} if text is None else {key: text})
    if text is None:
        del metadata[key]
    other = ModelProto()
    other.CopyFrom(made)
    del other.metadata_props[:]
    helper.set_model_props(other, metadata)
    return other.SerializeToString()
