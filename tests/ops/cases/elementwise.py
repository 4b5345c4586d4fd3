"""Cases of elementwise arithmetic; expectations loop over the broadcast index."""

import math

import numpy as np
from cases import Case, ErrorCase, distinct, floats, ints, tensor

from fluidc.compiler.ir.types import DType
from fluidc.compiler.ops import elementwise as ew
from fluidc.compiler.ops.kinds import PUBLIC, ExampleKind, MixedKind, TotalKind

E0, E1 = ExampleKind(0), ExampleKind(1)
MEAN, SUM = TotalKind("mean"), TotalKind("sum")
MET, DECIDED = (MixedKind(reason, ew.Fill(0.0, tensor("f32[]"))) for reason in ("examples have met", "decided by data"))


def at(x, index):
    """The element of ``x`` that numpy broadcasting puts at ``index``."""
    own = index[len(index) - x.ndim :]
    return x[tuple(0 if d == 1 else i for d, i in zip(x.shape, own))].item()


def loop(f, dtype=None):
    def expect(*operands):
        rank = max(x.ndim for x in operands)
        aligned = [(1,) * (rank - x.ndim) + x.shape for x in operands]
        shape = tuple(max(extents) for extents in zip(*aligned))
        out = np.zeros(shape, dtype or operands[-1].dtype)
        for index in np.ndindex(*shape):
            out[index] = f(*(at(x, index) for x in operands))
        return out

    return expect


def case(cls, f, x, y, tag="", *, wrt=(0, 1), kinds=(), kind=None, dtype=None, **options):
    return Case(cls.name + tag, cls, (x, y), loop(f, dtype), wrt=wrt, kinds=kinds, kind=kind, **options)


X, Y = floats(4, 3, seed=1), floats(4, 3, seed=2)
ROW, COLUMN, CUBE = floats(3, seed=3), floats(4, 1, seed=4), floats(2, 4, 3, seed=5)
POSITIVE, AWAY = floats(4, 3, seed=6, low=0.3, high=2.0), floats(4, 3, seed=7, low=0.5, high=2.0)
D, D2 = distinct(4, 3, seed=8), distinct(4, 3, seed=9) + np.float32(0.11)
INTS, J = ints(4, 3, high=20, seed=1) - 10, ints(4, 3, high=5, seed=2) + 1
P, Q = ints(4, 3, high=2, seed=3) > 0, ints(4, 3, high=2, seed=4) > 0
NAN = float("nan")
TIED = np.array([2.0, 1.0, 0.0], np.float32), np.array([1.0, 1.0, 1.0], np.float32)
BYTES = np.array([1, 200, 255, 7, 16], np.uint8)
LARGE = np.array([2**60 + 7, -(2**60) - 7, 9], np.int64)


def trunc(a, b):
    q = abs(a) // abs(b)
    return q if (a < 0) == (b < 0) else -q


