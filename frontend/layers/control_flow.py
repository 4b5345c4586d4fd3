"""Loops and branches: each records its body as a block of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .. import unique_name
from ..errors import invalid, wrong_type
from ..framework import AttrValue, Block, in_dygraph_mode
from ..layer_helper import LayerHelper, check_variable
from ..variable import Variable
from ..vartype import VarType
from .compare import logical_and, logical_not

# Scripts that order sequences themselves find these here, as in Paddle, where fluid.layers does not list them either.
from .rank_table import array_to_lod_tensor as array_to_lod_tensor
from .rank_table import lod_rank_table as lod_rank_table
from .rank_table import lod_tensor_to_array as lod_tensor_to_array
from .rank_table import max_sequence_len as max_sequence_len
from .rank_table import shrink_memory as shrink_memory
from .tensor import assign, cast


def _reads_and_writes(block: Block, local: set[str]) -> tuple[list[str], list[str]]:
    """Names that ``block`` reads from outside, and names it writes; each once, in order."""
    reads: dict[str, None] = {}
    writes: dict[str, None] = {}
    known = set(local)
    for op in block.ops:
        for name in op.input_arg_names:
            if name not in known:
                reads[name] = None
        for name in op.output_arg_names:
            known.add(name)
            writes[name] = None
    return list(reads), list(writes)


def _step_scopes(block: Block) -> Variable:
    return block.create_var(type=VarType.STEP_SCOPES)


def _check_condition(layer: str, cond: Variable) -> None:
    check_variable(layer, "cond", cond)
    if cond.dtype is not VarType.BOOL or cond.shape not in ((1,), ()):
        raise wrong_type(
            f"{layer}: the condition {cond.name} is {cond.dtype.numpy.name}{list(cond.shape)}",
            "it must be one boolean, such as fluid.layers.less_than(i, n) of Variables of shape [1]",
        )


class While:
    """Repeats a block while ``cond`` is true; the block must write ``cond`` anew.

    loop = While(cond=less_than(i, n))
    with loop.block(): ...; less_than(i, n, cond=cond)
    """

    def __init__(self, cond: Variable, is_test: bool = False, name: str | None = None) -> None:
        self._helper = LayerHelper("while", name)
        _check_condition("While", cond)
        self._cond = cond
        self._is_test = is_test

    @contextlib.contextmanager
    def block(self) -> Iterator[None]:
        """Record the body."""
        program = self._helper.main_program
        parent = program.current_block()
        with program.sub_block() as body:
            yield
        reads, writes = _reads_and_writes(body, {self._cond.name})
        if self._cond.name not in writes:
            raise invalid(
                f"While: the block never writes its condition {self._cond.name}, so it would not end",
                f"end the block with less_than(..., cond={self._cond.name})",
            )
        outer = [v for v in (parent.find_var_recursive(n) for n in writes) if v is not None]
        inputs = [name for name in reads if name != self._cond.name]
        parent.append_op(
            "while",
            {"X": _outer_vars(parent, inputs), "Condition": [self._cond]},
            {"Out": outer, "StepScopes": [_step_scopes(parent)]},
            {"sub_block": body.idx, "is_test": self._is_test},
        )


def _outer_vars(block: Block, names: Sequence[str]) -> list[Variable]:
    found = [(name, block.find_var_recursive(name)) for name in names]
    for name, var in found:
        if var is None:
            raise invalid(f"{name} is read in a block before anything writes it", "create it before the block")
    return [var for _, var in found if var is not None]


def while_loop(
    cond: Callable[..., Variable],
    body: Callable[..., Any],
    loop_vars: Sequence[Variable],
    is_test: bool = False,
    name: str | None = None,
) -> Sequence[Variable]:
    """``while cond(*loop_vars): loop_vars = body(*loop_vars)``; returns the loop_vars after the loop."""
    if not callable(cond) or not callable(body):
        raise wrong_type("while_loop: cond and body must be functions", "give functions of the loop variables")
    variables = list(loop_vars)
    if not variables:
        raise invalid("while_loop: loop_vars is empty", "give the Variables that change")
    test = cond(*variables)
    _check_condition("while_loop", test)
    if in_dygraph_mode():
        while bool(test):
            new = body(*variables)
            variables = _loop_results(new, len(variables))
            test = cond(*variables)
        return variables
    with While(test, is_test, name).block():
        new = body(*variables)
        results = _loop_results(new, len(variables))
        again = cond(*results)
        for value, var in zip(results, variables):
            assign(value, var)
        assign(again, test)
    return loop_vars


def _loop_results(new: Any, wanted: int) -> list[Variable]:
    results = [new] if isinstance(new, Variable) else list(new)
    if len(results) != wanted:
        raise invalid(
            f"while_loop: body returns {len(results)} Variables for {wanted} loop variables",
            "return one new value per loop variable",
        )
    return results


@contextlib.contextmanager
def conditional_block(condition: Variable, *, scalar: bool = True) -> Iterator[None]:
    """Record a block that runs only when ``condition`` holds; what it writes keeps its old value otherwise.

    Without ``scalar`` the condition is one per row, and the block computes on those rows alone (`IfElse`).
    """
    helper = LayerHelper("conditional_block")
    program = helper.main_program
    parent = program.current_block()
    with program.sub_block() as body:
        yield
    reads, writes = _reads_and_writes(body, set())
    outer = [v for v in (parent.find_var_recursive(n) for n in writes) if v is not None]
    parent.append_op(
        "conditional_block",
        {"Cond": [condition], "Input": _outer_vars(parent, reads)},
        {"Out": outer, "Scope": [_step_scopes(parent)]},
        {"sub_block": body.idx, "is_scalar_condition": scalar},
    )


def _flatten(value: Any) -> list[Variable]:
    if value is None:
        return []
    if isinstance(value, list | tuple):
        return [v for part in value for v in _flatten(part)]
    check_variable("cond", "a branch's result", value)
    return [value]


def _like(structure: Any, values: Iterator[Variable]) -> Any:
    if structure is None:
        return None
    if isinstance(structure, list | tuple):
        return type(structure)(_like(part, values) for part in structure)
    return next(values)


def cond(
    pred: Variable,
    true_fn: Callable[[], Any] | None = None,
    false_fn: Callable[[], Any] | None = None,
    name: str | None = None,
) -> Any:
    """The result of ``true_fn()`` where ``pred`` is true, else that of ``false_fn()``.

    Both functions must return Variables of the same number, shapes and types (nested lists are allowed).
    """
    helper = LayerHelper("cond", name)
    parent = helper.main_program.current_block()
    _check_condition("cond", pred)
    if in_dygraph_mode():
        chosen = true_fn if bool(pred) else false_fn
        return None if chosen is None else chosen()

    def branch(condition: Variable, fn: Callable[[], Any] | None) -> tuple[Any, list[Variable]]:
        if fn is None:
            return None, []
        copies: list[Variable] = []
        with conditional_block(condition):
            result = fn()
            for value in _flatten(result):
                copy = parent.create_var(dtype=value.dtype, shape=value.shape, lod_level=value.lod_level)
                assign(value, copy)
                copies.append(copy)
        return result, copies

    structure, when_true = branch(pred, true_fn)
    other, when_false = branch(logical_not(pred), false_fn) if false_fn is not None else (None, [])
    if len(when_true) != len(when_false):
        raise invalid(
            f"cond: true_fn returns {len(when_true)} Variables and false_fn {len(when_false)}",
            "both branches must return the same structure",
        )
    del other
    if not when_true:
        return None
    mask = cast(pred, "int32")
    merged: list[Variable] = []
    for yes, no in zip(when_true, when_false):
        if yes.dtype != no.dtype:
            raise wrong_type(
                f"cond: the branches return {yes.dtype.numpy.name} and {no.dtype.numpy.name}",
                "cast one of them",
            )
        out = parent.create_var(dtype=yes.dtype, shape=yes.shape)
        parent.append_op("select_input", {"X": [no, yes], "Mask": [mask]}, {"Out": [out]})
        merged.append(out)
    return _like(structure, iter(merged))


class Switch:
    """``if / elif / else`` whose branches assign to outer Variables.

    with Switch() as switch:
        with switch.case(condition): assign(a, result)
        with switch.default(): assign(b, result)
    """

    def __init__(self, name: str | None = None) -> None:
        self._helper = LayerHelper("switch", name)
        self._inside = False
        self._none_before: Variable | None = None

    @contextlib.contextmanager
    def case(self, condition: Variable) -> Iterator[None]:
        """Record what happens when ``condition`` is the first to hold."""
        self._check("case")
        _check_condition("Switch.case", condition)
        negated = logical_not(condition)
        if self._none_before is None:
            self._none_before, chosen = negated, condition
        else:
            before = self._none_before
            self._none_before = logical_and(before, negated)
            chosen = logical_and(before, condition)
        with conditional_block(chosen):
            yield

    @contextlib.contextmanager
    def default(self) -> Iterator[None]:
        """Record what happens when no case holds."""
        self._check("default")
        if self._none_before is None:
            raise invalid("Switch: default() comes before any case()", "give at least one case")
        with conditional_block(self._none_before):
            yield

    def _check(self, method: str) -> None:
        if not self._inside:
            raise invalid(f"Switch.{method}() is used outside the switch", "write: with Switch() as switch: ...")

    def __enter__(self) -> Switch:
        self._inside = True
        return self

    def __exit__(self, *exc: object) -> None:
        self._inside = False


@dataclass
class _Memory:
    """A value that a recurrent block hands from one step to the next."""

    init: Variable
    before: Variable
    after: Variable | None = None


class StaticRNN:
    """Runs a block once for every element of axis 0 of its step inputs.

    rnn = StaticRNN()
    with rnn.step():
        x_t = rnn.step_input(x)                       # x: [T, N, D]
        before = rnn.memory(shape=[-1, H], batch_ref=x_t)
        h = fc([x_t, before], H)
        rnn.update_memory(before, h)
        rnn.step_output(h)
    out = rnn()                                        # [T, N, H]
    """

    def __init__(self, name: str | None = None) -> None:
        self._helper = LayerHelper("static_rnn", name)
        self._parent: Block | None = None
        self._body: Block | None = None
        self._done = False
        self._inputs: list[tuple[Variable, Variable]] = []
        self._memories: dict[str, _Memory] = {}
        self._outputs: list[tuple[Variable, Variable]] = []
        self._length: int | None = None

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Record what one step does."""
        program = self._helper.main_program
        self._parent = program.current_block()
        with program.sub_block() as self._body:
            yield
            states = self._close()
        self._record(states)
        self._done = True

    def _blocks(self, method: str) -> tuple[Block, Block]:
        if self._parent is None or self._body is None or self._done:
            raise invalid(f"StaticRNN.{method}() is used outside its step", "write it inside: with rnn.step(): ...")
        return self._parent, self._body

    def step_input(self, x: Variable) -> Variable:
        """``x[t]`` of a sequence of shape [T, ...]; T is the same for all step inputs."""
        _, body = self._blocks("step_input")
        check_variable("StaticRNN.step_input", "x", x)
        if len(x.shape) < 1:
            raise invalid(f"StaticRNN.step_input: {x.name} has shape []", "axis 0 is time: give a tensor [T, N, D]")
        if self._length is not None and self._length != x.shape[0] and self._length >= 0 and x.shape[0] >= 0:
            raise invalid(
                f"StaticRNN.step_input: {x.name} has {x.shape[0]} steps, the input before it {self._length}",
                "all step inputs must have the same length",
            )
        self._length = x.shape[0] if self._length is None else max(self._length, x.shape[0])
        inner = body.create_var(name=x.name, dtype=x.dtype, shape=x.shape[1:])
        self._inputs.append((x, inner))
        return inner

    def memory(
        self,
        init: Variable | None = None,
        shape: Sequence[int] | None = None,
        batch_ref: Variable | None = None,
        init_value: float = 0.0,
        init_batch_dim_idx: int = 0,
        ref_batch_dim_idx: int = 1,
    ) -> Variable:
        """The value handed over from the step before; ``init`` or a constant of ``shape`` in the first step."""
        parent, body = self._blocks("memory")
        if init is None:
            if shape is None or batch_ref is None:
                raise invalid("StaticRNN.memory: neither init nor (shape and batch_ref) is given", "give one of them")
            outer = parent.find_var_recursive(batch_ref.name)
            if outer is None:
                raise invalid(
                    f"StaticRNN.memory: batch_ref {batch_ref.name} does not exist outside the step",
                    "refer to a step input",
                )
            extents = [int(d) for d in shape]
            init = parent.create_var(
                name=unique_name.generate(f"{self._helper.name}@memory_boot"), dtype=batch_ref.dtype, shape=extents
            )
            attrs: dict[str, AttrValue] = {
                "value": float(init_value),
                "shape": extents,
                "dtype": batch_ref.dtype,
                "input_dim_idx": ref_batch_dim_idx,
                "output_dim_idx": init_batch_dim_idx,
            }
            parent.append_op("fill_constant_batch_size_like", {"Input": [outer]}, {"Out": [init]}, attrs)
        check_variable("StaticRNN.memory", "init", init)
        before = body.create_var(
            name=unique_name.generate(f"{self._helper.name}@mem"), dtype=init.dtype, shape=init.shape
        )
        self._memories[before.name] = _Memory(init, before)
        return before

    def update_memory(self, mem: Variable, var: Variable) -> None:
        """Hand ``var`` over to the next step's ``mem``."""
        self._blocks("update_memory")
        check_variable("StaticRNN.update_memory", "var", var)
        if mem.name not in self._memories:
            raise invalid(f"StaticRNN.update_memory: {mem.name} is not a memory", "give what memory() returned")
        self._memories[mem.name].after = var

    def step_output(self, o: Variable) -> None:
        """Collect ``o`` from every step, stacked along a new axis 0."""
        parent, _ = self._blocks("step_output")
        check_variable("StaticRNN.step_output", "o", o)
        if self._length is None:
            raise invalid("StaticRNN.step_output: there is no step_input yet", "call step_input first")
        inner = self._handed_over(o)
        outer = parent.create_var(name=inner.name, dtype=o.dtype, shape=[self._length, *o.shape])
        self._outputs.append((inner, outer))

    def output(self, *outputs: Variable) -> None:
        """`step_output` for several Variables."""
        for o in outputs:
            self.step_output(o)

    def _handed_over(self, var: Variable) -> Variable:
        out = self._helper.temporary(var.dtype, var.shape)
        self._helper.op("rnn_memory_helper", {"X": [var]}, {"Out": [out]}, {"dtype": var.dtype})
        return out

    def _close(self) -> list[str]:
        """Record the hand-over of the memories; gives the names of the new states."""
        states: list[str] = []
        for memory in self._memories.values():
            if memory.after is None:
                raise invalid(
                    f"StaticRNN: memory {memory.before.name} is never updated", "call update_memory inside the step"
                )
            states.append(self._handed_over(memory.after).name)
        return states

    def _record(self, states: list[str]) -> None:
        assert self._parent is not None
        assert self._body is not None
        parent, body = self._parent, self._body
        local = {inner.name for _, inner in self._inputs} | set(self._memories)
        reads, _ = _reads_and_writes(body, local)
        parent.append_op(
            "recurrent",
            {
                "inputs": [x for x, _ in self._inputs],
                "initial_states": [m.init for m in self._memories.values()],
                "parameters": _outer_vars(parent, reads),
            },
            {"outputs": [outer for _, outer in self._outputs], "step_scopes": [_step_scopes(parent)]},
            {
                "has_states": bool(self._memories),
                "ex_states": list(self._memories),
                "states": states,
                "sub_block": body.idx,
                "reverse": False,
                "is_train": True,
            },
        )

    def __call__(self) -> Variable | list[Variable]:
        """The collected outputs: one Variable, or a list of several."""
        if not self._done:
            raise invalid("StaticRNN is called before its step is complete", "call it after the with block")
        if not self._outputs:
            raise invalid("StaticRNN has no outputs", "call step_output inside the step")
        outs = [outer for _, outer in self._outputs]
        return outs[0] if len(outs) == 1 else outs
