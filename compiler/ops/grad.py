"""Requests for gradients, and contributions to parameters before they are expanded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..ir.core import OpBase, StateName, Value
from ..ir.stage import Stage
from ..ir.types import TensorType, Type
from .base import Op, OpBuilder
from .kinds import PUBLIC, Kind, MixedKind

NO_PARAMETER = StateName("")


@dataclass(frozen=True, eq=False)
class Backward(Op):
    """Gradients of ``targets`` with respect to ``inputs``: one result per input, of the input's type.

    ``seeds`` are the cotangents of the targets; empty means ones.  Gradients do not flow into
    ``stops``.  With ``private``, results are the privatised gradients of the module's privacy configuration
    and every input is a parameter.  The backward pass replaces the op.
    """

    name: ClassVar[str] = "grad.backward"
    last_stage: ClassVar[Stage] = Stage.CORE
    no_vjp: ClassVar[str] = "replaced by the backward pass, whose ops have vjps"
    no_evaluate: ClassVar[str] = "replaced by the backward pass"
    no_tvm: ClassVar[str] = "replaced by the backward pass"
    no_onnx: ClassVar[str] = "replaced by the backward pass"

    targets: tuple[Value, ...]
    inputs: tuple[Value, ...]
    seeds: tuple[Value, ...] = ()
    stops: tuple[Value, ...] = ()
    private: bool = False

    def infer(self) -> tuple[Type, ...]:
        if self.seeds and len(self.seeds) != len(self.targets):
            raise self.fail(f"{len(self.targets)} targets and {len(self.seeds)} seeds")
        for target, seed in zip(self.targets, self.seeds, strict=False):
            if target.type != seed.type:
                raise self.fail(f"a target of type {target.type} has a seed of type {seed.type}")
        return tuple(value.type for value in self.inputs)

    def example_axis(self, kinds: Sequence[Kind]) -> tuple[Kind, ...]:
        mixed = MixedKind("a gradient of the whole batch", self)
        return tuple(mixed for _ in self.inputs)


@dataclass(frozen=True, eq=False)
class Use(Op):
    """The contribution of one read of a parameter to its gradient, not yet expanded.

    Stands for operand number ``operand`` of the vjp of ``of``, read as a template (its class and attributes
    only), on ``arguments`` with results ``outputs``; ``cts`` are the cotangents of the results numbered ``live``.
    In a private sweep the operand may also be computed from parameters alone (a reshaped bias): then ``param``
    is empty, and the use is the cotangent of the op that made it.
    """

    name: ClassVar[str] = "grad.use"
    first_stage: ClassVar[Stage] = Stage.GRAD
    last_stage: ClassVar[Stage] = Stage.GRAD
    no_vjp: ClassVar[str] = "expanded before a second backward pass reads it"
    no_evaluate: ClassVar[str] = "expanded by privatize or expand-grad"
    no_tvm: ClassVar[str] = "expanded by privatize or expand-grad"
    no_onnx: ClassVar[str] = "expanded by privatize or expand-grad"

    arguments: tuple[Value, ...]
    outputs: tuple[Value, ...]
    cts: tuple[Value, ...]
    live: tuple[int, ...]
    of: OpBase
    operand: int
    param: StateName = NO_PARAMETER

    def infer(self) -> TensorType:
        if not 0 <= self.operand < len(self.arguments):
            raise self.fail(f"{self.of.name} has {len(self.arguments)} operands, there is no number {self.operand}")
        if len(self.live) != len(self.cts) or not all(0 <= i < len(self.outputs) for i in self.live):
            raise self.fail(f"{len(self.cts)} cotangents of the results {self.live} of {len(self.outputs)}")
        return self.arguments[self.operand].tensor

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        return MixedKind("a gradient of the whole batch", self)


@dataclass(frozen=True, eq=False)
class Private(Op):
    """The privatised gradient of ``param``: all its ``uses`` together, one per read of the parameter."""

    name: ClassVar[str] = "grad.private"
    first_stage: ClassVar[Stage] = Stage.GRAD
    last_stage: ClassVar[Stage] = Stage.GRAD
    no_vjp: ClassVar[str] = "the private update is not differentiated"
    no_evaluate: ClassVar[str] = "replaced by privatize"
    no_tvm: ClassVar[str] = "replaced by privatize"
    no_onnx: ClassVar[str] = "replaced by privatize"

    uses: tuple[Value, ...]
    param: StateName

    def infer(self) -> TensorType:
        for value in self.uses:
            if not isinstance(value.op, Use) or value.op.param != self.param:
                raise self.fail(f"an operand is not a grad.use of {self.param!r}")
        return self.uses[0].tensor

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        return PUBLIC


@dataclass(frozen=True, eq=False)
class StopGradient(Op):
    """``x``, through which no gradient flows.  The kind stays: a detached batch mean is still mixed."""

    name: ClassVar[str] = "grad.stop"
    no_vjp: ClassVar[str] = "gradients stop here"
    last_stage: ClassVar[Stage] = Stage.CORE
    no_evaluate: ClassVar[str] = "removed by the backward pass"
    no_tvm: ClassVar[str] = "removed by the backward pass"
    no_onnx: ClassVar[str] = "removed by the backward pass"

    x: Value

    def infer(self) -> TensorType:
        return self.x.tensor

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        return kinds[0]

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        return (None,)


@dataclass(frozen=True, eq=False)
class ClipGradient(Op):
    """``x``, whose own gradient is limited to [low, high] before it flows on."""

    name: ClassVar[str] = "grad.clip"
    last_stage: ClassVar[Stage] = Stage.CORE
    no_evaluate: ClassVar[str] = "removed by the backward pass"
    no_tvm: ClassVar[str] = "removed by the backward pass"
    no_onnx: ClassVar[str] = "removed by the backward pass"

    x: Value
    low: float
    high: float

    def infer(self) -> TensorType:
        if not self.x.type.dtype.is_float:
            raise self.fail(f"the operand is floating point, not {self.x.type}")
        return self.x.tensor

    def example_axis(self, kinds: Sequence[Kind]) -> Kind:
        return kinds[0]

    def vjp(self, b: OpBuilder, cts: Sequence[Value | None], needs: Sequence[bool]) -> Sequence[Value | None]:
        (ct,) = cts
        if ct is None:
            return (None,)
        low, high = (b.fill((), self.x.type.dtype, bound) for bound in (self.low, self.high))
        return (b.minimum(b.maximum(ct, low), high),)


OPS: tuple[type[Op], ...] = (Backward, Use, Private, StopGradient, ClipGradient)
