"""Paddle 1.8's own ``dpsgd`` kernel, for comparison only: what it computes gives no privacy (ADR 1).

It clips the gradient of the whole batch, parameter by parameter, and adds one scalar to all elements: a single
draw of ``std::minstd_rand``, which every execution seeds anew.  Checked bit for bit against paddlepaddle 1.8.5.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..ir.core import Value
from ..ir.types import DType, TensorType
from . import minstd
from .base import Array, Op, same_dtype
from .emit import Expr, Index, Loops, Scalar, Tensor, TvmEmitter
from .kinds import Kind, default_kind

_TRIES = 64
"""A pair of the polar method is kept with probability pi/4: 64 tries fail with probability 1e-43."""
_RANGE = float(minstd.MODULUS - 1)
"""Number of states of the engine: a float64 uniform is made of two draws in this base."""
_BELOW_ONE_F64 = float(np.nextafter(1.0, 0.0))


@dataclass(frozen=True, eq=False)
class Dpsgd(Op):
    """``param - lr * (grad / max(1, |grad| / clip) + sigma * X / batch_size)`` with one scalar ``X`` ~ N(0, 1).

    Operands: ``param``, ``grad`` (f32 or f64, one type), ``lr`` (one number of their dtype) and ``clock`` (u64[],
    seconds since 1970), which seeds the engine where ``seed`` is 0 and is absent elsewhere.  ``|grad|`` is summed
    in float32, element by element; attributes are read as float32.  Both are the kernel's ways.
    """

    name: ClassVar[str] = "optim.dpsgd"
    no_vjp: ClassVar[str] = "an update ends the step"
    no_onnx: ClassVar[str] = "an engine that the clock seeds, and a sum rounded after every element, are no ONNX nodes"

    param: Value
    grad: Value
    lr: Value
    clock: Value | None
    clip: float
    batch_size: float
    sigma: float
    seed: int = 0

    def infer(self) -> TensorType:
        kind = self.param.tensor
        if kind.dtype not in (DType.F32, DType.F64):
            raise self.fail(f"updates f32 and f64 parameters, not {kind}")
        if self.grad.type != kind:
            raise self.fail(f"grad has the parameter's type {kind}, not {self.grad.type}")
        same_dtype(self, self.param, self.lr)
        if self.lr.tensor.shape not in ((), (1,)):
            raise self.fail(f"lr is one number, not {self.lr.type}")
        if (self.clock is None) != bool(self.seed):
            raise self.fail("the engine is seeded by the clock exactly where seed is 0")
        if self.clock is not None and self.clock.type != TensorType(DType.U64, ()):
            raise self.fail(f"the clock is u64[], not {self.clock.type}")
        return kind

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        return default_kind(self, kinds)

    @property
    def _wide(self) -> bool:
        return self.param.type.dtype is DType.F64

    # In numpy -------------------------------------------------------------------------------------------------
    def evaluate(self, param: Array, grad: Array, lr: Array, clock: Array | None) -> Array:
        number: Any = param.dtype.type
        noise = self.draw(self.seed if clock is None else int(clock)) * np.float32(self.sigma)
        with np.errstate(all="ignore"):
            norm, clip = np.sqrt(_sum_of_squares(grad)), np.float32(self.clip)
            scale = number(norm / clip if norm > clip else 1)
            shift = number(noise) / number(np.float32(self.batch_size))
            return param - lr.reshape(()) * (grad / scale + shift)

    def draw(self, seed: int) -> np.float32:
        """The kernel's standard normal for a non-zero ``seed``: the polar method, its second value thrown away."""
        engine = _engine(seed)
        while True:
            x, y = (np.float32(2) * self._uniform(engine) - np.float32(1) for _ in range(2))
            r2 = x * x + y * y
            if 0 < r2 < 1:
                return np.float32(float(x) * np.sqrt(-2 * np.log(np.float64(r2)) / np.float64(r2)))

    def _uniform(self, engine: Iterator[int]) -> np.float32:
        low = next(engine)
        if not self._wide:
            return min(np.float32(low) * np.float32(2.0**-31), np.float32(minstd.BELOW_ONE))
        return np.float32(min((low + next(engine) * _RANGE) / (_RANGE * _RANGE), _BELOW_ONE_F64))

    # Compiled -------------------------------------------------------------------------------------------------
    def to_tvm(self, t: TvmEmitter, param: Tensor, grad: Tensor, lr: Tensor, clock: Tensor | None) -> Tensor:
        dtype = self.param.type.dtype
        normal, norm = self._normal_tvm(t, clock), _norm_tvm(t, grad)
        clip = float(np.float32(self.clip))

        def element(p: Expr, g: Expr, rate: Expr) -> Scalar:
            scale = t.select(norm[0] > clip, norm[0] / clip, t.const(1, DType.F32))
            noise = normal[0] * float(np.float32(self.sigma))
            shift = t.cast(noise, dtype) / float(np.float32(self.batch_size))
            return p - rate * (g / t.cast(scale, dtype) + shift)

        rate = t.compute((), dtype, lambda: lr[(0,) * len(lr.shape)])
        return t.pointwise(element, param, grad, rate, dtype=dtype)

    def _normal_tvm(self, t: TvmEmitter, clock: Tensor | None) -> Tensor:
        """As ``draw``, f32[1]."""

        def body(loops: Loops, out: Tensor) -> None:
            state, open_ = loops.local(DType.U64), loops.local(DType.I32)
            pair, wide = loops.local(DType.F32, (3,)), loops.local(DType.F64)
            loops.store(state, 0, t.const(minstd.start(self.seed), DType.U64) if clock is None else _start(t, clock))
            loops.store(open_, 0, 1)

            def draw() -> Expr:
                loops.store(state, 0, state[0] * minstd.MULTIPLIER % minstd.MODULUS)
                return state[0] - 1

            def uniform(which: int) -> None:
                low = draw()
                if not self._wide:
                    u = t.minimum(t.cast(low, DType.F32) * 2.0**-31, minstd.BELOW_ONE)
                else:
                    loops.store(wide, 0, t.cast(low, DType.F64))
                    u64 = (wide[0] + t.cast(draw(), DType.F64) * _RANGE) / (_RANGE * _RANGE)
                    u = t.cast(t.minimum(u64, _BELOW_ONE_F64), DType.F32)
                loops.store(pair, which, u * 2.0 - 1.0)

            def keep() -> None:
                loops.store(open_, 0, 0)
                r2 = t.cast(pair[2], DType.F64)
                normal = t.cast(pair[0], DType.F64) * t.call("sqrt", t.call("log", r2) * -2.0 / r2)
                loops.store(out, 0, t.cast(normal, DType.F32))

            def attempt() -> None:
                uniform(0)
                uniform(1)
                loops.store(pair, 2, _square(t, pair[0]) + _square(t, pair[1]))
                loops.when((pair[2] < 1.0) & (pair[2] > 0.0), keep)

            loops.serial(_TRIES, lambda _: loops.when(open_[0].eq(1), attempt))

        (normal,) = t.loops([((1,), DType.F32)], body)
        return normal


