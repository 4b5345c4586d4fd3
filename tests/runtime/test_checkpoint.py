from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fluidc.runtime.checkpoint import (
    Checkpoint,
    CheckpointMeta,
    load_checkpoint,
    newest_checkpoint,
    save_checkpoint,
)
from fluidc.runtime.errors import CheckpointError
from fluidc.runtime.ledger import Position
from fluidc.runtime.sampler import Course, SamplerState

ARTIFACT = "a" * 64
META = CheckpointMeta(
    123, ARTIFACT, 2**64 - 1, 2**46 + 1, Course("shuffle", 20, 90), SamplerState(4, 96), Position(17, "b" * 64), True
)


def _state(value: float = 1.0) -> dict[str, np.ndarray]:
    return {
        "w": np.full((2, 3), value, np.float32),
        "steps": np.array(7, np.int64),
        "flags": np.array([True, False]),
        "empty": np.zeros((0, 4), np.float64),
        "nan": np.array([np.nan, -0.0, np.inf], np.float16),
    }


def _never(message: str) -> None:
    raise AssertionError(message)


def _assert_state(checkpoint: Checkpoint, expected: dict[str, np.ndarray]) -> None:
    assert checkpoint.state.keys() == expected.keys()
    for name, value in expected.items():
        got = checkpoint.state[name]
        assert (got.dtype, got.shape, got.tobytes()) == (value.dtype, value.shape, value.tobytes()), name


@pytest.mark.parametrize(
    "meta", [META, replace(META, course=None, sampler=None, ledger=None, insecure_noise_key=False)]
)
def test_save_then_load(tmp_path: Path, meta: CheckpointMeta) -> None:
    path = save_checkpoint(tmp_path / "run" / "checkpoints", _state(), meta)
    assert path.name == "step-000123.safetensors"
    checkpoint = load_checkpoint(path, ARTIFACT)
    assert checkpoint.meta == meta
    _assert_state(checkpoint, _state())


def test_bytes_are_deterministic(tmp_path: Path) -> None:
    first = save_checkpoint(tmp_path / "a", _state(), META).read_bytes()
    backwards = dict(reversed(list(_state().items())))
    assert save_checkpoint(tmp_path / "b", backwards, META).read_bytes() == first


def test_the_newest_is_found_and_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 999_999, 1_000_000, 1_000_001):
        save_checkpoint(tmp_path, _state(step), replace(META, step=step), keep=3)
    assert sorted(os.listdir(tmp_path)) == [
        "step-1000000.safetensors",
        "step-1000001.safetensors",
        "step-999999.safetensors",
    ]
    newest = newest_checkpoint(tmp_path, ARTIFACT, _never)
    assert newest is not None
    assert newest.meta.step == 1_000_001
    _assert_state(newest, _state(1_000_001))


def test_files_of_others_and_of_later_steps_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "step-1.safetensors").write_text("mine too")
    save_checkpoint(tmp_path, _state(), replace(META, step=50))
    for step in (10, 20):
        save_checkpoint(tmp_path, _state(), replace(META, step=step), keep=1)
    assert sorted(os.listdir(tmp_path)) == [
        "notes.txt",
        "step-000020.safetensors",
        "step-000050.safetensors",
        "step-1.safetensors",
    ]


def test_no_checkpoint_is_no_error(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path, ARTIFACT, _never) is None
    assert newest_checkpoint(tmp_path / "missing", ARTIFACT, _never) is None


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_newest_one_is_skipped_by_name(tmp_path: Path, damage: str) -> None:
    save_checkpoint(tmp_path, _state(1), replace(META, step=1))
    path = save_checkpoint(tmp_path, _state(2), replace(META, step=2))
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes({"cut": data[:-9], "flip": data, "empty": b""}[damage])
    messages: list[str] = []
    newest = newest_checkpoint(tmp_path, ARTIFACT, messages.append)
    assert newest is not None
    assert newest.meta.step == 1
    assert len(messages) == 1
    assert str(path) in messages[0]
    assert "damaged" in messages[0]


def test_when_all_are_damaged_the_folder_is_named(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, _state(), META).write_bytes(b"nothing")
    messages: list[str] = []
    with pytest.raises(CheckpointError, match="no checkpoint can be read") as caught:
        newest_checkpoint(tmp_path, ARTIFACT, messages.append)
    assert caught.value.where == str(tmp_path)
    assert len(messages) == 1


def test_every_flipped_bit_and_every_truncation_is_refused(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, _state(), META)
    data = path.read_bytes()
    rng = random.Random(3)
    for position in range(0, len(data), 3):
        damaged = bytearray(data)
        damaged[position] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            checkpoint = load_checkpoint(path, ARTIFACT)
        except CheckpointError:
            continue
        assert checkpoint.meta == META
        _assert_state(checkpoint, _state())
    for length in range(0, len(data), 11):
        path.write_bytes(data[:length])
        with pytest.raises(CheckpointError):
            load_checkpoint(path, ARTIFACT)


def test_another_artifact_is_refused_and_not_skipped(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, _state(), META)
    with pytest.raises(CheckpointError, match="another artifact"):
        load_checkpoint(path, "c" * 64)
    with pytest.raises(CheckpointError, match="another artifact"):
        newest_checkpoint(tmp_path, "c" * 64, _never)


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_failed_save_keeps_the_ones_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    for step in (1, 2):
        save_checkpoint(tmp_path, _state(step), replace(META, step=step), keep=2)
    before = sorted(os.listdir(tmp_path))

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(CheckpointError, match="No space left"):
        save_checkpoint(tmp_path, _state(3), replace(META, step=3), keep=2)
    monkeypatch.undo()
    assert sorted(os.listdir(tmp_path)) == before
    newest = newest_checkpoint(tmp_path, ARTIFACT, _never)
    assert newest is not None
    assert newest.meta.step == 2


def test_what_a_crash_left_is_removed_by_the_next_save(tmp_path: Path) -> None:
    (tmp_path / ".step-000001.safetensors.4242.tmp").write_bytes(b"half")
    save_checkpoint(tmp_path, _state(), META)
    assert os.listdir(tmp_path) == ["step-000123.safetensors"]


def test_keeping_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keep no checkpoint"):
        save_checkpoint(tmp_path, _state(), META, keep=0)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(tmp_path / "none.safetensors", ARTIFACT)
