"""The container: what it looks like to other readers, and every other form of a zip that must be refused."""

from __future__ import annotations

import io
import os
import shutil
import stat
import struct
import subprocess
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from manifests import small_artifact

from fluidc.runtime import archive
from fluidc.runtime.archive import pack, unpack
from fluidc.runtime.artifact import Artifact
from fluidc.runtime.errors import ArtifactError

MEMBERS = {"manifest.json": b'{"a": 1}\n', "ir/target.ir": b"module\n", "module.so": bytes(range(256))}
START_OF_SECOND = 30 + len("manifest.json") + len(MEMBERS["manifest.json"])


def read(data: bytes) -> dict[str, bytes]:
    return unpack(data, "m.fluidc", lambda name: 1000 if name in MEMBERS or name.startswith("s") else None)


def plain_zip(members: dict[str, bytes], *, compression: int = zipfile.ZIP_STORED, **set_to: object) -> bytes:
    """As Python's own writer makes it, in the form of fluidc but for ``set_to`` of the second member."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as made:
        for number, (name, data) in enumerate(members.items()):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            entry.compress_type = compression
            for key, value in set_to.items() if number == 1 else ():
                setattr(entry, key, value)
            made.writestr(entry, data)
    return buffer.getvalue()


def test_the_archive_is_what_other_tools_read_and_python_writes(tmp_path: Path) -> None:
    data = pack(MEMBERS)
    assert data == plain_zip(MEMBERS)
    assert read(data) == MEMBERS
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        assert opened.testzip() is None
        assert {name: opened.read(name) for name in opened.namelist()} == MEMBERS
    if shutil.which("unzip"):
        (tmp_path / "m.zip").write_bytes(data)
        subprocess.run(["unzip", "-tq", tmp_path / "m.zip"], check=True, capture_output=True)


def test_an_archive_of_nothing_is_read() -> None:
    assert pack({}) == plain_zip({})
    assert read(pack({})) == {}


@pytest.mark.parametrize("limit", [0, 8, 100, 300])
def test_large_sizes_and_offsets_stand_in_extra_fields(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_ZIP64_FROM", limit)
    data = pack(MEMBERS)
    assert data != plain_zip(MEMBERS)
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        assert {name: opened.read(name) for name in opened.namelist()} == MEMBERS
    assert read(data) == MEMBERS
    for length in range(len(data)):
        with pytest.raises(ArtifactError):
            read(data[:length])


def edit(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def last(data: bytes, signature: bytes, at: int, new: bytes) -> bytes:
    return edit(data, data.rindex(signature) + at, new)


def with_descriptor() -> bytes:
    """Sizes behind the data, as writers to a pipe do."""

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def tell(self) -> int:
            raise OSError

        def seek(self, *_: int) -> int:
            raise OSError

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w") as made:
        for name, data in MEMBERS.items():
            made.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data)
    return pipe.getvalue()


def overlapping() -> bytes:
    """The directory lists the bytes inside of the last member, a zip's member themselves, as a member."""
    inner = pack({"ir/target.ir": b"evil"})
    outer = pack({"manifest.json": b"{}", "module.so": inner})
    at = outer.index(inner)
    entry = archive._Entry(b"ir/target.ir", 4, zlib.crc32(b"evil"), at)
    start = outer.index(b"PK\x01\x02", at + len(inner))
    directory = outer[start : outer.rindex(b"PK\x05\x06")] + entry.central
    return outer[:start] + directory + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 3, 3, len(directory), start, 0)


def gap() -> bytes:
    """Bytes that no member holds between two members, and a directory that skips them."""
    first, rest = pack(MEMBERS)[:START_OF_SECOND], pack(MEMBERS)[START_OF_SECOND:]
    return first + b"\0" * 8 + rest


def twice() -> bytes:
    data, crc = b"module\n", zlib.crc32(b"module\n")
    entries = [archive._Entry(b"ir/target.ir", 7, crc, at) for at in (0, 30 + 12 + 7)]
    return b"".join(
        [*(part for entry in entries for part in (entry.local, data)), *archive._directory(entries, 2 * (30 + 12 + 7))]
    )


