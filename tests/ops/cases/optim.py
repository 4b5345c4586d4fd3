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


def lars(p, g, v, lr, coeff=0.001, decay=0.0005):
    rate = lr * coeff * norm(p) / (norm(g) + decay * norm(p)) if norm(p) and norm(g) else lr
    v = 0.9 * v + rate * (g + decay * p)
    return p - v, v


def adam(p, g, m1, m2, b1, b2, lr, eps=1e-8):
    m1, m2 = 0.9 * m1 + 0.1 * g, 0.999 * m2 + 0.001 * g * g
    rate = lr * np.sqrt(1 - b2.astype(np.float64)) / (1 - b1.astype(np.float64))
    return p - rate * m1 / (np.sqrt(m2) + eps), m1, m2, b1 * np.float32(0.9), b2 * np.float32(0.999)


def adamax(p, g, m, u, b1, lr, eps=1e-8):
    m, u = 0.9 * m + 0.1 * g, np.maximum(np.abs(g), 0.999 * u + eps)
    return p - lr / (1 - b1) * m / u, m, u, b1 * np.float32(0.9)


def lamb(p, g, m1, m2, lr, eps=1e-6):
    m1, m2 = 0.9 * m1 + 0.1 * g, 0.999 * m2 + 0.001 * g * g
    r = m1 / (np.sqrt(m2) + eps) + 0.01 * p
    return p - lr * (norm(p) / norm(r) if norm(p) and norm(r) else 1) * r, m1, m2


def adadelta(p, g, squares, updates, eps=1e-6):
    squares = 0.95 * squares + 0.05 * g * g
    step = np.sqrt((updates + eps) / (squares + eps)) * g
    updates = 0.95 * updates + 0.05 * step * step
    return p - np.sqrt((updates + eps) / (squares + eps)) * g, squares, updates


def rmsprop(p, g, s, v, lr, eps=1e-6):
    s = 0.95 * s + 0.05 * g * g
    v = MOMENTUM * v + lr * g / np.sqrt(s + eps)
    return p - v, s, v


def centered(p, g, s, mean, v, lr, eps=1e-6):
    s, mean = 0.95 * s + 0.05 * g * g, 0.95 * mean + 0.05 * g
    v = MOMENTUM * v + lr * g / np.sqrt(s - mean * mean + eps)
    return p - v, s, mean, v


def ftrl(p, g, squared, linear, lr, power=0.5):
    new = squared + g * g
    linear = linear + g - (new**power - squared**power) / lr * p
    out = (0.2 * np.sign(linear) - linear) / (new**power / lr + 2 * 0.3)
    return np.where(np.abs(linear) > 0.2, out, 0), new, linear


def nesterov(p, g, v, lr):
    v = 0.9 * v + g
    return p - lr * (g + 0.9 * v), v


def with_epsilon(rule, expect, *inputs, **attributes):
    """The same formula with an epsilon that is felt."""
    return case(rule, lambda *v: expect(*v, eps=0.25), inputs, "-epsilon", epsilon=0.25, **attributes)


def adagrad(p, g, s, lr, eps=1e-6):
    return p - lr * g / (np.sqrt(s + g * g) + eps), s + g * g


def decayed_adagrad(p, g, s, lr, eps=1e-6):
    s = 0.95 * s + 0.05 * g * g
    return p - lr * g / (np.sqrt(s) + eps), s


ZERO, FAINT = np.zeros(SHAPE, np.float32), G * np.float32(0.01)


def case(rule, expect, inputs, tag="", **attributes):
    return Case(rule.name + tag, lambda *v: rule(*v, **attributes), inputs, expect, rtol=5e-6, atol=5e-7,
                kinds=(PUBLIC,) * len(inputs), kind=PUBLIC)  # fmt: skip


CASES = [
    case(optim.Sgd, lambda p, g, lr: p - lr * g, (P, G, LR)),
    case(optim.Sgd, lambda p, g, lr: p - lr * g, (P, G, LR.reshape(())), "-scalar"),
    case(optim.Momentum, lambda p, g, v, lr: (p - lr * (0.9 * v + g), 0.9 * v + g), (P, G, M, LR), mu=0.9),
    case(optim.Momentum, nesterov, (P, G, M, LR), "-nesterov", mu=0.9, nesterov=True),
    case(optim.LarsMomentum, lars, (P, G, M, LR), mu=0.9),
    case(optim.LarsMomentum, lambda p, g, m, r: lars(p, g, m, r, 0.5, 0.3), (P, G, M, LR), "-decay", mu=0.9,
         coeff=0.5, decay=0.3),
    case(optim.LarsMomentum, lambda p, g, m, r: lars(p, g, m, r, 0.5), (SMALL, FAINT, M, LR), "-small", mu=0.9,
         coeff=0.5),
    case(optim.LarsMomentum, lars, (ZERO, G, M, LR), "-zero-parameter", mu=0.9),
    case(optim.LarsMomentum, lars, (P, ZERO, M, LR), "-zero-gradient", mu=0.9),
    case(optim.Adagrad, adagrad, (P, G, N, LR)),
    with_epsilon(optim.Adagrad, adagrad, P, G, N, LR),
    case(optim.DecayedAdagrad, decayed_adagrad, (P, G, N, LR)),
    with_epsilon(optim.DecayedAdagrad, decayed_adagrad, P, G, N, LR),
    with_epsilon(optim.Adam, adam, P, G, M, N, B1, B2, LR),
    with_epsilon(optim.Adamax, adamax, P, FAINT, M, N, B1, LR),
    with_epsilon(optim.Lamb, lamb, P, G, M, N, LR),
    with_epsilon(optim.Adadelta, adadelta, P, G, N, SMALL),
    with_epsilon(optim.RmsProp, rmsprop, P, G, N, M, LR, momentum=MOMENTUM),
    with_epsilon(optim.CenteredRmsProp, centered, P, G, N + 4, SMALL, M, LR, momentum=MOMENTUM),
    case(optim.Lamb, lamb, (SMALL, FAINT, FAINT, N, LR), "-small"),
    case(optim.Lamb, lamb, (ZERO, G, M, N, LR), "-zero-parameter"),
    case(optim.Ftrl, lambda *v: ftrl(*v, power=0.25), (P, G, N, M, LR), "-power", l1=0.2, l2=0.3, lr_power=-0.25),
    # Both penalties are at least 1e-10: below the first the parameter is 0, the second divides.
    Case("optim.ftrl-no-penalty", lambda *v: optim.Ftrl(*v, l1=0.0, l2=0.0),
         (*np.array([[1, 1], [0, 0], [0, 0], [5e-11, 1]], np.float32), LR),
         lambda p, g, s, linear, lr: (np.array([0, -5e9]), s, linear)),
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
