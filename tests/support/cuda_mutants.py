"""Kernels of op cases without one of their barriers, on the emulated device: run in a `cuda_worker.Worker`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cuda_device
import cuda_jobs
import tvm_ffi
from cuda_cases import compiled
from cuda_worker import device
from large_cases import LARGE
from op_jobs import Job, job

BARRIER = re.compile(r"__sync(?:threads|warp)\(\);")


@dataclass(frozen=True)
class Mutant:
    """A kernel that lacks a barrier.

    Attributes:
        kernel: Its name.
        barrier: Number of the barrier in its text, from 0.
        case: The case that runs it.
        fault: What was found; None if nothing was.
    """

    kernel: str
    barrier: int
    case: str
    fault: str | None


def run(names: list[str]) -> list[Mutant]:
    """Compile these cases, and run each with every barrier of its kernels removed, one at a time."""
    cases = [case for case in LARGE if case.id in names]
    jobs = [job(case, f"case{i}", symbolic=False, backward=bool(case.wrt)) for i, case in enumerate(cases)]
    texts: list[str] = []
    tvm_ffi.register_global_func("tvm_callback_cuda_postproc", _keeping(texts), override=True)
    module = compiled(jobs)
    (text,) = texts
    found: list[Mutant] = []
    done: set[str] = set()
    for case, mine in zip(cases, jobs, strict=True):
        device().reset()
        mine.compare(cuda_jobs.call(module, mine.function.name, mine.arguments))
        launched = {launch.name for launch in device().trace()} - done
        done |= launched
        for kernel, number, changed in _mutants(text, launched):
            found.append(Mutant(kernel, number, case.id, _fault(module, mine, changed)))
    return found


def _keeping(texts: list[str]) -> Callable[[str, object], str]:
    def keep(code: str, _: object) -> str:
        texts.append(code)
        return code

    return keep


def _mutants(text: str, kernels: set[str]) -> Iterator[tuple[str, int, str]]:
    """Kernels without one barrier: their names, the number of the barrier, and their texts."""
    starts = [match.start() for match in cuda_device.KERNEL.finditer(text)]
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        kernel, own = cuda_device.KERNEL.match(text, start).group(2), text[start:end]  # type: ignore[union-attr]
        if kernel in kernels:
            for number, barrier in enumerate(BARRIER.finditer(own)):
                yield kernel, number, own[: barrier.start()] + own[barrier.end() :]


def _fault(module: object, mine: Job, changed: str) -> str | None:
    device().substitute(cuda_device.compile_kernels(changed, checked=device().checked))
    try:
        mine.compare(cuda_jobs.call(module, mine.function.name, mine.arguments))
    except Exception as error:
        return str(error)[:300]
    finally:
        device().substitute(None)
    return None
