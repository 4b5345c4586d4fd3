"""Convolutions against seven nested loops."""

import numpy as np
from cases import Case, ErrorCase, floats, tensor

from fluidc.compiler.ops.conv import Conv2d, Conv2dExampleFilterGrad, Conv2dFilterGrad, Conv2dInputGrad, Patches
from fluidc.compiler.ops.kinds import PUBLIC, ExampleKind, TotalKind

ROWS = ExampleKind(0)


def taps(x_shape, w_shape, strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1), groups=1):
    """Every product of the convolution: (index of y, index of x, index of w)."""
    n, _, height, width = x_shape
    o, per_group, kh, kw = w_shape
    oh = (height + pads[0] + pads[2] - dilations[0] * (kh - 1) - 1) // strides[0] + 1
    ow = (width + pads[1] + pads[3] - dilations[1] * (kw - 1) - 1) // strides[1] + 1
    for y in np.ndindex(n, o, oh, ow):
        for c, i, j in np.ndindex(per_group, kh, kw):
            row = y[2] * strides[0] - pads[0] + i * dilations[0]
            column = y[3] * strides[1] - pads[1] + j * dilations[1]
            if 0 <= row < height and 0 <= column < width:
                channel = y[1] // (o // groups) * per_group + c
                yield y, (y[0], channel, row, column), (y[1], c, i, j)


def conv(x, w, **geometry):
    found = list(taps(x.shape, w.shape, **geometry))
    out = np.zeros([*x.shape[:1], w.shape[0], *np.max([y[2:] for y, _, _ in found], axis=0) + 1])
    for y, a, c in found:
        out[y] += np.float64(x[a]) * np.float64(w[c])
    return out


def input_grad(w, ct, x_shape, **geometry):
    out = np.zeros(x_shape)
    for y, a, c in taps(x_shape, w.shape, **geometry):
        out[a] += np.float64(ct[y]) * np.float64(w[c])
    return out


def filter_grad(x, ct, w_shape, **geometry):
    out = np.zeros(w_shape)
    for y, a, c in taps(x.shape, w_shape, **geometry):
        out[c] += np.float64(ct[y]) * np.float64(x[a])
    return out


def example_filter_grad(x, ct, w_shape, **geometry):
    return np.stack([filter_grad(x[i : i + 1], ct[i : i + 1], w_shape, **geometry) for i in range(len(x))])


