"""Whole numbers, orders, columns and places that are drawn at random."""

from __future__ import annotations

import math

from ...compiler.ir.core import Value
from ...compiler.ir.types import Dim, DType, Shape, TensorType
from ...compiler.ops import elementwise, indexing, random
from ...compiler.ops.minstd import MODULUS, MULTIPLIER, doubles
from ..vartype import VarType
from .context import OpLowering, Rules, dtype_of
from .creation import array, extents_of, source
from .paddle_random import integers, permutation


def _seed(o: OpLowering) -> int:
    """The op's own seed; private programs have none, as Paddle's numbers repeat in every step."""
    return 0 if o.function.private else o.attr("seed", 0)


def _words(o: OpLowering, shape: Shape) -> Value:
    """Whole numbers of [0, 2^62) from the keystream, i64."""
    where = source(o, 0)
    pairs = o.b.cast(o.b(random.Bits(type=TensorType(DType.U32, (*shape, 2)), **where)), DType.I64)
    high, low = (o.b.reshape(half, shape) for half in o.b.split(pairs, -1, [1, 1]))
    high = o.b(elementwise.FloorDiv(high, _i64(o, 4)))
    return o.b.add(o.b.mul(high, _i64(o, 2**32)), low)


def _i64(o: OpLowering, value: int) -> Value:
    return o.b.fill((), DType.I64, value)


def _randint(o: OpLowering) -> None:
    shape, low, high = extents_of(o), int(o.attr("low")), int(o.attr("high"))
    dtype, seed = dtype_of(o.attr("dtype", VarType.INT64)), _seed(o)
    fixed = [d for d in shape if isinstance(d, int)]
    if seed and len(fixed) == len(shape):
        o.set(array(o, integers(seed, math.prod(fixed), low, high).reshape(fixed).astype(dtype.numpy)))
        return
    if seed:
        raise o.error(f"seeded numbers of the open shape [{', '.join(map(str, shape))}]", "leave the seed out")
    drawn = o.b(elementwise.Mod(_words(o, shape), _i64(o, high - low)))
    o.set(o.b.cast(o.b.add(drawn, _i64(o, low)), dtype))


def _randperm(o: OpLowering) -> None:
    count, seed = int(o.attr("n")), _seed(o)
    dtype = dtype_of(o.attr("dtype", VarType.INT64))
    if seed:
        o.set(array(o, permutation(seed, count).astype(dtype.numpy)))
        return
    _, order = o.b.emit(indexing.Argsort(_words(o, (count,)), 0, False))
    o.set(o.b.cast(order, dtype))


def _sampling_id(o: OpLowering) -> None:
    x = o.x()
    rows, columns = x.tensor.shape
    low, high, seed = o.attr("min", 0.0), o.attr("max", 1.0), _seed(o)
    if seed and x.tensor.dtype is DType.F64:  # two draws per row
        if not isinstance(rows, int):
            raise o.error("seeded places in float64 rows of an open number", "cast to float32, or leave the seed out")
        bound = array(o, doubles(seed, rows) * (high - low) + low)
    else:
        kind = TensorType(DType.F32, (rows,))
        bound = o.b.cast(o.b(random.Uniform(type=kind, low=low, high=high, **source(o, seed))), x.tensor.dtype)
    bound = o.b.reshape(bound, (rows, 1))
    passed = o.b.cast(o.b.less_equal(o.b.cumsum(x, 1), bound), DType.I64)
    found = o.b.reduce_sum(passed, (1,))
    last = o.b.sub(o.b.extent(columns, DType.I64), _i64(o, 1))
    o.set(o.b.minimum(found, last))


def _random_crop(o: OpLowering) -> None:
    """Each element of the first axes has draws of its own of Paddle's engine, which goes on from step to step."""
    x, state, sizes = o.x(), o.number(o.x("Seed")), [int(d) for d in o.attr("shape")]
    first = x.tensor.rank - len(sizes)
    rows = math.prod(d for d in x.tensor.shape[:first] if isinstance(d, int))
    if not all(isinstance(d, int) for d in x.tensor.shape):
        raise o.error(f"{x.type} is open", "declare the images with a fixed batch")

    def drawn(number: int) -> Value:
        factor = _i64(o, pow(MULTIPLIER, number, MODULUS))
        return o.b(elementwise.Mod(o.b.mul(state, factor), _i64(o, MODULUS)))

    cut = o.b.reshape(x, (rows, *x.tensor.shape[first:]))
    for axis, size in enumerate(sizes):
        extent = x.tensor.shape[first + axis]
        assert isinstance(extent, int)
        draws = o.b.concat([o.one(drawn(row * len(sizes) + axis + 1)) for row in range(rows)], 0)
        width = (MODULUS - 2) // (extent - size + 1)
        start = o.b(elementwise.FloorDiv(o.b.sub(draws, _i64(o, 1)), _i64(o, width)))
        places = o.b.add(o.b.reshape(start, (rows, 1)), o.b.iota((1, size), 1, DType.I64))
        shape: tuple[Dim, ...] = (*cut.tensor.shape[: axis + 1], size, *cut.tensor.shape[axis + 2 :])
        index = o.b.reshape(places, (rows, *(1,) * axis, size, *(1,) * (len(sizes) - axis - 1)))
        cut = o.b.take_along(cut, o.b.broadcast(index, shape), axis + 1)
    o.set(o.b.reshape(cut, (*x.tensor.shape[:first], *sizes)))
    o.set(o.one(drawn(rows * len(sizes) + 1)), "SeedOut")


RULES: Rules = {
    "randint": _randint,
    "randperm": _randperm,
    "sampling_id": _sampling_id,
    "random_crop": _random_crop,
}
