"""Cases of the functions of one element; expectations are Python's math, element by element."""

import math

import numpy as np
from cases import Case, ErrorCase, distinct, floats, ints, tensor

from fluidc.compiler.ops import unary
from fluidc.compiler.ops.kinds import PUBLIC, ExampleKind, TotalKind

E0 = ExampleKind(0)


def each(f):
    """``f`` of every element in double precision, rounded to the operand's type."""

    def expect(x):
        return np.array([f(float(v)) for v in x.reshape(-1)]).reshape(x.shape).astype(x.dtype)

    return expect


def case(cls, f, x, tag="", **options):
    wrt = options.pop("wrt", (0,))
    return Case(cls.name + tag, cls, (x,), each(f), wrt=wrt, kinds=(E0,), kind=E0, **options)


ANY = floats(4, 3, seed=1)
POSITIVE = floats(4, 3, seed=2, low=0.2, high=3.0)
UNIT = floats(4, 3, seed=3, low=-0.9, high=0.9)
AWAY = distinct(4, 3)  # no element at 0, nor at a multiple of 1/2
NAN, INF = float("nan"), float("inf")


def special(cls, values, wanted, tag):
    return Case(f"{cls.name}-{tag}", cls, (np.array(values, np.float32),), lambda x: np.array(wanted, np.float32))


def corner(name, build, values, wanted, gradient):
    return Case(
        f"unary.{name}-corner", build, (np.array(values, np.float32),), lambda x: np.array(wanted, np.float32),
        at_kink=(gradient,),
    )  # fmt: skip


def sgn(v):
    return (v > 0) - (v < 0)


