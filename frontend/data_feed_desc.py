"""``fluid.DataFeedDesc``: fluid's text description of a data set's lines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import invalid

_TOKEN = re.compile(r'\s*(?:(#[^\n]*)|([A-Za-z_]\w*)\s*:?|("(?:[^"\\]|\\.)*")|(-?\d+)|([{}:]))')


@dataclass
class _Slot:
    name: str = ""
    type: str = ""
    is_dense: bool = False
    is_used: bool = False


class DataFeedDesc:
    """The description in a file, and changes to it.

    Args:
        proto_file: A ``DataFeedDesc`` in protobuf's text form.

    Raises:
        ProgramError: The file cannot be read, or is none.
    """

    def __init__(self, proto_file: str) -> None:
        try:
            with open(proto_file, encoding="utf-8") as file:
                text = file.read()
        except OSError as error:
            raise invalid(f"DataFeedDesc: {proto_file} cannot be read: {error.strerror}", "look at its name") from None
        self.name = ""
        self.batch_size = 0
        self.pipe_command = "cat"
        self._slots: dict[str, _Slot] = {}
        self._read(_tokens(text, proto_file), proto_file)

    def _read(self, tokens: list[str], path: str) -> None:
        at = 0
        slot: _Slot | None = None
        depth = 0
        while at < len(tokens):
            word = tokens[at]
            at += 1
            if word == "}":
                depth -= 1
                if slot is not None:
                    self._slots[slot.name] = slot
                slot = None
                continue
            if at >= len(tokens):
                raise invalid(f"DataFeedDesc: {path} ends after {word}", "give a DataFeedDesc in text form")
            value = tokens[at]
            at += 1
            if value == "{":
                depth += 1
                slot = _Slot() if word == "slots" else None
                continue
            self._set(slot, word, value.strip('"'))
        if depth:
            raise invalid(f"DataFeedDesc: {path} has braces that do not close", "give a DataFeedDesc in text form")

    def _set(self, slot: _Slot | None, word: str, value: str) -> None:
        if slot is not None:
            if word in ("is_dense", "is_used"):
                setattr(slot, word, value == "true")
            elif word in ("name", "type"):
                setattr(slot, word, value)
        elif word == "batch_size":
            self.batch_size = int(value)
        elif word in ("name", "pipe_command"):
            setattr(self, word, value)

    def set_batch_size(self, batch_size: int) -> None:
        """Samples of a batch."""
        self.batch_size = int(batch_size)

    def set_dense_slots(self, dense_slots_name: Sequence[str]) -> None:
        """Have these fields be dense."""
        for name in dense_slots_name:
            self._slot(name).is_dense = True

    def set_use_slots(self, use_slots_name: Sequence[str]) -> None:
        """Have these fields be read."""
        for name in use_slots_name:
            self._slot(name).is_used = True

    def _slot(self, name: str) -> _Slot:
        if name not in self._slots:
            raise invalid(f"DataFeedDesc: there is no slot {name!r}", f"it has {', '.join(self._slots) or 'none'}")
        return self._slots[name]

    def desc(self) -> str:
        """The description as text."""
        slots = "".join(
            f'  slots {{\n    name: "{s.name}"\n    type: "{s.type}"\n    is_dense: {str(s.is_dense).lower()}\n'
            f"    is_used: {str(s.is_used).lower()}\n  }}\n"
            for s in self._slots.values()
        )
        return (
            f'name: "{self.name}"\nbatch_size: {self.batch_size}\nmulti_slot_desc {{\n{slots}}}\n'
            f'pipe_command: "{self.pipe_command}"\n'
        )


def _tokens(text: str, path: str) -> list[str]:
    tokens: list[str] = []
    at = 0
    text = text.rstrip()
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            line = text.count("\n", 0, at) + 1
            raise invalid(f"DataFeedDesc: {path}:{line} is no description", "give a DataFeedDesc in text form")
        at = found.end()
        comment, *rest = found.groups()
        token = next((each for each in rest if each), None)
        if comment is None and token is not None and token != ":":
            tokens.append(token)
    return tokens
