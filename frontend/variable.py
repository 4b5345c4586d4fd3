"""Variables of a Program: names with a shape and an element type, and the operators on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from . import unique_name
from .errors import invalid, wrong_type
from .shapes import Extents, broadcast_shape, slice_extent
from .vartype import DTypeLike, VarType, convert_dtype

if TYPE_CHECKING:
    from .clip import ErrorClipByValue, GradientClipBase
    from .framework import Block, Program
    from .memory import Memory
    from .regularizer import WeightDecayRegularizer

GRAD_SUFFIX = "@GRAD"
Scalar = int | float
# fluid's slice op takes this as "to the end".
SLICE_END = 10_000_000
_FETCH = "fetch it: exe.run(program, feed=..., fetch_list=[x])"


class Variable:
    """A named value of a `Block`: data, a temporary, or state that outlives a step (``persistable``).

    ``shape`` holds -1 where the extent is known only when data is fed; ``dtype`` is a `VarType`; ``is_public``
    marks a feed that is no secret (`fluid.privacy.public`). Created by layers and by `Block.create_var`, never
    directly.
    """

    is_eager = False
    """Whether it has a value at once, as variables of dygraph do."""
    memory: Memory | None = None
    """Where a variable of dygraph that a traced program took in keeps its value."""
    fields: Sequence[Variable] = ()
    """Of a reader: Variables of the kinds that a batch has."""

    def __init__(
        self,
        block: Block,
        type: VarType = VarType.LOD_TENSOR,
        name: str | None = None,
        shape: Iterable[int] | None = None,
        dtype: DTypeLike | None = None,
        lod_level: int | None = None,
        persistable: bool | None = None,
        error_clip: ErrorClipByValue | None = None,
        stop_gradient: bool = False,
        is_data: bool = False,
        need_check_feed: bool = False,
    ) -> None:
        self.block = block
        self.type = type
        self._name = name if name is not None else unique_name.generate("_generated_var")
        self._shape = tuple(int(d) for d in shape) if shape is not None else ()
        self._dtype = None if dtype is None else convert_dtype(dtype)
        self._lod_level = lod_level or 0
        self._persistable = bool(persistable)
        self._error_clip = error_clip
        self._stop_gradient = stop_gradient
        self.is_data = is_data
        self.need_check_feed = need_check_feed
        self.is_public = False

    @property
    def name(self) -> str:
        return self._name

    def within(self, program: Program, op: str) -> Variable:
        """This variable as an op of ``program`` names it.  Raises ProgramError for a variable of another program."""
        if self.block.program is not program:
            raise invalid(
                f"{op}: {self.name} belongs to another Program",
                "build the layers of one model inside one program_guard",
            )
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        return Extents(self._shape)

    @shape.setter
    def shape(self, shape: Iterable[int]) -> None:
        self._shape = tuple(int(d) for d in shape)
        self.block.program.edited()

    @property
    def dtype(self) -> VarType:
        if self._dtype is None:
            raise wrong_type(f"{self.name} has no element type yet", "give dtype= where it is created")
        return self._dtype

    @property
    def has_dtype(self) -> bool:
        """Whether the element type is known (step scopes and fresh tensors have none)."""
        return self._dtype is not None

    def set_dtype(self, dtype: DTypeLike) -> None:
        """Fix the element type of a variable that was created without one."""
        self._dtype = convert_dtype(dtype)
        self.block.program.edited()

    @property
    def lod_level(self) -> int:
        """Levels of nesting of the rows: 0 for dense data, 1 for sequences of different lengths."""
        return self._lod_level

    @lod_level.setter
    def lod_level(self, level: int) -> None:
        self._lod_level = level
        self.block.program.edited()

    @property
    def persistable(self) -> bool:
        return self._persistable

    @persistable.setter
    def persistable(self, value: bool) -> None:
        self._persistable = value
        self.block.program.edited()

    @property
    def stop_gradient(self) -> bool:
        return self._stop_gradient

    @stop_gradient.setter
    def stop_gradient(self, value: bool) -> None:
        self._stop_gradient = value
        self.block.program.edited()

    @property
    def error_clip(self) -> ErrorClipByValue | None:
        """Clip of this variable's own gradient during the backward pass."""
        return self._error_clip

    @error_clip.setter
    def error_clip(self, value: ErrorClipByValue | None) -> None:
        self._error_clip = value
        self.block.program.edited()

    @property
    def grad_name(self) -> str:
        return self.name + GRAD_SUFFIX

    def astype(self, dtype: DTypeLike) -> Variable:
        """The values as another element type."""
        return _cast(self, convert_dtype(dtype))

    def detach(self) -> Variable:
        """In a traced function: the same value, through which no gradient passes. In other Programs it is refused."""
        captures = self.block.program.captures
        if captures is not None:
            return captures.detached(self)
        raise invalid(
            f"{self.name}.detach() belongs to dygraph", "in a Program use assign() and set stop_gradient = True"
        )

    def describe(self) -> str:
        """One line: ``fc_0.w_0 : float32[784, 10], persistable``."""
        kind = self.type.name.lower() if self._dtype is None else self.dtype.numpy.name
        notes = [
            note
            for note, holds in (
                (f"lod_level {self.lod_level}", self.lod_level > 0),
                ("persistable", self.persistable),
                ("stop_gradient", self.stop_gradient),
            )
            if holds
        ]
        return ", ".join([f"{self.name} : {kind}{list(self.shape)}", *notes])

    def to_string(self, throw_on_error: bool, with_details: bool = False) -> str:
        """The variable as text; the arguments are Paddle's and change nothing."""
        del throw_on_error, with_details
        return self.describe()

    def __repr__(self) -> str:
        return self.describe()

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        raise self._unknown("", "use fluid.layers.cond, While or where to choose by value")

    def __iter__(self) -> Iterator[Variable]:
        if self.block.program.captures is None:
            raise wrong_type(
                f"{self.name} cannot be iterated while the program is being built",
                "use fluid.layers.unstack, split or StaticRNN",
            )
        return map(self.__getitem__, range(len(self)))

    def __len__(self) -> int:
        """The first extent; known in code of dygraph that is traced."""
        if self.block.program.captures is None or not self.shape:
            raise wrong_type(f"len: {self.name} has the shape {list(self.shape)}", "look at its shape")
        return self.shape[0]

    def _unknown(self, method: str, hint: str) -> Exception:
        """Why there is no value to look at; ``method`` is what was called."""
        if self.block.program.captures is not None:
            hint = (
                "functions under @declarative and Layers that are traced are not translated: choose by value with "
                "fluid.layers.cond, loop with fluid.layers.while_loop, compute with layers"
            )
        called = f"{method}: " if method else ""
        return wrong_type(f"{called}the value of {self.name} is not known while the program is being built", hint)

    # What variables of dygraph have, for those who call it here.
    def numpy(self) -> Any:
        """The value of a variable of dygraph; in a Program it is refused, as all that follow."""
        raise self._unknown("numpy", _FETCH)

    def set_value(self, value: object) -> None:
        del value
        raise self._unknown("set_value", "use fluid.layers.assign(value, output)")

    def backward(self, backward_strategy: object = None) -> None:
        del backward_strategy
        raise self._unknown("backward", "append it: fluid.optimizer.SGD(0.1).minimize(loss), or fluid.gradients")

    def gradient(self) -> Any:
        raise self._unknown("gradient", f"{self.grad_name} is its gradient: fetch it")

    def clear_gradient(self) -> None:
        raise self._unknown("clear_gradient", "leave it out: a Program computes gradients anew in every run")

    def __float__(self) -> float:
        raise self._unknown("float", _FETCH)

    def __int__(self) -> int:
        raise self._unknown("int", _FETCH)

    def __index__(self) -> int:
        raise self._unknown("a number of times, or an index", _FETCH)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        del dtype, copy
        raise self._unknown("as an array", _FETCH)

    # Operators, one record each, exactly as fluid writes them.
    def __add__(self, other: Variable | Scalar) -> Variable:
        return _scaled(self, other, 1.0, 1.0) if _is_scalar(other) else _binary("elementwise_add", self, other)

    __radd__ = __add__

    def __sub__(self, other: Variable | Scalar) -> Variable:
        return _scaled(self, other, 1.0, -1.0) if _is_scalar(other) else _binary("elementwise_sub", self, other)

    def __rsub__(self, other: Scalar) -> Variable:
        return _scaled(self, other, -1.0, 1.0)

    def __mul__(self, other: Variable | Scalar) -> Variable:
        if not _is_scalar(other):
            return _binary("elementwise_mul", self, other)
        return _scale(self, _checked(self, other), 0.0)

    __rmul__ = __mul__

    def __truediv__(self, other: Variable | Scalar) -> Variable:
        # An integer divided through a reciprocal would lose accuracy.
        if not _is_scalar(other) or self.dtype.is_integer:
            return _binary("elementwise_div", self, other)
        return _scale(self, 1.0 / other, 0.0)

    def __rtruediv__(self, other: Scalar) -> Variable:
        return _binary("elementwise_div", self, other, reverse=True)

    def __floordiv__(self, other: Variable | Scalar) -> Variable:
        return _binary("elementwise_floordiv", self, other)

    def __mod__(self, other: Variable | Scalar) -> Variable:
        return _binary("elementwise_mod", self, other)

    def __pow__(self, other: Variable | Scalar) -> Variable:
        return _binary("elementwise_pow", self, other)

    def __rpow__(self, other: Scalar) -> Variable:
        return _binary("elementwise_pow", self, other, reverse=True)

    def __neg__(self) -> Variable:
        return _scale(self, -1.0, 0.0)

    def __lt__(self, other: Variable | Scalar) -> Variable:
        return _binary("less_than", self, other, dtype=VarType.BOOL)

    def __le__(self, other: Variable | Scalar) -> Variable:
        return _binary("less_equal", self, other, dtype=VarType.BOOL)

    def __gt__(self, other: Variable | Scalar) -> Variable:
        return _binary("greater_than", self, other, dtype=VarType.BOOL)

    def __ge__(self, other: Variable | Scalar) -> Variable:
        return _binary("greater_equal", self, other, dtype=VarType.BOOL)

    def __eq__(self, other: Variable | Scalar) -> Variable:  # type: ignore[override]
        return _binary("equal", self, other, dtype=VarType.BOOL)

    def __ne__(self, other: Variable | Scalar) -> Variable:  # type: ignore[override]
        return _binary("not_equal", self, other, dtype=VarType.BOOL)

    def __getitem__(self, item: object) -> Variable:
        return _get_item(self, item if isinstance(item, tuple) else (item,))


