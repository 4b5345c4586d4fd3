"""Tracing: code of dygraph is run on variables without values, and what it records is a Program."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ...runtime.errors import FluidcError
from .. import unique_name
from ..errors import ProgramError, invalid, wrong_type
from ..framework import Program, program_guard
from ..layers.tensor import assign
from ..source import user_location
from ..variable import Variable
from ..vartype import VarType, convert_dtype
from .base import eager_program
from .captures import Captures
from .open_batch import Probe, open_batch
from .variable import EagerVariable

Fixed: TypeAlias = "bool | Sequence[int]"
BY_FIXING = (
    "trace it for exactly these shapes: fixed=True, or fixed=[i, ...] for the inputs whose first axis is no batch"
)


@dataclass(frozen=True)
class Input:
    """An array or Variable among the arguments of a call.

    Attributes:
        shape, dtype: Of its value.
        stop_gradient: Whether it wants no gradient.
    """

    shape: tuple[int, ...]
    dtype: VarType
    stop_gradient: bool


class Call:
    """A function with arguments whose values are left open.

    Attributes:
        function: What is called.
        inputs: Its arrays and Variables, in the order in which they stand among the arguments, in nested lists too.
    """

    def __init__(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self.function = function
        self.inputs: list[Input] = []
        self._args, self._kwargs = mapped((tuple(args), dict(kwargs)), self._open)

    def _open(self, value: Any) -> Any:
        if not isinstance(value, EagerVariable | np.ndarray):
            return value
        dtype = value.dtype if isinstance(value, EagerVariable) else convert_dtype(value.dtype)
        stopped = value.stop_gradient if isinstance(value, EagerVariable) else True
        self.inputs.append(Input(tuple(value.shape), dtype, stopped))
        return self.inputs[-1]

    def leaves(self) -> list[Any]:
        """All parts of the arguments, an `Input` for each that is one."""
        found: list[Any] = []
        mapped((self._args, self._kwargs), found.append)
        return found

    def __call__(self, values: Sequence[Any]) -> Any:
        """Call the function with ``values`` in the place of its inputs."""
        given = iter(values)
        args, kwargs = mapped((self._args, self._kwargs), lambda v: next(given) if isinstance(v, Input) else v)
        return self.function(*args, **kwargs)


@dataclass(frozen=True)
class Trace:
    """What a call recorded.

    Attributes:
        program: With ``feeds`` as data variables.
        startup: Initialises parameters that the call itself created.
        feeds: One for each input.
        fetches: The Variables that it returned, in the order in which they stand in the result.
    """

    program: Program
    startup: Program
    feeds: list[Variable]
    fetches: list[Variable]


@contextlib.contextmanager
def capturing(program: Program) -> Iterator[None]:
    """Take variables of dygraph into ``program`` inside the ``with`` block."""
    if program.captures is not None:
        yield
        return
    recorder = eager_program().recorder
    before = recorder.grad_enabled
    program.captures = Captures(program, recorder, grad_enabled=before)
    recorder.grad_enabled = True  # `no_grad` inside stops gradients; evaluation around the trace does not
    try:
        yield
    finally:
        recorder.grad_enabled = before
        program.captures = None


def trace(call: Call, what: str, fixed: Fixed = False) -> Trace:
    """Record a call into a Program.

    The first axis of every input is the batch, which stays open: the call is recorded for two numbers of rows, and
    what differs between the two has to follow from their number.

    Args:
        call: The call.
        what: What is traced, for messages.
        fixed: True: the shapes are those of the inputs; or the numbers of the inputs whose first axis is no batch.

    Raises:
        ProgramError: What is recorded depends on the number of rows in another way, or the inputs disagree on it.
        FluidcError: What the code itself raises: it looks at values, or calls what a Program cannot have.
    """
    batched = _batched(call, what, fixed)
    if not batched:
        return _recorded(call, what, [each.shape for each in call.inputs])
    rows = call.inputs[batched[0]].shape[0]
    sizes = (rows, 2 * rows) if rows > 1 else (2, 4)
    first = _recorded(call, what, _shapes(call, batched, sizes[0]))
    try:
        second = _recorded(call, what, _shapes(call, batched, sizes[1]))
    except Exception as error:
        what_failed = error.what if isinstance(error, FluidcError) else f"{type(error).__name__}: {error}"
        where = error.where if isinstance(error, FluidcError) else user_location().place
        raise ProgramError(
            f"{what} is possible for {sizes[0]} rows, but for {sizes[1]}: {what_failed}", where, BY_FIXING
        ) from error
    open_batch(Probe(first.program, second.program, sizes, first.feeds[batched[0]]), what, BY_FIXING)
    return first


def _batched(call: Call, what: str, fixed: Fixed) -> list[int]:
    """The inputs whose first axis is the batch."""
    if not isinstance(fixed, bool) and not all(isinstance(i, int) and 0 <= i < len(call.inputs) for i in fixed):
        raise invalid(
            f"{what}: fixed is {fixed!r}", f"give True, or numbers of inputs from 0 to {len(call.inputs) - 1}"
        )
    kept = range(len(call.inputs)) if fixed is True else () if fixed is False else fixed
    found = [i for i, each in enumerate(call.inputs) if each.shape and i not in kept]
    rows = {call.inputs[i].shape[0] for i in found}
    if len(rows) > 1:
        shapes = ", ".join(str(list(each.shape)) for each in call.inputs)
        raise invalid(f"{what}: the inputs {shapes} have different first extents, and that is the batch", BY_FIXING)
    return [] if rows == {0} else found


def _shapes(call: Call, batched: Sequence[int], rows: int) -> list[tuple[int, ...]]:
    return [(rows, *each.shape[1:]) if i in batched else each.shape for i, each in enumerate(call.inputs)]


def _recorded(call: Call, what: str, shapes: Sequence[tuple[int, ...]]) -> Trace:
    """The call for inputs of these shapes."""
    eager = eager_program()
    program, startup = Program(), Program()
    program.random_seed = startup.random_seed = eager.random_seed
    names = unique_name.UniqueNameGenerator()
    for name in eager.global_block().names():
        names.reserve(name)
    with program_guard(program, startup), unique_name.guard(names), capturing(program):
        block = program.global_block()
        feeds = [
            block.create_var(
                name=f"feed_{i}",
                shape=shape,
                dtype=each.dtype,
                is_data=True,
                need_check_feed=True,
                stop_gradient=each.stop_gradient,
            )
            for i, (each, shape) in enumerate(zip(call.inputs, shapes, strict=True))
        ]
        found: list[Variable] = []
        mapped(call(feeds), lambda v: found.append(v) if isinstance(v, Variable) else None)
        if not found:
            raise wrong_type(f"{what}: it returned no Variable", "return what layers computed")
        fetches: dict[str, Variable] = {}
        for v in found:
            own = v.within(program, "return")
            # Each result is a variable of its own, which an op computes.
            own = assign(own) if own.is_data or own.persistable or own.name in fetches else own
            fetches[own.name] = own
    program.foreign_names = frozenset(var.name for var in program.list_vars())
    return Trace(program, startup, feeds, list(fetches.values()))


def mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """``value`` with every part of its nested lists, tuples and dicts changed."""
    if isinstance(value, dict):
        return {key: mapped(each, change) for key, each in value.items()}
    if isinstance(value, list):
        return [mapped(each, change) for each in value]
    if isinstance(value, tuple):
        parts = [mapped(each, change) for each in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return change(value)
