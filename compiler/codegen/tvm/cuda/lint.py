"""What a look at the launches of a module finds wrong with them, without running any.

Every launch is walked with the threads of one block side by side, as numbers: which of them are active, how often a
statement runs, which addresses neighbours read and write.  What only data decides (a looked-up place, a condition on
values) is left out of the judgement.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..tvm_api import tirx, tvm
from .device import NEST, WARP

Lanes: TypeAlias = "NDArray[np.int64] | None"
"""One number per thread of a block; None where data decides."""

Kind = Literal["serial", "idle", "uncoalesced", "launches", "shared"]

BIG = 1 << 16
"""Statements of a launch from which it is worth the whole device."""
LONG = 1 << 12
"""Statements of one thread that take as long as several launches."""
SECTOR = 32
"""Bytes that memory hands over at least."""
WASTE = 4.0
"""Times the bytes needed that a launch may ask memory for."""
ENOUGH_BLOCKS = 54
"""Thread blocks below which more than half of the smallest chip's 108 multiprocessors idle."""
SHARED_BYTES = 48 << 10
"""Shared memory that a block has on every chip without asking for more."""
PRODUCT = "ContractNest"
"""The nest whose blocks and reads are not judged here: `kernels.tiles` estimates them, and chooses by that."""
TYPICAL = 64
"""What an extent known at run time only is taken for."""


@dataclass
class Launch:
    """A launch of one kernel.

    Attributes:
        function: The function that launches it.
        blocks: How many there are.
        threads: Of each.
        repeats: How often the host launches it in a row.
        nest: Name of the class of nest that made it; empty where several share it.
        steps: Statements that the busiest thread runs.
        work: Statements that all threads run, together.
        asked: Bytes of global memory that are asked for, in whole sectors.
        needed: Bytes of them that are needed.
        shared: Bytes of shared memory of a block.
    """

    function: str
    blocks: int
    threads: int
    repeats: int
    nest: str = ""
    steps: float = 0.0
    work: float = 0.0
    asked: float = 0.0
    needed: float = 0.0
    shared: int = 0

    @property
    def busy(self) -> float:
        """How many threads would do the work if all took as long as the busiest."""
        return self.work / self.steps if self.steps else 0.0


@dataclass(frozen=True)
class Finding:
    """Something to mend in a launch."""

    kind: Kind
    launch: Launch
    text: str

    def __str__(self) -> str:
        return f"{self.launch.function}: {self.kind}: {self.text}"


def findings(launches: Sequence[Launch]) -> list[Finding]:
    """What is wrong with launches, in their order."""
    found: list[Finding] = []
    for launch in launches:

        def add(kind: Kind, text: str, launch: Launch = launch) -> None:
            found.append(Finding(kind, launch, text))

        if launch.repeats > 1:
            add("launches", f"launched {launch.repeats} times in a row")
        if launch.shared > SHARED_BYTES:
            add("shared", f"{launch.shared} bytes of shared memory")
        if launch.nest == PRODUCT:
            continue
        enough = min(launch.work / LONG, ENOUGH_BLOCKS) * WARP
        if launch.steps >= LONG and launch.busy < enough:
            add("serial", f"{launch.steps:.0f} steps of one thread, with {launch.busy:.0f} threads at work")
        elif launch.work >= BIG * 16 and launch.blocks < min(launch.work / BIG, ENOUGH_BLOCKS):
            add("idle", f"{launch.blocks} blocks for {launch.work:.0f} steps of work")
        if launch.needed >= BIG * 4 and launch.asked > WASTE * launch.needed:
            add("uncoalesced", f"asks memory for {launch.asked:.0f} bytes to get {launch.needed:.0f}")
    return found


def launches(module: Any, sizes: Mapping[str, int] | None = None) -> list[Launch]:
    """The launches of every function of a TVM module whose kernels are not lowered yet.

    Args:
        module: As ``cuda.build.lowered`` makes it.
        sizes: What symbols are taken for.
    """
    found: list[Launch] = []
    for name, function in module.functions_items():
        if isinstance(function, tirx.PrimFunc):
            found += launches_of(str(name.name_hint), function, sizes or {})
    return found


def launches_of(name: str, function: Any, sizes: Mapping[str, int]) -> list[Launch]:
    """The launches of one function."""
    walker = _Walker(name, sizes)
    walker.host(function.body, 1)
    return walker.found


