"""Models over a batch of examples, as captured modules with a plain and a private gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from fluidc.compiler.ir.core import Function, Module, Output, Param, PrivacyConfig, StateDecl, StateName, Value
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ir.types import DType, Shape, Sym, TensorType
from fluidc.compiler.ops import activation, control, conv, grad, loss, norm, pool, state
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


def _grouped_convolution(b: OpBuilder, x: Values, w: Values) -> Value:
    y = b(conv.Conv2d(x["x"], w["filter"], strides=(2, 1), pads=(2, 1, 0, 1), dilations=(1, 2), groups=2))
    y = b.tanh(b.add(y, b.reshape(w["b"], (6, 1, 1))))
    return b.reduce_sum(b.square(y), (1, 2, 3))


def _frames(b: OpBuilder, x: Values, w: Values) -> Value:
    """Five images to an example, folded into the batch of a convolution; with and without groups."""
    frames = b.reshape(x["x"], (Sym("N", 5), 2, 4, 4))
    y = b.tanh(b(conv.Conv2d(frames, w["filter"])))
    y = b.tanh(b(conv.Conv2d(y, w["grouped"], groups=2)))
    return b.reduce_sum(b.square(b.reshape(y, (N, 5 * 4 * 2 * 2))), (1,))


def _deconvolution(b: OpBuilder, x: Values, w: Values) -> Value:
    y = b.tanh(b(conv.Conv2dInputGrad(w["filter"], x["x"], (N, 2, 6, 7), strides=(2, 2), pads=(1, 0, 1, 0))))
    return b.reduce_sum(b.square(y), (1, 2, 3))


def _lenet(b: OpBuilder, x: Values, w: Values) -> Value:
    y = b.add(b(conv.Conv2d(x["x"], w["c1"])), b.reshape(w["a1"], (4, 1, 1)))
    y = b(pool.MaxPool2d(b.tanh(y), kernel=(2, 2), strides=(2, 2)))
    y = b.add(b(conv.Conv2d(y, w["c2"])), b.reshape(w["a2"], (6, 1, 1)))
    y = b.reshape(b(pool.MaxPool2d(b.tanh(y), kernel=(2, 2), strides=(2, 2))), (N, 24))
    y = b.tanh(b.add(b.matmul(y, w["w1"]), w["b1"]))
    return _classify(b, b.add(b.matmul(y, w["w2"]), w["b2"]), x["y"])


def _language(b: OpBuilder, x: Values, w: Values) -> Value:
    """A table read by two lookups, one with a padding id, and as output layer of every token."""
    words = b.add(b.lookup(w["table"], x["words"], 0), b.scale(b.lookup(w["table"], x["next"]), 0.5))
    scores = b.matmul(b.tanh(b.matmul(words, w["w"])), w["table"], tb=True)
    losses, _ = b.emit(loss.SoftmaxCrossEntropy(scores, b.reshape(x["next"], (N, 5, 1))))
    return b.reduce_mean(losses, (1, 2))


def _unrolled(b: OpBuilder, x: Values, w: Values) -> Value:
    """Four written-out steps of h = tanh(x u + h v + b)."""
    h = b.fill((N, 3), DType.F32, 0.0)
    for t in range(4):
        row = b.reshape(b.slice(x["x"], 1, t, t + 1), (N, 4))
        h = b.tanh(b.add(b.add(b.matmul(row, w["u"]), b.matmul(h, w["v"])), w["b"]))
    return b.reduce_sum(b.square(h), (1,))


def _auto_encoder(b: OpBuilder, x: Values, w: Values) -> Value:
    """The decoder is the encoder's transpose, once as an op of its own and once inside the product."""
    hidden = b.tanh(b.matmul(x["x"], w["w"]))
    decoded = b.add(b.matmul(hidden, b.transpose(w["w"], (1, 0))), b.matmul(hidden, w["w"], tb=True))
    return b.reduce_sum(b.square(b.sub(decoded, x["x"])), (1, 2))


def _time_first(b: OpBuilder, x: Values, w: Values) -> Value:
    rows = b.transpose(x["x"], (1, 0, 2))
    hidden = b.tanh(b.add(b.matmul(rows, w["w"]), w["b"]))
    return b.reduce_mean(b.square(b.matmul(hidden, w["v"], tb=True)), (0, 2))


def _left(b: OpBuilder, x: Values, w: Values) -> Value:
    """Parameters as left operands of products."""
    y = b.tanh(b.matmul(b.reshape(w["m"], (1, 3, 5)), x["x"]))
    y = b.tanh(b.matmul(b.reshape(w["t"], (1, 3, 2)), y, ta=True))
    y = b.matmul(b.reshape(w["m2"], (1, 3, 4)), y, tb=True)
    return b.reduce_sum(b.square(y), (1, 2))


def _arithmetic(b: OpBuilder, x: Values, w: Values) -> Value:
    """Parameters that meet examples element by element: per element, per channel, alone, and broadcast first."""
    y = b.div(b.sub(b.mul(x["x"], w["full"]), w["channel"]), b.add(b.square(w["alone"]), b.fill((1,), DType.F32, 1.0)))
    y = b.add(y, b.mul(b.broadcast(b.reshape(w["row"], (1, 1, 4)), (N, 5, 4)), x["x"]))
    y = b.where(b.less(b.zeros_like(y), y), b.maximum(y, w["channel"]), b.mul(y, w["row"]))
    return b.reduce_sum(b.square(y), (1, 2))


