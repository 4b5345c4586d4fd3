"""Gradients and operators of dygraph: gradients.json, gradients.npz.

"cases": what each function of tests/support/dygraph_gradients.py gives.  "refused": the class of exception that each
function of its second list ends with.

What was found:
- backward() overwrites the gradients of what it reaches and leaves others as they were; it works twice on one graph,
  and on many elements as if they were summed.  Every intermediate keeps its gradient too.  Without anything to
  differentiate it does nothing.
- clear_gradient() makes a gradient zeros, not None: minimize after it goes on with a gradient of 0 (Momentum and Adam
  still move).
- minimize without backward gives ([], []); with it ([], [(parameter, gradient)]).
- no_grad works as a decorator and as a context; in evaluation (Layer.eval()) nothing is recorded either.
- set_value() changes memory in place: a backward pass of an earlier forward pass reads the new value, and so does it
  with the array behind to_variable(array), which by default shares the array's memory (zero_copy on the CPU).
- grad() gives a list; its results have stop_gradient True without create_graph.  Without retain_graph a second use of
  the graph fails.  Unreachable inputs, duplicates and only_inputs=False are refused.
- Second gradients exist for few ops: square, sqrt, mul, conv2d, relu, leaky_relu, reshape, slice, expand, split, the
  four elementwise operators, reduce_sum and reduce_mean, instance_norm; not for matmul (so not for the layer Linear),
  tanh, sigmoid, exp, log, softmax, mean, concat, transpose.  Third gradients of a product do not exist.
- Integer / integer is an integer; x // y and x % y only exist for integers; there is no @, &, abs, item or T; float +
  double fails; an index may be integers and slices only (no Ellipsis, None, list or variable).  A step other than 1
  makes the axes of integers stay: x[0, ::2] has shape [1, ...], while x[0, 1:] drops the axis (fluidc drops it always).
"""

import dygraph_gradients
import paddle.fluid as fluid  # pyright: ignore[reportMissingImports]
from trees import GOLDENS, write_tree


def refusal(case):
    with fluid.dygraph.guard(fluid.CPUPlace()):
        try:
            case(fluid)
        except Exception as error:
            return type(error).__name__
    raise AssertionError(f"{case.__name__} was not refused")


def result(case):
    with fluid.dygraph.guard(fluid.CPUPlace()), fluid.unique_name.guard():
        return case(fluid)


def write():
    cases = {case.__name__: result(case) for case in dygraph_gradients.CASES}
    refused = {case.__name__: refusal(case) for case in dygraph_gradients.REFUSED}
    write_tree(GOLDENS / "gradients", {"cases": cases, "refused": refused})