@dataclass
class _Walker:
    name: str
    sizes: Mapping[str, int]
    found: list[Launch] = field(default_factory=list[Launch])
    values: dict[Any, Lanes] = field(default_factory=dict[Any, Lanes])
    registers: dict[Any, Lanes] = field(default_factory=dict[Any, Lanes])

    # Host ---------------------------------------------------------------------------------------------
    def host(self, statement: Any, repeats: int) -> None:
        match statement:
            case tirx.SeqStmt():
                for each in statement.seq:
                    self.host(each, repeats)
            case tirx.For():
                extent = self._one(statement.extent)
                self.values[statement.loop_var] = np.zeros(1, np.int64)
                self.host(statement.body, repeats * extent)
            case tirx.IfThenElse():
                for each in (statement.then_case, statement.else_case):
                    if each is not None:
                        self.host(each, repeats)
            case tirx.AttrStmt() if str(statement.attr_key) == NEST:
                self._launch(statement.body, repeats, str(statement.node.value))
            case _:
                pass

    def _launch(self, statement: Any, repeats: int, nest: str) -> None:
        extents: dict[str, int] = {}
        variables: dict[str, Any] = {}
        while isinstance(statement, tirx.AttrStmt) and str(statement.attr_key) == "thread_extent":
            tag = str(statement.node.thread_tag)
            extents[tag] = extents.get(tag, 1) * self._one(statement.value)
            variables[tag] = statement.node.var
            statement = statement.body
        threads = extents.get("threadIdx.x", 1)
        rest = [extent for tag, extent in extents.items() if tag.startswith("threadIdx") and tag != "threadIdx.x"]
        blocks = int(np.prod([extent for tag, extent in extents.items() if tag.startswith("blockIdx")], dtype=np.int64))
        launch = Launch(self.name, blocks, threads * int(np.prod(rest, dtype=np.int64)), repeats, nest)
        everyone = np.arange(launch.threads, dtype=np.int64)
        for tag, variable in variables.items():
            if tag == "threadIdx.x":
                self.values[variable] = everyone % threads
            elif tag.startswith("threadIdx"):
                self.values[variable] = everyone // threads % extents[tag]
            else:
                # A block in the middle: the first and the last are often special.
                self.values[variable] = np.full(launch.threads, extents[tag] // 2, np.int64)
        self.found.append(launch)
        steps = self._device(statement, launch, np.ones(launch.threads, np.float64))
        launch.steps = float(steps.max(initial=0.0))
        launch.work = float(steps.sum()) * blocks

    # Device -------------------------------------------------------------------------------------------
    def _device(self, statement: Any, launch: Launch, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Statements that each thread runs, where each runs this one so many ``times`` (0: not active)."""
        match statement:
            case tirx.SeqStmt():
                total = np.zeros_like(times)
                for each in statement.seq:
                    total += self._device(each, launch, times)
                return total
            case tirx.For():
                start, extent = self._eval(statement.min), self._eval(statement.extent)
                self.values[statement.loop_var] = start
                trips = np.full_like(times, 4.0) if extent is None else np.maximum(extent, 0).astype(np.float64)
                return self._device(statement.body, launch, times * trips)
            case tirx.While():
                return self._device(statement.body, launch, times * 4.0)
            case tirx.IfThenElse():
                self._reads(statement.condition, launch, times)
                holds = self._eval(statement.condition)
                taken = times if holds is None else times * (np.broadcast_to(holds, times.shape) != 0)
                total = self._device(statement.then_case, launch, taken)
                if statement.else_case is not None:
                    other = times if holds is None else times * (np.broadcast_to(holds, times.shape) == 0)
                    total = total + self._device(statement.else_case, launch, other)
                return total
            case tirx.AttrStmt():
                return self._device(statement.body, launch, times)
            case tirx.AllocBuffer():
                buffer = statement.buffer
                if str(buffer.scope()).startswith("shared"):
                    launch.shared += int(np.prod([self._one(d) for d in buffer.shape])) * _itemsize(str(buffer.dtype))
                return np.zeros_like(times)
            case tirx.BufferStore():
                self._reads(statement.value, launch, times)
                for index in statement.indices:
                    self._reads(index, launch, times)
                if str(statement.buffer.scope()) == "local":
                    single = all(self._one(d) == 1 for d in statement.buffer.shape)
                    self.registers[statement.buffer] = self._eval(statement.value) if single else None
                else:
                    self._access(statement.buffer, statement.indices, launch, times)
                return times
            case tirx.Evaluate():
                self._reads(statement.value, launch, times)
                return times * 1.0
            case _:
                return np.zeros_like(times)

    def _reads(self, expression: Any, launch: Launch, times: NDArray[np.float64]) -> None:
        stack = [expression]
        while stack:
            node = stack.pop()
            if isinstance(node, tvm.ir.TensorLoad) and str(node.source.scope()) != "local":
                self._access(node.source, node.indices, launch, times)
            stack.extend(_operands(node))

    def _access(self, buffer: Any, indices: Sequence[Any], launch: Launch, times: NDArray[np.float64]) -> None:
        """Count the sectors that the warps of a block touch."""
        if str(buffer.scope()).startswith("shared"):
            return
        last: Any = indices[-1] if indices else None
        flat = np.zeros(launch.threads, np.int64) if last is None else self._eval(last)
        if flat is None:
            return
        size, lanes = _itemsize(str(buffer.dtype)), 1
        if isinstance(last, tirx.Ramp):
            ramp: Any = last
            lanes = int(ramp.lanes)
        address = np.broadcast_to(flat, (launch.threads,)) * size
        for start in range(0, launch.threads, WARP):
            active = times[start : start + WARP] > 0
            if not active.any():
                continue
            own = np.unique(address[start : start + WARP][active])
            weight = float(times[start : start + WARP].max()) * launch.blocks
            launch.needed += own.size * size * lanes * weight
            if own.size == 1 or lanes > 1:  # one element for all: the cache has the rest of the sector for later
                launch.asked += own.size * size * lanes * weight
            else:
                launch.asked += np.unique(own // SECTOR).size * SECTOR * weight

    # Numbers ------------------------------------------------------------------------------------------
    def _one(self, expression: Any) -> int:
        if isinstance(expression, int):
            return expression
        value = self._eval(expression)
        return TYPICAL if value is None else int(np.max(value))

    def _eval(self, node: Any) -> Lanes:
        match node:
            case int():
                return np.full(1, node, np.int64)
            case tirx.IntImm():
                return np.full(1, int(node.value), np.int64)
            case tirx.Var():
                if node not in self.values:
                    self.values[node] = np.full(1, self.sizes.get(str(node.name), TYPICAL), np.int64)
                return self.values[node]
            case tirx.Cast():
                return self._eval(node.value) if "int" in str(node.ty.dtype) or str(node.ty.dtype) == "bool" else None
            case tirx.Ramp():
                return self._eval(node.base)
            case tvm.ir.TensorLoad():
                if str(node.source.scope()) == "local":
                    return self.registers.get(node.source)
                return None
            case tirx.Select():
                parts = [self._eval(part) for part in (node.condition, node.true_value, node.false_value)]
                condition, then, otherwise = parts
                if condition is None or then is None or otherwise is None:
                    return None
                return np.where(condition != 0, then, otherwise)
            case tirx.Not():
                value = self._eval(node.a)
                return None if value is None else (value == 0).astype(np.int64)
            case _:
                apply = _OPERATIONS.get(type(node).__name__)
                if apply is None:
                    return None
                x, y = self._eval(node.a), self._eval(node.b)
                if x is None or y is None:
                    return None
                return np.asarray(apply(x, y)).astype(np.int64)


def _operands(node: Any) -> list[Any]:
    """The expressions that an expression is made of."""
    match node:
        case tvm.ir.TensorLoad():
            return list(node.indices)
        case tvm.ir.Call():
            return list(node.args)
        case tirx.Select():
            return [node.condition, node.true_value, node.false_value]
        case _:
            return [getattr(node, name) for name in ("a", "b", "value", "base") if hasattr(node, name)]


def _divided(x: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[np.int64]:
    return x // np.where(y == 0, 1, y)


_OPERATIONS: Mapping[str, Callable[[NDArray[np.int64], NDArray[np.int64]], Any]] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Min": np.minimum, "Max": np.maximum, "Div": _divided,
    "FloorDiv": _divided, "FloorMod": lambda x, y: x - _divided(x, y) * y, "Mod": lambda x, y: x - _divided(x, y) * y,
    "LT": np.less, "LE": np.less_equal, "GT": np.greater, "GE": np.greater_equal, "EQ": np.equal, "NE": np.not_equal,
    "And": np.logical_and, "Or": np.logical_or,
}  # fmt: skip


def _itemsize(dtype: str) -> int:
    """Bytes of an element."""
    digits = "".join(c for c in dtype.split("x")[0] if c.isdigit())
    return max(int(digits) // 8, 1) if digits else 1
