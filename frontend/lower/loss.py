"""Softmax, losses and metrics."""

from __future__ import annotations

from ...compiler.errors import PrivacyError
from ...compiler.ir.core import Value
from ...compiler.ir.types import DType, numel
from ...compiler.ops import elementwise, embedding, indexing, loss, loss_binary, loss_layers, metric
from ...compiler.ops.grad import StopGradient
from ...compiler.ops.kinds import OWN_COUNT
from .context import OpLowering, Rules
from .numbers import integer
from .paddle_gradients import softly_labelled, trained


def check_range(o: OpLowering, slot: str, classes: object) -> None:
    """Tell the runtime which integers a fed variable may hold, when it is fed as it is."""
    name = o.op.input(slot)[0]
    var = o.function.program.global_block().vars.get(name)
    if var is not None and var.is_data and isinstance(classes, int):
        low, high = o.function.shared.ranges.get(name, (0, classes))
        o.function.shared.ranges[name] = (low, min(high, classes))


def _softmax(o: OpLowering) -> None:
    o.set(o.b(loss.Softmax(o.tokens(), o.attr("axis", -1))))


def _softmax_cross_entropy(o: OpLowering) -> None:
    logits, axis = o.tokens("Logits"), o.attr("axis", -1)
    label = o.tokens("Label")
    ignore = o.attr("ignore_index", -100)
    if o.attr("soft_label", False):
        cost, probabilities = o.b.emit(loss_layers.SoftmaxCrossEntropySoft(logits, label, axis))
        if trained(o) and not _sums_to_one(label, axis):
            cost = softly_labelled(o, cost, logits, label, axis)
        results = cost, probabilities
    else:
        if ignore == -100:
            check_range(o, "Label", logits.tensor.shape[axis])
        results = o.b.emit(loss.SoftmaxCrossEntropy(logits, label, axis, ignore))
    o.set(results[0], "Loss")
    o.set(results[1], "Softmax")


def _sums_to_one(label: Value, axis: int) -> bool:
    """Whether a distribution is one by how it was made."""
    op = label.op
    if isinstance(op, StopGradient):
        return _sums_to_one(op.x, axis)
    if isinstance(op, loss.Softmax):
        return op.axis % label.tensor.rank == axis % label.tensor.rank
    return isinstance(op, embedding.OneHot) and axis in (-1, label.tensor.rank - 1)


def _cross_entropy(o: OpLowering) -> None:
    p, label = o.tokens("X"), o.tokens("Label")
    if o.attr("soft_label", False):
        o.set(o.b(loss_layers.CrossEntropySoft(p, label)), "Y")
        return
    ignore = o.attr("ignore_index", -100)
    if ignore == -100:
        check_range(o, "Label", p.tensor.shape[-1])
    wanted = (*p.tensor.shape[:-1], 1)
    cost = o.b(loss.CrossEntropy(p, o.b.reshape(label, wanted), ignore))
    o.set(o.b.reshape(cost, label.tensor.shape), "Y")


def _sigmoid_cross_entropy(o: OpLowering) -> None:
    x, label, ignore = o.tokens("X"), o.tokens("Label"), o.attr("ignore_index", -100)
    cost = o.b(loss.SigmoidCrossEntropy(x, label, ignore))
    if o.attr("normalize", False) and o.function.private:
        raise PrivacyError(
            f"{o.layer}: normalize=True divides every loss by the number of labels in the whole batch",
            where=o.op.loc.place,
            hint=f"leave normalize out; {OWN_COUNT}",
        )
    if o.attr("normalize", False):
        kept = o.b.not_equal(label, o.b.fill((), label.tensor.dtype, float(ignore)))
        count = o.b.reduce_sum(o.b.cast(kept, x.tensor.dtype), range(x.tensor.rank))
        cost = o.b.div(cost, o.b.maximum(count, o.b.fill((), x.tensor.dtype, 1e-5)))
    o.set(cost)


def _huber(o: OpLowering) -> None:
    o.set(o.b(loss_layers.Huber(o.tokens("X"), o.tokens("Y"), o.attr("delta"))))


def _log_loss(o: OpLowering) -> None:
    cost = loss_layers.LogLoss(o.tokens("Predicted"), o.tokens("Labels"), o.attr("epsilon", 1e-4))
    o.set(o.b(cost), "Loss")


def _bce(o: OpLowering) -> None:
    o.set(o.b(loss_binary.BinaryCrossEntropy(o.tokens("X"), o.tokens("Label"))))


