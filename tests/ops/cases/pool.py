"""Pooling against loops over windows and their elements."""

import numpy as np
from cases import Case, ErrorCase, distinct, floats, tensor

from fluidc.compiler.ops.kinds import PUBLIC, ExampleKind
from fluidc.compiler.ops.pool import AvgPool2d, AvgPool2dGrad, MaxPool2d, MaxPool2dGrad, MaxPool2dPick

ROWS = ExampleKind(0)


def out_size(size, kernel, stride, pad, ceil_mode):
    room = (size + pad - kernel) / stride
    return int(np.ceil(room) if ceil_mode else np.floor(room)) + 1


def windows(shape, kernel, strides=(1, 1), pads=(0, 0, 0, 0), ceil_mode=False):
    """(index of the result, [index of every element of its window])."""
    n, c, height, width = shape
    oh = out_size(height, kernel[0], strides[0], pads[0] + pads[2], ceil_mode)
    ow = out_size(width, kernel[1], strides[1], pads[1] + pads[3], ceil_mode)
    for y in np.ndindex(n, c, oh, ow):
        rows = [y[2] * strides[0] - pads[0] + i for i in range(kernel[0])]
        columns = [y[3] * strides[1] - pads[1] + j for j in range(kernel[1])]
        yield y, [(*y[:2], r, q) for r in rows for q in columns if 0 <= r < height and 0 <= q < width]


def size(found):
    return np.max([y for y, _ in found], axis=0) + 1


def max_pool(x, **geometry):
    found = list(windows(x.shape, **geometry))
    out = np.zeros(size(found))
    for y, seen in found:
        out[y] = max(x[s] for s in seen)
    return out


def max_grad(x, ct, **geometry):
    out = np.zeros(x.shape)
    for y, seen in windows(x.shape, **geometry):
        out[max(seen, key=lambda s: x[s])] += ct[y]  # max() keeps the first of equal ones
    return out


def max_pick(x, values, **geometry):
    found = list(windows(x.shape, **geometry))
    out = np.zeros(size(found))
    for y, seen in found:
        out[y] = values[max(seen, key=lambda s: x[s])]
    return out


def avg_pool(x, exclusive=True, **geometry):
    found = list(windows(x.shape, **geometry))
    out = np.zeros(size(found))
    for y, seen in found:
        out[y] = sum(float(x[s]) for s in seen) / (len(seen) if exclusive else np.prod(geometry["kernel"]))
    return out


def avg_grad(ct, x_shape, exclusive=True, **geometry):
    out = np.zeros(x_shape)
    for y, seen in windows(x_shape, **geometry):
        for s in seen:
            out[s] += ct[y] / (len(seen) if exclusive else np.prod(geometry["kernel"]))
    return out


GEOMETRIES = {
    "": ((2, 2, 4, 6), {"kernel": (2, 3), "strides": (2, 3)}),
    "-overlap-pads": ((2, 1, 5, 4), {"kernel": (3, 3), "strides": (2, 1), "pads": (1, 0, 2, 1)}),
    "-ceil": ((1, 2, 5, 6), {"kernel": (2, 3), "strides": (2, 2), "ceil_mode": True}),
    "-global": ((2, 3, 3, 4), {"kernel": (3, 4)}),
    "-remainder": ((2, 1, 5, 5), {"kernel": (2, 2), "strides": (3, 4)}),
    # Rows of several vectors, halves of one, and single elements.
    "-wide": ((2, 1, 3, 39), {"kernel": (2, 2)}),
    "-wide-pads": ((1, 2, 4, 47), {"kernel": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)}),
    "-wide-steps": ((1, 2, 4, 40), {"kernel": (2, 2), "strides": (2, 2)}),
    "-many-taps": ((1, 2, 7, 8), {"kernel": (6, 5), "strides": (1, 2), "pads": (0, 1, 1, 0)}),
}

CASES = []
for tag, (shape, geometry) in GEOMETRIES.items():
    x = distinct(*shape)
    ct = floats(*max_pool(x, **geometry).shape, seed=1)

    def max_(x, g=geometry):
        return MaxPool2d(x, **g)

    def max_grad_(x, ct, g=geometry):
        return MaxPool2dGrad(x, ct, **g)

    def max_pick_(x, v, g=geometry):
        return MaxPool2dPick(x, v, **g)

    CASES += [
        Case(f"pool.max2d{tag}", max_, (x,), lambda x, g=geometry: max_pool(x, **g), (0,), kinds=(ROWS,), kind=ROWS),
        Case(f"pool.max2d_grad{tag}", max_grad_, (x, ct), lambda x, ct, g=geometry: max_grad(x, ct, **g), (0, 1),
             kinds=(ROWS, ROWS), kind=ROWS),
        Case(f"pool.max2d_pick{tag}", max_pick_, (x, floats(*shape, seed=2)),
             lambda x, v, g=geometry: max_pick(x, v, **g), (0, 1), kinds=(ROWS, ROWS), kind=ROWS),
    ]  # fmt: skip
    for exclusive in (True, False):

        def avg_(x, g=geometry, e=exclusive):
            return AvgPool2d(x, exclusive=e, **g)

        def avg_grad_(ct, s=shape, g=geometry, e=exclusive):
            return AvgPool2dGrad(ct, (ct.tensor.shape[0], *s[1:]), exclusive=e, **g)

        what = tag if exclusive else f"{tag}-inclusive"
        CASES += [
            Case(f"pool.avg2d{what}", avg_, (x,), lambda x, g=geometry, e=exclusive: avg_pool(x, e, **g), (0,),
                 kinds=(ROWS,), kind=ROWS, rtol=1e-5, atol=1e-6),
            Case(f"pool.avg2d_grad{what}", avg_grad_, (ct,),
                 lambda ct, s=shape, g=geometry, e=exclusive: avg_grad(ct, s, e, **g), (0,), kinds=(ROWS,), kind=ROWS,
                 rtol=1e-5, atol=1e-6),
        ]  # fmt: skip

