"""Ops at sizes at which their CUDA kernels share the work out: teams, warps, parts of sums, tiles, chunks of tables.

The op cases are small, and a thread or a warp does most of them.  What is expected is ``evaluate``'s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from cases import Case, distinct, floats, ints

from fluidc.compiler.ir.core import OpBase
from fluidc.compiler.ops import elementwise, embedding, indexing, pool, reduce, shape
from fluidc.compiler.ops.loss import LogSoftmax, Softmax, SoftmaxCrossEntropy
from fluidc.compiler.ops.norm import LayerNorm, Standardize


def _case(name: str, build: Callable[..., OpBase], *inputs: Any, wrt: tuple[int, ...] = (), **options: Any) -> Case:
    return Case(f"large.{name}", build, inputs, lambda *_: (), wrt, **options)


def _sum(*axes: int) -> Callable[..., OpBase]:
    return lambda x: reduce.Sum(x, axes)


def _max(*axes: int) -> Callable[..., OpBase]:
    return lambda x: reduce.Max(x, axes)


WIDE: Any = {"rtol": 1e-4, "atol": 1e-4}

LARGE: tuple[Case, ...] = (
    _case("sum-12-per-result", _sum(1), floats(37, 12)),
    _case("sum-by-warps", _sum(1), floats(37, 300), **WIDE),
    _case("sum-by-blocks", _sum(1), floats(5, 1500), **WIDE),
    _case("sum-in-parts", _sum(1), floats(3, 40_000), **WIDE),
    _case("sum-all", _sum(0, 1), floats(300, 131), **WIDE),
    _case("sum-columns", _sum(0), floats(100, 37), **WIDE),
    _case("sum-few-columns", _sum(0), floats(700, 10), **WIDE),
    _case("sum-columns-in-parts", _sum(0), floats(3000, 40), **WIDE),
    _case("sum-middle", _sum(1), floats(5, 50, 9), **WIDE),
    _case("sum-images", _sum(0, 2, 3), floats(9, 3, 12, 11), **WIDE),
    _case("sum-ints", _sum(0, 1), ints(90, 80, high=1000)),
    _case("max-by-warps", _max(1), floats(9, 200)),
    _case("max-in-parts", _max(0, 1), distinct(210, 200)),
    _case("min-columns", lambda x: reduce.Min(x, (0,)), floats(120, 33)),
    _case("max-bytes", _max(1), ints(9, 200, high=250).astype(np.uint8), onnx="bytes"),
    _case("any", lambda x: reduce.Any_(x, (1,)), floats(9, 200) > 1.98),
    _case("all-in-parts", lambda x: reduce.All(x, (0, 1)), floats(200, 200) > -2.0),
    _case("argmax", lambda x: reduce.Argmax(x, 1), distinct(9, 300)),
    _case("argmax-middle", lambda x: reduce.Argmax(x, 1), distinct(3, 70, 5)),
    _case("softmax", Softmax, floats(37, 100), wrt=(0,), **WIDE),
    _case("softmax-by-blocks", Softmax, floats(5, 3000), wrt=(0,), **WIDE),
    _case("softmax-apart", Softmax, floats(2, 9000), wrt=(0,), **WIDE),
    _case("softmax-of-heads", Softmax, floats(3, 2, 40, 40), wrt=(0,), **WIDE),
    _case("log_softmax-10", LogSoftmax, floats(300, 10), wrt=(0,), **WIDE),
    _case("cross_entropy", SoftmaxCrossEntropy, floats(50, 70), ints(50, 1, high=70), wrt=(0,), **WIDE),
    _case("standardize-images", lambda x: Standardize(x, (0, 2, 3)), floats(6, 5, 14, 13), wrt=(0,), **WIDE),
    _case(
        "layer_norm",
        lambda x, s, b: LayerNorm(x, s, b),
        floats(40, 130),
        floats(130),
        floats(130),
        wrt=(0, 1, 2),
        **WIDE,
    ),
    _case("transpose", lambda x: shape.Transpose(x, (1, 0)), floats(70, 130)),
    _case("transpose-images", lambda x: shape.Transpose(x, (0, 3, 1, 2)), floats(3, 40, 11, 35)),
    _case("add-wide", elementwise.Add, floats(600, 256), floats(600, 256)),
    _case(
        "lookup_grad", lambda i, c: embedding.LookupGrad(i, c, 50), ints(20, 30, high=50), floats(20, 30, 40), **WIDE
    ),
    _case(
        "lookup_grad-padding", lambda i, c: embedding.LookupGrad(i, c, 9, 3), ints(200, high=9), floats(200, 5), **WIDE
    ),
    _case("lookup_norm_sq", embedding.LookupNormSq, ints(5, 40, high=9), floats(5, 40, 50)),
    _case(
        "lookup_norm_sq-padding", lambda i, c: embedding.LookupNormSq(i, c, 2), ints(5, 40, high=9), floats(5, 40, 50)
    ),
    _case(
        "scatter_add",
        lambda x, i, u: indexing.ScatterAdd(x, i, u, 0),
        floats(40, 70),
        ints(90, high=40),
        floats(90, 70),
        **WIDE,
    ),
    _case(
        "scatter_add-inner",
        lambda x, i, u: indexing.ScatterAdd(x, i, u, 1),
        floats(7, 40, 3),
        ints(90, high=40),
        floats(7, 90, 3),
        **WIDE,
    ),
    _case("scatter", lambda x, i, u: indexing.Scatter(x, i, u, 0), floats(40, 70), ints(90, high=40), floats(90, 70)),
    _case(
        "add_along",
        lambda x, i, u: indexing.AddAlong(x, i, u, 1),
        floats(30, 20),
        ints(30, 50, high=20),
        floats(30, 50),
        **WIDE,
    ),
    _case("top_k", lambda x: indexing.TopK(x, 5), distinct(40, 60)),
    _case("argsort", lambda x: indexing.Argsort(x, 0), distinct(70, 40)),
    _case("cumsum", lambda x: indexing.Cumsum(x, 0), floats(80, 40), **WIDE),
    _case("cumsum-last", lambda x: indexing.Cumsum(x, 1), floats(40, 80), **WIDE),
    _case("max_pool", lambda x: pool.MaxPool2d(x, kernel=(2, 2)), distinct(3, 8, 20, 22), wrt=(0,)),
    _case(
        "max_pool-overlap", lambda x: pool.MaxPool2d(x, kernel=(3, 3), strides=(2, 2)), distinct(3, 8, 21, 21), wrt=(0,)
    ),
)
