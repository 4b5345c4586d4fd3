"""Programs in the files of Paddle 1.8.5 compute here what they compute there.

``programs.npz`` holds what Paddle serialised of every program of ``fluid_programs.CASES``, training programs with their
gradient ops included; ``../golden/values.npz`` what Paddle computed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fluid_programs import LENGTHS, compared_names, feed_value, steps_of

import fluidc.frontend as fluid
from fluidc.compiler.codegen.reference import Reference
from fluidc.compiler.passes.manager import run_passes
from fluidc.compiler.pipeline import pipeline
from fluidc.frontend.framework import Program
from fluidc.frontend.lower import LENGTHS as SUFFIX
from fluidc.frontend.lower import default_feeds, lower

HERE = Path(__file__).parent
PROGRAMS = dict(np.load(HERE / "programs.npz"))
GOLDEN = dict(np.load(HERE.parent / "golden" / "values.npz"))
SEEDED = "initializers_seeded"
CASES = sorted(
    {key.split("/")[0] for key in GOLDEN if key.split("/")[0] + "/main" in PROGRAMS} - {SEEDED, "minimize_dpsgd"}
)
DRAWN = ("uniform_random", "gaussian_random")


def parsed(case: str, part: str) -> Program:
    return fluid.Program.parse_from_string(PROGRAMS[f"{case}/{part}"].tobytes())


def golden(case: str, part: str) -> dict[str, Any]:
    prefix = f"{case}/{part}/"
    return {key.removeprefix(prefix): value for key, value in GOLDEN.items() if key.startswith(prefix)}


def feeds(case: str, program: Program, step: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in default_feeds(program):
        if name.endswith(SUFFIX):
            found[name] = np.array(LENGTHS, np.int64)
        else:
            var = program.global_block().var(name)
            found[name] = feed_value(name, var.shape, var.dtype.numpy.name, var.lod_level, case, step)
    return found


@pytest.mark.parametrize("case", CASES)
def test_values_equal_paddles(case: str) -> None:
    program, startup = parsed(case, "main"), parsed(case, "startup")
    steps = [golden(case, str(step)) for step in range(steps_of(case))]
    made = {name for op in program.global_block().ops for name in op.output_arg_names}
    fetches = [name for name in steps[0] if name in made and not name.startswith(DRAWN)] if steps[0] else []
    assert len(fetches) >= len([n for n in compared_names(program) if n in steps[0] and not n.startswith(DRAWN)])
    source = lower(program, startup=startup, fetches=fetches)
    reference = Reference(run_passes(source.module, pipeline(source.module)))
    state = {**source.initial, **golden(case, "init")}
    for step, wanted in enumerate(steps):
        given = feeds(case, program, step)
        given |= {"rng_key": np.zeros(8, np.uint32), "rng_counter": np.zeros((), np.uint64)}
        arguments = {p.name: given[p.name] for p in reference.module.function("step").params}
        outputs = reference.run("step", arguments, state)
        for name in fetches:
            mine = outputs[name]
            assert mine.dtype == wanted[name].dtype, name
            np.testing.assert_allclose(mine, wanted[name], rtol=2e-5, atol=2e-6, err_msg=name)
    for name, value in golden(case, "end").items():
        if name in state:
            np.testing.assert_allclose(state[name], value, rtol=2e-5, atol=2e-6, err_msg=name)