TIES = np.array([[[[1, 2, 2, 0], [2, 2, 0, 0], [0, 0, 0, 0], [-1, -1, -1, -1]]]], np.float32)
EDGE = {"kernel": (2, 2), "strides": (2, 2), "pads": (1, 1, 1, 1)}
CASES += [
    Case("pool.max2d_grad-ties", lambda x, ct: MaxPool2dGrad(x, ct, kernel=(2, 2), strides=(2, 2)),
         (TIES, floats(1, 1, 2, 2)), lambda x, ct: max_grad(x, ct, kernel=(2, 2), strides=(2, 2)), (1,)),
    # What is not a number, or less than every number, has its gradient inside the image.
    Case("pool.max2d_grad-infinite", lambda x, ct: MaxPool2dGrad(x, ct, **EDGE),
         (np.full((1, 1, 4, 4), -np.inf, np.float32), floats(1, 1, 3, 3)), lambda x, ct: max_grad(x, ct, **EDGE)),
    Case("pool.max2d_grad-nan", lambda x, ct: MaxPool2dGrad(x, ct, kernel=(2, 2), strides=(2, 2)),
         (np.array([[[[1, np.nan, 3, np.inf], [np.nan, 2, np.nan, 4]]]], np.float32), floats(1, 1, 1, 2)),
         lambda x, ct: np.array([[[[0, ct[0, 0, 0, 0], 0, 0], [0, 0, ct[0, 0, 0, 1], 0]]]])),
    # Padding never wins, however small the images' numbers are.
    Case("pool.max2d-negative", lambda x: MaxPool2d(x, **EDGE), (floats(1, 1, 4, 4) - 100,), lambda x: max_pool(x,
         **EDGE)),
    Case("pool.max2d-across", lambda x: MaxPool2d(x, kernel=(2, 2)), (floats(2, 3, 4, 4),),
         lambda x: max_pool(x, kernel=(2, 2)), kinds=(ExampleKind(1),), kind=ExampleKind(1)),
    # The window fits thanks to the padding on one side.
    *(
        Case(f"pool.max2d-{side}", lambda x, p=pads: MaxPool2d(x, kernel=(1, 3), pads=p), (floats(1, 1, 2, 2),),
             lambda x, p=pads: max_pool(x, kernel=(1, 3), pads=p))
        for side, pads in (("left", (0, 1, 0, 0)), ("right", (0, 0, 0, 1)))
    ),
    Case("pool.avg2d-public", lambda x: AvgPool2d(x, kernel=(2, 2)), (floats(2, 3, 4, 4),),
         lambda x: avg_pool(x, kernel=(2, 2)), kinds=(PUBLIC,), kind=PUBLIC, rtol=1e-5),
]  # fmt: skip

IMAGES = tensor("f32[N,4,8,8]")
ERRORS = [
    ErrorCase("pool.max2d-rank", lambda x: MaxPool2d(x, kernel=(2, 2)), (tensor("f32[N,4]"),),
              "takes images [N, C, H, W]"),
    ErrorCase("pool.max2d-large", lambda x: MaxPool2d(x, kernel=(9, 2)), (IMAGES,),
              "a window of 9 does not fit into 8"),
    ErrorCase("pool.max2d-padding", lambda x: MaxPool2d(x, kernel=(2, 2), pads=(2, 0, 0, 0)), (IMAGES,),
              "lies in the padding 2 + 0 altogether"),
    ErrorCase("pool.avg2d-ceil", lambda x: AvgPool2d(x, kernel=(2, 2), strides=(4, 4), pads=(1, 1, 1, 1),
              ceil_mode=True),
              (tensor("f32[N,4,7,7]"),), "altogether"),
    ErrorCase("pool.max2d-symbolic", lambda x: MaxPool2d(x, kernel=(2, 2)), (tensor("f32[3,4,N,8]"),), "fixed numbers"),
    ErrorCase("pool.max2d_grad-types", lambda x, ct: MaxPool2dGrad(x, ct, kernel=(2, 2)), (IMAGES, IMAGES),
              "f32[N,4,8,8] pools to f32[N,4,7,7], the cotangent is f32[N,4,8,8]"),
    ErrorCase("pool.max2d_pick-types", lambda x, v: MaxPool2dPick(x, v, kernel=(2, 2)), (IMAGES,
              tensor("f32[N,4,7,7]")),
              "values have the type of the images"),
    ErrorCase("pool.avg2d_grad-types", lambda ct: AvgPool2dGrad(ct, (2, 4, 8, 8), kernel=(2, 2)),
              (tensor("f32[2,4,8,8]"),),
              "the cotangent is f32[2,4,8,8]"),
]  # fmt: skip
