"""What must not stand in a private graph."""

from __future__ import annotations

from collections.abc import Iterable

from onnx import ModelProto, NodeProto

from ...errors import TargetError

RANDOM_NODES = frozenset({
    "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli", "Dropout",
})  # fmt: skip
"""Nodes that draw from ONNX Runtime's own generator: 31 bits of state, repeated by every session of a process."""


def check_randomness(model: ModelProto) -> None:
    """Raise TargetError if any node of a private model, in nested graphs and functions too, draws random numbers by
    itself: noise that others can compute is none."""
    _check(model.graph.node)
    for function in model.functions:
        _check(function.node)


def _check(nodes: Iterable[NodeProto]) -> None:
    for node in nodes:
        if node.op_type in RANDOM_NODES:
            raise TargetError(
                f"the private graph holds {node.op_type} ({node.name}), whose random numbers anybody can compute",
                where=node.doc_string.partition("\n")[0] or None,
                hint="report the program that shows this: fluidc makes every random number of a keystream",
            )
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _check(attribute.g.node)
