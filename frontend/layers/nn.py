"""Layers with parameters, and what usually stands between them."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import invalid, wrong_type
from ..initializer import ConstantInitializer
from ..layer_helper import LayerHelper, check_variable
from ..param_attr import ParamAttrLike, to_param_attr
from ..shapes import axis_of, product
from ..variable import Variable
from ..vartype import DTypeLike, VarType, convert_dtype
from .math import record_mul

_FLOATS = (VarType.FP32, VarType.FP64, VarType.FP16)
_INDICES = (VarType.INT64, VarType.INT32)


def fc(
    input: Variable | Sequence[Variable],
    size: int,
    num_flatten_dims: int = 1,
    param_attr: ParamAttrLike | Sequence[ParamAttrLike] = None,
    bias_attr: ParamAttrLike = None,
    act: str | None = None,
    name: str | None = None,
) -> Variable:
    """``act(sum_i input_i @ w_i + b)``: a fully connected layer.

    Args:
        input: One or several Variables of shape ``[d_0, ..., d_k]``; the axes from ``num_flatten_dims`` on are
            flattened into the rows that w multiplies.
        size: Number of outputs.
        num_flatten_dims: How many leading axes stay; -1 means all but the last.
        param_attr: Attributes of the weight(s), each of shape ``[product of the flattened axes, size]``.
        bias_attr: Attributes of the bias, shape ``[size]``; False for none.
        act: Name of an activation layer.
        name: Name of the layer; its parameters are called ``name.w_0`` and ``name.b_0``.

    Returns:
        ``[d_0, ..., size]``.

    Raises:
        ProgramError: An extent that the weight needs is unknown, or num_flatten_dims does not fit.
    """
    helper = LayerHelper("fc", name)
    inputs = [input] if isinstance(input, Variable) else list(input)
    for i, x in enumerate(inputs):
        helper.check_dtype(f"input[{i}]" if len(inputs) > 1 else "input", x, _FLOATS)
    if isinstance(size, bool) or not isinstance(size, int) or size <= 0:
        raise invalid(f"fc: size is {size!r}", "give the number of outputs, a positive integer")
    attrs = list(param_attr) if isinstance(param_attr, list | tuple) else [param_attr] * len(inputs)
    if len(attrs) != len(inputs):
        raise invalid(f"fc: {len(inputs)} inputs but {len(attrs)} parameter attributes", "give one attribute per input")
    products: list[Variable] = []
    for x, attr in zip(inputs, attrs):
        cols = len(x.shape) - 1 if num_flatten_dims == -1 else num_flatten_dims
        if not 0 < cols < len(x.shape):
            raise invalid(
                f"fc: input {x.name} has shape {list(x.shape)}, but num_flatten_dims={num_flatten_dims}",
                f"give -1 or a number from 1 to {len(x.shape) - 1}",
            )
        wanted = to_param_attr(attr)  # type: ignore[arg-type]
        if wanted is None:
            raise invalid("fc: param_attr is False", "a fully connected layer needs its weight")
        rows = product(x.shape[cols:])
        if rows < 0:
            raise invalid(
                f"fc: input {x.name} has shape {list(x.shape)}; the weight needs the extents "
                f"{list(x.shape[cols:])} but one is unknown",
                "give the data its full shape, or choose num_flatten_dims",
            )
        w = helper.wanted_parameter(wanted, [rows, size], x.dtype)
        products.append(record_mul(helper, x, w, cols, 1))
    out = products[0]
    if len(products) > 1:
        out = helper.temporary(out.dtype, out.shape, lod_level=out.lod_level)
        helper.op("sum", {"X": products}, {"Out": [out]})
    out = helper.add_bias(out, bias_attr, dim_start=len(out.shape) - 1)
    return helper.activate(out, act)


def _lookup(
    helper: LayerHelper,
    op: str,
    ids: Variable,
    size: Sequence[int],
    is_sparse: bool,
    is_distributed: bool,
    padding_idx: int | None,
    param_attr: ParamAttrLike,
    dtype: DTypeLike,
) -> Variable:
    if len(size) != 2:
        raise invalid(f"embedding: size is {list(size)}", "give [number of rows, width of a row]")
    table = helper.parameter(param_attr, list(size), dtype)
    if table is None:
        raise invalid("embedding: param_attr is False", "an embedding needs its table")
    return lookup_table_op(helper, op, ids, table, is_sparse, is_distributed, padding_idx)


def lookup_table_op(
    helper: LayerHelper,
    op: str,
    ids: Variable,
    table: Variable,
    is_sparse: bool = False,
    is_distributed: bool = False,
    padding_idx: int | None = None,
) -> Variable:
    """The op of `embedding` (``lookup_table``) or `embedding_v2` (``lookup_table_v2``) on a table that exists."""
    rows, width = table.shape
    if padding_idx is not None and not -rows <= padding_idx < rows:
        raise invalid(
            f"embedding: padding_idx is {padding_idx}, the table has {rows} rows",
            f"give a row from {-rows} to {rows - 1}",
        )
    shape = ids.shape[:-1] if op == "lookup_table" else ids.shape
    out = helper.temporary(table.dtype, [*shape, width], lod_level=ids.lod_level)
    attrs = {
        "is_sparse": is_sparse,
        "is_distributed": is_distributed,
        "padding_idx": -1 if padding_idx is None else padding_idx % rows,
    }
    helper.op(op, {"Ids": [ids], "W": [table]}, {"Out": [out]}, attrs)
    return out


def embedding(
    input: Variable,
    size: Sequence[int],
    is_sparse: bool = False,
    is_distributed: bool = False,
    padding_idx: int | None = None,
    param_attr: ParamAttrLike = None,
    dtype: DTypeLike = "float32",
) -> Variable:
    """Rows of a table of shape ``size`` = [V, D] by ids of shape ``[..., 1]``; gives ``[..., D]``.

    ``padding_idx`` names a row that reads as zeros and gets no gradient; ``is_sparse`` and ``is_distributed``
    are hints that change nothing.
    """
    helper = LayerHelper("embedding")
    helper.check_dtype("input", input, (VarType.INT64,))
    if not input.shape or input.shape[-1] != 1:
        raise invalid(
            f"embedding: input {input.name} has shape {list(input.shape)}; its last extent must be 1",
            "use fluid.embedding for ids without that axis, or unsqueeze them",
        )
    return _lookup(helper, "lookup_table", input, size, is_sparse, is_distributed, padding_idx, param_attr, dtype)


def embedding_v2(
    input: Variable,
    size: Sequence[int],
    is_sparse: bool = False,
    is_distributed: bool = False,
    padding_idx: int | None = None,
    param_attr: ParamAttrLike = None,
    dtype: DTypeLike = "float32",
) -> Variable:
    """``fluid.embedding``: like `embedding`, but ids of any shape; an axis of size D is added at the end."""
    helper = LayerHelper("embedding")
    helper.check_dtype("input", input, (VarType.INT64,))
    return _lookup(helper, "lookup_table_v2", input, size, is_sparse, is_distributed, padding_idx, param_attr, dtype)


def one_hot(input: Variable, depth: int, allow_out_of_range: bool = False) -> Variable:
    """float32 rows of length ``depth`` with a one at each id; ids ``[..., 1]`` give ``[..., depth]``."""
    helper = LayerHelper("one_hot")
    helper.check_dtype("input", input, _INDICES)
    if not input.shape or input.shape[-1] != 1:
        raise invalid(
            f"one_hot: input {input.name} has shape {list(input.shape)}; its last extent must be 1",
            "use fluid.one_hot for ids without that axis",
        )
    out = helper.temporary(VarType.FP32, [*input.shape[:-1], depth], lod_level=input.lod_level, stop_gradient=True)
    attrs = {"depth": depth, "allow_out_of_range": allow_out_of_range}
    helper.op("one_hot", {"X": [input]}, {"Out": [out]}, attrs)
    return out


def one_hot_v2(input: Variable, depth: int, allow_out_of_range: bool = False) -> Variable:
    """``fluid.one_hot``: like `one_hot`, but an axis of size ``depth`` is added at the end."""
    helper = LayerHelper("one_hot_v2")
    helper.check_dtype("input", input, _INDICES)
    out = helper.temporary(VarType.FP32, [*input.shape, depth], lod_level=input.lod_level)
    attrs = {"depth": depth, "allow_out_of_range": allow_out_of_range}
    helper.op("one_hot_v2", {"X": [input]}, {"Out": [out]}, attrs)
    return out


def dropout(
    x: Variable,
    dropout_prob: float,
    is_test: bool = False,
    seed: int | None = None,
    name: str | None = None,
    dropout_implementation: str = "downgrade_in_infer",
) -> Variable:
    """X with each element set to zero with probability ``dropout_prob``.

    ``downgrade_in_infer``: kept elements stay as they are, and test mode gives ``x * (1 - p)``.
    ``upscale_in_train``: kept elements are divided by ``1 - p``, and test mode gives x.
    A seed (or the program's ``random_seed``) repeats one mask every step, as in Paddle.
    """
    helper = LayerHelper("dropout", name)
    helper.check_dtype("x", x, _FLOATS)
    if not 0.0 <= dropout_prob <= 1.0:
        raise invalid(f"dropout: dropout_prob is {dropout_prob}", "give a probability from 0 to 1")
    if dropout_implementation not in ("downgrade_in_infer", "upscale_in_train"):
        raise invalid(
            f"dropout: unknown dropout_implementation {dropout_implementation!r}",
            "use 'downgrade_in_infer' or 'upscale_in_train'",
        )
    # In dygraph, evaluation of any layer and no_grad turn this function to evaluation, as in Paddle.
    is_test = is_test or not helper.main_program.grad_enabled
    return dropout_op(helper, x, dropout_prob, is_test, seed, dropout_implementation)


def dropout_op(
    helper: LayerHelper,
    x: Variable,
    dropout_prob: float,
    is_test: bool,
    seed: int | None,
    dropout_implementation: str,
) -> Variable:
    """The op of `dropout` with arguments that fit."""
    if not seed:
        seed = helper.main_program.random_seed
    out = helper.temporary(x.dtype, x.shape, lod_level=x.lod_level)
    mask = helper.temporary(VarType.UINT8, () if is_test else x.shape, stop_gradient=True)
    attrs = {
        "dropout_prob": float(dropout_prob),
        "is_test": is_test,
        "fix_seed": seed != 0,
        "seed": seed,
        "dropout_implementation": dropout_implementation,
    }
    helper.op("dropout", {"X": [x]}, {"Out": [out], "Mask": [mask]}, attrs)
    return out


def softmax(input: Variable, use_cudnn: bool = False, name: str | None = None, axis: int = -1) -> Variable:
    """``exp(x) / sum(exp(x))`` along ``axis``."""
    del use_cudnn
    helper = LayerHelper("softmax", name)
    helper.check_dtype("input", input, _FLOATS)
    axis_of("softmax", input, axis)
    out = helper.temporary(input.dtype, input.shape, lod_level=input.lod_level)
    helper.op("softmax", {"X": [input]}, {"Out": [out]}, {"axis": axis})
    return out


def log_softmax(
    input: Variable, axis: int | None = None, dtype: DTypeLike | None = None, name: str | None = None
) -> Variable:
    """The logarithm of `softmax`, recorded as these two ops; ``dtype`` casts the input first."""
    helper = LayerHelper("log_softmax", name)
    helper.check_dtype("input", input, _FLOATS)
    axis = -1 if axis is None else axis
    axis_of("log_softmax", input, axis)
    x = input
    if dtype is not None:
        x = helper.temporary(dtype, input.shape)
        attrs = {"in_dtype": input.dtype, "out_dtype": convert_dtype(dtype)}
        helper.op("cast", {"X": [input]}, {"Out": [x]}, attrs)
    soft = helper.temporary(x.dtype, x.shape)
    helper.op("softmax", {"X": [x]}, {"Out": [soft]}, {"axis": axis})
    out = helper.temporary(x.dtype, x.shape)
    helper.op("log", {"X": [soft]}, {"Out": [out]})
    return out


def prelu(x: Variable, mode: str, param_attr: ParamAttrLike = None, name: str | None = None) -> Variable:
    """X where it is positive, ``alpha * x`` elsewhere, alpha trained from 0.25.

    ``mode``: one alpha for ``'all'``, one per ``'channel'`` (axis 1), or one per ``'element'`` of an example.
    """
    helper = LayerHelper("prelu", name)
    helper.check_dtype("x", x, _FLOATS)
    if mode == "all":
        shape = [1]
    elif mode == "channel":
        if len(x.shape) < 2:
            raise invalid(f"prelu: {x.name} has shape {list(x.shape)} and no channels", "use mode='all'")
        shape = [1, x.shape[1], 1, 1]
    elif mode == "element":
        shape = [1, *x.shape[1:]]
    else:
        raise invalid(f"prelu: unknown mode {mode!r}", "use 'all', 'channel' or 'element'")
    alpha = helper.parameter(param_attr, shape, x.dtype, default=ConstantInitializer(0.25))
    if alpha is None:
        raise wrong_type("prelu: param_attr is False", "the layer needs its parameter; use leaky_relu without one")
    return prelu_op(helper, x, alpha, mode)


def prelu_op(helper: LayerHelper, x: Variable, alpha: Variable, mode: str) -> Variable:
    """The op of `prelu` on a parameter that exists."""
    out = helper.temporary(x.dtype, x.shape, lod_level=x.lod_level)
    helper.op("prelu", {"X": [x], "Alpha": [alpha]}, {"Out": [out]}, {"mode": mode})
    return out


def l2_normalize(x: Variable, axis: int, epsilon: float = 1e-12, name: str | None = None) -> Variable:
    """``x / sqrt(sum(x * x) + epsilon)`` along ``axis``."""
    helper = LayerHelper("l2_normalize", name)
    helper.check_dtype("x", x, _FLOATS)
    axis = 0 if len(x.shape) == 1 else axis
    at = axis_of("l2_normalize", x, axis)
    out = helper.temporary(x.dtype, x.shape, lod_level=x.lod_level)
    norm = helper.temporary(x.dtype, [1 if i == at else d for i, d in enumerate(x.shape)])
    attrs = {"axis": axis, "epsilon": epsilon}
    helper.op("norm", {"X": [x]}, {"Out": [out], "Norm": [norm]}, attrs)
    return out


def label_smooth(
    label: Variable,
    prior_dist: Variable | None = None,
    epsilon: float = 0.1,
    dtype: DTypeLike = "float32",
    name: str | None = None,
) -> Variable:
    """``(1 - epsilon) * label + epsilon * prior``; the prior is 1/K for each of the K classes by default.

    No gradient passes through ``label`` from then on.
    """
    helper = LayerHelper("label_smooth", name)
    check_variable("label_smooth", "label", label)
    if not 0.0 <= epsilon <= 1.0:
        raise invalid(f"label_smooth: epsilon is {epsilon}", "give a weight from 0 to 1")
    label.stop_gradient = True
    out = helper.temporary(dtype, label.shape)
    inputs = {"X": [label]} if prior_dist is None else {"X": [label], "PriorDist": [prior_dist]}
    helper.op("label_smooth", inputs, {"Out": [out]}, {"epsilon": float(epsilon)})
    return out


def bilinear_tensor_product(
    x: Variable,
    y: Variable,
    size: int,
    act: str | None = None,
    name: str | None = None,
    param_attr: ParamAttrLike = None,
    bias_attr: ParamAttrLike = None,
) -> Variable:
    """``act(x W_i y + b_i)`` of rows x ``[N, M]`` and y ``[N, K]`` for each of ``size`` matrices W_i; gives [N, size].

    The weight has shape ``[size, M, K]``, the bias ``[1, size]``.
    """
    layer = "bilinear_tensor_product"
    helper = LayerHelper(layer, name)
    for argument, v in (("x", x), ("y", y)):
        helper.check_dtype(argument, v, (VarType.FP32, VarType.FP64))
        if len(v.shape) != 2 or v.shape[1] < 1:
            raise invalid(
                f"{layer}: {argument} {v.name} has shape {list(v.shape)}", "it must be [N, M] with a known number M"
            )
    if size < 1:
        raise invalid(f"{layer}: size is {size}", "give the number of outputs, a positive integer")
    w = helper.parameter(param_attr, [size, x.shape[1], y.shape[1]], x.dtype)
    if w is None:
        raise invalid(f"{layer}: param_attr is False", "the layer needs its weight")
    bias = helper.parameter(bias_attr, [1, size], x.dtype, is_bias=True)
    out = helper.temporary(x.dtype, [x.shape[0], size])
    return helper.activate(bilinear_tensor_product_op(helper, x, y, w, bias, out), act)


def bilinear_tensor_product_op(
    helper: LayerHelper, x: Variable, y: Variable, weight: Variable, bias: Variable | None, out: Variable
) -> Variable:
    """The op of `bilinear_tensor_product` on parameters that exist, into ``out``."""
    inputs = {"X": [x], "Y": [y], "Weight": [weight]} | ({} if bias is None else {"Bias": [bias]})
    helper.op("bilinear_tensor_product", inputs, {"Out": [out]})
    return out
