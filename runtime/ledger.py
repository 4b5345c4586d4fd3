"""The privacy ledger: every private step is counted on disk before its lot is drawn.

The ledger protects against mistakes and crashes. It cannot detect that a directory was copied or restored from
a backup and trained twice, nor other artifacts trained on the same data; the joint release then costs the
composition of all runs.
"""

from __future__ import annotations

import os
import secrets
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from .errors import ArtifactError, BudgetError, LedgerError, PrivacyWarning
from .fields import parse_object
from .files import fsync_directory, make_directory, read_regular, remove_left_overs, write_all, write_atomically
from .ledger_records import Position, Reading, Record, RecordKind, Void, contains, read_records
from .lock import InUse, is_at, lock
from .privacy import PrivacySpec
from .witness import Witness

LEDGER = "ledger.jsonl"
PRIVACY = "privacy.json"
HOLDER = "ledger.pid"

MAX_BYTES = 4 << 30
"""Of a ledger: ten million steps, one record each."""


@dataclass(frozen=True)
class Spent:
    """What the ledger says was spent.

    Attributes:
        steps: steps taken, over all runs; after a crash those that were only reserved too.
        epochs: epochs counted, over all runs.
        delta: the delta both epsilons hold at, or None.
        budget: epsilon of the whole budget: the guarantee of the run; None where there is none.
        so_far: epsilon of the steps taken; holds where stopping here was decided in advance.
        reason: why there is no epsilon; empty when there is one.
        taints: decisions that epsilon does not cover.
    """

    steps: int
    epochs: int
    delta: float | None
    budget: float | None
    so_far: float | None
    reason: str
    taints: tuple[str, ...]


class _Log(Protocol):
    """Where records go; `append` returns once they are durable."""

    def append(self, data: bytes) -> None: ...
    def release(self) -> None: ...


class _Memory:
    """No file: the ledger lives as long as the process."""

    def append(self, data: bytes) -> None:
        pass

    def release(self) -> None:
        pass


class _File:
    """A locked, append-only file."""

    def __init__(self, handle: int, path: Path) -> None:
        self._handle = handle
        self._path = path

    def append(self, data: bytes) -> None:
        write_all(self._handle, data)
        os.fdatasync(self._handle)
        if not is_at(self._handle, self._path):  # then the record is nowhere that anybody will look
            raise LedgerError(
                "the privacy ledger was moved, removed or replaced while this run was using it",
                str(self._path),
                "put the run directory back as it was; if it is lost, so is the count: the steps released so far stay "
                "spent, and a new directory does not know of them",
            )

    def release(self) -> None:
        os.close(self._handle)  # and with it the lock


