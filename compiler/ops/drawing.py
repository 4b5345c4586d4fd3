"""What every op that draws random numbers shares: where its numbers lie in the stream, on every target."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...runtime import keystream
from ..ir.core import Value
from ..ir.types import Dim, DType, Shape, Sym, TensorType, dim_div, numel, static_shape
from . import minstd
from .base import Array, Op
from .emit import Expr, Index, Loops, OnnxEmitter, Scalar, Tensor, TvmEmitter, Window
from .kinds import PUBLIC, ExampleKind, Kind, MixedKind, all_public, constant_rows, default_kind

Generator: TypeAlias = Literal["chacha20", "paddle"]

_DOMAIN = keystream.Domain.MODEL


def _flat(t: TvmEmitter, index: tuple[Index, ...], shape: Shape) -> Expr:
    """The position of an element in row-major order."""
    position: Expr = t.const(0, DType.I64)
    for i, dim in zip(index, shape, strict=True):
        position = position * t.extent(dim) + t.cast(i, DType.I64)
    return position


def unflat(t: TvmEmitter, position: Expr, shape: Shape) -> tuple[Index, ...]:
    """The index of the element at ``position``."""
    index: list[Index] = []
    for dim in reversed(shape[1:]):
        index.append(position % t.extent(dim))
        position = position // t.extent(dim)
    return (position, *reversed(index)) if shape else ()


# Numbers in groups of (numbers, blocks that they take).
_WORDS = keystream.BLOCK_WORDS, 1
_NORMALS = keystream.NORMALS_PER_GROUP, keystream.GROUP_BLOCKS


def _blocks(count: Dim, group: int, per: int) -> Dim:
    """Keystream blocks that hold ``count`` numbers; for a symbolic count a bound that is an extent too."""
    if isinstance(count, Sym):
        return Sym(count.name, -(-count.scale // group) * per)
    return -(-count // group) * per


@dataclass(frozen=True, eq=False)
class Drawing(Op):
    """Base of every op that draws; the operands and attributes that say from where."""

    capacity: ClassVar[int] = keystream.MAX_BLOCKS * keystream.BLOCK_WORDS
    """Elements that one stream makes under one counter."""

    key: Value | None
    counter: Value | None
    row: Value | None = field(default=None, kw_only=True)
    stream: int = field(default=0, kw_only=True)
    seed: int = field(default=0, kw_only=True)
    generator: Generator = field(default="chacha20", kw_only=True)
    # With ``row``: the axis of the examples, of extent pre * N * post.
    axis: int = field(default=0, kw_only=True)
    pre: int = field(default=1, kw_only=True)
    post: int = field(default=1, kw_only=True)

    def check_source(self, shape: Shape) -> None:
        """Raise VerifyError when operands and attributes do not fit the generator, or each other."""
        if self.generator == "paddle":
            if self.key is not None or self.counter is not None or self.row is not None:
                raise self.fail("Paddle's generator takes a seed, not a key and a counter")
            return
        if self.row is not None:
            if self.row.type != TensorType(DType.I64, ()):
                raise self.fail(f"the first row is i64[], not {self.row.type}")
            axis, inside = self.axis, self.pre * self.post
            if not 0 <= axis < len(shape) or inside < 1 or dim_div(shape[axis], inside) is None:
                raise self.fail(f"axis {axis} is not {self.pre} * N * {self.post} long: [{', '.join(map(str, shape))}]")
            if any(isinstance(dim, Sym) for i, dim in enumerate(shape) if i != axis):
                raise self.fail(f"one example's part has no fixed size: [{', '.join(map(str, shape))}]")
        if self.key is None or self.counter is None:
            raise self.fail("the keystream needs a key and a counter")
        if self.key.type != TensorType(DType.U32, (8,)) or self.counter.type != TensorType(DType.U64, ()):
            raise self.fail(f"key and counter are u32[8] and u64[], not {self.key.type} and {self.counter.type}")
        if not 0 <= self.stream < keystream.MAX_TENSORS:
            raise self.fail(f"stream {self.stream} is outside [0, 2^24)")
        count = numel(shape)
        if (count if isinstance(count, int) else count.scale) > self.capacity:
            raise self.fail(f"draws {count} numbers, more than the {self.capacity:,} of one stream")

    def most_rows(self, shape: Shape) -> int | None:
        """Examples of a lot, or size of the open dimension, up to which the stream suffices; None without either."""
        if self.generator == "paddle":
            return None
        if self.row is not None:
            # The last group may begin before an example's own part.
            return (self.capacity - keystream.NORMALS_PER_GROUP) // max(1, self.part(shape))
        count = numel(shape)
        return None if isinstance(count, int) else self.capacity // count.scale

    def row_kind(self, kinds: Sequence[Kind], shape: Shape) -> Kind:
        """Kind of a tensor drawn here; ``kinds`` are those of key, counter and row."""
        batch = [dim for dim in shape if isinstance(dim, Sym)]
        if not all_public(kinds):
            return default_kind(self, kinds)
        if self.row is not None:
            return ExampleKind(self.axis, self.pre, self.post)
        if not batch:
            return PUBLIC
        _, *others = batch
        if others:
            return MixedKind(f"{self.name} draws a number for every pair of examples", self)
        if self.generator == "paddle":
            # What an example receives would depend on its place in the batch, the same at every step.
            return MixedKind(
                "Paddle's generator gives every place in the batch the same numbers at every step",
                self,
                "leave out the seed",
            )
        return constant_rows(self, shape)

    # Where an element lies in the keystream.  Without `row` in row-major order from 0; with it every example owns
    # `part` elements in the order of the lot, and the batch begins with those of `row`.
    def part(self, shape: Shape) -> int:
        """Elements of one example."""
        others = math.prod(static_shape(tuple(dim for i, dim in enumerate(shape) if i != self.axis)))
        return others * self.pre * self.post

    def _places(self, shape: tuple[int, ...]) -> NDArray[np.int64]:
        """The place of every element among those of the batch, in the tensor's shape."""
        places = np.arange(math.prod(shape), dtype=np.int64)
        if self.row is None:
            return places.reshape(shape)
        outer, rows = shape[: self.axis], shape[self.axis] // (self.pre * self.post)
        inside = (rows, math.prod(outer), self.pre, self.post, math.prod(shape[self.axis + 1 :]))
        return places.reshape(inside).transpose(1, 2, 0, 3, 4).reshape(shape)

    def _place_tvm(self, t: TvmEmitter, index: tuple[Index, ...], shape: Shape) -> Expr:
        """As ``_places``, for one element."""
        if self.row is None or (self.axis == 0 and self.pre == 1):
            return _flat(t, index, shape)
        axis = self.axis
        rows = dim_div(shape[axis], self.pre * self.post)
        assert rows is not None
        along, post = t.cast(index[axis], DType.I64), t.extent(self.post)
        row: Expr = along // post % t.extent(rows)
        parts: list[tuple[Index, Dim]] = [(row, rows), *zip(index[:axis], shape[:axis], strict=True)]
        parts += [(along // (post * t.extent(rows)), self.pre), (along % post, self.post)]
        parts += zip(index[axis + 1 :], shape[axis + 1 :], strict=True)
        return _flat(t, tuple(i for i, _ in parts), tuple(dim for _, dim in parts))

    def words(self, key: Array, counter: Array, row: Array | None, shape: tuple[int, ...]) -> NDArray[np.uint32]:
        """The word of every element."""
        count, per_block = math.prod(shape), keystream.BLOCK_WORDS
        start = 0 if row is None else int(row) * self.part(shape)
        first, over = divmod(start, per_block)
        blocks = keystream.words(
            key, domain=_DOMAIN, tensor=self.stream, draw=int(counter), count_blocks=-(-(over + count) // per_block),
            first_block=first,
        )  # fmt: skip
        return blocks.reshape(-1)[over + self._places(shape)]

    def normals(self, key: Array, counter: Array, row: Array | None, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """The standard normal of every element."""
        count = math.prod(shape)
        start = 0 if row is None else int(row) * self.part(shape)
        first, over = divmod(start, keystream.NORMALS_PER_GROUP)
        words = keystream.words(
            key, domain=_DOMAIN, tensor=self.stream, draw=int(counter), count_blocks=keystream.blocks_for(over + count),
            first_block=first * keystream.GROUP_BLOCKS,
        )  # fmt: skip
        return keystream.normals_from_words(words, over + count)[over + self._places(shape)]

    def _window(
        self, t: TvmEmitter, row: Tensor | None, shape: Shape, group: int, blocks: int
    ) -> tuple[Tensor | None, Expr | None, Dim]:
        """Where the batch's elements lie: the first block, what to skip behind it, and how many to make with that.

        ``group`` elements take ``blocks`` blocks.  Nothing is skipped where every example's part fills groups.
        """
        if row is None:
            return None, None, numel(shape)
        part = self.part(shape)

        def first() -> Expr:
            return row[()] * part // group * blocks

        start = t.compute((), DType.I64, first)
        return start, None if part % group == 0 else row[()] * part % group, self._made(shape, group)

    def _made(self, shape: Shape, group: int) -> Dim:
        """How many numbers a batch of a lot makes, with those to skip."""
        count = numel(shape)
        if self.part(shape) % group == 0:
            return count
        # A symbolic number of elements is at least its scale: one group more, as a share of them.
        return Sym(count.name, count.scale + group) if isinstance(count, Sym) else count + group - 1

    def words_tvm(
        self, t: TvmEmitter, key: Tensor, counter: Tensor, row: Tensor | None, shape: Shape
    ) -> Callable[..., Expr]:
        """The word at an index."""
        first, over, count = self._window(t, row, shape, *_WORDS)
        made = t.chacha_words(key, counter, self.stream, _DOMAIN, _blocks(count, *_WORDS), first)
        return self._reader(t, made, over, shape)

    def normals_tvm(
        self, t: TvmEmitter, key: Tensor, counter: Tensor, row: Tensor | None, shape: Shape
    ) -> Callable[..., Expr]:
        """The standard normal at an index."""
        first, over, count = self._window(t, row, shape, *_NORMALS)
        made = t.chacha_normals(key, counter, self.stream, _DOMAIN, count, first)
        return self._reader(t, made, over, shape)

    def _reader(self, t: TvmEmitter, made: Tensor, over: Expr | None, shape: Shape) -> Callable[..., Expr]:
        def read(*index: Index) -> Expr:
            place = self._place_tvm(t, index, shape)
            return made[place if over is None else place + over]

        return read

    def words_onnx(self, o: OnnxEmitter, key: str, counter: str, row: str | None, shape: Shape) -> str:
        """The word of every element."""
        made, count = self._stream_onnx(o, key, counter, row, shape, *_WORDS)
        size = _blocks(count, *_WORDS)
        per_block = keystream.BLOCK_WORDS
        made_count = Sym(size.name, size.scale * per_block) if isinstance(size, Sym) else size * per_block
        return self._placed_onnx(o, made, made_count, row, shape, keystream.BLOCK_WORDS)

    def normals_onnx(self, o: OnnxEmitter, key: str, counter: str, row: str | None, shape: Shape) -> str:
        """The standard normal of every element."""
        made, count = self._stream_onnx(o, key, counter, row, shape, *_NORMALS)
        return self._placed_onnx(o, o.normals(made, count), count, row, shape, keystream.NORMALS_PER_GROUP)

    def _stream_onnx(
        self, o: OnnxEmitter, key: str, counter: str, row: str | None, shape: Shape, group: int, per: int
    ) -> tuple[str, Dim]:
        """The words, and how many numbers they make, with those to skip."""
        count = numel(shape) if row is None else self._made(shape, group)
        window = None if row is None else Window(row, self.part(shape), group, per)
        words = o.keystream(
            key, counter, domain=int(_DOMAIN), tensor=self.stream, blocks=_blocks(count, group, per), window=window
        )
        return words, count

    def _placed_onnx(
        self, o: OnnxEmitter, made: str, made_count: Dim, row: str | None, shape: Shape, group: int
    ) -> str:
        """The numbers of a batch out of those made, each at its element: see ``_places``."""
        count = numel(shape)
        if row is not None and self.part(shape) % group:
            skipped = o.node("Mod", o.node("Mul", row, o.scalar(self.part(shape), DType.I64)), o.ints(group))
            made = o.node("Slice", made, skipped, o.node("Add", skipped, o.extent(count)))
        elif made_count != count:
            made = o.node("Slice", made, o.ints(0), o.shape((count,)))
        if row is None or (self.axis == 0 and self.pre == 1):
            return o.reshape(made, shape)
        rows = dim_div(shape[self.axis], self.pre * self.post)
        assert rows is not None
        before, after = (math.prod(static_shape(part)) for part in (shape[: self.axis], shape[self.axis + 1 :]))
        by_row = o.reshape(made, (rows, before, self.pre, self.post, after))
        return o.reshape(o.node("Transpose", by_row, perm=(1, 2, 0, 3, 4)), shape)

    def uniforms(
        self, key: Array | None, counter: Array | None, row: Array | None, shape: tuple[int, ...]
    ) -> NDArray[np.float32]:
        """f32 in [0, 1): multiples of 2^-24 from the keystream, of about 2^-31 from Paddle's generator."""
        if key is None or counter is None:
            return minstd.uniforms(self.seed, math.prod(shape)).reshape(shape)
        high = (self.words(key, counter, row, shape) >> np.uint32(8)).astype(np.float32)
        return high * np.float32(2.0**-24)

    def uniforms_tvm(
        self, t: TvmEmitter, key: Tensor | None, counter: Tensor | None, row: Tensor | None, shape: Shape
    ) -> Tensor:
        """As ``uniforms``."""
        if key is None or counter is None:
            return self._paddle_uniforms(t, shape)
        word = self.words_tvm(t, key, counter, row, shape)

        def element(*index: Index) -> Scalar:
            return t.cast(word(*index) >> 8, DType.F32) * 2.0**-24

        return t.compute(shape, DType.F32, element)

    def uniforms_onnx(self, o: OnnxEmitter, key: str | None, counter: str | None, row: str | None, shape: Shape) -> str:
        """As ``uniforms``."""
        if key is None or counter is None:
            return o.reshape(minstd.uniforms_onnx(o, self.seed, numel(shape)), shape)
        high = o.node(
            "BitShift", self.words_onnx(o, key, counter, row, shape), o.scalar(8, DType.U32), direction="RIGHT"
        )
        return o.node("Mul", o.cast(high, DType.F32), o.scalar(2.0**-24, DType.F32))

    def _paddle_uniforms(self, t: TvmEmitter, shape: Shape) -> Tensor:
        def body(loops: Loops, out: Tensor) -> None:
            state = self.engine(t, loops)

            def one(position: Expr) -> None:
                loops.store(out, unflat(t, t.cast(position, DType.I64), shape), self.advance(t, loops, state))

            loops.serial(numel(shape), one)

        (out,) = t.loops([(shape, DType.F32)], body)
        return out

    def engine(self, t: TvmEmitter, loops: Loops) -> Tensor:
        """Paddle's engine, freshly seeded."""
        state = loops.local(DType.U64)
        loops.store(state, 0, t.const(minstd.start(self.seed), DType.U64))
        return state

    def advance(self, t: TvmEmitter, loops: Loops, state: Tensor) -> Expr:
        """The next uniform of Paddle's engine: steps the state, and returns an expression of the new one."""
        loops.store(state, 0, state[0] * minstd.MULTIPLIER % minstd.MODULUS)
        return t.minimum(t.cast(state[0] - 1, DType.F32) * 2.0**-31, minstd.BELOW_ONE)
