"""Small captured modules that several tests start from."""

from __future__ import annotations

import math
from dataclasses import replace

from fluidc.compiler.ir.core import Function, Module, Output, Param, PrivacyConfig, StateDecl, StateName, Value
from fluidc.compiler.ir.location import Loc
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ir.types import DType, Sym, TensorType
from fluidc.compiler.ops import grad, loss, optim, state
from fluidc.compiler.ops.construct import OpBuilder

N = Sym("N")
PARAMETERS = {"w0": (8, 4), "b0": (4,), "w1": (4, 3)}


def private_mlp(*, clip: float = 1.0, lot: float = 16.0, sigma: float = 1.1) -> Module:
    """The MLP under DP-SGD."""
    return _mlp(PrivacyConfig(clip, lot, sigma))


def clipped_mlp(config: PrivacyConfig) -> Module:
    """The MLP under the clipping of ``config``; the bound of quantile clipping starts at its ``clip``."""
    module = _mlp(config)
    if not config.bound:
        return module
    bound = StateDecl(config.bound, TensorType(DType.F32, (1,)), role="optimizer")
    return replace(module, state=(*module.state, bound))


PER_GROUP = PrivacyConfig(
    math.hypot(1.0, 0.5), 16.0, 1.1, clipping="per-group",
    groups=((StateName("b0"), StateName("w0")), (StateName("w1"),)), clips=(1.0, 0.5),
)  # fmt: skip
AUTOMATIC = PrivacyConfig(1.0, 16.0, 1.1, clipping="automatic", gamma=0.01)
QUANTILE = PrivacyConfig(
    1.0, 16.0, 1.1, clipping="quantile", bound=StateName("dp_clip_0"), quantile=0.4, eta=0.3, sigma_b=0.8,
    c_min=0.01, c_max=100.0,
)  # fmt: skip
PHASES = PrivacyConfig(1.0, 16.0, 1.1, phases=((5, 1.1, 16.0), (7, 2.0, 24.0)))


def plain_mlp() -> Module:
    """The MLP under SGD."""
    return _mlp(None)


def two_biases() -> Module:
    """Private; a linear layer with two biases, whose gradients are one value."""
    b = OpBuilder()
    x = Value(TensorType(DType.F32, (N, 8)), "x")
    shapes = {"w0": (8, 4), "b0": (4,), "b1": (4,)}
    declared = [
        StateDecl(name, TensorType(DType.F32, shape), role="parameter", trainable=True)
        for name, shape in shapes.items()
    ]
    declared.append(StateDecl("lr", TensorType(DType.F32, (1,)), role="learning_rate"))
    read = {d.name: b(state.Read(StateName(d.name), d.type), d.name) for d in declared}
    y = b.tanh(b.add(b.add(b.matmul(x, read["w0"]), read["b0"]), read["b1"]))
    mean = b.reduce_mean(b.reduce_sum(b.square(y), (1,)), (0,))
    gradients = b.emit(grad.Backward((mean,), tuple(read[name] for name in shapes), private=True))
    for name, gradient in zip(shapes, gradients, strict=True):
        b.emit(state.Write(b(optim.Sgd(read[name], gradient, read["lr"])), StateName(name)))
    step = Function("step", (Param("x", x),), tuple(b.ops), (Output("mean", mean),))
    return Module(Stage.CAPTURED, tuple(declared), (_startup(declared), step), PrivacyConfig(1.0, 16.0, 1.1))


def _mlp(privacy: PrivacyConfig | None) -> Module:
    """softmax cross entropy of tanh(x w0 + b0) w1, mean over the batch; one step of SGD."""
    b = OpBuilder()
    x = Value(TensorType(DType.F32, (N, 8)), "x")
    y = Value(TensorType(DType.I64, (N, 1)), "y")
    declared = [
        StateDecl(name, TensorType(DType.F32, shape), role="parameter", trainable=True)
        for name, shape in PARAMETERS.items()
    ]
    declared.append(StateDecl("lr", TensorType(DType.F32, (1,)), role="learning_rate"))
    read = {d.name: b(state.Read(StateName(d.name), d.type), d.name) for d in declared}
    with b.at(Loc("mlp.py", 3, "fc")):
        hidden = b.tanh(b.add(b.matmul(x, read["w0"]), read["b0"]))
    with b.at(Loc("mlp.py", 4, "fc")):
        scores = b.matmul(hidden, read["w1"])
    with b.at(Loc("mlp.py", 5, "softmax_with_cross_entropy")):
        losses, _ = b.emit(loss.SoftmaxCrossEntropy(scores, y), "loss", "softmax")
    with b.at(Loc("mlp.py", 6, "mean")):
        mean = b.reduce_mean(losses, (0, 1))
    inputs = tuple(read[name] for name in PARAMETERS)
    with b.at(Loc("mlp.py", 7, "minimize")):
        gradients = b.emit(grad.Backward((mean,), inputs, private=privacy is not None))
        updated = [b(optim.Sgd(read[n], g, read["lr"])) for n, g in zip(PARAMETERS, gradients, strict=True)]
        for name, value in zip(PARAMETERS, updated, strict=True):
            b.emit(state.Write(value, StateName(name)))
    step = Function("step", (Param("x", x), Param("y", y)), tuple(b.ops), (Output("mean", mean),))
    return Module(Stage.CAPTURED, tuple(declared), (_startup(declared), step), privacy)


def _startup(declared: list[StateDecl]) -> Function:
    b = OpBuilder()
    for decl in declared:
        value = b.fill(decl.type.shape, decl.type.dtype, 0.1)
        b.emit(state.Write(value, StateName(decl.name)))
    return Function("startup", (), tuple(b.ops), ())
