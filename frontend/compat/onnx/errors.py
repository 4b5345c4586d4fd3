"""The error of files and models that are not imported."""

from __future__ import annotations

from ....compiler.errors import FluidcError


class OnnxError(FluidcError, ValueError):
    """An ONNX file that is damaged, unsafe, or uses what cannot be imported."""


def shown(name: str) -> str:
    """A name of the file as messages give it: short, and without characters that a terminal obeys."""
    return name if name.isprintable() and len(name) <= 200 else repr(name[:200])
