"""``while``: a scan where the number of steps is known, with arrays as its stacked inputs, outputs and carried values.

What a scan cannot hold (items of different shapes, indices that are no linear function of the step) is written out
step by step, if there are few; a loop whose end is computed runs as a ``while`` without a gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ...compiler.ir.core import Value
from ...compiler.ir.types import DType, RaggedType, TensorType
from ...compiler.ops import branching, control, ragged
from ...compiler.ops.construct import OpBuilder
from ...compiler.ops.grad import StopGradient
from ...compiler.ops.ragged_pad import step_mask
from ..framework import Block, Operator
from ..vartype import VarType
from .context import Frame, MaskOf, OpLowering, Rule, Rules
from .counting import Counted, Linear, all_ops, counted, indices
from .held import Held, Item, Part, Ranked, RankTable, Rows, TensorArray, uniform
from .rowwise import ROWS, mixing
from .steps import masks_of, run_block

MOST_OPS = 20_000
"""A loop is written out if that makes no more ops than this."""

_READ, _WRITE = "read_from_array", "write_to_array"


class _Unfit(Exception):
    """A loop that is no scan, with the reason."""


@dataclass(frozen=True, eq=False)
class _Memory:
    """An array whose item of the step before is read, and whose next one is written."""

    name: str
    init: Value
    before: tuple[Part, ...]
    behind: tuple[Part, ...]
    reads: list[Operator]
    write: Operator


@dataclass(frozen=True, eq=False)
class _Output:
    """An array that one item is written to in every step."""

    name: str
    before: tuple[Part, ...]
    behind: tuple[Part, ...]
    table: RankTable | None
    reads: list[Operator]
    write: Operator


@dataclass
class _Plan:
    """What a scan does in place of a block's reads and writes of arrays."""

    memories: list[_Memory] = field(default_factory=list)
    outputs: list[_Output] = field(default_factory=list)
    slices: list[tuple[Operator, Value]] = field(default_factory=list)
    items: list[tuple[Operator, Value]] = field(default_factory=list)
    table: RankTable | None = None


def _while(o: OpLowering) -> None:
    block = o.function.program.blocks[o.attr("sub_block")]
    loop = counted(o, block)
    arrays = _arrays(o, block)
    if loop is None:
        _uncounted(o, block, arrays)
        return
    try:
        _scanned(o, block, loop, _planned(o, block, loop, arrays))
    except _Unfit as unfit:
        if not isinstance(loop.trip, int) or loop.trip * len(block.ops) > MOST_OPS:
            raise o.error(
                f"the loop cannot be compiled: {unfit}", "write one item per step, at an index of the step"
            ) from None
        for _ in range(loop.trip):
            frame = Frame(o.function, block, o.b, o.frame.local, o.frame.mask, o.frame.held)
            for op in block.ops:
                o.function.lower(op, frame)


def _arrays(o: OpLowering, block: Block) -> list[str]:
    """The arrays of the blocks around that the loop's block, or one inside it, reads or writes."""
    found: dict[str, None] = {}
    for op in all_ops(o.function.program, block):
        for name in (*op.input_arg_names, *op.output_arg_names):
            var = None if block.parent is None else block.parent.find_var_recursive(name)
            if var is not None and var.type is VarType.LOD_TENSOR_ARRAY:
                found[name] = None
    return list(found)


def _uncounted(o: OpLowering, block: Block, arrays: Sequence[str]) -> None:
    """A loop whose condition is computed."""
    for op in all_ops(o.function.program, block):
        if op.type == _WRITE and op.output("Out")[0] in arrays:
            raise o.error(
                f"the array {op.output('Out')[0]} is written in a loop whose number of steps is computed",
                "count the steps: less_than(i, n) of constants, with increment(i) in the block",
            )
    test = o.op.input("Condition")[0]
    carried = list(dict.fromkeys([test, *o.op.output("Out")]))
    whole = [name for name in o.op.input("X") if name not in carried and name not in arrays]
    init, given = [o.value(name) for name in carried], [o.value(name) for name in whole]
    read = {name: o.frame.held.arrays[name].stacked(o.b) for name in arrays if name in o.frame.held.arrays}
    stacks = {name: rows for name, rows in read.items() if rows is not None}

    def condition(b: OpBuilder, *values: Value) -> Sequence[Value]:
        return [b.reshape(values[0], ())]

    def body(b: OpBuilder, *values: Value) -> Sequence[Value]:
        at = len(carried) + len(whole)
        held = Held({name: TensorArray((Rows(rows),)) for name, rows in zip(stacks, values[at:], strict=True)})
        local = dict(zip([*carried, *whole], values[:at], strict=True))
        run_block(o, block, b, local, held=held)
        return [local[name] for name in carried]

    results = branching.loop(o.b, init, [*given, *stacks.values()], condition, body)
    for name, value in zip(carried, results, strict=True):
        o.frame.write(name, value)


