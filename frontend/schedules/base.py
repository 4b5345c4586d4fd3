"""What all learning rates of dygraph share: the number of the step, and the state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from .. import unique_name
from ..errors import invalid, warn, wrong_type
from ..framework import default_main_program, in_dygraph_mode
from ..variable import Variable
from .numbers import count_of, float_type


class LearningRateDecay:
    """Base: a learning rate that follows the number of the step.

    A subclass says in `step` what the rate is while ``step_num`` has its present value; calling the schedule gives
    that rate and moves on.  An optimizer calls it once in each ``minimize``.

    Args:
        begin: ``step_num`` of the first step.
        step: What each call adds to it.
        dtype: Element type of the rate, float32 or float64.
    """

    state_keys: ClassVar[tuple[str, ...]] = ("step_num",)
    """Attributes that `state_dict` holds."""
    counts_steps: ClassVar[bool] = True
    """Whether an optimizer's state has a ``global_step`` of this schedule."""

    def __init__(self, begin: int = 0, step: int = 1, dtype: str = "float32") -> None:
        self.step_num = begin
        self.step_size = step
        self.dtype = float_type(type(self).__name__, dtype)

    @property
    def follows_loss(self) -> bool:
        """Whether the rate is chosen by a loss, which is private under Dpsgd."""
        return False

    def step(self) -> float | Variable:
        """The rate while ``step_num`` is what it is; asking changes nothing."""
        raise NotImplementedError(f"{type(self).__name__} does not say its rate: define step()")

    def rate(self) -> float | Variable:
        """The rate of this step; asking changes nothing."""
        return self.step()

    def advance(self) -> None:
        """Move on to the next step."""
        self.step_num += self.step_size

    def __call__(self) -> Variable:
        """The rate of this step, of shape [1]; the next call belongs to the next step."""
        rate = self.rate()
        self.advance()
        return rate if isinstance(rate, Variable) else self.create_lr_var(rate)

    def create_lr_var(self, lr: float) -> Variable:
        """A number as a Variable of shape [1]; ProgramError outside dygraph."""
        if not in_dygraph_mode():
            raise invalid(
                f"{type(self).__name__} is called outside dygraph", "write: with fluid.dygraph.guard(): around the call"
            )
        block = default_main_program().current_block()
        rate = block.create_var(
            name=unique_name.generate("learning_rate"), shape=[1], dtype=self.dtype, stop_gradient=True
        )
        # A constant that is given, not computed: other numbers are the same code.
        attrs = {"dtype": rate.dtype, "shape": [1], "values": np.array([lr], self.dtype)}
        block.append_op("assign_value", {}, {"Out": [rate]}, attrs)
        return rate

    def state_dict(self) -> dict[str, Any]:
        """What `set_dict` needs to go on from here."""
        return {key: getattr(self, key) for key in self.state_keys}

    def set_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a state; nothing changes if it does not fit.

        Raises:
            ProgramError: A value is missing.
            ArgumentTypeError: A value of another type.

        Warns:
            UserWarning: It holds more than this schedule has, as another schedule's state does.
        """
        self.restore(self.checked(state_dict))

    def checked(self, state_dict: object) -> dict[str, Any]:
        """The values of a state, converted; raises what `set_dict` raises."""
        owner = type(self).__name__
        if not isinstance(state_dict, Mapping):
            raise wrong_type(
                f"{owner}.set_dict: the state is {type(state_dict).__name__}", "give what state_dict() gave"
            )
        missing = [key for key in self.state_keys if key not in state_dict]
        if missing:
            raise invalid(
                f"{owner}.set_dict: the state has no {missing[0]}, but {', '.join(map(str, state_dict)) or 'nothing'}",
                "a state fits the kind of schedule that it was taken from",
            )
        unused = [str(key) for key in state_dict if key not in self.state_keys]
        if unused:
            warn(
                f"{owner}.set_dict: the state also holds {', '.join(unused)}, which is not used; "
                "it was taken from another kind of schedule"
            )
        return {key: self._converted(key, state_dict[key]) for key in self.state_keys}

    def restore(self, values: Mapping[str, Any]) -> None:
        """Take over what `checked` gave."""
        for key, value in values.items():
            setattr(self, key, value)

    def _converted(self, key: str, value: object) -> Any:
        """A value of the state as the attribute holds it: a count, unless a subclass knows better."""
        return count_of(type(self).__name__, f"{key} of the state", value)
