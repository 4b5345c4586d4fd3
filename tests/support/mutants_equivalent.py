"""Mutants of op rules that compute the same as the original, each with the reason."""

from __future__ import annotations

_MODULO = "the builder counts axes modulo the rank, which is 1"
_RANK = "the shapes give the rank and the extents of leading axes only; both have the same"
_REDONE = "what is carried is computed again instead of taken from the outputs: the same numbers"
_EVEN = "an even function follows"
_UNUSED = "the logarithm of this filler is replaced right away"
_FIXED = "image sizes are fixed numbers: the batch never lies on axis 2 or 3"

_COVERED = "where the Gram terms' roundoff counts, the least share of the lengths is more"

# Rules that run in this process.
EQUIVALENT: dict[str, str] = {
    "reduce.Prod.pullback: 1.0->2.0 in `b.fill((), dtype, 1.0)`": "the filler is divided out again",
    "shape.Concat.example_axis: 0->1 in `listed[0]`": "all have the same post",
    "linear.MatMul.vjp: Gt->LtE in `w.tensor.rank == 2 and x.tensor.rank > 2 and (not self.ta)`": (
        "folding the leading axes is faster than summing over them, and gives the same"
    ),
    "linear.MatMul.vjp: 2->3 in `x.tensor.rank > 2`": (
        "folding the leading axes is faster than summing over them, and gives the same"
    ),
    "indexing.Scattering.example_axis: Add->Sub in `self.axis <= updates.axis < self.axis + rank`": (
        "updates whose index axis is the batch have an index over the batch, which the last case refuses"
    ),
    "loss.SoftmaxCrossEntropy.example_axis: 0->1 in `self.results[0]`": _RANK,
    "loss_layers.CrossEntropySoft.decompose: 1.0->2.0 in `_const(b, self.p, 1.0)`": _UNUSED,
    "loss_layers.KlDiv.decompose: 1.0->2.0 in `_const(b, self.x, 1.0)`": _UNUSED,
    "loss_layers.KlDiv.decompose: 0->1 in `b.reduce_mean(b.reduce_sum(loss, axes[1:]), (0,))`": _MODULO,
    "loss_layers.SquareError.decompose: sub operands swapped in `b.square(b.sub(self.x, self.label))`": _EVEN,
    "loss_layers.Huber.decompose: sub operands swapped in `b.sub(self.label, self.x)`": _EVEN,
    "loss_layers.SmoothL1.decompose: sub operands swapped in `b.sub(self.x, self.y)`": _EVEN,
    "loss_layers.SmoothL1.decompose: less->less_equal in `b.less(size, _const(b, d, 1.0 / square))`": (
        "both branches have the same value and slope at the border"
    ),
    "pool_base.Pooling.along: 2->3 in `rowwise_kind(self, kind, (2, 3), 'pooling')`": _FIXED,
    "pool_base.Pooling.along: 3->4 in `rowwise_kind(self, kind, (2, 3), 'pooling')`": _FIXED,
    "pool_base.Pooling.along: 2->3 in `value.tensor.shape[:2]`": _RANK,
    "pool_base.Pooling.along: False->True in `aligned_kind(self, kinds, rows, rows[0], linear=False)`": (
        "totals have been refused before"
    ),
    "norm.LayerNorm.decompose: 1->2 in `self.results[1]`": "mean and variance have one shape",
    "norm.GroupNorm.decompose: 1->2 in `self.results[1]`": "mean and variance have one shape",
    "metric.Accuracy.decompose: 0->1 in `b.reduce_mean(b.reduce_sum(b.cast(hits, DType.F32), (1,)), (0,))`": _MODULO,
    "metric.AucCounts.decompose: 0->1 in `b.scatter_add(self.positive, bucket, ones, 0)`": _MODULO,
    "metric.AucCounts.decompose: 0->1 in `b.scatter_add(self.negative, bucket, others, 0)`": _MODULO,
    "optim.Ftrl.formula: negation dropped in `self.lr_power == -0.5`": "a power of 0.5 is the square root",
    "optim.Ftrl.formula: Mult->Div in `l1 * m.sign(linear) - linear`": (
        "by 1 or -1 it is the same, and at a sign of 0 the result is not taken"
    ),
    "random.Drawing.words: FloorDiv->Mult in `keystream.words(key, domain=_DOMAIN, tensor=self.stream, "
    "draw=int(counter), count_blocks=-(-count // keystream.BLOCK_WORDS))`": "more words are drawn than are kept",
    "control.Scan._history: Gt->LtE in `isinstance(self.trip, int) and self.trip > 0 and all((o is not None "
    "for o in sources))`": _REDONE,
    "control.Scan._history: 0->1 in `self.trip > 0`": _REDONE,
    "grid._OnGrid.integers: 0.0->0.5 in `np.where(fits, scaled, 0.0)`": "truncated to 0",
    "example_norm._Outer.rows: 3->4 in `x.tensor.rank == 3`": _COVERED,
    "example_norm._Outer.rows: 1->2 in `next((fixed(x.tensor.shape[2]) for x in self.lefts if x.tensor.rank == 3), "
    "1)`": _COVERED,
    "control.Map._per_example: 0->1 in `axis < 0`": (
        "a public operand has no extent that divides into as many slices as there are examples"
    ),
}

# Lowerings.
EQUIVALENT_COMPILED: dict[str, str] = {}
