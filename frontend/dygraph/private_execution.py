"""Running private steps of dygraph: one compiled function for lots of any size, counted like those of a Program."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from dataclasses import replace

from ...compiler.codegen.target import BuildOptions
from ...compiler.driver import Source, compile_source, privacy_block
from ...compiler.errors import PrivacyError
from ...compiler.ir.core import Module, StateDecl
from ...compiler.ir.stage import Stage
from ...compiler.ir.types import DType, TensorType
from ...runtime.artifact import PrivacySpec
from ...runtime.errors import DataError, FluidcError, PrivacyWarning
from ..framework import Operator, OpRole, Program
from ..lots import arrays_of
from ..lower import BATCH, lower
from ..lower.module import privacy_config
from ..source import user_location
from ..steps import PrivateSteps
from .execution import Encoding, Plan, bound, encode, leave, program_of
from .graph import Array, Node, Record, told_of
from .private import BOUND, NEW_BOUND, PrivateTraining, Step

CACHED_PLANS = 16
"""Compiled steps of one training: with and without an accuracy, with and without a gradient that is looked at."""


def run_private(step: Step, records: list[Record], target: str) -> None:
    """Take a private step, the pending ``records``, and give their results values.

    Raises:
        PrivacyError: It is not separable, or computes another gradient than the first step; nothing ran.
        FluidcError: It cannot be compiled, or fails; state is as it was. A step that began stays counted.
    """
    encoding = _with_needed(encode(records), records, step)
    plan = _plan(step, records, encoding, target)
    feeds = {name: _array(node, step) for name, node in zip(plan.feeds, encoding.feeds, strict=True)}
    told = {name: told_of(node) for name, node in zip(plan.feeds, encoding.feeds, strict=True)}
    cells, wanted, written = list(encoding.cells), encoding.wanted, encoding.written
    overwritten = [(cell, cell.in_memory()) for cell in written]
    leave(records)
    # What nobody needs of the graph is gone with these, so that no old parameters are kept.
    records.clear()
    step.gradients.clear()
    del encoding
    for cell, versions in overwritten:
        cell.keep(versions)
    stepper = bound(plan, cells)
    assert plan.code is not None
    spec = plan.code[0].manifest.privacy
    assert spec is not None
    steps = PrivateSteps.of(step.training, _of_training(spec))
    try:
        values = steps.run(stepper, feeds, step.lot)
    except DataError as error:
        name = next((name for name in feeds if f"'{name}'" in error.what), "")
        what = error.what.replace(f"'{name}'", told.get(name, name))
        raise DataError(what, plan.places.get(name) or error.where or "", error.hint or "") from None
    for name, node in zip(plan.fetches, wanted, strict=True):
        node.value = values[name]


def spec_of(training: PrivateTraining) -> PrivacySpec:
    """The privacy block of the steps of ``training``, before the first of them.

    Raises:
        PrivacyError: It has no parameters yet, or the constants do not fit.
    """
    parameters = [p for p in training.parameters if p.trainable]
    if not parameters:
        raise training.refusal(
            "which parameters it trains is not known yet", "pass parameter_list=model.parameters() to it"
        )
    program = Program()
    attrs = {
        "privacy": training.spec,
        "parameters": [p.name for p in parameters],
        "clip_state": "" if training.bound is None else training.bound.name,
    }
    record = Operator(program.global_block(), "backward", {}, {}, attrs, user_location(), OpRole.BACKWARD)
    config, plan = privacy_config(record)
    state = tuple(
        StateDecl(p.name, TensorType(DType.of(p.dtype.numpy), p.shape), role="parameter", trainable=True)
        for p in parameters
    )
    spec = privacy_block(Source(Module(Stage.CAPTURED, state, (), config), plan=plan))
    assert spec is not None
    training.announced = tuple(p.name for p in parameters)
    return _of_training(spec)


def _of_training(spec: PrivacySpec) -> PrivacySpec:
    """What of a step's privacy block all steps of its training share: not the arrays that only one of them states."""
    return replace(spec, assumed_public=())


