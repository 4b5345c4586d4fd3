"""``fluid.contrib.extend_with_decoupled_weight_decay``: AdamW and its like (Loshchilov and Hutter, ICLR 2019)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..backward import NameOrVariable
from ..clip import ParamsGrads
from ..errors import wrong_type
from ..framework import Operator, OpRole, Program, default_startup_program, name_scope, program_guard
from ..layers.math import elementwise_sub
from ..layers.tensor import assign
from ..optimizer_base import Optimizer
from ..variable import Parameter, Variable


def extend_with_decoupled_weight_decay(base_optimizer: type[Optimizer]) -> type[Any]:
    """A class of optimizers that subtract ``weight_decay * parameter`` from each parameter before their own update.

        AdamW = fluid.contrib.extend_with_decoupled_weight_decay(fluid.optimizer.Adam)
        AdamW(learning_rate=0.001, weight_decay=0.01).minimize(loss)

    The decay is not scaled by the learning rate. The constructor takes ``weight_decay`` (a float or a Variable),
    ``apply_decay_param_fun`` (a function of a parameter's name that says whether it decays), and the arguments of
    ``base_optimizer`` by their names.

    Raises ArgumentTypeError for what is no class of optimizers.
    """
    if not (isinstance(base_optimizer, type) and issubclass(base_optimizer, Optimizer)):
        raise wrong_type(
            f"extend_with_decoupled_weight_decay: {base_optimizer!r} is no class of optimizers",
            "give the class itself, such as fluid.optimizer.Adam",
        )

    class OptimizerWithDecoupledWeightDecay(base_optimizer):  # type: ignore[misc, valid-type]
        """``base_optimizer`` with decay apart from the gradient."""

        def __init__(
            self,
            weight_decay: float | Variable,
            apply_decay_param_fun: Callable[[str], bool] | None = None,
            **kwargs: Any,
        ) -> None:
            if isinstance(weight_decay, bool) or not isinstance(weight_decay, float | Variable):
                raise wrong_type(f"weight_decay is {weight_decay!r}", "give a float, such as 0.01, or a Variable")
            super().__init__(**kwargs)
            self.type = base_optimizer.__name__.removesuffix("Optimizer")
            self._weight_decay = weight_decay
            self._decays = apply_decay_param_fun

        def minimize(  # type: ignore[override]
            self,
            loss: Variable,
            startup_program: Program | None = None,
            parameter_list: Sequence[NameOrVariable] | None = None,
            no_grad_set: Iterable[NameOrVariable] | None = None,
        ) -> tuple[list[Operator], ParamsGrads]:
            """Record gradients, decay and updates."""
            params_grads = self.backward(loss, startup_program, parameter_list, no_grad_set)
            with program_guard(loss.block.program, startup_program or default_startup_program()):
                self._decay([param for param, _ in params_grads])
            return self.apply_optimize(loss, startup_program, params_grads), params_grads

        def _decay(self, params: Sequence[Parameter]) -> None:
            if isinstance(self._weight_decay, float) and self._weight_decay == 0.0:
                return
            for param in params:
                if self._decays is None or self._decays(param.name):
                    with param.block.program.role(OpRole.OPTIMIZE), name_scope("weight decay"):
                        assign(elementwise_sub(param, param * self._weight_decay), param)

        def __str__(self) -> str:
            return f"{self.type} with decoupled weight decay {self._weight_decay}"

    return OptimizerWithDecoupledWeightDecay