CASES = (
    case(ew.Add, lambda a, b: a + b, X, Y, kinds=(E0, E0), kind=E0),
    case(ew.Add, lambda a, b: a + b, X, ROW, "-bias", kinds=(E0, PUBLIC), kind=E0, norm=1),
    case(ew.Add, lambda a, b: a + b, ROW, X, "-bias-first", kinds=(PUBLIC, E0), kind=E0, norm=0),
    case(ew.Add, lambda a, b: a + b, CUBE, ROW, "-bias-time", kinds=(E0, PUBLIC), kind=E0, norm=1),
    case(ew.Add, lambda a, b: a + b, CUBE, ROW, "-bias-inner-batch", kinds=(E1, PUBLIC), kind=E1, norm=1),
    case(ew.Add, lambda a, b: a + b, CUBE, COLUMN, "-bias-column", kinds=(E0, PUBLIC), kind=E0, norm=1),
    case(
        ew.Add, lambda a, b: a + b, floats(6, 3), ROW, "-bias-folded-time", kinds=(ExampleKind(0, 1, 3), PUBLIC),
        kind=ExampleKind(0, 1, 3), norm=1,
    ),
    case(
        ew.Add, lambda a, b: a + b, floats(6, 3), ROW, "-bias-concatenated", kinds=(ExampleKind(0, 3, 1), PUBLIC),
        kind=ExampleKind(0, 3, 1), norm=1,
    ),
    case(ew.Add, lambda a, b: a + b, X, np.float32(0.5).reshape(()), "-scalar", kinds=(E0, PUBLIC), kind=E0, norm=1),
    case(ew.Add, lambda a, b: a + b, X, floats(4, 1, 3), "-other-axis", kinds=(E0, E0), kind="mixed"),
    case(ew.Add, lambda a, b: a + b, COLUMN, X[:1], "-outer"),
    case(ew.Add, lambda a, b: a + b, X, Y, "-totals", kinds=(MEAN, MEAN), kind=MEAN),
    case(ew.Add, lambda a, b: a + b, X, Y, "-forms", kinds=(MEAN, SUM), kind="mixed"),
    case(ew.Add, lambda a, b: a + b, X, Y, "-total-public", kinds=(SUM, PUBLIC), kind=SUM),
    case(ew.Add, lambda a, b: a + b, ROW, X, "-total-example", kinds=(MEAN, E0), kind="mixed"),
    case(ew.Add, lambda a, b: a + b, INTS, J, "-int", wrt=()),
    case(ew.Sub, lambda a, b: a - b, X, Y, kinds=(E0, E0), kind=E0),
    case(ew.Sub, lambda a, b: a - b, COLUMN, floats(1, 4), "-pairs", kinds=(E0, E1), kind="mixed"),
    case(ew.Sub, lambda a, b: a - b, ROW, X, "-broadcast", kinds=(PUBLIC, E0), kind=E0),
    case(ew.Mul, lambda a, b: a * b, X, Y, kinds=(E0, E0), kind=E0),
    case(ew.Mul, lambda a, b: a * b, CUBE, COLUMN, "-broadcast"),
    case(ew.Mul, lambda a, b: a * b, X, Y, "-total-public", kinds=(MEAN, PUBLIC), kind=MEAN),
    case(ew.Mul, lambda a, b: a * b, X, Y, "-totals", kinds=(MEAN, MEAN), kind="mixed"),
    case(ew.Div, lambda a, b: a / b, X, AWAY, kinds=(E0, E0), kind=E0),
    case(ew.Div, lambda a, b: a / b, X, floats(3, low=0.5, seed=3), "-broadcast"),
    case(ew.Div, lambda a, b: a / b, X, AWAY, "-total-public", kinds=(SUM, PUBLIC), kind=SUM),
    case(ew.Div, lambda a, b: a / b, X, AWAY, "-public-total", kinds=(PUBLIC, SUM), kind="mixed"),
    case(ew.Div, trunc, INTS, J, "-int", wrt=()),
    case(ew.Div, trunc, LARGE, np.array([3, 3, -2]), "-int-large", wrt=(), rtol=0),
    case(ew.Div, trunc, np.array([3, -3, 0, 4]), np.array([5, 5, 5, -5]), "-int-below-one", wrt=()),
    Case(
        "elementwise.div-zero", ew.Div, (np.array([1.0, -1.0, 0.0], np.float32), np.zeros(3, np.float32)),
        lambda x, y: np.array([math.inf, -math.inf, NAN], np.float32),
    ),
    case(ew.Maximum, max, D, D2, kinds=(E0, E0), kind=E0),
    case(ew.Maximum, max, D, distinct(3, seed=3) + np.float32(0.11), "-broadcast"),
    case(ew.Maximum, max, D, D2, "-total", kinds=(MEAN, PUBLIC), kind="mixed"),
    Case(
        "elementwise.max-nan", ew.Maximum, (np.array([NAN, 1.0], np.float32), np.array([1.0, NAN], np.float32)),
        lambda x, y: np.array([NAN, NAN], np.float32),
    ),
    case(ew.Minimum, min, D, D2),
    case(ew.Minimum, min, INTS, J, "-int", wrt=()),
    Case(
        "elementwise.min-nan", ew.Minimum, (np.array([NAN, 1.0], np.float32), np.array([1.0, NAN], np.float32)),
        lambda x, y: np.array([NAN, NAN], np.float32),
    ),
    case(ew.Pow, lambda a, b: a**b, POSITIVE, Y, rtol=1e-5),
    case(ew.Pow, lambda a, b: a**b, POSITIVE, np.float32(3.0).reshape(()), "-cube", rtol=1e-5),
    case(ew.Pow, lambda a, b: a**b, X, np.float32(2.0).reshape(()), "-negative-base", wrt=(0,), rtol=1e-5),
    # A base of 0 contributes no gradient to the exponent, not 0 * log 0.
    case(ew.Pow, lambda a, b: a**b, np.zeros(1, np.float32), np.full(1, 2, np.float32), "-zero", wrt=(),
         at_kink=([0.0], [0.0])),
    # On a tie the second operand takes the gradient (Paddle's rule).
    case(ew.Maximum, max, *TIED, "-tie", wrt=(), at_kink=([1.0, 0.0, 0.0], [0.0, 1.0, 1.0])),
    case(ew.Minimum, min, *TIED, "-tie", wrt=(), at_kink=([0.0, 0.0, 1.0], [1.0, 1.0, 0.0])),
    case(ew.Mod, lambda a, b: a - math.floor(a / b) * b, INTS, J, "-int", wrt=()),
    case(ew.Mod, lambda a, b: a % b, D, AWAY, wrt=(), rtol=1e-5, atol=1e-6),
    case(ew.Mod, lambda a, b: a % b, BYTES, BYTES[::-1], "-bytes", wrt=()),
    case(ew.Mod, lambda a, b: a % b, np.array([3.0, -3.0, 0.0, 3.0], np.float32),
         np.array([math.inf, math.inf, -math.inf, -math.inf], np.float32), "-infinite", wrt=()),
    case(ew.Div, lambda a, b: a // b, BYTES, BYTES[::-1], "-bytes", wrt=()),
    case(ew.FloorDiv, lambda a, b: a // b, INTS, J, "-int", wrt=()),
    case(ew.FloorDiv, lambda a, b: math.floor(a / b), D, AWAY, wrt=()),
    case(ew.Equal, lambda a, b: a == b, INTS % 3, J % 3, wrt=(), dtype=bool, kinds=(E0, E0), kind=E0),
    case(ew.Equal, lambda a, b: a == b, INTS, J, "-total", wrt=(), dtype=bool, kinds=(SUM, PUBLIC), kind="mixed"),
    case(ew.NotEqual, lambda a, b: a != b, INTS % 3, J % 3, wrt=(), dtype=bool),
    case(ew.Less, lambda a, b: a < b, X, Y, wrt=(), dtype=bool),
    case(ew.LessEqual, lambda a, b: a <= b, INTS % 3, J % 3, wrt=(), dtype=bool),
    case(ew.Less, lambda a, b: a < b, np.array([NAN, 1.0], np.float32), np.array([1.0, NAN], np.float32), "-nan",
         wrt=(), dtype=bool),
    case(ew.And, lambda a, b: a and b, P, Q, wrt=()),
    case(ew.Or, lambda a, b: a or b, P, Q, wrt=()),
    case(ew.Xor, lambda a, b: a != b, P, Q, wrt=()),
    Case("elementwise.where", ew.Where, (P, X, Y), loop(lambda c, a, b: a if c else b), wrt=(1, 2),
         kinds=(E0, E0, E0), kind=E0),
    Case("elementwise.where-broadcast", ew.Where, (P[:, :1], X, ROW), loop(lambda c, a, b: a if c else b), wrt=(1, 2),
         kinds=(E0, E0, PUBLIC), kind=E0),
    Case("elementwise.where-total", ew.Where, (P, X, Y), loop(lambda c, a, b: a if c else b),
         kinds=(PUBLIC, MEAN, PUBLIC), kind="mixed"),
    Case("elementwise.where-mixed", ew.Where, (P, X, Y), loop(lambda c, a, b: a if c else b),
         kinds=(DECIDED, MET, PUBLIC), kind=MET),
    Case("elementwise.where-nan", ew.Where, (np.array([True, False]), np.array([1.0, NAN], np.float32),
         np.array([NAN, 2.0], np.float32)), lambda c, x, y: np.array([1.0, 2.0], np.float32)),
    Case("elementwise.cast-int", lambda x: ew.Cast(x, DType.I64), (D,),
         lambda x: np.array([[int(v) for v in r] for r in x])),
    Case("elementwise.cast-float", lambda x: ew.Cast(x, DType.F32), (INTS,), lambda x: x * np.float32(1), kinds=(E0,),
         kind=E0),
    Case("elementwise.cast-bool", lambda x: ew.Cast(x, DType.BOOL), (J - 2,),
         lambda x: np.array([[v != 0 for v in r] for r in x])),
    Case("elementwise.cast-half", lambda x: ew.Cast(x, DType.F16), (X,), lambda x: np.array(x, np.float16)),
    Case("elementwise.cast-double", lambda x: ew.Cast(x, DType.F64), (X,), lambda x: np.array(x, np.float64), wrt=(0,)),
    Case("elementwise.fill", lambda: ew.Fill(2.5, tensor("f32[2,3]")), (), lambda: np.array([[2.5] * 3] * 2,
         np.float32)),
    Case("elementwise.fill-bool", lambda: ew.Fill(True, tensor("bool[]")), (), lambda: np.bool_(True)),
    Case("elementwise.fill-int", lambda: ew.Fill(-3, tensor("i64[2]")), (), lambda: np.array([-3, -3])),
)  # fmt: skip

ERRORS = (
    ErrorCase("elementwise.add-shapes", ew.Add, (tensor("f32[2,3]"), tensor("f32[2,4]")), "do not broadcast"),
    ErrorCase("elementwise.add-batch", ew.Add, (tensor("f32[N,3]"), tensor("f32[8,3]")), "do not broadcast"),
    ErrorCase("elementwise.mul-types", ew.Mul, (tensor("f32[2]"), tensor("i64[2]")), "element types differ"),
    ErrorCase("elementwise.and-float", ew.And, (tensor("f32[2]"), tensor("f32[2]")), "boolean"),
    ErrorCase("elementwise.where-float", ew.Where, (tensor("f32[2]"),) * 3, "condition is boolean"),
)
