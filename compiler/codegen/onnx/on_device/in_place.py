"""State that a training model changes by itself: written in place, and only once nothing reads the old value any more.

ONNX Runtime's training API feeds a model the tensors of its checkpoint and takes none back. What a step changes beside
its gradients is therefore written into those tensors by ``InPlaceAccumulatorV2``, which has its first input as the
output too. Nothing in ONNX orders such a write after the other readers of the tensor, and ONNX Runtime is free to
execute them in any order: where the new value does not depend on all of them, the write waits for them through its
third input, a flag that is always true (overwrite) and is computed from what the readers compute.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from onnx import NodeProto, TensorProto, helper

VIEWS = frozenset({
    "Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast", "Expand", "Slice", "Transpose",
})  # fmt: skip
"""Nodes whose output may be their input's memory, or that ONNX Runtime may take for no change and leave out."""

ARITHMETIC = frozenset({"Add", "Sub", "Mul", "Div"})
"""Nodes that it leaves out where one operand is a constant that changes nothing."""

ALWAYS = "[true]"
"""Name of the constant flag, bool[1]."""


def written_in_place(nodes: Iterable[NodeProto], new: Mapping[str, str]) -> list[NodeProto]:
    """The nodes, and for every variable one that writes its new value into it.

    Args:
        nodes: In topological order.
        new: Name of a variable, an input of the graph, to the name of its new value.
    """
    made = list(nodes)
    new = dict(new)
    views = {name: _views(made, name) for name in new}
    for name, value in new.items():
        if any(value in found for other, found in views.items() if other != name):
            # Another variable's old value, which may be overwritten first: a copy of it is a node like any other.
            new[name] = f"{name}/copy"
            made.append(helper.make_node("Max", [value, value], [new[name]], f"copy:{new[name]}"))
    before = list(made)
    for name, value in new.items():
        needed = _ancestors(before, value)
        seen = {name, *views[name]}
        late = [node for node in before if seen.intersection(inputs(node)) and id(node) not in needed]
        flag = _waiting(made, name, late) if late else ALWAYS
        made.append(_write(name, value, flag, f"{name}/written"))
    return made


def accumulated(parameter: str, gradient: str) -> NodeProto:
    """The node that adds a gradient to its buffer, or begins anew when ``lazy_reset_grad`` says so."""
    buffer = f"{gradient}.accumulation.buffer"
    return _write(buffer, gradient, "lazy_reset_grad", f"{gradient}.accumulation.out", f"gradient:{parameter}")


def _write(buffer: str, value: str, overwrite: str, done: str, name: str = "") -> NodeProto:
    return helper.make_node(
        "InPlaceAccumulatorV2", [buffer, value, overwrite], [done], name or f"write:{buffer}", domain="com.microsoft"
    )


def _waiting(made: list[NodeProto], name: str, late: Iterable[NodeProto]) -> str:
    """A flag, bool[1], that is true and known once the nodes ``late`` have run."""
    sums: list[str] = []
    for number, node in enumerate(late):
        base = f"{name}/read/{number}"
        made.append(helper.make_node("Cast", [node.output[0]], [f"{base}/cast"], to=TensorProto.FLOAT))
        made.append(helper.make_node("ReduceSum", [f"{base}/cast"], [f"{base}/sum"], keepdims=0))
        sums.append(f"{base}/sum")
    made.append(helper.make_node("Sum", sums, [f"{name}/read/all"]))
    made.append(helper.make_node("Cast", [f"{name}/read/all"], [f"{name}/read/any"], to=TensorProto.BOOL))
    made.append(helper.make_node("Or", [f"{name}/read/any", ALWAYS], [f"{name}/read"], f"wait:{name}"))
    return f"{name}/read"


def inputs(node: NodeProto) -> set[str]:
    """What a node reads, its nested graphs included."""
    found = set(node.input)
    for attribute in node.attribute:
        if attribute.HasField("g"):
            found |= {name for inner in attribute.g.node for name in inputs(inner)}
            found |= {output.name for output in attribute.g.output}
    return found - {""}


def _views(nodes: Sequence[NodeProto], name: str) -> set[str]:
    """The variable, and every value that may be its memory."""
    computed = {output for node in nodes for output in node.output}
    found = {name}
    for node in nodes:
        kept = node.op_type in VIEWS or (node.op_type in ARITHMETIC and not computed.issuperset(node.input))
        if kept and found.intersection(node.input):
            found.update(node.output)
    return found


def _ancestors(nodes: list[NodeProto], value: str) -> set[int]:
    """The nodes, by id, that a value is computed from."""
    wanted, found = {value}, set[int]()
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            found.add(id(node))
            wanted |= inputs(node)
    return found
