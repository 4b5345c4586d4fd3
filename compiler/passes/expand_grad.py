"""expand-grad: contributions to parameters become plain weight gradients (programs without privacy)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, cast

from ..ir.core import Function, Module, OpBase, Value
from ..ir.stage import Stage
from ..ops.base import Op
from ..ops.construct import OpBuilder
from ..ops.grad import Use
from .base import Pass
from .rewrite import mapped_outputs


def vjp_of_use(b: OpBuilder, use: Use) -> Value:
    """Append the vjp that ``use`` stands for; returns the contribution (zeros where nothing flows)."""
    template = use.of.clone(dict(zip(use.of.operands, use.arguments, strict=True)))
    cts: list[Value | None] = [None] * len(template.results)
    for index, ct in zip(use.live, use.cts, strict=True):
        cts[index] = ct
    needs = [index == use.operand for index in range(len(use.arguments))]
    made = OpBuilder()
    with made.at(use.loc):
        grad = cast(Op, template).vjp(made, cts, needs)[use.operand]
    if grad is None:
        return b.zeros_like(use.arguments[use.operand])
    # Rules may read the op's own results (exp, softmax): those are the results of the forward op.
    mapping = dict(zip(template.results, use.outputs, strict=True))
    b.splice(made.ops, mapping)
    return mapping.get(grad, grad)


def expand_uses(ops: Iterable[OpBase]) -> tuple[OpBuilder, dict[Value, Value]]:
    """``ops`` with every ``grad.use`` expanded, and the substitution of values that came with it."""
    b = OpBuilder()
    mapping: dict[Value, Value] = {}
    for op in ops:
        current = op.clone(mapping) if any(v in mapping for v in op.operands) else op
        if isinstance(current, Use):
            value = vjp_of_use(b, current)
            value.hint = value.hint or op.result.hint
            mapping[op.result] = value
            continue
        b.ops.append(current)
        if current is not op:
            mapping.update(zip(op.results, current.results, strict=True))
    return b, mapping


@dataclass(frozen=True)
class ExpandGrad(Pass):
    """Replace every ``grad.use`` by the vjp of the op it stands for."""

    name: ClassVar[str] = "expand-grad"
    requires: ClassVar[Stage] = Stage.GRAD
    ensures: ClassVar[Stage] = Stage.PRIVATE

    def run(self, module: Module) -> Module:
        return module.map_functions(self._function, Stage.PRIVATE)

    def _function(self, function: Function) -> Function:
        b, mapping = expand_uses(function.ops)
        return replace(function, ops=tuple(b.ops), outputs=mapped_outputs(function, mapping))
