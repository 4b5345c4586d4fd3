"""Conditional random fields over label sequences, with one matrix of scores between neighbours."""

from __future__ import annotations

from ..errors import invalid, wrong_type
from ..layer_helper import LayerHelper, check_variable
from ..param_attr import ParamAttrLike, to_param_attr
from ..variable import Variable
from ..vartype import VarType

_FLOATS = (VarType.FP32, VarType.FP64)


def linear_chain_crf(
    input: Variable, label: Variable, param_attr: ParamAttrLike = None, length: Variable | None = None
) -> Variable:
    """The negative log-likelihood of every sequence's labels, ``[N, 1]`` (Lafferty, McCallum and Pereira, 2001).

    A sequence scores the sum of its emissions, of ``start`` at its first label, of ``end`` at its last, and of
    ``between[i, j]`` where label j follows label i; the likelihood is the softmax over all label sequences.  The
    parameter ``[D + 2, D]`` holds start, end and between, in this order.  A sequence without tokens costs 0.

    Args:
        input: Emissions: sequences ``[T, D]`` with lod_level 1, or ``[N, L, D]`` with ``length``.
        label: int64 in [0, D): sequences ``[T, 1]``, or ``[N, L]`` or ``[N, L, 1]`` with ``length``.
        param_attr: Of the scores between labels; `crf_decoding` finds them by its name.
        length: int64 ``[N]`` or ``[N, 1]``: how many of the L tokens count.

    Raises:
        ProgramError: Shapes that do not fit, or sequences without lod_level and length.
    """
    helper = LayerHelper("linear_chain_crf")
    helper.check_dtype("input", input, _FLOATS)
    helper.check_dtype("label", label, (VarType.INT64,))
    _check_emissions("linear_chain_crf", input, length)
    if length is None and label.lod_level < 1:
        raise invalid(
            f"linear_chain_crf: label {label.name} has no sequences (lod_level 0)",
            "declare it with lod_level=1, or pad input and label and give length",
        )
    if length is not None and list(label.shape) not in (list(input.shape[:2]), [*input.shape[:2], 1]):
        raise invalid(
            f"linear_chain_crf: input {input.name} has shape {list(input.shape)} and label {label.name} "
            f"{list(label.shape)}",
            "a label is one number per token: [N, L] or [N, L, 1]",
        )
    size = input.shape[-1]
    transition = helper.parameter(param_attr, [size + 2, size], input.dtype)
    if transition is None:
        raise wrong_type("linear_chain_crf: param_attr is False", "the layer needs its scores between labels")
    alpha = helper.temporary(input.dtype, input.shape)
    emission_exps = helper.temporary(input.dtype, input.shape)
    transition_exps = helper.temporary(input.dtype, transition.shape)
    cost = helper.temporary(input.dtype, [-1 if length is None else input.shape[0], 1])
    helper.op(
        "linear_chain_crf",
        {"Emission": [input], "Transition": [transition], "Label": [label], **_length(length)},
        {
            "Alpha": [alpha],
            "EmissionExps": [emission_exps],
            "TransitionExps": [transition_exps],
            "LogLikelihood": [cost],
        },
    )
    return cost


def crf_decoding(
    input: Variable, param_attr: ParamAttrLike, label: Variable | None = None, length: Variable | None = None
) -> Variable:
    """The labels that `linear_chain_crf` scores highest, int64 (Viterbi); of equal scores the lowest label.

    With ``label`` the result is 1 where they agree with it, else 0.

    Args:
        input: Emissions, as in `linear_chain_crf`.
        param_attr: Names the parameter of the `linear_chain_crf` whose scores to use.
        label: Labels to compare with.
        length: As in `linear_chain_crf`.

    Returns:
        Sequences ``[T, 1]``; with ``length`` ``[N, L]``, 0 beyond the length.

    Raises:
        ProgramError: No parameter of that name exists yet, or shapes do not fit.
    """
    helper = LayerHelper("crf_decoding")
    helper.check_dtype("input", input, _FLOATS)
    _check_emissions("crf_decoding", input, length)
    attr = to_param_attr(param_attr)
    block = helper.main_program.global_block()
    transition = None if attr is None or attr.name is None else block.vars.get(attr.name)
    if transition is None:
        raise invalid(
            f"crf_decoding: there is no parameter {(attr.name if attr else None)!r}",
            "name the parameter of linear_chain_crf: param_attr=fluid.ParamAttr(name='crfw') for both",
        )
    size = input.shape[-1]
    if tuple(transition.shape) != (size + 2, size):
        raise invalid(
            f"crf_decoding: {transition.name} has shape {list(transition.shape)}, input {input.name} "
            f"{list(input.shape)}",
            f"for {size} labels the scores between labels are [{size + 2}, {size}]",
        )
    inputs = {"Emission": [input], "Transition": [transition], **_length(length)}
    if label is not None:
        helper.check_dtype("label", label, (VarType.INT64,))
        inputs["Label"] = [label]
    shape = [-1, 1] if length is None else list(input.shape[:2])
    path = helper.temporary(VarType.INT64, shape, lod_level=input.lod_level)
    helper.op("crf_decoding", inputs, {"ViterbiPath": [path]})
    return path


def _length(length: Variable | None) -> dict[str, list[Variable]]:
    return {} if length is None else {"Length": [length]}


def _check_emissions(layer: str, input: Variable, length: Variable | None) -> None:
    if length is not None:
        check_variable(layer, "length", length)
        if length.dtype not in (VarType.INT64, VarType.INT32):
            raise wrong_type(
                f"{layer}: length {length.name} holds {length.dtype.numpy.name}", "lengths are int64, one per sequence"
            )
    elif input.lod_level < 1:
        raise invalid(
            f"{layer}: input {input.name} has no sequences (lod_level 0)",
            "declare the data with lod_level=1, or pad it to [N, L, D] and give length",
        )
    rank = 2 if length is None else 3
    if len(input.shape) != rank or input.shape[-1] <= 0:
        raise invalid(
            f"{layer}: input {input.name} has shape {list(input.shape)}",
            f"emissions are {'[T, D], sequences one after another' if length is None else '[N, L, D]'}, D known",
        )
