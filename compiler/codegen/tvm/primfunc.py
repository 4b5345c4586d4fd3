"""One group of nests as one TIR function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ...ir.types import Dim, Sym, numel
from .expr import Node
from .graph import Placeholder, TensorDef
from .kernels.chacha import emit_keystream, first_nonce_word
from .kernels.compute import emit_compute, worth_threads
from .kernels.contract import emit_contract
from .kernels.noisy import emit_noisy_compute
from .kernels.program import emit_program
from .kernels.reduce import emit_reduce
from .kernels.structured import emit_structured
from .kit import TVM_NAMES, Block, Buffer, Host, Value, Workspace, integer
from .nests import (
    ComputeNest,
    ContractNest,
    Group,
    KeystreamNest,
    Nest,
    ProgramNest,
    ReduceNest,
    StructuredNest,
    nest_reads,
    nest_stores,
)
from .tvm_api import tirx

PrimFunc: TypeAlias = Any

ROWS_TOGETHER = 4
SHORT_ROW = 256
"""Elements up to which rows are taken together; those of several still fit the first-level cache."""
FEWEST_ROWS = 64


@dataclass(frozen=True, eq=False)
class Kernel:
    """A TIR function with its calling convention: tensors read (those in ``in_place`` are also written), then the
    run-time values of ``sizes``, then tensors made; ``workspaces`` it takes for itself.  Of what it makes, it reads
    ``passed`` again itself."""

    name: str
    function: PrimFunc
    inputs: tuple[TensorDef, ...]
    sizes: tuple[Dim, ...]
    in_place: tuple[Placeholder, ...]
    outputs: tuple[TensorDef, ...]
    workspaces: tuple[Workspace, ...] = ()
    passed: tuple[TensorDef, ...] = ()


def build_kernel(
    group: Group, host: Host, in_place: dict[TensorDef, Placeholder], visible: set[TensorDef], threads: bool = True
) -> Kernel:
    """Emit a group as a function.

    Args:
        group: What it computes.
        host: The machine to emit for.
        in_place: Stored tensors that overwrite a state variable.
        visible: Tensors that others read; what the group stores beside them lives in workspace.
        threads: Whether its loops may run on several threads.
    """
    if isinstance(group.nests[0], KeystreamNest):
        return _stream_kernel(group.nests[0], host, threads)
    block = Block(host)
    stores = group.stores()
    states = tuple(dict.fromkeys(in_place[tensor] for tensor in stores if tensor in in_place))
    outputs = tuple(tensor for tensor in stores if tensor not in in_place and tensor in visible)
    inputs = tuple(dict.fromkeys([*group.inputs(), *states]))
    buffers: dict[TensorDef, Buffer] = {}
    for tensor in (*inputs, *outputs):
        buffers[tensor] = _parameter(block, tensor)
    free = list(outputs)
    for tensor in stores:
        if tensor in in_place:
            buffers[tensor] = buffers[in_place[tensor]]
        elif tensor not in buffers:
            over = _overwriter(tensor, group, free)
            if over is None:
                buffers[tensor] = block.workspace(tensor.dtype, numel(tensor.shape), "made")
            else:
                buffers[tensor] = buffers[over]
                free.remove(over)
    emit_group(block, buffers, group, {}, threads)
    symbols = tuple(block.symbols)
    parameters = [
        *(buffers[tensor] for tensor in inputs),
        *(block.symbols[name] for name in symbols),
        *(buffers[tensor] for tensor in outputs),
    ]
    function = tirx.PrimFunc(parameters, block.finish()).with_attr("tirx.noalias", True)
    spaces = tuple(block.workspaces)
    return Kernel(kernel_name(group), function, inputs, tuple(map(Sym, symbols)), states, outputs, spaces)


def _overwriter(tensor: TensorDef, group: Group, free: Sequence[TensorDef]) -> TensorDef | None:
    """An output, of those ``free``, that may take the place of ``tensor`` element by element: made by the last nest
    that reads it, from nothing but the element at hand."""
    readers = [nest for nest in group.nests if any(read.tensor is tensor for read in nest_reads(nest))]
    if group.row is None or not readers or not isinstance(last := readers[-1], ComputeNest):
        return None
    if tensor in nest_stores(last):
        return None
    reads = [read for read in nest_reads(last) if read.tensor is tensor]
    taken = [over for nest in group.nests if nest is not last for over in nest_stores(nest)]
    for definition in last.definitions:
        made = definition.tensor
        alike = (made.dtype, made.shape, made.layout) == (tensor.dtype, tensor.shape, tensor.layout)
        fresh = made in free and made not in taken
        if alike and fresh and all(read.children == definition.where for read in reads):
            return made
    return None


def _stream_kernel(nest: KeystreamNest, host: Host, threads: bool) -> Kernel:
    """A kernel that takes the stream's nonce and length as arguments, so that every stream of a module shares it."""
    stream, block = nest.stream, Block(host)
    (count,) = stream.shape
    nonce, length = tirx.Var("nonce", "int64"), tirx.Var("length", "int64")
    inputs = tuple(dict.fromkeys(stream.whole()))
    buffers = {tensor: _parameter(block, tensor) for tensor in inputs}
    buffers[stream] = tirx.decl_buffer((length,), TVM_NAMES[stream.dtype], name="out")
    emit_keystream(block, buffers, stream, nonce, length, threads)
    parameters = [*(buffers[tensor] for tensor in inputs), nonce, length, buffers[stream]]
    function = tirx.PrimFunc(parameters, block.finish()).with_attr("tirx.noalias", True)
    sizes = (first_nonce_word(stream), count)
    return Kernel("keystream", function, inputs, sizes, (), (stream,))


