"""Layers over images."""

from .table import Table, d, f

TABLE = Table()
add = TABLE.add


def call(name, **options):
    return lambda L, *xs: getattr(L, name)(*xs, **options)


for options in (
    dict(),
    dict(stride=2, padding=1, act="relu"),
    dict(stride=[2, 1], padding=[0, 1], dilation=[1, 2], bias_attr=False),
    dict(groups=2, padding=1),
    dict(padding="SAME", stride=2),
    dict(padding="VALID"),
    dict(padding=[1, 0, 2, 1]),
    dict(groups=2, use_cudnn=False, padding=1),
):
    add("conv2d", call("conv2d", num_filters=4, filter_size=3, **options), f(1, 2, 5, 6))
add("conv2d", call("conv2d", num_filters=2, filter_size=[1, 2], data_format="NHWC"), f(1, 3, 4, 2))
add("conv2d", call("conv2d", num_filters=2, filter_size=2), d(1, 2, 3, 4))
for options in (
    dict(filter_size=3),
    dict(filter_size=3, stride=2, padding=1),
    dict(filter_size=[2, 3], stride=[1, 2], dilation=[2, 1], act="relu"),
    dict(output_size=[6, 7], stride=2),
    dict(filter_size=2, groups=2, bias_attr=False),
):
    add("conv2d_transpose", call("conv2d_transpose", num_filters=2, **options), f(1, 2, 3, 3))
for options in (
    dict(pool_size=2),
    dict(pool_size=2, pool_type="avg"),
    dict(pool_size=[3, 2], pool_stride=[2, 1], pool_padding=1),
    dict(pool_size=3, pool_type="avg", pool_stride=2, pool_padding=1),
    dict(pool_size=3, pool_type="avg", pool_stride=2, pool_padding=1, exclusive=False),
    dict(pool_size=3, pool_stride=2, ceil_mode=True),
    dict(pool_size=3, pool_type="avg", pool_stride=2, ceil_mode=True),
    dict(global_pooling=True),
    dict(pool_type="avg", global_pooling=True),
    dict(pool_size=3, pool_type="avg", pool_stride=2, pool_padding="SAME"),
    dict(pool_size=3, pool_stride=2, pool_padding="VALID"),
    dict(pool_size=3, pool_stride=2, pool_padding=[1, 0, 0, 2]),
):
    add("pool2d", call("pool2d", **options), f(1, 2, 5, 6))
add("pool2d", call("pool2d", pool_size=2, data_format="NHWC"), f(1, 4, 4, 2))
add("pool2d", call("pool2d", pool_size=2, pool_type="avg"), d(1, 2, 4, 4))
for size in ([2, 3], 1, [3, 2]):
    for kind in ("max", "avg"):
        add("adaptive_pool2d", call("adaptive_pool2d", pool_size=size, pool_type=kind), f(1, 2, 5, 6))
for options in (
    dict(paddings=[1, 0, 2, 1], pad_value=0.5),
    dict(paddings=[1, 0, 2, 1], mode="reflect"),
    dict(paddings=[1, 0, 2, 1], mode="edge"),
    dict(paddings=[1, 0, 2, 1], mode="edge", data_format="NHWC"),
):
    add("pad2d", call("pad2d", **options), f(1, 3, 4, 3))
add("lrn", call("lrn"), f(1, 6, 2, 2))
add("lrn", call("lrn", n=3, k=2.0, alpha=0.3, beta=0.5), f(1, 6, 2, 2))
add("maxout", call("maxout", groups=2), f(1, 4, 2, 2))
add("maxout", call("maxout", groups=2, axis=-1), f(1, 2, 2, 4))
add("pixel_shuffle", call("pixel_shuffle", upscale_factor=2), f(1, 8, 2, 3))
add("shuffle_channel", call("shuffle_channel", group=2), f(1, 6, 2, 2), grads=False)
add("shuffle_channel", call("shuffle_channel", group=2), f(1, 4, 2, 2))
add("space_to_depth", call("space_to_depth", blocksize=2), f(1, 4, 4, 2))
add("temporal_shift", call("temporal_shift", seg_num=2, shift_ratio=0.25), f(4, 4, 2, 2))
add("temporal_shift", call("temporal_shift", seg_num=3, shift_ratio=0.4), f(3, 6, 2, 1))
add("unfold", call("unfold", kernel_sizes=2), f(1, 2, 3, 4))
add("unfold", call("unfold", kernel_sizes=[2, 3], strides=2, paddings=[1, 0, 1, 2], dilations=1), f(1, 2, 4, 4))
add("affine_channel", lambda L, x, s, b: L.affine_channel(x, s, b), f(2, 3, 2, 2), f(3), f(3))
add("affine_channel", lambda L, x, s, b: L.affine_channel(x, s, b, data_layout="NHWC"), f(2, 2, 2, 3), f(3), f(3))
for name in ("resize_bilinear", "resize_nearest"):
    for options in (
        dict(out_shape=[5, 7]),
        dict(out_shape=[5, 7], align_corners=False),
        dict(out_shape=[2, 3]),
        dict(scale=2.0, align_corners=False),
    ):
        add(name, call(name, **options), f(1, 2, 3, 4))
add("resize_bilinear", call("resize_bilinear", out_shape=[5, 7], align_corners=False, align_mode=0), f(1, 2, 3, 4))
add("resize_bilinear", call("resize_bilinear", out_shape=[5, 7], data_format="NHWC"), f(1, 3, 4, 2))
add("image_resize", call("image_resize", out_shape=[5, 7], resample="NEAREST"), f(1, 2, 3, 4))
add("interpolate", call("interpolate", out_shape=[5, 7]), f(1, 2, 3, 4))
add("image_resize_short", call("image_resize_short", out_short_len=5), f(1, 2, 3, 4))
