"""Gradients and updates."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable

from ...compiler.ir.core import OpBase, StateRole, Value
from ...compiler.ir.types import DType
from ...compiler.ops import optim
from ...compiler.ops.dpsgd import Dpsgd
from ...compiler.ops.grad import Backward
from ..framework import Operator
from ..variable import GRAD_SUFFIX
from .context import FunctionLowering, OpLowering, Rules

_LOOKUPS = ("lookup_table", "lookup_table_v2")
_SUMMED_AT_ONCE = 16384
"""Steps whose parameters Paddle's average_accumulates adds to one sum before it begins another."""


def _ancestors(ops: Iterable[OpBase], targets: Iterable[Value]) -> set[Value]:
    needed = set(targets)
    for op in reversed(list(ops)):
        if any(v in needed for v in op.results):
            needed.update(op.operands)
    return needed


def _descendants(ops: Iterable[OpBase], sources: Iterable[Value]) -> set[Value]:
    reached = set(sources)
    for op in ops:
        if any(v in reached for v in op.operands):
            reached.update(op.results)
    return reached


def _forward_value(o: OpLowering, name: str, needed: set[Value]) -> Value:
    """The value of ``name`` that the targets were computed from: its gradient is taken there."""
    history = o.function.history.get(name, [])
    for value in reversed(history):
        if value in needed:
            if value is not history[-1]:
                warnings.warn(
                    f"{o.layer} at {o.op.loc.place}: {name} was updated earlier in this program; its gradient uses "
                    "the value that the forward pass read (Paddle 1.8.5 would use the updated one)",
                    stacklevel=2,
                )
            return value
    return o.value(name)


def _stops(function: FunctionLowering, way: set[Value], inputs: set[Value], names: Iterable[str]) -> list[Value]:
    """Values on the way from the inputs to the targets that no gradient may pass."""
    block = function.program.global_block()
    stopped = {name for name, var in block.vars.items() if var.stop_gradient} | set(names)
    found: dict[Value, None] = {}
    for name in stopped:
        for value in function.history.get(name, []):
            if value in way and value not in inputs:
                found[value] = None
    return [v for op in function.b.ops for v in op.results if v in found]


def _backward(o: OpLowering) -> None:
    if o.attr("error_clip") and o.attr("privacy") is not None:
        name = o.attr("error_clip")[0][0]
        raise o.error(f"{name} has an error_clip, which private gradients do not have", "leave error_clip out")
    targets = o.ins("Targets")
    ops = o.function.b.ops
    needed = _ancestors(ops, targets)
    inputs = [_forward_value(o, name, needed) for name in o.op.input("Wrt")]
    way = needed & _descendants(ops, inputs)
    stops = _stops(o.function, way, {*inputs, *targets}, o.attr("no_grad_set"))
    request = Backward(
        tuple(targets),
        tuple(inputs),
        seeds=tuple(o.ins("TargetGradients")),
        stops=tuple(stops),
        private=o.attr("privacy") is not None,
    )
    o.set_all(o.b.emit(request, *o.op.output("Grads")), "Grads")


def _declare(o: OpLowering, role: StateRole, *slots: str) -> None:
    """Note what the state variables in ``slots`` are for."""
    block = o.function.program.global_block()
    for slot in slots:
        for name in o.op.input(slot):
            var = block.vars.get(name)
            if var is not None and var.persistable:
                o.function.shared.declare(var, role)


def _sgd(o: OpLowering) -> None:
    _declare(o, "learning_rate", "LearningRate")
    o.set(o.b(optim.Sgd(o.x("Param"), o.x("Grad"), o.x("LearningRate"))), "ParamOut")


def _dpsgd(o: OpLowering) -> None:
    """Paddle's own kernel (``mechanism="paddle"``): an ordinary update of an ordinary program."""
    _declare(o, "learning_rate", "LearningRate")
    seed = o.attr("seed", 0)
    update = Dpsgd(
        o.x("Param"),
        o.x("Grad"),
        o.x("LearningRate"),
        None if seed else o.function.clock(),
        o.attr("clip", 10.0),
        o.attr("batch_size", 16.0),
        o.attr("sigma", 1.0),
        seed,
    )
    o.set(o.b(update), "ParamOut")


def has_sparse_gradient(update: Operator) -> bool:
    """Whether Paddle's gradient in this update holds only the rows of a table that were looked up.

    It does where every use of the table is an embedding with ``is_sparse``, and clipping leaves it so.  A private
    gradient has noise in every row.
    """
    if update.block.program.global_block().private_backward() is not None:
        return False
    (param,), (name,) = update.input("Param"), update.input("Grad")
    made = {out: op for op in update.block.ops for out in op.output_arg_names if op.type != "backward"}
    while name != param + GRAD_SUFFIX or name in made:
        op = made.pop(name, None)
        if op is None or op.type not in ("clip", "clip_by_norm", "elementwise_mul"):
            return False  # weight decay, for one, adds a dense term
        (name,) = op.input("X")
    before = list(itertools.takewhile(lambda op: op.type != "backward", update.block.ops))
    inside = [op for block in update.block.program.blocks if block is not update.block for op in block.ops]
    uses = [op for op in (*before, *inside) if param in op.input_arg_names]
    return bool(uses) and all(op.type in _LOOKUPS and op.attrs.get("is_sparse", False) for op in uses)


