"""Arrays of Variables, written and read by index; in eager mode they are lists."""

from __future__ import annotations

import numpy as np

from ..errors import invalid, wrong_type
from ..framework import in_dygraph_mode
from ..layer_helper import LayerHelper, check_variable
from ..variable import Variable
from ..vartype import DTypeLike, VarType
from .arrange import stack
from .tensor import assign, concat

Array = Variable | list[Variable]


def create_array(dtype: DTypeLike) -> Array:
    """An empty array for Variables of ``dtype``; a list in eager mode."""
    if in_dygraph_mode():
        return []
    helper = LayerHelper("array")
    return helper.block.create_var(name=f"{helper.name}.out", type=VarType.LOD_TENSOR_ARRAY, dtype=dtype)


def array_write(x: Variable, i: Variable, array: Array | None = None) -> Array:
    """Put ``x`` at index ``i`` (int64 [1]) of ``array``, or of a new one; returns the array."""
    check_variable("array_write", "x", x)
    check_index("array_write", i)
    if in_dygraph_mode():
        items = [] if array is None else _listed("array_write", array)
        at = int(i.numpy()[0])
        if at > len(items):
            raise invalid(f"array_write: index {at} of {len(items)} Variables", "write at most behind the last")
        items[at : at + 1] = [x]
        return items
    helper = LayerHelper("array_write")
    if array is None:
        array = helper.block.create_var(name=f"{helper.name}.out", type=VarType.LOD_TENSOR_ARRAY, dtype=x.dtype)
    out = check_array("array_write", array)
    out.shape = x.shape
    out.lod_level = max(out.lod_level, x.lod_level)
    helper.op("write_to_array", {"X": [x], "I": [i]}, {"Out": [out]})
    return out


def array_read(array: Array, i: Variable) -> Variable:
    """The Variable at index ``i`` (int64 [1]) of ``array``."""
    check_index("array_read", i)
    if in_dygraph_mode():
        items, at = _listed("array_read", array), int(i.numpy()[0])
        if not -len(items) <= at < len(items):
            raise invalid(f"array_read: index {at} of {len(items)} Variables", "write it first")
        return items[at]
    held = check_array("array_read", array)
    helper = LayerHelper("array_read")
    out = helper.temporary(held.dtype, held.shape, lod_level=held.lod_level)
    helper.op("read_from_array", {"X": [held], "I": [i]}, {"Out": [out]})
    return out


def array_length(array: Array) -> Variable | int:
    """How many Variables ``array`` holds, int64 [1]; an int in eager mode."""
    if in_dygraph_mode():
        return len(_listed("array_length", array))
    held = check_array("array_length", array)
    helper = LayerHelper("array_length")
    out = helper.temporary(VarType.INT64, [1], stop_gradient=True)
    helper.op("lod_array_length", {"X": [held]}, {"Out": [out]})
    return out


def tensor_array_to_tensor(
    input: Array, axis: int = 1, name: str | None = None, use_stack: bool = False
) -> tuple[Variable, Variable]:
    """The Variables of an array joined along ``axis`` (on a new axis with ``use_stack``), and the extent of each there,
    int32."""
    if in_dygraph_mode():
        items = _listed("tensor_array_to_tensor", input)
        joined = stack(items, axis) if use_stack else concat(items, axis)
        return joined, assign(np.asarray([int(x.shape[axis]) for x in items], np.int32))
    held = check_array("tensor_array_to_tensor", input)
    helper = LayerHelper("tensor_array_to_tensor", name)
    shape = list(held.shape)
    if not -len(shape) - use_stack <= axis < len(shape) + use_stack:
        raise invalid(f"tensor_array_to_tensor: axis {axis} of Variables of shape {shape}", "use one of their axes")
    if use_stack:
        shape.insert(axis % (len(shape) + 1), -1)
    else:
        shape[axis] = -1
    out = helper.temporary(held.dtype, shape)
    sizes = helper.temporary(VarType.INT32, ())
    helper.op(
        "tensor_array_to_tensor",
        {"X": [held]},
        {"Out": [out], "OutIndex": [sizes]},
        {"axis": axis, "use_stack": bool(use_stack)},
    )
    return out, sizes


def check_index(layer: str, i: object) -> None:
    """Refuse an index that is not one int64 Variable."""
    check_variable(layer, "i", i)
    assert isinstance(i, Variable)
    if i.dtype is not VarType.INT64 or i.shape not in ((1,), ()):
        raise wrong_type(
            f"{layer}: the index {i.name} is {i.dtype.numpy.name}{list(i.shape)}",
            "give an int64 of shape [1], such as fluid.layers.fill_constant([1], 'int64', 0)",
        )


def check_array(layer: str, array: object) -> Variable:
    """``array``, refused unless it is the Variable of an array."""
    if not isinstance(array, Variable) or array.type is not VarType.LOD_TENSOR_ARRAY:
        raise wrong_type(f"{layer}: the array is {_called(array)}", "give what create_array or array_write returned")
    return array


def _listed(layer: str, array: object) -> list[Variable]:
    if not isinstance(array, list):
        raise wrong_type(f"{layer}: the array is {_called(array)}", "in eager mode arrays are lists of Variables")
    return array


def _called(array: object) -> str:
    return f"the Variable {array.name}" if isinstance(array, Variable) else type(array).__name__
