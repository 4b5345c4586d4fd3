"""dce: ops whose results nobody reads are removed."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

from ..ir.builder import mapped
from ..ir.core import Function, Module, OpBase, Region, Value, fields_of
from ..ir.stage import Stage
from ..ops.control import Scan
from ..ops.state import Write
from .base import Pass
from .rewrite import mapped_outputs


@dataclass(frozen=True)
class Dce(Pass):
    """Keep state writes, fetches and what they depend on; parameters of the function stay."""

    name: ClassVar[str] = "dce"
    requires: ClassVar[Stage] = Stage.CAPTURED

    def run(self, module: Module) -> Module:
        return module.map_functions(_function)


def _function(function: Function) -> Function:
    ops, mapping = _live(function.ops, (out.value for out in function.outputs))
    return replace(function, ops=ops, outputs=mapped_outputs(function, mapping))


def _live(ops: tuple[OpBase, ...], results: Iterable[Value]) -> tuple[tuple[OpBase, ...], dict[Value, Value]]:
    """The ops that ``results`` and state writes depend on, and what became of values whose op was copied."""
    needed = set(results)
    kept: list[OpBase] = []
    mapping: dict[Value, Value] = {}
    for op in reversed(ops):
        if isinstance(op, Write) or any(v in needed for v in op.results):
            if isinstance(op, Scan):
                op = _lean(op, needed, mapping)
            needed.update(op.operands)
            kept.append(op)
    live: list[OpBase] = []
    for op in reversed(kept):
        regions = _live_regions(op)
        if regions or any(v in mapping for v in op.operands):
            copy = op.clone(mapping, None, **regions)
            renamed = dict(zip(op.results, copy.results, strict=True))
            mapping.update({old: renamed[new] for old, new in mapping.items() if new in renamed})
            mapping.update(renamed)
            op = copy
        live.append(op)
    return tuple(live), mapping


def _lean(loop: Scan, needed: Container[Value], mapping: dict[Value, Value]) -> Scan:
    """The loop without outputs that nobody reads; ``mapping`` learns its results."""
    count = len(loop.init)
    outputs = [o for o, value in enumerate(loop.results[count:]) if value in needed]
    if len(outputs) == len(loop.outputs):
        return loop
    lean = loop.returning(outputs)
    kept = (*loop.results[:count], *(loop.results[count + o] for o in outputs))
    for old, new in zip(kept, lean.results, strict=True):
        new.hint = old.hint
        mapping[old] = new
    return lean


def _live_regions(op: OpBase) -> dict[str, object]:
    """The regions of ``op`` that have dead ops, without them."""
    changed: dict[str, object] = {}
    for spec in fields_of(type(op)):
        if spec.kind == "region":
            region: Region = getattr(op, spec.name)
            ops, mapping = _live(region.ops, region.results)
            if mapping or len(ops) != len(region.ops):
                changed[spec.name] = Region(region.params, ops, mapped(region.results, mapping))
    return changed
