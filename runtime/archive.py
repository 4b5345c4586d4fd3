"""The container of a ``.fluidc`` file: a zip archive in one fixed form.

Members are stored, not compressed, one after the other from the first byte of the file, with one time and one set of
permissions; then comes the directory, and nothing else.  What a file may hold in any other form (compression,
encryption, comments, links, folders, members that overlap or are named twice, bytes before, between or behind) is
refused by one rule: the file must be, byte for byte, what `pack` writes for its members.  So no member can be a bomb,
and two readers of zip archives cannot see two contents.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from .errors import ArtifactError

MAX_MEMBERS = 256
MAX_NAME = 128
"""Bytes of a member's name."""

_ZIP64_FROM = 0xFFFFFFFF
"""Sizes and offsets from here on stand in an extra field of 64 bits each."""

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s4B4H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")

_SIGNATURE = b"PK\x03\x04"
_DATE = 1 << 5 | 1  # the first of January 1980, the earliest day that a zip can hold; the time is 0
_UNIX = 3
_MODE = 0o644 << 16
_VERSION, _VERSION64 = 20, 45

_NOT_OURS = "do not trust this file; fluidc compile writes artifacts in one form only"
_REBUILD = "copy the file again, or compile the script again"


@dataclass(frozen=True)
class _Entry:
    """One member, and where its header begins."""

    name: bytes
    size: int
    crc: int
    offset: int

    @property
    def local(self) -> bytes:
        """The header before its bytes."""
        extra = struct.pack("<2H2Q", 1, 16, self.size, self.size) if self.size >= _ZIP64_FROM else b""
        version = _VERSION64 if extra else _VERSION
        size = _narrow(self.size)
        head = _LOCAL.pack(
            _SIGNATURE, version, 0, 0, 0, _DATE, self.crc, size, size, len(self.name), len(extra)
        )  # fmt: skip
        return head + self.name + extra

    @property
    def central(self) -> bytes:
        """Its line in the directory."""
        wide = [self.size, self.size] if self.size >= _ZIP64_FROM else []
        wide += [self.offset] if self.offset >= _ZIP64_FROM else []
        extra = struct.pack(f"<2H{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
        version = _VERSION64 if extra else _VERSION
        size, offset = _narrow(self.size), _narrow(self.offset)
        head = _CENTRAL.pack(
            b"PK\x01\x02", version, _UNIX, version, 0, 0, 0, 0, _DATE, self.crc, size, size,
            len(self.name), len(extra), 0, 0, 0, _MODE, offset,
        )  # fmt: skip
        return head + self.name + extra


def pack(members: Mapping[str, bytes]) -> bytes:
    """The archive of ``members``, in their order; the same bytes for the same members.

    Raises ValueError for more members than `MAX_MEMBERS`, and for names that are not ASCII or longer than `MAX_NAME`.
    """
    if len(members) > MAX_MEMBERS:
        raise ValueError(f"{len(members)} members are more than {MAX_MEMBERS}")
    parts: list[bytes] = []
    entries: list[_Entry] = []
    at = 0
    for name, data in members.items():
        spelled = name.encode("ascii")
        if not 0 < len(spelled) <= MAX_NAME:
            raise ValueError(f"{name!r} cannot name a member")
        entry = _Entry(spelled, len(data), zlib.crc32(data), at)
        entries.append(entry)
        parts += [entry.local, data]
        at += len(parts[-2]) + len(data)
    return b"".join([*parts, *_directory(entries, at)])


def unpack(data: bytes, where: str, limit: Callable[[str], int | None]) -> dict[str, bytes]:
    """Member name -> bytes, in file order, of an archive that `pack` wrote.

    Args:
        data: the file.
        where: names it in errors.
        limit: most bytes of the member with a name; None for a name that has no place in the archive.

    Raises ArtifactError for anything else. Only what is in ``data`` is ever in memory: nothing is decompressed.
    """
    contents: dict[str, bytes] = {}
    entries: list[_Entry] = []
    at = 0
    while data.startswith(_SIGNATURE, at):
        if len(entries) == MAX_MEMBERS:
            raise ArtifactError(f"it has more than {MAX_MEMBERS} members", where, _NOT_OURS)
        entry, start = _read_entry(data, at, where, contents, limit)
        at = start + entry.size
        member = data[start:at]
        if zlib.crc32(member) != entry.crc:
            raise _damaged(f"the checksum of {entry.name.decode()!r} is wrong", where)
        contents[entry.name.decode()] = member
        entries.append(entry)
    _check_end(data[at:], b"".join(_directory(entries, at)), where)
    return contents


def _directory(entries: list[_Entry], at: int) -> Iterator[bytes]:
    """All that follows the members, which end at ``at``."""
    size = 0
    for entry in entries:
        size += len(entry.central)
        yield entry.central
    count = len(entries)
    if at >= _ZIP64_FROM or size >= _ZIP64_FROM:
        yield _END64.pack(b"PK\x06\x06", 44, _VERSION64, _VERSION64, 0, 0, count, count, size, at)
        yield _LOCATOR.pack(b"PK\x06\x07", 0, at + size, 1)
    yield _END.pack(b"PK\x05\x06", 0, 0, count, count, _narrow(size), _narrow(at), 0)


def _read_entry(
    data: bytes, at: int, where: str, seen: Mapping[str, bytes], limit: Callable[[str], int | None]
) -> tuple[_Entry, int]:
    """The member whose header begins at ``at``, and where its bytes begin."""
    if at + _LOCAL.size > len(data):
        raise _damaged("it ends in the header of a member", where)
    # Of sizes the 32-bit ones are read here; all that is not, is compared with what `pack` would write.
    _, _, flags, method, _, _, crc, _, size, name_length, _ = _LOCAL.unpack_from(data, at)
    spelled = data[at + _LOCAL.size : at + _LOCAL.size + min(name_length, MAX_NAME + 1)]
    if len(spelled) < min(name_length, MAX_NAME + 1):
        raise _damaged("it ends in the name of a member", where)
    name = spelled.decode("ascii", errors="backslashreplace")
    most = limit(name) if spelled.isascii() and 0 < name_length <= MAX_NAME else None
    if most is None:
        raise ArtifactError(f"the member {name[:MAX_NAME]!r} does not belong here", where, _NOT_OURS)
    if name in seen:
        raise ArtifactError(f"the member {name!r} occurs twice", where, _NOT_OURS)
    if method or flags & 1:
        raise ArtifactError(
            f"the member {name!r} is compressed or encrypted", where, "give the file as fluidc wrote it"
        )
    if size == 0xFFFFFFFF:  # the size is in the extra field, as 64 bits
        extra = at + _LOCAL.size + name_length + 4
        size = int.from_bytes(data[extra : extra + 8], "little")
    if size > most:
        raise ArtifactError(f"the member {name!r} has {size} bytes, too many", where, _NOT_OURS)
    entry = _Entry(spelled, size, crc, at)
    start = at + len(entry.local)
    if data[at:start] != entry.local:
        raise ArtifactError(f"the header of the member {name!r} is not one that fluidc writes", where, _NOT_OURS)
    if start + size > len(data):
        raise _damaged(f"it ends in the member {name!r}", where)
    return entry, start


def _check_end(found: bytes, wanted: bytes, where: str) -> None:
    if found == wanted:
        return
    if wanted.startswith(found):
        raise _damaged("it ends before its directory does", where)
    if found.startswith(wanted):
        raise ArtifactError(f"{len(found) - len(wanted)} bytes follow the end of the archive", where, _NOT_OURS)
    raise ArtifactError("its directory does not list the members that are there", where, _NOT_OURS)


def _narrow(value: int) -> int:
    """``value`` as 32 bits; all ones where it stands in an extra field."""
    return value if value < _ZIP64_FROM else 0xFFFFFFFF


def _damaged(what: str, where: str) -> ArtifactError:
    return ArtifactError(f"the file is truncated or damaged ({what})", where, _REBUILD)
