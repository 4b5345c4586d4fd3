"""Variables of type READER: what ``read`` ops of a program take their batches from."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import wrong_type
from ..framework import Block, Program, default_main_program
from ..reader import Reader
from ..variable import Variable
from ..vartype import VarType
from .batches import Source, of_sample_lists
from .queue import BatchQueue


class ReaderVariable(Variable):
    """A reader of a program. The program owns the data: its clones read from the same queue.

    `fluid.layers.py_reader` and `fluid.layers.double_buffer` make them; ``start()`` before every epoch, ``reset()``
    after ``fluid.core.EOFException``.

    Attributes:
        batches: The queue.
        fields: What a batch is read into: Variables with the shapes, element types and lod levels.
    """

    def __init__(self, block: Block, name: str, batches: BatchQueue, fields: Sequence[Variable]) -> None:
        super().__init__(block, type=VarType.READER, name=name, persistable=True, stop_gradient=True)
        self.batches = batches
        self.fields = list(fields)

    def start(self) -> None:
        """Begin to read.  Raises ProgramError without a data source, or before a `reset`."""
        self.batches.start()

    def reset(self) -> None:
        """Stop reading; what was read ahead is dropped."""
        self.batches.reset()

    def decorate_tensor_provider(self, reader: Source) -> None:
        """Read what gives whole batches: a sequence of arrays or LoDTensors each."""
        self.batches.set_source(reader)

    def decorate_batch_generator(self, reader: Source) -> None:
        """`decorate_tensor_provider` by its later name."""
        self.batches.set_source(reader)

    def decorate_paddle_reader(self, reader: Reader) -> None:
        """Read what gives lists of samples, such as ``paddle.batch(reader, 32)``."""
        self.batches.set_source(of_sample_lists(reader, self.fields))

    def decorate_sample_list_generator(self, reader: Reader) -> None:
        """`decorate_paddle_reader` by its later name."""
        self.decorate_paddle_reader(reader)

    def shared_with(self, block: Block, name: str | None = None) -> ReaderVariable:
        """The same reader as a variable of a block, under its own name or another."""
        return declare_reader(block, self.name if name is None else name, self.batches, self.fields)


def declare_reader(block: Block, name: str, batches: BatchQueue, fields: Sequence[Variable]) -> ReaderVariable:
    """Add a reader to a block."""
    variable = ReaderVariable(block, name, batches, fields)
    block.vars[name] = variable
    block.program.edited()
    return variable


def fields_of(shapes: Sequence[Sequence[int]], dtypes: Sequence[VarType], lod_levels: Sequence[int]) -> list[Variable]:
    """Variables of no program that say what a field of a batch looks like."""
    block = Program().global_block()
    return [
        block.create_var(name=str(i), shape=shape, dtype=dtype, lod_level=level, is_data=True)
        for i, (shape, dtype, level) in enumerate(zip(shapes, dtypes, lod_levels, strict=True))
    ]


def create_py_reader(
    block: Block, queue_name: str, name: str, batches: BatchQueue, fields: Sequence[Variable]
) -> ReaderVariable:
    """Record fluid's ``create_py_reader`` op, which makes a reader on a queue."""
    reader = declare_reader(block, name, batches, fields)
    queue = block.create_var(name=queue_name, type=VarType.RAW)
    block.append_op(
        "create_py_reader",
        {"blocking_queue": [queue]},
        {"Out": [reader]},
        {
            "shape_concat": [extent for var in fields for extent in var.shape],
            "lod_levels": [var.lod_level for var in fields],
            "dtypes": [int(var.dtype) for var in fields],
            "need_check_feed": [int(var.need_check_feed) for var in fields],
            "ranks": [len(var.shape) for var in fields],
        },
    )
    return reader


def double_buffered(reader: ReaderVariable, name: str, place: str | None = None) -> ReaderVariable:
    """Record fluid's ``create_double_buffer_reader`` op: the same batches under another name."""
    block = default_main_program().current_block()
    buffered = reader.shared_with(block, name)
    attrs = {} if place is None else {"place": place}
    block.append_op("create_double_buffer_reader", {"UnderlyingReader": [reader]}, {"Out": [buffered]}, attrs)
    return buffered


def record_read(reader: ReaderVariable, outputs: Sequence[Variable], drop_last: bool | None = None) -> None:
    """Record fluid's ``read`` op: a run of the program reads one batch into ``outputs``."""
    attrs = {} if drop_last is None else {"drop_last": drop_last}
    default_main_program().current_block().append_op("read", {"Reader": [reader]}, {"Out": list(outputs)}, attrs)
    for output in outputs:
        output.is_data = True  # a run gets its value as if it were fed


def check_reader(layer: str, reader: object) -> ReaderVariable:
    """Refuse what is no reader."""
    if not isinstance(reader, ReaderVariable):
        raise wrong_type(f"{layer}: the reader is {type(reader).__name__}", "give what fluid.layers.py_reader returned")
    return reader
