"""Results of the accountant on disk, so that a second compilation does not wait for them.

One small JSON file per question under the user's cache directory. Files are written to a temporary name and
renamed, so compilers running at the same time see whole files; a folder that cannot be written, and a file that
is not what it should be, cost time and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import cast

from ..folders import user_folder

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
        found = _read(self.folder / name, question)
        if found is not None:
            return found
        numbers = compute()
        with suppress(OSError):
            _write(self.folder / name, json.dumps({"key": question, "numbers": numbers}))
        return numbers


def user_cache() -> Cache:
    """Return the cache of this user; see `folders.user_folder`."""
    return Cache(user_folder("privacy"))


def _read(path: Path, question: list[str | float | None]) -> Numbers | None:
    """Return the numbers of ``path`` if it answers ``question`` and is well formed."""
    try:
        content: object = json.loads(path.read_bytes())
    except (OSError, ValueError):
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


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


@lru_cache(maxsize=1)
def _library() -> str:
    return "dp-accounting " + version("dp-accounting")
