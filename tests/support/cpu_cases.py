"""Single ops compiled for the CPU, many to a module: building a module costs more than one op does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from cases import Case, built
from fluidc.compiler.codegen.tvm.build import compile_module
from fluidc.compiler.ir.core import Function, Module, Output, Param
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ops.ragged import RaggedArray
from fluidc.runtime.engine import aligned_copy
from fluidc.runtime.tvm_engine import TvmEngine


def function_of(case: Case, name: str) -> Function:
    """A function that computes the case's results from its inputs."""
    made = built(case, case.inputs)
    params = tuple(Param(f"x{i}", value) for i, value in enumerate(made.values))
    outputs = tuple(Output(f"y{i}", value) for i, value in enumerate(made.results))
    return Function(name, params, tuple(made.b.ops), outputs)


def compile_cases(cases: Sequence[Case]) -> TvmEngine:
    """An engine with function ``f0``, ``f1`` … for the cases in order."""
    functions = tuple(function_of(case, f"f{i}") for i, case in enumerate(cases))
    engine = compile_module(Module(Stage.TARGET, (), functions)).engine()
    assert isinstance(engine, TvmEngine)
    return engine


def arrays(values: Sequence[Any]) -> list[np.ndarray]:
    """Arguments or results as an engine passes them: data and offsets of a ragged value."""
    found: list[np.ndarray] = []
    for value in values:
        found.extend((value.data, value.offsets) if isinstance(value, RaggedArray) else (np.asarray(value),))
    return found


def call(engine: TvmEngine, function: str, inputs: Sequence[Any]) -> list[np.ndarray]:
    return engine.call(function, [engine.tensor(aligned_copy(x)) for x in arrays(inputs)])
