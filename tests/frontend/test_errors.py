"""What the layers say to a user who made a mistake: what, where, what to do next.

Every message is pinned. The place must be the line of the mistake itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

import fluidc.frontend as fluid
from fluidc.compiler.errors import FluidcError, LoweringError
from fluidc.frontend import api
from fluidc.frontend.framework import Program
from fluidc.frontend.lower import lower

L = fluid.layers


@pytest.fixture(autouse=True)
def program() -> Iterator[Program]:
    main = Program()
    with fluid.unique_name.guard(), fluid.program_guard(main, Program()):
        yield main


def x() -> fluid.Variable:
    return L.data("x", [3, 4])


def y() -> fluid.Variable:
    return L.data("y", [1], dtype="int64")


MISTAKES: list[tuple[str, Callable[[], object], str, str]] = [
    (
        "not a Variable",
        lambda: L.fc(np.zeros((2, 3)), 4),  # type: ignore[arg-type]
        "fc: input[0] is ndarray, not a Variable",
        "pass what fluid.layers.data or a layer returned",
    ),
    (
        "wrong element type",
        lambda: L.fc(y(), 4),
        "fc: input y holds int64, but must hold float32 or float64 or float16",
        "declare it with that dtype, or convert it: fluid.layers.cast(x, 'float32')",
    ),
    (
        "open extent",
        lambda: L.fc(L.data("x", [-1, -1], append_batch_size=False), 4),
        "fc: input x has shape [-1, -1]; the weight needs the extents [-1] but one is unknown",
        "give the data its full shape, or choose num_flatten_dims",
    ),
    (
        "bad num_flatten_dims",
        lambda: L.fc(x(), 4, num_flatten_dims=3),
        "fc: input x has shape [-1, 3, 4], but num_flatten_dims=3",
        "give -1 or a number from 1 to 2",
    ),
    ("size", lambda: L.fc(x(), 0), "fc: size is 0", "give the number of outputs, a positive integer"),
    (
        "activation",
        lambda: L.fc(x(), 4, act="relux"),
        "fc: unknown activation 'relux'; did you mean 'relu'?",
        "use the name of an activation layer, such as 'relu', 'tanh' or 'softmax'",
    ),
    (
        "shared parameter of another shape",
        lambda: [L.fc(x(), n, param_attr="w") for n in (3, 4)],
        "parameter w is wanted with shape [12, 4] and type float32, "
        "but the program already has w : float32[12, 3], persistable",
        "a shared parameter must have one shape; else give the ParamAttr another name",
    ),
    (
        "inner extents",
        lambda: L.matmul(x(), L.data("z", [5, 6])),
        "matmul: inner extents differ, x x [-1, 3, 4] gives 4 and y z [-1, 5, 6] gives 5",
        "check the shapes and the transpose_x, transpose_y arguments",
    ),
    (
        "broadcast",
        lambda: L.elementwise_add(x(), L.data("z", [5], append_batch_size=False)),
        "elementwise_add: x [-1, 3, 4] and z [5] do not fit together along axis -1",
        "extents must be equal or 1 where the operands overlap; reshape one of them or give another axis",
    ),
    (
        "combining with an array",
        lambda: x() + np.zeros(4),  # type: ignore[operator]
        "x is combined with ndarray, which is neither a Variable nor a number",
        "turn an array into a Variable first: fluid.layers.assign(array)",
    ),
    (
        "truth of a Variable",
        lambda: bool(x() > 0),
        "the value of tmp_1 is not known while the program is being built",
        "use fluid.layers.cond, While or where to choose by value",
    ),
    (
        "too many indices",
        lambda: x()[0, 0, 0, 0],
        "4 indices for x, which has 3 dimensions",
        "drop an index, or unsqueeze the Variable first",
    ),
    (
        "reshape",
        lambda: L.reshape(x(), [0, 5, 2]),
        "reshape: x [-1, 3, 4] does not have the elements of [0, 5, 2]",
        "the products of the extents must agree; -1 infers one extent, 0 copies one",
    ),
    (
        "axis",
        lambda: L.reduce_sum(x(), dim=3),
        "reduce_sum: axis 3 of x, which has shape [-1, 3, 4]",
        "give an axis from -3 to 2",
    ),
    (
        "permutation",
        lambda: L.transpose(x(), [0, 1]),
        "transpose: perm is [0, 1], but x has shape [-1, 3, 4]",
        "give each of 0 to 2 once",
    ),
    (
        "concat",
        lambda: L.concat([x(), L.data("z", [3, 5])], axis=1),
        "concat: x [-1, 3, 4] and z [-1, 3, 5] differ outside axis 1",
        "only the joined axis may differ",
    ),
    (
        "labels of the wrong rank",
        lambda: L.softmax_with_cross_entropy(L.fc(x(), 5), L.data("y", [], dtype="int64")),
        "softmax_with_cross_entropy: label y has shape [-1], but with fc_0.tmp_1 [-1, 5] it must be [-1, 1]",
        "declare hard labels with shape=[1] and dtype='int64', or set soft_label=True for distributions",
    ),
    (
        "labels of the wrong type",
        lambda: L.cross_entropy(L.softmax(L.fc(x(), 5)), L.data("y", [1])),
        "cross_entropy: label y holds float32, but must hold int64",
        "declare it with that dtype, or convert it: fluid.layers.cast(x, 'int64')",
    ),
    (
        "ids",
        lambda: L.embedding(L.data("i", [7], dtype="int64"), [10, 4]),
        "embedding: input i has shape [-1, 7]; its last extent must be 1",
        "use fluid.embedding for ids without that axis, or unsqueeze them",
    ),
    (
        "image rank",
        lambda: L.conv2d(x(), 8, 3),
        "conv2d: input x has shape [-1, 3, 4], but must be [N, C, H, W]",
        "reshape it: fluid.layers.reshape(x, [-1, C, H, W])",
    ),
    (
        "filter too large",
        lambda: L.conv2d(L.data("i", [3, 4, 4]), 8, 7),
        "conv2d: a 7x7 filter does not fit into input i [-1, 3, 4, 4]",
        "use a smaller filter_size or dilation, or more padding",
    ),
    (
        "sequences",
        lambda: L.sequence_pool(x(), "sum"),
        "sequence_pool: input x has no sequences (lod_level 0)",
        "declare the data with lod_level=1 and feed fluid.create_lod_tensor(...)",
    ),
    (
        "loss of several elements",
        lambda: fluid.optimizer.SGD(0.1).minimize(L.fc(x(), 2)),
        "append_backward: the loss fc_0.tmp_1 has shape [-1, 2], but must have one element",
        "reduce it: fluid.layers.mean(loss)",
    ),
    (
        "nothing to train",
        lambda: fluid.optimizer.SGD(0.1).minimize(L.mean(x())),
        "SGD: there is no parameter to update",
        "the loss must depend on a trainable parameter; look at parameter_list, stop_gradient and trainable",
    ),
    (
        "unknown parameter",
        lambda: fluid.append_backward(L.mean(L.fc(x(), 2)), parameter_list=["w"]),
        "append_backward: parameter_list names w, which is not a parameter of the program",
        "all_parameters() lists them",
    ),
    (
        "loop without end",
        lambda: _endless(),
        "While: the block never writes its condition less_than_0.tmp_0, so it would not end",
        "end the block with less_than(..., cond=less_than_0.tmp_0)",
    ),
    (
        "memory that never changes",
        lambda: _unfinished(),
        "StaticRNN: memory static_rnn_0@mem_0 is never updated",
        "call update_memory inside the step",
    ),
    (
        "element type",
        lambda: L.data("x", [2], dtype="complex64"),
        "'complex64' is not an element type of fluid",
        "use one of bool, int16, int32, int64, float16, float32, float64, uint8, int8",
    ),
    (
        "optimizer of several trainers",
        lambda: fluid.optimizer.DGCMomentumOptimizer(0.1, 0.9, 0, num_trainers=2),
        "DGCMomentum: num_trainers is 2",
        "there is one trainer; use Momentum",
    ),
    (
        "missing name of contrib",
        lambda: fluid.contrib.QuantizeTranspiler(),
        "fluid.contrib.QuantizeTranspiler is not implemented",
        "use what fluid itself has: fluid.__all__",
    ),
    (
        "missing layer",
        lambda: L.data_norm(L.data("x", [4])),
        "fluid.layers.data_norm is not implemented",
        "use layer_norm, or scale the feeds by ranges known in advance",
    ),
    (
        "missing layer without a neighbour",
        lambda: L.roi_perspective_transform(L.data("x", [4]), L.data("y", [1]), 3, 3),
        "fluid.layers.roi_perspective_transform is not implemented",
        "write it with the layers there are: fluid.layers.__all__ lists them",
    ),
    (
        "weight norm",
        lambda: fluid.WeightNormParamAttr(dim=0),
        "WeightNormParamAttr is not implemented",
        "divide the weight by its norm in the program: fluid.layers.l2_normalize",
    ),
]


def _endless() -> None:
    i, n = L.fill_constant([1], "int64", 0), L.fill_constant([1], "int64", 3)
    with L.While(L.less_than(i, n)).block():
        L.increment(i)


def _unfinished() -> None:
    rnn = L.StaticRNN()
    with rnn.step():
        word = rnn.step_input(L.data("s", [5, 2, 4], append_batch_size=False))
        rnn.memory(shape=[2, 6], batch_ref=word)


@pytest.mark.parametrize(("mistake", "what", "hint"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES])
def test_message(mistake: Callable[[], object], what: str, hint: str) -> None:
    with pytest.raises(FluidcError) as caught:
        mistake()
    error = caught.value
    assert (error.what, error.hint) == (what, hint)
    assert error.where is not None
    assert error.where.startswith(__file__ + ":")


def test_layers_of_another_program(program: Program) -> None:
    with fluid.program_guard(Program(), Program()):
        stranger = x()
    with pytest.raises(FluidcError, match="mul: x belongs to another Program"):
        L.fc(stranger, 3)


def test_missing_layers_are_told_from_typing_errors() -> None:
    assert set(L.__all__) <= set(api.names("fluid.layers"))
    with pytest.raises(AttributeError, match="no attribute 'relux'"):
        _ = L.relux


def test_builtin_kinds() -> None:
    """Scripts that catch fluid's own exceptions still do."""
    with pytest.raises(TypeError):
        L.fc(3, 4)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="size is 0"):
        L.fc(x(), 0)
    with pytest.raises(NotImplementedError):
        fluid.WeightNormParamAttr()


