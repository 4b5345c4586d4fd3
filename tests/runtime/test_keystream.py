from __future__ import annotations

import hashlib
import hmac
import math
import struct

import numpy as np
import pytest
from scipy import stats

from fluidc.runtime import keystream
from fluidc.runtime.keystream import Domain

RFC_KEY = bytes(range(32))


def _cryptography_words(key: bytes, nonce: bytes, first: int, blocks: int) -> np.ndarray:
    ciphers = pytest.importorskip("cryptography.hazmat.primitives.ciphers")
    chacha = ciphers.algorithms.ChaCha20(key, struct.pack("<I", first) + nonce)
    stream = ciphers.Cipher(chacha, mode=None).encryptor().update(bytes(64 * blocks))
    return np.frombuffer(stream, dtype="<u4").reshape(blocks, 16)


def test_rfc_8439_block_vector() -> None:
    block = keystream.chacha20_blocks(RFC_KEY, bytes.fromhex("000000090000004a00000000"), 1, 1)
    assert block.astype("<u4").tobytes().hex() == (
        "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
        "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e"
    )


def test_rfc_8439_keystream_of_the_zero_key() -> None:
    block = keystream.chacha20_blocks(bytes(32), bytes(12), 0, 2)
    assert block[0].astype("<u4").tobytes().hex().startswith("76b8e0ada0f13d90405d6ae55386bd28")
    assert block[1].astype("<u4").tobytes().hex().startswith("9f07e7be5551387a98ba977c732d080d")


def test_nonce_vector() -> None:
    made = keystream.nonce(domain=Domain.GRADIENT, tensor=7, draw=2**40 + 5, rank=3)
    assert made.hex() == "070000010500000000010300"


@pytest.mark.parametrize("blocks", [0, 1, 5, 4096, 4097, 9000])
def test_words_equal_an_independent_chacha20(blocks: int) -> None:
    key = hashlib.sha256(b"words").digest()
    got = keystream.words(key, domain=Domain.MODEL, tensor=12, draw=2**47 + 9, rank=65535, count_blocks=blocks)
    stream = keystream.nonce(domain=Domain.MODEL, tensor=12, draw=2**47 + 9, rank=65535)
    assert got.shape == (blocks, 16)
    assert got.dtype == np.uint32
    np.testing.assert_array_equal(got, _cryptography_words(key, stream, 0, blocks))


@pytest.mark.parametrize("installed", [True, False])
@pytest.mark.parametrize(("first", "blocks"), [(0, 0), (0, 1), (7, 100), (5, 2050), (2**32 - 3, 3)])
def test_fast_words_are_the_words(monkeypatch: pytest.MonkeyPatch, installed: bool, first: int, blocks: int) -> None:
    if not installed:
        monkeypatch.setattr(keystream, "_installed_keystream", lambda: None)
    key = np.frombuffer(hashlib.sha256(b"fast").digest(), dtype="<u4").astype(np.uint32)
    made = [
        make(
            key,
            domain=Domain.SAMPLER,
            tensor=9,
            draw=2**33 + 1,
            rank=2,
            count_blocks=blocks,
            first_block=first,
        )
        for make in (keystream.fast_words, keystream.words)
    ]
    assert made[0].dtype == made[1].dtype == np.uint32
    np.testing.assert_array_equal(made[0], made[1])


