"""``NAME:argument=value,...`` on the command line: a call of something with named arguments."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from ...runtime.errors import FluidcError

Result = TypeVar("Result")
_WORDS: Mapping[str, object] = {"none": None, "true": True, "false": False}


@dataclass(frozen=True)
class CallSpec:
    """A name and arguments, as they were written.

    Attributes:
        text: All of it.
        name: What is called.
        arguments: Numbers, booleans, None and strings by name.
    """

    text: str
    name: str
    arguments: Mapping[str, Any]


class CallSpecType(click.ParamType):
    """``adam:learning_rate=1e-3,beta1=0.8``; gives a `CallSpec`."""

    name = "name:argument=value,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> CallSpec:
        """The name and the arguments."""
        if isinstance(value, CallSpec):
            return value
        text = str(value)
        name, colon, rest = text.partition(":")
        arguments: dict[str, Any] = {}
        for part in rest.split(",") if colon else ():
            key, equals, given = (piece.strip() for piece in part.partition("="))
            if not (equals and key.isidentifier() and given) or key in arguments:
                self.fail(f"{text!r} is not NAME:ARGUMENT=VALUE,... with each argument once", param, ctx)
            arguments[key] = _value(given)
        return CallSpec(text, name.strip(), arguments)


def _value(text: str) -> object:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def find(spec: CallSpec, known: Mapping[str, Callable[..., Any]], option: str) -> Callable[..., Any]:
    """What a spec names, upper and lower case being the same.

    Args:
        spec: From the command line.
        known: What there is, by name.
        option: For errors.

    Raises:
        click.BadParameter: There is nothing of that name.
    """
    by_name = {name.lower(): name for name in known}
    found = by_name.get(spec.name.lower())
    if found is None:
        close = difflib.get_close_matches(spec.name.lower(), by_name, n=1)
        hint = f"did you mean {by_name[close[0]]}?" if close else f"there are {', '.join(known)}"
        raise click.BadParameter(f"there is no {spec.name!r}; {hint}", param_hint=option)
    return known[found]


def call(spec: CallSpec, made: Callable[..., Result], option: str, *given: Any) -> Result:
    """``made(*given, **spec.arguments)``.

    Raises:
        click.BadParameter: An argument is of a type that ``made`` cannot work with.
        FluidcError: What ``made`` refuses.
    """
    try:
        return made(*given, **spec.arguments)
    except FluidcError:
        raise
    except (TypeError, ValueError) as error:
        raise click.BadParameter(f"{spec.text}: {error}", param_hint=option) from None


def check_arguments(spec: CallSpec, made: Callable[..., Any], option: str, reserved: tuple[str, ...] = ()) -> None:
    """Refuse arguments that ``made`` does not take, and those that are left out though it needs them.

    Args:
        spec: From the command line.
        made: What will be called with ``spec.arguments``.
        option: For errors.
        reserved: Parameters that the command itself gives.

    Raises:
        click.BadParameter: The arguments do not fit.
    """
    parameters = [p for p in inspect.signature(made).parameters.values() if p.name not in reserved]
    names = [p.name for p in parameters]
    for key in spec.arguments:
        if key not in names:
            close = difflib.get_close_matches(key, names, n=1)
            hint = f"did you mean {close[0]}?" if close else f"it takes {', '.join(names) or 'none'}"
            raise click.BadParameter(f"{spec.name} has no argument {key!r}; {hint}", param_hint=option)
    missing = [p.name for p in parameters if p.default is p.empty and p.name not in spec.arguments]
    if missing:
        example = f"{spec.name}:{missing[0]}=0.1"
        raise click.BadParameter(f"{spec.name} needs {', '.join(missing)}: {example}", param_hint=option)