class Ledger:
    """The open ledger of one run; make it with `open` or `in_memory`, and `close` it, or use ``with``.

    `step` is called before a step's lot is drawn and its key is made. Only after it returned may anything
    of the step exist.
    """

    def __init__(
        self, spec: PrivacySpec, log: _Log, reading: Reading, where: str, void: Void, witness: Witness | None = None
    ) -> None:
        self._spec = spec
        self._log = log
        self._witness = witness
        self._records = list(reading.records)
        self._totals = reading.totals
        self._where = where
        self._run = secrets.token_hex(8)
        self._pid = os.getpid()
        self._stopped = ""
        self._first_epoch = self._totals.epochs
        self._begun = 0
        self._append("open", note=void)

    @classmethod
    def in_memory(cls, spec: PrivacySpec, *, void: Void = "") -> Ledger:
        """A ledger without a directory: it counts and refuses, and forgets with the process."""
        return cls(spec, _Memory(), read_records(b"", spec.sha256(), "memory"), "the ledger in memory", void)

    @classmethod
    def open(cls, run_dir: Path | str, spec: PrivacySpec, *, void: Void = "", resume: Position | None = None) -> Ledger:
        """Open or begin the ledger in ``run_dir``, and hold its lock until `close`.

        Args:
            run_dir: directory of the run; made where it does not exist.
            spec: privacy block of the artifact; a ledger of another one is refused.
            void: why no epsilon will hold for this run, or "".
            resume: position stored in the checkpoint, or the trained artifact, that the run goes on from.

        Warns, by PrivacyWarning, where this machine has seen the ledger with records that it lacks.
        Raises LedgerError when the ledger is busy, damaged, of another artifact, or missing or behind ``resume``.
        """
        directory = Path(run_dir)
        path = directory / LEDGER
        if resume is not None and not path.exists():
            raise _behind(path)
        try:
            make_directory(directory)
            handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unwritable(error, str(path)) from None
        try:
            _lock(handle, path)
            reading = _recover(handle, directory, spec, resume)
            witness = Witness(spec.sha256(), path)
            doubt = witness.doubt(reading.records, reading.totals.steps)
            if doubt:
                warnings.warn(doubt, PrivacyWarning, stacklevel=2)
            return cls(spec, _File(handle, path), reading, str(path), void, witness)
        except OSError as error:
            os.close(handle)
            raise _unwritable(error, str(path)) from None
        except BaseException:  # an interrupt too: the lock must not outlive the attempt
            os.close(handle)
            raise

    @property
    def steps(self) -> int:
        """Steps counted over all runs; reservations not yet used are among them."""
        return self._totals.steps

    @property
    def epochs(self) -> int:
        """Epochs counted over all runs."""
        return self._totals.epochs

    @property
    def begun(self) -> int:
        """Steps begun by this run."""
        return self._begun

    @property
    def position(self) -> Position:
        """The last record: what a checkpoint or a trained artifact stores."""
        return Position(self._totals.records - 1, self._totals.last)

    @property
    def records(self) -> tuple[Record, ...]:
        """All records, of earlier runs too."""
        return tuple(self._records)

    def check_usable(self) -> None:
        """Raise LedgerError in a forked child, after `close`, and after a write that failed or was
        interrupted.
        """
        if self._pid != os.getpid():
            raise LedgerError(
                "the privacy ledger was opened by another process",
                f"{self._where}, process {self._pid}",
                "open a session in the process that trains, after any fork",
            )
        if self._stopped:
            raise LedgerError(
                f"the privacy ledger takes no more steps: {self._stopped}",
                self._where,
                "start the run again; steps reserved so far stay counted",
            )

    def step(self, epoch: int = 0, ahead: int = 1) -> int:
        """Count one more step, durably, and return its number (from 0, never given twice to begun steps).

        Args:
            epoch: counted epoch of the step's lot within this run, from 0 (`Sampler.epoch`); each run starts
                a new counted epoch.
            ahead: steps to reserve at once when none is left; after a crash all of them stay counted.

        Raises BudgetError when the step, or its epoch, is beyond the budget (nothing is written then), and
        LedgerError when it cannot be written; nothing may be drawn then, and the ledger stays stopped.
        """
        self.check_usable()
        if epoch < 0 or ahead < 1:
            raise ValueError(f"epoch = {epoch} and ahead = {ahead} must be at least 0 and 1")
        counted_epoch = self._first_epoch + epoch if self._spec.unit == "epoch" else 0
        if self._begun == self._totals.reserved or counted_epoch >= self._totals.epochs:
            self._append("reserve", count=self._affordable(counted_epoch, ahead), epoch=counted_epoch)
        number = self._totals.steps - self._totals.reserved + self._begun
        self._begun += 1
        return number

    def holds_next(self, epoch: int = 0) -> bool:
        """Whether the next `step`, of that epoch, is reserved durably already: its lot may then be drawn before it.

        False wherever `step` would write a record, or raise.
        """
        if self._stopped or self._pid != os.getpid() or self._begun >= self._totals.reserved:
            return False
        return self._spec.unit != "epoch" or self._first_epoch + epoch < self._totals.epochs

    def taint(self, reason: str) -> None:
        """Record that a decision was taken on values that are not private. Raises LedgerError."""
        self.check_usable()
        self._append("taint", note=reason)

    def void(self, reason: Void) -> None:
        """End the run and begin another one in its place, for which no epsilon holds. Raises LedgerError."""
        self.check_usable()
        self._append("close", count=self._begun)
        self._stopped = "the change of runs was interrupted"  # until the new one is open
        self._run = secrets.token_hex(8)
        self._first_epoch = self._totals.epochs
        self._begun = 0
        self._append("open", note=reason)
        self._stopped = ""

    def close(self) -> None:
        """End the run cleanly: unused reservations are returned. Calling it again does nothing.

        Raises LedgerError when the record cannot be written; everything reserved then stays counted.
        """
        if self._stopped == "closed" or self._pid != os.getpid():
            return
        try:
            if not self._stopped:
                self._append("close", count=self._begun)
        finally:
            self._stopped = "closed"
            self._log.release()

    def spent(self, delta: float | None = None) -> Spent:
        """What was counted, and the epsilons at ``delta`` (default: that of the budget).

        Raises BudgetError for a delta outside the stored table.
        """
        spec, totals = self._spec, self._totals
        delta = spec.delta if delta is None else delta
        reason = ""
        if "seeded" in totals.voids:
            reason = "none (seeded)"
        elif totals.voids:
            reason = "unknown: lots were fed by the caller"
        elif spec.accounting == "none":
            reason = spec.reason
        # Steps reserved ahead count after a crash; while the run lives, only those begun have told anything.
        taken = totals.steps - max(0, totals.reserved - self._begun)
        budget = so_far = None
        if not reason and delta is not None:
            budget = spec.epsilon(spec.budget_count, delta)
            so_far = spec.epsilon(taken if spec.unit == "step" else totals.epochs, delta)
        return Spent(taken, totals.epochs, delta, budget, so_far, reason, tuple(totals.taints))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After an exception too: the steps begun are known exactly, whatever became of the last one.
        self.close()

    def _affordable(self, counted_epoch: int, ahead: int) -> int:
        """How many of ``ahead`` more steps the budget allows; 0 only while reserved ones are left.

        Raises BudgetError when no step can be taken.
        """
        spec, totals = self._spec, self._totals
        if spec.unit == "epoch" and spec.max_epochs is not None and counted_epoch >= spec.max_epochs:
            raise _exhausted(spec.max_epochs, "epochs", self._where)
        if spec.max_steps is None:
            return ahead
        left = spec.max_steps - totals.steps
        if left < 1 and self._begun == totals.reserved:
            raise _exhausted(spec.max_steps, "steps", self._where)
        return min(ahead, left)

    def _append(self, kind: RecordKind, *, count: int = 0, epoch: int = 0, note: str = "") -> None:
        totals = self._totals
        record = Record(totals.records, self._run, kind, totals.steps, count, epoch, note, totals.last)
        try:
            self._log.append(record.line())
            totals.add(record, self._where)
            self._records.append(record)
        except OSError as error:
            # What a failed write or fsync left on the disk is unknown, and a second fsync may lie.
            self._stopped = f"an earlier write failed ({error.strerror})"
            raise _unwritable(error, self._where) from None
        except LedgerError as error:
            self._stopped = error.what
            raise
        except BaseException:
            # The record may be on the disk and not in the totals: another one after it would break the chain.
            self._stopped = "an earlier write was interrupted"
            raise
        if self._witness is not None:
            self._witness.saw(self._records[0], self.position, totals.steps, now=kind in ("open", "close"))


