"""Writing TIR statements: a block builder, vectors, scratch memory.

Kernels are written as raw loop nests on flat offsets.  Two rules of this TVM shape the file:

- Scratch in registers or on the stack must carry ``disable_lower_builtin``; without it every such buffer becomes
  a call of the workspace allocator at the place where it stands, inside the innermost loop.
- Chains of ``Bind`` make the simplifier substitute exponentially.  A shared value is stored to a one-element
  buffer instead (LLVM turns it back into a register).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from ...ir.types import Dim, DType, Shape, Sym
from ...ops.emit import Function1
from .tvm_api import sym, tirx, tvm

# TVM's Python objects carry no usable types.
Value: TypeAlias = Any
Buffer: TypeAlias = Any
Stmt: TypeAlias = Any

TVM_NAMES = {
    DType.F16: "float16",
    DType.BF16: "bfloat16",
    DType.F32: "float32",
    DType.F64: "float64",
    DType.I8: "int8",
    DType.I32: "int32",
    DType.I64: "int64",
    DType.U8: "uint8",
    DType.U32: "uint32",
    DType.U64: "uint64",
    DType.BOOL: "bool",
}


LEAST_PART = 4
"""Lanes of the narrowest vector that is worth code of its own."""

STACK_BYTES, LARGEST_ON_STACK = 1 << 18, 1 << 16
"""Stack that all tasks of a kernel may take together (a loop's body is one kernel, with many products), and one of
their buffers."""

_OFFSETS = "+1"


def offsets_extent(count: Dim) -> Dim:
    """The extent of the offsets of ``count`` ragged rows, ``count + 1``: a symbol of its own where ``count`` is one."""
    return count + 1 if isinstance(count, int) else Sym(f"{count}{_OFFSETS}")


def symbol_size(dim: Sym, symbol: Callable[[str], Value]) -> Value:
    """The size of a symbolic extent in terms of plain symbols, which ``symbol`` gives by name."""
    name, added = dim.name, 0
    if name.endswith(_OFFSETS):
        name, added = name.removesuffix(_OFFSETS), 1
    first, *others = (int(part) if part.isdigit() else symbol(part) for part in name.split("*"))
    value = first
    for factor in others:
        value = factor * value if isinstance(value, int) else value * factor
    value = value + added if added else value
    return value if dim.scale == 1 else value * dim.scale


def dtype_name(dtype: DType, lanes: int = 1) -> str:
    """TVM's name of a scalar or vector type."""
    return TVM_NAMES[dtype] if lanes == 1 else f"{TVM_NAMES[dtype]}x{lanes}"


def lanes_of(value: Value) -> int:
    """Vector width of a TIR expression."""
    return int(tvm.DataType(value.ty.dtype).lanes)


def const(value: float | int | bool, dtype: DType, lanes: int = 1) -> Value:
    """A constant in every lane."""
    return broadcast(tirx.const(value, TVM_NAMES[dtype]), lanes)


def integer(value: int) -> Value:
    """An index constant."""
    return tirx.IntImm("int64", value)


def broadcast(value: Value, lanes: int) -> Value:
    """A scalar in every lane; a vector stays."""
    return value if lanes == 1 or lanes_of(value) == lanes else tirx.Broadcast(value, lanes)


def reinterpret(dtype: DType, value: Value) -> Value:
    """The same bits as another type of the same width."""
    return tirx.reinterpret(dtype_name(dtype, lanes_of(value)), value)


def convert(dtype: DType, value: Value) -> Value:
    """The value in another type, lane by lane."""
    return tirx.Cast(dtype_name(dtype, lanes_of(value)), value)


def is_finite(value: Value, dtype: DType) -> Value:
    """Neither NaN nor infinite, by the bits (``x - x`` is folded to zero)."""
    if dtype in (DType.F16, DType.BF16):
        value, dtype = convert(DType.F32, value), DType.F32
    lanes = lanes_of(value)
    bits, mask, infinity = (
        (DType.I64, 0x7FFF_FFFF_FFFF_FFFF, 0x7FF0_0000_0000_0000)
        if dtype is DType.F64
        else (DType.I32, 0x7FFF_FFFF, 0x7F80_0000)
    )
    magnitude = tirx.bitwise_and(reinterpret(bits, value), const(mask, bits, lanes))
    return tirx.LT(magnitude, const(infinity, bits, lanes))


class Machine(Protocol):
    """What differs between the machines that TVM generates code for: ``llvm.py`` and ``cuda/machine.py``."""

    @property
    def target(self) -> str:
        """Name of the target, for messages."""
        ...

    def wrapping(self, name: str, x: Value, y: Value, dtype: DType) -> Value:
        """``add``, ``sub`` or ``mul`` of unsigned integers modulo 2^bits."""
        ...

    def is_nan(self, value: Value, dtype: DType) -> Value:
        """Whether a float is NaN (``x != x`` is folded to false by TIR)."""
        ...

    def fence(self, value: Value, dtype: DType) -> Value:
        """``value``, rounded to its type here: what follows is not contracted with what made it."""
        ...

    def function(self, block: Block, name: Function1, dtype: DType, x: Value) -> Value:
        """An elementary function of a float32 or float64; ``x`` is a stored value."""
        ...

    def power(self, block: Block, x: Value, y: Value, dtype: DType) -> Value:
        """x^y in float32 or float64."""
        ...


@dataclass(frozen=True)
class Host:
    """What a kernel may assume of the machine it is built for."""

    machine: Machine
    vector_bytes: int = 32
    threads: int = 2

    @property
    def lanes(self) -> int:
        """Elements of one vector of float32; every kernel counts its lanes in these."""
        return self.vector_bytes // 4


@dataclass(frozen=True)
class Workspace:
    """Memory that a kernel takes from the pool: how many elements, and whether each thread takes its own."""

    itemsize: int
    count: Value
    per_thread: bool


class Names:
    """Fresh names, counted per kernel, so that equal kernels get equal text."""

    def __init__(self) -> None:
        self._count = 0

    def fresh(self, stem: str) -> str:
        self._count += 1
        return f"{stem}{self._count}"


class Block:
    """Statements in program order; ``with block.loop(...)`` nests."""

    def __init__(self, host: Host, symbols: dict[str, Value] | None = None, names: Names | None = None) -> None:
        self.host = host
        self.machine = host.machine
        self.symbols: dict[str, Value] = {} if symbols is None else symbols
        self.names = names or Names()
        self.analyzer: Any = sym.Analyzer()
        self.workspaces: list[Workspace] = []
        self._stack: list[list[Stmt]] = [[]]
        self._parallel = False
        self._on_stack = 0

    # Sizes --------------------------------------------------------------------------------------------
    def size(self, dim: Dim) -> Value:
        """The run-time value of an extent (i64)."""
        if isinstance(dim, int):
            return integer(dim)
        return symbol_size(dim, self._symbol)

    def _symbol(self, name: str) -> Value:
        if name not in self.symbols:
            self.symbols[name] = tirx.Var(name, "int64")
        return self.symbols[name]

    def strides(self, shape: Shape, layout: tuple[int, ...] | None = None) -> tuple[Value, ...]:
        """Strides of the axes in elements; ``layout`` lists the axes from the outermost in memory (None: in order)."""
        order = layout if layout is not None else tuple(range(len(shape)))
        strides: list[Value] = [integer(1)] * len(shape)
        step: Value = integer(1)
        for axis in reversed(order):
            strides[axis] = step
            step = self.simplify(step * self.size(shape[axis]))
        return tuple(strides)

    def flatten(self, indices: Sequence[Value], shape: Shape, layout: tuple[int, ...] | None = None) -> Value:
        """Offset of an element."""
        offset: Value = integer(0)
        for position, stride in zip(indices, self.strides(shape, layout), strict=True):
            offset = offset + position * stride
        return self.simplify(offset)

    def simplify(self, value: Value) -> Value:
        return self.analyzer.simplify(value)

    # Statements ---------------------------------------------------------------------------------------
    def add(self, statement: Stmt) -> None:
        self._stack[-1].append(statement)

    def finish(self) -> Stmt:
        """Everything added so far, as one statement."""
        (statements,) = self._stack
        return sequence(statements)

    @contextmanager
    def loop(self, extent: Dim | Value, name: str = "i", parallel: bool = False) -> Generator[Value]:
        """``for i in range(extent)``; nothing is emitted for a loop of no trips, and no loop for a single one."""
        count: Value = self.size(extent) if isinstance(extent, int | Sym) else self.simplify(extent)
        fixed = int(count.value) if isinstance(count, tirx.IntImm) else None
        if fixed is not None and fixed <= 1:
            self._stack.append([])
            yield integer(0)
            body = self._stack.pop()
            if fixed == 1:
                self._stack[-1] += body
            return
        parallel = parallel and not self._parallel
        variable = tirx.Var(self.names.fresh(name), "int64")
        self.analyzer.bind(variable, tvm.ir.Range(integer(0), count))
        self._stack.append([])
        self._parallel |= parallel
        yield variable
        if parallel:
            self._parallel = False
        kind = tirx.ForKind.PARALLEL if parallel else tirx.ForKind.SERIAL
        self.add(tirx.For(variable, integer(0), count, kind, sequence(self._stack.pop())))

    @contextmanager
    def repeat(self, condition: Callable[[], Value]) -> Generator[None]:
        """``while condition():``; the condition is an expression without statements of its own."""
        self._stack.append([])
        yield
        body = sequence(self._stack.pop())
        self.add(tirx.While(condition(), body))

    @contextmanager
    def when(self, condition: Value) -> Generator[None]:
        """``if condition:``; a condition that is known folds away."""
        known = self._known(condition)
        self._stack.append([])
        yield
        body = self._stack.pop()
        if known is None:
            self.add(tirx.IfThenElse(condition, sequence(body), None))
        elif known:
            self._stack[-1] += body

    @contextmanager
    def otherwise(self, condition: Value) -> Generator[None]:
        """The ``else`` of the ``when`` on the same condition that was just closed."""
        known = self._known(condition)
        self._stack.append([])
        yield
        body = self._stack.pop()
        if known is None:
            then = self._stack[-1].pop()
            self.add(tirx.IfThenElse(condition, then.then_case, sequence(body)))
        elif not known:
            self._stack[-1] += body

    def _known(self, condition: Value) -> bool | None:
        folded = self.simplify(condition)
        return bool(folded.value) if isinstance(folded, tirx.IntImm) else None

    # Memory -------------------------------------------------------------------------------------------
    def scratch(self, dtype: DType, count: int, name: str = "s") -> Buffer:
        """``count`` elements on the stack (registers where the size allows), uninitialised."""
        buffer = tirx.decl_buffer((count,), TVM_NAMES[dtype], name=self.names.fresh(name), scope="local")
        self._allocate(buffer)
        return buffer

    def memory(self, dtype: DType, count: Value, name: str = "m") -> Buffer:
        """``count`` elements of a task: on the stack where they are few and it has room (the pool takes longer than a
        small product), else from the pool."""
        size = self.simplify(count)
        if isinstance(size, tirx.IntImm):
            taken = int(size.value) * dtype.itemsize
            if taken <= LARGEST_ON_STACK and self._on_stack + taken <= STACK_BYTES:
                self._on_stack += taken
                return self.scratch(dtype, int(size.value), name)
        return self.workspace(dtype, size, name)

    def register(self, dtype: DType, lanes: int, name: str = "r") -> Buffer:
        """One vector in a register (not of truth values, see ``let``); read and written with ``get`` and ``put``."""
        buffer = tirx.decl_buffer((1,), dtype_name(dtype, lanes), name=self.names.fresh(name), scope="local")
        self._allocate(buffer)
        return buffer

    def _allocate(self, buffer: Buffer) -> None:
        keep = {"disable_lower_builtin": tirx.const(1, "bool")}
        self.add(tirx.AllocBuffer(buffer, annotations=keep))

    def workspace(self, dtype: DType, count: Dim | Value, name: str = "ws") -> Buffer:
        """``count`` elements from the runtime's workspace pool."""
        size: Value = self.size(count) if isinstance(count, int | Sym) else self.simplify(count)
        buffer = tirx.decl_buffer((size,), TVM_NAMES[dtype], name=self.names.fresh(name))
        self.add(tirx.AllocBuffer(buffer))
        self.workspaces.append(Workspace(dtype.itemsize, size, self._parallel))
        return buffer

    def get(self, register: Buffer) -> Value:
        return tirx.BufferLoad(register, [integer(0)])

    def put(self, register: Buffer, value: Value) -> None:
        self.add(tirx.BufferStore(register, value, [integer(0)]))

    def let(self, value: Value, dtype: DType, name: str = "v") -> Value:
        """``value`` computed once, here."""
        lanes = lanes_of(value)
        if dtype is DType.BOOL and lanes > 1:
            # A vector of truth values keeps only some of its lanes in memory; bytes keep them all.
            ones = tirx.Select(value, const(1, DType.I8, lanes), const(0, DType.I8, lanes))
            return tirx.NE(self.let(ones, DType.I8, name), const(0, DType.I8, lanes))
        register = self.register(dtype, lanes, name)
        self.put(register, value)
        return self.get(register)

    def read(self, buffer: Buffer, offset: Value, lanes: int = 1, stride: int = 1) -> Value:
        """Element(s) of a buffer from a flat offset."""
        where = offset if lanes == 1 else tirx.Ramp(offset, integer(stride), lanes)
        return tirx.BufferLoad(buffer, _flat_index(buffer, where))

    def read_if(self, wanted: Value, buffer: Buffer, offset: Value, dtype: DType) -> Value:
        """An element of a buffer if it is ``wanted``, else any value: element 0 is read then, without a branch."""
        return self.read(buffer, tirx.Select(wanted, offset, integer(0)))

    def gather(self, buffer: Buffer, offsets: Value) -> Value:
        """One element per lane of ``offsets``."""
        return tirx.BufferLoad(buffer, _flat_index(buffer, offsets))

    def write(self, buffer: Buffer, offset: Value, value: Value, stride: int = 1) -> None:
        lanes = lanes_of(value)
        where = offset if lanes == 1 else tirx.Ramp(offset, integer(stride), lanes)
        self.add(tirx.BufferStore(buffer, value, _flat_index(buffer, where)))


def _flat_index(buffer: Buffer, offset: Value) -> list[Value]:
    # A flat offset in the last index of a row-major buffer addresses any element; the other indices are zero.
    rank = len(buffer.ty.shape)
    return [*[integer(0)] * (rank - 1), offset] if rank else []


def sequence(statements: Sequence[Stmt]) -> Stmt:
    """Statements as one."""
    if not statements:
        return tirx.Evaluate(tirx.IntImm("int32", 0))
    return statements[0] if len(statements) == 1 else tirx.SeqStmt(list(statements))


def sweep(block: Block, extent: Dim | Value, lanes: int, emit: Callable[[Value, int], None], name: str = "j") -> None:
    """Run ``emit(offset, width)`` over ``range(extent)``: whole vectors first, then the rest.

    Of a rest that is known, what fills a half or a quarter of a vector goes at once, the last few one by one.
    """
    count: Value = block.size(extent) if isinstance(extent, int | Sym) else extent
    vectors: Value = integer(0)
    if lanes > 1:
        vectors = block.simplify(tirx.floordiv(count, integer(lanes)))
        if not _is_zero(vectors):
            with block.loop(vectors, name) as vector:
                emit(block.simplify(vector * integer(lanes)), lanes)
    done = block.simplify(vectors * integer(lanes))
    left = block.simplify(count - done)
    width = lanes // 2
    while isinstance(left, tirx.IntImm) and width >= LEAST_PART:
        if int(left.value) >= width:
            emit(done, width)
            done, left = block.simplify(done + integer(width)), block.simplify(left - integer(width))
        width //= 2
    if not _is_zero(left):
        with block.loop(left, name) as rest:
            emit(block.simplify(done + rest), 1)


def _is_zero(value: Value) -> bool:
    return isinstance(value, tirx.IntImm) and int(value.value) == 0