def _nll(o: OpLowering) -> None:
    """Costs where the class is the label, times the label's weight; their mean is over the weights of the labels."""
    x, label = o.x("X"), o.x("Label")
    reduction, ignore = o.attr("reduction", "mean"), o.attr("ignore_index", -100)
    dtype, (rows, classes, *places) = x.tensor.dtype, x.tensor.shape
    if ignore == -100:
        check_range(o, "Label", classes)
    weighted = o.has("Weight") or ignore != -100
    if reduction == "mean" and weighted and o.function.private:
        raise PrivacyError(
            f"{o.layer}: reduction='mean' divides every loss by the weight of all labels in the batch",
            where=o.op.loc.place,
            hint=f"leave weight and ignore_index out, or use reduction='none' and mean; {OWN_COUNT}",
        )
    at = o.b.reshape(label, (rows, 1, *places))
    chosen = loss.class_mask(o.b, at, x.tensor.shape, 1)
    zero, one = o.b.fill((), dtype, 0.0), o.b.fill((), dtype, 1.0)
    ignored = o.b.equal(at, o.b.fill((), label.tensor.dtype, ignore))
    taken = o.b.logical_and(chosen, o.b.logical_not(ignored))
    cost = o.b.neg(x)
    counted = one
    if o.has("Weight"):
        counted = o.b.reshape(o.x("Weight"), (classes, *(1,) * len(places)))
        cost = o.b.mul(cost, counted)
    cost = o.b.reduce_sum(o.b.where(taken, cost, zero), (1,))
    if reduction == "none":
        o.set(cost)
        o.set(o.b.fill((1,), dtype, 0.0), "Total_weight")
        return
    total = o.b.reduce_sum(o.b.where(taken, counted, zero), range(x.tensor.rank))
    o.set(o.one(total), "Total_weight")
    everything = range(cost.tensor.rank)
    if reduction == "sum":
        o.set(o.one(o.b.reduce_sum(cost, everything)))
    elif not o.function.private:
        summed = o.b.reduce_sum(cost, everything)
        none = o.b.equal(total, zero)
        o.set(o.one(o.b.where(none, zero, o.b.div(summed, o.b.where(none, one, total)))))
    else:
        o.set(o.one(o.b.reduce_mean(cost, everything)))


def _rank_loss(o: OpLowering) -> None:
    o.set(o.b(loss_layers.RankLoss(o.x("Label"), o.x("Left"), o.x("Right"))))


def _margin_rank_loss(o: OpLowering) -> None:
    o.set(o.b(loss_layers.MarginRankLoss(o.x("Label"), o.x("X1"), o.x("X2"), o.attr("margin", 0.1))))


def _bpr_loss(o: OpLowering) -> None:
    x, label = o.x("X"), o.x("Label")
    classes = x.tensor.shape[-1]
    if not isinstance(classes, int) or classes < 2:
        raise o.error(f"{x.type} are scores of {classes} classes", "give at least two")
    check_range(o, "Label", classes)
    at = o.b.reshape(label, (*x.tensor.shape[:-1], 1))
    behind = o.b.softplus(o.b.sub(x, o.b.take_along(x, at, -1)))
    others = o.b.logical_not(loss.class_mask(o.b, at, x.tensor.shape, x.tensor.rank - 1))
    cost = o.b.where(others, behind, o.b.fill((), x.tensor.dtype, 0.0))
    o.set(o.b.scale(o.b.reduce_sum(cost, (-1,), keepdims=True), 1.0 / (classes - 1)), "Y")


def _kldiv(o: OpLowering) -> None:
    cost = o.b(loss_layers.KlDiv(o.x("X"), o.x("Target"), o.attr("reduction", "mean")))
    o.set(cost if cost.tensor.rank else o.one(cost), "Loss")


def _smooth_l1(o: OpLowering) -> None:
    inside, outside = o.optional("InsideWeight"), o.optional("OutsideWeight")
    o.set(o.b(loss_layers.SmoothL1(o.x("X"), o.x("Y"), inside, outside, o.attr("sigma", 1.0))))


def _label_smooth(o: OpLowering) -> None:
    o.set(o.b(loss_layers.LabelSmooth(o.x("X"), o.optional("PriorDist"), o.attr("epsilon", 0.1))))


def _l2_normalize(o: OpLowering) -> None:
    o.set(o.b(loss_layers.L2Normalize(o.x(), o.attr("axis"), o.attr("epsilon", 1e-12))))


def _cos_sim(o: OpLowering) -> None:
    o.set(o.b(loss_layers.CosSim(o.tokens("X"), o.tokens("Y"))))


def _top_k(o: OpLowering) -> None:
    values, indices = o.b.emit(indexing.TopK(o.tokens(), integer(o, "K", "k", 1)))
    o.set(values)
    o.set(indices, "Indices")


def _accuracy(o: OpLowering) -> None:
    classes, label = o.tokens("Indices"), o.tokens("Label")
    results = o.b.emit(metric.Accuracy(classes, o.b.cast(label, classes.tensor.dtype)))
    for slot, value in zip(("Accuracy", "Correct", "Total"), results, strict=True):
        o.set(o.one(value), slot)


