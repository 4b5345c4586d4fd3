"""Integer noise: exact roundings, by either way, of normals that follow their law."""

from __future__ import annotations

import hashlib
import os
import struct
from itertools import count as counting
from math import cos, log, log1p, pi, sin, sqrt

import numpy as np
import pytest
from scipy import stats

from fluidc.runtime import keystream, rounded_gaussian
from fluidc.runtime.keystream import Domain
from fluidc.runtime.rounded_gaussian import LEVEL_BLOCKS, MAX_SCALE
from fluidc.runtime.rounded_gaussian import rounded_gaussian as draw_integers

KEY = hashlib.sha256(b"rounded").digest()
GRID = 1.1 * 2**20


def drawn(scale: float = GRID, count: int = 1000, key: bytes = KEY, **more: object) -> np.ndarray:
    return draw_integers(key, **{"tensor": 3, "draw": 7, "scale": scale, "count": count, **more})  # type: ignore[arg-type]


def test_the_layout_is_the_documented_one() -> None:
    ciphers = pytest.importorskip("cryptography.hazmat.primitives.ciphers")
    nonce = struct.pack("<III", 1 << 24 | 3, 7, 0)
    cipher = ciphers.Cipher(ciphers.algorithms.ChaCha20(KEY, struct.pack("<I", 0) + nonce), mode=None)
    words = struct.unpack("<4000I", cipher.encryptor().update(bytes(16000)))
    expect: list[int] = []
    for p in range(1000):
        u = (words[4 * p] << 32 | words[4 * p + 1]) + 0.5
        a = (words[4 * p + 2] << 32 | words[4 * p + 3]) / 2.0**64
        radius = sqrt(-2 * (log(u / 2.0**64) if u < 2**63 else log1p(-(2.0**64 - u) / 2.0**64)))
        expect += [round(GRID * radius * turn(2 * pi * (a - 0.125))) for turn in (cos, sin)]
    got = drawn(count=2000)
    assert got.dtype == np.int64
    # This float arithmetic is coarser than the real one: next to a half-integer it may round to the other side.
    assert np.abs(got - expect).max() <= 1
    assert np.count_nonzero(got != expect) <= 2


def test_the_integers_do_not_change() -> None:
    assert drawn(count=8).tolist() == [1527443, -229356, -1246688, 460430, -42274, 871360, 1248187, 1213620]


@pytest.mark.parametrize("scale", [0.0, 1e-3, 0.7, 3.0, 50.0, GRID, MAX_SCALE])
def test_multiprecision_gives_the_same_integers(scale: float) -> None:
    np.testing.assert_array_equal(drawn(scale, 501), drawn(scale, 501, exact=True))


@pytest.mark.parametrize("count", [0, 1, 2, 7, 8, 9, 32768, 40001])
def test_a_prefix_is_a_prefix(count: int) -> None:
    got = drawn(count=count)
    assert got.shape == (count,)
    np.testing.assert_array_equal(got, drawn(count=40002)[:count])


def test_streams_are_apart() -> None:
    streams = [
        drawn(),
        drawn(tensor=4),
        drawn(draw=8),
        drawn(rank=1),
        drawn(domain=Domain.QUANTILE),
        drawn(key=bytes(32)),
    ]
    for i, one in enumerate(streams):
        for other in streams[:i]:
            assert np.count_nonzero(one == other) < 5


def test_the_installed_keystream_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with_it = drawn()
    monkeypatch.setattr(keystream, "_installed_keystream", lambda: None)
    np.testing.assert_array_equal(with_it, drawn())


