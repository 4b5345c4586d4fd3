"""The rules every module keeps, checked after each pass.

* Values are defined once and before they are read; a region reads its own parameters and values only.
* Result types are what the op infers from its operands now.
* A function reads a state variable at most once and writes it at most once, with the declared type.
* Every op is allowed at the module's stage (``first_stage`` and ``last_stage`` of its class).
* A label names a value that is in scope.

How private data flows is checked by a verifier of its own, which knows the dp ops.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..errors import VerifyError
from .core import Function, Module, OpBase, Param, Region, StateDecl, StateName, Value
from .printer import op_lines
from .stage import Stage
from .types import Clipped, DType, RaggedType, Scaled, Sym, TensorType, Type

_ROLE_TYPES: Mapping[str, TensorType] = {
    "key": TensorType(DType.U32, (8,)),
    "draw": TensorType(DType.U64, ()),
    "rng_key": TensorType(DType.U32, (8,)),
    "rng_counter": TensorType(DType.U64, ()),
    "row": TensorType(DType.I64, ()),
    "phase": TensorType(DType.I64, ()),
    "clock": TensorType(DType.U64, ()),
}


def _stages(op: OpBase) -> tuple[Stage, Stage] | None:
    """The first and last stage at which the op may occur (class variables); None: at all."""
    first, last = getattr(op, "first_stage", None), getattr(op, "last_stage", None)
    return (first, last) if isinstance(first, Stage) and isinstance(last, Stage) else None


def _access(op: OpBase) -> tuple[str, str] | None:
    """``("read" | "write", variable)`` for an op whose only result, or operand, is a state variable's value.

    Such an op has a class variable ``access`` and an attribute ``state``.
    """
    kind, name = getattr(op, "access", None), getattr(op, "state", None)
    return (kind, name) if isinstance(kind, str) and isinstance(name, StateName) else None


def _symbols(kind: Type) -> set[str]:
    """The symbols among the extents of a type."""
    dims = (*kind.data.shape, kind.count) if isinstance(kind, RaggedType) else kind.shape
    return {dim.name for dim in dims if isinstance(dim, Sym)}


def verify(module: Module) -> None:
    """Raises VerifyError naming the function, the op's line of IR text and the user's line."""
    declared: dict[str, StateDecl] = {}
    for decl in module.state:
        if decl.name in declared:
            raise VerifyError(f"state variable @{decl.name} is declared twice")
        declared[decl.name] = decl
    names: set[str] = set()
    for function in module.functions:
        if function.name in names:
            raise VerifyError(f"function @{function.name} occurs twice")
        names.add(function.name)
        _FunctionVerifier(function, module.stage, declared).run()


class _FunctionVerifier:
    def __init__(self, function: Function, stage: Stage, declared: Mapping[str, StateDecl]) -> None:
        self.function = function
        self.stage = stage
        self.declared = declared
        self.everywhere: set[Value] = set()  # of all regions, to tell a capture from an undefined value

    def run(self) -> None:
        scope: set[Value] = set()
        for param in self.function.params:
            if param.value in scope or param.value.op is not None:
                raise self.error(f"parameter {param.name!r} is no value of its own")
            wanted = _ROLE_TYPES.get(param.role)
            if wanted is not None and param.value.type != wanted:
                raise self.error(f"parameter {param.name!r} is {wanted}, not {param.value.type}")
            if param.role == "mask" and (param.value.type.dtype is not DType.BOOL or param.value.tensor.rank != 1):
                raise self.error(f"parameter {param.name!r} is bool[N], not {param.value.type}")
            if param.role == "noise":
                self.noise(param)
            if param.role == "extent":
                self.extent(param)
            self.define(param.value, scope, None)
        self.ops(self.function.ops, scope)
        self.state_accesses()
        seen: set[str] = set()
        for output in self.function.outputs:
            if output.name in seen:
                raise self.error(f"output {output.name!r} is returned twice")
            seen.add(output.name)
            if output.value not in scope:
                raise self.error(f"output {output.name!r} returns a value that the function does not define")

    def noise(self, param: Param) -> None:
        decl = self.declared.get(param.name)
        if decl is None:
            raise self.error(f"noise is drawn for @{param.name}, which is not declared")
        wanted = decl.type.with_dtype(DType.I64)
        if param.value.type != wanted:
            raise self.error(f"the noise of @{param.name} is {wanted}, not {param.value.type}")

    def extent(self, param: Param) -> None:
        """It is bool[S], and tells the size of S alone."""
        kind = param.value.tensor
        (dim,) = kind.shape if kind.rank == 1 else (None,)
        if kind.dtype is not DType.BOOL or dim is None or (isinstance(dim, Sym) and dim.scale != 1):
            raise self.error(f"the extent {param.name!r} is bool[S], not {kind}")
        for other in self.function.params:
            if other is not param and isinstance(dim, Sym) and dim.name in _symbols(other.value.type):
                raise self.error(f"the extent {param.name!r} is the size {dim}, which {other.name!r} has too")

    def ops(self, ops: Iterable[OpBase], scope: set[Value]) -> None:
        for op in ops:
            for value in op.operands:
                if value not in scope:
                    where = "around this region" if value in self.everywhere else "nowhere before this line"
                    shown = f"%{value.hint}" if value.hint else f"an unnamed value of type {value.type}"
                    raise self.error(f"{op.name} reads {shown}, which is defined {where}", op)
            self.stage_allows(op)
            self.types(op)
            for region in op.regions:
                self.region(region, op)
            for value in op.results:
                if value.op is not op:
                    raise self.error(f"a result of {op.name} belongs to another op", op)
                self.define(value, scope, op)

    def define(self, value: Value, scope: set[Value], op: OpBase | None) -> None:
        if value in scope:
            raise self.error(f"%{value.hint} is defined twice", op)
        scope.add(value)
        self.everywhere.add(value)
        if isinstance(value.label, (Scaled, Clipped)) and value.label.factor not in scope:
            raise self.error(f"the label of %{value.hint} names a factor that is not defined before it", op)

    def region(self, region: Region, op: OpBase) -> None:
        scope: set[Value] = set()
        for value in region.params:
            if value.op is not None:
                raise self.error(f"a parameter of a region of {op.name} is the result of an op", op)
            self.define(value, scope, op)
        self.ops(region.ops, scope)
        for inside in region.ops:
            if _access(inside) is not None:
                raise self.error(f"{inside.name} stands in a region; only a function accesses state", inside)
        for value in region.results:
            if value not in scope:
                raise self.error(f"a region of {op.name} yields a value that it does not define", op)

    def stage_allows(self, op: OpBase) -> None:
        stages = _stages(op)
        if stages is not None and not stages[0] <= self.stage <= stages[1]:
            only = f"only from {stages[0]} to {stages[1]}"
            raise self.error(f"{op.name} does not occur at stage {self.stage} ({only})", op)

    def types(self, op: OpBase) -> None:
        try:
            inferred = op.infer()
        except VerifyError as error:
            raise self.error(error.what, op, error.hint) from error
        except (TypeError, ValueError, IndexError) as error:
            raise self.error(f"{op.name}: {error}", op) from error
        kinds: tuple[Type, ...] = (inferred,) if isinstance(inferred, (TensorType, RaggedType)) else inferred
        found = tuple(value.type for value in op.results)
        if kinds != found:
            told, wanted = ", ".join(map(str, found)), ", ".join(map(str, kinds))
            raise self.error(f"{op.name} has results of type {told}, its operands give {wanted}", op)

    def state_accesses(self) -> None:
        accessed: set[tuple[str, str]] = set()
        for op in self.function.ops:
            access = _access(op)
            if access is None:
                continue
            verb, name = access
            decl = self.declared.get(name)
            if decl is None:
                raise self.error(f"state variable @{name} is not declared", op)
            if access in accessed:
                hint = "a function reads and writes a variable at most once"
                raise self.error(f"{verb} of @{name} a second time", op, hint)
            accessed.add(access)
            (value,) = op.operands or op.results
            if value.type != decl.type:
                raise self.error(f"@{name} is {decl.type}; {verb} as {value.type}", op)

    def error(self, what: str, op: OpBase | None = None, hint: str | None = None) -> VerifyError:
        """``what``, at the op's line of IR text and the user's line."""
        where = f"@{self.function.name}"
        if op is not None:
            where += f": {op_lines(self.function).get(op, op.name)}"
            if op.loc.place:
                where += f"\n  from {op.loc.place}" + (f" ({op.loc.layer})" if op.loc.layer else "")
        return VerifyError(what, where=where, hint=hint)
