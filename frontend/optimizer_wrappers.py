"""Optimizers around an optimizer: Lookahead, Recompute, Pipeline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NoReturn

from .averages import clone_variable
from .backward import NameOrVariable, append_backward, names_of
from .clip import ParamsGrads
from .dpsgd import Dpsgd
from .errors import invalid, unsupported, warn, wrong_type
from .framework import (
    Operator,
    OpRole,
    Program,
    default_startup_program,
    in_dygraph_mode,
    program_guard,
)
from .layers.compare import equal, increment
from .layers.control_flow import Switch
from .layers.math import elementwise_add, elementwise_mod, elementwise_mul, elementwise_sub
from .layers.tensor import assign, create_global_var, fill_constant
from .optimizer_base import Optimizer
from .private_optimizer import DpOptimizer
from .variable import Variable


def _inner(owner: str, optimizer: object) -> Optimizer:
    if in_dygraph_mode():
        raise unsupported(f"{owner} is for Programs", "use the inner optimizer as it is in dygraph")
    if not isinstance(optimizer, Optimizer):
        raise wrong_type(f"{owner}: the optimizer is {type(optimizer).__name__}", "give an optimizer, such as SGD(0.1)")
    return optimizer


class LookaheadOptimizer:
    """Every k steps ``slow += alpha * (fast - slow)`` and ``fast = slow`` (Zhang et al., arXiv:1907.08610).

    The inner optimizer updates the fast weights, which the program computes with; slow weights begin as they do. A
    test clone made after `minimize` leaves all of it out. With `Dpsgd` inside, it computes on released values only.

    Args:
        inner_optimizer: Updates the fast weights.
        alpha: From 0 to 1.
        k: Steps between two looks ahead.
    """

    def __init__(self, inner_optimizer: Optimizer, alpha: float = 0.5, k: int = 5) -> None:
        self.inner_optimizer = _inner("LookaheadOptimizer", inner_optimizer)
        if not 0.0 <= alpha <= 1.0:
            raise invalid(f"LookaheadOptimizer: alpha is {alpha}", "give a number from 0 to 1")
        if isinstance(k, bool) or not isinstance(k, int) or k <= 0:
            raise invalid(f"LookaheadOptimizer: k is {k!r}", "give a positive integer")
        self.alpha = float(alpha)
        self.k = k
        self.type = "lookahead"

    def minimize(self, loss: Variable, startup_program: Program | None = None) -> tuple[list[Operator], ParamsGrads]:
        """Record gradients, updates and the looks ahead; returns what the inner optimizer's ``minimize`` does."""
        result = self.inner_optimizer.minimize(loss, startup_program=startup_program)
        startup = default_startup_program() if startup_program is None else startup_program
        with program_guard(loss.block.program, startup), loss.block.program.role(OpRole.OPTIMIZE):
            self._record(loss, startup)
        return result

    def _record(self, loss: Variable, startup: Program) -> None:
        block, first = loss.block.program.global_block(), startup.global_block()
        pairs: list[tuple[Variable, Variable]] = []
        for fast in block.all_parameters():
            slow = block.create_var(name=f"{fast.name}@SLOW", shape=fast.shape, dtype=fast.dtype, persistable=True)
            twin = clone_variable(first, slow)
            first.append_op("assign", {"X": [first.var(fast.name)]}, {"Out": [twin]})
            pairs.append((fast, slow))
        k = create_global_var([1], self.k, "int32", persistable=True, name="lookahead_k")
        alpha = create_global_var([1], self.alpha, "float32", persistable=True, name="lookahead_alpha")
        step = create_global_var([1], 0, "int32", persistable=True, name="lookahead_step")
        increment(step, value=1.0, in_place=True)
        zero, one = fill_constant([1], "int32", 0), fill_constant([1], "float32", 1.0)
        with Switch() as switch, switch.case(equal(elementwise_mod(step, k), zero)):
            for fast, slow in pairs:
                ahead = elementwise_add(
                    elementwise_mul(fast, alpha), elementwise_mul(slow, elementwise_sub(one, alpha))
                )
                assign(ahead, slow)
                assign(ahead, fast)


