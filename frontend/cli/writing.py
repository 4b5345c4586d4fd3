"""Writing what a command made, so that a file is there whole or not at all."""

from __future__ import annotations

from pathlib import Path

from ...runtime.errors import FluidcError
from ...runtime.files import write_atomically


def write_text(path: Path, text: str) -> None:
    """Replace ``path`` by ``text``.  Raises FluidcError when it cannot be written."""
    try:
        write_atomically(path, text.encode("utf-8"))
    except OSError as error:
        raise FluidcError(
            f"the file cannot be written: {error.strerror}",
            where=str(path),
            hint="choose a folder that exists, is writable and has space",
        ) from None
