"""Op cases: one description of an op on concrete inputs, from which every facet of its rules is tested.

A case's ``expect`` comes from an independent source: explicit loops, scipy, or values worked out by hand;
never from the op's own ``evaluate``.  Family files in tests/ops/cases list ``CASES`` and ``ERRORS``.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeAlias, cast

import numpy as np

from fluidc.compiler.ir.core import OpBase, Value
from fluidc.compiler.ir.types import DType, RaggedType, Sym, TensorType, Type
from fluidc.compiler.ops.base import Op
from fluidc.compiler.ops.construct import OpBuilder
from fluidc.compiler.ops.kinds import ExampleKind, Kind
from fluidc.compiler.ops.ragged import RaggedArray
from fluidc.compiler.ops.region import evaluate_op

Result: TypeAlias = "Kind | Literal['mixed']"  # 'mixed': whatever the cause


@dataclass(frozen=True)
class Case:
    """One op on concrete inputs.

    Args:
        id: ``family.op`` of the op, then whatever tells cases apart: ``unary.exp-overflow``.
        build: Makes the op from one value per input (an operand that an optional or variadic field holds is
            an input too).  Attributes that hold shapes are taken from the values, so that the same function
            builds the op with a symbolic batch.
        inputs: float32, integer and boolean arrays (or RaggedArray).
        expect: The results for the inputs: one array or a tuple.  Called with float32 inputs.
        wrt: Inputs whose cotangents are compared with central differences in float64.
        second: Also differentiate the emitted cotangents once more.
        kinds: Kinds of the inputs, for ``example_axis`` and the norm rule; empty: not checked.
        kind: What the kinds of the results must be (one for all, or one per result).
        at_kink: The cotangents of the floating-point inputs for cotangents of one, where the derivative does not
            exist (a tie, a corner) and the rule follows Paddle: worked out by hand, None for none.
        norm: The input for which ``example_norm_sq`` is compared with materialised gradients.
        rtol, atol: Tolerances of ``evaluate`` against ``expect``.
        cpu: Whether the compiled op is compared with ``evaluate``; a string says why it is not.
        onnx: Likewise of the exported op; a string says why it is not, or has no ONNX form.
    """

    id: str
    build: Callable[..., OpBase]
    inputs: tuple[Any, ...]
    expect: Callable[..., Any]
    wrt: tuple[int, ...] = ()
    second: bool = True
    kinds: tuple[Kind, ...] = ()
    kind: Result | tuple[Result, ...] | None = None
    at_kink: tuple[Any, ...] = ()
    norm: int | None = None
    rtol: float = 2e-6
    atol: float = 1e-7
    cpu: bool | str = True
    onnx: bool | str = True

    @property
    def op_name(self) -> str:
        return self.id.split("-", 1)[0]


@dataclass(frozen=True)
class ErrorCase:
    """An op that cannot be built: ``build`` raises VerifyError whose text contains ``message``."""

    id: str
    build: Callable[..., OpBase]
    types: tuple[Type, ...]
    message: str


def tensor(spec: str) -> TensorType:
    """``tensor("f32[N,3]")``: a type as IR text spells it."""
    dtype, _, dims = spec.rstrip("]").partition("[")
    shape = tuple(_dim(d) for d in dims.split(",") if d)
    return TensorType(DType(dtype), shape)


def _dim(text: str) -> int | Sym:
    if text.lstrip("-").isdigit():
        return int(text)
    scale, star, name = text.partition("*")
    return Sym(name, int(scale)) if star else Sym(text)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def floats(*shape: int, seed: int = 0, low: float = -2.0, high: float = 2.0) -> np.ndarray:
    """Uniform float32 numbers."""
    return rng(seed).uniform(low, high, shape).astype(np.float32)


def distinct(*shape: int, seed: int = 0, step: float = 0.25) -> np.ndarray:
    """Float32 numbers ``step`` apart: safe for central differences of max and sort."""
    count = int(np.prod(shape))
    order = rng(seed).permutation(count)
    return ((order - count / 2 + 0.3) * step).astype(np.float32).reshape(shape)


def ints(*shape: int, high: int, seed: int = 0) -> np.ndarray:
    """Uniform int64 numbers in ``[0, high)``."""
    return rng(seed).integers(0, high, shape)


# Running an op ------------------------------------------------------------------------------------------


def type_of(array: Any) -> Type:
    """The fixed type of an input."""
    if isinstance(array, RaggedArray):
        return RaggedType(cast(TensorType, type_of(array.data)), len(array.offsets) - 1)
    return TensorType(DType.of(array.dtype), tuple(array.shape))


def as_float64(array: Any) -> Any:
    """The input with float32 data widened."""
    if isinstance(array, RaggedArray):
        return RaggedArray(as_float64(array.data), array.offsets)
    return array.astype(np.float64) if array.dtype == np.float32 else array


@dataclass(frozen=True)
class Built:
    """An op on fresh values, in a builder that holds the op (or what it decomposes to)."""

    b: OpBuilder
    values: tuple[Value, ...]
    op: Op
    results: tuple[Value, ...]

    def run(
        self, inputs: Sequence[Any], wanted: Iterable[Value | None], known: dict[Value, Any] | None = None
    ) -> list[Any]:
        """The values ``wanted``, by ``evaluate`` of every op that was built."""
        environment: dict[Value, Any] = dict(zip(self.values, inputs, strict=True)) | (known or {})
        for op in self.b.ops:
            evaluate_op(op, environment)
        return [None if value is None else environment[value] for value in wanted]


def built(case: Case, inputs: Sequence[Any]) -> Built:
    """The case's op on values of the inputs' types; a composite op is decomposed."""
    return built_on(case, tuple(Value(type_of(x), f"x{i}") for i, x in enumerate(inputs)))


def built_on(case: Case, values: tuple[Value, ...]) -> Built:
    """The case's op on given values; a composite op is decomposed."""
    op = cast(Op, case.build(*values))
    b = OpBuilder()
    if op.has_decomposition:
        results = tuple(op.decompose(b))
    else:
        results = b.emit(op)
    return Built(b, values, op, results)


