"""Paddle's ``dpsgd`` kernel against executions observed on paddlepaddle 1.8.5 (make_dpsgd_golden.py)."""

import json
from pathlib import Path

import numpy as np
from cases import Case, ErrorCase, tensor

from fluidc.compiler.ops.dpsgd import Dpsgd
from fluidc.compiler.ops.kinds import PUBLIC, TotalKind

OBSERVED = json.loads((Path(__file__).parent.parent / "golden" / "dpsgd.json").read_text())["executions"]
CLOCK = np.asarray(7, np.uint64)


def update(clip=10.0, batch_size=1.0, sigma=1.0, seed=7, **_):
    """The op on values of parameter, gradient, rate and, where it is seeded by it, the clock."""

    def build(p, g, lr, clock=None):
        return Dpsgd(p, g, lr, clock, clip, batch_size, sigma, seed)

    return build


def inputs(dtype, grad, start=None, rate=1.0, **_):
    grad = np.asarray(grad, dtype)
    return np.zeros_like(grad) if start is None else np.asarray(start, dtype), grad, np.full(1, rate, dtype)


def observed(number, run):
    expect = np.asarray(run["out"], run["dtype"])
    # Bit for bit; compiled code may contract a product and a sum, which rounds once less.
    return Case(f"optim.dpsgd-{number}", update(**run), inputs(**run), lambda *_: expect, rtol=0, atol=0,
                kinds=(PUBLIC,) * 3, kind=PUBLIC, onnx=Dpsgd.no_onnx)  # fmt: skip


# Paddle itself seeds the engine with the clock where seed is 0: what it draws is what the same seed draws.
SEVEN = next(run for run in OBSERVED if run.get("seed") == 7)
CASES = [
    Case("optim.dpsgd", update(seed=0), (*inputs(**SEVEN), CLOCK), lambda *_: np.asarray(SEVEN["out"], np.float32),
         rtol=0, atol=0, kinds=(PUBLIC,) * 4, kind=PUBLIC, onnx=Dpsgd.no_onnx),
    Case("optim.dpsgd-clock-of-32-bits", update(seed=0), (*inputs(**SEVEN), CLOCK + np.uint64(2**32)),
         lambda *_: np.asarray(SEVEN["out"], np.float32), rtol=0, atol=0, onnx=Dpsgd.no_onnx),
    Case("optim.dpsgd-raw", update(), inputs(**SEVEN), lambda *_: np.asarray(SEVEN["out"], np.float32),
         kinds=(PUBLIC, TotalKind("mean"), PUBLIC), kind="mixed", onnx=Dpsgd.no_onnx),
    *(observed(number, run) for number, run in enumerate(OBSERVED)),
]  # fmt: skip

THREE = tuple(map(tensor, ("f32[2]", "f32[2]", "f32[1]")))
ERRORS = [
    ErrorCase("optim.dpsgd-half", update(), tuple(map(tensor, ("f16[2]", "f16[2]", "f16[1]"))),
              "updates f32 and f64 parameters, not f16[2]"),
    ErrorCase("optim.dpsgd-grad", update(), tuple(map(tensor, ("f32[2]", "f32[3]", "f32[1]"))),
              "grad has the parameter's type f32[2], not f32[3]"),
    ErrorCase("optim.dpsgd-rate", update(), tuple(map(tensor, ("f32[2]", "f32[2]", "f32[2]"))),
              "lr is one number, not f32[2]"),
    ErrorCase("optim.dpsgd-no-clock", update(seed=0), THREE, "seeded by the clock exactly where seed is 0"),
    ErrorCase("optim.dpsgd-both", update(), (*THREE, tensor("u64[]")), "seeded by the clock exactly where seed is 0"),
    ErrorCase("optim.dpsgd-clock", update(seed=0), (*THREE, tensor("i64[]")), "the clock is u64[], not i64[]"),
]  # fmt: skip
