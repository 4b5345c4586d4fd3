"""Functions that a model defines itself: every call is replaced by the function's nodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from onnx import FunctionProto, ModelProto, NodeProto

from .errors import OnnxError

Key: TypeAlias = tuple[str, str, str]

DEEPEST = 50
"""Calls inside of calls."""

DEFAULT = ("", "ai.onnx")
"""The names of the domain of the standard's operators."""


def inlined(model: ModelProto, most: int, source: str) -> list[NodeProto]:
    """The nodes of the model's graph, without calls of its own functions.

    Args:
        model: As parsed.
        most: Nodes that there may be: functions that call functions grow exponentially.
        source: What messages call the model.

    Raises:
        OnnxError: A function calls itself, is of another opset, or there are too many nodes.
    """
    if not model.functions:
        nodes = list(model.graph.node)
    else:
        inliner = _Inliner(model, most, source)
        nodes = list(inliner.expanded(model.graph.node, {}, "", ()))
    if len(nodes) > most:
        raise _too_many(most, source)
    return nodes


def _too_many(most: int, source: str) -> OnnxError:
    return OnnxError(f"the model has more than {most} nodes", source, "import a part of it")


def _key(node: NodeProto) -> Key:
    return "" if node.domain in DEFAULT else node.domain, node.op_type, getattr(node, "overload", "")


class _Inliner:
    """Expands calls; names inside of a call get the call's name in front."""

    def __init__(self, model: ModelProto, most: int, source: str) -> None:
        self._functions: dict[Key, FunctionProto] = {}
        for function in model.functions:
            domain = "" if function.domain in DEFAULT else function.domain
            self._functions[domain, function.name, getattr(function, "overload", "")] = function
        self._opsets = _opsets(model)
        self._most = most
        self._made = 0
        self._source = source

    def expanded(
        self, nodes: Iterable[NodeProto], names: Mapping[str, str], prefix: str, calls: tuple[Key, ...]
    ) -> Iterator[NodeProto]:
        """The nodes under a renaming; names that it does not mention get ``prefix``."""
        for number, node in enumerate(nodes):
            renamed = _renamed(node, names, prefix, self._source)
            key = _key(node)
            if key in self._functions:
                yield from self._call(renamed, key, f"{prefix}{node.name or f'{node.op_type}_{number}'}/", calls)
                continue
            self._made += 1
            if self._made > self._most:
                raise _too_many(self._most, self._source)
            yield renamed

    def _call(self, node: NodeProto, key: Key, prefix: str, calls: tuple[Key, ...]) -> Iterator[NodeProto]:
        function = self._functions[key]
        where = f"{self._source}, function {key[1]}"
        if key in calls:
            raise OnnxError(f"the function {key[1]} calls itself", where, "export the model anew")
        if len(calls) == DEEPEST:
            raise OnnxError(f"functions call each other {DEEPEST} deep", where, "export the model without functions")
        if len(node.input) > len(function.input) or len(node.output) > len(function.output):
            raise OnnxError(
                f"{node.op_type} {node.name} has more inputs or outputs than its function", where, "correct it"
            )
        for domain, version in _opsets(function).items():
            if domain in DEFAULT and version != self._opsets.get(domain):
                raise OnnxError(
                    f"the function {key[1]} is written for opset {version}, the model for {self._opsets.get(domain)}",
                    where,
                    "export the model anew",
                )
        names = {"": ""}
        names |= {formal: node.input[i] if i < len(node.input) else "" for i, formal in enumerate(function.input)}
        names |= {
            formal: node.output[i] if i < len(node.output) and node.output[i] else f"{prefix}{formal}"
            for i, formal in enumerate(function.output)
        }
        given = {attribute.name: attribute for attribute in (*function.attribute_proto, *node.attribute)}
        body = [_with_attributes(inner, given) for inner in function.node]
        yield from self.expanded(body, names, prefix, (*calls, key))


def _opsets(holder: ModelProto | FunctionProto) -> dict[str, int]:
    return {"" if entry.domain in DEFAULT else entry.domain: entry.version for entry in holder.opset_import}


def _renamed(node: NodeProto, names: Mapping[str, str], prefix: str, source: str) -> NodeProto:
    if not prefix:
        return node
    if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
        what = f"{node.op_type} {node.name} has nested graphs inside of a function"
        raise OnnxError(what, source, "export the model without functions")
    copy = NodeProto()
    copy.CopyFrom(node)
    copy.name = prefix + (node.name or node.op_type)
    for field in (copy.input, copy.output):
        field[:] = [names[name] if name in names else prefix + name for name in field]
    return copy


def _with_attributes(node: NodeProto, given: Mapping[str, Any]) -> NodeProto:
    """The node with references to the function's attributes replaced; those without a value are left out."""
    if not any(attribute.ref_attr_name for attribute in node.attribute):
        return node
    copy = NodeProto()
    copy.CopyFrom(node)
    del copy.attribute[:]
    for attribute in node.attribute:
        if not attribute.ref_attr_name:
            copy.attribute.append(attribute)
        elif attribute.ref_attr_name in given:
            value = copy.attribute.add()
            value.CopyFrom(given[attribute.ref_attr_name])
            value.name = attribute.name
    return copy
