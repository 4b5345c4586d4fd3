"""Every op case on the cpu target: compiled code against ``evaluate``, forward and backward.

Cases are compiled many to a module: starting the code generator costs more than one more function.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from cases import Built, Case, all_cases, built, rng
from fluidc.compiler.codegen.tvm.build import Compiled, compile_module
from fluidc.compiler.ir.core import Function, Module, Output, Param, Value
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ir.types import RaggedType
from fluidc.compiler.ops.region import pullback
from fluidc.runtime.engine import aligned_copy

os.environ.setdefault("TVM_NUM_THREADS", "2")
CHUNK = 60


@dataclass(frozen=True)
class Compilable:
    """A case as a function: its inputs and cotangents in, its results and gradients out."""

    case: Case
    function: Function
    arguments: tuple[np.ndarray, ...]
    expected: tuple[np.ndarray, ...]


def compilable(case: Case, number: int) -> Compilable:
    made: Built = built(case, case.inputs)
    results = list(made.results)
    seeds: list[tuple[Value, Value]] = []
    known: dict[Value, Any] = {}
    if case.wrt:
        draw = rng(4)
        for result, array in zip(results, made.run(case.inputs, results), strict=True):
            if result.type.dtype.is_float:
                ct = Value(result.type, "ct")
                known[ct] = draw.uniform(0.5, 1.5, np.shape(array)).astype(result.type.dtype.numpy)
                seeds.append((result, ct))
        wanted = [made.values[i] for i in case.wrt]
        results += [g for g in pullback(made.b, tuple(made.b.ops), seeds, wanted) if g is not None]
    params = tuple(Param(f"p{i}", v) for i, v in enumerate([*made.values, *known]))
    outputs = tuple(Output(f"o{i}", v) for i, v in enumerate(results))
    arguments = tuple(np.asarray(a) for a in (*case.inputs, *known.values()))
    expected = tuple(np.asarray(a) for a in made.run(case.inputs, results, known))
    return Compilable(case, Function(f"case{number}", params, tuple(made.b.ops), outputs), arguments, expected)


def dense(case: Case) -> bool:
    """Ragged values are no parameters or fetches of compiled functions: the reference target tests those ops."""
    made = built(case, case.inputs)
    return not any(isinstance(value.type, RaggedType) for value in (*made.values, *made.results))


CASES = [case for case in all_cases() if case.cpu is True and dense(case)]
NUMBER = {case.id: i for i, case in enumerate(CASES)}


def compile_together(items: Sequence[Compilable]) -> Compiled:
    return compile_module(Module(Stage.TARGET, (), tuple(item.function for item in items)))


@cache
def chunk(start: int) -> tuple[Any, dict[str, Compilable]]:
    """An engine for a run of cases; None where they do not compile together (each then says why)."""
    items = {case.id: compilable(case, NUMBER[case.id]) for case in CASES[start : start + CHUNK]}
    try:
        return compile_together(list(items.values())).engine(), items
    except Exception:  # noqa: BLE001  the case that is to blame fails again, alone
        return None, items


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_cpu(case: Case) -> None:
    engine, items = chunk(NUMBER[case.id] // CHUNK * CHUNK)
    item = items[case.id]
    if engine is None:
        engine = compile_together([item]).engine()
    found = engine.call(item.function.name, [engine.tensor(aligned_copy(a)) for a in item.arguments])
    assert len(found) == len(item.expected)
    for have, want in zip(found, item.expected, strict=True):
        assert have.dtype == want.dtype
        assert have.shape == want.shape
        if want.dtype.kind in "iub":
            np.testing.assert_array_equal(have, want)
        else:
            precise = want.dtype == np.float64
            np.testing.assert_allclose(have, want, rtol=1e-10 if precise else 2e-5, atol=1e-12 if precise else 2e-6)
