"""Arrays of tensors, tables of ranks, and sequences taken apart into time steps by them."""

from __future__ import annotations

import numpy as np

from .call import HostCall, HostRules
from .values import Array, Lod, RankTable, Value, in_rows, lengths, offsets


def _write(o: HostCall) -> None:
    at = o.number("I")
    if at < 0:
        raise o.error(f"the index is {at}", "an index counts from 0")
    array = list(o.tensors("Out"))
    array += [None] * (at + 1 - len(array))
    array[at] = o.x()
    o.values.write(o.op.output("Out")[0], array)


def _read(o: HostCall) -> None:
    at, array = o.number("I"), o.tensors("X")
    found = array[at] if 0 <= at < len(array) else None
    if found is None:
        raise o.error(
            f"{o.op.input('X')[0]} has {len(array)} elements, and none at {at}",
            "write one there first: fluid.layers.array_write",
        )
    o.set(found.array, "Out", found.lod)


def _length(o: HostCall) -> None:
    o.set(np.asarray([len(o.tensors("X"))], np.int64))


def _tensor_array_to_tensor(o: HostCall) -> None:
    parts = [value.array for value in o.tensors("X") if value is not None]
    axis = o.attr("axis", 0)
    joined = np.stack(parts, axis) if o.attr("use_stack", False) else np.concatenate(parts, axis)
    o.set(joined)
    sizes = [part.shape[axis] if axis < part.ndim else 1 for part in parts]  # of the items, stacked or joined
    o.set(np.asarray(sizes, np.int32), "OutIndex")


def _rank_table(o: HostCall) -> None:
    x, level = o.x(), o.attr("level", 0)
    if level >= len(x.lod):
        raise o.error(f"{o.op.input('X')[0]} has {len(x.lod)} levels of LoD, none is {level}", "give a lower level")
    sizes = lengths(x.lod[level])
    items = sorted(enumerate(sizes), key=lambda item: -item[1])
    o.values.write(o.op.output("Out")[0], RankTable(tuple(items), x.lod[:level]))


def _max_sequence_len(o: HostCall) -> None:
    items = o.table().items
    o.set(np.asarray([items[0][1] if items else 0], np.int64))


def _alive(table: RankTable, step: int) -> int:
    """Sequences that are longer than ``step``; they come first in the table."""
    return sum(size > step for _, size in table.items)


def _element(x: Value, level: int, at: int) -> tuple[int, int]:
    """Rows of one element of a level: a row, or the sequence of the next level."""
    if level + 1 >= len(x.lod):
        return at, at + 1
    rows = in_rows(x.lod, level + 1)
    return rows[at], rows[at + 1]


def _below(x: Value, level: int, elements: list[int]) -> Lod:
    """The levels below, of some elements one after another."""
    found: list[tuple[int, ...]] = []
    for finer in range(level + 1, len(x.lod)):
        sizes = [n for at in elements for n in lengths(x.lod[finer])[at : at + 1]]
        found.append(offsets(sizes))
        elements = [i for at in elements for i in range(x.lod[finer][at], x.lod[finer][at + 1])]
    return tuple(found)


def _to_array(o: HostCall) -> None:
    x, table = o.x(), o.table()
    level = len(table.coarse)
    starts = x.lod[level] if x.lod else tuple(range(len(x.array) + 1))
    steps: list[Value | None] = []
    for step in range(table.items[0][1] if table.items else 0):
        elements = [starts[i] + step for i, size in table.items if size > step]
        rows = [r for at in elements for r in range(*_element(x, level, at))]
        steps.append(Value(x.array[rows], _below(x, level, elements)))
    o.values.write(o.op.output("Out")[0], steps)


def _from_array(o: HostCall) -> None:
    table = o.table()
    steps = [step for step in o.tensors("X") if step is not None]
    # By sequence in the order in which they came, then by step.
    rank = {i: place for place, (i, _) in enumerate(table.items)}
    sizes = dict(table.items)
    parts: list[Array] = []
    below: list[int] = []
    for i in sorted(sizes):
        for step in steps[: sizes[i]]:
            begin, end = (step.lod[0][rank[i]], step.lod[0][rank[i] + 1]) if step.lod else (rank[i], rank[i] + 1)
            parts.append(step.array[begin:end])
            below.append(end - begin)
    level = offsets(sizes[i] for i in sorted(sizes))
    finer: Lod = (offsets(below),) if steps and steps[0].lod else ()
    joined = np.concatenate(parts) if parts else np.zeros((0,), np.float32)
    o.set(joined, "Out", (*table.coarse, level, *finer))


def _shrink(o: HostCall) -> None:
    x = o.x()
    alive = _alive(o.table(), o.number("I"))
    if x.lod:
        o.set(x.array[: x.lod[0][alive]], "Out", (x.lod[0][: alive + 1],))
    else:
        o.set(x.array[:alive])


def _reorder(o: HostCall) -> None:
    x, order = o.x(), [i for i, _ in o.table().items]
    if not x.lod:
        o.set(x.array[order])
        return
    rows = in_rows(x.lod, 0)
    taken = [r for i in order for r in range(rows[i], rows[i + 1])]
    top = offsets(lengths(x.lod[0])[i] for i in order)
    elements = [e for i in order for e in range(x.lod[0][i], x.lod[0][i + 1])]
    o.set(x.array[taken], "Out", (top, *_below(x, 0, elements)))


def _mask(o: HostCall) -> list[bool]:
    return [bool(x) for x in o.array("Mask").reshape(-1)]


def _split(o: HostCall) -> None:
    x, mask, level = o.x(), _mask(o), o.attr("level", 0)
    for slot, wanted in (("OutTrue", True), ("OutFalse", False)):
        chosen = [i for i, holds in enumerate(mask) if holds == wanted]
        if not x.lod:
            o.set(x.array[chosen], slot)
            continue
        rows = in_rows(x.lod, level)
        taken = [r for i in chosen for r in range(rows[i], rows[i + 1])]
        elements = [e for i in chosen for e in range(x.lod[level][i], x.lod[level][i + 1])]
        top = offsets(lengths(x.lod[level])[i] for i in chosen)
        o.set(x.array[taken], slot, (top, *_below(x, level, elements)))


def _merge(o: HostCall) -> None:
    sides = {True: o.x("InTrue"), False: o.x("InFalse")}
    level = o.attr("level", 0)
    at = {True: 0, False: 0}
    parts: list[Array] = []
    sizes: list[int] = []
    for holds in _mask(o):
        side = sides[holds]
        i = at[holds]
        begin, end = (i, i + 1) if not side.lod else (in_rows(side.lod, level)[i], in_rows(side.lod, level)[i + 1])
        parts.append(side.array[begin:end])
        sizes.append(end - begin)
        at[holds] += 1
    has_lod = bool(sides[True].lod or sides[False].lod)
    o.set(np.concatenate(parts) if parts else sides[True].array, "Out", (offsets(sizes),) if has_lod else ())


RULES: HostRules = {
    "write_to_array": _write,
    "read_from_array": _read,
    "lod_array_length": _length,
    "tensor_array_to_tensor": _tensor_array_to_tensor,
    "lod_rank_table": _rank_table,
    "max_sequence_len": _max_sequence_len,
    "lod_tensor_to_array": _to_array,
    "array_to_lod_tensor": _from_array,
    "shrink_rnn_memory": _shrink,
    "reorder_lod_tensor_by_rank": _reorder,
    "split_lod_tensor": _split,
    "merge_lod_tensor": _merge,
}
