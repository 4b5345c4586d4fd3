"""Op cases on the onnx target: exported models in ONNX Runtime against ``evaluate``, forward and backward."""

from __future__ import annotations

import pytest
from cases import Case, all_cases
from onnx_jobs import check, exported
from op_jobs import first_of_each_op, job

from fluidc.compiler.ops.kinds import ExampleKind

CASES = [case for case in all_cases() if case.onnx is True]
BACKWARD = first_of_each_op(case for case in CASES if case.wrt)
SYMBOLIC = first_of_each_op(case for case in CASES if any(isinstance(kind, ExampleKind) for kind in case.kinds))
JOBS = [(case, False) for case in CASES] + [(case, True) for case in CASES if case.id in SYMBOLIC]


@pytest.mark.parametrize(("case", "symbolic"), JOBS, ids=[c.id + ("-N" if symbolic else "") for c, symbolic in JOBS])
def test_onnx(case: Case, symbolic: bool) -> None:
    made = job(case, "f", symbolic=symbolic, backward=case.id in BACKWARD)
    check(made, exported(made))
