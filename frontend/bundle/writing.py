"""Writing a bundle: a folder or an archive that is there whole, or not at all."""

from __future__ import annotations

import io
import json
import lzma
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

from ...runtime.errors import FluidcError
from ...runtime.files import fsync_directory, temporary_name, write_all, write_atomically
from .contents import LAUNCHER, Bundle
from .launcher import FORMAT, MANIFEST

ARCHIVES = (".tar.xz", ".zip")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can hold
_SPACE = "choose a folder that exists, is writable and has space"


def write_folder(bundle: Bundle, path: Path) -> int:
    """Write the bundle as the folder ``path``; returns the size of its files in bytes.

    An empty folder, or an earlier bundle to which nothing was added, is replaced, once the new one is whole.

    Raises FluidcError when something else is there, or it cannot be written.
    """
    path = path.resolve()
    if not path.name:
        raise FluidcError("a bundle is a folder with a name", str(path), "name a new folder")
    old = _replaceable(path)
    new, aside = temporary_name(path), path.with_name(f".{path.name}.{os.getpid()}.old")
    try:
        try:
            new.mkdir()
            size = _fill(new, bundle)
            if old:
                path.rename(aside)
            try:
                new.rename(path)
            except OSError:
                if old:
                    aside.rename(path)
                raise
            fsync_directory(path.parent)
        finally:
            shutil.rmtree(new, ignore_errors=True)
            if path.exists():
                shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise FluidcError(f"the bundle cannot be written: {error.strerror}", str(path), _SPACE) from None
    return size


def write_archive(bundle: Bundle, path: Path) -> int:
    """Write the bundle as one compressed file, ``NAME.tar.xz`` or ``NAME.zip``; returns its size in bytes.

    It unpacks to the folder NAME. The bytes are the same for the same bundle. Raises FluidcError when it cannot be
    written.
    """
    suffix = next(suffix for suffix in ARCHIVES if path.name.endswith(suffix))
    folder = path.name.removesuffix(suffix)
    data = _zipped(bundle, folder) if suffix == ".zip" else _tarred(bundle, folder)
    try:
        write_atomically(path, data)
    except OSError as error:
        raise FluidcError(f"the archive cannot be written: {error.strerror}", str(path), _SPACE) from None
    return len(data)


def _mode(name: str) -> int:
    return 0o755 if name == LAUNCHER else 0o644


def _fill(folder: Path, bundle: Bundle) -> int:
    """Write and sync every file; raises OSError."""
    size = 0
    folders = {folder}
    for name, data in bundle.files():
        path = folder.joinpath(*name.split("/"))
        path.parent.mkdir(parents=True, exist_ok=True)
        folders.add(path.parent)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _mode(name))
        try:
            write_all(handle, data)
            os.fsync(handle)
        finally:
            os.close(handle)
        size += len(data)
    for each in folders:
        fsync_directory(each)
    return size


def _replaceable(path: Path) -> bool:
    """Whether something is at ``path``; raises FluidcError unless it may be replaced."""
    if not path.parent.is_dir():
        raise FluidcError("there is no folder to write the bundle into", str(path.parent), _SPACE)
    if not path.exists() and not path.is_symlink():
        return False
    if not path.is_dir():
        raise FluidcError("there is a file of this name", str(path), "name a new folder")
    files = {file.relative_to(path).as_posix() for file in path.rglob("*") if not file.is_dir() or file.is_symlink()}
    files = {name for name in files if "/__pycache__/" not in f"/{name}"}
    strange = sorted(files - _listed(path / MANIFEST))
    if strange:
        more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
        raise FluidcError(
            f"the folder holds what no bundle of fluidc put there: {strange[0]}{more}",
            str(path),
            "name a new folder, or move these files away; an artifact's .run folder is its privacy ledger",
        )
    return True


def _listed(manifest: Path) -> set[str]:
    """The files of the bundle that ``manifest`` describes; none where there is no bundle."""
    try:
        facts = json.loads(manifest.read_text("utf-8"))
        if facts["format"] != FORMAT:
            return set()
        return {MANIFEST, *(str(member["name"]) for member in facts["members"])}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _tarred(bundle: Bundle, folder: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in bundle.files():
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mode = len(data), _mode(name)
            archive.addfile(entry, io.BytesIO(data))
    return lzma.compress(buffer.getvalue(), preset=6)


def _zipped(bundle: Bundle, folder: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in bundle.files():
            entry = zipfile.ZipInfo(f"{folder}/{name}", _EPOCH)
            entry.create_system = 3  # Unix, whatever machine this is: permissions are read only then
            entry.external_attr = (0o100000 | _mode(name)) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return buffer.getvalue()
