"""ONNX forms of core ops on every element type and on the numbers where formulas break: NaN, infinities, the least
integer, divisors of 0; in ONNX Runtime against ``evaluate``."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import pytest
from cases import tensor, type_of
from onnx import ModelProto
from onnx_jobs import session

from fluidc.compiler.codegen.built import BuildOptions
from fluidc.compiler.codegen.onnx.build import export
from fluidc.compiler.errors import MissingRule, VerifyError
from fluidc.compiler.ir.core import Function, Module, Output, Param, Value
from fluidc.compiler.ir.location import Loc
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ir.types import DType
from fluidc.compiler.ops import elementwise as ew
from fluidc.compiler.ops import linear, loss, loss_binary, optim, reduce, shape, unary
from fluidc.compiler.ops.base import Op
from fluidc.compiler.ops.optim_base import Update
from fluidc.compiler.ops.region import evaluate_op

INF, NAN = float("inf"), float("nan")
RTOL = {DType.F16: 2e-3, DType.BF16: 2e-2, DType.F32: 3e-6, DType.F64: 1e-13}
ATOL = {DType.F16: 3e-3, DType.BF16: 1e-2}
REALS = (0.0, 1.0, -1.0, 0.5, 2.5, -2.5, 1e-4, -1e-3, 7.0, -80.0, NAN, INF, -INF)

UNARY: tuple[Callable[[Value], Op], ...] = (
    *(cast("Callable[[Value], Op]", op) for op in unary.OPS if op not in (unary.Scale, unary.LeakyRelu, unary.Clip)),
    lambda x: unary.Scale(x, 3.0, 2.0),
    lambda x: unary.LeakyRelu(x, 0.1),
    lambda x: unary.Clip(x, 1.0, 7.0),
    lambda x: unary.Clip(x, -INF, 2.0),
    lambda x: unary.Clip(x, 1.0, INF),
)
BINARY: tuple[Callable[[Value, Value], Op], ...] = tuple(
    cast("Callable[[Value, Value], Op]", op) for op in ew.OPS if op not in (ew.Where, ew.Cast, ew.Fill, ew.Pow)
)
MOVING: tuple[Callable[[Value], Op], ...] = (
    lambda x: shape.Broadcast(x, (2, *x.tensor.shape)),
    lambda x: shape.Pad(x, (1, 0), (0, 2), 3.0, (2, 1)),
    lambda x: shape.Pad(x, (0, 0), (0, 0), 1.0, (0, 3)),
    lambda x: shape.Reverse(x, (0, 1)),
    lambda x: shape.Slice(x, 1, 1, 3, 2),
    lambda x: shape.Concat((x, x), 1),
    lambda x: shape.Iota(1, x.tensor),
    lambda x: shape.Extent(7, x.type.dtype),
    lambda x: ew.Fill(1.0, x.tensor),
    *((lambda x, to=to: ew.Cast(x, to)) for to in DType),
)
REDUCING: tuple[Callable[[Value], Op], ...] = (
    *((lambda x, op=op: op(x, (1,), True)) for op in reduce.OPS if issubclass(op, reduce.Reduction)),
    lambda x: reduce.Argmax(x, 1),
    lambda x: reduce.Argmin(x, 0, True),
)
NORMALISING: tuple[Callable[[Value], Op], ...] = (
    lambda x: loss.Softmax(x, 1),
    lambda x: loss.LogSoftmax(x, 1),
)

# Where ONNX Runtime has no kernel, and there is no other form.
NO_FORM = {
    *((f"unary.{name}", DType.F64) for name in ("cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "erf")),
    ("reduce.prod", DType.F64),
    *((f"elementwise.{name}", DType.U64) for name in ("div", "mod", "floordiv", "less", "less_equal")),
    *((f"reduce.{name}", DType.U64) for name in ("max", "min", "argmax", "argmin")),
}


def numbers(dtype: DType) -> np.ndarray:
    """The numbers that tell forms apart, [n]."""
    if dtype is DType.BOOL:
        return np.array([False, True])
    if dtype.is_float:
        return np.array(REALS).astype(dtype.numpy)
    bounds: Any = np.iinfo(cast(Any, dtype.numpy))
    some = [bounds.min, bounds.max, bounds.max - 3, 0, 1, 2, 3, 7, 100]
    return np.array([*some, *([-1, -2, -7] if bounds.min else [])], dtype.numpy)


def built(builders: Sequence[Callable[..., Op]], values: Sequence[Value], arrays: Sequence[np.ndarray]) -> list[Op]:
    """The ops that there are on such values; numpy has no arithmetic of booleans."""
    found: list[Op] = []
    for build in builders:
        try:
            op = build(*values)
            evaluate_op(op, dict(zip(values, arrays, strict=True)))
        except (VerifyError, TypeError):
            continue
        found.append(op)
    return found


def check(builders: Sequence[Callable[..., Op]], *arrays: np.ndarray) -> set[str]:
    """Compare every op on the arrays with ``evaluate``; return the names of those without a form."""
    wide = [array.astype(np.float32) if DType.of(array.dtype) is DType.BF16 else array for array in arrays]
    params = [Param(f"x{i}", Value(type_of(array), f"x{i}")) for i, array in enumerate(wide)]
    casts = [ew.Cast(param.value, DType.of(array.dtype)) for param, array in zip(params, arrays, strict=True)]
    values = [cast.result for cast in casts]
    missing: set[str] = set()
    ops: list[Op] = []
    for op in built(builders, values, arrays):
        try:
            model_of(params, [*casts, op], [op])
        except MissingRule:
            missing.add(op.name)
        else:
            ops.append(op)
    shown = [ew.Cast(op.result, DType.F32) if op.results[0].type.dtype is DType.BF16 else op for op in ops]
    model = model_of(params, [*casts, *ops, *(op for op in shown if op not in ops)], shown)
    given = {param.name: array for param, array in zip(params, wide, strict=True)}
    wanted = {value.name for value in model.graph.input}
    found = session(model).run(None, {name: array for name, array in given.items() if name in wanted})
    wrong: list[str] = []
    results = [result for op in ops for result in op.results]
    for result, have in zip(results, found, strict=True):
        op = cast("Op", result.op)
        known: dict[Value, Any] = dict(zip(values, arrays, strict=True))
        evaluate_op(op, known)
        want = np.asarray(known[result])
        assert have.shape == want.shape, op.name
        if want.dtype.kind in "iub":
            agree = np.asarray(have == want)
        else:
            kind = result.type.dtype
            agree = np.isclose(
                have.astype(np.float64), want.astype(np.float64), RTOL[kind], ATOL.get(kind, 3e-8), equal_nan=True
            )
        if not agree.all():
            at = tuple(int(i) for i in np.argwhere(~agree)[0])
            wrong.append(f"{op} at {at}: {have[at]}, not {want[at]}")
    assert not wrong, "\n".join(wrong)
    return missing


def model_of(params: Sequence[Param], ops: Sequence[Op], shown: Sequence[Op]) -> ModelProto:
    """A model of ops whose outputs are those of ``shown``."""
    results = [result for op in shown for result in op.results]
    outputs = tuple(Output(f"y{i}", result) for i, result in enumerate(results))
    function = Function("f", tuple(params), tuple(ops), outputs)
    return export(Module(Stage.TARGET, (), (function,)), function, BuildOptions())


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", list(DType))
def test_every_type(dtype: DType) -> None:
    x = numbers(dtype)
    table = x[: 2 * (x.size // 2)].reshape(2, -1)
    twice = np.concatenate([table, table[::-1, ::-1]])
    missing = check(UNARY, x) | check(BINARY, x[:, None], x[None, :]) | check(MOVING, table) | check(REDUCING, twice)
    if dtype.is_float:
        missing |= check(NORMALISING, x[np.isfinite(x)].reshape(2, -1)) | check(NORMALISING, x[None, x != INF])
    assert missing == {name for name, without in NO_FORM if without is dtype}


LABELS = np.array([[0], [4], [2], [-1], [5], [-100], [1], [3]])
LOGITS = np.array(
    [[1, 2, 3, 4, 5], [1e4, -1e4, 0, 9e3, 1e4], [0, -INF, -INF, 1, 2], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4],
     [NAN, 0, 0, 0, 0], [NAN, 0, 1, 2, 3], [-100, -90, 0, 100, 90]]
)  # fmt: skip


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", [DType.F32, DType.F64])
@pytest.mark.parametrize("labels", [DType.I64, DType.I32, DType.I8, DType.U64])
def test_labels_and_logits_of_every_kind(dtype: DType, labels: DType) -> None:
    """Labels that are no class, or ignored; logits that are infinite, far apart, or no number."""
    label, logits = LABELS.astype(labels.numpy), LOGITS.astype(dtype.numpy)
    probabilities = np.where(np.isfinite(logits), np.clip(logits, 0, 1), logits)
    losses: tuple[Callable[..., Op], ...] = (
        loss.SoftmaxCrossEntropy,
        lambda x, y: loss.SoftmaxCrossEntropy(x, y, 1, 2),
    )
    check(losses, logits, label)
    check((loss.CrossEntropy, lambda x, y: loss.CrossEntropy(x, y, 0)), probabilities, label)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", [DType.F32, DType.F64])
def test_sigmoid_cross_entropy(dtype: DType) -> None:
    x = np.array([0, 1, -1, 30, -30, 800, -800, INF, -INF, NAN, 2], dtype.numpy)
    check((loss.SigmoidCrossEntropy,), x, np.array([1, 0, 1, 1, 0, 0, 1, 1, 0, 1, -100], dtype.numpy))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", [DType.F32, DType.F64])
def test_binary_cross_entropy(dtype: DType) -> None:
    x = np.array([0, 1, 0, 1, 0.25, 1e-30, -1, 2, NAN], dtype.numpy)
    check((loss_binary.BinaryCrossEntropy,), x, np.array([1, 0, 0, 1, 0.75, 1, 1, 0, 1], dtype.numpy))


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)], ids=str)
@pytest.mark.parametrize("dtype", [DType.F32, DType.F64, DType.F16])
@pytest.mark.parametrize("update", optim.OPS, ids=lambda op: op.name)
def test_updates(update: type[Update], dtype: DType, shape: tuple[int, ...]) -> None:
    """Parameters of every rank and precision, rates of both shapes."""
    rng = np.random.default_rng(1)
    tensors = [rng.uniform(0.1, 2, shape).astype(dtype.numpy) for _ in update.tensors]
    for one in ((), (1,)):
        scalars = [np.full(one, value, dtype.numpy) for value in (0.81, 0.9, 0.5)[-len(update.scalars) :]]
        options = {"mu": 0.9} if "mu" in update.__dataclass_fields__ else {}

        def build(*values: Value, options: Any = options) -> Op:
            return update(*values, **options)

        assert not check((build,), *tensors, *(scalars if update.scalars else ()))


@pytest.mark.parametrize("dtype", [kind for kind in DType if kind is not DType.BOOL])
@pytest.mark.parametrize("inner", [3, 0])
def test_products(dtype: DType, inner: int) -> None:
    """Integers wrap, half precision is summed in single, and a sum of nothing is 0."""
    rng = np.random.default_rng(1)
    planes = [((2, inner), (inner, 4)), ((3, 1, 2, inner), (5, inner, 4)), ((3, 2, inner), (inner, 4))]
    for left, right in planes:
        for ta, tb in itertools.product((False, True), repeat=2):
            x, w = (
                (rng.normal(size=size) * 50).astype(dtype.numpy).swapaxes(-1, -2 if turned else -1).copy()
                for size, turned in ((left, ta), (right, tb))
            )

            def build(a: Value, b: Value, ta: bool = ta, tb: bool = tb) -> Op:
                return linear.MatMul(a, b, ta, tb)

            assert not check((build,), x, w)


AT = Loc("train.py", 7, "layer")
MISTAKES: dict[str, tuple[Callable[[Value], Op], str]] = {
    "onnx_no_kernel": (lambda x: unary.Tan(x, loc=AT), "f64[3]"),
    "onnx_power_of_integers": (lambda x: ew.Pow(x, x, loc=AT), "i64[3]"),
    "onnx_parameter_of_bf16": (lambda x: optim.Sgd(x, x, x, loc=AT), "bf16[1]"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_messages(name: str, golden: Callable[[str, str], None]) -> None:
    build, kind = MISTAKES[name]
    param = Param("x", Value(tensor(kind), "x"))
    op = build(param.value)
    with pytest.raises(MissingRule) as caught:
        model_of([param], [op], [op])
    golden(f"errors/{name}.txt", f"{caught.value}\n")
