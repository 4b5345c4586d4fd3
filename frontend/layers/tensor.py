"""Creating, filling, casting and joining Variables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import unique_name
from ..errors import invalid, wrong_type
from ..framework import AttrValue
from ..initializer import ConstantInitializer, Initializer
from ..layer_helper import LayerHelper, check_variable
from ..param_attr import ParamAttrLike
from ..shapes import axis_of
from ..variable import Parameter, Variable
from ..vartype import DTypeLike, VarType, convert_dtype
from .arrange import stack
from .sizes import Stated, stated

Number = int | float
ShapeLike = Sequence["int | Variable"]


def create_tensor(dtype: DTypeLike, name: str | None = None, persistable: bool = False) -> Variable:
    """An empty Variable that other layers write into."""
    helper = LayerHelper("create_tensor", name)
    return helper.block.create_var(name=helper.name, dtype=dtype, persistable=persistable)


def create_parameter(
    shape: Sequence[int],
    dtype: DTypeLike,
    name: str | None = None,
    attr: ParamAttrLike = None,
    is_bias: bool = False,
    default_initializer: Initializer | None = None,
) -> Parameter:
    """A trained parameter of its own; Xavier-initialised, or zero for a bias."""
    helper = LayerHelper("create_parameter", name)
    if attr is None and name is not None:
        attr = name
    param = helper.parameter(attr, shape, dtype, is_bias=is_bias, default=default_initializer)
    if param is None:
        raise invalid("create_parameter: attr is False", "leave it out, or give a ParamAttr")
    return param


def create_global_var(
    shape: Sequence[int],
    value: float,
    dtype: DTypeLike,
    persistable: bool = False,
    force_cpu: bool = False,
    name: str | None = None,
) -> Variable:
    """A Variable outside all blocks that startup fills with ``value``; kept between steps if ``persistable``."""
    helper = LayerHelper("global_var", name)
    return helper.initialised_variable(
        name or unique_name.generate("_generated_var"),
        shape,
        dtype,
        ConstantInitializer(float(value), force_cpu),
        persistable=persistable,
        stop_gradient=True,
    )


def autoincreased_step_counter(counter_name: str | None = None, begin: int = 1, step: int = 1) -> Variable:
    """An int64 counter of shape [1] that reads ``begin`` in the first step and grows by ``step``."""
    helper = LayerHelper("global_step_counter")
    name = counter_name or "@STEP_COUNTER@"
    block = helper.main_program.global_block()
    new = name not in block.vars
    counter = helper.initialised_variable(name, [1], VarType.INT64, ConstantInitializer(begin - 1, force_cpu=True))
    if new:
        block.prepend_op("increment", {"X": [counter]}, {"Out": [counter]}, {"step": float(step)})
        counter.stop_gradient = True
    return counter


def cast(x: Variable, dtype: DTypeLike) -> Variable:
    """X as another element type."""
    helper = LayerHelper("cast")
    check_variable("cast", "x", x)
    to = convert_dtype(dtype)
    out = helper.temporary(to, x.shape, lod_level=x.lod_level)
    helper.op("cast", {"X": [x]}, {"Out": [out]}, {"in_dtype": x.dtype, "out_dtype": to})
    return out


def concat(input: Sequence[Variable], axis: int = 0, name: str | None = None) -> Variable:
    """The Variables joined along ``axis``; their other extents must agree."""
    helper = LayerHelper("concat", name)
    inputs = [input] if isinstance(input, Variable) else list(input)
    if not inputs:
        raise invalid("concat: the list of Variables is empty", "give at least one")
    for i, x in enumerate(inputs):
        check_variable("concat", f"input[{i}]", x)
        if x.dtype != inputs[0].dtype:
            raise wrong_type(
                f"concat: {inputs[0].name} holds {inputs[0].dtype.numpy.name}, {x.name} {x.dtype.numpy.name}",
                "cast them to one type",
            )
    at = axis_of("concat", inputs[0], axis)
    shape = list(inputs[0].shape)
    for x in inputs[1:]:
        if len(x.shape) != len(shape):
            raise invalid(f"concat: {inputs[0].name} {shape} and {x.name} {list(x.shape)}", "the ranks must agree")
        for i, (p, q) in enumerate(zip(shape, x.shape)):
            if i == at:
                shape[i] = -1 if p < 0 or q < 0 else p + q
            elif p != q and p >= 0 and q >= 0:
                raise invalid(
                    f"concat: {inputs[0].name} {list(inputs[0].shape)} and {x.name} {list(x.shape)} "
                    f"differ outside axis {axis}",
                    "only the joined axis may differ",
                )
            else:
                shape[i] = max(p, q)
    out = helper.temporary(inputs[0].dtype, shape, lod_level=inputs[0].lod_level)
    helper.op("concat", {"X": inputs}, {"Out": [out]}, {"axis": axis})
    return out


def assign(input: Variable | np.ndarray, output: Variable | None = None) -> Variable:
    """A copy of a Variable, or an array as a constant; written into ``output`` if given."""
    helper = LayerHelper("assign")
    if isinstance(input, Variable):
        if output is None:
            output = helper.temporary(input.dtype, input.shape, lod_level=input.lod_level)
        else:
            output.shape = input.shape
        helper.op("assign", {"X": [input]}, {"Out": [output]})
        return output
    if not isinstance(input, np.ndarray):
        raise wrong_type(f"assign: input is {type(input).__name__}", "give a Variable or a numpy array")
    # An array of Python numbers is float64 or int64; fluid's constants hold float32 in that case.
    array = input.astype(np.float32) if input.dtype == np.float64 else input
    dtype = convert_dtype(array.dtype)
    if dtype not in (VarType.FP32, VarType.INT32, VarType.INT64, VarType.BOOL):
        raise wrong_type(f"assign: an array of {array.dtype} cannot be a constant", "convert it to float32 or int64")
    if output is None:
        output = helper.temporary(dtype, array.shape)
    attrs = {"dtype": dtype, "shape": list(array.shape), "values": np.array(array, order="C")}
    helper.op("assign_value", {}, {"Out": [output]}, attrs)
    return output


def fill_constant(
    shape: ShapeLike | Variable,
    dtype: DTypeLike,
    value: Number | Variable,
    force_cpu: bool = False,
    out: Variable | None = None,
) -> Variable:
    """A constant of ``shape``; written into ``out`` if given.

    ``shape``, or an extent of it, may be a Variable of constants or of extents of layers.shape, ``value`` any Variable
    of one element.
    """
    helper = LayerHelper("fill_constant")
    wanted = static_shape("fill_constant", shape)
    kind = convert_dtype(dtype)
    if out is None:
        out = helper.temporary(kind, wanted.numbers)
    inputs = dict(wanted.inputs)
    if isinstance(value, Variable):
        inputs["ValueTensor"] = [value]
        number = 0.0
    else:
        # A float has not all of the large integers.
        number = value if kind.is_integer and isinstance(value, int) else float(value)
    attrs = {"shape": wanted.numbers, "dtype": kind, "value": number, "force_cpu": force_cpu}
    helper.op("fill_constant", inputs, {"Out": [out]}, attrs)
    out.stop_gradient = True
    return out


def static_shape(layer: str, shape: ShapeLike | Variable) -> Stated:
    """A shape whose extents are numbers, or Variables that the lowering resolves."""
    wanted = stated(layer, "shape", shape, "ShapeTensor", "ShapeTensorList")
    if any(d < 0 and i not in wanted.open for i, d in enumerate(wanted.numbers)):
        raise invalid(f"{layer}: shape {wanted.numbers} has an open extent", "use a *_batch_size_like layer")
    return wanted


def batch_like_shape(
    layer: str, input: Variable, shape: Sequence[int], input_dim_idx: int, output_dim_idx: int
) -> list[int]:
    """``shape`` with one extent taken from ``input``."""
    check_variable(layer, "input", input)
    out = [int(d) for d in shape]
    if not 0 <= output_dim_idx < len(out) or not 0 <= input_dim_idx < len(input.shape):
        raise invalid(
            f"{layer}: input_dim_idx={input_dim_idx}, output_dim_idx={output_dim_idx} with input "
            f"{list(input.shape)} and shape {out}",
            "both must name existing axes",
        )
    out[output_dim_idx] = input.shape[input_dim_idx]
    return out


def fill_constant_batch_size_like(
    input: Variable,
    shape: Sequence[int],
    dtype: DTypeLike,
    value: Number,
    input_dim_idx: int = 0,
    output_dim_idx: int = 0,
    force_cpu: bool = False,
) -> Variable:
    """A constant of ``shape`` whose extent ``output_dim_idx`` is the input's extent ``input_dim_idx``."""
    helper = LayerHelper("fill_constant_batch_size_like")
    kind = convert_dtype(dtype)
    extents = batch_like_shape(helper.layer_type, input, shape, input_dim_idx, output_dim_idx)
    out = helper.temporary(kind, extents)
    attrs = {
        "shape": [int(d) for d in shape],
        "dtype": kind,
        "value": float(value),
        "input_dim_idx": input_dim_idx,
        "output_dim_idx": output_dim_idx,
        "force_cpu": force_cpu,
    }
    helper.op("fill_constant_batch_size_like", {"Input": [input]}, {"Out": [out]}, attrs)
    out.stop_gradient = True
    return out


