"""``fluid.contrib.mixed_precision``: scripts that ask for half precision train in float32."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...compiler.errors import PrivacyError
from .. import unique_name
from ..backward import NameOrVariable
from ..clip import ParamsGrads
from ..dpsgd import Dpsgd
from ..errors import unsupported, warn, wrong_type
from ..framework import Operator, Program, in_dygraph_mode
from ..layers.tensor import create_global_var
from ..missing import MissingName, missing_name
from ..optimizer_base import Optimizer
from ..private_optimizer import DpOptimizer
from ..source import user_location
from ..variable import Variable


class AutoMixedPrecisionLists:
    """fluid's choice of op types for half precision; without effect, as nothing is computed in it."""

    def __init__(
        self,
        custom_white_list: Iterable[str] | None = None,
        custom_black_list: Iterable[str] | None = None,
        custom_black_varnames: Iterable[str] | None = None,
    ) -> None:
        del custom_white_list, custom_black_list, custom_black_varnames


class OptimizerWithMixedPrecision:
    """What `decorate` returns: the optimizer it was given, in float32, with a loss scale that is 1.

    Args:
        optimizer: Makes gradients and updates.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._scaled_loss: Variable | None = None
        name = unique_name.generate("loss_scaling")
        self._loss_scaling = create_global_var([1], 1.0, "float32", persistable=True, name=name)

    def get_loss_scaling(self) -> Variable:
        """The scale, of shape [1]: 1."""
        return self._loss_scaling

    def get_scaled_loss(self) -> Variable | None:
        """The loss, whose scale is 1; None before `backward`."""
        return self._scaled_loss

    def backward(
        self,
        loss: Variable,
        startup_program: Program | None = None,
        parameter_list: Sequence[NameOrVariable] | None = None,
        no_grad_set: Iterable[NameOrVariable] | None = None,
        callbacks: Sequence[object] | None = None,
    ) -> ParamsGrads:
        """Ask for the gradients, as the inner optimizer does."""
        self._scaled_loss = loss
        return self._optimizer.backward(loss, startup_program, parameter_list, no_grad_set, callbacks)

    def apply_gradients(self, scaled_params_grads: ParamsGrads) -> list[Operator]:
        """Record the inner optimizer's updates."""
        return self._optimizer.apply_gradients(scaled_params_grads)

    def minimize(
        self,
        loss: Variable,
        startup_program: Program | None = None,
        parameter_list: Sequence[NameOrVariable] | None = None,
        no_grad_set: Iterable[NameOrVariable] | None = None,
    ) -> tuple[list[Operator], ParamsGrads]:
        """Record gradients and updates, as the inner optimizer does."""
        self._scaled_loss = loss
        return self._optimizer.minimize(loss, startup_program, parameter_list, no_grad_set)


def decorate(
    optimizer: Optimizer,
    amp_lists: AutoMixedPrecisionLists | None = None,
    init_loss_scaling: float = 32768,
    incr_every_n_steps: int = 1000,
    decr_every_n_nan_or_inf: int = 2,
    incr_ratio: float = 2.0,
    decr_ratio: float = 0.8,
    use_dynamic_loss_scaling: bool = True,
) -> OptimizerWithMixedPrecision:
    """The optimizer, training in float32: no scale is needed there, and the other arguments have no effect.

    Raises:
        PrivacyError: ``optimizer`` is a `Dpsgd` or `DpOptimizer`, and ``use_dynamic_loss_scaling`` is set.
        UnsupportedError: In dygraph.
        ProgramError: It is no optimizer.

    Warns:
        UserWarning: Nothing is computed in half precision.
    """
    del amp_lists, init_loss_scaling, incr_every_n_steps, decr_every_n_nan_or_inf, incr_ratio, decr_ratio
    if in_dygraph_mode():
        raise unsupported("mixed_precision.decorate is for Programs", "use the optimizer as it is in dygraph")
    if not isinstance(optimizer, Optimizer):
        raise wrong_type(
            f"mixed_precision.decorate: the optimizer is {type(optimizer).__name__}", "give one, such as SGD(0.1)"
        )
    if isinstance(optimizer, Dpsgd | DpOptimizer) and use_dynamic_loss_scaling:
        raise PrivacyError(
            "mixed_precision.decorate: a dynamic loss scale follows overflows in the gradients of the whole batch, "
            "and keeping it from step to step publishes them",
            where=user_location().place,
            hint="train Dpsgd in float32, as it is; or give use_dynamic_loss_scaling=False",
        )
    warn(
        "mixed_precision.decorate: the program trains in float32, without a loss scale; steps whose gradients are not "
        "finite are not left out"
    )
    return OptimizerWithMixedPrecision(optimizer)


def __getattr__(name: str) -> MissingName:
    return missing_name("fluid.contrib.mixed_precision", name, {}, "programs train in float32")


__all__ = ["AutoMixedPrecisionLists", "decorate"]
