"""A loss, its accuracy and an optimizer on an imported model, as the command line states them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ...compiler.errors import FluidcError
from .. import layers, unique_name
from ..framework import Program
from ..source import located
from ..variable import Parameter, Variable
from ..vartype import VarType
from .call_spec import CallSpec, call, find
from .training import LOSSES, OF_CLASSES, OPTIMIZERS, Training

_SOFTMAX = ("softmax", "onnx.Softmax")
_KEEPS = ("scale", "assign")
"""Ops that Paddle puts behind the last layer of a model."""


def append_training(
    path: Path, program: Program, outputs: Sequence[Variable], parameters: Sequence[Parameter], training: Training
) -> None:
    """Append what trains a model to the default programs.

    Args:
        path: Its file.
        program: The default main program.
        outputs: The model's; the first is the prediction.
        parameters: What can be trained of it.
        training: Checked by `check_training`.

    Raises:
        FluidcError: A prediction that has no loss, or what a layer or the optimizer refuses.
    """
    if training.loss is None:
        return
    with located(f"--loss {training.loss.text}"):
        loss = _loss(path, program, outputs, training.loss)
    if training.optimizer is None:
        return
    if not parameters:
        hint = "export the model with its weights as initialisers"
        raise FluidcError("the model has no parameters that could be trained", str(path), hint)
    made = find(training.optimizer, OPTIMIZERS, "--optimizer")
    with located(f"--optimizer {training.optimizer.text}"):
        call(training.optimizer, made, "--optimizer").minimize(loss)


def _loss(path: Path, program: Program, outputs: Sequence[Variable], spec: CallSpec) -> Variable:
    if not outputs:
        hint = "save it with its targets: fluid.io.save_inference_model"
        raise FluidcError("the model names no output that a loss could be taken of", str(path), hint)
    scores = outputs[0]
    made = find(spec, LOSSES, "--loss")
    soft = bool(spec.arguments.get("soft_label", False))
    if scores.dtype is not VarType.FP32 or not scores.shape:
        what = f"the first output of the model is {scores.describe()}"
        raise FluidcError(what, str(path), "a loss takes a prediction for every row, in float32")
    classes = made in OF_CLASSES.values() and not soft
    if made is LOSSES["softmax_with_cross_entropy"] and _last_layer(program, scores) in _SOFTMAX:
        click.echo(
            f"warning: {path.name} ends in a Softmax, and {spec.name} applies another; cross_entropy does not", err=True
        )
    shape: list[Any] = list(scores.shape)
    if classes:
        axis = spec.arguments.get("axis", -1)
        if isinstance(axis, int) and -len(shape) <= axis < len(shape):  # the layer refuses another
            shape[axis] = 1
    dtype = "int64" if classes else "float32"
    name = "label" if not program.global_block().has_var("label") else unique_name.generate("label")
    label = layers.data(name, shape, append_batch_size=False, dtype=dtype)
    loss = layers.mean(call(spec, made, "--loss", scores, label))
    if classes and len(scores.shape) == 2:
        layers.accuracy(scores, label)
    return loss


def _last_layer(program: Program, output: Variable) -> str:
    """The type of the op that computes an output."""
    name = output.name
    for op in reversed(program.global_block().ops):
        if name in op.output_arg_names:
            if op.type not in _KEEPS:
                return op.type
            (name,) = op.input("X")
    return ""
