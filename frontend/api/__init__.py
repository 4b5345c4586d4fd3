"""What fluid 1.8.5 offers, and how often public scripts use it: tables read from files beside this one."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class Parameters:
    """What a function of fluid 1.8.5 takes.

    Attributes:
        names: In order.
        required: Those without a default.
        open: Whether it takes any keyword.
    """

    names: tuple[str, ...]
    required: tuple[str, ...]
    open: bool


@dataclass(frozen=True)
class Use:
    """How often a name occurs.

    Attributes:
        uses: References to it.
        files: Files that have one.
    """

    uses: int
    files: int


def _read(name: str) -> Any:
    return json.loads(files(__name__).joinpath(name).read_text("utf-8"))


@cache
def modules() -> Mapping[str, Mapping[str, str | None]]:
    """The public names of fluid 1.8.5 by module (``fluid.layers``), with their parameters as text.

    Made by the real Paddle: ``tests/golden/make_paddle185``, group ``api``.
    """
    return _read("fluid_1_8_5.json")


def names(module: str) -> Mapping[str, str | None]:
    """The public names of one module; empty for a module that fluid 1.8.5 lacks."""
    return modules().get(module, {})


def parameters(module: str, name: str) -> Parameters | None:
    """The parameters of ``module.name``; None where they are not known.

    >>> parameters("fluid.layers", "cast").required
    ('x', 'dtype')
    """
    text = names(module).get(name)
    if text is None:
        return None
    words = [word for word in text.split() if not word.startswith("*")]
    return Parameters(
        tuple(word.rstrip("=") for word in words),
        tuple(word for word in words if not word.endswith("=")),
        "**" in text,
    )


@cache
def usage() -> Mapping[str, Use]:
    """How often public scripts use a name: ``fluid.layers.fc`` -> `Use`.

    The file states where the figures come from; names that it lacks occur less often than those it has.
    """
    return {name: Use(*figures) for name, figures in _read("usage.json")["names"].items()}


def similar(name: str, known: Iterable[str]) -> str | None:
    """The name that somebody who wrote ``name`` most likely meant, or None.

    >>> similar("fully_conected", ["fc", "fully_connected"])
    'fully_connected'
    """
    known = list(known)
    folded = {each.lower(): each for each in known}
    if name.lower() in folded:
        return folded[name.lower()]
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    return found[0] if found else None
