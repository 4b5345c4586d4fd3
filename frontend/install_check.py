"""``fluid.install_check``: whether this installation compiles and trains."""

from __future__ import annotations

import numpy as np

from . import unique_name
from .backward import append_backward
from .compiled_program import CompiledProgram
from .errors import invalid
from .executor import Executor
from .framework import Program, program_guard
from .initializer import ConstantInitializer
from .layers.io import data_v2
from .layers.math import mean
from .layers.nn import fc
from .optimizer import SGDOptimizer
from .param_attr import ParamAttr
from .places import CPUPlace, CUDAPlace, Place, is_compiled_with_cuda
from .scope import Scope

_ROWS = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)


def run_check() -> None:
    """Compute a gradient and train one step, on the processor and, where one can be used, on a GPU; print the outcome.

    Raises:
        ProgramError: The numbers are not what they must be.
        FluidcError: The compiler, an engine or a device failed.
    """
    print("fluidc: checking this installation ...")
    places: list[Place] = [CPUPlace()]
    if is_compiled_with_cuda():
        places.append(CUDAPlace(0))
    for place in places:
        _gradient(place)
        _step(place)
        print(f"fluidc: compiles, differentiates and trains on {place}")
    print("fluidc: the installation works")


def _gradient(place: Place) -> None:
    main, startup, scope = Program(), Program(), Scope()
    with program_guard(main, startup), unique_name.guard():
        x = data_v2("x", [None, 2])
        loss = mean(fc(x, 3, param_attr=ParamAttr(initializer=ConstantInitializer(0.1))))
        ((_, gradient),) = append_backward(loss, parameter_list=["fc_0.w_0"])
    exe = Executor(place)
    exe.run(startup, scope=scope)
    value, slope = exe.run(main, feed={"x": _ROWS}, fetch_list=[loss, gradient], scope=scope)
    _compare(place, "a mean", value, [0.5])
    _compare(place, "its gradient", slope, np.repeat(_ROWS.mean(axis=0)[:, None] / 3, 3, axis=1))


def _step(place: Place) -> None:
    main, startup, scope = Program(), Program(), Scope()
    with program_guard(main, startup), unique_name.guard():
        x = data_v2("x", [None, 2])
        loss = mean(fc(x, 1, param_attr=ParamAttr(initializer=ConstantInitializer(0.1))))
        SGDOptimizer(0.1).minimize(loss)
    exe = Executor(place)
    exe.run(startup, scope=scope)
    program = CompiledProgram(main).with_data_parallel(loss_name=loss.name)
    losses = [exe.run(program, feed={"x": _ROWS}, fetch_list=[loss], scope=scope)[0] for _ in range(2)]
    # The weights move by -0.1 (2, 3) and the bias by -0.1, at rows whose mean is (2, 3).
    _compare(place, "the losses of two steps", np.concatenate(losses), [0.5, -0.9])


def _compare(place: Place, what: str, found: object, expected: object) -> None:
    if not np.allclose(np.asarray(found), np.asarray(expected), rtol=1e-5):
        raise invalid(
            f"run_check: {what} on {place} is {np.asarray(found).tolist()}, not {np.asarray(expected).tolist()}",
            "this installation computes wrong numbers; run `python -m pip check`, and report it",
        )


__all__ = ["run_check"]
