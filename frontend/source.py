"""Where in the user's script an op was written."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_COMMANDS = os.path.join(_HERE, "cli") + os.sep
# A `with` block of ours resumes through contextlib, a thread of ours begins in threading, and an import of ours comes
# through the import system: none is the user's code.
_BETWEEN = (contextlib.__file__, threading.__file__, "<frozen importlib")

# What a method of Variable is called in the user's script.
_SUGAR = {
    "__add__": "+",
    "__radd__": "+",
    "__sub__": "-",
    "__rsub__": "-",
    "__mul__": "*",
    "__rmul__": "*",
    "__truediv__": "/",
    "__rtruediv__": "/",
    "__floordiv__": "//",
    "__mod__": "%",
    "__pow__": "**",
    "__rpow__": "**",
    "__neg__": "-",
    "__lt__": "<",
    "__le__": "<=",
    "__gt__": ">",
    "__ge__": ">=",
    "__eq__": "==",
    "__ne__": "!=",
    "__getitem__": "[]",
}


# Methods of a layer of dygraph that say nothing to a user; the layer's class does.
_OF_LAYERS = ("forward", "_take_sizes")


@dataclass(frozen=True)
class SourceLocation:
    """The user's file and line, and the layer he called there (``fc``, ``+``, ``Adam.minimize``)."""

    file: str
    line: int
    layer: str

    @property
    def place(self) -> str:
        """``file:line``, as error messages print it; ``file`` alone where there are no lines."""
        return f"{self.file}:{self.line}" if self.line else self.file

    def __str__(self) -> str:
        return f"{self.place} {self.layer}".rstrip()


_stated: str | None = None


@contextlib.contextmanager
def located(option: str) -> Iterator[None]:
    """Layers that a command itself calls inside the ``with`` block come from this option of the command line."""
    global _stated
    before, _stated = _stated, option
    try:
        yield
    finally:
        _stated = before


def user_location() -> SourceLocation:
    """The innermost frame outside this package, and the public function that it called; or what `located` states."""
    frame = sys._getframe(1)
    called = layer = ""
    while frame is not None:
        code = frame.f_code
        if _stated is not None and code.co_filename.startswith(_COMMANDS):
            return SourceLocation(_stated, 0, _SUGAR.get(called, called))
        if code.co_filename.startswith(_HERE):
            if code.co_name in _OF_LAYERS:
                # The innermost layer: a container only passes on.
                called = layer = layer or code.co_qualname.partition(".")[0]
            elif not (layer and code.co_name == "__call__"):
                called = code.co_name
        elif not code.co_filename.startswith(_BETWEEN):
            return SourceLocation(code.co_filename, frame.f_lineno, _SUGAR.get(called, called))
        frame = frame.f_back
    return SourceLocation("", 0, called)
