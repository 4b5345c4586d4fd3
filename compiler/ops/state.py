"""State variables: each function reads a variable at most once and writes it at most once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from ..ir.core import StateName, Value
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


OPS: tuple[type[Op], ...] = (Read, Write)
