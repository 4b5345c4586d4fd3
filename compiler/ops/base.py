"""The op class every family builds on, and the builder its rules receive.

A rule is a method with a fixed name, so a family file reads as a table and ``fluidc ops`` can print one:

    infer            result types                                    (every op)
    evaluate         numpy, the oracle of every target               (every op that can reach a target)
    vjp              cotangents of the operands
    example_axis     how the example axis passes through
    example_norm_sq  per-example squared norm of a parameter's gradient, without materialising it
    example_factors  per-example gradients of a matrix as sums of outer products
    example_grad     per-example gradients, where cheap (else the vjp is mapped over examples)
    lifted           the op on values stacked over the steps of a loop
    decompose        the op in terms of core ops                     (composite ops only)
    to_tvm, to_onnx  lowering

What an op cannot have is declared with its reason: ``no_vjp = "integer output"``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import MissingRule, VerifyError
from ..ir.core import OpBase, Region, Value
from ..ir.stage import Stage
from ..ir.types import Dim, DType, Shape, TensorType
from .factors import Factors
from .kinds import Kind, default_kind

Array: TypeAlias = NDArray[Any]
Rule = Literal["evaluate", "vjp", "example_axis", "example_norm_sq", "decompose", "to_tvm", "to_onnx"]


# What a user can do where an op cannot have a rule.
_REMEDIES: Mapping[Rule, str] = {
    "vjp": "compute the loss without it, or let no gradient pass: stop_gradient=True on what it returns",
    "to_tvm": "use another target, or another layer",
    "to_onnx": "use another target, or another layer",
}


class Op(OpBase):
    """An op with its rules.  Operand arguments of rules come one per operand field: a value, None for an
    absent optional operand, a tuple for a variadic one."""

    first_stage: ClassVar[Stage] = Stage.CAPTURED
    last_stage: ClassVar[Stage] = Stage.TARGET
    no_vjp: ClassVar[str] = ""
    no_norm: ClassVar[str] = ""  # why there is no example_norm_sq; "" with no rule: materialised
    no_evaluate: ClassVar[str] = ""
    no_tvm: ClassVar[str] = ""
    no_onnx: ClassVar[str] = ""

    def evaluate(self, *operands: Any, **_: Any) -> Any:
        """Results for numpy operands: one array, or a tuple for several results."""
        raise self.missing("evaluate", self.no_evaluate)

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        """Cotangents of ``operands`` from those of ``results``.

        Args:
            b: Where new ops go.
            cts: One per result; None where nothing flows back.
            needs: One per operand; the others may be returned as None.

        Returns:
            One per operand, of the operand's type, or None for zero.
        """
        raise self.missing("vjp", self.no_vjp)

    def example_axis(self, kinds: Sequence[Kind]) -> Kind | tuple[Kind, ...]:
        """Kinds of the results from the kinds of ``operands``."""
        return default_kind(self, kinds)

    def example_norm_sq(self, b: OpBuilder, operand: int, ct: Value, kinds: Sequence[Kind]) -> Value | None:
        """``f64[N]``: for each example the squared 2-norm of its gradient for operand number ``operand``.

        ``ct`` is the cotangent of the op's only result.  Never an underestimate (privacy documentation §4).
        None where the rule does not cover this case; the gradient is then materialised.
        """
        return None

    def example_grad(self, b: OpBuilder, operand: int, ct: Value, kinds: Sequence[Kind]) -> Value | None:
        """``[N, *shape]``: each example's gradient for operand number ``operand``, where it is cheap to write.

        None: the gradients are materialised by mapping the op's own ``vjp`` over single examples.
        """
        return None

    def example_factors(self, b: OpBuilder, operand: int, ct: Value, kinds: Sequence[Kind]) -> Factors | None:
        """Each example's gradient for operand number ``operand`` as a sum of outer products.

        ``ct`` is the cotangent of the op's only result.  None where the gradient is no such sum.
        """
        return None

    def lifted(self, b: OpBuilder, operands: Sequence[Value], over: Sequence[bool]) -> Op | None:
        """The op of the same class, not appended, that does all steps of a loop at once.

        Args:
            b: Where operands are brought into shape.
            operands: One per operand: its values of all steps on a new axis 0, or a value all steps share.
            over: Which operands are stacked, at least one.  The others must stay operands as they are.

        Returns:
            An op with an operand for each of this one's, whose results are this one's of all steps on a new
            axis 0; None where the class has no such rule, or it does not cover these operands.
        """
        return None

    def decompose(self, b: OpBuilder) -> Sequence[Value]:
        """The results in terms of core ops; only composite ops (``last_stage = CAPTURED``) have it."""
        raise self.missing("decompose", "")

    def to_tvm(self, t: Any, *operands: Any, **_: Any) -> Any:
        """Loops for TVM, written against ``ops.emit.TvmEmitter``."""
        raise self.missing("to_tvm", self.no_tvm)

    def to_onnx(self, o: Any, *operands: Any, **_: Any) -> Any:
        """ONNX nodes, written against ``ops.emit.OnnxEmitter``."""
        raise self.missing("to_onnx", self.no_onnx)

    @property
    def has_decomposition(self) -> bool:
        return type(self).decompose is not Op.decompose

    def missing(self, rule: Rule, reason: str) -> MissingRule:
        """The error for a rule that this op does not have."""
        why = f": {reason}" if reason else f"; add it to class {type(self).__name__} in {type(self).__module__}"
        layer = f"{self.loc.layer} ({self.name})" if self.loc.layer else self.name
        hint = _REMEDIES.get(rule) if reason else None
        return MissingRule(f"{layer} has no `{rule}` rule{why}", where=self.loc.place or None, hint=hint)

    def fail(self, message: str, hint: str | None = None) -> VerifyError:
        """The error of an ``infer`` rule: named as the user wrote the layer, at his line."""
        layer = f"{self.loc.layer} ({self.name})" if self.loc.layer else self.name
        return VerifyError(f"{layer}: {message}", where=self.loc.place or None, hint=hint)


def has_rule(cls: type[Op], rule: Rule) -> bool:
    """Whether the class (or a family base below ``Op``) defines the rule."""
    return getattr(cls, rule) is not getattr(Op, rule)


class OpBuilder(Protocol):
    """Typed constructors of the ops that rules of other families need.  Every method appends one op."""

    ops: list[OpBase]

    def __call__(self, op: OpBase, hint: str = "") -> Value: ...
    def emit(self, op: OpBase, *hints: str) -> tuple[Value, ...]: ...
    def nested(self) -> OpBuilder:
        """A builder for the body of a region."""
        ...

    def inline(self, region: Region, arguments: Iterable[Value]) -> tuple[Value, ...]:
        """Append a copy of the region's body; returns what it yields."""
        ...

    # Constants and elementwise
    def fill(self, shape: Shape, dtype: DType, value: float | bool) -> Value: ...
    def zeros_like(self, x: Value) -> Value: ...
    def tokens(self, x: Value) -> Value:
        """The rows of all sequences of a ragged value; a dense value itself."""
        ...

    def as_rows(self, x: Value, like: Value) -> Value:
        """Dense ``x`` divided as ``like`` is, if that is ragged: the way back from ``tokens``."""
        ...

    def add(self, x: Value, y: Value) -> Value: ...
    def sub(self, x: Value, y: Value) -> Value: ...
    def mul(self, x: Value, y: Value) -> Value: ...
    def div(self, x: Value, y: Value) -> Value: ...
    def maximum(self, x: Value, y: Value) -> Value: ...
    def minimum(self, x: Value, y: Value) -> Value: ...
    def pow(self, x: Value, y: Value) -> Value: ...
    def neg(self, x: Value) -> Value: ...
    def scale(self, x: Value, factor: float, bias: float = 0.0) -> Value: ...
    def exp(self, x: Value) -> Value: ...
    def erf(self, x: Value) -> Value: ...
    def log(self, x: Value) -> Value: ...
    def sqrt(self, x: Value) -> Value: ...
    def rsqrt(self, x: Value) -> Value: ...
    def square(self, x: Value) -> Value: ...
    def sin(self, x: Value) -> Value: ...
    def cos(self, x: Value) -> Value: ...
    def tanh(self, x: Value) -> Value: ...
    def sigmoid(self, x: Value) -> Value: ...
    def sign(self, x: Value) -> Value: ...
    def abs(self, x: Value) -> Value: ...
    def floor(self, x: Value) -> Value: ...
    def cast(self, x: Value, dtype: DType) -> Value: ...
    def where(self, condition: Value, x: Value, y: Value) -> Value: ...
    def equal(self, x: Value, y: Value) -> Value: ...
    def not_equal(self, x: Value, y: Value) -> Value: ...
    def less(self, x: Value, y: Value) -> Value: ...
    def less_equal(self, x: Value, y: Value) -> Value: ...
    def logical_and(self, x: Value, y: Value) -> Value: ...
    def logical_not(self, x: Value) -> Value: ...

    # Reductions and shapes
    def reduce_sum(self, x: Value, axes: Sequence[int], keepdims: bool = False) -> Value: ...
    def reduce_mean(self, x: Value, axes: Sequence[int], keepdims: bool = False) -> Value: ...
    def reduce_max(self, x: Value, axes: Sequence[int], keepdims: bool = False) -> Value: ...
    def reshape(self, x: Value, shape: Shape) -> Value: ...
    def transpose(self, x: Value, perm: Sequence[int]) -> Value: ...
    def broadcast(self, x: Value, shape: Shape) -> Value:
        """``x`` broadcast to ``shape``, right-aligned as in numpy."""
        ...

    def unbroadcast(self, x: Value, shape: Shape) -> Value:
        """Sum ``x`` down to ``shape``: the transpose of ``broadcast``."""
        ...

    def concat(self, xs: Sequence[Value], axis: int) -> Value: ...
    def slice(self, x: Value, axis: int, start: Dim, stop: Dim, step: int = 1) -> Value: ...
    def pad(
        self, x: Value, low: Sequence[Dim], high: Sequence[Dim], value: float = 0.0, interior: Sequence[int] = ()
    ) -> Value: ...
    def iota(self, shape: Shape, axis: int, dtype: DType) -> Value: ...
    def extent(self, dim: Dim, dtype: DType) -> Value:
        """The run-time size of an extent, rank 0."""
        ...

    def one_hot(self, ids: Value, depth: int, dtype: DType) -> Value: ...

    # Products, indexing, control
    def matmul(self, x: Value, w: Value, ta: bool = False, tb: bool = False) -> Value: ...
    def gather(self, x: Value, index: Value, axis: int) -> Value: ...
    def scatter_add(self, x: Value, index: Value, updates: Value, axis: int) -> Value: ...
    def map(
        self, operands: Sequence[Value], axes: Sequence[int], trip: Dim, body: Callable[..., Sequence[Value]]
    ) -> tuple[Value, ...]:
        """``body(b, *slices)`` for every index of the mapped axes (-1: passed whole); results stack on axis 0."""
        ...