def _auc(o: OpLowering) -> None:
    if o.function.private:
        raise PrivacyError(
            f"{o.layer}: counts of examples would be kept beside the model, without noise",
            where=o.op.loc.place,
            hint="compute it in a program of its own, over data that is public or with a budget of its own",
        )
    scores, label = o.x("Predict"), o.x("Label")
    buckets, steps = o.attr("num_thresholds") + 1, o.attr("slide_steps", 1)
    none = o.b.fill((buckets,), DType.I64, 0)
    of_batch = o.b.emit(metric.AucCounts(scores, label, none, none))
    counts: list[Value] = []
    for slot, new in zip(("StatPos", "StatNeg"), of_batch, strict=True):
        before = o.x(slot)
        if steps == 0:
            total = o.b.add(o.b.reshape(before, (buckets,)), new)
            o.set(o.b.reshape(total, before.tensor.shape), slot + "Out")
        else:
            total, after = _slid(o, before, new, buckets, steps)
            o.set(after, slot + "Out")
        counts.append(total)
    o.set(o.one(o.b(metric.Auc(*counts))), "AUC")


def _slid(o: OpLowering, before: Value, new: Value, buckets: int, steps: int) -> tuple[Value, Value]:
    """The sum of the last ``steps`` counts and what is kept: those counts, their sum, and the number of steps."""
    past = o.b.reshape(o.b.slice(before, 0, 0, steps * buckets), (steps, buckets))
    done = o.b.slice(before, 0, (steps + 1) * buckets, (steps + 1) * buckets + 1)
    oldest = o.b(elementwise.Mod(done, o.b.fill((1,), DType.I64, steps)))
    here = o.b.equal(o.b.iota((steps, 1), 0, DType.I64), oldest)
    kept = o.b.where(here, o.b.reshape(new, (1, buckets)), past)
    total = o.b.reduce_sum(kept, (0,))
    one = o.b.fill((1,), DType.I64, 1)
    return total, o.b.concat([o.b.reshape(kept, (steps * buckets,)), total, o.b.add(done, one)], 0)


def _mean_iou(o: OpLowering) -> None:
    classes = o.attr("num_classes")
    found = o.b.iota((1, classes), 1, DType.I64)
    masks: list[Value] = []
    for slot in ("Predictions", "Labels"):
        x = o.b.cast(o.x(slot), DType.I64)
        masks.append(o.b.equal(o.b.reshape(x, (numel(x.tensor.shape), 1)), found))

    def count(mask: Value) -> Value:
        return o.b.reduce_sum(o.b.cast(mask, DType.I32), (0,))

    correct = count(o.b.logical_and(*masks))
    predicted, true = map(count, masks)
    union = o.b.sub(o.b.add(predicted, true), correct)
    zero, one = (o.b.fill((), DType.F32, value) for value in (0.0, 1.0))
    occurs = o.b.less(zero, o.b.cast(union, DType.F32))
    share = o.b.div(o.b.cast(correct, DType.F32), o.b.maximum(o.b.cast(union, DType.F32), one))
    number = o.b.reduce_sum(o.b.cast(occurs, DType.F32), (0,))
    o.set(o.one(o.b.div(o.b.reduce_sum(share, (0,)), number)), "OutMeanIou")
    o.set(o.b.sub(union, correct), "OutWrong")
    o.set(correct, "OutCorrect")


def _teacher_student(o: OpLowering) -> None:
    x, label = o.x(), o.x("Label")
    dtype = x.tensor.dtype
    zero, one, clicked = (o.b.fill((), dtype, value) for value in (0.0, 1.0, -1.0))
    # Beyond the bounds no gradient passes.
    low, high = (o.b.fill((), dtype, o.attr(f"soft_max_{end}_bound")) for end in ("lower", "up"))
    x = o.b.where(o.b.logical_and(o.b.less_equal(low, x), o.b.less_equal(x, high)), x, o.b(StopGradient(x)))
    taught = o.b.less_equal(zero, label)
    weight = o.b.where(taught, o.b.fill((), dtype, 2.0), one)
    alone = o.b.where(o.b.less(label, clicked), zero, one)
    o.set(o.b.sub(o.b.mul(weight, o.b.softplus(x)), o.b.mul(x, o.b.where(taught, label, alone))), "Y")


RULES: Rules = {
    "mean_iou": _mean_iou,
    "teacher_student_sigmoid_loss": _teacher_student,
    "softmax": _softmax,
    "softmax_with_cross_entropy": _softmax_cross_entropy,
    "cross_entropy": _cross_entropy,
    "cross_entropy2": _cross_entropy,
    "sigmoid_cross_entropy_with_logits": _sigmoid_cross_entropy,
    "bce_loss": _bce,
    "nll_loss": _nll,
    "rank_loss": _rank_loss,
    "margin_rank_loss": _margin_rank_loss,
    "bpr_loss": _bpr_loss,
    "huber_loss": _huber,
    "log_loss": _log_loss,
    "kldiv_loss": _kldiv,
    "smooth_l1_loss": _smooth_l1,
    "label_smooth": _label_smooth,
    "norm": _l2_normalize,
    "cos_sim": _cos_sim,
    "top_k": _top_k,
    "accuracy": _accuracy,
    "auc": _auc,
}
