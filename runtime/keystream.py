"""Random words and Gaussian draws from a ChaCha20 keystream (RFC 8439).

Every target produces the words, and the order of the normals, that this file defines:

* nonce: ``w0 = domain << 24 | tensor``, ``w1 = draw mod 2^32``, ``w2 = rank << 16 | draw >> 32``; the block
  counter starts at 0;
* a block of 16 words holds five triples (hi, lo, angle); triple p makes normals 2p and 2p+1; word 15 is
  unused;
* 16 blocks form a group of 160 normals: element e lies in group ``e // 160`` and is normal
  ``(e % 160) // 16`` of block ``16 * group + e % 16``, so 16 SIMD lanes work on 16 neighbouring blocks.

The radius is made from 64 bits: tails reach 9.49 standard deviations; float32 uniforms would stop near 5.5.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import math
import os
import struct
import sys
from collections.abc import Callable
from enum import IntEnum
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

Key = bytes | NDArray[np.uint32]
_Float = TypeVar("_Float", np.float32, np.float64)

KEY_BYTES = 32
BLOCK_WORDS = 16
GROUP_BLOCKS = 16
NORMALS_PER_BLOCK = 10
NORMALS_PER_GROUP = GROUP_BLOCKS * NORMALS_PER_BLOCK
MAX_BLOCKS = 1 << 32
MAX_TENSORS = 1 << 24
MAX_DRAWS = 1 << 48
MAX_RANKS = 1 << 16

_CONSTANTS = np.frombuffer(b"expand 32-byte k", dtype="<u4").astype(np.uint32)
_CHUNK_BLOCKS = 4096  # 16 x 4096 words = 256 KiB: the rounds work inside the second-level cache
_ROTATED_ROWS = tuple(np.roll(np.arange(4), -shift) for shift in range(4))


class Domain(IntEnum):
    """What a stream is for; part of the nonce, so streams of different use never meet."""

    GRADIENT = 1
    QUANTILE = 2
    SAMPLER = 3
    MODEL = 4


def fresh_key() -> bytes:
    """32 bytes from the operating system; made anew for every private step and never stored."""
    return os.urandom(KEY_BYTES)


def insecure_key(secret: bytes, purpose: Literal["step", "sampler"], draw: int) -> bytes:
    """The key of a reproducible test run: HKDF-SHA256(secret, info = "fluidc/test" + purpose + draw).

    ``draw`` enters as 8 little-endian bytes. Whoever knows ``secret`` can subtract the noise: no privacy
    guarantee covers a run that uses this. Raises ValueError for an empty secret or a draw outside [0, 2^48).
    """
    if not secret:
        raise ValueError("the insecure noise key is empty")
    _check_range("draw", draw, MAX_DRAWS)
    return _hkdf_sha256(secret, b"fluidc/test" + purpose.encode() + struct.pack("<Q", draw))


def seeded_key(seed: int, purpose: str) -> bytes:
    """The 32-byte key of public randomness (shuffles, dropout) that ``seed`` reproduces on every machine.

    Raises ValueError for a seed outside [0, 2^64).
    """
    _check_range("seed", seed, 1 << 64)
    return _hkdf_sha256(struct.pack("<Q", seed), b"fluidc/seed" + purpose.encode())


def step_model_key(key: Key) -> bytes:
    """The 32-byte key of the model's randomness (dropout) in the private step whose noise has ``key``.

    It is as secret, and who knows it learns nothing of ``key``. What is drawn for the rows of a lot must not be known
    in advance: one example more moves the others to other rows, and only because their numbers are as likely as
    before does the clipped sum change by that example alone.
    """
    return _hkdf_sha256(key_words(key).astype("<u4").tobytes(), b"fluidc/step model")


def _hkdf_sha256(secret: bytes, info: bytes) -> bytes:
    """RFC 5869 with an empty salt and one block of output."""
    extracted = hmac.new(bytes(32), secret, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def key_words(key: Key) -> NDArray[np.uint32]:
    """``key`` as u32[8], little-endian as RFC 8439 reads it. Raises ValueError unless it holds 256 bits."""
    if isinstance(key, bytes):
        if len(key) != KEY_BYTES:
            raise ValueError(f"a ChaCha20 key has 32 bytes, this one has {len(key)}")
        return np.frombuffer(key, dtype="<u4").astype(np.uint32)
    if key.shape != (8,) or key.dtype != np.uint32:
        raise ValueError(f"a ChaCha20 key is u32[8], this one is {key.dtype}{list(key.shape)}")
    return key


def nonce(*, domain: Domain, tensor: int, draw: int, rank: int = 0) -> bytes:
    """The 12 bytes of the nonce: three little-endian words. Raises ValueError for a field out of range.

    >>> nonce(domain=Domain.GRADIENT, tensor=7, draw=2**40 + 5, rank=3).hex()
    '070000010500000000010300'
    """
    _check_range("tensor", tensor, MAX_TENSORS)
    _check_range("draw", draw, MAX_DRAWS)
    _check_range("rank", rank, MAX_RANKS)
    return struct.pack("<III", domain << 24 | tensor, draw & 0xFFFFFFFF, rank << 16 | draw >> 32)


def chacha20_blocks(key: Key, nonce: bytes, first_block: int, count_blocks: int) -> NDArray[np.uint32]:
    """The keystream blocks ``first_block .. first_block + count_blocks`` as u32[count_blocks, 16].

    Raises ValueError when the block counter would pass 2^32, or for a key or nonce of the wrong length.
    """
    if len(nonce) != 12:
        raise ValueError(f"a ChaCha20 nonce has 12 bytes, this one has {len(nonce)}")
    _check_blocks(first_block, count_blocks)
    fixed = np.concatenate([_CONSTANTS, key_words(key), np.frombuffer(nonce, dtype="<u4").astype(np.uint32)])
    out = np.empty((count_blocks, BLOCK_WORDS), dtype=np.uint32)
    for start in range(0, count_blocks, _CHUNK_BLOCKS):
        stop = min(start + _CHUNK_BLOCKS, count_blocks)
        state = np.empty((BLOCK_WORDS, stop - start), dtype=np.uint32)
        state[:12] = fixed[:12, None]
        state[12] = np.arange(first_block + start, first_block + stop, dtype=np.uint64)
        state[13:] = fixed[12:, None]
        out[start:stop] = (_rounds(state) + state).T
    return out


def _rounds(state: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The 20 rounds over u32[16, blocks]; the four rows of the RFC's 4 x 4 matrix are u32[4, blocks] each."""
    a, b, c, d = (state[4 * row : 4 * row + 4].copy() for row in range(4))
    scratch = np.empty_like(a)
    for _ in range(10):
        _quarter_rounds(a, b, c, d, scratch)
        # Turning rows 1, 2 and 3 puts the diagonals of the matrix into its columns.
        b, c, d = b[_ROTATED_ROWS[1]], c[_ROTATED_ROWS[2]], d[_ROTATED_ROWS[3]]
        _quarter_rounds(a, b, c, d, scratch)
        b, c, d = b[_ROTATED_ROWS[3]], c[_ROTATED_ROWS[2]], d[_ROTATED_ROWS[1]]
    return np.concatenate([a, b, c, d])


