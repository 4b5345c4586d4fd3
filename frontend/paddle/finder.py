"""The import hook: inside `installed`, ``import paddle.fluid`` finds thin modules that pass on to fluidc."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from ...compiler.errors import FluidcError
from ..api import names, similar
from ..missing import missing_name
from ..source import user_location
from .aliases import ALIASES, REFUSED, within
from .root import explain

_FRONTEND = __name__.rpartition(".paddle.")[0]


class PaddleImportError(FluidcError, ModuleNotFoundError):
    """A module that fluidc does not have, or that belongs to another release of Paddle."""


class Alias(ModuleType):
    """A module called as Paddle's, whose names are those of modules of fluidc.

    What a script sets in it is set in the first of them: fluidc's own functions then see it, as Paddle's would.
    """

    def __init__(self, name: str, targets: Sequence[str]) -> None:
        super().__init__(name, "fluidc's, for scripts of Paddle 1.x.")
        vars(self).update(_targets=tuple(targets), __path__=[])

    def _modules(self) -> Iterator[ModuleType]:
        for target in self._targets:
            name = f"{_FRONTEND}.{target}".rstrip(".")
            # Not all have a file of their own.
            with contextlib.suppress(ModuleNotFoundError):
                yield importlib.import_module(name)

    def __getattr__(self, name: str) -> Any:
        if name in ("__file__", "__cached__", "__wrapped__"):
            raise AttributeError(name)
        if name == "__all__":  # what `import *` takes: Paddle's names
            return [each for each in dir(self) if not each.startswith("_")]
        inner = f"{self.__name__}.{name}"
        value, known = self._value(name)
        if (not known or isinstance(value, ModuleType)) and inner in ALIASES:
            return importlib.import_module(inner)
        if not known:
            module = self.__name__.removeprefix("paddle.")
            if name in names(module):
                return missing_name(module, name, {}, "fluid.__all__ lists what there is")
            # The first module says best what is wrong.
            return getattr(next(self._modules()), name)
        return value

    def _value(self, name: str) -> tuple[Any, bool]:
        for module in self._modules():
            with contextlib.suppress(AttributeError):
                return getattr(module, name), True
        return None, False

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Alias):
            # The import system: a function of the same name, such as paddle.batch, stays what it is.
            if not callable(self._value(name)[0]):
                super().__setattr__(name, value)
        elif name.startswith("__"):
            super().__setattr__(name, value)
        else:
            setattr(next(self._modules()), name, value)

    def __dir__(self) -> list[str]:
        known = {name for name in names(self.__name__.removeprefix("paddle.")) if hasattr(self, name)}
        first = next(self._modules())
        return sorted(known | set(getattr(first, "__all__", () if known else dir(first))))


class _AliasLoader(Loader):
    def __init__(self, targets: Sequence[str]) -> None:
        self._targets = targets

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return Alias(spec.name, self._targets)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: names are looked up when they are asked for."""


class _Finder(MetaPathFinder):
    """Finds Paddle's modules, and says why those that are not there are not."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        if not within(fullname, "paddle") and not within(fullname, "py_paddle"):
            return None
        if fullname in ALIASES:
            return ModuleSpec(fullname, _AliasLoader(ALIASES[fullname]), is_package=True)
        what, hint = why_not(fullname)
        raise PaddleImportError(what, user_location().place, hint)


def why_not(name: str) -> tuple[str, str]:
    """What a module that is not there would do, or is called, and what to do."""
    for module, (does, instead) in REFUSED.items():
        if within(name, module):
            return f"{module} {does}, which fluidc does not", instead
    if within(name, "py_paddle"):
        return explain("v2")
    parent, _, last = name.rpartition(".")
    if parent == "paddle":
        return explain(last)
    known = [each.rpartition(".")[2] for each in ALIASES if each.rpartition(".")[0] == parent]
    near = similar(last, [*known, *names(parent.removeprefix("paddle."))])
    meant = f"; did you mean {parent}.{near}?" if near else ""
    return f"{parent} has no {last}{meant}", f"what there is stands in {parent}.__all__"


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """Modules of Paddle's are fluidc's inside the ``with`` block; an installed Paddle is not seen there."""
    hidden = {name: sys.modules.pop(name) for name in _paddles()}
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in _paddles():
            del sys.modules[name]
        sys.modules.update(hidden)


def _paddles() -> list[str]:
    return [name for name in sys.modules if within(name, "paddle")]
