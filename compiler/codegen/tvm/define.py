"""From IR functions to tensor definitions: runs the ops' ``to_tvm`` rules, and takes regions apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from ...errors import FluidcError, MissingRule, TargetError
from ...ir.core import Function, Module, OpBase, Region, Value, fields_of
from ...ir.types import DType, RaggedType, Shape
from ...ops.base import Op
from ...ops.branching import If, While
from ...ops.control import Map, Scan
from ...ops.emit import Expr, Tensor
from ...ops.state import Read, Write, state_of
from .emit import Emitter
from .expr import Index, Node, const, expr, loop_index
from .fuse import copy_of, plan, store_also
from .graph import Body, Placeholder, Structured, StructuredOutput, TensorDef
from .kit import offsets_extent


@dataclass(frozen=True, eq=False)
class Ragged:
    """A ragged value: what rules know as ``ops.emit.RaggedTensor``."""

    data: TensorDef
    offsets: TensorDef


Lowered: TypeAlias = TensorDef | Ragged


def parts(value: Lowered) -> tuple[TensorDef, ...]:
    """The buffers of a value: one, or data and offsets."""
    return (value.data, value.offsets) if isinstance(value, Ragged) else (value,)


class Scope:
    """Ops lowered into one emitter: a function's, or a region's.  ``target`` is what errors name."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.emitter = Emitter(many_threads=target == "cuda")
        self.values: dict[Value, Lowered] = {}

    def placeholder(self, dtype: DType, shape: Shape, name: str) -> Placeholder:
        made = self.emitter.define(Placeholder(dtype, shape))
        made.name = name
        return made

    def parameter(self, value: Value, name: str) -> Lowered:
        """Placeholders for a value that comes from outside."""
        kind = value.type
        if isinstance(kind, RaggedType):
            data = self.placeholder(kind.dtype, kind.data.shape, name)
            offsets = self.placeholder(DType.I64, (offsets_extent(kind.count),), f"{name}.offsets")
            made: Lowered = Ragged(data, offsets)
        else:
            made = self.placeholder(kind.dtype, kind.shape, name)
        self.values[value] = made
        return made

    def dense(self, value: Value) -> TensorDef:
        """The tensor of a dense value."""
        found = self.values[value]
        assert isinstance(found, TensorDef)
        return found

    # Ops ----------------------------------------------------------------------------------------------
    def run(self, ops: Sequence[OpBase]) -> None:
        for op in ops:
            with self.emitter.op(op.name, op.loc):
                self._op(op)

    def _op(self, op: OpBase) -> None:
        match op:
            case Scan():
                self._scan(op)
            case Map():
                self._map(op)
            case If():
                self._if(op)
            case While():
                self._while(op)
            case Op():
                self._rule(op)
            case _:
                raise TargetError(
                    f"{op.name} cannot be lowered for the {self.target} target", where=op.loc.place or None
                )

    def _rule(self, op: Op) -> None:
        operands = [
            self._operand(getattr(op, spec.name))
            for spec in fields_of(type(op))
            if spec.kind in ("operand", "optional", "variadic")
        ]
        try:
            made = op.to_tvm(self.emitter, *operands)
        except MissingRule as error:
            raise TargetError(
                f"{error.what} (target {self.target})",
                where=error.where,
                hint=error.hint or "compile with another --target",
            ) from None
        except FluidcError:
            raise
        except Exception as error:
            layer = f"{op.loc.layer} ({op.name})" if op.loc.layer else op.name
            raise TargetError(
                f"{layer} cannot be lowered for the {self.target} target: {error}",
                where=op.loc.place or None,
                hint=f"this is a fault of class {type(op).__name__}, not of the program; please report it",
            ) from error
        self._bind(op.results, made)

    def _operand(self, held: Value | tuple[Value, ...] | None) -> Any:
        if held is None:
            return None
        return tuple(self.values[v] for v in held) if isinstance(held, tuple) else self.values[held]

    def _bind(self, results: Sequence[Value], made: Any) -> None:
        """Results from what a rule returned: a tensor per dense result, data and offsets per ragged one."""
        found = list(cast("tuple[TensorDef, ...]", made)) if isinstance(made, tuple) else [cast("TensorDef", made)]
        for value in results:
            first = found.pop(0)
            self.values[value] = Ragged(first, found.pop(0)) if isinstance(value.type, RaggedType) else first
        assert not found

    # Regions ------------------------------------------------------------------------------------------
    def _structured(self, op: OpBase, program: Structured, shapes: Sequence[tuple[DType, Shape]]) -> None:
        outputs = tuple(self.emitter.define(StructuredOutput(d, s, program=program)) for d, s in shapes)
        program.outputs = outputs
        prefix: tuple[Node, ...] = ()
        if program.kind in ("scan", "map"):
            prefix = (program.index or const(0, DType.I64),)
        if program.kind != "while":
            for body in program.bodies:
                for output, result in zip(outputs[len(body.carried) :], body.results, strict=True):
                    store_also(body.plan, result, output, prefix)
        for value, output in zip(op.results, outputs, strict=True):
            self.values[value] = output

    def _scan(self, op: Scan) -> None:
        trip = loop_index(op.trip)
        inner = _Region(self)
        index, *rest = op.body.params
        inner.values[index] = inner.constant(expr(trip))
        count, sliced = len(op.init), len(op.stacked)
        carried = [inner.carry(param) for param in rest[:count]]
        for param, source in zip(rest[count : count + sliced], op.stacked, strict=True):
            inner.values[param] = inner.block_of(self.dense(source), 0, 1, expr(trip), param.tensor.shape, keep=False)
        for param, source in zip(rest[count + sliced :], op.whole, strict=True):
            inner.values[param] = inner.seen(self.values[source])
        body = inner.finish(op.body, carried, op.body.results[:count], op.body.results[count:])
        init = tuple(self.dense(value) for value in op.init)
        program = Structured("scan", (body,), init, trip if isinstance(trip, Index) else None, op.reverse)
        self._structured(op, program, [(v.tensor.dtype, v.tensor.shape) for v in op.results])

    def _map(self, op: Map) -> None:
        trip = loop_index(op.trip)
        inner = _Region(self)
        for param, source, axis in zip(op.body.params, op.arguments, op.axes, strict=True):
            if axis < 0:
                inner.values[param] = inner.seen(self.values[source])
                continue
            size = param.tensor.shape[axis]
            assert isinstance(size, int)
            inner.values[param] = inner.block_of(
                self.dense(source), axis, size, expr(trip), param.tensor.shape, keep=True
            )
        body = inner.finish(op.body, [], (), op.body.results)
        program = Structured("map", (body,), (), trip if isinstance(trip, Index) else None)
        self._structured(op, program, [(v.tensor.dtype, v.tensor.shape) for v in op.results])

    def _if(self, op: If) -> None:
        bodies: list[Body] = []
        for region in (op.then, op.otherwise):
            inner = _Region(self)
            for param, source in zip(region.params, op.arguments, strict=True):
                inner.values[param] = inner.seen(self.values[source])
            bodies.append(inner.finish(region, [], (), region.results))
        program = Structured("if", tuple(bodies), predicate=self.dense(op.predicate))
        self._structured(op, program, [(v.tensor.dtype, v.tensor.shape) for v in op.results])

    def _while(self, op: While) -> None:
        bodies: list[Body] = []
        count = len(op.init)
        for region, advance in ((op.condition, False), (op.body, True)):
            inner = _Region(self)
            carried = [inner.carry(param) for param in region.params[:count]]
            for param, source in zip(region.params[count:], op.whole, strict=True):
                inner.values[param] = inner.seen(self.values[source])
            if advance:
                bodies.append(inner.finish(region, carried, region.results, ()))
            else:
                bodies.append(inner.finish(region, carried, (), region.results))
        init = tuple(self.dense(value) for value in op.init)
        program = Structured("while", tuple(bodies), init, max_trip=op.max_trip)
        self._structured(op, program, [(v.tensor.dtype, v.tensor.shape) for v in op.results])