def patches(x, w_shape, groups=1, **geometry):
    """[N, groups, pixels, taps of one group]: only taps inside the image are visited, the rest is padding."""
    found = list(taps(x.shape, (groups, x.shape[1] // groups, *w_shape[2:]), groups=groups, **geometry))
    height, width = np.max([y[2:] for y, _, _ in found], axis=0) + 1
    out = np.zeros((x.shape[0], groups, height, width, x.shape[1] // groups, *w_shape[2:]))
    for y, a, c in found:
        out[y[0], y[1], y[2], y[3], c[1], c[2], c[3]] = x[a]
    return out.reshape(x.shape[0], groups, height * width, -1)


GEOMETRIES = {
    "": ((2, 3, 5, 4), (4, 3, 3, 2), {}),
    "-strides-pads": ((2, 2, 5, 6), (3, 2, 3, 3), {"strides": (2, 1), "pads": (1, 0, 2, 1)}),
    "-dilations": ((2, 1, 7, 6), (2, 1, 2, 3), {"dilations": (3, 2), "pads": (1, 1, 1, 1)}),
    "-pointwise": ((2, 3, 2, 3), (4, 3, 1, 1), {}),
    "-groups": ((2, 4, 4, 4), (6, 2, 2, 2), {"groups": 2, "strides": (2, 2)}),
    "-depthwise": ((2, 3, 4, 4), (3, 1, 3, 3), {"groups": 3, "pads": (1, 1, 1, 1)}),
    # The last rows and columns of the images are seen by no filter: their gradient is zero.
    "-remainder": ((2, 1, 6, 6), (1, 1, 2, 2), {"strides": (3, 4)}),
}

CASES = []
for tag, (x_shape, w_shape, geometry) in GEOMETRIES.items():
    x, w = floats(*x_shape), floats(*w_shape, seed=1)
    ct = floats(*conv(x, w, **geometry).shape, seed=2)

    def build_conv(x, w, g=geometry):
        return Conv2d(x, w, **g)

    def build_input_grad(w, ct, s=x_shape, g=geometry):
        return Conv2dInputGrad(w, ct, (ct.tensor.shape[0], *s[1:]), **g)

    def build_filter_grad(x, ct, s=w_shape, g=geometry):
        return Conv2dFilterGrad(x, ct, s, **g)

    def build_patches(x, s=w_shape, g=geometry):
        return Patches(x, (s[2], s[3]), **g)

    def build_example_filter_grad(x, ct, s=w_shape, g=geometry):
        return Conv2dExampleFilterGrad(x, ct, s, **g)

    CASES += [
        Case(f"conv.conv2d{tag}", build_conv, (x, w), lambda x, w, g=geometry: conv(x, w, **g), (0, 1),
             kinds=(ROWS, PUBLIC), kind=ROWS, rtol=1e-5, atol=1e-5),
        Case(f"conv.conv2d_input_grad{tag}", build_input_grad, (w, ct),
             lambda w, ct, s=x_shape, g=geometry: input_grad(w, ct, s, **g), (0, 1), kinds=(PUBLIC, ROWS), kind=ROWS,
             rtol=1e-5, atol=1e-5),
        Case(f"conv.conv2d_filter_grad{tag}", build_filter_grad, (x, ct),
             lambda x, ct, s=w_shape, g=geometry: filter_grad(x, ct, s, **g), (0, 1), kinds=(ROWS, ROWS), kind="mixed",
             rtol=1e-5, atol=1e-5),
        Case(f"conv.conv2d_example_filter_grad{tag}", build_example_filter_grad, (x, ct),
             lambda x, ct, s=w_shape, g=geometry: example_filter_grad(x, ct, s, **g), kinds=(ROWS, ROWS), kind=ROWS,
             rtol=1e-5, atol=1e-5),
        Case(f"conv.patches{tag}", build_patches, (x,), lambda x, s=w_shape, g=geometry: patches(x, s, **g),
             kinds=(ROWS,), kind=ROWS),
    ]  # fmt: skip

CASES.append(
    Case("conv.conv2d-folded", Conv2d, (floats(6, 2, 3, 3), floats(2, 2, 2, 2)), conv, (0, 1),
         kinds=(ExampleKind(0, 1, 3), PUBLIC), kind=ExampleKind(0, 1, 3), rtol=1e-5, atol=1e-5)
)  # fmt: skip
CASES.append(
    Case("conv.conv2d-filters-from-data", Conv2d, (floats(2, 2, 3, 3), floats(2, 2, 2, 2)), conv,
         kinds=(ROWS, TotalKind("sum")), kind="mixed", rtol=1e-5, atol=1e-5)
)  # fmt: skip

IMAGES, FILTERS = tensor("f32[N,4,8,8]"), tensor("f32[6,2,3,3]")
ERRORS = [
    ErrorCase("conv.conv2d-rank", Conv2d, (tensor("f32[N,64]"), FILTERS), "takes images [N, C, H, W]"),
    ErrorCase("conv.conv2d-groups", Conv2d, (IMAGES, FILTERS),
              "4 channels and 6 filters of 2 channels do not make 1 groups"),
    ErrorCase("conv.conv2d-large", lambda x, w: Conv2d(x, w, groups=2, dilations=(4, 1)), (IMAGES, FILTERS),
              "a filter that spans 9 does not fit into 8 with 0 of padding"),
    ErrorCase("conv.conv2d-stride", lambda x, w: Conv2d(x, w, groups=2, strides=(0, 1)), (IMAGES, FILTERS),
              "are at least 1"),
    ErrorCase("conv.conv2d-symbolic", Conv2d, (tensor("f32[3,2,N,8]"), FILTERS), "fixed numbers"),
    ErrorCase("conv.conv2d_input_grad-shape", lambda w, ct: Conv2dInputGrad(w, ct, (2, 2, 9, 8)),
              (FILTERS, tensor("f32[2,6,6,6]")), "the cotangent is f32[2,6,6,6]"),
    ErrorCase("conv.conv2d_filter_grad-shape", lambda x, ct: Conv2dFilterGrad(x, ct, (6, 4, 2, 2)),
              (tensor("f32[2,4,8,8]"), tensor("f32[2,6,6,6]")), "the cotangent is f32[2,6,6,6]"),
    ErrorCase("conv.patches-rank", lambda x: Patches(x, (2, 2)), (tensor("f32[N,64]"),), "takes images [N, C, H, W]"),
    ErrorCase("conv.patches-groups", lambda x: Patches(x, (2, 2), groups=3), (IMAGES,), "do not make 3 groups"),
]  # fmt: skip
