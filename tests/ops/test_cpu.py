"""Op cases on the cpu target: compiled code against ``evaluate``, forward and backward, fixed and symbolic batch.

Cases are compiled many to a module: starting the code generator costs more than one more function.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from cases import all_cases, tensor
from op_jobs import Job, first_of_each_op, job

from fluidc.compiler.codegen.tvm.build import Compiled, compile_module
from fluidc.compiler.ir.core import Function, Module, Output, Param, Value
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ops.construct import OpBuilder
from fluidc.compiler.ops.embedding import LookupGrad
from fluidc.compiler.ops.kinds import ExampleKind
from fluidc.runtime.engine import aligned_copy

os.environ.setdefault("TVM_NUM_THREADS", "2")
CHUNK = 60


CASES = [case for case in all_cases() if case.cpu is True]
BACKWARD = first_of_each_op(case for case in CASES if case.wrt)
SYMBOLIC = first_of_each_op(case for case in CASES if any(isinstance(kind, ExampleKind) for kind in case.kinds))
JOBS = [(case, False) for case in CASES] + [(case, True) for case in CASES if case.id in SYMBOLIC]


def compile_together(jobs: Sequence[Job]) -> Compiled:
    return compile_module(Module(Stage.TARGET, (), tuple(j.function for j in jobs)))


@cache
def chunk(start: int) -> tuple[Any, list[Job]]:
    """An engine for a run of jobs; None where they do not compile together (each then says why)."""
    some = JOBS[start : start + CHUNK]
    jobs = [
        job(case, f"case{start + i}", symbolic=symbolic, backward=case.id in BACKWARD)
        for i, (case, symbolic) in enumerate(some)
    ]
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
    mine.compare(found)


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
