"""Cells of recurrent nets: one step each, for StaticRNN or an unrolled loop."""

from __future__ import annotations

from ..errors import invalid, wrong_type
from ..layer_helper import LayerHelper
from ..param_attr import ParamAttr, ParamAttrLike
from ..variable import Variable
from ..vartype import VarType
from .nn import fc
from .tensor import concat

_FLOATS = (VarType.FP32, VarType.FP64)
# How fluid numbers the activations of gru_unit.
GRU_ACTIVATIONS = {"identity": 0, "sigmoid": 1, "tanh": 2, "relu": 3}


def _check_rows(layer: str, given: dict[str, Variable]) -> None:
    """Refuse arguments that are not matrices with one number of rows."""
    (first, x), *rest = given.items()
    for name, value in given.items():
        if len(value.shape) != 2:
            raise invalid(
                f"{layer}: {name} {value.name} has shape {list(value.shape)}", "it holds one row per example: [N, D]"
            )
    for name, value in rest:
        if value.shape[0] != x.shape[0]:
            raise invalid(
                f"{layer}: {first} {x.name} has {x.shape[0]} rows and {name} {value.name} has {value.shape[0]}",
                "all arguments hold one row per example",
            )


def lstm_unit(
    x_t: Variable,
    hidden_t_prev: Variable,
    cell_t_prev: Variable,
    forget_bias: float = 0.0,
    param_attr: ParamAttrLike = None,
    bias_attr: ParamAttrLike = None,
    name: str | None = None,
) -> tuple[Variable, Variable]:
    """One step of an LSTM without peepholes: ``(hidden, cell)``, both ``[N, D]``.

    ``[i, f, o, g] = concat(x_t, hidden_t_prev) @ w + b``, one `fc` of size 4D (Hochreiter and Schmidhuber, 1997, with
    forget gates); ``cell = sigmoid(f + forget_bias) * cell_t_prev + sigmoid(i) * tanh(g)``;
    ``hidden = sigmoid(o) * tanh(cell)``.

    Raises:
        ProgramError: The arguments are not matrices with one number of rows, or the states' widths differ.
    """
    helper = LayerHelper("lstm_unit", name)
    given = {"x_t": x_t, "hidden_t_prev": hidden_t_prev, "cell_t_prev": cell_t_prev}
    for argument, value in given.items():
        helper.check_dtype(argument, value, _FLOATS)
    _check_rows("lstm_unit", given)
    size = cell_t_prev.shape[1]
    if hidden_t_prev.shape[1] != size:
        raise invalid(
            f"lstm_unit: hidden_t_prev has width {hidden_t_prev.shape[1]} and cell_t_prev {size}",
            "hidden state and cell state have the same width",
        )
    gates = fc(
        concat([x_t, hidden_t_prev], axis=1),
        4 * size,
        param_attr=param_attr,
        bias_attr=ParamAttr() if bias_attr is None else bias_attr,
    )
    cell = helper.temporary(x_t.dtype, cell_t_prev.shape)
    hidden = helper.temporary(x_t.dtype, hidden_t_prev.shape)
    attrs = {"forget_bias": float(forget_bias)}
    helper.op("lstm_unit", {"X": [gates], "C_prev": [cell_t_prev]}, {"C": [cell], "H": [hidden]}, attrs)
    return hidden, cell


def gru_unit(
    input: Variable,
    hidden: Variable,
    size: int,
    param_attr: ParamAttrLike = None,
    bias_attr: ParamAttrLike = None,
    activation: str = "tanh",
    gate_activation: str = "sigmoid",
    origin_mode: bool = False,
) -> tuple[Variable, Variable, Variable]:
    """One step of a GRU with D = size / 3 units: ``(hidden, reset_hidden, gates)``.

    ``input`` [N, 3D] holds the projected inputs of update gate, reset gate and candidate.  The weight [D, 3D] holds,
    row-major, a [D, 2D] matrix for the gates and a [D, D] matrix for the candidate (Cho et al., 2014)::

        u, r = sigmoid(input_ur + hidden @ w_ur + b_ur)
        c = tanh(input_c + (r * hidden) @ w_c + b_c)
        hidden' = u * c + (1 - u) * hidden          (with origin_mode: u * hidden + (1 - u) * c)

    As in fluid, gradients flow through the first result only.

    Raises:
        ProgramError: Shapes that do not fit ``size``, or another activation: fluid 1.8.5 computes with tanh and
            sigmoid whatever it is told.
    """
    helper = LayerHelper("gru_unit")
    if isinstance(size, bool) or not isinstance(size, int) or size <= 0 or size % 3:
        raise invalid(f"gru_unit: size is {size!r}", "give three times the number of units")
    if (activation, gate_activation) != ("tanh", "sigmoid"):
        raise invalid(
            f"gru_unit: activation is {activation!r} and gate_activation {gate_activation!r}",
            "fluid 1.8.5 computes with tanh and sigmoid whatever is named: leave both out",
        )
    check_gru_unit(helper, input, hidden, size)
    weight = helper.parameter(param_attr, [size // 3, size], input.dtype)
    if weight is None:
        raise wrong_type("gru_unit: param_attr is False", "the layer needs its weight")
    bias = helper.parameter(bias_attr, [1, size], input.dtype, is_bias=True)
    return gru_unit_op(helper, input, hidden, weight, bias, origin_mode=origin_mode)


def check_gru_unit(helper: LayerHelper, input: Variable, hidden: Variable, size: int) -> None:
    """Refuse inputs of a `gru_unit` of ``size`` that are not ``[N, size]`` and ``[N, size / 3]``."""
    helper.check_dtype("input", input, _FLOATS)
    helper.check_dtype("hidden", hidden, _FLOATS)
    _check_rows("gru_unit", {"input": input, "hidden": hidden})
    units = size // 3
    for argument, value, width in (("input", input, size), ("hidden", hidden, units)):
        if value.shape[1] != width:
            raise invalid(
                f"gru_unit: {argument} {value.name} has shape {list(value.shape)}, size is {size}",
                f"its rows must have {width} elements",
            )


def gru_unit_op(
    helper: LayerHelper,
    input: Variable,
    hidden: Variable,
    weight: Variable,
    bias: Variable | None,
    activation: str = "tanh",
    gate_activation: str = "sigmoid",
    origin_mode: bool = False,
) -> tuple[Variable, Variable, Variable]:
    """The op of `gru_unit` on parameters that exist and inputs that fit."""
    gate = helper.temporary(input.dtype, input.shape)
    reset = helper.temporary(input.dtype, hidden.shape)
    updated = helper.temporary(input.dtype, hidden.shape)
    inputs = {"Input": [input], "HiddenPrev": [hidden], "Weight": [weight]}
    if bias is not None:
        inputs["Bias"] = [bias]
    outputs = {"Gate": [gate], "ResetHiddenPrev": [reset], "Hidden": [updated]}
    attrs = {
        "activation": GRU_ACTIVATIONS[activation],
        "gate_activation": GRU_ACTIVATIONS[gate_activation],
        "origin_mode": bool(origin_mode),
    }
    helper.op("gru_unit", inputs, outputs, attrs)
    return updated, reset, gate