class Parameter(Variable):
    """A persistable Variable that an optimizer may update, with the options of its `ParamAttr`."""

    def __init__(
        self,
        block: Block,
        shape: Sequence[int],
        dtype: DTypeLike,
        name: str | None = None,
        *,
        trainable: bool = True,
        learning_rate: float = 1.0,
        regularizer: WeightDecayRegularizer | None = None,
        do_model_average: bool = True,
        stop_gradient: bool = False,
    ) -> None:
        super().__init__(block, name=name, shape=shape, dtype=dtype, persistable=True, stop_gradient=stop_gradient)
        self._trainable = trainable
        self.learning_rate = learning_rate
        self.regularizer = regularizer
        self.do_model_average = do_model_average
        self.gradient_clip: GradientClipBase | None = None

    @property
    def trainable(self) -> bool:
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = value
        self.block.program.edited()

    @property
    def optimize_attr(self) -> dict[str, float]:
        """Fluid's spelling of the per-parameter learning rate."""
        return {"learning_rate": self.learning_rate}


def _is_scalar(value: object) -> TypeGuard[Scalar]:
    return isinstance(value, int | float | np.number)


def _temporary(block: Block, dtype: VarType, shape: Iterable[int], lod_level: int = 0) -> Variable:
    return block.create_var(
        name=unique_name.generate("tmp"), dtype=dtype, shape=shape, lod_level=lod_level, stop_gradient=False
    )


