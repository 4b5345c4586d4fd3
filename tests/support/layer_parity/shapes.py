"""Layers that arrange, select and fill."""

import numpy as np

from .table import Table, d, f, given, i32, i64

TABLE = Table()
add = TABLE.add


def call(name, **options):
    return lambda L, *xs: getattr(L, name)(*xs, **options)


def of_list(name, **options):
    return lambda L, *xs: getattr(L, name)(list(xs), **options)


for shape in ([6, 4], [-1, 4], [0, -1], [2, 0, 2, 2], [24]):
    add("reshape", call("reshape", shape=shape), f(2, 3, 4))
add("reshape", call("reshape", shape=[3, 2], act="tanh"), f(2, 3))
add("reshape", lambda L, x: L.reshape(L.scale(x), shape=[3, 2], inplace=True), d(2, 3))
add("reshape", call("reshape", shape=[3, 2]), i64([[1, 2, 3], [4, 5, 6]]))
add("reshape", lambda L, x: L.reshape(x, shape=[L.fill_constant([1], "int32", 3), -1]), f(2, 3))
add("reshape", lambda L, x: L.reshape(x, shape=[L.shape(x)[0], 1, -1]), f(2, 3))
add("reshape", lambda L, x, y: L.reshape(x, shape=L.shape(y)), f(2, 3), f(3, 2))
add("slice", lambda L, x, y: L.slice(x, [1], [0], [L.shape(y)[0]]), f(2, 5), f(3, 2))
add("slice", lambda L, x: L.slice(x, [0, 1], L.assign(np.array([0, 1], "int32")), [1, 3]), f(2, 5))
add("strided_slice", lambda L, x: L.strided_slice(x, [1], [0], [L.fill_constant([1], "int32", 5)], [2]), f(2, 5))
add("expand", lambda L, x, y: L.expand(x, [L.shape(y)[0], 1]), f(1, 2), f(3, 2))
add("fill_constant", lambda L, x: L.fill_constant([L.shape(x)[0], 2], "float32", 1.5), f(3, 2))
add("fill_constant", lambda L, x: L.fill_constant(L.shape(x), "int64", 2), f(3, 2))
add("fill_constant", lambda L, v: L.fill_constant([2, 2], "float32", v), given([2.5], "float32"))
for perm in ([1, 0, 2], [2, 0, 1], [0, 1, 2]):
    add("transpose", call("transpose", perm=perm), f(2, 3, 4))
add("transpose", call("transpose", perm=[1, 0]), i64([[1, 2]]))
add("transpose", call("transpose", perm=[1, 0]), d(2, 3))
add("t", call("t"), f(2, 3))
add("t", call("t"), f(3))
for axis in (0, 1, -1, -2):
    add("concat", of_list("concat", axis=axis), f(2, 3), f(2, 3))
add("concat", of_list("concat", axis=1), f(2, 1, 2), f(2, 3, 2), f(2, 2, 2))
add("concat", of_list("concat"), i64([1, 2]), i64([3]))
add("concat", of_list("concat"), d(1, 2), d(2, 2))
add("concat", lambda L, x: L.concat([x, x, x], 1), f(2, 2))
for arguments in ((2, 2), (3, 1), ([1, 2], 1), ([1, -1, 2], -1), (2, 0)):
    add("split", call("split", num_or_sections=arguments[0], dim=arguments[1]), f(2, 3, 4))
add("split", call("split", num_or_sections=2), d(2, 4))
add("split", lambda L, x: L.split(x, 3, dim=1)[1], f(2, 3, 4), grads=False)  # Paddle: all parts or none
for axis in (0, 1, -1):
    add("stack", of_list("stack", axis=axis), f(2, 3), f(2, 3))
    add("unstack", call("unstack", axis=axis), f(2, 3))
