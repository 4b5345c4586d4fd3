"""Kinds of results from kinds of operands: the dispatch of the rules, and control flow, which needs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from .kinds import PUBLIC, Context, Found, Kind, Mixed, Public, Rows, Rule, all_public, groups_of, mixed
from .rules import PLAIN
from .text import ROWS, Op, Region


def kinds_of(op: Op, kinds: Sequence[Kind], context: Context) -> tuple[Kind, ...]:
    """The kinds of the results of ``op``, one each; marks of scaling and selection are not looked at."""
    rule = RULES.get(op.name)
    first = next((kind for kind in kinds if isinstance(kind, Mixed)), None)
    found: Found
    if first is not None and op.name != "grad.backward":
        found = first
    elif all_public(kinds) and op.name not in SPECIAL and not op.regions:
        found = PUBLIC
    elif rule is None:
        found = mixed(op, "it has no rule that keeps examples apart")
    else:
        try:
            found = rule(op, [k.bare if isinstance(k, Rows) else k for k in kinds], context)
        except (LookupError, TypeError, ValueError, ArithmeticError, AssertionError) as error:
            found = mixed(op, f"its operands and attributes do not fit ({error})")
    every = found if isinstance(found, tuple) else (found,) * len(op.results)
    if len(every) != len(op.results):
        return (mixed(op, "it has an unexpected number of results"),) * len(op.results)
    return tuple(_sized(op, result, kind, context) for result, kind in zip(op.results, every, strict=True))


def _sized(op: Op, result: str, kind: Kind, context: Context) -> Kind:
    """A public value must not have an extent that tells the number of rows; an example's axis must fit its type."""
    kind_type = context.types[result]
    if kind_type.symbols:
        return mixed(op, f"it has an extent {kind_type.symbols[0]}, which is not the batch")
    if kind_type.shape is None:
        return kind if isinstance(kind, Mixed) else mixed(op, "it has rows of different lengths")
    shape = kind_type.shape
    if isinstance(kind, Rows):
        fits = kind.axis < len(shape) and shape[kind.axis] == kind.pre * context.rows * kind.post
        return kind if fits else mixed(op, "its type does not keep the rows of the batch")
    if context.rows != ROWS or not isinstance(kind, Public):
        return kind
    axes = [axis for axis, size in enumerate(shape) if size >= ROWS]
    if not axes:
        return kind
    if len(axes) == 1 and op.name in REPEATED and not (op.name == "shape.iota" and op.integer("axis") == axes[0]):
        return Rows(axes[0], 1, shape[axes[0]] // ROWS)
    return mixed(op, "its result tells the size of the batch")


# Control flow -----------------------------------------------------------------------------------------------


def region_kinds(region: Region, kinds: Sequence[Kind], context: Context) -> tuple[Kind, ...]:
    """The kinds of what a region yields; it sees its parameters and nothing else. Raises KeyError, ValueError."""
    known: dict[str, Kind] = dict(zip(region.params, kinds, strict=True))
    for op in region.ops:
        if op.name.startswith(("state.", "dp.", "grad.")) and op.name not in RULES:
            raise ValueError(f"{op.name} stands inside a region")
        known.update(zip(op.results, kinds_of(op, [known[name] for name in op.operands], context), strict=True))
    return tuple(known[name] for name in region.results)


def _join(op: Op, a: Kind, b: Kind) -> Kind:
    if a == b or isinstance(a, Mixed) or isinstance(b, Public):
        return a
    if isinstance(b, Mixed) or isinstance(a, Public):
        return b
    return mixed(op, "the batch lies on different axes from step to step")


def _fixpoint(op: Op, start: Sequence[Kind], step: Callable[[Sequence[Kind]], Sequence[Kind]]) -> tuple[Kind, ...]:
    """Kinds of carried values: they only rise, from public over rows to mixed, so this ends."""
    current = tuple(start)
    while True:
        after = tuple(_join(op, a, b) for a, b in zip(current, step(current), strict=True))
        if all(a == b or isinstance(a, Mixed) for a, b in zip(current, after, strict=True)):
            return current
        current = after


def _shifted(op: Op, kind: Kind, by: int) -> Kind:
    if not isinstance(kind, Rows):
        return kind
    return kind.on(kind.axis + by) if kind.axis + by >= 0 else mixed(op, "it runs over the batch")


def _scan(op: Op, kinds: Sequence[Kind], context: Context) -> Found:
    init, stacked, whole = groups_of(op, kinds)
    (body,) = op.regions
    if op.integer("trip") >= ROWS:
        return mixed(op, "the number of its steps is the size of the batch")
    slices = [_shifted(op, kind, -1) for kind in stacked]

    def step(carried: Sequence[Kind]) -> tuple[Kind, ...]:
        return region_kinds(body, [PUBLIC, *carried, *slices, *whole], context)

    carried = _fixpoint(op, init, lambda now: step(now)[: len(init)])
    return (*carried, *(_shifted(op, kind, 1) for kind in step(carried)[len(init) :]))


def _while(op: Op, kinds: Sequence[Kind], context: Context) -> Found:
    init, whole = groups_of(op, kinds)
    test, body = op.regions
    carried = _fixpoint(op, init, lambda now: region_kinds(body, [*now, *whole], context))
    if not all_public(region_kinds(test, [*carried, *whole], context)):
        return mixed(op, "the number of its steps depends on examples")
    return carried


def _if(op: Op, kinds: Sequence[Kind], context: Context) -> Found:
    predicate, *arguments = kinds
    if not isinstance(predicate, Public):
        return mixed(op, "its predicate depends on examples")
    branches = [region_kinds(region, arguments, context) for region in op.regions]
    return tuple(_join(op, *pair) for pair in zip(*branches, strict=True))


def _map(op: Op, kinds: Sequence[Kind], context: Context) -> Found:
    """Trips are examples: every slice is one example's, whatever is read whole is public."""
    (body,) = op.regions
    inside = region_kinds(body, [PUBLIC] * len(kinds), context)  # within one step all belongs to one example
    first = next((kind for kind in inside if isinstance(kind, Mixed)), None)
    if first is not None or all_public(kinds):
        return first or PUBLIC
    for kind, name, axis in zip(kinds, op.operands, op.integers("axes"), strict=True):
        if isinstance(kind, Rows):
            if kind.axis != axis or kind.pre != 1 or context.shape(name)[axis] != context.rows * kind.post:
                return mixed(op, "one of its steps reads several examples")
        elif not isinstance(kind, Public) or (axis >= 0 and context.rows == ROWS):
            return mixed(op, "one of its steps reads several examples")
    if op.integer("trip") != context.rows:
        return mixed(op, "its steps are not the examples")
    return Rows(0)


REPEATED = frozenset(
    {
        "elementwise.fill", "shape.iota", "shape.broadcast", "control.map",
        "random.uniform", "random.normal", "random.truncated_normal", "random.bits",
    }
)  # fmt: skip
"""Ops that may repeat public values, or draw fresh ones, over the batch: every example then has its own."""

SPECIAL = frozenset({
    "grad.backward", "shape.extent", "random.uniform", "random.normal", "random.truncated_normal", "random.bits",
})  # fmt: skip
"""Ops (beside those with regions) that are not public by having public operands alone."""

RULES: Mapping[str, Rule] = {
    **PLAIN,
    "control.scan": _scan,
    "control.while": _while,
    "control.if": _if,
    "control.map": _map,
}
"""Op -> what it does to rows.  Operands that are all public give public results without asking."""
