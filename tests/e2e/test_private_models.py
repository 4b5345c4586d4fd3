"""Whole models under Dpsgd, as fluid scripts, against gradients of single examples taken one by one in float64."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from private_programs import PROGRAMS

import fluidc.frontend as fluid
from fluidc.compiler.codegen.reference import Reference
from fluidc.compiler.ir.core import Module, walk
from fluidc.compiler.passes.manager import run_passes
from fluidc.compiler.pipeline import pipeline
from fluidc.frontend.lower import lower

Arrays = dict[str, np.ndarray]
TARGETS = ("reference", "cpu", "onnx")
ROWS = 33


@dataclass(frozen=True)
class Built:
    """A model's programs, and the names of what is trained."""

    main: fluid.Program
    startup: fluid.Program
    loss: str
    parameters: tuple[str, ...]

    def gradients(self) -> list[str]:
        return [f"{name}@GRAD" for name in self.parameters]


@cache
def built(name: str, clip: float | None, lot: float = 1.0) -> Built:
    """The model with plain gradients, or under Dpsgd without noise: then ``p@GRAD`` is the clipped sum over the lot."""
    main, startup = fluid.Program(), fluid.Program()
    startup.random_seed = 5
    with fluid.unique_name.guard(), fluid.program_guard(main, startup), warnings.catch_warnings():
        warnings.simplefilter("ignore", fluid.PrivacyWarning)
        loss = PROGRAMS[name].build()
        if clip is None:
            pairs = fluid.backward.append_backward(loss)
        else:
            optimizer = fluid.optimizer.Dpsgd(0.0, clip=clip, batch_size=lot, sigma=0.0)
            _, pairs = optimizer.minimize(loss)
    return Built(main, startup, loss.name, tuple(sorted(p.name for p, _ in pairs)))


@cache
def plain(name: str) -> tuple[Reference, Arrays]:
    """The loss and its gradients in float64, and parameters to take them at."""
    model = built(name, None)
    source = lower(model.main, startup=model.startup, fetches=(model.loss, *model.gradients()))
    rng = np.random.default_rng(1)
    shapes = {p: tuple(model.main.global_block().var(p).shape) for p in model.parameters}
    state = {p: rng.normal(scale=0.5, size=shape).astype(np.float32) for p, shape in shapes.items()}
    target = run_passes(source.module, pipeline(source.module))
    only_steps = replace(target, functions=(target.function("step"),))  # initial values are drawn in float32
    return Reference(only_steps, promote=True), state


def evaluated(name: str, state: Arrays, feeds: Arrays) -> Arrays:
    wide = {k: v.astype(np.float64) if v.dtype.kind == "f" else v for k, v in feeds.items()}
    found = plain(name)[0].run("step", wide, {k: v.astype(np.float64) for k, v in state.items()})
    return {k: np.asarray(v) for k, v in found.items()}


@cache
def examples(name: str) -> tuple[Arrays, list[Arrays]]:
    """Rows of data, and each row's gradient: a batch of its own."""
    feeds = PROGRAMS[name].rows(np.random.default_rng(7), ROWS)
    state, model = plain(name)[1], built(name, None)
    rows = [evaluated(name, state, {k: v[i : i + 1] for k, v in feeds.items()}) for i in range(ROWS)]
    return feeds, [{p: row[f"{p}@GRAD"] for p in model.parameters} for row in rows]


def norm(gradient: Arrays) -> float:
    return float(np.sqrt(sum(np.square(g).sum() for g in gradient.values())))


@cache
def clip_of(name: str) -> float:
    """Clips about half of the examples."""
    return float(np.median([norm(g) for g in examples(name)[1]]))


def expected(name: str, rows: list[int]) -> tuple[Arrays, float]:
    """Clipped sums of some rows, and the sum of their clipped norms."""
    gradients, clip = examples(name)[1], clip_of(name)
    factors = {i: min(1.0, clip / norm(gradients[i])) for i in rows}
    sums = {p: sum((factors[i] * gradients[i][p] for i in rows), np.zeros(v.shape)) for p, v in gradients[0].items()}
    return sums, sum(factors[i] * norm(gradients[i]) for i in rows)


@cache
def executor(name: str, target: str, lot: float) -> tuple[fluid.Executor, fluid.Scope, Built]:
    model, scope = built(name, clip_of(name), lot), fluid.Scope()
    exe = fluid.Executor(fluid.CPUPlace(), target=target)
    with fluid.scope_guard(scope):
        exe.run(model.startup)
        for parameter, value in plain(name)[1].items():
            scope.var(parameter).get_tensor().set(value, fluid.CPUPlace())
    return exe, scope, model


def clipped_sum(name: str, target: str, rows: list[int], lot: float = 1.0) -> Arrays:
    exe, scope, model = executor(name, target, lot)
    feeds = {k: v[rows] for k, v in examples(name)[0].items()}
    with fluid.scope_guard(scope), warnings.catch_warnings():
        warnings.simplefilter("ignore", fluid.PrivacyWarning)
        found = exe.run(model.main, feed=feeds, fetch_list=model.gradients())
    return {p: np.asarray(g, np.float64) * lot for p, g in zip(model.parameters, found, strict=True)}


def distance(a: Arrays, b: Arrays) -> float:
    return norm({p: a[p] - b[p] for p in b})


