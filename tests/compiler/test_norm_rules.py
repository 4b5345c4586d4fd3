"""Norms of per-example gradients, by every rule there is, against gradients of single examples in float64."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from cases import tensor
from private_models import MODELS
from single_examples import NOISE, clipped_sums, draw, example_gradients
from stateless import Compiled, without_state

from fluidc.compiler.codegen.reference import Reference
from fluidc.compiler.ir.core import Module, Output, PrivacyConfig, Value
from fluidc.compiler.ops.dp import RowNormSq
from fluidc.compiler.ops.example_norm import NormSq
from fluidc.compiler.ops.factors import Factors
from fluidc.compiler.passes.manager import run_passes
from fluidc.compiler.passes.norm_cost import factor_costs, order
from fluidc.compiler.passes.privatize import Privatize
from fluidc.compiler.pipeline import pipeline

Arrays = dict[str, np.ndarray]
CLIP = 0.5
RULES = ("", "gram", "direct", "materialised")
TARGETS = ("cpu", "onnx")


@cache
def compiled(name: str, rule: str) -> Module:
    """The model's target module, its norms taken by ``rule`` wherever that is possible; it also fetches them."""
    module = MODELS[name].module(PrivacyConfig(clip=CLIP, lot=1.0, sigma=0.0))
    passes = tuple(Privatize(rule) if isinstance(p, Privatize) else p for p in pipeline(module))
    module = run_passes(module, passes)
    step = module.function("step")
    norms = tuple(Output(f"n_{op.param}", op.result) for op in step.ops if isinstance(op, NormSq))
    assert len(norms) == len(MODELS[name].parameters)
    return replace(module, functions=(replace(step, outputs=(*step.outputs, *norms)),))


def rules_of(name: str, rule: str = "") -> dict[str, NormSq]:
    ops = compiled(name, rule).function("step").ops
    return {str(op.param): op for op in ops if isinstance(op, NormSq)}


def check(name: str, rows: int, out: Mapping[str, np.ndarray], state: Arrays, feeds: Arrays) -> None:
    """Norms are never below the exact ones, and close; clipped sums are those of the exact gradients."""
    gradients = example_gradients(name, state, feeds, rows)
    for parameter, g in gradients.items():
        exact = np.sqrt(np.square(g.reshape(rows, -1)).sum(axis=1))
        found = np.sqrt(np.asarray(out[f"n_{parameter}"], np.float64)[:rows])
        scale = np.sqrt(sum(np.square(other.reshape(rows, -1)).sum(axis=1) for other in gradients.values()))
        # What single-precision activations are off counts relative to the whole gradient.
        assert np.all(found * (1 + 2.0**-11) >= exact - 1e-6 * scale), parameter
        assert np.all(np.abs(found - exact) <= 1e-5 * scale), parameter
    expected, total = clipped_sums(gradients, CLIP)
    error = np.sqrt(sum(np.square(out[f"g_{p}"] - expected[p]).sum() for p in state))
    assert error <= 1e-5 * total


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", MODELS)
def test_norms_by_every_rule(name: str, rule: str) -> None:
    if rule and {op.rule for op in rules_of(name, rule).values()} == {op.rule for op in rules_of(name).values()}:
        return  # the same as without a wish
    rows = 5
    state, feeds, padded = draw(MODELS[name], rows, rows + 2, seed=11)
    out = Reference(compiled(name, rule)).run("step", padded | NOISE, dict(state))
    check(name, rows, out, state, feeds)


# The compiled targets ---------------------------------------------------------------------------------------


# Every form on the compiled targets: models whose parameters allow it.
FORMS = [
    ("embedding", ""), ("language", ""), ("arithmetic", ""), ("lenet", ""), ("encoder", "direct"),
    ("grouped_convolution", "gram"), ("frames", "direct"), ("left", "gram"), ("signed", "gram"), ("signed", "direct"),
]  # fmt: skip


@cache
def engine(target: str) -> Compiled:
    return Compiled([without_state(compiled(*form), "-".join(form)) for form in FORMS], target)


# No rows at all: on the cpu target alone. Private steps have batches of one size; ONNX Runtime 1.19 refuses some
# products of none.
@pytest.mark.parametrize(("target", "rows"), [("cpu", 0), *((t, n) for t in TARGETS for n in (1, 2, 33))])
@pytest.mark.parametrize("form", FORMS, ids="-".join)
def test_norms_on_compiled_targets(form: tuple[str, str], target: str, rows: int) -> None:
    name = form[0]
    state, feeds, padded = draw(MODELS[name], rows, rows + 1 if rows else 0, seed=rows)
    out = engine(target).run("-".join(form), padded | NOISE | state)
    if rows:
        check(name, rows, out, state, feeds)
    else:
        assert not any(value.any() for value in out.values())


# Adversaries ------------------------------------------------------------------------------------------------


