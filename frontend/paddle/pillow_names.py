"""Filters that Pillow 10 dropped and old scripts resize pictures with, put back while such a script runs."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from .session import note_restored

RESTORED: Mapping[str, str] = {"ANTIALIAS": "LANCZOS", "LINEAR": "BILINEAR", "CUBIC": "BICUBIC"}
"""Name in ``PIL.Image`` -> what it is called now."""

_MODULE = "PIL.Image"


class _Finder:
    """Finds ``PIL.Image`` where Python does: Pillow is loaded only if the script asks for it."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: object = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path) if name == _MODULE else None
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def executed(module: ModuleType) -> None:
                execute(module)
                _put_back(module)

            spec.loader.exec_module = executed  # type: ignore[method-assign]
        return spec


def _put_back(image: ModuleType) -> None:
    names: dict[str, Any] = vars(image)
    if all(name in names for name in RESTORED) or "__getattr__" in names:
        return

    def lookup(name: str) -> Any:
        if name in RESTORED:
            note_restored(f"PIL.Image.{name}", f"PIL.Image.{RESTORED[name]}", "Pillow")
            return names[RESTORED[name]]
        raise AttributeError(f"module {_MODULE!r} has no attribute {name!r}")

    names["__getattr__"] = lookup


@contextlib.contextmanager
def old_pillow() -> Iterator[None]:
    """Inside the ``with`` block ``PIL.Image`` has the names of `RESTORED`, whether it is loaded yet or not.

    Each use is noted.
    """
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    if _MODULE in sys.modules:
        _put_back(sys.modules[_MODULE])
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        if _MODULE in sys.modules:
            names = vars(sys.modules[_MODULE])
            if getattr(names.get("__getattr__"), "__module__", None) == __name__:
                del names["__getattr__"]
