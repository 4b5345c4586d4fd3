"""Readers as part of a program: a run without a feed takes the next batch."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from .. import unique_name
from ..dataloader.queue import BatchQueue
from ..dataloader.reader_variable import (
    ReaderVariable,
    check_reader,
    create_py_reader,
    double_buffered,
    fields_of,
    record_read,
)
from ..errors import invalid, wrong_type
from ..framework import default_main_program, default_startup_program
from ..layer_helper import LayerHelper
from ..places import Place
from ..variable import Variable
from ..vartype import DTypeLike, convert_dtype


def _py_reader(
    layer: str, capacity: int, fields: Sequence[Variable], name: str | None, use_double_buffer: bool
) -> ReaderVariable:
    warnings.warn(
        f"fluid.layers.{layer} is deprecated since fluid 1.6; fluid.io.DataLoader.from_generator does the same",
        DeprecationWarning,
        stacklevel=3,
    )
    if name is None:
        queue_name, reader_name, buffer_name = map(
            unique_name.generate, ("lod_tensor_blocking_queue", "create_py_reader", "double_buffer")
        )
    else:
        queue_name, reader_name, buffer_name = f"{name}_queue", f"{name}_reader", f"{name}_double_buffer"
    batches = BatchQueue(reader_name if name is None else name, capacity)
    made = create_py_reader(default_startup_program().current_block(), queue_name, reader_name, batches, fields)
    reader = made.shared_with(default_main_program().current_block())
    return double_buffered(reader, buffer_name) if use_double_buffer else reader


def py_reader(
    capacity: int,
    shapes: Sequence[Sequence[int]],
    dtypes: Sequence[DTypeLike],
    lod_levels: Sequence[int] | None = None,
    name: str | None = None,
    use_double_buffer: bool = True,
) -> ReaderVariable:
    """A reader of this program, for `read_file`.

        reader = fluid.layers.py_reader(64, [(-1, 784), (-1, 1)], ["float32", "int64"])
        image, label = fluid.layers.read_file(reader)
        ...
        reader.decorate_paddle_reader(paddle.batch(paddle.dataset.mnist.train(), 32))
        for epoch in range(epochs):
            reader.start()
            try:
                while True:
                    exe.run(fetch_list=[loss])
            except fluid.core.EOFException:
                reader.reset()

    Args:
        capacity: Batches made ahead, by a thread.
        shapes: Of the fields of a batch, -1 for the batch.
        dtypes: Their element types.
        lod_levels: Their levels of sequences; 0 if None.
        name: Prefix of the names.
        use_double_buffer: One more record, as fluid has it; without effect.

    Raises:
        ProgramError: Lists of different lengths, or a capacity below 1.

    Warns:
        DeprecationWarning: As fluid 1.8.5 does.
    """
    levels = [0] * len(shapes) if lod_levels is None else list(lod_levels)
    if not len(shapes) == len(dtypes) == len(levels):
        raise invalid(
            f"py_reader: {len(shapes)} shapes, {len(dtypes)} dtypes and {len(levels)} lod_levels",
            "give one of each for every field of a batch",
        )
    fields = fields_of(shapes, [convert_dtype(dtype) for dtype in dtypes], levels)
    return _py_reader("py_reader", capacity, fields, name, use_double_buffer)


def create_py_reader_by_data(
    capacity: int, feed_list: Sequence[Variable], name: str | None = None, use_double_buffer: bool = True
) -> ReaderVariable:
    """`py_reader` for variables that exist: `read_file` of it reads into new ones of their kind."""
    if not isinstance(feed_list, list):
        raise wrong_type(
            f"create_py_reader_by_data: feed_list is {type(feed_list).__name__}", "give a list of Variables"
        )
    return _py_reader("create_py_reader_by_data", capacity, feed_list, name, use_double_buffer)


def read_file(reader: ReaderVariable) -> Variable | list[Variable]:
    """The fields of a reader's batches as Variables: one, or a list."""
    fields = check_reader("read_file", reader).fields
    helper = LayerHelper("read_file")
    outputs = [
        helper.temporary(field.dtype, field.shape, lod_level=field.lod_level, stop_gradient=True) for field in fields
    ]
    record_read(reader, outputs)
    return outputs[0] if len(outputs) == 1 else outputs


def double_buffer(reader: ReaderVariable, place: Place | None = None, name: str | None = None) -> ReaderVariable:
    """The same batches; a thread makes them ahead in any case, so this is a record and no more."""
    name = unique_name.generate("create_double_buffer_reader") if name is None else name
    return double_buffered(check_reader("double_buffer", reader), name, None if place is None else str(place).upper())