# Planning a scan ------------------------------------------------------------------------------------------------------


def _planned(o: OpLowering, block: Block, loop: Counted, arrays: Sequence[str]) -> _Plan:
    """What becomes of the arrays.  Raises _Unfit if a scan cannot do it."""
    plan, at = _Plan(), indices(o, block, loop)
    for op in block.ops:
        for name in op.input("RankTable"):
            plan.table = o.frame.held.tables.get(name, plan.table)
    for name in arrays:
        own = [op for op in block.ops if name in (*op.input_arg_names, *op.output_arg_names)]
        nested = any(
            name in (*op.input_arg_names, *op.output_arg_names)
            for op in all_ops(o.function.program, block)
            if op not in own
        )
        if nested or any(op.type not in (_READ, _WRITE) for op in own):
            raise _Unfit(f"{name} is not only read and written by index")
        array = o.frame.held.arrays.get(name, TensorArray())
        writes = [op for op in own if op.type == _WRITE]
        if len(writes) > 1:
            raise _Unfit(f"{name} is written twice in a step")
        if not writes:
            _plan_reads(o, plan, loop, array, name, [(op, at.get(id(op))) for op in own])
            continue
        _plan_write(o, plan, loop, array, name, block, writes[0], [op for op in own if op.type == _READ], at)
    return plan


def _plan_reads(
    o: OpLowering,
    plan: _Plan,
    loop: Counted,
    array: TensorArray,
    name: str,
    reads: list[tuple[Operator, Linear | None]],
) -> None:
    """An array that is only read: slices of its items, side by side."""
    for op, at in reads:
        if at is None:
            raise _Unfit(f"{name} is read at an index that is computed")
        if at.step == 0:
            item = array.item(o.b, at.start)
            if item is None:
                raise _Unfit(f"{name} has no item {at.start}")
            plan.items.append((op, item.value if isinstance(item, Ranked) else item))
            continue
        rows = array.stacked(o.b)
        if rows is None:
            raise _Unfit(f"the items of {name} differ in shape")
        if array.table is not None:
            plan.table = plan.table or array.table
        count = rows.tensor.shape[0]
        if (at.step, at.start, count) != (1, 0, loop.trip):
            last = None if not isinstance(loop.trip, int) else at.start + at.step * (loop.trip - 1)
            if last is None or not isinstance(count, int) or at.step < 1 or not 0 <= at.start <= last < count:
                raise _Unfit(f"{name} has {count} items, which are not those of {loop.trip} steps")
            rows = o.b.slice(rows, 0, at.start, last + 1, at.step)
        plan.slices.append((op, rows))


def _plan_write(
    o: OpLowering,
    plan: _Plan,
    loop: Counted,
    array: TensorArray,
    name: str,
    block: Block,
    write: Operator,
    reads: list[Operator],
    at: dict[int, Linear],
) -> None:
    """An array that one item is written to in every step, and that may be read before or after it."""
    where = at.get(id(write))
    if where is None or where.step != 1:
        raise _Unfit(f"{name} is written at an index that is no count of the steps")
    before = array.between(o.b, 0, where.start)
    if before is None or len(before) != where.start:
        raise _Unfit(f"{name} has no items before {where.start}")
    behind: tuple[Part, ...] = ()
    if len(array.parts) > len(before):
        count, trip = array.count(), loop.trip
        if count is None or not isinstance(trip, int):
            raise _Unfit(f"{name} is written where it has items")
        behind = array.between(o.b, where.start + trip, count) or ()
    fresh = [op for op in reads if at.get(id(op)) == where and block.ops.index(op) > block.ops.index(write)]
    earlier = [op for op in reads if at.get(id(op)) == Linear(1, where.start - 1)]
    others = [op for op in reads if not any(op is known for known in (*fresh, *earlier))]
    if others or (fresh and earlier):
        raise _Unfit(f"{name} is read at other items than the one before")
    if not earlier:
        plan.outputs.append(_Output(name, before, behind, array.table, fresh, write))
        return
    first = before[-1]
    if first is None or isinstance(first, Rows):
        raise _Unfit(f"{name} has no item {where.start - 1}")
    plan.memories.append(_Memory(name, _initial(o, first, plan.table), before, behind, earlier, write))


