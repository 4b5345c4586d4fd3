"""The two forms of a layer's constructor: fluid 1.8's, and the older one that has a name scope first."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

from ..errors import ArgumentTypeError, wrong_type

Self = TypeVar("Self")
New = ParamSpec("New")
Older = ParamSpec("Older")


def starts_with_a_name(args: Sequence[object], kwargs: Mapping[str, object]) -> bool:
    """Whether a call has a name scope first; where no first argument of 1.8's form is a string, that tells."""
    return "name_scope" in kwargs or (len(args) > 0 and isinstance(args[0], str))


def two_forms(
    older: Callable[Concatenate[Self, str, Older], None],
    is_older: Callable[[Sequence[object], Mapping[str, object]], bool] = starts_with_a_name,
) -> Callable[[Callable[Concatenate[Self, New], None]], Callable[Concatenate[Self, New], None]]:
    """Decorates an ``__init__`` of 1.8's form so that it takes the ``older`` form, too.

    A call is bound to one of the two signatures and never to a mixture.

    Args:
        older: The constructor whose first argument is ``name_scope``.
        is_older: Which form a call has.
    """

    def decorate(init: Callable[Concatenate[Self, New], None]) -> Callable[Concatenate[Self, New], None]:
        @functools.wraps(init)
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            form = older if is_older(args, kwargs) else init
            try:
                inspect.signature(form).bind(self, *args, **kwargs)
            except TypeError as error:
                raise _fits_neither(type(self).__name__, init, older, error) from None
            form(self, *args, **kwargs)

        return __init__  # type: ignore[return-value]

    return decorate


def _fits_neither(
    name: str, init: Callable[..., None], older: Callable[..., None], why: TypeError
) -> ArgumentTypeError:
    forms = [f"{name}{_shown(form)}" for form in (init, older)]
    return wrong_type(f"{name}: {why}", f"write {forms[0]}, or the older form {forms[1]}")


def _shown(form: Callable[..., None]) -> str:
    parameters = list(inspect.signature(form).parameters.values())[1:]
    bare = [each.replace(annotation=inspect.Parameter.empty) for each in parameters]
    return str(inspect.Signature(bare))
