"""What the layers over images share: pairs of numbers, paddings, and where channels and extents are."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import invalid
from ..layer_helper import LayerHelper
from ..source import user_location
from ..variable import Variable
from ..vartype import VarType

FLOATS = (VarType.FP32, VarType.FP64, VarType.FP16)
Pair = int | Sequence[int]
Padding = int | str | Sequence[int | Sequence[int]]


def pair(layer: str, argument: str, value: Pair) -> list[int]:
    """One number for height and width, or one for each."""
    found = [value, value] if isinstance(value, int) else [int(v) for v in value]
    if len(found) != 2:
        raise invalid(f"{layer}: {argument} is {value!r}", "give one integer, or one for height and one for width")
    return found


def padding_of(layer: str, padding: Padding, data_format: str = "NCHW") -> tuple[list[int], str]:
    """Fluid's ``paddings`` (two or four integers) and ``padding_algorithm``."""
    if isinstance(padding, str):
        algorithm = padding.upper()
        if algorithm not in ("SAME", "VALID"):
            raise invalid(f"{layer}: unknown padding {padding!r}", "use 'SAME', 'VALID' or integers")
        return [0, 0], algorithm
    if isinstance(padding, int):
        return [padding, padding], "EXPLICIT"
    parts = list(padding)
    if len(parts) == 4 and all(isinstance(p, list | tuple) for p in parts):
        sides = [[int(v) for v in p] for p in parts]  # type: ignore[union-attr]
        n, c = sides[0], sides.pop(channel_axis(data_format, 4))
        if n != [0, 0] or c != [0, 0]:
            raise invalid(f"{layer}: padding {padding} pads batch or channels", "pad only height and width")
        flat = [*sides[1], *sides[2]]
    else:
        flat = [int(p) for p in parts]  # type: ignore[arg-type]
    if len(flat) == 4 and flat[0] == flat[1] and flat[2] == flat[3]:
        flat = [flat[0], flat[2]]
    if len(flat) not in (2, 4):
        raise invalid(f"{layer}: padding is {padding!r}", "give 1, 2 or 4 integers, or [[0,0],[0,0],[t,b],[l,r]]")
    return flat, "EXPLICIT"


def channel_axis(data_format: str, rank: int) -> int:
    """Where the channels are: axis 1, or the last one of a format like NHWC."""
    return 1 if data_format.startswith("NC") else rank - 1


def check_format(layer: str, data_format: str, argument: str = "data_format") -> None:
    """Refuse anything but NCHW and NHWC."""
    if data_format not in ("NCHW", "NHWC"):
        raise invalid(f"{layer}: {argument} is {data_format!r}", "use 'NCHW' or 'NHWC'")


def image_extents(helper: LayerHelper, input: Variable, data_format: str) -> tuple[int, int, int]:
    """Checks ``input`` and gives its (channels, height, width)."""
    helper.check_dtype("input", input, FLOATS)
    # Fluid's names for some ops (bilinear_interp) are not what the user wrote.
    layer = user_location().layer or helper.layer_type
    check_format(layer, data_format)
    if len(input.shape) != 4:
        named = ", ".join(data_format)
        raise invalid(
            f"{layer}: input {input.name} has shape {list(input.shape)}, but must be [{named}]",
            f"reshape it: fluid.layers.reshape(x, [-1{named[1:]}])",
        )
    _, *rest = input.shape
    channels = rest.pop(channel_axis(data_format, 4) - 1)
    return channels, rest[0], rest[1]


def image_shape(data_format: str, n: int, channels: int, spatial: Sequence[int]) -> list[int]:
    """The shape of images in a format."""
    return [n, channels, *spatial] if data_format == "NCHW" else [n, *spatial, channels]
