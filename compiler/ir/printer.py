"""IR text.  Nothing in it differs between two runs; ``parser.parse`` reads it back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from typing import cast

from .core import Field, Function, Module, OpBase, Output, Param, PrivacyConfig, Region, StateDecl, StateName, Value
from .location import Loc
from .syntax import is_name, is_name_char, is_word, quoted, syntax_of
from .types import Clipped, DType, Label, RaggedType, Scaled, Sym, TensorType

INDENT = "  "


def to_text(module: Module, *, locations: bool = True) -> str:
    """The whole module, ending in a newline; without ``locations`` it says nothing of the user's lines."""
    lines = [f"module {{stage = {module.stage}}} {{"]
    if module.privacy is not None:
        lines.append(f"{INDENT}privacy {_privacy(module.privacy)}")
    lines.extend(INDENT + _declaration(decl) for decl in module.state)
    for function in module.functions:
        lines.extend(INDENT + line for line in _FunctionPrinter(function, locations).lines)
    if module.proof:
        lines.append(f"{INDENT}proof {{")
        lines.extend(f"{INDENT}{INDENT}{quoted(line)}" for line in module.proof)
        lines.append(f"{INDENT}}}")
    lines.append("}")
    return "\n".join(lines) + "\n"


def function_text(function: Function) -> str:
    """One function, ending in a newline."""
    return "\n".join(_FunctionPrinter(function).lines) + "\n"


def op_lines(function: Function) -> Mapping[OpBase, str]:
    """For every op of the function, those in regions included, the line that ``to_text`` prints for it
    (its first line when it has regions), without indentation."""
    return _FunctionPrinter(function).headlines


def value_names(function: Function) -> Mapping[Value, str]:
    """For every value of the function, those in regions included, the name that ``to_text`` prints (``%h``)."""
    return _FunctionPrinter(function).names.all()


def op_text(op: OpBase) -> str:
    """One op outside its function, values named by their hints; for messages."""
    printer = _Names()
    printer.define(op.operands)
    printer.define(op.results)
    return _headline(op, printer)


def literal(value: object, annotation: object = None) -> str:
    """An attribute's value.  ``annotation`` makes an int of a ``float`` attribute print as a float."""
    if annotation is float and isinstance(value, (bool, int)):
        value = float(value)
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case float():
            return repr(value) if math.isfinite(value) else str(value)
        case StateName():
            return _state_name(value)
        case str():
            return quoted(value)
        case DType():
            return value.value
        case int() | Sym() | TensorType() | RaggedType():
            return str(value)
        case tuple():
            items = [literal(item) for item in cast("tuple[object, ...]", value)]
            return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"
        case _:
            raise TypeError(f"IR text has no spelling for {value!r}")


class _Names:
    """Names of values: the hint, numbered where several values share it (``h``, ``h#1``); a number where there is none.

    The parser takes the number off again, so that a module read from its text goes on to print like the
    original after any pass, also one that removes the first ``h``.
    """

    def __init__(self) -> None:
        self._names: dict[Value, str] = {}
        self._uses: dict[str, int] = {}

    def define(self, values: Iterable[Value]) -> None:
        """Name ``values`` afresh (a region that two ops share is printed twice, under different names)."""
        for value in values:
            base = _base(value.hint)
            use = self._uses[base] = self._uses.get(base, -1) + 1
            if not base:
                self._names[value] = str(use)
            else:
                self._names[value] = f"{base}#{use}" if use else base

    def all(self) -> Mapping[Value, str]:
        """Every value named so far, with its name as it is printed."""
        return {value: f"%{name}" for value, name in self._names.items()}

    def __call__(self, value: Value) -> str:
        name = self._names.get(value)
        # A value that nothing defines is a broken graph, which must still print for the error to show it.
        return f"%{name}" if name is not None else f"%?{value.hint}"


def _base(hint: str) -> str:
    """The hint with other characters than names have replaced; numbers are left to values without a hint."""
    base = "".join(c if is_name_char(c) else "_" for c in hint)
    return f"_{base}" if base[:1].isdigit() else base


class _FunctionPrinter:
    def __init__(self, function: Function, locations: bool = True) -> None:
        self._locations = locations
        self.lines: list[str] = []
        self.headlines: dict[OpBase, str] = {}
        self.names = _Names()
        self.names.define(param.value for param in function.params)
        params = ", ".join(self._param(param) for param in function.params)
        self.lines.append(f"func {_state_name(function.name)}({params}) {{")
        self._ops(function.ops, INDENT)
        outputs = ", ".join(map(self._output, function.outputs))
        self.lines.append(f"{INDENT}return {outputs}".rstrip())
        self.lines.append("}")

    def _param(self, param: Param) -> str:
        name = f" {quoted(param.name)}" if param.role == "feed" or param.name != param.role else ""
        return f"{param.role}{name} {_typed(param.value, self.names)}"

    def _output(self, output: Output) -> str:
        combine = "" if output.combine == "last" else f" {{{output.combine}}}"
        return f"{quoted(output.name)} = {self.names(output.value)}{combine}"

    def _ops(self, ops: Iterable[OpBase], indent: str) -> None:
        for op in ops:
            # Results are named before the region's values: the outer line comes first in the text.
            self.names.define(op.results)
            head = self.headlines[op] = _headline(op, self.names, self._locations)
            regions = _regions(op)
            self.lines.append(indent + head + (" {" if regions else ""))
            for i, region in enumerate(regions):
                self._region(region, indent)
                self.lines.append(indent + ("} {" if i + 1 < len(regions) else "}"))

    def _region(self, region: Region, indent: str) -> None:
        self.names.define(region.params)
        params = ", ".join(_typed(value, self.names) for value in region.params)
        self.lines.append(f"{indent}{INDENT}^({params}):")
        inner = indent + INDENT + INDENT
        self._ops(region.ops, inner)
        self.lines.append(f"{inner}yield {', '.join(map(self.names, region.results))}".rstrip())


