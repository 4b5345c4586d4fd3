"""Models over a batch of examples, as captured modules with a plain and a private gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from fluidc.compiler.ir.core import Function, Module, Output, Param, PrivacyConfig, StateDecl, StateName, Value
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ir.types import DType, Shape, Sym, TensorType
from fluidc.compiler.ops import control, conv, grad, loss, norm, pool, state
from fluidc.compiler.ops.construct import OpBuilder

N = Sym("N")
Values = Mapping[str, Value]
Draw = Callable[[np.random.Generator, int], np.ndarray]


@dataclass(frozen=True)
class Model:
    """Per-example losses ``f32[N]`` as a function of feeds and parameters.

    ``feeds`` maps a name to its type and to how n rows of it are drawn.
    """

    parameters: Mapping[str, tuple[int, ...]]
    feeds: Mapping[str, tuple[TensorType, Draw]]
    losses: Callable[[OpBuilder, Values, Values], Value]

    def module(self, privacy: PrivacyConfig | None) -> Module:
        """One step that fetches the gradient of every parameter (``g_NAME``) and changes nothing."""
        b = OpBuilder()
        feeds = {name: Value(kind, name) for name, (kind, _) in self.feeds.items()}
        declared = tuple(
            StateDecl(name, TensorType(DType.F32, shape), role="parameter", trainable=True)
            for name, shape in self.parameters.items()
        )
        read = {d.name: b(state.Read(StateName(d.name), d.type), d.name) for d in declared}
        total = b.reduce_sum(self.losses(b, feeds, read), (0,))
        gradients = b.emit(grad.Backward((total,), tuple(read.values()), private=privacy is not None))
        params = tuple(Param(name, value) for name, value in feeds.items())
        outputs = tuple(Output(f"g_{name}", g) for name, g in zip(self.parameters, gradients, strict=True))
        step = Function("step", params, tuple(b.ops), outputs)
        return Module(Stage.CAPTURED, declared, (Function("startup", (), (), ()), step), privacy)


def floats(*shape: int) -> tuple[TensorType, Draw]:
    kind: Shape = (N, *shape)
    return TensorType(DType.F32, kind), lambda rng, n: rng.normal(size=(n, *shape)).astype(np.float32)


def ids(*shape: int, high: int) -> tuple[TensorType, Draw]:
    kind: Shape = (N, *shape)
    return TensorType(DType.I64, kind), lambda rng, n: rng.integers(0, high, (n, *shape))


def _classify(b: OpBuilder, scores: Value, labels: Value) -> Value:
    losses, _ = b.emit(loss.SoftmaxCrossEntropy(scores, labels))
    return b.reshape(losses, (N,))


def _mlp(b: OpBuilder, x: Values, w: Values) -> Value:
    hidden = b.tanh(b.add(b.matmul(x["x"], w["w0"]), w["b0"]))
    return _classify(b, b.add(b.matmul(hidden, w["w1"]), w["b1"]), x["y"])


def _sequence(b: OpBuilder, x: Values, w: Values) -> Value:
    """A layer applied at every time step: bias and weight read through the time axis."""
    hidden = b.tanh(b.add(b.matmul(x["x"], w["w"]), w["b"]))
    return b.reduce_mean(b.square(hidden), (1, 2))


def _folded(b: OpBuilder, x: Values, w: Values) -> Value:
    """The same with time folded into the batch, as fluid's fc does."""
    rows = b.reshape(x["x"], (Sym("N", 5), 4))
    hidden = b.tanh(b.add(b.matmul(rows, w["w"]), w["b"]))
    return b.reduce_mean(b.square(b.reshape(hidden, (N, 5, 3))), (1, 2))


def _tied(b: OpBuilder, x: Values, w: Values) -> Value:
    """One table as embedding and as output layer."""
    embedded = b.reduce_mean(b.lookup(w["table"], x["words"]), (1,))
    return _classify(b, b.matmul(embedded, w["table"], tb=True), x["y"])


def _embedding(b: OpBuilder, x: Values, w: Values) -> Value:
    pooled = b.reduce_sum(b.lookup(w["table"], x["words"]), (1,))
    return _classify(b, b.matmul(b.tanh(pooled), w["w"]), x["y"])