def _momentum(o: OpLowering) -> None:
    _declare(o, "learning_rate", "LearningRate")
    _declare(o, "optimizer", "Velocity")
    update = optim.Momentum(
        o.x("Param"),
        o.x("Grad"),
        o.x("Velocity"),
        o.x("LearningRate"),
        o.attr("mu"),
        bool(o.attr("use_nesterov", False)),
    )
    _results(o, update, "ParamOut", "VelocityOut")


def _adagrad(o: OpLowering) -> None:
    _declare(o, "learning_rate", "LearningRate")
    _declare(o, "optimizer", "Moment")
    update = optim.Adagrad(o.x("Param"), o.x("Grad"), o.x("Moment"), o.x("LearningRate"), o.attr("epsilon", 1e-6))
    _results(o, update, "ParamOut", "MomentOut")


def _adam(o: OpLowering) -> None:
    """Paddle's update by a sparse gradient takes the powers of the step that follows."""
    _declare(o, "learning_rate", "LearningRate")
    _declare(o, "optimizer", "Moment1", "Moment2", "Beta1Pow", "Beta2Pow")
    beta1, beta2 = o.attr("beta1", 0.9), o.attr("beta2", 0.999)
    ahead = has_sparse_gradient(o.op)
    power1, power2 = o.x("Beta1Pow"), o.x("Beta2Pow")
    if ahead:
        power1, power2 = o.b.scale(power1, beta1), o.b.scale(power2, beta2)
    update = optim.Adam(
        o.x("Param"),
        o.x("Grad"),
        o.x("Moment1"),
        o.x("Moment2"),
        power1,
        power2,
        o.x("LearningRate"),
        beta1,
        beta2,
        o.attr("epsilon", 1e-8),
    )
    *results, advanced1, advanced2 = o.b.emit(update)
    results += [power1, power2] if ahead else [advanced1, advanced2]
    for slot, value in zip(
        ("ParamOut", "Moment1Out", "Moment2Out", "Beta1PowOut", "Beta2PowOut"), results, strict=True
    ):
        o.set(value, slot)


def _decayed_adagrad(o: OpLowering) -> None:
    _declare(o, "learning_rate", "LearningRate")
    _declare(o, "optimizer", "Moment")
    update = optim.DecayedAdagrad(
        o.x("Param"),
        o.x("Grad"),
        o.x("Moment"),
        o.x("LearningRate"),
        o.attr("decay", 0.95),
        o.attr("epsilon", 1e-6),
    )
    _results(o, update, "ParamOut", "MomentOut")


def _adadelta(o: OpLowering) -> None:
    _declare(o, "optimizer", "AvgSquaredGrad", "AvgSquaredUpdate")
    update = optim.Adadelta(
        o.x("Param"),
        o.x("Grad"),
        o.x("AvgSquaredGrad"),
        o.x("AvgSquaredUpdate"),
        o.attr("rho", 0.95),
        o.attr("epsilon", 1e-6),
    )
    _results(o, update, "ParamOut", "AvgSquaredGradOut", "AvgSquaredUpdateOut")


def _adamax(o: OpLowering) -> None:
    """The power of beta1 is advanced by a record of its own, which follows."""
    _declare(o, "learning_rate", "LearningRate")
    _declare(o, "optimizer", "Moment", "InfNorm", "Beta1Pow")
    update = optim.Adamax(
        o.x("Param"),
        o.x("Grad"),
        o.x("Moment"),
        o.x("InfNorm"),
        o.x("Beta1Pow"),
        o.x("LearningRate"),
        o.attr("beta1", 0.9),
        o.attr("beta2", 0.999),
        o.attr("epsilon", 1e-8),
    )
    *results, _ = o.b.emit(update)
    for slot, value in zip(("ParamOut", "MomentOut", "InfNormOut"), results, strict=True):
        o.set(value, slot)


def _rmsprop(o: OpLowering) -> None:
    _declare(o, "learning_rate", "LearningRate")
    _declare(o, "optimizer", "Moment", "MeanSquare", "MeanGrad")
    numbers = (o.attr("decay", 0.9), o.attr("epsilon", 1e-10), o.attr("momentum", 0.0))
    param, grad, square, moment, rate = (o.x(s) for s in ("Param", "Grad", "MeanSquare", "Moment", "LearningRate"))
    if o.attr("centered", False):
        update = optim.CenteredRmsProp(param, grad, square, o.x("MeanGrad"), moment, rate, *numbers)
        _results(o, update, "ParamOut", "MeanSquareOut", "MeanGradOut", "MomentOut")
    else:
        # The mean of gradients exists and stays what it is.
        _results(
            o,
            optim.RmsProp(param, grad, square, moment, rate, *numbers),
            "ParamOut",
            "MeanSquareOut",
            "MomentOut",
        )


