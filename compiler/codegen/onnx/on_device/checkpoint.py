"""The checkpoint of on-device training, written by ONNX Runtime itself; torch is not needed for it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import numpy_helper

from ....errors import TargetError

Array = NDArray[Any]
RATE = "learning_rate"
"""The property that holds what the optimizer is to be set to."""


def write_checkpoint(
    path: Path, trained: Mapping[str, Array], others: Mapping[str, Array], learning_rate: float
) -> None:
    """Write a checkpoint with zero gradients and without a state of the optimizer: training begins.

    Args:
        path: The file.
        trained: Parameters that the optimizer updates.
        others: Variables that it does not.
        learning_rate: Kept as the property `RATE`.

    Raises:
        TargetError: The ONNX Runtime at hand has no training API, or cannot write the file.
    """
    api = _training_api()
    serialised = [
        [numpy_helper.from_array(np.ascontiguousarray(array), name).SerializeToString() for name, array in part.items()]
        for part in (trained, others)
    ]
    try:
        api.save_checkpoint(*serialised, str(path), False)
        state = api.load_checkpoint(str(path))
        state.add_property(RATE, learning_rate)
        api.save_checkpoint(state, str(path), False)
    except RuntimeError as error:  # the base of what ONNX Runtime raises
        raise TargetError(
            f"ONNX Runtime cannot write the checkpoint: {error}",
            where=str(path),
            hint="see that the folder has space; a checkpoint holds 2 GiB at most",
        ) from None


def check_training_api() -> None:
    """Raise TargetError unless the ONNX Runtime at hand has the training API."""
    _training_api()


def _training_api() -> Any:
    # Only the C interface: the Python package onnxruntime.training imports torch.
    try:
        api: Any = importlib.import_module("onnxruntime.capi._pybind_state")
    except ImportError:
        api = None
    if not hasattr(api, "save_checkpoint"):
        raise TargetError(
            "the checkpoint of on-device training is written by onnxruntime-training, which is not installed here",
            hint="use Python 3.11 and pip install onnxruntime-training==1.19.2, in place of onnxruntime",
        )
    return api
