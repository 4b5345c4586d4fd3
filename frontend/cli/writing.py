"""Writing what a command made, so that a file is there whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import click

from ...runtime.errors import FluidcError
from ...runtime.files import fsync_directory, temporary_name, write_atomically


def check_file(path: Path, option: str) -> None:
    """Refuse at once, as wrong usage of ``option``, what could not be written after all the work."""
    if not path.parent.is_dir():
        raise click.BadParameter(f"there is no folder {str(path.parent)!r}", param_hint=option)
    if path.is_dir():
        raise click.BadParameter(f"{str(path)!r} is a folder; name a file", param_hint=option)
    if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise click.BadParameter(f"{str(path)!r} cannot be written", param_hint=option)


def write_text(path: Path, text: str) -> None:
    """Replace ``path`` by ``text``.  Raises FluidcError when it cannot be written."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data``.  Raises FluidcError when it cannot be written."""
    try:
        write_atomically(path, data)
    except OSError as error:
        raise FluidcError(
            f"the file cannot be written: {error.strerror}",
            where=str(path),
            hint="choose a folder that exists, is writable and has space",
        ) from None


def replace_folder(path: Path, fill: Callable[[Path], object]) -> int:
    """Replace the folder ``path`` by one that ``fill`` puts files into; returns their size in bytes.

    The new folder takes the place of the old one when it is complete; on any failure the old one is as it was.
    Raises FluidcError when it cannot be written, and what ``fill`` raises.
    """
    path = path.resolve()
    new, old = temporary_name(path), path.with_name(f".{path.name}.{os.getpid()}.old")
    try:
        new.mkdir()
        fill(new)
        for file in new.iterdir():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
        fsync_directory(new)
        size = sum(file.stat().st_size for file in new.iterdir())
        if path.exists():
            path.rename(old)
        try:
            new.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
        fsync_directory(path.parent)
        return size
    except OSError as error:
        raise FluidcError(
            f"the folder cannot be written: {error.strerror}",
            where=str(path),
            hint="choose a folder whose parent exists, is writable and has space",
        ) from None
    finally:
        shutil.rmtree(new, ignore_errors=True)
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
