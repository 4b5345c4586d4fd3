"""The noise: ChaCha20 words (RFC 8439) and the standard normals made of them.

Nonce, layout and Box-Muller transform are those of ``runtime/keystream.py``, which is the specification in numpy;
words agree bit for bit, normals to 1e-6.  A group of 16 blocks makes 160 normals; lanes are neighbouring blocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ....ir.types import DType
from ..graph import Keystream, StreamTile, TensorDef
from ..kit import Block, Buffer, Value, broadcast, const, convert, dtype_name, integer, reinterpret, sweep
from ..tvm_api import tirx
from .normals import direction, radius

CONSTANTS = (0x6170_7865, 0x3320_646E, 0x7962_2D32, 0x6B20_6574)
BLOCK_WORDS = 16
GROUP_BLOCKS = 16
PAIRS = 5
"""Pairs of normals that a block makes."""
NORMALS_PER_GROUP = 160
DOUBLE_ROUNDS = 10
PARALLEL_GROUPS = 64
AT_ONCE = 2
"""Vectors of blocks that are made side by side: the rounds are chains of dependent steps, and fill each other's waits.
With 32 registers both states fit; with 16 the loads and stores cost less than the waits."""

COLUMNS = (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)
DIAGONALS = (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)
F32, U32, I32, U64, I64 = DType.F32, DType.U32, DType.I32, DType.U64, DType.I64


def first_nonce_word(stream: Keystream) -> int:
    """Word 0 of the nonce: what the stream is for, and of which tensor."""
    return stream.domain << 24 | stream.tensor


def _lanes(block: Block) -> int:
    """Blocks of one vector."""
    return min(max(block.host.lanes, 4), GROUP_BLOCKS)


def groups_at_once(block: Block) -> int:
    """Groups of one trip."""
    return max(1, AT_ONCE * _lanes(block) // GROUP_BLOCKS)


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
    groups = tirx.floordiv(start + count + size - integer(1), size) - first
    per_trip = integer(groups_at_once(block))
    trips = block.simplify(tirx.floordiv(groups + per_trip - integer(1), per_trip))
    target = block.workspace(
        F32, (-(-most // NORMALS_PER_GROUP) + groups_at_once(block)) * NORMALS_PER_GROUP, "normals"
    )
    stream = _Stream(block, buffers, tile.stream, integer(first_nonce_word(tile.stream)))
    with block.when(wanted), block.loop(trips, "trip") as trip:
        group = block.simplify(trip * per_trip)
        stream.groups(first + group, target, group * size)
    return target, block.simplify(first * size)


class _Stream:
    """Makes groups of a stream."""

    def __init__(self, block: Block, buffers: Mapping[TensorDef, Buffer], stream: Keystream, nonce: Value) -> None:
        self.block = block
        self.buffers = buffers
        self.stream = stream
        self.nonce = nonce
        self.lanes = _lanes(block)
        self.at_once = groups_at_once(block)
        self.side_by_side = 8 if self.lanes == GROUP_BLOCKS else 4

    def emit(self, count: Value, threads: bool) -> None:
        """``at_once`` groups of 16 blocks per trip; the last ones may be cut short."""
        block = self.block
        normals = self.stream.dtype is F32
        per_trip = (NORMALS_PER_GROUP if normals else GROUP_BLOCKS * BLOCK_WORDS) * self.at_once
        trips = block.simplify(tirx.floordiv(count + integer(per_trip - 1), integer(per_trip)))
        few = isinstance(trips, tirx.IntImm) and int(trips.value) < PARALLEL_GROUPS // self.at_once
        with block.loop(trips, "trip", parallel=threads and not few) as trip:
            made = block.scratch(self.stream.dtype, per_trip, "made")
            self.groups(trip * integer(self.at_once), made, integer(0))
            start = block.simplify(trip * integer(per_trip))
            rest = block.simplify(tirx.min(integer(per_trip), count - start))
            target = self.buffers[self.stream]
            sweep(
                block, rest, block.host.lanes,
                lambda offset, width: block.write(target, start + offset, block.read(made, offset, width)),
            )  # fmt: skip

    def groups(self, number: Value, made: Buffer, start: Value) -> None:
        """The groups of 16 blocks from ``number`` on, ``at_once`` of them, to ``made`` from ``start`` on."""
        block, lanes = self.block, self.lanes
        with block.loop(self.at_once * GROUP_BLOCKS // (AT_ONCE * lanes), "part") as part:
            first = block.simplify(part * integer(AT_ONCE * lanes))
            words = self._words(convert(U32, number * integer(GROUP_BLOCKS) + first))
            if self.stream.dtype is F32:
                self._store_normals(words, made, start + first)
            else:
                for way, own in enumerate(words):
                    at = start + (first + integer(way * lanes)) * integer(BLOCK_WORDS)
                    for place, word in enumerate(own):
                        block.write(made, at + integer(place), word, stride=BLOCK_WORDS)

    def _words(self, first_block: Value) -> list[list[Value]]:
        """The 16 words of ``lanes`` blocks counted from ``first_block`` (a u32 scalar), one vector per word; then those
        of the next ``lanes`` blocks."""
        block, lanes = self.block, self.lanes
        key, draw = self.buffers[self.stream.key], self.buffers[self.stream.draw]
        number = block.let(block.read(draw, integer(0)), U64)
        low = convert(U32, tirx.bitwise_and(number, const(0xFFFF_FFFF, U64)))
        high = convert(U32, tirx.shift_right(number, const(32, U64)))
        nonce = [convert(U32, self.nonce), low, high]
        lane_number = convert(U32, tirx.Ramp(tirx.IntImm("int32", 0), tirx.IntImm("int32", 1), lanes))
        if self.stream.first is not None:
            base = convert(U32, block.read(self.buffers[self.stream.first], integer(0)))
            first_block = self._sum(first_block, base)
        counter = self._sum(broadcast(first_block, lanes), lane_number)
        fixed: list[Value] = [const(c, U32, lanes) for c in CONSTANTS]
        fixed += [broadcast(block.read(key, integer(i)), lanes) for i in range(8)]
        fixed = [block.let(word, U32) for word in fixed]
        tail = [block.let(broadcast(word, lanes), U32) for word in nonce]
        starts: list[list[Value]] = []
        for way in range(AT_ONCE):
            own = counter if way == 0 else self._sum(counter, const(way * lanes, U32, lanes))
            starts.append([*fixed, block.let(own, U32), *tail])
        states = [[block.register(U32, lanes, "word") for _ in range(BLOCK_WORDS)] for _ in starts]
        for state, start in zip(states, starts, strict=True):
            for register, word in zip(state, start, strict=True):
                block.put(register, word)
        # The rounds stay a loop: unrolled they would dominate the build time and run no faster.
        with block.loop(DOUBLE_ROUNDS, "round"):
            for quarters in (COLUMNS, DIAGONALS):
                words = [[state[i] for i in quarter] for quarter in quarters for state in states]
                for start in range(0, len(words), self.side_by_side):
                    self._quarter_rounds(words[start : start + self.side_by_side])
        return [
            [self._sum(block.get(register), word) for register, word in zip(state, start, strict=True)]
            for state, start in zip(states, starts, strict=True)
        ]

    def _quarter_rounds(self, quarters: Sequence[Sequence[Buffer]]) -> None:
        """Independent quarter rounds, step by step side by side."""
        block = self.block
        for x, y, z, distance in ((0, 1, 3, 16), (2, 3, 1, 12), (0, 1, 3, 8), (2, 3, 1, 7)):
            for quarter in quarters:
                block.put(quarter[x], self._sum(block.get(quarter[x]), block.get(quarter[y])))
            for quarter in quarters:
                mixed = block.let(tirx.bitwise_xor(block.get(quarter[z]), block.get(quarter[x])), U32)
                block.put(quarter[z], self._rotated(mixed, distance))

    def _sum(self, x: Value, y: Value) -> Value:
        return self.block.machine.wrapping("add", x, y, U32)

    def _rotated(self, word: Value, distance: int) -> Value:
        lanes = self.lanes
        left = tirx.shift_left(word, const(distance, U32, lanes))
        right = tirx.shift_right(word, const(32 - distance, U32, lanes))
        turned = tirx.bitwise_or(left, right)
        if distance % 8 or lanes == GROUP_BLOCKS:
            return turned
        # Without a rotate instruction this is a shuffle of bytes. LLVM would move the next one before the xor between
        # them, where it takes two; nothing moves past the fence, which is no instruction.
        return reinterpret(U32, tirx.call_llvm_pure_intrin(
            dtype_name(F32, lanes), "llvm.arithmetic.fence", reinterpret(F32, turned)
        ))  # fmt: skip

    def _store_normals(self, words: Sequence[Sequence[Value]], made: Buffer, first: Value) -> None:
        """The normals of ``lanes`` blocks and the next ones, to ``made``: ``first`` is where the first block's lie.

        The words go through memory, so that the transform is a loop of short code with its constants in registers.
        """
        block, lanes = self.block, self.lanes
        kept = block.scratch(U32, AT_ONCE * BLOCK_WORDS * lanes, "words")
        for way, own in enumerate(words):
            for place, word in enumerate(own[: 3 * PAIRS]):
                block.write(kept, integer((way * BLOCK_WORDS + place) * lanes), word)
        with block.loop(PAIRS, "pair") as pair:
            for way in range(AT_ONCE):
                at = block.simplify(integer(way * BLOCK_WORDS * lanes) + pair * integer(3 * lanes))
                hi, lo, angle = (block.let(block.read(kept, at + integer(i * lanes), lanes), U32) for i in range(3))
                length = radius(block, hi, lo)
                group, lane = divmod(way * lanes, GROUP_BLOCKS)
                place = first + pair * integer(2 * GROUP_BLOCKS) + integer(group * NORMALS_PER_GROUP + lane)
                for half, turned in enumerate(direction(block, angle)):
                    block.write(made, place + integer(half * GROUP_BLOCKS), length * turned)
