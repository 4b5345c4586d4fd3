"""Variables of dygraph in a Program that is being traced: parameters by name and memory, other values as constants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...runtime.buffers import Buffer
from .. import unique_name
from ..errors import invalid
from ..framework import Block, Program
from ..variable import Parameter, Variable
from ..vartype import convert_dtype
from .graph import Array, Cell, Node
from .recorder import Recorder
from .variable import EagerParameter, EagerVariable


class EagerMemory:
    """Memory of a persistable variable of dygraph, lent to scopes (`memory.Memory`)."""

    def __init__(self, recorder: Recorder, cell: Cell) -> None:
        self._recorder = recorder
        self._cell = cell

    @property
    def buffer(self) -> Buffer:
        return self._cell.buffer

    def settle(self) -> None:
        self._recorder.flush()

    def overwrite(self) -> None:
        self._recorder.overwrite(self._cell)


class Captures:
    """Takes variables of dygraph into ``program`` while code of dygraph is recorded there.

    Args:
        program: What is recorded into.
        recorder: Of the dygraph that the code belongs to.
        grad_enabled: False where the code is traced in evaluation.
    """

    def __init__(self, program: Program, recorder: Recorder, *, grad_enabled: bool) -> None:
        self._program = program
        self._recorder = recorder
        self._grad_enabled = grad_enabled
        self._found: dict[Cell | Node, Variable] = {}

    @property
    def grad_enabled(self) -> bool:
        """False in evaluation and inside `no_grad`."""
        return self._grad_enabled and self._recorder.grad_enabled

    def variable(self, value: EagerVariable) -> Variable:
        """The program's variable for one of dygraph.

        Raises:
            ProgramError: Its name is taken in the program, it has no value, or it is data of a private lot.
        """
        cell = value.node.cell
        key = value.node if cell is None else cell
        found = self._found.get(key)
        if found is None:
            if cell is None:
                if value.node.fed is not None and value.node.fed.lot is not None:
                    raise invalid(
                        f"{value.name} is of a lot, and the traced code would hold its examples as a constant",
                        "give it to the function as an argument",
                    )
                array = self._recorder.value_of(value)
                found = self.constant(array, self._program.global_block())
            else:
                found = self._persistable(value, cell)
            self._found[key] = found
        return found

    def _persistable(self, value: EagerVariable, cell: Cell) -> Variable:
        block = self._program.global_block()
        if value.name in block.vars:
            raise invalid(
                f"two variables of the traced code are called {value.name}",
                "build all layers of a model in one guard, or name their parameters: fluid.ParamAttr(name=...)",
            )
        self._recorder.value_of(value)  # raises where there is none
        if isinstance(value, EagerParameter):
            made: Variable = block.create_parameter(
                value.shape,
                value.dtype,
                value.name,
                trainable=value.trainable and not value.stop_gradient,
                learning_rate=value.learning_rate,
                regularizer=value.regularizer,
                do_model_average=value.do_model_average,
                stop_gradient=value.stop_gradient,
            )
        else:
            made = block.create_var(
                name=value.name, shape=value.shape, dtype=value.dtype, persistable=True, stop_gradient=True
            )
        made.memory = EagerMemory(self._recorder, cell)
        return made

    def constant(self, array: Array, block: Block | None = None) -> Variable:
        """An array as a constant of the program, made in ``block``; in the current one if None."""
        block = self._program.current_block() if block is None else block
        kind = convert_dtype(array.dtype)
        name = unique_name.generate("constant")
        out = block.create_var(name=name, shape=array.shape, dtype=kind, stop_gradient=True)
        attrs = {"dtype": kind, "shape": list(array.shape), "values": np.array(array, order="C")}
        block.append_op("assign_value", {}, {"Out": [out]}, attrs)
        return out

    def detached(self, x: Variable) -> Variable:
        """A variable of the same value that no gradient passes."""
        block = self._program.current_block()
        name = unique_name.generate(x.name + ".detached")
        out = block.create_var(name=name, shape=x.shape, dtype=x.dtype, stop_gradient=True)
        block.append_op("assign", {"X": [x]}, {"Out": [out]})
        return out

    def recorded(self, results: Mapping[str, Sequence[Variable]]) -> None:
        """Take note of an op: inside `no_grad` no gradient passes its results."""
        if not self._recorder.grad_enabled:
            for variables in results.values():
                for variable in variables:
                    variable.stop_gradient = variable.stop_gradient or not isinstance(variable, Parameter)
