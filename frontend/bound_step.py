"""Compiled code on the buffers of a scope, and one run of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from numpy.typing import NDArray

from ..compiler.ir.types import DType
from ..runtime.engine import Buffer, aligned_zeros
from ..runtime.errors import DataError
from ..runtime.keystream import Key, seeded_key
from ..runtime.stepper import Stepper
from .compiled_code import Code, state_read, state_written
from .framework import Program
from .lots import Lot
from .memory import Memory
from .mistakes import no_value, read_by
from .profiler import timed
from .scope import Scope
from .steps import PrivateSteps

Array: TypeAlias = NDArray[Any]


@dataclass
class Step:
    """Compiled code on the buffers of one scope.

    Attributes:
        code: The code.
        stepper: It, bound to the buffers.
        key: Of the model's random numbers.
        buffers: What is shared with the scope.
        pending: Those that the program sets before anybody reads them: the scope gets them after the first run
            that succeeds.
        stated: Those that every run sets to an array of the program, and that array.
        shared: Memory of dygraph among the buffers that the program only reads.
        overwritten: Memory of dygraph that it writes.
    """

    code: Code
    stepper: Stepper
    key: Key
    buffers: dict[str, Buffer]
    pending: dict[str, Buffer]
    stated: dict[str, Array]
    shared: list[Memory]
    overwritten: list[Memory]


def bound(code: Code, program: Program, scope: Scope, stream: str) -> Step:
    """The code on the buffers of a scope, with random numbers of the stream of that name.

    Raises ProgramError for a variable that has no value.
    """
    buffers: dict[str, Buffer] = {}
    own: dict[str, Buffer] = {}
    pending: dict[str, Buffer] = {}
    initial = code.compiled.source.initial
    written = state_written(code.compiled)
    stated = {name: initial[name] for name in initial if name in written}
    needs_no_value = written - state_read(code.compiled) | stated.keys()
    shared: dict[str, Memory] = {}
    variables = program.global_block().vars
    for spec in code.compiled.manifest.state:
        dtype = DType(spec.dtype).numpy
        declared = variables.get(spec.name)
        if declared is not None and declared.memory is not None:
            scope.lend(spec.name, declared.memory)
        variable = scope.find_var(spec.name)
        if spec.kind == "lot":
            own[spec.name] = Buffer(aligned_zeros(spec.shape, dtype))
        elif spec.name in initial and spec.name not in stated:
            # A constant of this program alone: another one may well have given its own the same name.
            own[spec.name] = Buffer(aligned_zeros(spec.shape, dtype))
            own[spec.name].put(initial[spec.name])
        elif variable is not None and variable.get_tensor().is_initialized:
            buffers[spec.name] = variable.get_tensor().buffer
            memory = variable.get_tensor().memory
            if memory is not None:
                shared[spec.name] = memory
        elif spec.name in needs_no_value:
            buffers[spec.name] = pending[spec.name] = Buffer(aligned_zeros(spec.shape, dtype))
        else:
            raise no_value(program, scope, spec.name)
    stepper = Stepper(code.compiled.manifest, code.engine, buffers | own)
    seed = program.random_seed
    key = seeded_key(seed, stream) if seed else os.urandom(32)
    kept = [memory for name, memory in shared.items() if name not in written]
    overwritten = [memory for name, memory in shared.items() if name in written]
    return Step(code, stepper, key, buffers, pending, stated, kept, overwritten)


def buffers_hold(step: Step, scope: Scope) -> bool:
    """Whether the scope still has the buffers that the step was bound to."""
    for name, buffer in step.buffers.items():
        variable = scope.find_var(name)
        held = variable.get_tensor().buffer if variable and variable.get_tensor().is_initialized else None
        if held is not (None if name in step.pending else buffer):
            return False
    return True


def run_step(
    program: Program, step: Step, arrays: Mapping[str, Array], lot: Lot | None, scope: Scope, counters: dict[int, int]
) -> dict[str, Array]:
    """One step, after which the scope has what the program sets before anybody reads it."""
    try:
        values = _run(program, step, arrays, lot, counters)
    except DataError as error:
        raise read_by(program, error) from None
    for name, buffer in step.pending.items():
        scope.var(name).get_tensor().adopt(buffer)
    step.pending = {}
    scope.ran.add(program.uid)
    return values


def _run(
    program: Program, step: Step, feeds: Mapping[str, Array], lot: Lot | None, counters: dict[int, int]
) -> dict[str, Array]:
    """One step; after a failure the stated variables are what they were."""
    privacy = step.code.compiled.manifest.privacy
    # Steps for other feeds or fetches draw from the same stream: no two runs may share a dropout mask.
    step.stepper.seed(step.key, counters.get(program.uid, 0))
    for memory in step.shared:
        memory.settle()
    for memory in step.overwritten:
        memory.overwrite()
    before = {name: step.buffers[name].array.copy() for name in step.stated}
    for name, array in step.stated.items():
        step.buffers[name].put(array)
    try:
        with timed("step"):
            if privacy is None:
                return step.stepper.run("step", feeds)
            return PrivateSteps.of(program, privacy).run(step.stepper, feeds, lot)
    except BaseException:  # an interrupt too
        for name, array in before.items():
            step.buffers[name].put(array)
        raise
    finally:
        counters[program.uid] = step.stepper.rng_counter
