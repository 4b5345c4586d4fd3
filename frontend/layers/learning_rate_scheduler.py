"""Learning rates that follow the step: each schedule is a handful of ops on one shared counter.

The counter is incremented before anything reads it, so a schedule sees 0 in the first step (`noam_decay`: 1).  In
dygraph each function gives the object of `fluid.dygraph` that is the same schedule.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from ..errors import invalid
from ..framework import OpRole, default_main_program, in_dygraph_mode
from ..initializer import ConstantInitializer
from ..layer_helper import LayerHelper
from ..schedules import (
    CosineDecay,
    ExponentialDecay,
    InverseTimeDecay,
    LearningRateDecay,
    LinearLrWarmup,
    NaturalExpDecay,
    NoamDecay,
    PiecewiseDecay,
    PolynomialDecay,
)
from ..variable import Variable
from ..vartype import VarType
from . import ops
from .control_flow import Switch
from .math import elementwise_min
from .tensor import assign, autoincreased_step_counter, cast, fill_constant

Schedule: TypeAlias = Variable | LearningRateDecay
"""The rate of a step in a Program; in dygraph what has the rate of each step."""

_COUNTER = "@LR_DECAY_COUNTER@"


@contextlib.contextmanager
def _schedule() -> Iterator[None]:
    with default_main_program().role(OpRole.LR_SCHED):
        yield


def _decay_step_counter(begin: int = 0) -> Variable:
    """The number of this step as float32; the first schedule of a program decides where counting begins."""
    return cast(autoincreased_step_counter(_COUNTER, begin), VarType.FP32)


def _assigned(name: str, value: float) -> Variable:
    """A persistable learning rate that a Switch writes."""
    return LayerHelper("learning_rate").initialised_variable(
        name, [1], VarType.FP32, ConstantInitializer(value), stop_gradient=True
    )


def noam_decay(d_model: float, warmup_steps: float, learning_rate: float = 1.0) -> Schedule:
    """``lr * d_model**-0.5 * min(step**-0.5, step * warmup_steps**-1.5)`` (Vaswani et al., 2017)."""
    if in_dygraph_mode():
        return NoamDecay(d_model, warmup_steps, learning_rate=learning_rate)
    with _schedule():
        step = _decay_step_counter(1)
        falling = step**-0.5
        rising = warmup_steps**-1.5 * step
        return (learning_rate * d_model**-0.5) * elementwise_min(falling, rising)


def _decayed(decay_steps: float, staircase: bool) -> Variable:
    """``step / decay_steps``, rounded down if ``staircase``."""
    passed = _decay_step_counter() / float(decay_steps)
    return ops.floor(passed) if staircase else passed


def exponential_decay(learning_rate: float, decay_steps: float, decay_rate: float, staircase: bool = False) -> Schedule:
    """``lr * decay_rate ** (step / decay_steps)``."""
    if in_dygraph_mode():
        return ExponentialDecay(learning_rate, decay_steps, decay_rate, staircase)
    with _schedule():
        return learning_rate * (decay_rate ** _decayed(decay_steps, staircase))


def natural_exp_decay(learning_rate: float, decay_steps: float, decay_rate: float, staircase: bool = False) -> Schedule:
    """``lr * e ** (-decay_rate * step / decay_steps)``."""
    if in_dygraph_mode():
        return NaturalExpDecay(learning_rate, decay_steps, decay_rate, staircase)
    with _schedule():
        return learning_rate * ops.exp(-1.0 * decay_rate * _decayed(decay_steps, staircase))


def inverse_time_decay(
    learning_rate: float, decay_steps: float, decay_rate: float, staircase: bool = False
) -> Schedule:
    """``lr / (1 + decay_rate * step / decay_steps)``."""
    if in_dygraph_mode():
        return InverseTimeDecay(learning_rate, decay_steps, decay_rate, staircase)
    with _schedule():
        return learning_rate / (1 + decay_rate * _decayed(decay_steps, staircase))


def polynomial_decay(
    learning_rate: float,
    decay_steps: float,
    end_learning_rate: float = 0.0001,
    power: float = 1.0,
    cycle: bool = False,
) -> Schedule:
    """``(lr - end) * (1 - step / decay_steps) ** power + end``; with ``cycle`` the period grows instead of ending."""
    if in_dygraph_mode():
        return PolynomialDecay(learning_rate, decay_steps, end_learning_rate, power, cycle)
    with _schedule():
        step = _decay_step_counter()
        if cycle:
            periods = ops.ceil(step / float(decay_steps))
            zero = fill_constant([1], "float32", 0.0)
            one = fill_constant([1], "float32", 1.0)
            with Switch() as switch, switch.case(step == zero):
                assign(one, periods)
            fraction = step / (float(decay_steps) * periods)
        else:
            limit = fill_constant([1], "float32", float(decay_steps))
            fraction = elementwise_min(step, limit) / float(decay_steps)
        return (learning_rate - end_learning_rate) * ((1 - fraction) ** power) + end_learning_rate


def piecewise_decay(boundaries: Sequence[float], values: Sequence[float]) -> Schedule:
    """``values[i]`` up to (not including) step ``boundaries[i]``, the last value after that."""
    if in_dygraph_mode():
        return PiecewiseDecay(boundaries, values, 0)
    if len(values) - len(boundaries) != 1:
        raise invalid(
            f"piecewise_decay: {len(boundaries)} boundaries and {len(values)} values",
            "give one more value than boundaries",
        )
    with _schedule():
        step = _decay_step_counter()
        rate = _assigned("learning_rate", 0.0)
        with Switch() as switch:
            for boundary, value in zip(boundaries, values):
                limit = fill_constant([1], "float32", float(boundary), force_cpu=True)
                chosen = fill_constant([1], "float32", float(value))
                with switch.case(step < limit):
                    assign(chosen, rate)
            last = fill_constant([1], "float32", float(values[-1]))
            with switch.default():
                assign(last, rate)
        return rate


def cosine_decay(learning_rate: float, step_each_epoch: float, epochs: float) -> Schedule:
    """``lr / 2 * (cos(pi * epoch / epochs) + 1)`` for ``epoch = floor(step / step_each_epoch)``."""
    if in_dygraph_mode():
        return CosineDecay(learning_rate, step_each_epoch, epochs)
    with _schedule():
        epoch = ops.floor(_decay_step_counter() / float(step_each_epoch))
        return (learning_rate * 0.5) * (ops.cos(epoch * math.pi / float(epochs)) + 1)


def linear_lr_warmup(learning_rate: float | Schedule, warmup_steps: float, start_lr: float, end_lr: float) -> Schedule:
    """From ``start_lr`` to ``end_lr`` in ``warmup_steps`` steps, ``learning_rate`` after that."""
    if in_dygraph_mode():
        return LinearLrWarmup(learning_rate, warmup_steps, start_lr, end_lr)
    if isinstance(learning_rate, LearningRateDecay):
        raise invalid(
            f"linear_lr_warmup: {type(learning_rate).__name__} is a learning rate of dygraph, and this is a Program",
            "use fluid.layers.*_decay inside the Program, or build the schedule inside fluid.dygraph.guard()",
        )
    if not end_lr > start_lr:
        raise invalid(f"linear_lr_warmup: end_lr {end_lr} is not above start_lr {start_lr}", "warm up upwards")
    with _schedule():
        rate = _assigned("learning_rate_warmup", 0.0)
        step = _decay_step_counter()
        with Switch() as switch:
            with switch.case(step < warmup_steps):
                assign(start_lr + (end_lr - start_lr) * (step / float(warmup_steps)), rate)
            with switch.default():
                after = learning_rate
                if not isinstance(after, Variable):
                    after = fill_constant([1], "float32", float(after))
                assign(after, rate)
        return rate