def _ftrl(o: OpLowering) -> None:
    _declare(o, "learning_rate", "LearningRate")
    _declare(o, "optimizer", "SquaredAccumulator", "LinearAccumulator")
    update = optim.Ftrl(
        o.x("Param"),
        o.x("Grad"),
        o.x("SquaredAccumulator"),
        o.x("LinearAccumulator"),
        o.x("LearningRate"),
        o.attr("l1", 0.0),
        o.attr("l2", 0.0),
        o.attr("lr_power", -0.5),
    )
    _results(o, update, "ParamOut", "SquaredAccumOut", "LinearAccumOut")


def _lars_momentum(o: OpLowering) -> None:
    _declare(o, "learning_rate", "LearningRate")
    _declare(o, "optimizer", "Velocity")
    update = optim.LarsMomentum(
        o.x("Param"),
        o.x("Grad"),
        o.x("Velocity"),
        o.x("LearningRate"),
        o.attr("mu"),
        o.attr("lars_coeff", 0.001),
        o.attr("lars_weight_decay", 0.0005),
    )
    _results(o, update, "ParamOut", "VelocityOut")


def _lamb(o: OpLowering) -> None:
    _declare(o, "learning_rate", "LearningRate")
    _declare(o, "optimizer", "Moment1", "Moment2", "Beta1Pow", "Beta2Pow")
    update = optim.Lamb(
        o.x("Param"),
        o.x("Grad"),
        o.x("Moment1"),
        o.x("Moment2"),
        o.x("LearningRate"),
        o.attr("beta1", 0.9),
        o.attr("beta2", 0.999),
        o.attr("epsilon", 1e-6),
        o.attr("weight_decay", 0.01),
    )
    _results(o, update, "ParamOut", "Moment1Out", "Moment2Out")


def _results(o: OpLowering, op: OpBase, *slots: str) -> None:
    for slot, value in zip(slots, o.b.emit(op), strict=True):
        o.set(value, slot)


def _average_accumulates(o: OpLowering) -> None:
    """Three sums, so that float32 adds numbers of one size: of up to 16,384 steps, of such sums, of the last window."""
    for kind in ("sum_1", "sum_2", "sum_3", "num_accumulates", "old_num_accumulates", "num_updates"):
        _declare(o, "optimizer", f"in_{kind}")
    b = o.b
    recent, older, last = (o.x(f"in_sum_{i}") for i in (1, 2, 3))
    count = o.x("in_num_accumulates").tensor
    one = b.fill(count.shape, count.dtype, 1)
    steps = b.add(o.x("in_num_updates"), one)
    held = b.add(o.x("in_num_accumulates"), one)
    recent = b.add(recent, o.x("param"))
    zeros = b.zeros_like(recent)

    # A multiple, told by division, which integers have in every target.
    full = b.equal(b.mul(b.div(steps, size := b.fill(count.shape, count.dtype, _SUMMED_AT_ONCE)), size), steps)
    full = b.broadcast(b.reshape(full, ()), recent.tensor.shape)
    older = b.where(full, b.add(older, recent), older)
    recent = b.where(full, zeros, recent)

    share = b.cast(b.scale(b.cast(steps, DType.F32), float(o.attr("average_window", 0.0))), count.dtype)
    longest = b.minimum(b.fill(count.shape, count.dtype, int(o.attr("max_average_window"))), share)
    shortest = b.fill(count.shape, count.dtype, int(o.attr("min_average_window")))
    closed = b.logical_and(b.less_equal(shortest, held), b.less_equal(longest, held))
    everywhere = b.broadcast(b.reshape(closed, ()), recent.tensor.shape)
    o.set(b.where(everywhere, b.add(recent, older), last), "out_sum_3")
    o.set(b.where(everywhere, zeros, recent), "out_sum_1")
    o.set(b.where(everywhere, zeros, older), "out_sum_2")
    o.set(b.where(closed, held, o.x("in_old_num_accumulates")), "out_old_num_accumulates")
    o.set(b.where(closed, b.sub(held, held), held), "out_num_accumulates")
    o.set(steps, "out_num_updates")


RULES: Rules = {
    "average_accumulates": _average_accumulates,
    "backward": _backward,
    "sgd": _sgd,
    "dpsgd": _dpsgd,
    "momentum": _momentum,
    "adagrad": _adagrad,
    "decayed_adagrad": _decayed_adagrad,
    "adam": _adam,
    "adamax": _adamax,
    "adadelta": _adadelta,
    "rmsprop": _rmsprop,
    "ftrl": _ftrl,
    "lars_momentum": _lars_momentum,
    "lamb": _lamb,
}
