"""What must not stand in a private graph."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto

from ...errors import TargetError
from ...ir.core import Function, Module, walk
from . import noise

RANDOM_NODES = frozenset({
    "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli", "Dropout",
})  # fmt: skip
"""Nodes that draw from ONNX Runtime's own generator: 31 bits of state, repeated by every session of a process."""

STANDARD = frozenset({"", "ai.onnx"})

DETERMINISTIC = frozenset({("com.microsoft", "ConvGrad")})
"""Nodes of other domains, of which it is known that they draw nothing."""

WORDS, NORMALS = (noise.DOMAIN, "ChaCha20"), (noise.DOMAIN, "Normals")


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
    """Raise TargetError if a private model makes random numbers in any way but from a keystream that its caller keys:
    noise that others can compute is none.

    No node, in nested graphs and functions too, may draw by itself, or be of a kind that is not known to draw nothing.
    Words that noise is made of are an input, or made of a key that is one; neither has a default.
    """
    graphs = [model.graph]
    graphs += (graph for info in model.training_info for graph in (info.initialization, info.algorithm))
    bodies = [graph.node for graph in graphs] + [function.node for function in model.functions]
    defaults = (attribute for function in model.functions for attribute in function.attribute_proto)
    bodies += (graph.node for attribute in defaults for graph in _graphs(attribute))
    local = {(function.domain, function.name) for function in model.functions}
    for node in _every(bodies):
        _check_node(node, local)
    graph = model.graph
    default = {constant.name for constant in graph.initializer}
    default |= {constant.values.name for constant in graph.sparse_initializer}
    given = {value.name for value in graph.input} - default
    _check_keys(tuple(_every([graph.node])), given)


def _check_node(node: NodeProto, local: Container[tuple[str, str]]) -> None:
    kind = (node.domain, node.op_type)
    if node.op_type in RANDOM_NODES:
        raise _refusal(node, f"the private graph holds {_called(node)}, whose random numbers anybody can compute")
    if node.domain not in STANDARD and kind not in local and kind not in DETERMINISTIC:
        raise _refusal(node, f"the private graph holds {_called(node)}, which is not known to draw no random numbers")


def _check_keys(nodes: Sequence[NodeProto], given: Container[str]) -> None:
    """Names are unique in a file: a word's node is found wherever it stands."""
    made = {node.output[0] for node in nodes if (node.domain, node.op_type) == WORDS}
    for node in nodes:
        if (node.domain, node.op_type) == WORDS:
            secret = next((name for name in node.input[:2] if name not in given), None)
        elif (node.domain, node.op_type) == NORMALS:
            secret = next((name for name in node.input[:1] if name not in given and name not in made), None)
        else:
            continue
        if secret is not None:
            raise _refusal(
                node, f"random numbers of the private graph ({node.name}) are made of {secret!r}, which is no input"
            )


def _refusal(node: NodeProto, what: str) -> TargetError:
    return TargetError(
        what,
        where=node.doc_string.partition("\n")[0] or None,
        hint="report the program that shows this: fluidc makes every random number of a keystream",
    )


def _called(node: NodeProto) -> str:
    return f"{node.domain}.{node.op_type} ({node.name})" if node.domain else f"{node.op_type} ({node.name})"


def _graphs(attribute: AttributeProto) -> Iterator[GraphProto]:
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs


def _every(bodies: Iterable[Iterable[NodeProto]]) -> Iterator[NodeProto]:
    """All nodes, those of nested graphs too."""
    for nodes in bodies:
        for node in nodes:
            yield node
            yield from _every(graph.node for attribute in node.attribute for graph in _graphs(attribute))
