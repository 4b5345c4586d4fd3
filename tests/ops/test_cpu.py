"""Op cases on the cpu target: compiled code against ``evaluate``, forward and backward, fixed and symbolic batch.

Cases are compiled many to a module: starting the code generator costs more than one more function.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from cases import Built, Case, all_cases, built, built_on, rng, symbolic_values, tensor

from fluidc.compiler.codegen.tvm.build import Compiled, compile_module
from fluidc.compiler.ir.core import Function, Module, Output, Param, Value
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ir.types import RaggedType
from fluidc.compiler.ops.construct import OpBuilder
from fluidc.compiler.ops.embedding import LookupGrad
from fluidc.compiler.ops.kinds import ExampleKind
from fluidc.compiler.ops.ragged import Data, RaggedArray
from fluidc.compiler.ops.region import pullback
from fluidc.runtime.engine import aligned_copy

os.environ.setdefault("TVM_NUM_THREADS", "2")
CHUNK = 60


def first_of_each_op(cases: Iterable[Case]) -> set[str]:
    """The ids of the first case of every op."""
    found: dict[str, str] = {}
    for case in cases:
        found.setdefault(case.op_name, case.id)
    return set(found.values())


CASES = [case for case in all_cases() if case.cpu is True]
BACKWARD = first_of_each_op(case for case in CASES if case.wrt)
SYMBOLIC = first_of_each_op(case for case in CASES if any(isinstance(kind, ExampleKind) for kind in case.kinds))
JOBS = [(case, False) for case in CASES] + [(case, True) for case in CASES if case.id in SYMBOLIC]


@dataclass(frozen=True)
class Job:
    """A case as a function: its inputs and cotangents in, its results and gradients out."""

    function: Function
    arguments: tuple[np.ndarray, ...]
    expected: tuple[np.ndarray, ...]
    rtol: float = 2e-5
    atol: float = 2e-6


def job(case: Case, name: str, *, symbolic: bool) -> Job:
    fixed = built(case, case.inputs)
    made = built_on(case, symbolic_values(case)) if symbolic else fixed
    draw = rng(4)
    cts: dict[int, Any] = {}
    if case.id in BACKWARD:
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


def compile_together(jobs: Sequence[Job]) -> Compiled:
    return compile_module(Module(Stage.TARGET, (), tuple(j.function for j in jobs)))


@cache
def chunk(start: int) -> tuple[Any, list[Job]]:
    """An engine for a run of jobs; None where they do not compile together (each then says why)."""
    some = JOBS[start : start + CHUNK]
    jobs = [job(case, f"case{start + i}", symbolic=symbolic) for i, (case, symbolic) in enumerate(some)]
    try:
        return compile_together(jobs).engine(), jobs
    except Exception:  # the job that is to blame fails again, alone
        return None, jobs


@pytest.mark.parametrize("number", range(len(JOBS)), ids=[c.id + ("-N" if symbolic else "") for c, symbolic in JOBS])
def test_cpu(number: int) -> None:
    start = number // CHUNK * CHUNK
    engine, jobs = chunk(start)
    mine = jobs[number - start]
    if engine is None:
        engine = compile_together([mine]).engine()
    check(engine, mine)


def check(engine: Any, mine: Job) -> None:
    """Raise AssertionError unless the compiled function computes what is expected."""
    found = engine.call(mine.function.name, [engine.tensor(aligned_copy(a)) for a in mine.arguments])
    assert len(found) == len(mine.expected)
    for have, want in zip(found, mine.expected, strict=True):
        assert have.dtype == want.dtype
        assert have.shape == want.shape
        if want.dtype.kind in "iub":
            np.testing.assert_array_equal(have, want)
        else:
            precise = want.dtype == np.float64
            np.testing.assert_allclose(
                have, want, rtol=1e-10 if precise else mine.rtol, atol=1e-12 if precise else mine.atol
            )


def test_an_id_outside_the_table_reads_nothing_else() -> None:
    """Compiled code stays inside its buffers: a lookup gives NaN rows, a gradient leaves the id out."""
    table, ids, ct = (Value(tensor(s), h) for s, h in (("f32[3,2]", "t"), ("i64[4]", "i"), ("f32[4,2]", "c")))
    b = OpBuilder()
    found, grad = b.lookup(table, ids), b(LookupGrad(ids, ct, 3))
    params = tuple(Param(f"p{i}", v) for i, v in enumerate((table, ids, ct)))
    function = Function("f", params, tuple(b.ops), (Output("rows", found), Output("grad", grad)))
    engine = compile_module(Module(Stage.TARGET, (), (function,))).engine()
    data = [np.arange(6, dtype=np.float32).reshape(3, 2), np.array([1, -1, 3, 2**40]), np.ones((4, 2), np.float32)]
    rows, gradient = engine.call("f", [engine.tensor(aligned_copy(a)) for a in data])
    np.testing.assert_array_equal(rows, [[2, 3], [np.nan] * 2, [np.nan] * 2, [np.nan] * 2])
    np.testing.assert_array_equal(gradient, [[0, 0], [1, 1], [0, 0]])
