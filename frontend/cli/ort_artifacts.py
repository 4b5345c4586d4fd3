"""``fluidc compile --target ort-artifacts``: a folder that ONNX Runtime's own training API trains with."""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .writing import replace_folder

if TYPE_CHECKING:
    from ...compiler.codegen.built import BuildOptions
    from ...compiler.driver import Compiled, Source
    from ...compiler.ir.core import Function

TARGET = "ort-artifacts"
INDEX = "artifacts.json"
"""Names what is in the folder; a folder with it may be replaced."""
FORMAT = "fluidc ort-artifacts 1"


def check(folder: Path) -> None:
    """Refuse at once what could not be written after all the work.

    Raises:
        BadParameter: ``folder`` is a file, or holds anything but earlier artifacts.
        TargetError: The ONNX Runtime at hand cannot write checkpoints.
    """
    from ...compiler.codegen.onnx.on_device.checkpoint import check_training_api

    if not folder.resolve().parent.is_dir():
        raise click.BadParameter(f"there is no folder {str(folder.parent)!r}", param_hint="-o")
    if folder.exists() and not folder.is_dir():
        raise click.BadParameter(f"{str(folder)!r} is a file; the artifacts are a folder", param_hint="-o")
    if folder.is_dir() and any(folder.iterdir()) and not _ours(folder):
        raise click.BadParameter(
            f"the folder {str(folder)!r} holds other things, and is not to be replaced; name a new one", param_hint="-o"
        )
    check_training_api()


def _ours(folder: Path) -> bool:
    try:
        return json.loads((folder / INDEX).read_text()).get("format") == FORMAT
    except (OSError, ValueError, AttributeError):
        return False


def prepared(source: Source) -> Source:
    """The program with its loss as the first fetch, where it is one: ONNX Runtime takes the first output for it."""
    from ...compiler.ops.grad import Backward

    step = source.module.function("step")
    value = next((op.targets[0] for op in step.ops if isinstance(op, Backward)), None)
    loss = next((out.name for out in step.outputs if out.value is value), None)

    def sorted_outputs(function: Function) -> Function:
        return replace(function, outputs=tuple(sorted(function.outputs, key=lambda out: out.name != loss)))

    return replace(source, module=source.module.map_functions(sorted_outputs))


def rows(source: Source, asked: int | None = None) -> int | None:
    """Physical rows of a step; those of a private one have room for lots of the largest size that is drawn.

    A Poisson lot of mean L exceeds them with a probability below 1e-10.  None for a plain program: any number.

    Args:
        source: The program.
        asked: What ``--batch`` says.

    Warns:
        UserWarning: A lot may not fit into the rows that are asked for.
    """
    from ...compiler.driver import default_batch

    private, plan = source.module.privacy, source.plan
    if private is None:
        return asked
    lot = private.largest_lot
    room = default_batch(lot + 8 * math.sqrt(lot) if plan is None or plan.sampler == "poisson" else lot)
    if asked is not None and asked < room:
        warnings.warn(
            f"a call takes one whole lot, and lots of {lot:g} rows on average may exceed {asked}: such a lot cannot be "
            f"trained on, and leaving it out or cutting it is not private; --batch {room} has room",
            UserWarning,
            stacklevel=2,
        )
    return asked or room


def write(folder: Path, compiled: Compiled, options: BuildOptions, seed: int | None) -> int:
    """Write the artifacts of a compiled program, all or nothing; returns their size in bytes.

    Args:
        folder: New, empty, or of earlier artifacts, which are replaced.
        compiled: For any target; its module at stage ``target`` is exported.
        options: How it is exported.
        seed: Of the first values that startup makes; None takes the program's, else a fresh one.

    Raises:
        FluidcError: An op without an ONNX form, state that cannot be kept, or a folder that cannot be written.
    """
    from ...compiler.codegen.onnx.on_device.checkpoint import write_checkpoint
    from ...compiler.codegen.onnx.on_device.models import build
    from ...compiler.driver import file_notes
    from ...runtime.model import Model
    from .engines import reference_engine

    artifact = compiled.artifact()
    manifest = artifact.manifest
    notes = file_notes(manifest.privacy, manifest.caution)
    made = build(compiled.module, replace(options, metadata=notes))
    state = Model(artifact, reference_engine(artifact), seed).state
    trained, others = made.checkpoint(state)
    rate = made.learning_rate(state)
    index = {
        "format": FORMAT,
        "version": manifest.fluidc_version,
        "learning_rate": rate,
        **made.describe(),
        "privacy": None if manifest.privacy is None else manifest.privacy.to_json(),
        "caution": manifest.caution,
    }

    def fill(new: Path) -> None:
        for name, model in made.models.items():
            (new / name).write_bytes(model.SerializeToString(deterministic=True))
        write_checkpoint(new / "checkpoint", trained, others, rate)
        (new / INDEX).write_text(json.dumps(index, indent=1, allow_nan=False) + "\n")

    return replace_folder(folder, fill)
