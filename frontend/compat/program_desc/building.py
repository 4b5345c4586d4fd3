"""From a ProgramDesc to a Program: variables, parameters and ops."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ....compiler.errors import PrivacyError
from ...source import SourceLocation, user_location
from ...vartype import VarType
from .errors import ProgramDescError, shown
from .gradients import backward_records, stopped
from .reading import parse_desc
from .records import Record, kept_blocks, records_of
from .weights import parameters_of
from .writing import FEED, FETCH

if TYPE_CHECKING:
    from ...framework import Program

_UNTYPED = (
    VarType.FEED_MINIBATCH, VarType.FETCH_LIST, VarType.STEP_SCOPES, VarType.LOD_RANK_TABLE, VarType.PLACE_LIST,
    VarType.READER, VarType.RAW,
)  # fmt: skip
"""Kinds of variables that have no element type."""

_MOST_LEVELS = 16

_DAMAGED = "the file is damaged: copy it anew"


@dataclass
class Described:
    """A variable as the file describes it."""

    name: str
    kind: VarType
    dtype: VarType | None
    shape: tuple[int, ...]
    lod_level: int
    persistable: bool
    need_check_feed: bool


@dataclass
class Draft:
    """A ProgramDesc taken apart, its gradient ops still those of the file.

    Attributes:
        source: What messages call the file.
        blocks: Ops by block number, without those that feed and fetch.
        parents: The block around each.
        variables: By block number and name.
        feeds: Names that the file's feed ops fill, in order.
        fetches: Names that its fetch ops take.
        version: Paddle's, such as 1008005; 0 before 1.0.
    """

    source: str
    blocks: dict[int, list[Record]]
    parents: dict[int, int]
    variables: dict[int, dict[str, Described]]
    feeds: list[str] = field(default_factory=list[str])
    fetches: list[str] = field(default_factory=list[str])
    version: int = 0

    def find(self, name: str, number: int = 0) -> Described | None:
        """The variable that a block sees under this name, or None."""
        while number >= 0:
            if name in self.variables[number]:
                return self.variables[number][name]
            number = self.parents[number]
        return None


def parse_program(data: bytes, program: Program) -> Program:
    """Fill an empty program from a serialised ProgramDesc; see `Program.parse_from_string`."""
    source = user_location().place
    if not isinstance(data, bytes):
        raise ProgramDescError(f"parse_from_string: {type(data).__name__} in place of bytes", source, "give bytes")
    draft = draft_of(parse_desc(data, source), source)
    if any(record.type == "dpsgd" for record in draft.blocks[0]):
        raise PrivacyError(
            "parse_from_string: the program updates by Paddle's dpsgd op, which is not private",
            where=source,
            hint="fluid.io.load_program(bytes) replaces it, and reports how, or keeps it with mechanism='paddle'",
        )
    build(draft, program)
    return program


def draft_of(desc: Any, source: str) -> Draft:
    """A checked message taken apart.

    Raises:
        ProgramDescError: A part that cannot be understood.
    """
    blocks = {block.idx: records_of(block, f"{source}, block {block.idx}") for block in desc.blocks}
    parents = {block.idx: block.parent_idx for block in desc.blocks}
    for number, records in blocks.items():
        for record in records:
            inner = record.sub_block
            if inner is not None and parents.get(inner) != number:
                what = f"{shown(record.type)}, op {record.position} of block {number}, has the block {inner!r} inside"
                raise ProgramDescError(what, source, _DAMAGED)
    variables = {block.idx: {var.name: _described(var, source) for var in block.vars} for block in desc.blocks}
    draft = Draft(source, blocks, parents, variables, version=desc.version.version)
    passed = {FEED: draft.feeds, FETCH: draft.fetches}
    for kind, names in passed.items():
        found = [record for record in blocks[0] if record.type == kind]
        for record in sorted(found, key=lambda record: record.attrs.get("col", 0)):
            names += record.writes if kind == FEED else record.reads
    blocks[0][:] = [record for record in blocks[0] if record.type not in passed]
    return draft


def build(
    draft: Draft,
    program: Program,
    trainable: Callable[[str], bool] | None = None,
    change: Callable[[list[Record]], None] | None = None,
) -> list[str]:
    """Fill an empty program.

    Args:
        draft: Its gradient ops become one backward record for each loss.
        program: An empty one.
        trainable: Which of the parameters are trained; all, or those that an optimizer of the program updates, if None.
        change: Changes the global block's records before they become ops.

    Returns:
        The program's feeds, the file's own first.

    Raises:
        ProgramDescError: Gradient ops of unknown origin, or a name that nothing declares.
    """
    source = draft.source
    reads_of = {number: [name for record in draft.blocks[number] for name in record.reads] for number in draft.blocks}
    draft.blocks[0], graded = backward_records(draft.blocks[0], reads_of, source)
    if change is not None:
        change(draft.blocks[0])
    kept = kept_blocks(draft.blocks)
    weights = parameters_of(draft, kept, trainable)
    data = _data(draft, kept)
    _make_blocks(draft, program, kept)
    numbers = {old: new for new, old in enumerate(kept)}
    for old in kept:
        _make_variables(draft, program, old, numbers[old], weights, data, graded)
    for old in kept:
        block = program.blocks[numbers[old]]
        for record in draft.blocks[old]:
            _check_names(draft, record, old)
            attrs = dict(record.attrs)
            if record.sub_block is not None:
                attrs["sub_block"] = numbers[record.sub_block]
            # A file has ops in place of lines.
            where = SourceLocation(source, record.position + 1, record.type)
            block.restore_op(record.type, record.inputs, record.outputs, attrs, where, record.role, record.namescope)
    program.foreign_names = frozenset(name for number in kept for name in draft.variables[number])
    for record, op in zip(draft.blocks[0], program.global_block().ops, strict=True):
        if op.type == "backward":
            op.set_attr("no_grad_set", stopped(program, op, graded[record.position]))
    return data


def _described(var: Any, source: str) -> Described:
    where = f"{source}: variable {shown(var.name)}"
    kind = _kind(var.type.type, where)
    tensor, level = None, 0
    if kind is VarType.LOD_TENSOR:
        tensor, level = var.type.lod_tensor.tensor, var.type.lod_tensor.lod_level
    elif kind is VarType.LOD_TENSOR_ARRAY:
        tensor, level = var.type.tensor_array.tensor, var.type.tensor_array.lod_level
    elif kind is VarType.SELECTED_ROWS:
        # The rows of a sparse gradient that are not zero: here a gradient is dense.
        tensor, kind = var.type.selected_rows, VarType.LOD_TENSOR
    if not 0 <= level <= _MOST_LEVELS:
        raise ProgramDescError(f"the lod_level is {level}", where, _DAMAGED)
    dtype = None
    if tensor is not None:
        dtype = _kind(tensor.data_type, where)
        try:
            dtype.numpy  # noqa: B018 - whether it is an element type
        except KeyError:
            raise ProgramDescError(f"its elements are of type {dtype}", where, _DAMAGED) from None
    # Paddle multiplies open extents: -6 is as open as -1.
    shape = () if tensor is None else tuple(max(int(d), -1) for d in tensor.dims)
    return Described(var.name, kind, dtype, shape, level, var.persistable, var.need_check_feed)


def _kind(number: int, where: str) -> VarType:
    try:
        return VarType(number)
    except ValueError:
        what = f"it is of type {number}, which Paddle 1.8.5 does not have"
        raise ProgramDescError(what, where, "save the model with Paddle 1.8") from None


def _data(draft: Draft, kept: Sequence[int]) -> list[str]:
    """Names of what is fed: what the file says, and what is read though nothing writes it."""
    made = {name for number in kept for record in draft.blocks[number] for name in record.writes}
    found = dict.fromkeys(draft.feeds)
    for number in kept:
        for record in draft.blocks[number]:
            for name in record.reads:
                var = draft.variables[0].get(name)
                if var is not None and name not in made and not var.persistable and var.kind is VarType.LOD_TENSOR:
                    found[name] = None
    found |= {name: None for name, var in draft.variables[0].items() if var.need_check_feed}
    return [name for name in found if name in draft.variables[0]]


def _make_blocks(draft: Draft, program: Program, kept: Sequence[int]) -> None:
    numbers = {old: new for new, old in enumerate(kept)}
    for old in kept[1:]:
        program.add_block(numbers[draft.parents[old]])


def _make_variables(
    draft: Draft,
    program: Program,
    old: int,
    new: int,
    weights: Mapping[str, bool],
    data: Sequence[str],
    graded: Mapping[int, set[str]],
) -> None:
    """The variables of one block, in the order in which its ops name them, then by name."""
    block = program.blocks[new]
    declared = draft.variables[old]
    order = dict.fromkeys(data if old == 0 else ())
    order |= dict.fromkeys(n for r in draft.blocks[old] for n in (*r.reads, *r.writes) if n in declared)
    rest = sorted(name for name, var in declared.items() if var.persistable and var.kind not in _UNTYPED)
    order |= dict.fromkeys(rest if old == 0 else ())
    with_gradient = {name for names in graded.values() for name in names}
    for name in order:
        var = declared[name]
        if old == 0 and name in weights and var.dtype is not None:
            block.create_parameter(var.shape, var.dtype, name, trainable=weights[name], stop_gradient=not weights[name])
            continue
        is_data = old == 0 and name in data
        block.create_var(
            name=name,
            type=var.kind,
            shape=var.shape,
            dtype=var.dtype,
            lod_level=var.lod_level,
            persistable=var.persistable,
            stop_gradient=(is_data or var.persistable) and name not in with_gradient,
            is_data=is_data,
            need_check_feed=is_data and var.need_check_feed,
        )


def _check_names(draft: Draft, record: Record, number: int) -> None:
    """Refuse an op that reads what is declared nowhere."""
    for name in record.reads:
        if draft.find(name, number) is None:
            raise ProgramDescError(
                f"{shown(record.type)} reads {shown(name)}, which the program does not declare",
                f"{draft.source}, op {record.position + 1} of block {number}",
                _DAMAGED,
            )
