"""Ops whose results are as long as the data says: what is distinct, what is true, what is empty; hashes and draws."""

from __future__ import annotations

import numpy as np

from ..vartype import VarType
from .call import HostCall, HostRules
from .xxhash64 import xxh64


def _unique(o: HostCall) -> None:
    x = o.array().reshape(-1)
    kept: dict[object, int] = {}
    places = [kept.setdefault(value, len(kept)) for value in x.tolist()]
    dtype = VarType(o.attr("dtype", VarType.INT32)).numpy
    o.set(np.asarray(list(kept), x.dtype))
    o.set(np.asarray(places, dtype), "Index")
    o.set(np.bincount(places, minlength=len(kept)).astype(dtype), "Count")


def _where(o: HostCall) -> None:
    o.set(np.argwhere(o.array("Condition")).astype(np.int64))


def _is_empty(o: HostCall) -> None:
    o.set(np.asarray([o.array().size == 0]))


def _select_input(o: HostCall) -> None:
    """Only the branch that was taken has a value."""
    name = o.op.input("X")[o.number("Mask")]
    found = o.values.find(name)
    if found is None:
        raise o.error(f"{name} has no value", "both branches must return one")
    for out in o.op.output("Out"):
        o.values.write(out, found)


def _hash(o: HostCall) -> None:
    x = o.x()
    rows = x.array.reshape(-1, x.array.shape[-1])
    seeds, size = range(o.attr("num_hash", 1)), o.attr("mod_by", 100000)
    found = [[xxh64(row.tobytes(), seed) % size for seed in seeds] for row in np.ascontiguousarray(rows)]
    o.set(np.asarray(found, np.int64).reshape(*x.array.shape[:-1], len(seeds), 1), "Out", x.lod)


RULES: HostRules = {
    "unique": _unique,
    "unique_with_counts": _unique,
    "where_index": _where,
    "is_empty": _is_empty,
    "select_input": _select_input,
    "hash": _hash,
}
