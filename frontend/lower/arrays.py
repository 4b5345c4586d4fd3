"""Arrays of variables, and sequences side by side, outside of loops (`loops` says what becomes of them inside)."""

from __future__ import annotations

from ...compiler.ir.core import Value
from ...compiler.ir.types import DType, RaggedType
from ...compiler.ops import ragged
from ...compiler.ops.grad import StopGradient
from ...compiler.ops.ragged_pad import Pad, Unpad, step_mask
from .context import OpLowering, Rules
from .counting import known
from .held import Ranked, RankTable, Rows, TensorArray, at_index


def _index(o: OpLowering) -> int | None:
    """The index of an op on an array, if it is known."""
    found = known(o, o.op.input("I")[0])
    return found if isinstance(found, int) else None


def _array(o: OpLowering, slot: str) -> TensorArray:
    name = o.op.input(slot)[0]
    found = o.frame.held.arrays.get(name)
    if found is None:
        raise o.error(f"the array {name} is read before anything is written to it", "write to it first: array_write")
    return found


def _write(o: OpLowering) -> None:
    name, index = o.op.output("Out")[0], _index(o)
    array = o.frame.held.arrays.get(name, TensorArray())
    if index is None:
        raise o.error(
            f"the index {o.op.input('I')[0]} of the array {name} is computed when the program runs",
            "write at constant indices, or in a loop that counts: less_than(i, n) of constants, increment(i)",
        )
    ranked = o.frame.held.ranked.get(o.op.input("X")[0])
    written = array.written(o.b, index, o.any("X") if ranked is None else ranked)
    if written is None:
        raise o.error(f"{name} holds the tokens of sequences, and item {index} is written", "use another array")
    o.frame.held.arrays[name] = written


def _read(o: OpLowering) -> None:
    array, index = _array(o, "X"), _index(o)
    name = o.op.input("X")[0]
    if index is None:
        rows = array.stacked(o.b)
        if rows is None:
            raise o.error(
                f"{name} is read at an index that is computed when the program runs, and its items differ in shape",
                "read at constant indices, or write items of one shape",
            )
        o.set(at_index(o.b, rows, o.value(o.op.input("I")[0])))
        return
    item = array.item(o.b, index)
    if item is None:
        raise o.error(f"item {index} of the array {name} was never written", "write it first: array_write")
    if array.table is not None and isinstance(item, Value):
        item = Ranked(item, array.table)
    if isinstance(item, Ranked):
        o.frame.held.ranked[o.op.output("Out")[0]] = item
    else:
        o.set(item)


def _length(o: OpLowering) -> None:
    array = o.frame.held.arrays.get(o.op.input("X")[0], TensorArray())
    count = 0
    total: Value | None = None
    for part in array.parts:
        size = part.count if isinstance(part, Rows) else 1
        if isinstance(size, int):
            count += size
        else:
            extent = o.b.extent(size, DType.I64)
            total = extent if total is None else o.b.add(total, extent)
    fixed = o.b.fill((), DType.I64, count)
    o.set(o.one(fixed if total is None else o.b.add(total, fixed)))


def _to_tensor(o: OpLowering) -> None:
    array, axis = _array(o, "X"), int(o.attr("axis", 0))
    name = o.op.input("X")[0]
    count = array.count()
    rows = array.stacked(o.b)
    if o.attr("use_stack", False):
        if rows is None:
            raise o.error(f"the items of {name} differ in shape", "join them: use_stack=False")
        rank = rows.tensor.rank
        at = axis % rank
        o.set(o.b.transpose(rows, (*range(1, at + 1), 0, *range(at + 1, rank))))
        # Paddle gives the items' extent there, not that of the new axis.
        extent = o.b.extent(rows.tensor.shape[1 + axis % (rank - 1)] if rank > 1 else 1, DType.I32)
        o.set(o.b.broadcast(extent, (rows.tensor.shape[0],)), "OutIndex")
        return
    if count is None:
        raise o.error(f"how many items {name} has depends on the data", "use array_to_lod_tensor")
    found: list[Value] = []
    for i in range(count):
        item = array.item(o.b, i)
        if item is None or isinstance(item, Ranked) or isinstance(item.type, RaggedType):
            raise o.error(f"item {i} of {name} cannot be joined with others", "write dense Variables only")
        found.append(item)
    axis %= max(found[0].tensor.rank, 1)
    o.set(o.b.concat(found, axis))
    sizes = [o.b.reshape(o.b.extent(x.tensor.shape[axis], DType.I32), (1,)) for x in found]
    o.set(o.b.concat(sizes, 0), "OutIndex")