def _parameter(block: Block, tensor: TensorDef) -> Buffer:
    shape = [block.size(dim) for dim in tensor.shape]
    return tirx.decl_buffer(shape, TVM_NAMES[tensor.dtype], name=block.names.fresh("arg"))


def emit_group(
    block: Block, buffers: dict[TensorDef, Buffer], group: Group, bound: Mapping[Node, Value], threads: bool
) -> None:
    """The loops of a group, on given buffers, inside loops whose variables are ``bound``."""
    if group.row is None or len(group.nests) == 1:
        for nest in group.nests:
            _emit_nest(block, buffers, nest, bound, threads)
        return
    parallel = threads and _row_work(group)
    together = _rows_together(group)
    count = block.size(group.row)
    with block.loop(tirx.floordiv(count + integer(together - 1), integer(together)), "rows", parallel=parallel) as rows:
        first = block.simplify(rows * integer(together))
        some = block.simplify(tirx.min(integer(together), count - first))
        for nest in group.nests:
            assert isinstance(nest, ComputeNest | ReduceNest)
            with block.loop(some, "row") as row:
                at = {**bound, nest.where[0]: block.simplify(first + row)}
                _emit_nest(block, buffers, nest, at, False)


def _rows_together(group: Group) -> int:
    """How many rows each nest takes in turn: what a short row waits for, its neighbours do meanwhile."""
    rows = group.row
    if not isinstance(rows, int) or rows < FEWEST_ROWS:
        return 1
    widest = 1
    for nest in group.nests:
        reduced = tuple(_fixed(i) for i in nest.sums.reduced) if isinstance(nest, ReduceNest) else ()
        widest = max(widest, *(_elements((*tensor.shape[1:], *reduced)) for tensor in nest_stores(nest)))
    return ROWS_TOGETHER if widest <= SHORT_ROW else 1


def _row_work(group: Group) -> bool:
    work = 0
    for nest in group.nests:
        for tensor in nest_stores(nest):
            work += 10 * _elements(tensor.shape)
        if isinstance(nest, ReduceNest):
            reduced = tuple(_fixed(i) for i in nest.sums.reduced)
            work += 4 * _elements((*nest.sums.parts[0].shape, *reduced))
    return worth_threads((work,), 1)


def _fixed(index: Node) -> Dim:
    extent = index.detail[1]
    assert isinstance(extent, int | Sym)
    return extent


def _elements(shape: Sequence[Dim]) -> int:
    total = 1
    for dim in shape:
        total *= dim if isinstance(dim, int) else 64 ** len(dim.factors) * dim.scale
    return total


def _emit_nest(
    block: Block, buffers: dict[TensorDef, Buffer], nest: Nest, bound: Mapping[Node, Value], threads: bool
) -> None:
    match nest:
        case ComputeNest() if nest.noise is not None:
            emit_noisy_compute(block, buffers, nest.indices, nest.definitions, nest.noise, threads)
        case ComputeNest():
            emit_compute(block, buffers, nest.indices, nest.definitions, bound, threads)
        case ReduceNest():
            emit_reduce(block, buffers, nest.sums, nest.definitions, bound, threads)
        case ContractNest():
            emit_contract(block, buffers, nest.contract, nest.result, nest.definitions, bound, threads, nest.noise)
        case ProgramNest():
            emit_program(block, buffers, nest.program, bound, threads)
        case KeystreamNest():
            stream, (count,) = nest.stream, nest.stream.shape
            emit_keystream(block, buffers, stream, integer(first_nonce_word(stream)), block.size(count), threads)
        case StructuredNest():
            emit_structured(block, buffers, nest.program, bound, threads, emit_group)


def kernel_name(group: Group) -> str:
    """A readable name from the ops in the group."""
    names = dict.fromkeys(tensor.name for tensor in group.stores())
    return "_".join(name.replace(".", "_") for name in list(names)[:3])
