"""What is said of a call of fluid whose arguments do not fit: what the function takes."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..api import similar

_ROOT = __name__.rpartition(".cli.")[0]
_FOLDER = str(Path(__file__).resolve().parents[1])
_DOES_NOT_BIND = re.compile(
    r"^(?P<name>[\w.]+)\(\) (?:got an unexpected keyword argument '(?P<keyword>\w+)'"
    r"|got multiple values for argument|missing \d+ required|takes )"
)


def explain_call(error: BaseException) -> str | None:
    """``fc takes input, size, ...; did you mean act?`` for a call of the script that does not bind; None else."""
    found = _DOES_NOT_BIND.search(str(error)) if isinstance(error, TypeError) else None
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if found is None or trace is None or trace.tb_frame.f_code.co_filename.startswith(_FOLDER):
        return None
    name = found["name"].removesuffix(".__init__")
    called = _named(name)
    if called is None:
        return None
    names = [each for each in inspect.signature(called).parameters if each != "self"]
    keyword = found["keyword"]
    meant = next((each for each in names if len(each) > 2 and keyword.startswith(each)), None) if keyword else None
    near = (meant or similar(keyword, names)) if keyword else None
    takes = f"{name} takes {', '.join(names) or 'no arguments'}"
    return f"did you mean {near}? {takes}" if near else takes


def _named(qualified: str) -> Callable[..., Any] | None:
    """What of fluid has that name, and says so of itself."""
    first, *rest = qualified.split(".")
    for module in [each for name, each in list(sys.modules.items()) if name.startswith(_ROOT)]:
        value = vars(module).get(first) if module is not None else None
        for part in rest:
            value = getattr(value, part, None)
        if callable(value) and getattr(value, "__qualname__", None) == qualified:
            return value
    return None
