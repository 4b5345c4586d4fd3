"""The table of kernels of a function: what the artifact stores, and ``fluidc dump`` and the profiler show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ....runtime.kernels import BufferKind, FunctionKernels, FusedOp, KernelBuffer, KernelCall, typical
from ....runtime.manifest import Dtype
from ....runtime.sizes import ONE, Size
from ...ir.location import Loc
from .cost import group_work, operations, to_size
from .graph import Compute, Contract, Keystream, Placeholder, ProgramOutput, Reduce, StructuredOutput, TensorDef
from .kit import Workspace
from .nests import ContractNest, Group, Nest, Plan, ReduceNest, nest_stores
from .primfunc import Kernel
from .tvm_api import tirx


def describe(
    name: str,
    inputs: Sequence[TensorDef],
    outputs: Sequence[TensorDef],
    schedule: Plan,
    kernels: Sequence[Kernel],
    symbols: Sequence[str],
) -> FunctionKernels:
    """The table of one function.

    Args:
        name: The function.
        inputs: Its arguments in order: state, then what is fed.
        outputs: What it returns.
        schedule: Its groups and what they overwrite.
        kernels: The kernels of the groups, in the same order.
        symbols: Their names in the library.
    """
    memory = _Memory(inputs, outputs)
    calls: list[KernelCall] = []
    for group, kernel, symbol in zip(schedule.groups, kernels, symbols, strict=True):
        read = tuple(memory.number[tensor] for tensor in kernel.inputs)
        made = tuple(memory.add(tensor) for tensor in kernel.outputs)
        memory.number.update(
            (value, memory.number[at]) for value, at in schedule.in_place.items() if at in kernel.in_place
        )
        stored = [tensor for tensor in group.stores() if tensor in kernel.outputs or tensor in schedule.in_place]
        ops, main = _ops(group)
        calls.append(
            KernelCall(
                symbol=symbol,
                ops=ops,
                main=main,
                inputs=read,
                updated=tuple(memory.number[state] for state in kernel.in_place),
                sizes=tuple(map(to_size, kernel.sizes)),
                outputs=made,
                workspace=_bytes(space for space in kernel.workspaces if not space.per_thread),
                per_thread=_bytes(space for space in kernel.workspaces if space.per_thread),
                work=group_work(group, stored, kernel.passed),
            )
        )
    results = tuple(memory.number[output] for output in outputs)
    return FunctionKernels(name, tuple(memory.buffers), tuple(calls), results)


class _Memory:
    """Numbers of the buffers that tensors lie in."""

    def __init__(self, inputs: Sequence[TensorDef], outputs: Sequence[TensorDef]) -> None:
        self.number: dict[TensorDef, int] = {}
        self.buffers: list[KernelBuffer] = []
        self._results = set(outputs)
        for tensor in inputs:
            self._append(tensor, "argument")

    def add(self, tensor: TensorDef) -> int:
        """A buffer for a tensor that a kernel makes."""
        return self._append(tensor, "result" if tensor in self._results else "intermediate")

    def _append(self, tensor: TensorDef, kind: BufferKind) -> int:
        dtype: Dtype = tensor.dtype.value
        self.number[tensor] = len(self.buffers)
        shape = tuple(map(to_size, tensor.shape))
        self.buffers.append(KernelBuffer(tensor.name, kind, dtype, shape, _layout(tensor)))
        return self.number[tensor]


def _layout(tensor: TensorDef) -> str:
    """The order of the axes in memory; empty for row-major."""
    axes: tuple[int, ...] | None = getattr(tensor, "layout", None)
    return "" if axes is None else ",".join(map(str, axes))


def _bytes(spaces: Iterable[Workspace]) -> Size | None:
    total = Size.of(0)
    for space in spaces:
        count = _size(space.count)
        if count is None:
            return None
        total = total + count * space.itemsize
    return total


def _size(value: object) -> Size | None:
    """A TIR expression as a polynomial; None for one that is none."""
    match value:
        case int():
            return Size.of(value)
        case tirx.IntImm():
            return Size.of(int(value.value))
        case tirx.Var():
            return Size.symbol(str(value.name))
        case tirx.Add() | tirx.Mul():
            a, b = _size(value.a), _size(value.b)
            if a is None or b is None:
                return None
            return a + b if isinstance(value, tirx.Add) else a * b
        case _:
            return None


# Ops --------------------------------------------------------------------------------------------------
def _ops(group: Group) -> tuple[tuple[FusedOp, ...], int]:
    """The ops behind a group's tensors, those that were inlined or never stored included, and the main one."""
    outside = set(group.inputs())
    found: dict[int, TensorDef] = {}
    stack = [*group.stores(), *_streams(group)]
    while stack:
        tensor = stack.pop()
        if tensor in outside or isinstance(tensor, Placeholder) or id(tensor) in found:
            continue
        found[id(tensor)] = tensor
        stack.extend(tensor.operands())
    members = sorted(found.values(), key=lambda tensor: tensor.serial)
    main = _main(group, members)
    listed: list[tuple[str, Loc]] = []
    for tensor in members:
        entry = (tensor.name, tensor.loc)
        if not listed or listed[-1] != entry:
            listed.append(entry)
    place = next(i for i, (name, loc) in enumerate(listed) if (name, loc) == (main.name, main.loc))
    return tuple(FusedOp(name, str(loc)) for name, loc in listed), place


def _streams(group: Group) -> list[TensorDef]:
    """Streams made inside nests: nothing outside knows them any more."""
    noises = [getattr(nest, "noise", None) for nest in group.nests]
    return [noise.stream for noise in noises if noise is not None]


def _main(group: Group, members: Sequence[TensorDef]) -> TensorDef:
    """The op of the dearest nest: its product, reduction, loop or stream; else what it stores last."""
    dearest = max(group.nests, key=_weight)
    stored = nest_stores(dearest)
    kinds = (Contract, Reduce, Keystream, ProgramOutput, StructuredOutput)
    if isinstance(dearest, ContractNest | ReduceNest):
        kinds = (Contract,) if isinstance(dearest, ContractNest) else (Reduce,)
    near = {id(tensor) for tensor in _behind(stored)}
    found = [tensor for tensor in members if isinstance(tensor, kinds) and id(tensor) in near]
    if found:
        return found[-1]
    stores = [tensor for tensor in members if id(tensor) in set(map(id, stored))]
    return stores[-1] if stores else members[-1]


def _weight(nest: Nest) -> int:
    flops, integer = operations(nest)
    return typical(flops + integer + ONE)


def _behind(tensors: Sequence[TensorDef]) -> list[TensorDef]:
    """``tensors``, and what they are computed from element by element up to the next product or reduction."""
    found: list[TensorDef] = []
    stack = list(tensors)
    seen: set[int] = set()
    while stack:
        tensor = stack.pop()
        if id(tensor) not in seen:
            seen.add(id(tensor))
            found.append(tensor)
            if isinstance(tensor, Compute):
                stack.extend(tensor.operands())
    return found