def cancelling(residue: float, seed: int) -> Arrays:
    """Examples whose outer products take each other back up to ``residue``: over time, over reads, over equal ids."""
    rng = np.random.default_rng(seed)
    feeds = {name: sample(rng, 3) for name, (_, sample) in MODELS["signed"].feeds.items()}
    keep = np.float32(1 + residue)
    feeds["x"][0, 3:], feeds["dx"][0, 3:] = feeds["x"][0, :3] * keep, -feeds["dx"][0, :3]
    feeds["y"][0, 3:], feeds["dy"][0, 3:] = feeds["y"][0, :3] * keep, -feeds["dy"][0, :3]
    feeds["y"][1], feeds["dy"][1] = feeds["x"][1] * keep, -feeds["dx"][1]
    feeds["words"][:, 3:] = feeds["words"][:, :3]
    feeds["dw"][:, 3:] = -feeds["dw"][:, :3] * keep
    return feeds


def huge() -> Arrays:
    """x = 1e18 with cotangents of 1e-20: their squares leave single precision at both ends."""
    rng = np.random.default_rng(5)
    feeds = {name: sample(rng, 3) for name, (_, sample) in MODELS["signed"].feeds.items()}
    scales = {"x": 1e18, "y": 1e18, "dx": 1e-20, "dy": 1e-20, "dw": 1e-20}
    return {name: value * np.float32(scales[name]) if name in scales else value for name, value in feeds.items()}


ADVERSARIES = {f"residue 1e-{k}": cancelling(10.0**-k, k) for k in range(1, 7)}
ADVERSARIES |= {"nothing is left": cancelling(0.0, 0), "huge times tiny": huge()}


@pytest.mark.parametrize(
    ("target", "rule"),
    [(target, rule) for target in TARGETS for rule in ("gram", "direct")]
    + [("reference", rule) for rule in ("gram", "direct", "materialised")],
)
@pytest.mark.parametrize("what", ADVERSARIES)
def test_no_adversary_gets_more_than_the_clip(what: str, rule: str, target: str) -> None:
    feeds, one = ADVERSARIES[what], np.ones(1, np.bool_)
    state = {name: np.zeros(shape, np.float32) for name, shape in MODELS["signed"].parameters.items()}
    exact = example_gradients("signed", state, feeds, 3)
    for i in range(3):
        known = {name: value[i : i + 1] for name, value in feeds.items()} | {"mask": one} | NOISE
        if target == "reference":
            out = Reference(compiled("signed", rule)).run("step", known, dict(state))
        else:
            out = engine(target).run(f"signed-{rule}", known | state)
        for name, op in rules_of("signed", rule).items():
            if op.rule != "materialised":  # those are the norms of what is added up, whatever its rounding was
                found = np.sqrt(float(out[f"n_{name}"][0]))
                assert found * (1 + 2.0**-11) >= np.linalg.norm(exact[name][i]), (name, op.rule)
        moved = np.concatenate([np.asarray(out[f"g_{name}"], np.float64).ravel() for name in state])
        assert np.linalg.norm(moved) <= CLIP * (1 + 2.0**-11)


def test_the_adversary_beats_a_gram_matrix_in_single_precision() -> None:
    """The cases above would catch it: there, the float32 Gram form is far below the norm, or below zero."""
    feeds = ADVERSARIES["residue 1e-5"]
    x, d = feeds["x"][0], feeds["dx"][0]
    exact = np.linalg.norm(x.T.astype(np.float64) @ d)
    squares = float(np.sum((x @ x.T) * (d @ d.T), dtype=np.float32))
    assert squares < (0.9 * exact) ** 2 or squares > (1.1 * exact) ** 2


def test_what_is_cheapest_is_taken() -> None:
    """The choice follows the predicted costs, and the dump tells the others."""
    rules = {name: op.rule for name, op in rules_of("lenet").items()}
    assert rules == {
        "c1": "materialised", "a1": "materialised", "c2": "materialised", "a2": "materialised",
        "w1": "outer", "b1": "sum", "w2": "outer", "b2": "sum",
    }  # fmt: skip
    op = rules_of("encoder")["q"]
    assert op.rule == "materialised"
    assert [each.split()[0] for each in op.others] == ["direct", "gram"]
    assert {op.rule for name in MODELS for op in rules_of(name).values()} >= {"gram", "outer", "sum", "materialised"}


def test_wide_layers_get_no_buffer_of_gradients() -> None:
    """A megabyte of gradient per example is not stored where a norm rule does without."""
    wide = Factors(Value(tensor("f32[N,8,1024]")), Value(tensor("f32[N,8,1024]")), 1024)
    costs = factor_costs([wide])
    assert min(costs.values(), key=order).rule == "gram"
    assert costs["materialised"].stored == 4 << 20
    long = Factors(Value(tensor("f32[N,4096,512]")), Value(tensor("f32[N,4096,1024]")), 512)
    assert min(factor_costs([long]).values(), key=order).rule == "direct"
    words = Factors(Value(tensor("i64[N,64]")), Value(tensor("f32[N,64,128]")), 50_000)
    tied = Factors(Value(tensor("f32[N,64,50000]")), Value(tensor("f32[N,64,128]")), 50_000)
    assert set(factor_costs([words])) == set(factor_costs([words, tied])) == {"gram"}


def test_rounding_of_long_rows() -> None:
    """1e7 equal elements: summed in single precision the norm would come out 1 % too small."""
    rows = np.full((1, 10_000_000), 0.1, np.float32)
    g = Value(tensor("f32[1,10000000]"))
    (found,) = RowNormSq(g).evaluate(rows)
    np.testing.assert_allclose(found, rows.size * float(rows[0, 0]) ** 2, rtol=1e-9)
