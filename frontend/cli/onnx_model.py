"""From a forward model in ONNX, a loss and an optimizer to the training program that is compiled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from .. import layers, unique_name
from ..compat.onnx import OnnxError, OnnxModel, load_onnx
from ..framework import Program, program_guard
from ..scope import Scope, scope_guard
from ..source import SourceLocation, located
from ..variable import Variable
from ..vartype import VarType
from .call_spec import CallSpec, call, find
from .capture import Chosen
from .training import LOSSES, OF_CLASSES, OPTIMIZERS, Training


def onnx_program(path: Path, training: Training, feeds: Mapping[str, Sequence[int]]) -> Chosen:
    """Import a model and append loss, accuracy and update.

    Args:
        path: The file.
        training: Checked by `check_training`.
        feeds: Shapes by feed name, -1 for the batch.

    Raises:
        FluidcError: What the importer, a layer or the optimizer refuses.
    """
    program, startup = Program(), Program()
    with program_guard(program, startup), unique_name.guard(), scope_guard(Scope()):
        shapes = {name: [None if d < 0 else d for d in shape] for name, shape in feeds.items()}
        where = SourceLocation(str(path), 0, "")
        model = load_onnx(path, shapes=shapes, trainable=training.trainable or None, where=where)
        loss = None
        if training.loss is not None:
            with located(f"--loss {training.loss.text}"):
                loss = _loss(path, model, training.loss)
        if loss is not None and training.optimizer is not None:
            if not model.parameters:
                hint = "export the model with its weights as initialisers"
                raise OnnxError("the model has no parameters that could be trained", str(path), hint)
            made = find(training.optimizer, OPTIMIZERS, "--optimizer")
            with located(f"--optimizer {training.optimizer.text}"):
                call(training.optimizer, made, "--optimizer").minimize(loss)
    outputs = tuple(output.name for output in model.outputs)
    return Chosen(path, program, startup if startup.global_block().ops else None, None, outputs)


def _loss(path: Path, model: OnnxModel, spec: CallSpec) -> Variable:
    scores = model.outputs[0]
    made = find(spec, LOSSES, "--loss")
    soft = bool(spec.arguments.get("soft_label", False))
    if scores.dtype is not VarType.FP32 or not scores.shape:
        what = f"the first output of the model is {scores.describe()}"
        raise OnnxError(what, str(path), "a loss takes a prediction for every row, in float32")
    classes = made in OF_CLASSES.values() and not soft
    maker = next((op for op in reversed(model.program.global_block().ops) if scores.name in op.output_arg_names), None)
    if made is LOSSES["softmax_with_cross_entropy"] and maker is not None and maker.type == "onnx.Softmax":
        click.echo(
            f"warning: {path.name} ends in a Softmax, and {spec.name} applies another; cross_entropy does not", err=True
        )
    shape: list[Any] = list(scores.shape)
    if classes:
        axis = spec.arguments.get("axis", -1)
        if isinstance(axis, int) and -len(shape) <= axis < len(shape):  # the layer refuses another
            shape[axis] = 1
    dtype = "int64" if classes else "float32"
    name = "label" if not model.program.global_block().has_var("label") else unique_name.generate("label")
    label = layers.data(name, shape, append_batch_size=False, dtype=dtype)
    loss = layers.mean(call(spec, made, "--loss", scores, label))
    if classes and len(scores.shape) == 2:
        layers.accuracy(scores, label)
    return loss
