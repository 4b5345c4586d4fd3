"""Normalisation against loops over rows in float64."""

import numpy as np
from cases import Case, ErrorCase, floats, tensor

from fluidc.compiler.ops.kinds import PUBLIC, ExampleKind, TotalKind
from fluidc.compiler.ops.norm import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, Standardize

ROWS = ExampleKind(0)
EPS = 1e-5


def standardized(x, axes, eps=EPS):
    """Row by row: every index of the other axes is one row."""
    x = x.astype(np.float64)
    others = [i for i in range(x.ndim) if i not in axes]
    y = np.empty(x.shape)
    mean = np.empty([1 if i in axes else d for i, d in enumerate(x.shape)])
    var = np.empty(mean.shape)
    for place in np.ndindex(*(x.shape[i] for i in others)):
        row = [slice(None)] * x.ndim
        for i, p in zip(others, place, strict=True):
            row[i] = slice(p, p + 1)
        part = x[tuple(row)]
        m = sum(part.ravel()) / part.size
        v = sum((part.ravel() - m) ** 2) / part.size
        y[tuple(row)], mean[tuple(row)], var[tuple(row)] = (part - m) / np.sqrt(v + eps), m, v
    return y, mean, var


def layer(x, scale, bias, begin):
    y, mean, var = standardized(x, tuple(range(begin, x.ndim)))
    shape = x.shape[begin:]
    return y * scale.reshape(shape) + bias.reshape(shape), mean.ravel(), var.ravel()


def group(x, scale, bias, groups):
    n, c = x.shape[:2]
    y, mean, var = standardized(x.reshape(n, groups, -1), (2,))
    column = (c,) + (1,) * (x.ndim - 2)
    return y.reshape(x.shape) * scale.reshape(column) + bias.reshape(column), mean[..., 0], var[..., 0]


def instance(x, scale, bias):
    return group(x, scale, bias, x.shape[1])[0]


def batch(x, scale, bias, mean, var, axis=1):
    others = tuple(i for i in range(x.ndim) if i != axis)
    y, m, v = standardized(x, others)
    column = [-1 if i == axis else 1 for i in range(x.ndim)]
    y = y * scale.reshape(column) + bias.reshape(column)
    m, v = m.ravel(), v.ravel()
    return y, 0.9 * mean + 0.1 * m, 0.9 * var + 0.1 * v, m, v


def stored(x, scale, bias, mean, var):
    y = np.empty(x.shape)
    for c in range(x.shape[1]):
        y[:, c] = (x[:, c] - np.float64(mean[c])) / np.sqrt(np.float64(var[c]) + EPS) * scale[c] + bias[c]
    return y, mean, var, mean, var


CHANNELS = (floats(4, seed=1), floats(4, seed=2))
RUNNING = (floats(4, seed=3), floats(4, seed=4, low=0.5))
IMAGES = floats(3, 4, 2, 3)
CONSTANT = np.full((2, 3), 7.0, np.float32)
FAR = (floats(2, 50) + np.float32(1e4)).astype(np.float32)
HUGE = (floats(2, 5) * np.float32(1e25)).astype(np.float32)

