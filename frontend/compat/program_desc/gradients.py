"""Gradient ops of a training program, recognised and replaced: one ``backward`` record for each loss.

Paddle writes the gradient of a program as ops of its own, marked by their role.  What they compute follows from the
forward ops; what has to be taken from them is where a gradient begins, which gradients somebody reads under which
names, and through which variables none passes, since a ProgramDesc does not say ``stop_gradient``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ...op_role import OpRole
from ...reach import ancestors, before, descendants
from ...variable import GRAD_SUFFIX
from .errors import ProgramDescError
from .records import Record

if TYPE_CHECKING:
    from ...framework import Operator, Program

_HELPERS = ("fill_zeros_like", "fill_zeros_like2", "fill_any_like", "fill_constant", "shape")
"""Ops that Paddle puts between gradient ops."""

_OWN_GRADIENTS = (
    "assign", "cast", "concat", "cumsum", "increment", "reverse", "scale", "select_output", "split", "stack", "sum",
    "transpose", "unstack",
)  # fmt: skip
"""Ops that are themselves the gradients of others: of scale, cast, split, sum; or add up the parts of a gradient."""

_GRADIENT_OP = re.compile(r".*_grad2?(_grad)?$")
_NAME = re.compile(r"^((?:grad/)*)(.*)@GRAD(@RENAME@.*)?$", re.DOTALL)


def source_of(gradient: str) -> str | None:
    """The variable whose gradient this is: ``w`` of ``w@GRAD``, ``grad/grad/w@GRAD`` and ``w@GRAD@RENAME@block0@1``."""
    match = _NAME.match(gradient)
    return match.group(2) if match else None


def backward_records(
    ops: Sequence[Record], reads_of: Mapping[int, Sequence[str]], source: str
) -> tuple[list[Record], dict[int, set[str]]]:
    """The ops with each run of gradient ops replaced by one record.

    Args:
        ops: Of the global block.
        reads_of: Names that the ops of each block read.
        source: What messages call the file.

    Returns:
        The ops, and for each record, by its position, the variables that have a gradient in it.

    Raises:
        ProgramDescError: Ops among the gradients that are no gradients, or gradients that begin nowhere.
    """
    sections: list[list[Record]] = []
    strange: Counter[str] = Counter()
    for op in _changed_on_the_way(ops):
        if _is_error_clip(op):
            op.role = OpRole.BACKWARD  # Paddle gives it none
        else:
            strange[op.type] += 1
    for op in ops:
        if op.role is not OpRole.BACKWARD:
            continue
        if not (_GRADIENT_OP.match(op.type) or op.type in _HELPERS or _passes_on(op) or _is_error_clip(op)):
            strange[op.type] += 1
        begins = _begins(op)
        if begins and (op.is_loss or not sections or not _only_begins(sections[-1])):
            sections.append([op])
        elif op.type == "shape" and (not sections or not _only_begins(sections[-1])):
            sections.append([op])  # the extents of a gradient of ones
        elif sections:
            sections[-1].append(op)
        else:
            strange[op.type] += 1
    if strange:
        listed = ", ".join(f"{count} x {kind}" for kind, count in strange.items())
        raise ProgramDescError(
            f"among the gradient ops are some of unknown meaning: {listed}",
            source,
            "save the program before minimize, and call minimize here; gradients that begin at given ones, "
            "recomputation and several devices are not read",
        )
    asked = {name for op in ops if op.role is not OpRole.BACKWARD for name in op.reads}
    asked |= {name for number, names in reads_of.items() if number for name in names}
    place = {id(op): number for number, section in enumerate(sections) for op in section}
    made: dict[int, Record] = {}
    result: list[Record] = []
    for op in ops:
        number = place.get(id(op))
        if number is None:
            result.append(op)
        elif number not in made:
            made[number] = _record(sections[number], asked, ops, source)
            result.append(made[number])
    graded = {
        section[0].position: {name for op in section for g in op.writes if (name := source_of(g)) is not None}
        for section in sections
    }
    return result, graded


def stopped(program: Program, record: Operator, graded: set[str]) -> list[str]:
    """Variables on the way from the parameters to the loss that are not in ``graded``, which have a gradient there."""
    variables = program.global_block().vars
    ops = before(program, record)
    targets, sources = set(record.input("Targets")), set(record.input("Wrt"))
    way = ancestors(program, ops, targets) & descendants(program, ops, sources, set())
    return sorted(
        name
        for name in way - targets - sources - graded
        if name in variables and variables[name].has_dtype and variables[name].dtype.is_float
    )


def _changed_on_the_way(ops: Sequence[Record]) -> list[Record]:
    """Ops that are not marked as gradient ops, and write a gradient anew that gradient ops read afterwards."""
    found: list[Record] = []
    read_later: set[str] = set()
    for op in reversed(ops):
        if op.role is OpRole.BACKWARD:
            read_later.update(op.reads)
        elif read_later.intersection(op.writes):
            found.append(op)
    made: set[str] = {name for op in ops if op.role is OpRole.BACKWARD for name in op.writes}
    return [op for op in found if made.intersection(op.writes)]


def _begins(op: Record) -> bool:
    """Whether the op is the gradient of a target with respect to itself, filled with ones."""
    return op.type == "fill_constant" and len(op.writes) == 1 and op.writes[0].endswith(GRAD_SUFFIX)


def _only_begins(section: Sequence[Record]) -> bool:
    return all(_begins(op) or op.type == "shape" for op in section)


def _passes_on(op: Record) -> bool:
    """Whether the op makes a gradient of gradients, rather than changing one in place."""
    makes = all("@GRAD" in name for name in op.writes) and op.writes != op.reads
    return op.type in _OWN_GRADIENTS and makes


def _is_error_clip(op: Record) -> bool:
    """Whether the op clips the gradient of a variable on its way."""
    return op.type == "clip" and op.reads == op.writes


def _record(section: Sequence[Record], asked: set[str], ops: Sequence[Record], source: str) -> Record:
    """One backward record for a run of gradient ops."""
    starts = [op for op in section if _begins(op)]
    targets = [name for op in starts if (name := source_of(op.writes[0])) is not None]
    scaled = [op for op in starts if op.attrs.get("value", 1.0) != 1.0]
    if not targets or scaled:
        raise ProgramDescError(
            f"the gradient ops from op {section[0].position} on do not begin at a loss",
            source,
            "save the program before minimize, and call minimize here",
        )
    pairs: dict[str, str] = {}
    updated: list[str] = []
    for op in section:
        for parameter, gradient in zip(op.updates[::2], op.updates[1::2]):
            pairs[gradient] = parameter
            updated.append(parameter)
    written = {name for op in section for name in op.writes}
    for name in sorted(written & asked):
        of = source_of(name)
        if of is None or "@RENAME@" in name:
            raise ProgramDescError(
                f"{name} of the gradient ops is read by others, though it is no gradient",
                source,
                "save the program before minimize, and call minimize here",
            )
        pairs.setdefault(name, of)
    order = {name: at for at, name in enumerate(dict.fromkeys(n for op in ops for n in op.reads))}
    gradients = sorted(pairs, key=lambda gradient: (order.get(pairs[gradient], len(order)), gradient))
    clips = [[source_of(op.reads[0]), op.attrs["min"], op.attrs["max"]] for op in section if _is_error_clip(op)]
    return Record(
        "backward",
        {"Targets": targets, "TargetGradients": [], "Wrt": [pairs[g] for g in gradients]},
        {"Grads": gradients},
        {
            "parameters": [pairs[g] for g in gradients if pairs[g] in updated],
            "no_grad_set": [],
            "privacy": None,
            "clip_state": "",
            "error_clip": clips,
            "checkpoints": [],
        },
        OpRole.BACKWARD,
        True,
        position=section[0].position,
    )
