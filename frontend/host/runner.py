"""Running a plan: its compiled segments by whoever compiles, everything else here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from ...compiler.errors import FluidcError
from .call import Environment, HostCall
from .plan import Call, Plan, Step
from .printing import Printer
from .registry import RULES
from .segment import Segment
from .values import Array, Value


class RunSegment(Protocol):
    """Compiles a segment, unless it is, and runs it."""

    def __call__(self, segment: Segment, given: dict[str, Value]) -> dict[str, Array]:
        """Its ``writes`` from the values of its ``reads``."""
        ...


class Runner:
    """One run of a plan.

    Args:
        values: What is fed, and the scope; results are found there.
        run_segment: Runs compiled code.
        failed: Called where a host op raises, before the caller gets to know.
    """

    def __init__(self, values: Environment, run_segment: RunSegment, failed: Callable[[], None]) -> None:
        self._values = values
        self._run_segment = run_segment
        self._failed = failed
        self._printer = Printer()

    def run(self, plan: Plan) -> None:
        """Take all steps. Errors of ops name the user's line."""
        self._steps(plan.steps)

    def _steps(self, steps: Iterable[Step]) -> None:
        for step in steps:
            if isinstance(step, Segment):
                self._segment(step)
            elif isinstance(step, Call):
                self._call(HostCall(step.op, self._values))
            elif step.op.type == "while":
                while self._holds(HostCall(step.op, self._values), "Condition"):
                    self._steps(step.body)
            elif self._holds(HostCall(step.op, self._values), "Cond"):
                self._steps(step.body)

    def _holds(self, o: HostCall, slot: str) -> bool:
        return bool(o.number(slot))

    def _segment(self, segment: Segment) -> None:
        found = {name: self._values.find(name) for name in segment.reads}
        given = {name: value for name, value in found.items() if isinstance(value, Value)}
        results = segment.results(given, self._run_segment(segment, given))
        for name, value in results.items():
            self._values.write(name, value)
        for op, name in segment.shows:
            if name in results:
                self._printer.show(op, name, results[name])

    def _call(self, o: HostCall) -> None:
        if o.op.type == "print":
            self._printer.call(o)
            return
        try:
            RULES[o.op.type](o)
        except FluidcError:
            self._failed()
            raise
        except Exception as error:
            self._failed()
            error.add_note(f"in {o.layer} ({o.op.type}) at {o.op.loc.place}")
            raise
