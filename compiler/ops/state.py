"""State variables: each function reads a variable at most once and writes it at most once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from ..ir.core import Function, Module, StateName, Value
from ..ir.types import TensorType
from .base import Op
from .kinds import PUBLIC, Kind


@dataclass(frozen=True, eq=False)
class Read(Op):
    """The value a state variable has when the function starts."""

    name: ClassVar[str] = "state.read"
    access: ClassVar[Literal["read", "write"]] = "read"
    no_vjp: ClassVar[str] = "the start of the graph"
    no_evaluate: ClassVar[str] = "bound by the engine"
    no_tvm: ClassVar[str] = "bound by the engine"
    no_onnx: ClassVar[str] = "an input of the graph"

    state: StateName
    type: TensorType

    def infer(self) -> TensorType:
        return self.type

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        return PUBLIC


@dataclass(frozen=True, eq=False)
class Write(Op):
    """The value a state variable has when the function has run."""

    name: ClassVar[str] = "state.write"
    access: ClassVar[Literal["read", "write"]] = "write"
    no_vjp: ClassVar[str] = "the end of the graph"
    no_evaluate: ClassVar[str] = "bound by the engine"
    no_tvm: ClassVar[str] = "bound by the engine"
    no_onnx: ClassVar[str] = "an output of the graph"

    value: Value
    state: StateName

    def infer(self) -> tuple[TensorType, ...]:
        return ()

    def example_axis(self, kinds: Sequence[Kind]) -> tuple[Kind, ...]:
        return ()


def state_of(module: Module, function: Function) -> tuple[str, ...]:
    """The state variables that a function reads or writes, in the order of the module's declarations.

    They are the first inputs of the compiled function, on every target.
    """
    touched = {op.state for op in function.ops if isinstance(op, Read | Write)}
    return tuple(declared.name for declared in module.state if declared.name in touched)


OPS: tuple[type[Op], ...] = (Read, Write)
