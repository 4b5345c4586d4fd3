"""Op cases on the cpu target: compiled code against ``evaluate``, forward and backward, fixed and symbolic batch.

Cases are compiled many to a module: starting the code generator costs more than one more function.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from cases import all_cases, tensor
from op_jobs import Job, first_of_each_op, job

from fluidc.compiler.codegen.tvm.build import Compiled, compile_module
from fluidc.compiler.ir.core import Function, Module, Output, Param, Value
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ir.types import RaggedType, Sym
from fluidc.compiler.ops import ragged_pad
from fluidc.compiler.ops.construct import OpBuilder
from fluidc.compiler.ops.embedding import LookupGrad
from fluidc.compiler.ops.kinds import ExampleKind
from fluidc.compiler.ops.ragged import Data, RaggedArray
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


def test_rows_padded_to_a_width_that_an_argument_tells() -> None:
    """Also narrower than the rows, which are cut, and rows without tokens; one compiled function for all."""
    rows, wide = Value(RaggedType(tensor("f32[T,2]"), Sym("N")), "rows"), Value(tensor("f32[N,S,2]"), "wide")
    size = Value(tensor("bool[S]"), "size")
    b = OpBuilder()
    padded, tokens = b(ragged_pad.Pad(rows, Sym("S"), 0.5)), b(Data(b(ragged_pad.Unpad(wide, rows))))
    params = tuple(Param(f"p{i}", v) for i, v in enumerate((rows, wide, size)))
    function = Function("f", params, tuple(b.ops), (Output("padded", padded), Output("tokens", tokens)))
    engine = compile_module(Module(Stage.TARGET, (), (function,))).engine()
    for offsets, width in (([0, 3, 3, 4], 3), ([0, 3, 3, 4], 2), ([0, 1, 2], 4), ([0, 0, 0], 2), ([0, 2], 0)):
        given = RaggedArray(np.arange(2 * offsets[-1], dtype=np.float32).reshape(-1, 2), np.asarray(offsets))
        block = np.arange(2 * width * (len(offsets) - 1), dtype=np.float32).reshape(len(offsets) - 1, width, 2)
        arguments = (given.data, given.offsets, block, np.zeros(width, np.bool_))
        found = engine.call("f", [engine.tensor(aligned_copy(a)) for a in arguments])
        expected = np.full(block.shape, 0.5, np.float32)
        cut = np.zeros_like(given.data)
        for i, (start, stop) in enumerate(pairwise(offsets)):
            kept = min(stop - start, width)
            expected[i, :kept] = given.data[start : start + kept]
            cut[start : start + kept] = block[i, :kept]
        np.testing.assert_array_equal(found[0], expected)
        np.testing.assert_array_equal(found[1], cut)