def _quarter_rounds(
    a: NDArray[np.uint32],
    b: NDArray[np.uint32],
    c: NDArray[np.uint32],
    d: NDArray[np.uint32],
    scratch: NDArray[np.uint32],
) -> None:
    """Four quarter rounds side by side, in place; numpy's uint32 sums wrap as the RFC wants."""
    for x, y, z, distance in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        np.add(x, y, out=x)
        np.bitwise_xor(z, x, out=z)
        np.right_shift(z, 32 - distance, out=scratch)
        np.left_shift(z, distance, out=z)
        np.bitwise_or(z, scratch, out=z)


def words(
    key: Key,
    *,
    domain: Domain,
    tensor: int,
    draw: int,
    rank: int = 0,
    count_blocks: int,
    first_block: int = 0,
) -> NDArray[np.uint32]:
    """Keystream words u32[count_blocks, 16] of one (domain, tensor, draw, rank).

    Args:
        key: 32 bytes or u32[8].
        domain: use of the stream.
        tensor: index in the manifest's parameter list, < 2^24.
        draw: number of the draw, < 2^48.
        rank: worker, < 2^16.
        count_blocks: blocks wanted; `blocks_for` gives the number for a count of normals.
        first_block: counter of the first one.

    Raises ValueError for a field out of range or a counter past 2^32.
    """
    stream = nonce(domain=domain, tensor=tensor, draw=draw, rank=rank)
    return chacha20_blocks(key, stream, first_block, count_blocks)


