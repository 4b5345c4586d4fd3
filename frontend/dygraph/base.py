"""Entering and leaving eager mode, and what belongs to no layer: ``guard``, ``to_variable``, ``no_grad``, ``grad``."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar, overload
from weakref import WeakValueDictionary

import numpy as np

from .. import unique_name
from ..errors import invalid, unsupported, wrong_type
from ..framework import Program, default_main_program, in_dygraph_mode, swap_default_programs
from ..lod import LoDTensor
from ..lots import Lot, arrays_of
from ..places import CPUPlace, CUDAPlace, Place
from ..targets import default_target
from ..variable import Variable
from .graph import Fed, Node
from .program import EagerProgram
from .tape import Request, Walk
from .variable import EagerParameter, EagerVariable

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class _Outside:
    """What holds outside a guard, and again after it."""

    main: Program
    startup: Program
    generator: unique_name.UniqueNameGenerator
    grad_enabled: bool
    target: str
    names: WeakValueDictionary[str, EagerVariable]
    graded: WeakValueDictionary[int, EagerParameter]


_program: EagerProgram | None = None
_left: list[_Outside] = []


def eager_program() -> EagerProgram:
    """The program of eager mode: one for the process, so that variables outlive the guard they were made in."""
    global _program
    if _program is None:
        _program = EagerProgram()
    return _program


def enabled() -> bool:
    """Whether layers run at once instead of being recorded into a Program."""
    return in_dygraph_mode()


@contextlib.contextmanager
def guard(place: Place | None = None, target: str | None = None) -> Iterator[None]:
    """Eager mode inside the ``with`` block; names count afresh.

    Args:
        place: ``CPUPlace()``, also when None.
        target: What compiles: ``cpu`` (None), ``onnx`` or ``reference``, as for `fluid.Executor`.
    """
    enable_dygraph(place, target)
    try:
        yield
    except BaseException:
        _leave(run=False)
        raise
    _leave(run=True)


def enable_dygraph(place: Place | None = None, target: str | None = None) -> None:
    """Eager mode from here on, until `disable_dygraph`."""
    if isinstance(place, CUDAPlace):
        raise unsupported(
            f"guard: {place} is a GPU, and eager mode runs on the processor",
            "use CPUPlace(); what declarative or TracedLayer traces runs on a GPU: fluid.Executor(fluid.CUDAPlace(0))",
        )
    if place is not None and not isinstance(place, CPUPlace):
        raise wrong_type(f"guard: place is {type(place).__name__}", "give fluid.CPUPlace()")
    target = target or default_target()
    if target not in ("cpu", "onnx", "reference"):
        raise invalid(f"guard: there is no target {target!r}", "use cpu, onnx or reference")
    program = eager_program()
    recorder = program.recorder
    recorder.flush()
    main, startup = swap_default_programs(program, program)
    _left.append(
        _Outside(
            main,
            startup,
            unique_name.switch(),
            recorder.grad_enabled,
            recorder.target,
            program.global_block().swap_names(),
            recorder.swap_gradients(),
        )
    )
    recorder.grad_enabled, recorder.target = True, target


def disable_dygraph() -> None:
    """Back to the mode before `enable_dygraph`; nothing happens outside eager mode."""
    if _left:
        _leave(run=True)


def _leave(*, run: bool) -> None:
    outside, program = _left.pop(), eager_program()
    recorder = program.recorder
    swap_default_programs(outside.main, outside.startup)
    unique_name.switch(outside.generator)
    try:
        if run:
            recorder.flush()
    finally:
        recorder.grad_enabled, recorder.target = outside.grad_enabled, outside.target
        program.global_block().swap_names(outside.names)
        recorder.swap_gradients(outside.graded)


@contextlib.contextmanager
def eagerly() -> Iterator[None]:
    """Eager mode for a moment, where code that is being traced creates parameters of its own; else nothing."""
    if default_main_program().captures is None:
        yield
        return
    program = eager_program()
    main, startup = swap_default_programs(program, program)
    try:
        yield
    finally:
        swap_default_programs(main, startup)


@overload
def to_variable(  # type: ignore[overload-overlap]  # what is no Lot gives a Variable
    value: Lot, name: None = None, zero_copy: bool | None = None
) -> dict[str, EagerVariable]: ...
@overload
def to_variable(value: object, name: str | None = None, zero_copy: bool | None = None) -> Variable: ...
def to_variable(
    value: object, name: str | None = None, zero_copy: bool | None = None
) -> Variable | dict[str, EagerVariable]:
    """An array as a Variable; in code that is being traced a constant.

    Args:
        value: An array, a number, a nested list, a LoDTensor without levels, or a Variable, which is returned as it is.
            A lot of `fluid.privacy.poisson_batches` gives a dict of its names to Variables: a private step that reads
            them, and no other examples, is accounted for.
        name: Of the Variable.
        zero_copy: Paddle's, without effect: the array is copied, what is done to it later changes nothing.

    Raises:
        ProgramError: Outside eager mode.
    """
    del zero_copy
    captures = default_main_program().captures
    if isinstance(value, EagerVariable) or (isinstance(value, Variable) and captures is not None):
        return value
    if isinstance(value, Variable):
        raise invalid(f"to_variable: {value.name} belongs to a static Program", "fetch its value with an Executor")
    if captures is None and not in_dygraph_mode():
        raise invalid("to_variable is called outside eager mode", "write: with fluid.dygraph.guard():")
    if isinstance(value, Lot) and captures is not None:
        raise invalid(
            "to_variable: a lot is data, and code that is traced is none", "give its variables to the function"
        )
    if isinstance(value, Lot):
        recorder = eager_program().recorder
        return {each: recorder.constant(each, array, Fed(value, each)) for each, array in arrays_of(value).items()}
    array = np.asarray(value.array if isinstance(value, LoDTensor) else value)
    if name is not None and not isinstance(name, str):
        raise wrong_type(f"to_variable: name is {name!r}", "give a string or None")
    if captures is not None:
        return captures.constant(array)
    return eager_program().recorder.constant(name or unique_name.generate("generated_var"), array)


@dataclass
class BackwardStrategy:
    """What `Variable.backward` and `grad` take for Paddle's sake.

    Attributes:
        sort_sum_gradient: Without effect: gradients that arrive at one value are always added in one order.
    """

    sort_sum_gradient: bool = False


class no_grad(contextlib.ContextDecorator):
    """Nothing recorded inside gets a gradient: ``with no_grad():``, ``@no_grad`` or ``@no_grad()``."""

    @overload
    def __new__(cls, func: None = None) -> no_grad: ...
    @overload
    def __new__(cls, func: Callable[P, R]) -> Callable[P, R]: ...
    def __new__(cls, func: Callable[..., Any] | None = None) -> Any:
        made = super().__new__(cls)
        made._before = []
        return made if func is None else functools.wraps(func)(made(func))

    def __init__(self, func: None = None) -> None:
        del func

    _before: list[bool]

    def __enter__(self) -> None:
        recorder = eager_program().recorder
        self._before.append(recorder.grad_enabled)
        recorder.grad_enabled = False

    def __exit__(self, *error: object) -> None:
        eager_program().recorder.grad_enabled = self._before.pop()


def grad(
    outputs: Variable | Sequence[Variable],
    inputs: Variable | Sequence[Variable],
    grad_outputs: Variable | Sequence[Variable | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool = False,
    no_grad_vars: Variable | Iterable[Variable] | None = None,
    backward_strategy: object = None,
) -> list[EagerVariable | None]:
    """Gradients of the sum of ``outputs`` with respect to ``inputs``; the gradients of parameters are left alone.

    Args:
        outputs: What is differentiated.
        inputs: With respect to what: anything that ``outputs`` were computed from and that wants a gradient.
        grad_outputs: Gradients to begin with, of the outputs' shapes; ones if None.
        retain_graph: Leave the graph for another gradient; as ``create_graph`` if None.
        create_graph: The gradients can be differentiated in their turn (gradient penalties).
        only_inputs: Must be True, as in Paddle.
        allow_unused: Give None for an input that no output depends on, instead of an error.
        no_grad_vars: Variables that no gradient passes.
        backward_strategy: Paddle's, without effect.

    Returns:
        One gradient per input, of its shape.

    Raises:
        ProgramError: An input that no output depends on, or arguments that do not fit together.
    """
    del backward_strategy
    if not only_inputs:
        raise unsupported("grad: only_inputs=False is not available", "call loss.backward() for all gradients")
    goals = _variables("outputs", outputs)
    wanted = _variables("inputs", inputs)
    barred = [] if no_grad_vars is None else _variables("no_grad_vars", no_grad_vars)
    if not goals or not wanted:
        raise invalid(f"grad: there are {len(goals)} outputs and {len(wanted)} inputs", "give at least one of each")
    listed = [] if grad_outputs is None else [grad_outputs] if isinstance(grad_outputs, Variable) else grad_outputs
    given = [None if seed is None else _variables("grad_outputs", seed)[0] for seed in listed]
    if given and len(given) != len(goals):
        raise invalid(f"grad: {len(goals)} outputs and {len(given)} grad_outputs", "give one per output, or none")
    recorder = eager_program().recorder
    seeds: list[Node] = []
    for goal, seed in zip(goals, given):
        if seed is None:
            seed = recorder.constant(goal.grad_name, np.ones(goal.shape, goal.dtype.numpy))
        elif seed.shape != goal.shape:
            raise invalid(
                f"grad: {seed.name} {list(seed.shape)} cannot begin the gradient of {goal.name} {list(goal.shape)}",
                "the gradient of an output has its shape",
            )
        seeds.append(seed.node)
    stops = frozenset(v.node for v in barred)
    walk = Walk.back_from([goal.node for goal in goals], stops)
    reached = {*walk.leaves, *walk.through}
    unused = [v for v in wanted if v.node not in reached]
    if unused and not allow_unused:
        raise invalid(
            f"grad: the outputs do not depend on {unused[0].name}, or no gradient reaches it",
            "look at stop_gradient, or allow_unused=True gives None for it",
        )
    found = [v for v in wanted if v.node in reached]
    if not found:
        return [None] * len(wanted)
    request = Request(
        tuple(goal.node for goal in goals), tuple(seeds), tuple(dict.fromkeys(v.node for v in found)), tuple(stops)
    )
    keep = create_graph if retain_graph is None else retain_graph
    grads = recorder.request(request, walk, keep=keep or create_graph, differentiable=create_graph)
    by_node = dict(zip(request.wrt, grads, strict=True))
    return [by_node.get(v.node) for v in wanted]


def _variables(argument: str, values: Variable | Iterable[Variable]) -> list[EagerVariable]:
    found: list[EagerVariable] = []
    for value in [values] if isinstance(values, Variable) else values:
        if not isinstance(value, EagerVariable):
            raise wrong_type(
                f"grad: {argument} holds {type(value).__name__}",
                "give Variables of eager mode; in a Program, and in code that is being traced, use fluid.gradients",
            )
        found.append(value)
    return found