GOOD = pack(MEMBERS)
SECOND = START_OF_SECOND  # its local header begins there

FORGERIES: dict[str, tuple[Callable[[], bytes], str]] = {
    # Names
    "a path out of the folder": (lambda: pack({"../module.so": b""}), "does not belong here"),
    "an absolute path": (lambda: pack({"/module.so": b""}), "does not belong here"),
    "a path with backslashes": (lambda: pack({"..\\module.so": b""}), "does not belong here"),
    "a folder": (lambda: pack({"ir/": b""}), "does not belong here"),
    "a name with a null byte": (lambda: pack({"module.so\0.txt": b""}), "does not belong here"),
    "a name in UTF-8": (lambda: plain_zip({"manifest.json": b"{}", "m\u00f6dule.so": b""}), "does not belong here"),
    "a name that is not UTF-8": (lambda: edit(GOOD, SECOND + 30, b"\xff\xfe"), r"'\\\\xff\\\\xfe/target.ir' does not"),
    "an empty name": (lambda: edit(GOOD, SECOND + 26, b"\0\0"), "does not belong here"),
    "a name longer than the file": (lambda: edit(GOOD, SECOND + 26, b"\xff\xff"), "does not belong here"),
    "a member twice": (twice, "'ir/target.ir' occurs twice"),
    "another name in the directory": (
        lambda: GOOD[: GOOD.rindex(b"module.so")] + b"m0dule.so" + GOOD[GOOD.rindex(b"module.so") + 9 :],
        "its directory does not list",
    ),
    # Forms
    "a compressed member": (lambda: plain_zip(MEMBERS, compression=zipfile.ZIP_DEFLATED), "is compressed or encrypted"),
    "a bomb": (
        lambda: plain_zip({"manifest.json": b" " * 10_000_000}, compression=zipfile.ZIP_DEFLATED),
        "is compressed or encrypted",
    ),
    "an unknown method": (lambda: edit(GOOD, SECOND + 8, b"\x63"), "is compressed or encrypted"),
    "an encrypted member": (lambda: edit(GOOD, SECOND + 6, b"\x01"), "is compressed or encrypted"),
    "a member marked as patch data": (lambda: edit(GOOD, SECOND + 6, b"\x20"), "not one that fluidc writes"),
    "sizes behind the data": (with_descriptor, "not one that fluidc writes"),
    "a symbolic link": (
        lambda: plain_zip(MEMBERS, external_attr=(stat.S_IFLNK | 0o777) << 16), "its directory does not list",
    ),
    "a program with set-uid": (lambda: plain_zip(MEMBERS, external_attr=0o4755 << 16), "its directory does not list"),
    "a member marked as a folder": (lambda: plain_zip(MEMBERS, external_attr=0x10), "its directory does not list"),
    "made on another system": (lambda: plain_zip(MEMBERS, create_system=0), "its directory does not list"),
    "another time": (lambda: plain_zip(MEMBERS, date_time=(2020, 1, 1, 0, 0, 0)), "not one that fluidc writes"),
    "a comment on a member": (lambda: plain_zip(MEMBERS, comment=b"hello"), "its directory does not list"),
    "an extra field": (lambda: plain_zip(MEMBERS, extra=b"\x01\x99\0\0"), "not one that fluidc writes"),
    "another version": (lambda: edit(GOOD, SECOND + 4, b"\x2d"), "not one that fluidc writes"),
    "a 64-bit size that is small": (
        lambda: edit(GOOD, SECOND + 18, b"\xff" * 8), "has [0-9]+ bytes, too many|not one that fluidc writes",
    ),
    # Sizes
    "more members than allowed": (
        lambda: plain_zip({f"s{i}": b"" for i in range(300)}), "more than 256 members",
    ),
    "a member that is too large": (lambda: pack({"module.so": bytes(1001)}), "has 1001 bytes, too many"),
    "a size beyond the file": (
        lambda: edit(GOOD, SECOND + 18, struct.pack("<2L", 900, 900)), "ends in the member 'ir/target.ir'",
    ),
    "another compressed size": (lambda: edit(GOOD, SECOND + 18, b"\x06"), "not one that fluidc writes"),
    "a shorter member": (lambda: edit(GOOD, SECOND + 18, struct.pack("<2L", 6, 6)), "the checksum of"),
    "another checksum": (lambda: edit(GOOD, SECOND + 14, b"\0\0\0\0"), "the checksum of 'ir/target.ir' is wrong"),
    # Places
    "bytes in front": (lambda: b"#!/bin/sh\n" + GOOD, "its directory does not list"),
    "a header in front": (lambda: b"PK\x03\x04" + GOOD, "does not belong here|compressed or encrypted"),
    "bytes behind": (lambda: GOOD + b"\0", "1 bytes follow the end"),
    "a comment at the end": (lambda: last(GOOD, b"PK\x05\x06", 20, b"\x02\0") + b"hi", "its directory does not list"),
    "another archive behind": (lambda: GOOD + pack({"module.so": b"evil"}), "follow the end"),
    "bytes between members": (gap, "its directory does not list"),
    "a member in a member": (overlapping, "its directory does not list"),
    "a member that is not in the directory": (
        lambda: GOOD[: GOOD.index(b"PK\x01\x02")] + GOOD[GOOD.index(b"PK\x01\x02") + 46 + 13 :],
        "its directory does not list",
    ),
    "another offset": (lambda: edit(GOOD, GOOD.index(b"PK\x01\x02") + 42, b"\x01"), "its directory does not list"),
    "another number of members": (lambda: last(GOOD, b"PK\x05\x06", 8, b"\x02\0\x02\0"), "its directory does not list"),
    "a second disk": (lambda: last(GOOD, b"PK\x05\x06", 4, b"\x01\0"), "its directory does not list"),
    "an end in 64 bits that is not needed": (
        lambda: GOOD[: GOOD.rindex(b"PK\x05\x06")]
        + struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 3, 3, 1, 1)
        + struct.pack("<4sLQL", b"PK\x06\x07", 0, 0, 1)
        + GOOD[GOOD.rindex(b"PK\x05\x06") :],
        "its directory does not list",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGERIES)
