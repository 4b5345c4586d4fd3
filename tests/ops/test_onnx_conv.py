"""Convolutions whose sizes decide which nodes are written, in ONNX Runtime against ``evaluate``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from cases import Case, floats, type_of
from onnx_functions import HAS_TRAINING_OPS
from onnx_jobs import check, exported
from op_jobs import job

from fluidc.compiler.codegen.built import BuildOptions
from fluidc.compiler.codegen.onnx.build import build
from fluidc.compiler.errors import MissingRule
from fluidc.compiler.ir.core import Function, Module, OpBase, Output, Param, Value
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ir.types import static_shape
from fluidc.compiler.ops.conv import Conv2d, Conv2dExampleFilterGrad, Conv2dFilterGrad, Conv2dInputGrad, Patches
from fluidc.compiler.ops.kinds import PUBLIC, ExampleKind, Kind

ROWS = ExampleKind(0)


@dataclass(frozen=True)
class Geometry:
    """One convolution, and the nodes that make its products.

    ``image`` is the node of the gradient in the images, ``examples`` that of the examples' gradients in the filters.
    """

    x: tuple[int, int, int, int]
    w: tuple[int, int, int, int]
    at: dict[str, Any] = field(default_factory=dict[str, Any])
    image: str = "ConvTranspose"
    examples: str = "MatMul"


GEOMETRIES = {
    "channels": Geometry((2, 32, 5, 4), (3, 32, 3, 2), {"pads": (1, 0, 2, 1)}, image="Conv"),
    "channels-dilated": Geometry(
        (2, 32, 6, 5), (3, 32, 2, 2), {"dilations": (2, 3), "pads": (2, 3, 1, 0)}, image="Conv"
    ),
    "channels-wide-pads": Geometry((2, 32, 3, 3), (2, 32, 2, 2), {"pads": (2, 0, 0, 0)}),
    "channels-groups": Geometry((2, 64, 4, 4), (4, 32, 2, 3), {"groups": 2}, image="Conv"),
    "depthwise": Geometry((2, 3, 5, 4), (6, 1, 3, 3), {"groups": 3, "pads": (1, 1, 1, 1)}, image="Conv"),
    "depthwise-two-taps": Geometry((2, 3, 5, 4), (6, 1, 1, 2), {"groups": 3}, image="Conv"),
    "large-filter": Geometry((3, 2, 9, 8), (4, 2, 5, 4), {"strides": (2, 1), "pads": (1, 0, 2, 2)}, examples="Conv"),
    "large-filter-groups": Geometry((2, 4, 8, 9), (6, 2, 5, 5), {"groups": 2, "strides": (1, 3)}, examples="Conv"),
    "large-filter-excess": Geometry((2, 1, 9, 9), (2, 1, 4, 5), {"strides": (4, 3)}, examples="Conv"),
    "large-image": Geometry((2, 2, 12, 13), (2, 2, 3, 3), {"pads": (1, 1, 1, 1)}),
    "pointwise": Geometry((2, 3, 5, 6), (4, 3, 1, 1), image="Conv"),
    "pointwise-strides": Geometry((2, 3, 5, 6), (4, 3, 1, 1), {"strides": (2, 3)}),
    "pointwise-pads": Geometry((2, 3, 4, 3), (4, 3, 1, 1), {"pads": (0, 1, 0, 0)}),
    "pointwise-groups": Geometry((2, 4, 2, 3), (6, 2, 1, 1), {"groups": 2}, image="Conv"),
}
FORMS = [(name, symbolic) for name in GEOMETRIES for symbolic in (False, True)]


@pytest.mark.parametrize(("name", "symbolic"), FORMS, ids=[name + ("-N" if n else "") for name, n in FORMS])
def test_forms(name: str, symbolic: bool) -> None:
    shapes = GEOMETRIES[name]
    at: Any = shapes.at
    x, w = floats(*shapes.x), floats(*shapes.w, seed=1)
    out = Conv2d(Value(type_of(x)), Value(type_of(w)), **at).result.tensor.shape
    ct = floats(*static_shape(out), seed=2)

    def nodes(op: str, build: Callable[..., OpBase], inputs: tuple[np.ndarray, ...], *kinds: Kind) -> list[str]:
        made = job(Case(op, build, inputs, lambda: None, kinds=kinds), "f", symbolic=symbolic, backward=False)
        model = exported(made)
        check(made, model)
        return [node.op_type for node in model.graph.node]

    found = nodes("conv.conv2d_input_grad",
                  lambda w, ct: Conv2dInputGrad(w, ct, (ct.tensor.shape[0], *shapes.x[1:]), **at),
                  (w, ct), PUBLIC, ROWS)  # fmt: skip
    assert shapes.image in found
    nodes("conv.conv2d_filter_grad", lambda x, ct: Conv2dFilterGrad(x, ct, shapes.w, **at), (x, ct), ROWS, ROWS)
    found = nodes("conv.conv2d_example_filter_grad",
                  lambda x, ct: Conv2dExampleFilterGrad(x, ct, shapes.w, **at), (x, ct), ROWS, ROWS)  # fmt: skip
    assert ("MatMul" in found) == (symbolic or shapes.examples == "MatMul")
    nodes("conv.patches", lambda x: Patches(x, shapes.w[2:], **at), (x,), ROWS)


def a_geometry(seed: int) -> Geometry:
    """One in which the filter fits, and sees something of the image in every place."""
    draw = np.random.default_rng(seed)
    groups = int(draw.integers(1, 3))
    channels, outputs = int(draw.choice([1, 2, 32])), int(draw.integers(1, 3))
    kernel, strides, dilations = (draw.integers(1, high, 2).tolist() for high in (4, 4, 3))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = [int(draw.integers(0, reach[axis % 2])) for axis in range(4)]
    size = [int(r + draw.integers(0, 7)) for r in reach]
    at = {"strides": tuple(strides), "pads": tuple(pads), "dilations": tuple(dilations), "groups": groups}
    return Geometry((2, groups * channels, size[0], size[1]), (groups * outputs, channels, kernel[0], kernel[1]), at)


@pytest.mark.parametrize("seed", range(40))
def test_any_geometry(seed: int) -> None:
    shapes, symbolic = a_geometry(seed), seed % 3 == 0
    at: Any = shapes.at
    x, w = floats(*shapes.x), floats(*shapes.w, seed=1)
    ct = floats(*static_shape(Conv2d(Value(type_of(x)), Value(type_of(w)), **at).result.tensor.shape), seed=2)
    ops: list[tuple[str, Callable[..., OpBase], tuple[np.ndarray, ...], tuple[Kind, ...]]] = [
        ("conv2d", lambda x, w: Conv2d(x, w, **at), (x, w), (ROWS, PUBLIC)),
        ("conv2d_input_grad", lambda w, ct: Conv2dInputGrad(w, ct, (ct.tensor.shape[0], *shapes.x[1:]), **at),
         (w, ct), (PUBLIC, ROWS)),
        ("conv2d_filter_grad", lambda x, ct: Conv2dFilterGrad(x, ct, shapes.w, **at), (x, ct), (ROWS, ROWS)),
        ("conv2d_example_filter_grad", lambda x, ct: Conv2dExampleFilterGrad(x, ct, shapes.w, **at),
         (x, ct), (ROWS, ROWS)),
        ("patches", lambda x: Patches(x, shapes.w[2:], **at), (x,), (ROWS,)),
    ]  # fmt: skip
    for name, build_op, inputs, kinds in ops:
        case = Case(f"conv.{name}", build_op, inputs, lambda: None, kinds=kinds, atol=2e-5)
        made = job(case, "f", symbolic=symbolic, backward=False)
        check(made, exported(made))


KERNELS = {
    "plain": Geometry((3, 2, 12, 13), (4, 2, 3, 2)),
    "all": Geometry(
        (2, 4, 23, 29), (6, 2, 3, 2), {"strides": (2, 1), "pads": (1, 0, 2, 3), "dilations": (1, 3), "groups": 2}
    ),
    "depthwise": Geometry((2, 3, 12, 12), (3, 1, 3, 3), {"groups": 3}),
    "unseen": Geometry((2, 1, 31, 32), (2, 1, 2, 2), {"strides": (3, 3)}),
    "pointwise": Geometry((2, 3, 4, 5), (4, 3, 1, 1), {"strides": (2, 2)}),
}


@pytest.mark.skipif(not HAS_TRAINING_OPS, reason="stock onnxruntime lacks these kernels")
@pytest.mark.parametrize("symbolic", [False, True], ids=["fixed", "N"])
@pytest.mark.parametrize("name", KERNELS)
def test_the_gradient_kernel_of_onnxruntime_training(name: str, symbolic: bool) -> None:
    shapes = KERNELS[name]
    at: Any = shapes.at
    x = floats(*shapes.x)
    out = Conv2d(Value(type_of(x)), Value(type_of(floats(*shapes.w))), **at).result.tensor.shape
    case = Case(
        "conv.conv2d_filter_grad",
        lambda x, ct: Conv2dFilterGrad(x, ct, shapes.w, **at),
        (x, floats(*static_shape(out), seed=2)),
        lambda: None,
        kinds=(ROWS, ROWS),
    )
    made = job(case, "f", symbolic=symbolic, backward=False)
    module = Module(Stage.TARGET, (), (made.function,))
    model = build(module, BuildOptions(ort_training=True)).models["f"]
    assert "ConvGrad" in {node.op_type for node in model.graph.node}
    assert "com.microsoft" in {used.domain for used in model.opset_import}
    check(made, model)
    assert "ConvGrad" not in {node.op_type for node in build(module, BuildOptions()).models["f"].graph.node}


def test_images_of_doubles_are_refused() -> None:
    x, w = (Value(type_of(np.zeros(shape))) for shape in ((2, 1, 3, 3), (1, 1, 2, 2)))
    op = Conv2d(x, w)
    function = Function("f", (Param("x", x), Param("w", w)), (op,), (Output("y", op.result),))
    with pytest.raises(MissingRule, match=r"ONNX Runtime convolves float32 images, not f64\[2,1,3,3\]"):
        build(Module(Stage.TARGET, (), (function,)), BuildOptions())
