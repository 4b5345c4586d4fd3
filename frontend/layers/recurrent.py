"""Whole recurrent layers: over sequences of different lengths (``lod_level`` 1), and over padded ones (`lstm`)."""

from __future__ import annotations

from ..errors import invalid, unsupported, wrong_type
from ..framework import AttrValue, in_dygraph_mode
from ..initializer import Initializer
from ..layer_helper import LayerHelper, check_variable
from ..param_attr import ParamAttrLike
from ..variable import Variable
from ..vartype import DTypeLike, VarType

_FLOATS = (VarType.FP32, VarType.FP64)
_ACTIVATIONS = ("sigmoid", "tanh", "relu", "identity")


def dynamic_lstm(
    input: Variable,
    size: int,
    h_0: Variable | None = None,
    c_0: Variable | None = None,
    param_attr: ParamAttrLike = None,
    bias_attr: ParamAttrLike = None,
    use_peepholes: bool = True,
    is_reverse: bool = False,
    gate_activation: str = "sigmoid",
    cell_activation: str = "tanh",
    candidate_activation: str = "tanh",
    dtype: DTypeLike = "float32",
    name: str | None = None,
) -> tuple[Variable, Variable]:
    """An LSTM of D = size / 4 units over the tokens of every sequence: ``(hidden, cell)``, sequences of D elements.

    ``input`` holds the projected inputs, 4D a token, such as ``fc(x, size)`` makes.  All blocks of 4D stand in the
    order candidate, input gate, forget gate, output gate; the weight is [D, 4D], the bias [1, 4D], and with peepholes
    [1, 7D]: then come the weights of the cell in the input, forget and output gate (Gers and Schmidhuber, 2000)::

        i = gate(x_i + h w_i + b_i + c p_i)        f = gate(x_f + h w_f + b_f + c p_f)
        c' = f * c + i * candidate(x_c + h w_c + b_c)
        o = gate(x_o + h w_o + b_o + c' p_o)       h' = o * act(c')

    As in fluid, no gradient flows through the cells that are returned.

    Args:
        input: [T, 4D], ``lod_level`` 1.
        size: 4D.
        h_0, c_0: [N, D], the state before every sequence's first token; zeros if None.
        param_attr, bias_attr: Of weight and bias.
        use_peepholes: Whether gates see the cell.
        is_reverse: Sequences are read from their ends.
        gate_activation, cell_activation, candidate_activation: sigmoid, tanh, relu or identity.
        dtype: Of the parameters.
        name: The layer's.

    Raises:
        ProgramError: Shapes that do not fit ``size``, an unknown activation, no bias, or no sequences.
    """
    _check_recorded("dynamic_lstm")
    helper = LayerHelper("lstm", name)
    units = _units("dynamic_lstm", size, 4)
    _check_sequences(helper, "dynamic_lstm", input, size)
    acts = {
        "gate_activation": gate_activation,
        "cell_activation": cell_activation,
        "candidate_activation": candidate_activation,
    }
    _check_activations("dynamic_lstm", acts)
    _check_bias("dynamic_lstm", bias_attr)
    weight = _weight(helper, "dynamic_lstm", param_attr, [units, size], dtype)
    bias = helper.parameter(bias_attr, [1, (7 if use_peepholes else 4) * units], dtype, is_bias=True)
    assert bias is not None
    hidden, cell = (helper.temporary(dtype, [-1, units], lod_level=1) for _ in range(2))
    gates, before = helper.temporary(dtype, [-1, size]), helper.temporary(dtype, [-1, units])
    inputs = {"Input": [input], "Weight": [weight], "Bias": [bias]}
    inputs |= _states("dynamic_lstm", input, {"h_0": ("H0", h_0, units), "c_0": ("C0", c_0, units)})
    helper.op(
        "lstm",
        inputs,
        {"Hidden": [hidden], "Cell": [cell], "BatchGate": [gates], "BatchCellPreAct": [before]},
        {"use_peepholes": bool(use_peepholes), "is_reverse": bool(is_reverse), **acts},
    )
    return hidden, cell