def zeros(shape: ShapeLike, dtype: DTypeLike, force_cpu: bool = False) -> Variable:
    """A constant 0."""
    return fill_constant(shape, dtype, 0.0, force_cpu)


def ones(shape: ShapeLike, dtype: DTypeLike, force_cpu: bool = False) -> Variable:
    """A constant 1."""
    return fill_constant(shape, dtype, 1.0, force_cpu)


def zeros_like(x: Variable, out: Variable | None = None) -> Variable:
    """Zeros of x's shape and type."""
    helper = LayerHelper("zeros_like")
    check_variable("zeros_like", "x", x)
    out = helper.temporary(x.dtype, x.shape) if out is None else out
    helper.op("fill_zeros_like", {"X": [x]}, {"Out": [out]})
    out.stop_gradient = True
    return out


def ones_like(x: Variable, out: Variable | None = None) -> Variable:
    """Ones of x's shape and type."""
    helper = LayerHelper("ones_like")
    check_variable("ones_like", "x", x)
    out = helper.temporary(x.dtype, x.shape) if out is None else out
    helper.op("fill_any_like", {"X": [x]}, {"Out": [out]}, {"value": 1.0})
    return out


def _bound(value: Number | Variable, dtype: VarType) -> Variable:
    return value if isinstance(value, Variable) else fill_constant([1], dtype, value)


