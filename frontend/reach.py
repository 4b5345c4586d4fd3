"""Which variables lie on the way from the differentiable inputs of a program to its loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .framework import Operator, Program


NO_GRADIENT: Mapping[str, frozenset[str]] = {
    op: frozenset(slots.split())
    for op, slots in {
        "bce_loss": "Label",
        "bpr_loss": "Label",
        "cross_entropy": "Label",
        "expand_as": "target_tensor",
        "kldiv_loss": "Target",
        "log_loss": "Labels",
        "margin_rank_loss": "Label",
        "nll_loss": "Label Weight",
        "pad_constant_like": "X",
        "rank_loss": "Label",
        "sigmoid_cross_entropy_with_logits": "Label",
        "softmax_with_cross_entropy": "Label",
        "spectral_norm": "U V",
        "teacher_student_sigmoid_loss": "Label",
    }.items()
}
"""Slots of floating-point values through which fluid passes no gradient, by op: what they hold is taken as given."""


def before(program: Program, record: Operator) -> list[Operator]:
    """The ops of the global block that come before ``record``."""
    ops = program.global_block().ops
    return ops[: next(i for i, op in enumerate(ops) if op is record)]


def _reads(program: Program, op: Operator) -> set[str]:
    """Names an op reads, those of its sub-block included."""
    names = set(op.input_arg_names)
    if op.has_attr("sub_block"):
        for inner in program.blocks[op.attr("sub_block")].ops:
            names |= _reads(program, inner)
    return names


def _differentiated(program: Program, op: Operator) -> set[str]:
    """Names an op reads and may pass a gradient to."""
    given = NO_GRADIENT.get(op.type)
    if given is None:
        return _reads(program, op)
    return {name for slot, names in op.inputs.items() if slot not in given for name in names}


def ancestors(program: Program, ops: list[Operator], targets: set[str]) -> set[str]:
    """``targets`` and everything they are computed from."""
    needed = set(targets)
    for op in reversed(ops):
        if needed.intersection(op.output_arg_names):
            needed |= _reads(program, op)
    return needed


def pruned(
    program: Program, ops: list[Operator], targets: set[str], given: set[str]
) -> tuple[list[Operator], set[str]]:
    """The ops that ``targets`` are computed by from ``given``, which nothing need compute; and the names they read."""
    needed = targets - given
    kept: list[Operator] = []
    for op in reversed(ops):
        if needed.intersection(op.output_arg_names):
            kept.append(op)
            needed |= _reads(program, op) - given
    return kept[::-1], needed


def descendants(program: Program, ops: list[Operator], sources: set[str], blocked: set[str]) -> set[str]:
    """``sources`` and what is computed from them so that it has a gradient, without passing through ``blocked``."""
    reached = set(sources)
    for op in ops:
        if reached.intersection(_differentiated(program, op)):
            reached.update(name for name in op.output_arg_names if name not in blocked)
    return reached


def gradient_path(program: Program, record: Operator) -> set[str]:
    """Names that have a gradient in a backward record: on the way to its targets and not stopped."""
    ops = before(program, record)
    blocked = set(record.attr("no_grad_set"))
    sources: set[str] = set(record.input("Wrt"))
    for var in program.global_block().vars.values():
        if var.stop_gradient:
            blocked.add(var.name)
        elif var.is_data or var.persistable:
            sources.add(var.name)
    on_way = ancestors(program, ops, set(record.input("Targets")))
    return on_way & descendants(program, ops, sources - blocked, blocked)


def producers(program: Program, name: str) -> list[Operator]:
    """The ops that a variable of the global block is computed by, not looking behind backward records."""
    needed = {name}
    found: list[Operator] = []
    for op in reversed(program.global_block().ops):
        if needed.intersection(op.output_arg_names):
            found.append(op)
            if op.type != "backward":
                needed |= _reads(program, op)
    return found