CASES = [
    Case("norm.standardize", lambda x: Standardize(x, (1,)), (floats(3, 5),), lambda x: standardized(x, (1,)), (0,),
         kinds=(ROWS,), kind=ROWS, rtol=1e-5, atol=1e-6),
    Case("norm.standardize-axes", lambda x: Standardize(x, (0, 2), 0.1), (floats(2, 3, 4),),
         lambda x: standardized(x, (0, 2), 0.1), (0,), kinds=(ExampleKind(1),), kind=ExampleKind(1), rtol=1e-5,
         atol=1e-6),
    Case("norm.standardize-batch", lambda x: Standardize(x, (0,)), (floats(4, 3),), lambda x: standardized(x, (0,)),
         (0,), kinds=(ROWS,), kind="mixed", rtol=1e-5, atol=1e-6),
    Case("norm.standardize-constant", lambda x: Standardize(x, (1,)), (CONSTANT,), lambda x: standardized(x, (1,)),
         kinds=(PUBLIC,), kind=PUBLIC),
    # Two passes: the variance of numbers near 10,000 is not lost in their squares.
    Case("norm.standardize-far", lambda x: Standardize(x, (1,)), (FAR,), lambda x: standardized(x, (1,)),
         kinds=(TotalKind("sum"),), kind="mixed", rtol=2e-3, atol=2e-3),
    Case("norm.standardize-overflow", lambda x: Standardize(x, (1,)), (HUGE,),
         lambda x: (np.zeros_like(x), x.mean(1, keepdims=True), np.full((2, 1), np.inf, np.float32)),
         kinds=(ROWS,), kind=ROWS),
    Case("norm.layer", LayerNorm, (floats(3, 5), floats(5, seed=1), floats(5, seed=2)),
         lambda x, s, b: layer(x, s, b, 1), (0, 1, 2), rtol=1e-5, atol=1e-6),
    Case("norm.layer-begin2", lambda x, s, b: LayerNorm(x, s, b, 2),
         (floats(2, 3, 2, 2), floats(4, seed=1), floats(4, seed=2)),
         lambda x, s, b: layer(x, s, b, 2), (0, 1, 2), rtol=1e-5, atol=1e-6),
    Case("norm.layer-plain", lambda x: LayerNorm(x, None, None), (floats(3, 5),),
         lambda x: layer(x, np.ones(5), np.zeros(5), 1), (0,), rtol=1e-5, atol=1e-6),
    Case("norm.group", lambda x, s, b: GroupNorm(x, s, b, 2), (IMAGES, *CHANNELS),
         lambda x, s, b: group(x, s, b, 2), (0, 1, 2), rtol=1e-5, atol=1e-6),
    Case("norm.instance", InstanceNorm, (IMAGES, *CHANNELS), instance, (0, 1, 2), rtol=1e-5, atol=1e-6),
    Case("norm.batch", BatchNorm, (IMAGES, *CHANNELS, *RUNNING), batch, (0, 1, 2, 3, 4), rtol=1e-5, atol=1e-6),
    Case("norm.batch-rows", BatchNorm, (floats(5, 4), *CHANNELS, *RUNNING), batch, (0,), rtol=1e-5, atol=1e-6),
    Case("norm.batch-last", lambda *a: BatchNorm(*a, axis=-1), (floats(2, 3, 2, 4), *CHANNELS, *RUNNING),
         lambda *a: batch(*a, axis=3), (0, 1, 2), rtol=1e-5, atol=1e-6),
    Case("norm.batch-stored", lambda *a: BatchNorm(*a, stored=True), (IMAGES, *CHANNELS, *RUNNING), stored, (0, 1, 2),
         rtol=1e-5, atol=1e-6),
]  # fmt: skip

ERRORS = [
    ErrorCase("norm.standardize-axes", lambda x: Standardize(x, (-1,)), (tensor("f32[N,3]"),),
              "axes (-1,) are not axes"),
    ErrorCase("norm.layer-begin", lambda x: LayerNorm(x, None, None, 2), (tensor("f32[N,3]"),),
              "begin_norm_axis 2 leaves no rows"),
    ErrorCase("norm.layer-scale", lambda x, s: LayerNorm(x, s, None), (tensor("f32[N,3]"), tensor("f32[4]")),
              "one number per element of a row, [3], not f32[4]"),
    ErrorCase("norm.group-groups", lambda x: GroupNorm(x, None, None, 3), (tensor("f32[N,4,2,2]"),),
              "3 groups do not divide the channels"),
    ErrorCase("norm.instance-rank", lambda x: InstanceNorm(x, None, None), (tensor("f32[N,4]"),),
              "at least one more axis"),
    ErrorCase("norm.batch-statistics", lambda x, m, v: BatchNorm(x, None, None, m, v),
              (tensor("f32[N,4]"), tensor("f32[4]"), tensor("f32[3]")),
              "running statistics of f32[N,4] have type f32[4]"),
]  # fmt: skip
