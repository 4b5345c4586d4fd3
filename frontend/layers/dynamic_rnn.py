"""Recurrent nets on sequences of different lengths, one token of every sequence at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from .. import unique_name
from ..errors import invalid, wrong_type
from ..framework import Block
from ..layer_helper import LayerHelper, check_variable
from ..variable import Variable
from ..vartype import DTypeLike, VarType
from .arrays import array_read, array_write
from .compare import increment, less_than
from .control_flow import While
from .rank_table import array_to_lod_tensor, check_sequences, shrink_memory
from .tensor import fill_constant


class DynamicRNN:
    """Runs a block once per token, on all sequences that have one.

    rnn = DynamicRNN()
    with rnn.block():
        word = rnn.step_input(sentence)                 # [n, D] of sequences [T, D]
        before = rnn.memory(shape=[200])
        h = fc([word, before], 200, act="tanh")
        rnn.update_memory(before, h)
        rnn.output(h)
    out = rnn()                                         # sequences [T, 200]
    """

    def __init__(self, name: str | None = None) -> None:
        self._helper = LayerHelper("dynamic_rnn", name)
        self._state = "before"
        self._condition = self._helper.temporary(VarType.BOOL, ())
        self._loop = While(self._condition)
        self._table: Variable | None = None
        self._longest: Variable | None = None
        self._step: Variable | None = None
        self._zero: Variable | None = None
        self._inputs: list[Variable] = []
        self._memories: dict[str, Variable] = {}
        self._updates: list[tuple[Variable, Variable]] = []
        self._arrays: list[Variable] = []
        self._outputs: list[Variable] = []

    @contextlib.contextmanager
    def block(self) -> Iterator[None]:
        """Record what is done with every token."""
        if self._state != "before":
            raise invalid("DynamicRNN: block() is used twice", "make a second DynamicRNN")
        step = self._step = fill_constant([1], "int64", 0, force_cpu=True)
        step.stop_gradient = False
        self._state = "inside"
        with self._loop.block():
            yield
            if self._longest is None:
                raise invalid("DynamicRNN: the block has no step_input", "call step_input inside the block")
            increment(step)
            for new, array in self._updates:
                array_write(new, step, array)
            less_than(step, self._longest, force_cpu=True, cond=self._condition)
        self._state = "after"
        assert self._table is not None
        self._outputs = [array_to_lod_tensor(array, self._table) for array in self._arrays]

    def step_input(self, x: Variable, level: int = 0) -> Variable:
        """The token of every sequence of ``x``; the first one decides how many steps there are."""
        parent, step = self._inside("step_input")
        check_sequences("DynamicRNN.step_input", x, level)
        if self._table is None:
            self._table = parent.create_var(
                name=unique_name.generate("lod_rank_table"), type=VarType.LOD_RANK_TABLE, stop_gradient=True
            )
            parent.append_op("lod_rank_table", {"X": [x]}, {"Out": [self._table]}, {"level": level})
            self._longest = parent.create_var(
                name=unique_name.generate("dynamic_rnn_max_seq_len"), dtype="int64", shape=[1]
            )
            parent.append_op("max_sequence_len", {"RankTable": [self._table]}, {"Out": [self._longest]})
            self._condition.stop_gradient = True
            self._condition.shape = [1]
            test = {"X": [step], "Y": [self._longest]}
            parent.append_op("less_than", test, {"Out": [self._condition]}, {"axis": -1, "force_cpu": True})
        array = parent.create_var(
            name=unique_name.generate("dynamic_rnn_input_array"),
            type=VarType.LOD_TENSOR_ARRAY,
            dtype=x.dtype,
            shape=x.shape,
            lod_level=x.lod_level - 1,
        )
        self._inputs.append(array)
        parent.append_op("lod_tensor_to_array", {"X": [x], "RankTable": [self._table]}, {"Out": [array]})
        return array_read(array, step)

    def static_input(self, x: Variable) -> Variable:
        """``x`` whole in every step, without the rows of sequences that have ended."""
        _, step = self._inside("static_input")
        check_variable("DynamicRNN.static_input", "x", x)
        if self._table is None:
            raise invalid("DynamicRNN.static_input: there is no step_input yet", "call step_input first")
        return shrink_memory(self._reordered(x, "dynamic_rnn_static_input_reordered"), step, self._table)

    def memory(
        self,
        init: Variable | None = None,
        shape: Sequence[int] | None = None,
        value: float = 0.0,
        need_reorder: bool = False,
        dtype: DTypeLike = "float32",
    ) -> Variable:
        """The value handed over from the step before.

        Args:
            init: Its rows before the first step; else they are ``value``.
            shape: Of a row, without ``init``.
            value: What a row is filled with.
            need_reorder: Row k of ``init`` belongs to sequence k. Without it, as in Paddle, row k belongs to the k-th
                longest sequence, which is only harmless where all rows are alike.
            dtype: Element type, without ``init``.
        """
        parent, step = self._inside("memory")
        if self._zero is None:
            self._zero = parent.create_var(name=unique_name.generate("zero_idx"), dtype="int64", shape=[1])
            attrs = {"shape": [1], "dtype": VarType.INT64, "value": 0.0, "force_cpu": True}
            parent.append_op("fill_constant", {}, {"Out": [self._zero]}, attrs)
        if init is None:
            init = self._filled(parent, self._zero, shape, value, dtype)
        else:
            check_variable("DynamicRNN.memory", "init", init)
            if need_reorder:
                if self._table is None:
                    raise invalid("DynamicRNN.memory: need_reorder without a step_input", "call step_input first")
                init = self._reordered(init, "dynamic_rnn_mem_init_reordered")
        if self._table is None:
            raise invalid("DynamicRNN.memory: there is no step_input yet", "call step_input first")
        array = parent.create_var(
            name=unique_name.generate("dynamic_rnn_mem_array"),
            type=VarType.LOD_TENSOR_ARRAY,
            dtype=init.dtype,
            shape=init.shape,
        )
        parent.append_op("write_to_array", {"X": [init], "I": [self._zero]}, {"Out": [array]})
        before = shrink_memory(array_read(array, step), step, self._table)
        self._memories[before.name] = array
        return before

    def update_memory(self, ex_mem: Variable, new_mem: Variable) -> None:
        """Hand ``new_mem`` over to the next step's ``ex_mem``."""
        self._inside("update_memory")
        check_variable("DynamicRNN.update_memory", "new_mem", new_mem)
        array = self._memories.get(getattr(ex_mem, "name", ""))
        if array is None:
            raise invalid("DynamicRNN.update_memory: ex_mem is no memory", "give what memory() returned")
        self._updates.append((new_mem, array))

    def output(self, *outputs: Variable) -> None:
        """Collect the rows of each step; the block's result has them as sequences."""
        parent, step = self._inside("output")
        for out in outputs:
            check_variable("DynamicRNN.output", "outputs", out)
            name = f"{self._helper.name}_output_array_{out.name}"
            array = parent.create_var(name=unique_name.generate(name), type=VarType.LOD_TENSOR_ARRAY, dtype=out.dtype)
            array_write(out, step, array)
            self._arrays.append(array)

    def __call__(self) -> Variable | list[Variable]:
        """The collected sequences: one Variable, or a list of several."""
        if self._state != "after":
            raise invalid("DynamicRNN is called before its block is complete", "call it after the with block")
        return self._outputs[0] if len(self._outputs) == 1 else self._outputs

    def _filled(
        self, parent: Block, zero: Variable, shape: Sequence[int] | None, value: float, dtype: DTypeLike
    ) -> Variable:
        if shape is None:
            raise wrong_type("DynamicRNN.memory: neither init nor shape is given", "give one of them")
        if not self._inputs:
            raise invalid("DynamicRNN.memory: shape is given before a step_input", "call step_input first")
        rows = [-1, *shape]
        init = parent.create_var(name=unique_name.generate("mem_init"), dtype=dtype, shape=rows)
        like = self._inputs[0]
        first = parent.create_var(name=unique_name.generate("in0"), dtype=like.dtype, shape=like.shape)
        parent.append_op("read_from_array", {"X": [like], "I": [zero]}, {"Out": [first]})
        attrs = {
            "shape": rows,
            "value": float(value),
            "dtype": init.dtype,
            "input_dim_idx": 0,
            "output_dim_idx": 0,
        }
        parent.append_op("fill_constant_batch_size_like", {"Input": [first]}, {"Out": [init]}, attrs)
        return init

    def _reordered(self, x: Variable, name: str) -> Variable:
        assert self._table is not None
        parent, _ = self._inside("static_input")
        out = parent.create_var(name=unique_name.generate(name), dtype=x.dtype, shape=x.shape, lod_level=x.lod_level)
        parent.append_op("reorder_lod_tensor_by_rank", {"X": [x], "RankTable": [self._table]}, {"Out": [out]})
        return out

    def _inside(self, method: str) -> tuple[Block, Variable]:
        """The block that holds the loop, and the index of the step."""
        parent = self._helper.block.parent
        if self._state != "inside" or self._step is None or parent is None:
            raise invalid(f"DynamicRNN.{method}() is used outside its block", "write it inside: with rnn.block(): ...")
        return parent, self._step