add("stack", of_list("stack"), i64([1, 2]), i64([3, 4]))
add("unstack", call("unstack", num=2), d(2, 3))
add("slice", call("slice", axes=[0, 2], starts=[1, -3], ends=[2, -1]), f(2, 3, 4))
add("slice", call("slice", axes=[1], starts=[0], ends=[100]), f(2, 3, 4))
add("slice", call("slice", axes=[1], starts=[-100], ends=[2]), d(2, 3))
add("slice", call("slice", axes=[0], starts=[1], ends=[3]), i64([1, 2, 3]))
add("strided_slice", call("strided_slice", axes=[1], starts=[0], ends=[3], strides=[2]), f(2, 3, 4))
add("strided_slice", call("strided_slice", axes=[2, 1], starts=[3, 0], ends=[0, 2], strides=[-2, 1]), f(2, 3, 4))
add("strided_slice", call("strided_slice", axes=[0], starts=[-1], ends=[-4], strides=[-1]), f(3, 2))
add("squeeze", call("squeeze", axes=[1]), f(2, 1, 3))
add("squeeze", call("squeeze", axes=[]), f(1, 2, 1, 3))
add("squeeze", call("squeeze", axes=[-1, 0]), f(1, 2, 1))
add("unsqueeze", call("unsqueeze", axes=[0, 2]), f(2, 3))
add("unsqueeze", call("unsqueeze", axes=[-1]), f(2, 3))
add("unsqueeze", call("unsqueeze", axes=1), d(2, 3))
for axis in (0, 1, 2, 3):
    add("flatten", call("flatten", axis=axis), f(2, 3, 4))
add("expand", call("expand", expand_times=[1, 2, 3]), f(2, 3, 1))
add("expand", call("expand", expand_times=[2, 2]), i64([[1, 2]]))
add("expand", call("expand", expand_times=[2]), d(3))
add("expand_as", call("expand_as"), f(1, 3), f(4, 3))
add("expand_as", call("expand_as"), f(2, 1), f(4, 3))
add("gather", call("gather"), f(4, 3), i64([3, 1, 3]), grads=False)
add("gather", call("gather", overwrite=False), f(4, 3), i64([3, 1, 3]))
add("gather", call("gather"), f(4, 3), i32([3, 0]))
add("gather", call("gather"), d(4), i64([2, 1]))
add("gather", call("gather"), f(4, 3), i64([[3], [1]]))
add("gather_nd", call("gather_nd"), f(2, 3, 4), i64([[0, 1], [1, 2], [0, 1]]))
add("gather_nd", call("gather_nd"), f(2, 3, 4), i32([[[0, 1, 2]], [[1, 2, 3]]]))
add("gather_nd", call("gather_nd"), d(3, 2), i64([[2], [0]]))
add("scatter", call("scatter"), f(4, 3), i64([2, 0]), f(2, 3))
add("scatter", call("scatter", overwrite=False), f(4, 3), i64([2, 0]), f(2, 3))
add("scatter", call("scatter", overwrite=False), f(4, 3), i64([2, 0, 2]), f(3, 3), grads=False)
add("scatter", call("scatter"), d(4), i32([1, 3]), d(2))
add("scatter_nd_add", call("scatter_nd_add"), f(4, 3), i64([[1], [3], [1]]), f(3, 3))
add("scatter_nd_add", call("scatter_nd_add"), d(2, 3), i64([[1, 2], [0, 0]]), d(2))
add("scatter_nd", lambda L, i, u: L.scatter_nd(i, u, [3, 2]), i64([[1, 1], [0, 1], [1, 1]]), f(3))
add("index_select", call("index_select"), f(4, 3), i64([2, 0, 2]))
add("index_select", call("index_select", dim=1), f(2, 3, 2), i32([2, 0]))
add("index_select", call("index_select", dim=-1), d(2, 3), i64([2, 0]))
add("index_sample", call("index_sample"), f(2, 4), i64([[0, 3], [2, 2]]))
add("multiplex", lambda L, x, y, i: L.multiplex([x, y], i), f(3, 2), f(3, 2), i32([[1], [0], [1]]))
add("pad", call("pad", paddings=[0, 1, 2, 0], pad_value=0.5), f(2, 3))
add("pad", call("pad", paddings=[0, 1, 1, 1, 1, 1]), d(2, 2, 2))
add("pad_constant_like", call("pad_constant_like", pad_value=0.3), f(3, 4, fixed=True), f(2, 3))
add("reverse", call("reverse", axis=0), f(3, 2))
add("reverse", call("reverse", axis=[0, 1]), f(3, 2))
add("reverse", call("reverse", axis=[-1]), d(3, 2))
add("flip", call("flip", dims=[0, 1]), f(3, 2))
add("flip", call("flip", dims=[-1]), d(3, 2))
add("roll", call("roll", shifts=2), f(3, 2))
add("roll", call("roll", shifts=[1, -1], dims=[0, 1]), f(3, 4))
add("roll", call("roll", shifts=1, dims=-1), d(3, 4))
add("crop", call("crop", shape=[2, 2], offsets=[1, 0]), f(3, 4))
add("crop", call("crop", shape=[1, 4]), f(3, 4))
add("crop_tensor", call("crop_tensor", shape=[2, -1], offsets=[1, 1]), f(3, 4))
add("crop_tensor", call("crop_tensor", shape=[2, 2]), d(3, 4))
add("meshgrid", of_list("meshgrid"), f(2), f(3))
add("meshgrid", of_list("meshgrid"), f(2), f(1), f(3))
add("shape", call("shape"), f(2, 3))
add("size", call("size"), f(2, 3))
add("rank", call("rank"), f(2, 3))
for x in (i64([[1], [0], [3]]), i64([[[1], [2]]])):
    add("one_hot", call("one_hot", depth=4), x)
