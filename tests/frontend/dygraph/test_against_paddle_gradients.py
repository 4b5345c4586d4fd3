"""Gradients and operators of eager mode against Paddle 1.8.5 (tests/golden/make_paddle185/gradients.py says more)."""

from collections.abc import Callable
from typing import Any

import dygraph_gradients
import pytest
from trees import assert_same, golden

import fluidc.frontend as fluid
from fluidc.compiler.errors import FluidcError

# What Paddle refuses and fluidc does: the sum of ones is clear when something is listed twice, and a list is an array.
ALLOWED = {"grad_of_an_input_twice", "grad_of_an_output_twice", "variable_of_a_list"}


@pytest.mark.filterwarnings("ignore:SGD.minimize. no parameter has a gradient")
@pytest.mark.parametrize("case", dygraph_gradients.CASES, ids=lambda case: case.__name__)
def test_same_as_paddle(case: Callable[[Any], Any]) -> None:
    with fluid.dygraph.guard(fluid.CPUPlace()):
        got = case(fluid)
    assert_same(got, golden("gradients")["cases"][case.__name__], rtol=2e-5)


@pytest.mark.parametrize("case", dygraph_gradients.REFUSED, ids=lambda case: case.__name__)
def test_refused_as_by_paddle(case: Callable[[Any], Any]) -> None:
    assert case.__name__ in golden("gradients")["refused"]
    with fluid.dygraph.guard(fluid.CPUPlace()):
        if case.__name__ in ALLOWED:
            case(fluid)
        else:
            with pytest.raises(FluidcError):
                case(fluid)
