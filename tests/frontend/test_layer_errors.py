"""What image layers, products, selections and their like say to a user who made a mistake; every message is pinned."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import fluidc.frontend as fluid
from fluidc.compiler.errors import FluidcError
from fluidc.frontend.layer_helper import LayerHelper
from fluidc.frontend.layers.loss import nll_loss_op

L = fluid.layers


@pytest.fixture(autouse=True)
def program() -> Iterator[None]:
    with fluid.unique_name.guard(), fluid.program_guard(fluid.Program(), fluid.Program()):
        yield


def image() -> fluid.Variable:
    return L.data("image", [3, 4, 4])


def last() -> fluid.Variable:
    return L.data("last", [4, 4, 3])


def rows(name: str = "rows") -> fluid.Variable:
    return L.data(name, [5])


def y() -> fluid.Variable:
    return L.data("y", [1], dtype="int64")


def square() -> fluid.Variable:
    return L.create_parameter([4, 4], "float32", "square")


def vector() -> fluid.Variable:
    return L.create_parameter([4], "float32", "vector")


def integers() -> fluid.Variable:
    return L.data("integers", [3], dtype="int64", append_batch_size=False)


MISTAKES: dict[str, tuple[Callable[[], object], str, str]] = {
    "conv2d groups": (
        lambda: L.conv2d(image(), 6, 3, groups=0),
        "conv2d: 3 channels and 6 filters in 0 groups",
        "channels and filters must be known and divisible by groups",
    ),
    "conv2d format": (
        lambda: L.conv2d(image(), 6, 3, data_format="CHWN"),
        "conv2d: data_format is 'CHWN'",
        "use 'NCHW' or 'NHWC'",
    ),
    "conv2d rank": (
        lambda: L.conv2d(rows(), 6, 3, data_format="NHWC"),
        "conv2d: input rows has shape [-1, 5], but must be [N, H, W, C]",
        "reshape it: fluid.layers.reshape(x, [-1, H, W, C])",
    ),
    "transpose without sizes": (
        lambda: L.conv2d_transpose(image(), 4),
        "conv2d_transpose: neither filter_size nor output_size is given",
        "give one of them",
    ),
    "transpose of an open image": (
        lambda: L.conv2d_transpose(L.data("x", [-1, 3, -1, 4]), 4, output_size=9),
        "conv2d_transpose: input x has shape [-1, 3, -1, 4], so output_size fixes no filter",
        "give filter_size, or declare the image's height and width",
    ),
    "transpose groups": (
        lambda: L.conv2d_transpose(image(), 4, filter_size=3, groups=2),
        "conv2d_transpose: 3 channels and 4 filters in 2 groups",
        "channels and filters must be known and divisible by groups",
    ),
    "transpose without filter": (
        lambda: L.conv2d_transpose(image(), 4, filter_size=3, param_attr=False),
        "conv2d_transpose: param_attr is False",
        "a convolution needs its filter",
    ),
    "transpose padded away": (
        lambda: L.conv2d_transpose(image(), 4, filter_size=1, padding=3),
        "conv2d_transpose: padding 3 leaves nothing of input image [-1, 3, 4, 4]",
        "use less padding",
    ),
    "transpose to another size": (
        lambda: L.conv2d_transpose(image(), 4, filter_size=3, stride=2, output_size=[9, 11]),
        "conv2d_transpose: output_size is [9, 11], but the layer makes [9, 9] to [10, 10] of input image [-1, 3, 4, 4]",
        "choose a size in that range, or leave output_size out",
    ),
    "padding of channels": (
        lambda: L.conv2d(last(), 4, 3, padding=[[0, 0], [1, 1], [1, 1], [0, 1]], data_format="NHWC"),
        "conv2d: padding [[0, 0], [1, 1], [1, 1], [0, 1]] pads batch or channels",
        "pad only height and width",
    ),
    "adaptive kind": (
        lambda: L.adaptive_pool2d(image(), 2, "sum"),
        "adaptive_pool2d: unknown pool_type 'sum'",
        "use 'max' or 'avg'",
    ),
    "adaptive size": (
        lambda: L.adaptive_pool2d(image(), 5),
        "adaptive_pool2d: pool_size is [5, 5], input image has shape [-1, 3, 4, 4]",
        "give at least 1, and not more than there are rows and columns",
    ),
    "adaptive index of a mean": (
        lambda: L.adaptive_pool2d(image(), 2, "avg", require_index=True),
        "adaptive_pool2d: require_index=True with pool_type 'avg'",
        "only a maximum has a place",
    ),
    "adaptive index": (
        lambda: L.adaptive_pool2d(image(), 2, require_index=True),
        "adaptive_pool2d: require_index=True is not implemented",
        "leave it out, and find the place by argmax",
    ),
    "instance_norm rank": (
        lambda: L.instance_norm(rows()),
        "instance_norm: input rows has shape [-1, 5]",
        "it must be [N, C, ...] with a known number of channels C and one to three more axes",
    ),
    "instance_norm without scale": (
        lambda: L.instance_norm(image(), param_attr=False),
        "instance_norm: param_attr or bias_attr is False",
        "freeze them with ParamAttr(trainable=False)",
    ),
    "batch_norm channels": (
        lambda: L.batch_norm(L.data("x", [4, 4, -1]), data_layout="NHWC"),
        "batch_norm: input x has shape [4, 4, -1]",
        "it must be [N, ..., C] with a known number of channels C",
    ),
    "group_norm channels": (
        lambda: L.group_norm(last(), 2, data_layout="NHWC"),
        "group_norm: input last has shape [-1, 4, 4, 3], groups is 2",
        "the number of channels (axis 3) must be known and divisible by groups",
    ),
    "group_norm layout": (
        lambda: L.group_norm(image(), 3, data_layout="NC"),
        "group_norm: data_layout is 'NC'",
        "use 'NCHW' or 'NHWC'",
    ),
    "spectral_norm shape": (
        lambda: L.spectral_norm(rows()),
        "spectral_norm: rows has the open shape [-1, 5]",
        "give a fixed shape",
    ),
    "spectral_norm steps": (
        lambda: L.spectral_norm(square(), power_iters=-1),
        "spectral_norm: power_iters is -1, eps is 1e-12",
        "give at least 0 steps and a positive eps",
    ),
    "bilinear rank": (
        lambda: L.bilinear_tensor_product(image(), rows(), 3),
        "bilinear_tensor_product: x image has shape [-1, 3, 4, 4]",
        "it must be [N, M] with a known number M",
    ),
    "bilinear size": (
        lambda: L.bilinear_tensor_product(rows(), rows("z"), 0),
        "bilinear_tensor_product: size is 0",
        "give the number of outputs, a positive integer",
    ),
    "bilinear without weight": (
        lambda: L.bilinear_tensor_product(rows(), rows("z"), 2, param_attr=False),
        "bilinear_tensor_product: param_attr is False",
        "the layer needs its weight",
    ),
    "pad2d mode": (
        lambda: L.pad2d(image(), mode="wrap"),
        "pad2d: unknown mode 'wrap'",
        "use 'constant', 'reflect' or 'edge'",
    ),
    "pad2d widths": (
        lambda: L.pad2d(image(), [1, 2]),
        "pad2d: paddings is [1, 2]",
        "give four integers: top, bottom, left, right",
    ),
    "pad2d too wide": (
        lambda: L.pad2d(image(), [4, 0, 0, 0], "reflect"),
        "pad2d: paddings is [4, 0, 0, 0], but image has shape [-1, 3, 4, 4]",
        "give numbers of at least 0, for mode='reflect' less than the extent",
    ),
    "pad2d rank": (
        lambda: L.pad2d(rows()),
        "pad2d: input rows has shape [-1, 5], but must have four axes",
        "reshape it: fluid.layers.reshape(x, [-1, C, H, W])",
    ),
    "pad2d of a Variable": (
        lambda: L.pad2d(image(), integers()),  # type: ignore[arg-type]
        "pad2d: paddings is a Variable",
        "give numbers known when the program is built",
    ),
    "lrn of an even number": (lambda: L.lrn(image(), n=4), "lrn: n is 4", "give an odd number of channels"),
    "maxout groups": (
        lambda: L.maxout(image(), 2),
        "maxout: 3 channels in groups of 2",
        "groups is at least 2 and divides the channels, whose number is known",
    ),
    "maxout axis": (
        lambda: L.maxout(image(), 3, axis=2),
        "maxout: image has shape [-1, 3, 4, 4], axis is 2",
        "give images of four axes, and axis 1, -1 or 3",
    ),
    "pixel_shuffle channels": (
        lambda: L.pixel_shuffle(image(), 2),
        "pixel_shuffle: image has shape [-1, 3, 4, 4], upscale_factor is 2",
        "it must be [N, C, H, W] with a known number of channels C that 4 divides",
    ),
    "pixel_shuffle factor": (
        lambda: L.pixel_shuffle(image(), 0),
        "pixel_shuffle: upscale_factor is 0",
        "give a positive integer",
    ),
    "shuffle_channel group": (
        lambda: L.shuffle_channel(image(), 0),
        "shuffle_channel: group is 0",
        "give a positive integer",
    ),
    "space_to_depth block": (
        lambda: L.space_to_depth(image(), 1),
        "space_to_depth: blocksize is 1",
        "give an integer of at least 2",
    ),
    "space_to_depth size": (
        lambda: L.space_to_depth(L.data("x", [4, 3, 4]), 2),
        "space_to_depth: x has shape [-1, 4, 3, 4], blocksize is 2",
        "height and width must be known and divisible by it",
    ),
    "unfold paddings": (
        lambda: L.unfold(image(), 2, paddings=[1, 2, 3]),
        "unfold: paddings is [1, 2, 3]",
        "give 1, 2 or 4 integers of at least 0",
    ),
    "unfold windows": (
        lambda: L.unfold(image(), 5),
        "unfold: windows of [5, 5] do not fit into image [-1, 3, 4, 4]",
        "use smaller windows or more padding",
    ),
    "affine_channel missing": (
        lambda: L.affine_channel(image(), square()),
        "affine_channel: scale or bias is None",
        "give both, of shape [C]",
    ),
    "affine_channel shape": (
        lambda: L.affine_channel(image(), square(), square()),
        "affine_channel: scale square has shape [4, 4]",
        "it must be [3]",
    ),
    "temporal_shift ratio": (
        lambda: L.temporal_shift(image(), 2, 0.5),
        "temporal_shift: seg_num is 2, shift_ratio 0.5, image has shape [-1, 3, 4, 4]",
        "seg_num divides the images, and shift_ratio lies between 0 and 0.5",
    ),
    "resize kind": (
        lambda: L.image_resize(image(), [2, 2], resample="CUBIC"),
        "image_resize: unknown resample 'CUBIC'",
        "use 'NEAREST' or 'BILINEAR'",
    ),
    "resize trilinear": (
        lambda: L.image_resize(image(), [2, 2], resample="TRILINEAR"),
        "image_resize: resample 'TRILINEAR' is not implemented",
        "resize two axes at a time",
    ),
    "resize mode": (
        lambda: L.resize_bilinear(image(), [2, 2], align_mode=2),
        "image_resize: align_corners is True, align_mode 2",
        "use a bool, and 0 or 1",
    ),
    "resize without size": (
        lambda: L.resize_nearest(image()),
        "image_resize: out_shape is None and scale is None",
        "give a size, or a positive scale",
    ),
    "resize shape": (
        lambda: L.resize_nearest(image(), [2]),
        "image_resize: out_shape is [2]",
        "give a height and a width",
    ),
    "resize by a Variable": (
        lambda: L.resize_nearest(image(), actual_shape=integers()),
        "image_resize: the size is a Variable",
        "give numbers known when the program is built",
    ),
    "resize to a Variable": (
        lambda: L.resize_nearest(image(), [integers(), 2]),  # type: ignore[arg-type]
        "image_resize: out_shape holds a Variable",
        "give numbers known when the program is built",
    ),
    "resize_short open": (
        lambda: L.image_resize_short(L.data("x", [-1, 3, -1, 4]), 8),
        "image_resize_short: input x has shape [-1, 3, -1, 4]",
        "declare its height and width",
    ),
    "bmm shapes": (
        lambda: L.bmm(rows(), rows("z")),
        "bmm: x rows has shape [-1, 5] and y z [-1, 5]",
        "give [B, M, K] and [B, K, N]; see matmul",
    ),
    "addmm rank": (
        lambda: L.addmm(image(), square(), square()),
        "addmm: input image has shape [-1, 3, 4, 4]",
        "give three matrices",
    ),
    "addmm shapes": (
        lambda: L.addmm(square(), square(), L.transpose(rows(), [1, 0])),
        "addmm: [4, 4] plus [4, 4] times [5, -1]",
        "give [M, N], [M, K] and [K, N]; input may have extents of 1",
    ),
    "dot shapes": (
        lambda: L.dot(rows(), square()),
        "dot: x rows has shape [-1, 5] and y square [4, 4]",
        "give two vectors or two matrices",
    ),
    "cross shapes": (
        lambda: L.cross(square(), rows("z")),
        "cross: square has shape [4, 4] and z [-1, 5]",
        "give equal shapes",
    ),
    "cross axis": (
        lambda: L.cross(square(), square()),
        "cross: axis None of square [4, 4]",
        "give an axis of extent 3",
    ),
    "trace axes": (
        lambda: L.trace(square(), dim1=1, dim2=-1),
        "trace: dim1 is 1, dim2 -1, square has shape [4, 4]",
        "give two different axes",
    ),
    "tril rank": (
        lambda: L.tril(vector()),
        "tril: vector has shape [4], diagonal is 0",
        "give at least two axes, and an integer",
    ),
    "index_select index": (
        lambda: L.index_select(rows(), L.cast(square(), "int64")),
        "index_select: index cast_0.tmp_0 has shape [4, 4]",
        "give a vector [M]",
    ),
    "index_sample rank": (
        lambda: L.index_sample(rows(), integers()),
        "index_sample: rows has shape [-1, 5], index integers [3]",
        "give [N, M] and [N, K]",
    ),
    "scatter_nd_add shapes": (
        lambda: L.scatter_nd_add(square(), L.reshape(integers(), [3, 1]), square()),
        "scatter_nd_add: index [3, 1] into ref square [4, 4] with updates [4, 4]",
        "the last extent of the index is how many leading axes it addresses; updates have the shape [3, 4]",
    ),
    "crop shape": (
        lambda: L.crop(square()),
        "crop: shape is None",
        "give one extent per axis, -1 for all that is there",
    ),
    "crop offsets": (
        lambda: L.crop(square(), [2, 2], [1]),
        "crop: shape [2, 2] and offsets [1], but square has shape [4, 4]",
        "give one per axis",
    ),
    "crop outside": (
        lambda: L.crop_tensor(square(), [2, 2], [3, 0]),
        "crop_tensor: shape [2, 2] at [3, 0] does not lie in square [4, 4]",
        "give positive extents, or -1, inside the input",
    ),
    "crop at a Variable": (
        lambda: L.crop_tensor(square(), [2, 2], integers()),  # type: ignore[arg-type]
        "crop_tensor: offsets holds a Variable",
        "give numbers known when the program is built",
    ),
    "roll shifts": (lambda: L.roll(square(), [1, 2], [0]), "roll: 2 shifts along 1 axes", "give one shift per axis"),
    "roll flat": (lambda: L.roll(square(), [1, 2]), "roll: 2 shifts without dims", "give one shift, or name the axes"),
    "meshgrid nothing": (
        lambda: L.meshgrid([]),
        "meshgrid: the list of Variables is empty",
        "give at least one vector",
    ),
    "meshgrid rank": (lambda: L.meshgrid([square()]), "meshgrid: square has shape [4, 4]", "give vectors"),
    "t rank": (lambda: L.t(image()), "t: image has shape [-1, 3, 4, 4]", "use transpose for more than two axes"),
    "multiplex one": (
        lambda: L.multiplex([rows()], integers()),
        "multiplex: fewer than two Variables",
        "give a list of candidates",
    ),
    "multiplex shapes": (
        lambda: L.multiplex([rows(), image()], integers()),
        "multiplex: rows [-1, 5] and image [-1, 3, 4, 4]",
        "give equal shapes",
    ),
    "multiplex index": (
        lambda: L.multiplex([rows(), rows("z")], integers()),
        "multiplex: index integers has shape [3]",
        "give [N, 1]",
    ),
    "pad_constant_like size": (
        lambda: L.pad_constant_like(vector(), L.concat([vector(), vector()])),
        "pad_constant_like: concat_0.tmp_0 [8] to the shape of vector [4]",
        "x must be at least as large along every axis",
    ),
    "shard_index shard": (
        lambda: L.shard_index(integers(), 20, 2, 2),
        "shard_index: shard 2 of 2",
        "give a shard from 0 to 1",
    ),
    "clamp nothing": (lambda: L.clamp(rows()), "clamp: min and max are None", "give one of them"),
    "shape of a matrix": (
        lambda: L.fill_constant(L.cast(rows(), "int32"), "float32", 1.0),
        "fill_constant: shape is cast_0.tmp_0 of shape [-1, 5]",
        "give a vector of known length",
    ),
    "shape of vectors": (
        lambda: L.reshape(rows(), [L.cast(vector(), "int32"), 1]),
        "reshape: shape holds cast_0.tmp_0 of shape [4]",
        "give one element each",
    ),
    "shape of a float": (
        lambda: L.expand(rows(), [L.fill_constant([1], "float32", 2.0), 1]),
        "expand: expand_times holds fill_constant_0.tmp_0 of float32",
        "cast it: fluid.layers.cast(x, 'int32')",
    ),
    "shape of a number": (
        lambda: L.expand(rows(), 2.5),  # type: ignore[arg-type]
        "expand: expand_times is float",
        "give integers, or a Variable of them",
    ),
    "full elsewhere": (
        lambda: L.full([2], 1.0, device="gpu"),
        "full: device is 'gpu'",
        "leave it out: the executor's place says where",
    ),
    "npair open": (
        lambda: L.npair_loss(rows(), rows("z"), L.data("l", [])),
        "npair_loss: labels l has shape [-1]",
        "fix the batch size",
    ),
    "auc curve": (lambda: L.auc(L.softmax(rows()), y(), curve="PR"), "auc: curve 'PR' is not implemented", "use 'ROC'"),
    "auc thresholds": (
        lambda: L.auc(L.softmax(rows()), y(), num_thresholds=0),
        "auc: num_thresholds is 0, slide_steps 1",
        "give at least 1 and at least 0",
    ),
    "bilinear_interp of other axes": (
        lambda: L.interpolate(rows(), [2, 2]),
        "interpolate: input rows has shape [-1, 5], but must be [N, C, H, W]",
        "reshape it: fluid.layers.reshape(x, [-1, C, H, W])",
    ),
    "case of no pairs": (
        lambda: L.case([]),
        "case: pred_fn_pairs is no list of (condition, function)",
        "give pairs such as (x < y, lambda: x)",
    ),
    "switch_case of nothing": (
        lambda: L.switch_case(integers(), {}),
        "switch_case: branch_fns is empty",
        "give at least one function",
    ),
    "switch_case twice": (
        lambda: L.switch_case(integers(), [(1, square), (1, square)]),
        "switch_case: branch_fns has 1 twice, or no function for it",
        "give a dict of functions by number, or a list of functions",
    ),
    "nll reduction": (
        lambda: nll_loss_op(LayerHelper("nll_loss"), rows(), y(), reduction="max"),
        "nll_loss: unknown reduction 'max'",
        "use 'mean', 'sum' or 'none'",
    ),
    "nll shapes": (
        lambda: nll_loss_op(LayerHelper("nll_loss"), image(), y()),
        "nll_loss: input image has shape [-1, 3, 4, 4] and label y has [-1, 1]",
        "give log-probabilities [N, C] and labels [N], or [N, C, H, W] and [N, H, W]",
    ),
    "nll weight": (
        lambda: nll_loss_op(LayerHelper("nll_loss"), rows(), L.reshape(y(), [-1]), vector()),
        "nll_loss: weight vector has shape [4]",
        "give one number per class: [5]",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_message(name: str) -> None:
    build, what, hint = MISTAKES[name]
    with pytest.raises(FluidcError) as caught:
        build()
    assert (caught.value.what, caught.value.hint) == (what, hint)
    assert caught.value.where is not None
    assert caught.value.where.startswith(__file__)
