"""What becomes of the names that a script uses: exact, different, missing or unknown."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import Any

from ..api import names, parameters, similar
from ..api.differences import BY_ARGUMENT, DIFFERENCES
from ..missing import MissingName, is_missing
from .aliases import ALIASES, REFUSED, is_module, within
from .finder import installed, why_not
from .numpy_names import RESTORED, is_restored
from .old_names import old_names
from .root import explain
from .uses import Arguments, Use, uses_in


class Status(StrEnum):
    """What becomes of a name."""

    EXACT = "exact"
    DIFFERENT = "different"
    ARGUMENTS = "arguments"
    MISSING = "missing"
    UNKNOWN = "unknown"

    @property
    def fails(self) -> bool:
        """Whether a script that uses such a name fails there."""
        return self in (Status.ARGUMENTS, Status.MISSING, Status.UNKNOWN)


@dataclass
class Verdict:
    """One name of Paddle, and all its uses in a script.

    Attributes:
        name: As Paddle's documentation calls it: ``fluid.layers.fc``.
        status: What becomes of it.
        note: The difference, the nearest alternative, or the argument that does not fit; "" for exact names.
        lines: Where it is used, in order.
        uses: How often.
    """

    name: str
    status: Status
    note: str = ""
    lines: list[int] = field(default_factory=list[int])
    uses: int = 0


def verdicts(source: str | bytes, file: str) -> list[Verdict]:
    """On every name of Paddle that the script ``source`` uses, those that fail first, then by first line.

    With them go names and modules of Python 2, and of libraries that came with Paddle, that would not be found.

    Raises:
        SyntaxError: It is no script for Python 3.
    """
    found: dict[tuple[str, Status, str], Verdict] = {}
    tree = ast.parse(source, file)
    for old in old_names(tree, Path(file).parent):
        verdict = found.setdefault(
            (old.name, Status.MISSING, old.advice), Verdict(old.name, Status.MISSING, old.advice)
        )
        verdict.uses += 1
        verdict.lines += [old.line] * (old.line not in verdict.lines)
    with installed():
        for use in uses_in(tree):
            for verdict in _judged(use):
                kept = found.setdefault((verdict.name, verdict.status, verdict.note), verdict)
                kept.uses += not use.imported
                if not use.imported or verdict.status.fails:
                    kept.lines += [use.line] * (use.line not in kept.lines)
    # A name that is only imported, and is there, is no use.
    used = [verdict for verdict in found.values() if verdict.lines]
    return sorted(used, key=lambda verdict: (not verdict.status.fails, verdict.lines[0], verdict.name))


def _judged(use: Use) -> Iterable[Verdict]:
    if use.path.startswith("numpy."):
        name = use.path.split(".")[1]
        if is_restored(name):
            yield Verdict(
                f"np.{name}", Status.DIFFERENT, f"gone from numpy; fluidc exec puts it back as {RESTORED[name][0]}"
            )
        return
    if is_module(use.path) or use.path == "numpy":
        return
    for refused, (does, instead) in REFUSED.items():
        if within(use.path, refused):
            yield Verdict(_documented(refused), Status.MISSING, f"{does}, which fluidc does not: {instead}")
            return
    module, rest = _module_of(use.path)
    if not rest:  # no module of fluidc's
        what, hint = why_not(use.path)
        yield Verdict(use.path, Status.MISSING, f"{what}: {hint}")
        return
    name, value = _looked_up(module, rest[0])
    if value is None:
        if use.imported and use.path not in ALIASES:
            what, hint = why_not(use.path)
            yield Verdict(name, Status.UNKNOWN, what)
        else:
            yield Verdict(name, Status.UNKNOWN, _unknown(module, rest[0]))
        return
    if is_missing(value):
        # What is imported only does no harm.
        if not use.imported:
            yield Verdict(name, Status.MISSING, value.hint if isinstance(value, MissingName) else "refused when called")
        return
    if isinstance(value, type) and len(rest) > 1 and not hasattr(value, rest[1]):
        known = [each for each in dir(value) if not each.startswith("_")]
        near = similar(rest[1], known)
        yield Verdict(f"{name}.{rest[1]}", Status.MISSING, f"did you mean {near}?" if near else "not there")
        return
    if use.call is not None and len(rest) == 1 and (wrong := _wrong(name, value, use.call)):
        yield Verdict(name, Status.ARGUMENTS, wrong)
        return
    note = DIFFERENCES.get(name, "")
    telling, told = BY_ARGUMENT.get(name, ((), ""))
    if use.call is not None and set(telling) & set(use.call.keywords):
        note = told
    if name.startswith("paddle.dataset."):
        note = "local files, else made-up data that is announced; nothing is downloaded"
    yield Verdict(name, Status.DIFFERENT if note else Status.EXACT, note)


def _module_of(path: str) -> tuple[str, list[str]]:
    """The longest module of Paddle's in a path, and the names that follow it."""
    parts = path.split(".")
    for end in range(len(parts) - 1, 0, -1):
        if ".".join(parts[:end]) in ALIASES:
            return ".".join(parts[:end]), parts[end:]
    return "", []


def _looked_up(module: str, name: str) -> tuple[str, Any]:
    """The name as documentation has it, and what it is in fluidc; None where it is nothing."""
    try:
        value = getattr(importlib.import_module(module), name)
    except (AttributeError, ImportError):
        value = None
    home = module
    short = module.removeprefix("paddle.")
    while name not in names(short) and "." in short:
        short = short.rpartition(".")[0]
    if name in names(short):
        home = f"paddle.{short}"
    return _documented(f"{home}.{name}"), value


def _documented(path: str) -> str:
    """``fluid.layers.fc`` for ``paddle.fluid.layers.fc``."""
    return path.removeprefix("paddle.") if within(path, "paddle.fluid") else path


def _unknown(module: str, name: str) -> str:
    if module == "paddle":
        return ": ".join(explain(name))
    known = [each for each in dir(importlib.import_module(module)) if not each.startswith("_")]
    near = similar(name, [*names(module.removeprefix("paddle.")), *known])
    return f"did you mean {near}?" if near else "fluid 1.8.5 has no such name"


def _wrong(name: str, value: Any, call: Arguments) -> str:
    """What of a call's arguments does not fit the signature; "" where all do."""
    module, _, last = name.rpartition(".")
    theirs = parameters(module, last)
    try:
        ours = (
            inspect.signature(value).parameters.values()
            if callable(value) and not isinstance(value, ModuleType)
            else ()
        )
    except (TypeError, ValueError):
        ours = ()
    keywords = [each.name for each in ours if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    takes_any = any(each.kind is each.VAR_KEYWORD for each in ours)
    known = keywords or (list(theirs.names) if theirs else [])
    if not known or takes_any or (theirs is not None and theirs.open):
        return ""
    for keyword in call.keywords:
        if keyword not in known:
            near = similar(keyword, known)
            return f"no argument {keyword!r}; " + (f"did you mean {near}?" if near else f"it takes {', '.join(known)}")
    most = len([each for each in ours if each.kind in (each.POSITIONAL_OR_KEYWORD, each.POSITIONAL_ONLY)])
    varied = any(each.kind is each.VAR_POSITIONAL for each in ours)
    if ours and not varied and call.positional > most:
        return f"{call.positional} arguments by position; it takes {most}"
    if theirs is not None and not call.open:
        given = {*theirs.names[: call.positional], *call.keywords}
        lacking = [each for each in theirs.required if each not in given]
        if lacking:
            return f"argument {lacking[0]!r} is not given"
    return ""
