"""Saving a model's place in its training, and going on from there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .checkpoint import CheckpointMeta, newest_checkpoint, save_checkpoint
from .errors import CheckpointError, LedgerError
from .ledger_records import Position
from .model import Model, model_key


def save(model: Model, directory: Path, ledger: Position | None, *, keep: int = 3) -> Path:
    """Write a checkpoint of ``model`` to ``directory``.

    Args:
        model: between two steps.
        directory: of this run alone; made where it does not exist.
        ledger: last record of the ledger on disk that counts the steps of a private model.
        keep: newest checkpoints kept.

    Returns the file. Raises CheckpointError when the disk refuses, and LedgerError for a private model whose steps
    no ledger on disk counts: resuming it could not tell what was spent.
    """
    check_counted(model, directory, ledger)
    meta = CheckpointMeta(
        step=model.step,
        artifact=model.artifact_sha256,
        seed=model.seed,
        rng_counter=model.stepper.rng_counter,
        course=model.course,
        sampler=model.sampler,
        ledger=ledger,
        insecure_noise_key=model.insecure,
    )
    return save_checkpoint(directory, model.saved_state(), meta, keep=keep)


def check_counted(model: Model, directory: Path, ledger: Position | None) -> None:
    """Raise LedgerError for a private model whose steps no ledger on disk counts."""
    if model.private and (ledger is None or model.uncounted):
        raise LedgerError(
            "a private model is saved together with its ledger, and this one's steps are counted in memory only",
            str(directory),
            "train with run_dir (--run-dir), or export the trained artifact",
        )


def resume(model: Model, directory: Path, on_skip: Callable[[str], None]) -> Path | None:
    """Put ``model`` where the newest sound checkpoint in ``directory`` stands; None where there is none.

    ``on_skip`` gets a line for each damaged one that is passed over. Raises CheckpointError when none can be read,
    or when they belong to another artifact; the model is then as it was.
    """
    found = newest_checkpoint(directory, model.artifact_sha256, on_skip)
    if found is None:
        return None
    meta = found.meta
    wanted = {name: (array.dtype, array.shape) for name, array in model.saved_state().items()}
    given = {name: (array.dtype, array.shape) for name, array in found.state.items()}
    if wanted != given:
        name = min(name for name in {*wanted, *given} if wanted.get(name) != given.get(name))
        raise CheckpointError(
            f"the checkpoint does not hold the state of this program: {name!r} is missing or differs",
            str(found.path),
            "resume the artifact that it was made with",
        )
    model.load_state(found.state)
    model.seed = meta.seed
    model.stepper.seed(model_key(meta.seed), meta.rng_counter)
    model.step = meta.step
    model.sampler = meta.sampler
    model.course = meta.course
    model.ledger = meta.ledger
    model.uncounted = False  # such a state is never saved
    model.insecure = model.insecure or meta.insecure_noise_key
    return found.path


def check_unused(directory: Path) -> None:
    """Raise CheckpointError when ``directory`` holds checkpoints: of another run, where the caller wrote none."""
    if directory.is_dir() and any(directory.glob("step-*.safetensors")):
        raise CheckpointError(
            "the checkpoint folder holds an earlier run",
            str(directory),
            "go on from it with --resume, or give this run its own folder with --checkpoint",
        )
