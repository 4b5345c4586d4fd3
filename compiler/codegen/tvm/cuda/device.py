"""Writing the body of a CUDA kernel: launches, threads, shared memory, barriers, and memory of its own."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

from ....ir.types import Dim, DType, Shape, numel
from ..graph import Placeholder, TensorDef
from ..kit import TVM_NAMES, Block, Buffer, Host, Value, const, integer, sequence
from ..tvm_api import tirx, tvm
from .machine import CUDA

WARP = 32
THREADS = 256
"""Threads of a block where nothing else is said: several blocks fit a multiprocessor, each with registers enough."""

SMALL_BLOCK = 64
"""Threads of a block where there are too few for every multiprocessor to get some otherwise."""

MOST_THREADS = 1024

SHARED_BYTES = 48 << 10
"""Shared memory that a block has on every chip without asking for more."""

BLOCKS_WANTED = 264
"""Blocks that keep a large device busy: two for each of 132 multiprocessors."""

NEST = "fluidc.nest"
"""Attribute around a launch: which kind of nest made it."""


@dataclass(frozen=True)
class Device(Host):
    """A CUDA device as kernels are written for it.

    Attributes:
        tf32: Whether a library may multiply float32 with 10 bits of mantissa.
    """

    tf32: bool = False


def device_host(*, tf32: bool = False) -> Device:
    """A CUDA device: scalar code, one element of float32 at a time."""
    return Device(CUDA, vector_bytes=4, threads=1, tf32=tf32)


@dataclass(frozen=True)
class Part:
    """From element ``first`` of a buffer on: what `DeviceBlock` reads and writes as a buffer of its own."""

    whole: Buffer
    first: Value


class DeviceBlock(Block):
    """Statements of a function that launches kernels.

    Outside of `launch` they run on the host and may only be loops around launches; inside, in every thread.
    Memory that a kernel needs beside its arguments (`room`) becomes further outputs of the function, so that the
    runtime's memory plan knows it.

    Attributes:
        talks: Whether threads of a launch may read from global memory what others wrote there before a barrier.
            Pointers must then not be ``__restrict__``: for that, NVIDIA's compilers move loads over barriers.
    """

    def __init__(self, device: Device) -> None:
        super().__init__(device)
        self.device = device
        self.rooms: dict[TensorDef, Buffer] = {}
        self.passed: list[TensorDef] = []
        self.in_launch = False
        self.talks = False
        self._reused: dict[tuple[DType, int], Buffer] = {}
        self._barriers = 0
        self._read: set[tuple[Buffer, int]] = set()
        self._written: set[tuple[Buffer, int]] = set()
        self.nest = ""

    @contextmanager
    def made_by(self, nest: str) -> Generator[None]:
        """Launches within are said to be those of such a nest."""
        before, self.nest = self.nest, nest
        yield
        self.nest = before

    @contextmanager
    def launch(self, blocks: Value, threads: int) -> Generator[tuple[Value, Value]]:
        """A kernel of ``blocks`` thread blocks; yields the number of the block and of the thread in it (both i64)."""
        assert not self.in_launch, "a launch within a launch"
        count = self.simplify(blocks)
        if isinstance(count, tirx.IntImm) and int(count.value) == 0:
            self._stack.append([])
            yield integer(0), integer(0)
            self._stack.pop()
            return
        block = tirx.Var(self.names.fresh("block"), "int32")
        thread = tirx.Var(self.names.fresh("thread"), "int32")
        self.analyzer.bind(block, tvm.ir.Range(tirx.IntImm("int32", 0), tirx.Cast("int32", count)))
        self.analyzer.bind(thread, tvm.ir.Range(tirx.IntImm("int32", 0), tirx.IntImm("int32", threads)))
        self._stack.append([])
        self.in_launch = True
        self._reused = {}
        yield tirx.Cast("int64", block), tirx.Cast("int64", thread)
        self.in_launch = False
        body = sequence([*map(tirx.AllocBuffer, self._reused.values()), *self._stack.pop()])
        self._listen()
        self._read, self._written = set(), set()
        for variable, tag, extent in ((thread, "threadIdx.x", integer(threads)), (block, "blockIdx.x", count)):
            axis = tirx.IterVar(None, variable, tirx.IterVar.ThreadIndex, tag)
            body = tirx.AttrStmt(axis, "thread_extent", extent, body)
        self.add(tirx.AttrStmt(tvm.ir.StringImm(self.nest), NEST, integer(0), body))

    @contextmanager
    def loop(self, extent: Dim | Value, name: str = "i", parallel: bool = False) -> Generator[Value]:
        before = self._barriers
        with super().loop(extent, name, parallel) as index:
            yield index
        if self._barriers > before:
            self._listen(within=before)

    @contextmanager
    def repeat(self, condition: Callable[[], Value]) -> Generator[None]:
        before = self._barriers
        with super().repeat(condition):
            yield
        if self._barriers > before:
            self._listen(within=before)

    def _listen(self, within: int | None = None) -> None:
        """Find out whether a buffer is read and written with a barrier in between, or in a loop ``within`` which there
        are barriers, from the one with this number on."""
        for buffer, wrote in self._written:
            for other, read in self._read:
                if other.same_as(buffer) and (read != wrote if within is None else min(read, wrote) >= within):
                    self.talks = True

    @contextmanager
    def unrolled(self, count: int, name: str = "u") -> Generator[Value]:
        """A short loop that becomes straight-line code, so that arrays indexed by its variable stay in registers."""
        variable = tirx.Var(self.names.fresh(name), "int64")
        self.analyzer.bind(variable, tvm.ir.Range(integer(0), integer(count)))
        self._stack.append([])
        yield variable
        body = sequence(self._stack.pop())
        self.add(tirx.For(variable, integer(0), integer(count), tirx.ForKind.UNROLLED, body))

    def divided(self, number: Value, by: Value) -> tuple[Value, Value]:
        """Quotient and remainder of what is known not to be negative, though TVM may not see it."""
        if isinstance(by, tirx.IntImm):
            found = tirx.floordiv(number, by), tirx.floormod(number, by)
        else:
            found = tirx.truncdiv(number, by), tirx.truncmod(number, by)
        return self.simplify(found[0]), self.simplify(found[1])

    @contextmanager
    def discarded(self) -> Generator[None]:
        """What is added within is forgotten."""
        self._stack.append([])
        yield
        self._stack.pop()

    def shared(self, dtype: DType, count: int, name: str = "shared") -> Buffer:
        """``count`` elements that the threads of a block share, uninitialised."""
        buffer = tirx.decl_buffer((count,), TVM_NAMES[dtype], name=self.names.fresh(name), scope="shared")
        self.add(tirx.AllocBuffer(buffer))
        return buffer

    def reused(self, dtype: DType, count: int) -> Buffer:
        """As `shared`, but the same memory for all in a launch who ask for as much: each leaves it behind a barrier."""
        key = dtype, count
        if key not in self._reused:
            name = self.names.fresh("reused")
            self._reused[key] = tirx.decl_buffer((count,), TVM_NAMES[dtype], name=name, scope="shared")
        return self._reused[key]

    def sync(self) -> None:
        """A barrier of all threads of the block; also orders what they wrote to memory."""
        self._barriers += 1
        self.add(tirx.Evaluate(tirx.call_intrin("int32", "tirx.tvm_storage_sync", tvm.ir.StringImm("shared"))))

    def sync_warp(self) -> None:
        """A barrier of the threads of a warp, which also orders what they wrote to memory."""
        self._barriers += 1
        self.add(tirx.Evaluate(tirx.call_extern("int32", "__syncwarp")))

    def exchange(self, value: Value, dtype: DType, distance: int) -> Value:
        """``value`` as the thread has it whose number in the warp differs in the bit ``distance``.

        All threads of the warp must take part.
        """
        every = tirx.const(0xFFFF_FFFF, "uint32")
        narrow = dtype in (DType.I8, DType.U8, DType.F16, DType.BF16)
        assert not narrow, f"sums of {dtype.value} are exchanged in a wider type"
        taken = tirx.call_extern(TVM_NAMES[dtype], "__shfl_xor_sync", every, value, tirx.const(distance, "int32"))
        return self.let(taken, dtype, "other")

    def room(self, dtype: DType, shape: Shape, name: str = "room", *, passed: bool = False) -> tuple[TensorDef, Buffer]:
        """Memory of the function's own, as large as a tensor of this shape; ``passed`` if it is written by one launch
        and read by the next, once each."""
        tensor = Placeholder(dtype, shape, name=name)
        sizes = [self.size(dim) for dim in shape]
        buffer = tirx.decl_buffer(sizes, TVM_NAMES[dtype], name=self.names.fresh(name))
        self.rooms[tensor] = buffer
        if passed:
            self.passed.append(tensor)
        return tensor, buffer

    def part(self, whole: Buffer, number: Value, shape: Shape) -> Part:
        """Part ``number`` of a buffer that holds tensors of this shape one after the other."""
        return Part(whole, self.simplify(number * self.size(numel(shape))))

    def read(self, buffer: Buffer | Part, offset: Value, lanes: int = 1, stride: int = 1) -> Value:
        whole, offset = self._whole(buffer, offset)
        if whole.scope() == "global":
            self._read.add((whole, self._barriers))
        return super().read(whole, offset, lanes, stride)

    def read_if(self, wanted: Value, buffer: Buffer | Part, offset: Value, dtype: DType) -> Value:
        """As `kit.Block.read_if`; nothing is read in vain, for another thread may be writing element 0."""
        return tirx.if_then_else(wanted, self.read(buffer, offset), const(0, dtype))

    def write(self, buffer: Buffer | Part, offset: Value, value: Value, stride: int = 1) -> None:
        whole, offset = self._whole(buffer, offset)
        if whole.scope() == "global":
            self._written.add((whole, self._barriers))
        super().write(whole, offset, value, stride)

    def _whole(self, buffer: Buffer | Part, offset: Value) -> tuple[Buffer, Value]:
        """The buffer of a part, and an offset there."""
        if isinstance(buffer, Part):
            return buffer.whole, self.simplify(buffer.first + offset)
        return buffer, offset
