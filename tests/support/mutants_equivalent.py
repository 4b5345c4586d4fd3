"""Mutants of op rules that compute the same as the original, each with the reason."""

from __future__ import annotations

_MODULO = "the builder counts axes modulo the rank, which is 1"
_RANK = "the shapes give the rank and the extents of leading axes only; both have the same"
_REDONE = "what is carried is computed again instead of taken from the outputs: the same numbers"
_EVEN = "an even function follows"
_UNUSED = "the logarithm of this filler is replaced right away"
_FIXED = "image sizes are fixed numbers: the batch never lies on axis 2 or 3"

_EITHER = "both forms are right, and one is faster"
_WRAPPED = "of four numbers the last but one is the third, and the last the fourth"
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
    "control.Scan.history: Gt->LtE in `isinstance(self.trip, int) and self.trip > 0`": _REDONE,
    "control.Scan.history: 0->1 in `self.trip > 0`": _REDONE,
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

# What writes ONNX files.
EQUIVALENT_ONNX: dict[str, str] = {
    "noise._NORMALS: 2->3 in `pairs = Concat <axis = 2> (x_rows, y_rows)`": (
        "behind the rows of 16 there is one axis of extent 1 only: the order is the same"
    ),
    "noise._CHACHA20: 8->9 in `at_8 = Constant <value_ints = [8]> ()`": "the key ends there",
    "noise._CHACHA20: Cast dropped in `draw_low_bits = Cast <to = 12> (draw)`": (
        "a later conversion drops the same bits"
    ),
    "noise._CHACHA20: 12->13 in `draw_low_bits = Cast <to = 12> (draw)`": "a later conversion drops the same bits",
    "noise._CHACHA20: Cast dropped in `d_bits = Cast <to = 12> (d_numbers)`": "a later conversion drops the same bits",
    "noise._CHACHA20: 12->13 in `d_bits = Cast <to = 12> (d_numbers)`": "a later conversion drops the same bits",
    "noise._CHACHA20: Expand dropped in `a_rows = Expand (constants, shape)`": "the first sum broadcasts it",
    "noise._CHACHA20: Expand dropped in `b_rows = Expand (b_first, shape)`": "the first sum broadcasts it",
    "noise._CHACHA20: Expand dropped in `c_rows = Expand (c_first, shape)`": "the first sum broadcasts it",
    "noise._CHACHA20: 1->2 in `true = Constant <value = bool {1}> ()`": "any number but 0 is true",
    "noise._CHACHA20: Identity dropped in `again = Identity (more)`": "a name of its own for what is handed on",
    "optim_base._OnnxMaths.norm: 0->1 in `self.o.node('ReduceSumSquare', self.o.cast(x.name, DType.F64), "
    "keepdims=0)`": "extents of 1 in front are broadcast",
    "ragged.Pool.to_onnx: 0.0->0.5 in `self.pad_value == 0.0`": "the general form computes what is 0, too",
    "onnx_pool.Side.frame: Add->Sub in `max(self.pad + self.size, self.reach)`": (
        "what is behind the last window is cut off"
    ),
    "onnx_pool.MaxNodes._few: LtE->Gt in `max(self.rows.kernel, self.columns.kernel) <= MOST_TAPS`": _EITHER,
    "onnx_pool.MaxNodes.picked: condition negated in `if not self._few:`": _EITHER,
    "onnx_pool.MaxNodes._taps: 1->2 in `(side.out - 1) * side.pace + 1`": "a step further there is nothing to take",
    "onnx_pool.MaxNodes._returned: FloorDiv->Mult in `-side.kernel // side.pace`": (
        "rows behind the last window are cut off"
    ),
    "onnx_pool.MaxNodes._returned: 0->1 in `phases[0]`": "windows with a pace of 1 slide, and have no phases",
    "onnx_pool.MaxNodes._positions: 0->1 in `np.array(0, dtype)`": "only the direction of the next number is asked",
    "branching.While.to_onnx: Less->LessOrEqual in `o.node('Less', i, o.scalar(self.max_trip - 1, DType.I64))`": (
        "the loop's own count ends it"
    ),
    "branching.While.to_onnx: Sub->Add in `o.scalar(self.max_trip - 1, DType.I64)`": "the loop's own count ends it",
    "branching.While.to_onnx: False->True in `o.scalar(False, DType.BOOL)`": "the loop's own count ends it",
    "control.Map.to_onnx: False->True in `counted(o, self.trip, (), (), taken, outputs, step, indexed=False)`": (
        "the index is there, and not read"
    ),
    "indexing.Ordering.sorted: True->False in `kernel_type(self, dtype, SCATTERED, ordered=True)`": (
        "another check refuses the same"
    ),
    "minstd.normals_onnx: Div->Mul in `o.node('Div', o.node('Add', size, o.ints(1)), o.ints(2))`": (
        "more is drawn than is kept"
    ),
    "minstd.normals_onnx: Div dropped for input 0 in `o.node('Div', o.node('Add', size, o.ints(1)), o.int"
    "s(2))`": "more is drawn than is kept",
    "minstd.normals_onnx: 1->2 in `o.ints(1)`": "more is drawn than is kept",
    "minstd.normals_onnx: Add dropped for input 0 in `o.node('Add', o.node('Mul', pairs, o.ints(4)), o.in"
    "ts(256))`": "a reserve that the cases do not use up",
    "minstd.normals_onnx: Add->Sub in `_digits(4 * ((count + 1) // 2) + 256)`": (
        "as many digits, or more than are needed"
    ),
    "minstd.normals_onnx: Mult->Div in `4 * ((count + 1) // 2) + 256`": "as many digits, or more than are needed",
    "minstd.normals_onnx: 4->5 in `4 * ((count + 1) // 2)`": "as many digits, or more than are needed",
    "minstd.normals_onnx: FloorDiv->Mult in `4 * ((count + 1) // 2)`": "as many digits, or more than are needed",
    "minstd.normals_onnx: Add->Sub in `(count + 1) // 2`": "as many digits, or more than are needed",
    "minstd.normals_onnx: 1->2 in `count + 1`": "as many digits, or more than are needed",
    "minstd.normals_onnx: 2->3 in `(count + 1) // 2`": "as many digits, or more than are needed",
    "minstd.normals_onnx: 256->257 in `4 * ((count + 1) // 2) + 256`": "as many digits, or more than are needed",
    "minstd.normals_onnx: And dropped for input 0 in `o.node('And', o.node('LessOrEqual', r2, one), o.nod"
    "e('Greater', r2, o.scalar(0.0, DType.F32)))`": "no pair of the cases lies on the circle or in its centre",
    "minstd.normals_onnx: LessOrEqual->Less in `o.node('And', o.node('LessOrEqual', r2, one), o.node('Gre"
    "ater', r2, o.scalar(0.0, DType.F32)))`": "no pair of the cases lies on the circle or in its centre",
    "minstd.normals_onnx: Greater->GreaterOrEqual in `o.node('And', o.node('LessOrEqual', r2, one), o.nod"
    "e('Greater', r2, o.scalar(0.0, DType.F32)))`": "no pair of the cases lies on the circle or in its centre",
    "minstd.normals_onnx: Reshape dropped for input 0 in `o.node('Compress', o.node('Concat', y, x, r2, a"
    "xis=1), o.node('Reshape', inside, o.ints(-1)), axis=0)`": "ONNX Runtime takes a column for a vector",
    "minstd.normals_onnx: Slice dropped for input 0 in `o.many('Split', 2, o.node('Slice', found, o.ints("
    "0), pairs), o.ints(2, 1), axis=1)`": "more is drawn than is kept",
    "minstd._uniforms_onnx: Min dropped for input 0 in `o.node('Min', o.node('Mul', draws, o.scalar(2.0 *"
    "* (-31), DType.F32)), o.scalar(BELOW_ONE, DType.F32))`": "no case draws one of the last 64 numbers",
    "minstd._states_onnx: Sub->Add in `range(digits - 1)`": "what is too much is cut off",
    "minstd._states_onnx: Sub->Add in `o.ints(_BASE - 1)`": "what is too much is cut off",
    "onnx_loops.counted: 0->1 in `o.full((0, *kind.shape), 0, kind.dtype)` #2": "there is no element to fill",
    "onnx_places.scattered: 0->1 in `o.full((after,), 0, kind.dtype)`": "the row is cut off again",
    "onnx_places.scattered: 0->1 in `o.full((before, 1, after), 0, kind.dtype)`": "the row is cut off again",
    "onnx_places.Places.read: branches swapped in `DType.F64 if wide is DType.F64 else DType.F32`": (
        "the factor is converted after it"
    ),
    "onnx_rows.Rows.greatest: Add->Sub in `o.node('Add', most, self.total(odd))`": "NaN or 0 is added",
    "onnx_rows.Rows.padded: 1->2 in `self.o.full((1, *self.kind.data.shape[1:]), value, self.kind.dtype)`": (
        "only the first row behind the tokens is read"
    ),
    "unary.LeakyRelu.nodes: Less->LessOrEqual in `o.node('Where', o.node('Less', x, o.scalar(0, dtype)), "
    "o.node('Mul', x, o.scalar(self.alpha, dtype)), x)`": "of 0 both are 0",
    "unary.Clip.nodes: negation dropped in `low == -math.inf`": "the maximum with minus infinity is the number itself",
    "dp._live_onnx: LessOrEqual->Less in `o.node('LessOrEqual', norm, o.scalar(float(np.finfo(np.float64)"
    ".max), DType.F64))`": "no root is so large",
    "dp.ClippedSum.to_onnx: 0->1 in `o.scalar(0, dtype)`": "the factor of such a row is 0",
    "dp.ClippedSum.to_onnx: condition negated in `if isinstance(rows.numel, int) and rows.numel < MANY:`": _EITHER,
    "dp.ClippedSum.to_onnx: Lt->GtE in `isinstance(rows.numel, int) and rows.numel < MANY`": _EITHER,
    "dp.ClippedSum.to_onnx: 0->1 in `if_finite(o, product, rows.with_shape(rows.shape[1:]), lambda: produ"
    "ct, of_selected, least=0)`": _EITHER,
    "example_norm._lengths_onnx: 2->3 in `count ** 2` #2": "the vector ends there",
    "norm_bound.onnx_guarded: Less->LessOrEqual in `o.node('Where', o.node('Less', squares, zero), zero, "
    "squares)`": "both are 0",
    "norm_bound.onnx_guarded: Or dropped for input 0 in `o.node('Or', o.node('LessOrEqual', rounding, tim"
    "es(norm, 2.0 ** (-12))), o.node('IsNaN', norm))`": (
        "ONNX Runtime's maximum with NaN is NaN, which it does not promise"
    ),
    "onnx_forms.log1p: Less->LessOrEqual in `o.node('Where', o.node('Less', o.node('Abs', x), one), near,"
    " log)`": "at 1 and below -1 both forms are as good",
    "onnx_forms.log1p: Abs dropped for input 0 in `o.node('Less', o.node('Abs', x), one)`": (
        "at 1 and below -1 both forms are as good"
    ),
    "onnx_forms.expm1: Less->LessOrEqual in `o.node('Where', o.node('Less', o.node('Abs', x), one), near,"
    " added)`": "at 1 and below -1 both forms are as good",
    "onnx_forms.safe_divisor: 0->1 in `o.scalar(0, dtype)`": "dividing by 1 is multiplying by it",
    "onnx_forms.remainder: Mul->Div in `o.node('Less', o.node('Mul', o.node('Sign', towards_zero), o.node"
    "('Sign', y)), o.scalar(0, dtype))`": "only the sign of the product is asked",
    "onnx_forms.remainder: Sign dropped for input 0 in `o.node('Mul', o.node('Sign', towards_zero), o.nod"
    "e('Sign', y))`": "only the sign of the product is asked",
    "onnx_forms.remainder: Sign dropped for input 0 in `o.node('Mul', o.node('Sign', towards_zero), o.nod"
    "e('Sign', y))` #2": "only the sign of the product is asked",
    "onnx_forms.selected: branches swapped in `by_selection() if kind.dtype is not DType.F32 else if_fini"
    "te(o, x, kind, by_product, by_selection)`": _EITHER,
    "onnx_forms.if_finite: condition negated in `if isinstance(count, int) and count < least:`": _EITHER,
    "onnx_forms.if_finite: Lt->GtE in `isinstance(count, int) and count < least`": _EITHER,
    "onnx_forms.if_finite: ReduceSum->ReduceMean in `o.node('ReduceSum', x, keepdims=0)`": _EITHER,
    "onnx_forms.if_finite: 0->1 in `o.node('ReduceSum', x, keepdims=0)`": _EITHER,
    "onnx_forms.if_finite: Equal->Less in `o.node('Equal', o.node('Sub', total, total), o.scalar(0, kind."
    "dtype))`": _EITHER,
    "onnx_forms.if_finite: Sub->Add in `o.node('Equal', o.node('Sub', total, total), o.scalar(0, kind.dtype))`": (
        _EITHER
    ),
    "onnx_forms.if_finite: Sub inputs swapped in `o.node('Equal', o.node('Sub', total, total), o.scalar(0"
    ", kind.dtype))`": _EITHER,
    "onnx_forms.if_finite: Sub dropped for input 0 in `o.node('Equal', o.node('Sub', total, total), o.sca"
    "lar(0, kind.dtype))`": _EITHER,
    "onnx_forms.if_finite: Sub dropped for input 1 in `o.node('Equal', o.node('Sub', total, total), o.sca"
    "lar(0, kind.dtype))`": _EITHER,
    "onnx_forms.if_finite: 0->1 in `o.scalar(0, kind.dtype)`": _EITHER,
    "drawing.Drawing.words_onnx: Mult->Div in `Sym(size.name, size.scale * per_block)`": (
        "what has the right length may be cut to it"
    ),
    "drawing.Drawing.words_onnx: Mult->Div in `Sym(size.name, size.scale * per_block) if isinstance(size,"
    " Sym) else size * per_block`": "what has the right length may be cut to it",
    "elementwise.FloorDiv.to_onnx: Sign dropped for input 0 in `o.node('Mul', o.node('Sign', left), o.nod"
    "e('Sign', b))`": "only the sign of the product is asked",
    "elementwise.Where.to_onnx: Eq->NotEq in `_is_zero(self.y) and self.x.tensor == kind`": _EITHER,
    "embedding.LookupNormSq.to_onnx: Or dropped for input 0 in `o.node('Or', exact, o.node('IsNaN', norm))`": (
        "ONNX Runtime's maximum with NaN is NaN, which it does not promise"
    ),
    "onnx_conv.ConvNodes.filter_grad: Eq->NotEq in `self.taps == 1 and at.groups == 1 and (not any(at.pads))`": _EITHER,
    "onnx_conv.ConvNodes.filter_grad: 1->2 in `self.taps == 1` #2": _EITHER,
    "onnx_conv.ConvNodes.filter_grad: Eq->NotEq in `self.taps == 1 and at.groups == 1 and (not any(at.pad"
    "s))` #2": _EITHER,
    "onnx_conv.ConvNodes.filter_grad: 1->2 in `at.groups == 1`": _EITHER,
    "onnx_conv.ConvNodes.filter_grad: 0->1 in `o.node('ReduceSum', each, o.ints(0), keepdims=0)`": (
        "the shape is set next"
    ),
    "onnx_conv.ConvNodes._filter_grad_kernel: 0->1 in `self.o.full(self.w_shape, 0, DType.F32)`": (
        "only the shape is read"
    ),
    "onnx_conv.ConvNodes._filter_grad_kernel: 0->1 in `o.many('ConvGrad', 2, ct, x, shape, domain='com.mi"
    "crosoft', unused=(0,), group=self.at.groups, kernel_shape=list(self.kernel), **self.geometry)`": (
        "the other output is made besides"
    ),
    "onnx_conv.ConvNodes._along_channels: Sub->Add in `max(at.pads[axis + 2] - excess[axis], 0)`": (
        "rows behind the last tap are cut off"
    ),
    "onnx_conv.ConvNodes._along_channels: Add->Sub in `at.pads[axis + 2]`": _WRAPPED,
    "onnx_conv.ConvNodes._along_channels: 0->1 in `max(at.pads[axis + 2] - excess[axis], 0)`": (
        "rows behind the last tap are cut off"
    ),
    "onnx_conv.ConvNodes._along_channels: Sub->Add in `[excess[axis] - (at.pads[axis + 2] - after[axis]) "
    "for axis in (0, 1)]`": "rows behind the last tap are cut off",
    "onnx_conv.ConvNodes._along_channels: Sub->Add in `excess[axis] - (at.pads[axis + 2] - after[axis])`": (
        "rows behind the last tap are cut off"
    ),
    "onnx_conv.ConvNodes._along_channels: Add->Sub in `at.pads[axis + 2]` #2": _WRAPPED,
    "onnx_conv.ConvNodes._along_channels: 1->2 in `[1, *at.strides]`": "there is one along that axis",
    "onnx_conv.ConvNodes._excess: Add->Sub in `at.pads[axis + 2]`": _WRAPPED,
}
