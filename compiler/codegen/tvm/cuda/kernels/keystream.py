"""The noise: ChaCha20 words (RFC 8439) and the standard normals made of them, a block per thread.

Nonce, layout and Box-Muller transform are those of ``runtime/keystream.py``; words agree bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from .....ir.types import DType
from ...graph import Keystream, TensorDef
from ...kernels.chacha import (
    BLOCK_WORDS,
    COLUMNS,
    CONSTANTS,
    DIAGONALS,
    DOUBLE_ROUNDS,
    GROUP_BLOCKS,
    NORMALS_PER_GROUP,
    PAIRS,
)
from ...kernels.normals import direction, radius
from ...kit import Buffer, Value, const, convert, integer
from ...tvm_api import tirx
from ..device import DeviceBlock
from ..space import Space

F32, U32, U64 = DType.F32, DType.U32, DType.U64

Take = Callable[[Value, Value], None]
"""Gets the number of an element of the stream, and the element."""


def emit_keystream(
    space: Space, buffers: Mapping[TensorDef, Buffer], stream: Keystream, nonce: Value, count: Value, take: Take
) -> None:
    """Make ``count`` words or normals of a stream, each in some thread, and hand them to ``take`` there.

    ``nonce`` (its word 0, i64) and ``count`` may be run-time values.
    """
    block = space.block
    normals = stream.dtype is F32
    per_block = 2 * PAIRS if normals else BLOCK_WORDS
    per_group = integer(per_block * GROUP_BLOCKS)
    blocks = tirx.floordiv(count + per_group - integer(1), per_group) * integer(GROUP_BLOCKS)
    with space.each(block.simplify(blocks)) as number:
        words = _words(block, buffers, stream, nonce, number)
        if not normals:
            for place, word in enumerate(words):
                at = block.simplify(number * integer(BLOCK_WORDS) + integer(place))
                with block.when(at < count):
                    take(at, word)
            return
        group = tirx.floordiv(number, integer(GROUP_BLOCKS))
        first = group * integer(NORMALS_PER_GROUP) + tirx.floormod(number, integer(GROUP_BLOCKS))
        for pair in range(PAIRS):
            hi, lo, angle = words[3 * pair : 3 * pair + 3]
            length = block.let(radius(block, hi, lo), F32)
            for half, way in enumerate(direction(block, angle)):
                at = block.simplify(first + integer((2 * pair + half) * GROUP_BLOCKS))
                with block.when(at < count):
                    take(at, length * way)


def _words(
    block: DeviceBlock, buffers: Mapping[TensorDef, Buffer], stream: Keystream, nonce: Value, number: Value
) -> list[Value]:
    """The 16 words of block ``number``."""
    wrapping = block.machine.wrapping
    draw = block.let(block.read(buffers[stream.draw], integer(0)), U64)
    counter = convert(U32, number)
    if stream.first is not None:
        counter = wrapping("add", counter, convert(U32, block.read(buffers[stream.first], integer(0))), U32)
    start = [const(word, U32) for word in CONSTANTS]
    start += [block.read(buffers[stream.key], integer(place)) for place in range(8)]
    start += [counter, convert(U32, nonce)]
    start.append(convert(U32, tirx.bitwise_and(draw, const(0xFFFF_FFFF, U64))))
    start.append(convert(U32, tirx.shift_right(draw, const(32, U64))))
    start = [block.let(word, U32) for word in start]
    state = [block.register(U32, 1, "word") for _ in range(BLOCK_WORDS)]
    for register, word in zip(state, start, strict=True):
        block.put(register, word)
    with block.loop(DOUBLE_ROUNDS, "round"):
        for quarters in (COLUMNS, DIAGONALS):
            for quarter in quarters:
                _quarter_round(block, [state[place] for place in quarter])
    return [
        block.let(wrapping("add", block.get(register), word, U32), U32)
        for register, word in zip(state, start, strict=True)
    ]


def _quarter_round(block: DeviceBlock, words: Sequence[Buffer]) -> None:
    for x, y, z, distance in ((0, 1, 3, 16), (2, 3, 1, 12), (0, 1, 3, 8), (2, 3, 1, 7)):
        block.put(words[x], block.machine.wrapping("add", block.get(words[x]), block.get(words[y]), U32))
        mixed = block.let(tirx.bitwise_xor(block.get(words[z]), block.get(words[x])), U32)
        left, right = const(distance, U32), const(32 - distance, U32)
        block.put(words[z], tirx.bitwise_or(tirx.shift_left(mixed, left), tirx.shift_right(mixed, right)))
