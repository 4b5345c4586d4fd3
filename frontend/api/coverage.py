"""How much of fluid 1.8.5 is implemented: counted by name, and weighted by how often public scripts use each."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from ..missing import is_missing
from . import names, usage

MODULES = (
    "layers", "optimizer", "initializer", "regularizer", "clip", "nets", "metrics", "io", "dygraph", "backward",
    "unique_name", "core", "profiler", "contrib", "",
)  # fmt: skip
"""The modules of fluid that are counted, without ``fluid.``; "" is fluid itself."""

_FRONTEND = __name__.rpartition(".api.")[0]

_SUBMODULES = {"layers": ("layers.learning_rate_scheduler",)}


@dataclass(frozen=True)
class Coverage:
    """What a module of fluid has of Paddle 1.8.5's names.

    Attributes:
        module: ``fluid.layers``.
        implemented: Names that can be used.
        missing: The others, those that are used most first.
        uses: References to the implemented names in public scripts.
        missing_uses: References to the others, by name.
    """

    module: str
    implemented: int
    missing: tuple[str, ...]
    uses: int
    missing_uses: dict[str, int]

    @property
    def share(self) -> float:
        """Of the names."""
        return self.implemented / (self.implemented + len(self.missing))

    @property
    def weighted(self) -> float:
        """Of the references; 1 where there are none."""
        total = self.uses + sum(self.missing_uses.values())
        return self.uses / total if total else 1.0


def implemented(module: str, name: str) -> bool:
    """Whether ``fluid.MODULE.NAME`` does something: it exists, and is not refused whenever it is used.

    >>> implemented("layers", "fc"), implemented("layers", "no_layer")
    (True, False)
    """
    try:
        value = getattr(importlib.import_module(f"{_FRONTEND}.{module}".rstrip(".")), name)
    except (AttributeError, ImportError):
        return False
    return not is_missing(value)


def coverage(module: str) -> Coverage:
    """Of one of `MODULES`."""
    weights: dict[str, int] = {}
    have: list[str] = []
    missing: list[str] = []
    for part in (module, *_SUBMODULES.get(module, ())):
        full = f"fluid.{part}".rstrip(".")
        for name in names(full):
            if name in weights:
                continue
            use = usage().get(f"{full}.{name}")
            weights[name] = use.uses if use is not None else 0
            (have if implemented(part, name) else missing).append(name)
    missing.sort(key=lambda name: (-weights[name], name))
    return Coverage(
        f"fluid.{module}".rstrip("."),
        len(have),
        tuple(missing),
        sum(weights[name] for name in have),
        {name: weights[name] for name in missing if weights[name]},
    )
