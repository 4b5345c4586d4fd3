"""What this machine remembers of privacy ledgers, apart from them: so that one that was put back is noticed.

A ledger cannot tell that its directory was restored from a backup, or that it is a copy. For every ledger that is
written here, its last record is kept in the user's state directory too, by the hash of its first record, which holds a
random number. A ledger that lacks the record kept for it has lost some, or has been trained on elsewhere. All of this
only warns: nothing is refused for what is here, and nothing fails for what is not.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .errors import LedgerError
from .fields import parse_object
from .ledger_records import Position, Record, contains

VARIABLE = "FLUIDC_STATE"

_EVERY_SECONDS = 60.0
"""Between two looks while a run goes on: a backup is seldom younger than that."""

_LARGEST = 1 << 16


def state_folder() -> Path | None:
    """Where ledgers are remembered; None where nothing is to be.

    ``$FLUIDC_STATE`` if the variable is set (set and empty: nothing is kept), else ``$XDG_STATE_HOME/fluidc``, else
    ``~/.local/state/fluidc``.
    """
    stated = os.environ.get(VARIABLE)
    if stated is not None:
        return Path(stated).absolute() if stated else None
    base = os.environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(base):  # relative ones are to be ignored
        return Path(base) / "fluidc"
    try:
        return Path.home() / ".local" / "state" / "fluidc"
    except RuntimeError:  # a user without a home
        return None


@dataclass(frozen=True)
class _Seen:
    """The last record of a ledger that was seen, the steps it counts, and where the ledger was."""

    last: Position
    steps: int
    path: str


class Witness:
    """Remembers one ledger.

    Args:
        privacy: SHA-256 of the privacy block it is bound to.
        ledger: its file.
    """

    def __init__(self, privacy: str, ledger: Path) -> None:
        base = state_folder()
        self._folder = None if base is None else base / "ledgers" / privacy
        self._path = str(ledger.absolute())
        self._due = 0.0

    def doubt(self, records: Sequence[Record], steps: int) -> str:
        """Why the ledger with these records, which count ``steps``, cannot be all there was; "" for no reason."""
        if self._folder is None:
            return ""
        if not records:
            gone = sum(seen.steps for seen in self._all() if seen.path == self._path)
            if not gone:
                return ""
            return (
                f"{gone} steps of this artifact were counted in {self._path}, and that privacy ledger is gone: "
                "they stay spent, and the ledger that begins now does not know of them"
            )
        seen = self._read(self._folder / f"{records[0].sha256()}.json")
        if seen is None or contains(records, seen.last):
            return ""
        return (
            f"the privacy ledger {self._path} counts {steps} steps, and this machine has seen it with {seen.steps}: it "
            "was put back from a copy, or is one; the steps that it lacks stay spent, and what was released under both "
            "costs the composition of all runs"
        )

    def saw(self, first: Record, last: Position, steps: int, *, now: bool) -> None:
        """Remember that the ledger that begins with ``first`` counts ``steps``: ``now``, or once in a minute."""
        if self._folder is None or (not now and time.monotonic() < self._due):
            return
        self._due = time.monotonic() + _EVERY_SECONDS
        path = self._folder / f"{first.sha256()}.json"
        text = json.dumps({"format_version": 1, "last": last.to_json(), "steps": steps, "path": self._path})
        temporary = path.with_suffix(".new")  # the holder of the ledger's lock is the only writer
        with suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary.write_text(text, encoding="ascii")
            temporary.replace(path)

    def _all(self) -> list[_Seen]:
        assert self._folder is not None
        try:
            paths = sorted(self._folder.glob("*.json"))
        except OSError:
            return []
        return [seen for seen in map(self._read, paths) if seen is not None]

    def _read(self, path: Path) -> _Seen | None:
        try:
            with path.open("rb") as file:
                fields = parse_object(file.read(_LARGEST), str(path), _unreadable)
            fields.integer("format_version", 1, 1)
            last = fields.record("last", Position.from_json)
            return _Seen(last, fields.integer("steps"), fields.text("path"))
        except (OSError, LedgerError):
            return None


def _unreadable(what: str, at: str) -> LedgerError:
    return LedgerError(what, at, "what is remembered of this ledger is not looked at")
