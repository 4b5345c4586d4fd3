"""`ProgramTranslator`: functions of dygraph as Programs, made when somebody asks for one and kept."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import textwrap
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from ..errors import invalid, wrong_type
from ..framework import Program, default_main_program, in_dygraph_mode
from ..io import save_inference_model
from ..scope import Scope, global_scope, scope_guard
from ..variable import Variable
from .base import eager_program, guard, to_variable
from .layers import Layer
from .trace import Call, Fixed, Input, Trace, capturing, mapped, trace
from .traced_layer import chosen
from .variable import EagerVariable

CACHED_PROGRAMS = 64
_DECLARED = "_fluid_declared"
"""Attribute of a decorated function: the function itself, and what is fixed of its inputs."""

_NOTE = "# fluidc traces this function as it is; no other code is made of it.\n"


class ProgramCache:
    """Programs of functions, by function, types of the inputs, and whatever else a call was given."""

    def __init__(self) -> None:
        self._traces: OrderedDict[Hashable, tuple[Call, Trace]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._traces)

    def get(self, call: Call, fixed: Fixed) -> Trace:
        """The program of a call, which is traced if it was not."""
        key = _key(call, fixed)
        if key not in self._traces:
            name = getattr(call.function, "__qualname__", type(call.function).__name__)
            # With the call: what its key names by identity stays alive.
            self._traces[key] = call, trace(call, f"tracing {name}", fixed)
            if len(self._traces) > CACHED_PROGRAMS:
                self._traces.popitem(last=False)
        self._traces.move_to_end(key)
        return self._traces[key][1]

    def last(self) -> Trace:
        """The program that was asked for last.  Raises ProgramError if there is none."""
        if not self._traces:
            raise invalid("no program was traced yet", "call a @declarative function, or get_program, first")
        return next(reversed(self._traces.values()))[1]


class ProgramTranslator:
    """Functions of dygraph as Programs; the only object of its class.

    A function is traced: run once on Variables without values, and what it calls is recorded. Nothing of it is
    translated, so an ``if`` or ``while`` by a value is an error; `layers.cond` and `layers.while_loop` are recorded.
    """

    _instance: ProgramTranslator | None = None
    enable_declarative: bool

    def __new__(cls) -> ProgramTranslator:
        if cls._instance is None:
            cls._instance = super().__new__(cls)
            cls._instance._begin()
        return cls._instance

    def _begin(self) -> None:
        self.enable_declarative = True
        self._cache = ProgramCache()
        self._last: tuple[Call, Fixed] | None = None

    @classmethod
    def get_instance(cls) -> ProgramTranslator:
        """The object."""
        return cls()

    @classmethod
    def reset(cls) -> None:
        """Forget all programs, and `enable` again."""
        cls()._begin()

    def enable(self, enable_declarative: bool) -> None:
        """With False `declarative` and the other decorators call the function and do nothing else."""
        if not isinstance(enable_declarative, bool):
            raise wrong_type(f"enable: enable_declarative is {enable_declarative!r}", "give True or False")
        self.enable_declarative = enable_declarative

    def get_output(self, dygraph_func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What a `declarative` function returns.

        In dygraph the function is called: what it records is compiled as one function there too, and gradients pass it.
        Outside it is called in dygraph all the same, for arrays; for Variables of a Program it appends to this Program.
        """
        function, args, fixed = _unbound("get_output", dygraph_func, args)
        if not self.enable_declarative or default_main_program().captures is not None:
            return function(*args, **kwargs)
        if not in_dygraph_mode() and _has_static((args, kwargs)):
            return self.get_func(function)(*args, **kwargs)
        with contextlib.nullcontext() if in_dygraph_mode() else guard():
            self._last = Call(function, args, kwargs), fixed
            args, kwargs = mapped((args, kwargs), lambda v: to_variable(v) if isinstance(v, np.ndarray) else v)
            return function(*args, **kwargs)

    def get_func(self, dygraph_func: Callable[..., Any]) -> Callable[..., Any]:
        """The function for Variables of the default main program, to which it appends what it calls.

        Parameters of dygraph that it uses become parameters of the program, and keep their memory.
        """
        function, bound, _ = _unbound("get_func", dygraph_func, ())
        if not self.enable_declarative:
            return dygraph_func

        @functools.wraps(function)
        def appending(*args: Any, **kwargs: Any) -> Any:
            with capturing(default_main_program()):
                return function(*bound, *args, **kwargs)

        return appending

    def get_program(self, dygraph_func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The function as a Program.

        Args:
            dygraph_func: The function, or a method with the object among ``args``.
            args, kwargs: Its arguments; arrays and Variables become data variables of their types, and their first
                axis is the batch, of any extent (see `declarative` for how to fix it).

        Returns:
            ``(main_program, startup_program, inputs, outputs)``; the startup program initialises parameters that the
            function itself creates. After ``enable(False)`` what the function returns.
        """
        function, args, fixed = _unbound("get_program", dygraph_func, args)
        if not self.enable_declarative:
            return function(*args, **kwargs)
        traced = self._cache.get(Call(function, args, kwargs), fixed)
        self._last = None
        return traced.program, traced.startup, list(traced.feeds), list(traced.fetches)

    def get_code(self, dygraph_func: Callable[..., Any]) -> str:
        """The source of the function, which is traced as it is, under a comment that says so."""
        function, _, _ = _unbound("get_code", dygraph_func, ())
        return _NOTE + textwrap.dedent(inspect.getsource(function))

    def get_program_cache(self) -> ProgramCache:
        """The programs made so far."""
        return self._cache

    def save_inference_model(
        self,
        dirname: str | os.PathLike[str],
        feed: Sequence[int] | None = None,
        fetch: Sequence[int] | None = None,
    ) -> None:
        """Write the program of the function that was called last, or given to `get_program`; see `TracedLayer`.

        Args:
            dirname: The folder.
            feed: Numbers of the inputs that the saved model has; all if None.
            fetch: Numbers of the outputs, likewise.
        """
        traced = self._cache.get(*self._last) if self._last is not None else self._cache.last()
        feeds = chosen("feed", [v.name for v in traced.feeds], feed)
        fetches = chosen("fetch", [v.name for v in traced.fetches], fetch)
        with scope_guard(_scope_of(traced.program)):
            save_inference_model(dirname, feeds, fetches, None, traced.program.clone())


def declared(function: Callable[..., Any], fixed: Fixed) -> Callable[..., Any]:
    """``function`` called through the translator."""

    @functools.wraps(function)
    def through(*args: Any, **kwargs: Any) -> Any:
        return ProgramTranslator().get_output(through, *args, **kwargs)

    setattr(through, _DECLARED, (function, fixed))
    return through


def _unbound(what: str, function: Any, args: tuple[Any, ...]) -> tuple[Callable[..., Any], tuple[Any, ...], Fixed]:
    """The function behind a method, a Layer or a decorator, with the object as its first argument."""
    if not callable(function):
        raise wrong_type(f"ProgramTranslator.{what}: {type(function).__name__} cannot be called", "give a function")
    if inspect.ismethod(function):
        function, args = function.__func__, (function.__self__, *args)
    if isinstance(function, Layer):
        function, args = type(function).__call__, (function, *args)
    function, fixed = getattr(function, _DECLARED, (function, False))
    return function, args, fixed


def _has_static(value: Any) -> bool:
    found: list[Variable] = []
    mapped(value, lambda v: found.append(v) if isinstance(v, Variable) and not isinstance(v, EagerVariable) else None)
    return bool(found)


def _key(call: Call, fixed: Fixed) -> Hashable:
    """Equal for calls that record the same, as far as arguments tell."""
    parts: list[Hashable] = [call.function, fixed if isinstance(fixed, bool) else tuple(fixed)]
    parts.append(eager_program().recorder.grad_enabled)
    for leaf in call.leaves():
        if isinstance(leaf, Input):
            rows = leaf.shape[:1] if fixed else ()
            parts.append((rows, len(leaf.shape), leaf.shape[1:], leaf.dtype, leaf.stop_gradient))
        elif isinstance(leaf, Layer):
            modes = tuple(each.training for _, each in leaf.named_sublayers(include_self=True))
            parts.append((id(leaf), modes))
        else:
            parts.append((type(leaf), leaf if isinstance(leaf, str | int | float | type(None)) else id(leaf)))
    return tuple(parts)


def _scope_of(program: Program) -> Scope:
    """The values of a traced program: those of dygraph, and what the global scope has for others."""
    scope = Scope()
    for var in program.list_vars():
        held = global_scope().find_var(var.name) if var.persistable else None
        if var.memory is not None:
            scope.lend(var.name, var.memory)
        elif held is not None and held.get_tensor().is_initialized:
            scope.var(var.name).get_tensor().adopt(held.get_tensor().buffer)
    return scope
