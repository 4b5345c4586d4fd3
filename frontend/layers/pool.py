"""Pooling of images."""

from __future__ import annotations

from ..errors import invalid, unsupported
from ..layer_helper import LayerHelper
from ..shapes import pool_extent, spatial_pads
from ..variable import Variable
from .spatial import Padding, Pair, image_extents, image_shape, padding_of, pair


def pool2d(
    input: Variable,
    pool_size: Pair = -1,
    pool_type: str = "max",
    pool_stride: Pair = 1,
    pool_padding: Padding = 0,
    global_pooling: bool = False,
    use_cudnn: bool = True,
    ceil_mode: bool = False,
    name: str | None = None,
    exclusive: bool = True,
    data_format: str = "NCHW",
) -> Variable:
    """Maximum or mean over windows of ``[N, C, H, W]``.

    ``global_pooling`` takes the whole image as one window; ``exclusive`` leaves padding out of the mean;
    ``ceil_mode`` keeps a last, partial window.
    """
    del use_cudnn
    helper = LayerHelper("pool2d", name)
    channels, height, width = image_extents(helper, input, data_format)
    if pool_type not in ("max", "avg"):
        raise invalid(f"pool2d: unknown pool_type {pool_type!r}", "use 'max' or 'avg'")
    ksize, strides = pair("pool2d", "pool_size", pool_size), pair("pool2d", "pool_stride", pool_stride)
    if not global_pooling and any(k <= 0 for k in ksize):
        raise invalid(f"pool2d: pool_size is {pool_size!r}", "give the window's size, or global_pooling=True")
    paddings, algorithm = padding_of("pool2d", pool_padding, data_format)
    if global_pooling:
        spatial = [1, 1]
    else:
        pads = spatial_pads(paddings, algorithm, (height, width), ksize, strides)
        spatial = [
            pool_extent(extent, k, s, p, ceil_mode) for extent, k, s, p in zip((height, width), ksize, strides, pads)
        ]
        if any(extent == 0 or extent < -1 for extent in spatial):
            raise invalid(
                f"pool2d: a {ksize[0]}x{ksize[1]} window does not fit into input {input.name} {list(input.shape)}",
                "use a smaller pool_size or more padding",
            )
    out = helper.temporary(input.dtype, image_shape(data_format, input.shape[0], channels, spatial))
    attrs = {
        "pooling_type": pool_type,
        "ksize": ksize,
        "global_pooling": global_pooling,
        "strides": strides,
        "paddings": paddings,
        "padding_algorithm": algorithm,
        "ceil_mode": ceil_mode,
        "exclusive": exclusive,
        "data_format": data_format,
    }
    helper.op("pool2d", {"X": [input]}, {"Out": [out]}, attrs)
    return out


def adaptive_pool2d(
    input: Variable,
    pool_size: Pair,
    pool_type: str = "max",
    require_index: bool = False,
    name: str | None = None,
) -> Variable:
    """Maximum or mean of ``[N, C, H, W]`` over windows that make ``pool_size`` = (H', W') results.

    Window i spans rows ``floor(i H / H')`` to ``ceil((i + 1) H / H')``; columns alike.
    """
    layer = "adaptive_pool2d"
    op = "max_pool2d_with_index" if pool_type == "max" else "pool2d"
    helper = LayerHelper(op, name)
    channels, *extents = image_extents(helper, input, "NCHW")
    if pool_type not in ("max", "avg"):
        raise invalid(f"{layer}: unknown pool_type {pool_type!r}", "use 'max' or 'avg'")
    if require_index:
        if pool_type == "avg":
            raise invalid(f"{layer}: require_index=True with pool_type 'avg'", "only a maximum has a place")
        raise unsupported(
            f"{layer}: require_index=True is not implemented", "leave it out, and find the place by argmax"
        )
    size = pair(layer, "pool_size", pool_size)
    if min(size) < 1 or any(0 <= extent < out for extent, out in zip(extents, size)):
        raise invalid(
            f"{layer}: pool_size is {size}, input {input.name} has shape {list(input.shape)}",
            "give at least 1, and not more than there are rows and columns",
        )
    out = helper.temporary(input.dtype, [input.shape[0], channels, *size])
    attrs = {"ksize": size, "adaptive": True, "global_pooling": False, "strides": [1, 1], "paddings": [0, 0]}
    outputs = {"Out": [out]}
    if pool_type == "max":
        outputs["Mask"] = [helper.temporary(input.dtype, out.shape)]
    else:
        attrs |= {"pooling_type": pool_type, "ceil_mode": False, "exclusive": True}
        attrs |= {"padding_algorithm": "EXPLICIT", "data_format": "NCHW"}
    helper.op(op, {"X": [input]}, outputs, attrs)
    return out
