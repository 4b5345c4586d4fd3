"""Two blocks for the rows of a batch, by a condition of every row."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from .. import unique_name
from ..errors import invalid, wrong_type
from ..framework import Block
from ..layer_helper import LayerHelper, check_variable
from ..variable import Variable
from ..vartype import VarType
from .control_flow import conditional_block
from .tensor import assign


class IfElse:
    """Splits a batch by a condition of every row, runs a block on each part, and puts the rows back in order.

    ie = IfElse(condition)                               # bool [N, 1]
    with ie.true_block():
        ie.output(fc(ie.input(x), 10))
    with ie.false_block():
        ie.output(fc(ie.input(x), 10))
    (out,) = ie()                                        # [N, 10]
    """

    def __init__(self, cond: Variable, name: str | None = None) -> None:
        check_variable("IfElse", "cond", cond)
        if cond.dtype is not VarType.BOOL:
            raise wrong_type(
                f"IfElse: the condition {cond.name} holds {cond.dtype.numpy.name}",
                "it must hold one boolean per row, [N, 1]",
            )
        self._helper = LayerHelper("ifelse", name)
        self._condition = cond
        self._branch: bool | None = None
        self._inputs: dict[str, tuple[Variable, Variable]] = {}
        self._outputs: dict[bool, list[Variable]] = {True: [], False: []}

    @contextlib.contextmanager
    def true_block(self) -> Iterator[None]:
        """Record what is done with the rows whose condition holds."""
        with self._block(True):
            yield

    @contextlib.contextmanager
    def false_block(self) -> Iterator[None]:
        """Record what is done with the others."""
        with self._block(False):
            yield

    @contextlib.contextmanager
    def _block(self, branch: bool) -> Iterator[None]:
        if self._branch is not None:
            raise invalid("IfElse: a block is opened inside another", "close the first one before")
        self._branch = branch
        try:
            with conditional_block(self._condition, scalar=False):
                yield
        finally:
            self._branch = None
        if not self._outputs[branch]:
            raise invalid("IfElse: a block has no output", "call output(...) inside the block")

    def input(self, x: Variable) -> Variable:
        """The rows of ``x`` that belong to the block."""
        parent = self._inside("input")
        check_variable("IfElse.input", "x", x)
        if x.name not in self._inputs:
            parts = [
                parent.create_var(
                    name=unique_name.generate(f"ifelse_input{self._helper.name}"),
                    dtype=x.dtype,
                    shape=x.shape,
                    lod_level=x.lod_level,
                )
                for _ in range(2)
            ]
            parent.append_op(
                "split_lod_tensor",
                {"X": [x], "Mask": [self._condition]},
                {"OutTrue": [parts[0]], "OutFalse": [parts[1]]},
                {"level": 0},
            )
            self._inputs[x.name] = parts[0], parts[1]
        when_true, when_false = self._inputs[x.name]
        return when_true if self._branch else when_false

    def output(self, *outs: Variable) -> None:
        """The block's results, one row per row of the block; both blocks give the same number."""
        parent = self._inside("output")
        assert self._branch is not None
        for out in outs:
            check_variable("IfElse.output", "outs", out)
            outer = parent.create_var(
                name=unique_name.generate(f"{self._helper.name}_output"), dtype=out.dtype, shape=out.shape
            )
            self._outputs[self._branch].append(outer)
            assign(out, outer)

    def __call__(self) -> list[Variable]:
        """The results with all rows in order; of one block alone, its rows."""
        when_true, when_false = self._outputs[True], self._outputs[False]
        if self._branch is not None:
            raise invalid("IfElse is called inside a block", "call it after the with blocks")
        if not when_true and not when_false:
            raise invalid("IfElse has no blocks", "write true_block and false_block first")
        if not when_true or not when_false:
            return when_true or when_false
        if len(when_true) != len(when_false):
            raise invalid(
                f"IfElse: true_block has {len(when_true)} outputs and false_block {len(when_false)}",
                "give the same number in both",
            )
        return [self._merged(yes, no) for yes, no in zip(when_true, when_false)]

    def _merged(self, yes: Variable, no: Variable) -> Variable:
        helper = LayerHelper("merge_lod_tensor")
        if yes.dtype != no.dtype:
            raise wrong_type(
                f"IfElse: the blocks give {yes.dtype.numpy.name} and {no.dtype.numpy.name}", "cast one of them"
            )
        out = helper.temporary(yes.dtype, yes.shape)
        inputs = {"X": [self._condition], "Mask": [self._condition], "InTrue": [yes], "InFalse": [no]}
        helper.op("merge_lod_tensor", inputs, {"Out": [out]}, {"level": 0})
        return out

    def _inside(self, method: str) -> Block:
        parent = self._helper.block.parent
        if self._branch is None or parent is None:
            raise invalid(f"IfElse.{method}() is used outside a block", "write it inside: with ie.true_block(): ...")
        return parent