def _checked(x: Variable, value: Scalar) -> float:
    if x.dtype.is_integer and value != int(value):
        raise wrong_type(
            f"{value!r} is not a whole number, but {x.name} holds {x.dtype.numpy.name}",
            f"cast first: {x.name}.astype('float32')",
        )
    return float(value)


def _scale(x: Variable, scale: float, bias: float) -> Variable:
    block = x.block.program.current_block()
    out = _temporary(block, x.dtype, x.shape, x.lod_level)
    block.append_op("scale", {"X": [x]}, {"Out": [out]}, {"scale": scale, "bias": bias, "bias_after_scale": True})
    return out


def _scaled(x: Variable, value: Scalar, scale: float, sign: float) -> Variable:
    """``scale * x + sign * value``."""
    return _scale(x, scale, sign * _checked(x, value))


def _cast(x: Variable, dtype: VarType) -> Variable:
    block = x.block.program.current_block()
    out = _temporary(block, dtype, x.shape, x.lod_level)
    block.append_op("cast", {"X": [x]}, {"Out": [out]}, {"in_dtype": x.dtype, "out_dtype": dtype})
    return out


def _filled(x: Variable, value: Scalar, *, like: bool) -> Variable:
    """A constant of x's type: of shape [1], or of x's own shape (``like``)."""
    block = x.block.program.current_block()
    attrs = {"dtype": x.dtype, "value": float(value)}
    if like and any(d < 0 for d in x.shape):
        out = _temporary(block, x.dtype, x.shape)
        block.append_op(
            "fill_constant_batch_size_like",
            {"Input": [x]},
            {"Out": [out]},
            {**attrs, "shape": list(x.shape), "input_dim_idx": 0, "output_dim_idx": 0},
        )
    else:
        shape = list(x.shape) if like else [1]
        out = _temporary(block, x.dtype, shape)
        block.append_op("fill_constant", {}, {"Out": [out]}, {**attrs, "shape": shape})
    out.stop_gradient = True
    return out


