"""Layers over volumes."""

from .table import Table, d, f

TABLE = Table()
add = TABLE.add


def call(name, **options):
    return lambda L, *xs: getattr(L, name)(*xs, **options)


for options in (
    dict(filter_size=2),
    dict(filter_size=[2, 3, 1], stride=[2, 1, 1], padding=[1, 0, 1], act="relu"),
    dict(filter_size=2, dilation=[2, 1, 2], bias_attr=False),
    dict(filter_size=3, groups=2, padding=1),
    dict(filter_size=2, padding=[1, 0, 0, 1, 1, 1]),
    dict(filter_size=2, padding="SAME", stride=2),
    dict(filter_size=2, padding="VALID"),
):
    add("conv3d", call("conv3d", num_filters=4, **options), f(1, 2, 3, 4, 3))
add("conv3d", call("conv3d", num_filters=2, filter_size=2, data_format="NDHWC"), f(2, 3, 2, 3, 2))
for options in (
    dict(filter_size=2),
    dict(filter_size=[2, 3, 1], stride=[2, 1, 2], padding=[1, 0, 0], act="relu"),
    dict(filter_size=2, dilation=[2, 1, 1], bias_attr=False),
    dict(filter_size=2, groups=2),
    dict(output_size=[5, 4, 5], stride=2),
):
    add("conv3d_transpose", call("conv3d_transpose", num_filters=2, **options), f(1, 2, 2, 2, 2))
for options in (
    dict(pool_size=2),
    dict(pool_size=2, pool_type="avg"),
    dict(pool_size=[3, 2, 2], pool_stride=[2, 1, 2], pool_padding=1),
    dict(pool_size=3, pool_type="avg", pool_stride=2, pool_padding=1),
    dict(pool_size=3, pool_type="avg", pool_stride=2, pool_padding=1, exclusive=False),
    dict(pool_size=2, pool_stride=2, ceil_mode=True),
    dict(global_pooling=True),
    dict(pool_type="avg", global_pooling=True),
):
    add("pool3d", call("pool3d", **options), f(1, 2, 3, 4, 3))
add("pool3d", call("pool3d", pool_size=2, data_format="NDHWC"), f(1, 3, 2, 3, 2))
add("pool3d", call("pool3d", pool_size=2, pool_type="avg"), d(1, 1, 2, 3, 2))
for kind in ("max", "avg"):
    add("adaptive_pool3d", call("adaptive_pool3d", pool_size=[2, 3, 2], pool_type=kind), f(1, 2, 3, 4, 3))
    add("adaptive_pool3d", call("adaptive_pool3d", pool_size=1, pool_type=kind), f(1, 2, 3, 4, 3))
for options in (
    dict(out_shape=[4, 3, 5]),
    dict(out_shape=[4, 3, 5], align_corners=False),
    dict(out_shape=[2, 3, 5], align_corners=False, align_mode=0),
    dict(scale=2.0),
):
    add("resize_trilinear", call("resize_trilinear", **options), f(1, 2, 2, 3, 3))
