"""What must not stand in a private graph."""

from __future__ import annotations

from collections.abc import Iterable

from onnx import ModelProto, NodeProto

from ...errors import TargetError
from ...ir.core import Function, Module, walk

RANDOM_NODES = frozenset({
    "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli", "Dropout",
})  # fmt: skip
"""Nodes that draw from ONNX Runtime's own generator: 31 bits of state, repeated by every session of a process."""


def check_mechanism(module: Module, function: Function) -> None:
    """Raise TargetError if the function clips and adds by the mechanism discrete.

    Its bound takes rows that are computed alike, to the last bit, wherever they stand in a batch and whatever stands
    beside them.  The kernels of ONNX Runtime take the last rows of a batch, and batches of other sizes, in other ways.
    """
    if module.privacy is None or module.privacy.mechanism != "discrete":
        return
    private = [op for op in walk(function.ops) if op.name.startswith("dp.")]
    if private:
        op = next((op for op in private if op.loc.place), private[0])
        raise TargetError(
            f"mechanism='discrete' is not for the onnx target ({op.name}): every row of a batch must be computed "
            "alike, wherever it stands, and ONNX Runtime does not promise that",
            where=op.loc.place or None,
            hint="train on target 'cpu' or 'reference', or with mechanism='gaussian'; a trained model can be exported: "
            "fluidc dump TRAINED.fluidc --format onnx --function infer",
        )


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
