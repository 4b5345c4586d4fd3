"""Tokens of IR text, and errors that point into it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ..errors import ParseError
from .syntax import is_name_char, quoted

TokenKind = Literal["word", "value", "state", "string", "int", "float", "punctuation", "end"]
PUNCTUATION = "{}()[]<>,:;=^*"

MAX_DEPTH = 64
"""Brackets within brackets. What reads and walks a module calls itself for each, and Python bounds that."""

_SHOWN = 200  # characters of a line that errors show


@dataclass(frozen=True)
class Token:
    """``text`` is the payload: without the ``%`` of a value, the ``@`` of a state name, the quotes of a string."""

    kind: TokenKind
    text: str
    offset: int

    def __str__(self) -> str:
        match self.kind:
            case "value":
                return f"`%{self.text}`"
            case "state":
                return f"`@{self.text}`"
            case "string":
                return quoted(self.text)
            case "end":
                return "the end of the text"
            case _:
                return f"`{self.text}`"


@dataclass(frozen=True)
class Source:
    """IR text with the name under which errors mention it."""

    text: str
    name: str

    def error(self, offset: int, what: str, hint: str | None = None) -> ParseError:
        """A ``ParseError`` that shows the line with a caret under ``offset``."""
        start = self.text.rfind("\n", 0, offset) + 1
        end = self.text.find("\n", offset)
        line = self.text[start : len(self.text) if end < 0 else end]
        number, column = self.text.count("\n", 0, offset) + 1, offset - start + 1
        # Indentation is cut from what is shown, not from the column; tabs before the caret stay tabs.
        shown = line.lstrip()
        before = line[len(line) - len(shown) : offset - start]
        if len(shown) > _SHOWN:  # the part around the caret
            first = max(0, len(before) - _SHOWN // 2)
            shown = ("… " if first else "") + shown[first : first + _SHOWN] + " …"
            before = ("  " if first else "") + before[first:]
        caret = "".join("\t" if c == "\t" else " " for c in before) + "^"
        where = f"{self.name}:{number}:{column}\n      {shown.rstrip()}\n      {caret}"
        return ParseError(what, where=where, hint=hint)


def tokenise(source: Source) -> list[Token]:
    """All tokens, closed by one of kind ``end``; ``// …`` is a comment.  Raises ParseError."""
    text, tokens, i, depth = source.text, list[Token](), 0, 0
    while i < len(text):
        char = text[i]
        if char.isspace():
            i += 1
        elif text.startswith("//", i):
            i = _scan(text, i, lambda c: c != "\n")
        elif char in PUNCTUATION:
            depth += (char in "{([<") - (char in "})]>")
            if depth > MAX_DEPTH:
                raise source.error(i, f"brackets are nested more than {MAX_DEPTH} deep")
            tokens.append(Token("punctuation", char, i))
            i += 1
        elif char in "%@":
            token, i = _sigil(source, i)
            tokens.append(token)
        elif char == '"':
            content, end = _string(source, i)
            tokens.append(Token("string", content, i))
            i = end
        elif char == "-" or char in "0123456789":
            token, i = _number(source, i)
            tokens.append(token)
        elif is_name_char(char):
            end = _scan(text, i, is_name_char)
            tokens.append(Token("word", text[i:end], i))
            i = end
        else:
            raise source.error(i, f"IR text has no character {char!r} here")
    tokens.append(Token("end", "", len(text.rstrip())))
    return tokens


def _scan(text: str, start: int, wanted: Callable[[str], bool]) -> int:
    """The first position from ``start`` on whose character is not wanted."""
    i = start
    while i < len(text) and wanted(text[i]):
        i += 1
    return i


def _sigil(source: Source, start: int) -> tuple[Token, int]:
    text = source.text
    if text[start] == "%":
        end = _scan(text, start + 1, is_name_char)
        if end == start + 1:
            raise source.error(start, "a value's name is missing after `%`")
        if text.startswith("#", end):
            end = _scan(text, end + 1, str.isdigit)
        return Token("value", text[start + 1 : end], start), end
    if text.startswith('"', start + 1):
        name, end = _string(source, start + 1)
        return Token("state", name, start), end
    end = _scan(text, start + 1, lambda c: is_name_char(c) or c == "@")
    if end == start + 1:
        raise source.error(start, "a name is missing after `@`")
    return Token("state", text[start + 1 : end], start), end


def _string(source: Source, start: int) -> tuple[str, int]:
    text, i = source.text, start + 1
    while i < len(text) and text[i] not in '"\n':
        i += 2 if text[i] == "\\" else 1
    if i >= len(text) or text[i] != '"':
        raise source.error(start, "the string is not closed", 'end it with `"` on the same line')
    try:
        return json.loads(text[start : i + 1]), i + 1
    except json.JSONDecodeError as error:
        raise source.error(start + error.pos, f"bad string: {error.msg}", "strings are quoted as in JSON") from None


def _number(source: Source, start: int) -> tuple[Token, int]:
    text, i = source.text, start
    if text[i] == "-":
        i += 1
        if text.startswith("inf", i):
            return Token("float", "-inf", start), i + 3
    end = _scan(text, i, lambda c: c.isascii() and (c.isalnum() or c == "."))
    # The sign of an exponent belongs to the number: 1e-05.
    if end < len(text) and text[end - 1] in "eE" and text[end] in "+-" and text[i].isdigit():
        end = _scan(text, end + 1, lambda c: c.isascii() and c.isdigit())
    spelling = text[start:end]
    try:
        int(spelling)
        return Token("int", spelling, start), end
    except ValueError:
        pass
    try:
        float(spelling)
    except ValueError:
        raise source.error(start, f"`{spelling or text[start]}` is not a number") from None
    return Token("float", spelling, start), end
