"""Results of the accountant on disk, so that a second compilation does not wait for them.

One small JSON file per question in a folder of the user's, which `folders` reads and writes: others could otherwise
state a lower epsilon there. A folder that cannot be used, and a file that is not what it should be, cost time and
nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import cast

from ..folders import opened, read_file, user_folder, write_file

_KEPT = "privacy accounting"
# Raised whenever the meaning of a cached number changes.
FORMAT = 1

Numbers = list[list[float]]
Key = tuple[str | float | None, ...]


@dataclass(frozen=True)
class Cache:
    """A folder of answers; ``folder`` None keeps nothing."""

    folder: Path | None

    def get(self, key: Key, compute: Callable[[], Numbers]) -> Numbers:
        """Return the stored numbers of ``key``, or compute and store them.

        Args:
            key: Everything the numbers depend on; the library's version is added here.
            compute: Called on a miss. Its errors pass through and nothing is stored.
        """
        if self.folder is None:
            return compute()
        question = [FORMAT, _library(), *key]
        name = hashlib.sha256(json.dumps(question).encode()).hexdigest() + ".json"
        found = None
        with suppress(OSError), opened(self.folder, _KEPT) as folder:
            content = None if folder is None else read_file(folder, name)
            found = None if content is None else _read(content, question)
        if found is not None:
            return found
        numbers = compute()
        with suppress(OSError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with opened(self.folder, _KEPT) as folder:
                if folder is not None:
                    write_file(folder, name, json.dumps({"key": question, "numbers": numbers}).encode())
        return numbers


def user_cache() -> Cache:
    """Return the cache of this user; see `folders.user_folder`."""
    return Cache(user_folder("privacy"))


def _read(text: bytes, question: list[str | float | None]) -> Numbers | None:
    """Return the numbers of a file if it answers ``question`` and is well formed."""
    try:
        content: object = json.loads(text)
    except ValueError:
        return None
    if not isinstance(content, dict):
        return None
    fields = cast(dict[str, object], content)
    rows = fields.get("numbers")
    if fields.get("key") != question or not isinstance(rows, list):
        return None
    for row in cast(list[object], rows):
        if not isinstance(row, list):
            return None
        if not all(type(x) in (int, float) for x in cast(list[object], row)):
            return None
    return cast(Numbers, rows)


@lru_cache(maxsize=1)
def _library() -> str:
    return "dp-accounting " + version("dp-accounting")