def test_other_forms_are_refused(name: str) -> None:
    forge, message = FORGERIES[name]
    with pytest.raises(ArtifactError, match=message) as caught:
        read(forge())
    assert caught.value.where == "m.fluidc"
    assert caught.value.hint


def test_every_truncation_and_every_flipped_bit_is_refused() -> None:
    for length in range(len(GOOD)):
        with pytest.raises(ArtifactError):
            read(GOOD[:length])
    for at in range(8 * len(GOOD)):
        damaged = bytearray(GOOD)
        damaged[at // 8] ^= 1 << at % 8
        with pytest.raises(ArtifactError):
            read(bytes(damaged))


def test_what_cannot_be_written_is_told() -> None:
    with pytest.raises(ValueError, match="more than 256"):
        pack({str(i): b"" for i in range(257)})
    with pytest.raises(ValueError, match="cannot name"):
        pack({"x" * 129: b""})
    with pytest.raises(ValueError, match="ascii"):
        pack({"ö": b""})


def test_a_pipe_and_a_folder_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.fluidc")
    with pytest.raises(ArtifactError, match="cannot be read: It is a pipe or a device"):
        Artifact.read(tmp_path / "pipe.fluidc")
    with pytest.raises(ArtifactError, match="cannot be read: It is a pipe or a device"):
        Artifact.read("/dev/zero")
    with pytest.raises(ArtifactError, match="cannot be read: Is a directory"):
        Artifact.read(tmp_path)


def test_a_file_larger_than_the_limit_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.fluidc"
    small_artifact().write(path)
    monkeypatch.setattr("fluidc.runtime.artifact.MAX_FILE_BYTES", 100)
    with pytest.raises(ArtifactError, match=r"It has \d+ bytes, more than 100"):
        Artifact.read(path)
