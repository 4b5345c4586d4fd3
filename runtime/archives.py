"""Named arrays in files: ``.npz`` archives and folders of ``.npy`` files, mapped where they are large.

A mapped array costs address space and no memory of its own: the system reads the pages that a batch touches, and
drops them when it needs the room. So data that is larger than memory trains. Small data is read at once, which also
checks what an archive holds against its checksums, and cannot change under a run.
"""

from __future__ import annotations

import os
import struct
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from .buffers import Array, aligned
from .errors import DataError

MAPPED_BYTES = 64 << 20
"""Arrays of a file, or a folder, that take as much together are mapped; smaller ones are read."""

MEMORY_BYTES = 1 << 30
"""What is decompressed, or decoded from a table, into memory at most."""

UNCOMPRESSED = (
    "store it uncompressed, then it is mapped: write it with numpy.savez, or run "
    "`python -m zipfile -e DATA.npz FOLDER` and give the folder"
)

_LOCAL = struct.Struct("<4s22xHH")  # signature, then the lengths of name and extra field
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
# What zipfile raises, and numpy, which reads a header as Python reads a literal.
_DAMAGE = (
    ValueError, TypeError, OverflowError, EOFError, RecursionError, MemoryError, struct.error, zlib.error,
    zipfile.BadZipFile, NotImplementedError, RuntimeError, SyntaxError, tokenize.TokenError, LookupError,
)  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """What the header of a ``.npy`` file says: the array's type, and where in the file its bytes begin."""

    shape: tuple[int, ...]
    column_major: bool
    dtype: np.dtype[Any]
    header_bytes: int

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        count = 1
        for size in self.shape:
            count *= size
        return count * self.dtype.itemsize


def read_folder(path: Path) -> dict[str, Array]:
    """The arrays of every ``NAME.npy`` in a folder, by name; files of other names are left alone.

    Raises DataError for a folder without any, and for files that are not whole or hold Python objects.
    """
    try:
        files = sorted(file for file in path.iterdir() if file.suffix == ".npy")
    except OSError as error:
        raise _unreadable(path, error) from None
    if not files:
        raise DataError(
            "the folder holds no .npy file", str(path), "put one file for each feed into it, named FEED.npy"
        )
    mapped = sum(file.stat().st_size for file in files) >= MAPPED_BYTES
    return {file.stem: _read_file(file, mapped) for file in files}


def _read_file(path: Path, mapped: bool) -> Array:
    try:
        with path.open("rb") as file:
            layout = read_layout(file)
            held = os.fstat(file.fileno()).st_size - layout.header_bytes
            if held != layout.nbytes:
                raise ValueError(f"{held:,} bytes follow a header that announces {layout.nbytes:,}")
            return _mapped(file, layout, 0) if mapped else _filled(file, layout)
    except OSError as error:
        raise _unreadable(path, error) from None
    except _DAMAGE as error:
        raise DataError(
            f"the file is no array that numpy wrote ({error})",
            str(path),
            "write it again with numpy.save; arrays of Python objects are not accepted",
        ) from None


def read_npz(path: Path) -> dict[str, Array]:
    """The arrays of a ``.npz`` archive by name; stored members of a large one are mapped.

    Raises DataError for a file that is none, is not whole, holds Python objects, or more compressed bytes than
    `MEMORY_BYTES`.
    """
    try:
        with path.open("rb") as file:
            if file.read(6) == b"\x93NUMPY":
                raise DataError(
                    "the file holds one array without a name", str(path), "write it with numpy.savez, one name per feed"
                )
            return _read_archive(path, file)
    except FileNotFoundError:
        raise DataError("the data file does not exist", str(path), "check the path") from None
    except OSError as error:
        raise _unreadable(path, error) from None
    except _DAMAGE as error:
        raise DataError(
            f"the data file is not a .npz archive of plain arrays ({error})",
            str(path),
            "write it with numpy.savez; arrays of Python objects are not accepted",
        ) from None


def _read_archive(path: Path, file: IO[bytes]) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        stored = sum(m.file_size for m in members if m.compress_type == zipfile.ZIP_STORED)
        packed = sum(m.file_size for m in members) - stored
        if packed > MEMORY_BYTES:
            raise DataError(
                f"the archive is compressed, and its {packed / (1 << 30):.1f} GiB are too much to unpack into memory",
                str(path),
                UNCOMPRESSED,
            )
        for member in members:
            name = member.filename.removesuffix(".npy")
            if name == member.filename:
                raise ValueError(f"its member {name!r} is no array")
            if name in arrays:
                raise ValueError(f"it holds {name!r} twice")
            if member.flag_bits & 1:
                raise ValueError(f"its member {name!r} is encrypted")
            with archive.open(member) as content:
                layout = read_layout(content)
                if member.file_size - layout.header_bytes != layout.nbytes:
                    raise ValueError(f"its member {name!r} has not the size that its header announces")
                if member.compress_type != zipfile.ZIP_STORED or stored < MAPPED_BYTES:
                    arrays[name] = _filled(content, layout)
                    continue
            arrays[name] = _mapped(file, layout, _content_start(file, member))
    return arrays


def _content_start(file: IO[bytes], member: zipfile.ZipInfo) -> int:
    """Where in the archive the bytes of a stored member begin: its own header may be longer than the directory's."""
    file.seek(member.header_offset)
    signature, name_bytes, extra_bytes = _LOCAL.unpack(file.read(_LOCAL.size))
    start = member.header_offset + _LOCAL.size + name_bytes + extra_bytes
    if signature != b"PK\x03\x04" or start + member.file_size > os.fstat(file.fileno()).st_size:
        raise ValueError(f"its member {member.filename!r} is cut off")
    return start


def read_layout(file: IO[bytes]) -> Layout:
    """Read the header of a ``.npy`` file, and leave ``file`` at the array's first byte. Raises ValueError."""
    version = np.lib.format.read_magic(cast("Any", file))
    reader = _HEADERS.get(version)
    if reader is None:
        raise ValueError(f"its header has the version {version}")
    shape, column_major, dtype = reader(cast("Any", file))
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    if min(shape, default=0) < 0 or not dtype.itemsize:
        raise ValueError(f"its header announces {dtype}{list(shape)}")
    return Layout(shape, column_major, dtype, file.tell())


def _filled(file: IO[bytes], layout: Layout) -> Array:
    """The array as memory of this process, read to the end of ``file``."""
    shape = layout.shape[::-1] if layout.column_major else layout.shape
    array = aligned(shape, layout.dtype)
    left = array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")
    while left:
        part = file.read(min(len(left), 16 << 20))
        if not part:
            raise EOFError("it is cut off")
        left[: len(part)] = part
        left = left[len(part) :]
    file.read(1)  # at its end, a member of an archive is compared with its checksum
    return array.T if layout.column_major else array


def _mapped(file: IO[bytes], layout: Layout, start: int) -> Array:
    if not layout.nbytes:
        return aligned(layout.shape, layout.dtype)
    order = "F" if layout.column_major else "C"
    mapped = np.memmap(cast("Any", file), layout.dtype, "r", start + layout.header_bytes, layout.shape, order)
    return mapped.view(np.ndarray)


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(
        f"the data file cannot be read: {error.strerror or error}",
        str(path),
        "give a readable .npz file, a folder of .npy files, or a table (.csv, .parquet)",
    )
