"""Random tensors and dropout.  Nothing here has hidden state.

An op draws either from the keystream of model randomness (``generator="chacha20"``: operands ``key`` u32[8]
and ``counter`` u64[], attribute ``stream`` < 2^24, a number of its own per op) or, for parity with seeded
fluid programs, from Paddle's generator started anew from ``seed`` (``generator="paddle"``: no operands).
Privacy noise is not made here: see ``dp``.

In a private step an op whose result has a part for every example also reads ``row``, the index in the lot of the
first row of the physical batch: an example then meets the same numbers however the lot is divided into batches.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...runtime import keystream
from ..ir.core import Value
from ..ir.types import Dim, DType, Shape, Sym, TensorType, dim_div, numel, static_shape
from . import minstd
from .base import Array, Op, OpBuilder
from .emit import Expr, Index, Loops, Scalar, Tensor, TvmEmitter
from .kinds import PUBLIC, ExampleKind, Kind, MixedKind, PublicKind, all_public, constant_rows, default_kind

Generator: TypeAlias = Literal["chacha20", "paddle"]
Implementation: TypeAlias = Literal["downgrade_in_infer", "upscale_in_train"]

_DOMAIN = keystream.Domain.MODEL
_POLAR_TRIES = 64
"""A pair of the polar method is kept with probability pi/4: 64 tries fail with probability 1e-43."""


def _flat(t: TvmEmitter, index: tuple[Index, ...], shape: Shape) -> Expr:
    """The position of an element in row-major order."""
    position: Expr = t.const(0, DType.I64)
    for i, dim in zip(index, shape, strict=True):
        position = position * t.extent(dim) + t.cast(i, DType.I64)
    return position


def _unflat(t: TvmEmitter, position: Expr, shape: Shape) -> tuple[Index, ...]:
    """The index of the element at ``position``."""
    index: list[Index] = []
    for dim in reversed(shape[1:]):
        index.append(position % t.extent(dim))
        position = position // t.extent(dim)
    return (position, *reversed(index)) if shape else ()


def _blocks(count: Dim) -> Dim:
    """Keystream blocks that hold ``count`` words; for a symbolic count a bound that is an extent too."""
    words = keystream.BLOCK_WORDS
    if isinstance(count, Sym):
        return Sym(count.name, -(-count.scale // words))
    return -(-count // words)


@dataclass(frozen=True, eq=False)
class Drawing(Op):
    """Base of every op that draws; the operands and attributes that say from where."""

    no_onnx: ClassVar[str] = "planned with the ONNX target"
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
        count = numel(shape)
        if row is None:
            return None, None, count
        part = self.part(shape)

        def first() -> Expr:
            return row[()] * part // group * blocks

        start = t.compute((), DType.I64, first)
        if part % group == 0:
            return start, None, count
        # A symbolic number of elements is at least its scale: one group more, as a share of them.
        more = Sym(count.name, count.scale + group) if isinstance(count, Sym) else count + group - 1
        return start, row[()] * part % group, more

    def words_tvm(
        self, t: TvmEmitter, key: Tensor, counter: Tensor, row: Tensor | None, shape: Shape
    ) -> Callable[..., Expr]:
        """The word at an index."""
        first, over, count = self._window(t, row, shape, keystream.BLOCK_WORDS, 1)
        made = t.chacha_words(key, counter, self.stream, _DOMAIN, _blocks(count), first)
        return self._reader(t, made, over, shape)

    def normals_tvm(
        self, t: TvmEmitter, key: Tensor, counter: Tensor, row: Tensor | None, shape: Shape
    ) -> Callable[..., Expr]:
        """The standard normal at an index."""
        first, over, count = self._window(t, row, shape, keystream.NORMALS_PER_GROUP, keystream.GROUP_BLOCKS)
        made = t.chacha_normals(key, counter, self.stream, _DOMAIN, count, first)
        return self._reader(t, made, over, shape)

    def _reader(self, t: TvmEmitter, made: Tensor, over: Expr | None, shape: Shape) -> Callable[..., Expr]:
        def read(*index: Index) -> Expr:
            place = self._place_tvm(t, index, shape)
            return made[place if over is None else place + over]

        return read

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

    def _paddle_uniforms(self, t: TvmEmitter, shape: Shape) -> Tensor:
        def body(loops: Loops, out: Tensor) -> None:
            state = self.engine(t, loops)

            def one(position: Expr) -> None:
                loops.store(out, _unflat(t, t.cast(position, DType.I64), shape), self.advance(t, loops, state))

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


@dataclass(frozen=True, eq=False)
class Generated(Drawing):
    """Base of ops whose only result is a random tensor of ``type``."""

    no_vjp: ClassVar[str] = "no operands to differentiate"
    dtypes: ClassVar[tuple[DType, ...]] = (DType.F32,)

    type: TensorType

    def infer(self) -> TensorType:
        self.check_source(self.type.shape)
        if self.type.dtype not in self.dtypes:
            raise self.fail(f"draws {' or '.join(d.value for d in self.dtypes)}, not {self.type}; cast the result")
        return self.type

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        return self.row_kind(kinds, self.type.shape)


@dataclass(frozen=True, eq=False)
class FromUniform(Generated):
    """Base of distributions that map one uniform to one value."""

    @abstractmethod
    def transform(self, u: NDArray[np.float32]) -> NDArray[np.float32]:
        """Values for uniforms."""

    @abstractmethod
    def transform_tvm(self, t: TvmEmitter, u: Expr) -> Scalar:
        """The value for one uniform."""

    def evaluate(self, key: Array | None, counter: Array | None, row: Array | None = None) -> Array:
        return self.transform(self.uniforms(key, counter, row, static_shape(self.type.shape)))

    def to_tvm(self, t: TvmEmitter, key: Tensor | None, counter: Tensor | None, row: Tensor | None) -> Tensor:
        def element(u: Expr) -> Scalar:
            return self.transform_tvm(t, u)

        return t.pointwise(element, self.uniforms_tvm(t, key, counter, row, self.type.shape), dtype=DType.F32)


@dataclass(frozen=True, eq=False)
class Uniform(FromUniform):
    """Uniform on ``[low, high)``: ``u * (high - low) + low`` in float32."""

    name: ClassVar[str] = "random.uniform"

    low: float
    high: float

    def _span(self) -> float:
        return float(np.float32(self.high) - np.float32(self.low))

    def transform(self, u: NDArray[np.float32]) -> NDArray[np.float32]:
        return u * np.float32(self._span()) + np.float32(self.low)

    def transform_tvm(self, t: TvmEmitter, u: Expr) -> Scalar:
        return u * self._span() + self.low


@dataclass(frozen=True, eq=False)
class TruncatedNormal(FromUniform):
    """Normal of mean ``mean`` and deviation ``std`` conditioned on two deviations either side of the mean.

    Inverts the distribution function; Paddle's own inversion differs by up to 6e-6 deviations near the ends.
    """

    name: ClassVar[str] = "random.truncated_normal"

    mean: float
    std: float

    def transform(self, u: NDArray[np.float32]) -> NDArray[np.float32]:
        return minstd.truncated_normals(u) * np.float32(self.std) + np.float32(self.mean)

    def transform_tvm(self, t: TvmEmitter, u: Expr) -> Scalar:
        p = u * minstd.CDF_MASS + minstd.CDF_LOW
        return t.call("erfinv", p * 2.0 - 1.0) * (2.0**0.5 * self.std) + self.mean


@dataclass(frozen=True, eq=False)
class Normal(Generated):
    """Normal of mean ``mean`` and standard deviation ``std``; both generators have complete tails."""

    name: ClassVar[str] = "random.normal"
    capacity: ClassVar[int] = keystream.MAX_BLOCKS * keystream.NORMALS_PER_BLOCK

    mean: float
    std: float

    def evaluate(self, key: Array | None, counter: Array | None, row: Array | None = None) -> Array:
        shape = static_shape(self.type.shape)
        if key is None or counter is None:
            z = minstd.normals(self.seed, math.prod(shape)).reshape(shape)
        else:
            z = self.normals(key, counter, row, shape)
        return z * np.float32(self.std) + np.float32(self.mean)

    def to_tvm(self, t: TvmEmitter, key: Tensor | None, counter: Tensor | None, row: Tensor | None) -> Tensor:
        shape = self.type.shape
        if key is None or counter is None:
            return t.pointwise(self._scaled, self._polar(t, shape), dtype=DType.F32)
        z = self.normals_tvm(t, key, counter, row, shape)
        return t.compute(shape, DType.F32, lambda *index: self._scaled(z(*index)))

    def _scaled(self, z: Expr) -> Expr:
        return z * self.std + self.mean

    def _polar(self, t: TvmEmitter, shape: Shape) -> Tensor:
        """Standard normals of Paddle's generator: see ``minstd.normals``."""
        count = t.extent(numel(shape))

        def body(loops: Loops, out: Tensor) -> None:
            state = self.engine(t, loops)
            open_, pair = loops.local(DType.I32), loops.local(DType.F32, (3,))

            def keep(k: Expr) -> Callable[[], None]:
                def stored() -> None:
                    loops.store(open_, 0, 0)
                    loops.store(pair, 2, t.call("sqrt", t.call("log", pair[2]) * -2.0 / pair[2]))
                    loops.store(out, _unflat(t, k * 2, shape), pair[1] * pair[2])

                    def second() -> None:
                        loops.store(out, _unflat(t, k * 2 + 1, shape), pair[0] * pair[2])

                    loops.when(k * 2 + 1 < count, second)

                return stored

            def one(step: Expr) -> None:
                k = t.cast(step, DType.I64)
                loops.store(open_, 0, 1)

                def attempt(_: Expr) -> None:
                    def draw() -> None:
                        for which in (0, 1):
                            loops.store(pair, which, self.advance(t, loops, state) * 2.0 - 1.0)
                        loops.store(pair, 2, pair[0] * pair[0] + pair[1] * pair[1])
                        loops.when((pair[2] <= 1.0) & pair[2].ne(0.0), keep(k))

                    loops.when(open_[0].eq(1), draw)

                loops.serial(_POLAR_TRIES, attempt)

            loops.serial((count + 1) // 2, one)

        (out,) = t.loops([(shape, DType.F32)], body)
        return out


@dataclass(frozen=True, eq=False)
class Bits(Generated):
    """The words of the keystream themselves, u32."""

    name: ClassVar[str] = "random.bits"
    dtypes: ClassVar[tuple[DType, ...]] = (DType.U32,)

    def infer(self) -> TensorType:
        if self.generator == "paddle":
            raise self.fail("Paddle's generator has 31-bit states, not random words")
        return super().infer()

    def evaluate(self, key: Array, counter: Array, row: Array | None = None) -> Array:
        return self.words(key, counter, row, static_shape(self.type.shape))

    def to_tvm(self, t: TvmEmitter, key: Tensor, counter: Tensor, row: Tensor | None) -> Tensor:
        return t.compute(self.type.shape, DType.U32, self.words_tvm(t, key, counter, row, self.type.shape))


@dataclass(frozen=True, eq=False)
class Dropout(Drawing):
    """Dropout in training: results ``(out, mask)`` with ``out = x * mask``.

    An element is dropped where its uniform is below ``p``.  ``mask``, of x's type, is 0 there and elsewhere
    1 (``downgrade_in_infer``: inference multiplies by ``1 - p``) or ``1 / (1 - p)`` (``upscale_in_train``:
    inference is the identity).  The mask depends on x's shape only.
    """

    name: ClassVar[str] = "random.dropout"

    x: Value
    p: float
    implementation: Implementation = "downgrade_in_infer"

    def infer(self) -> tuple[TensorType, TensorType]:
        kind = self.x.tensor
        self.check_source(kind.shape)
        if not kind.dtype.is_float:
            raise self.fail(f"drops floating-point values, not {kind}")
        if not 0 <= self.p <= 1:
            raise self.fail(f"the dropout probability {self.p} is outside [0, 1]")
        return kind, kind

    @property
    def factor(self) -> float:
        """What a kept element is multiplied by."""
        return 1 / (1 - self.p) if self.implementation == "upscale_in_train" and self.p < 1 else 1.0

    def kept(self, u: NDArray[np.float32]) -> NDArray[np.bool_]:
        # Uniforms are below 1 in float32, too: p = 1 keeps nothing.
        return u >= np.float32(self.p)

    def evaluate(self, key: Array | None, counter: Array | None, row: Array | None, x: Array) -> tuple[Array, Array]:
        kept = self.kept(self.uniforms(key, counter, row, x.shape))
        mask = np.where(kept, np.asarray(self.factor, x.dtype), np.asarray(0, x.dtype))
        # A selection: a dropped Inf or NaN leaves nothing behind.
        return np.where(kept, x, mask) * mask, mask

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        ct = cts[0]
        dx = None if ct is None else b.mul(ct, self.results[1])
        return (*(None for _ in self.operands[:-1]), dx)

    def example_axis(self, kinds: Sequence[Kind]) -> tuple[Kind, Kind]:
        *source, x = kinds
        mask = self.row_kind(source, self.x.tensor.shape)
        if isinstance(mask, MixedKind):
            return mask, mask
        if isinstance(x, ExampleKind):
            if not isinstance(mask, ExampleKind):
                return x, mask
            if mask.axis == x.axis:
                # Elements of the mask are independent: they split along the examples however x does.
                return x, x
        if isinstance(x, PublicKind):
            return mask, mask
        return default_kind(self, (x,)), mask

    def to_tvm(
        self, t: TvmEmitter, key: Tensor | None, counter: Tensor | None, row: Tensor | None, x: Tensor
    ) -> tuple[Tensor, Tensor]:
        u = self.uniforms_tvm(t, key, counter, row, x.shape)
        threshold = float(np.float32(self.p))
        zero = t.const(0.0, x.dtype)

        def kept(a: Expr) -> Scalar:
            return t.select(a >= threshold, t.const(self.factor, x.dtype), zero)

        def applied(a: Expr, m: Expr) -> Scalar:
            return t.select(m.ne(0.0), a * m, zero)

        mask = t.pointwise(kept, u, dtype=x.dtype)
        return t.pointwise(applied, x, mask, dtype=x.dtype), mask


OPS: tuple[type[Op], ...] = (Uniform, Normal, TruncatedNormal, Bits, Dropout)
