"""What the layers with parameters share: creating what they need, adding a bias."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import invalid, wrong_type
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


def check_kind(layer: Layer, argument: str, x: object) -> None:
    """Refuse an input that is no Variable, or not of the element type of the layer's parameters."""
    if not isinstance(x, Variable):
        raise wrong_type(
            f"{type(layer).__name__}: {argument} is {type(x).__name__}, not a Variable",
            "turn an array into one: fluid.dygraph.to_variable(array)",
        )
    if x.dtype != layer._dtype:
        held, wanted = x.dtype.numpy.name, layer._dtype.numpy.name
        raise wrong_type(
            f"{type(layer).__name__}: {argument} {x.name} holds {held}, the layer's parameters hold {wanted}",
            f"convert it: x.astype('{wanted}'), or build the layer with dtype='{held}'",
        )


def check_shape(layer: Layer, argument: str, x: Variable, wanted: Sequence[int | None], *, more: bool = False) -> None:
    """Refuse an input of another shape than ``wanted``, where None is any extent; ``more``: further axes may follow."""
    shape = x.shape
    ends = len(shape) >= len(wanted) if more else len(shape) == len(wanted)
    if not ends or any(p is not None and p != q and q >= 0 for p, q in zip(wanted, shape)):
        named = ", ".join("any" if extent is None else str(extent) for extent in wanted)
        raise invalid(
            f"{type(layer).__name__}: {argument} {x.name} has shape {list(shape)}",
            f"the layer's parameters are for [{named}{', ...' if more else ''}]",
        )


def with_bias(layer: Layer, x: Variable, bias: Parameter | None, axis: int, act: str | None) -> Variable:
    """``act(x + bias)``, the bias along x's axes from ``axis`` on; either may be None."""
    out = x if bias is None else layer._helper.elementwise("elementwise_add", x, bias, axis)
    return layer._helper.activate(out, act)