def outcome(case: Case, inputs: Sequence[Any]) -> tuple[Any, ...]:
    """The op's results by its own ``evaluate``."""
    made = built(case, inputs)
    return tuple(made.run(inputs, made.results))


# Examples -----------------------------------------------------------------------------------------------


def batch_size(case: Case) -> int:
    """N, from the inputs whose kinds are example; 0 when there is none."""
    for x, kind in zip(case.inputs, case.kinds, strict=True):
        if isinstance(kind, ExampleKind):
            return x.shape[kind.axis] // (kind.pre * kind.post)
    return 0


def symbolic_values(case: Case) -> tuple[Value, ...]:
    """Values of the inputs' types with the batch as symbol N."""
    n, values = batch_size(case), list[Value]()
    for i, (x, kind) in enumerate(zip(case.inputs, case.kinds, strict=True)):
        shape = list(x.shape)
        if isinstance(kind, ExampleKind):
            assert shape[kind.axis] == kind.pre * n * kind.post
            shape[kind.axis] = Sym("N", kind.pre * kind.post)
        values.append(Value(TensorType(DType.of(x.dtype), tuple(shape)), f"x{i}"))
    return tuple(values)


def symbolic(case: Case) -> Op:
    """The case's op with the batch as symbol N."""
    return cast(Op, case.build(*symbolic_values(case)))


def rows(array: np.ndarray, kind: ExampleKind, n: int) -> np.ndarray:
    """A view with the example axis first: [N, pre, post, other axes]."""
    axis = kind.axis
    split = array.reshape(*array.shape[:axis], kind.pre, n, kind.post, *array.shape[axis + 1 :])
    return np.moveaxis(split, axis + 1, 0)


def with_example_replaced(case: Case, replaced: Sequence[int]) -> tuple[Any, ...]:
    """The inputs with the data of some examples replaced by that of the next example."""
    n = batch_size(case)
    changed: list[Any] = []
    for x, kind in zip(case.inputs, case.kinds, strict=True):
        if isinstance(kind, ExampleKind):
            copy = x.copy()
            view, source = rows(copy, kind, n), rows(x, kind, n)
            for j in replaced:
                view[j] = source[(j + 1) % n]
            changed.append(copy)
        else:
            changed.append(x)
    return tuple(changed)


# Family files -------------------------------------------------------------------------------------------

FAMILIES = Path(__file__).parent.parent / "ops" / "cases"


@cache
def _family(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"op_cases_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def all_cases() -> tuple[Case, ...]:
    """The cases of every family file; ids are unique."""
    found = tuple(case for path in sorted(FAMILIES.glob("*.py")) for case in _family(path).CASES)
    ids = [case.id for case in found]
    assert len(set(ids)) == len(ids), sorted(i for i in ids if ids.count(i) > 1)
    return found


def all_errors() -> tuple[ErrorCase, ...]:
    """The error cases of every family file that has some."""
    paths = sorted(FAMILIES.glob("*.py"))
    return tuple(case for path in paths for case in getattr(_family(path), "ERRORS", ()))