def dynamic_lstmp(
    input: Variable,
    size: int,
    proj_size: int,
    param_attr: ParamAttrLike = None,
    bias_attr: ParamAttrLike = None,
    use_peepholes: bool = True,
    is_reverse: bool = False,
    gate_activation: str = "sigmoid",
    cell_activation: str = "tanh",
    candidate_activation: str = "tanh",
    proj_activation: str = "tanh",
    dtype: DTypeLike = "float32",
    name: str | None = None,
    h_0: Variable | None = None,
    c_0: Variable | None = None,
    cell_clip: float | None = None,
    proj_clip: float | None = None,
) -> tuple[Variable, Variable]:
    """A `dynamic_lstm` whose hidden state is projected to P = proj_size elements (Sak et al., 2014):
    ``(projection, cell)``, sequences of P and of D elements.

    The projection ``r = proj_activation(h w_p)`` takes the place of h in the gates; the weight is [P, 4D], the
    projection's [D, P], and h_0 [N, P].  ``cell_clip`` and ``proj_clip`` hold cell and projection within plus and minus
    that number.

    Raises:
        ProgramError: As `dynamic_lstm`; a clip that is negative.
    """
    _check_recorded("dynamic_lstmp")
    helper = LayerHelper("lstmp", name)
    units = _units("dynamic_lstmp", size, 4)
    if isinstance(proj_size, bool) or not isinstance(proj_size, int) or proj_size <= 0:
        raise invalid(f"dynamic_lstmp: proj_size is {proj_size!r}", "give the number of elements of the projection")
    _check_sequences(helper, "dynamic_lstmp", input, size)
    acts = {
        "gate_activation": gate_activation,
        "cell_activation": cell_activation,
        "candidate_activation": candidate_activation,
        "proj_activation": proj_activation,
    }
    _check_activations("dynamic_lstmp", acts)
    _check_bias("dynamic_lstmp", bias_attr)
    for argument, bound in (("cell_clip", cell_clip), ("proj_clip", proj_clip)):
        if bound is not None and bound < 0:
            raise invalid(f"dynamic_lstmp: {argument} is {bound}", "give a positive bound, or None for no clipping")
    weight = _weight(helper, "dynamic_lstmp", param_attr, [proj_size, size], dtype)
    projection = _weight(helper, "dynamic_lstmp", param_attr, [units, proj_size], dtype)
    bias = helper.parameter(bias_attr, [1, (7 if use_peepholes else 4) * units], dtype, is_bias=True)
    assert bias is not None
    projected = helper.temporary(dtype, [-1, proj_size], lod_level=1)
    cell = helper.temporary(dtype, [-1, units], lod_level=1)
    helper.temporary(dtype, [])  # fluid makes one that no op writes
    hidden, gates, before = (helper.temporary(dtype, [-1, width]) for width in (units, size, units))
    inputs = {"Input": [input], "Weight": [weight], "ProjWeight": [projection], "Bias": [bias]}
    inputs |= _states("dynamic_lstmp", input, {"h_0": ("H0", h_0, proj_size), "c_0": ("C0", c_0, units)})
    attrs: dict[str, AttrValue] = {
        "use_peepholes": bool(use_peepholes),
        "cell_clip": float(cell_clip or 0.0),
        "proj_clip": float(proj_clip or 0.0),
        "is_reverse": bool(is_reverse),
        **acts,
    }
    outputs = {
        "Projection": [projected],
        "Cell": [cell],
        "BatchHidden": [hidden],
        "BatchGate": [gates],
        "BatchCellPreAct": [before],
    }
    helper.op("lstmp", inputs, outputs, attrs)
    return projected, cell


