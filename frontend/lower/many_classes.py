"""Hierarchical softmax and noise-contrastive estimation."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ...compiler.ir.core import Value
from ...compiler.ir.types import DType, Shape, TensorType
from ...compiler.ops import random
from .context import OpLowering, Rules
from .creation import source
from .loss import check_range

REPEATED = 4096
"""A seeded sampler's draws are kept for so many rows where the size of the batch is open; then they repeat."""


def _paths(classes: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Of every class the inner nodes on its way through a complete tree, where it turns, and which of these there are.

    Class c is leaf c + ``classes`` of a heap whose root is 1; its way goes from the leaf up.
    """
    most = (classes - 1).bit_length()
    leaf = np.arange(classes)[:, None] + classes
    at = np.arange(most)
    there = (leaf >> (at + 1)) > 0
    return np.where(there, (leaf >> (at + 1)) - 1, 0), np.where(there, (leaf >> at) & 1, 0), there.astype(np.int64)


def _hsigmoid(o: OpLowering) -> None:
    b, x, weight = o.b, o.x("X"), o.x("W")
    (rows, width), dtype = x.tensor.shape, x.type.dtype
    if o.has("PathTable"):
        nodes, turns = o.x("PathTable"), o.x("PathCode")
        there = b.less_equal(b.fill((), DType.I64, 0), nodes)
        nodes = b.where(there, nodes, b.fill((), DType.I64, 0))
    else:
        classes = int(o.attr("num_classes"))
        check_range(o, "Label", classes)
        label = b.reshape(o.x("Label"), (rows,))
        name = o.op.output("Out")[0]
        tables = [
            b.gather(o.function.constant(f"{name}@{what}", table), label, 0)
            for what, table in zip(("nodes", "turns", "length"), _paths(classes), strict=True)
        ]
        nodes, turns, there = tables[0], tables[1], b.equal(tables[2], b.fill((), DType.I64, 1))
    of_nodes = b.gather(weight, nodes, 0)
    before = b.reduce_sum(b.mul(of_nodes, b.reshape(x, (rows, 1, width))), (2,))
    if o.has("Bias"):
        bias = o.x("Bias")
        before = b.add(before, b.gather(b.reshape(bias, bias.tensor.shape[:1]), nodes, 0))
    # A node that is not on the way counts as an undecided one, whatever it holds.
    before = b.clip(b.where(there, before, b.fill((), dtype, 0.0)), -40.0, 40.0)
    each = b.softplus(before)
    turned = b.mul(b.cast(turns, dtype), before)
    o.set(each, "PreOut")
    o.set(b.reduce_sum(b.sub(each, turned), (1,), keepdims=True))


def _words(seed: int) -> Iterator[int]:
    """The 64-bit words of the Mersenne twister MT19937-64 (Nishimura, 2000)."""
    most, size, middle = (1 << 64) - 1, 312, 156
    state = [seed & most]
    for i in range(1, size):
        state.append((6364136223846793005 * (state[-1] ^ (state[-1] >> 62)) + i) & most)
    while True:
        for k in range(size):
            x = (state[k] & 0xFFFFFFFF80000000) | (state[(k + 1) % size] & 0x7FFFFFFF)
            state[k] = state[(k + middle) % size] ^ (x >> 1) ^ (0xB5026F5AA96619E9 if x & 1 else 0)
        for y in state:
            y ^= (y >> 29) & 0x5555555555555555
            y ^= (y << 17) & 0x71D67FFFEDA60000
            y ^= (y << 37) & 0xFFF7EEE000000000
            yield (y ^ (y >> 43)) & most


@cache
def seeded_classes(seed: int, classes: int, count: int) -> tuple[int, ...]:
    """The first classes that Paddle's uniform sampler draws: words in equal parts, those above the last one left out.

    >>> seeded_classes(5, 7, 12)
    (4, 0, 1, 4, 0, 0, 0, 4, 5, 1, 0, 4)
    """
    part = ((1 << 64) - 1) // classes
    drawn = (word // part for word in _words(seed) if word < part * classes)
    return tuple(itertools.islice(drawn, count))


def _drawn(o: OpLowering, rows: Value, count: int) -> Value:
    """Classes drawn for every row, i64[N, count]."""
    b, classes, seed, sampler = o.b, int(o.attr("num_total_classes")), int(o.attr("seed", 0)), o.attr("sampler", 0)
    size = rows.tensor.shape[0]
    stated = list(o.attr("custom_neg_classes", None) or [])
    if stated:
        return b.broadcast(o.function.constant("custom_neg_classes", np.asarray(stated, np.int64)), (size, count))
    if seed and sampler == 0 and not o.function.private:
        held = size if isinstance(size, int) else REPEATED
        table = np.asarray(seeded_classes(seed, classes, held * count), np.int64).reshape(held, count)
        kept = o.function.constant(f"{o.op.output('Cost')[0]}@classes", table)
        if isinstance(size, int):
            return kept
        at = b.iota((size,), 0, DType.I64)
        times = b.cast(b.floor(b.scale(b.cast(at, DType.F64), 1.0 / held)), DType.I64)
        return b.gather(kept, b.sub(at, b.mul(times, b.fill((), DType.I64, held))), 0)
    number = _uniform(o, (size, count))
    most = b.fill((), DType.I64, classes - 1)
    if sampler == 1:
        power = b.exp(b.scale(number, float(np.log(classes))))
        return b.minimum(b.add(b.cast(power, DType.I64), b.fill((), DType.I64, -1)), most)
    place = b.minimum(b.cast(b.scale(number, float(classes)), DType.I64), most)
    if sampler == 0:
        return place
    kept = b.less(_uniform(o, (size, count)), b.gather(o.x("CustomDistAliasProbs"), place, 0))
    return b.where(kept, place, b.cast(b.gather(o.x("CustomDistAlias"), place, 0), DType.I64))


def _uniform(o: OpLowering, shape: Shape) -> Value:
    return o.b(random.Uniform(type=TensorType(DType.F32, shape), low=0.0, high=1.0, **source(o, 0)))


def _probability(o: OpLowering, labels: Value, dtype: DType) -> Value:
    """The probability that the sampler draws each of the classes."""
    b, classes = o.b, int(o.attr("num_total_classes"))
    match o.attr("sampler", 0):
        case 1:
            number = b.cast(labels, dtype)
            ratio = b.div(b.scale(number, 1.0, 2.0), b.scale(number, 1.0, 1.0))
            return b.scale(b.log(ratio), 1.0 / float(np.log(classes)))
        case 2:
            return b.cast(b.gather(o.x("CustomDistProbs"), labels, 0), dtype)
        case _:
            return b.fill(labels.tensor.shape, dtype, 1.0 / classes)


def _nce(o: OpLowering) -> None:
    b, x, right, weight = o.b, o.x("Input"), o.x("Label"), o.x("Weight")
    (rows, width), dtype, count = x.tensor.shape, x.type.dtype, int(o.attr("num_neg_samples"))
    classes, true = int(o.attr("num_total_classes")), right.tensor.shape[1]
    assert isinstance(true, int)
    check_range(o, "Label", classes)
    labels = b.concat((right, _drawn(o, right, count)), 1)
    scores = b.reduce_sum(b.mul(b.gather(weight, labels, 0), b.reshape(x, (rows, 1, width))), (2,))
    if o.has("Bias"):
        scores = b.add(scores, b.gather(b.reshape(o.x("Bias"), (classes,)), labels, 0))
    chosen = b.sigmoid(scores)
    noise = b.scale(_probability(o, labels, dtype), float(count))
    total = b.add(chosen, noise)
    is_right = b.less(b.iota((true + count,), 0, DType.I64), b.fill((), DType.I64, true))
    cost = b.neg(b.log(b.div(b.where(is_right, chosen, noise), total)))
    cost = b.reduce_sum(cost, (1,), keepdims=True)
    if o.has("SampleWeight"):
        cost = b.mul(cost, b.reshape(o.x("SampleWeight"), (rows, 1)))
    o.set(cost, "Cost")
    o.set(chosen, "SampleLogits")
    o.set(labels, "SampleLabels")


RULES: Rules = {"hierarchical_sigmoid": _hsigmoid, "nce": _nce}
