"""Optimizer rules, one step by their formulas in float64; three steps of Paddle are in test_optim.py."""

import numpy as np
from cases import Case, ErrorCase, floats, tensor
from fluidc.compiler.ops import optim
from fluidc.compiler.ops.kinds import PUBLIC, TotalKind

SHAPE = (3, 4)
P, G = floats(*SHAPE), floats(*SHAPE, seed=1)
M, N = floats(*SHAPE, seed=2), floats(*SHAPE, seed=3, low=0.1)
SMALL = floats(*SHAPE, seed=4, low=0.01, high=0.05)
LR = np.full(1, 0.1, np.float32)
B1, B2 = np.full(1, 0.9**3, np.float32), np.full(1, 0.999**3, np.float32)
MOMENTUM = 0.5


def norm(x: np.ndarray) -> float:
    return float(np.sqrt(np.sum(np.square(x.astype(np.float64)))))


def lars(p, g, v, lr):
    rate = lr * 0.001 * norm(p) / (norm(g) + 0.0005 * norm(p))
    v = 0.9 * v + rate * (g + 0.0005 * p)
    return p - v, v


def adam(p, g, m1, m2, b1, b2, lr):
    m1, m2 = 0.9 * m1 + 0.1 * g, 0.999 * m2 + 0.001 * g * g
    rate = lr * np.sqrt(1 - b2.astype(np.float64)) / (1 - b1.astype(np.float64))
    return p - rate * m1 / (np.sqrt(m2) + 1e-8), m1, m2, b1 * np.float32(0.9), b2 * np.float32(0.999)


def adamax(p, g, m, u, b1, lr):
    m, u = 0.9 * m + 0.1 * g, np.maximum(np.abs(g), 0.999 * u + 1e-8)
    return p - lr / (1 - b1) * m / u, m, u, b1 * np.float32(0.9)


def lamb(p, g, m1, m2, lr):
    m1, m2 = 0.9 * m1 + 0.1 * g, 0.999 * m2 + 0.001 * g * g
    r = m1 / (np.sqrt(m2) + 1e-6) + 0.01 * p
    return p - lr * norm(p) / norm(r) * r, m1, m2


def adadelta(p, g, squares, updates):
    squares = 0.95 * squares + 0.05 * g * g
    step = np.sqrt((updates + 1e-6) / (squares + 1e-6)) * g
    updates = 0.95 * updates + 0.05 * step * step
    return p - np.sqrt((updates + 1e-6) / (squares + 1e-6)) * g, squares, updates


def rmsprop(p, g, s, v, lr):
    s = 0.95 * s + 0.05 * g * g
    v = MOMENTUM * v + lr * g / np.sqrt(s + 1e-6)
    return p - v, s, v


def centered(p, g, s, mean, v, lr):
    s, mean = 0.95 * s + 0.05 * g * g, 0.95 * mean + 0.05 * g
    v = MOMENTUM * v + lr * g / np.sqrt(s - mean * mean + 1e-6)
    return p - v, s, mean, v


def ftrl(p, g, squared, linear, lr):
    new = squared + g * g
    linear = linear + g - (np.sqrt(new) - np.sqrt(squared)) / lr * p
    out = (0.2 * np.sign(linear) - linear) / (np.sqrt(new) / lr + 2 * 0.3)
    return np.where(np.abs(linear) > 0.2, out, 0), new, linear


def nesterov(p, g, v, lr):
    v = 0.9 * v + g
    return p - lr * (g + 0.9 * v), v


def case(rule, expect, inputs, tag="", **attributes):
    return Case(rule.name + tag, lambda *v: rule(*v, **attributes), inputs, expect, rtol=5e-6, atol=5e-7,
                kinds=(PUBLIC,) * len(inputs), kind=PUBLIC)  # fmt: skip


CASES = [
    case(optim.Sgd, lambda p, g, lr: p - lr * g, (P, G, LR)),
    case(optim.Sgd, lambda p, g, lr: p - lr * g, (P, G, LR.reshape(())), "-scalar"),
    case(optim.Momentum, lambda p, g, v, lr: (p - lr * (0.9 * v + g), 0.9 * v + g), (P, G, M, LR), mu=0.9),
    case(optim.Momentum, nesterov, (P, G, M, LR), "-nesterov", mu=0.9, nesterov=True),
    case(optim.LarsMomentum, lars, (P, G, M, LR), mu=0.9),
    case(optim.Adagrad, lambda p, g, s, lr: (p - lr * g / (np.sqrt(s + g * g) + 1e-6), s + g * g), (P, G, N, LR)),
    case(
        optim.DecayedAdagrad,
        lambda p, g, s, lr: (p - lr * g / (np.sqrt(0.95 * s + 0.05 * g * g) + 1e-6), 0.95 * s + 0.05 * g * g),
        (P, G, N, LR),
    ),
    case(optim.Adam, adam, (P, G, M, N, B1, B2, LR)),
    case(optim.Adamax, adamax, (P, G, M, N, B1, LR)),
    case(optim.Lamb, lamb, (P, G, M, N, LR)),
    case(optim.Adadelta, adadelta, (P, G, N, SMALL)),
    case(optim.RmsProp, rmsprop, (P, G, N, M, LR), momentum=MOMENTUM),
    case(optim.CenteredRmsProp, centered, (P, G, N + 4, SMALL, M, LR), momentum=MOMENTUM),
    case(optim.Ftrl, ftrl, (P, G, N, M, LR), l1=0.2, l2=0.3),
    Case("optim.sgd-raw", optim.Sgd, (P, G, LR), lambda p, g, lr: p - lr * g, kinds=(PUBLIC, TotalKind("mean"), PUBLIC),
         kind="mixed"),
]  # fmt: skip

ERRORS = [
    ErrorCase("optim.sgd-grad", optim.Sgd, (tensor("f32[2,3]"), tensor("f32[6]"), tensor("f32[1]")),
              "grad has the parameter's type f32[2,3], not f32[6]"),
    ErrorCase("optim.sgd-lr", optim.Sgd, (tensor("f32[3]"), tensor("f32[3]"), tensor("f32[2]")), "lr is one number"),
    ErrorCase("optim.sgd-integers", optim.Sgd, (tensor("i64[3]"), tensor("i64[3]"), tensor("f32[]")),
              "updates floating-point parameters"),
]  # fmt: skip
