"""Where in the user's script an op was written."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
# A `with` block of ours resumes through contextlib, which is not the user's code.
_BETWEEN = contextlib.__file__

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


@dataclass(frozen=True)
class SourceLocation:
    """The user's file and line, and the layer he called there (``fc``, ``+``, ``Adam.minimize``)."""

    file: str
    line: int
    layer: str

    @property
    def place(self) -> str:
        """``file:line``, as error messages print it."""
        return f"{self.file}:{self.line}"

    def __str__(self) -> str:
        return f"{self.place} {self.layer}".rstrip()


def user_location() -> SourceLocation:
    """The innermost frame outside this package, and the public function that it called."""
    frame = sys._getframe(1)
    called = ""
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(_HERE):
            called = code.co_name
        elif code.co_filename != _BETWEEN:
            return SourceLocation(code.co_filename, frame.f_lineno, _SUGAR.get(called, called))
        frame = frame.f_back
    return SourceLocation("", 0, called)