def range(start: Number, end: Number, step: Number, dtype: DTypeLike) -> Variable:
    """``start, start + step, ...`` below ``end``."""
    helper = LayerHelper("range")
    kind = convert_dtype(dtype)
    inputs = {"Start": [_bound(start, kind)], "End": [_bound(end, kind)], "Step": [_bound(step, kind)]}
    extent = -1
    attrs: dict[str, AttrValue] = {}
    if not any(isinstance(v, Variable) for v in (start, end, step)):
        if step == 0:
            raise invalid("range: step is 0", "give a step that leads from start to end")
        attrs["values"] = np.arange(start, end, step, dtype=kind.numpy)
        extent = len(attrs["values"])
    out = helper.temporary(kind, [extent])
    helper.op("range", inputs, {"Out": [out]}, attrs)
    out.stop_gradient = True
    return out


def linspace(start: Number, stop: Number, num: int, dtype: DTypeLike) -> Variable:
    """``num`` equally spaced values from ``start`` to ``stop``, both included."""
    helper = LayerHelper("linspace")
    kind = convert_dtype(dtype)
    inputs = {"Start": [_bound(start, kind)], "Stop": [_bound(stop, kind)], "Num": [_bound(num, VarType.INT32)]}
    extent = -1
    attrs: dict[str, AttrValue] = {}
    if not any(isinstance(v, Variable) for v in (start, stop, num)):
        if num < 1:
            raise invalid(f"linspace: num is {num}", "give at least 1")
        attrs["values"] = np.linspace(start, stop, num, dtype=kind.numpy)
        extent = num
    out = helper.temporary(kind, [extent])
    helper.op("linspace", inputs, {"Out": [out]}, attrs)
    return out


