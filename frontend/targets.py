"""Which target an Executor compiles for where a script names none."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

_default = "cpu"


def default_target() -> str:
    """``cpu``, or what `using_target` states."""
    return _default


@contextlib.contextmanager
def using_target(target: str) -> Iterator[None]:
    """Inside the ``with`` block, what names no target and no GPU is compiled for this one."""
    global _default
    before, _default = _default, target
    try:
        yield
    finally:
        _default = before