def test_fast_words_use_the_installed_keystream(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cryptography")
    monkeypatch.setattr(keystream, "chacha20_blocks", None)
    got = keystream.fast_words(RFC_KEY, domain=Domain.GRADIENT, tensor=0, draw=0, count_blocks=1)
    assert got.shape == (1, 16)
    with pytest.raises(ValueError, match="32-bit block counter"):
        keystream.fast_words(RFC_KEY, domain=Domain.GRADIENT, tensor=0, draw=0, first_block=2**32 - 1, count_blocks=2)


def test_counter_runs_to_its_last_value_and_no_further() -> None:
    last = keystream.words(RFC_KEY, domain=Domain.GRADIENT, tensor=0, draw=0, first_block=2**32 - 2, count_blocks=2)
    stream = keystream.nonce(domain=Domain.GRADIENT, tensor=0, draw=0)
    np.testing.assert_array_equal(last[1:], _cryptography_words(RFC_KEY, stream, 2**32 - 1, 1))
    with pytest.raises(ValueError, match="32-bit block counter"):
        keystream.words(RFC_KEY, domain=Domain.GRADIENT, tensor=0, draw=0, first_block=2**32 - 1, count_blocks=2)


def test_key_as_words_equals_key_as_bytes() -> None:
    as_words = np.frombuffer(RFC_KEY, dtype="<u4").astype(np.uint32)
    a = keystream.words(RFC_KEY, domain=Domain.GRADIENT, tensor=1, draw=2, count_blocks=3)
    b = keystream.words(as_words, domain=Domain.GRADIENT, tensor=1, draw=2, count_blocks=3)
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tensor": 2**24, "draw": 0}, "tensor"),
        ({"tensor": -1, "draw": 0}, "tensor"),
        ({"tensor": 0, "draw": 2**48}, "draw"),
        ({"tensor": 0, "draw": 0, "rank": 2**16}, "rank"),
    ],
)
def test_fields_out_of_range_are_refused(fields: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        keystream.words(RFC_KEY, domain=Domain.GRADIENT, count_blocks=1, **fields)


@pytest.mark.parametrize("key", [bytes(31), np.zeros(8, np.int32), np.zeros(9, np.uint32)])
def test_keys_of_another_size_are_refused(key: keystream.Key) -> None:
    with pytest.raises(ValueError, match="ChaCha20 key"):
        keystream.words(key, domain=Domain.GRADIENT, tensor=0, draw=0, count_blocks=1)


@pytest.mark.parametrize(("count", "blocks"), [(0, 0), (1, 16), (160, 16), (161, 32), (7840, 784)])
def test_blocks_for_whole_groups(count: int, blocks: int) -> None:
    assert keystream.blocks_for(count) == blocks


def _loop_normal(flat: np.ndarray, e: int) -> float:
    """Element e by the written rule, one scalar at a time, in double precision."""
    group, j, lane = e // 160, (e % 160) // 16, e % 16
    block, pair = 16 * group + lane, j // 2
    hi, lo, angle = (int(v) for v in flat[16 * block + 3 * pair : 16 * block + 3 * pair + 3])
    up = hi >= 2**31
    h, low = (hi ^ 0xFFFFFFFF, lo ^ 0xFFFFFFFF) if up else (hi, lo)
    t = h * 2.0**-32 + (low + 0.5) * 2.0**-64
    r = math.sqrt(2 * (-math.log1p(-t) if up else -math.log(t)))
    a = (2 * (angle & 0x3FFFFFFF) + 1 - 2**30) * (math.pi / 4) * 2.0**-30
    turn = a + (angle >> 30) * math.pi / 2
    return r * (math.sin(turn) if j % 2 else math.cos(turn))


def test_layout_and_transform_against_a_scalar_loop() -> None:
    flat = keystream.words(RFC_KEY, domain=Domain.GRADIENT, tensor=3, draw=4, count_blocks=48).reshape(-1)
    expected = np.array([_loop_normal(flat, e) for e in range(450)])
    np.testing.assert_allclose(keystream.normals_from_words_f64(flat, 450), expected, rtol=0, atol=1e-14)
    np.testing.assert_allclose(keystream.normals_from_words(flat, 450), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("hi", "lo", "radius"),
    [
        (0, 0, 9.492583),
        (0xFFFFFFFF, 0xFFFFFFFF, 2.3283064e-10),
        (2**31, 0, 1.1774100),
        (2**31 - 1, 0xFFFFFFFF, 1.1774100),
    ],
)
def test_radius_at_its_extremes(hi: int, lo: int, radius: float) -> None:
    block = np.zeros((16, 16), dtype=np.uint32)
    block[0, :3] = hi, lo, 0x1FFFFFFF  # the middle of quadrant 0: angle k = -1, cosine 1
    for normals in (keystream.normals_from_words(block, 17), keystream.normals_from_words_f64(block, 17)):
        assert normals[0] == pytest.approx(radius, rel=1e-6)
        assert normals[16] != 0
        assert math.hypot(normals[0], normals[16]) == pytest.approx(radius, rel=1e-6)


@pytest.mark.parametrize("quadrant", range(4))
def test_angle_turns_by_quadrants(quadrant: int) -> None:
    block = np.zeros((16, 16), dtype=np.uint32)
    block[0, :3] = 2**31, 0, (quadrant << 30) | 0x1FFFFFFF
    normals = keystream.normals_from_words(block, 17)
    expected = [(1, 0), (0, 1), (-1, 0), (0, -1)][quadrant]
    np.testing.assert_allclose([normals[0], normals[16]], np.array(expected) * 1.17741, atol=2e-6)


def test_float32_stays_within_1e_6_of_the_arbiter_and_is_never_zero() -> None:
    count = 1_000_000
    flat = keystream.words(RFC_KEY, domain=Domain.GRADIENT, tensor=0, draw=1, count_blocks=keystream.blocks_for(count))
    fast, exact = keystream.normals_from_words(flat, count), keystream.normals_from_words_f64(flat, count)
    assert fast.dtype == np.float32
    assert np.abs(fast - exact).max() <= 1e-6
    assert np.all(fast != 0)


def test_gaussian_is_the_normals_of_its_words_across_chunks() -> None:
    count = 3 * 163_840 + 77
    got = keystream.gaussian(RFC_KEY, domain=Domain.QUANTILE, tensor=5, draw=6, rank=1, count=count)
    flat = keystream.words(
        RFC_KEY,
        domain=Domain.QUANTILE,
        tensor=5,
        draw=6,
        rank=1,
        count_blocks=keystream.blocks_for(count),
    )
    np.testing.assert_array_equal(got, keystream.normals_from_words(flat, count))


def test_gaussian_follows_the_normal_law() -> None:
    z = keystream.gaussian(RFC_KEY, domain=Domain.GRADIENT, tensor=0, draw=0, count=1_000_000)
    assert stats.kstest(z, "norm").pvalue > 1e-9
    square_sum = float(np.sum(z.astype(np.float64) ** 2))
    tail = stats.chi2(z.size)
    assert 1e-9 < tail.cdf(square_sum) < 1 - 1e-9


def test_streams_share_no_block_and_do_not_correlate() -> None:
    other = bytes([1, *range(1, 32)])
    streams = [
        keystream.words(key, domain=domain, tensor=tensor, draw=draw, rank=rank, count_blocks=2000)
        for key, domain, tensor, draw, rank in [
            (RFC_KEY, Domain.GRADIENT, 0, 0, 0),
            (RFC_KEY, Domain.GRADIENT, 1, 0, 0),
            (RFC_KEY, Domain.GRADIENT, 0, 1, 0),
            (RFC_KEY, Domain.GRADIENT, 0, 2**32, 0),
            (RFC_KEY, Domain.GRADIENT, 0, 0, 1),
            (RFC_KEY, Domain.QUANTILE, 0, 0, 0),
            (other, Domain.GRADIENT, 0, 0, 0),
        ]
    ]
    blocks = [row.tobytes() for stream in streams for row in stream]
    assert len(set(blocks)) == len(blocks)
    normals = [keystream.normals_from_words(stream, 20_000) for stream in streams]
    correlation = np.corrcoef(normals) - np.eye(len(normals))
    assert np.abs(correlation).max() < 6.5 / math.sqrt(20_000)


def test_too_few_words_are_refused() -> None:
    with pytest.raises(ValueError, match="512 words"):
        keystream.normals_from_words(np.zeros((16, 16), np.uint32), 161)


def test_insecure_key_is_hkdf_of_secret_purpose_and_draw() -> None:
    secret = bytes.fromhex("0b" * 22)
    prk = hmac.new(bytes(32), secret, hashlib.sha256).digest()
    info = b"fluidc/test" + b"step" + (3).to_bytes(8, "little")
    expected = hmac.new(prk, info + b"\x01", hashlib.sha256).digest()
    assert keystream.insecure_key(secret, "step", 3) == expected
    made = {keystream.insecure_key(secret, p, d) for p in ("step", "sampler") for d in range(5)}
    assert len(made) == 10
    with pytest.raises(ValueError, match="empty"):
        keystream.insecure_key(b"", "step", 0)


def test_hkdf_of_the_library_agrees() -> None:
    hkdf = pytest.importorskip("cryptography.hazmat.primitives.kdf.hkdf")
    hashes = pytest.importorskip("cryptography.hazmat.primitives.hashes")
    derivation = hkdf.HKDF(hashes.SHA256(), 32, None, b"fluidc/seed" + b"shuffle")
    assert keystream.seeded_key(7, "shuffle") == derivation.derive((7).to_bytes(8, "little"))


def test_fresh_keys_differ() -> None:
    keys = {keystream.fresh_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(len(key) == 32 for key in keys)


def test_words_are_written_where_they_are_wanted_or_not_at_all() -> None:
    memory = np.zeros((4, 16), np.uint32)
    keystream.fill_words(memory[1:3], RFC_KEY, domain=Domain.MODEL, tensor=3, draw=4, first_block=9)
    wanted = keystream.words(RFC_KEY, domain=Domain.MODEL, tensor=3, draw=4, first_block=9, count_blocks=2)
    np.testing.assert_array_equal(memory[1:3], wanted)
    assert not memory[[0, 3]].any()
    for wrong in (np.zeros(17, np.uint32), np.zeros((2, 32), np.uint32)[:, :16]):
        with pytest.raises(ValueError, match="whole blocks of 16, contiguous"):
            keystream.fill_words(wrong, RFC_KEY, domain=Domain.MODEL, tensor=3, draw=4)
        assert not wrong.any()
