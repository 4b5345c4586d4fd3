"""Reads what a run leaves on the disk, and judges it; shares no code with what wrote it.

Formats: docs/privacy.md (the ledger) and docs/runs.md (checkpoints).
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Json = dict[str, Any]

DTYPES = {"F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8", "U64": "<u8", "BOOL": "|b1"}
CHECKPOINT = re.compile(r"step-(\d{6,})\.safetensors")
FILES = re.compile(r"(checkpoints|run\.lock|ledger\.jsonl|ledger\.pid|privacy\.json|step-\d{6,}\.safetensors)")


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")


def parsed(data: bytes, what: str) -> Json:
    try:
        value: Json = json.loads(data)
    except ValueError:
        raise AssertionError(f"{what} cannot be read") from None
    return value


@dataclass(frozen=True)
class Counted:
    """A ledger: its sound records, with their hashes, and how many steps they count."""

    records: tuple[Json, ...]
    hashes: tuple[str, ...]
    steps: int


def read_ledger(run_dir: Path) -> Counted:
    """The ledger in ``run_dir``; an empty one where there is none. Fails by an assertion where it is not sound."""
    path = run_dir / "ledger.jsonl"
    if not path.exists():
        return Counted((), (), 0)
    lines = path.read_bytes().split(b"\n")[:-1]  # what follows the last newline is torn
    records: list[Json] = []
    hashes: list[str] = []
    steps, reserved, run = 0, 0, ""
    for number, line in enumerate(lines):
        record = parsed(line, f"record {number}")
        stated = record.pop("hash")
        assert hashlib.sha256(canonical(record)).hexdigest() == stated, f"the hash of record {number} is wrong"
        before = hashes[-1] if hashes else hashlib.sha256((run_dir / "privacy.json").read_bytes()).hexdigest()
        chained = (record["seq"], record["prev"], record["first"])
        assert chained == (number, before, steps), f"the chain is broken at record {number}"
        if record["kind"] == "open":
            run, reserved = record["run"], 0
        assert record["run"] == run, f"record {number} is of another run"
        if record["kind"] == "reserve":
            steps += record["count"]
            reserved += record["count"]
        elif record["kind"] == "close":
            assert record["count"] <= reserved, f"record {number} gives back more than was reserved"
            steps -= reserved - record["count"]
            run = ""
        records.append(record)
        hashes.append(stated)
    return Counted(tuple(records), tuple(hashes), steps)


def read_checkpoint(path: Path) -> Json:
    """The header of a checkpoint. Fails by an assertion where any byte is not what its digest says."""
    data = path.read_bytes()
    assert len(data) >= 8, f"{path.name} has no header"
    (length,) = struct.unpack("<Q", data[:8])
    assert len(data) >= 8 + length, f"{path.name} is cut off"
    tensors = parsed(data[8 : 8 + length], path.name)
    meta: Json = json.loads(tensors.pop("__metadata__")["fluidc"])
    stated = meta.pop("digest")
    digest = hashlib.sha256(canonical(meta))
    end = 8 + length
    for name in sorted(tensors):
        start, stop = (8 + length + offset for offset in tensors[name]["data_offsets"])
        digest.update(canonical([name, DTYPES[tensors[name]["dtype"]], tensors[name]["shape"]]))
        digest.update(data[start:stop])
        end = max(end, stop)
    assert end == len(data), f"{path.name} has another length"
    assert digest.hexdigest() == stated, f"the digest of {path.name} is wrong"
    return meta


@dataclass(frozen=True)
class Left:
    """What is in a run directory: the ledger, and the headers of the checkpoints by their steps."""

    ledger: Counted
    checkpoints: dict[int, Json]

    @property
    def newest(self) -> int:
        """Step of the newest checkpoint, or 0."""
        return max(self.checkpoints, default=0)


def read(run_dir: Path) -> Left:
    """Everything in ``run_dir``. Fails by an assertion where anything cannot be read, or a checkpoint has no record."""
    folder = run_dir / "checkpoints"
    ledger = read_ledger(run_dir)
    checkpoints: dict[int, Json] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = CHECKPOINT.fullmatch(path.name)
        if match:
            meta = checkpoints[int(match[1])] = read_checkpoint(path)
            assert meta["step"] == int(match[1])
            position = meta["ledger"]
            if position is not None:
                assert position["seq"] < len(ledger.hashes), f"{path.name} knows a record that the ledger has lost"
                assert ledger.hashes[position["seq"]] == position["sha256"], f"{path.name} is of another ledger"
    return Left(ledger, checkpoints)


def strangers(run_dir: Path) -> list[str]:
    """Names in ``run_dir`` that a run that ended well does not leave."""
    return [str(path) for path in run_dir.rglob("*") if not FILES.fullmatch(path.name)]


def told(events: list[Json], what: str) -> list[Any]:
    return [event[what] for event in events if what in event]


def judge(before: Left, after: Left, events: list[Json], *, killed: bool, refused: bool = False) -> None:
    """What one process did to a run directory, against what it told before it ended.

    Raises AssertionError where a step that could be seen is not counted, something was lost, or it failed; where the
    disk ``refused`` something, it may fail by saying so.
    """
    for error in told(events, "error"):
        assert refused, error
        assert error.startswith(("LedgerError: ", "CheckpointError: ")), error
    killed = killed or bool(told(events, "error"))
    assert not told(events, "missed"), told(events, "missed")
    assert killed or told(events, "end"), "the process ended early"
    old, new = before.ledger, after.ledger
    assert new.hashes[: len(old.hashes)] == old.hashes, "records are lost"
    added = new.records[len(old.records) :]
    assert len({record["run"] for record in added}) <= 1
    reserved = [n for r in added if r["kind"] == "reserve" for n in range(r["first"], r["first"] + r["count"])]
    draws = told(events, "draw")
    assert set(draws) <= set(reserved), f"steps {sorted(set(draws) - set(reserved))} were taken and are not counted"
    assert len(told(events, "lot")) <= len(reserved), "a lot was drawn before its step was reserved"
    assert new.steps >= old.steps + len(draws), "fewer steps are counted than were taken"
    closed = bool(added) and added[-1]["kind"] == "close"
    assert new.steps == old.steps + (len(draws) if closed else len(reserved))
    assert refused or not told(events, "end") or closed or not added
    assert after.newest >= max([before.newest, *told(events, "kept")]), "a checkpoint that was written is lost"
    noted = told(events, "note")
    if noted:
        expected = f"step-{before.newest:06d}.safetensors" if before.newest else "there is no checkpoint yet"
        assert expected in noted[0], f"the process went on elsewhere: {noted[0]}"