def _normalised(b: OpBuilder, x: Values, w: Values) -> Value:
    """layer_norm's scale and shift, prelu's slope: parameters met by broadcasting."""
    y, _, _ = b.emit(norm.Standardize(x["x"], (1,)))
    y = b.add(b.mul(y, w["scale"]), w["shift"])
    y = b.where(b.less(b.zeros_like(y), y), y, b.mul(y, w["slope"]))
    return b.reduce_sum(b.square(b.matmul(y, w["w"])), (1,))


def _convolution(b: OpBuilder, x: Values, w: Values) -> Value:
    y = b(conv.Conv2d(x["x"], w["filter"], strides=(2, 1), pads=(1, 0, 0, 1)))
    y = b.tanh(b.add(y, b.reshape(w["b"], (3, 1, 1))))
    return b.reduce_mean(y, (1, 2, 3))


def _convolutional_net(b: OpBuilder, x: Values, w: Values) -> Value:
    """conv2d, pool2d, group_norm with scale and shift, another pool2d, fc."""
    y = b(conv.Conv2d(x["x"], w["filter"], pads=(1, 1, 1, 1)))
    y = b(pool.MaxPool2d(y, kernel=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1)))
    normal = norm.GroupNorm(y, w["scale"], w["shift"], 2)
    y = b(pool.AvgPool2d(b.tanh(b.emit(normal)[0]), kernel=(2, 2), strides=(2, 2), ceil_mode=True))
    return _classify(b, b.add(b.matmul(b.reshape(y, (N, 16)), w["w"]), w["b"]), x["y"])


def _recurrent(b: OpBuilder, x: Values, w: Values) -> Value:
    """Six steps of h = tanh(x u + h v + b); every parameter is read at every step."""
    steps = b.transpose(x["x"], (1, 0, 2))
    start = b.fill((N, 3), DType.F32, 0.0)

    def body(inner: OpBuilder, _: Value, h: Value, row: Value, u: Value, v: Value, c: Value) -> tuple[Value, ...]:
        return (inner.tanh(inner.add(inner.add(inner.matmul(row, u), inner.matmul(h, v)), c)),)

    (final,) = control.scan(b, (start,), (steps,), (w["u"], w["v"], w["b"]), 6, body)
    return b.reduce_sum(b.square(final), (1,))


def _attention(b: OpBuilder, x: Values, w: Values) -> Value:
    q, k, v = (b.matmul(x["x"], w[name]) for name in ("q", "k", "v"))
    weights = b(loss.Softmax(b.scale(b.matmul(q, k, tb=True), 0.5)))
    mixed = b.matmul(weights, v)
    gelu = b.mul(mixed, b.sigmoid(b.scale(mixed, 1.702)))
    return b.reduce_mean(b.square(gelu), (1, 2))


MODELS: dict[str, Model] = {
    "mlp": Model({"w0": (6, 5), "b0": (5,), "w1": (5, 3), "b1": (3,)}, {"x": floats(6), "y": ids(1, high=3)}, _mlp),
    "sequence": Model({"w": (4, 3), "b": (3,)}, {"x": floats(5, 4)}, _sequence),
    "folded": Model({"w": (4, 3), "b": (3,)}, {"x": floats(5, 4)}, _folded),
    "tied": Model({"table": (7, 4)}, {"words": ids(5, high=7), "y": ids(1, high=7)}, _tied),
    "embedding": Model({"table": (4, 6), "w": (6, 3)}, {"words": ids(8, high=4), "y": ids(1, high=3)}, _embedding),
    "normalised": Model({"scale": (6,), "shift": (6,), "slope": (1,), "w": (6, 2)}, {"x": floats(6)}, _normalised),
    "convolution": Model({"filter": (3, 2, 3, 2), "b": (3,)}, {"x": floats(2, 6, 5)}, _convolution),
    "convolutional_net": Model(
        {"filter": (4, 1, 3, 3), "scale": (4,), "shift": (4,), "w": (16, 3), "b": (3,)},
        {"x": floats(1, 6, 6), "y": ids(1, high=3)},
        _convolutional_net,
    ),
    "recurrent": Model({"u": (4, 3), "v": (3, 3), "b": (3,)}, {"x": floats(6, 4)}, _recurrent),
    "attention": Model({"q": (4, 4), "k": (4, 4), "v": (4, 4)}, {"x": floats(5, 4)}, _attention),
}
