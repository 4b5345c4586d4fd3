"""What running a script of Paddle's puts in the place of something else, so that it can be told at the end."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, TypeVar

from ..source import user_location

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class Session:
    """Notes on one script.

    Attributes:
        substituted: Data that was made up, by data set: what it is.
        found: Data that was read from files, by data set: the folder, and remarks.
        restored: Names that no longer exist and were put back: the place of the first use.
        ignored: Calls that have no effect here: the place of the first.
        kept: Results of functions that are called once for each script, by function and arguments.
    """

    substituted: dict[str, str] = field(default_factory=dict[str, str])
    found: dict[str, str] = field(default_factory=dict[str, str])
    restored: dict[str, str] = field(default_factory=dict[str, str])
    ignored: dict[str, str] = field(default_factory=dict[str, str])
    kept: dict[object, Any] = field(default_factory=dict[object, Any], repr=False)

    def summary(self) -> list[str]:
        """Lines for the end of the run; [] where everything was what it is in Paddle."""
        lines = [f"substituted: {name}: {what}" for name, what in self.substituted.items()]
        lines += [f"data: {name} from {where}" for name, where in self.found.items()]
        lines += [f"restored: {name}, first used at {place}" for name, place in self.restored.items()]
        return lines + [f"without effect: {name}, first called at {place}" for name, place in self.ignored.items()]


_current = Session()


@contextlib.contextmanager
def noting(session: Session) -> Iterator[Session]:
    """Notes go to ``session`` inside the ``with`` block, which it is given to."""
    global _current
    before, _current = _current, session
    try:
        yield session
    finally:
        _current = before


def once(function: F) -> F:
    """Keep a function's results for as long as a script runs: the next may find other files."""

    @wraps(function)
    def kept(*args: Any) -> Any:
        key = (function, *args)
        if key not in _current.kept:
            _current.kept[key] = function(*args)
        return _current.kept[key]

    return kept  # type: ignore[return-value]


def say(text: str) -> None:
    """Tell the user at once, on standard error."""
    print(text, file=sys.stderr, flush=True)


def note_substituted(dataset: str, what: str, detail: list[str]) -> None:
    """Data is made up: announced loudly, once."""
    if dataset in _current.substituted:
        return
    _current.substituted[dataset] = what
    rule = "=" * 78
    say("\n".join([rule, f"{dataset} IS SUBSTITUTED: {what}", *(f"  {line}" for line in detail), rule]))


def note_found(dataset: str, where: str) -> None:
    """Data is read from files."""
    _current.found.setdefault(dataset, where)


def note_restored(name: str, what: str, library: str = "numpy") -> None:
    """A name or habit of an older library works again, and means ``what``: told once, with the user's line."""
    if name not in _current.restored:
        _current.restored[name] = place = user_location().place
        say(f"note: {name} of older {library} is {what} in this run (first used at {place})")


def note_ignored(name: str, why: str) -> None:
    """A call has no effect: told once, with the user's line."""
    if name not in _current.ignored:
        _current.ignored[name] = place = user_location().place
        say(f"note: {name} has no effect: {why} (first called at {place})")
