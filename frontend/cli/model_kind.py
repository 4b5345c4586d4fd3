"""What a path on the command line is, told by its name."""

from __future__ import annotations

from pathlib import Path

MODEL = "__model__"
"""The program of an inference model of Paddle's, in a folder of its own."""


def is_onnx(path: Path) -> bool:
    """Whether this is a model in ONNX."""
    return path.suffix == ".onnx"


def is_paddle(path: Path, params: str | None = None) -> bool:
    """Whether this is a model of Paddle's: a folder, its ``__model__``, a ``.pdmodel``, or a file with ``--params``."""
    return path.suffix == ".pdmodel" or path.name == MODEL or path.is_dir() or params is not None


def is_model(path: Path, params: str | None = None) -> bool:
    """Whether a model is to be imported, instead of a script being run or an artifact being read."""
    return is_onnx(path) or is_paddle(path, params)
