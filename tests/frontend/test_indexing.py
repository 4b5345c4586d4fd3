"""Indexing a Variable of a static program means what it does in numpy."""

import numpy as np
import pytest

import fluidc.frontend as fluid
from fluidc.compiler.errors import FluidcError

X = np.arange(48, dtype=np.float32).reshape(2, 4, 6)


@pytest.mark.parametrize(
    "index",
    [
        np.s_[:, ::2],
        np.s_[:, 1:4:2, ::3],
        np.s_[0, ::3],
        np.s_[0, :, ::-1],
        np.s_[:, -3:-1:2],
        np.s_[1, 2, ::5],
        np.s_[..., 1:5:2],
    ],
)
def test_steps(index: tuple[slice | int, ...]) -> None:
    main = fluid.Program()
    with fluid.program_guard(main), fluid.scope_guard(fluid.Scope()):
        x = fluid.data("x", [2, 4, 6])
        y = x[index]
        assert y.shape == X[index].shape
        (got,) = fluid.Executor(fluid.CPUPlace(), target="reference").run(main, feed={"x": X}, fetch_list=[y])
    np.testing.assert_array_equal(got, X[index])


def test_a_step_back_of_two() -> None:
    with (
        fluid.program_guard(fluid.Program()),
        pytest.raises(FluidcError, match=r"step of -2(.|\n)*then take every n-th"),
    ):
        fluid.data("x", [2, 4, 6])[:, ::-2]


def test_the_shorter_operand_may_stand_on_the_left() -> None:
    main = fluid.Program()
    with fluid.program_guard(main), fluid.scope_guard(fluid.Scope()):
        x, row = fluid.data("x", [2, 4, 6]), fluid.data("row", [6])
        outs = [row - x, row / (x + 1.0), row < x]
        feed = {"x": X, "row": X[0, 0]}
        got = fluid.Executor(fluid.CPUPlace(), target="reference").run(main, feed=feed, fetch_list=outs)
    row = X[0, 0]
    for have, want in zip(got, [row - X, row / (X + 1), row < X], strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-6)
