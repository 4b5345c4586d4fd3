"""Symbols replaced by sizes, and element types by others: one module from another of the same structure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar, cast

from .builder import mapped
from .core import Function, Module, OpBase, Output, Param, Region, Value, fields_of
from .syntax import syntax_of
from .types import Clipped, DType, Label, RaggedType, Scaled, Sym, TensorType, Type, bind_dim

Bound = TypeVar("Bound", Module, Function)


def bind(what: Bound, sizes: Mapping[str, int]) -> Bound:
    """``what`` with the symbols named in ``sizes`` replaced in every type and attribute, regions included.

    Types are inferred anew, so sizes that do not fit together raise VerifyError.
    """
    return _Substitution(sizes=sizes).apply(what)


def retype(what: Bound, dtypes: Mapping[DType, DType]) -> Bound:
    """``what`` with element types replaced in every type and attribute, regions included.

    Types are inferred anew; an op that fixes an element type raises VerifyError.
    """
    return _Substitution(dtypes=dtypes).apply(what)


def bind_op(op: OpBase, sizes: Mapping[str, int], mapping: Mapping[Value, Value]) -> OpBase:
    """``op`` on mapped operands, with symbols replaced in its attributes and regions."""
    return _Substitution(sizes=sizes).op(op, mapping)


@dataclass(frozen=True)
class _Substitution:
    sizes: Mapping[str, int] = field(default_factory=dict[str, int])
    dtypes: Mapping[DType, DType] = field(default_factory=dict[DType, DType])

    def apply(self, what: Bound) -> Bound:
        if isinstance(what, Function):
            return self.function(what)
        state = tuple(replace(decl, type=self.tensor(decl.type)) for decl in what.state)
        return replace(what, state=state, functions=tuple(map(self.function, what.functions)))

    def function(self, function: Function) -> Function:
        mapping: dict[Value, Value] = {}
        params = tuple(Param(p.name, self.parameter(p.value, mapping), p.role) for p in function.params)
        ops = self.ops(function.ops, mapping)
        outputs = tuple(Output(out.name, mapping[out.value], out.combine) for out in function.outputs)
        return Function(function.name, params, ops, outputs)

    def parameter(self, value: Value, mapping: dict[Value, Value]) -> Value:
        bound = mapping[value] = Value(self.type(value.type), value.hint)
        bound.label = _label(value.label, mapping)
        return bound

    def ops(self, ops: Iterable[OpBase], mapping: dict[Value, Value]) -> tuple[OpBase, ...]:
        bound: list[OpBase] = []
        for op in ops:
            copy = self.op(op, mapping)
            for new, old in zip(copy.results, op.results, strict=True):
                mapping[old] = new
                new.label = _label(old.label, mapping)
            bound.append(copy)
        return tuple(bound)

    def op(self, op: OpBase, mapping: Mapping[Value, Value]) -> OpBase:
        changed: dict[str, object] = {}
        for spec in fields_of(type(op)):
            held = getattr(op, spec.name)
            if isinstance(held, OpBase):
                changed[spec.name] = self.op(held, _stand_ins(op, held, mapping))
            elif isinstance(held, Region):
                changed[spec.name] = self.region(held)
            elif spec.kind == "attribute":
                changed[spec.name] = self.attribute(held)
        return op.clone(mapping, None, **changed)

    def region(self, region: Region) -> Region:
        mapping: dict[Value, Value] = {}
        params = tuple(self.parameter(value, mapping) for value in region.params)
        ops = self.ops(region.ops, mapping)
        return Region(params, ops, tuple(mapping[value] for value in region.results))

    def attribute(self, value: object) -> object:
        match value:
            case Sym():
                return bind_dim(value, self.sizes)
            case DType():
                return self.dtypes.get(value, value)
            case TensorType() | RaggedType():
                return self.type(value)
            case tuple():
                return tuple(self.attribute(item) for item in cast("tuple[object, ...]", value))
            case _:
                return value

    def type(self, kind: Type) -> Type:
        if isinstance(kind, RaggedType):
            return RaggedType(self.tensor(kind.data), bind_dim(kind.count, self.sizes))
        return self.tensor(kind)

    def tensor(self, kind: TensorType) -> TensorType:
        return kind.bind(self.sizes).with_dtype(self.dtypes.get(kind.dtype, kind.dtype))


def _stand_ins(op: OpBase, held: OpBase, mapping: Mapping[Value, Value]) -> Mapping[Value, Value]:
    """What a held op (``grad.use``) reads now: the holder's arguments, not the values it was built on."""
    arguments = syntax_of(type(op)).inner_operands
    assert arguments is not None
    current: tuple[Value, ...] = getattr(op, arguments.name)
    return dict(zip(held.operands, mapped(current, mapping), strict=True))


def _label(label: Label | None, mapping: Mapping[Value, Value]) -> Label | None:
    match label:
        case Scaled(factor):
            return Scaled(mapping.get(factor, factor))
        case Clipped(factor):
            return Clipped(mapping.get(factor, factor))
        case _:
            return label
