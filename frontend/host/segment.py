"""A run of ops between host ops as a program of its own, and the types that it is compiled for."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...compiler.errors import FluidcError
from ...compiler.ir.types import Dim, DType, Sym, TensorType
from ..errors import invalid
from ..feed_types import feed_type
from ..framework import Block, Operator, Program
from ..lod import LENGTHS, OUTER
from ..variable import GRAD_SUFFIX, Variable
from .lod_sharing import fitting, giver, needs_lengths, spread
from .values import Array, Level, Lod, Value, lengths, offsets

_PLAIN_TYPES = """
assign assign_value cast clip concat equal expand fill_any_like fill_constant fill_constant_batch_size_like
fill_zeros_like flatten flatten2 gather gather_nd greater_equal greater_than increment less_equal less_than log
logical_and logical_not logical_or logical_xor lookup_table lookup_table_v2 mean not_equal one_hot one_hot_v2 print
range reduce_all reduce_any reduce_max reduce_mean reduce_min reduce_prod reduce_sum relu reshape reshape2 scale shape
sigmoid slice softmax split square squeeze squeeze2 stack sum tanh top_k transpose transpose2 unsqueeze unsqueeze2
unstack elementwise_add elementwise_sub elementwise_mul elementwise_div elementwise_max elementwise_min
elementwise_pow elementwise_mod elementwise_floordiv
"""
_PLAIN = frozenset(_PLAIN_TYPES.split())
"""Ops that numpy does about as fast as compiled code: for these alone no compiler is started."""


@dataclass(frozen=True, eq=False)
class Segment:
    """Ops that are compiled together.

    Attributes:
        number: Which segment of its program.
        ops: As the program records them.
        program: They alone, what they read from before being data.
        reads: Names of that data, where they have a value.
        writes: Names whose values somebody reads later.
        ragged: Those of ``reads`` whose lengths an op computes with.
        shows: What is printed after it: op and the name of its result or of that one's gradient.
        last: Nothing runs after it, so nothing can fail that would have to undo what it wrote.
        unfit: Types of feeds for which it could not be compiled, and why.
    """

    number: int
    ops: tuple[Operator, ...]
    program: Program
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    ragged: frozenset[str]
    shows: tuple[tuple[Operator, str], ...]
    last: bool = False
    unfit: dict[object, FluidcError] = field(default_factory=dict[object, FluidcError])

    @property
    def is_plain(self) -> bool:
        """Whether numpy does as well as compiled code."""
        return all(op.type in _PLAIN for op in self.ops)

    @property
    def stream(self) -> str:
        """Which random numbers it draws: the first segment, and the one that trains, those of a whole program."""
        return "model" if self.trains or not self.number else f"model, segment {self.number}"

    @property
    def trains(self) -> bool:
        """Whether it holds a backward pass."""
        return any(op.type == "backward" for op in self.ops)

    def results(self, given: Mapping[str, Value], arrays: Mapping[str, Array]) -> dict[str, Value]:
        """What the segment computed, with the LoD that compiled code returned, or else that it has by the ops."""
        lods = spread(list(self.ops), {name: value.lod for name, value in given.items()})
        found: dict[str, Value] = {}
        for name in self.writes:
            levels = [offsets(arrays[name + part]) for part in (OUTER, LENGTHS) if name + part in arrays]
            lod = tuple(levels) if levels else fitting(lods.get(name, ()), arrays[name])
            found[name] = Value(arrays[name], lod)
        return found


def segment_of(program: Program, block: Block, ops: Sequence[Operator], wanted: set[str], number: int) -> Segment:
    """The segment of some ops of a block; ``wanted`` are the names that somebody reads after it."""
    part = Program()
    part._random_seed = program.random_seed
    part.foreign_names = program.foreign_names
    home = part.global_block()
    part.blocks.extend(program.blocks[1:])
    reads: dict[str, None] = {}
    made: set[str] = set()
    for op in ops:
        for name in _needs(program, op):
            if name not in made and not _is_state(block, name):
                reads[name] = None
        made.update(op.output_arg_names)
        home.ops.append(
            Operator(
                home,
                op.type,
                {slot: list(names) for slot, names in op.inputs.items()},
                {slot: list(names) for slot, names in op.outputs.items()},
                dict(op.attrs),
                op.loc,
                op.role,
                op.namescope,
            )
        )
    shows = _shows(block, ops)
    shown = {name for _, name in shows}
    names = {name for op in ops for name in (*_needs(program, op), *op.output_arg_names)} | shown
    for name in (*block.vars, *sorted(names - block.vars.keys())):
        var = block.find_var_recursive(name) if name in names else None
        if var is not None:
            home.vars[name] = copy.copy(var)
            home.vars[name].block = home
    lengths_of = _by_lengths(ops)
    if home.private_backward() is not None:
        part.lineage = program.lineage
    return Segment(
        number,
        tuple(ops),
        part,
        tuple(reads),
        tuple(sorted(name for name in made & (wanted | shown) if not _is_state(block, name))),
        frozenset(name for name in reads if name in lengths_of),
        shows,
    )


def _shows(block: Block, ops: Sequence[Operator]) -> tuple[tuple[Operator, str], ...]:
    """Values in program order, then gradients in the order in which a backward pass comes to them."""
    prints = [op for op in ops if op.type == "print"]
    values = [(op, op.output("Out")[0]) for op in prints if _phase(op) in ("forward", "both")]
    gradients = [(op, op.output("Out")[0] + GRAD_SUFFIX) for op in reversed(prints)]
    return (*values, *((op, name) for op, name in gradients if name in block.vars and _phase(op) != "forward"))


def want_printed_gradients(block: Block) -> None:
    """Ask the backward records for the gradients that ``print`` ops show."""
    for op in block.ops:
        if op.type == "print" and _phase(op) != "forward":
            name = op.output("Out")[0] + GRAD_SUFFIX
            if name not in block.vars and block.has_var(name):
                block.var(name)


def _phase(op: Operator) -> str:
    return str(op.attrs.get("print_phase", "both")).lower()


def _needs(program: Program, op: Operator) -> list[str]:
    """What an op reads: for loops and branches what their blocks read, and the old values of what they may write."""
    found = list(op.input_arg_names)
    if op.has_attr("sub_block"):
        body = program.blocks[op.attr("sub_block")]
        found += [n for inner in body.ops for n in _needs(program, inner) if n not in body.vars]
        found += [n for n in op.output("Out") if n not in found]
    return found


def _is_state(block: Block, name: str) -> bool:
    var = block.find_var_recursive(name)
    return var is not None and var.persistable and not var.is_data


def _by_lengths(ops: Sequence[Operator]) -> set[str]:
    """Names whose LoD reaches an op that computes with lengths."""
    found: set[str] = set()
    for op in reversed(ops):
        if needs_lengths(op):
            found.update(op.input_arg_names)
        elif found.intersection(op.output_arg_names):
            name = giver(op)
            if name is not None:
                found.add(name)
    return found


@dataclass(frozen=True)
class Fed:
    """What a segment is fed: arrays and their types, by parameter name.

    Attributes:
        arrays: Rows under the name; lengths of sequences under ``NAME@lengths``, of groups of them ``NAME@outer``.
        types: What the segment is compiled for.
    """

    arrays: dict[str, Array]
    types: dict[str, TensorType]


def fed(segment: Segment, given: Mapping[str, Value], *, open_sizes: bool) -> Fed:
    """Arrays and types of a segment's feeds.

    Sizes of axis 0 are symbols, equal ones the same symbol, so that a build serves all sizes that are equal among
    themselves as these are; without ``open_sizes`` they are numbers. In a private program the only open size is the
    batch.
    """
    home = segment.program.global_block()
    private = home.private_backward() is not None
    sizes = _Sizes(open_sizes)
    arrays: dict[str, Array] = {}
    types: dict[str, TensorType] = {}
    for name, value in sorted(given.items(), key=lambda item: not item[1].lod):
        arrays[name] = value.array
        if private:
            types[name] = feed_type(segment.program, name, value.array)
            continue
        ragged = name in segment.ragged and bool(value.lod)
        types[name] = _type(home.vars[name], value, sizes)
        if ragged:
            level = value.lod[-1]
            arrays[name + LENGTHS] = np.asarray(lengths(level), np.int64)
            types[name + LENGTHS] = TensorType(DType.I64, (sizes.of(len(level) - 1),))
            if len(value.lod) > 1:
                outer = value.lod[-2]
                arrays[name + OUTER] = np.asarray(lengths(outer), np.int64)
                types[name + OUTER] = TensorType(DType.I64, (sizes.of(len(outer) - 1),))
    return Fed(arrays, types)


class _Sizes:
    """Symbols for sizes: of rows of sequences T, T1 ..., of others N, N1 ...

    Rows are as many where their sequences are the same, not where their sum happens to be; dense rows are as many as
    those of sequences with that sum.
    """

    def __init__(self, open_sizes: bool) -> None:
        self._open = open_sizes
        self._rows: dict[Level, Sym] = {}
        self._others: dict[int, Sym] = {}

    def of(self, size: int) -> Dim:
        """The symbol for a size."""
        if not self._open:
            return size
        return self._others.setdefault(size, Sym(f"N{len(self._others) or ''}"))

    def rows(self, size: int, lod: Lod) -> Dim:
        """The symbol for rows, which ``lod`` divides."""
        if not self._open:
            return size
        if lod:
            return self._rows.setdefault(lod[-1], Sym(f"T{len(self._rows) or ''}"))
        return next((symbol for level, symbol in self._rows.items() if level[-1] == size), None) or self.of(size)


def _type(var: Variable, value: Value, sizes: _Sizes) -> TensorType:
    """What the program states of a data variable, else what the array is; the first size open unless it is stated."""
    array = value.array
    declared = var.shape if len(var.shape) == array.ndim else (-1,) * array.ndim
    if var.is_data and len(var.shape) != array.ndim:
        raise invalid(
            f"feed {var.name!r} has {array.ndim} dims, the program declares {list(var.shape)}",
            "feed an array of the declared rank",
        )
    shape: list[Dim] = []
    for axis, (extent, size) in enumerate(zip(declared, array.shape)):
        if extent >= 0 and (var.is_data or extent == size):
            shape.append(extent)
        else:
            shape.append(size if axis else sizes.rows(size, value.lod))
    dtype = var.dtype.numpy if var.is_data else array.dtype
    return TensorType(DType.of(dtype), tuple(shape))
