"""Symbols replaced by sizes: a module for one batch size from a module for all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeVar, cast

from .builder import mapped
from .core import Function, Module, OpBase, Output, Param, Region, Value, fields_of
from .syntax import syntax_of
from .types import Clipped, Label, RaggedType, Scaled, Sym, TensorType, Type, bind_dim

Bound = TypeVar("Bound", Module, Function)


def bind(what: Bound, sizes: Mapping[str, int]) -> Bound:
    """``what`` with the symbols named in ``sizes`` replaced in every type and attribute, regions included.

    Types are inferred anew, so sizes that do not fit together raise VerifyError.
    """
    if isinstance(what, Function):
        return _function(what, sizes)
    state = tuple(replace(decl, type=decl.type.bind(sizes)) for decl in what.state)
    return replace(what, state=state, functions=tuple(_function(f, sizes) for f in what.functions))


def _function(function: Function, sizes: Mapping[str, int]) -> Function:
    mapping: dict[Value, Value] = {}
    params = tuple(Param(p.name, _parameter(p.value, sizes, mapping), p.role) for p in function.params)
    ops = _ops(function.ops, sizes, mapping)
    outputs = tuple(Output(out.name, mapping[out.value], out.combine) for out in function.outputs)
    return Function(function.name, params, ops, outputs)


def _parameter(value: Value, sizes: Mapping[str, int], mapping: dict[Value, Value]) -> Value:
    kind: Type = value.type.bind(sizes)
    bound = mapping[value] = Value(kind, value.hint)
    bound.label = _label(value.label, mapping)
    return bound


def _ops(ops: Iterable[OpBase], sizes: Mapping[str, int], mapping: dict[Value, Value]) -> tuple[OpBase, ...]:
    bound: list[OpBase] = []
    for op in ops:
        copy = bind_op(op, sizes, mapping)
        for new, old in zip(copy.results, op.results, strict=True):
            mapping[old] = new
            new.label = _label(old.label, mapping)
        bound.append(copy)
    return tuple(bound)


def bind_op(op: OpBase, sizes: Mapping[str, int], mapping: Mapping[Value, Value]) -> OpBase:
    """``op`` on mapped operands, with symbols replaced in its attributes and regions."""
    changed: dict[str, object] = {}
    for field in fields_of(type(op)):
        held = getattr(op, field.name)
        if isinstance(held, OpBase):
            changed[field.name] = bind_op(held, sizes, _stand_ins(op, held, mapping))
        elif isinstance(held, Region):
            changed[field.name] = _region(held, sizes)
        elif field.kind == "attribute":
            changed[field.name] = _attribute(held, sizes)
    return op.clone(mapping, None, **changed)


def _stand_ins(op: OpBase, held: OpBase, mapping: Mapping[Value, Value]) -> Mapping[Value, Value]:
    """What a held op (``grad.use``) reads now: the holder's arguments, not the values it was built on."""
    arguments = syntax_of(type(op)).inner_operands
    assert arguments is not None
    current: tuple[Value, ...] = getattr(op, arguments.name)
    return dict(zip(held.operands, mapped(current, mapping), strict=True))


def _region(region: Region, sizes: Mapping[str, int]) -> Region:
    mapping: dict[Value, Value] = {}
    params = tuple(_parameter(value, sizes, mapping) for value in region.params)
    ops = _ops(region.ops, sizes, mapping)
    return Region(params, ops, tuple(mapping[value] for value in region.results))


def _attribute(value: object, sizes: Mapping[str, int]) -> object:
    match value:
        case Sym():
            return bind_dim(value, sizes)
        case TensorType() | RaggedType():
            return value.bind(sizes)
        case tuple():
            return tuple(_attribute(item, sizes) for item in cast("tuple[object, ...]", value))
        case _:
            return value


def _label(label: Label | None, mapping: Mapping[Value, Value]) -> Label | None:
    match label:
        case Scaled(factor):
            return Scaled(mapping.get(factor, factor))
        case Clipped(factor):
            return Clipped(mapping.get(factor, factor))
        case _:
            return label
