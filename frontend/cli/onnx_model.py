"""From a forward model in ONNX, a loss and an optimizer to the training program that is compiled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from .. import unique_name
from ..compat.onnx import load_onnx
from ..framework import Program, program_guard
from ..scope import Scope, scope_guard
from ..source import SourceLocation
from .capture import Chosen
from .fine_tune import append_training
from .training import Training


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
        append_training(path, program, model.outputs, model.parameters, training)
    outputs = tuple(output.name for output in model.outputs)
    return Chosen(path, program, startup if startup.global_block().ops else None, None, outputs)