def _binary(op: str, x: Variable, other: object, *, reverse: bool = False, dtype: VarType | None = None) -> Variable:
    if isinstance(other, Variable):
        y = other
    elif _is_scalar(other):
        y = _filled(x, other, like=reverse)
    else:
        raise wrong_type(
            f"{x.name} is combined with {type(other).__name__}, which is neither a Variable nor a number",
            "turn an array into a Variable first: fluid.layers.assign(array)",
        )
    if y.dtype != x.dtype:
        y = _cast(y, x.dtype)
    if reverse:
        x, y = y, x
    axis = 0 if y.shape and y.shape[0] == -1 else -1
    if axis == 0 and len(x.shape) < len(y.shape):
        raise invalid(
            f"{op}: {x.name} has shape {list(x.shape)} and {y.name} shape {list(y.shape)}; "
            "the left operand must have at least as many dimensions",
            "swap the operands, or reshape the left one",
        )
    block = x.block.program.current_block()
    out = _temporary(block, x.dtype if dtype is None else dtype, broadcast_shape(op, x, y, axis), x.lod_level)
    block.append_op(op, {"X": [x], "Y": [y]}, {"Out": [out]}, {"axis": axis})
    return out


def _part_of(x: Variable) -> str:
    """Where the name of a part begins; in eager mode, where calls have no end, one counter serves all."""
    return "value" if x.block.program.is_eager else x.name


