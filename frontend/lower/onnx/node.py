"""What a rule sees of one node of an imported ONNX model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from ....compiler.errors import LoweringError
from ....compiler.ir.core import Value
from ....compiler.ir.types import Dim, DType, Sym, numel
from ....compiler.ops.construct import OpBuilder
from ..context import OpLowering
from ..known import Known

Result: TypeAlias = Value | Known
Results: TypeAlias = Result | Sequence[Result]
NodeRule: TypeAlias = Callable[["Node"], Results]
NodeRules: TypeAlias = Mapping[str, NodeRule]
"""ONNX op type to the rule that lowers it."""

OPEN_EXTENTS = (
    "state the extents that the model leaves open, all but the batch: load_onnx(..., shapes={'x': [None, 10, 4]}), or "
    "fluidc compile --feed x=N,10,4"
)
"""What to do where an extent has to be a number."""

LARGEST = 1 << 16
"""Elements of an array that is computed at once: larger ones are computed at run time."""

_DTYPES: Mapping[int, DType] = {
    1: DType.F32, 2: DType.U8, 3: DType.I8, 6: DType.I32, 7: DType.I64, 9: DType.BOOL, 10: DType.F16, 11: DType.F64,
    12: DType.U32, 13: DType.U64, 16: DType.BF16,
}  # fmt: skip
"""ONNX's numbers of element types (``TensorProto.DataType``)."""

Fold: TypeAlias = Callable[["Node"], "Known | Sequence[Known] | None"]
Folds: TypeAlias = Mapping[str, Fold]
"""ONNX op type to what is done where all inputs are known; None where that cannot be done for them."""


class NotConstant(LoweringError):
    """An input that the IR needs as numbers is computed by the model.

    Attributes:
        slot: The input, as the operator's documentation calls it.
    """

    def __init__(self, what: str, where: str | None, hint: str | None, *, slot: str) -> None:
        super().__init__(what, where, hint)
        self.slot = slot


