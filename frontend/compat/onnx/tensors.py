"""Tensors of an ONNX file as arrays, with every number in it checked before memory is taken."""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from .errors import OnnxError, shown

MOST_ELEMENTS = 1 << 28
"""Elements of one tensor."""

_DTYPES: dict[int, np.dtype[Any]] = {
    TensorProto.FLOAT: np.dtype(np.float32),
    TensorProto.DOUBLE: np.dtype(np.float64),
    TensorProto.FLOAT16: np.dtype(np.float16),
    TensorProto.INT8: np.dtype(np.int8),
    TensorProto.INT32: np.dtype(np.int32),
    TensorProto.INT64: np.dtype(np.int64),
    TensorProto.UINT8: np.dtype(np.uint8),
    TensorProto.BOOL: np.dtype(np.bool_),
}


def element_type(number: int, what: str, source: str) -> np.dtype[Any]:
    """The numpy type of an ONNX element type; refuses strings and what fluid has no Variables of."""
    if number in _DTYPES:
        return _DTYPES[number]
    try:
        name = TensorProto.DataType.Name(number).lower()
    except ValueError:
        name = f"the unknown type {number}"
    raise OnnxError(
        f"{what} holds {name}",
        source,
        f"export it as one of {', '.join(dtype.name for dtype in _DTYPES.values())}",
    )


class TensorReader:
    """Reads the tensors of one model.

    Args:
        source: What messages call the model: its path.
        folder: Where external data may lie; None where the model is no file.
    """

    def __init__(self, source: str, folder: Path | None) -> None:
        self.source = source
        self._folder = folder
        self._external_arrays: dict[tuple[Path, int, str, tuple[int, ...]], NDArray[Any]] = {}
        self._taken: dict[tuple[int, int], int] = {}  # bytes that tensors took, by the device and inode of the file

    def array(self, tensor: TensorProto, what: str) -> NDArray[Any]:
        """The tensor's numbers.

        Raises:
            OnnxError: An element type or a size that is not imported, data that do not fit the shape, or external data
                outside of the model's folder.
        """
        dtype = element_type(tensor.data_type, what, self.source)
        shape = tuple(tensor.dims)
        if any(d < 0 for d in shape) or math.prod(shape) > MOST_ELEMENTS:
            raise OnnxError(
                f"{what} has the shape {list(shape)}", self.source, f"at most {MOST_ELEMENTS} elements are imported"
            )
        if tensor.HasField("segment"):
            raise OnnxError(f"{what} is stored in segments", self.source, "export the model anew")
        if tensor.data_location == TensorProto.EXTERNAL:
            return self._external(tensor, what, dtype, shape)
        try:
            array = numpy_helper.to_array(tensor)
        except Exception as error:  # onnx raises what numpy does
            raise OnnxError(f"{what} cannot be read: {error}", self.source, "the file is damaged") from None
        if array.shape != shape or array.dtype != dtype:
            raise OnnxError(f"{what} does not hold what its shape says", self.source, "the file is damaged")
        return array

    def _external(self, tensor: TensorProto, what: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        where = f"{self.source}, {what}"
        path = self._path(entries.get("location", ""), where)
        size = math.prod(shape) * dtype.itemsize
        offset, length = (_natural(entries.get(key, "0"), key, where) for key in ("offset", "length"))
        if "length" in entries and length != size:
            raise OnnxError(f"external data of {length} bytes for {size} bytes of numbers", where, "export it anew")
        key = path, offset, dtype.str, shape
        if key not in self._external_arrays:
            data = np.frombuffer(self._bytes(path, offset, size, where), dtype.newbyteorder("<"))
            self._external_arrays[key] = data.astype(dtype, copy=False).reshape(shape)
        return self._external_arrays[key]

    def _bytes(self, path: Path, offset: int, size: int, where: str) -> bytes:
        """A part of a file; refuses parts that take more together than the file has: they would fill the memory."""
        name = shown(path.name)
        try:
            # O_NOFOLLOW: a link put there after the check is not followed either.
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with open(handle, "rb") as file:
                status = os.fstat(handle)
                if not stat.S_ISREG(status.st_mode):
                    raise OnnxError(f"{name} is no file", where, "put the model's data beside it")
                if offset + size > status.st_size:
                    raise OnnxError(
                        f"{name} has {status.st_size} bytes; {offset + size} are needed",
                        where,
                        "the file is cut off",
                    )
                inode = status.st_dev, status.st_ino
                self._taken[inode] = self._taken.get(inode, 0) + size
                if self._taken[inode] > status.st_size:
                    raise OnnxError(
                        f"{name} has {status.st_size} bytes; tensors take {self._taken[inode]} of it",
                        where,
                        "their data overlap: export the model anew",
                    )
                file.seek(offset)
                return file.read(size)
        except OSError as error:
            raise OnnxError(f"{name} cannot be read: {error.strerror}", where, "put it beside the model") from None

    def _path(self, location: str, where: str) -> Path:
        """The file of external data: inside of the model's folder, whatever links there are."""
        named = PurePosixPath(location.replace("\\", "/"))
        hint = "keep external data beside the model, or export it in one file"
        if self._folder is None:
            raise OnnxError("the model keeps data in other files", where, "load it from its file")
        if not location or "\0" in location or named.is_absolute() or ".." in named.parts or ":" in location:
            raise OnnxError(f"external data at {shown(location)!r} are outside of the model's folder", where, hint)
        path = self._folder / named
        folder = Path(os.path.realpath(self._folder))
        if not Path(os.path.realpath(path)).is_relative_to(folder):
            raise OnnxError(f"external data at {shown(location)!r} are outside of the model's folder", where, hint)
        return path


def _natural(text: str, key: str, where: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise OnnxError(f"external data with the {key} {text[:40]!r}", where, "export the model anew")
    return int(text)
