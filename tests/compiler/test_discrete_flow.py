"""The verifier on programs of the discrete mechanism: what was tampered with in their text is refused."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from small_modules import private_mlp

from fluidc.compiler.errors import FluidcError
from fluidc.compiler.ir.parser import parse
from fluidc.compiler.ir.printer import to_text
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ir.verify import verify
from fluidc.compiler.ops import OPSET
from fluidc.compiler.passes.manager import run_passes
from fluidc.compiler.passes.privacy_flow import check_privacy_flow
from fluidc.compiler.pipeline import pipeline


@cache
def text_of(stage: Stage) -> str:
    module = private_mlp()
    assert module.privacy is not None
    module = replace(module, privacy=replace(module.privacy, mechanism="discrete", slack=0.0, grid_bits=20))
    text = to_text(run_passes(module, pipeline(module, to=stage)))
    # Without labels, so that what is derived decides and not what is stated.
    return text.replace(" clipped<%live>", "").replace(" public", "")


def check(text: str) -> None:
    module = parse(text, OPSET)
    verify(module)
    check_privacy_flow(module)


@pytest.mark.parametrize("stage", [Stage.PRIVATE, Stage.TARGET])
def test_untouched_modules_pass(stage: Stage) -> None:
    check(text_of(stage))


TAMPERINGS = {
    "a finer grid in the sum": (
        "dp.grid_sum(%gi_w0, %live) {clip=1.0, bits=20}", "dp.grid_sum(%gi_w0, %live) {clip=1.0, bits=21}",
        "the module states bits",
    ),
    "a smaller clip in the sum": (
        "dp.grid_sum(%gi_w0, %live) {clip=1.0,", "dp.grid_sum(%gi_w0, %live) {clip=0.5,", "the module states clip",
    ),
    "a coarser check": (
        "%c) {bits=20, params=", "%c) {bits=21, params=", "the module states bits",
    ),
    "a sum that was not checked": (
        "dp.grid_sum(%gi_w0, %live)", "dp.grid_sum(%gi_w0, %c)", "does not come from dp.grid_live",
    ),
    "a check of another gradient": (
        "dp.grid_norm_sq(%gi_w0, %c)", "dp.grid_norm_sq(%gi_w1, %c)", "not of the integers that were checked",
    ),
    "a check without a parameter": (
        "dp.grid_live([%t2_w0, %t2_b0, %t2_w1], %c) {bits=20, params=(@w0, @b0, @w1)}",
        "dp.grid_live([%t2_w0, %t2_w1], %c) {bits=20, params=(@w0, @w1)}", "its norm covers",
    ),
    "a parameter checked twice": (
        "%c) {bits=20, params=(@w0, @b0, @w1)}", "%c) {bits=20, params=(@w0, @w0, @w1)}", "two terms",
    ),
    "the noise of another parameter": ("%s_w0, %live, %y_w0", "%s_w0, %live, %y_w1", ""),
    "noise that the caller feeds": ('noise "b0" %y_b0', 'feed "b0" %y_b0', "no batch axis"),
    "another lot": ("bits=20, lot=16.0}", "bits=20, lot=8.0}", "the module states lot"),
    "no noise": ("optim.sgd(%b0, %g_b0, %lr)", "optim.sgd(%b0, %s_b0, %lr)", ""),
    "a sum that is fetched": ('return "mean" =', 'return "leak" = %s_b0, "mean" =', "without noise"),
    "noise that is fetched": ('return "mean" =', 'return "leak" = %y_b0, "mean" =', "a secret of the step"),
    "another clip target": ("{clip=0.9990234375, params", "{clip=1.0, params", "the module states clip"),
    "the other mechanism": (
        'mechanism="discrete", slack=0.0, grid_bits=20', 'mechanism="gaussian"', "the module states clip",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", TAMPERINGS)
def test_tampering_is_refused(what: str) -> None:
    old, new, reason = TAMPERINGS[what]
    text = text_of(Stage.PRIVATE)
    assert old in text
    with pytest.raises(FluidcError) as caught:
        check(text.replace(old, new))
    assert reason in str(caught.value)


def test_lot_sums_get_the_noise_of_their_parameter() -> None:
    text = text_of(Stage.TARGET)
    means = [line.split(" = ")[1].split(" {")[0] for line in text.splitlines() if "dp.grid_mean @b0" in line]
    of_apply = next(mean for mean in means if "lot_b0" in mean)
    with pytest.raises(FluidcError, match=r"sum and noise are i64 of one shape|not the lot sum"):
        check(text.replace(of_apply, of_apply.replace("@b0", "@w0")))
