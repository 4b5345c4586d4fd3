"""Saving a model's place in its training, and going on from there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from .checkpoint import CheckpointMeta, newest_checkpoint, save_checkpoint
from .errors import CheckpointError, LedgerError
from .fields import Fields, Json, parse_object
from .files import make_directory, write_atomically
from .ledger_records import Position
from .model import Course, Model, model_key

RUN = "run.json"

FORMAT_VERSION = 1


def save(model: Model, directory: Path, ledger: Position | None, *, keep: int = 3) -> Path:
    """Write a checkpoint of ``model`` to ``directory``, and beside it how its batches are drawn.

    Args:
        model: between two steps.
        directory: of this run alone; made where it does not exist.
        ledger: last record of the ledger on disk that counts the steps of a private model.
        keep: newest checkpoints kept.

    Returns the file. Raises CheckpointError when the disk refuses, and LedgerError for a private model whose steps
    no ledger on disk counts: resuming it could not tell what was spent.
    """
    if model.private and (ledger is None or model.uncounted):
        raise LedgerError(
            "a private model is saved together with its ledger, and this one's steps are counted in memory only",
            str(directory),
            "train with run_dir (--run-dir), or export the trained artifact",
        )
    try:
        make_directory(directory)
        write_atomically(directory / RUN, json.dumps(_run_to_json(model), indent=1).encode("ascii") + b"\n")
    except OSError as error:
        raise CheckpointError(
            f"the checkpoint cannot be written: {error.strerror}",
            str(directory),
            "make the folder writable and free some space, then resume",
        ) from None
    meta = CheckpointMeta(
        step=model.step,
        artifact=model.artifact_sha256,
        rng_counter=model.stepper.rng_counter,
        sampler=model.sampler,
        ledger=ledger,
        insecure_noise_key=model.insecure,
    )
    return save_checkpoint(directory, model.saved_state(), meta, keep=keep)


def resume(model: Model, directory: Path, on_skip: Callable[[str], None]) -> Path | None:
    """Put ``model`` where the newest sound checkpoint in ``directory`` stands; None where there is none.

    ``on_skip`` gets a line for each damaged one that is passed over. Raises CheckpointError when none can be read,
    or when they belong to another artifact; the model is then as it was.
    """
    found = newest_checkpoint(directory, model.artifact_sha256, on_skip)
    if found is None:
        return None
    seed, course = _read_run(directory / RUN)
    meta = found.meta
    missing = model.saved_state().keys() ^ found.state.keys()
    if missing:
        raise CheckpointError(
            f"the checkpoint does not hold the state of this program: {min(missing)!r} is on one side only",
            str(found.path),
            "resume the artifact that it was made with",
        )
    model.load_state(found.state)
    model.seed = seed
    model.stepper.seed(model_key(seed), meta.rng_counter)
    model.step = meta.step
    model.sampler = meta.sampler
    model.course = course
    model.ledger = meta.ledger
    model.uncounted = False  # such a state is never saved
    model.insecure = model.insecure or meta.insecure_noise_key
    return found.path


def check_unused(model: Model, directory: Path) -> None:
    """Raise CheckpointError when ``directory`` holds the checkpoints of a run that ``model`` does not go on from."""
    if model.step == 0 and directory.is_dir() and any(directory.glob("step-*.safetensors")):
        raise CheckpointError(
            "the checkpoint folder holds an earlier run",
            str(directory),
            "go on from it with --resume, or give this run its own folder with --checkpoint",
        )


def _run_to_json(model: Model) -> Json:
    course = model.course
    drawn: Json = (
        None if course is None else {"sampler": course.sampler, "batch": course.batch, "examples": course.examples}
    )
    return {"format_version": FORMAT_VERSION, "seed": model.seed, "course": drawn}


def _read_run(path: Path) -> tuple[int, Course | None]:
    def refuse(what: str, at: str) -> CheckpointError:
        return CheckpointError(f"{RUN} is damaged: {what}", at, "restore it from a copy, or train afresh")

    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{RUN} cannot be read: {error.strerror}", str(path), "restore it from a copy, or train afresh"
        ) from None
    fields = parse_object(data, str(path), refuse)
    version = fields.integer("format_version")
    if version != FORMAT_VERSION:
        fields.fail("format_version", f"format {version} is not one that this version reads")
    seed = fields.integer("seed", 0, (1 << 64) - 1)
    course = fields.optional_record("course", _read_course)
    fields.done()
    return seed, course


def _read_course(fields: Fields) -> Course:
    return Course(fields.text("sampler"), fields.integer("batch", 1), fields.integer("examples", 1))
