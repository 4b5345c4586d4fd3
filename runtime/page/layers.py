"""The step of an artifact as a graph of layers, from its IR text as the script was captured."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ..certificate.reader import Unreadable, read
from ..certificate.text import ROWS, Function, Op, Text, Type

_INSTANCE = re.compile(r"%(?P<name>[A-Za-z]\w*_\d+)\.")
"""Results of a layer are called after it: ``%fc_0.tmp_1``."""

MOST_NODES = 40
"""Larger graphs have their chains drawn as one box each."""

_LISTED = 3


@dataclass
class Node:
    """A box of the graph.

    Attributes:
        kind: ``feed``, ``layer``, ``gradient``, ``update`` or ``fetch``.
        title: what it is called.
        detail: what comes out of it, or what it holds.
        place: ``file:line`` in the script, or empty.
        parameters: names of the state that it reads.
        ops: names of the ops in it, in order.
    """

    kind: str
    title: str
    detail: str = ""
    place: str = ""
    parameters: list[str] = field(default_factory=list[str])
    ops: list[str] = field(default_factory=list[str])


@dataclass
class LayerGraph:
    """Boxes, and what flows between them.

    Attributes:
        nodes: each after those it reads from.
        edges: (from, to) -> the types that flow, as text.
    """

    nodes: list[Node] = field(default_factory=list[Node])
    edges: dict[tuple[int, int], list[str]] = field(default_factory=dict[tuple[int, int], list[str]])


def layer_graph(ir: Mapping[str, str]) -> LayerGraph | None:
    """The graph of the function ``step``, or of ``infer`` without one; None where the text is missing or unreadable."""
    try:
        text = read(ir["captured"])
    except (KeyError, Unreadable):
        return None
    function = text.function("step") or text.function("infer")
    if function is None:
        return None
    graph = _Builder(text, function).graph
    return graph if len(graph.nodes) <= MOST_NODES else chains(graph)


class _Builder:
    def __init__(self, text: Text, function: Function) -> None:
        self.graph = LayerGraph()
        self._text = text
        self._types = function.types
        self._made: dict[str, int] = {}
        self._state: dict[str, str] = {}
        self._present = -1
        self._instance = ""
        for param in function.params:
            if param.role == "feed":
                type_ = function.types[param.value]
                self._made[param.value] = self._add(Node("feed", param.name, spelled(type_)))
        for op in function.ops:
            self._take(op)
        for output in function.outputs:
            if output.value in self._made:
                node = self._add(Node("fetch", output.name, "fetched"))
                self._connect(output.value, node)

    def _add(self, node: Node) -> int:
        self.graph.nodes.append(node)
        return len(self.graph.nodes) - 1

    def _connect(self, value: str, to: int) -> None:
        start = self._made.get(value)
        if start is None or start == to:
            return
        found = self.graph.edges.setdefault((start, to), [])
        shown = spelled(self._types[value])
        if shown not in found:
            found.append(shown)

    def _take(self, op: Op) -> None:
        if op.name == "state.read":
            self._state[op.result] = op.states[0]
            return
        if op.name == "state.write":
            return
        node = self._node(op)
        box = self.graph.nodes[node]
        box.ops.append(op.name)
        for name in op.operands:
            if name in self._state and self._state[name] not in box.parameters:
                box.parameters.append(self._state[name])
            self._connect(name, node)
        self._made |= dict.fromkeys(op.results, node)
        if box.kind == "layer":
            box.detail = spelled(self._types[op.result]) if op.results else ""
        elif box.kind == "update":
            box.detail = f"{len(box.ops)} parameter{'s' if len(box.ops) > 1 else ''}"

    def _node(self, op: Op) -> int:
        """The box that an op belongs to, a new one where it begins another layer."""
        family, _, rest = op.name.partition(".")
        kind = {"grad": "gradient", "optim": "update"}.get(family, "layer")
        match = _INSTANCE.match(op.results[0]) if op.results else None
        place, _, layer = op.place.partition(" ")
        # Layers made of others leave the others' names on what is inside them.
        instance = match["name"] if match and match["name"].startswith(layer) else ""
        if self._present >= 0:
            box = self.graph.nodes[self._present]
            same = box.kind == kind and box.place == place
            if kind == "update" and same and box.title.startswith(rest):
                return self._present
            named_alike = not instance or not self._instance or instance == self._instance
            if kind == "layer" and same and box.title == (layer or op.name) and named_alike:
                self._instance = instance or self._instance
                return self._present
        self._instance = instance
        title = layer or op.name
        detail = ""
        if kind == "gradient":
            private = op.flag("private")
            title = "private gradients" if private else "gradients"
            detail = "clipped by example, noised" if private else "of the loss"
        elif kind == "update":
            title = f"{rest} update"
        self._present = self._add(Node(kind, title, detail, place))
        return self._present


def spelled(type_: Type) -> str:
    """A type as the IR writes it, ``f32[N,64]``."""
    if type_.shape is None:
        return f"ragged {type_.dtype}"
    symbols = iter(type_.symbols)
    return f"{type_.dtype}[{','.join(_size(size, symbols) for size in type_.shape)}]"


def _size(size: int, symbols: Iterator[str]) -> str:
    if size < ROWS or size % ROWS:
        return str(size)
    factor = size // ROWS
    return next(symbols, "N") if factor == 1 else f"{factor}*N"


def chains(graph: LayerGraph) -> LayerGraph:
    """The same graph with every chain of layers, each read by the next one only, as one box."""
    after: dict[int, list[int]] = {}
    before: dict[int, list[int]] = {}
    for start, end in graph.edges:
        after.setdefault(start, []).append(end)
        before.setdefault(end, []).append(start)

    def joined(start: int, end: int) -> bool:
        both = graph.nodes[start].kind == graph.nodes[end].kind == "layer"
        readers = [each for each in after[start] if graph.nodes[each].kind == "layer"]
        return both and readers == [end] and before[end] == [start]

    head: dict[int, int] = {}
    for place in range(len(graph.nodes)):
        sources = before.get(place, [])
        head[place] = head[sources[0]] if len(sources) == 1 and joined(sources[0], place) else place
    made = LayerGraph()
    new: dict[int, int] = {}
    members: dict[int, list[Node]] = {}
    for place, node in enumerate(graph.nodes):
        members.setdefault(head[place], []).append(node)
    for first, nodes in members.items():
        new[first] = len(made.nodes)
        made.nodes.append(nodes[0] if len(nodes) == 1 else _merged(nodes))
    for (start, end), types in graph.edges.items():
        edge = new[head[start]], new[head[end]]
        if edge[0] != edge[1]:
            made.edges.setdefault(edge, []).extend(types)
    return made


def _merged(nodes: list[Node]) -> Node:
    names = [node.title for node in nodes]
    shown = ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")
    places = list(dict.fromkeys(node.place for node in nodes if node.place))
    return Node(
        "layer",
        shown,
        nodes[-1].detail,
        places[0] if len(places) == 1 else f"{places[0]} to {places[-1].rpartition(':')[2]}" if places else "",
        [name for node in nodes for name in node.parameters],
        [name for node in nodes for name in node.ops],
    )
