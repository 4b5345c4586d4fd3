"""Named arrays as safetensors bytes, with one text of metadata."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

Array = NDArray[Any]

_METADATA_KEY = "fluidc"  # one key: the writer keeps no order among several, and bytes must be deterministic


def encode(tensors: Mapping[str, Array], metadata: str = "") -> bytes:
    """``tensors`` and ``metadata`` in safetensors form; the same input gives the same bytes."""
    # order="C" and not ascontiguousarray, which would turn a scalar into a vector of one.
    contiguous = {name: np.asarray(tensors[name], order="C") for name in sorted(tensors)}
    return save(contiguous, {_METADATA_KEY: metadata} if metadata else None)


def decode(data: bytes) -> dict[str, Array]:
    """The arrays in ``data``. Raises ValueError when it is damaged."""
    try:
        return load(data)
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(str(error)) from None


def metadata_of(data: bytes) -> str:
    """The metadata text in ``data``, or "". Raises ValueError when the header is damaged."""
    if len(data) < 8:
        raise ValueError("shorter than its header")
    (length,) = struct.unpack_from("<Q", data)
    if length > len(data) - 8:
        raise ValueError("the header passes the end of the file")
    header: object = json.loads(data[8 : 8 + length].decode("utf-8"))
    if not isinstance(header, dict):
        raise ValueError("the header is not an object")
    metadata = cast("dict[str, object]", header).get("__metadata__", {})
    if not isinstance(metadata, dict):
        raise ValueError("the metadata is not an object")
    text = cast("dict[str, object]", metadata).get(_METADATA_KEY, "")
    if not isinstance(text, str):
        raise ValueError("the metadata is not a text")
    return text
