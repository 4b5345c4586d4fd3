"""A checked ONNX graph as plain records: nodes with named inputs, attributes with their defaults, arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TypeProto, defs, helper

from .errors import OnnxError, shown
from .functions import DEFAULT, inlined
from .tensors import TensorReader, element_type

Array = NDArray[Any]
OLDEST_OPSET, NEWEST_OPSET = 7, 28
MOST_NODES = 50_000


@dataclass(frozen=True)
class Node:
    """One node.

    Attributes:
        op_type: ``Gemm``, of the default domain.
        label: Op type and name, as messages call it: ``Gemm /fc1/Gemm``.
        version: The opset in which this form of the op appeared.
        inputs, outputs: Slot of the operator's documentation to value names; [] where it is left out.
        attrs: By name, defaults included; tensors as arrays, strings as str.
        branches: The graphs of an ``If``, by attribute.
    """

    op_type: str
    label: str
    version: int
    inputs: Mapping[str, Sequence[str]]
    outputs: Mapping[str, Sequence[str]]
    attrs: Mapping[str, Any]
    branches: Mapping[str, Branch] = field(default_factory=dict[str, "Branch"])

    @property
    def reads(self) -> Iterator[str]:
        """Every value that the node needs, those that its branches take from around them included."""
        for names in self.inputs.values():
            yield from names
        for branch in self.branches.values():
            yield from branch.reads


@dataclass(frozen=True)
class Branch:
    """The graph of one branch, nodes in the order of the file; it also reads values from around it."""

    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    initial: Mapping[str, Array]

    @property
    def reads(self) -> Iterator[str]:
        """Values from around the branch."""
        own = set(self.initial)
        for node in self.nodes:
            yield from (name for name in node.reads if name not in own)
            own.update(name for names in node.outputs.values() for name in names)
        yield from (name for name in self.outputs if name not in own)


@dataclass(frozen=True)
class Input:
    """One graph input: extents are numbers, names of open extents, or None."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...]


@dataclass(frozen=True)
class Graph:
    """A graph in topological order.

    Attributes:
        initial: Initialisers by name.
    """

    name: str
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    initial: Mapping[str, Array]
    nodes: tuple[Node, ...]


def graph_of(model: ModelProto, tensors: TensorReader, importable: Iterable[str], reasons: Mapping[str, str]) -> Graph:
    """The graph of a model.

    Args:
        model: As parsed.
        tensors: Reads its tensors.
        importable: Op types that can be lowered.
        reasons: Why others cannot.

    Raises:
        OnnxError: What is not well formed, or cannot be imported; unsupported ops are all listed at once.
    """
    _check_text(model, tensors.source)
    opset = _opset(model, tensors.source)
    proto = model.graph
    known = frozenset(importable)
    protos = inlined(model, MOST_NODES, tensors.source)
    _refuse_unsupported(protos, known, reasons, opset, tensors.source)
    initial = _initial(proto, tensors)
    inputs = tuple(_input(value, tensors.source) for value in proto.input if value.name not in initial)
    nodes = tuple(_node(node, number, opset, tensors) for number, node in enumerate(protos))
    outputs = tuple(value.name for value in proto.output)
    ordered = _in_order(nodes, {*initial, *(i.name for i in inputs)}, len(inputs) + len(initial), outputs, tensors)
    return Graph(proto.name, inputs, outputs, initial, ordered)


def _initial(proto: GraphProto, tensors: TensorReader) -> dict[str, Array]:
    """Initialisers by name."""
    if proto.sparse_initializer:
        raise OnnxError("the model has sparse initialisers", tensors.source, "export it with dense ones")
    found: dict[str, Array] = {}
    for tensor in proto.initializer:
        if not tensor.name or tensor.name in found:
            raise OnnxError(f"the initialiser {tensor.name!r} has no name of its own", tensors.source, "export it anew")
        found[tensor.name] = tensors.array(tensor, f"initialiser {tensor.name!r}")
    return found


def _branch(proto: GraphProto, opset: int, tensors: TensorReader, where: str) -> Branch:
    """The graph of a branch.  What of it cannot be lowered is told if the branch is taken."""
    for node in proto.node:
        if _schema(node, opset) is None:
            raise OnnxError(f"{label_of(node)}, in a branch, is no op of opset {opset}", where, "export the model anew")
    nodes = tuple(_node(node, number, opset, tensors) for number, node in enumerate(proto.node))
    return Branch(nodes, tuple(value.name for value in proto.output), _initial(proto, tensors))


def _check_text(message: Message, source: str) -> None:
    """Refuse names and other text that are not UTF-8: protobuf gives them as bytes."""
    for part, value in message.ListFields():
        values = (value,) if isinstance(value, str | bytes | Message) else value
        if part.type == FieldDescriptor.TYPE_MESSAGE:
            for inner in cast("Iterable[Message]", values):
                _check_text(inner, source)
        elif part.type == FieldDescriptor.TYPE_STRING and not all(isinstance(text, str) for text in values):
            raise OnnxError(f"the field {part.name} is no text", source, "the file is damaged: export it anew")


