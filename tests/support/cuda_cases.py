"""Op cases on the emulated device: run in a `cuda_worker.Worker`."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from typing import TypeVar

import cuda_jobs
from cases import Case, all_cases
from large_cases import LARGE
from op_jobs import Job, first_of_each_op, job

from fluidc.compiler.codegen.tvm.cpu import host_cpu
from fluidc.compiler.ir.core import Module
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ops.kinds import ExampleKind

Name = TypeVar("Name", int, str)

CASES = [case for case in all_cases() if case.cpu is True]
BACKWARD = first_of_each_op(case for case in CASES if case.wrt)
SYMBOLIC = first_of_each_op(case for case in CASES if any(isinstance(kind, ExampleKind) for kind in case.kinds))
JOBS: list[tuple[Case, bool]] = [(case, False) for case in CASES] + [(c, True) for c in CASES if c.id in SYMBOLIC]
IDS = [case.id + ("-N" if symbolic else "") for case, symbolic in JOBS]


def run(start: int, end: int) -> dict[int, str]:
    """Compile jobs ``start`` to ``end`` together and run each; returns the faults of those that have one."""
    return _faults({number: job_of(number) for number in range(start, end)})


def run_large(names: Sequence[str]) -> dict[str, str]:
    """The same of `large_cases`, by name; backward where they have gradients."""
    made = {
        case.id: job(case, f"case{number}", symbolic=False, backward=bool(case.wrt))
        for number, case in enumerate(LARGE)
        if case.id in names
    }
    return _faults(made)


def _faults(made: Mapping[Name, Job]) -> dict[Name, str]:
    """Jobs that do not compile together are compiled one by one, so that the one to blame says why."""
    try:
        together = compiled(list(made.values()))
    except Exception:
        together = None
    faults: dict[Name, str] = {}
    for number, mine in made.items():
        try:
            mine.compare(cuda_jobs.call(together or compiled([mine]), mine.function.name, mine.arguments))
        except Exception:
            faults[number] = traceback.format_exc()
    return faults


def job_of(number: int) -> Job:
    """A case as a function."""
    case, symbolic = JOBS[number]
    return job(case, f"case{number}", symbolic=symbolic, backward=case.id in BACKWARD)


def compiled(jobs: Sequence[Job]) -> object:
    """A module with the functions of the jobs, for the device."""
    cuda_jobs.tvm_for_device()
    from fluidc.compiler.codegen.tvm.cuda.arch import Options
    from fluidc.compiler.codegen.tvm.cuda.build import compile_module

    module = Module(Stage.TARGET, (), tuple(j.function for j in jobs))
    return compile_module(module, Options(host_cpu())).executable
