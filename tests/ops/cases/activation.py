"""Cases of the composite activations; expectations are their published formulas in Python's math."""

import math

import numpy as np
from cases import Case, ErrorCase, distinct, floats, tensor

from fluidc.compiler.ops import activation
from fluidc.compiler.ops.kinds import PUBLIC, ExampleKind, TotalKind

E0 = ExampleKind(0)
WIDE = distinct(4, 4, seed=5, step=0.9)  # from -7 to 7, away from every corner used here
NEAR = floats(4, 3, seed=6, low=-3.0, high=3.0)


def each(f):
    def expect(x, *_):
        return np.array([f(float(v)) for v in x.reshape(-1)]).reshape(x.shape).astype(x.dtype)

    return expect


def named(cls, f, *arguments, x=WIDE, tag=""):
    return Case(
        cls.name + tag, lambda v: cls(v, *arguments), (x,), each(f),
        wrt=(0,), kinds=(E0,), kind=E0, rtol=1e-5, atol=1e-6,
    )  # fmt: skip


def clip(v, low, high):
    return min(max(v, low), high)


def softplus(v):
    return math.log1p(math.exp(v))


def phi(v):
    return 0.5 * math.erfc(-v / math.sqrt(2))


SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772

CASES = (
    named(activation.Relu6, lambda v: clip(v, 0, 6)),
    named(activation.BRelu, lambda v: clip(v, 1, 4), 1.0, 4.0),
    named(activation.Elu, lambda v: v if v > 0 else math.exp(v) - 1),
    named(activation.Elu, lambda v: v if v > 0 else 0.3 * (math.exp(v) - 1), 0.3, tag="-alpha"),
    Case(
        "activation.elu-large", activation.Elu, (np.array([200.0, -200.0], np.float32),),
        lambda x: np.array([200.0, -1.0], np.float32),
    ),
    named(activation.Selu, lambda v: SELU_SCALE * (v if v > 0 else SELU_ALPHA * (math.exp(v) - 1))),
    named(activation.Gelu, lambda v: v * phi(v), x=NEAR),
    Case(
        "activation.gelu-documented", activation.Gelu, (np.array([-1.0], np.float32),),
        lambda x: np.array([-0.15866], np.float32), atol=1e-5,
    ),
    named(
        activation.Gelu,
        lambda v: 0.5 * v * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))),
        True, x=NEAR, tag="-tanh",
    ),
    named(activation.Softsign, lambda v: v / (1 + abs(v))),
    named(activation.Swish, lambda v: v / (1 + math.exp(-v))),
    named(activation.Swish, lambda v: v / (1 + math.exp(-1.7 * v)), 1.7, tag="-beta"),
    named(activation.HardSigmoid, lambda v: clip(0.2 * v + 0.5, 0, 1)),
    named(activation.HardSwish, lambda v: v * clip(v + 3, 0, 6) / 6),
    named(activation.LogSigmoid, lambda v: -softplus(-v)),
    named(activation.STanh, lambda v: 1.7159 * math.tanh(0.67 * v)),
    named(activation.TanhShrink, lambda v: v - math.tanh(v)),
    named(activation.SoftShrink, lambda v: math.copysign(max(abs(v) - 0.5, 0), v)),
    named(activation.HardShrink, lambda v: v if abs(v) > 0.5 else 0.0),
    named(activation.ThresholdedRelu, lambda v: v if v > 1 else 0.0),
    Case(
        "activation.hard_shrink-border", activation.HardShrink, (np.array([0.5, -0.5], np.float32),),
        lambda x: np.zeros(2, np.float32),
    ),
    Case(
        "activation.thresholded_relu-border", activation.ThresholdedRelu, (np.array([1.0], np.float32),),
        lambda x: np.zeros(1, np.float32),
    ),
    named(activation.SoftRelu, lambda v: softplus(clip(v, -3, 3)), 3.0),
    named(activation.Mish, lambda v: v * math.tanh(softplus(v))),
    Case(
        "activation.prelu", activation.PRelu, (WIDE, np.array([0.25, 0.1, 0.5, 2.0], np.float32)),
        lambda x, a: np.array([[v if v > 0 else v * s for v, s in zip(r, a)] for r in x], np.float32),
        wrt=(0, 1), kinds=(E0, PUBLIC), kind=E0,
    ),
    Case(
        "activation.prelu-total", activation.PRelu, (NEAR, np.ones(1, np.float32)), lambda x, a: x,
        kinds=(TotalKind("mean"), PUBLIC), kind="mixed",
    ),
    Case(
        "activation.swish-total", activation.Swish, (NEAR,), each(lambda v: v / (1 + math.exp(-v))),
        kinds=(TotalKind("mean"),), kind="mixed", rtol=1e-5,
    ),
)  # fmt: skip

ERRORS = (
    ErrorCase("activation.gelu-int", activation.Gelu, (tensor("i32[2]"),), "floating-point numbers"),
    ErrorCase("activation.prelu-types", activation.PRelu, (tensor("f32[2]"), tensor("f64[1]")), "floats of one type"),
)