def test_a_message_reads_in_three_lines() -> None:
    with pytest.raises(FluidcError) as caught:
        L.fc(x(), 0)
    lines = str(caught.value).split("\n")
    assert lines[0] == "fc: size is 0"
    assert lines[1].startswith(f"  at {__file__}:")
    assert lines[2] == "  give the number of outputs, a positive integer"


def test_unfed_data(program: Program) -> None:
    loss = L.mean(L.fc(x(), 3))
    with pytest.raises(LoweringError) as caught:
        lower(program, fetches=[loss.name], feed_types={})
    assert caught.value.what == "fc: x is read but not fed"
    assert caught.value.hint == "feed it: feed={'x': ...}"
    assert caught.value.where is not None
    assert caught.value.where.startswith(__file__)


def test_read_before_written(program: Program) -> None:
    L.relu(L.create_tensor("float32", name="t"))
    with pytest.raises(LoweringError, match="relu: t is read before anything writes it"):
        lower(program)


def test_fetch_without_value(program: Program) -> None:
    L.relu(x())
    L.create_tensor("float32", name="t")
    with pytest.raises(LoweringError, match="t is fetched, but nothing in the program computes it"):
        lower(program, fetches=["t"])


def test_op_that_cannot_be_compiled(program: Program) -> None:
    given = x()
    program.global_block().append_op("pyramid_hash", {"X": [given]}, {"Out": [given]})
    with pytest.raises(LoweringError) as caught:
        lower(program)
    assert caught.value.what == "append_op: the op pyramid_hash cannot be compiled yet"


def test_op_that_runs_on_the_host(program: Program) -> None:
    L.where(L.cast(x(), "bool"))
    with pytest.raises(LoweringError) as caught:
        lower(program)
    assert caught.value.what == (
        "where: where_index is not compiled, but run on the host by an Executor (the size of its result depends on the "
        "values of its input)"
    )
    assert caught.value.hint == "leave it out of what is compiled: fetch what it reads, and compute with that"
    assert caught.value.where is not None
    assert caught.value.where.startswith(__file__)


def test_two_open_extents(program: Program) -> None:
    L.relu(L.data("x", [-1, -1, 4], append_batch_size=False))
    with pytest.raises(LoweringError) as caught:
        lower(program)
    assert caught.value.what == "x has the shape [-1, -1, 4]: only one extent, the batch, may be open"
    assert caught.value.hint == "state the others, such as --feed x=N,1,4"
