"""Pooling of any geometry in ONNX Runtime against ``evaluate``: ties, infinities, numbers that are none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from cases import Case, floats, rng, type_of
from onnx_jobs import check, exported
from op_jobs import job

from fluidc.compiler.codegen.built import BuildOptions
from fluidc.compiler.codegen.onnx.build import build
from fluidc.compiler.errors import MissingRule, VerifyError
from fluidc.compiler.ir.core import Function, Module, OpBase, Output, Param, Value
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ir.types import static_shape
from fluidc.compiler.ops.kinds import ExampleKind
from fluidc.compiler.ops.pool import AvgPool2d, AvgPool2dGrad, MaxPool2d, MaxPool2dGrad, MaxPool2dPick


def compare(op: str, build: Callable[..., OpBase], *inputs: np.ndarray, symbolic: bool) -> None:
    kinds = tuple(ExampleKind(0) for _ in inputs)
    made = job(Case(op, build, inputs, lambda: None, kinds=kinds), "f", symbolic=symbolic, backward=False)
    check(made, exported(made))


def images(draw: np.random.Generator, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Few different numbers, -inf, inf and NaN among them."""
    values = np.array([-np.inf, -1, 0, 0, 1, 2, 2, 3], dtype)
    x = values[draw.integers(0, len(values), shape)]
    x[draw.random(shape) < 0.1] = np.nan
    x[draw.random(shape) < 0.1] = np.inf
    x[-1, :, : shape[2] // 2] = -np.inf
    return x


@pytest.mark.parametrize("seed", range(30))
def test_any_geometry(seed: int) -> None:
    draw = rng(seed)
    while True:
        shape = (2, 2, *(int(size) for size in draw.integers(1, 9, 2)))
        x = images(draw, shape, np.float64 if seed % 5 == 0 else np.float32)
        kernel, strides = (tuple(int(k) for k in draw.integers(1, high, 2)) for high in (5, 5))
        pads = tuple(int(pad) for pad in draw.integers(0, 3, 4))
        geometry = {"kernel": kernel, "strides": strides, "pads": pads, "ceil_mode": bool(draw.integers(2))}
        try:
            out = static_shape(MaxPool2d(Value(type_of(x)), **geometry).result.tensor.shape)
        except VerifyError:  # a window that does not fit, or lies in the padding
            continue
        break
    symbolic = seed % 2 == 0
    ct = floats(*out, seed=seed).astype(x.dtype)
    compare("pool.max2d", lambda x: MaxPool2d(x, **geometry), x, symbolic=symbolic)
    compare("pool.max2d_grad", lambda x, ct: MaxPool2dGrad(x, ct, **geometry), x, ct, symbolic=symbolic)
    values = floats(*shape, seed=seed + 1).astype(x.dtype)
    compare("pool.max2d_pick", lambda x, v: MaxPool2dPick(x, v, **geometry), x, values, symbolic=symbolic)
    values, ct = values.astype(np.float32), ct.astype(np.float32)
    for exclusive in (False, True):
        compare("pool.avg2d", lambda x, e=exclusive: AvgPool2d(x, exclusive=e, **geometry), values, symbolic=symbolic)
        compare(
            "pool.avg2d_grad",
            lambda ct, e=exclusive: AvgPool2dGrad(ct, (ct.tensor.shape[0], *shape[1:]), exclusive=e, **geometry),
            ct,
            symbolic=symbolic,
        )


@pytest.mark.parametrize("symbolic", [False, True], ids=["fixed", "N"])
def test_long_windows(symbolic: bool) -> None:
    """Those of more taps than copies are made for, in either direction."""
    geometry = {"kernel": (2, 9), "strides": (1, 3), "pads": (0, 1, 1, 2), "ceil_mode": True}
    x = images(rng(), (2, 2, 4, 13), np.float32)
    values = floats(*x.shape)
    ct = floats(*static_shape(MaxPool2d(Value(type_of(x)), **geometry).result.tensor.shape), seed=1)
    compare("pool.max2d", lambda x: MaxPool2d(x, **geometry), x, symbolic=symbolic)
    compare("pool.max2d_grad", lambda x, ct: MaxPool2dGrad(x, ct, **geometry), x, ct, symbolic=symbolic)
    compare("pool.max2d_pick", lambda x, v: MaxPool2dPick(x, v, **geometry), x, values, symbolic=symbolic)


def test_one_window_that_does_not_see_all_of_an_image() -> None:
    compare(
        "pool.avg2d_grad",
        lambda ct: AvgPool2dGrad(ct, (ct.tensor.shape[0], 2, 3, 3), kernel=(2, 2), strides=(2, 2)),
        floats(2, 2, 1, 1), symbolic=False,
    )  # fmt: skip


def test_forward_and_backward_share_their_maxima(tmp_path: Path) -> None:
    """ONNX Runtime merges equal nodes: the backward pass takes no maximum of its own."""
    x = Value(type_of(floats(2, 1, 4, 4)))
    ct = Value(type_of(floats(2, 1, 2, 2)))
    ops = MaxPool2d(x, kernel=(2, 2), strides=(2, 2)), MaxPool2dGrad(x, ct, kernel=(2, 2), strides=(2, 2))
    function = Function(
        "f", (Param("x", x), Param("ct", ct)), ops, tuple(Output(f"o{i}", op.result) for i, op in enumerate(ops))
    )
    model = build(Module(Stage.TARGET, (), (function,)), BuildOptions()).models["f"]
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "run.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for made, count in ((model, 3), (onnx.load(tmp_path / "run.onnx"), 2)):
        assert [node.op_type for node in made.graph.node].count("Max") == count


@pytest.mark.parametrize("symbolic", [False, True], ids=["fixed", "N"])
def test_what_is_not_finite_goes_to_one_element(symbolic: bool) -> None:
    x = floats(2, 2, 5, 6)
    geometries: list[Any] = [{"kernel": (2, 2), "strides": (2, 2)}, {"kernel": (3, 2), "pads": (1, 0, 1, 0)}]
    for geometry in geometries:
        ct = floats(*static_shape(MaxPool2d(Value(type_of(x)), **geometry).result.tensor.shape), seed=1)
        ct[0, 0, 0, 1], ct[1, 1, 1, 0], ct[1, 0, 1, 1] = np.inf, -np.inf, np.nan
        compare("pool.max2d_grad", lambda x, ct, g=geometry: MaxPool2dGrad(x, ct, **g), x, ct, symbolic=symbolic)


def test_means_of_doubles_are_refused() -> None:
    x = Value(type_of(np.zeros((2, 1, 4, 4))))
    op = AvgPool2d(x, kernel=(2, 2))
    function = Function("f", (Param("x", x),), (op,), (Output("y", op.result),))
    with pytest.raises(MissingRule, match=r"ONNX Runtime pools float32 images, not f64\[2,1,4,4\]"):
        build(Module(Stage.TARGET, (), (function,)), BuildOptions())
