"""Reading JSON with every field checked by name, type and range, so no data model is a bag of objects."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn, TypeAlias, TypeGuard, TypeVar

from .errors import is_printable

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
Refusal: TypeAlias = Callable[[str, str], Exception]
"""Makes the error for (what is wrong, where in the document)."""

_T = TypeVar("_T")
_Text = TypeVar("_Text", bound=str)

MAX_INT = (1 << 63) - 1

MAX_RANK = 32
"""Dims of an array, in every numpy that there is."""


def canonical_bytes(value: Json) -> bytes:
    """The one byte form of ``value`` that hashes are taken of: sorted keys, no spaces, ASCII, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def parse_object(data: bytes, where: str, refuse: Refusal) -> Fields:
    """The JSON object in ``data``, which is UTF-8.

    Raises ``refuse(...)`` for all else, doubled keys and NaN included.
    """

    def no_constant(name: str) -> NoReturn:
        raise ValueError(f"{name} is not a JSON number")

    def no_doubles(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
        made = dict(pairs)
        if len(made) != len(pairs):
            raise ValueError("a key occurs twice")
        return made

    try:
        parsed: Json = json.loads(data.decode("utf-8"), parse_constant=no_constant, object_pairs_hook=no_doubles)
    except (ValueError, RecursionError) as error:
        raise refuse(f"this is not readable JSON ({error})", where) from None
    return Fields(parsed, where, refuse)


class Fields:
    """The fields of one JSON object; each is taken once by a typed getter, then `done` refuses leftovers."""

    def __init__(self, value: Json, where: str, refuse: Refusal) -> None:
        self._where = where
        self._refuse = refuse
        if not isinstance(value, dict):
            raise refuse(f"an object is wanted, found {_shown(value)}", where)
        self._left = dict(value)

    def names(self) -> tuple[str, ...]:
        """The fields that nobody took yet."""
        return tuple(self._left)

    def fail(self, key: str, what: str) -> NoReturn:
        """Raise the refusal for field ``key``."""
        raise self._refuse(what, f"{self._where}: {key}")

    def take(self, key: str) -> Json:
        """The raw value of ``key``, removed."""
        if key not in self._left:
            self.fail(key, f"the field {key!r} is missing")
        return self._left.pop(key)

    def text(self, key: str, *, empty: bool = False) -> str:
        """A string, not empty unless ``empty``."""
        value = self.take(key)
        if not _is_text(value) or not (value or empty):
            self.fail(key, f"a text is wanted, found {_shown(value)}")
        return value

    def optional_text(self, key: str) -> str | None:
        """A string that is not empty, or null."""
        if self._left.get(key, "") is None:
            self._left.pop(key)
            return None
        return self.text(key)

    def choice(self, key: str, options: Sequence[_Text]) -> _Text:
        """One of ``options``."""
        value = self.take(key)
        chosen = next((option for option in options if value == option), None)
        if chosen is None:
            self.fail(key, f"one of {', '.join(options)} is wanted, found {_shown(value)}")
        return chosen

    def truth(self, key: str) -> bool:
        """A JSON true or false."""
        value = self.take(key)
        if not isinstance(value, bool):
            self.fail(key, f"true or false is wanted, found {_shown(value)}")
        return value

    def integer(self, key: str, low: int = 0, high: int = MAX_INT) -> int:
        """An integer in [low, high]."""
        return self._as_integer(key, self.take(key), low, high)

    def optional_integer(self, key: str, low: int = 0, high: int = MAX_INT) -> int | None:
        """An integer in [low, high], or null."""
        value = self.take(key)
        return None if value is None else self._as_integer(key, value, low, high)

    def integers(self, key: str) -> tuple[int, ...]:
        """A list of integers ≥ 0."""
        return tuple(self._as_integer(key, item, 0, MAX_INT) for item in self._as_list(key, self.take(key)))

    def number(self, key: str) -> float:
        """A finite number."""
        return self._as_number(key, self.take(key))

    def optional_number(self, key: str) -> float | None:
        """A finite number, or null."""
        value = self.take(key)
        return None if value is None else self._as_number(key, value)

    def numbers(self, key: str) -> float | tuple[float, ...]:
        """A finite number, or a list of them."""
        value = self.take(key)
        if isinstance(value, list):
            return tuple(self._as_number(key, item) for item in value)
        return self._as_number(key, value)

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings that are not empty."""
        items = self._as_list(key, self.take(key))
        texts = tuple(item for item in items if _is_text(item) and item)
        if len(texts) != len(items):
            self.fail(key, "a list of texts is wanted")
        return texts

    def text_lists(self, key: str) -> tuple[tuple[str, ...], ...]:
        """A list of lists of strings, none of them empty."""
        lists = tuple(tuple(self._as_list(key, items)) for items in self._as_list(key, self.take(key)))
        if not all(items and all(_is_text(item) and item for item in items) for items in lists):
            self.fail(key, "a list of lists of texts is wanted")
        return tuple(tuple(str(item) for item in items) for items in lists)

    def dims(self, key: str) -> tuple[int | str, ...]:
        """A shape: at most `MAX_RANK` dims, each an integer ≥ 0 or a symbol."""
        dims: list[int | str] = []
        items = self._as_list(key, self.take(key))
        if len(items) > MAX_RANK:
            self.fail(key, f"a shape of {len(items)} dims is more than the {MAX_RANK} that arrays have")
        for item in items:
            if isinstance(item, str) and item.isidentifier():
                dims.append(item)
            else:
                dims.append(self._as_integer(key, item, 0, MAX_INT))
        return tuple(dims)

    def record(self, key: str, read: Callable[[Fields], _T]) -> _T:
        """An object that ``read`` understands."""
        return self._as_record(key, self.take(key), read)

    def optional_record(self, key: str, read: Callable[[Fields], _T]) -> _T | None:
        """An object that ``read`` understands, or null."""
        value = self.take(key)
        return None if value is None else self._as_record(key, value, read)

    def records(self, key: str, read: Callable[[Fields], _T]) -> tuple[_T, ...]:
        """A list of objects that ``read`` understands."""
        items = self._as_list(key, self.take(key))
        return tuple(self._as_record(f"{key}[{i}]", item, read) for i, item in enumerate(items))

    def done(self) -> None:
        """Refuse fields that nobody took."""
        if self._left:
            key = min(self._left)
            self.fail(key, f"the field {key!r} is unknown here")

    def _as_integer(self, key: str, value: Json, low: int, high: int) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            self.fail(key, f"an integer in [{low}, {high}] is wanted, found {_shown(value)}")
        return value

    def _as_number(self, key: str, value: Json) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            self.fail(key, f"a number is wanted, found {_shown(value)}")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            self.fail(key, f"a finite number is wanted, found {_shown(value)}")
        return number

    def _as_list(self, key: str, value: Json) -> list[Json]:
        if not isinstance(value, list):
            self.fail(key, f"a list is wanted, found {_shown(value)}")
        return value

    def _as_record(self, key: str, value: Json, read: Callable[[Fields], _T]) -> _T:
        fields = Fields(value, f"{self._where}: {key}", self._refuse)
        made = read(fields)
        fields.done()
        return made


def _is_text(value: Json) -> TypeGuard[str]:
    """Whether it is a text that can be shown as it is, on one line."""
    return isinstance(value, str) and is_printable(value)


def _shown(value: Json) -> str:
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object of {len(value)} fields"
    text = json.dumps(value[:60] if isinstance(value, str) else value)
    return text if len(text) <= 60 else text[:57] + "..."
