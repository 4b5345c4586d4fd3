"""``fluid.debugger``: programs as text, and as a graph for Graphviz."""

from __future__ import annotations

from collections.abc import Sequence

from .framework import Block, Program


def pprint_program_codes(program: Program) -> None:
    """Print a program."""
    print(program.to_string(True))


def pprint_block_codes(block: Block, show_backward: bool = False) -> None:
    """Print a block."""
    del show_backward
    print(block.to_string(True))


def draw_block_graphviz(block: Block, highlights: Sequence[str] | None = None, path: str = "./temp.dot") -> None:
    """Write a block's ops and variables as a graph: ``dot -Tsvg temp.dot`` draws it.

    Args:
        block: What is drawn.
        highlights: Names of variables to be marked.
        path: The file.
    """

    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    marked = set(highlights or ())
    lines = ["digraph {"]
    for name in dict.fromkeys(n for op in block.ops for n in (*op.input_arg_names, *op.output_arg_names)):
        var = block.vars.get(name)
        colour = ", style=filled, fillcolor=orange" if name in marked else ""
        shown = name if var is None else var.describe()
        lines.append(f"  {quoted('var ' + name)} [shape=ellipse, label={quoted(shown)}{colour}];")
    for number, op in enumerate(block.ops):
        node = quoted(f"op {number}")
        lines.append(f"  {node} [shape=box, label={quoted(op.type)}];")
        lines += [f"  {quoted('var ' + name)} -> {node};" for name in dict.fromkeys(op.input_arg_names)]
        lines += [f"  {node} -> {quoted('var ' + name)};" for name in dict.fromkeys(op.output_arg_names)]
    lines.append("}")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


__all__ = ["draw_block_graphviz", "pprint_block_codes", "pprint_program_codes"]
