"""Checkpoints: the state of a run after a step, one safetensors file each, never half written.

The header of the file holds where the run stood, how it draws its batches, and a digest over everything, since
safetensors has none. A checkpoint needs no other file.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from . import tensors
from .errors import CheckpointError
from .fields import Fields, Json, canonical_bytes, parse_object
from .files import MAX_FILE_BYTES, make_directory, read_regular, write_atomically
from .keystream import MAX_DRAWS
from .ledger_records import Position
from .sampler import Course, SamplerState
from .tensors import Array

FORMAT_VERSION = 2

MAX_COUNT = MAX_DRAWS >> 1
"""Steps, draws and epochs of a run that can go on: streams of random numbers have names for twice as many."""

_NAME = re.compile(r"step-(\d{6,})\.safetensors")
_LEFT_OVER = re.compile(r"\.step-\d{6,}\.safetensors\.\d+\.tmp")


@dataclass(frozen=True)
class CheckpointMeta:
    """Where a run stood.

    Attributes:
        step: steps whose result is in the state.
        artifact: SHA-256 of the artifact file (`Artifact.sha256`).
        seed: of initialisers, shuffles and dropout.
        rng_counter: counter of initialisers and dropout.
        course: how ordinary batches are drawn, or None for a private run and before the first batch.
        sampler: where ordinary training goes on, or None for a private run, which draws anew.
        ledger: last record of the privacy ledger, or None for an ordinary run.
        insecure_noise_key: the noise came from a known key.
    """

    step: int
    artifact: str
    seed: int
    rng_counter: int
    course: Course | None
    sampler: SamplerState | None
    ledger: Position | None
    insecure_noise_key: bool = False

    def to_json(self) -> Mapping[str, Json]:
        """The JSON object in the file's header, but for the digest."""
        course, sampler = self.course, self.sampler
        return {
            "format_version": FORMAT_VERSION,
            "step": self.step,
            "artifact": self.artifact,
            "seed": self.seed,
            "rng_counter": self.rng_counter,
            "course": (
                None
                if course is None
                else {"sampler": course.sampler, "batch": course.batch, "examples": course.examples}
            ),
            "sampler": None if sampler is None else {"epoch": sampler.epoch, "position": sampler.position},
            "ledger": None if self.ledger is None else self.ledger.to_json(),
            "insecure_noise_key": self.insecure_noise_key,
        }

    @classmethod
    def from_json(cls, fields: Fields) -> CheckpointMeta:
        """Read what `to_json` wrote. Raises CheckpointError."""
        version = fields.integer("format_version")
        if version != FORMAT_VERSION:
            fields.fail("format_version", f"format {version} is not one that this version reads")
        return cls(
            step=fields.integer("step", 0, MAX_COUNT),
            artifact=fields.text("artifact"),
            seed=fields.integer("seed", 0, (1 << 64) - 1),
            rng_counter=fields.integer("rng_counter", 0, MAX_COUNT),
            course=fields.optional_record(
                "course", lambda f: Course(f.text("sampler"), f.integer("batch", 1), f.integer("examples", 1))
            ),
            sampler=fields.optional_record(
                "sampler", lambda f: SamplerState(f.integer("epoch", 0, MAX_COUNT), f.integer("position"))
            ),
            ledger=fields.optional_record("ledger", Position.from_json),
            insecure_noise_key=fields.truth("insecure_noise_key"),
        )


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint read back: its file, where the run stood, and every state array."""

    path: Path
    meta: CheckpointMeta
    state: Mapping[str, Array]


def save_checkpoint(directory: Path | str, state: Mapping[str, Array], meta: CheckpointMeta, *, keep: int = 3) -> Path:
    """Write ``step-000123.safetensors`` durably, then remove all but the ``keep`` newest up to that step.

    Returns the path. ``directory`` is made where it does not exist. Raises CheckpointError when the disk
    refuses; the checkpoints written before are then as they were. Raises ValueError for ``keep`` below 1.
    """
    if keep < 1:
        raise ValueError(f"keep = {keep} would keep no checkpoint")
    folder = Path(directory)
    path = folder / f"step-{meta.step:06d}.safetensors"
    header = {**meta.to_json(), "digest": _digest(state, meta)}
    try:
        make_directory(folder)
        write_atomically(path, tensors.encode(state, canonical_bytes(header).decode("ascii")))
    except OSError as error:
        raise CheckpointError(
            f"the checkpoint cannot be written: {error.strerror}",
            str(path),
            "make the folder writable and free some space, then resume",
        ) from None
    with suppress(OSError):  # the new one is safe; what cannot be removed now is tried again after the next
        # Files of later steps are another run's, or an abandoned one's: not this call's to remove.
        up_to_now = sorted(entry for entry in _checkpoints(folder) if entry[0] <= meta.step)
        for old in [path for _, path in up_to_now[:-keep]] + _left_overs(folder):
            old.unlink(missing_ok=True)
    return path


def load_checkpoint(path: Path | str, artifact: str) -> Checkpoint:
    """Read a checkpoint of the artifact with SHA-256 ``artifact``.

    Raises CheckpointError when it is damaged or belongs to another artifact.
    """
    checkpoint = _load(Path(path))
    _check_artifact(checkpoint, artifact)
    return checkpoint


def newest_checkpoint(directory: Path | str, artifact: str, on_skip: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint in ``directory`` that can be read, or None where there is none at all.

    Each damaged one is skipped, and ``on_skip`` gets a message that names it. Raises CheckpointError when all
    are damaged, or when the newest sound one belongs to another artifact than that with SHA-256 ``artifact``.
    """
    folder = Path(directory)
    try:
        found = sorted(_checkpoints(folder), reverse=True) if folder.is_dir() else []
    except OSError as error:
        raise CheckpointError(
            f"the checkpoint folder cannot be read: {error.strerror}", str(folder), "make it readable, then resume"
        ) from None
    for _, path in found:
        try:
            checkpoint = _load(path)
        except CheckpointError as error:
            on_skip(f"{path} is skipped: {error.what}")
            continue
        _check_artifact(checkpoint, artifact)
        return checkpoint
    if found:
        raise CheckpointError(
            "no checkpoint can be read", str(folder), "restore one from a copy, or train afresh in a new folder"
        )
    return None


