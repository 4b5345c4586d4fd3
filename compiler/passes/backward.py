"""backward: gradient requests become the reverse sweep.

Cotangents of intermediate values are written out by the ops' ``vjp`` rules.  What a read of a parameter
contributes stays one unexpanded op, ``grad.use``, so that ``privatize`` and ``expand-grad`` can each write it
their own way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, cast

from ..errors import MissingRule, PrivacyError
from ..ir.core import Function, Module, OpBase, Value
from ..ir.stage import Stage
from ..ops.base import Op
from ..ops.construct import OpBuilder
from ..ops.control import Scan
from ..ops.grad import NO_PARAMETER, ClipGradient, Private, StopGradient, Use
from ..ops.grad import Backward as Request
from ..ops.kinds import PublicKind
from ..ops.state import Read
from .base import Pass
from .expand_grad import expand_uses
from .rewrite import mapped_outputs, rewrite
from .separability import extend, param_kinds


@dataclass(frozen=True)
class Backward(Pass):
    """Replace every ``grad.backward`` by the ops that compute it, in program order.

    A request that reads results of an earlier one differentiates through the earlier sweep, whose
    contributions are expanded first.
    """

    name: ClassVar[str] = "backward"
    requires: ClassVar[Stage] = Stage.CORE
    ensures: ClassVar[Stage] = Stage.GRAD

    def run(self, module: Module) -> Module:
        return module.map_functions(lambda function: self._function(module, function), Stage.GRAD)

    def _function(self, module: Module, function: Function) -> Function:
        b = OpBuilder()
        mapping: dict[Value, Value] = {}
        for op in function.ops:
            current = op.clone(mapping) if any(v in mapping for v in op.operands) else op
            if isinstance(current, Request):
                if _reads_contributions(b.ops, current):
                    b, expanded = expand_uses(b.ops)
                    mapping = {old: expanded.get(new, new) for old, new in mapping.items()} | expanded
                    current = current.clone(expanded)
                public = _public_values(module, function, b.ops) if current.private else frozenset[Value]()
                values: Sequence[Value] = _Sweep(b, current, public).run()
                for old, new in zip(op.results, values, strict=True):
                    new.hint = new.hint or old.hint
                    mapping[old] = new
                continue
            b.ops.append(current)
            if current is not op:
                mapping.update(zip(op.results, current.results, strict=True))
        swept = replace(function, ops=tuple(b.ops), outputs=mapped_outputs(function, mapping))
        return rewrite(swept, lambda _, op: (op.x,) if isinstance(op, StopGradient | ClipGradient) else None)


class _Sweep:
    """One reverse sweep over the ops that lie before the request.

    ``public`` values (private requests only) depend on parameters but on no example: like parameters, their
    cotangents are sums over examples, and stay unexpanded.
    """

    def __init__(self, b: OpBuilder, request: Request, public: frozenset[Value]) -> None:
        self.b = b
        self.request = request
        self.public = public
        self.wanted = dict.fromkeys(request.inputs)
        self.stops = set(request.stops)
        self.forward = tuple(b.ops)
        self.fixed = frozenset[Value]() if request.private else _from_state(self.forward)
        self.reached = self._reached()
        self.cts: dict[Value, list[Value]] = {}

    def _reached(self) -> set[Value]:
        """Values that depend on an input in a differentiable way; the sweep stays inside them."""
        reached: set[Value] = set(self.wanted)
        for op in self.forward:
            if isinstance(op, StopGradient) or not any(v in reached for v in op.operands):
                continue
            reached.update(v for v in op.results if v.type.dtype.is_float and v not in self.stops)
        return reached

    def run(self) -> list[Value]:
        """Append the sweep; returns the gradient of every input."""
        b, request = self.b, self.request
        with b.at(request.loc):
            for number, target in enumerate(request.targets):
                seed = request.seeds[number] if request.seeds else self._ones(target)
                self.cts.setdefault(target, []).append(seed)
        for op in reversed(self.forward):
            self._op(op)
        with b.at(request.loc):
            return [self._gradient(value) for value in request.inputs]

    def _gradient(self, value: Value) -> Value:
        parts = self.cts.get(value)
        if not parts:
            return self.b.zeros_like(value)
        if self.request.private:
            name = cast(Read, value.op).state
            return self.b(Private(tuple(parts), name), f"g_{name}")
        total = self._total(value)
        assert total is not None
        return total

    def _ones(self, target: Value) -> Value:
        kind = target.tensor
        return self.b.fill(kind.shape, kind.dtype, 1.0)

    def _total(self, value: Value) -> Value | None:
        """The sum of the contributions that reached ``value``; they collapse into one."""
        parts = self.cts.get(value)
        if not parts:
            return None
        total = parts[0]
        for part in parts[1:]:
            total = self.b.add(total, part)
        self.cts[value] = [total]
        return total

    def _op(self, op: OpBase) -> None:
        if isinstance(op, Request | StopGradient) or not any(v in self.reached for v in op.operands):
            return
        if not any(self.cts.get(v) for v in op.results if v in self.reached):
            return
        if isinstance(op, ClipGradient) and self.request.private:
            # A lot's gradients are those of scaled losses: what is clipped on the way does not scale along.
            raise PrivacyError(
                f"the gradient of {op.x.hint or op.x.type} is clipped on its way to the parameters, so no clipping of "
                "single examples bounds what one person changes",
                where=op.loc.place or None,
                hint="leave error_clip out of the private program",
            )
        with self.b.at(op.loc):
            cts = [self._total(v) if v in self.reached else None for v in op.results]
            needs = [v in self.reached for v in op.operands]
            uses = [need and self._is_parameter(v) for v, need in zip(op.operands, needs, strict=True)]
            if op.regions and not self.request.private:
                uses = [False] * len(uses)  # one reverse loop for all operands, rather than one for each
            apart = self._apart(op, needs)
            for operand, value in enumerate(op.operands):
                if uses[operand] and operand not in apart:
                    self._add(value, self._use(op, operand, cts))
            rest = [
                need and not use and operand not in apart
                for operand, (need, use) in enumerate(zip(needs, uses, strict=True))
            ]
            if apart:
                self._loop(cast(Scan, op), cts, rest, apart)
            elif any(rest):
                self._vjp(op, cts, rest)

    def _apart(self, op: OpBase, needs: Sequence[bool]) -> list[int]:
        """Parameters that a loop reads, whose contributions are those of the single reads in its body.

        The reverse loop then stacks cotangents instead of adding weight gradients up step by step.
        """
        if not isinstance(op, Scan):
            return []
        first = len(op.init) + len(op.stacked)
        return [
            first + j
            for j, value in enumerate(op.whole)
            if needs[first + j] and (self._is_parameter(value) or value in self.fixed) and op.lifts(self.b, j)
        ]

    def _loop(self, op: Scan, cts: Sequence[Value | None], needs: Sequence[bool], apart: Sequence[int]) -> None:
        first = len(op.init) + len(op.stacked)
        grads, readings = op.vjp_apart(self.b, cts, needs, [operand - first for operand in apart])
        for value, grad in zip(op.operands, grads, strict=True):
            if grad is not None:
                self._add(value, grad)
        for reading in readings:
            self._add(reading.op.operands[reading.operand], self._use(reading.op, reading.operand, reading.cts))

    def _is_parameter(self, value: Value) -> bool:
        return value in self.public or (value in self.wanted and isinstance(value.op, Read))

    def _use(self, op: OpBase, operand: int, cts: Sequence[Value | None]) -> Value:
        if not _differentiable(op):
            raise cast(Op, op).missing("vjp", cast(Op, op).no_vjp)
        live = tuple(index for index, ct in enumerate(cts) if ct is not None)
        source = op.operands[operand].op
        param = source.state if isinstance(source, Read) else NO_PARAMETER
        return self.b(
            Use(
                arguments=op.operands,
                outputs=op.results,
                cts=tuple(ct for ct in cts if ct is not None),
                live=live,
                of=op,
                operand=operand,
                param=param,
            ),
            f"d_{param or op.operands[operand].hint}",
        )

    def _vjp(self, op: OpBase, cts: Sequence[Value | None], needs: Sequence[bool]) -> None:
        if not _differentiable(op):
            raise cast(Op, op).missing("vjp", cast(Op, op).no_vjp)
        grads = cast(Op, op).vjp(self.b, cts, needs)
        for value, grad, need in zip(op.operands, grads, needs, strict=True):
            if need and grad is not None:
                self._add(value, grad)

    def _add(self, value: Value, grad: Value) -> None:
        if grad.type != value.type:
            raise MissingRule(f"the vjp of an op gave a cotangent of type {grad.type} for a value of type {value.type}")
        self.cts.setdefault(value, []).append(grad)


def _public_values(module: Module, function: Function, ops: Sequence[OpBase]) -> frozenset[Value]:
    kinds = param_kinds(module, function)
    extend(kinds, module, ops)
    return frozenset(value for value, kind in kinds.items() if isinstance(kind, PublicKind))


def _from_state(ops: Sequence[OpBase]) -> frozenset[Value]:
    """Values computed from state and constants alone: like parameters, they are the same for every row."""
    found: set[Value] = set()
    for op in ops:
        if all(value in found for value in op.operands):
            found.update(op.results)
    return frozenset(found)


def _reads_contributions(ops: Sequence[OpBase], request: Request) -> bool:
    """Whether a target depends on an unexpanded contribution of an earlier request."""
    needed = {*request.targets, *request.seeds}
    for op in reversed(ops):
        if any(v in needed for v in op.results):
            if isinstance(op, Use):
                return True
            needed.update(op.operands)
    return False


def _differentiable(op: OpBase) -> bool:
    return type(op).vjp is not Op.vjp if isinstance(op, Op) else False
