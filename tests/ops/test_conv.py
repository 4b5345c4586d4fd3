"""Per-example filter gradients: when there is a rule, and that it agrees with the op's vjp."""

import numpy as np
import pytest
from cases import floats, tensor

from fluidc.compiler.ir.core import Value
from fluidc.compiler.ir.types import static_shape
from fluidc.compiler.ops.construct import OpBuilder
from fluidc.compiler.ops.conv import Conv2d
from fluidc.compiler.ops.kinds import PUBLIC, ExampleKind, Kind
from fluidc.compiler.ops.region import evaluate_op


def test_example_gradients_sum_to_the_gradient() -> None:
    b = OpBuilder()
    x, w = Value(tensor("f32[5,4,6,6]")), Value(tensor("f32[6,2,3,3]"))
    op = Conv2d(x, w, strides=(2, 1), pads=(1, 0, 0, 1), groups=2)
    ct = Value(op.result.type)
    rows = op.example_grad(b, 1, ct, (ExampleKind(0), PUBLIC))
    _, total = op.vjp(b, [ct], [False, True])
    assert rows is not None
    assert total is not None
    known = {
        x: floats(5, 4, 6, 6),
        w: floats(6, 2, 3, 3, seed=1),
        ct: floats(*static_shape(op.result.tensor.shape), seed=2),
    }
    for emitted in b.ops:
        evaluate_op(emitted, known)
    assert rows.tensor.shape == (5, 6, 2, 3, 3)
    np.testing.assert_allclose(known[rows].sum(axis=0), known[total], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("operand", "images"), [(0, PUBLIC), (1, ExampleKind(0, 3, 1)), (1, ExampleKind(0, 1, 3)), (1, PUBLIC)]
)
def test_other_cases_are_left_to_the_mapped_vjp(operand: int, images: Kind) -> None:
    x, w = Value(tensor("f32[3*N,4,6,6]")), Value(tensor("f32[6,4,3,3]"))
    op = Conv2d(x, w)
    assert op.example_grad(OpBuilder(), operand, Value(op.result.type), (images, PUBLIC)) is None