class RecomputeOptimizer(Optimizer):
    """An optimizer whose backward may recompute the forward pass between checkpoints, to save memory.

    The checkpoints are kept in the program. The compiler decides itself what a step keeps, so that they are a hint
    that changes neither numbers nor memory.

    Args:
        optimizer: Updates the parameters.

    Raises UnsupportedError for `Dpsgd` and `DpOptimizer`, which make their gradients themselves.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = _inner("RecomputeOptimizer", optimizer)
        if isinstance(optimizer, Dpsgd | DpOptimizer):
            raise unsupported(
                f"RecomputeOptimizer: {optimizer.type} makes the gradients itself", f"use {optimizer.type} as it is"
            )
        super().__init__(
            optimizer.learning_rate, optimizer.parameter_list, optimizer.regularization, optimizer._grad_clip
        )
        self.type = optimizer.type
        self._checkpoints: list[str] | None = None

    def _set_checkpoints(self, checkpoints: Sequence[NameOrVariable]) -> None:
        """Variables (or names) from which the forward pass may be recomputed; fluid's name for the method."""
        self._checkpoints = names_of("RecomputeOptimizer", "checkpoints", checkpoints)

    def load(self, stat_dict: object) -> NoReturn:
        """Refused, as in fluid."""
        raise unsupported("RecomputeOptimizer.load", "fluid.load restores the state of a Program")

    def backward(
        self,
        loss: Variable,
        startup_program: Program | None = None,
        parameter_list: Sequence[NameOrVariable] | None = None,
        no_grad_set: Iterable[NameOrVariable] | None = None,
        callbacks: Sequence[object] | None = None,
    ) -> ParamsGrads:
        """Ask for the gradients.  Raises ProgramError before `_set_checkpoints`."""
        if self._checkpoints is None:
            raise invalid(
                "RecomputeOptimizer: there are no checkpoints", "call optimizer._set_checkpoints([h1, h2]) first"
            )
        if callbacks:
            raise unsupported("RecomputeOptimizer.backward: callbacks", "append layers on the gradients it returns")
        with program_guard(loss.block.program, startup_program or default_startup_program()):
            listed = self.parameter_list if parameter_list is None else parameter_list
            return append_backward(loss, listed, no_grad_set, checkpoints=self._checkpoints)

    def apply_gradients(self, params_grads: ParamsGrads) -> list[Operator]:
        """The inner optimizer's."""
        return self._optimizer.apply_gradients(params_grads)

    def apply_optimize(
        self, loss: Variable, startup_program: Program | None, params_grads: ParamsGrads
    ) -> list[Operator]:
        """The inner optimizer's."""
        return self._optimizer.apply_optimize(loss, startup_program, params_grads)

    def minimize(  # type: ignore[override]
        self,
        loss: Variable,
        startup_program: Program | None = None,
        parameter_list: Sequence[NameOrVariable] | None = None,
        no_grad_set: Iterable[NameOrVariable] | None = None,
    ) -> tuple[list[Operator], ParamsGrads]:
        """Record gradients and updates, as the inner optimizer does."""
        params_grads = self.backward(loss, startup_program, parameter_list, no_grad_set)
        return self.apply_optimize(loss, startup_program, params_grads), params_grads


class PipelineOptimizer:
    """An optimizer for a program that fluid cuts over several devices: on one device the program stays whole.

    A step is the inner optimizer's, on the whole batch. Sections that run ahead of each other, as fluid's do between
    two points of ``sync_steps``, would compute with older parameters.

    Args:
        optimizer: Updates the parameters.
        cut_list, place_list, concurrency_list, queue_size, sync_steps, start_cpu_core_id: fluid's; without effect.

    Warns:
        UserWarning: The program is not cut.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        cut_list: object = None,
        place_list: object = None,
        concurrency_list: object = None,
        queue_size: int = 30,
        sync_steps: int = 1,
        start_cpu_core_id: int = 0,
    ) -> None:
        del cut_list, place_list, concurrency_list, queue_size, sync_steps, start_cpu_core_id
        self._optimizer = _inner("PipelineOptimizer", optimizer)
        warn(f"PipelineOptimizer: there is one device, and the program is not cut; it trains as {optimizer.type} does")

    def minimize(
        self,
        loss: Variable,
        startup_program: Program | None = None,
        parameter_list: Sequence[NameOrVariable] | None = None,
        no_grad_set: Iterable[NameOrVariable] | None = None,
    ) -> tuple[list[Operator], ParamsGrads]:
        """Record gradients and updates, as the inner optimizer does."""
        return self._optimizer.minimize(loss, startup_program, parameter_list, no_grad_set)
