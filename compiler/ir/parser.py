"""IR text back into a module.  Ops are rebuilt by their classes, which infer the types that the text states.

``parse(to_text(m), OPSET)`` prints the same as ``m``.  The grammar (see also ``syntax``):

    module    = "module" "{" "stage" "=" WORD "}" "{" [privacy] state* func* [proof] "}"
    func      = "func" STATE "(" [param {"," param}] ")" "{" op* "return" [output {"," output}] "}"
    param     = ROLE [STRING] VALUE ":" type [label]
    op        = [VALUE {"," VALUE} "="] WORD operands [attributes] [":" type [label] {"," …}] [loc] region*
    region    = "{" "^" "(" [VALUE ":" type …] ")" ":" op* "yield" [VALUE {"," VALUE}] "}"
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from ..errors import VerifyError
from .core import (
    Combine,
    Field,
    Function,
    Module,
    OpBase,
    Output,
    Param,
    PrivacyConfig,
    Region,
    Role,
    StateDecl,
    StateKind,
    StateName,
    StateRole,
    Value,
)
from .cursor import Cursor, close_matches
from .fit import wanted
from .lexer import Source, Token
from .location import UNKNOWN, Loc
from .stage import Stage
from .syntax import LABELS, Syntax, syntax_of, usage
from .types import Clipped, Example, Label, Mixed, Public, Scaled, Type

OpSet = Mapping[str, type[OpBase]]


def parse(text: str, opset: OpSet, source: str = "text") -> Module:
    """The module that ``text`` describes.

    Args:
        text: A module as ``printer.to_text`` writes it; layout and ``// comments`` are free.
        opset: Op classes by name.
        source: The file's name, for errors.

    Raises:
        ParseError: The text is not well formed, an op does not exist or does not fit its operands, or a
            stated type is not the inferred one; the error shows line, column, the line and a caret.
    """
    return _Parser(Source(text, source), opset).module()


class _Scope:
    """The values of one function or region, by name.  ``outside`` only serves the message on a capture."""

    def __init__(self, outside: _Scope | None = None) -> None:
        self.values: dict[str, Value] = {}
        self.outside = outside

    def captured(self, name: str) -> bool:
        scope = self.outside
        while scope is not None:
            if name in scope.values:
                return True
            scope = scope.outside
        return False


class _Parser(Cursor):
    def __init__(self, source: Source, opset: OpSet) -> None:
        super().__init__(source)
        self.opset = opset
        self.scope = _Scope()

    # Module -------------------------------------------------------------------------------------------

    def module(self) -> Module:
        self.expect("module")
        self.expect("{")
        self.expect("stage")
        self.expect("=")
        stage = Stage.parse(self.choice(map(str, Stage), "stage"))
        self.expect("}")
        self.expect("{")
        privacy: PrivacyConfig | None = None
        state: dict[str, StateDecl] = {}
        functions: dict[str, Function] = {}
        proof: tuple[str, ...] = ()
        while not self.sees("}"):
            start = self.token
            match self.choice(("privacy", "state", "func", "proof"), "part of a module"):
                case "privacy":
                    privacy = self.privacy()
                case "state":
                    self.unique(state, self.declaration(), start)
                case "func":
                    self.unique(functions, self.function(), start)
                case _:
                    proof = self.proof()
        self.expect("}")
        self.expect_kind("end", "the end of the text")
        return Module(stage, tuple(state.values()), tuple(functions.values()), privacy, proof)

    def unique(self, known: dict[str, Any], new: StateDecl | Function, start: Token) -> None:
        if new.name in known:
            raise self.error(f"`@{new.name}` is declared twice", start, "remove one of the two, or rename it")
        known[new.name] = new

    def privacy(self) -> PrivacyConfig:
        annotations = typing.get_type_hints(PrivacyConfig)
        start = self.token
        given = self.attributes(annotations, "the privacy configuration")
        for field in fields(PrivacyConfig):
            if field.default is MISSING and field.name not in given:
                raise self.error(f"the privacy configuration lacks `{field.name}`", start)
        return PrivacyConfig(**typing.cast("dict[str, Any]", given))

    def declaration(self) -> StateDecl:
        name = self.expect_kind("state", "the variable's name (`@…`)").text
        self.expect(":")
        kind = self.tensor_type()
        decl: dict[str, Any] = {}
        if self.accept("{"):
            self.listed(lambda: decl.update([self.declared()]), "}")
        return StateDecl(name, kind, **decl)

    def declared(self) -> tuple[str, object]:
        name = self.choice(("kind", "role", "trainable"), "property of a state variable")
        self.expect("=")
        match name:
            case "kind":
                return name, self.choice(typing.get_args(StateKind), "kind of state")
            case "role":
                return name, self.choice(typing.get_args(StateRole), "role of a state variable")
            case _:
                return name, self.choice(("true", "false"), "truth value") == "true"

    def proof(self) -> tuple[str, ...]:
        self.expect("{")
        lines: list[str] = []
        while not self.accept("}"):
            lines.append(self.expect_kind("string", "a quoted line of the proof").text)
        return tuple(lines)

    def function(self) -> Function:
        name = self.expect_kind("state", "the function's name (`@…`)").text
        self.scope = _Scope()
        self.expect("(")
        params = self.listed(self.param, ")")
        self.expect("{")
        ops = self.ops("return")
        outputs: list[Output] = []
        while not self.sees("}"):
            if outputs:
                self.expect(",", " or `}`")
            outputs.append(self.output())
        self.expect("}")
        return Function(name, tuple(params), ops, tuple(outputs))

    def param(self) -> Param:
        role = typing.cast(Role, self.choice(typing.get_args(Role), "role of a parameter"))
        name = self.take().text if self.token.kind == "string" else role
        return Param(name, self.declared_value(), role)

    def output(self) -> Output:
        name = self.expect_kind("string", "the name of an output, quoted").text
        self.expect("=")
        value, combine = self.value(), "last"
        if self.accept("{"):
            combine = self.choice(typing.get_args(Combine), "way to combine micro-batches")
            self.expect("}")
        return Output(name, value, typing.cast(Combine, combine))

    # Values ---------------------------------------------------------------------------------

    def declared_value(self) -> Value:
        """``%x: type label``, a new value of the scope."""
        token = self.expect_kind("value", "a new value (`%…`)")
        self.expect(":")
        kind, label = self.labelled_type()
        value = Value(kind)
        value.label = label
        self.define(token, value)
        return value

    def define(self, token: Token, value: Value) -> None:
        if token.text in self.scope.values:
            raise self.error(f"{token} is defined twice", token, "every value is assigned once")
        value.hint = "" if token.text.isdigit() else token.text.partition("#")[0]
        self.scope.values[token.text] = value

    def value(self) -> Value:
        token = self.expect_kind("value", "a value (`%…`)")
        found = self.scope.values.get(token.text)
        if found is not None:
            return found
        if self.scope.captured(token.text):
            raise self.error(
                f"{token} belongs to the code around this region",
                token,
                "a region reads its own parameters only: make the value an operand of the op",
            )
        hint = close_matches(token.text, self.scope.values, "%")
        raise self.error(f"{token} is not defined before this line", token, hint)

    def labelled_type(self) -> tuple[Type, Label | None]:
        kind = self.type()
        return kind, self.label()

    def label(self) -> Label | None:
        token = self.token
        if token.kind != "word" or token.text not in LABELS:
            return None
        self.take()
        match token.text:
            case "example":
                return Example()
            case "public":
                return Public()
            case "mixed":
                return Mixed()
            case word:
                self.expect("<")
                factor = self.value()
                self.expect(">")
                return Scaled(factor) if word == "scaled" else Clipped(factor)

    # Ops ----------------------------------------------------------------------------------------------

    def ops(self, end: str) -> tuple[OpBase, ...]:
        """Ops up to the word ``end``, which is taken."""
        found: list[OpBase] = []
        while not self.accept(end):
            if self.token.kind not in ("value", "word"):
                raise self.error(f"expected an op or `{end}`, found {self.token}")
            found.append(self.op())
        return tuple(found)

    def op(self) -> OpBase:
        names: list[Token] = []
        if self.token.kind == "value":
            names.append(self.take())
            while self.accept(","):
                names.append(self.expect_kind("value", "the name of a result (`%…`)"))
            self.expect("=")
        head, cls, syntax = self.op_name()
        given: dict[str, object] = {}
        inner: type[OpBase] | None = None
        inner_given: dict[str, object] = {}
        if syntax.inner is not None:
            inner, inner_given = self.inner_op()
            self.expect("(")
            self.operands(inner, syntax_of(inner).operands, ";", inner_given)
            self.operands(cls, syntax.operands, ")", given)
        elif syntax.states:
            for i, field in enumerate(syntax.states):
                if i:
                    self.expect(",")
                name = self.expect_kind("state", f"the `{field.name}` of {cls.name} (`@…`)")
                given[field.name] = StateName(name.text)
            if syntax.operands:
                self.expect(",")
                self.operands(cls, syntax.operands, None, given)
        else:
            self.expect("(", f" and the operands of {cls.name}")
            self.operands(cls, syntax.operands, ")", given)
        given |= self.attributes({f.name: f.annotation for f in syntax.attributes}, cls.name)
        stated = self.results(names, head)
        loc = self.location()
        if syntax.typed and len(stated) == 1:
            given["type"] = stated[0][0]
        regions = syntax_of(inner).regions if inner is not None else syntax.regions
        target = inner_given if inner is not None else given
        for field in regions:
            target[field.name] = self.region(cls.name)
        if inner is not None and syntax.inner is not None and syntax.inner_operands is not None:
            held = self.build(inner, inner_given, loc, head)
            given[syntax.inner.name] = held
            given[syntax.inner_operands.name] = held.operands
        op = self.build(cls, given, loc, head)
        self.check_results(op, names, stated, head)
        return op

    def op_name(self) -> tuple[Token, type[OpBase], Syntax]:
        head = self.expect_kind("word", "an op such as `linear.matmul`")
        cls = self.opset.get(head.text)
        if cls is None:
            hint = close_matches(head.text, self.opset) or "`fluidc ops` lists the ops"
            raise self.error(f"there is no op {head}", head, hint)
        return head, cls, syntax_of(cls)

    def inner_op(self) -> tuple[type[OpBase], dict[str, object]]:
        """``[linear.matmul {ta=true}]``: an op that another stands for."""
        self.expect("[")
        _, cls, syntax = self.op_name()
        given = self.attributes({f.name: f.annotation for f in syntax.states + syntax.attributes}, cls.name)
        if syntax.typed:
            self.expect(":")
            given["type"] = self.type()
        self.expect("]")
        return cls, given

    def operands(
        self, cls: type[OpBase], operands: tuple[Field, ...], end: str | None, given: dict[str, object]
    ) -> None:
        """Operands in field order up to ``end`` (None: the list ends with the last one)."""
        lone = len(operands) == 1
        for i, field in enumerate(operands):
            if field.kind == "variadic" and lone and end is not None:
                given[field.name] = tuple(self.listed(self.value, end))
                return
            ended = self.sees(end) if end is not None else i > 0 and not self.sees(",")
            if ended and all(left.default is None for left in operands[i:]):
                break  # the last ones, absent by default
            if end is not None and ended:
                raise self.error(f"{cls.name} takes {_count(operands)}, found {i}", None, _written(cls))
            if i:
                self.expect(",", f" and `{field.name}` of {cls.name}")
            if field.kind == "variadic":
                self.expect("[", f" and the values of `{field.name}`")
                given[field.name] = tuple(self.listed(self.value, "]"))
            elif field.kind == "optional" and self.accept("_"):
                given[field.name] = None
            else:
                given[field.name] = self.value()
        if end is not None:
            if self.sees(",") or self.token.kind == "value":
                raise self.error(f"{cls.name} takes {_count(operands)}, found more", None, _written(cls))
            self.expect(end)

    def results(self, names: list[Token], head: Token) -> list[tuple[Type, Label | None]]:
        if not names:
            return []
        self.expect(":", f" and the result type of {head.text}")
        stated = [self.labelled_type()]
        while self.accept(","):
            stated.append(self.labelled_type())
        return stated

    def location(self) -> Loc:
        if not (self.sees("loc") and self.sees("(", 1)):
            return UNKNOWN
        self.take()
        self.take()
        file, line, layer = "", 0, ""
        while not self.accept(")"):
            token = self.take()
            if token.kind not in ("word", "string"):
                raise self.error(f"expected `file:line` or a layer's name, found {token}", token)
            if self.accept(":"):
                file, line = token.text, int(self.expect_kind("int", "a line number").text)
            else:
                layer = token.text
        return Loc(file, line, layer)

    def region(self, owner: str) -> Region:
        self.expect("{", f" and a region of {owner}")
        self.expect("^")
        self.expect("(")
        outside, self.scope = self.scope, _Scope(self.scope)
        params = tuple(self.listed(self.declared_value, ")"))
        self.expect(":")
        ops = self.ops("yield")
        results: list[Value] = []
        while not self.accept("}"):
            if results:
                self.expect(",", " or `}`")
            results.append(self.value())
        self.scope = outside
        return Region(params, ops, tuple(results))

    def build(self, cls: type[OpBase], given: dict[str, object], loc: Loc, head: Token) -> OpBase:
        syntax = syntax_of(cls)
        for field in syntax.attributes + syntax.states:
            if field.default is MISSING and field.name not in given:
                hint = f"add `{field.name}=…`, {wanted(field.annotation)}"
                raise self.error(f"{cls.name} needs the attribute `{field.name}`", head, hint)
        try:
            return cls(**typing.cast("dict[str, Any]", {**given, "loc": loc}))
        except VerifyError as error:
            raise self.error(error.what, head, error.hint) from None
        except (TypeError, ValueError, IndexError) as error:
            # What rules call refuses in Python's terms: a ragged value where `value.tensor` is read, extents
            # that do not multiply, an operand number out of range.
            raise self.error(f"{cls.name}: {error}", head) from None

    def check_results(
        self, op: OpBase, names: list[Token], stated: list[tuple[Type, Label | None]], head: Token
    ) -> None:
        if len(names) != len(op.results):
            raise self.error(f"{op.name} has {_plural(len(op.results), 'result')}, the text names {len(names)}", head)
        if len(stated) != len(op.results):
            raise self.error(f"{op.name} has {_plural(len(op.results), 'result')}, the text types {len(stated)}", head)
        for token, value, (kind, label) in zip(names, op.results, stated, strict=True):
            if kind != value.type:
                hint = "correct the type, or the operands and attributes that it follows from"
                raise self.error(f"text says {token} is {kind}, {op.name} infers {value.type}", token, hint)
            value.label = label
            self.define(token, value)


def _count(operands: tuple[Field, ...]) -> str:
    listed = ", ".join(field.name for field in operands)
    return f"{_plural(len(operands), 'operand')} ({listed})" if operands else "no operands"


def _written(cls: type[OpBase]) -> str:
    return f"it is written {usage(cls)}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
