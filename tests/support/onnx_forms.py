"""Nodes in the forms that operators have and had, to be compared with what ONNX Runtime computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from onnx import ModelProto, helper
from onnx_models import model

Array = np.ndarray
RNG = np.random.default_rng(3)
X = RNG.normal(size=(2, 3, 4)).astype(np.float32)
IMAGE = RNG.normal(size=(2, 3, 7, 6)).astype(np.float32)
INTS = RNG.integers(-9, 10, size=(3, 4)).astype(np.int64)
FILTER = RNG.normal(size=(4, 3, 3, 3)).astype(np.float32)


@dataclass(frozen=True)
class Form:
    """One node at one opset; ``fed`` inputs come first, then ``constants``, None for one that is left out."""

    op: str
    opset: int
    fed: Sequence[Array]
    constants: Sequence[Array | None] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)
    outputs: int = 1

    @property
    def id(self) -> str:
        listed = "-".join(f"{name}={value}" for name, value in self.attrs.items() if not isinstance(value, list))
        return f"{self.op}-{self.opset}" + (f"-{listed}" if listed else "")


def axes(*numbers: int) -> Array:
    return np.array(numbers, np.int64)


def form(
    op: str, opset: int, *fed: Array, constants: Sequence[Array | None] = (), outputs: int = 1, **attrs: Any
) -> Form:
    return Form(op, opset, fed, constants, attrs, outputs)


FORMS = [
    form("Slice", 9, X, starts=[1, -3], ends=[9, -1], axes=[1, 2]),
    form("Slice", 9, X, starts=[1], ends=[2]),
    form("Slice", 13, X, constants=[axes(-1, 2**31 - 1), axes(-(2**62), 0), axes(2, 1), axes(-2, -1)]),
    form("Slice", 13, X, constants=[axes(5), axes(0), axes(1)]),
    form("Split", 11, X, axis=2, split=[1, 3], outputs=2),
    form("Split", 11, X, axis=1, outputs=3),
    form("Split", 13, X, constants=[axes(1, 3)], axis=-1, outputs=2),
    form("Split", 18, IMAGE, axis=2, num_outputs=4, outputs=4),
    form("Pad", 10, X, pads=[0, 1, 0, 1, 0, 2], value=1.5),
    form("Pad", 10, X, pads=[0, 1, 2, 0, 1, 3], mode="reflect"),
    form("Pad", 13, X, constants=[axes(0, 0, 1, 0, 0, 2)], mode="edge"),
    form("Pad", 18, X, constants=[axes(2, -1), None, axes(-1)]),
    form("Pad", 19, X, constants=[axes(0, 2, 1, 0, 1, 3)], mode="wrap"),
    form("Squeeze", 11, X[:1], axes=[0]),
    form("Squeeze", 13, X[:1, :, :1]),
    form("Unsqueeze", 11, X, axes=[0, 4]),
    form("Unsqueeze", 13, X, constants=[axes(-1, 1)]),
    form("ReduceSum", 11, X, axes=[0, -1], keepdims=0),
    form("ReduceSum", 13, X, constants=[axes(1)]),
    form("ReduceMean", 13, X, axes=[1]),
    form("ReduceLogSumExp", 13, X * 50, axes=[2]),
    form("ReduceL2", 18, X, constants=[axes(0)], keepdims=0),
    form("ReduceMax", 13, INTS.astype(np.int32), keepdims=0),
    form("ArgMax", 11, X, axis=1),
    form("ArgMin", 13, np.zeros((2, 3), np.float32), axis=1, select_last_index=1, keepdims=0),
    form("TopK", 9, X, k=2, outputs=2),
    form("TopK", 10, X, constants=[axes(2)], axis=1, outputs=2),
    form("TopK", 11, X, constants=[axes(3)], axis=2, largest=0, outputs=2),
    form("Clip", 7, X, min=-0.5, max=0.25),
    form("Clip", 7, X, min=-0.5),
    form("Clip", 11, X, constants=[None, np.array(0.25, np.float32)]),
    form("Clip", 13, X, np.array(0.5, np.float32), np.array(-0.5, np.float32)),
    form("Softmax", 11, X, axis=1),
    form("Softmax", 11, X, axis=2),
    form("LogSoftmax", 11, X, axis=0),
    form("LogSoftmax", 13, X, axis=1),
    form("Hardmax", 11, X, axis=1),
    form("Flatten", 9, X, axis=2),
    form("Flatten", 13, X, axis=-1),
    form("Upsample", 9, IMAGE, constants=[np.array([1, 1, 2, 3], np.float32)], mode="nearest"),
    form("Upsample", 7, IMAGE, mode="nearest", scales=[1.0, 1.0, 2.0, 2.0]),
    form("Upsample", 9, IMAGE, constants=[np.array([1, 1, 2, 1.5], np.float32)], mode="linear"),
    form("Resize", 10, IMAGE, constants=[np.array([1, 1, 0.5, 1], np.float32)], mode="nearest"),
    form("Resize", 11, IMAGE, constants=[np.zeros(0, np.float32), np.array([1, 1, 2, 0.5], np.float32)], mode="linear"),
    form(
        "Resize", 13, IMAGE, constants=[None, None, axes(2, 3, 5, 9)], mode="cubic",
        coordinate_transformation_mode="half_pixel",
    ),
    form(
        "Resize", 18, IMAGE, constants=[None, None, axes(4, 13)], axes=[2, 3], mode="linear",
        coordinate_transformation_mode="align_corners",
    ),
    form("Conv", 7, IMAGE, FILTER, auto_pad="SAME_LOWER", strides=[2, 2]),
    form("Conv", 11, IMAGE[:, :, 0], FILTER[:, :, 0], np.ones(4, np.float32), dilations=[2], pads=[1, 2]),
    form("Conv", 11, IMAGE, FILTER[:3, :1], group=3, kernel_shape=[3, 3], pads=[0, 1, 2, 1]),
    form("ConvTranspose", 11, IMAGE, FILTER[:3], strides=[2, 2], output_padding=[1, 0], pads=[1, 0, 1, 1]),
    form("ConvTranspose", 11, IMAGE[:, :, 0], FILTER[:3, :, 0], strides=[3], output_shape=[16]),
    form("ConvTranspose", 11, IMAGE, FILTER[:3], group=3, dilations=[2, 1], auto_pad="SAME_UPPER"),
    form("MaxPool", 8, IMAGE, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1]),
    form("MaxPool", 10, IMAGE, kernel_shape=[2, 2], dilations=[2, 3], strides=[1, 2]),
    form("MaxPool", 12, IMAGE, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, outputs=2),
    form("MaxPool", 11, IMAGE[:, :, 0], kernel_shape=[3], strides=[2], auto_pad="SAME_UPPER"),
    form("MaxPool", 11, IMAGE.reshape(2, 3, 7, 3, 2), kernel_shape=[3, 2, 1], pads=[1, 0, 0, 1, 1, 0]),
    form("AveragePool", 7, IMAGE, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
    form("AveragePool", 11, IMAGE, kernel_shape=[3, 2], strides=[3, 2], pads=[1, 0, 1, 0]),
    form("AveragePool", 19, IMAGE, kernel_shape=[2, 2], dilations=[2, 2], pads=[1, 1, 0, 0]),
    form("LpPool", 11, IMAGE, kernel_shape=[3, 3], p=3),
    form("GlobalLpPool", 2 + 5, IMAGE, p=2),
    form("LRN", 7, IMAGE, size=3, alpha=0.2, beta=0.6, bias=1.5),
    form("Gemm", 7, X[0], X[1], np.ones(3, np.float32), transB=1, alpha=0.5, beta=2.0),
    form("Gemm", 11, X[0], X[1], transA=1),
    form("Einsum", 12, X, X, equation="bij,bkj->bik"),
    form("Einsum", 12, X, X[0], equation="...ij,kj->k...i"),
    form("Einsum", 12, X, equation="bij->j"),
    form("Einsum", 12, X[0, :, :3], equation="ii->i"),
    form("Einsum", 12, X[0], X[1, 0], X[1, :, 0], equation="ij,j,i"),
    form("Mod", 13, INTS, INTS[::-1] * 0 + np.array([3, -3, 5, -4]), fmod=1),
    form("Mod", 13, INTS, INTS[::-1] * 0 + np.array([3, -3, 5, -4])),
    form("Pow", 13, INTS, np.array([[0], [1], [3]], np.int64)),
    form("Div", 13, INTS, np.array([3, -3, 5, -4], np.int64)),
    form("Gather", 11, X, np.array([[-1, 0], [1, -3]]), axis=1),
    form("GatherElements", 13, X, np.array([[[-1, 0], [1, 2]]]), axis=2),
    form("GatherND", 12, X, np.array([[[1], [-1]], [[0], [2]]]), batch_dims=1),
    form("ScatterElements", 16, X, np.array([[[0, -1]], [[2, 1]]]), X[:, :1, :2], axis=1, reduction="add"),
    form("ScatterElements", 18, X, np.full(X.shape, 1), X[::-1], axis=1, reduction="max"),
    form("ScatterND", 16, X, np.array([[0, 1], [-1, 2]]), X[0, :2], reduction="none"),
    form("ScatterND", 16, X, np.array([[0], [0]]), X[::-1], reduction="add"),
    form("OneHot", 11, np.array([0, -1, 5, 2]), constants=[np.array(3), np.array([-1.0, 2.0], np.float32)], axis=0),
    form("CumSum", 11, X, constants=[np.array(-1)], exclusive=1, reverse=1),
    form("Trilu", 14, X, constants=[np.array(-1)], upper=0),
    form("EyeLike", 9, X[0], k=1, dtype=7),
    form("Tile", 7, X, constants=[axes(2, 1, 3)]),
    form("DepthToSpace", 7, RNG.normal(size=(2, 8, 3, 2)).astype(np.float32), blocksize=2),
    form("DepthToSpace", 11, RNG.normal(size=(2, 8, 3, 2)).astype(np.float32), blocksize=2, mode="CRD"),
    form("SpaceToDepth", 7, RNG.normal(size=(2, 3, 4, 6)).astype(np.float32), blocksize=2),
    form("Compress", 11, X, constants=[np.array([True, False, True])], axis=1),
    form("ReverseSequence", 10, X, np.array([2, 3]), batch_axis=0, time_axis=1),
    form("Celu", 12, X, alpha=0.7),
    form("Shrink", 9, X, lambd=0.3, bias=0.1),
    form("Round", 11, np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 2.4999], np.float32)),
    form("PRelu", 9, X, np.array([[0.1], [0.2], [0.3]], np.float32)),
    form("NegativeLogLikelihoodLoss", 13, X, np.array([[0, 1, 2, 1], [2, 2, 0, 0]]), ignore_index=2),
    form(
        "SoftmaxCrossEntropyLoss", 13, X, np.array([[0, 1, 2, 1], [2, 2, 0, 0]]), np.array([1.0, 0.5, 2.0], np.float32),
        outputs=2,
    ),
]  # fmt: skip


FIXED = {
    "Pad-10-value=1.5", "Squeeze-11", "Squeeze-13", "Gemm-11-transA=1", "Einsum-12-equation=bij,bkj->bik",
    "Einsum-12-equation=ij,j,i", "Mod-13-fmod=1", "Mod-13", "Pow-13", "ScatterElements-18-axis=1-reduction=max",
    "ReverseSequence-10-batch_axis=0-time_axis=1", "NegativeLogLikelihoodLoss-13-ignore_index=2",
    "SoftmaxCrossEntropyLoss-13", "Resize-13-mode=cubic-coordinate_transformation_mode=half_pixel",
}  # fmt: skip
"""Forms whose first input has no batch, or one that another input has to share."""


def built(each: Form, *, open_batch: bool = False) -> ModelProto:
    inputs = [f"x{i}" for i in range(len(each.fed))]
    constants = ["" if array is None else f"c{i}" for i, array in enumerate(each.constants)]
    outputs = [f"y{i}" for i in range(each.outputs)]
    kinds = {
        name: (helper.np_dtype_to_tensor_dtype(array.dtype), list(array.shape))
        for name, array in zip(inputs, each.fed, strict=True)
    }
    if open_batch:
        kinds["x0"] = (kinds["x0"][0], ["N", *each.fed[0].shape[1:]])
    initial = {name: array for name, array in zip(constants, each.constants, strict=True) if array is not None}
    node = helper.make_node(each.op, inputs + constants, outputs, **each.attrs)
    return model([node], kinds, outputs, initial, opset=each.opset)


def of_doubles(each: Form, x: Array) -> Form:
    """The form in double precision, on another first input."""

    def wide(array: Array) -> Array:
        return array.astype(np.float64) if array.dtype == np.float32 else array

    # Scales of Resize are of single precision whatever the image is.
    constants = (
        each.constants if each.op in ("Resize", "Upsample") else [a if a is None else wide(a) for a in each.constants]
    )
    return replace(each, fed=[x, *map(wide, each.fed[1:])], constants=constants)
