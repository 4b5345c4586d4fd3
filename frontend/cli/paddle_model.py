"""From a model that Paddle saved to the program that is compiled; where it is fine-tuned, with what trains it."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from .. import unique_name
from ..compat.program_desc.inference_model import persistables, read_inference_model, startup_of
from ..compat.program_desc.loading import LoadedProgram, load_program
from ..errors import ProgramError
from ..formats.files import read_file
from ..formats.state import read_state
from ..framework import Program, program_guard
from ..saved_variables import NewValue, listed
from ..saving import read_combined
from ..scope import Scope, scope_guard
from ..variable import Variable
from .capture import Chosen
from .fine_tune import append_training
from .model_kind import MODEL
from .training import Training


def paddle_program(path: Path, training: Training, params: str | None) -> Chosen:
    """Import a model with its values; append loss, accuracy and update where they are stated.

    Args:
        path: A folder with a ``__model__``, that file itself, or a ``.pdmodel`` beside its values.
        training: Checked by `check_training`.
        params: The file in the folder that holds all values; None: one for each variable.

    Raises:
        FluidcError: What the importer, a layer or the optimizer refuses.
    """
    with unique_name.guard(), scope_guard(Scope()):
        trainable = training.trainable or None
        if path.suffix == ".pdmodel":
            model = load_program(path, trainable=trainable, tell=_tell)
            values = _values_beside(path, model.program)
        else:
            folder, name = (path, MODEL) if path.is_dir() else (path.parent, path.name)
            model, found = read_inference_model(folder, name, params, trainable)
            values = {value.var.name: value.array for value in found}
        startup = startup_of(model.program, values)
        with program_guard(model.program, startup):
            append_training(path, model.program, _outputs(model), model.parameters, training)
    outputs = tuple(output.name for output in model.outputs)
    return Chosen(path, model.program, startup if startup.global_block().ops else None, None, outputs)


def _tell(text: str) -> None:
    click.echo(text, err=True)


def _outputs(model: LoadedProgram) -> list[Variable]:
    """What the model says it gives; else results of floating point that nothing in it reads."""
    if model.outputs:
        return model.outputs
    block = model.program.global_block()
    read = {name for op in block.ops for name in op.input_arg_names}
    made = (name for op in block.ops for name in op.outputs.get("Out", []) if name not in read)
    return [block.vars[name] for name in made if not block.vars[name].persistable]


def _values_beside(path: Path, program: Program) -> dict[str, np.ndarray]:
    """Values of a ``.pdmodel``'s variables: from ``.pdparams`` and ``.pdopt``, or from one ``.pdiparams``."""
    wanted = persistables(program)
    found: dict[str, np.ndarray] = {}
    together = path.with_suffix(".pdiparams")
    if together.exists():
        records = read_combined(read_file(together), str(together), list(wanted)) if wanted else {}
        found = {name: record.array for name, record in records.items()}
    for suffix in (".pdparams", ".pdopt"):
        file = path.with_suffix(suffix)
        if file.exists():
            found |= {name: np.asarray(value) for name, value in read_state(file).items() if name in wanted}
    missing = sorted(wanted.keys() - found.keys())
    if missing:
        raise ProgramError(
            f"{path.name} has no values for {listed(missing)}",
            str(path),
            f"fluid.save writes them beside it: {path.stem}.pdparams and {path.stem}.pdopt",
        )
    for name, array in found.items():
        NewValue(wanted[name], array, str(path)).check()
    return found