class _Region(Scope):
    """The body of a loop or branch.  Outer tensors are seen through placeholders."""

    def __init__(self, outside: Scope) -> None:
        super().__init__(outside.target)
        self._outer: dict[TensorDef, Placeholder] = {}

    def proxy(self, tensor: TensorDef) -> Placeholder:
        """The placeholder that stands for an outer tensor."""
        if tensor not in self._outer:
            self._outer[tensor] = self.placeholder(tensor.dtype, tensor.shape, tensor.name)
        return self._outer[tensor]

    def seen(self, value: Lowered) -> Lowered:
        """An outer value as the body reads it."""
        if isinstance(value, Ragged):
            return Ragged(self.proxy(value.data), self.proxy(value.offsets))
        return self.proxy(value)

    def carry(self, param: Value) -> Placeholder:
        """A value that each trip hands to the next."""
        made = self.parameter(param, param.hint or "carried")
        assert isinstance(made, Placeholder)
        return made

    def constant(self, value: Expr) -> TensorDef:
        """A scalar that depends on the trip."""
        return cast("TensorDef", self.emitter.compute((), DType.I64, lambda: value))

    def block_of(self, source: TensorDef, axis: int, size: int, trip: Expr, shape: Shape, *, keep: bool) -> TensorDef:
        """Block ``trip`` of ``size`` entries along an axis; without ``keep`` that axis (of size 1) is dropped."""
        whole = cast("Tensor", self.proxy(source))

        def element(*indices: Expr) -> Expr:
            own = indices[axis] if keep else 0
            rest = indices[axis + 1 :] if keep else indices[axis:]
            return whole[(*indices[:axis], trip * size + own, *rest)]

        return cast("TensorDef", self.emitter.compute(shape, source.dtype, element))

    def finish(
        self, region: Region, carried: Sequence[Placeholder], advanced: Sequence[Value], results: Sequence[Value]
    ) -> Body:
        """Lower and plan the region: ``advanced`` overwrite ``carried``, ``results`` get memory of their own."""
        self.run(region.ops)
        writes = [(c, self.dense(v)) for c, v in zip(carried, advanced, strict=False)]
        outputs = [self.dense(value) for value in results]
        separate(self.emitter, outputs, {value for _, value in writes})
        planned = plan(self.emitter.tensors, outputs, writes, self.emitter.keep)
        outer = {placeholder: tensor for tensor, placeholder in self._outer.items()}
        return Body(planned, outer, list(carried), outputs)


