"""Boxes around objects. Those of a grid are constants of the program."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ...compiler.ir.core import Value
from ...compiler.ir.types import DType
from ..layers.detection import ratios_of
from .context import OpLowering, Rules
from .creation import array


def _size(o: OpLowering, slot: str) -> tuple[int, int]:
    height, width = o.x(slot).tensor.shape[2:]
    if not isinstance(height, int) or not isinstance(width, int):
        raise o.error(f"the size of {o.x(slot).type} is open", "declare images with a fixed height and width")
    return height, width


def _set_grid(o: OpLowering, boxes: list[list[float]], shape: tuple[int, ...], slot: str) -> None:
    dtype = o.x("Input").tensor.dtype.numpy
    found = np.array(boxes, np.float32).astype(dtype)
    if o.attr("clip", False):
        found = np.clip(found, 0, 1)
    variances = np.tile(np.array(o.attr("variances"), dtype), (len(found), 1))
    o.set(array(o, found.reshape(shape)), slot)
    o.set(array(o, variances.reshape(shape)), "Variances")


def _prior_sizes(o: OpLowering) -> Iterator[tuple[float, float]]:
    """Width and height of the boxes about one point, in Paddle's order."""
    ratios, most = ratios_of(o.attr("aspect_ratios"), o.attr("flip", False)), list(o.attr("max_sizes", []))
    for number, size in enumerate(o.attr("min_sizes")):
        between = [(math.sqrt(size * most[number]),) * 2] if most else []
        shaped = [(size * math.sqrt(ratio), size / math.sqrt(ratio)) for ratio in ratios]
        if o.attr("min_max_aspect_ratios_order", False):
            yield from [(size, size), *between]
            yield from (both for ratio, both in zip(ratios, shaped) if abs(ratio - 1.0) >= 1e-6)
        else:
            yield from [*shaped, *between]


def _steps(o: OpLowering) -> tuple[float, float]:
    (height, width), (rows, columns) = _size(o, "Image"), _size(o, "Input")
    given = o.attr("step_w", 0.0), o.attr("step_h", 0.0)
    return given if min(given) else (width / columns, height / rows)


def _prior_box(o: OpLowering) -> None:
    (height, width), (rows, columns) = _size(o, "Image"), _size(o, "Input")
    across, down = _steps(o)
    offset, sizes = o.attr("offset", 0.5), list(_prior_sizes(o))
    boxes = [
        [(x - w / 2) / width, (y - h / 2) / height, (x + w / 2) / width, (y + h / 2) / height]
        for y in ((row + offset) * down for row in range(rows))
        for x in ((column + offset) * across for column in range(columns))
        for w, h in sizes
    ]
    _set_grid(o, boxes, (rows, columns, len(sizes), 4), "Boxes")


def _density_prior_box(o: OpLowering) -> None:
    (height, width), (rows, columns) = _size(o, "Image"), _size(o, "Input")
    across, down = _steps(o)
    step, places = int((across + down) * 0.5), []
    for size, density in zip(o.attr("fixed_sizes"), o.attr("densities")):
        shift = step // density
        for ratio in o.attr("fixed_ratios"):
            w, h = size * math.sqrt(ratio), size / math.sqrt(ratio)
            first = shift / 2.0 - step / 2.0
            places += [(first + j * shift, first + i * shift, w, h) for i in range(density) for j in range(density)]
    boxes = [
        [
            max((x + dx - w / 2) / width, 0.0),
            max((y + dy - h / 2) / height, 0.0),
            min((x + dx + w / 2) / width, 1.0),
            min((y + dy + h / 2) / height, 1.0),
        ]
        for y in ((row + o.attr("offset", 0.5)) * down for row in range(rows))
        for x in ((column + o.attr("offset", 0.5)) * across for column in range(columns))
        for dx, dy, w, h in places
    ]
    shape = (len(boxes), 4) if o.attr("flatten_to_2d", False) else (rows, columns, len(places), 4)
    _set_grid(o, boxes, shape, "Boxes")