def fast_words(
    key: Key,
    *,
    domain: Domain,
    tensor: int,
    draw: int,
    rank: int = 0,
    count_blocks: int,
    first_block: int = 0,
) -> NDArray[np.uint32]:
    """`words`, made by the ``cryptography`` package where it is installed: many times as fast."""
    out = np.empty((count_blocks, BLOCK_WORDS), dtype=np.uint32)
    fill_words(out, key, domain=domain, tensor=tensor, draw=draw, rank=rank, first_block=first_block)
    return out


def fill_words(
    out: NDArray[np.uint32],
    key: Key,
    *,
    domain: Domain,
    tensor: int,
    draw: int,
    rank: int = 0,
    first_block: int = 0,
) -> None:
    """Write `words` into ``out``, a C-contiguous array of whole blocks; with the package of `fast_words`, nowhere else.

    Raises ValueError as `words` does, and for an ``out`` that is no whole number of blocks.
    """
    if out.size % BLOCK_WORDS or not out.flags.c_contiguous:
        raise ValueError(f"words fill whole blocks of {BLOCK_WORDS}, contiguous in memory; this is {list(out.shape)}")
    count = out.size // BLOCK_WORDS
    _check_blocks(first_block, count)
    stream = nonce(domain=domain, tensor=tensor, draw=draw, rank=rank)
    keystream = _installed_keystream()
    if keystream is None or not count:
        out.reshape(-1, BLOCK_WORDS)[...] = chacha20_blocks(key, stream, first_block, count)
        return
    secret = key_words(key).astype("<u4").tobytes()
    keystream(secret, struct.pack("<I", first_block) + stream, out.reshape(-1).view(np.uint8).data)
    if sys.byteorder == "big":
        out.byteswap(inplace=True)


@functools.cache
def _installed_keystream() -> Callable[[bytes, bytes, memoryview], None] | None:
    """Fills memory, given the key and the counter with the nonce; None without the package, which is optional here."""
    try:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
    except ImportError:
        return None
    zeros = bytes(1 << 16)  # encrypted, these are the keystream; so few stay in the fastest cache

    def fill(key: bytes, start: bytes, memory: memoryview) -> None:
        encryptor = Cipher(algorithms.ChaCha20(key, start), mode=None).encryptor()
        for first in range(0, len(memory), len(zeros)):
            part = memory[first : first + len(zeros)]
            encryptor.update_into(zeros[: len(part)], part)

    return fill


