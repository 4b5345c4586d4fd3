"""What every op without regions does to rows: docs/privacy.md, section 3.

Written from the specification alone, as a second opinion on the compiler's proof.  An op that has no line in the
table is public on public operands and mixed on all others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .kinds import PUBLIC, Context, Found, Kind, Public, Rows, Rule, Total, all_public, groups_of, mixed, moved
from .text import ROWS, Op


def _aligned(op: Op, kinds: Sequence[Kind], context: Context) -> Found:
    """Elementwise with broadcasting from the right: all rows on one output axis."""
    out = context.shape(op.result)
    found: set[Rows] = set()
    for kind, name in zip(kinds, op.operands, strict=True):
        if isinstance(kind, Rows):
            found.add(kind.on(kind.axis + len(out) - len(context.shape(name))))
        elif not isinstance(kind, Public):
            return _totals(op, kinds)
    if len(found) == 1:
        return found.pop()
    return mixed(op, "it combines different examples: the batch lies on different axes")


def _totals(op: Op, kinds: Sequence[Kind]) -> Found:
    """What a sum over the batch stays one under."""
    forms = {kind for kind in kinds if isinstance(kind, Total)}
    others = [kind for kind in kinds if not isinstance(kind, Total | Public)]
    if len(forms) == 1 and not others:
        linear = {"unary.neg", "unary.scale", "elementwise.cast", "elementwise.add", "elementwise.sub"}
        alone = sum(isinstance(kind, Total) for kind in kinds) == 1
        if (
            op.name in linear
            or (op.name == "elementwise.mul" and alone)
            or (op.name == "elementwise.div" and isinstance(kinds[0], Total) and alone)
        ):
            return forms.pop()
    return mixed(op, "a sum over the batch enters it, and what it gives is no sum over examples")


def _reduce(op: Op, kinds: Sequence[Kind], context: Context) -> Found:
    (kind,) = kinds
    if not isinstance(kind, Rows):
        return mixed(op, "it reduces a sum over the batch")
    rank = len(context.shape(op.operands[0]))
    single = op.name in ("reduce.argmax", "reduce.argmin")
    axes = {axis % rank for axis in ((op.integer("axis"),) if single else op.integers("axes"))}
    if kind.axis not in axes:
        return kind if op.flag("keepdims") else kind.on(kind.axis - sum(axis < kind.axis for axis in axes))
    if op.name == "reduce.sum":
        return Total("sum")
    if op.name == "reduce.mean":
        return Total("mean")
    return mixed(op, "it takes one value out of the whole batch")


def _along(attribute: str, default: int | None = None) -> Rule:
    """Ops that mix elements along one axis and keep the others; all operands of the rank of the first."""

    def rule(op: Op, kinds: Sequence[Kind], context: Context) -> Found:
        rank = len(context.shape(op.operands[0]))
        axis = op.integer(attribute, default) % rank
        return _apart(op, kinds, context, {axis})

    return rule


def _along_all(attribute: str) -> Rule:
    def rule(op: Op, kinds: Sequence[Kind], context: Context) -> Found:
        rank = len(context.shape(op.operands[0]))
        return _apart(op, kinds, context, {axis % rank for axis in op.integers(attribute)})

    return rule


def _apart(op: Op, kinds: Sequence[Kind], context: Context, axes: set[int]) -> Found:
    """All rows on one axis outside ``axes``, operands of equal rank."""
    ranks = {len(context.shape(name)) for name in op.operands}
    found = {kind for kind in kinds if isinstance(kind, Rows)}
    if any(not isinstance(kind, Rows | Public) for kind in kinds) or len(found) != 1 or len(ranks) != 1:
        return mixed(op, "its operands do not keep examples apart")
    kind = found.pop()
    return mixed(op, f"it works along axis {kind.axis}, the batch") if kind.axis in axes else kind


def _last(op: Op, kinds: Sequence[Kind], context: Context) -> Found:
    return _apart(op, kinds, context, {len(context.shape(op.operands[0])) - 1})


def _images(op: Op, kinds: Sequence[Kind], context: Context) -> Found:
    """Pooling: windows lie in axes 2 and 3."""
    return _apart(op, kinds, context, {2, 3})


def _matmul(op: Op, kinds: Sequence[Kind], context: Context) -> Found:
    rank = len(context.shape(op.result))
    found: set[Rows] = set()
    for kind, name, transposed, free in zip(
        kinds, op.operands, (op.flag("ta"), op.flag("tb")), (rank - 2, rank - 1), strict=True
    ):
        if isinstance(kind, Public):
            continue
        if not isinstance(kind, Rows):
            return mixed(op, "a sum over the batch enters it")
        own = len(context.shape(name))
        # The axis of the operand that stays: rows of the first, columns of the second.
        stays = (
            (own - 2 if free == rank - 2 else own - 1) if not transposed else (own - 1 if free == rank - 2 else own - 2)
        )
        if kind.axis < own - 2:
            found.add(kind.on(kind.axis + rank - own))
        elif kind.axis == stays:
            found.add(kind.on(free))
        else:
            return mixed(op, "it sums over the batch")
    return found.pop() if len(found) == 1 else mixed(op, "it pairs every example with every other")


def _filtered(op: Op, kinds: Sequence[Kind], context: Context) -> Found:
    """conv2d and its transpose: images are rows, the filter is public."""
    image, filters = (kinds[0], kinds[1]) if op.name == "conv.conv2d" else (kinds[1], kinds[0])
    if isinstance(filters, Public) and isinstance(image, Rows) and image.axis == 0:
        return image
    return mixed(op, "its filter depends on examples, or its images are not rows")


def _first(op: Op, kinds: Sequence[Kind], context: Context) -> Found:
    """Each result row is made of the operands' rows of the same example, on axis 0."""
    if all(kind == Rows(0) or isinstance(kind, Public) for kind in kinds):
        return Rows(0)
    return mixed(op, "its operands are not one row per example")


