"""Small random modules, drawn by hypothesis from the op set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from fluidc.compiler.ir.core import Function, Module, Output, Param, StateDecl, StateName, Value
from fluidc.compiler.ir.location import Loc
from fluidc.compiler.ir.printer import to_text
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ir.types import DType, Sym, TensorType, static_shape
from fluidc.compiler.ops import OPS, activation, branching, control, elementwise, grad, indexing, reduce, unary
from fluidc.compiler.ops.base import OpBuilder as Builder
from fluidc.compiler.ops.construct import OpBuilder
from fluidc.compiler.ops.state import Read, Write

N = Sym("N")


class Drawn(Module):
    """A drawn module; a failing example is shown as IR text."""

    def __repr__(self) -> str:
        return to_text(self)


STATE = (
    StateDecl("fc_0.w_0", TensorType(DType.F32, (3, 4)), role="parameter", trainable=True),
    StateDecl("fc_0.b_0", TensorType(DType.F32, (4,)), role="parameter", trainable=True),
    StateDecl("rnn/cell w", TensorType(DType.F32, (4, 4)), role="parameter", trainable=True),
    StateDecl("steps", TensorType(DType.F32, ()), kind="diagnostic", role="counter"),
)
FEEDS = {
    "x": TensorType(DType.F32, (N, 3)),
    "seq": TensorType(DType.F32, (2, N, 4)),
    "ids": TensorType(DType.I64, (N,)),
}

# Functions that are bounded, or grow slowly, on all numbers: a chain of them stays comparable in float32.
TAME = {
    "unary.tanh", "unary.sigmoid", "unary.sin", "unary.cos", "unary.atan", "unary.erf", "unary.neg", "unary.abs",
    "unary.relu", "unary.softplus",
}  # fmt: skip
UNARY = [op for op in OPS if op.name in TAME]
BINARY = [elementwise.Add, elementwise.Sub, elementwise.Mul, elementwise.Maximum, elementwise.Minimum]
COMPARISONS = [elementwise.Less, elementwise.LessEqual, elementwise.Equal, elementwise.NotEqual]
REDUCTIONS = [reduce.Sum, reduce.Mean, reduce.Max, reduce.Min]
COMPOSITES = [activation.Relu6, activation.Elu, activation.Gelu, activation.Swish, activation.HardSwish]
HINTS = st.sampled_from(["", "", "h", "fc_0.tmp_0", "h_1", "x@GRAD", "3rd", "größe"])
LOCS = st.sampled_from([Loc(), Loc("digits.py", 12, "fc"), Loc("/a b/my script.py", 3), Loc(layer="mean")])

Draw = Callable[[st.SearchStrategy[Any]], Any]


class _Drawing:
    """One function being drawn: the ops so far and the float values that later ops may read."""

    def __init__(self, draw: Draw, composites: bool) -> None:
        self.draw = draw
        self.b = OpBuilder()
        self.params = tuple(Param(name, Value(kind, name)) for name, kind in FEEDS.items())
        self.x, self.seq, self.ids = (param.value for param in self.params)
        self.state = {d.name: self.b(Read(StateName(d.name), d.type), d.name) for d in STATE}
        self.w, self.bias, self.cell, self.steps = self.state.values()
        self.pool: list[Value] = [self.x, self.seq, self.w, self.bias]
        self.steps_of: list[Callable[[], Value | None]] = [
            self.unary, self.binary, self.where, self.product, self.reduction, self.transpose, self.flatten,
            self.concat, self.slice, self.pad, self.reverse, self.cast, self.gather, self.cumsum, self.attributes,
            self.scan, self.map, self.branch, self.loop, *([self.composite] if composites else []),
        ]  # fmt: skip

    def one(self, options: Sequence[Any]) -> Any:
        return self.draw(st.sampled_from(list(options)))

    def value(self, rank: int = 0) -> Value:
        """A value of at least ``rank`` axes."""
        return self.one([v for v in self.pool if v.tensor.rank >= rank])

    def axis(self, x: Value) -> int:
        return self.draw(st.integers(0, x.tensor.rank - 1))

    def step(self) -> None:
        """Append one op or more, by one of the methods below; those without a suitable operand return None."""
        with self.b.at(self.draw(LOCS)):
            made = self.one(self.steps_of)()
        if made is not None:
            made.hint = self.draw(HINTS)
            self.pool.append(made)

    def unary(self) -> Value:
        return self.b(self.one(UNARY)(self.value()))

    def composite(self) -> Value:
        return self.b(self.one(COMPOSITES)(self.value()))

    def attributes(self) -> Value:
        x = self.value()
        number = st.floats(-2, 2, width=32)
        low, high = sorted((self.draw(number), self.draw(number)))
        return self.b(self.one([unary.Scale(x, low, high), unary.Clip(x, low, high), unary.LeakyRelu(x, low)]))

    def binary(self) -> Value:
        x = self.value()
        return self.b(self.one(BINARY)(x, self.alike(x)))

    def alike(self, x: Value) -> Value:
        """A value that broadcasts with ``x`` to the shape of ``x``."""
        shape = x.tensor.shape
        return self.one([v for v in self.pool if v.tensor.shape == shape[x.tensor.rank - v.tensor.rank :]])

    def where(self) -> Value:
        x = self.value()
        y, z = self.alike(x), self.alike(x)
        return self.b.where(self.b(self.one(COMPARISONS)(x, y)), x, z)

    def product(self) -> Value | None:
        fitting = [v for v in self.pool if v.tensor.rank == 2 and v.tensor.shape[1] == 3]
        return self.b.add(self.b.matmul(self.one(fitting), self.w), self.bias) if fitting else None

    def reduction(self) -> Value:
        x = self.value(1)
        axes = tuple(sorted(self.draw(st.sets(st.integers(0, x.tensor.rank - 1), min_size=1))))
        return self.b(self.one(REDUCTIONS)(x, axes, self.draw(st.booleans())))

    def transpose(self) -> Value:
        x = self.value(1)
        return self.b.transpose(x, self.draw(st.permutations(range(x.tensor.rank))))

    def flatten(self) -> Value:
        x = self.value()
        return self.b.reshape(x, (x.tensor.numel,))

    def concat(self) -> Value:
        x = self.value(1)
        return self.b.concat([x, self.b(unary.Neg(x))], self.axis(x))

    def slice(self) -> Value | None:
        x = self.value(1)
        axis = self.axis(x)
        extent = x.tensor.shape[axis]
        if not isinstance(extent, int) or extent < 2:
            return None
        return self.b.slice(x, axis, self.draw(st.integers(0, extent - 1)), extent)

    def pad(self) -> Value | None:
        x = self.value(1)
        axis = self.axis(x)
        if not isinstance(x.tensor.shape[axis], int):
            return None
        low, high = ([n if i == axis else 0 for i in range(x.tensor.rank)] for n in (1, 2))
        return self.b.pad(x, low, high, 0.5)

    def reverse(self) -> Value:
        x = self.value(1)
        return self.b.reverse(x, [self.axis(x)])

    def cast(self) -> Value:
        return self.b.cast(self.b.square(self.b.cast(self.b.tanh(self.value()), DType.F64)), DType.F32)

    def gather(self) -> Value:
        return self.b(indexing.Gather(self.cell, self.ids, 0))

    def cumsum(self) -> Value:
        x = self.value(1)
        return self.b.cumsum(x, self.axis(x), self.draw(st.booleans()), self.draw(st.booleans()))

    def scan(self) -> Value:
        def step(b: Builder, i: Value, h: Value, x: Value, w: Value) -> Sequence[Value]:
            new = b.tanh(b.add(x, b.matmul(h, w)))
            return (new, b.square(new)) if squares else (new, new)

        squares, backwards = self.draw(st.booleans()), self.draw(st.booleans())
        start = self.b.zeros_like(self.b.reshape(self.b.slice(self.seq, 0, 0, 1), (N, 4)))
        found = control.scan(self.b, [start], [self.seq], [self.cell], 2, step, backwards)
        return self.one(found)

    def map(self) -> Value:
        def body(b: Builder, row: Value, w: Value) -> Sequence[Value]:
            return (b.tanh(b.matmul(row, w)),)

        return control.map_over(self.b, [self.x, self.w], [0, -1], N, body)[0]

    def branch(self) -> Value:
        x = self.value()
        big = self.b.less(self.b.fill((), DType.F32, self.draw(st.floats(-1, 1, width=32))), self.steps)
        return branching.branch(self.b, big, [x], lambda b, v: (b.tanh(v),), lambda b, v: (b.neg(v),))[0]

    def loop(self) -> Value:
        x = self.value()

        def goes_on(b: Builder, count: Value, v: Value) -> Sequence[Value]:
            return (b.less(count, b.fill((), DType.F32, 2.0)),)

        def body(b: Builder, count: Value, v: Value) -> Sequence[Value]:
            return b.add(count, b.fill((), DType.F32, 1.0)), b.sin(v)

        return branching.loop(self.b, [self.steps, x], [], goes_on, body, 3)[1]


@st.composite
def modules(draw: Draw, *, composites: bool = False, backward: bool = False, most: int = 6) -> Module:
    """A module at stage core (captured with ``composites``) with one function, ``step``.

    It reads and updates all of ``STATE``; outputs are ``loss`` (f32[]) and ``last``.  With ``backward`` the new
    parameters come from a gradient request for the loss.
    """
    drawing = _Drawing(draw, composites)
    for _ in range(draw(st.integers(1, most))):
        drawing.step()
    b, last = drawing.b, drawing.pool[-1]
    used = b.add(_mean(b, last), _mean(b, drawing.one(drawing.pool)))
    # Every parameter takes part, so that a gradient request never asks for what the loss does not read.
    parameters = [drawing.w, drawing.bias, drawing.cell]
    loss = used
    for value in parameters:
        loss = b.add(loss, _mean(b, b.square(value)))
    loss.hint = "loss"
    grads = b.emit(grad.Backward((loss,), tuple(parameters))) if backward else parameters
    for value, gradient, decl in zip(parameters, grads, STATE, strict=False):
        b.emit(Write(b.sub(value, b.scale(gradient, 0.1)), StateName(decl.name)))
    b.emit(Write(b.scale(drawing.steps, 1.0, 1.0), StateName("steps")))
    outputs = Output("loss", loss, "mean"), Output("last", last, "rows")
    step = Function("step", drawing.params, tuple(b.ops), outputs)
    return Drawn(Stage.CAPTURED if composites else Stage.CORE, STATE, (step,))


def _mean(b: OpBuilder, x: Value) -> Value:
    return b.reduce_mean(x, range(x.tensor.rank))


def arguments(n: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Feeds of a drawn ``step`` for a batch of ``n``."""
    rng = np.random.default_rng(seed)
    return {
        "x": rng.normal(size=(n, 3)).astype(np.float32),
        "seq": rng.normal(size=(2, n, 4)).astype(np.float32),
        "ids": rng.integers(0, 4, n),
    }


def initial_state(seed: int = 1) -> dict[str, np.ndarray]:
    """Values of ``STATE``."""
    rng = np.random.default_rng(seed)
    return {d.name: rng.normal(size=static_shape(d.type.shape)).astype(d.type.dtype.numpy) for d in STATE}
