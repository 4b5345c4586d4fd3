"""Which initialisers of a graph are trained, which are statistics, and which are constants."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from .errors import OnnxError
from .graph import Graph

_STATISTICS = ("input_mean", "input_var", "mean", "var")
"""Slots of BatchNormalization for what is moved by batches, not trained."""

_SETTINGS = {
    "Attention": ("attn_mask",),
    "Clip": ("min", "max"),
    "Dropout": ("ratio",),
    "NegativeLogLikelihoodLoss": ("weight",),
    "OneHot": ("values",),
    "Pad": ("constant_value",),
    "Range": ("start", "limit", "delta"),
    "Resize": ("roi", "scales"),
    "RotaryEmbedding": ("cos_cache", "sin_cache"),
    "SoftmaxCrossEntropyLoss": ("weights",),
    "Upsample": ("scales",),
}
"""Slots of floating-point numbers that say how an op works."""

_REALS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE}

_FLAT = {
    "And", "ArgMax", "ArgMin", "Ceil", "Equal", "EyeLike", "Floor", "Greater", "GreaterOrEqual", "Hardmax", "IsInf",
    "IsNaN", "Less", "LessOrEqual", "NonZero", "Not", "Or", "Round", "Shape", "Sign", "Size", "Xor",
}  # fmt: skip
"""Ops whose results say nothing of small changes: a mask that is only compared is no weight."""

_FILLED = re.compile(r"(zeros|ones|full)_like(_\d+)?")
"""What PyTorch's exporter calls tensors that the model's code fills with one number."""

_GENERATED = re.compile(r"val_\d+|onnx::.*|_v_\d+")
"""Names that exporters make up: folded weights, and numbers that the model's code mentions."""


def statistics(graph: Graph) -> set[str]:
    """Initialisers that hold the running statistics of batch normalisation."""
    return {
        name
        for node in graph.nodes
        if node.op_type == "BatchNormalization"
        for slot in _STATISTICS
        for name in node.inputs.get(slot, ())
        if name in graph.initial
    }


def weights(graph: Graph, patterns: str | Sequence[str] | None, where: str) -> set[str]:
    """Initialisers to be trained.

    Args:
        graph: The model.
        patterns: A glob, or several, that name them; None for what looks like a weight.
        where: The user's line, for errors.

    Raises:
        OnnxError: A pattern matches nothing.
    """
    floats = [name for name, array in graph.initial.items() if array.dtype.kind == "f" and array.size]
    if patterns is None:
        readers, sloped = _readers(graph), _sloped(graph)
        return {
            name
            for name in floats
            if name in sloped and _is_weight(name, graph.initial[name], readers.get(name, set()))
        }
    patterns = [patterns] if isinstance(patterns, str) else patterns
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in floats):
            raise OnnxError(
                f"load_onnx: trainable names {pattern!r}, which matches no initialiser of floating point",
                where,
                f"they are {', '.join(floats) or 'none'}",
            )
    return {name for name in floats if any(fnmatchcase(name, pattern) for pattern in patterns)}


def _sloped(graph: Graph) -> set[str]:
    """Values that a gradient of the outputs can reach."""
    found = set(graph.outputs)
    for node in reversed(graph.nodes):
        to = node.attrs.get("to") if node.op_type == "Cast" else None
        if node.op_type in _FLAT or (to is not None and to not in _REALS):
            continue
        if any(name in found for names in node.outputs.values() for name in names):
            found.update(name for names in node.inputs.values() for name in names)
    return found


def _readers(graph: Graph) -> dict[str, set[tuple[str, str]]]:
    """Who reads an initialiser, as (op type, slot)."""
    found: dict[str, set[tuple[str, str]]] = {}
    for node in graph.nodes:
        for slot, names in node.inputs.items():
            for name in names:
                if name in graph.initial:
                    found.setdefault(name, set()).add((node.op_type, slot))
    return found


def _is_weight(name: str, array: NDArray[Any], readers: set[tuple[str, str]]) -> bool:
    if array.ndim == 0 or not np.all(np.isfinite(array)):
        return False  # a number, or a mask
    if readers and all(slot in _SETTINGS.get(op, ()) for op, slot in readers):
        return False
    if _FILLED.fullmatch(name) and bool(np.all(array == array.flat[0])):
        return False
    if not _GENERATED.fullmatch(name):
        return True
    # PyTorch's group_norm is exported as an InstanceNormalization by ones and zeros, and then the real scale.
    idle = {op for op, _ in readers} == {"InstanceNormalization"} and bool(np.all(array == array.flat[0]))
    return array.size > 1 and not idle
