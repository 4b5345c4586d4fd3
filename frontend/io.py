"""fluid.io: readers, and models of other formats."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .reader import (
    ComposeNotAligned,
    batch,
    buffered,
    cache,
    chain,
    compose,
    firstn,
    map_readers,
    shuffle,
)
from .variable import Variable

if TYPE_CHECKING:
    from .compat.onnx import OnnxModel


def load_onnx(
    path: str | os.PathLike[str],
    *,
    inputs: Mapping[str, Variable | np.ndarray] | None = None,
    shapes: Mapping[str, Sequence[int | None]] | None = None,
    trainable: str | Sequence[str] | None = None,
) -> OnnxModel:
    """Append a forward model in ONNX to the default main program, as a layer does.

    What the file holds as initialisers become parameters, under the file's names; the startup program gives them the
    file's values. The model then trains like any other: `program.clone(for_test=True)`, privately too, on every target.

        model = fluid.io.load_onnx("classifier.onnx")
        label = fluid.data("label", [None, 1], dtype="int64")
        loss = fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(model.outputs[0], label))
        fluid.optimizer.Adam(1e-4).minimize(loss)

    Args:
        path: The ``.onnx`` file; external data must lie in its folder.
        inputs: Variables, or arrays for constants, to be taken for inputs of the model, by the file's names; the others
            become data variables.
        shapes: Shapes for inputs, None for what stays open, at best the batch only: extents that the file leaves open
            are fixed, and one that it fixes (the batch of a model exported for one row) is opened.
        trainable: A glob pattern, or several, of the initialisers that become parameters (``["fc.*"]`` to train the
            last layers); the others are constants. By default those of floating point are parameters that have at least
            one axis and finite elements; running statistics of batch normalisation never are.

    Returns:
        ``OnnxModel(program, feeds, outputs, parameters, startup)``, a named tuple.

    Raises:
        OnnxError: The file is damaged, unsafe or of an opset that cannot be imported, or has ops that cannot: all of
            them are listed.
        LoweringError: A node, which is named, asks for what the compiler cannot do.
    """
    from .compat.onnx import load_onnx as load  # onnx and the compiler take time to load

    return load(path, inputs=inputs, shapes=shapes, trainable=trainable)


__all__ = [
    "ComposeNotAligned",
    "batch",
    "buffered",
    "cache",
    "chain",
    "compose",
    "firstn",
    "load_onnx",
    "map_readers",
    "shuffle",
]
