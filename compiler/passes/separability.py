"""How the values of a function depend on single examples: the analysis behind the separability proof."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import PrivacyError
from ..ir.core import Function, Module, OpBase, Param, Value
from ..ir.types import Sym, TensorType
from ..ops.kinds import PUBLIC, ExampleKind, Kind, MixedKind
from ..ops.ragged import FromLengths
from ..ops.region import kinds_of
from ..ops.state import Read

BATCH = "N"
LOT_PREFIX = "lot/"


def param_kinds(module: Module, function: Function, *, strict: bool = True) -> dict[Value, Kind]:
    """The kinds of the function's parameters.

    Raises PrivacyError for a feed that is neither one row per example nor declared public; with ``strict``
    off, such a feed counts as public (only sound where nothing is promised).
    """
    kinds: dict[Value, Kind] = {}
    for param in function.params:
        try:
            kinds[param.value] = _param_kind(module, function, param)
        except PrivacyError:
            if strict:
                raise
            kinds[param.value] = PUBLIC
    return kinds


def extend(kinds: dict[Value, Kind], module: Module, ops: Iterable[OpBase]) -> None:
    """Add the kinds of the results of ``ops``, which read values that ``kinds`` knows."""
    for op in ops:
        if isinstance(op, Read) and module.declaration(op.state).kind != "model":
            kinds[op.result] = MixedKind("it reads a metric counter, which may hold values that are not private", op)
            continue
        found = kinds_of(op, [kinds[value] for value in op.operands])
        kinds.update(zip(op.results, found, strict=True))


def _param_kind(module: Module, function: Function, param: Param) -> Kind:
    if param.role == "mask":
        return ExampleKind(0)
    if param.role == "extent":
        raise PrivacyError(
            f"the size {param.name} follows the lengths of the sequences at hand, which are private",
            hint="pad the sequences to one length that is static and public, and feed a token mask",
        )
    if param.role != "feed":
        return PUBLIC
    declared = module.privacy.public_feeds if module.privacy is not None else ()
    where = _first_read(function, param.value)
    ragged = any(isinstance(op, FromLengths) and param.value in op.operands for op in function.ops)
    if ragged or not isinstance(param.value.type, TensorType):
        raise PrivacyError(
            f"feed {param.name!r} has rows of different lengths (LoD); in a private program one row of a feed "
            "is one example",
            where=where,
            hint="pad it to [N, T, ...] and feed a token mask; T is static and public",
        )
    axes = [axis for axis, dim in enumerate(param.value.type.shape) if isinstance(dim, Sym)]
    names = {dim.name for dim in param.value.type.shape if isinstance(dim, Sym)}
    if not axes:
        if param.name in declared:
            return PUBLIC
        raise PrivacyError(
            f"feed {param.name!r} of type {param.value.type} has no batch axis, so it cannot be told which "
            "example it belongs to",
            where=where,
            hint=f"if it holds no private data, declare it: fluid.privacy.public({param.name})",
        )
    if len(axes) > 1 or names != {BATCH}:
        raise PrivacyError(
            f"feed {param.name!r} of type {param.value.type} has {len(axes)} axes of unknown extent; the only "
            "unknown extent of a private program is the batch",
            where=where,
            hint="give the other axes their size; sizes are public in a private program",
        )
    (axis,) = axes
    dim = param.value.type.shape[axis]
    assert isinstance(dim, Sym)
    return ExampleKind(axis, 1, dim.scale)


def _first_read(function: Function, value: Value) -> str | None:
    """The user's first line that reads ``value``, where that is known."""
    reached = {value}
    for op in function.ops:
        if any(operand in reached for operand in op.operands):
            if op.loc.place:
                return op.loc.place
            reached.update(op.results)
    return None


def explain(kind: MixedKind, what: str) -> PrivacyError:
    """The refusal of a value that must not mix examples."""
    layer = getattr(kind.cause.loc, "layer", "") or kind.cause.name
    return PrivacyError(
        f"{what} mixes examples at `{layer}`: {kind.reason}, so no clipping of single examples can bound "
        "what one person changes",
        where=kind.cause.loc.place or None,
        hint=kind.remedy or "compute it for each example alone, or take it out of the private program",
    )
