"""From two recordings of the same code, for different numbers of rows, to one Program for any number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ProgramError
from ..framework import Operator, Program
from ..variable import SLICE_END, Variable

_LIKE = {
    "fill_constant": "fill_constant_batch_size_like",
    "gaussian_random": "gaussian_random_batch_size_like",
    "uniform_random": "uniform_random_batch_size_like",
}
"""Ops that state a shape, and those that take an extent of it from an input."""


@dataclass(frozen=True)
class Probe:
    """Two recordings.

    Attributes:
        program: For ``sizes[0]`` rows; it becomes the one for any number.
        other: For ``sizes[1]`` rows.
        sizes: The numbers of rows.
        feed: A data variable of ``program`` whose first axis is the batch.
    """

    program: Program
    other: Program
    sizes: tuple[int, int]
    feed: Variable


class _Differs(Exception):
    """An op that is not the same for any number of rows; the message says in what."""


def open_batch(probe: Probe, what: str, hint: str) -> None:
    """Leave every extent of ``probe.program`` open that grows with the number of rows.

    Args:
        probe: The recordings.
        what: What is traced, for messages.
        hint: What to do about an error.

    Raises:
        ProgramError: The recordings differ in something that does not follow from the number of rows.
    """
    a, b = probe.sizes
    ops = [op for block in probe.program.blocks for op in block.ops]
    others = [op for block in probe.other.blocks for op in block.ops]
    for op, other in zip(ops, others):
        try:
            _check_same(op, other)
        except _Differs as error:
            raise ProgramError(
                f"{what} records other ops for {a} rows than for {b}: {error}", op.loc.place, hint
            ) from None
    if len(ops) != len(others):
        more = max(ops, others, key=len)[min(len(ops), len(others))]
        raise ProgramError(
            f"{what} records {len(ops)} ops for {a} rows and {len(others)} for {b}; {_layer(more)} is the first that "
            "only one of them has",
            more.loc.place,
            hint,
        )
    for op, other in zip(ops, others):
        try:
            _open(op, other, probe)
        except _Differs as error:
            raise ProgramError(
                f"{what} is not the same for any number of rows: {_layer(op)} has {error}", op.loc.place, hint
            ) from None
    for block, twin in zip(probe.program.blocks, probe.other.blocks):
        for name, var in block.vars.items():
            shape = twin.vars[name].shape
            if len(shape) == len(var.shape) and shape != var.shape:
                var.shape = [d if d == e else -1 for d, e in zip(var.shape, shape)]
    probe.program.edited()


def _layer(op: Operator) -> str:
    return op.loc.layer or op.type


def _check_same(op: Operator, other: Operator) -> None:
    if op.type != other.type or op.loc.place != other.loc.place:
        raise _Differs(f"{_layer(op)} for {_layer(other)} at {other.loc.place}")
    if (op.inputs, op.outputs) != (other.inputs, other.outputs) or op.attrs.keys() != other.attrs.keys():
        raise _Differs(f"{_layer(op)} has other arguments")


def _open(op: Operator, other: Operator, probe: Probe) -> None:
    """Open the extents that an op states.  Raises _Differs for anything else that is not the same in ``other``."""
    differing = {name: (value, other.attrs[name]) for name, value in op.attrs.items()}
    differing = {name: pair for name, pair in differing.items() if not _same(*pair)}
    if not differing:
        return
    name, pair = next(iter(differing.items()))
    if op.type == "assign_value" and "shape" in differing:
        _fill(op, probe, *differing["shape"], *differing["values"])
    elif len(differing) > 1 or not _are_extents(*pair):
        raise _Differs(f"{name} {pair[0]} for {probe.sizes[0]} and {pair[1]} for {probe.sizes[1]} of them")
    elif op.type in _LIKE and name == "shape":
        _like(op, probe, *pair)
    elif op.type == "reshape2" and name == "shape":
        op.attrs[name] = _reshaped(op, probe, *pair)
    elif op.type in ("slice", "strided_slice") and name == "ends":
        op.attrs[name] = _ends(op, probe, *pair)
    else:
        raise _Differs(f"{name} {pair[0]} for {probe.sizes[0]} and {pair[1]} for {probe.sizes[1]} of them")


def _same(value: Any, other: Any) -> bool:
    if isinstance(value, np.ndarray):
        return isinstance(other, np.ndarray) and value.dtype == other.dtype and np.array_equal(value, other)
    return bool(value == other)


def _are_extents(value: Any, other: Any) -> bool:
    return isinstance(value, list) and len(value) == len(other) and all(isinstance(d, int) for d in [*value, *other])


def _like(op: Operator, probe: Probe, shape: list[int], other: list[int]) -> None:
    """State the op's shape by a feed: one extent of it is the number of rows."""
    axes = [i for i, pair in enumerate(zip(shape, other)) if pair[0] != pair[1]]
    if len(axes) != 1 or (shape[axes[0]], other[axes[0]]) != probe.sizes:
        raise _Differs(f"shape {shape} for {probe.sizes[0]} and {other} for {probe.sizes[1]} of them")
    op.type = _LIKE[op.type]
    op.inputs = {"Input": [probe.feed.name]}
    op.attrs = {**op.attrs, "shape": list(shape), "input_dim_idx": 0, "output_dim_idx": axes[0]}
    op.attrs["shape"][axes[0]] = -1


def _fill(op: Operator, probe: Probe, shape: list[int], other: list[int], array: Any, twin: Any) -> None:
    """An array of one number throughout, of as many rows as the batch has."""
    numbers = np.unique(np.concatenate([array.reshape(-1), twin.reshape(-1)]))
    if len(numbers) != 1 or len(shape) != len(other):
        raise _Differs(
            f"an array {shape} for {probe.sizes[0]} and {other} for {probe.sizes[1]} of them, which is not one number "
            "throughout"
        )
    op.type = "fill_constant"
    op.attrs = {"dtype": op.attrs["dtype"], "shape": shape, "value": float(numbers[0])}
    _like(op, probe, shape, other)


def _extents(op: Operator, probe: Probe, slot: str) -> list[tuple[int, int]]:
    """The extents of an input in both recordings."""
    (name,) = op.input(slot)
    found = op.block.find_var_recursive(name)
    twin = probe.other.blocks[op.block.idx].find_var_recursive(name)
    return [] if found is None or twin is None else list(zip(found.shape, twin.shape))


def _reshaped(op: Operator, probe: Probe, shape: list[int], other: list[int]) -> list[int]:
    """A shape whose extents are the input's (0) or follow from the others (-1) where they grow with the rows."""
    found = list(shape)
    # In place, the input's own extents are gone.
    extents = [] if op.input("X") == op.output("Out") else _extents(op, probe, "X")
    for i, pair in enumerate(zip(shape, other)):
        if pair[0] == pair[1]:
            continue
        if -1 not in found:
            found[i] = -1
        elif i < len(extents) and extents[i] == pair:
            found[i] = 0
        else:
            raise _Differs(f"shape {shape} for {probe.sizes[0]} and {other} for {probe.sizes[1]} of them")
    return found


def _ends(op: Operator, probe: Probe, ends: list[int], other: list[int]) -> list[int]:
    """Ends of slices; one at the end of an axis stays there."""
    extents = _extents(op, probe, "Input")
    found = list(ends)
    for i, (axis, *pair) in enumerate(zip(op.attr("axes"), ends, other)):
        if pair[0] != pair[1]:
            if tuple(pair) != extents[axis]:
                raise _Differs(f"ends {ends} for {probe.sizes[0]} and {other} for {probe.sizes[1]} of them")
            found[i] = SLICE_END
    return found