def _engine(seed: int) -> Iterator[int]:
    """Draws of the freshly seeded engine, less one: from 0."""
    state = minstd.start(seed)
    while True:
        state = state * minstd.MULTIPLIER % minstd.MODULUS
        yield state - 1


def _start(t: TvmEmitter, clock: Tensor) -> Expr:
    """As ``minstd.start``."""
    state = clock[()] % 2**32 % minstd.MODULUS
    return t.select(state.eq(0), t.const(1, DType.U64), state)


def _square(t: TvmEmitter, x: Expr) -> Expr:
    """``x * x`` in float32, rounded before anything is added to it: no fused product and sum."""
    return t.call("rounded", x * x)


def _sum_of_squares(grad: Array) -> np.float32:
    """Rounded to float32 after every element, in memory order, as the kernel's loop does."""
    squares = np.square(grad.reshape(-1))
    total = np.float32(0)
    if grad.dtype == np.float32:
        return np.add.accumulate(squares)[-1] if squares.size else total
    for square in squares:
        total = np.float32(np.float64(total) + square)
    return total


def _norm_tvm(t: TvmEmitter, grad: Tensor) -> Tensor:
    """The root of ``_sum_of_squares``, f32[1]."""
    shape = grad.shape

    def body(loops: Loops, out: Tensor) -> None:
        total = loops.local(DType.F32)
        loops.store(total, 0, 0.0)

        def along(axis: int, index: tuple[Index, ...]) -> None:
            if axis < len(shape):
                loops.serial(shape[axis], lambda i: along(axis + 1, (*index, i)))
                return
            value = grad[index]
            if grad.dtype is DType.F32:
                loops.store(total, 0, total[0] + _square(t, value))
            else:
                loops.store(total, 0, t.cast(t.cast(total[0], DType.F64) + value * value, DType.F32))

        along(0, ())
        loops.store(out, 0, t.call("sqrt", total[0]))

    (norm,) = t.loops([((1,), DType.F32)], body)
    return norm


OPS: tuple[type[Op], ...] = (Dpsgd,)