add("one_hot", call("one_hot", depth=4), i32([[1], [0]]))
add("one_hot", call("one_hot", depth=3, allow_out_of_range=True), i64([[5], [0]]))
add("shard_index", call("shard_index", index_num=20, nshards=2, shard_id=1), i64([[1], [12], [9]]))
add("sequence_mask", call("sequence_mask", maxlen=4), i64([1, 3, 0]))
add("sequence_mask", call("sequence_mask", maxlen=4, dtype="float32"), i64([[1], [3]]))
for values in (2.5, -1, True):
    for dtype in ("float32", "int64", "float64", "bool", "int32"):
        add("fill_constant", call("fill_constant", shape=[2, 2], dtype=dtype, value=values))
add(
    "fill_constant_batch_size_like",
    call("fill_constant_batch_size_like", shape=[-1, 3], dtype="float32", value=2.5),
    f(2, 4),
)
add(
    "fill_constant_batch_size_like",
    call("fill_constant_batch_size_like", shape=[3, 1], dtype="int64", value=2, input_dim_idx=1, output_dim_idx=1),
    f(2, 4),
)
for dtype in ("float32", "int64", "bool", "float64"):
    add("zeros", call("zeros", shape=[2, 1], dtype=dtype))
    add("ones", call("ones", shape=[2, 1], dtype=dtype))
add("zeros_like", call("zeros_like"), f(2, 3))
add("ones_like", call("ones_like"), f(2, 3))
add("zeros_like", call("zeros_like"), i64([1, 2]))
add("ones_like", call("ones_like"), i64([1, 2]))
add("full", call("full", shape=[2, 2], fill_value=1.5))
add("full", call("full", shape=[2], fill_value=3, dtype="int64"))
add("full_like", call("full_like", fill_value=1.5), f(2, 3))
add("full_like", call("full_like", fill_value=2, dtype="int64"), f(2, 3))
add("assign", call("assign"), f(2, 3))
add("assign", call("assign"), i64([1, 2]))
add("assign", lambda L: L.assign(np.array([[1.5, 2.0]], "float32")))
add("assign", lambda L: L.assign(np.array([[1, 2]], "int32")))
add("range", lambda L: L.range(0, 7, 2, "int64"))
add("range", lambda L: L.range(1.0, 2.0, 0.3, "float32"))
add("range", lambda L: L.range(5, 0, -2, "int32"))
add("arange", lambda L: L.arange(2, 6))
add("arange", lambda L: L.arange(1.0, 2.0, 0.25, "float64"))
add("linspace", lambda L: L.linspace(0.0, 1.0, 5, "float32"))
add("linspace", lambda L: L.linspace(2.0, -1.0, 4, "float64"))
add("eye", lambda L: L.eye(2, 3))
add("eye", lambda L: L.eye(2, dtype="int64", batch_shape=[2]))
add("diag", lambda L: L.diag(np.array([1.0, 2.0], "float32")))
add("diag", lambda L, x: L.diag(x), f(3))
