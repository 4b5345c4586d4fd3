"""Emitting scalar expressions as TIR at a given vector width.

``Lowering`` evaluates nodes where a kernel stands: loop variables are bound to TIR expressions, at most one of them
running over the lanes of a vector.  Loads become contiguous vector loads, broadcasts or gathers, as the index allows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from ...ir.types import DType, numel
from .arith import binary_operation, is_sum, operation
from .expr import (
    Binary,
    Call,
    Const,
    Extent,
    Index,
    Load,
    Node,
    Select,
    Slot,
    inside,
    walk,
)
from .graph import TensorDef
from .kit import (
    Block,
    Buffer,
    Value,
    broadcast,
    const,
    convert,
    dtype_name,
    integer,
    lanes_of,
)
from .tvm_api import sym, tirx, tvm

MOST_LOADS = 4
"""Vectors that may be loaded to pick one from them."""

SlotValue: TypeAlias = Callable[["Lowering", tuple[Value, ...]], Value]


class Lowering:
    """Evaluates expressions at one place of a kernel.

    Args:
        block: Where statements go.
        buffers: Where stored tensors live.
        indices: Loop variables by index node; the lane index maps to its first lane.
        lane: The index that runs over the lanes, if any.
        lanes: Vector width (1: scalar code).
        slots: Values that the kernel supplies.

    ``identity`` names index tuples whose element lies at a given offset, lanes contiguous (flattened loops).
    """

    def __init__(
        self,
        block: Block,
        buffers: Mapping[TensorDef, Buffer],
        indices: Mapping[Node, Value],
        lane: Index | None = None,
        lanes: int = 1,
        slots: Mapping[Node, Value] | None = None,
    ) -> None:
        self.block = block
        self.buffers = buffers
        self.indices = indices
        self.lane = lane if lanes > 1 else None
        self.lanes = lanes
        self.slots = slots or {}
        self.identity: tuple[tuple[Node, ...], Value] | None = None
        self._values: dict[tuple[Node, int], Value] = {}
        self._guards: list[Value] = []  # kept alive: ``_values`` knows them by id
        self._uses: Counter[Node] = Counter()
        self._varying: dict[Node, bool] = {}
        self._unsafe: dict[Node, bool] = {}
        self._lane_offset = tirx.Var("lane", "int64")
        if self.lane is not None:
            block.analyzer.bind(self._lane_offset, _range(lanes))

    # Entry points -------------------------------------------------------------------------------------
    def expect(self, *roots: Node) -> None:
        """Announce what will be evaluated, so that shared parts are computed once."""
        for node in walk(*roots):
            self._uses.update(node.children)
        self._uses.update(roots)

    def scalar_or_vector(self, node: Node) -> Value:
        """The value of ``node``: a scalar where no lane differs, else a vector."""
        return self._value(node, None)

    def vector(self, node: Node) -> Value:
        """The value of ``node`` in every lane."""
        return broadcast(self._value(node, None), self.lanes)

    def offset(self, tensor: TensorDef, indices: Sequence[Node]) -> tuple[Value, int | None]:
        """Flat offset of an element and its stride per lane: 0 the same element, None no constant stride."""
        if self.identity is not None and tuple(indices) == self.identity[0]:
            return self.identity[1], 1
        if any(self._lane_load(position) for position in indices):
            return None, None
        scalars = [self._position(position) for position in indices]
        flat = self.block.flatten(scalars, tensor.shape, tensor.layout)
        if self.lane is None:
            return flat, 0
        linear = sym.detect_linear_equation(flat, [self._lane_offset])
        if not linear:
            return None, None
        stride = self.block.simplify(linear[0])
        if not isinstance(stride, tirx.IntImm):
            return None, None
        return self.block.simplify(linear[1]), int(stride.value)

    def put(self, tensor: TensorDef, indices: Sequence[Node], value: Value) -> None:
        """``tensor[indices] = value`` in every lane; the lanes must run along the tensor's elements."""
        flat, stride = self.offset(tensor, indices)
        if flat is None or (self.lanes > 1 and not stride):
            raise AssertionError(f"lanes of a store to {tensor.name} do not run along its elements")
        self.block.write(self.buffers[tensor], flat, broadcast(value, self.lanes), stride or 1)

    # Evaluation ---------------------------------------------------------------------------------------
    def _value(self, node: Node, guard: Value | None) -> Value:
        if guard is not None and not self._is_unsafe(node):
            guard = None
        key = (node, 0 if guard is None else id(guard))
        # What is known without a guard is known under every one.
        found = self._values.get((node, 0), self._values.get(key))
        if found is None:
            if guard is not None:
                self._guards.append(guard)
            found = self._emit(node, guard)
            shared = self._uses[node] > 1 and node.children and node.dtype is not DType.BOOL
            if shared:
                found = self.block.let(found, node.dtype)
            self._values[key] = found
        return found

    def _emit(self, node: Node, guard: Value | None) -> Value:
        match node:
            case Const():
                return const(node.value, node.dtype)
            case Index():
                return self._index_value(node)
            case Extent():
                return self.block.size(node.dim)
            case Slot():
                return self.slots[node]
            case Load():
                return self._load(node, guard)
            case Select():
                return self._select(node, guard)
            case _:
                operands = [self._value(child, guard) for child in node.children]
                lanes = max(lanes_of(value) for value in operands)
                return operation(self.block, node, [broadcast(value, lanes) for value in operands])

    def _index_value(self, node: Index) -> Value:
        first = self.indices[node]
        return tirx.Ramp(first, integer(1), self.lanes) if node is self.lane else first

    # Selection and loads ------------------------------------------------------------------------------
    def _select(self, node: Select, guard: Value | None) -> Value:
        condition = self._value(node.children[0], guard)
        branches: list[Value] = []
        for child, taken in zip(node.children[1:], (condition, tirx.Not(condition)), strict=True):
            inner = guard
            if self._is_unsafe(child):
                inner = taken if guard is None else self._both(guard, taken)
            branches.append(self._value(child, inner))
        lanes = max(lanes_of(condition), *(lanes_of(value) for value in branches))
        return tirx.Select(broadcast(condition, lanes), *(broadcast(value, lanes) for value in branches))

    def _both(self, x: Value, y: Value) -> Value:
        lanes = max(lanes_of(x), lanes_of(y))
        return tirx.And(broadcast(x, lanes), broadcast(y, lanes))

    def _load(self, node: Load, guard: Value | None) -> Value:
        """The element(s); read by a statement of their own where the address is more than a sum.

        Within a choice, TVM's simplifier takes the condition for granted and drops whatever in the address (a guard,
        a limit, a remainder) it makes superfluous; but the machine reads both branches, whatever the condition.
        """
        value = self._read(node, guard)
        if guard is None and all(map(is_sum, node.children)):
            return value
        return self.block.let(value, node.dtype)

    def _read(self, node: Load, guard: Value | None) -> Value:
        buffer, dtype = self.buffers[node.tensor], node.dtype
        flat, stride = self.offset(node.tensor, node.children)
        if flat is not None and stride == 0:
            return self._guarded_scalar(buffer, flat, guard, dtype)
        if flat is not None and stride == 1 and guard is None:
            return self.block.read(buffer, flat, self.lanes)
        if guard is not None and dtype is DType.BOOL:
            return self._gather(node, guard)
        if flat is not None and stride == 1:
            assert guard is not None
            if lanes_of(guard) == 1:
                return self._guarded_by_scalar(buffer, flat, guard, dtype)
            return self._near(
                node, flat, self.lanes, guard, lambda wanted: self._neighbours(buffer, flat, wanted, dtype)
            )
        places = self._places(node)
        if places is None:
            return self._gather(node, guard)
        first, distances = places
        if guard is None:
            return self._picked(buffer, first, distances, dtype)

        def pick(wanted: Value | None) -> Value:
            if wanted is None:
                return self._picked(buffer, first, distances, dtype)
            return self._picked_masked(buffer, first, distances, wanted, dtype)

        return self._near(node, first, max(distances) + 1, broadcast(guard, self.lanes), pick)

    def _near(self, node: Load, first: Value, span: int, guard: Value, read: Callable[[Value | None], Value]) -> Value:
        """Elements of which ``guard`` wants some: all are read where the tensor's memory has ``span`` of them from
        ``first`` on, else ``read`` is given the guard."""
        block = self.block
        register = block.register(node.dtype, self.lanes, "near")
        end = block.simplify(first + integer(span))
        whole = tirx.And(tirx.GE(first, integer(0)), tirx.LE(end, block.size(numel(node.tensor.shape))))
        guard = block.let(guard, DType.BOOL)
        with block.when(whole):
            block.put(register, read(None))
        with block.otherwise(whole):
            block.put(register, read(guard))
        return block.get(register)

    def _neighbours(self, buffer: Buffer, flat: Value, guard: Value | None, dtype: DType) -> Value:
        return self.block.read(buffer, flat, self.lanes) if guard is None else self._masked(buffer, flat, guard, dtype)

    def _masked(self, buffer: Buffer, flat: Value, guard: Value, dtype: DType) -> Value:
        """Neighbouring elements, 0 in the lanes that do not want theirs."""
        lanes = lanes_of(guard)
        # The lanes wanted may lie behind an address that is itself before the tensor's: it is no element of the buffer.
        start = tirx.address_of(self.block.read(buffer, integer(0)))
        address = tirx.handle_add_byte_offset(start, flat * integer(dtype.numpy.itemsize))
        nothing = const(0, dtype, lanes)
        return tirx.call_llvm_pure_intrin(dtype_name(dtype, lanes), "llvm.masked.load", address, guard, nothing)

    def _places(self, node: Load) -> tuple[Value, tuple[int, ...]] | None:
        """Where the lanes' elements lie, as distances from the first in memory; None where they are not known
        or too far apart."""
        if any(self._lane_load(position) for position in node.children):
            return None
        variable = self._lane_offset
        flats: list[Value] = []
        for lane in range(self.lanes):
            self._lane_offset = integer(lane)
            where = [self._position(position) for position in node.children]
            flats.append(self.block.flatten(where, node.tensor.shape, node.tensor.layout))
        self._lane_offset = variable
        away = [self.block.simplify(flat - flats[0]) for flat in flats]
        if not all(isinstance(distance, tirx.IntImm) for distance in away):
            return None
        distances = [int(distance.value) for distance in away]
        least = min(distances)
        if max(distances) - least >= MOST_LOADS * self.lanes:
            return None
        return self.block.simplify(flats[0] + integer(least)), tuple(distance - least for distance in distances)

    def _picked(self, buffer: Buffer, first: Value, distances: tuple[int, ...], dtype: DType) -> Value:
        """Elements at fixed ``distances`` from the first: whole vectors are loaded and their elements picked."""
        width, span = self.lanes, max(distances) + 1
        while width > span:
            width //= 2
        # The last vector ends with the last element: what lies behind it may not be there.
        starts = [*range(0, span - width, width), span - width]
        vectors = [self.block.let(self.block.read(buffer, first + integer(start), width), dtype) for start in starts]
        chosen: list[int] = []
        for distance in distances:
            number = next(i for i, start in enumerate(starts) if start <= distance < start + width)
            chosen.append(number * width + distance - starts[number])
        return pick(vectors, chosen)

    def _picked_masked(
        self, buffer: Buffer, first: Value, distances: tuple[int, ...], guard: Value, dtype: DType
    ) -> Value:
        """As ``_picked``, reading nothing but the elements that a lane wants."""
        lanes, none = self.lanes, const(False, DType.BOOL, self.lanes)
        vectors: list[Value] = []
        for start in range(0, max(distances) + 1, lanes):
            readers = [[lane for lane, d in enumerate(distances) if d == start + place] for place in range(lanes)]
            wanted = none
            for turn in range(max(map(len, readers))):
                wishes = [own[min(turn, len(own) - 1)] if own else lanes for own in readers]
                wanted = tirx.Or(wanted, pick([guard, none], wishes))
            where = self.block.simplify(first + integer(start))
            vectors.append(self.block.let(self._masked(buffer, where, wanted, dtype), dtype))
        return pick(vectors, distances)

    def _guarded_scalar(self, buffer: Buffer, flat: Value, guard: Value | None, dtype: DType) -> Value:
        """One element, if any lane wants it."""
        if guard is not None:
            wanted = guard
            if lanes_of(guard) > 1:
                wanted = tirx.NE(_any_lane(guard), const(0, DType.I32))
            return self.block.read_if(wanted, buffer, flat, dtype)
        return self.block.read(buffer, flat)

    def _guarded_by_scalar(self, buffer: Buffer, flat: Value, guard: Value, dtype: DType) -> Value:
        register = self.block.register(dtype, self.lanes, "maybe")
        self.block.put(register, const(0, dtype, self.lanes))
        with self.block.when(guard):
            self.block.put(register, self.block.read(buffer, flat, self.lanes))
        return self.block.get(register)

    def _gather(self, node: Load, guard: Value | None) -> Value:
        flat: Value = const(0, DType.I64, self.lanes)
        for position, step in zip(
            node.children, self.block.strides(node.tensor.shape, node.tensor.layout), strict=True
        ):
            index = broadcast(self._as_i64(position, self._value(position, guard)), self.lanes)
            flat = flat + index * broadcast(step, self.lanes)
        if guard is not None:
            flat = tirx.Select(broadcast(guard, self.lanes), flat, const(0, DType.I64, self.lanes))
        return self.block.gather(self.buffers[node.tensor], self.block.let(flat, DType.I64))

    # Index expressions --------------------------------------------------------------------------------
    def _position(self, node: Node) -> Value:
        """An index as a scalar TIR expression in which the lane offset is a variable."""
        match node:
            case Index():
                first = self.indices[node]
                return first + self._lane_offset if node is self.lane else first
            case Const():
                return integer(int(node.value))
            case Binary() if self._varies(node):
                x, y = (self._position(child) for child in node.children)
                match node.op:
                    case "+":
                        return x + y
                    case "-":
                        return x - y
                    case "*":
                        return x * y
                    case "//":
                        return tirx.floordiv(x, y)
                    case "%":
                        return tirx.floormod(x, y)
                    case "min":
                        return tirx.min(x, y)
                    case "max":
                        return tirx.max(x, y)
                    case _:
                        raise AssertionError(node.op)
            case Binary() if not any(isinstance(part, Load | Select | Call) for part in walk(node)):
                return self._index_arithmetic(node)
            case _:
                return self._as_i64(node, self._value(node, None))

    def _index_arithmetic(self, node: Binary) -> Value:
        x, y = (self._position(child) for child in node.children)
        return self._as_i64(node, binary_operation(self.block, node, x, y))

    def _as_i64(self, node: Node, value: Value) -> Value:
        return value if node.dtype is DType.I64 else convert(DType.I64, value)

    def _lane_load(self, node: Node) -> bool:
        """Whether an index depends on the lane in a way ``_position`` cannot write (through memory, a choice …)."""
        if not self._varies(node):
            return False
        if isinstance(node, Index):
            return False
        if isinstance(node, Binary) and node.op in ("+", "-", "*", "//", "%", "min", "max"):
            return any(self._lane_load(child) for child in node.children)
        return True

    def _varies(self, node: Node) -> bool:
        """Whether a value may differ between lanes."""
        if self.lane is None:
            return False
        found = self._varying.get(node)
        if found is None:
            if isinstance(node, Slot):
                found = node in self.slots and lanes_of(self.slots[node]) > 1
            else:
                found = node is self.lane or any(self._varies(child) for child in node.children)
            self._varying[node] = found
        return found

    def _is_unsafe(self, node: Node) -> bool:
        """Whether evaluating ``node`` may read outside a tensor for some index."""
        found = self._unsafe.get(node)
        if found is None:
            found = any(self._is_unsafe(child) for child in node.children)
            found = found or (isinstance(node, Load) and not inside(node, node.tensor.shape))
            self._unsafe[node] = found
        return found


def _range(lanes: int) -> Value:
    return tvm.ir.Range(integer(0), integer(lanes))


def pick(vectors: Sequence[Value], places: Sequence[int]) -> Value:
    """The elements of ``vectors``, one after the other, at ``places``."""
    # TVM wants at least as many elements as it is to pick.
    vectors = list(vectors) * -(-len(places) // (len(vectors) * lanes_of(vectors[0])))
    return tirx.Shuffle(vectors, [tirx.IntImm("int32", place) for place in places])


def _any_lane(mask: Value) -> Value:
    lanes = lanes_of(mask)
    ones = tirx.Select(mask, const(1, DType.I32, lanes), const(0, DType.I32, lanes))
    return tirx.call_llvm_pure_intrin("int32", "llvm.vector.reduce.umax", ones)
