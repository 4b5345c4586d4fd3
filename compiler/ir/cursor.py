"""Reading tokens one after another: the part of the grammar that knows no values, types and literals included."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from ..errors import ParseError
from .core import StateName
from .fit import MISFIT, fit, wanted
from .lexer import Source, Token, TokenKind, tokenise
from .printer import literal
from .types import Dim, DType, RaggedType, Sym, TensorType, Type, dim_mul

T = TypeVar("T")

_DTYPES = {dtype.value: dtype for dtype in DType}
_WORDS: Mapping[str, object] = {
    "none": None, "true": True, "false": False, "inf": float("inf"), "nan": float("nan"),
}  # fmt: skip


class Cursor:
    """A position in the tokens of a text."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.tokens = tokenise(source)
        self.at = 0

    @property
    def token(self) -> Token:
        return self.tokens[self.at]

    def take(self) -> Token:
        token = self.token
        self.at = min(self.at + 1, len(self.tokens) - 1)
        return token

    def sees(self, text: str, ahead: int = 0) -> bool:
        token = self.tokens[min(self.at + ahead, len(self.tokens) - 1)]
        return token.kind in ("punctuation", "word") and token.text == text

    def accept(self, text: str) -> bool:
        found = self.sees(text)
        if found:
            self.take()
        return found

    def expect(self, text: str, why: str = "") -> Token:
        if not self.sees(text):
            raise self.error(f"expected `{text}`{why}, found {self.token}")
        return self.take()

    def expect_kind(self, kind: TokenKind, what: str) -> Token:
        if self.token.kind != kind:
            raise self.error(f"expected {what}, found {self.token}")
        return self.take()

    def error(self, what: str, token: Token | None = None, hint: str | None = None) -> ParseError:
        """The error at ``token`` (default: the next one)."""
        return self.source.error((token or self.token).offset, what, hint)

    def listed(self, item: Callable[[], T], end: str) -> list[T]:
        """Items between commas up to ``end``, which is taken."""
        items: list[T] = []
        while not self.accept(end):
            if items:
                self.expect(",", f" or `{end}`")
            items.append(item())
        return items

    def choice(self, options: Iterable[str], what: str) -> str:
        options = tuple(options)
        token = self.take()
        if token.kind != "word" or token.text not in options:
            raise self.error(f"{token} is no {what}", token, f"it is one of {', '.join(options)}")
        return token.text

    # Types and literals -------------------------------------------------------------------------------

    def type(self) -> Type:
        if self.sees("ragged"):
            self.take()
            self.expect("<")
            data = self.tensor_type()
            self.expect(",")
            count = self.dim()
            self.expect(">")
            return RaggedType(data, count)
        return self.tensor_type()

    def tensor_type(self) -> TensorType:
        token = self.expect_kind("word", "a type such as `f32[N,10]`")
        if token.text not in _DTYPES:
            raise self.error(f"{token} is no element type", token, f"element types are {', '.join(_DTYPES)}")
        self.expect("[")
        return TensorType(_DTYPES[token.text], tuple(self.listed(self.dim, "]")))

    def dim(self) -> Dim:
        token = self.take()
        found: Dim = 1
        if token.kind == "word":
            found = Sym(token.text)
        elif token.kind == "int" and int(token.text) >= 0:
            found = int(token.text)
        else:
            raise self.error(f"expected an extent (a size, `N`, `8*N` or `N*S`), found {token}", token)
        while self.accept("*"):
            found = dim_mul(found, Sym(self.expect_kind("word", "a symbol after `*`").text))
        return found

    def literal(self) -> object:
        token = self.token
        if token.kind == "word" and (token.text in _DTYPES or token.text == "ragged"):
            typed = self.sees("[", 1) or token.text == "ragged"
            return self.type() if typed else _DTYPES[self.take().text]
        if token.kind == "word" and token.text not in _WORDS:
            return self.dim()
        if token.kind == "int":
            return self.dim() if self.sees("*", 1) else int(self.take().text)
        self.take()
        match token.kind:
            case "word":
                return _WORDS[token.text]
            case "float":
                return float(token.text)
            case "string":
                return token.text
            case "state":
                return StateName(token.text)
            case _ if token.text == "(":
                items: list[object] = []
                while not self.accept(")"):
                    items.append(self.literal())
                    if not self.sees(")"):
                        self.expect(",", " or `)`")
                return tuple(items)
            case _:
                raise self.error(f"expected an attribute's value, found {token}", token)

    def attributes(self, annotations: Mapping[str, object], owner: str) -> dict[str, object]:
        """``{name=value, …}`` if present, each value checked against its annotation."""
        given: dict[str, object] = {}
        # `{ ^` opens a region, not attributes.
        if not self.sees("{") or self.sees("^", 1):
            return given
        self.take()
        self.listed(lambda: self.attribute(annotations, owner, given), "}")
        return given

    def attribute(self, annotations: Mapping[str, object], owner: str, given: dict[str, object]) -> None:
        name = self.expect_kind("word", "an attribute's name")
        if name.text not in annotations:
            known = f"its attributes are {', '.join(annotations)}" if annotations else "it has none"
            raise self.error(f"{owner} has no attribute {name}", name, close_matches(name.text, annotations) or known)
        if name.text in given:
            raise self.error(f"attribute {name} is given twice", name)
        self.expect("=")
        start = self.token
        value = self.literal()
        fitted = fit(value, annotations[name.text])
        if fitted is MISFIT:
            want = wanted(annotations[name.text])
            raise self.error(f"attribute {name} of {owner} is {want}, not {literal(value)}", start)
        given[name.text] = fitted


def close_matches(name: str, known: Iterable[str], sigil: str = "") -> str | None:
    """``did you mean …?`` for a misspelt name, or None."""
    found = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    return f"did you mean {' or '.join(sigil + f for f in found)}?" if found else None