class Node:
    """One node: its inputs by the names that the ONNX operator documentation gives them, and its attributes.

    Attributes:
        b: The builder of the IR.
        op_type: ``Gemm``.
        version: The opset in which this form of the op appeared (``Softmax`` of 11 and of 13 differ).
    """

    def __init__(self, o: OpLowering) -> None:
        self._o = o
        self.b: OpBuilder = o.b
        self.op_type = o.op.type.removeprefix("onnx.")
        self.version: int = o.attr("version")

    # Inputs -------------------------------------------------------------------------------------------

    def has(self, slot: str) -> bool:
        """Whether the optional input is given."""
        return self._o.has(slot)

    def x(self, slot: str = "X") -> Value:
        """An input as a value."""
        return self._o.x(slot)

    def optional(self, slot: str) -> Value | None:
        """An input as a value, or None where the node leaves it out."""
        return self._o.optional(slot)

    def xs(self, slot: str) -> list[Value]:
        """All inputs of a variadic slot."""
        return self._o.ins(slot)

    def known(self, slot: str) -> Known | None:
        """What is known of an input, or None: it is computed at run time, or left out."""
        (name,) = self._o.op.input(slot) or [""]
        return self._o.function.known.get(name)

    def all_known(self, slot: str) -> list[Known] | None:
        """What is known of all inputs of a variadic slot, or None where one is not."""
        found = [self._o.function.known.get(name) for name in self._o.op.input(slot)]
        return None if any(k is None for k in found) else [k for k in found if k is not None]

    @property
    def knows_all(self) -> bool:
        """Whether all inputs that are given, and there is one, are known."""
        names = self._o.op.input_arg_names
        return bool(names) and all(name in self._o.function.known for name in names)

    def wants(self, slot: str) -> bool:
        """Whether the model names this output."""
        return bool(self._o.op.output(slot))

    @property
    def output_count(self) -> int:
        """How many outputs the model names."""
        return len(self._o.op.output_arg_names)

    def is_fed(self, slot: str) -> bool:
        """Whether an input is what the caller feeds, as it is."""
        (name,) = self._o.op.input(slot)
        var = self._o.function.program.global_block().vars.get(name)
        return var is not None and var.is_data

    def numbers(self, slot: str, default: NDArray[Any] | None = None) -> NDArray[Any]:
        """An input that the IR needs as numbers (axes, scales), or ``default`` where it is left out.

        Raises:
            LoweringError: The input is computed by the model, or depends on an open extent.
        """
        known = self._given(slot, default)
        if isinstance(known, np.ndarray):
            return known
        if known.symbolic:
            raise self.error(f"the input {slot} depends on an open extent", OPEN_EXTENTS)
        return known.array

    def ints(self, slot: str, default: Sequence[int] | None = None) -> list[int]:
        """`numbers` as a flat list of integers."""
        given = self.numbers(slot, None if default is None else np.asarray(default, np.int64))
        return [int(n) for n in given.reshape(-1)]

    def one(self, slot: str, default: np.generic | None = None) -> np.generic:
        """The one element of `numbers`."""
        given = self.numbers(slot, None if default is None else np.asarray(default))
        if given.size != 1:
            raise self.error(f"the input {slot} holds {given.size} numbers", "it takes one")
        return given.reshape(-1)[0]

    def dims(self, slot: str) -> list[Dim]:
        """An input that is a shape: its extents, the batch as a symbol."""
        known = self._given(slot, None)
        assert isinstance(known, Known)
        return [d if isinstance(d, Sym) else int(d) for d in known.array.reshape(-1)]

    def scalar(self, slot: str, default: float | None = None) -> float | None:
        """The number that an input holds in its one element, ``default`` where it is left out; None where that is not
        known or not so."""
        if not self.has(slot):
            return default
        known = self.known(slot)
        if known is None or known.symbolic or known.array.size != 1:
            return None
        return known.array.reshape(-1)[0].item()

    def _given(self, slot: str, default: NDArray[Any] | None) -> Known | NDArray[Any]:
        known = self.known(slot)
        if known is not None:
            return known
        if not self.has(slot) and default is not None:
            return default
        error = self.error(
            f"the input {slot} is computed by the model",
            "it must be known while compiling: export it as a constant, or give the model's input as one: "
            "load_onnx(..., inputs={'shape': array})",
        )
        raise NotConstant(error.what, error.where, error.hint, slot=slot)

    def within(self, what: str, count: float, most: int = 1 << 24) -> int:
        """``count``, of what is laid out or unrolled while compiling; refuses more than ``most``."""
        if not count <= most:
            raise self.error(f"{what}: {count:g}", f"at most {most} are taken while compiling")
        return int(count)

    # Attributes ---------------------------------------------------------------------------------------

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute, the default of the ONNX operator where the node leaves it out, else ``default``."""
        return self._o.attr(name, default)

    def dtype(self, name: str) -> DType | None:
        """An attribute that names an element type, or None where the node leaves it out."""
        number = self.attr(name)
        if number is None or number in _DTYPES:
            return None if number is None else _DTYPES[number]
        raise self.error(f"{name} is element type {number} of ONNX, which cannot be compiled", "cast to float32")

    def axis(self, axis: int, rank: int) -> int:
        """An axis counted from the front; refuses one that is not there."""
        if not -rank <= axis < max(rank, 1):
            raise self.error(f"axis {axis} of a tensor of rank {rank}", f"an axis is from {-rank} to {rank - 1}")
        return axis % max(rank, 1)

    def axes(self, axes: Sequence[int], rank: int) -> tuple[int, ...]:
        """Axes counted from the front, in order, each once."""
        return tuple(sorted({self.axis(int(axis), rank) for axis in axes}))

    def fixed(self, x: Value, axis: int) -> int:
        """An extent that must not be open."""
        extent = x.tensor.shape[axis]
        if not isinstance(extent, int):
            raise self.error(f"axis {axis} of {x.type} has the open extent {extent}", OPEN_EXTENTS)
        return extent

    def per_axis(self, x: Value, function: Callable[[Value, int], Value]) -> Value:
        """What works along the attribute ``axis``: before opset 13 along all axes from it on, as one."""
        axis: int = self.attr("axis")
        rank = x.tensor.rank
        if self.version >= 13:
            return function(x, self.axis(axis, rank))
        at = rank if axis == rank else self.axis(axis, rank)
        shape = x.tensor.shape
        return self.b.reshape(function(self.b.reshape(x, (numel(shape[:at]), numel(shape[at:]))), 1), shape)

    # The rest -----------------------------------------------------------------------------------------

    @property
    def lowering(self) -> OpLowering:
        """The record behind the node: for rules that keep state."""
        return self._o

    def number(self, dtype: DType, value: float) -> Value:
        """A constant of rank 0."""
        return self.b.fill((), dtype, value if dtype.is_float else int(value))

    def positions(self, shape: Sequence[Dim], axis: int) -> Value:
        """Every element's position along one axis of a tensor of ``shape``, i64, to be broadcast over the others."""
        own = tuple(d if i == axis else 1 for i, d in enumerate(shape))
        return self.b.iota(own, axis, DType.I64)

    def least(self, dtype: DType) -> float:
        """The smallest number of the type."""
        return -np.inf if dtype.is_float else int(np.iinfo(cast("Any", dtype.numpy)).min)

    def most(self, dtype: DType) -> float:
        """The largest number of the type."""
        return np.inf if dtype.is_float else int(np.iinfo(cast("Any", dtype.numpy)).max)

    def array(self, array: NDArray[Any], hint: str) -> Value:
        """A constant; ``hint`` tells it from the node's others."""
        output = next(name for name in self._o.op.output_arg_names if name)
        return self._o.function.constant(f"{output}.{hint}", array)

    def error(self, what: str, hint: str) -> LoweringError:
        """An error that names the node, at the user's line."""
        return self._o.error(what, hint)
