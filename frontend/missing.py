"""Names of fluid 1.8.5 that fluidc lacks: they can be imported and passed on, and say what to do when they are used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from . import api
from .errors import UnsupportedError, unsupported


class MissingName:
    """Stands for a function, class or module of fluid that is not implemented.

    A script may import it and go on; calling it, deriving from it or looking into it raises `UnsupportedError`.

    Attributes:
        name: As scripts write it: ``fluid.layers.hsigmoid``.
        hint: What comes nearest.
    """

    def __init__(self, name: str, hint: str) -> None:
        self.name = name
        self.hint = hint

    def error(self) -> UnsupportedError:
        """What using the name says, at the user's current line."""
        return unsupported(f"{self.name} is not implemented", self.hint)

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise self.error()

    def __mro_entries__(self, bases: tuple[Any, ...]) -> NoReturn:
        raise self.error()

    def __instancecheck__(self, instance: object) -> bool:
        return False

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise self.error()

    def __repr__(self) -> str:
        return f"<{self.name}, not implemented>"


def is_missing(value: object) -> bool:
    """Whether a name of fluid stands for nothing: neither has its module one, nor is it refused whenever it is called.

    >>> is_missing(MissingName("fluid.layers.hsigmoid", "use softmax")), is_missing(print)
    (True, False)
    """
    return isinstance(value, MissingName) or getattr(value, "always_refused", False) is True


def missing_name(module: str, name: str, instead: Mapping[str, str], otherwise: str) -> MissingName:
    """What ``module.name`` is, where fluidc defines no such name.

    Args:
        module: As scripts write it: ``fluid.layers``.
        name: The name that was looked up.
        instead: What comes nearest, by name.
        otherwise: What to do where nothing does.

    Raises:
        AttributeError: Nor has fluid 1.8.5.
    """
    if name not in api.names(module):
        near = api.similar(name, api.names(module))
        meant = f"; did you mean {near}?" if near else ""
        raise AttributeError(f"module {module} has no attribute {name!r}{meant}")
    return MissingName(f"{module}.{name}", instead.get(name, otherwise))
