"""Whether an attribute's value, as read from text, fits the field's annotation."""

from __future__ import annotations

import types
import typing
from typing import Final

from .core import StateName
from .types import DType, RaggedType, Sym, TensorType


class _Misfit:
    """The only value no attribute can have."""


MISFIT: Final = _Misfit()

_NAMES = {
    float: "a number",
    int: "an integer",
    bool: "true or false",
    str: "a string",
    DType: "an element type",
    TensorType: "a tensor type",
    RaggedType: "a ragged type",
    Sym: "an extent",
    StateName: "a state name",
    type(None): "none",
}


def fit(value: object, annotation: object) -> object:
    """``value`` as the annotated type (an int becomes a float where only a float fits), or ``MISFIT``."""
    if annotation is float:
        return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else MISFIT
    if annotation is None:
        annotation = type(None)
    if isinstance(annotation, type) and annotation in _NAMES:
        # bool is an int and StateName a str to Python; in the text they are different things.
        return value if type(value) is annotation else MISFIT
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return value if any(value == arg and type(value) is type(arg) for arg in args) else MISFIT
    if origin is typing.Union or origin is types.UnionType:
        fitted = [fit(value, arg) for arg in args]
        exact = (f for f in fitted if f is not MISFIT and type(f) is type(value))
        return next(exact, next((f for f in fitted if f is not MISFIT), MISFIT))
    if origin is tuple and isinstance(value, tuple):
        items = typing.cast("tuple[object, ...]", value)
        wanted = args[:1] * len(items) if len(args) == 2 and args[1] is Ellipsis else args
        if len(wanted) != len(items):
            return MISFIT
        fitted_items = tuple(fit(item, want) for item, want in zip(items, wanted, strict=True))
        return MISFIT if MISFIT in fitted_items else fitted_items
    return MISFIT


def wanted(annotation: object) -> str:
    """The annotation in words, for messages: ``a tuple of integers``."""
    if annotation is None:
        annotation = type(None)
    if isinstance(annotation, type) and annotation in _NAMES:
        return _NAMES[annotation]
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " or ".join(f'"{arg}"' for arg in args)
    if origin is typing.Union or origin is types.UnionType:
        return " or ".join(wanted(arg) for arg in args)
    if origin is tuple:
        if len(args) == 2 and args[1] is Ellipsis:
            return f"a tuple, each item {wanted(args[0])}"
        return f"a tuple ({', '.join(wanted(arg) for arg in args)})"
    return "something else"
