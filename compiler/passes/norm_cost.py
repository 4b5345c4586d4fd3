"""The cost model of per-example norms: which of the ways to take them is cheapest for a parameter.

All numbers are for one example, from static shapes.  Every plan includes the clipped sum: its reads of per-example
gradients where they are stored, else one more product (book-keeping).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..ops.factors import Factors

Rule = Literal["outer", "gram", "direct", "sum", "materialised", "mapped"]
"""``outer``: |x|²|δ|² of a single outer product.  ``gram``: from inner products of tokens.  ``direct``: example by
example, added up and squared, nothing stored.  ``sum``: of a parameter that is broadcast.  ``materialised``: one
gradient per example is stored.  ``mapped``: the same, by the op's vjp on one example at a time."""

# From kernels of the cpu target, 32 examples, 16 … 256 tokens, matrices of 64 … 1024 rows: on two loaded cores they ran
# at 20, 26, 12 and 8 Gflop/s in this order.  Only ratios count.
F32_PRODUCT = 40e9  # flop/s of single-precision products over the batch, rows scaled and selected first
F32_SMALL = 50e9  # flop/s of one single-precision product per example
F64_GRAM = 25e9  # flop/s of float64 Gram matrices
F64_DIRECT = 18e9  # flop/s of the direct form
MEMORY = 8e9  # byte/s
CACHED = 20e9  # byte/s of gradients that the last-level cache holds for a few dozen examples
CACHED_LIMIT = 256 << 10  # their bytes per example
STORED_LIMIT = 1 << 20
"""Bytes per example above which gradients are materialised only where there is no other way."""
MAPPED = 20.0  # how much slower the vjp of one example at a time is


@dataclass(frozen=True)
class Cost:
    """What one way to take the norms of a parameter's per-example gradients costs for one example.

    Args:
        rule: Its name in dumps.
        flops: Floating-point operations, the clipped sum included.
        bytes: Memory read and written.
        seconds: Predicted time; only compared.
        stored: Bytes of a buffer of gradients, 0 without one.
    """

    rule: Rule
    flops: int
    bytes: int
    seconds: float
    stored: int = 0

    def __str__(self) -> str:
        return f"{self.rule} {_quantity(self.flops, 'FLOP')} {_quantity(self.bytes, 'B')}"


def order(cost: Cost) -> tuple[bool, float]:
    """The cheapest first; what needs a large buffer after everything else."""
    return cost.stored > STORED_LIMIT, cost.seconds


def factor_costs(blocks: Sequence[Factors]) -> dict[Rule, Cost]:
    """The forms that the blocks of a matrix allow."""
    groups, d, p = blocks[0].matrices
    tokens = sum(block.tokens for block in blocks)
    dense = sum(block.tokens for block in blocks if block.dense)
    vectors = 4 * groups * (dense * d + tokens * p)
    # The book-keeping product; a lookup's adds one row per token.
    product = 2 * groups * (dense * d * p + (tokens - dense) * p)
    product_seconds = product / F32_PRODUCT + 4 * vectors / MEMORY
    if tokens == dense == groups == 1:
        flops = 2 * (d + p)
        return {"outer": Cost("outer", flops + product, 3 * vectors, flops / F64_GRAM + product_seconds)}
    flops = 2 * groups * (dense * dense * d + _pairs(blocks) * p)
    memory = 16 * groups * dense * dense + vectors
    seconds = flops / F64_GRAM + memory / MEMORY + product_seconds
    found: dict[Rule, Cost] = {"gram": Cost("gram", flops + product, memory + 2 * vectors, seconds)}
    if dense == tokens:
        seconds = product / F64_DIRECT + vectors / MEMORY + product_seconds
        found["direct"] = Cost("direct", 2 * product, 3 * vectors, seconds)
        stored = 4 * groups * d * p
        seconds = product / F32_SMALL + vectors / MEMORY + 3 * stored / _rate(stored)
        found["materialised"] = Cost("materialised", product + stored, vectors + 3 * stored, seconds, stored)
    return found


def _pairs(blocks: Sequence[Factors]) -> int:
    """Pairs of tokens whose right vectors are multiplied: in text, about every eighth pair of ids is equal."""
    total = 0
    for i, block in enumerate(blocks):
        total += block.tokens**2 if block.dense else block.tokens + block.tokens**2 // 8
        total += 2 * sum(block.tokens * other.tokens for other in blocks[:i])
    return total


def lookup_cost(block: Factors) -> Cost:
    """The direct form of a lookup: every id is compared with all others, then cotangents are added up by id."""
    flops = block.tokens**2 + 6 * block.tokens * block.columns
    memory = 4 * block.tokens * block.columns
    return Cost("direct", flops, memory, flops / F64_DIRECT + memory / MEMORY)


def sum_cost(size: int) -> Cost:
    """A parameter that is added to ``size`` elements of an example, by its norm rule: norm and sum read them."""
    return Cost("sum", 4 * size, 2 * 4 * size, 2 * 4 * size / MEMORY)


def stored_cost(size: int, parameter: int, mapped: bool) -> Cost:
    """Gradients of ``parameter`` elements each, stored, from ``size`` elements of cotangents."""
    stored = 4 * parameter
    flops, memory = size + 4 * parameter, 4 * size + 3 * stored
    seconds = 4 * size / MEMORY + 3 * stored / _rate(stored)
    return Cost("mapped" if mapped else "materialised", flops, memory, MAPPED * seconds if mapped else seconds, stored)


def _rate(stored: int) -> float:
    return CACHED if stored <= CACHED_LIMIT else MEMORY


def described(cost: Cost) -> str:
    """``gram 1.2 MFLOP 300 kB``: predicted for one example."""
    return f"{cost.rule} {_quantity(cost.flops, 'FLOP')} {_quantity(cost.bytes, 'B')}"


def _quantity(amount: int, unit: str) -> str:
    for power, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if amount >= power:
            return f"{amount / power:.3g} {prefix}{unit}"
    return f"{amount} {unit}"
