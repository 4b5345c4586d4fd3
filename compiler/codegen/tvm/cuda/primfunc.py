"""One group of nests as one TIR function: the launches that compute it, in order."""

from __future__ import annotations

from collections.abc import Mapping

from ....ir.types import Sym, numel
from ..expr import Index, Node
from ..graph import Placeholder, TensorDef
from ..kernels.chacha import first_nonce_word
from ..kernels.product import unravel
from ..kit import TVM_NAMES, Buffer, Value, integer
from ..nests import (
    ComputeNest,
    ContractNest,
    Group,
    KeystreamNest,
    Nest,
    ProgramNest,
    ReduceNest,
    StructuredNest,
)
from ..primfunc import Kernel, kernel_name
from ..tvm_api import tirx
from .device import BLOCKS_WANTED, SMALL_BLOCK, THREADS, Device, DeviceBlock, Part
from .kernels.compute import emit_compute
from .kernels.contract import emit_contract
from .kernels.keystream import emit_keystream
from .kernels.program import emit_program
from .kernels.reduce import emit_reduce
from .kernels.structured import emit_structured
from .rows import Rows, kept_rows, plan_rows
from .space import Count, Grid, Share, Space
from .together import may_share


def build_kernel(group: Group, host: Device, in_place: dict[TensorDef, Placeholder], visible: set[TensorDef]) -> Kernel:
    """Emit a group as a function.

    Args:
        group: What it computes.
        host: The device to emit for.
        in_place: Stored tensors that overwrite a state variable.
        visible: Tensors that others read; what the group stores beside them is a further output that nobody reads.
    """
    block = DeviceBlock(host)
    stores = group.stores()
    states = tuple(dict.fromkeys(in_place[tensor] for tensor in stores if tensor in in_place))
    outputs = tuple(tensor for tensor in stores if tensor not in in_place and tensor in visible)
    inputs = tuple(dict.fromkeys([*group.inputs(), *states]))
    buffers: dict[TensorDef, Buffer] = {}
    for tensor in (*inputs, *outputs):
        sizes = [block.size(dim) for dim in tensor.shape]
        buffers[tensor] = tirx.decl_buffer(sizes, TVM_NAMES[tensor.dtype], name=block.names.fresh("arg"))
    for tensor in stores:
        if tensor in in_place:
            buffers[tensor] = buffers[in_place[tensor]]
    rows = plan_rows(group)
    kept = kept_rows(group, rows, {*buffers, *in_place}) if rows is not None else {}
    for tensor in stores:
        if tensor not in buffers and tensor not in kept:
            buffers[tensor] = block.room(tensor.dtype, tensor.shape, "made")[1]
    emit_group(Grid(block), buffers, group, {})
    symbols = tuple(block.symbols)
    parameters = [
        *(buffers[tensor] for tensor in inputs),
        *(block.symbols[name] for name in symbols),
        *(buffers[tensor] for tensor in outputs),
        *block.rooms.values(),
    ]
    function = tirx.PrimFunc(parameters, block.finish())
    if not block.talks:
        function = function.with_attr("tirx.noalias", True)
    sizes = tuple(map(Sym, symbols))
    made = (*outputs, *block.rooms)
    return Kernel(kernel_name(group), function, inputs, sizes, states, made, passed=tuple(block.passed))


def emit_group(space: Space, buffers: dict[TensorDef, Buffer], group: Group, bound: Mapping[Node, Value]) -> None:
    """The nests of a group, where loop variables are ``bound``; what has no buffer is kept in shared memory."""
    if isinstance(space, Grid) and len(group.nests) > 1 and group.row is None and may_share(group):
        _side_by_side(space, buffers, group, bound)
        return
    rows = plan_rows(group)
    if rows is None or (rows.apart and space.alone):
        for nest in group.nests:
            _emit_nest(space, buffers, nest, bound)
        return
    _emit_rows(space, dict(buffers), group, rows, bound)


def _side_by_side(grid: Grid, buffers: dict[TensorDef, Buffer], group: Group, bound: Mapping[Node, Value]) -> None:
    """One launch in which every nest has thread blocks of its own."""
    block, threads = grid.block, THREADS
    starts = _starts(block, buffers, group, bound, threads)
    if isinstance(starts[-1], tirx.IntImm) and int(starts[-1].value) < BLOCKS_WANTED:
        threads = SMALL_BLOCK
        starts = _starts(block, buffers, group, bound, threads)
    with grid.teams(starts[-1], threads) as (number, team):
        for nest, start, stop in zip(group.nests, starts, starts[1:], strict=False):
            with block.when(tirx.And(start <= number, number < stop)):
                share = Share(block, block.simplify(number - start), team.thread, threads)
                _emit_nest(share, buffers, nest, bound)


def _starts(
    block: DeviceBlock, buffers: dict[TensorDef, Buffer], group: Group, bound: Mapping[Node, Value], threads: int
) -> list[Value]:
    """Number of the first thread block of every nest, and of all there are."""
    starts: list[Value] = [integer(0)]
    for nest in group.nests:
        count = Count(block, threads)
        with block.discarded():
            _emit_nest(count, buffers, nest, bound)
        asked = integer(0) if count.blocks is None else count.blocks
        starts.append(block.simplify(starts[-1] + asked))
    return starts


def _emit_rows(
    space: Space, buffers: dict[TensorDef, Buffer], group: Group, rows: Rows, bound: Mapping[Node, Value]
) -> None:
    block = space.block
    kept = kept_rows(group, rows, set(buffers))
    with space.teams(block.size(numel(rows.extents)), rows.threads) as (number, team):
        for tensor, count in kept.items():
            shared = team.shared(tensor.dtype, count, "row")
            buffers[tensor] = Part(shared.whole, block.simplify(shared.first - number * integer(count)))
        for nest in group.nests:
            assert isinstance(nest, ComputeNest | ReduceNest)
            axes = tuple(index for index in nest.where[: rows.axes] if isinstance(index, Index))
            _emit_nest(team, buffers, nest, {**bound, **unravel(block, axes, number)})


def _emit_nest(space: Space, buffers: dict[TensorDef, Buffer], nest: Nest, bound: Mapping[Node, Value]) -> None:
    with space.block.made_by(type(nest).__name__):
        _emit(space, buffers, nest, bound)


def _emit(space: Space, buffers: dict[TensorDef, Buffer], nest: Nest, bound: Mapping[Node, Value]) -> None:
    match nest:
        case ComputeNest():
            emit_compute(space, buffers, nest.indices, nest.definitions, bound)
        case ReduceNest():
            emit_reduce(space, buffers, nest.sums, nest.definitions, bound)
        case ContractNest():
            emit_contract(space, buffers, nest.contract, nest.result, nest.definitions, bound)
        case ProgramNest():
            emit_program(space, buffers, nest.program, bound)
        case KeystreamNest():
            stream, (count,), out = nest.stream, nest.stream.shape, buffers[nest.stream]
            nonce, block = integer(first_nonce_word(stream)), space.block
            emit_keystream(space, buffers, stream, nonce, block.size(count), lambda at, v: block.write(out, at, v))
        case StructuredNest():
            emit_structured(space, buffers, nest.program, bound, emit_group)
