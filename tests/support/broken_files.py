"""Ways to break what keeps a run through a crash; `crash_server` applies one of them to itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from fluidc.runtime import checkpoint, files, ledger, ledger_records, resume, session, stepper, train
from fluidc.runtime.ledger import Ledger


def reserve_after_the_step() -> None:
    """The step is taken first, and counted when it is done."""

    def take(self: Any, left: int) -> Any:
        indices = self._sampler.next_lot()
        fetches = self._model.stepper.run_lot(self._data.take(indices), key=train.fresh_key(), draw=self._ledger.steps)
        self._ledger.step()
        return train.Taken(fetches, len(indices))

    train.PrivateSteps.take = take


def reserve_one_too_few() -> None:
    """A reservation is used for one step more than it covers."""

    def step(self: Any, epoch: int = 0, ahead: int = 1) -> int:
        if self._begun > self._totals.reserved or not self._totals.reserved:
            self._append("reserve", count=1)
        self._begun += 1
        return self._totals.steps - self._totals.reserved + self._begun - 1

    Ledger.step = step


def drawn_ahead_of_the_count() -> None:
    """The next lot is drawn while a step runs, though nothing is reserved for it."""
    Ledger.holds_next = lambda self, epoch=0: True


def ledger_without_fsync() -> None:
    """Records are written, and not made durable."""

    def append(self: Any, data: bytes) -> None:
        files.write_all(self._handle, data)

    ledger._File.append = append


def torn_records_kept() -> None:
    """What is left of half a record is not cut off before others are appended."""
    reading = ledger_records.read_records

    def read(data: bytes, *args: Any) -> Any:
        found = reading(data, *args)
        return ledger.Reading(found.records, found.totals, len(data), torn=False)

    ledger.read_records = read


def numbers_from_zero() -> None:
    """Each run numbers its steps from 0."""
    step = Ledger.step

    def counted(self: Any, epoch: int = 0, ahead: int = 1) -> int:
        step(self, epoch, ahead)
        return self._begun - 1

    Ledger.step = counted


def key_of_the_number() -> None:
    """The key of a step follows from its number in this run: a later run uses it again."""
    number = iter(range(10**6))
    train.fresh_key = lambda: next(number).to_bytes(32, "little")


def close_gives_back_too_much() -> None:
    """At the end of a run the last step is given back too."""
    append = Ledger._append

    def appended(self: Any, kind: Any, *, count: int = 0, **rest: Any) -> None:
        append(self, kind, count=max(0, count - 1) if kind == "close" else count, **rest)

    Ledger._append = appended


def _atomically(fill: Callable[[Path, Path, bytes], None]) -> None:
    def write(path: Path, data: bytes, mode: int = 0o644) -> None:
        fill(files.temporary_name(path), path, data)
        files.fsync_directory(path.parent)

    checkpoint.write_atomically = ledger.write_atomically = write


def _write(path: Path, data: bytes, *, sync: bool) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    files.write_all(handle, data)
    if sync:
        os.fsync(handle)
    os.close(handle)


def no_fsync_before_the_rename() -> None:
    """A file gets its name before its content is durable, and nothing makes it so."""

    def fill(temporary: Path, path: Path, data: bytes) -> None:
        _write(temporary, data, sync=False)
        os.replace(temporary, path)

    _atomically(fill)


def rename_before_fsync() -> None:
    """A file gets its name first, and is made durable then."""

    def fill(temporary: Path, path: Path, data: bytes) -> None:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        files.write_all(handle, data)
        os.replace(temporary, path)
        os.fsync(handle)
        os.close(handle)

    _atomically(fill)


def written_in_place() -> None:
    """A file is filled under its own name."""
    _atomically(lambda temporary, path, data: _write(path, data, sync=True))


def directories_not_synced() -> None:
    """Names are not made durable."""
    files.fsync_directory = ledger.fsync_directory = lambda path: None


def old_ones_removed_first() -> None:
    """Older checkpoints make room before the new one is there."""
    save = checkpoint.save_checkpoint

    def saving(directory: Path, state: Any, meta: Any, *, keep: int = 3) -> Path:
        with suppress(OSError):
            for _, old in checkpoint._checkpoints(Path(directory)):
                old.unlink()
        return save(directory, state, meta, keep=keep)

    resume.save_checkpoint = saving


def order_drawn_anew() -> None:
    """A run that goes on begins its epoch again."""
    going_on = resume.resume

    def resumed(model: Any, *args: Any) -> Path | None:
        found = going_on(model, *args)
        model.sampler = None
        return found

    session.resume = resumed


def dropout_from_the_start() -> None:
    """A run that goes on draws its masks from the beginning."""
    seed = stepper.Stepper.seed
    stepper.Stepper.seed = lambda self, key, counter=0: seed(self, key)


BROKEN: dict[str, tuple[Literal["plain", "private"], str]] = {
    "reserve_after_the_step": ("private", "were taken and are not counted"),
    "reserve_one_too_few": ("private", "were taken and are not counted"),
    "drawn_ahead_of_the_count": ("private", "a lot was drawn before its step was reserved"),
    "ledger_without_fsync": ("private", "were taken and are not counted|records are lost"),
    "torn_records_kept": ("private", "cannot be read"),
    "numbers_from_zero": ("private", "were taken and are not counted|one number was given"),
    "key_of_the_number": ("private", "one key was used in two steps"),
    "close_gives_back_too_much": ("private", "fewer steps are counted"),
    "no_fsync_before_the_rename": ("plain", "is cut off|has no header|another length|digest|cannot be read"),
    "rename_before_fsync": ("plain", "is cut off|has no header|another length|digest|cannot be read"),
    "written_in_place": ("plain", "is cut off|has no header|another length|digest|cannot be read"),
    "directories_not_synced": ("plain", "a checkpoint that was written is lost"),
    "old_ones_removed_first": ("plain", "a checkpoint that was written is lost"),
    "order_drawn_anew": ("plain", "is another one"),
    "dropout_from_the_start": ("plain", "is another one"),
}
"""Way to break it -> the kind of run that shows it, and what is said of it then."""