def test_edges_of_the_uniforms_are_decided_as_multiprecision_does() -> None:
    """Radii near zero and in the far tail, angles next to the axes: where float64 is weakest."""
    ends = [0, 1, 2, 3, 5, 17, 2**12, 2**30, 2**62, 2**63 - 1]
    edges = np.array([*ends, *(2**64 - 1 - e for e in ends)], np.uint64)
    turns = np.array([q * 2**62 + e for q in range(4) for e in (0, 1, 2**31, 2**61 - 1, 2**61, 2**62 - 1)], np.uint64)
    u, a = (x.reshape(-1) for x in np.meshgrid(edges, turns))
    sure = 0
    for scale in (0.7, 50.0, GRID, MAX_SCALE):
        values, unsure = rounded_gaussian._rounded(u, a, scale)
        for i in np.flatnonzero(~unsure).tolist():
            bits = int(u[i // 2]), int(a[i // 2])
            # Whatever the unread bits are: all zeros, all ones.
            for rest in (0, 2**64 - 1):
                levels = iter([bits, (rest, rest), *[(rest, rest)] * 3])
                assert rounded_gaussian._decided(scale, i % 2, levels) == values[i], (scale, bits)
                sure += 1
    assert sure > 2000


def test_more_bits_do_not_change_what_is_decided() -> None:
    rng = np.random.default_rng(0)
    decided = 0
    for _ in range(400):
        u, a = (int(x) for x in rng.integers(0, 2**64, 2, np.uint64))
        found = rounded_gaussian._enclosed(30.0, 0, u >> 50, a >> 50, 14)
        exact = rounded_gaussian._enclosed(30.0, 0, u, a, 64)
        assert exact is not None
        assert found in (None, exact)
        decided += found is not None
    assert 0 < decided < 400  # 14 bits suffice for most, and not for all


def test_bits_are_read_until_there_are_enough() -> None:
    read = counting()
    levels = ((0 if next(read) < 2 else 5, 7) for _ in range(5))
    # 64 bits reach 9.5 deviations, along this angle 6.7.
    assert abs(rounded_gaussian._decided(1000.0, 0, levels)) > 1000 * 11
    assert next(read) == 4  # the third level ends the zeros, the fourth tells 11465 from 11466
    with pytest.raises(ArithmeticError, match="undecided"):
        rounded_gaussian._decided(1.0, 0, iter([(0, 0)] * 3))


def test_further_bits_come_from_their_own_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    original = rounded_gaussian.fast_words

    def watched(key: bytes, *, first_block: int, **more: int) -> np.ndarray:
        asked.append(first_block)
        return original(key, first_block=first_block, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(rounded_gaussian, "fast_words", watched)
    monkeypatch.setattr(rounded_gaussian, "_enclosed", lambda scale, which, u, a, bits: bits if bits > 64 else None)
    assert drawn(count=11, exact=True).tolist() == [128] * 11
    assert set(asked) == {0, 1, LEVEL_BLOCKS, LEVEL_BLOCKS + 1}


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"scale": -1.0}, "scale"),
        ({"scale": 2.0**41}, "scale"),
        ({"scale": float("nan")}, "scale"),
        ({"count": -1}, "count"),
        ({"count": 2**31 + 1}, "count"),
        ({"tensor": 1 << 24}, "tensor"),
        ({"draw": 1 << 48}, "draw"),
    ],
)
def test_fields_out_of_range(wrong: dict[str, float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        drawn(**wrong)  # type: ignore[arg-type]


def law(scale: float, key: bytes, count: int) -> float:
    """p of a chi-squared test of the integers against differences of the normal distribution function."""
    values = drawn(scale, count, key)
    edge = int(6 * scale) + 1
    points = np.arange(-edge, edge + 1)
    probability = np.diff(stats.norm.cdf(np.concatenate([[-np.inf], points + 0.5, [np.inf]]) / scale))
    observed = np.bincount(np.clip(np.searchsorted(points, values), 0, len(points)), minlength=len(points) + 1)
    keep = probability * count >= 10
    expected = np.append(probability[keep], probability[~keep].sum()) * count
    found = np.append(observed[keep], observed[~keep].sum())
    return float(stats.chisquare(found, expected).pvalue)


@pytest.mark.parametrize("scale", [0.7, 3.0, 50.0])
def test_the_law(scale: float) -> None:
    assert law(scale, KEY, 10**6) > 1e-9


@pytest.mark.nightly
@pytest.mark.parametrize("scale", [0.7, 3.0, 50.0])
def test_the_law_under_a_fresh_key(scale: float) -> None:
    key = os.urandom(32)
    assert law(scale, key, 10**6) > 1e-9, key.hex()


def test_the_law_is_told_from_one_a_hundredth_wider() -> None:
    values = drawn(50.0 * 1.01, 10**6)
    assert stats.chi2.sf(np.sum(values.astype(float) ** 2) / (50.0**2 + 1 / 12), 10**6) < 1e-9
