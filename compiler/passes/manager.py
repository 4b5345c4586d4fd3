"""Runs passes in order; after each one the module is verified, timed and, if asked, printed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ..errors import FluidcError, PassError, PrivacyError, VerifyError
from ..ir.core import Module
from ..ir.verify import verify
from .base import Pass
from .privacy_flow import check_privacy_flow


@dataclass
class Trace:
    """What happened: seconds per pass, in order."""

    timings: list[tuple[str, float]] = field(default_factory=list[tuple[str, float]])


Observer = Callable[[int, str, Module], None]


def run_passes(
    module: Module,
    passes: Iterable[Pass],
    *,
    observe: Observer | None = None,
    trace: Trace | None = None,
) -> Module:
    """The module after ``passes``.

    Args:
        module: Verified before the first pass.
        passes: In order.
        observe: Called with (number, pass name, module) for the input (number 0, name ``input``) and after
            every pass; dumping is built on it.
        trace: Filled with seconds per pass, verification included.

    Raises:
        PassError: a pass does not fit the module's stage, or its result does not verify.
        FluidcError: what a pass refuses in the user's program, unchanged.
    """
    _verified(module, "input")
    if observe is not None:
        observe(0, "input", module)
    for number, step in enumerate(passes, start=1):
        start = time.perf_counter()
        exact = step.ensures is not None
        if module.stage < step.requires or (exact and module.stage != step.requires):
            raise PassError(
                f"pass {step.name} needs a module at stage {step.requires}; this one is at stage {module.stage}",
                hint="run the passes in pipeline order, or name a later --to stage",
            )
        module = step.run(module)
        _verified(module, step.name)
        if trace is not None:
            trace.timings.append((step.name, time.perf_counter() - start))
        if observe is not None:
            observe(number, step.name, module)
    return module


def _verified(module: Module, after: str) -> None:
    try:
        verify(module)
        check_privacy_flow(module, specialised=after != "input")
    except (VerifyError, PrivacyError) as error:
        if after == "input":
            raise
        raise _blamed(error, after) from error


def _blamed(error: FluidcError, after: str) -> PassError:
    return PassError(
        f"pass {after} wrote a module that does not verify: {error.what}",
        where=error.where,
        hint=error.hint or "this is a defect of the compiler; --print-ir-after-all shows the module before and after",
    )
