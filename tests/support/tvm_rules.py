"""Lowering rules under test, as functions of one op."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from fluidc.compiler.ir.core import Function, Module, Output, Param, Value
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ir.types import TensorType
from fluidc.compiler.ops.base import Op
from fluidc.compiler.ops.emit import TvmEmitter


@dataclass(frozen=True, eq=False)
class Rule(Op):
    """An op whose only rule is the one under test."""

    name: ClassVar[str] = "test.rule"

    operands_: tuple[Value, ...]
    types: tuple[TensorType, ...]
    rule: Callable[..., Any]

    def infer(self) -> tuple[TensorType, ...]:
        return self.types

    def to_tvm(self, t: TvmEmitter, operands: tuple[Any, ...]) -> Any:
        return self.rule(t, *operands)


def module_of(types: Sequence[TensorType], results: Sequence[TensorType], rule: Callable[..., Any]) -> Module:
    params = [Value(kind, f"x{i}") for i, kind in enumerate(types)]
    op = Rule(tuple(params), tuple(results), rule)
    outputs = tuple(Output(f"y{i}", value) for i, value in enumerate(op.results))
    function = Function("f", tuple(Param(f"x{i}", v) for i, v in enumerate(params)), (op,), outputs)
    return Module(Stage.TARGET, (), (function,))
