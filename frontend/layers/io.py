"""Where data enters a program."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import invalid
from ..framework import default_main_program
from ..variable import Variable
from ..vartype import DTypeLike, VarType


def _declare(name: str, shape: Sequence[int], dtype: DTypeLike, lod_level: int, stop: bool, check: bool) -> Variable:
    if not isinstance(name, str) or not name:
        raise invalid(f"data: the name is {name!r}", "give the name under which it will be fed")
    block = default_main_program().global_block()
    if name in block.vars and not block.vars[name].is_data:
        raise invalid(f"data: the name {name} is already taken by {block.vars[name].describe()}", "choose another")
    return block.create_var(
        name=name,
        shape=shape,
        dtype=dtype,
        lod_level=lod_level,
        stop_gradient=stop,
        is_data=True,
        need_check_feed=check,
    )


def data(
    name: str,
    shape: Sequence[int],
    append_batch_size: bool = True,
    dtype: DTypeLike = "float32",
    lod_level: int = 0,
    type: VarType = VarType.LOD_TENSOR,
    stop_gradient: bool = True,
) -> Variable:
    """A Variable to be fed under ``name``.

    Args:
        name: The key in the feed.
        shape: Extents of one example; the batch is put in front as -1, unless ``append_batch_size=False`` or
            an extent is already open.
        append_batch_size: See ``shape``.
        dtype: Element type.
        lod_level: 1 for sequences of different lengths, fed as LoDTensors.
        type: Only dense and LoD tensors exist.
        stop_gradient: False to have a gradient for the data.
    """
    if type is not VarType.LOD_TENSOR:
        raise invalid(f"data: type {type} cannot be fed", "leave out type")
    extents = [-1 if d is None else int(d) for d in shape]
    if append_batch_size and all(d >= 0 for d in extents):
        extents = [-1, *extents]
    return _declare(name, extents, dtype, lod_level, stop_gradient, False)


def data_v2(name: str, shape: Sequence[int | None], dtype: DTypeLike = "float32", lod_level: int = 0) -> Variable:
    """``fluid.data``: the shape is taken as it is (None or -1 for open extents) and every feed is checked."""
    extents = [-1 if d is None else int(d) for d in shape]
    return _declare(name, extents, dtype, lod_level, True, True)
