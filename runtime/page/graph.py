"""The graph of layers as SVG."""

from __future__ import annotations

import html

from .layers import LayerGraph, Node
from .layout import BOX_HEIGHT, BOX_WIDTH, place

_MARGIN = 8
_LETTERS = 26
_DETAIL_LETTERS = 32
_MOST = 150
"""Boxes that a reader can make something of."""


def drawn(graph: LayerGraph) -> str:
    """The picture; empty for a graph that is too large to be looked at."""
    if not graph.nodes or len(graph.nodes) > _MOST:
        return ""
    edges = list(graph.edges)
    layout = place(len(graph.nodes), edges)
    width, height = layout.width + 2 * _MARGIN, layout.height + 2 * _MARGIN
    parts = [
        f'<svg class="graph" xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="{-_MARGIN} {-_MARGIN} {width:.0f} {height:.0f}" role="img" '
        f'aria-label="{html.escape(_summary(graph))}">',
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z"/></marker></defs>',
    ]
    for edge, path in zip(edges, layout.paths, strict=True):
        tip = html.escape(", ".join(graph.edges[edge]))
        parts.append(f'<path d="{_curve(path)}" marker-end="url(#head)"><title>{tip}</title></path>')
    for node, (x, y) in zip(graph.nodes, layout.boxes, strict=True):
        middle = x + BOX_WIDTH / 2
        parts.append(
            f'<g class="{node.kind}"><title>{html.escape(_told(node))}</title>'
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}"/>'
            f'<text class="name" x="{middle:.1f}" y="{y + 20:.1f}" text-anchor="middle">'
            f"{html.escape(_cut(node.title, _LETTERS))}</text>"
            f'<text class="what" x="{middle:.1f}" y="{y + 36:.1f}" text-anchor="middle">'
            f"{html.escape(_cut(node.detail, _DETAIL_LETTERS))}</text></g>"
        )
    return "".join([*parts, "</svg>"])


def _curve(points: tuple[tuple[float, float], ...]) -> str:
    """Through the points, upright at each."""
    x, y = points[0]
    parts = [f"M{x:.1f} {y:.1f}"]
    for to_x, to_y in points[1:]:
        if to_x == x:
            parts.append(f"L{to_x:.1f} {to_y:.1f}")
        else:
            bend = (y + to_y) / 2
            parts.append(f"C{x:.1f} {bend:.1f} {to_x:.1f} {bend:.1f} {to_x:.1f} {to_y:.1f}")
        x, y = to_x, to_y
    return " ".join(parts)


def _told(node: Node) -> str:
    parts = [node.title, node.detail, node.place]
    if node.parameters:
        parts.append(f"reads {', '.join(node.parameters)}")
    if node.ops:
        parts.append(f"ops: {', '.join(node.ops[:12])}" + (", …" if len(node.ops) > 12 else ""))
    return "\n".join(part for part in parts if part)


def _summary(graph: LayerGraph) -> str:
    layers = [node.title for node in graph.nodes if node.kind == "layer"]
    return f"graph of the step, {len(graph.nodes)} boxes; layers: {', '.join(layers)}"


def _cut(text: str, letters: int) -> str:
    return text if len(text) <= letters else text[: letters - 1] + "…"