def read_ledger(run_dir: Path | str) -> tuple[PrivacySpec, Reading]:
    """The privacy block and the verified records in ``run_dir``, without taking the lock; for reports.

    Raises LedgerError when either is missing or damaged.
    """
    directory = Path(run_dir)
    try:
        block = read_regular(directory / PRIVACY, MAX_BYTES)
        data = read_regular(directory / LEDGER, MAX_BYTES)
    except OSError as error:
        raise LedgerError(
            f"the privacy ledger cannot be read: {error.strerror}",
            str(directory),
            f"name a run directory, one that holds {LEDGER} and {PRIVACY}",
        ) from None

    def refuse(what: str, at: str) -> LedgerError:
        return LedgerError(f"the privacy block is damaged: {what}", at, "restore it from the artifact")

    fields = parse_object(block, str(directory / PRIVACY), refuse)
    try:
        spec = PrivacySpec.from_json(fields)
    except ArtifactError as error:
        raise refuse(error.what, str(directory / PRIVACY)) from None
    fields.done()
    return spec, read_records(data, spec.sha256(), str(directory / LEDGER))


def _lock(handle: int, path: Path) -> None:
    """Take the lock of the run. Raises LedgerError naming the process that holds it."""
    holder = path.with_name(HOLDER)
    try:
        lock(handle, holder)
    except InUse as error:
        raise LedgerError(
            f"another run, {error}, is using this run directory",
            str(path.parent),
            "wait for it to end, or give this run its own directory (--run-dir)",
        ) from None
    if not is_at(handle, path):
        raise LedgerError("the ledger was replaced while it was opened", str(path), "start the run again")
    for left in (holder, path.with_name(PRIVACY)):
        remove_left_overs(left)
    write_atomically(holder, f"{os.getpid()}\n".encode("ascii"))


def _recover(handle: int, directory: Path, spec: PrivacySpec, resume: Position | None) -> Reading:
    """Verify the ledger behind ``handle``, drop a torn last record, and make all names durable."""
    path = directory / LEDGER
    reading = read_records(read_regular(path, MAX_BYTES), spec.sha256(), str(path))
    if resume is not None and not contains(reading.records, resume):
        raise _behind(path)
    if reading.torn:
        os.ftruncate(handle, reading.sound_bytes)
        os.fsync(handle)
    block = spec.canonical_bytes()
    stored = directory / PRIVACY
    if not stored.exists() or stored.read_bytes() != block:
        write_atomically(stored, block)
    fsync_directory(directory)
    return reading


def _behind(path: Path) -> LedgerError:
    return LedgerError(
        "the training so far took steps that this privacy ledger does not count",
        str(path),
        "name the run directory of the earlier run (--run-dir), or train the artifact as it was compiled",
    )


def _unwritable(error: OSError, where: str) -> LedgerError:
    return LedgerError(
        f"the privacy ledger cannot be written: {error.strerror}",
        where,
        "make the directory writable and free some space, then resume; nothing was drawn for this step",
    )


def _exhausted(bound: int, unit: str, where: str) -> BudgetError:
    return BudgetError(
        f"the privacy budget of {bound} {unit} is used up",
        where,
        f"stop here, or compile with more {unit}: that costs more epsilon",
    )
