"""Layers that usually come together."""

from __future__ import annotations

from collections.abc import Sequence

from . import layers
from .errors import invalid
from .missing import MissingName, missing_name
from .param_attr import ParamAttrLike
from .variable import Variable


def simple_img_conv_pool(
    input: Variable,
    num_filters: int,
    filter_size: int | Sequence[int],
    pool_size: int | Sequence[int],
    pool_stride: int | Sequence[int],
    pool_padding: int | Sequence[int] = 0,
    pool_type: str = "max",
    global_pooling: bool = False,
    conv_stride: int | Sequence[int] = 1,
    conv_padding: int | Sequence[int] = 0,
    conv_dilation: int | Sequence[int] = 1,
    conv_groups: int = 1,
    param_attr: ParamAttrLike = None,
    bias_attr: ParamAttrLike = None,
    act: str | None = None,
    use_cudnn: bool = True,
) -> Variable:
    """A convolution and a pooling of ``[N, C, H, W]``."""
    convolved = layers.conv2d(
        input,
        num_filters,
        filter_size,
        conv_stride,
        conv_padding,
        conv_dilation,
        conv_groups,
        param_attr,
        bias_attr,
        use_cudnn,
        act,
    )
    return layers.pool2d(
        convolved, pool_size, pool_type, pool_stride, pool_padding, global_pooling, use_cudnn=use_cudnn
    )


def img_conv_group(
    input: Variable,
    conv_num_filter: Sequence[int],
    pool_size: int | Sequence[int],
    conv_padding: int | Sequence[int] = 1,
    conv_filter_size: int | Sequence[int] = 3,
    conv_act: str | None = None,
    param_attr: ParamAttrLike | Sequence[ParamAttrLike] = None,
    conv_with_batchnorm: bool | Sequence[bool] = False,
    conv_batchnorm_drop_rate: float | Sequence[float] = 0.0,
    pool_stride: int | Sequence[int] = 1,
    pool_type: str = "max",
    use_cudnn: bool = True,
) -> Variable:
    """Convolutions, each with batch_norm and dropout where asked for, and a pooling at the end (a VGG block).

    What is given as one value holds for every convolution.
    """
    count = len(conv_num_filter)

    def each(name: str, value: object) -> list[object]:
        values = list(value) if isinstance(value, list | tuple) else [value] * count
        if len(values) != count:
            raise invalid(f"img_conv_group: {count} convolutions but {len(values)} values of {name}", "give one each")
        return values

    paddings, sizes = each("conv_padding", conv_padding), each("conv_filter_size", conv_filter_size)
    attrs, norms = each("param_attr", param_attr), each("conv_with_batchnorm", conv_with_batchnorm)
    rates = each("conv_batchnorm_drop_rate", conv_batchnorm_drop_rate)
    x = input
    for filters, padding, size, attr, norm, rate in zip(conv_num_filter, paddings, sizes, attrs, norms, rates):
        x = layers.conv2d(
            x,
            filters,
            size,  # type: ignore[arg-type]
            padding=padding,  # type: ignore[arg-type]
            param_attr=attr,  # type: ignore[arg-type]
            act=None if norm else conv_act,
            use_cudnn=use_cudnn,
        )
        if norm:
            x = layers.batch_norm(x, act=conv_act)
            if abs(float(rate)) >= 1e-5:  # type: ignore[arg-type]
                x = layers.dropout(x, float(rate))  # type: ignore[arg-type]
    return layers.pool2d(x, pool_size, pool_type, pool_stride, use_cudnn=use_cudnn)


def sequence_conv_pool(
    input: Variable,
    num_filters: int,
    filter_size: int,
    param_attr: ParamAttrLike = None,
    act: str | None = "sigmoid",
    pool_type: str = "max",
    bias_attr: ParamAttrLike = None,
) -> Variable:
    """A convolution over each sequence's steps, and one row per sequence of what comes out."""
    convolved = layers.sequence_conv(
        input, num_filters, filter_size, param_attr=param_attr, bias_attr=bias_attr, act=act
    )
    return layers.sequence_pool(convolved, pool_type)


def glu(input: Variable, dim: int = -1) -> Variable:
    """The first half along ``dim`` times the sigmoid of the second (Dauphin et al., ICML 2017)."""
    a, b = layers.split(input, 2, dim)
    return layers.elementwise_mul(a, layers.sigmoid(b))


def scaled_dot_product_attention(
    queries: Variable, keys: Variable, values: Variable, num_heads: int = 1, dropout_rate: float = 0.0
) -> Variable:
    """Attention (Vaswani et al., NIPS 2017): queries [N, Tq, D], keys [N, Tk, D], values [N, Tk, Dv] to [N, Tq, Dv].

    With several heads, each input first passes a fully connected layer of its own width.
    """
    for name, x in (("queries", queries), ("keys", keys), ("values", values)):
        if len(x.shape) != 3:
            raise invalid(f"scaled_dot_product_attention: {name} {x.name} has shape {list(x.shape)}", "give [N, T, D]")
    if queries.shape[-1] != keys.shape[-1] or keys.shape[-2] != values.shape[-2]:
        raise invalid(
            f"scaled_dot_product_attention: queries {list(queries.shape)}, keys {list(keys.shape)}, "
            f"values {list(values.shape)}",
            "queries and keys have one width, keys and values one length",
        )
    if queries.shape[-1] % num_heads or values.shape[-1] % num_heads:
        raise invalid(
            f"scaled_dot_product_attention: {num_heads} heads for widths {queries.shape[-1]} and {values.shape[-1]}",
            "the number of heads must divide both",
        )
    if num_heads > 1:
        queries, keys, values = (layers.fc(x, x.shape[-1], num_flatten_dims=2) for x in (queries, keys, values))

    def heads(x: Variable) -> Variable:
        if num_heads == 1:
            return x
        parts = layers.reshape(x, [*x.shape[:2], num_heads, x.shape[-1] // num_heads])
        return layers.transpose(parts, [0, 2, 1, 3])

    q, k, v = heads(queries), heads(keys), heads(values)
    scores = layers.matmul(layers.scale(q, (keys.shape[-1] // num_heads) ** -0.5), k, transpose_y=True)
    weights = layers.reshape(layers.reshape(scores, [-1, scores.shape[-1]], act="softmax"), list(scores.shape))
    if dropout_rate:
        weights = layers.dropout(weights, dropout_rate)
    context = layers.matmul(weights, v)
    if num_heads == 1:
        return context
    joined = layers.transpose(context, [0, 2, 1, 3])
    return layers.reshape(joined, [*joined.shape[:2], joined.shape[2] * joined.shape[3]])


def __getattr__(name: str) -> MissingName:
    return missing_name("fluid.nets", name, {}, "write it with fluid.layers: it is a few of them")