# Sequences side by side -----------------------------------------------------------------------------------------------


def _sequences(o: OpLowering, slot: str = "X") -> Value:
    found = o.any(slot)
    if not isinstance(found.type, RaggedType):
        raise o.error(f"{o.op.input(slot)[0]} has no sequences", "feed a LoDTensor: fluid.create_lod_tensor(...)")
    return found


def _table(o: OpLowering) -> RankTable:
    return o.frame.held.tables[o.op.input("RankTable")[0]]


def _rank_table(o: OpLowering) -> None:
    rows = _sequences(o)
    o.frame.held.tables[o.op.output("Out")[0]] = RankTable.of(o.b, rows, o.function.longest(rows))


def _longest(o: OpLowering) -> None:
    o.set(o.one(o.b.extent(_table(o).width, DType.I64)))


def _to_array(o: OpLowering) -> None:
    rows, table = _sequences(o), _table(o)
    padded = o.b(Pad(rows, table.width, steps_first=True))
    # A row that has ended stands at its first token again: what is computed for nobody must be finite, or its gradient,
    # which is zero, would be no number in the parameters.
    lengths, data = o.b(ragged.Lengths(rows)), o.b(ragged.Data(rows))
    zero = o.b.fill((), DType.I64, 0)
    last = o.b.sub(o.b.extent(data.tensor.shape[0], DType.I64), o.b.fill((), DType.I64, 1))
    at = o.b.maximum(o.b.minimum(o.b.cumsum(lengths, 0, exclusive=True), last), zero)
    first = o.b(StopGradient(o.b.gather(data, at, 0)))
    live = o.b.reshape(
        step_mask(o.b, rows, table.width, DType.BOOL), (*padded.tensor.shape[:2], *(1,) * (data.tensor.rank - 1))
    )
    tokens = o.b.where(live, padded, o.b.reshape(first, (1, *first.tensor.shape)))
    o.frame.held.arrays[o.op.output("Out")[0]] = TensorArray((Rows(tokens),), table)


def _from_array(o: OpLowering) -> None:
    array, table = _array(o, "X"), _table(o)
    rows = array.stacked(o.b)
    if rows is None or rows.tensor.shape[:2] != (table.width, table.lengths.tensor.shape[0]):
        raise o.error(f"{o.op.input('X')[0]} has not one item per token", "write one item in every step of the loop")
    o.set(o.b(Unpad(o.b.transpose(rows, (1, 0, *range(2, rows.tensor.rank))), table.rows)))


def _reorder(o: OpLowering) -> None:
    x = o.any("X")
    width = o.function.longest(x) if isinstance(x.type, RaggedType) else 0
    o.frame.held.ranked[o.op.output("Out")[0]] = Ranked(x, _table(o), width)


def _shrink(o: OpLowering) -> None:
    if o.frame.local is None:
        raise o.error("rows that have ended are cut off outside of a loop", "use it in the block of a DynamicRNN")
    o.set(o.any("X"))


RULES: Rules = {
    "write_to_array": _write,
    "read_from_array": _read,
    "lod_array_length": _length,
    "tensor_array_to_tensor": _to_tensor,
    "lod_rank_table": _rank_table,
    "max_sequence_len": _longest,
    "lod_tensor_to_array": _to_array,
    "array_to_lod_tensor": _from_array,
    "reorder_lod_tensor_by_rank": _reorder,
    "shrink_rnn_memory": _shrink,
}