def _initial(o: OpLowering, item: Item, table: RankTable | None) -> Value:
    """The first value of a memory, with every row at its own place."""
    if isinstance(item, Ranked):
        return item.value
    count = None if table is None else table.lengths.tensor.shape[0]
    if table is None or isinstance(item.type, RaggedType) or uniform(item) or item.tensor.shape[:1] != (count,):
        return item
    return o.b.gather(item, table.places(o.b), 0)  # row k was meant for the k-th longest


# The scan -------------------------------------------------------------------------------------------------------------


def _scanned(o: OpLowering, block: Block, loop: Counted, plan: _Plan) -> None:
    carried = [
        name
        for name in dict.fromkeys(o.op.output("Out"))
        if name not in loop.counters and name != loop.test and not _is_array(o, name)
    ]
    whole = [name for name in o.op.input("X") if name not in (*carried, *loop.counters) and _is_value(o, name)]
    init = [*(o.value(name) for name in carried), *(memory.init for memory in plan.memories)]
    read = [*(_own_order(o, name) for name in whole), *(value for _, value in plan.items)]
    # Gradients of sequences are summed over the steps token by token.
    given = [part for value in read for part in _apart(o.b, value)]
    if any(isinstance(value.type, RaggedType) for value in init):
        raise _Unfit("sequences of different lengths are handed from step to step")
    live = [] if plan.table is None else [step_mask(o.b, plan.table.rows, loop.trip, DType.BOOL)]
    # Rows that have ended do the first step again, as `arrays` has their tokens: it is as finite as it was then.
    starts = [o.b(StopGradient(memory.init)) for memory in plan.memories] if live else []
    given += starts
    sliced = [*(value for _, value in plan.slices), *live]
    kinds = {name: o.value(name).tensor for name in loop.counters}

    def step(b: OpBuilder, index: Value, values: Sequence[Value], mask: MaskOf | None) -> list[Value]:
        rest = iter(values)
        local = {name: next(rest) for name in carried}
        memories = [next(rest) for _ in plan.memories]
        slices = [next(rest) for _ in plan.slices]
        going = [next(rest) for _ in live]
        known = [_together(b, value, rest) for value in read]
        local_whole = dict(zip(whole, known, strict=False))
        local |= local_whole
        items = known[len(whole) :]
        first = [next(rest) for _ in starts]
        for name, at in loop.counters.items():
            count = b.cast(index, kinds[name].dtype)
            count = b.add(b.mul(count, b.fill((), kinds[name].dtype, at.step)), b.fill((), kinds[name].dtype, at.start))
            local[name] = b.reshape(count, kinds[name].shape)
        written: dict[str, Value] = {}
        instead: dict[int, Rule] = {}
        for (op, _), value in (*zip(plan.slices, slices, strict=True), *zip(plan.items, items, strict=True)):
            instead[id(op)] = _giving(value)
        seen = (
            [_frozen(b, going, value, start) for value, start in zip(memories, first, strict=True)]
            if live
            else memories
        )
        for memory, value in zip(plan.memories, seen, strict=True):
            instead |= {id(op): _giving(value) for op in memory.reads}
        for array in (*plan.memories, *plan.outputs):
            instead[id(array.write)] = _keeping(written, array.name)
        for output in plan.outputs:
            instead |= {id(op): _again(written, output.name) for op in output.reads}
        run_block(o, block, b, local, mask, instead=instead)
        new = [
            _frozen(b, going, written[memory.name], value)
            for memory, value in zip(plan.memories, memories, strict=True)
        ]
        after = [*(local[name] for name in carried), *new]
        for name, old, now in zip([*carried, *(m.name for m in plan.memories)], values, after, strict=False):
            if old.type != now.type:
                raise _Unfit(f"{name} is {old.type} before a step and {now.type} after it")
        if plan.table is not None:
            rows = [
                *memories,
                *first,
                *slices,
                *going,
                *(local_whole[name] for name in whole if name in o.frame.held.ranked),
            ]
            _check_rows(o, b, rows, list(written.values()))
        outputs = [*new, *(written[output.name] for output in plan.outputs)]
        if any(isinstance(value.type, RaggedType) for value in outputs):
            raise _Unfit("sequences of different lengths are collected")
        return [*after, *outputs]

    def tried(b: OpBuilder, mask: MaskOf) -> None:
        slices = [Value(value.tensor.with_shape(value.tensor.shape[1:])) for value in sliced]
        step(b, Value(TensorType(DType.I64, ())), [*(Value(v.type) for v in init), *slices, *given], mask)

    masks = masks_of(o, block, loop.trip, tried)

    def body(b: OpBuilder, index: Value, *values: Value) -> Sequence[Value]:
        at = len(init) + len(sliced)
        drawn = iter(values[at : at + len(masks)])
        return step(b, index, [*values[:at], *values[at + len(masks) :]], lambda *_: next(drawn))

    results = control.scan(o.b, init, [*sliced, *masks], given, loop.trip, body)
    _after(o, loop, plan, carried, results)


