"""Op cases as functions that a target compiles, with what they must compute by ``evaluate``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from cases import Built, Case, built, built_on, rng, symbolic_values

from fluidc.compiler.ir.core import Function, Output, Param, Value
from fluidc.compiler.ir.types import RaggedType
from fluidc.compiler.ops.ragged import Data, RaggedArray
from fluidc.compiler.ops.region import pullback


def first_of_each_op(cases: Iterable[Case]) -> set[str]:
    """The ids of the first case of every op."""
    found: dict[str, str] = {}
    for case in cases:
        found.setdefault(case.op_name, case.id)
    return set(found.values())


@dataclass(frozen=True)
class Job:
    """A case as a function: its inputs and cotangents in, its results and gradients out."""

    function: Function
    arguments: tuple[np.ndarray, ...]
    expected: tuple[np.ndarray, ...]
    rtol: float = 2e-5
    atol: float = 2e-6

    def compare(self, found: Sequence[np.ndarray]) -> None:
        """Raise AssertionError unless a target computed what is expected."""
        assert len(found) == len(self.expected)
        for have, want in zip(found, self.expected, strict=True):
            assert have.dtype == want.dtype
            assert have.shape == want.shape
            if want.dtype.kind in "iub":
                np.testing.assert_array_equal(have, want)
            else:
                precise = want.dtype == np.float64
                np.testing.assert_allclose(
                    have, want, rtol=1e-10 if precise else self.rtol, atol=1e-12 if precise else self.atol
                )


def job(case: Case, name: str, *, symbolic: bool, backward: bool) -> Job:
    """The case as a function.

    Args:
        case: What to compute.
        name: Of the function.
        symbolic: The batch is the symbol N.
        backward: With the gradients of ``case.wrt``.
    """
    fixed = built(case, case.inputs)
    made = built_on(case, symbolic_values(case)) if symbolic else fixed
    draw = rng(4)
    cts: dict[int, Any] = {}
    if backward:
        for i, (result, array) in enumerate(zip(fixed.results, fixed.run(case.inputs, fixed.results), strict=True)):
            if result.type.dtype.is_float:
                cts[i] = _cotangent(draw, array)
    wanted, known = _with_gradients(case, fixed, cts)
    outputs, extra = _with_gradients(case, made, cts) if symbolic else (wanted, known)
    function = Function(
        name,
        tuple(Param(f"p{i}", v) for i, v in enumerate([*made.values, *extra])),
        tuple(made.b.ops),
        tuple(Output(f"o{i}", v) for i, v in enumerate(outputs)),
    )
    arguments = tuple(buffer for x in (*case.inputs, *known.values()) for buffer in _buffers(x))
    expected = tuple(np.asarray(a) for a in fixed.run(case.inputs, wanted, known))
    # A case that cancels says how far its float32 results may be off.
    return Job(function, arguments, expected, max(case.rtol, 2e-5), max(case.atol, 2e-6))


def _cotangent(draw: np.random.Generator, like: Any) -> Any:
    if isinstance(like, RaggedArray):
        return RaggedArray(_cotangent(draw, like.data), like.offsets)
    return draw.uniform(0.5, 1.5, np.shape(like)).astype(like.dtype)


def _buffers(x: Any) -> tuple[np.ndarray, ...]:
    """A value as a compiled function takes it: ragged ones as data and offsets."""
    return (x.data, x.offsets.astype(np.int64)) if isinstance(x, RaggedArray) else (np.asarray(x),)


def _with_gradients(case: Case, made: Built, cts: dict[int, Any]) -> tuple[list[Value], dict[Value, Any]]:
    """The results and, where there are cotangents, the gradients (the tokens of ragged ones); and the cotangents."""
    known = {Value(made.results[i].type, "ct"): array for i, array in cts.items()}
    seeds = [(made.results[i], ct) for i, ct in zip(cts, known, strict=True)]
    grads = pullback(made.b, tuple(made.b.ops), seeds, [made.values[i] for i in case.wrt]) if seeds else []
    found = [*made.results, *(g for g in grads if g is not None)]
    return [made.b(Data(v)) if isinstance(v.type, RaggedType) else v for v in found], known