def _get_item(x: Variable, items: tuple[object, ...]) -> Variable:
    """``x[...]`` as fluid writes it: one slice op, and a reverse op for steps of -1."""
    if any(item is Ellipsis for item in items):
        at = next(i for i, item in enumerate(items) if item is Ellipsis)
        missing = len(x.shape) - (len(items) - 1)
        items = items[:at] + (slice(None),) * missing + items[at + 1 :]
    if len(items) > len(x.shape):
        raise invalid(
            f"{len(items)} indices for {x.name}, which has {len(x.shape)} dimensions",
            "drop an index, or unsqueeze the Variable first",
        )
    axes: list[int] = []
    starts: list[int] = []
    ends: list[int] = []
    dropped: list[int] = []
    reversed_axes: list[int] = []
    stepped: dict[int, slice] = {}
    for axis, item in enumerate(items):
        if isinstance(item, int | np.integer):
            start = int(item)
            axes.append(axis)
            starts.append(start)
            ends.append(SLICE_END if start == -1 else start + 1)
            dropped.append(axis)
        elif isinstance(item, slice) and item.step in (None, 1, -1):
            if item.step == -1:
                if item.start is not None or item.stop is not None:
                    raise invalid(f"{x.name}[...] reverses a part of axis {axis}", "slice first, then reverse")
                reversed_axes.append(axis - len(dropped))
            elif item.start is not None or item.stop is not None:
                axes.append(axis)
                starts.append(int(item.start or 0))
                ends.append(SLICE_END if item.stop is None else int(item.stop))
        elif isinstance(item, slice):
            stepped[axis - len(dropped)] = item
        else:
            raise wrong_type(
                f"{x.name} is indexed by {type(item).__name__}",
                "use integers and slices, or fluid.layers.gather for a Variable of indices",
            )
    block = x.block.program.current_block()
    out = x
    if axes or not (reversed_axes or stepped):
        shape = list(x.shape)
        for axis, start, end in zip(axes, starts, ends):
            shape[axis] = slice_extent(shape[axis], start, end)
        kept = [d for axis, d in enumerate(shape) if axis not in dropped] or [1]
        out = block.create_var(
            name=unique_name.generate(_part_of(x) + "_slice"), dtype=x.dtype, shape=kept, stop_gradient=False
        )
        block.append_op(
            "slice",
            {"Input": [x]},
            {"Out": [out]},
            {"axes": axes, "starts": starts, "ends": ends, "decrease_axis": dropped},
        )
    if reversed_axes:
        source = out
        out = block.create_var(
            name=unique_name.generate(_part_of(x) + "_slice_reverse"),
            dtype=x.dtype,
            shape=source.shape,
            stop_gradient=False,
        )
        block.append_op("reverse", {"X": [source]}, {"Out": [out]}, {"axis": reversed_axes})
    return _get_steps(out, stepped) if stepped else out


def _get_steps(x: Variable, steps: Mapping[int, slice]) -> Variable:
    """Every n-th element along some axes; each of the slices has a step."""
    axes, starts, ends, strides = list(steps), [], [], []
    shape = list(x.shape)
    for axis, item in steps.items():
        step = int(item.step)
        if step < 1:
            raise invalid(f"{x.name}[...] has a step of {step}", "reverse it with a step of -1, then take every n-th")
        starts.append(int(item.start or 0))
        ends.append(SLICE_END if item.stop is None else int(item.stop))
        strides.append(step)
        shape[axis] = slice_extent(shape[axis], starts[-1], ends[-1], step)
    block = x.block.program.current_block()
    name = unique_name.generate(_part_of(x) + "_strided_slice")
    out = block.create_var(name=name, dtype=x.dtype, shape=shape, stop_gradient=False)
    attrs = {"axes": axes, "starts": starts, "ends": ends, "strides": strides}
    block.append_op("strided_slice", {"Input": [x]}, {"Out": [out]}, attrs)
    return out