def _opset(model: ModelProto, source: str) -> int:
    stated = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    opset = stated.get("ai.onnx")
    if opset is None:
        raise OnnxError(
            "the model does not say which version of the ONNX operators it uses", source, "export the model anew"
        )
    newest = min(NEWEST_OPSET, defs.onnx_opset_version())
    if not OLDEST_OPSET <= opset <= newest:
        raise OnnxError(
            f"the model uses opset {opset}",
            source,
            f"export it with opset_version from {OLDEST_OPSET} to {newest}, such as 18",
        )
    return opset


def _schema(node: NodeProto, opset: int) -> defs.OpSchema | None:
    if node.domain not in DEFAULT:
        return None
    try:
        return defs.get_schema(node.op_type, opset, "")
    except defs.SchemaError:
        return None


def label_of(node: NodeProto) -> str:
    """Op type and name: ``Gemm /fc1/Gemm``."""
    domain = f"{node.domain}." if node.domain not in DEFAULT else ""
    name = node.name or (node.output[0] if node.output else "")
    return " ".join(part for part in (shown(domain + node.op_type), shown(name)) if part)


def _refuse_unsupported(
    nodes: Iterable[NodeProto], known: frozenset[str], reasons: Mapping[str, str], opset: int, source: str
) -> None:
    missing: dict[str, list[str]] = {}
    for node in nodes:
        schema = _schema(node, opset)
        domain = "" if node.domain in DEFAULT else f"{node.domain}."
        op = shown(domain + node.op_type)
        if schema is None and not domain:
            op = f"{op} (no op of opset {opset})"
        if schema is None or schema.deprecated or node.op_type not in known:
            name = node.name or (node.output[0] if node.output else "")
            missing.setdefault(op, []).append(shown(name))
    if not missing:
        return
    count = sum(map(len, missing.values()))
    lines = [
        f"{op}: {', '.join(names[:4])}{', ...' if len(names) > 4 else ''}{f' ({reasons[op]})' if op in reasons else ''}"
        for op, names in missing.items()
    ]
    raise OnnxError(
        f"{len(missing)} op{'s' if len(missing) > 1 else ''} of the model cannot be imported, in {count} "
        f"node{'s' if count > 1 else ''}\n    " + "\n    ".join(lines),
        source,
        "leave the part out of the export, or write it with other ops; fluidc ops --onnx lists what can be imported",
    )


def _input(value: onnx.ValueInfoProto, source: str) -> Input:
    where = f"{source}, input {value.name!r}"
    kind: TypeProto = value.type
    if not value.name:
        raise OnnxError("an input has no name", source, "export the model anew")
    if kind.WhichOneof("value") != "tensor_type":
        raise OnnxError(f"the input {value.name!r} is no tensor", where, "export a model that takes tensors")
    if not kind.tensor_type.HasField("shape"):
        raise OnnxError(f"the input {value.name!r} has no rank", where, "export the model with shapes of its inputs")
    shape: list[int | str | None] = []
    for dim in kind.tensor_type.shape.dim:
        if dim.WhichOneof("value") == "dim_value":
            if dim.dim_value < 0:
                raise OnnxError(
                    f"the input {value.name!r} has an extent of {dim.dim_value}", where, "correct the model"
                )
            shape.append(dim.dim_value)
        else:
            shape.append(dim.dim_param or None)
    return Input(value.name, element_type(kind.tensor_type.elem_type, f"input {value.name!r}", source), tuple(shape))


def _node(node: NodeProto, number: int, opset: int, tensors: TensorReader) -> Node:
    schema = _schema(node, opset)
    assert schema is not None
    label = label_of(node)
    where = f"{tensors.source}, node {number}: {label}"
    inputs = _slots(list(node.input), schema.inputs, "inputs", where)
    outputs = _slots(list(node.output), schema.outputs, "outputs", where)
    attrs: dict[str, Any] = {}
    branches: dict[str, Branch] = {}
    for name, declared in schema.attributes.items():
        if declared.default_value.type:
            attrs[name] = _plain(declared.default_value, tensors, where)
    for attribute in node.attribute:
        if attribute.name not in schema.attributes:
            raise OnnxError(f"{label} has no attribute {attribute.name!r}", where, "export the model anew")
        declared_type = schema.attributes[attribute.name].type
        if attribute.type != cast("Any", declared_type).value:
            raise OnnxError(
                f"the attribute {attribute.name!r} of {label} is of another type than the operator has",
                where,
                "export the model anew",
            )
        if attribute.type == AttributeProto.GRAPH and node.op_type == "If":
            branches[attribute.name] = _branch(attribute.g, opset, tensors, where)
        else:
            attrs[attribute.name] = _plain(attribute, tensors, where)
    for name, declared in schema.attributes.items():
        if declared.required and name not in attrs and name not in branches:
            raise OnnxError(f"{label} lacks the attribute {name!r}", where, "export the model anew")
    if node.op_type == "Constant":
        attrs = {"value": _constant(attrs, where)}
    return Node(node.op_type, label, schema.since_version, inputs, outputs, attrs, branches)


