"""Ops of saved models that no layer records, by their attributes, against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.special as sp

import fluidc.frontend as fluid
from fluidc.frontend.lower import rules
from fluidc.frontend.lower.later import RULES
from fluidc.frontend.vartype import VarType

A = np.random.default_rng(3).normal(size=(2, 3, 4)).astype(np.float32)
B = np.random.default_rng(4).normal(size=(2, 4, 3)).astype(np.float32)


def largest(x: np.ndarray, k: int, axis: int) -> np.ndarray:
    return -np.sort(-x, axis=axis).take(range(k), axis=axis)


CASES: dict[str, tuple[str, dict[str, np.ndarray], dict[str, Any], np.ndarray]] = {
    "where": ("where", {"Condition": A > 0, "X": A, "Y": -2 * A}, {}, np.where(A > 0, A, -2 * A)),
    "matmul_v2": ("matmul_v2", {"X": A, "Y": B}, {}, A @ B),
    "matmul_v2 transposed": (
        "matmul_v2", {"X": A, "Y": A}, {"trans_x": True, "trans_y": False}, A.transpose(0, 2, 1) @ A,
    ),
    "matmul_v2 both": (
        "matmul_v2", {"X": A, "Y": B}, {"trans_x": True, "trans_y": True},
        A.transpose(0, 2, 1) @ B.transpose(0, 2, 1),
    ),
    "flatten": ("flatten_contiguous_range", {"X": A}, {"start_axis": 1, "stop_axis": -1}, A.reshape(2, 12)),
    "flatten front": ("flatten_contiguous_range", {"X": A}, {"start_axis": 0, "stop_axis": 1}, A.reshape(6, 4)),
    "top_k_v2": ("top_k_v2", {"X": A}, {"k": 2, "axis": -1, "largest": True}, largest(A, 2, 2)),
    "top_k_v2 axis": ("top_k_v2", {"X": A}, {"k": 2, "axis": 1, "largest": True}, largest(A, 2, 1)),
    "top_k_v2 least": ("top_k_v2", {"X": A}, {"k": 3, "axis": -1, "largest": False}, np.sort(A, 2)[:, :, :3]),
    "expand_v2": (
        "expand_v2", {"X": A[:, :1]}, {"shape": [5, -1, 3, 4]}, np.broadcast_to(A[:, :1], (5, 2, 3, 4)),
    ),
    "tile": ("tile", {"X": A[0]}, {"repeat_times": [2, 1, 3]}, np.tile(A[0], (2, 1, 3))),
    "tile fewer": ("tile", {"X": A[0]}, {"repeat_times": [2]}, np.tile(A[0], (2,))),
    "log_softmax": ("log_softmax", {"X": A}, {"axis": 1}, sp.log_softmax(A, axis=1)),
    "silu": ("silu", {"X": A}, {}, A * sp.expit(A)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_value(name: str) -> None:
    op, inputs, attrs, wanted = CASES[name]
    program = fluid.Program()
    with fluid.program_guard(program):
        block = program.global_block()
        given = {slot: fluid.data(slot, list(x.shape), str(x.dtype)) for slot, x in inputs.items()}
        out = block.create_var(name="out", dtype="float32", shape=wanted.shape)
        outputs = {"Out": [out]}
        if op == "top_k_v2":
            outputs["Indices"] = [block.create_var(name="places", dtype=VarType.INT64, shape=wanted.shape)]
        block.append_op(op, {slot: [v] for slot, v in given.items()}, outputs, attrs)
        names = [v for values in outputs.values() for v in values]
        exe = fluid.Executor(fluid.CPUPlace(), target="reference")
        found = exe.run(program, feed=inputs, fetch_list=names)
    np.testing.assert_allclose(found[0], wanted, rtol=1e-5, atol=1e-6)
    if op == "top_k_v2":
        taken = np.take_along_axis(inputs["X"], np.asarray(found[1]), attrs["axis"])
        np.testing.assert_array_equal(taken, found[0])


def test_every_op_is_tested() -> None:
    assert {op for op, *_ in CASES.values()} == set(RULES)
    assert set(RULES) <= set(rules())