def _prelu(b: OpBuilder, x: Values, w: Values) -> Value:
    """One slope for all, one per channel, one per element."""
    y = x["x"]
    for name, shape in (("all", (1,)), ("channel", (3, 1, 1)), ("element", (3, 2, 2))):
        (y,) = activation.PRelu(b.add(y, b.scale(x["x"], 0.5)), b.reshape(w[name], shape)).decompose(b)
    return b.reduce_sum(b.square(y), (1, 2, 3))


def _signed(b: OpBuilder, x: Values, w: Values) -> Value:
    """Linear in all parameters, so that feeds are the cotangents: sums of outer products can be made to cancel."""
    products = b.add(b.mul(b.matmul(x["x"], w["w"]), x["dx"]), b.mul(b.matmul(x["y"], w["w"]), x["dy"]))
    words = b.mul(b.lookup(w["table"], x["words"]), x["dw"])
    return b.reduce_sum(b.add(b.add(products, words), b.mul(w["b"], x["dw"])), (1, 2))


def _layer_norm(b: OpBuilder, x: Value, scale: Value, shift: Value) -> Value:
    return norm.LayerNorm(x, scale, shift, x.tensor.rank - 1).decompose(b)[0]


def _encoder(b: OpBuilder, x: Values, w: Values) -> Value:
    """A transformer block: attention with two heads, residuals, layer_norm, gelu."""
    heads = [b.reshape(b.matmul(x["x"], w[name]), (N, 5, 2, 2)) for name in ("q", "k", "v")]
    q, k, v = (b.transpose(head, (0, 2, 1, 3)) for head in heads)
    weights = b(loss.Softmax(b.scale(b.matmul(q, k, tb=True), 0.5)))
    mixed = b.reshape(b.transpose(b.matmul(weights, v), (0, 2, 1, 3)), (N, 5, 4))
    y = _layer_norm(b, b.add(x["x"], b.matmul(mixed, w["o"])), w["s1"], w["t1"])
    inner = b.add(b.matmul(y, w["w1"]), w["b1"])
    gelu = b.mul(inner, b.scale(b.erf(b.scale(inner, 0.5**0.5)), 0.5, 0.5))
    y = _layer_norm(b, b.add(y, b.add(b.matmul(gelu, w["w2"]), w["b2"])), w["s2"], w["t2"])
    return b.reduce_mean(b.square(b.add(y, x["x"])), (1, 2))


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
    "grouped_convolution": Model({"filter": (6, 2, 3, 2), "b": (6,)}, {"x": floats(4, 6, 5)}, _grouped_convolution),
    "frames": Model({"filter": (4, 2, 2, 2), "grouped": (4, 2, 2, 2)}, {"x": floats(5, 2, 4, 4)}, _frames),
    "deconvolution": Model({"filter": (3, 2, 3, 3)}, {"x": floats(3, 3, 3)}, _deconvolution),
    "lenet": Model(
        {
            "c1": (4, 1, 3, 3),
            "a1": (4,),
            "c2": (6, 4, 2, 2),
            "a2": (6,),
            "w1": (24, 8),
            "b1": (8,),
            "w2": (8, 3),
            "b2": (3,),
        },
        {"x": floats(1, 12, 12), "y": ids(1, high=3)},
        _lenet,
    ),
    "language": Model({"table": (7, 4), "w": (4, 4)}, {"words": ids(5, high=7), "next": ids(5, high=7)}, _language),
    "unrolled": Model({"u": (4, 3), "v": (3, 3), "b": (3,)}, {"x": floats(4, 4)}, _unrolled),
    "auto_encoder": Model({"w": (4, 3)}, {"x": floats(5, 4)}, _auto_encoder),
    "time_first": Model({"w": (4, 3), "b": (3,), "v": (5, 3)}, {"x": floats(5, 4)}, _time_first),
    "left": Model({"m": (3, 5), "t": (3, 2), "m2": (3, 4)}, {"x": floats(5, 4)}, _left),
    "arithmetic": Model(
        {"full": (5, 4), "channel": (5, 1), "alone": (1,), "row": (4,)}, {"x": floats(5, 4)}, _arithmetic
    ),
    "prelu": Model({"all": (1,), "channel": (3,), "element": (12,)}, {"x": floats(3, 2, 2)}, _prelu),
    "signed": Model(
        {"w": (4, 3), "table": (5, 3), "b": (3,)},
        {
            "x": floats(6, 4),
            "dx": floats(6, 3),
            "y": floats(6, 4),
            "dy": floats(6, 3),
            "words": ids(6, high=5),
            "dw": floats(6, 3),
        },
        _signed,
    ),
    "encoder": Model(
        {
            "q": (4, 4),
            "k": (4, 4),
            "v": (4, 4),
            "o": (4, 4),
            "s1": (4,),
            "t1": (4,),
            "w1": (4, 6),
            "b1": (6,),
            "w2": (6, 4),
            "b2": (4,),
            "s2": (4,),
            "t2": (4,),
        },
        {"x": floats(5, 4)},
        _encoder,
    ),
}