def _windows(op: Op, kinds: Sequence[Kind], context: Context) -> Found:
    (kind,) = kinds
    return kind if isinstance(kind, Rows) and kind.axis == 0 else mixed(op, "its images are not rows")


def _blocks(op: Op, kinds: Sequence[Kind], context: Context) -> Found:
    """One number per matrix of an example: all operands have the same rows on axis 0."""
    found = {kind for kind in kinds if isinstance(kind, Rows)}
    if len(found) == 1 and all(isinstance(kind, Rows | Public) for kind in kinds):
        kind = found.pop()
        if kind.axis == 0 and kind.pre == 1:
            return kind
    return mixed(op, "its operands are not rows of the same examples")


def _reshape(op: Op, kinds: Sequence[Kind], context: Context) -> Found:
    (kind,) = kinds
    if not isinstance(kind, Rows):
        return kind
    found = moved(context.shape(op.operands[0]), kind, context.shape(op.result), context.rows)
    return found or mixed(op, "it tears the batch apart")


def _transpose(op: Op, kinds: Sequence[Kind], context: Context) -> Found:
    (kind,) = kinds
    return kind.on(op.integers("perm").index(kind.axis)) if isinstance(kind, Rows) else kind


def _broadcast(op: Op, kinds: Sequence[Kind], context: Context) -> Found:
    (kind,) = kinds
    if not isinstance(kind, Rows):
        return mixed(op, "it repeats a sum over the batch")
    return kind.on(kind.axis + len(context.shape(op.result)) - len(context.shape(op.operands[0])))


def _concat(op: Op, kinds: Sequence[Kind], context: Context) -> Found:
    axis = op.integer("axis") % len(context.shape(op.result))
    rows = [kind for kind in kinds if isinstance(kind, Rows)]
    if any(not isinstance(kind, Rows | Public) for kind in kinds):
        return mixed(op, "a sum over the batch enters it")
    if rows[0].axis != axis:
        return rows[0] if len(set(rows)) == 1 else mixed(op, "the batch lies on different axes")
    if len(rows) < len(kinds) or len({(kind.axis, kind.post) for kind in rows}) > 1:
        return mixed(op, "it appends something else to the batch")
    return Rows(axis, sum(kind.pre for kind in rows), rows[0].post)


