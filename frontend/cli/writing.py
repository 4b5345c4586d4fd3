"""Writing what a command made, so that a file is there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ...runtime.errors import FluidcError
from ...runtime.files import write_atomically


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
