"""Every layer has the values of Paddle 1.8.5 in eager mode, too: the programs of the static tests, run at once.

What a program records as its n-th op is its n-th op here; its results are compared with those in the goldens of Paddle.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fluid_programs
import layer_programs
import numpy as np
import pytest
from fluid_programs import feed_value

import fluidc.frontend as fluid
from fluidc.frontend.dygraph.program import EagerBlock
from fluidc.frontend.dygraph.recorder import Recorder
from fluidc.frontend.dygraph.variable import EagerVariable
from fluidc.frontend.framework import Program

FOLDER = Path(__file__).parents[1] / "golden"
GOLDEN = {**np.load(FOLDER / "values.npz"), **np.load(FOLDER / "layer_values.npz")}
CASES = {**fluid_programs.CASES, **layer_programs.CASES}
DRAWN = ("uniform_random", "gaussian_random")
STATIC = ("minimize", "decay", "backward", "gradients", "create_vars", "initializers", "accumulators")
"""What these programs are about is a Program: its backward, its optimizers, its variables."""


def built(case: str) -> Program:
    main = fluid.Program()
    with fluid.unique_name.guard(), fluid.program_guard(main, fluid.Program()):
        CASES[case](fluid)
    return main


def is_eager_case(case: str, program: Program) -> bool:
    """Whether it is made of layers on dense data, without blocks and without a backward pass."""
    variables = program.global_block().vars.values()
    types = {op.type for op in program.global_block().ops}
    return (
        program.num_blocks == 1
        and not any(v.lod_level for v in variables)
        and "backward" not in types
        and not case.startswith(STATIC)
    )


PROGRAMS = {case: built(case) for case in sorted({key.split("/")[0] for key in GOLDEN})}
NAMES = [case for case, program in PROGRAMS.items() if is_eager_case(case, program)]
TRAINED = [
    case for case, program in PROGRAMS.items()
    if program.num_blocks == 1 and case in layer_programs.CASES and case not in NAMES
    and case != "layer_dygraph_losses"  # labels that are fed must be classes, -100 is refused
]  # fmt: skip


def part(case: str, name: str) -> dict[str, Any]:
    prefix = f"{case}/{name}/"
    return {key.removeprefix(prefix): value for key, value in GOLDEN.items() if key.startswith(prefix)}


class Fluid:
    """``fluid`` for programs that are run at once: data is there, and minimize takes its backward along."""

    def __init__(self, case: str) -> None:
        self.case = case
        self.layers = SimpleNamespace(**{name: getattr(fluid.layers, name) for name in fluid.layers.__all__})
        self.layers.data = self.data
        self.optimizer = SimpleNamespace(SGD=Descent)

    def __getattr__(self, name: str) -> Any:
        return getattr(fluid, name)

    def data(
        self, name: str, shape: list[int], append_batch_size: bool = True, dtype: str = "float32", **options: Any
    ) -> fluid.Variable:
        del options
        with fluid.program_guard(fluid.Program()):
            declared = fluid.layers.data(name, shape, append_batch_size=append_batch_size, dtype=dtype)
        value = feed_value(name, declared.shape, declared.dtype.numpy.name, 0, self.case, 0)
        return fluid.dygraph.to_variable(value, name=name)


class Descent:
    def __init__(self, rate: float) -> None:
        self.rate = rate

    def minimize(self, loss: EagerVariable) -> None:
        loss.backward()
        fluid.optimizer.SGD(self.rate).minimize(loss)


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[EagerVariable]]]:
    """Of every op that is called, its type and the variables that it writes."""
    found: list[tuple[str, list[EagerVariable]]] = []
    append = EagerBlock.append_op

    def watched(self: EagerBlock, type: str, inputs: Any = None, outputs: Any = None, attrs: Any = None) -> Any:
        made = append(self, type, inputs, outputs, attrs)
        listed = [v for args in (outputs or {}).values() for v in (args if isinstance(args, list | tuple) else [args])]
        if not all(v.persistable for v in listed):
            found.append((type, listed))
        return made

    monkeypatch.setattr(EagerBlock, "append_op", watched)
    return found


def start_from(monkeypatch: pytest.MonkeyPatch, values: dict[str, Any]) -> None:
    """Parameters begin with the values that Paddle's had."""
    initialise = Recorder.initialise

    def changed(self: Recorder, variable: EagerVariable, initializer: Any) -> None:
        initialise(self, variable, initializer)
        if variable.name in values:
            variable.set_value(values[variable.name])

    monkeypatch.setattr(Recorder, "initialise", changed)


@pytest.mark.parametrize("case", NAMES)
def test_values_equal_paddles(
    case: str, results: list[tuple[str, list[EagerVariable]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    start_from(monkeypatch, part(case, "init"))
    block = PROGRAMS[case].global_block()
    ops = [op for op in block.ops if not all(block.var(name).persistable for name in op.output_arg_names)]
    wanted = {name: value for name, value in part(case, "0").items() if not name.startswith(DRAWN)}
    with fluid.dygraph.guard(target="reference"):
        CASES[case](Fluid(case))
        # Where a Program has an open batch, a constant follows it.
        followed = ("fill_constant_batch_size_like", "fill_constant")
        assert [type.replace(*followed) for type, _ in results] == [op.type.replace(*followed) for op in ops]
        compared = 0
        for op, (_, variables) in zip(ops, results, strict=True):
            for name, variable in zip(op.output_arg_names, variables, strict=True):
                if name in wanted:
                    value = variable.numpy()
                    assert value.dtype == wanted[name].dtype, name
                    assert value.shape == variable.shape, name
                    np.testing.assert_allclose(value, wanted[name], rtol=2e-5, atol=2e-6, err_msg=name)
                    compared += 1
    assert compared >= len(wanted) > 0


@pytest.mark.parametrize("case", TRAINED)
def test_gradients_equal_paddles(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of SGD at rate 1 moves every operand by its gradient."""
    start_from(monkeypatch, part(case, "init"))
    kept: list[fluid.Parameter] = []
    monkeypatch.setattr(
        EagerBlock,
        "initialised_parameter",
        lambda *args, _original=EagerBlock.initialised_parameter, **options: _kept(kept, _original(*args, **options)),
    )
    with fluid.dygraph.guard(target="reference"):
        CASES[case](Fluid(case))
        wanted = part(case, "end")
        found = {p.name: p.numpy() for p in kept}
        for name, value in found.items():
            np.testing.assert_allclose(value, wanted[name], rtol=2e-5, atol=3e-6, err_msg=name)
    assert found


def _kept(kept: list[fluid.Parameter], made: fluid.Parameter) -> fluid.Parameter:
    kept.append(made)
    return made


def test_most_programs_are_compared() -> None:
    recorded = {op.type for case in (*NAMES, *TRAINED) for op in PROGRAMS[case].global_block().ops}
    assert len(recorded) > 150, len(recorded)
