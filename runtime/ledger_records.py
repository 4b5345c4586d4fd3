"""Records of a privacy ledger: one JSON line each, chained by SHA-256, and the sums they stand for."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, get_args

from .errors import LedgerError
from .fields import Fields, Json, canonical_bytes, parse_object

RecordKind = Literal["open", "reserve", "close", "taint"]
Void = Literal["", "seeded", "user-fed"]
"""Why no epsilon holds for a run: noise from a known key, or lots that no sampler drew."""


@dataclass(frozen=True)
class Position:
    """A record of a ledger: its number and its hash. Checkpoints and trained artifacts store one."""

    seq: int
    sha256: str

    def to_json(self) -> Json:
        """The JSON object of docs/artifact.md."""
        return {"seq": self.seq, "sha256": self.sha256}

    @classmethod
    def from_json(cls, fields: Fields) -> Position:
        """Read what `to_json` wrote. Raises what ``fields`` refuses with."""
        return cls(fields.integer("seq"), fields.text("sha256"))


@dataclass(frozen=True)
class Record:
    """One line of the ledger.

    Attributes:
        seq: position, from 0.
        run: name of the run that wrote it.
        kind: ``open`` a run, ``reserve`` steps, ``close`` the run cleanly, ``taint`` its control decisions.
        first: steps counted before this record.
        count: steps reserved (``reserve``), or really begun by the run (``close``); otherwise 0.
        epoch: counted epoch, from 0, of the reserved steps; otherwise 0.
        note: reason why epsilon is void (``open``, see `Void`) or does not cover decisions (``taint``).
        prev: SHA-256 of the record before; of the privacy block for the first one.
    """

    seq: int
    run: str
    kind: RecordKind
    first: int
    count: int
    epoch: int
    note: str
    prev: str

    def _body(self) -> dict[str, Json]:
        return {
            "seq": self.seq,
            "run": self.run,
            "kind": self.kind,
            "first": self.first,
            "count": self.count,
            "epoch": self.epoch,
            "note": self.note,
            "prev": self.prev,
        }

    def sha256(self) -> str:
        """Hash of the record, which contains the hash of the one before."""
        return hashlib.sha256(canonical_bytes(self._body())).hexdigest()

    def line(self) -> bytes:
        """The line as it is appended, newline included."""
        return json.dumps({**self._body(), "hash": self.sha256()}).encode("ascii") + b"\n"

    @classmethod
    def from_line(cls, line: bytes, where: str) -> Record:
        """Read a line and check its own hash. Raises LedgerError."""

        def refuse(what: str, at: str) -> LedgerError:
            return _damaged(what, at)

        fields = parse_object(line, where, refuse)
        record = cls._from_fields(fields)
        stated = fields.text("hash")
        fields.done()
        if stated != record.sha256():
            raise _damaged("its hash does not fit its content", where)
        return record

    @classmethod
    def _from_fields(cls, fields: Fields) -> Record:
        return cls(
            seq=fields.integer("seq"),
            run=fields.text("run"),
            kind=fields.choice("kind", get_args(RecordKind)),
            first=fields.integer("first"),
            count=fields.integer("count"),
            epoch=fields.integer("epoch"),
            note=fields.text("note", empty=True),
            prev=fields.text("prev"),
        )


@dataclass
class Totals:
    """What the records so far add up to; `add` checks and applies one more.

    Attributes:
        last: hash of the last record, or of the privacy block.
        records: number of records.
        steps: steps counted.
        epochs: epochs counted; Poisson lots all count as epoch 0.
        voids: reasons of the runs for which no epsilon holds, without repeats.
        taints: reasons why epsilon does not cover the control decisions.
        run: the run that is open, or "".
        reserved: steps reserved by that run.
    """

    last: str
    records: int = 0
    steps: int = 0
    epochs: int = 0
    voids: list[str] = field(default_factory=list[str])
    taints: list[str] = field(default_factory=list[str])
    run: str = ""
    reserved: int = 0

    def add(self, record: Record, where: str) -> None:
        """Apply ``record``. Raises LedgerError when it cannot follow the ones before."""
        if record.seq != self.records or record.prev != self.last:
            raise _damaged("the chain of hashes is broken here", where)
        if record.first != self.steps:
            raise _damaged(f"it counts {record.first} steps, the records before count {self.steps}", where)
        if record.kind != "open" and record.run != self.run:
            raise _damaged(f"the run {record.run!r} is not the open one", where)
        if record.kind == "open":
            # A run that never closed was cut off: whatever it had reserved stays counted.
            self.run, self.reserved = record.run, 0
            if record.note and record.note not in self.voids:
                self.voids.append(record.note)
        elif record.kind == "reserve":
            self.steps += record.count
            self.reserved += record.count
            self.epochs = max(self.epochs, record.epoch + 1)
        elif record.kind == "close":
            if record.count > self.reserved:
                raise _damaged(f"it closes {record.count} of {self.reserved} reserved steps", where)
            self.steps -= self.reserved - record.count
            self.run, self.reserved = "", 0
        else:
            self.taints.append(record.note)
        self.records += 1
        self.last = record.sha256()


@dataclass(frozen=True)
class Reading:
    """A ledger read from its bytes.

    Attributes:
        records: the records, in order.
        totals: their sums.
        sound_bytes: length of the file without a torn last record.
        torn: whether there was one.
    """

    records: tuple[Record, ...]
    totals: Totals
    sound_bytes: int
    torn: bool


def read_records(data: bytes, genesis: str, where: str) -> Reading:
    """Verify the lines in ``data`` against the chain that starts at ``genesis``.

    A last line without newline, or whose own hash is wrong, is left out: its fsync had not returned, so nothing
    was drawn under it. Raises LedgerError for damage anywhere else.
    """
    totals = Totals(genesis)
    records: list[Record] = []
    sound = 0
    lines = io.BytesIO(data).readlines()
    for number, line in enumerate(lines, start=1):
        at = f"{where}, line {number}"
        is_last = number == len(lines)
        if is_last and not line.endswith(b"\n"):
            break
        try:
            record = Record.from_line(line, at)
        except LedgerError:
            if is_last:
                break
            raise
        if not records and record.prev != genesis:
            raise LedgerError(
                "this run directory belongs to another artifact: its privacy block differs",
                at,
                "give every artifact its own run directory (--run-dir)",
            )
        totals.add(record, at)
        records.append(record)
        sound += len(line)
    return Reading(tuple(records), totals, sound, torn=sound < len(data))


def contains(records: Iterable[Record], position: Position) -> bool:
    """Whether the record at ``position`` is among ``records``, with its hash."""
    return any(record.seq == position.seq and record.sha256() == position.sha256 for record in records)


def _damaged(what: str, where: str) -> LedgerError:
    return LedgerError(
        f"the privacy ledger is damaged: {what}",
        where,
        "restore the whole run directory from a copy at least as recent; a damaged ledger cannot be continued",
    )
