"""What the layers with parameters share: creating what they need, adding a bias."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import invalid
from ...initializer import Initializer
from ...param_attr import ParamAttrLike
from ...variable import Parameter, Variable
from ..layers import Layer


def count(layer: Layer, argument: str, value: object) -> int:
    """A size that a constructor was given: a positive integer."""
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise invalid(f"{type(layer).__name__}: {argument} is {value!r}", "give a positive integer")
    return value


def needed(
    layer: Layer,
    argument: str,
    attr: ParamAttrLike,
    shape: Sequence[int],
    *,
    is_bias: bool = False,
    default: Initializer | None = None,
) -> Parameter:
    """A new parameter of the layer's type that it cannot do without: its ``argument`` must not be False."""
    parameter = layer.create_parameter(shape, attr, layer._dtype, is_bias, default)
    if parameter is None:
        raise invalid(
            f"{type(layer).__name__}: {argument} is False",
            "the layer needs this parameter; freeze it with fluid.ParamAttr(trainable=False)",
        )
    return parameter


def with_bias(layer: Layer, x: Variable, bias: Parameter | None, axis: int, act: str | None) -> Variable:
    """``act(x + bias)``, the bias along x's axes from ``axis`` on; either may be None."""
    out = x if bias is None else layer._helper.elementwise("elementwise_add", x, bias, axis)
    return layer._helper.activate(out, act)
