"""Boxes around objects."""

from .table import Table, at, d, f, i32

TABLE = Table()
add = TABLE.add


def call(name, **options):
    return lambda L, *xs: getattr(L, name)(*xs, **options)


MAP, IMAGE = f(1, 2, 2, 3, fixed=True), f(1, 3, 20, 30, fixed=True)
for options in (
    dict(min_sizes=[4.0]),
    dict(min_sizes=[4.0, 6.0], max_sizes=[8.0, 9.0], aspect_ratios=[2.0, 1.0], flip=True),
    dict(min_sizes=[4.0], max_sizes=[8.0], aspect_ratios=[2.0], clip=True, min_max_aspect_ratios_order=True),
    dict(min_sizes=[4.0], steps=[5.0, 7.0], offset=0.25, variance=[0.1, 0.2, 0.3, 0.4]),
):
    add("prior_box", call("prior_box", **options), MAP, IMAGE)
for options in (
    dict(densities=[2, 1], fixed_sizes=[4.0, 8.0], fixed_ratios=[1.0, 2.0]),
    dict(densities=[3], fixed_sizes=[4.0], fixed_ratios=[1.0], clip=True, flatten_to_2d=True, steps=[6.0, 8.0]),
):
    add("density_prior_box", call("density_prior_box", **options), MAP, IMAGE)
for options in (
    dict(anchor_sizes=[8.0, 16.0], aspect_ratios=[0.5, 1.0, 2.0], stride=[16.0, 16.0]),
    dict(anchor_sizes=[10.0], aspect_ratios=[1.5], stride=[8.0, 4.0], offset=0.0),
):
    add("anchor_generator", call("anchor_generator", **options), MAP)
PRIORS = [[0.1, 0.1, 0.5, 0.6], [0.2, 0.3, 0.9, 0.8], [0.0, 0.0, 1.0, 1.0]]
TARGETS = [[0.15, 0.1, 0.6, 0.7], [0.5, 0.5, 0.8, 0.9]]
add("iou_similarity", call("iou_similarity"), at(PRIORS), at(TARGETS), grads=False)
add("iou_similarity", call("iou_similarity", box_normalized=False), at(PRIORS), at(TARGETS), grads=False)
add("iou_similarity", call("iou_similarity"), at([[0.0, 0.0, 0.1, 0.1]]), at(TARGETS), grads=False)
for options in (dict(), dict(box_normalized=False)):
    add(
        "box_coder",
        lambda L, p, t, options=options: L.box_coder(p, [0.1, 0.1, 0.2, 0.2], t, **options),
        at(PRIORS),
        at(TARGETS),
        grads=False,
    )
    add(
        "box_coder",
        lambda L, p, v, t, options=options: L.box_coder(p, v, t, **options),
        at(PRIORS),
        f(3, 4, low=0.1, high=0.3),
        at(TARGETS),
        grads=False,
    )
    for axis, rows in ((0, (2, 3)), (1, (3, 2))):
        add(
            "box_coder",
            lambda L, p, v, t, options=options, axis=axis: L.box_coder(
                p, v, t, code_type="decode_center_size", axis=axis, **options
            ),
            at(PRIORS),
            f(3, 4, low=0.1, high=0.3),
            f(*rows, 4),
            grads=False,
        )
add("polygon_box_transform", call("polygon_box_transform"), f(2, 4, 2, 3), grads=False)
for options in (dict(), dict(gamma=1.5, alpha=0.4)):
    add("sigmoid_focal_loss", call("sigmoid_focal_loss", **options), f(4, 3), i32([[0], [1], [3], [-1]]), i32([2]))
add("sigmoid_focal_loss", call("sigmoid_focal_loss"), d(2, 2, low=-5.0, high=5.0), i32([[2], [0]]), i32([0]))
for options in (dict(), dict(clip_bbox=False), dict(scale_x_y=1.2)):
    add(
        "yolo_box",
        call("yolo_box", anchors=[10, 13, 16, 30], class_num=2, conf_thresh=0.45, downsample_ratio=16, **options),
        f(2, 14, 2, 3),
        i32([[40, 60], [32, 32]]),
        grads=False,
    )
