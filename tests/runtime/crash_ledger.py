"""Run by test_ledger.py: train on a ledger and die at the n-th call of the operating system that it makes.

Arguments: run directory, n, "before" or "after" the call. Prints ``draw`` when a step's noise is drawn and
``visible`` when its result exists, unbuffered, so that the parent sees what a user could have seen.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from manifests import POISSON

from fluidc.runtime.errors import BudgetError
from fluidc.runtime.ledger import Ledger


def main() -> None:
    """Train until the budget, the fault, or eight steps end the run."""
    run_dir, fatal, moment = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    real_write = os.write
    calls = 0

    def fatal_at(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == fatal and moment == "before":
                os._exit(9)
            if calls == fatal and moment == "torn" and call is real_write:
                real_write(args[0], bytes(args[1])[: len(args[1]) // 2])
                os._exit(9)
            result = call(*args, **options)
            if calls == fatal:
                os._exit(9)
            return result

        return wrapped

    for name in ("write", "fsync", "fdatasync", "replace", "ftruncate"):
        setattr(os, name, fatal_at(getattr(os, name)))
    with Ledger.open(run_dir, POISSON) as ledger:
        for _ in range(8):
            try:
                ledger.step(ahead=3)
            except BudgetError:
                break
            real_write(1, b"draw\n")
            real_write(1, b"visible\n")
    real_write(1, b"clean\n")


main()
