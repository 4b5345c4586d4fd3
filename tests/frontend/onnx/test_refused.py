"""What rules of operators refuse: each says which node, what is wrong, and what to do."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_forms import FILTER, IMAGE, Form, X, axes, built, form

from fluidc.compiler.errors import FluidcError
from fluidc.frontend.compat.onnx import import_model

SCALES = np.array([1, 1, 2, 2], np.float32)
VOLUME = np.zeros((1, 2, 3, 3, 3), np.float32)

REFUSED = [
    (
        form("Slice", 13, X, constants=[axes(0), axes(1), axes(0), axes(0)]),
        "starts, ends, axes and steps do not belong",
    ),
    (form("Slice", 9, X, starts=[0, 0], ends=[1, 1], axes=[0, -3]), "an axis is sliced twice"),
    (form("Slice", 9, X, starts=[0], ends=[1], axes=[3]), "axis 3 of a tensor of rank 3"),
    (form("Split", 11, X, axis=2, outputs=3), "is not 3 equal parts"),
    (form("Split", 11, X, axis=2, split=[1, 2], outputs=2), r"is not 2 parts of \[1, 2\]"),
    (form("Pad", 13, X, constants=[axes(0, 1)]), "2 paddings of 3 axes"),
    (form("Pad", 13, X, constants=[axes(0, -3, 0, 0, -1, 0)]), "is padded by -3 and -1"),
    (form("Pad", 10, X, pads=[0] * 5 + [1], mode="mirror"), "in the mode 'mirror'"),
    (form("Tile", 13, X, constants=[axes(2)]), "1 repeats of the axes"),
    (form("DepthToSpace", 13, IMAGE, blocksize=2), "are not 2 x 2 blocks"),
    (form("SpaceToDepth", 13, IMAGE, blocksize=4), "is not 4 x 4 blocks"),
    (form("SpaceToDepth", 13, X, blocksize=1), r"takes images \[N, C, H, W\]"),
    (form("EyeLike", 9, X), "takes a matrix"),
    (form("Range", 11, constants=[np.array(0), np.array(3), np.array(0)]), "counts by steps of 0"),
    (form("Conv", 11, VOLUME, np.zeros((1, 2, 1, 1, 1), np.float32)), r"takes \[N, C, W\] or \[N, C, H, W\]"),
    (form("Conv", 11, IMAGE, FILTER, strides=[1]), r"strides \[1\] for 2 axes"),
    (form("Conv", 11, IMAGE, FILTER, pads=[1, 1]), r"pads \[1, 1\] of 2 axes"),
    (form("Conv", 11, IMAGE[:, :, :2], FILTER), "a window that spans 3 does not fit"),
    (form("MaxPool", 11, IMAGE, kernel_shape=[2]), r"a kernel \[2\] over"),
    (form("MaxPool", 11, X[0], kernel_shape=[2]), "with at least one more axis"),
    (form("Col2Im", 18, X, constants=[axes(1, 1, 1), axes(1, 1, 1)]), "images have one or two axes"),
    (form("Resize", 13, IMAGE, constants=[None, SCALES[:2]]), "2 scales or sizes of 4 axes"),
    (form("Resize", 13, IMAGE, constants=[None, SCALES], mode="lanczos"), "the mode 'lanczos'"),
    (form("Resize", 13, IMAGE, constants=[None, SCALES], nearest_mode="up"), "nearest_mode 'up'"),
    (
        form("Resize", 13, IMAGE, constants=[None, SCALES], coordinate_transformation_mode="polar"),
        "coordinate_transformation_mode 'polar'",
    ),
    (form("Resize", 13, IMAGE.astype(np.uint8), constants=[None, SCALES], mode="linear"), "linear interpolation of u8"),
    (form("Upsample", 9, IMAGE, constants=[SCALES[:2]]), "2 scales of"),
    (form("Einsum", 12, X, equation="ij->i"), "'ij' of the equation"),
    (form("Einsum", 12, X, equation="ijk,k->i"), "does not fit 1 operands"),
    (form("Einsum", 12, X, equation="ijk->z"), "names an axis that no operand has"),
    (
        form("ScatterElements", 18, X, np.zeros((1, 1, 1), np.int64), X[:1, :1, :1], reduction="xor"),
        "the reduction 'xor'",
    ),
    (
        form(
            "ScatterElements",
            18,
            np.zeros(2, np.float32),
            np.zeros(70, np.int64),
            np.ones(70, np.float32),
            reduction="mul",
        ),
        "70 updates of",
    ),
    (form("Compress", 11, X, constants=[np.ones(9, bool)], axis=1), "element 8 of axis 1"),
    (form("Attention", 23, X, X, X), "of 0 heads"),
    (
        form("Attention", 23, *[np.zeros((1, h, 2, 4), np.float32) for h in (3, 2, 2)]),
        "3 heads of queries on 2 of keys",
    ),
    (
        form("RotaryEmbedding", 23, IMAGE, X, X, rotary_embedding_dim=3),
        "3 of 6 features are turned",
    ),
]


@pytest.mark.parametrize(("each", "message"), REFUSED, ids=[f"{each.id}-{i}" for i, (each, _) in enumerate(REFUSED)])
def test_refused(each: Form, message: str) -> None:
    with pytest.raises(FluidcError, match=message) as caught:
        import_model(built(each), trainable=())
    assert caught.value.what.startswith(each.op)
    assert caught.value.where is not None
    assert caught.value.hint


def test_open_extents_are_refused_where_numbers_are_needed() -> None:
    each = form("Slice", 13, X, constants=[axes(-2), axes(2**31 - 1), axes(0)])
    with pytest.raises(FluidcError, match="counted from its open end") as caught:
        import_model(built(each, open_batch=True), trainable=())
    assert "shapes=" in str(caught.value.hint)
