"""Seeing what a script asks an Executor to do before it is done: how ``fluidc compile`` finds the step to compile."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from .framework import Program


@dataclass(frozen=True)
class Call:
    """One call of ``Executor.run``.

    Attributes:
        program: What is to be run.
        feeds: Dense arrays by name, as the compiled step takes them.
        fetches: Names.
    """

    program: Program
    feeds: Mapping[str, NDArray[Any]]
    fetches: tuple[str, ...]


Watcher = Callable[[Call], None]
"""Told of every call before it is compiled or run; what it raises, the script gets."""

_watcher: Watcher | None = None


@contextlib.contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """Tell ``watcher`` of every call made inside the ``with`` block."""
    global _watcher
    before, _watcher = _watcher, watcher
    try:
        yield
    finally:
        _watcher = before


def is_watched() -> bool:
    """Whether somebody looks on: then nothing a script does may leave traces in its run directories."""
    return _watcher is not None


def announce(call: Call) -> None:
    """Tell the watcher, if there is one."""
    if _watcher is not None:
        _watcher(call)
