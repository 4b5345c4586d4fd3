"""How an op class is spelled in IR text; printer and parser both follow this, so that they cannot disagree.

    %r, … = family.op(operands) {attributes} : type, … loc(file:line layer) { ^(params): … yield … }

* An attribute ``type: TensorType`` is the result type after the colon.
* ``StateName`` attributes come first and without parentheses: ``state.write @fc_0.w_0, %w``.
* An attribute that is itself an op stands in brackets, and the first variadic operand field holds that
  op's operands: ``grad.use[linear.matmul {ta=true}](%x, %w; %ct) {operand=1, param=@w}``.
"""

from __future__ import annotations

import json
import string
from dataclasses import dataclass
from functools import cache

from .core import Field, OpBase, StateName, fields_of

_NAME_CHARS = frozenset(string.ascii_letters + string.digits + "_.")
LABELS = ("example", "scaled", "clipped", "public", "mixed")


@dataclass(frozen=True)
class Syntax:
    """The fields of an op class, sorted by where the text shows them."""

    states: tuple[Field, ...]
    operands: tuple[Field, ...]
    attributes: tuple[Field, ...]
    regions: tuple[Field, ...]
    typed: bool
    inner: Field | None
    inner_operands: Field | None


@cache
def syntax_of(cls: type[OpBase]) -> Syntax:
    """The spelling of an op class."""
    fields = fields_of(cls)
    operands = [f for f in fields if f.kind in ("operand", "optional", "variadic")]
    attributes = [f for f in fields if f.kind == "attribute"]
    typed = any(f.name == "type" for f in attributes)
    inner = next((f for f in attributes if _holds_op(f)), None)
    inner_operands = None
    if inner is not None:
        inner_operands = next(f for f in operands if f.kind == "variadic")
        operands.remove(inner_operands)
    states = [f for f in attributes if f.annotation is StateName and inner is None]
    return Syntax(
        states=tuple(states),
        operands=tuple(operands),
        attributes=tuple(f for f in attributes if f.name != "type" and f is not inner and f not in states),
        regions=tuple(f for f in fields if f.kind == "region"),
        typed=typed,
        inner=inner,
        inner_operands=inner_operands,
    )


def _holds_op(field: Field) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, OpBase)


def is_word(text: str) -> bool:
    """Whether ``text`` needs no quotes in a location: ASCII letters, digits, ``_`` and ``.``, no digit first."""
    return is_name(text) and "@" not in text and not text[0].isdigit() and text[0] != "."


def is_name(text: str) -> bool:
    """Whether ``text`` needs no quotes after ``@``: ASCII letters, digits, ``_``, ``.`` and ``@``."""
    return text != "" and all(is_name_char(c) or c == "@" for c in text)


def is_name_char(char: str) -> bool:
    """Whether ``char`` may stand in a value's name."""
    return char in _NAME_CHARS


def quoted(text: str) -> str:
    """``text`` as a JSON string, readable where it is printable."""
    return json.dumps(text, ensure_ascii=not text.isprintable())


def usage(cls: type[OpBase]) -> str:
    """How the op is written, with field names for values: ``linear.matmul(x, w)``."""
    syntax = syntax_of(cls)
    lone = len(syntax.operands) == 1 and not syntax.states
    groups = [_placeholder(field, lone) for field in syntax.operands]
    if syntax.states:
        return f"{cls.name} {', '.join([f'@{field.name}' for field in syntax.states] + groups)}"
    if syntax.inner is not None:
        return f"{cls.name}[op](its operands; {', '.join(groups)})"
    return f"{cls.name}({', '.join(groups)})"


def _placeholder(field: Field, lone: bool) -> str:
    if field.kind == "variadic":
        return f"{field.name}, …" if lone else f"[{field.name}, …]"
    return f"{field.name} or _" if field.kind == "optional" else field.name
