"""onnx's own backend cases hold: those of the record pass on their routes, and every operator is decided about."""

from __future__ import annotations

import warnings
from functools import cache

import onnx
import pytest
from onnx_backend import Prepared, Skipped, prepared, single_node_cases
from onnx_record import DOCUMENT, ROOT, document, operators, recorded
from onnx_routes import ROUTES

from fluidc.frontend.lower.onnx import FAMILIES
from fluidc.frontend.lower.onnx.missing import MISSING

HINT = "make conformance writes the record anew: read the difference before you commit it"


@cache
def imported() -> list[Prepared]:
    found: list[Prepared] = []
    for case in single_node_cases():
        try:
            found.append(prepared(case))
        except Skipped:
            continue
    return found


def holds(route: str) -> None:
    version, cases = recorded()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy at the limits of its types
        made = imported()
        outcomes = {case.name: outcome for case, outcome in ROUTES[route](made)}
    if not outcomes:
        pytest.skip(f"onnx {onnx.__version__} has its cases in files")
    expected = {name for name, routes in cases.items() if route in routes}
    passed = {name for name, outcome in outcomes.items() if outcome.kind == "passed"}
    lost = {name: outcomes.get(name, "not imported any more") for name in expected - passed}
    gained = passed - expected
    if onnx.__version__ != version:
        # Another version of onnx has other cases.
        lost = {name: outcome for name, outcome in lost.items() if name in outcomes}
        gained = set()
    assert not lost, f"{len(lost)} cases do not pass any more: {lost}; {HINT}"
    assert not gained, f"{len(gained)} cases pass that did not: {sorted(gained)}; {HINT}"


def test_reference() -> None:
    holds("reference")


@pytest.mark.nightly
@pytest.mark.parametrize("route", ["cpu", "onnx"])
def test_compiled(route: str) -> None:
    holds(route)


def test_the_record_is_large_enough() -> None:
    _, cases = recorded()
    ops = {made.case.op for made in imported() if cases.get(made.case.name)}
    passed = {route: sum(route in routes for routes in cases.values()) for route in ROUTES}
    assert passed["reference"] >= 350
    assert len(ops) >= 80
    assert passed["cpu"] >= 300
    assert passed["onnx"] >= 300


def test_the_documents_say_what_the_record_says() -> None:
    version, cases = recorded()
    if onnx.__version__ != version:
        pytest.skip(f"written with onnx {version}")
    constants: dict[str, set[str]] = {}
    for made in imported():
        constants.setdefault(made.case.op, set()).update(made.constants)
    assert document(single_node_cases(), cases, constants) == DOCUMENT.read_text(), HINT
    told = " ".join((ROOT / "README.md").read_text().split())
    assert f"[{sum(map(len, FAMILIES.values()))} operators](docs/onnx_ops.md)" in told
    assert f"the {len(cases)} cases" in told


def test_every_operator_is_imported_or_has_a_reason() -> None:
    rules = {name for family in FAMILIES.values() for name in family}
    assert not rules & MISSING.keys()
    assert operators() - rules - MISSING.keys() == set()
    assert (rules | MISSING.keys()) - operators() == set()