def broadcast_shapes(op: Op, *shapes: Shape) -> Shape:
    """The numpy-style broadcast of ``shapes``; raises VerifyError naming the op."""
    rank = max(len(shape) for shape in shapes)
    out: list[Dim] = []
    for axis in range(rank):
        extents = {s[axis - rank + len(s)] for s in shapes if axis - rank + len(s) >= 0} - {1}
        if len(extents) > 1:
            listed = " and ".join(f"[{', '.join(map(str, s))}]" for s in shapes)
            raise op.fail(f"shapes {listed} do not broadcast")
        out.append(extents.pop() if extents else 1)
    return tuple(out)


def same_dtype(op: Op, *values: Value) -> DType:
    """The common element type of tensor operands; raises VerifyError when they differ."""
    dtypes = {value.type.dtype for value in values}
    if len(dtypes) > 1:
        listed = " and ".join(str(value.type) for value in values)
        raise op.fail(f"element types differ: {listed}")
    return dtypes.pop()


def normal_axis(op: Op, axis: int, rank: int) -> int:
    """``axis`` counted from 0; raises VerifyError outside ``[-rank, rank)``."""
    if not -rank <= axis < rank:
        raise op.fail(f"axis {axis} is outside a tensor of rank {rank}")
    return axis % rank


def aligned(b: OpBuilder, operands: Sequence[Value], over: Sequence[bool], rank: int) -> tuple[Value, ...]:
    """``operands`` of an op lifted over a loop, so that they broadcast from the right.

    ``rank`` is that of the op's result in one step.  A stacked operand of lower rank gets axes behind the first.
    """
    found: list[Value] = []
    for value, stacked in zip(operands, over, strict=True):
        shape = value.tensor.shape
        missing = rank + 1 - len(shape) if stacked else 0
        found.append(b.reshape(value, (shape[0], *(1,) * missing, *shape[1:])) if missing else value)
    return tuple(found)


def scalar_type(dtype: DType) -> TensorType:
    """The type of a tensor of rank 0."""
    return TensorType(dtype, ())


def as_array(value: float | bool, dtype: DType) -> Array:
    """``value`` as an array of rank 0."""
    return np.asarray(value, dtype.numpy)
