"""What every layer needs: its name, its parameters and its temporaries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from . import unique_name
from .api import similar
from .errors import invalid, wrong_type
from .framework import (
    Arguments,
    AttrValue,
    Block,
    Operator,
    Program,
    default_main_program,
    default_startup_program,
)
from .initializer import ConstantInitializer, Initializer, XavierInitializer
from .param_attr import ParamAttr, ParamAttrLike, to_param_attr
from .shapes import broadcast_shape
from .source import user_location
from .variable import Parameter, Variable
from .vartype import DTypeLike, VarType

_PLAIN = (
    "relu sigmoid logsigmoid tanh tanh_shrink sqrt rsqrt abs ceil floor cos sin acos asin atan round reciprocal "
    "square softplus softsign exp log sign erf"
)
# The activations that `act=` may name, with the attributes they then have.
ACTIVATIONS: dict[str, dict[str, AttrValue]] = {
    **{name: {} for name in _PLAIN.split()},
    "brelu": {"t_min": 0.0, "t_max": 24.0},
    "elu": {"alpha": 1.0},
    "gelu": {"approximate": False},
    "hard_shrink": {"threshold": 0.5},
    "hard_sigmoid": {"slope": 0.2, "offset": 0.5},
    "hard_swish": {"threshold": 6.0, "scale": 6.0, "offset": 3.0},
    "leaky_relu": {"alpha": 0.02},
    "relu6": {"threshold": 6.0},
    "selu": {"scale": 1.0507009873554805, "alpha": 1.6732632423543772},
    "soft_relu": {"threshold": 40.0},
    "softmax": {"axis": -1},
    "softshrink": {"lambda": 0.5},
    "stanh": {"scale_a": 0.67, "scale_b": 1.7159},
    "swish": {"beta": 1.0},
    "thresholded_relu": {"threshold": 1.0},
}


class LayerHelper:
    """Records one layer call into the default programs.

    Args:
        layer_type: Fluid's name for the layer; the layer is called ``layer_type_0``, ``_1``, ...
        name: The user's own name, used as it is; two layers of one name count on (``f.w_0``, ``f.w_1``).
    """

    def __init__(self, layer_type: str, name: str | None = None) -> None:
        if name is not None and not isinstance(name, str):
            raise wrong_type(f"{layer_type}: name is {name!r}", "give a string or None")
        self.layer_type = layer_type
        self.name = unique_name.generate(layer_type) if name is None else name

    @property
    def main_program(self) -> Program:
        return default_main_program()

    @property
    def startup_program(self) -> Program:
        return default_startup_program()

    @property
    def block(self) -> Block:
        return self.main_program.current_block()

    def op(
        self,
        type: str,
        inputs: Arguments | None = None,
        outputs: Arguments | None = None,
        attrs: Mapping[str, AttrValue] | None = None,
    ) -> Operator:
        """Append an op to the block being built; where its results keep the rows of its first operand, they have its
        sequences too."""
        if type in KEEPS_SEQUENCES and inputs:
            _share_sequences(next(iter(inputs.values())), outputs or {})
        return self.block.append_op(type, inputs, outputs, attrs)

    def temporary(
        self,
        dtype: DTypeLike,
        shape: Iterable[int],
        *,
        lod_level: int = 0,
        stop_gradient: bool = False,
        named: bool = True,
    ) -> Variable:
        """A fresh variable for a result; ``named=False`` for the few that fluid calls ``_generated_var_0``."""
        block = self.block
        # Calls in eager mode have no end, and a counter for each would have none either.
        of = self.layer_type if block.program.is_eager else self.name
        return block.create_var(
            name=unique_name.generate(of + ".tmp") if named else None,
            dtype=dtype,
            shape=shape,
            lod_level=lod_level,
            stop_gradient=stop_gradient,
        )

    def x_shape(self, x: Variable) -> Variable:
        """The extra result in which fluid's shape ops keep their input's shape for the backward pass."""
        return self.temporary(x.dtype, (0, *x.shape), lod_level=x.lod_level)

    def parameter(
        self,
        attr: ParamAttrLike,
        shape: Sequence[int],
        dtype: DTypeLike,
        *,
        is_bias: bool = False,
        default: Initializer | None = None,
        stop_gradient: bool = False,
    ) -> Parameter | None:
        """Create (or share) a parameter in both default programs; None when ``attr`` is False."""
        attr = to_param_attr(attr)
        if attr is None:
            return None
        return self.wanted_parameter(attr, shape, dtype, is_bias=is_bias, default=default, stop_gradient=stop_gradient)

    def wanted_parameter(
        self,
        attr: ParamAttr,
        shape: Sequence[int],
        dtype: DTypeLike,
        *,
        is_bias: bool = False,
        default: Initializer | None = None,
        stop_gradient: bool = False,
    ) -> Parameter:
        """`parameter` for an attribute that cannot be False."""
        if any(extent <= 0 for extent in shape):
            raise invalid(
                f"{self.layer_type}: the parameter would have shape {list(shape)}",
                "all extents but the batch must be known: give the data its full shape",
            )
        name = attr.name or unique_name.generate(f"{self.name}.{'b' if is_bias else 'w'}")
        attr = replace(attr, name=name)
        initializer = attr.initializer or default
        if initializer is None:
            initializer = ConstantInitializer(0.0) if is_bias else XavierInitializer()
        options = {
            "trainable": attr.trainable,
            "learning_rate": attr.learning_rate,
            "regularizer": attr.regularizer,
            "do_model_average": attr.do_model_average,
        }
        block = self.main_program.global_block()
        return block.initialised_parameter(shape, dtype, name, initializer, stop_gradient=stop_gradient, **options)

    def initialised_variable(
        self,
        name: str,
        shape: Sequence[int],
        dtype: DTypeLike,
        initializer: Initializer,
        *,
        persistable: bool = True,
        stop_gradient: bool = False,
    ) -> Variable:
        """A global variable that the startup program fills; not trained."""
        return self.main_program.global_block().initialised_variable(
            name, shape, dtype, initializer, persistable=persistable, stop_gradient=stop_gradient
        )

    def add_bias(self, x: Variable, bias_attr: ParamAttrLike, dim_start: int = 1) -> Variable:
        """``x`` plus a bias over x's axes from ``dim_start`` on; x itself when ``bias_attr`` is False."""
        size = list(x.shape[dim_start:])
        bias = self.parameter(bias_attr, size, x.dtype, is_bias=True)
        return x if bias is None else self.elementwise("elementwise_add", x, bias, dim_start)

    def add_channel_bias(self, x: Variable, bias_attr: ParamAttrLike, channel_axis: int) -> Variable:
        """``x`` plus one number per channel."""
        bias = self.parameter(bias_attr, [x.shape[channel_axis]], x.dtype, is_bias=True)
        return x if bias is None else self.elementwise("elementwise_add", x, bias, channel_axis)

    def elementwise(self, op: str, x: Variable, y: Variable, axis: int = -1) -> Variable:
        """One elementwise op into a fresh temporary."""
        out = self.temporary(x.dtype, broadcast_shape(op, x, y, axis), lod_level=x.lod_level)
        self.op(op, {"X": [x], "Y": [y]}, {"Out": [out]}, {"axis": axis})
        return out

    def activate(self, x: Variable, act: str | None) -> Variable:
        """``x`` through the activation that the user named, or ``x``."""
        if act is None:
            return x
        if act not in ACTIVATIONS:
            near = similar(str(act), ACTIVATIONS)
            meant = f"; did you mean {near!r}?" if near else ""
            raise invalid(
                f"{self.layer_type}: unknown activation {act!r}{meant}",
                "use the name of an activation layer, such as 'relu', 'tanh' or 'softmax'",
            )
        out = self.temporary(x.dtype, x.shape, lod_level=x.lod_level)
        self.op(act, {"X": [x]}, {"Out": [out]}, ACTIVATIONS[act])
        return out

    def check_dtype(self, argument: str, x: Variable, allowed: Sequence[VarType]) -> None:
        """Refuse ``x`` unless it is a Variable of one of the element types."""
        check_variable(self.layer_type, argument, x)
        if x.dtype not in allowed:
            names = " or ".join(d.numpy.name for d in allowed)
            # Fluid's names for some ops (top_k, cross_entropy2) are not what the user wrote.
            layer = user_location().layer or self.layer_type
            raise wrong_type(
                f"{layer}: {argument} {x.name} holds {x.dtype.numpy.name}, but must hold {names}",
                f"declare it with that dtype, or convert it: fluid.layers.cast(x, '{allowed[0].numpy.name}')",
            )