def _slice(op: Op, kinds: Sequence[Kind], context: Context) -> Found:
    (kind,) = kinds
    assert isinstance(kind, Rows)
    rank = len(context.shape(op.operands[0]))
    if op.integer("axis") % rank != kind.axis:
        return kind
    block, start, stop = context.rows * kind.post, op.integer("start"), op.integer("stop")
    if op.integer("step", 1) == 1 and start % block == stop % block == 0 and stop > start:
        return Rows(kind.axis, (stop - start) // block, kind.post)
    return mixed(op, "it selects examples by position")


def _pad(op: Op, kinds: Sequence[Kind], context: Context) -> Found:
    (kind,) = kinds
    assert isinstance(kind, Rows)
    given = (op.integers("low"), op.integers("high"), op.integers("interior", ()))
    padded = any(widths[kind.axis] for widths in given if widths)
    return mixed(op, "it pads the batch") if padded else kind


def _extent(op: Op, kinds: Sequence[Kind], context: Context) -> Found:
    return mixed(op, "the size of the batch depends on every example") if op.integer("dim") >= ROWS else PUBLIC


def _lookup(op: Op, kinds: Sequence[Kind], context: Context) -> Found:
    table, ids = kinds
    if isinstance(table, Public) and isinstance(ids, Rows):
        return ids
    return mixed(op, "its table depends on examples")


def _per_row_ids(op: Op, kinds: Sequence[Kind], context: Context) -> Found:
    (ids,) = kinds
    return ids if isinstance(ids, Rows) else mixed(op, "a sum over the batch enters it")


def _gather(op: Op, kinds: Sequence[Kind], context: Context) -> Found:
    x, index = kinds
    axis = op.integer("axis") % len(context.shape(op.operands[0]))
    if isinstance(x, Public) and isinstance(index, Rows):
        return index.on(axis + index.axis)
    if isinstance(x, Rows) and isinstance(index, Public) and x.axis != axis:
        return x.on(x.axis if x.axis < axis else x.axis + len(context.shape(op.operands[1])) - 1)
    return mixed(op, "it selects examples by position, or by other examples")


def _scatter(op: Op, kinds: Sequence[Kind], context: Context) -> Found:
    x, index, updates = kinds
    axis, width = op.integer("axis") % len(context.shape(op.operands[0])), len(context.shape(op.operands[1]))
    found: set[Rows] = set()
    if isinstance(x, Rows):
        found.add(x)
    if isinstance(updates, Rows) and not axis <= updates.axis < axis + width:
        found.add(updates.on(updates.axis if updates.axis < axis else updates.axis - width + 1))
    elif not isinstance(updates, Public):
        return mixed(op, "it adds examples up by their index")
    if isinstance(index, Public) and len(found) == 1 and next(iter(found)).axis != axis:
        return found.pop()
    return mixed(op, "it writes examples by their index")


def _random(op: Op, kinds: Sequence[Kind], context: Context) -> Found:
    """Dropout: the generator's operands are public, the masked value keeps its rows."""
    *generator, x = kinds
    if all_public(generator) and isinstance(x, Rows):
        return x
    return mixed(op, "its generator depends on examples")


def _drawn(op: Op, kinds: Sequence[Kind], context: Context) -> Found:
    """Numbers drawn for the rows of a lot, from the operand ``row`` on: every example has its own."""
    if not all_public(kinds):
        return mixed(op, "its generator depends on examples")
    if len(op.groups) < 3 or op.groups[2] is None:
        return PUBLIC
    return Rows(op.integer("axis", 0), op.integer("pre", 1), op.integer("post", 1))


def _backward(op: Op, kinds: Sequence[Kind], context: Context) -> Found:
    """Gradients: those of per-example losses come out privatised, those of public terms are public."""
    targets, _, seeds, _ = groups_of(op, kinds)
    if op.flag("private"):
        return (
            PUBLIC
            if len(targets) == 1 and targets[0] == Rows(0) and not seeds
            else mixed(op, "its loss is not one value per example")
        )
    if all_public(targets) and all_public(seeds):
        return PUBLIC
    return mixed(op, "it differentiates examples without privatising")


def _total_only(op: Op, kinds: Sequence[Kind], context: Context) -> Found:
    return mixed(op, "it sums gradients over the batch")


_ELEMENTWISE = (
    "add sub mul div max min pow mod floordiv equal not_equal less less_equal and or xor where cast"
)  # fmt: skip
_UNARY = (
    "exp expm1 log log1p sqrt rsqrt sin cos tan asin acos atan sinh cosh tanh sigmoid erf square reciprocal neg abs "
    "sign floor ceil round scale relu leaky_relu softplus clip isfinite isnan not"
)

_REDUCTIONS = "sum mean max min prod any all argmax argmin"

PLAIN: Mapping[str, Rule] = {
    **{f"elementwise.{name}": _aligned for name in _ELEMENTWISE.split()},
    **{f"unary.{name}": _aligned for name in _UNARY.split()},
    **{f"reduce.{name}": _reduce for name in _REDUCTIONS.split()},
    "shape.reshape": _reshape,
    "shape.transpose": _transpose,
    "shape.broadcast": _broadcast,
    "shape.concat": _concat,
    "shape.slice": _slice,
    "shape.pad": _pad,
    "shape.extent": _extent,
    "shape.reverse": _along_all("axes"),
    "linear.matmul": _matmul,
    "embedding.lookup": _lookup,
    "embedding.lookup_grad": _total_only,
    "embedding.lookup_norm_sq": _first,
    "embedding.one_hot": _per_row_ids,
    "indexing.gather": _gather,
    "indexing.scatter": _scatter,
    "indexing.scatter_add": _scatter,
    "indexing.take_along": _along("axis"),
    "indexing.add_along": _along("axis"),
    "indexing.top_k": _last,
    "indexing.argsort": _along("axis"),
    "indexing.cumsum": _along("axis"),
    "loss.softmax": _along("axis", -1),
    "loss.log_softmax": _along("axis", -1),
    "loss.softmax_cross_entropy": _along("axis", -1),
    "loss.cross_entropy": _last,
    "loss.sigmoid_cross_entropy": _aligned,
    "loss.binary_cross_entropy": _aligned,
    "conv.conv2d": _filtered,
    "conv.conv2d_input_grad": _filtered,
    "conv.conv2d_filter_grad": _total_only,
    "conv.conv2d_example_filter_grad": _first,
    "conv.patches": _windows,
    "pool.max2d": _images,
    "pool.max2d_grad": _images,
    "pool.max2d_pick": _images,
    "pool.avg2d": _images,
    "pool.avg2d_grad": _images,
    "norm.standardize": _along_all("axes"),
    "random.dropout": _random,
    "random.uniform": _drawn,
    "random.normal": _drawn,
    "random.truncated_normal": _drawn,
    "random.bits": _drawn,
    "grad.stop": _reshape,
    "grad.backward": _backward,
    "dp.row_norm_sq": _first,
    "dp.norm_sq": _first,
    "dp.gram_norm_sq": _blocks,
    "dp.outer_norm_sq": _blocks,
}
"""Op -> what it does to rows.  `derive` asks where an operand is not public."""