def blocks_for(count: int) -> int:
    """Blocks that ``count`` normals take: whole groups, 16 * ceil(count / 160).

    >>> blocks_for(1), blocks_for(160), blocks_for(161)
    (16, 16, 32)
    """
    return GROUP_BLOCKS * -(-count // NORMALS_PER_GROUP)


def normals_from_words(words: NDArray[np.uint32], count: int) -> NDArray[np.float32]:
    """The first ``count`` standard normals, f32[count], of keystream ``words`` (u32, whole groups).

    Box and Muller's transform as every target computes it: relative error 3e-7, never zero, safe at both ends
    of the radius. Raises ValueError when the words do not suffice.
    """
    hi, lo, angle = _triples(words, count)
    up = hi >= np.uint32(1 << 31)
    high, low = np.where(up, ~hi, hi), np.where(up, ~lo, lo)
    t = high.astype(np.float32) * np.float32(2.0**-32)
    t += (low.astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-64)
    # t is U or 1 - U, whichever is at most a half, so neither logarithm ever meets a rounded argument.
    exponential = np.where(up, -np.log1p(-t), -np.log(t))
    radius = np.sqrt(np.float32(2) * exponential)
    a = _odd_angle(angle).astype(np.float32) * np.float32(math.pi / 4 * 2.0**-30)
    return _rotate(radius, np.cos(a), np.sin(a), angle >> np.uint32(30))[:count]


def normals_from_words_f64(words: NDArray[np.uint32], count: int) -> NDArray[np.float64]:
    """`normals_from_words` in float64, f64[count]: the arbiter of every float32 version."""
    hi, lo, angle = _triples(words, count)
    up = hi >= np.uint32(1 << 31)
    high, low = np.where(up, ~hi, hi), np.where(up, ~lo, lo)
    t = high.astype(np.float64) * 2.0**-32 + (low.astype(np.float64) + 0.5) * 2.0**-64
    radius = np.sqrt(2 * np.where(up, -np.log1p(-t), -np.log(t)))
    a = _odd_angle(angle).astype(np.float64) * (math.pi / 4 * 2.0**-30)
    return _rotate(radius, np.cos(a), np.sin(a), angle >> np.uint32(30))[:count]


def _triples(
    words: NDArray[np.uint32], count: int
) -> tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.uint32]]:
    """(hi, lo, angle), each u32[groups, 5, 16 lanes], of the groups that ``count`` normals touch."""
    needed = blocks_for(count) * BLOCK_WORDS
    if words.size < needed:
        raise ValueError(f"{count} normals take {needed} words, only {words.size} were given")
    lanes = words.reshape(-1)[:needed].reshape(-1, GROUP_BLOCKS, BLOCK_WORDS)
    triples = np.ascontiguousarray(lanes[:, :, :15].reshape(-1, GROUP_BLOCKS, 5, 3).transpose(3, 0, 2, 1))
    return triples[0], triples[1], triples[2]


def _odd_angle(angle: NDArray[np.uint32]) -> NDArray[np.int32]:
    """2 * (angle mod 2^30) + 1 - 2^30: odd, so neither coordinate is ever exactly zero."""
    k = (((angle & np.uint32(0x3FFFFFFF)) << 1) | np.uint32(1)).view(np.int32)
    return k - np.int32(1 << 30)


def _rotate(
    radius: NDArray[_Float], cosine: NDArray[_Float], sine: NDArray[_Float], quadrant: NDArray[np.uint32]
) -> NDArray[_Float]:
    """Turn (cosine, sine) by quadrant * 90 degrees, scale by radius, and lay the pairs out by element."""
    swap = (quadrant & 1).astype(bool)
    x = np.where(swap, sine, cosine)
    y = np.where(swap, cosine, sine)
    np.negative(x, out=x, where=(quadrant == 1) | (quadrant == 2))
    np.negative(y, out=y, where=quadrant >= 2)
    return np.stack([radius * x, radius * y], axis=2).reshape(-1)


def gaussian(key: Key, *, domain: Domain, tensor: int, draw: int, rank: int = 0, count: int) -> NDArray[np.float32]:
    """``count`` independent N(0, 1) draws, f32[count], of one (domain, tensor, draw, rank).

    Raises ValueError for a field out of range (see `words`).
    """
    out = np.empty(count, dtype=np.float32)
    groups = _CHUNK_BLOCKS // GROUP_BLOCKS * 4
    for start in range(0, count, groups * NORMALS_PER_GROUP):
        size = min(groups * NORMALS_PER_GROUP, count - start)
        chunk = fast_words(
            key,
            domain=domain,
            tensor=tensor,
            draw=draw,
            rank=rank,
            count_blocks=blocks_for(size),
            first_block=start // NORMALS_PER_BLOCK,
        )
        out[start : start + size] = normals_from_words(chunk, size)
    return out


def _check_blocks(first_block: int, count_blocks: int) -> None:
    if first_block < 0 or count_blocks < 0 or first_block + count_blocks > MAX_BLOCKS:
        raise ValueError(f"blocks {first_block}..{first_block + count_blocks} pass the 32-bit block counter")


def _check_range(name: str, value: int, bound: int) -> None:
    if not 0 <= value < bound:
        raise ValueError(f"{name} = {value} is outside [0, {bound})")