def eye(
    num_rows: int,
    num_columns: int | None = None,
    batch_shape: Sequence[int] | None = None,
    dtype: DTypeLike = "float32",
) -> Variable:
    """Ones on the main diagonal of a [num_rows, num_columns] matrix of zeros; ``batch_shape`` of them if given."""
    helper = LayerHelper("eye")
    columns = num_rows if num_columns is None else num_columns
    if num_rows < 1 or columns < 1:
        raise invalid(f"eye: a matrix of {num_rows} rows and {columns} columns", "both must be positive")
    kind = convert_dtype(dtype)
    out = helper.temporary(kind, [num_rows, columns], stop_gradient=True)
    helper.op("eye", {}, {"Out": [out]}, {"num_rows": num_rows, "num_columns": columns, "dtype": kind})
    for extent in reversed(batch_shape or []):
        out = stack([out] * extent)
    return out


def diag(diagonal: Variable | np.ndarray) -> Variable:
    """A square matrix with the vector ``diagonal`` on its main diagonal."""
    helper = LayerHelper("diag")
    if not isinstance(diagonal, Variable):
        diagonal = assign(diagonal)
    if len(diagonal.shape) != 1:
        raise invalid(f"diag: {diagonal.name} has shape {list(diagonal.shape)}", "give a vector")
    out = helper.temporary(diagonal.dtype, [diagonal.shape[0]] * 2, stop_gradient=True)
    helper.op("diag", {"Diagonal": [diagonal]}, {"Out": [out]})
    return out


def reverse(x: Variable, axis: int | Sequence[int]) -> Variable:
    """X with the order along the given axes reversed."""
    helper = LayerHelper("reverse")
    check_variable("reverse", "x", x)
    axes = [axis] if isinstance(axis, int) else list(axis)
    for a in axes:
        axis_of("reverse", x, a)
    out = helper.temporary(x.dtype, x.shape)
    helper.op("reverse", {"X": [x]}, {"Out": [out]}, {"axis": axes})
    return out


def _arg(op: str, layer: str, x: Variable, axis: int) -> Variable:
    helper = LayerHelper(op)
    check_variable(layer, "x", x)
    at = axis_of(layer, x, axis)
    shape = [d for i, d in enumerate(x.shape) if i != at]
    out = helper.temporary(VarType.INT64, shape, stop_gradient=True)
    helper.op(op, {"X": [x]}, {"Out": [out]}, {"axis": axis})
    return out


def argmax(x: Variable, axis: int = 0) -> Variable:
    """int64 index of the largest element along ``axis``."""
    return _arg("arg_max", "argmax", x, axis)


def argmin(x: Variable, axis: int = 0) -> Variable:
    """int64 index of the smallest element along ``axis``."""
    return _arg("arg_min", "argmin", x, axis)


def argsort(
    input: Variable, axis: int = -1, descending: bool = False, name: str | None = None
) -> tuple[Variable, Variable]:
    """The elements sorted along ``axis``, and the int64 indices that sort them."""
    helper = LayerHelper("argsort", name)
    check_variable("argsort", "input", input)
    axis_of("argsort", input, axis)
    out = helper.temporary(input.dtype, input.shape, stop_gradient=True)
    indices = helper.temporary(VarType.INT64, input.shape, stop_gradient=True)
    attrs = {"axis": axis, "descending": descending}
    helper.op("argsort", {"X": [input]}, {"Out": [out], "Indices": [indices]}, attrs)
    return out, indices
