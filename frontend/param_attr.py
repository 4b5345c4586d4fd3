"""Options of a parameter that a layer creates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from .errors import unsupported, wrong_type
from .initializer import Initializer
from .regularizer import WeightDecayRegularizer


@dataclass
class ParamAttr:
    """Name, initial value and training options of a parameter.

    Args:
        name: Two layers that give the same name share the parameter; None makes a fresh name.
        initializer: None uses the layer's own default.
        learning_rate: Factor on the optimizer's learning rate.
        regularizer: Takes the place of the optimizer's regularization.
        trainable: False freezes the parameter.
        do_model_average: Whether `ModelAverage` covers it.
    """

    name: str | None = None
    initializer: Initializer | None = None
    learning_rate: float = 1.0
    regularizer: WeightDecayRegularizer | None = None
    trainable: bool = True
    do_model_average: bool = True

    def __post_init__(self) -> None:
        if self.name == "":
            raise wrong_type("ParamAttr: the name is empty", "leave it out for a fresh name")
        if not (self.name is None or isinstance(self.name, str)):
            raise wrong_type(f"ParamAttr: the name is {self.name!r}", "give a string")
        if self.initializer is not None and not isinstance(self.initializer, Initializer):
            raise wrong_type(
                f"ParamAttr: initializer is {type(self.initializer).__name__}",
                "give an instance from fluid.initializer, such as Constant(0.0)",
            )


class WeightNormParamAttr(ParamAttr):
    """Weight normalisation; not available."""

    always_refused = True

    def __init__(
        self,
        dim: int | None = None,
        name: str | None = None,
        initializer: Initializer | None = None,
        learning_rate: float = 1.0,
        regularizer: WeightDecayRegularizer | None = None,
        trainable: bool = True,
        do_model_average: bool = False,
    ) -> None:
        del dim, name, initializer, learning_rate, regularizer, trainable, do_model_average
        raise unsupported(
            "WeightNormParamAttr is not implemented",
            "divide the weight by its norm in the program: fluid.layers.l2_normalize",
        )


WantedAttrLike: TypeAlias = ParamAttr | Initializer | WeightDecayRegularizer | str | Literal[True] | None
ParamAttrLike: TypeAlias = WantedAttrLike | bool


def to_param_attr(arg: ParamAttrLike | Sequence[ParamAttrLike]) -> ParamAttr | None:
    """What a layer makes of its ``param_attr`` or ``bias_attr``: a name, an initializer, False (none), ..."""
    if arg is None or arg is True:
        return ParamAttr()
    if arg is False:
        return None
    if isinstance(arg, ParamAttr):
        return arg
    if isinstance(arg, str):
        return ParamAttr(name=arg)
    if isinstance(arg, Initializer):
        return ParamAttr(initializer=arg)
    if isinstance(arg, WeightDecayRegularizer):
        return ParamAttr(regularizer=arg)
    raise wrong_type(
        f"{type(arg).__name__} is not a parameter attribute",
        "give a fluid.ParamAttr, a name, an initializer, a regularizer, or False for no parameter",
    )
