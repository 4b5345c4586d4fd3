"""What loops, arrays, branches and structured losses say to a user who made a mistake; every message is pinned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import fluidc.frontend as fluid
from fluidc.compiler.errors import FluidcError
from fluidc.frontend.lower import lower

L = fluid.layers


@pytest.fixture(autouse=True)
def program() -> Iterator[None]:
    with fluid.unique_name.guard(), fluid.program_guard(fluid.Program(), fluid.Program()):
        yield


def words(name: str = "words", width: int = 4) -> fluid.Variable:
    return fluid.data(name, [-1, width], "float32", 1)


def rows(name: str = "rows", width: int = 4, dtype: str = "float32") -> fluid.Variable:
    return fluid.data(name, [-1, width], dtype)


def at(i: int) -> fluid.Variable:
    return L.fill_constant([1], "int64", i)


def inside(method: Callable[[fluid.layers.DynamicRNN], object]) -> object:
    rnn = L.DynamicRNN()
    with rnn.block():
        return method(rnn)


def after_input(method: Callable[[fluid.layers.DynamicRNN], object]) -> object:
    def block(rnn: fluid.layers.DynamicRNN) -> object:
        rnn.step_input(words())
        return method(rnn)

    return inside(block)


def second_block() -> None:
    rnn = L.DynamicRNN()
    with rnn.block():
        rnn.output(rnn.step_input(words()))
    with rnn.block():
        pass


def one_sided() -> object:
    ie = L.IfElse(rows("condition", 1, "bool"))
    with ie.true_block():
        ie.output(ie.input(rows()))
    with ie.false_block():
        ie.output(ie.input(rows()), ie.input(rows()))
    return ie()


def no_output() -> None:
    with L.IfElse(rows("condition", 1, "bool")).true_block():
        pass


MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "array index": (
        lambda: L.array_write(rows(), L.fill_constant([1], "int32", 0)),
        "array_write: the index fill_constant_0.tmp_0 is int32[1]",
    ),
    "no array": (lambda: L.array_read(rows(), at(0)), "array_read: the array is the Variable rows"),
    "no list": (lambda: L.array_length([]), "array_length: the array is list"),
    "axis": (
        lambda: L.tensor_array_to_tensor(L.array_write(rows(), at(0)), axis=2),
        "tensor_array_to_tensor: axis 2 of Variables of shape [-1, 4]",
    ),
    "no sequences": (
        lambda: inside(lambda rnn: rnn.step_input(rows())),
        "DynamicRNN.step_input: rows has no sequences (lod_level 0)",
    ),
    "level": (
        lambda: inside(lambda rnn: rnn.step_input(words(), level=1)),
        "DynamicRNN.step_input: level is 1",
    ),
    "static first": (
        lambda: inside(lambda rnn: rnn.static_input(words())),
        "DynamicRNN.static_input: there is no step_input yet",
    ),
    "memory first": (
        lambda: inside(lambda rnn: rnn.memory(shape=[4])),
        "DynamicRNN.memory: shape is given before a step_input",
    ),
    "reorder first": (
        lambda: inside(lambda rnn: rnn.memory(init=rows(), need_reorder=True)),
        "DynamicRNN.memory: need_reorder without a step_input",
    ),
    "no memory": (
        lambda: after_input(lambda rnn: rnn.memory()),
        "DynamicRNN.memory: neither init nor shape is given",
    ),
    "update": (
        lambda: after_input(lambda rnn: rnn.update_memory(rows(), rows())),
        "DynamicRNN.update_memory: ex_mem is no memory",
    ),
    "outside": (lambda: L.DynamicRNN().step_input(words()), "DynamicRNN.step_input() is used outside its block"),
    "no input": (lambda: inside(lambda rnn: None), "DynamicRNN: the block has no step_input"),
    "twice": (second_block, "DynamicRNN: block() is used twice"),
    "early": (lambda: L.DynamicRNN()(), "DynamicRNN is called before its block is complete"),
    "no table": (
        lambda: L.reorder_lod_tensor_by_rank(rows(), rows("table")),
        "reorder_lod_tensor_by_rank: table is no rank table",
    ),
    "condition": (lambda: L.IfElse(rows()), "IfElse: the condition rows holds float32"),
    "outside if": (
        lambda: L.IfElse(rows("condition", 1, "bool")).input(rows()),
        "IfElse.input() is used outside a block",
    ),
    "no output": (no_output, "IfElse: a block has no output"),
    "no blocks": (lambda: L.IfElse(rows("condition", 1, "bool"))(), "IfElse has no blocks"),
    "one sided": (one_sided, "IfElse: true_block has 1 outputs and false_block 2"),
    "crf dense": (
        lambda: L.linear_chain_crf(rows(), rows("label", 1, "int64")),
        "linear_chain_crf: input rows has no sequences (lod_level 0)",
    ),
    "crf label": (
        lambda: L.linear_chain_crf(words(), rows("label", 1, "int64")),
        "linear_chain_crf: label label has no sequences (lod_level 0)",
    ),
    "crf length": (
        lambda: L.crf_decoding(fluid.data("x", [-1, 5, 4]), "crfw", length=rows("length", 1)),
        "crf_decoding: length length holds float32",
    ),
    "crf parameter": (lambda: L.crf_decoding(words(), "crfw"), "crf_decoding: there is no parameter 'crfw'"),
    "ctc length": (
        lambda: L.warpctc(words(), rows("label", 1, "int32"), input_length=rows("length", 1, "int64")),
        "warpctc: one of input_length and label_length is given",
    ),
    "ctc dense": (
        lambda: L.warpctc(words(), rows("label", 1, "int32")),
        "warpctc: input words has lod_level 1 and label label 0",
    ),
    "hsigmoid classes": (
        lambda: L.hsigmoid(rows(), rows("label", 1, "int64"), 1),
        "hsigmoid: num_classes is 1",
    ),
    "hsigmoid tree": (
        lambda: L.hsigmoid(rows(), rows("label", 1, "int64"), 5, is_custom=True),
        "hsigmoid: is_custom is True, path_table and path_code are not",
    ),
    "nce sampler": (
        lambda: L.nce(rows(), rows("label", 1, "int64"), 5, sampler="zipf"),
        "nce: unknown sampler 'zipf'",
    ),
    "nce distribution": (
        lambda: L.nce(rows(), rows("label", 1, "int64"), 5, sampler="custom_dist", custom_dist=[0.5, 0.5]),
        "nce: custom_dist has not one probability per class",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_message(name: str) -> None:
    build, what = MISTAKES[name]
    with pytest.raises(FluidcError) as caught:
        build()
    assert caught.value.what == what
    assert caught.value.hint
    assert caught.value.where is not None
    assert caught.value.where.startswith(__file__)


def lowered(*outs: Any) -> str:
    with pytest.raises(FluidcError) as caught:
        lower(fluid.default_main_program(), fetches=[out.name for out in outs])
    assert caught.value.hint
    return caught.value.what


def test_a_step_may_not_put_sequences_together() -> None:
    rnn = L.DynamicRNN()
    with rnn.block():
        word = rnn.step_input(words())
        rnn.output(L.elementwise_sub(word, L.reduce_mean(word, dim=0, keep_dim=True)))
    assert "puts them together" in lowered(rnn())


def test_a_block_for_some_rows_may_not_put_rows_together() -> None:
    ie = L.IfElse(rows("condition", 1, "bool"))
    with ie.true_block():
        x = ie.input(rows())
        ie.output(L.elementwise_sub(x, L.reduce_mean(x, dim=0, keep_dim=True)))
    with ie.false_block():
        ie.output(ie.input(rows()))
    assert "puts rows together" in lowered(*ie())


def test_rows_that_were_split_off_have_no_size() -> None:
    ie = L.IfElse(rows("condition", 1, "bool"))
    with ie.true_block():
        ie.output(L.scale(ie.input(rows()), 2.0))
    (some,) = ie()
    assert "holds some rows of a batch" in lowered(L.scale(some, 1.0))


def test_an_item_must_be_written_before_it_is_read() -> None:
    array = L.array_write(rows(), at(3))
    assert lowered(L.array_read(array, at(1))) == "array_read: item 1 of the array array_write_0.out was never written"


def test_a_loop_whose_end_is_computed_writes_no_arrays() -> None:
    total, i = fluid.data("total", [1]), at(0)
    array = L.array_write(total, i)
    less = L.less_than(total, L.fill_constant([1], "float32", 9.0))
    loop = L.While(less)
    with loop.block():
        L.increment(i)
        L.array_write(total, i, array)
        L.less_than(total, L.fill_constant([1], "float32", 9.0), cond=less)
    what = "the array array_write_0.out is written in a loop whose number of steps is computed"
    assert what in lowered(L.array_read(array, at(0)))


def test_arrays_are_lists_in_eager_mode() -> None:
    with fluid.dygraph.guard():
        x, zero = (
            fluid.dygraph.to_variable(np.ones([2, 3], np.float32)),
            fluid.dygraph.to_variable(np.zeros(1, np.int64)),
        )
        array = L.array_write(x, zero)
        assert isinstance(array, list)
        assert L.array_length(array) == 1
        assert L.array_read(array, zero) is x
        joined, sizes = L.tensor_array_to_tensor(array, axis=1)
        assert (joined.numpy().shape, sizes.numpy().tolist()) == ((2, 3), [3])
        with pytest.raises(FluidcError, match="index 3 of 1 Variables"):
            L.array_write(x, fluid.dygraph.to_variable(np.full(1, 3, np.int64)), array)
