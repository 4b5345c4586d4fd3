"""Which op has which rule, and where: what ``fluidc ops`` prints and the completeness test reads."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

from . import OPS
from .base import Op, Rule

State = Literal["rule", "default", "none", "gap"]
RULES: tuple[Rule, ...] = get_args(Rule)

_REASONS: dict[Rule, str] = {
    "evaluate": "no_evaluate",
    "vjp": "no_vjp",
    "example_norm_sq": "no_norm",
    "to_tvm": "no_tvm",
    "to_onnx": "no_onnx",
}
_DEFAULTS: dict[Rule, str] = {
    "example_axis": "public operands give public results, anything else is mixed",
    "example_norm_sq": "from the factors of its products, or from materialised gradients",
    "decompose": "a core op",
}


@dataclass(frozen=True)
class Cell:
    """One rule of one op.

    Args:
        rule: The rule's name, which is the method's.
        state: ``rule``: the op has it, at ``place``.  ``default``: what every op does without one, in ``text``.
            ``none``: it cannot or does not have it, for the reason in ``text``.  ``gap``: nobody has decided.
        place: ``compiler/ops/linear.py:35`` of the method; empty without one.
        text: The reason, or the default.
    """

    rule: Rule
    state: State
    place: str = ""
    text: str = ""


@dataclass(frozen=True)
class Row:
    """One op: its name, class, place, stages and rules (in the order of ``RULES``)."""

    name: str
    cls: type[Op]
    place: str
    stages: str
    summary: str
    cells: tuple[Cell, ...]

    @property
    def family(self) -> str:
        return self.name.partition(".")[0]

    def cell(self, rule: Rule) -> Cell:
        return self.cells[RULES.index(rule)]


def matrix(ops: Sequence[type[Op]] = OPS) -> tuple[Row, ...]:
    """One row per op, in the order of the op set."""
    return tuple(_row(cls) for cls in ops)


def gaps(ops: Sequence[type[Op]] = OPS) -> tuple[tuple[str, Rule], ...]:
    """``(op, rule)`` for every rule that is neither there nor declared absent with a reason."""
    return tuple((row.name, cell.rule) for row in matrix(ops) for cell in row.cells if cell.state == "gap")


def coverage(ops: Sequence[type[Op]] = OPS) -> dict[Rule, tuple[int, int]]:
    """Per rule: how many ops have it, and how many could (those without a reason against it)."""
    rows = matrix(ops)
    found: dict[Rule, tuple[int, int]] = {}
    for rule in RULES:
        states = [row.cell(rule).state for row in rows]
        found[rule] = states.count("rule"), len(states) - states.count("none")
    return found


def _row(cls: type[Op]) -> Row:
    stages = f"{cls.first_stage} – {cls.last_stage}" if cls.first_stage != cls.last_stage else str(cls.first_stage)
    summary = (inspect.getdoc(cls) or "").partition("\n")[0]
    cells = tuple(_cell(cls, rule) for rule in RULES)
    return Row(cls.name, cls, _place(cls, _class_lines(cls.__module__)[cls.__name__]), stages, summary, cells)


@cache
def _class_lines(module: str) -> dict[str, int]:
    """The line of every class of a module; `inspect` would parse the file once per class."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {node.name: node.lineno for node in tree.body if isinstance(node, ast.ClassDef)}


def _cell(cls: type[Op], rule: Rule) -> Cell:
    # The nearer declaration holds: a class may take back a rule that its base has, and the reverse.
    owner = _owner(cls, rule)
    reason_name = _REASONS.get(rule)
    reason = str(getattr(cls, reason_name)) if reason_name else ""
    mro = cls.__mro__
    if owner is not Op:
        declared = mro.index(_owner(cls, reason_name)) if reason_name and reason else len(mro)
        if mro.index(owner) <= declared:
            line = inspect.unwrap(vars(owner)[rule]).__code__.co_firstlineno
            return Cell(rule, "rule", _place(owner, line))
    if reason:
        return Cell(rule, "none", text=reason)
    if rule in _DEFAULTS:
        return Cell(rule, "default", text=_DEFAULTS[rule])
    return Cell(rule, "gap")


def _owner(cls: type[Op], attribute: str) -> type:
    """The class in whose body an attribute is defined."""
    return next(base for base in cls.__mro__ if attribute in vars(base))


def _place(cls: type, line: int) -> str:
    # The distribution's name is not a folder: compiler/ installs as fluidc.compiler.
    return f"{cls.__module__.partition('.')[2].replace('.', '/')}.py:{line}"
