"""Conformance with ONNX: the cases of onnx's own backend test, of one node each, through import and three targets.

Every case is imported as a Program and lowered. ``reference`` runs it by numpy, ``cpu`` compiled by TVM; ``onnx``
writes it as an ONNX model again and runs that by ONNX Runtime. Results are compared by the tolerances that the case
states, of half precision at least two units in the last place. What is not imported is skipped with its reason.

    python tests/onnx_conformance.py [OP ...] [--route reference --route cpu --route onnx] [--reasons] [--write]

``--write`` puts what was found into docs/onnx_ops.md and the record that the tests hold it to,
tests/frontend/onnx/conformance.json.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "support")]
os.environ.setdefault("TVM_BIND_THREADS", "0")

from onnx_backend import Case, Prepared, Skipped, prepared, single_node_cases  # noqa: E402
from onnx_record import DOCUMENT, RECORD, document, record  # noqa: E402
from onnx_routes import ROUTES, Outcome  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402


@dataclass
class Found:
    """What became of the cases of one op.

    Attributes:
        imported: Cases that are imported, with their outcome by route.
        skipped: Cases that are not, with the reason.
        constants: Inputs that had to be constants.
    """

    imported: dict[str, dict[str, Outcome]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    constants: set[str] = field(default_factory=set)

    def passed(self, route: str) -> int:
        return sum(outcomes[route].kind == "passed" for outcomes in self.imported.values() if route in outcomes)


def run(cases: Sequence[Case], routes: Sequence[str], console: Console) -> dict[str, Found]:
    """Every case through these routes."""
    found: dict[str, Found] = {case.op: Found() for case in sorted(cases, key=lambda case: case.op)}
    ready: list[Prepared] = []
    for case in cases:
        try:
            ready.append(prepared(case))
            found[case.op].imported[case.name] = {}
            found[case.op].constants |= set(ready[-1].constants)
        except Skipped as reason:
            found[case.op].skipped[case.name] = str(reason).replace(case.name + ".", "")
    for route in routes:
        start = time.perf_counter()
        for case, outcome in ROUTES[route](ready):
            found[case.op].imported[case.name][route] = outcome
        console.print(f"{route}: {len(ready)} cases in {time.perf_counter() - start:.0f} s")
    return found


def show(found: Mapping[str, Found], routes: Sequence[str], console: Console, *, reasons: bool) -> None:
    """The table by op, what failed, why cases were skipped, and the totals."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("op", no_wrap=True)
    for title in ("cases", "skipped", "applicable", *routes):
        table.add_column(title, justify="right")
    for op, each in found.items():
        counts = [len(each.imported) + len(each.skipped), len(each.skipped), len(each.imported)]
        table.add_row(op, *map(str, [*counts, *(each.passed(route) for route in routes)]))
    console.print(table)
    for op, each in found.items():
        for name, outcomes in each.imported.items():
            for route, outcome in outcomes.items():
                if outcome.kind == "failed" or (reasons and outcome.kind == "refused"):
                    message = outcome.message.replace(f"{name}.", "")
                    console.print(f"{outcome.kind} on {route}: {op} {name}: {message}", markup=False, soft_wrap=True)
    console.print(f"\nskipped, by reason ({'all' if reasons else '--reasons lists the cases'}):")
    _show_skipped(found, console, reasons=reasons)
    applicable = sum(len(each.imported) for each in found.values())
    total = applicable + sum(len(each.skipped) for each in found.values())
    console.print(f"\n{total} cases of {len(found)} ops, {applicable} applicable")
    for route in routes:
        passed = sum(each.passed(route) for each in found.values())
        ops = sum(bool(each.passed(route)) for each in found.values())
        console.print(f"{route:<10} {passed} of {applicable} passed, of {ops} ops")


def _show_skipped(found: Mapping[str, Found], console: Console, *, reasons: bool) -> None:
    if reasons:
        for op, each in found.items():
            for name, reason in each.skipped.items():
                console.print(f"  {op} {name}: {reason}", markup=False, soft_wrap=True)
        return
    counts: Counter[tuple[str, str]] = Counter()
    for op, each in found.items():
        for reason in set(each.skipped.values()):
            counts[op, reason] = sum(other == reason for other in each.skipped.values())
    by_reason: dict[str, list[str]] = {}
    for (op, reason), count in counts.items():
        by_reason.setdefault(reason.removeprefix(f"{op} "), []).append(f"{op} {count}")
    for reason, ops in sorted(by_reason.items()):
        console.print(f"  {reason}: {', '.join(ops)}", markup=False, soft_wrap=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("op", nargs="*", help="only the cases of these op types")
    parser.add_argument("--route", action="append", choices=tuple(ROUTES), help="only these (default: all)")
    parser.add_argument("--reasons", action="store_true", help="list every skipped and refused case")
    parser.add_argument("--write", action="store_true", help="write docs/onnx_ops.md and the record of the tests")
    arguments = parser.parse_args()
    routes = arguments.route or list(ROUTES)
    if arguments.write and (arguments.op or len(routes) < len(ROUTES)):
        parser.error("--write takes all cases through all routes")
    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=200)
    warnings.simplefilter("ignore")  # numpy at the limits of its types
    cases = [case for case in single_node_cases() if not arguments.op or case.op in arguments.op]
    found = run(cases, routes, console)
    show(found, routes, console, reasons=arguments.reasons)
    if arguments.write:
        passed = {
            name: [route for route, outcome in outcomes.items() if outcome.kind == "passed"]
            for each in found.values()
            for name, outcomes in each.imported.items()
        }
        RECORD.write_text(record(passed))
        DOCUMENT.write_text(document(cases, passed, {op: each.constants for op, each in found.items()}))
        console.print(f"written: {RECORD.name}, {DOCUMENT.name}")
    failed = any(o.kind == "failed" for f in found.values() for each in f.imported.values() for o in each.values())
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
