"""What a run of a program reads by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from weakref import WeakKeyDictionary

import numpy as np

from ..errors import invalid, wrong_type
from ..framework import Operator, Program
from ..lod import LoDTensor
from ..profiler import timed
from .reader_variable import ReaderVariable

_reads: WeakKeyDictionary[Program, tuple[int, list[Operator]]] = WeakKeyDictionary()


def _read_ops(program: Program) -> list[Operator]:
    version, ops = _reads.get(program, (-1, []))
    if version != program.version:
        ops = [op for op in program.global_block().ops if op.type == "read"]
        _reads[program] = program.version, ops
    return ops


def joined(
    feed: Mapping[str, object] | Sequence[Mapping[str, object]] | None, *, data_parallel: bool
) -> Mapping[str, object]:
    """The batches for all devices as one.

    Raises:
        ProgramError: Several batches for a program that is not data parallel, or of different variables.
        ArgumentTypeError: Neither a dict nor a list of dicts.
    """
    if feed is None or isinstance(feed, Mapping):
        return feed or {}
    if not isinstance(feed, list | tuple) or not all(isinstance(each, Mapping) for each in feed):
        raise wrong_type(f"run: feed is {type(feed).__name__}", "give a dict: feed={'x': array}")
    if len(feed) > 1 and not data_parallel:
        raise invalid(
            f"run: feed has batches for {len(feed)} devices, but the program is not data parallel",
            "give one dict, or run fluid.CompiledProgram(program).with_data_parallel(loss_name=loss.name)",
        )
    names = {frozenset(each) for each in feed}
    if len(names) > 1:
        raise invalid("run: the batches of feed are for different variables", "give all of them the same names")
    return {name: _together([each[name] for each in feed]) for name in (feed[0] if feed else ())}


def _together(values: Sequence[object]) -> object:
    if len(values) == 1:
        return values[0]
    tensor = LoDTensor()
    tensor.set(np.concatenate([np.asarray(value) for value in values]))
    levels = [value.recursive_sequence_lengths() for value in values if isinstance(value, LoDTensor)]
    if len(levels) == len(values):
        tensor.set_recursive_sequence_lengths([[n for part in level for n in part] for level in zip(*levels)])
    return tensor


def with_batches(program: Program, feed: Mapping[str, object]) -> Mapping[str, object]:
    """A feed with the next batches of the program's readers, which take the place of what was fed for them.

    A reader that was not started may be left alone by feeding all that it would give. Returns ``feed`` itself where
    nothing is read.

    Raises:
        EOFException: A reader has no more data; nothing was run.
        ProgramError: A reader was not started, or gave what does not fit.
        Exception: What a reader's data source raised.
    """
    ops = _read_ops(program)
    if not ops:
        return feed
    read: dict[str, object] = {}
    for op in ops:
        (name,), outputs = op.input("Reader"), op.output("Out")
        reader = program.global_block().vars.get(name)
        started = isinstance(reader, ReaderVariable) and reader.batches.is_started
        if not started and all(output in feed for output in outputs):
            continue
        if not isinstance(reader, ReaderVariable):
            raise invalid(
                f"run: the reader {name} came with a saved program, without its data",
                f"feed what it read: {', '.join(outputs)}",
            )
        with timed("read"):
            read |= zip(outputs, reader.batches.next(outputs))
    return {**feed, **read} if read else feed
