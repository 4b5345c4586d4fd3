"""From a file that nobody vouches for to a parsed model."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from google.protobuf.message import DecodeError
from onnx import ModelProto

from .errors import OnnxError

MOST_BYTES = 2**31 - 1
"""Protobuf has no larger messages; larger models keep their numbers in external data."""


def read_model(path: Path) -> ModelProto:
    """The model in a file.

    Raises:
        OnnxError: It cannot be read, is too large, or is no ONNX model.
    """
    try:
        # O_NONBLOCK: a pipe is refused, not waited for.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with open(handle, "rb") as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise OnnxError("this is no file", str(path), "give the path of an .onnx file")
            if status.st_size > MOST_BYTES:
                raise OnnxError(
                    f"the file has {status.st_size} bytes", str(path), "export the model with external data"
                )
            data = file.read(status.st_size)
    except OSError as error:
        raise OnnxError(f"the file cannot be read: {error.strerror}", str(path), "give an .onnx file") from None
    return parse_model(data, str(path))


def parse_model(data: bytes, source: str) -> ModelProto:
    """The model in these bytes; ``source`` is what messages call them."""
    model = ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        raise OnnxError("this is no ONNX model, or a part of one", source, "export it anew") from None
    if not model.HasField("graph") or not model.ir_version:
        raise OnnxError("this is no ONNX model, or a part of one", source, "export it anew")
    return model
