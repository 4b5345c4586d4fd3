"""A small reader of IR text: just enough structure to reason about, and the line that every op stands on.

It shares no code with the compiler's parser and knows no op: operands and attributes are what the text says
(docs/ir.md describes the syntax).
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import TypeVar

from .text import ROWS, Function, Label, Op, Operand, Output, Param, Region, State, Text, Type

T = TypeVar("T")

MAX_DEPTH = 64
"""Brackets within brackets, as in the compiler's texts; this reader calls itself for each."""

_DTYPES = frozenset({"f32", "f64", "f16", "bf16", "i8", "i32", "i64", "u8", "u32", "u64", "bool"})
_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*)
      | (?P<value>%[\w.]+(?:\#\d+)?)
      | (?P<state>@"(?:[^"\\\n]|\\.)*"|@[\w.@]+)
      | (?P<string>"(?:[^"\\\n]|\\.)*")
      | (?P<number>-?\d[\d.]*(?:[eE][+-]?\d+)?|-inf)
      | (?P<word>[A-Za-z_.][\w.]*)
      | (?P<punctuation>[{}()\[\]<>,:;=^*])""",
    re.VERBOSE | re.ASCII,
)
_WORDS: Mapping[str, object] = {"true": True, "false": False, "none": None, "inf": float("inf"), "nan": float("nan")}


class Unreadable(Exception):
    """IR text that does not follow the syntax; ``line`` counts from 1."""

    def __init__(self, what: str, line: int) -> None:
        super().__init__(what)
        self.what, self.line = what, line


def read(text: str) -> Text:
    """Read the text of one module. Raises Unreadable."""
    return _Reader(text).module()


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.kinds: list[str] = []
        self.words: list[str] = []
        self.places: list[int] = []
        self.at = 0
        self.types: dict[str, Type] = {}
        self.starts = [0, *(match.end() for match in re.finditer("\n", text))]
        position = depth = 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise Unreadable(f"no token begins with {text[position]!r}", self._line(position))
            kind = match.lastgroup or ""
            if kind == "punctuation":
                depth += (match[0] in "{([<") - (match[0] in "})]>")
                if depth > MAX_DEPTH:
                    raise Unreadable(f"brackets are nested more than {MAX_DEPTH} deep", self._line(position))
            if kind != "space":
                self.kinds.append(kind)
                self.words.append(match[0])
                self.places.append(position)
            position = match.end()
        self.kinds += ["end", "end"]
        self.words += ["", ""]
        self.places += [len(text), len(text)]

    def _line(self, position: int) -> int:
        return bisect_right(self.starts, position)

    # Tokens -------------------------------------------------------------------------------------------------
    def fail(self, what: str) -> Unreadable:
        found = self.words[self.at] or "the end"
        return Unreadable(f"expected {what}, found {found!r}", self._line(self.places[self.at]))

    def take(self) -> str:
        word = self.words[self.at]
        self.at += 1
        return word

    def sees(self, word: str) -> bool:
        return self.words[self.at] == word and self.kinds[self.at] != "string"

    def accept(self, word: str) -> bool:
        if self.sees(word):
            self.at += 1
            return True
        return False

    def expect(self, word: str) -> None:
        if not self.accept(word):
            raise self.fail(repr(word))

    def kind(self, kind: str) -> str:
        if self.kinds[self.at] != kind:
            raise self.fail(f"a {kind}")
        return self.take()

    def string(self) -> str:
        token = self.kind("string")
        try:
            return str(json.loads(token))
        except ValueError:
            self.at -= 1
            raise self.fail("a string as in JSON") from None

    def name(self) -> str:
        token = self.kind("state")
        try:
            return str(json.loads(token[1:])) if token[1] == '"' else token[1:]
        except ValueError:
            self.at -= 1
            raise self.fail("a name") from None

    def listed(self, item: Callable[[], T], end: str) -> tuple[T, ...]:
        items: list[T] = []
        while not self.accept(end):
            if items:
                self.expect(",")
                if self.accept(end):  # (3,)
                    break
            items.append(item())
        return tuple(items)

    # Types and literals -------------------------------------------------------------------------------------
    def dim(self) -> tuple[int, str]:
        """An extent, and its symbol where that is not ``N``."""
        if self.kinds[self.at] == "word":
            word = self.take()
            return ROWS, "" if word == "N" else word
        size = self.whole(self.kind("number"))
        if size < 0:
            raise self.fail("an extent")
        if self.accept("*"):
            word = self.kind("word")
            return size * ROWS, "" if word == "N" else word
        return size, ""

    def whole(self, word: str) -> int:
        try:
            return int(word)
        except ValueError:
            self.at -= 1
            raise self.fail("an integer") from None

    def type(self) -> Type:
        word = self.kind("word")
        if word == "ragged":
            self.expect("<")
            inner = self.type()
            self.expect(",")
            self.dim()
            self.expect(">")
            return Type(inner.dtype, None, inner.symbols)
        if word not in _DTYPES:
            self.at -= 1
            raise self.fail("an element type")
        self.expect("[")
        dims = self.listed(self.dim, "]")
        return Type(word, tuple(size for size, _ in dims), tuple(symbol for _, symbol in dims if symbol))

    def literal(self) -> object:
        kind, word = self.kinds[self.at], self.words[self.at]
        if kind == "string":
            return self.string()
        if kind == "state":
            return self.name()
        if kind == "number":
            if self.words[self.at + 1] == "*":
                return self.dim()[0]
            self.at += 1
            try:
                return float(word) if any(c in word for c in ".eEi") else int(word)
            except ValueError:
                self.at -= 1
                raise self.fail("a number") from None
        if kind == "word":
            if word in _DTYPES or word == "ragged":
                if self.words[self.at + 1] in "[<":
                    return self.type()
                return self.take()
            if word in _WORDS:
                self.at += 1
                return _WORDS[word]
            return self.dim()[0] if word == "N" else self.take()
        self.expect("(")
        return self.listed(self.literal, ")")

    def attributes(self) -> dict[str, object]:
        found: dict[str, object] = {}
        if not self.sees("{") or self.words[self.at + 1] == "^":
            return found
        self.at += 1

        def one() -> None:
            name = self.kind("word")
            self.expect("=")
            if name in found:
                raise self.fail(f"another attribute than {name} again")
            found[name] = self.literal()

        self.listed(one, "}")
        return found

    def label(self) -> Label | None:
        if self.words[self.at] not in ("example", "scaled", "clipped", "public", "mixed"):
            return None
        word, factor = self.kind("word"), ""
        if self.accept("<"):
            factor = self.kind("value")
            self.expect(">")
        return Label(word, factor)

    def define(self, name: str, kind: Type) -> None:
        if name in self.types:
            raise self.fail(f"one definition of {name}, not two; something")
        self.types[name] = kind

    # Modules ------------------------------------------------------------------------------------------------
    def module(self) -> Text:
        for word in ("module", "{", "stage", "="):
            self.expect(word)
        stage = self.kind("word")
        self.expect("}")
        self.expect("{")
        privacy: Mapping[str, object] | None = None
        state: dict[str, State] = {}
        functions: list[Function] = []
        proof: tuple[str, ...] = ()
        while not self.accept("}"):
            if self.accept("privacy"):
                privacy = self.attributes()
            elif self.accept("state"):
                declared = self.state()
                if declared.name in state:
                    raise self.fail(f"one declaration of {declared.name}, not two; something")
                state[declared.name] = declared
            elif self.accept("func"):
                functions.append(self.function())
            elif self.accept("proof"):
                self.expect("{")
                lines: list[str] = []
                while not self.accept("}"):
                    lines.append(self.string())
                proof = tuple(lines)
            else:
                raise self.fail("a declaration")
        if self.kinds[self.at] != "end":
            raise self.fail("the end")
        if len({f.name for f in functions}) != len(functions):
            raise self.fail("functions of different names, before")
        return Text(stage, privacy, state, tuple(functions), proof, tuple(self.text.split("\n")))

    def state(self) -> State:
        name = self.name()
        self.expect(":")
        kind = self.type()
        attributes = self.attributes()
        return State(name, kind, str(attributes.get("kind", "model")), attributes.get("trainable") is True)

    def function(self) -> Function:
        self.types = {}
        line = self._line(self.places[self.at])
        name = self.name()
        self.expect("(")
        params = self.listed(self.param, ")")
        self.expect("{")
        ops: list[Op] = []
        while not self.accept("return"):
            ops.append(self.op())
        outputs: list[Output] = []
        while not self.accept("}"):
            if outputs:
                self.expect(",")
            fetched = self.string()
            self.expect("=")
            value, combine = self.kind("value"), ""
            if self.accept("{"):
                combine = self.kind("word")
                self.expect("}")
            outputs.append(Output(fetched, value, combine))
        return Function(name, params, tuple(ops), tuple(outputs), self.types, line)

    def param(self) -> Param:
        role = self.kind("word")
        name = self.string() if self.kinds[self.at] == "string" else role
        value = self.typed()
        return Param(role, name, value)

    def typed(self) -> str:
        value = self.kind("value")
        self.expect(":")
        self.define(value, self.type())
        self.label()
        return value

    def operand(self) -> Operand:
        if self.accept("["):
            return self.listed(lambda: self.kind("value"), "]")
        if self.accept("_"):
            return None
        return self.kind("value")

    def op(self) -> Op:
        line = self._line(self.places[self.at])
        results: list[str] = []
        while self.kinds[self.at] == "value":
            results.append(self.take())
            if not self.accept(","):
                self.expect("=")
                break
        name = self.kind("word")
        if self.sees("["):
            raise self.fail("an op that stands for itself (stages `core`, `private` and later)")
        states: list[str] = []
        groups: tuple[Operand, ...] = ()
        if self.accept("("):
            groups = self.listed(self.operand, ")")
        elif self.kinds[self.at] == "state":
            loose: list[Operand] = []
            while True:
                if self.kinds[self.at] == "state":
                    states.append(self.name())
                else:
                    loose.append(self.operand())
                if not self.accept(","):
                    break
            groups = tuple(loose)
        attributes = self.attributes()
        labels: list[Label | None] = []
        for i, result in enumerate(results):
            self.expect("," if i else ":")
            self.define(result, self.type())
            labels.append(self.label())
        place = ""
        if self.accept("loc"):
            self.expect("(")
            start = self.places[self.at]
            while not self.sees(")"):
                if self.kinds[self.at] == "end":
                    raise self.fail("')'")
                self.at += 1
            place = self.text[start : self.places[self.at]]
            self.at += 1
        regions: list[Region] = []
        while self.accept("{"):
            regions.append(self.region())
        return Op(name, tuple(results), groups, tuple(states), attributes, tuple(labels), place, line, tuple(regions))

    def region(self) -> Region:
        self.expect("^")
        self.expect("(")
        params = self.listed(self.typed, ")")
        self.expect(":")
        ops: list[Op] = []
        while not self.accept("yield"):
            ops.append(self.op())
        results = () if self.accept("}") else self.listed(lambda: self.kind("value"), "}")
        return Region(params, tuple(ops), results)
