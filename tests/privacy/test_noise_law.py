"""The law of the noise, measured on the update that the runtime leaves in the parameters, per tensor and target.

Each update is taken through ``apply`` (an empty lot) and through ``step`` (a lot whose one row is not finite, and so
counts as zero), where the noise may be made inside the kernel that adds it.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pytest
from private_runs import FIXED_AND_FRESH, Program_, compiled, dpsgd, emitted, keys_of, trained
from scipy import stats

import fluidc.frontend as fluid
from fluidc.runtime import keystream

L: Any = fluid.layers
CLIP, LOT, SIGMA, RATE = 0.7, 16.0, 1.3, 0.5
GAIN = RATE * CLIP * SIGMA / LOT
Array = np.ndarray[Any, Any]

TAILS = {5.0: 2 * stats.norm.sf(5.0), 5.5: 2 * stats.norm.sf(5.5), 6.0: 2 * stats.norm.sf(6.0)}


def wide() -> Any:
    """A layer of a million weights, a bias, and a table of a million numbers."""
    x, word = L.data("x", [500]), L.data("word", [1], dtype="int64")
    row = L.embedding(word, [4000, 250])
    return L.mean(L.concat([L.fc(x, 2000), L.reshape(row, [-1, 250])], axis=1))


def narrow() -> Any:
    """A layer of a thousand weights and a bias of fifty."""
    return L.mean(L.fc(L.data("x", [20]), 50))


@cache
def program(name: str, target: str) -> Program_:
    build = {"wide": wide, "narrow": narrow}[name]
    return compiled(build, target, 4, dpsgd(CLIP, LOT, SIGMA, RATE))


def dead(name: str, count: int) -> dict[str, Array]:
    """Feeds of ``count`` rows that are not finite."""
    x = np.full((count, 500 if name == "wide" else 20), np.nan, np.float32)
    return {"x": x} | ({"word": np.zeros((count, 1), np.int64)} if name == "wide" else {})


def noise(name: str, target: str, function: str, keys: list[bytes]) -> dict[str, Array]:
    """What the updates added to each parameter, in units of the stated noise: [draws, size] per tensor."""
    session, recorded = program(name, target).session(seed=0)
    spec = session.model.manifest.privacy
    assert spec is not None
    found: dict[str, list[Array]] = {parameter: [] for parameter in spec.parameters}
    for draw, key in enumerate(keys):
        for parameter in spec.parameters:
            session.model.state[parameter][...] = 0  # so that the difference is rounded once
        before = trained(session)
        session.model.stepper.run_lot(dead(name, int(function == "step")), key=key, draw=draw)
        for parameter, value in emitted(session, before, GAIN).items():
            found[parameter].append(value.ravel())
    assert recorded.calls == [*recorded.calls[:1], *[function] * len(keys)]
    return {parameter: np.stack(values) for parameter, values in found.items()}


def check_variance(values: Array, what: str) -> None:
    """χ² of the sum of squares, and the mean; two-sided, at 1e-9."""
    flat = values.ravel()
    n = flat.size
    total = float(np.sum(np.square(flat)))
    p = 2 * min(stats.chi2.cdf(total, n), stats.chi2.sf(total, n))
    assert p > 1e-9, f"{what}: variance {total / n:.5f} of {n}, p = {p:.2g}"
    p = 2 * stats.norm.sf(abs(float(flat.mean())) * math.sqrt(n))
    assert p > 1e-9, f"{what}: mean {flat.mean():.3g} of {n}, p = {p:.2g}"


def check_independence(values: dict[str, Array]) -> None:
    """|ρ| < 6.5/√n between all pairs of tensors and draws, in place and shifted by one, and within a draw."""
    streams = {(name, draw): row for name, rows in values.items() for draw, row in enumerate(rows)}
    names = list(streams)
    for i, one in enumerate(names):
        first = streams[one]
        for shift in (1, 16, 160):
            if first.size > 10 * shift:
                assert_uncorrelated(first[:-shift], first[shift:], f"{one}, {shift} on")
        for other in names[i + 1 :]:
            second = streams[other]
            n = min(first.size, second.size)
            assert_uncorrelated(first[:n], second[:n], f"{one} and {other}")
            if n > 320:
                assert_uncorrelated(first[: n - 160], second[160:n], f"{one} and {other}, 160 on")


def assert_uncorrelated(one: Array, other: Array, what: str) -> None:
    n = one.size
    if n < 50:
        return
    rho = float(np.dot(one, other)) / n
    # The variance of the product of two normals is 1; its tails are wider than normal, so small samples get more room.
    assert abs(rho) < 6.5 / math.sqrt(n) * (1 + 20 / math.sqrt(n)), f"{what}: ρ = {rho:.3g} of {n}"


@FIXED_AND_FRESH
@pytest.mark.parametrize("function", ["apply", "step"])
@pytest.mark.parametrize("target", ["reference", "cpu", "onnx"])
def test_wide_tensors(target: str, function: str, fresh: bool) -> None:
    """n = 1e6 of every large tensor and draw: variance, mean, and independence of tensors and of steps."""
    values = noise("wide", target, function, keys_of(fresh, 2 if target == "reference" else 3))
    assert sorted(value[0].size for value in values.values()) == [2000, 1_000_000, 1_000_000]
    for name, value in values.items():
        for row in value:
            check_variance(row, name)
    check_independence(values)


@FIXED_AND_FRESH
@pytest.mark.parametrize(
    ("target", "function"), [("cpu", "apply"), ("cpu", "step"), ("onnx", "step"), ("reference", "apply")]
)
def test_narrow_tensors_over_many_steps(target: str, function: str, fresh: bool) -> None:
    """Small tensors reach n = 1e6 over many draws; elements of one place are independent from step to step."""
    draws = 20_000 if fresh else {"cpu": 20_000, "onnx": 2_000, "reference": 400}[target]
    values = noise("narrow", target, function, keys_of(fresh, draws, b"narrow"))
    for name, value in values.items():
        check_variance(value, name)
        check_variance(value.sum(axis=1) / math.sqrt(value.shape[1]), f"{name}, over a tensor")
        n = value.size - value.shape[1]
        assert abs(float(np.sum(value[1:] * value[:-1]))) / n < 6.5 / math.sqrt(n), f"{name}: one step and the next"
    weights, bias = (values[name] for name in sorted(values, key=lambda name: -values[name].shape[1]))
    n = bias.size
    assert abs(float(np.sum(weights[:, : bias.shape[1]] * bias))) / n < 6.5 / math.sqrt(n), "weights and bias"


def test_untouched_rows_of_a_table_get_noise() -> None:
    """A lot that holds word 0 only moves every row of the table."""
    session, _ = program("wide", "cpu").session(seed=0)
    before = trained(session)
    lot = {"x": np.ones((3, 500), np.float32), "word": np.zeros((3, 1), np.int64)}
    session.model.stepper.run_lot(lot, key=bytes(range(32)), draw=0)
    table = next(value for name, value in emitted(session, before, GAIN).items() if value.shape == (4000, 250))
    check_variance(table[1:], "rows without an example")


def test_half_a_percent_more_noise_would_be_seen() -> None:
    """The power of the check of variances: 1 % off is refused at n = 1e6 (0.5 % in 83 of 100 runs)."""
    sound = np.random.default_rng(1).normal(size=1_000_000)
    check_variance(sound, "sound")
    for factor in (0.99, 1.01):
        with pytest.raises(AssertionError, match="variance"):
            check_variance(sound * factor, "off")


# -- the shape of the law ---------------------------------------------------------------------------------------------


def compiled_normals(count: int, fresh: bool, purpose: bytes) -> Any:
    """Arrays of two million numbers and more, from the compiled kernel, until there are ``count``."""
    session, _ = program("wide", "cpu").session(seed=0)
    keys, made = iter(keys_of(fresh, count // 2_000_000 + 1, purpose)), 0
    spec = session.model.manifest.privacy
    assert spec is not None
    for draw, key in enumerate(keys):
        for parameter in spec.parameters:
            session.model.state[parameter][...] = 0
        session.model.stepper.run_lot(dead("wide", 0), key=key, draw=draw)
        for parameter in spec.parameters:
            array = session.model.state[parameter]
            made += array.size
            yield array.ravel() * np.float32(-1 / GAIN)
        if made >= count:
            return


def tails(count: int, fresh: bool) -> tuple[int, dict[float, int]]:
    """How many numbers there were, and how many of them beyond each threshold."""
    beyond, n = dict.fromkeys(TAILS, 0), 0
    for values in compiled_normals(count, fresh, b"tails"):
        n += values.size
        far = np.abs(values[np.abs(values) > 4.9])
        for threshold in TAILS:
            beyond[threshold] += int((far > threshold).sum())
    return n, beyond


def check_tails(n: int, beyond: dict[float, int]) -> None:
    """Poisson bounds, two-sided at 1e-9 together."""
    for threshold, probability in TAILS.items():
        low, high = stats.poisson.ppf([1e-9 / 6, 1 - 1e-9 / 6], n * probability)
        assert low <= beyond[threshold] <= high, f"{beyond[threshold]} of {n} beyond {threshold}: not {low} … {high}"


def test_tails_of_ten_million() -> None:
    n, beyond = tails(10_000_000, fresh=False)
    assert n >= 10_000_000
    check_tails(n, beyond)
    assert beyond[5.0] > 0


@pytest.mark.nightly
def test_tails_of_a_milliard() -> None:
    """573, 38 and 2 are expected; a radius of 24 or 32 bits gives none beyond 5.5."""
    n, beyond = tails(1_000_000_000, fresh=True)
    check_tails(n, beyond)
    assert 433 <= beyond[5.0] * 1e9 / n <= 726
    assert 7 <= beyond[5.5] <= 81
    assert beyond[6.0] <= 15


@pytest.mark.nightly
@pytest.mark.parametrize("target", ["reference", "cpu", "onnx"])
def test_ten_million_follow_the_normal_law(target: str) -> None:
    """Kolmogorov and Smirnov; noise off by 1 % gives D = 0.0024, and 0.001 is the bound."""
    values: list[Array] = []
    keys = keys_of(True, 5)
    for tensor in noise("wide", target, "apply", keys).values():
        if tensor.shape[1] == 1_000_000:
            values.append(tensor.ravel())
    found = stats.kstest(np.concatenate(values), "norm")
    assert found.pvalue > 1e-9, found


@FIXED_AND_FRESH
@pytest.mark.parametrize("target", ["cpu", "onnx"])
def test_compiled_normals_are_those_of_the_words(target: str, fresh: bool) -> None:
    """Eight million of them against the float64 arbiter, the largest (over 5) and the smallest radii included."""
    session, recorded = program("wide", target).session(seed=0)
    spec = session.model.manifest.privacy
    assert spec is not None
    largest = 0.0
    for draw, key in enumerate(keys_of(fresh, 4, b"words")):
        for parameter in spec.parameters:
            session.model.state[parameter][...] = 0
        session.model.stepper.run_lot(dead("wide", 0), key=key, draw=draw)
        for tensor, parameter in enumerate(spec.parameters):
            found = session.model.state[parameter].ravel().astype(np.float64) / -GAIN
            exact = keystream.normals_from_words_f64(recorded.uses[-1].words(tensor, found.size), found.size)
            # The update is rounded three times more: by σC, by 1/L and by the rate.
            assert np.max(np.abs(found - exact) - 4e-7 * np.abs(exact)) < 1e-6
            largest = max(largest, float(np.abs(found).max()))
    assert largest > 5
