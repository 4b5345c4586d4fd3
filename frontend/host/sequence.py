"""Ops on rows and the LoD that divides them, of any number of levels."""

from __future__ import annotations

import itertools

import numpy as np

from .call import HostCall, HostRules
from .values import Array, Level, Lod, Value, lengths, offsets


def _sequences(o: HostCall, slot: str = "X") -> Value:
    """The value in a slot, which must have LoD."""
    found = o.x(slot)
    if not found.lod:
        raise o.error(
            f"{o.op.input(slot)[0]} has no LoD: which rows belong to one sequence is not known",
            "feed it by fluid.create_lod_tensor, or divide it with lod_reset",
        )
    return found


def _expand(o: HostCall) -> None:
    x, y = o.x(), _sequences(o, "Y")
    level = o.attr("ref_level", -1)
    if not -1 <= level < len(y.lod):
        raise o.error(f"ref_level is {level}, {o.op.input('Y')[0]} has {len(y.lod)} levels", "give one of them, or -1")
    times = lengths(y.lod[level])
    if len(y.lod[level]) <= 1:
        o.set(x.array, "Out", x.lod)
        return
    starts: Level = x.lod[0] if x.lod else tuple(range(len(x.array) + 1))
    if len(starts) - 1 != len(times):
        raise o.error(
            f"{o.op.input('X')[0]} has {len(starts) - 1} sequences, the LoD of {o.op.input('Y')[0]} {len(times)}",
            "both must have as many",
        )
    rows: list[int] = []
    sizes: list[int] = []
    for i, count in enumerate(times):
        rows += list(range(starts[i], starts[i + 1])) * count
        sizes += [starts[i + 1] - starts[i]] * count
    o.set(x.array[rows], "Out", (offsets(sizes),) if x.lod else ())


def _expand_as(o: HostCall) -> None:
    x, y = o.x(), _sequences(o, "Y")
    times = lengths(y.lod[0])
    if len(times) != len(x.array):
        raise o.error(
            f"{o.op.input('X')[0]} has {len(x.array)} rows, {o.op.input('Y')[0]} {len(times)} sequences",
            "give one row per sequence",
        )
    o.set(np.repeat(x.array, times, axis=0), "Out", (offsets(times),))


def _lod_reset(o: HostCall) -> None:
    x = o.x()
    if o.has("Y"):
        y = o.x("Y")
        lod: Lod = y.lod or (tuple(int(v) for v in y.array.reshape(-1)),)
    else:
        lod = (tuple(int(v) for v in o.attr("target_lod")),)
    if not all(level and level[0] == 0 and list(level) == sorted(level) for level in lod) or lod[-1][-1] != len(
        x.array
    ):
        raise o.error(f"offsets {[list(level) for level in lod]} for {len(x.array)} rows", "they end at the rows")
    o.set(x.array, "Out", (*x.lod, *lod) if o.attr("append", False) else lod)


def _pad(o: HostCall) -> None:
    x, fill = _sequences(o), o.array("PadValue")
    rows, wanted = x.rows(), o.attr("padded_length", -1)
    longest = max(map(len, rows), default=0)
    if wanted < 0:
        wanted = longest
    if longest > wanted:
        raise o.error(f"maxlen is {wanted}, the longest sequence has {longest} rows", "give at least that")
    if fill.size == 1:
        fill = fill.reshape(())
    out = np.empty((len(rows), wanted, *x.array.shape[1:]), x.array.dtype)
    out[...] = fill
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    o.set(out)
    o.set(np.asarray([len(row) for row in rows], np.int64), "Length")


def _unpad(o: HostCall) -> None:
    x, sizes = o.array(), [int(n) for n in o.array("Length").reshape(-1)]
    if len(sizes) != len(x) or any(not 0 <= n <= x.shape[1] for n in sizes):
        raise o.error(f"lengths {sizes} for an input {list(x.shape)}", "give one length per row, at most its places")
    o.set(np.concatenate([x[i, :n] for i, n in enumerate(sizes)]), "Out", (offsets(sizes),))


def _slice(o: HostCall) -> None:
    x = _sequences(o)
    begin, size = o.array("Offset").reshape(-1), o.array("Length").reshape(-1)
    parts: list[Array] = []
    for i, row in enumerate(x.rows()):
        if begin[i] < 0 or size[i] <= 0 or begin[i] + size[i] > len(row):
            raise o.error(
                f"offset {begin[i]} and length {size[i]} for sequence {i}, which has {len(row)} rows",
                "both must lie in the sequence, and the length be positive",
            )
        parts.append(row[begin[i] : begin[i] + size[i]])
    o.set(np.concatenate(parts), "Out", (offsets(map(len, parts)),))