def _check_rows(o: OpLowering, b: OpBuilder, rows: Sequence[Value], results: Sequence[Value]) -> None:
    """Refuse a step that puts the rows of sequences together: those that have ended would be among them."""
    why = mixing(b.ops, dict.fromkeys(rows, ROWS), [value for value in results if not uniform(value)])
    if why is not None:
        raise o.error(
            f"a step on some of the sequences puts them together: {why}",
            "compute row by row inside the loop, and reduce behind it",
        )


def _after(o: OpLowering, loop: Counted, plan: _Plan, carried: Sequence[str], results: Sequence[Value]) -> None:
    """Give the names that the loop wrote their values behind it."""
    for name, value in zip(carried, results, strict=False):
        o.frame.write(name, value)
    stacks = iter(results[len(carried) + len(plan.memories) :])
    for array in (*plan.memories, *plan.outputs):
        table = array.table if isinstance(array, _Output) else None
        if isinstance(array, _Output) and not array.before and not array.behind:
            table = plan.table
        parts = (*array.before, Rows(next(stacks)), *array.behind)
        o.frame.held.arrays[array.name] = TensorArray(parts, table)
    for name, at in loop.counters.items():
        kind = o.value(name).tensor
        if isinstance(loop.trip, int):
            o.frame.write(name, o.b.fill(kind.shape, kind.dtype, at.start + at.step * loop.trip))
        else:
            steps = o.b.mul(o.b.extent(loop.trip, kind.dtype), o.b.fill((), kind.dtype, at.step))
            o.frame.write(name, o.b.reshape(o.b.add(steps, o.b.fill((), kind.dtype, at.start)), kind.shape))
    if loop.trip != 0:
        o.frame.write(loop.test, o.b.fill(o.value(loop.test).tensor.shape, DType.BOOL, False))


def _is_array(o: OpLowering, name: str) -> bool:
    var = o.frame.block.find_var_recursive(name)
    return var is not None and var.type is VarType.LOD_TENSOR_ARRAY


def _is_value(o: OpLowering, name: str) -> bool:
    return not _is_array(o, name) and name not in o.frame.held.tables


def _own_order(o: OpLowering, name: str) -> Value:
    """The value of a name, with every row at its own place also where the program sorted them."""
    ranked = o.frame.held.ranked.get(name)
    return o.value(name) if ranked is None else ranked.value


def _apart(b: OpBuilder, value: Value) -> tuple[Value, ...]:
    """A value as dense floating-point data, and of sequences also what divides it."""
    if not isinstance(value.type, RaggedType):
        return (value,)
    data = b(ragged.Data(value))
    return data, b(ragged.Like(b.fill(data.tensor.shape[:1], DType.I64, 0), value))


def _together(b: OpBuilder, like: Value, parts: Iterator[Value]) -> Value:
    """In a step, the value that was taken apart."""
    data = next(parts)
    return b(ragged.Like(data, next(parts))) if isinstance(like.type, RaggedType) else data


def _giving(value: Value) -> Rule:
    return lambda o: o.set(value)


def _keeping(written: dict[str, Value], name: str) -> Rule:
    def rule(o: OpLowering) -> None:
        written[name] = o.any("X")

    return rule


def _again(written: dict[str, Value], name: str) -> Rule:
    return lambda o: o.set(written[name])


def _frozen(b: OpBuilder, going: Sequence[Value], new: Value, old: Value) -> Value:
    """``new`` in the rows of sequences that have a token, ``old`` in the others."""
    if not going or isinstance(new.type, RaggedType) or new.tensor.shape[:1] != going[0].tensor.shape:
        return new
    if new.type != old.type:
        return new
    return b.where(b.reshape(going[0], (new.tensor.shape[0], *(1,) * (new.tensor.rank - 1))), new, old)


RULES: Rules = {"while": _while}