def _with_needed(encoding: Encoding, records: Sequence[Record], step: Step) -> Encoding:
    """The encoding, which also gives the results that later ops read, and the gradients that nothing in it uses."""
    known = {*encoding.wanted}
    used = {node for record in records for node in record.read}
    read = [node for record in step.others for node in record.read]
    read += [gradient for gradient in step.gradients if gradient not in used]
    more = [
        node
        for node in dict.fromkeys(read)
        if node in encoding.names and node.value is None and node.cell is None and node not in known
    ]
    numbers = tuple(encoding.names[node] for node in more)
    return encoding._replace(wanted=[*encoding.wanted, *more], structure=(encoding.structure, numbers))


def _array(node: Node, step: Step) -> Array:
    """What a step reads: of a lot its own array, whatever was done to the copy that the user has."""
    assert node.fed is not None
    assert node.value is not None
    return node.value if step.lot is None or node.fed.lot is None else arrays_of(node.fed.lot)[node.fed.name]


def _plan(step: Step, records: Sequence[Record], encoding: Encoding, target: str) -> Plan:
    training = step.training
    types: list[Hashable] = []
    for node, array in zip(encoding.feeds, encoding.arrays, strict=True):
        extents = array.shape[1:] if node in step.examples else array.shape
        types.append((array.dtype.char, node in step.examples, extents))
    names = tuple(cell.name for cell in encoding.cells)
    key = target, encoding.structure, tuple(types), names
    plan = training.plans.get(key)
    if plan is None:
        plan = training.plans[key] = _compiled(step, records, encoding, target)
        training.core = step.core  # equal to what it was, if there was one
        if len(training.plans) > CACHED_PLANS:
            training.plans.popitem(last=False)
    training.plans.move_to_end(key)
    return plan


def _compiled(step: Step, records: Sequence[Record], encoding: Encoding, target: str) -> Plan:
    program, plan = program_of(records, encoding, None)
    block = program.global_block()
    for cell, name in zip(encoding.cells, plan.states, strict=True):
        if cell.name != name and cell.training is not None:
            raise step.training.refusal(
                f"two variables of this step are named {cell.name}", "build the model inside one guard()"
            )
    types: dict[str, TensorType] = {}
    for name, node, array in zip(plan.feeds, encoding.feeds, encoding.arrays, strict=True):
        variable = block.vars[name]
        if node in step.examples:
            variable.shape = (-1, *array.shape[1:])
        else:
            variable.is_public = True
        types[name] = TensorType(DType.of(array.dtype), tuple(BATCH if d < 0 else d for d in variable.shape))
    _complete(block.ops, step.training)
    try:
        source = lower(program, fetches=plan.fetches, feed_types=types)
        _tell(step.training, source)
        compiled = compile_source(source, target=target, options=BuildOptions())
    except PrivacyError:
        raise
    except FluidcError as error:
        raise PrivacyError(
            f"{step.training.optimizer}: this step cannot be compiled for a lot of any size: {error.what}",
            where=error.where,
            hint=f"{error.hint}; " * bool(error.hint) + "sizes that come from the batch at hand "
            "(x.shape[0], len(array)) are not its size N: use -1 or 0 in shapes, and *_batch_size_like layers",
        ) from error
    plan.code = compiled, compiled.built.engine()
    plan.is_final = True
    return plan


def _complete(ops: list[Operator], training: PrivateTraining) -> None:
    """Say on the backward record what it is private by."""
    record = next(op for op in ops if op.type == "backward")
    record.attrs["privacy"] = training.spec
    record.outputs.pop(NEW_BOUND, None)
    record.attrs["clip_state"] = record.inputs.pop(BOUND, [""])[0]


def _tell(training: PrivateTraining, source: Source) -> None:
    """The accountant's warnings, once."""
    if not training.plans:
        for text in source.plan.warnings if source.plan is not None else ():
            warnings.warn(text, PrivacyWarning, stacklevel=2)