def _anchor_generator(o: OpLowering) -> None:
    rows, columns = _size(o, "Input")
    across, down = o.attr("stride")
    sizes = []
    for ratio in o.attr("aspect_ratios"):
        base = math.floor(math.sqrt(across * down / ratio) + 0.5)
        tall = math.floor(base * ratio + 0.5)
        sizes += [(size / across * base - 1, size / down * tall - 1) for size in o.attr("anchor_sizes")]
    offset = o.attr("offset", 0.5)
    boxes = [
        [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
        for y in (row * down + offset * (down - 1) for row in range(rows))
        for x in (column * across + offset * (across - 1) for column in range(columns))
        for w, h in sizes
    ]
    _set_grid(o, boxes, (rows, columns, len(sizes), 4), "Anchors")


def _sides(o: OpLowering, boxes: Value) -> tuple[Value, Value, Value, Value]:
    left, top, right, bottom = o.b.split(boxes, -1, [1, 1, 1, 1])
    return left, top, right, bottom


def _iou(o: OpLowering) -> None:
    x, y = o.x(), o.x("Y")
    more = 0.0 if o.attr("box_normalized", True) else 1.0
    rows = o.b.reshape(x, (x.tensor.shape[0], 1, 4))
    left, top, right, bottom = _sides(o, rows)
    others = _sides(o, o.b.reshape(y, (1, y.tensor.shape[0], 4)))
    zero = o.b.fill((), x.tensor.dtype, 0.0)

    def area(a: Value, b: Value, c: Value, d: Value) -> Value:
        return o.b.mul(o.b.scale(o.b.sub(c, a), 1.0, more), o.b.scale(o.b.sub(d, b), 1.0, more))

    width = o.b.sub(o.b.minimum(right, others[2]), o.b.maximum(left, others[0]))
    height = o.b.sub(o.b.minimum(bottom, others[3]), o.b.maximum(top, others[1]))
    wide, high = (o.b.maximum(o.b.scale(side, 1.0, more), zero) for side in (width, height))
    common = o.b.mul(wide, high)
    union = o.b.sub(o.b.add(area(left, top, right, bottom), area(*others)), common)
    some = o.b.less(zero, union)
    share = o.b.where(some, o.b.div(common, o.b.where(some, union, o.b.ones_like(union))), zero)
    o.set(o.b.reshape(share, (x.tensor.shape[0], y.tensor.shape[0])))


def _box_coder(o: OpLowering) -> None:
    prior, target = o.x("PriorBox"), o.x("TargetBox")
    dtype, count = prior.tensor.dtype, prior.tensor.shape[0]
    more = 0.0 if o.attr("box_normalized", True) else 1.0
    encodes = o.attr("code_type") == "encode_center_size"
    around = (1, count, 4) if encodes or o.attr("axis", 0) == 0 else (count, 1, 4)

    def centre(boxes: Value) -> tuple[Value, Value, Value, Value]:
        left, top, right, bottom = _sides(o, boxes)
        width, height = (o.b.scale(o.b.sub(*ends), 1.0, more) for ends in ((right, left), (bottom, top)))
        return width, height, o.b.add(left, o.b.scale(width, 0.5)), o.b.add(top, o.b.scale(height, 0.5))

    width, height, x, y = centre(o.b.reshape(prior, around))
    variance: Value | None = None
    if o.has("PriorBoxVar"):
        variance = o.b.reshape(o.x("PriorBoxVar"), around)
    elif o.attr("variance", []):
        variance = o.b.cast(array(o, np.array(o.attr("variance"), np.float32)), dtype)
    if encodes:
        left, top, right, bottom = _sides(o, o.b.reshape(target, (target.tensor.shape[0], 1, 4)))
        own = [o.b.scale(o.b.sub(*ends), 1.0, more) for ends in ((right, left), (bottom, top))]
        middle = [o.b.scale(o.b.add(*ends), 0.5) for ends in ((left, right), (top, bottom))]
        parts = [
            o.b.div(o.b.sub(middle[0], x), width),
            o.b.div(o.b.sub(middle[1], y), height),
            o.b.log(o.b.abs(o.b.div(own[0], width))),
            o.b.log(o.b.abs(o.b.div(own[1], height))),
        ]
        found = o.b.concat(parts, -1)
        o.set(found if variance is None else o.b.div(found, variance), "OutputBox")
        return
    dx, dy, dw, dh = _sides(o, target if variance is None else o.b.mul(target, variance))
    own = [o.b.scale(o.b.mul(o.b.exp(d), side), 0.5) for d, side in ((dw, width), (dh, height))]
    middle = [o.b.add(o.b.mul(d, side), at) for d, side, at in ((dx, width, x), (dy, height, y))]
    ends = [o.b.sub(m, s) for m, s in zip(middle, own)]
    ends += [o.b.scale(o.b.add(m, s), 1.0, -more) for m, s in zip(middle, own)]
    o.set(o.b.concat(ends, -1), "OutputBox")


def _polygon(o: OpLowering) -> None:
    x = o.x("Input")
    _, channels, height, width = x.tensor.shape
    if not isinstance(channels, int) or not isinstance(height, int) or not isinstance(width, int):
        raise o.error(f"the size of {x.type} is open", "declare it with fixed channels, height and width")
    column, row = np.arange(width)[None, :] * 4.0, np.arange(height)[:, None] * 4.0
    places = np.stack([np.broadcast_to(column if c % 2 == 0 else row, (height, width)) for c in range(channels)])
    o.set(o.b.sub(array(o, places.astype(x.tensor.dtype.numpy)), x), "Output")


def _focal(o: OpLowering) -> None:
    x, label, gamma, alpha = o.x(), o.x("Label"), o.attr("gamma", 2.0), o.attr("alpha", 0.25)
    dtype, classes = x.tensor.dtype, x.tensor.shape[1]
    zero, one, exponent = (o.b.fill((), dtype, value) for value in (0.0, 1.0, gamma))
    columns = o.b.add(o.b.iota((1, classes), 1, DType.I32), o.b.fill((), DType.I32, 1))
    positive = o.b.equal(label, columns)
    left_out = o.b.equal(label, o.b.fill((), DType.I32, -1))
    negative = o.b.logical_not(o.b.logical_or(positive, left_out))
    total = o.b.maximum(o.b.cast(o.number(o.x("FgNum")), dtype), one)
    p = o.b.sigmoid(x)
    hit = o.b.mul(o.b.pow(o.b.sub(one, p), exponent), o.b.softplus(o.b.neg(x)))
    miss = o.b.mul(o.b.pow(p, exponent), o.b.softplus(x))
    cost = o.b.add(
        o.b.where(positive, o.b.scale(hit, alpha), zero), o.b.where(negative, o.b.scale(miss, 1.0 - alpha), zero)
    )
    o.set(o.b.div(cost, total))


def _yolo_box(o: OpLowering) -> None:
    x, classes, factor = o.x(), o.attr("class_num"), o.attr("scale_x_y", 1.0)
    n, (rows, columns) = x.tensor.shape[0], _size(o, "X")
    dtype, anchors = x.tensor.dtype, np.array(o.attr("anchors"), np.float32).reshape(-1, 2)
    count = len(anchors)
    cells = o.b.transpose(o.b.reshape(x, (n, count, 5 + classes, rows, columns)), (0, 1, 3, 4, 2))
    dx, dy, dw, dh, sure, scores = o.b.split(cells, 4, [1, 1, 1, 1, 1, classes])
    size = o.b.cast(o.x("ImgSize"), dtype)
    high, wide = (o.b.reshape(side, (n, 1, 1, 1, 1)) for side in o.b.split(size, 1, [1, 1]))
    bias, total = -0.5 * (factor - 1.0), o.attr("downsample_ratio") * rows
    zero, one = o.b.fill((), dtype, 0.0), o.b.fill((), dtype, 1.0)

    def grid(values: np.ndarray, shape: tuple[int, ...]) -> Value:
        return array(o, values.astype(dtype.numpy).reshape(shape))

    def middle(d: Value, at: Value, whole: Value) -> Value:
        # Paddle divides columns by the number of rows, too: its grids are square.
        return o.b.scale(o.b.mul(o.b.add(o.b.scale(o.b.sigmoid(d), factor, bias), at), whole), 1.0 / rows)

    def half(d: Value, anchor: np.ndarray, whole: Value) -> Value:
        return o.b.mul(o.b.mul(o.b.exp(d), grid(anchor * np.float32(0.5 / total), (1, count, 1, 1, 1))), whole)

    across = middle(dx, grid(np.arange(columns), (1, 1, 1, columns, 1)), wide)
    down = middle(dy, grid(np.arange(rows), (1, 1, rows, 1, 1)), high)
    width, height = half(dw, anchors[:, 0], wide), half(dh, anchors[:, 1], high)
    ends = [o.b.sub(across, width), o.b.sub(down, height), o.b.add(across, width), o.b.add(down, height)]
    if o.attr("clip_bbox", True):
        ends = [o.b.maximum(end, zero) for end in ends[:2]] + [
            o.b.minimum(end, o.b.sub(whole, one)) for end, whole in zip(ends[2:], (wide, high))
        ]
    confidence = o.b.sigmoid(sure)
    kept = o.b.logical_not(o.b.less(confidence, o.b.fill((), dtype, o.attr("conf_thresh"))))
    boxes = o.b.where(kept, o.b.concat(ends, 4), zero)
    scored = o.b.where(kept, o.b.mul(confidence, o.b.sigmoid(scores)), zero)
    number = count * rows * columns
    o.set(o.b.reshape(boxes, (n, number, 4)), "Boxes")
    o.set(o.b.reshape(scored, (n, number, classes)), "Scores")


RULES: Rules = {
    "prior_box": _prior_box,
    "density_prior_box": _density_prior_box,
    "anchor_generator": _anchor_generator,
    "iou_similarity": _iou,
    "box_coder": _box_coder,
    "polygon_box_transform": _polygon,
    "sigmoid_focal_loss": _focal,
    "yolo_box": _yolo_box,
}
