"""How a value depends on the examples of a batch: the abstract domain of the separability proof.

Each op's ``example_axis`` rule maps the kinds of its operands to the kinds of its results.  Everything a
rule does not cover is ``Mixed``: the domain errs towards refusing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ..ir.core import OpBase
from ..ir.types import Shape, Sym


@dataclass(frozen=True)
class PublicKind:
    """A function of state, constants, public feeds and shared randomness only."""

    def __str__(self) -> str:
        return "public"


@dataclass(frozen=True)
class ExampleKind:
    """Axis ``axis`` has extent ``pre * N * post``; its slice ``(u, i, t)`` depends on example i alone."""

    axis: int
    pre: int = 1
    post: int = 1

    def __str__(self) -> str:
        inner = "" if self.pre == self.post == 1 else f", pre={self.pre}, post={self.post}"
        return f"example(axis={self.axis}{inner})"


@dataclass(frozen=True)
class TotalKind:
    """``sum_i f_i`` (times 1/N for ``mean``), plus a term free of data."""

    form: Literal["mean", "sum"]

    def __str__(self) -> str:
        return f"total({self.form})"


@dataclass(frozen=True)
class MixedKind:
    """Anything else.  ``cause`` is the op where examples first met; ``remedy`` is what the user can write."""

    reason: str
    cause: OpBase
    remedy: str = ""

    def __str__(self) -> str:
        return "mixed"


Kind: TypeAlias = PublicKind | ExampleKind | TotalKind | MixedKind
PUBLIC = PublicKind()

# Ways out that several ops offer.
ONE_SUM = "write the loss as one mean (or one sum) over examples of per-example terms"
OWN_COUNT = "divide by the example's own count, or by a public constant"


def constant_rows(op: OpBase, shape: Shape) -> Kind:
    """A public value repeated to ``shape``: over the batch, every example has the same, which keeps them apart.

    Over the batch twice, each example's part has an extent that tells the size of the batch.
    """
    axes = [axis for axis, dim in enumerate(shape) if isinstance(dim, Sym)]
    if not axes:
        return PUBLIC
    if len(axes) > 1:
        return MixedKind(f"{op.name} makes a value whose extents tell the size of the batch", op)
    dim = shape[axes[0]]
    assert isinstance(dim, Sym)
    return ExampleKind(axes[0], 1, dim.scale)


def first_mixed(kinds: Sequence[Kind]) -> MixedKind | None:
    """The earliest cause among mixed operands: errors name where examples met, not where it was noticed."""
    return next((kind for kind in kinds if isinstance(kind, MixedKind)), None)


def all_public(kinds: Sequence[Kind]) -> bool:
    """Whether no operand depends on any example."""
    return all(isinstance(kind, PublicKind) for kind in kinds)


def default_kind(op: OpBase, kinds: Sequence[Kind]) -> Kind:
    """Public operands give public results; everything else is mixed."""
    if all_public(kinds):
        return PUBLIC
    return first_mixed(kinds) or MixedKind(f"{op.name} has no rule that keeps examples apart", op)


def aligned_kind(op: OpBase, kinds: Sequence[Kind], shapes: Sequence[Shape], out: Shape, *, linear: bool) -> Kind:
    """Elementwise with right-aligned broadcasting: every example operand must lie on the same output axis.

    ``linear`` states that the op is linear in its (single) total operand or adds totals; rules for totals
    that depend on operand positions are the op's own.
    """
    mixed = first_mixed(kinds)
    if mixed is not None:
        return mixed
    if all_public(kinds):
        return PUBLIC
    if any(isinstance(kind, TotalKind) for kind in kinds):
        totals = {kind for kind in kinds if isinstance(kind, TotalKind)}
        rows = any(isinstance(kind, ExampleKind) for kind in kinds)
        if linear and len(totals) == 1 and not rows:
            return totals.pop()
        if linear and not rows:
            return MixedKind(f"{op.name} adds a mean over the batch to a sum over it", op, "write both as means")
        return MixedKind(
            f"{op.name} combines a sum over the batch with other values in a way that is not a sum over examples",
            op,
            ONE_SUM,
        )
    found: set[ExampleKind] = set()
    for kind, shape in zip(kinds, shapes, strict=True):
        if isinstance(kind, ExampleKind):
            found.add(ExampleKind(kind.axis + len(out) - len(shape), kind.pre, kind.post))
    if len(found) == 1:
        return found.pop()
    return MixedKind(f"{op.name} combines different examples (the batch lies on different axes)", op)


def rowwise_kind(op: OpBase, kind: Kind, axes: Sequence[int], what: str) -> Kind:
    """An op that mixes elements along ``axes`` of its operand and keeps the shape (softmax, sort, flip …)."""
    if isinstance(kind, ExampleKind):
        if kind.axis not in axes:
            return kind
        return MixedKind(
            f"{op.name} works along the batch axis ({what})",
            op,
            "let it work along another axis; where time was folded into the batch, reshape back first",
        )
    if isinstance(kind, TotalKind):
        return default_kind(op, (kind,))
    return kind