def _load(path: Path) -> Checkpoint:
    def refuse(what: str, at: str) -> CheckpointError:
        return CheckpointError(
            f"the checkpoint is damaged: {what}", at, "resume from an older one, or restore it from a copy"
        )

    try:
        data = read_regular(path, MAX_FILE_BYTES)
    except OSError as error:
        raise CheckpointError(f"the checkpoint cannot be read: {error.strerror}", str(path), "check the path") from None
    try:
        header = tensors.metadata_of(data).encode("utf-8")
        state = tensors.decode(data)
    except (ValueError, RecursionError) as error:
        raise refuse(str(error), str(path)) from None
    fields = parse_object(header, str(path), refuse)
    meta = CheckpointMeta.from_json(fields)
    digest = fields.text("digest")
    fields.done()
    if digest != _digest(state, meta):
        raise refuse("its digest does not fit its content", str(path))
    return Checkpoint(path, meta, state)


def _check_artifact(checkpoint: Checkpoint, artifact: str) -> None:
    if checkpoint.meta.artifact != artifact:
        raise CheckpointError(
            "the checkpoint belongs to another artifact",
            str(checkpoint.path),
            "run the artifact that it was made with, or train afresh in a new folder",
        )


def _checkpoints(folder: Path) -> list[tuple[int, Path]]:
    matches = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return [(int(match[1]), path) for match, path in matches if match and path.is_file()]


def _left_overs(folder: Path) -> list[Path]:
    """What processes that died while they wrote a checkpoint left."""
    return [path for path in folder.iterdir() if _LEFT_OVER.fullmatch(path.name)]


def _digest(state: Mapping[str, Array], meta: CheckpointMeta) -> str:
    digest = hashlib.sha256(canonical_bytes(meta.to_json()))
    for name in sorted(state):
        value = state[name]
        digest.update(canonical_bytes([name, value.dtype.str, list(value.shape)]))
        digest.update(value.tobytes())
    return digest.hexdigest()
