"""The error of files and models that are not imported."""

from __future__ import annotations

from ....compiler.errors import FluidcError


class OnnxError(FluidcError, ValueError):
    """An ONNX file that is damaged, unsafe, or uses what cannot be imported."""
