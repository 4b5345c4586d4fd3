"""Optimizer rules against three steps observed on paddlepaddle 1.8.5 (make_optimizer_golden.py)."""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
import pytest

from fluidc.compiler.errors import VerifyError
from fluidc.compiler.ir.core import Value
from fluidc.compiler.ir.types import DType, TensorType
from fluidc.compiler.ops import optim
from fluidc.compiler.ops.optim_base import Update

GOLDEN = json.loads((pathlib.Path(__file__).parent / "golden" / "optimizers.json").read_text())
LR = "learning_rate_0"

# Golden case -> the rule, its attributes, and the variable behind every operand that is not param or grad.
RULES: dict[str, tuple[type[Update], dict[str, Any], dict[str, str]]] = {
    "sgd": (optim.Sgd, {}, {"lr": LR}),
    "momentum": (optim.Momentum, {"mu": 0.9}, {"velocity": "w_velocity_0", "lr": LR}),
    "nesterov": (optim.Momentum, {"mu": 0.9, "nesterov": True}, {"velocity": "w_velocity_0", "lr": LR}),
    "lars_momentum": (optim.LarsMomentum, {"mu": 0.9}, {"velocity": "w_velocity_0", "lr": LR}),
    "adagrad": (optim.Adagrad, {}, {"moment": "w_moment_0", "lr": LR}),
    "decayed_adagrad": (optim.DecayedAdagrad, {}, {"moment": "w_moment_0", "lr": LR}),
    "adam": (
        optim.Adam,
        {},
        {
            "moment1": "w_moment1_0",
            "moment2": "w_moment2_0",
            "beta1_pow": "w_beta1_pow_acc_0",
            "beta2_pow": "w_beta2_pow_acc_0",
            "lr": LR,
        },
    ),
    "adamax": (
        optim.Adamax,
        {},
        {"moment": "w_moment_0", "inf_norm": "w_inf_norm_0", "beta1_pow": "w_beta1_pow_acc_0", "lr": LR},
    ),
    "lamb": (optim.Lamb, {}, {"moment1": "w_moment1_0", "moment2": "w_moment2_0", "lr": LR}),
    "adadelta": (
        optim.Adadelta,
        {},
        {"squares": "w__avg_squared_grad_0", "updates": "w__avg_squared_update_0"},
    ),
    "rmsprop": (
        optim.RmsProp,
        {"momentum": 0.5},
        {"mean_square": "w_mean_square_0", "moment": "w_momentum_0", "lr": LR},
    ),
    "centered_rmsprop": (
        optim.CenteredRmsProp,
        {"momentum": 0.5},
        {"mean_square": "w_mean_square_0", "mean_grad": "w_mean_grad_0", "moment": "w_momentum_0", "lr": LR},
    ),
    "ftrl": (optim.Ftrl, {"l1": 0.2, "l2": 0.2}, {"squared": "w_squared_0", "linear": "w_linear_0", "lr": LR}),
    "ftrl_power": (
        optim.Ftrl,
        {"l1": 0.2, "l2": 0.2, "lr_power": -0.3},
        {"squared": "w_squared_0", "linear": "w_linear_0", "lr": LR},
    ),
}
BETAS = {"w_beta1_pow_acc_0": 0.9, "w_beta2_pow_acc_0": 0.999}


def build(rule: type[Update], attributes: dict[str, Any], operands: dict[str, np.ndarray]) -> Update:
    values = {n: Value(TensorType(DType.of(x.dtype), x.shape)) for n, x in operands.items()}
    return rule(**values, **attributes)


@pytest.mark.parametrize("case", RULES)
def test_three_steps_equal_paddle(case: str) -> None:
    rule, attributes, names = RULES[case]
    steps = GOLDEN[case]
    state = {n: np.zeros(np.shape(x), np.float32) for n, x in steps[0].items()}
    state |= {n: np.full(1, beta, np.float32) for n, beta in BETAS.items() if n in state}
    state[LR] = np.full(1, 0.1, np.float32)
    state["w"] = (np.arange(12) / 7 - 0.8).astype(np.float32)
    grads = np.random.RandomState(0).randn(3, 12).astype(np.float32)
    for grad, expected in zip(grads, steps, strict=True):
        operands = {"param": state["w"], "grad": grad} | {o: state[n] for o, n in names.items()}
        op = build(rule, attributes, operands)
        results = op.evaluate(*operands.values())
        results = results if isinstance(results, tuple) else (results,)
        for operand, value, result in zip((*op.updated, *op.powers), results, op.results, strict=True):
            assert value.dtype == np.float32
            assert value.shape == result.tensor.shape
            state["w" if operand == "param" else names[operand]] = value
        for name in ("w", *names.values()):
            np.testing.assert_allclose(state[name], expected[name], rtol=2e-6, atol=2e-7, err_msg=name)


def test_every_rule_is_covered_and_pure() -> None:
    assert {rule for rule, _, _ in RULES.values()} == set(optim.OPS)
    for rule in optim.OPS:
        fields = [f.name for f in dataclasses.fields(rule)]
        assert issubclass(rule, Update)
        assert set(rule.updated) | set(rule.powers) <= set(fields)


def test_a_zero_norm_falls_back_to_the_plain_rate() -> None:
    zero, grad, lr = np.zeros(3, np.float32), np.ones(3, np.float32), np.full((), 0.5, np.float32)
    operands = {"param": zero, "grad": grad, "velocity": zero, "lr": lr}
    op = build(optim.LarsMomentum, {"mu": 0.0, "decay": 0.0}, operands)
    param, velocity = op.evaluate(zero, grad, zero, lr)
    np.testing.assert_array_equal(param, -0.5 * grad)
    np.testing.assert_array_equal(velocity, 0.5 * grad)


def test_operands_must_fit() -> None:
    w, lr = np.zeros((2, 3), np.float32), np.zeros(1, np.float32)
    with pytest.raises(VerifyError, match=r"optim.sgd: grad has the parameter's type f32\[2,3\], not f32\[6\]"):
        build(optim.Sgd, {}, {"param": w, "grad": w.ravel(), "lr": lr})
    with pytest.raises(VerifyError, match="lr is one number"):
        build(optim.Sgd, {}, {"param": w, "grad": w, "lr": np.zeros(2, np.float32)})
