"""Images of other sizes."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import invalid, unsupported
from ..layer_helper import LayerHelper
from ..variable import Variable
from .spatial import image_extents, image_shape


def image_resize(
    input: Variable,
    out_shape: Sequence[int] | None = None,
    scale: float | None = None,
    name: str | None = None,
    resample: str = "BILINEAR",
    actual_shape: Variable | None = None,
    align_corners: bool = True,
    align_mode: int = 1,
    data_format: str = "NCHW",
) -> Variable:
    """Images of the size ``out_shape`` = (H', W'), or ``scale`` times as large, by ``'NEAREST'`` or ``'BILINEAR'``.

    Pixel i of the result is read at ``i (H - 1) / (H' - 1)`` if ``align_corners``, else at ``i H / H'``, or with
    ``align_mode=0`` (bilinear only) at ``(i + 1/2) H / H' - 1/2``.
    """
    if resample not in ("NEAREST", "BILINEAR"):
        if resample == "TRILINEAR":
            raise unsupported("image_resize: resample 'TRILINEAR' is not implemented", "resize two axes at a time")
        raise invalid(f"image_resize: unknown resample {resample!r}", "use 'NEAREST' or 'BILINEAR'")
    if align_mode not in (0, 1) or not isinstance(align_corners, bool):
        raise invalid(
            f"image_resize: align_corners is {align_corners!r}, align_mode {align_mode!r}", "use a bool, and 0 or 1"
        )
    kind = f"{resample.lower()}_interp"
    helper = LayerHelper(kind, name)
    channels, *extents = image_extents(helper, input, data_format)
    if isinstance(out_shape, Variable) or isinstance(scale, Variable) or actual_shape is not None:
        raise unsupported("image_resize: the size is a Variable", "give numbers known when the program is built")
    if out_shape is not None:
        if any(isinstance(d, Variable) for d in out_shape):
            raise unsupported(
                "image_resize: out_shape holds a Variable", "give numbers known when the program is built"
            )
        size = [int(d) for d in out_shape]
        if len(size) != 2 or min(size) < 1:
            raise invalid(f"image_resize: out_shape is {size}", "give a height and a width")
        spatial, factor = size, 0.0
    elif scale is not None and scale > 0:
        factor, size = float(scale), [-1, -1]
        spatial = [-1 if d < 0 else int(d * factor) for d in extents]
    else:
        raise invalid(f"image_resize: out_shape is None and scale is {scale!r}", "give a size, or a positive scale")
    out = helper.temporary(input.dtype, image_shape(data_format, input.shape[0], channels, spatial))
    attrs = {
        "out_d": -1,
        "out_h": size[0],
        "out_w": size[1],
        "scale": factor,
        "interp_method": resample.lower(),
        "align_corners": align_corners,
        "align_mode": align_mode,
        "data_layout": data_format,
    }
    helper.op(kind, {"X": [input]}, {"Out": [out]}, attrs)
    return out


def interpolate(
    input: Variable,
    out_shape: Sequence[int] | None = None,
    scale: float | None = None,
    name: str | None = None,
    resample: str = "BILINEAR",
    actual_shape: Variable | None = None,
    align_corners: bool = True,
    align_mode: int = 1,
    data_format: str = "NCHW",
) -> Variable:
    """Another name of `image_resize`."""
    return image_resize(input, out_shape, scale, name, resample, actual_shape, align_corners, align_mode, data_format)


def resize_bilinear(
    input: Variable,
    out_shape: Sequence[int] | None = None,
    scale: float | None = None,
    name: str | None = None,
    actual_shape: Variable | None = None,
    align_corners: bool = True,
    align_mode: int = 1,
    data_format: str = "NCHW",
) -> Variable:
    """`image_resize` that weighs the four nearest pixels."""
    return image_resize(input, out_shape, scale, name, "BILINEAR", actual_shape, align_corners, align_mode, data_format)


def resize_nearest(
    input: Variable,
    out_shape: Sequence[int] | None = None,
    scale: float | None = None,
    name: str | None = None,
    actual_shape: Variable | None = None,
    align_corners: bool = True,
    data_format: str = "NCHW",
) -> Variable:
    """`image_resize` that takes the nearest pixel."""
    return image_resize(input, out_shape, scale, name, "NEAREST", actual_shape, align_corners, 1, data_format)


def image_resize_short(input: Variable, out_short_len: int, resample: str = "BILINEAR") -> Variable:
    """`image_resize` so that the shorter side gets ``out_short_len`` pixels and the proportions stay."""
    _, *extents = image_extents(LayerHelper("image_resize_short", "image_resize_short"), input, "NCHW")
    if min(extents) < 1:
        raise invalid(
            f"image_resize_short: input {input.name} has shape {list(input.shape)}", "declare its height and width"
        )
    ratio = float(out_short_len) / min(extents)
    short = extents.index(min(extents))
    size = [out_short_len if i == short else int(d * ratio + 0.5) for i, d in enumerate(extents)]
    return image_resize(input, size, resample=resample)