def dynamic_gru(
    input: Variable,
    size: int,
    param_attr: ParamAttrLike = None,
    bias_attr: ParamAttrLike = None,
    is_reverse: bool = False,
    gate_activation: str = "sigmoid",
    candidate_activation: str = "tanh",
    h_0: Variable | None = None,
    origin_mode: bool = False,
) -> Variable:
    """A GRU of D = size units over the tokens of every sequence: its hidden states, sequences of D elements.

    ``input`` holds the projected inputs, 3D a token, in the order update gate, reset gate, candidate.  The weight
    [D, 3D] holds, row-major, a [D, 2D] matrix for the gates and a [D, D] one for the candidate; the bias is [1, 3D].
    The step is that of `gru_unit`.

    Args:
        input: [T, 3D], ``lod_level`` 1.
        size: D; not 3D as in `gru_unit`.
        param_attr, bias_attr: Of weight and bias.
        is_reverse: Sequences are read from their ends.
        gate_activation, candidate_activation: sigmoid, tanh, relu or identity.
        h_0: [N, D], the state before every sequence's first token; zeros if None.
        origin_mode: ``u * h + (1 - u) * candidate`` instead of ``(1 - u) * h + u * candidate``.

    Raises:
        ProgramError: As `dynamic_lstm`.
    """
    _check_recorded("dynamic_gru")
    helper = LayerHelper("gru")
    units = _units("dynamic_gru", size, 1)
    _check_sequences(helper, "dynamic_gru", input, 3 * units)
    acts = {"gate_activation": gate_activation, "candidate_activation": candidate_activation}
    _check_activations("dynamic_gru", acts)
    dtype = input.dtype
    weight = _weight(helper, "dynamic_gru", param_attr, [units, 3 * units], dtype)
    bias = helper.parameter(bias_attr, [1, 3 * units], dtype, is_bias=True)
    inputs = {"Input": [input], "Weight": [weight], **({} if bias is None else {"Bias": [bias]})}
    inputs |= _states("dynamic_gru", input, {"h_0": ("H0", h_0, units)})
    hidden = helper.temporary(dtype, [-1, units], lod_level=1)
    gates, reset, after = (helper.temporary(dtype, [-1, width]) for width in (3 * units, units, units))
    helper.op(
        "gru",
        inputs,
        {"Hidden": [hidden], "BatchGate": [gates], "BatchResetHiddenPrev": [reset], "BatchHidden": [after]},
        {
            "is_reverse": bool(is_reverse),
            "gate_activation": gate_activation,
            "activation": candidate_activation,
            "origin_mode": bool(origin_mode),
        },
    )
    return hidden


def lstm(
    input: Variable,
    init_h: Variable,
    init_c: Variable,
    max_len: int,
    hidden_size: int,
    num_layers: int,
    dropout_prob: float = 0.0,
    is_bidirec: bool = False,
    is_test: bool = False,
    name: str | None = None,
    default_initializer: Initializer | None = None,
    seed: int = -1,
) -> tuple[Variable, Variable, Variable]:
    """Layers of LSTMs over sequences of one length: ``(out, last_h, last_c)``.  Paddle has it on GPUs only (cuDNN).

    One flat weight holds, as cuDNN 7 lays them out, all matrices and then all biases: per layer and direction the
    matrices [D, inputs] of the input, forget and output gate after each other in the order i, f, c, o, then [D, D] of
    the hidden state in that order; and likewise the two biases of every gate.  There are no peepholes.

    Args:
        input: [T, N, inputs], axis 0 is time.
        init_h, init_c: [layers * directions, N, D], the states before the first step.
        max_len: The steps of the longest sequence; T.
        hidden_size: D.
        num_layers: Layers; each reads what the one before it puts out.
        dropout_prob: Of what a layer hands to the next, while training; what is kept is scaled up.
        is_bidirec: Every layer has a second LSTM that runs backwards, and puts out both.
        is_test: No dropout.
        name: The layer's.
        default_initializer: Of the weight.
        seed: Of the dropout.

    Returns:
        out [T, N, D * directions], and the states after the last step, shaped as the initial ones.

    Raises:
        ProgramError: Shapes that do not fit together.
    """
    del seed
    helper = LayerHelper("cudnn_lstm", name)
    for argument, value in (("input", input), ("init_h", init_h), ("init_c", init_c)):
        helper.check_dtype(argument, value, _FLOATS)
        if len(value.shape) != 3:
            raise invalid(f"lstm: {argument} {value.name} has shape {list(value.shape)}", "it has three axes")
    for argument, number in (("hidden_size", hidden_size), ("num_layers", num_layers), ("max_len", max_len)):
        if isinstance(number, bool) or not isinstance(number, int) or number <= 0:
            raise invalid(f"lstm: {argument} is {number!r}", "give a positive number")
    directions = 2 if is_bidirec else 1
    for argument, value in (("init_h", init_h), ("init_c", init_c)):
        if value.shape[0] != num_layers * directions or value.shape[2] != hidden_size:
            raise invalid(
                f"lstm: {argument} {value.name} has shape {list(value.shape)}",
                f"it must be [{num_layers * directions}, N, {hidden_size}]",
            )
    widths = [input.shape[2], *[hidden_size * directions] * (num_layers - 1)]
    size = sum(4 * hidden_size * (width + hidden_size + 2) * directions for width in widths)
    weight = helper.parameter(None, [size], input.dtype, default=default_initializer)
    assert weight is not None
    out = helper.temporary(input.dtype, [*input.shape[:2], hidden_size * directions])
    last_h, last_c = (helper.temporary(input.dtype, init_h.shape) for _ in range(2))
    cache = helper.block.create_var(type=VarType.RAW, persistable=True, stop_gradient=True)
    attrs: dict[str, AttrValue] = {
        "max_len": max_len,
        "is_bidirec": bool(is_bidirec),
        "input_size": input.shape[2],
        "hidden_size": hidden_size,
        "num_layers": num_layers,
        "is_test": bool(is_test),
        "dropout_prob": float(dropout_prob),
        "seed": -1,
    }
    inputs = {"Input": [input], "InitH": [init_h], "InitC": [init_c], "W": [weight], "Cache": [cache]}
    helper.op("cudnn_lstm", inputs, {"Out": [out], "last_h": [last_h], "last_c": [last_c]}, attrs)
    return out, last_h, last_c