CASES = (
    case(unary.Exp, math.exp, ANY),
    special(unary.Exp, [100.0, -200.0, NAN, INF, -INF], [INF, 0.0, NAN, INF, 0.0], "limits"),
    case(unary.Expm1, math.expm1, ANY),
    special(unary.Expm1, [1e-10], [1e-10], "near-0"),
    case(unary.Log, math.log, POSITIVE),
    special(unary.Log, [0.0, -1.0, INF], [-INF, NAN, INF], "limits"),
    case(unary.Log1p, math.log1p, UNIT),
    special(unary.Log1p, [1e-10, -1.0], [1e-10, -INF], "near-0"),
    case(unary.Sqrt, math.sqrt, POSITIVE),
    special(unary.Sqrt, [0.0, -1.0, INF], [0.0, NAN, INF], "limits"),
    case(unary.Rsqrt, lambda v: v**-0.5, POSITIVE),
    case(unary.Sin, math.sin, ANY),
    case(unary.Cos, math.cos, ANY),
    case(unary.Tan, math.tan, UNIT),
    case(unary.Asin, math.asin, UNIT),
    case(unary.Acos, math.acos, UNIT),
    case(unary.Atan, math.atan, ANY),
    case(unary.Sinh, math.sinh, ANY),
    case(unary.Cosh, math.cosh, ANY),
    case(unary.Tanh, math.tanh, ANY),
    special(unary.Tanh, [50.0, -50.0, NAN], [1.0, -1.0, NAN], "limits"),
    case(unary.Sigmoid, lambda v: 1 / (1 + math.exp(-v)), ANY),
    special(unary.Sigmoid, [200.0, -200.0, 0.0, NAN], [1.0, 0.0, 0.5, NAN], "limits"),
    case(unary.Erf, math.erf, ANY),
    case(unary.Square, lambda v: v * v, ANY),
    Case("unary.square-int", unary.Square, (ints(5, high=9),), lambda x: np.array([v * v for v in x])),
    case(unary.Reciprocal, lambda v: 1 / v, POSITIVE),
    special(unary.Reciprocal, [0.0, -2.0], [INF, -0.5], "limits"),
    case(unary.Neg, lambda v: -v, ANY),
    Case("unary.neg-total", unary.Neg, (ANY,), each(lambda v: -v), kinds=(TotalKind("mean"),), kind=TotalKind("mean")),
    Case("unary.exp-total", unary.Exp, (ANY,), each(math.exp), kinds=(TotalKind("mean"),), kind="mixed"),
    Case("unary.exp-public", unary.Exp, (ANY,), each(math.exp), kinds=(PUBLIC,), kind=PUBLIC),
    case(unary.Abs, abs, AWAY),
    special(unary.Abs, [0.0, -0.0, -INF, NAN], [0.0, 0.0, INF, NAN], "limits"),
    Case("unary.abs-int", unary.Abs, (ints(5, high=9) - 4,), lambda x: np.array([abs(int(v)) for v in x])),
    case(unary.Sign, sgn, AWAY),
    special(unary.Sign, [0.0, -3.0, 2.0, NAN, -INF], [0.0, -1.0, 1.0, NAN, -1.0], "limits"),
    Case("unary.sign-int", unary.Sign, (ints(6, high=5) - 2,), lambda x: np.array([sgn(int(v)) for v in x])),
    case(unary.Floor, math.floor, AWAY),
    case(unary.Ceil, math.ceil, AWAY),
    case(unary.Round, lambda v: sgn(v) * math.floor(abs(v) + 0.5), AWAY),
    special(
        unary.Round,
        [0.5, 1.5, 2.5, -0.5, -2.5, 0.49999997, 8388609.0, 16777216.0, NAN, INF],
        [1.0, 2.0, 3.0, -1.0, -3.0, 0.0, 8388609.0, 16777216.0, NAN, INF],
        "halves",
    ),
    Case("unary.scale", lambda x: unary.Scale(x, -2.5, 0.75), (ANY,), each(lambda v: v * -2.5 + 0.75), wrt=(0,)),
    Case(
        "unary.scale-total", lambda x: unary.Scale(x, 2.0, 1.0), (ANY,), each(lambda v: v * 2 + 1),
        wrt=(0,), kinds=(TotalKind("sum"),), kind=TotalKind("sum"),
    ),
    Case(
        "unary.scale-int", lambda x: unary.Scale(x, 2.9, -1.9), (ints(5, high=9),),
        lambda x: np.array([v * 2 - 1 for v in x]),
    ),
    case(unary.Relu, lambda v: max(v, 0.0), AWAY),
    special(unary.Relu, [NAN, -1.0, 0.0, INF, -INF], [NAN, 0.0, 0.0, INF, 0.0], "nan"),
    Case(
        "unary.leaky_relu", lambda x: unary.LeakyRelu(x, 0.02), (AWAY,), each(lambda v: v if v > 0 else 0.02 * v),
        wrt=(0,), kinds=(E0,), kind=E0,
    ),
    Case(
        "unary.leaky_relu-steep", lambda x: unary.LeakyRelu(x, 3.0), (AWAY,), each(lambda v: v if v > 0 else 3 * v),
        wrt=(0,),
    ),
    case(unary.Softplus, lambda v: math.log(1 + math.exp(v)), ANY),
    special(unary.Softplus, [500.0, -500.0, 0.0], [500.0, 0.0, math.log(2)], "limits"),
    Case(
        "unary.clip", lambda x: unary.Clip(x, -0.6, 0.9), (AWAY,), each(lambda v: min(max(v, -0.6), 0.9)), wrt=(0,),
        kinds=(E0,), kind=E0,
    ),
    Case(
        "unary.clip-nan", lambda x: unary.Clip(x, -1.0, 1.0), (np.array([NAN, INF, -INF], np.float32),),
        lambda x: np.array([NAN, 1.0, -1.0], np.float32),
    ),
    Case(
        "unary.clip-int", lambda x: unary.Clip(x, 1.5, 4.5), (ints(9, high=8),),
        lambda x: np.array([min(max(int(v), 2), 4) for v in x]),
    ),
    # Gradients at corners, as Paddle has them.
    corner("abs", unary.Abs, [0.0], [0.0], [0.0]),
    corner("relu", unary.Relu, [0.0, NAN], [0.0, NAN], [0.0, 0.0]),
    corner("leaky_relu", lambda x: unary.LeakyRelu(x, 0.1), [0.0], [0.0], [1.0]),
    corner("clip", lambda x: unary.Clip(x, -1.0, 1.0), [-1.0, 0.5, 1.0], [-1.0, 0.5, 1.0], [0.0, 1.0, 0.0]),
    corner("softplus", unary.Softplus, [0.0], [math.log(2)], [0.5]),
    Case(
        "unary.isfinite", unary.IsFinite, (np.array([0.0, NAN, INF, -INF, 3e38], np.float32),),
        lambda x: np.array([True, False, False, False, True]),
    ),
    Case(
        "unary.isnan", unary.IsNan, (np.array([0.0, NAN, INF], np.float32),), lambda x: np.array([False, True, False])
    ),
    Case("unary.not", unary.Not, (np.array([True, False]),), lambda x: np.array([False, True])),
)  # fmt: skip

ERRORS = (
    ErrorCase("unary.exp-int", unary.Exp, (tensor("i64[3]"),), "floating-point numbers"),
    ErrorCase("unary.neg-bool", unary.Neg, (tensor("bool[3]"),), "holds numbers"),
    ErrorCase("unary.not-float", unary.Not, (tensor("f32[3]"),), "boolean"),
    ErrorCase("unary.clip-crossed", lambda x: unary.Clip(x, 1.0, 0.0), (tensor("f32[3]"),), "above the upper limit"),
)