def _regions(op: OpBase) -> tuple[Region, ...]:
    """The regions printed after an op: its own, or those of the op that it stands for."""
    inner = syntax_of(type(op)).inner
    if inner is None:
        return op.regions
    stands_for = getattr(op, inner.name)
    assert isinstance(stands_for, OpBase)
    return stands_for.regions


def _headline(op: OpBase, names: _Names, locations: bool = True) -> str:
    syntax = syntax_of(type(op))
    results = ", ".join(map(names, op.results))
    head = f"{results} = {op.name}" if results else op.name
    # A lone variadic operand needs no brackets inside parentheses.
    brackets = len(syntax.operands) > 1 or bool(syntax.states)
    operands = _operands(op, syntax.operands, names, brackets)
    if syntax.inner is not None and syntax.inner_operands is not None:
        stands_for = getattr(op, syntax.inner.name)
        arguments = getattr(op, syntax.inner_operands.name)
        head += f"[{_inner(stands_for)}]({_regrouped(stands_for, arguments, names)}; {operands})"
    elif syntax.states:
        states = ", ".join(_state_name(getattr(op, f.name)) for f in syntax.states)
        head += f" {states}, {operands}" if operands else f" {states}"
    else:
        head += f"({operands})"
    head += _attributes(op, syntax.attributes)
    if op.results:
        head += " : " + ", ".join(_with_label(value, names) for value in op.results)
    return head + _location(op.loc) if locations else head


def _inner(op: OpBase) -> str:
    syntax = syntax_of(type(op))
    typed = f" : {op.results[0].type}" if syntax.typed else ""
    return op.name + _attributes(op, syntax.states + syntax.attributes) + typed


def _regrouped(op: OpBase, arguments: tuple[Value, ...], names: _Names) -> str:
    """``arguments`` in the places of the operands of ``op``."""
    rest = list(arguments)
    groups: list[str] = []
    operands = syntax_of(type(op)).operands
    for field in _stated(op, operands):
        held = getattr(op, field.name)
        if held is None:
            groups.append("_")
        elif field.kind == "variadic":
            taken, rest = rest[: len(held)], rest[len(held) :]
            groups.append(_variadic(taken, names, brackets=len(operands) > 1))
        else:
            groups.append(names(rest.pop(0)))
    return ", ".join(groups)


def _operands(op: OpBase, operands: tuple[Field, ...], names: _Names, brackets: bool) -> str:
    groups: list[str] = []
    for field in _stated(op, operands):
        held = getattr(op, field.name)
        if held is None:
            groups.append("_")
        elif field.kind == "variadic":
            groups.append(_variadic(held, names, brackets))
        else:
            groups.append(names(held))
    return ", ".join(groups)


def _stated(op: OpBase, operands: tuple[Field, ...]) -> tuple[Field, ...]:
    """``operands`` without the last ones that are absent by default."""
    count = len(operands)
    while count and operands[count - 1].default is None and getattr(op, operands[count - 1].name) is None:
        count -= 1
    return operands[:count]


def _variadic(values: Iterable[Value], names: _Names, brackets: bool) -> str:
    listed = ", ".join(map(names, values))
    return f"[{listed}]" if brackets else listed


def _attributes(op: OpBase, shown: tuple[Field, ...]) -> str:
    parts: list[str] = []
    for field in shown:
        value = getattr(op, field.name)
        if field.default is MISSING or value != field.default:
            parts.append(f"{field.name}={literal(value, field.annotation)}")
    return f" {{{', '.join(parts)}}}" if parts else ""


def _typed(value: Value, names: _Names) -> str:
    return f"{names(value)}: {_with_label(value, names)}"


def _with_label(value: Value, names: _Names) -> str:
    return str(value.type) if value.label is None else f"{value.type} {_label(value.label, names)}"


def _label(label: Label, names: _Names) -> str:
    match label:
        case Scaled(factor):
            return f"scaled<{names(factor)}>"
        case Clipped(factor):
            return f"clipped<{names(factor)}>"
        case _:
            return str(label)


def place_text(loc: Loc) -> str:
    """A location as it is printed between ``loc(`` and ``)``; empty for an unknown one."""
    # Only the base name of the file is shown (see Loc).
    shown, parts = Loc(loc.file.replace("\\", "/").rpartition("/")[2], loc.line, loc.layer), list[str]()
    if shown.file:
        parts.append(f"{shown.file if is_word(shown.file) else quoted(shown.file)}:{shown.line}")
    if shown.layer:
        parts.append(shown.layer if is_word(shown.layer) else quoted(shown.layer))
    return " ".join(parts)


def _location(loc: Loc) -> str:
    return f" loc({place_text(loc)})" if loc else ""


def _state_name(name: str) -> str:
    return f"@{name}" if is_name(name) else f"@{quoted(name)}"


def _declaration(decl: StateDecl) -> str:
    parts: list[str] = []
    if decl.kind != "model":
        parts.append(f"kind={decl.kind}")
    if decl.role != "variable":
        parts.append(f"role={decl.role}")
    if decl.trainable:
        parts.append("trainable=true")
    braces = f" {{{', '.join(parts)}}}" if parts else ""
    return f"state {_state_name(decl.name)} : {decl.type}{braces}"


def _privacy(config: PrivacyConfig) -> str:
    parts: list[str] = []
    for field in fields(config):
        value = getattr(config, field.name)
        if value != field.default:
            numeric = isinstance(value, (int, float)) and field.type != "int"
            parts.append(f"{field.name}={literal(value, float if numeric else None)}")
    return f"{{{', '.join(parts)}}}"
