"""Nodes whose inputs are all known numbers: their rules run beside the program, and numpy gives the results.

What exporters compute of constants and of fixed shapes reaches the axes and shapes of other nodes in this way, whatever
ops it takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ....compiler.errors import FluidcError
from ....compiler.ir.core import OpBase, Value
from ....compiler.ops.base import Op, has_rule
from ....compiler.ops.construct import OpBuilder
from ....compiler.ops.region import Environment, evaluate_op
from ....compiler.ops.state import Read
from ..context import Array, Frame, FunctionLowering, OpLowering, Shared
from ..known import Known
from .node import LARGEST, Node, NodeRule

MOST_OPS = 1000
"""Ops that a node of known numbers may become."""


def evaluated(rule: NodeRule, o: OpLowering) -> Sequence[Known] | None:
    """The results of the node; None where they depend on more than numbers, or are large."""
    names = o.op.input_arg_names
    known = {name: o.function.known[name] for name in names if name in o.function.known}
    if not names or len(known) < len(set(names)):
        return None
    if any(k.symbolic or k.array.size > LARGEST for k in known.values()):
        return None
    beside = FunctionLowering(Shared(), o.function.program, {}, {})
    beside.b = _Few()
    beside.known = known
    try:
        found = rule(Node(OpLowering(beside, o.op, Frame(beside, o.frame.block, beside.b))))
        results = list(found) if isinstance(found, Sequence) else [found]
        return [r if isinstance(r, Known) else Known.of(_array(r, beside.shared.initial)) for r in results]
    except (FluidcError, _NotEvaluated, ValueError, OverflowError):
        return None  # the rule itself says why


class _NotEvaluated(Exception):
    """The value is large, or of too many ops, or of one that numpy does not compute."""


class _Few(OpBuilder):
    """Ends rules that write more ops than numbers are worth."""

    def emit(self, op: OpBase, *hints: str) -> tuple[Value, ...]:
        if len(self.ops) >= MOST_OPS:
            raise _NotEvaluated
        return super().emit(op, *hints)


def _array(value: Value, initial: Mapping[str, Array]) -> Array:
    """A value by ``evaluate`` of the ops that it depends on."""
    environment: Environment = {}
    waiting = [value]
    while waiting:
        top = waiting[-1]
        missing = [] if top.op is None else [operand for operand in top.op.operands if operand not in environment]
        if top in environment:
            waiting.pop()
        elif missing:
            waiting += missing
        elif isinstance(top.op, Read):
            environment[top] = initial[top.op.state]
        else:
            size = top.tensor.numel
            if not isinstance(top.op, Op) or not has_rule(type(top.op), "evaluate"):
                raise _NotEvaluated
            if not isinstance(size, int) or size > LARGEST:
                raise _NotEvaluated
            with np.errstate(all="ignore"):
                evaluate_op(top.op, environment)
    return np.asarray(environment[value])
