"""One web page, without any other file, that shows a program at all stages and draws the one asked for."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping

from ...compiler.ir.core import Function, Module, OpBase, Value
from ...compiler.ir.printer import op_lines, to_text, value_names
from ...compiler.ir.stage import Stage

_WIDTH, _HEIGHT, _GAP_X, _GAP_Y = 190, 30, 16, 34

_STYLE = """
body { font: 13px/1.45 system-ui, sans-serif; margin: 16px; color: #222; }
h1 { font-size: 18px; } h2 { font-size: 14px; margin: 12px 0 4px; }
.stages { display: flex; gap: 12px; overflow-x: auto; align-items: flex-start; }
.stages section { flex: 0 0 auto; max-width: 46vw; }
pre { margin: 0; padding: 8px; background: #f6f6f4; overflow: auto; max-height: 70vh; font-size: 11px; }
pre span { cursor: pointer; } .on { background: #ffe08a; } svg .on rect { fill: #ffe08a; }
.kernels { overflow: auto; } td, th { border: 1px solid #ddd; padding: 2px 6px; text-align: left; font-size: 11px; }
table { border-collapse: collapse; } tr[data-at] { cursor: pointer; }
.graph { overflow: auto; max-height: 70vh; border: 1px solid #ddd; }
svg text { font: 11px monospace; } svg rect { fill: #fff; stroke: #888; } svg line { stroke: #aaa; }
"""

# What comes from one line of the user's script is marked in all stages at once.
_SCRIPT = """
document.querySelectorAll('[data-at]').forEach(function (node) {
  node.addEventListener('click', function () {
    document.querySelectorAll('.on').forEach(function (other) { other.classList.remove('on'); });
    document.querySelectorAll('[data-at]').forEach(function (other) {
      if (other.dataset.at === node.dataset.at) other.classList.add('on');
    });
  });
});
"""

_LOCATION = re.compile(r"loc\(([^)]*)\)")


def to_html(modules: Mapping[Stage, Module], drawn: Stage, title: str, kernels: str = "") -> str:
    """The page.

    Args:
        modules: The program by stage, in order.
        drawn: The stage whose functions are drawn as graphs.
        title: The script's or artifact's name.
        kernels: Tables of kernels as HTML.
    """
    columns = "\n".join(
        f"<section><h2>{stage}</h2><pre>{_text(module)}</pre></section>" for stage, module in modules.items()
    )
    graphs = "\n".join(
        f'<h2>{html.escape(f.name)} at stage {drawn}</h2><div class="graph">{_drawing(f)}</div>'
        for f in modules[drawn].functions
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body>\n<h1>{html.escape(title)}</h1>\n"
        "<p>Click a line or a box: everything that comes from the same line of the script is marked.</p>\n"
        f'<div class="stages">\n{columns}\n</div>\n{kernels}\n{graphs}\n<script>{_SCRIPT}</script></body></html>\n'
    )


def _text(module: Module) -> str:
    lines: list[str] = []
    for line in to_text(module).splitlines():
        place = _LOCATION.search(line)
        shown = html.escape(line)
        lines.append(f'<span data-at="{html.escape(place[1])}">{shown}</span>' if place else shown)
    return "\n".join(lines)


def _drawing(function: Function) -> str:
    """The ops in rows, each below all that it reads; values are lines between them."""
    names, lines = value_names(function), op_lines(function)
    row_of: dict[Value, int] = {param.value: 0 for param in function.params}
    box_of: dict[Value, int] = {}
    rows: list[list[int]] = [[]]
    boxes: list[tuple[str, str, str]] = []  # label, tooltip, place in the script
    edges: list[tuple[int, int, str]] = []

    def add(row: int, label: str, tip: str, place: str, reads: tuple[Value, ...]) -> int:
        while len(rows) <= row:
            rows.append([])
        boxes.append((label, tip, place))
        rows[row].append(len(boxes) - 1)
        edges.extend((box_of[value], len(boxes) - 1, f"{names[value]} : {value.type}") for value in reads)
        return len(boxes) - 1

    for param in function.params:
        box_of[param.value] = add(0, param.name, f"{param.role} {param.value.type}", "", ())
    for op in function.ops:
        row = 1 + max((row_of[value] for value in op.operands), default=-1)
        box = add(row, _label(op, names), lines[op], str(op.loc), op.operands)
        for value in op.results:
            row_of[value], box_of[value] = row, box
    for output in function.outputs:
        add(row_of[output.value] + 1, f"→ {output.name}", f"fetch {output.name}", "", (output.value,))
    return _svg(rows, boxes, edges)


def _label(op: OpBase, names: Mapping[Value, str]) -> str:
    made = ", ".join(names[value] for value in op.results[:1])
    return f"{made} = {op.name}" if made else op.name


def _svg(rows: list[list[int]], boxes: list[tuple[str, str, str]], edges: list[tuple[int, int, str]]) -> str:
    corner = {
        box: (column * (_WIDTH + _GAP_X) + 4, row * (_HEIGHT + _GAP_Y) + 4)
        for row, members in enumerate(rows)
        for column, box in enumerate(members)
    }
    width = max(map(len, rows)) * (_WIDTH + _GAP_X) + 8
    height = len(rows) * (_HEIGHT + _GAP_Y) + 8
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">']
    for start, end, tip in edges:
        (x1, y1), (x2, y2) = corner[start], corner[end]
        line = f'<line x1="{x1 + _WIDTH // 2}" y1="{y1 + _HEIGHT}" x2="{x2 + _WIDTH // 2}" y2="{y2}">'
        parts.append(f"{line}<title>{html.escape(tip)}</title></line>")
    for box, (label, tip, place) in enumerate(boxes):
        x, y = corner[box]
        at = f' data-at="{html.escape(place)}"' if place else ""
        short = label if len(label) <= 28 else label[:27] + "…"
        parts.append(
            f"<g{at}><title>{html.escape(tip)}</title>"
            f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="4"/>'
            f'<text x="{x + 6}" y="{y + 19}">{html.escape(short)}</text></g>'
        )
    return "".join([*parts, "</svg>"])