_KEEPING = """
reduce_sum reduce_mean reduce_max reduce_min reduce_prod reduce_all reduce_any reshape2 squeeze2 unsqueeze2 slice split
stack expand argsort batch_norm pad label_smooth fill_zeros_like fill_any_like bilinear_tensor_product group_norm
logical_and logical_or logical_xor logical_not conv2d depthwise_conv2d pool2d
"""
KEEPS_SEQUENCES = frozenset(_KEEPING.split())
"""Ops whose results have the sequences of their first operand, as long as they have its rows."""


def _share_sequences(operands: Sequence[Variable] | Variable, outputs: Arguments) -> None:
    first = _listed(operands)[:1]
    level = first[0].lod_level if first else 0
    for out in (out for results in outputs.values() for out in _listed(results)) if level else ():
        if not out.lod_level and tuple(out.shape)[:1] == (-1,):
            out.lod_level = level


def _listed(variables: Sequence[Variable] | Variable) -> Sequence[Variable]:
    return [variables] if isinstance(variables, Variable) else variables


def check_variable(layer: str, argument: str, x: object) -> None:
    """Refuse anything that is not a Variable."""
    if not isinstance(x, Variable):
        raise wrong_type(
            f"{layer}: {argument} is {type(x).__name__}, not a Variable",
            "pass what fluid.layers.data or a layer returned",
        )
