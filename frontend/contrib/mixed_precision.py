"""``fluid.contrib.mixed_precision``: training in half precision, which fluidc does not have."""

from __future__ import annotations

from typing import NoReturn

from ...compiler.errors import PrivacyError
from ..dpsgd import Dpsgd
from ..errors import unsupported
from ..missing import MissingName, missing_name
from ..optimizer_base import Optimizer
from ..source import user_location


def decorate(
    optimizer: Optimizer,
    amp_lists: object = None,
    init_loss_scaling: float = 32768,
    incr_every_n_steps: int = 1000,
    decr_every_n_nan_or_inf: int = 2,
    incr_ratio: float = 2.0,
    decr_ratio: float = 0.8,
    use_dynamic_loss_scaling: bool = True,
) -> NoReturn:
    """Never returns: there is no mixed precision; under `Dpsgd` a dynamic loss scale could not be private either.

    Raises:
        PrivacyError: ``optimizer`` is a Dpsgd, and ``use_dynamic_loss_scaling`` is set.
        UnsupportedError: Otherwise.
    """
    del amp_lists, init_loss_scaling, incr_every_n_steps, decr_every_n_nan_or_inf, incr_ratio, decr_ratio
    if isinstance(optimizer, Dpsgd) and use_dynamic_loss_scaling:
        raise PrivacyError(
            "mixed_precision.decorate: a dynamic loss scale follows overflows in the gradients of the whole batch, "
            "and keeping it from step to step publishes them",
            where=user_location().place,
            hint="train Dpsgd in float32; where half precision comes, its loss scale is a constant",
        )
    raise unsupported(
        "mixed_precision.decorate is not implemented: programs train in float32", "use the optimizer as it is"
    )


decorate.always_refused = True  # type: ignore[attr-defined]


def __getattr__(name: str) -> MissingName:
    return missing_name("fluid.contrib.mixed_precision", name, {}, "programs train in float32")


__all__ = ["decorate"]
