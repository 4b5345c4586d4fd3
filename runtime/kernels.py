"""The kernels of a compiled program: what each does, reads, writes and should cost.

The compiler writes the table into the artifact (``kernels.json``), in the order in which a function runs its kernels.
It is enough to run a function kernel by kernel, which is how `profile` times them, and to show what was compiled
without compiling it again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from .errors import ArtifactError
from .fields import Fields, Json, parse_object
from .manifest import DTYPES, Dtype
from .sizes import ZERO, Size, product

BufferKind = Literal["argument", "intermediate", "result"]

_BYTES: Mapping[Dtype, int] = {"f64": 8, "i64": 8, "u64": 8, "f16": 2, "bf16": 2, "i8": 1, "u8": 1, "bool": 1}


TYPICAL = 256
"""What a symbol is taken for where one number is wanted of a size."""


def typical(size: Size) -> int:
    """A size with every symbol at `TYPICAL`."""
    return size.at(dict.fromkeys(size.symbols, TYPICAL))


def item_bytes(dtype: Dtype) -> int:
    """Bytes of one element."""
    return _BYTES.get(dtype, 4)


@dataclass(frozen=True)
class KernelBuffer:
    """Memory that kernels of one function share.

    Attributes:
        name: state variable, feed, or the op that makes it.
        kind: an ``argument`` of the function (state and what is fed), an ``intermediate``, or a fetched ``result``.
        dtype: element type.
        shape: extents, as the IR has them.
        layout: the axes from the outermost in memory to the innermost (``0,2,3,1``); empty for row-major.
    """

    name: str
    kind: BufferKind
    dtype: Dtype
    shape: tuple[Size, ...]
    layout: str = ""

    @property
    def nbytes(self) -> Size:
        """Bytes of the whole."""
        return product(self.shape) * item_bytes(self.dtype)

    @property
    def type(self) -> str:
        """As the IR prints it, with the layout where there is one: ``f32[N,784]``."""
        text = f"{self.dtype}[{','.join(map(str, self.shape))}]"
        return f"{text} axes {self.layout}" if self.layout else text

    def to_json(self) -> Json:
        """The JSON object of docs/artifact.md."""
        return {
            "name": self.name,
            "kind": self.kind,
            "dtype": self.dtype,
            "shape": [str(size) for size in self.shape],
            "layout": self.layout,
        }

    @classmethod
    def from_json(cls, fields: Fields) -> KernelBuffer:
        """Read a buffer. Raises ArtifactError."""
        return cls(
            fields.text("name"),
            fields.choice("kind", get_args(BufferKind)),
            fields.choice("dtype", DTYPES),
            tuple(_parsed(fields, "shape", text) for text in fields.texts("shape")),
            fields.text("layout", empty=True),
        )


@dataclass(frozen=True)
class FusedOp:
    """An op of the IR that a kernel computes, and where the user wrote it (``digits.py:39 fc``, or empty)."""

    op: str
    at: str

    def to_json(self) -> Json:
        """The JSON object of docs/artifact.md."""
        return {"op": self.op, "at": self.at}

    @classmethod
    def from_json(cls, fields: Fields) -> FusedOp:
        """Read an op. Raises ArtifactError."""
        return cls(fields.text("op"), fields.text("at", empty=True))


@dataclass(frozen=True)
class Work:
    """What one call has to do, whatever code does it.

    Attributes:
        flops: floating-point operations; a multiply-add counts two, an elementary function ten.
        integer: operations on integers, such as the rounds of a keystream; no index arithmetic.
        read: bytes that have to come from memory: each input once, and of an input that is looked up by index no more
            than is looked up.
        written: bytes that have to go there: each output once.

    Partial sums, which a launch of the kernel writes and its next one reads, count in both.
    """

    flops: Size = ZERO
    integer: Size = ZERO
    read: Size = ZERO
    written: Size = ZERO

    @property
    def bytes(self) -> Size:
        """Bytes read and written."""
        return self.read + self.written

    def to_json(self) -> Json:
        """The JSON object of docs/artifact.md."""
        return {
            "flops": str(self.flops),
            "integer": str(self.integer),
            "read": str(self.read),
            "written": str(self.written),
        }

    @classmethod
    def from_json(cls, fields: Fields) -> Work:
        """Read what `to_json` wrote. Raises ArtifactError."""
        names = ("flops", "integer", "read", "written")
        return cls(*(_parsed(fields, name, fields.text(name)) for name in names))


@dataclass(frozen=True)
class KernelCall:
    """One kernel in its place in a function.

    It is called with the buffers ``inputs``, the numbers ``sizes`` and the buffers ``outputs``, in this order.

    Attributes:
        symbol: its name in ``module.so``; equal kernels share one.
        ops: what it computes, in program order.
        main: which of them most of its time should go to.
        inputs: buffers read.
        updated: those of ``inputs`` that it overwrites.
        sizes: numbers handed over.
        outputs: buffers written.
        workspace: bytes it allocates for itself, or None where their number is not known before the run.
        per_thread: the same of each thread.
        work: what the call has to do.
    """

    symbol: str
    ops: tuple[FusedOp, ...]
    main: int
    inputs: tuple[int, ...]
    updated: tuple[int, ...]
    sizes: tuple[Size, ...]
    outputs: tuple[int, ...]
    workspace: Size | None
    per_thread: Size | None
    work: Work

    def to_json(self) -> Json:
        """The JSON object of docs/artifact.md."""
        return {
            "symbol": self.symbol,
            "ops": [op.to_json() for op in self.ops],
            "main": self.main,
            "inputs": self.inputs,
            "updated": self.updated,
            "sizes": [str(size) for size in self.sizes],
            "outputs": self.outputs,
            "workspace": None if self.workspace is None else str(self.workspace),
            "per_thread": None if self.per_thread is None else str(self.per_thread),
            "work": self.work.to_json(),
        }

    @classmethod
    def from_json(cls, fields: Fields) -> KernelCall:
        """Read a kernel. Raises ArtifactError."""
        ops = fields.records("ops", FusedOp.from_json)
        if not ops:
            fields.fail("ops", "a kernel of no ops")
        return cls(
            symbol=fields.text("symbol"),
            ops=ops,
            main=fields.integer("main", 0, len(ops) - 1),
            inputs=fields.integers("inputs"),
            updated=fields.integers("updated"),
            sizes=tuple(_parsed(fields, "sizes", text) for text in fields.texts("sizes")),
            outputs=fields.integers("outputs"),
            workspace=_optional(fields, "workspace"),
            per_thread=_optional(fields, "per_thread"),
            work=fields.record("work", Work.from_json),
        )


@dataclass(frozen=True)
class FunctionKernels:
    """The kernels of one function in the order they run.

    The first buffers are the function's arguments, in its order; ``results`` are the buffers of what it returns.
    """

    name: str
    buffers: tuple[KernelBuffer, ...]
    kernels: tuple[KernelCall, ...]
    results: tuple[int, ...]

    def lifetimes(self) -> dict[int, tuple[int, int]]:
        """First and last kernel that touches each intermediate buffer, by its number."""
        found: dict[int, tuple[int, int]] = {}
        for place, kernel in enumerate(self.kernels):
            for number in (*kernel.inputs, *kernel.outputs):
                if self.buffers[number].kind == "intermediate":
                    found[number] = (found.get(number, (place, place))[0], place)
        return found

    def memory(self) -> tuple[Size, Size]:
        """Bytes of all intermediates, and the most that are needed at one time (of symbolic ones, at `TYPICAL`)."""
        alive = [ZERO] * len(self.kernels)
        every = ZERO
        for number, (first, last) in self.lifetimes().items():
            every = every + self.buffers[number].nbytes
            for place in range(first, last + 1):
                alive[place] = alive[place] + self.buffers[number].nbytes
        return every, max(alive, key=typical, default=ZERO)

    def to_json(self) -> Json:
        """The JSON object of docs/artifact.md."""
        return {
            "name": self.name,
            "buffers": [buffer.to_json() for buffer in self.buffers],
            "kernels": [kernel.to_json() for kernel in self.kernels],
            "results": self.results,
        }

    @classmethod
    def from_json(cls, fields: Fields) -> FunctionKernels:
        """Read a function. Raises ArtifactError."""
        made = cls(
            fields.text("name"),
            fields.records("buffers", KernelBuffer.from_json),
            fields.records("kernels", KernelCall.from_json),
            fields.integers("results"),
        )
        used = [*made.results, *(n for kernel in made.kernels for n in (*kernel.inputs, *kernel.outputs))]
        if any(number >= len(made.buffers) for number in used):
            fields.fail("kernels", f"{made.name} uses a buffer that it does not list")
        if any(not set(kernel.updated) <= set(kernel.inputs) for kernel in made.kernels):
            fields.fail("kernels", f"{made.name} overwrites a buffer that it does not read")
        return made


@dataclass(frozen=True)
class KernelTable:
    """The kernels of every function of a program; ``lanes`` are the elements (f32) of the vectors they work with."""

    lanes: int
    functions: tuple[FunctionKernels, ...]

    def function(self, name: str) -> FunctionKernels | None:
        """Those of one function, or None."""
        return next((function for function in self.functions if function.name == name), None)

    def to_json(self) -> Json:
        """The JSON object of docs/artifact.md."""
        return {"lanes": self.lanes, "functions": [function.to_json() for function in self.functions]}

    def to_bytes(self) -> bytes:
        """The member ``kernels.json``."""
        return (json.dumps(self.to_json(), separators=(",", ":")) + "\n").encode("ascii")

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> KernelTable:
        """Read the member. Raises ArtifactError, which names ``where``."""

        def refuse(what: str, at: str) -> ArtifactError:
            return ArtifactError(f"the table of kernels is not valid: {what}", f"{where}, {at}", "compile again")

        fields = parse_object(data, "kernels.json", refuse)
        made = cls(fields.integer("lanes", 1), fields.records("functions", FunctionKernels.from_json))
        fields.done()
        return made


def bind_symbols(buffers: Sequence[KernelBuffer], shapes: Sequence[tuple[int, ...]]) -> dict[str, int]:
    """The symbols of a call from the shapes of its arguments, which are the first of ``buffers``."""
    found: dict[str, int] = {}
    for buffer, shape in zip(buffers, shapes, strict=False):
        for size, extent in zip(buffer.shape, shape, strict=True):
            solved = size.solve(extent)
            if solved is not None:
                found.setdefault(*solved)
    return found


def numpy_shape(buffer: KernelBuffer, values: Mapping[str, int]) -> tuple[int, ...]:
    """The extents of a buffer for given symbols."""
    return tuple(size.at(values) for size in buffer.shape)


def total(works: Sequence[Work]) -> Work:
    """All of ``works`` together."""
    made = Work()
    for each in works:
        made = Work(
            made.flops + each.flops,
            made.integer + each.integer,
            made.read + each.read,
            made.written + each.written,
        )
    return made


def _parsed(fields: Fields, key: str, text: str) -> Size:
    try:
        return Size.parse(text)
    except ValueError:
        fields.fail(key, f"{text!r} is no size")


def _optional(fields: Fields, key: str) -> Size | None:
    text = fields.optional_text(key)
    return None if text is None else _parsed(fields, key, text)