# What the layers check ------------------------------------------------------------------------------------


def _check_recorded(layer: str) -> None:
    if in_dygraph_mode():
        raise unsupported(f"{layer} in dygraph", "there are no sequences of different lengths: use cells and a loop")


def _units(layer: str, size: int, gates: int) -> int:
    if isinstance(size, bool) or not isinstance(size, int) or size <= 0 or size % gates:
        wanted = "four times the number of units" if gates == 4 else "the number of units"
        raise invalid(f"{layer}: size is {size!r}", f"give {wanted}")
    return size // gates


def _check_sequences(helper: LayerHelper, layer: str, input: Variable, width: int) -> None:
    helper.check_dtype("input", input, _FLOATS)
    if input.lod_level < 1:
        raise invalid(
            f"{layer}: input {input.name} has no sequences (lod_level 0)",
            "declare the data with lod_level=1 and feed fluid.create_lod_tensor(...); for padded sequences use rnn",
        )
    if len(input.shape) != 2 or input.shape[1] != width:
        raise invalid(
            f"{layer}: input {input.name} has shape {list(input.shape)}, size makes it [-1, {width}]",
            f"project the tokens first: fluid.layers.fc(x, {width})",
        )


def _check_activations(layer: str, named: dict[str, str]) -> None:
    for argument, name in named.items():
        if name not in _ACTIVATIONS:
            raise invalid(f"{layer}: {argument} is {name!r}", f"use one of {', '.join(_ACTIVATIONS)}")


def _check_bias(layer: str, bias_attr: ParamAttrLike) -> None:
    if bias_attr is False:
        raise wrong_type(f"{layer}: bias_attr is False", "the layer needs its bias")


def _weight(helper: LayerHelper, layer: str, attr: ParamAttrLike, shape: list[int], dtype: DTypeLike) -> Variable:
    found = helper.parameter(attr, shape, dtype)
    if found is None:
        raise wrong_type(f"{layer}: param_attr is False", "the layer needs its weight")
    return found


def _states(
    layer: str, input: Variable, given: dict[str, tuple[str, Variable | None, int]]
) -> dict[str, list[Variable]]:
    """The slots of the initial states that are given."""
    found: dict[str, list[Variable]] = {}
    for argument, (slot, value, width) in given.items():
        if value is None:
            continue
        check_variable(layer, argument, value)
        if tuple(value.shape) != (input.shape[0], width):
            raise invalid(
                f"{layer}: {argument} {value.name} has shape {list(value.shape)}",
                f"it holds one row per sequence: [{input.shape[0]}, {width}]",
            )
        found[slot] = [value]
    return found
