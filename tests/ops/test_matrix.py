"""The op set is complete: every rule is there or declared absent, and every op is covered by cases."""

from __future__ import annotations

from pathlib import Path

import pytest
from cases import all_cases

from fluidc.compiler.ops import OPS, OPSET
from fluidc.compiler.ops.emit import OnnxEmitter
from fluidc.compiler.ops.matrix import RULES, coverage, gaps, matrix
from fluidc.compiler.ops.unary import Exp

ROOT = Path(__file__).parent.parent.parent

# Ops that no case builds, because their meaning lies in a pass or in the engine; tested there.
TESTED_ELSEWHERE = {
    "grad.backward": "replaced by the backward pass: tests of that pass",
    "grad.use": "expanded by privatize and expand-grad: tests of those passes",
    "grad.private": "expanded by privatize: tests of that pass",
    "grad.stop": "removed by the backward pass: tests of that pass",
    "grad.clip": "removed by the backward pass: tests of that pass, and of trainings against Paddle",
    "state.read": "bound by the engine: tests of the reference target",
    "state.write": "bound by the engine: tests of the reference target",
}


class Declines(Exp):
    """An op without the rule of its base."""

    no_onnx = "of no use"


class Resumes(Declines):
    """An op with a rule that its base declines."""

    def to_onnx(self, o: OnnxEmitter, x: str) -> str:
        return o.node("Exp", x)


def test_no_gaps() -> None:
    assert gaps() == ()


def test_every_op_has_a_case() -> None:
    covered = {case.op_name for case in all_cases()} | set(TESTED_ELSEWHERE)
    assert sorted(set(OPSET) - covered) == []


def test_cases_and_exceptions_name_real_ops() -> None:
    assert sorted({case.op_name for case in all_cases()} - set(OPSET)) == []
    assert sorted(set(TESTED_ELSEWHERE) - set(OPSET)) == []


def test_every_op_that_lasts_has_an_onnx_form() -> None:
    """Only what a pass replaces has none, the discrete mechanism, and Paddle's own kernel."""
    without = {row.name for row in matrix() if row.cell("to_onnx").state == "none"}
    replaced = {row.name for row in matrix() if row.cell("decompose").state == "rule" or row.family == "update"}
    replaced |= {"grad.backward", "grad.use", "grad.private", "grad.stop", "grad.clip"}
    discrete = {"dp.grid_norm_sq", "dp.grid_live", "dp.grid_sum", "dp.grid_mean"}
    assert without - replaced == discrete | {"optim.dpsgd", "state.read", "state.write"}


@pytest.mark.parametrize("row", matrix(), ids=lambda row: row.name)
def test_places_are_the_rules(row) -> None:
    """The line that a cell points at defines that rule; the row's line starts the class."""
    for cell in row.cells:
        if cell.state == "rule":
            path, _, line = cell.place.partition(":")
            lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
            assert f"def {cell.rule}(" in lines[int(line) - 1]
    path, _, line = row.place.partition(":")
    start = (ROOT / path).read_text(encoding="utf-8").splitlines()[int(line) - 1 :]
    assert any(text.startswith(f"class {row.cls.__name__}(") for text in start[:3])
    assert row.summary


def test_the_nearer_declaration_holds() -> None:
    rows = {row.name: row for row in matrix()}
    assert rows["linear.matmul"].cell("example_norm_sq").state == "rule"
    declines, resumes = matrix((Declines, Resumes))
    assert declines.cell("to_onnx").text == "of no use"  # its base has the rule, it declares why not
    assert resumes.cell("to_onnx").state == "rule"  # its base declares why not, it has the rule
    assert rows["elementwise.less"].cell("vjp").text == "boolean output"
    assert rows["activation.gelu"].cell("decompose").state == "rule"


def test_coverage_counts() -> None:
    counted = coverage()
    assert set(counted) == set(RULES)
    for have, possible in counted.values():
        assert 0 <= have <= possible <= len(OPS)
