"""cse: ops that compute what an earlier op computed are replaced by its results."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from ..ir.core import Function, Module, OpBase, Value, fields_of
from ..ir.stage import Stage
from ..ops.dp_noise import Bits
from ..ops.state import Write
from .base import Pass
from .rewrite import mapped_outputs


@dataclass(frozen=True)
class Cse(Pass):
    """Two ops are equal when class, operands and attributes are; ops with regions are left alone.

    Keystream reads are never merged: every tensor's noise has its own stream, and the verifier wants to
    see that.
    """

    name: ClassVar[str] = "cse"
    requires: ClassVar[Stage] = Stage.CAPTURED

    def run(self, module: Module) -> Module:
        return module.map_functions(_function)


def _function(function: Function) -> Function:
    seen: dict[tuple[object, ...], OpBase] = {}
    mapping: dict[Value, Value] = {}
    kept: list[OpBase] = []
    for op in function.ops:
        current = op.clone(mapping) if any(v in mapping for v in op.operands) else op
        if not (current.regions or isinstance(current, Write | Bits)):
            key = _key(current)
            earlier = seen.setdefault(key, current)
            if earlier is not current:
                mapping.update(zip(op.results, earlier.results, strict=True))
                continue
        kept.append(current)
        if current is not op:
            mapping.update(zip(op.results, current.results, strict=True))
    return replace(function, ops=tuple(kept), outputs=mapped_outputs(function, mapping))


def _key(op: OpBase) -> tuple[object, ...]:
    parts: list[object] = [type(op)]
    for spec in fields_of(type(op)):
        value = getattr(op, spec.name)
        # 0.0 == -0.0 and 1 == 1.0 == True in Python; as attributes they differ.
        parts.append((repr(value), value) if spec.kind == "attribute" and not isinstance(value, OpBase) else value)
    return tuple(parts)
