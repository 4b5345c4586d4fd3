"""Copying a function while ops are replaced: the frame most passes share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from ..ir.builder import mapped
from ..ir.core import Function, OpBase, Output, Region, Value, fields_of
from ..ops.construct import OpBuilder

Replacement = Callable[[OpBuilder, OpBase], Sequence[Value] | None]


def rewrite(function: Function, replacement: Replacement) -> Function:
    """``function`` with ops replaced, regions included.

    ``replacement(b, op)`` sees each op on its new operands; it returns the values that take the place of the
    op's results (appending ops to ``b`` as it likes), or None to keep the op.
    """
    b = OpBuilder()
    mapping: dict[Value, Value] = {}
    _rewrite_ops(b, function.ops, mapping, replacement)
    return replace(function, ops=tuple(b.ops), outputs=mapped_outputs(function, mapping))


def mapped_outputs(function: Function, mapping: dict[Value, Value]) -> tuple[Output, ...]:
    """The function's fetches under a substitution of values."""
    return tuple(replace(out, value=mapping.get(out.value, out.value)) for out in function.outputs)


def _rewrite_ops(b: OpBuilder, ops: Iterable[OpBase], mapping: dict[Value, Value], replacement: Replacement) -> None:
    for op in ops:
        current = _with_regions(op, replacement)
        if current is not op or any(value in mapping for value in op.operands):
            current = current.clone(mapping)
        with b.at(op.loc):
            values = replacement(b, current)
        if values is None:
            b.ops.append(current)
            values = current.results
        for old, new in zip(op.results, values, strict=True):
            if old is not new:
                mapping[old] = new
                new.hint = new.hint or old.hint


def _with_regions(op: OpBase, replacement: Replacement) -> OpBase:
    if not op.regions:
        return op
    changed: dict[str, object] = {}
    for spec in fields_of(type(op)):
        if spec.kind == "region":
            region = getattr(op, spec.name)
            new = rewrite_region(region, replacement)
            if new is not region:
                changed[spec.name] = new
    return op.clone({}, None, **changed) if changed else op


def rewrite_region(region: Region, replacement: Replacement) -> Region:
    """The region with ops replaced; the same object when nothing changed."""
    b = OpBuilder()
    mapping: dict[Value, Value] = {}
    _rewrite_ops(b, region.ops, mapping, replacement)
    ops = tuple(b.ops)
    if ops == region.ops:
        return region
    return Region(region.params, ops, mapped(region.results, mapping))
