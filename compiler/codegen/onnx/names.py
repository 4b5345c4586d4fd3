"""What things are called in an ONNX file: graphs are read by people, in Netron and in error messages."""

from __future__ import annotations

from collections.abc import Iterable

from onnx import GraphProto, NodeProto

NEXT = "@NEXT"
"""Ends the name of the output that holds a state variable's new value."""


class Names:
    """Names that are used once in a file, nested graphs included."""

    def __init__(self, reserved: Iterable[str]) -> None:
        self._taken = set(reserved)
        self._counts: dict[str, int] = {}

    def has(self, name: str) -> bool:
        """Whether it is taken."""
        return name in self._taken

    def unique(self, base: str) -> str:
        """``base``, with a number behind it where it is taken."""
        name = base
        while name in self._taken or not name:
            number = self._counts[base] = self._counts.get(base, 0) + 1
            name = f"{base}/{number}"
        self._taken.add(name)
        return name


def rename(nodes: Iterable[NodeProto], new: dict[str, str]) -> None:
    """Give values of a graph other names, in nested graphs too; a node is called after its first output in use."""
    for node in nodes:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
        node.name = f"{node.name}:{next(name for name in node.output if name)}"
        for attribute in node.attribute:
            if attribute.HasField("g"):
                rename_graph(attribute.g, new)


def rename_graph(graph: GraphProto, new: dict[str, str]) -> None:
    """`rename` of a nested graph, with its inputs, outputs and noted types."""
    rename(graph.node, new)
    for info in (*graph.input, *graph.output, *graph.value_info):
        info.name = new.get(info.name, info.name)