def _slots(
    names: list[str], formal: Sequence[defs.OpSchema.FormalParameter], what: str, where: str
) -> dict[str, Sequence[str]]:
    """Names by the slots that the operator has."""
    option = defs.OpSchema.FormalParameterOption
    found: dict[str, Sequence[str]] = {}
    rest = list(names)
    for slot in formal:
        if slot.option == option.Variadic:
            found[slot.name], rest = rest, []
            if what == "inputs" and not all(found[slot.name]):
                raise OnnxError(f"an input of {slot.name} is left out", where, "export the model anew")
            continue
        name = rest.pop(0) if rest else ""
        if not name and slot.option == option.Single and what == "inputs":
            raise OnnxError(f"the input {slot.name} is missing", where, "export the model anew")
        found[slot.name] = [name] if name else []
    if rest:
        raise OnnxError(f"the node has {len(names)} {what}, its operator {len(formal)}", where, "export the model anew")
    if what == "inputs" and formal and formal[-1].option == option.Variadic and not found[formal[-1].name]:
        raise OnnxError(f"the input {formal[-1].name} is missing", where, "export the model anew")
    return found


def _plain(attribute: AttributeProto, tensors: TensorReader, where: str) -> Any:
    kind = attribute.type
    if kind == AttributeProto.TENSOR:
        return tensors.array(attribute.t, f"attribute {attribute.name!r} of {where}")
    if kind not in (
        AttributeProto.FLOAT, AttributeProto.INT, AttributeProto.STRING,
        AttributeProto.FLOATS, AttributeProto.INTS, AttributeProto.STRINGS,
    ):  # fmt: skip
        raise OnnxError(
            f"the attribute {attribute.name!r} is of a kind that cannot be imported", where, "export it in another way"
        )
    try:
        value = helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            return value.decode()
        if isinstance(value, float | int):
            return value
        return [item.decode() if isinstance(item, bytes) else item for item in value]
    except UnicodeDecodeError:
        raise OnnxError(f"the attribute {attribute.name!r} is no text", where, "export the model anew") from None


def _constant(attrs: Mapping[str, Any], where: str) -> Array:
    types = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    for name, value in attrs.items():
        if name == "value":
            return value
        if name in types:
            return np.asarray(value, types[name])
    raise OnnxError("the constant has no value that can be imported", where, "export it as a dense tensor of numbers")


def _in_order(
    nodes: tuple[Node, ...], given: set[str], count: int, outputs: Sequence[str], tensors: TensorReader
) -> tuple[Node, ...]:
    """The nodes, such that each comes after what it reads; every value has one source."""
    source = tensors.source
    if len(given) != count:
        raise OnnxError("two inputs of the model have one name", source, "export the model anew")
    maker: dict[str, int] = {}
    for number, node in enumerate(nodes):
        for names in node.outputs.values():
            for name in names:
                if name in maker or name in given:
                    raise OnnxError(f"the value {shown(name)} is computed twice", source, "export the model anew")
                if name:
                    maker[name] = number
    for name in outputs:
        if name not in maker and name not in given:
            raise OnnxError(f"the output {shown(name)} is computed by no node", source, "export the model anew")
    if len(set(outputs)) != len(outputs) or not outputs:
        raise OnnxError("the model has no outputs, or one twice", source, "export the model anew")
    order: list[Node] = []
    state = [0] * len(nodes)  # 0 unseen, 1 on the way, 2 done
    for first in range(len(nodes)):
        stack = [first] if not state[first] else []
        while stack:
            number = stack[-1]
            if state[number] == 2:
                stack.pop()
                continue
            waiting: list[int] = []
            for name in nodes[number].reads:
                if name in given:
                    continue
                if name not in maker:
                    what = f"{nodes[number].label} reads {shown(name)}, which nothing computes"
                    raise OnnxError(what, source, "export the model anew")
                if state[maker[name]] != 2:
                    waiting.append(maker[name])
            if any(state[other] == 1 for other in waiting):
                raise OnnxError(f"{nodes[number].label} needs its own result", source, "a model has no cycles")
            if waiting:
                state[number] = 1
                stack += waiting
            else:
                state[number] = 2
                order.append(nodes[number])
                stack.pop()
    return tuple(order)
