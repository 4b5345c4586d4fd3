"""The noise: ChaCha20 words (RFC 8439) and the standard normals made of them.

Nonce, layout and Box-Muller transform are those of ``runtime/keystream.py``, which is the specification in numpy;
words agree bit for bit, normals to 1e-6.  A group of 16 blocks makes 160 normals; lanes are neighbouring blocks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from ....ir.types import DType
from ..graph import Keystream, StreamTile, TensorDef
from ..kit import Block, Buffer, Value, broadcast, const, convert, integer, reinterpret, sweep, wrapping
from ..tvm_api import tirx
from ..vmath import log_of_fraction, sine_cosine, split

CONSTANTS = (0x6170_7865, 0x3320_646E, 0x7962_2D32, 0x6B20_6574)
GROUP_BLOCKS = 16
NORMALS_PER_GROUP = 160
DOUBLE_ROUNDS = 10
PARALLEL_GROUPS = 64
_QUARTERS = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)  # fmt: skip
F32, U32, I32, U64, I64 = DType.F32, DType.U32, DType.I32, DType.U64, DType.I64


def first_nonce_word(stream: Keystream) -> int:
    """Word 0 of the nonce: what the stream is for, and of which tensor."""
    return stream.domain << 24 | stream.tensor


def emit_keystream(
    block: Block, buffers: Mapping[TensorDef, Buffer], stream: Keystream, nonce: Value, count: Value, threads: bool
) -> None:
    """Fill the tensor of a stream with ``count`` words or normals.

    ``nonce`` (its word 0, i64) and ``count`` may be run-time values: one kernel then serves all tensors.
    """
    _Stream(block, buffers, stream, nonce).emit(count, threads)


def emit_stream_tile(
    block: Block,
    buffers: Mapping[TensorDef, Buffer],
    tile: StreamTile,
    start: Value,
    count: Value,
    most: int,
    wanted: Value,
) -> tuple[Buffer, Value]:
    """Make the normals numbered from ``start``, ``count`` of them, at most ``most``, in workspace, if ``wanted``.

    Returns the buffer and the number of the first normal in it: whole groups are made.
    """
    size = integer(NORMALS_PER_GROUP)
    first = block.simplify(tirx.floordiv(start, size))
    groups = block.simplify(tirx.floordiv(start + count + size - integer(1), size) - first)
    target = block.workspace(F32, (-(-most // NORMALS_PER_GROUP) + 1) * NORMALS_PER_GROUP, "normals")
    stream = _Stream(block, buffers, tile.stream, integer(first_nonce_word(tile.stream)))
    with block.when(wanted), block.loop(groups, "group") as group:
        stream.group(first + group, target, group * size)
    return target, block.simplify(first * size)


class _Stream:
    def __init__(self, block: Block, buffers: Mapping[TensorDef, Buffer], stream: Keystream, nonce: Value) -> None:
        self.block = block
        self.buffers = buffers
        self.stream = stream
        self.nonce = nonce
        self.lanes = min(max(block.host.lanes, 4), GROUP_BLOCKS)

    def emit(self, count: Value, threads: bool) -> None:
        """One group of 16 blocks per trip; the last one may be cut short."""
        block = self.block
        normals = self.stream.dtype is F32
        per_group = NORMALS_PER_GROUP if normals else GROUP_BLOCKS * 16
        groups = block.simplify(tirx.floordiv(count + integer(per_group - 1), integer(per_group)))
        few = isinstance(groups, tirx.IntImm) and int(groups.value) < PARALLEL_GROUPS
        with block.loop(groups, "group", parallel=threads and not few) as group:
            made = block.scratch(self.stream.dtype, per_group, "made")
            self.group(group, made, integer(0))
            start = block.simplify(group * integer(per_group))
            rest = block.simplify(tirx.min(integer(per_group), count - start))
            target = self.buffers[self.stream]
            sweep(
                block, rest, block.host.lanes,
                lambda offset, width: block.write(target, start + offset, block.read(made, offset, width)),
            )  # fmt: skip

    def group(self, number: Value, made: Buffer, start: Value) -> None:
        """Group ``number`` of 16 blocks, to ``made`` from ``start`` on."""
        block = self.block
        with block.loop(GROUP_BLOCKS // self.lanes, "half") as half:
            first = block.simplify(half * integer(self.lanes))
            words = self._words(convert(U32, number * integer(GROUP_BLOCKS) + first))
            if self.stream.dtype is F32:
                self._store_normals(made, words, start + first)
            else:
                for place, word in enumerate(words):
                    block.write(made, start + first * integer(16) + integer(place), word, stride=16)

    def _words(self, first_block: Value) -> list[Value]:
        """The 16 words of ``lanes`` blocks counted from ``first_block`` (a u32 scalar): one vector per word."""
        block, lanes = self.block, self.lanes
        key, draw = self.buffers[self.stream.key], self.buffers[self.stream.draw]
        number = block.let(block.read(draw, integer(0)), U64)
        low = convert(U32, tirx.bitwise_and(number, const(0xFFFF_FFFF, U64)))
        high = convert(U32, tirx.shift_right(number, const(32, U64)))
        nonce = [convert(U32, self.nonce), low, high]
        lane_number = convert(U32, tirx.Ramp(tirx.IntImm("int32", 0), tirx.IntImm("int32", 1), lanes))
        if self.stream.first is not None:
            base = convert(U32, block.read(self.buffers[self.stream.first], integer(0)))
            first_block = wrapping("add", first_block, base, U32)
        counter = wrapping("add", broadcast(first_block, lanes), lane_number, U32)
        start: list[Value] = [const(c, U32, lanes) for c in CONSTANTS]
        start += [broadcast(block.read(key, integer(i)), lanes) for i in range(8)]
        start += [counter, *(broadcast(word, lanes) for word in nonce)]
        start = [block.let(word, U32) for word in start]
        state = [block.register(U32, lanes, "word") for _ in range(16)]
        for register, word in zip(state, start, strict=True):
            block.put(register, word)
        # The rounds stay a loop: unrolled they would dominate the build time and run no faster.
        with block.loop(DOUBLE_ROUNDS, "round"):
            for quarter in _QUARTERS:
                self._quarter_round(*(state[i] for i in quarter))
        return [
            block.let(wrapping("add", block.get(register), word, U32), U32)
            for register, word in zip(state, start, strict=True)
        ]

    def _quarter_round(self, a: Buffer, b: Buffer, c: Buffer, d: Buffer) -> None:
        block, lanes = self.block, self.lanes
        for x, y, z, distance in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            block.put(x, wrapping("add", block.get(x), block.get(y), U32))
            mixed = block.let(tirx.bitwise_xor(block.get(z), block.get(x)), U32)
            left = tirx.shift_left(mixed, const(distance, U32, lanes))
            right = tirx.shift_right(mixed, const(32 - distance, U32, lanes))
            block.put(z, tirx.bitwise_or(left, right))

    def _store_normals(self, made: Buffer, words: list[Value], first: Value) -> None:
        for pair in range(5):
            hi, lo, angle = words[3 * pair : 3 * pair + 3]
            radius = self._radius(hi, lo)
            for half, direction in enumerate(self._direction(angle)):
                place = integer((2 * pair + half) * GROUP_BLOCKS) + first
                self.block.write(made, place, radius * direction)

    def _radius(self, hi: Value, lo: Value) -> Value:
        """sqrt(-2 ln U) for U = (hi 2^32 + lo + 1/2) 2^-64, to 2e-7 of itself at both ends.

        t = min(U, 1 - U) is exact to float32's last bit, so near U = 1 the logarithm is taken of 1 - t as
        log1p(-t), without rounding 1 - t first.
        """
        block, lanes = self.block, self.lanes
        signed = block.let(reinterpret(I32, hi), I32)
        up = tirx.LT(signed, const(0, I32, lanes))
        sign = block.let(tirx.shift_right(signed, const(31, I32, lanes)), I32)
        high = convert(F32, tirx.bitwise_xor(signed, sign))
        low = convert(F32, tirx.bitwise_xor(lo, reinterpret(U32, sign)))
        t = block.let(
            high * const(2.0**-32, F32, lanes) + (low + const(0.5, F32, lanes)) * const(2.0**-64, F32, lanes), F32
        )
        x = block.let(tirx.Select(up, const(1.0, F32, lanes) - t, t), F32)
        m, exponent = split(block, x)
        near_one = tirx.And(up, tirx.EQ(exponent, const(0.0, F32, lanes)))
        m = block.let(tirx.Select(near_one, const(0.0, F32, lanes) - t, m), F32)
        logarithm = log_of_fraction(block, m, exponent)
        return block.let(tirx.sqrt(logarithm * const(-2.0, F32, lanes)), F32)

    def _direction(self, angle: Value) -> tuple[Value, Value]:
        """A point on the unit circle: the low 30 bits give the angle within a quadrant, the top two turn it."""
        block, lanes = self.block, self.lanes
        fraction = tirx.bitwise_and(angle, const(0x3FFF_FFFF, U32, lanes))
        odd = tirx.bitwise_or(tirx.shift_left(fraction, const(1, U32, lanes)), const(1, U32, lanes))
        k = block.let(reinterpret(I32, odd) - const(1 << 30, I32, lanes), I32)
        radians = block.let(convert(F32, k) * const(math.pi / 4 * 2.0**-30, F32, lanes), F32)
        sine, cosine = sine_cosine(block, radians)
        quadrant = block.let(tirx.shift_right(angle, const(30, U32, lanes)), U32)
        swap = tirx.NE(tirx.bitwise_and(quadrant, const(1, U32, lanes)), const(0, U32, lanes))
        x = tirx.Select(swap, sine, cosine)
        y = tirx.Select(swap, cosine, sine)
        # x is negated in quadrants 1 and 2 (bit 1 of quadrant + 1), y in quadrants 2 and 3 (bit 1 of quadrant).
        turned = quadrant + const(1, U32, lanes)
        return self._flip(x, turned), self._flip(y, quadrant)

    def _flip(self, value: Value, quadrant: Value) -> Value:
        lanes = self.lanes
        sign = tirx.shift_left(tirx.bitwise_and(quadrant, const(2, U32, lanes)), const(30, U32, lanes))
        bits = tirx.bitwise_xor(reinterpret(U32, self.block.let(value, F32)), sign)
        return self.block.let(reinterpret(F32, bits), F32)