def _erase(o: HostCall) -> None:
    x = _sequences(o)
    kept = ~np.isin(x.array.reshape(len(x.array), -1)[:, 0], o.attr("tokens", []))
    sizes = [int(kept[a:b].sum()) for a, b in itertools.pairwise(x.ends)]
    o.set(x.array[kept], "Out", (*x.lod[:-1], offsets(sizes)))


def _enumerate(o: HostCall) -> None:
    x, width = _sequences(o), o.attr("win_size")
    flat = x.array.reshape(-1)
    out = np.full((len(flat), width), o.attr("pad_value", 0), x.array.dtype)
    for a, b in itertools.pairwise(x.ends):
        for at in range(a, b):
            found = flat[at : min(at + width, b)]
            out[at, : len(found)] = found
    o.set(out, "Out", x.lod)


def _concat(o: HostCall) -> None:
    parts = [value.rows() for value in o.xs()]
    if len({len(rows) for rows in parts}) != 1:
        raise o.error(f"inputs have {[len(rows) for rows in parts]} sequences", "they must have as many each")
    joined = [np.concatenate(rows) for rows in zip(*parts)]
    o.set(np.concatenate(joined), "Out", (offsets(map(len, joined)),))


def _reshape(o: HostCall) -> None:
    x, width = _sequences(o), o.attr("new_dim")
    old = x.array.shape[1]
    sizes = [n * old for n in lengths(x.ends)]
    if any(n % width for n in sizes):
        raise o.error(f"sequences of {sizes} elements cannot have rows of {width}", "give a divisor of all of them")
    o.set(x.array.reshape(-1, width), "Out", (*x.lod[:-1], offsets(n // width for n in sizes)))


def _reverse(o: HostCall) -> None:
    x = _sequences(o)
    o.set(np.concatenate([row[::-1] for row in x.rows()]), "Y", x.lod)


def _scatter(o: HostCall) -> None:
    out = o.array().copy()
    for i, (places, values) in enumerate(zip(_sequences(o, "Ids").rows(), o.x("Updates").rows())):
        np.add.at(out[i], places.reshape(-1), values.reshape(-1))
    o.set(out, "Out", o.x().lod)


_POOLS = {
    "SUM": lambda row: row.sum(0),
    "AVERAGE": lambda row: row.mean(0),
    "SQRT": lambda row: row.sum(0) / np.sqrt(np.asarray(len(row), row.dtype)),
    "MAX": lambda row: row.max(0),
    "FIRST": lambda row: row[0],
    "LAST": lambda row: row[-1],
}


def _pool(o: HostCall) -> None:
    x, pool = _sequences(o), _POOLS[str(o.attr("pooltype")).upper()]
    empty = np.full(x.array.shape[1:], o.attr("pad_value", 0.0), x.array.dtype)
    rows = x.rows()
    o.set(np.stack([pool(row) if len(row) else empty for row in rows]).astype(x.array.dtype), "Out", x.lod[:-1])
    if str(o.attr("pooltype")).upper() == "MAX":
        none = np.full(x.array.shape[1:], -1, np.int32)
        at = [row.argmax(0).astype(np.int32) + start if len(row) else none for row, start in zip(rows, x.ends)]
        o.set(np.stack(at), "MaxIndex")


def _softmax(o: HostCall) -> None:
    x = _sequences(o)
    parts: list[Array] = []
    for row in x.rows():
        e = np.exp(row - row.max(initial=-np.inf))
        parts.append(e / e.sum())
    o.set(np.concatenate(parts).astype(x.array.dtype), "Out", x.lod)


RULES: HostRules = {
    "sequence_expand": _expand,
    "sequence_expand_as": _expand_as,
    "lod_reset": _lod_reset,
    "sequence_pad": _pad,
    "sequence_unpad": _unpad,
    "sequence_slice": _slice,
    "sequence_erase": _erase,
    "sequence_enumerate": _enumerate,
    "sequence_concat": _concat,
    "sequence_reshape": _reshape,
    "sequence_reverse": _reverse,
    "sequence_scatter": _scatter,
    "sequence_pool": _pool,
    "sequence_softmax": _softmax,
}