def separate(emitter: Emitter, outputs: list[TensorDef], taken: set[TensorDef]) -> None:
    """Give every output memory of its own: copies of what is an input, written elsewhere, or listed twice."""
    for number, output in enumerate(outputs):
        if output in taken or isinstance(output, Placeholder):
            with emitter.op("copy", output.loc):
                outputs[number] = output = emitter.define(copy_of(output, "copy"))
        taken.add(output)


class FunctionScope(Scope):
    """One function of a module.

    ``state`` and ``params`` are its inputs in calling order, ``outputs`` its results, ``writes`` the new values of
    state variables.
    """

    def __init__(self, module: Module, function: Function, target: str = "cpu") -> None:
        super().__init__(target)
        self.state: dict[str, Placeholder] = {}
        for name in state_of(module, function):
            kind = module.declaration(name).type
            self.state[name] = self.placeholder(kind.dtype, kind.shape, name)
        self.params: list[TensorDef] = []
        for param in function.params:
            self.params.extend(parts(self.parameter(param.value, param.name)))
        self.writes: list[tuple[Placeholder, TensorDef]] = []
        self.run(function.ops)
        self.outputs: list[TensorDef] = []
        for output in function.outputs:
            self.outputs.extend(parts(self.values[output.value]))
        separate(self.emitter, self.outputs, {value for _, value in self.writes})

    def _op(self, op: OpBase) -> None:
        match op:
            case Read():
                self.values[op.result] = self.state[op.state]
            case Write():
                self.writes.append((self.state[op.state], self.dense(op.value)))
            case _:
                super()._op(op)
