"""hoist: what a loop need not compute step by step is computed before it.

* What is the same in every step moves in front of the loop.
* A product with a fixed matrix, or a table lookup, that depends on the step's slices alone becomes one op over all
  steps; the body reads its slices.
* Where gradients are taken, a loop also returns its carried values and the products in its body, so that the
  reverse sweep need not run it again.  What no sweep reads is removed later (dce).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

from ..ir.core import Function, Module, OpBase, Value
from ..ir.stage import Stage
from ..ir.types import RaggedType
from ..ops.base import Op
from ..ops.construct import OpBuilder
from ..ops.control import Scan, scan, stacked_type
from ..ops.embedding import Lookup
from ..ops.grad import Backward
from ..ops.linear import MatMul
from .base import Pass
from .rewrite import rewrite


@dataclass(frozen=True)
class Hoist(Pass):
    """Rewrite every ``control.scan`` that has something to move or to return."""

    name: ClassVar[str] = "hoist"
    requires: ClassVar[Stage] = Stage.CORE
    ensures: ClassVar[Stage] = Stage.CORE

    def run(self, module: Module) -> Module:
        return module.map_functions(_function)


def _function(function: Function) -> Function:
    differentiated = any(isinstance(op, Backward) for op in function.ops)

    def replacement(b: OpBuilder, op: OpBase) -> Sequence[Value] | None:
        return _Loop(b, op, differentiated).run() if isinstance(op, Scan) else None

    return rewrite(function, replacement)


def _dense(op: OpBase) -> bool:
    """Whether no result has rows of different lengths: a reverse loop sums gradients of dense values only."""
    return not any(isinstance(v.type, RaggedType) and v.type.dtype.is_float for v in op.results)


class _Loop:
    """One loop, rewritten into ``b``."""

    def __init__(self, b: OpBuilder, loop: Scan, differentiated: bool) -> None:
        self.b, self.loop, self.differentiated = b, loop, differentiated
        params = loop.body.params[1 + len(loop.init) :]
        sliced = len(loop.stacked)
        # Values of the body that exist in front of the loop: the same in every step, or stacked over the steps.
        self.fixed = dict(zip(params[sliced:], loop.whole, strict=True))
        self.stacked = dict(zip(params[:sliced], loop.stacked, strict=True))
        self.constants = {v for op in loop.body.ops if not op.operands for v in op.results}
        self.moved: set[OpBase] = set()

    def run(self) -> Sequence[Value] | None:
        """The results of the new loop; None where the loop stays as it is."""
        for op in self.loop.body.ops:
            if op.operands and all(v in self.fixed or v in self.constants for v in op.operands) and _dense(op):
                self._move_fixed(op)
        for op in self._of_slices():
            self._move_stacked(op)
        more = self._returned_too() if self.differentiated else ()
        if not self.moved and not more:
            return None
        return self._rebuilt(more)[: len(self.loop.results)]

    # Moving -----------------------------------------------------------------------------------------------
    def _outside(self, value: Value) -> Value:
        if value in self.stacked:
            return self.stacked[value]
        if value not in self.fixed:
            assert value in self.constants
            assert value.op is not None
            copy = value.op.clone({})
            self.b.emit(copy)
            self.fixed |= zip(value.op.results, copy.results, strict=True)
        return self.fixed[value]

    def _move_fixed(self, op: OpBase) -> None:
        copy = op.clone({v: self._outside(v) for v in op.operands})
        self.fixed |= zip(op.results, self.b.emit(copy), strict=True)
        self.moved.add(op)

    def _move_stacked(self, op: OpBase) -> None:
        over = [v in self.stacked for v in op.operands]
        with self.b.at(op.loc):
            lifted = cast(Op, op).lifted(self.b, [self._outside(v) for v in op.operands], over)
            assert lifted is not None, f"{op.name} was found to lift"
            self.stacked |= zip(op.results, self.b.emit(lifted, *(v.hint for v in op.results)), strict=True)
        self.moved.add(op)

    def _of_slices(self) -> list[OpBase]:
        """Products and lookups that read slices and fixed values only, and the ops they need, in order."""
        if not isinstance(self.loop.trip, int):
            return []
        local = set(self.stacked)
        able: list[OpBase] = []
        for op in self.loop.body.ops:
            over = [v in local for v in op.operands]
            known = all(o or v in self.fixed or v in self.constants for v, o in zip(op.operands, over, strict=True))
            if any(over) and known and self._lifts(op, over):
                local.update(op.results)
                able.append(op)
        wanted: set[Value] = set()
        chosen: list[OpBase] = []
        for op in reversed(able):
            product = isinstance(op, MatMul | Lookup) and any(v in self.fixed for v in op.operands)
            if product or any(v in wanted for v in op.results):
                wanted.update(op.operands)
                chosen.append(op)
        return chosen[::-1]

    def _lifts(self, op: OpBase, over: Sequence[bool]) -> bool:
        operands = [Value(stacked_type(self.loop.trip, v)) if o else v for v, o in zip(op.operands, over, strict=True)]
        return isinstance(op, Op) and op.lifted(self.b.nested(), operands, over) is not None

    # The loop that remains --------------------------------------------------------------------------------
    def _returned_too(self) -> tuple[Value, ...]:
        """Values of the body that the reverse sweep reads: carried ones, and products."""
        body = self.loop.body
        results = body.results[: len(self.loop.init)]
        products = [v for op in body.ops if isinstance(op, MatMul) and op not in self.moved for v in op.results]
        returned = set(body.results[len(self.loop.init) :])
        return tuple(v for v in dict.fromkeys([*results, *products]) if v not in returned)

    def _rebuilt(self, more: Sequence[Value]) -> tuple[Value, ...]:
        loop, body = self.loop, self.loop.body
        ops = [op for op in body.ops if op not in self.moved]
        read = {v for op in ops for v in op.operands} | {*body.results, *more}
        made = {v for op in ops for v in op.results}
        slices = [v for v in self.stacked if v in read]
        whole = [v for v in self.fixed if v in read and v not in made]
        head = body.params[: 1 + len(loop.init)]

        def step(inner: OpBuilder, *params: Value) -> Sequence[Value]:
            mapping = dict(zip((*head, *slices, *whole), params, strict=True))
            for new, old in zip(params, mapping, strict=True):
                new.hint = old.hint
            inner.splice(ops, mapping)
            return [mapping[v] for v in (*body.results, *more)]

        stacked = [self.stacked[v] for v in slices]
        with self.b.at(loop.loc):
            return scan(self.b, loop.init, stacked, [self.fixed[v] for v in whole], loop.trip, step, loop.reverse)
