"""Base of the optimizer rules: a formula written once becomes the numpy rule and the fused kernel.

``evaluate`` runs the formula on whole arrays, ``to_tvm`` on the expressions of one element; ``Maths`` is what
formulas use beyond operators.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from ..ir.core import Value
from ..ir.types import DType, TensorType
from .base import Array, Op, same_dtype
from .emit import Expr, Index, OnnxEmitter, Scalar, Tensor, TvmEmitter
from .kinds import Kind, default_kind
from .onnx_forms import FLOATS


class Maths(Protocol):
    """What formulas need beyond ``+ - * /`` and comparison; scalars of either world go in and come out."""

    def sqrt(self, x: Any) -> Any: ...
    def abs(self, x: Any) -> Any: ...
    def sign(self, x: Any) -> Any: ...
    def pow(self, x: Any, exponent: float) -> Any: ...
    def maximum(self, x: Any, y: Any) -> Any: ...
    def where(self, condition: Any, x: Any, y: Any) -> Any: ...


class _NumpyMaths:
    """Formulas on whole arrays."""

    def __init__(self, dtype: DType) -> None:
        self.number: Any = dtype.numpy.type

    def sqrt(self, x: Any) -> Any:
        return np.sqrt(x)

    def abs(self, x: Any) -> Any:
        return np.abs(x)

    def sign(self, x: Any) -> Any:
        return np.sign(x)

    def pow(self, x: Any, exponent: float) -> Any:
        return x ** self.number(exponent)

    def maximum(self, x: Any, y: Any) -> Any:
        return np.maximum(x, y)

    def where(self, condition: Array, x: Array | float, y: Array | float) -> Array:
        return np.where(condition, np.asarray(x, self.number), np.asarray(y, self.number))


class _ElementMaths:
    """Formulas on the expressions of one element."""

    def __init__(self, t: TvmEmitter, dtype: DType) -> None:
        self.t, self.dtype = t, dtype

    def sqrt(self, x: Expr) -> Expr:
        return self.t.call("sqrt", x)

    def abs(self, x: Expr) -> Expr:
        return self.t.call("abs", x)

    def sign(self, x: Expr) -> Expr:
        return self.t.call("sign", x)

    def pow(self, x: Expr, exponent: float) -> Expr:
        return self.t.pow(x, self.t.const(exponent, self.dtype))

    def maximum(self, x: Expr, y: Scalar) -> Expr:
        return self.t.maximum(x, y)

    def where(self, condition: Expr, x: Scalar, y: Scalar) -> Expr:
        return self.t.select(condition, x, y)


class _Node:
    """A value of a formula in an ONNX graph: operators add nodes."""

    def __init__(self, m: _OnnxMaths, name: str) -> None:
        self.m, self.name = m, name

    def __add__(self, other: _Node | float) -> _Node:
        return self.m.node("Add", self, other)

    def __radd__(self, other: float) -> _Node:
        return self.m.node("Add", other, self)

    def __sub__(self, other: _Node | float) -> _Node:
        return self.m.node("Sub", self, other)

    def __rsub__(self, other: float) -> _Node:
        return self.m.node("Sub", other, self)

    def __mul__(self, other: _Node | float) -> _Node:
        return self.m.node("Mul", self, other)

    def __rmul__(self, other: float) -> _Node:
        return self.m.node("Mul", other, self)

    def __truediv__(self, other: _Node | float) -> _Node:
        return self.m.node("Div", self, other)

    def __neg__(self) -> _Node:
        return self.m.node("Neg", self)

    def __gt__(self, other: _Node | float) -> _Node:
        return self.m.node("Greater", self, other)

    def __and__(self, other: _Node) -> _Node:
        return self.m.node("And", self, other)


class _OnnxMaths:
    """Formulas as nodes on whole tensors; what a formula says twice is computed once."""

    def __init__(self, o: OnnxEmitter, dtype: DType) -> None:
        self.o, self.dtype = o, dtype
        self._made: dict[tuple[str, ...], _Node] = {}

    def node(self, op_type: str, *operands: _Node | float) -> _Node:
        """A node on values and constants."""
        names = [x.name if isinstance(x, _Node) else self.o.scalar(x, self.dtype) for x in operands]
        key = (op_type, *names)
        if key not in self._made:
            self._made[key] = _Node(self, self.o.node(*key))
        return self._made[key]

    def sqrt(self, x: _Node) -> _Node:
        # NaN, not infinity, at infinity (`unary.Sqrt`); a moment that has overflowed is not worth two more nodes.
        return self.node("Sqrt", x)

    def abs(self, x: _Node) -> _Node:
        return self.node("Abs", x)

    def sign(self, x: _Node) -> _Node:
        return self.node("Sign", x)

    def pow(self, x: _Node, exponent: float) -> _Node:
        return self.node("Pow", x, exponent)

    def maximum(self, x: _Node, y: _Node | float) -> _Node:
        return self.node("Max", x, y)

    def where(self, condition: _Node, x: _Node | float, y: _Node | float) -> _Node:
        return self.node("Where", condition, x, y)

    def norm(self, x: _Node) -> _Node:
        """The 2-norm of a whole tensor, rank 0; squares are summed in float64."""
        total = self.o.node("ReduceSumSquare", self.o.cast(x.name, DType.F64), keepdims=0)
        return _Node(self, self.o.cast(self.o.node("Sqrt", total), self.dtype))


def _norm_tvm(t: TvmEmitter, x: Tensor) -> Tensor:
    """The 2-norm of a whole tensor, rank 0; squares are summed in float64."""

    def square(*index: Index) -> Scalar:
        value = t.cast(x[index], DType.F64)
        return value * value

    total = t.reduce("sum", (), x.shape, square, DType.F64)
    return t.compute((), x.dtype, lambda: t.cast(t.call("sqrt", total[()]), x.dtype))


def _norm(x: Array) -> Any:
    return x.dtype.type(np.sqrt(np.sum(np.square(x.astype(np.float64)))))


@dataclass(frozen=True, eq=False)
class Update(Op):
    """Base of the rules.

    ``tensors`` names the operands of the parameter's type in the order of ``formula``'s arguments; those in
    ``updated`` are replaced by results.  ``scalars`` follow; those in ``powers``, which come first, are
    advanced by results of their own.  ``normed`` names tensors (or ``direction``) whose 2-norm the formula
    reads as ``s["norm of NAME"]``.
    """

    tensors: ClassVar[tuple[str, ...]]
    updated: ClassVar[tuple[str, ...]]
    powers: ClassVar[tuple[str, ...]] = ()
    scalars: ClassVar[tuple[str, ...]] = ("lr",)
    normed: ClassVar[tuple[str, ...]] = ()
    no_vjp: ClassVar[str] = "an update ends the step"

    param: Value
    grad: Value

    @abstractmethod
    def formula(self, m: Maths, s: dict[str, Any], *tensors: Any, **_: Any) -> tuple[Any, ...]:
        """New values of ``updated``; ``s`` holds the scalar operands (and norms, where the rule asks for them)."""

    def advance(self, name: str) -> float:
        """What a power is multiplied by after the step."""
        raise NotImplementedError(name)

    def direction(self, m: Maths, s: dict[str, Any], *tensors: Any, **_: Any) -> Any:
        """The step before its length is chosen, for rules that read the norm of ``direction``."""
        raise NotImplementedError(self.name)

    def one_minus(self, x: float) -> float:
        """``1 - x`` in the parameter's precision: 1 - 0.999 in float32 is 1.3e-5 off 0.001, and the
        powers of beta carry the same error, so the two cancel only when both are rounded alike."""
        number: Any = self.param.type.dtype.numpy.type
        return float(number(1) - number(x))

    def infer(self) -> tuple[TensorType, ...]:
        kind = self.param.tensor
        if not kind.dtype.is_float:
            raise self.fail(f"updates floating-point parameters, not {kind}")
        for name in self.tensors:
            value: Value = getattr(self, name)
            if value.type != kind:
                raise self.fail(f"{name} has the parameter's type {kind}, not {value.type}")
        for name in self.scalars:
            value = getattr(self, name)
            same_dtype(self, self.param, value)
            if value.tensor.shape not in ((), (1,)):
                raise self.fail(f"{name} is one number, not {value.type}")
        return (*(kind for _ in self.updated), *(getattr(self, name).tensor for name in self.powers))

    def example_axis(self, kinds: Sequence[Kind]) -> Kind | tuple[Kind, ...]:
        return (default_kind(self, kinds),) * len(self.results)

    def evaluate(self, *operands: Array, **_: Any) -> Array | tuple[Array, ...]:
        count = len(self.tensors)
        tensors, scalars = operands[:count], operands[count:]
        dtype = self.param.type.dtype
        values = {name: x.reshape(()) for name, x in zip(self.scalars, scalars, strict=True)}
        m = _NumpyMaths(dtype)
        with np.errstate(all="ignore"):
            for name in self.normed:
                x = self.direction(m, values, *tensors) if name == "direction" else tensors[self.tensors.index(name)]
                values[f"norm of {name}"] = _norm(np.asarray(x, dtype.numpy))
            new = self.formula(m, values, *tensors)
        results = [np.asarray(x, dtype.numpy) for x in new]
        for name, x in zip(self.powers, scalars, strict=False):
            results.append(np.asarray(x * x.dtype.type(self.advance(name)), x.dtype))
        return results[0] if len(results) == 1 else tuple(results)

    def to_tvm(self, t: TvmEmitter, *operands: Tensor, **_: Any) -> Tensor | tuple[Tensor, ...]:
        count = len(self.tensors)
        tensors, scalars = operands[:count], operands[count:]
        dtype = self.param.type.dtype
        m = _ElementMaths(t, dtype)
        values: dict[str, Any] = {n: x[(0,) * len(x.shape)] for n, x in zip(self.scalars, scalars, strict=True)}

        def direction(*elements: Expr) -> Scalar:
            return self.direction(m, values, *elements)

        for name in self.normed:
            if name == "direction":
                x = t.pointwise(direction, *tensors, dtype=dtype)
            else:
                x = tensors[self.tensors.index(name)]
            values[f"norm of {name}"] = _norm_tvm(t, x)[()]

        def result(number: int) -> Callable[..., Scalar]:
            return lambda *elements: self.formula(m, values, *elements)[number]

        def power(name: str) -> Callable[[Expr], Scalar]:
            return lambda x: x * self.advance(name)

        results = [t.pointwise(result(i), *tensors, dtype=dtype) for i in range(len(self.updated))]
        for name, x in zip(self.powers, scalars, strict=False):
            results.append(t.pointwise(power(name), x, dtype=dtype))
        return results[0] if len(results) == 1 else tuple(results)

    def to_onnx(self, o: OnnxEmitter, *operands: str, **_: Any) -> str | tuple[str, ...]:
        count = len(self.tensors)
        dtype = self.param.type.dtype
        if dtype not in FLOATS:
            raise self.missing("to_onnx", f"ONNX Runtime has no arithmetic on {dtype.value}")
        m = _OnnxMaths(o, dtype)
        tensors = [_Node(m, x) for x in operands[:count]]
        # A rate of shape [1] would give a parameter of rank 0 an axis.
        scalars = operands[count:] if self.param.tensor.rank else [o.reshape(x, ()) for x in operands[count:]]
        values: dict[str, Any] = {name: _Node(m, x) for name, x in zip(self.scalars, scalars, strict=True)}
        for name in self.normed:
            x = self.direction(m, values, *tensors) if name == "direction" else tensors[self.tensors.index(name)]
            values[f"norm of {name}"] = m.norm(x)
        results: list[str] = [x.name for x in self.formula(m, values, *tensors)]
        for name, x in zip(self.powers, operands[count:], strict=False):
            results.append(o.node("Mul", x, o.scalar(self.advance(name), dtype)))
        return results[0] if len(results) == 1 else tuple(results)
