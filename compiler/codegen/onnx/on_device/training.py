"""A training step without its updates: gradients come out, and ONNX Runtime's optimizer applies them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ....errors import TargetError
from ....ir.core import Function, Module, OpBase, Output, StateDecl, Value
from ....ir.types import DType, TensorType
from ....ops.construct import OpBuilder
from ....ops.state import Read, Write, state_of
from ....passes.dce import Dce
from ....passes.rewrite import rewrite
from .optimizer import Optimizer, native

GRADIENT = "_grad"
"""Ends the name of a parameter's gradient, as ONNX Runtime spells it."""
RESET = "lazy_reset_grad"
"""Name of the input that says whether gradients begin anew."""


@dataclass(frozen=True)
class Training:
    """The functions to be exported.

    Attributes:
        module: The state that stays, under the types it has in the checkpoint; functions ``step``,
            and ``infer`` if the program has one that returns something.
        trained: Parameters that the optimizer updates.
        state: Every variable of the checkpoint, in the order in which both models take them.
        updated: Those that the training model updates itself, in place.
        optimizer: Applies the gradients.
    """

    module: Module
    trained: tuple[str, ...]
    state: tuple[str, ...]
    updated: tuple[str, ...]
    optimizer: Optimizer


def training(module: Module) -> Training:
    """Take the updates out of a module's step.

    Args:
        module: At stage ``target``.

    Raises:
        TargetError: There is nothing to train, or state that ONNX Runtime's training API cannot keep.
    """
    if not module.has_function("step"):
        raise TargetError(
            "the program has no training step",
            hint="compile a program with minimize, or a model with --loss and --optimizer",
        )
    step = module.function("step")
    _check(module, step)
    writes: dict[str, Write] = {op.state: op for op in step.ops if isinstance(op, Write)}
    trained = tuple(d.name for d in module.state if d.trainable and d.name in writes)
    if not trained:
        raise TargetError(
            "the step trains no parameter",
            hint="compile a program with minimize, or a model with --loss and --optimizer",
        )
    for name in trained:
        if module.declaration(name).type.dtype is not DType.F32:
            raise TargetError(
                f"{name} is {module.declaration(name).type}: ONNX Runtime's optimizers update float32 only",
                where=writes[name].loc.place or None,
                hint="make the layers float32, or use --target onnx",
            )
    found = native(step, trained)
    optimizer = found if isinstance(found, Optimizer) else None
    step = _without_updates(step, trained, optimizer)
    if optimizer is None:
        gradients = {o.name.removesuffix(GRADIENT): o.value for o in step.outputs[-len(trained) :]}
        optimizer = Optimizer("SGDOptimizerV2", {}, "", gradients, reason=str(found))
    functions = [step]
    if module.has_function("infer") and module.function("infer").outputs:
        functions.append(_without_writes(module.function("infer")))
    module = Dce().run(replace(module, functions=tuple(functions)))
    state = tuple(_held(d, writes.get(d.name)) for d in module.state)
    types = {d.name: d.type for d in state}
    module = replace(module.map_functions(lambda function: _as_held(function, types)), state=state)
    touched = {name for function in module.functions for name in state_of(module, function)}
    return Training(
        module,
        trained,
        tuple(d.name for d in state if d.name in touched),
        tuple(op.state for op in module.function("step").ops if isinstance(op, Write)),
        optimizer,
    )


def _check(module: Module, step: Function) -> None:
    """Raise TargetError for what only fluidc's runtime can do, or keep from the checkpoint."""
    if any(p.role == "noise" for p in step.params):
        raise TargetError(
            "the noise of mechanism='discrete' is drawn by fluidc's runtime, which ONNX Runtime's training API lacks",
            hint="use mechanism='gaussian', or --target cpu",
        )
    for name in (*(p.name for p in step.params if p.role == "feed"), *(out.name for out in step.outputs)):
        if name == RESET or name.endswith(GRADIENT):
            raise TargetError(
                f"ONNX Runtime's training API takes what is called {name} for a gradient, and hides it",
                hint="give the variable another name",
            )
    for op in step.ops:
        if isinstance(op, Write) and module.privacy is not None and module.declaration(op.state).kind == "diagnostic":
            raise TargetError(
                f"{op.state} counts what is not private, and a checkpoint of ONNX Runtime would hold it",
                where=op.loc.place or None,
                hint="leave the metric out of the private program, or use --target onnx",
            )


def _without_updates(step: Function, trained: Sequence[str], optimizer: Optimizer | None) -> Function:
    """The step with a gradient for every parameter, and without what the optimizer does.

    Without an optimizer of ONNX Runtime's that is the program's, the rule stays, and the gradient is how far it moves
    the parameter: SGD at the rate 1 then takes that step.
    """
    left_out = {*trained, *(optimizer.first if optimizer is not None else ())}
    b = OpBuilder()
    reads: dict[str, Value] = {op.state: op.result for op in step.ops if isinstance(op, Read)}
    new: dict[str, Write] = {op.state: op for op in step.ops if isinstance(op, Write)}
    b.ops += [op for op in step.ops if not (isinstance(op, Write) and op.state in left_out)]
    outputs: list[Output] = []
    for name in trained:
        if optimizer is not None:
            gradient = optimizer.gradients[name]
        else:
            with b.at(new[name].loc):
                old = reads[name] if name in reads else b(Read(new[name].state, new[name].value.tensor))
                gradient = b.sub(old, new[name].value)
        outputs.append(Output(name + GRADIENT, gradient))
    return replace(step, ops=tuple(b.ops), outputs=(*step.outputs, *outputs))


def _without_writes(function: Function) -> Function:
    """Evaluation changes nothing."""
    return replace(function, ops=tuple(op for op in function.ops if not isinstance(op, Write)))


def _held(declared: StateDecl, write: Write | None) -> StateDecl:
    """The variable under the type that the checkpoint holds.

    The only tensors that a model can change in place are float32 (InPlaceAccumulatorV2), so a counter is held as
    such: exact up to 2^24.
    """
    kind = declared.type
    if write is None or kind.dtype is DType.F32 or declared.trainable:
        return declared
    if kind.dtype in (DType.I32, DType.I64) and kind.numel == 1:
        return replace(declared, type=TensorType(DType.F32, kind.shape))
    raise TargetError(
        f"{declared.name} is {kind} and changes in the step: ONNX Runtime's training API changes float32 tensors only",
        where=write.loc.place or None,
        hint="leave out what keeps such numbers (auc and other metrics), or use --target onnx",
    )


def _as_held(function: Function, types: Mapping[str, TensorType]) -> Function:
    """The function on variables as the checkpoint holds them: counters are converted as they are read and written."""

    def converted(b: OpBuilder, op: OpBase) -> Sequence[Value] | None:
        if isinstance(op, Read) and types[op.state] != op.type:
            return (b.cast(b(Read(op.state, types[op.state])), op.type.dtype),)
        if isinstance(op, Write) and types[op.state] != op.value.type:
            b.emit(Write(b.cast(op.value, types[op.state].dtype), op.state))
            return ()
        return None

    return rewrite(function, converted)
