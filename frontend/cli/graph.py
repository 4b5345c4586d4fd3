"""A module as data: JSON for tools, Graphviz text for pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from ...compiler.ir.core import Function, Module, OpBase, Value
from ...compiler.ir.printer import literal, op_lines, value_names
from ...compiler.ir.types import Clipped, Label, Scaled
from ...compiler.ops.state import Read, Write
from ...runtime.fields import Json
from ...runtime.kernels import KernelTable

Names = Mapping[Value, str]


def to_json(module: Module, kernels: KernelTable | None = None) -> str:
    """The module as one JSON object, with its kernels as docs/artifact.md has them where they are given.

    ``state`` and ``functions`` are lists; a function has ``params``, ``ops`` and ``outputs``; an op has its ``op``
    name, the ``line`` of IR text, names of ``operands``, typed ``results``, printed ``attributes``, the user's ``loc``
    and the ``regions`` it holds.
    """
    data = module_data(module) if kernels is None else {**module_data(module), "kernels": kernels.to_json()}
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def module_data(module: Module) -> dict[str, Json]:
    """The object that `to_json` prints."""
    return {
        "stage": str(module.stage),
        "private": module.privacy is not None,
        "state": [
            {"name": d.name, "type": str(d.type), "kind": d.kind, "role": d.role, "trainable": d.trainable}
            for d in module.state
        ],
        "functions": [_function(function) for function in module.functions],
        "proof": list(module.proof),
    }


def _function(function: Function) -> Json:
    names, lines = value_names(function), op_lines(function)
    return {
        "name": function.name,
        "params": [
            {"name": p.name, "role": p.role, "value": names[p.value], "type": str(p.value.type)}
            for p in function.params
        ],
        "ops": [_op(op, names, lines) for op in function.ops],
        "outputs": [{"name": o.name, "value": names[o.value], "combine": o.combine} for o in function.outputs],
    }


def _op(op: OpBase, names: Names, lines: Mapping[OpBase, str]) -> Json:
    return {
        "op": op.name,
        "line": lines[op],
        "operands": [names[value] for value in op.operands],
        "results": [_typed(value, names) for value in op.results],
        "attributes": {name: _spelled(value) for name, value in op.attributes()},
        "loc": {"file": op.loc.file, "line": op.loc.line, "layer": op.loc.layer} if op.loc else None,
        "regions": [
            {
                "params": [_typed(value, names) for value in region.params],
                "ops": [_op(inner, names, lines) for inner in region.ops],
                "results": [names[value] for value in region.results],
            }
            for region in op.regions
        ],
    }


def _typed(value: Value, names: Names) -> Json:
    return {"name": names[value], "type": str(value.type), "label": _label(value.label, names)}


def _label(label: Label | None, names: Names) -> str | None:
    match label:
        case None:
            return None
        case Scaled(factor):
            return f"scaled<{names[factor]}>"
        case Clipped(factor):
            return f"clipped<{names[factor]}>"
        case _:
            return str(label)


def _spelled(value: object) -> str:
    return f"{value.name}" if isinstance(value, OpBase) else literal(value)


def to_dot(module: Module) -> str:
    """The module as a Graphviz digraph, one cluster per function; ``dot -Tsvg`` draws it."""
    lines = ["digraph module {", "  rankdir=TB;", '  node [shape=box, fontname="monospace", fontsize=10];']
    for number, function in enumerate(module.functions):
        lines += [f"  subgraph cluster_{number} {{", f"    label={_quoted(function.name)};"]
        lines += [f"    {line}" for line in _cluster(f"f{number}", function)]
        lines.append("  }")
    return "\n".join([*lines, "}"]) + "\n"


def _cluster(prefix: str, function: Function) -> Iterator[str]:
    """Nodes and edges of one function; state is drawn where it is read and written."""
    producers: dict[Value, str] = {}
    for number, param in enumerate(function.params):
        node = producers[param.value] = f"{prefix}p{number}"
        yield f"{node} [label={_quoted(f'{param.role} {param.name}')}, style=rounded];"
    for number, op in enumerate(function.ops):
        node = f"{prefix}o{number}"
        shape = ", shape=cylinder" if isinstance(op, Read | Write) else ""
        name = f"{op.name}\n@{op.state}" if isinstance(op, Read | Write) else op.name
        yield f"{node} [label={_quoted(name)}{shape}];"
        for value in op.operands:
            yield f"{producers[value]} -> {node} [label={_quoted(str(value.type))}, fontsize=8];"
        producers |= dict.fromkeys(op.results, node)
    for number, output in enumerate(function.outputs):
        node = f"{prefix}r{number}"
        yield f"{node} [label={_quoted(f'fetch {output.name}')}, style=rounded];"
        yield f"{producers[output.value]} -> {node};"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
