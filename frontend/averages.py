"""Averages of parameters over the steps of training: `ExponentialMovingAverage` and `ModelAverage`.

Both keep sums beside the parameters, put the average in the parameters' place for evaluation, and put them back. They
compute on values that a step has released, so that under `Dpsgd` they cost no privacy.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import numpy as np

from . import unique_name
from .errors import invalid, unsupported, warn, wrong_type
from .framework import Block, OpRole, Program, default_main_program, in_dygraph_mode, name_scope, program_guard
from .initializer import ConstantInitializer
from .layer_helper import LayerHelper
from .layers.control_flow import Switch
from .layers.math import elementwise_div, elementwise_pow, sums
from .layers.tensor import assign, autoincreased_step_counter, cast, create_global_var
from .variable import Parameter, Variable
from .vartype import VarType

if TYPE_CHECKING:
    from .regularizer import WeightDecayRegularizer


class _Executor(Protocol):
    """Runs programs: `fluid.Executor`."""

    def run(self, program: Program) -> object: ...


def clone_variable(block: Block, var: Variable) -> Variable:
    """The variable of the same name in another program, which keeps it in the scope."""
    return block.create_var(name=var.name, shape=var.shape, dtype=var.dtype, persistable=True, stop_gradient=True)


def _averaged_parameters(owner: str) -> list[Parameter]:
    """The parameters of the default main program that are not excluded (``ParamAttr(do_model_average=False)``)."""
    if in_dygraph_mode():
        raise unsupported(f"{owner} is for Programs", "average model.state_dict() of several steps yourself")
    program = default_main_program()
    params = [p for p in program.global_block().all_parameters() if p.do_model_average is not False]
    if not params:
        raise invalid(
            f"{owner}: the default main program has no parameters",
            "make it after the layers and minimize(), inside the same program_guard",
        )
    return params


class _Average:
    """What puts an average in the place of the parameters, and the parameters back."""

    def __init__(self) -> None:
        self.apply_program = Program()
        self.restore_program = Program()

    def _record_restore(self, kept: list[tuple[Parameter, Variable]]) -> None:
        block = self.restore_program.global_block()
        with program_guard(self.restore_program):
            for param, backup in kept:
                assign(clone_variable(block, backup), clone_variable(block, param))

    @contextlib.contextmanager
    def apply(self, executor: _Executor, need_restore: bool = True) -> Iterator[None]:
        """Have the parameters be their averages inside the ``with`` block.

        Args:
            executor: Runs the change.
            need_restore: False leaves the averages; `restore` puts the parameters back later.
        """
        executor.run(self.apply_program)
        try:
            yield
        finally:
            if need_restore:
                self.restore(executor)

    def restore(self, executor: _Executor) -> None:
        """Put back the parameters that `apply` replaced."""
        executor.run(self.restore_program)


class ExponentialMovingAverage(_Average):
    """``ema = decay * ema + (1 - decay) * parameter`` after every step; applied, it is divided by ``1 - decay^steps``.

        optimizer.minimize(loss)
        ema = fluid.optimizer.ExponentialMovingAverage(0.999)
        ema.update()
        ...
        with ema.apply(exe):
            exe.run(test_program, ...)

    As in Paddle 1.8.5, `apply` leaves the division in the averages: applying twice in one training divides twice.

    Args:
        decay: Share that the average keeps.
        thres_steps: A counter of shape [1]; the decay is then at most ``(1 + thres_steps) / (10 + thres_steps)``. Cast
            it to float32: as in Paddle 1.8.5 an integer one has no effect, since the fraction is 0 in integers.
        name: Prefix of the averages' names.

    Raises:
        ProgramError: The default main program has no parameters.
        UnsupportedError: In dygraph.

    Warns:
        UserWarning: ``thres_steps`` holds integers.
    """

    _COUNTER = "@EMA_STEP_COUNTER@"

    def __init__(self, decay: float = 0.999, thres_steps: Variable | None = None, name: str | None = None) -> None:
        super().__init__()
        params = _averaged_parameters("ExponentialMovingAverage")
        if thres_steps is not None and not isinstance(thres_steps, Variable):
            raise wrong_type(
                f"ExponentialMovingAverage: thres_steps is {type(thres_steps).__name__}",
                "give a counter, such as fluid.layers.autoincreased_step_counter()",
            )
        self._decay = float(decay)
        self._name = name or ""
        self._decay_var = self._scheduled(thres_steps)
        self._kept: list[tuple[Parameter, Variable]] = []
        for param in params:
            backup = param.block.create_var(
                name=unique_name.generate(f"{self._name}{param.name}.ema_tmp"),
                shape=param.shape,
                dtype=param.dtype,
                stop_gradient=True,
            )
            self._kept.append((param, backup))
        self._averages: dict[str, Variable] = {}
        for param in params:
            with param.block.program.role(OpRole.OPTIMIZE), name_scope("moving_average"):
                self._averages[param.name] = create_global_var(
                    name=unique_name.generate(f"{self._name}{param.name}_ema"),
                    shape=param.shape,
                    value=0.0,
                    dtype=param.dtype,
                    persistable=True,
                )
        self._record_apply()
        self._record_restore(self._kept)

    def _scheduled(self, thres_steps: Variable | None) -> Variable:
        with default_main_program().role(OpRole.LR_SCHED):
            decay = create_global_var([1], self._decay, "float32", persistable=True, name="scheduled_ema_decay_rate")
            if thres_steps is not None and not thres_steps.dtype.is_float:
                warn(
                    f"ExponentialMovingAverage: thres_steps holds {thres_steps.dtype.numpy.name}, so that the decay "
                    f"stays {self._decay:g} as in Paddle 1.8.5; a schedule needs fluid.layers.cast(counter, 'float32')"
                )
            elif thres_steps is not None:
                limit = (thres_steps + 1.0) / (thres_steps + 10.0)
                with Switch() as switch:
                    with switch.case(limit < self._decay):
                        assign(limit, decay)
                    with switch.default():
                        assign(np.array([self._decay], np.float32), decay)
        return decay

    def _record_apply(self) -> None:
        block = self.apply_program.global_block()
        with program_guard(self.apply_program):
            steps = create_global_var([1], 0, "int64", persistable=True, name=self._COUNTER)
            steps = cast(steps, "float32")
            power = elementwise_pow(clone_variable(block, self._decay_var), steps)
            for each, backup in self._kept:
                param, average = clone_variable(block, each), clone_variable(block, self._averages[each.name])
                assign(param, clone_variable(block, backup))
                with Switch() as switch, switch.case(steps > 0):
                    assign(average / (1.0 - power), average)
                assign(average, param)

    def update(self) -> None:
        """Record the update of the averages in the default main program; call it once, after ``minimize``."""
        program = default_main_program()
        # Under this role a test clone leaves the update out, its counter included.
        with program.role(OpRole.OPTIMIZE):
            autoincreased_step_counter(self._COUNTER)
            for param, _ in self._kept:
                with name_scope("moving_average"):
                    average = self._averages[param.name]
                    assign(average * self._decay_var + param * (1 - self._decay_var), average)


class ModelAverage(_Average):
    """The mean of each parameter over a window of steps.

    Made after ``minimize``, inside the same ``program_guard``. The window is closed, and its sum kept while the next
    one grows, when it holds ``min_average_window`` steps or more, and as many as ``max_average_window`` or
    ``average_window_rate`` times the steps so far, whichever is less. The average is over both.

    Args:
        average_window_rate: See above.
        min_average_window, max_average_window: In steps.
        regularization: fluid's; there is no gradient for it to be added to.
        name: Prefix of the accumulators' names.

    Raises:
        ProgramError: The default main program has no parameters.
        UnsupportedError: In dygraph.
    """

    _SUMS = ("sum_1", "sum_2", "sum_3")
    _COUNTS = ("num_accumulates", "old_num_accumulates", "num_updates")

    def __init__(
        self,
        average_window_rate: float,
        min_average_window: int = 10000,
        max_average_window: int = 10000,
        regularization: WeightDecayRegularizer | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__()
        del regularization
        self.average_window = float(average_window_rate)
        self.min_average_window = int(min_average_window)
        self.max_average_window = int(max_average_window)
        self._name = name
        params = _averaged_parameters("ModelAverage")
        kept = [
            (
                param,
                param.block.create_var(
                    name=unique_name.generate(f"{param.name}.tmp"),
                    shape=param.shape,
                    dtype=param.dtype,
                    stop_gradient=True,
                ),
            )
            for param in params
        ]
        accumulators: dict[str, dict[str, Variable]] = {}
        for param in params:
            with param.block.program.role(OpRole.OPTIMIZE), name_scope("move_average"):
                accumulators[param.name] = self._accumulate(param)
        self._record_apply(kept, accumulators)
        self._record_restore(kept)

    def _accumulate(self, param: Parameter) -> dict[str, Variable]:
        helper = LayerHelper("average_accumulate")
        found: dict[str, Variable] = {}
        for kind in (*self._SUMS, *self._COUNTS):
            counts = kind in self._COUNTS
            full = kind if self._name is None else f"{self._name}_{kind}"
            found[kind] = helper.initialised_variable(
                unique_name.generate(f"{param.name}_{full}"),
                [1] if counts else param.shape,
                VarType.INT64 if counts else param.dtype,
                ConstantInitializer(0.0),
            )
        param.block.append_op(
            "average_accumulates",
            {"param": [param], **{f"in_{kind}": [var] for kind, var in found.items()}},
            {f"out_{kind}": [var] for kind, var in found.items()},
            {
                "average_window": self.average_window,
                "min_average_window": self.min_average_window,
                "max_average_window": self.max_average_window,
            },
        )
        return found

    def _record_apply(
        self, kept: list[tuple[Parameter, Variable]], accumulators: dict[str, dict[str, Variable]]
    ) -> None:
        block = self.apply_program.global_block()
        with program_guard(self.apply_program):
            for each, backup in kept:
                param = clone_variable(block, each)
                held = {kind: clone_variable(block, var) for kind, var in accumulators[each.name].items()}
                assign(param, clone_variable(block, backup))
                steps = sums([held["num_accumulates"], held["old_num_accumulates"]])
                total = sums([held[kind] for kind in self._SUMS])
                assign(elementwise_div(cast(total, param.dtype), cast(steps, param.dtype)), param)


__all__ = ["ExponentialMovingAverage", "ModelAverage"]
