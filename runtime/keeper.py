"""The checkpoints of one run: written when they are due, in a folder that is this run's alone."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from pathlib import Path

from .errors import CheckpointError, DataError
from .ledger import Ledger
from .lock import FolderLock, InUse
from .model import Model
from .resume import check_unused, save


@dataclass(frozen=True)
class Checkpoints:
    """Where and when checkpoints are written.

    Attributes:
        directory: of this run alone.
        every_steps: one after so many steps, or None.
        every_seconds: one after so many seconds, or None; seconds of a clock that never jumps.
        keep: newest ones kept.

    Raises DataError for a number that is not positive.
    """

    directory: Path
    every_steps: int | None = None
    every_seconds: float | None = None
    keep: int = 3

    def __post_init__(self) -> None:
        for name in ("every_steps", "every_seconds", "keep"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise DataError(f"{name} of the checkpoints is {value}", f"argument {name}", "give a positive number")

    @property
    def periodic(self) -> bool:
        """Whether checkpoints are written while the run lasts and at its end, not only when it is interrupted."""
        return self.every_steps is not None or self.every_seconds is not None

    def is_due(self, step: int, seconds: float) -> bool:
        """Whether to write one after ``step``, ``seconds`` after the last."""
        by_steps = self.every_steps is not None and step % self.every_steps == 0
        return by_steps or (self.every_seconds is not None and seconds >= self.every_seconds)


class Keeper:
    """Writes the checkpoints of a run, and lets it go on where the disk refuses one.

    The lock of the folder is taken at once where checkpoints are planned or the folder is there, else with the first
    one: a run that may never write any leaves nothing behind. Call `release` in any case.

    Args:
        model: what is trained.
        policy: where and when.

    Attributes:
        written: the last checkpoint, or None.
        failure: why the last attempt failed, or None where it did not.

    Raises CheckpointError when another run has the folder, or it cannot be written.
    """

    def __init__(self, model: Model, policy: Checkpoints) -> None:
        self._model = model
        self._policy = policy
        self._lock = FolderLock(policy.directory)
        self._late = not policy.periodic and not policy.directory.is_dir()
        self.written: Path | None = None
        self.failure: CheckpointError | None = None
        self._step = model.step
        self._time = time.monotonic()
        if not self._late:
            try:
                self._lock.take()
            except (InUse, OSError) as error:
                if policy.periodic or isinstance(error, InUse):
                    raise _refused(policy.directory, error) from None
                # A run may go on from a folder that cannot be written; it is told when there is something to write.

    def holds(self, folder: Path) -> bool:
        """Whether this run may write into ``folder``."""
        return self._lock.held and folder.resolve() == self._policy.directory.resolve()

    def begin(self) -> None:
        """The run begins where the model stands now, which need not be written."""
        self._step = self._model.step
        self._time = time.monotonic()

    def after_step(self, ledger: Ledger | None) -> None:
        """Write a checkpoint if one is due. Where that begins to fail, say so: the next one may succeed."""
        if self._policy.is_due(self._model.step, time.monotonic() - self._time):
            failed_before = self.failure is not None
            self._write(ledger)
            self._time = time.monotonic()  # after a failure too, or every step would try
            if self.failure is not None and not failed_before:
                warnings.warn(
                    f"{self.failure.what} ({self.failure.where}); training goes on, and tries again with the next",
                    UserWarning,
                    stacklevel=3,
                )

    def at_end(self, ledger: Ledger | None, *, cut_short: bool) -> None:
        """Write the last checkpoint, unless the state is in one: of a run that was ``cut_short``, or always."""
        if (cut_short or self._policy.periodic) and self._model.step > self._step:
            self._write(ledger)

    def save(self, ledger: Ledger | None) -> Path:
        """Write a checkpoint now. Raises CheckpointError."""
        self._take()
        position = None if ledger is None else ledger.position
        return save(self._model, self._policy.directory, position, keep=self._policy.keep)

    def release(self) -> None:
        """Let others write into the folder."""
        self._lock.release()

    def _write(self, ledger: Ledger | None) -> None:
        try:
            self.written, self.failure = self.save(ledger), None
            self._step = self._model.step
        except CheckpointError as error:
            self.failure = error

    def _take(self) -> None:
        """Hold the lock, also where the folder was removed during the run: it is made again."""
        take_folder(self._lock)
        if self._late:
            check_unused(self._policy.directory)
            self._late = False


def take_folder(lock: FolderLock) -> None:
    """Take the lock of a folder of checkpoints. Raises CheckpointError."""
    try:
        lock.take()
    except (InUse, OSError) as error:
        raise _refused(lock.folder, error) from None


def _refused(folder: Path, error: InUse | OSError) -> CheckpointError:
    if isinstance(error, InUse):
        return CheckpointError(
            f"another run, {error}, writes its checkpoints to this folder",
            str(folder),
            "wait for it to end, or give this run its own folder (--checkpoint)",
        )
    return CheckpointError(
        f"the checkpoint folder cannot be written: {error.strerror}",
        str(folder),
        "make the folder writable and free some space, or name another one (--checkpoint)",
    )
