"""Which conformance cases pass on which route: the record that the tests hold them to, and the document."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import onnx
from onnx import defs
from onnx_backend import DISPUTED, Case

from fluidc.frontend.compat.onnx.graph import NEWEST_OPSET, OLDEST_OPSET
from fluidc.frontend.lower.onnx import FAMILIES
from fluidc.frontend.lower.onnx.missing import MISSING

ROOT = Path(__file__).parents[2]
RECORD = ROOT / "tests/frontend/onnx/conformance.json"
DOCUMENT = ROOT / "docs/onnx_ops.md"

Passed = Mapping[str, Sequence[str]]
"""Case name to the routes on which it passes; every case that is imported is there."""


def record(passed: Passed) -> str:
    """As JSON, one case per line."""
    lines = [f"  {json.dumps(name)}: {json.dumps(' '.join(routes))}" for name, routes in sorted(passed.items())]
    cases = ",\n".join(lines)
    return f'{{"onnx": {json.dumps(onnx.__version__)}, "cases": {{\n{cases}\n}}}}\n'


def recorded() -> tuple[str, dict[str, list[str]]]:
    """The version of onnx of the record, and the cases."""
    read = json.loads(RECORD.read_text())
    return read["onnx"], {name: routes.split() for name, routes in read["cases"].items()}


def document(cases: Sequence[Case], passed: Passed, constants: Mapping[str, Collection[str]]) -> str:
    """The table of all operators in Markdown; ``constants`` are the inputs by op that have to be such."""
    routes = ("reference", "cpu", "onnx")
    totals = {route: sum(route in found for found in passed.values()) for route in routes}
    ops = {case.op for case in cases if passed.get(case.name)}
    lines = [
        "# ONNX operators",
        "",
        "Written by `make conformance`: which operators of the ONNX standard are imported, in which opsets their forms",
        f"began, and how many cases of onnx's own backend test ({onnx.__version__}, cases of one node) pass. A case is",
        "applicable where its element types, attributes and shapes are what fluidc has; it is run by `reference`, by",
        "`cpu`, and by ONNX Runtime after being exported again (`onnx`). Constants are inputs that must be known while",
        "compiling.",
        "",
        f"Of {len(cases)} cases {len(passed)} are applicable, of {len(ops)} operators: {totals['reference']} pass on "
        f"`reference`, {totals['cpu']} on `cpu`, {totals['onnx']} on `onnx`.",
        "",
        "| operator | opsets | constants | cases | applicable | reference | cpu | onnx |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for op in sorted(name for family in FAMILIES.values() for name in family):
        mine = [case.name for case in cases if case.op == op]
        applicable = [passed[name] for name in mine if name in passed]
        counts = [len(mine), len(applicable), *(sum(route in found for found in applicable) for route in routes)]
        versions = ", ".join(map(str, _versions(op)))
        fixed = ", ".join(sorted(constants.get(op, ())))
        lines.append(f"| {op} | {versions} | {fixed} | {' | '.join(str(count or '') for count in counts)} |")
    lines += ["", "Not imported:", "", "| operators | why |", "|---|---|"]
    by_reason: dict[str, list[str]] = {}
    for name, reason in MISSING.items():
        by_reason.setdefault(reason, []).append(name)
    lines += [f"| {', '.join(names)} | {reason} |" for reason, names in by_reason.items()]
    lines += ["", "Cases that state other results than the runtimes that models come from and go to:", ""]
    lines += [f"- `{name}`: {reason}" for name, reason in DISPUTED.items()]
    return "\n".join(lines) + "\n"


def _versions(op: str) -> list[int]:
    """The opsets in which a form of the operator began that is imported."""
    forms = [s for s in defs.get_all_schemas_with_history() if (s.domain, s.name) == ("", op) and not s.deprecated]
    found = sorted(schema.since_version for schema in forms)
    # That of the oldest opset is older than it.
    first = max((version for version in found if version <= OLDEST_OPSET), default=0)
    return [version for version in found if first <= version <= NEWEST_OPSET]


def operators() -> set[str]:
    """The operators of the standard in the opsets from which models are imported."""
    schemas = [s for s in defs.get_all_schemas_with_history() if s.domain == ""]
    last: dict[str, int] = {}
    gone: dict[str, int] = {}
    for schema in schemas:
        versions = gone if schema.deprecated else last
        versions[schema.name] = max(schema.since_version, versions.get(schema.name, 0))
    return {
        name
        for name, version in last.items()
        if version <= NEWEST_OPSET and gone.get(name, NEWEST_OPSET) > OLDEST_OPSET
    }
