"""Norms of per-example gradients, by every rule there is, against gradients of single examples in float64."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from private_models import MODELS
from single_examples import NOISE, clipped_sums, draw, example_gradients

from fluidc.compiler.codegen.reference import Reference
from fluidc.compiler.codegen.tvm.build import compile_module
from fluidc.compiler.ir.core import Function, Module, OpBase, Output, Param, PrivacyConfig, Value
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ops.example_norm import NormSq
from fluidc.compiler.ops.state import Read
from fluidc.compiler.passes.manager import run_passes
from fluidc.compiler.passes.privatize import Privatize
from fluidc.compiler.pipeline import pipeline
from fluidc.runtime.engine import aligned_copy
from fluidc.runtime.tvm_engine import TvmEngine

Arrays = dict[str, np.ndarray]
CLIP = 0.5
RULES = ("", "gram", "direct", "materialised")


@cache
def compiled(name: str, rule: str) -> Module:
    """The model's target module, its norms taken by ``rule`` wherever that is possible; it also fetches them."""
    module = MODELS[name].module(PrivacyConfig(clip=CLIP, lot=1.0, sigma=0.0))
    passes = tuple(Privatize(rule) if isinstance(p, Privatize) else p for p in pipeline(module))
    module = run_passes(module, passes)
    step = module.function("step")
    norms = tuple(Output(f"n_{op.param}", op.result) for op in step.ops if isinstance(op, NormSq))
    assert len(norms) == len(MODELS[name].parameters)
    return replace(module, functions=(replace(step, outputs=(*step.outputs, *norms)),))


def rules_of(name: str, rule: str = "") -> dict[str, NormSq]:
    ops = compiled(name, rule).function("step").ops
    return {str(op.param): op for op in ops if isinstance(op, NormSq)}


def check(name: str, rows: int, out: Mapping[str, np.ndarray], state: Arrays, feeds: Arrays) -> None:
    """Norms are never below the exact ones, and close; clipped sums are those of the exact gradients."""
    gradients = example_gradients(name, state, feeds, rows)
    for parameter, g in gradients.items():
        exact = np.sqrt(np.square(g.reshape(rows, -1)).sum(axis=1))
        found = np.sqrt(np.asarray(out[f"n_{parameter}"], np.float64)[:rows])
        scale = np.sqrt(sum(np.square(other.reshape(rows, -1)).sum(axis=1) for other in gradients.values()))
        # What single-precision activations are off counts relative to the whole gradient.
        assert np.all(found * (1 + 2.0**-11) >= exact - 1e-6 * scale), parameter
        assert np.all(np.abs(found - exact) <= 1e-5 * scale), parameter
    expected, total = clipped_sums(gradients, CLIP)
    error = np.sqrt(sum(np.square(out[f"g_{p}"] - expected[p]).sum() for p in state))
    assert error <= 1e-5 * total


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", MODELS)
def test_norms_by_every_rule(name: str, rule: str) -> None:
    if rule and {op.rule for op in rules_of(name, rule).values()} == {op.rule for op in rules_of(name).values()}:
        return  # the same as without a wish
    rows = 5
    state, feeds, padded = draw(MODELS[name], rows, rows + 2, seed=11)
    out = Reference(compiled(name, rule)).run("step", padded | NOISE, dict(state))
    check(name, rows, out, state, feeds)


# The cpu target ---------------------------------------------------------------------------------------------


def with_parameters(module: Module, name: str) -> Function:
    """The step as a function of its state, which is what a bare engine calls."""
    step = module.function("step")
    mapping: dict[Value, Value] = {}
    params, ops = list(step.params), list[OpBase]()
    for op in step.ops:
        if isinstance(op, Read):
            mapping[op.result] = Value(op.result.type, str(op.state))
            params.append(Param(str(op.state), mapping[op.result]))
        else:
            copy = op.clone(mapping)
            mapping.update(zip(op.results, copy.results, strict=True))
            ops.append(copy)
    outputs = tuple(replace(out, value=mapping.get(out.value, out.value)) for out in step.outputs)
    return Function(name, tuple(params), tuple(ops), outputs)


# Every form on the cpu target: models whose parameters allow it.
CPU = [
    ("embedding", ""), ("language", ""), ("arithmetic", ""), ("lenet", ""), ("encoder", "direct"),
    ("grouped_convolution", "gram"), ("frames", "direct"), ("deconvolution", "gram"), ("unrolled", "gram"),
    ("time_first", "direct"), ("left", "gram"), ("recurrent", ""), ("normalised", ""),
]  # fmt: skip


@cache
def engine() -> tuple[TvmEngine, list[Function]]:
    """All models in one module: starting the code generator costs more than one more function."""
    functions = [with_parameters(compiled(name, rule), f"f{i}") for i, (name, rule) in enumerate(CPU)]
    return compile_module(Module(Stage.TARGET, (), tuple(functions))).engine(), functions


@pytest.mark.parametrize("rows", [0, 1, 2, 33])
@pytest.mark.parametrize("number", range(len(CPU)), ids=["-".join(filter(None, each)) for each in CPU])
def test_norms_on_the_cpu_target(number: int, rows: int) -> None:
    (name, _), (compiled_code, functions) = CPU[number], engine()
    function = functions[number]
    state, feeds, padded = draw(MODELS[name], rows, rows + 1 if rows else 0, seed=rows)
    known = padded | NOISE | state
    arguments = [compiled_code.tensor(aligned_copy(np.asarray(known[p.name]))) for p in function.params]
    found = compiled_code.call(function.name, arguments)
    out = dict(zip((o.name for o in function.outputs), map(np.asarray, found), strict=True))
    if rows:
        check(name, rows, out, state, feeds)
    else:
        assert not any(value.any() for value in out.values())