@pytest.mark.parametrize("name", PROGRAMS)
def test_gradients_of_the_oracle_are_the_slopes_of_the_loss(name: str) -> None:
    """Central differences along random directions: the oracle below does not rest on our own vjps."""
    rng = np.random.default_rng(11)
    feeds = {k: v[:4] for k, v in examples(name)[0].items()}
    state, model = plain(name)[1], built(name, None)
    gradient, step = evaluated(name, state, feeds), 1e-5

    def loss(way: Arrays, distance: float) -> float:
        moved = {p: v.astype(np.float64) + distance * way[p] for p, v in state.items()}
        return float(evaluated(name, moved, feeds)[model.loss].reshape(()))

    for _ in range(3):
        way = {p: rng.normal(size=v.shape) for p, v in state.items()}
        slope = (loss(way, step) - loss(way, -step)) / (2 * step)
        found = sum(float((gradient[f"{p}@GRAD"] * way[p]).sum()) for p in model.parameters)
        assert abs(slope - found) <= 1e-6 * max(1.0, abs(slope))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("rows", [0, 1, 2, ROWS])
@pytest.mark.parametrize("name", PROGRAMS)
def test_clipped_sums(name: str, rows: int, target: str) -> None:
    """A physical batch has 16 rows: lots of 1 and 2 are padded, one of 33 is three micro-batches, none is empty."""
    chosen = list(range(rows))
    sums, scale = expected(name, chosen)
    found = clipped_sum(name, target, chosen)
    if not rows:
        assert not any(value.any() for value in found.values())
    assert distance(found, sums) <= 1e-5 * scale


@pytest.mark.parametrize(
    ("name", "target"),
    [("scanned_lstm", "cpu"), ("scanned_lstm", "reference"), ("unrolled_lstm", "reference"), ("encoder", "reference")],
)
def test_order_and_physical_batch_do_not_matter(name: str, target: str) -> None:
    order = [int(i) for i in np.random.default_rng(3).permutation(ROWS)]
    sums, scale = expected(name, order)
    whole = clipped_sum(name, target, order, lot=33.0)  # one physical batch of 48
    parts = clipped_sum(name, target, order)
    for found in (whole, parts):
        assert distance(found, sums) <= 1e-5 * scale


def module(name: str) -> Module:
    model = built(name, 1.0)
    source = lower(model.main, startup=model.startup, fetches=tuple(model.gradients()))
    return run_passes(source.module, pipeline(source.module, batch=16))


@pytest.mark.parametrize("name", PROGRAMS)
def test_nothing_is_mapped_over_examples(name: str) -> None:
    """Every parameter has a norm rule or vectorised per-example gradients."""
    step = module(name).function("step")
    assert [op.name for op in walk(step.ops) if op.name == "control.map"] == []


def test_the_scanned_and_the_unrolled_net_are_one() -> None:
    """The same cell, read in a loop and six times: the same loss and gradients."""
    feeds = {k: v[:5] for k, v in examples("scanned_lstm")[0].items()}
    state = plain("scanned_lstm")[1]
    scanned, unrolled = (evaluated(name, state, feeds) for name in ("scanned_lstm", "unrolled_lstm"))
    for name, value in scanned.items():
        if "@GRAD" in name:
            np.testing.assert_allclose(unrolled[name], value, rtol=1e-9, atol=1e-12)


def dropped(target: str, lot: float) -> tuple[np.ndarray, list[np.ndarray]]:
    """States of an RNN with dropout in its step, and its clipped sums, for one lot of 33."""
    main, startup = fluid.Program(), fluid.Program()
    main.random_seed = startup.random_seed = 9
    layers: Any = fluid.layers
    with fluid.unique_name.guard(), fluid.program_guard(main, startup), warnings.catch_warnings():
        warnings.simplefilter("ignore", fluid.PrivacyWarning)
        x = layers.transpose(layers.data("x", [6, 5]), [1, 0, 2])
        rnn = layers.StaticRNN()
        with rnn.step():
            row = rnn.step_input(x)
            before = rnn.memory(shape=[-1, 8], batch_ref=row)
            after = layers.dropout(layers.fc([row, before], 8, act="tanh"), 0.5)
            rnn.update_memory(before, after)
            rnn.step_output(after)
        states = layers.transpose(rnn(), [1, 0, 2])
        loss = layers.mean(layers.reduce_sum(layers.square(layers.fc(layers.reduce_mean(states, dim=1), 2)), dim=1))
        _, pairs = fluid.optimizer.Dpsgd(0.0, clip=0.1, batch_size=lot, sigma=0.0).minimize(loss)
    feed = {"x": np.random.default_rng(2).normal(size=(ROWS, 6, 5)).astype(np.float32)}
    exe = fluid.Executor(fluid.CPUPlace(), target=target)
    with warnings.catch_warnings(), fluid.scope_guard(fluid.Scope()):
        warnings.simplefilter("ignore", fluid.PrivacyWarning)
        exe.run(startup)
        with fluid.privacy.insecure_noise_key(b"dropout"):
            found, *gradients = exe.run(main, feed=feed, fetch_list=[states, *(g for _, g in pairs)])
    return np.asarray(found), [np.asarray(g, np.float64) * lot for g in gradients]


def test_dropout_in_a_loop_draws_per_step_and_example() -> None:
    states, gradients = dropped("reference", 1.0)
    kept = (states != 0).reshape(ROWS * 6, 8)
    assert len(np.unique(kept, axis=0)) > 100, "each step of each example has a mask of its own"
    assert 0.4 < kept.mean() < 0.6
    # The same whatever the physical batch and the target.
    for target, lot in (("reference", 33.0), ("cpu", 1.0), ("onnx", 1.0)):
        other_states, other = dropped(target, lot)
        np.testing.assert_allclose(other_states, states, rtol=0, atol=1e-6)
        for a, b in zip(gradients, other, strict=True):
            np.testing.assert_allclose(b, a, rtol=0, atol=1e-5)
            assert np.abs(a).max() > 1e-2
