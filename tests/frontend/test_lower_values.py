"""The steps that fluidc makes of fluid programs compute what Paddle 1.8.5 computes.

Every program of ``fluid_programs.CASES`` and ``layer_programs.CASES`` is lowered, compiled for the reference target and
run on the feeds and initial state with which Paddle wrote ``golden/values.npz`` and ``golden/layer_values.npz``; every
result and every persistable variable is compared.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fluid_programs
import layer_programs
import numpy as np
import pytest
from fluid_programs import LENGTHS, compared_names, feed_value, steps_of

import fluidc.frontend as fluid
from fluidc.compiler.codegen.reference import Reference
from fluidc.compiler.ir.parser import parse
from fluidc.compiler.ir.printer import to_text
from fluidc.compiler.ops import OPSET
from fluidc.compiler.passes.manager import run_passes
from fluidc.compiler.pipeline import pipeline
from fluidc.frontend.framework import Program
from fluidc.frontend.lower import LENGTHS as SUFFIX
from fluidc.frontend.lower import default_feeds, lower

FOLDER = Path(__file__).parent / "golden"
GOLDEN = {**np.load(FOLDER / "values.npz"), **np.load(FOLDER / "layer_values.npz")}
CASES = {**fluid_programs.CASES, **layer_programs.CASES}
SEEDED = "initializers_seeded"
NAMES = sorted({key.split("/")[0] for key in GOLDEN} - {SEEDED})
# Fresh random numbers in the middle of other results.
DRAWN = ("uniform_random", "gaussian_random")


def golden(case: str, part: str) -> dict[str, Any]:
    prefix = f"{case}/{part}/"
    return {key.removeprefix(prefix): value for key, value in GOLDEN.items() if key.startswith(prefix)}


def build(name: str) -> tuple[Program, Program]:
    main, startup = fluid.Program(), fluid.Program()
    with fluid.unique_name.guard(), fluid.program_guard(main, startup):
        CASES[name](fluid)
    return main, startup


def feeds(case: str, program: Program, step: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in default_feeds(program):
        if name.endswith(SUFFIX):
            found[name] = np.array(LENGTHS, np.int64)
        else:
            var = program.global_block().var(name)
            found[name] = feed_value(name, var.shape, var.dtype.numpy.name, var.lod_level, case, step)
    return found


@pytest.mark.parametrize("case", NAMES)
def test_values_equal_paddles(case: str) -> None:
    program, startup = build(case)
    fetches = [name for name in compared_names(program) if not name.startswith(DRAWN)]
    source = lower(program, startup=startup, fetches=fetches)
    reference = Reference(run_passes(source.module, pipeline(source.module)))
    state = {**source.initial, **golden(case, "init")}
    for step in range(steps_of(case)):
        given = feeds(case, program, step)
        given |= {"rng_key": np.zeros(8, np.uint32), "rng_counter": np.zeros((), np.uint64)}
        arguments = {p.name: given[p.name] for p in reference.module.function("step").params}
        outputs = {n: v for n, v in reference.run("step", arguments, state).items() if not n.endswith(SUFFIX)}
        wanted = {n: v for n, v in golden(case, str(step)).items() if not n.startswith(DRAWN)}
        assert set(wanted) <= set(outputs)
        assert case in ("conds", "layer_cases") or set(wanted) == set(outputs)
        for name, value in wanted.items():
            mine = outputs[name]
            assert mine.dtype == value.dtype, name
            np.testing.assert_allclose(mine, value, rtol=2e-5, atol=2e-6, err_msg=name)
    for name, value in golden(case, "end").items():
        if name in state:
            np.testing.assert_allclose(state[name], value, rtol=2e-5, atol=2e-6, err_msg=name)


def test_seeded_numbers_are_paddles() -> None:
    """Under ``random_seed`` initial values and dropout masks are Paddle's own; its normals to the last bit or two."""
    program, startup = build(SEEDED)
    source = lower(program, startup=startup, fetches=["dropout_0.tmp_0"])
    reference = Reference(run_passes(source.module, pipeline(source.module)))
    state: dict[str, Any] = dict(source.initial)
    reference.run("startup", {}, state)
    wanted = golden(SEEDED, "end")
    assert len(wanted) == 10
    for name, value in wanted.items():
        if name in ("p2", "p3", "p5", "p8"):
            np.testing.assert_allclose(state[name], value, rtol=2e-6, atol=1e-7, err_msg=name)
        else:
            np.testing.assert_array_equal(state[name], value, err_msg=name)
    given = {"x": feed_value("x", (-1, 8), "float32", 0, SEEDED, 0)}
    given |= {"rng_key": np.zeros(8, np.uint32), "rng_counter": np.zeros((), np.uint64)}
    outputs = reference.run("step", {p.name: given[p.name] for p in reference.module.function("step").params}, state)
    np.testing.assert_array_equal(outputs["dropout_0.tmp_0"], golden(SEEDED, "0")["dropout_0.tmp_0"])


@pytest.mark.parametrize("case", sorted(set(CASES) - {"where_index"}))
def test_captured_text_parses_back(case: str) -> None:
    program, startup = build(case)
    text = to_text(lower(program, startup=startup).module)
    assert to_text(parse(text, OPSET)) == text
