"""``fluid.dygraph.jit``: decorators of functions that shall become Programs, and `TracedLayer`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, overload

from ..errors import wrong_type
from ..framework import in_dygraph_mode
from .program_translator import ProgramTranslator, declared
from .trace import Fixed
from .traced_layer import TracedLayer

Function = Callable[..., Any]


@overload
def declarative(func: Function) -> Function: ...
@overload
def declarative(func: None = None, *, fixed: Fixed = False) -> Callable[[Function], Function]: ...
def declarative(func: Function | None = None, *, fixed: Fixed = False) -> Function | Callable[[Function], Function]:
    """Decorate a function, or a Layer's ``forward``, that shall also be had as a Program.

    In dygraph the decorated function computes as the bare one: its layers run as one compiled function there too, and
    gradients pass it. Arrays among its arguments become Variables. `ProgramTranslator` gives its Program and saves it.

        class Net(fluid.dygraph.Layer):
            @fluid.dygraph.declarative
            def forward(self, x):
                return self.out(self.hidden(x))

    Functions are traced, not translated: for a Program, an ``if`` or a ``while`` by a value has to be `layers.cond` or
    `layers.while_loop`. Outside dygraph a call with arrays computes in dygraph, one with Variables appends to their
    Program.

    Args:
        func: The function.
        fixed: True if the inputs' first axis is of fixed extent in the Program, instead of being the batch; or the
            numbers of the inputs of which that is so.
    """
    if func is None:
        return functools.partial(_decorated, fixed=fixed)
    return _decorated(func, fixed=fixed)


def _decorated(func: Function, *, fixed: Fixed) -> Function:
    if not callable(func):
        raise wrong_type(f"declarative: {type(func).__name__} cannot be called", "decorate a function")
    return declared(func, fixed)


to_static = declarative


def dygraph_to_static_func(dygraph_func: Function) -> Function:
    """Decorate a function that builds a Program: outside dygraph it appends to the default main program.

    Parameters of dygraph that it uses become parameters of this program. In dygraph, and after
    ``ProgramTranslator().enable(False)``, the function is just called.
    """

    @functools.wraps(dygraph_func)
    def building(*args: Any, **kwargs: Any) -> Any:
        translator = ProgramTranslator()
        if in_dygraph_mode() or not translator.enable_declarative:
            return dygraph_func(*args, **kwargs)
        return translator.get_func(dygraph_func)(*args, **kwargs)

    return building


__all__ = ["ProgramTranslator", "TracedLayer", "declarative", "dygraph_to_static_func", "to_static"]
