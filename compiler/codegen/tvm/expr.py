"""Scalar expressions: what op rules write with ``Expr`` operators, as data.

A rule's ``element(i, j)`` is traced once with index variables.  The result is a small DAG of ``Node``: it can
be searched for the tensors it reads, inlined into a reader, and emitted at any vector width (``lower.py``).
Nodes are interned: equal expressions are one object, so sharing is found by identity.
"""

from __future__ import annotations

import struct
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

from ...ir.types import Dim, DType, Shape
from ...ops.emit import Expr, Function1

if TYPE_CHECKING:
    from .graph import TensorDef

BinaryName = Literal["+", "-", "*", "/", "//", "%", "&", "|", "^", "<<", ">>", "min", "max", "pow"]
CompareName = Literal["<", "<=", ">", ">=", "==", "!="]
Atom: TypeAlias = "Node | int | float | bool"

_interned: weakref.WeakValueDictionary[tuple[object, ...], Node] = weakref.WeakValueDictionary()


class Node:
    """One scalar value.  ``children`` are the nodes it is computed from, ``detail`` what else defines it."""

    __slots__ = ("__weakref__", "children", "detail", "dtype")

    dtype: DType
    children: tuple[Node, ...]
    detail: tuple[object, ...]

    def __new__(cls, dtype: DType, children: tuple[Node, ...] = (), *detail: object) -> Node:
        key = (cls, dtype, children, detail)
        found = _interned.get(key)
        if found is None:
            found = super().__new__(cls)
            found.dtype, found.children, found.detail = dtype, children, detail
            _interned[key] = found
        return found

    def with_children(self, children: tuple[Node, ...]) -> Node:
        """The same operation on other operands."""
        return self if children == self.children else Node.__new__(type(self), self.dtype, children, *self.detail)

    def _binary(self, name: BinaryName, other: object, swapped: bool = False) -> Node:
        right = as_node(other, self.dtype)
        pair = (right, self) if swapped else (self, right)
        return binary(name, *pair)

    def _compare(self, name: CompareName, other: object) -> Node:
        right = as_node(other, self.dtype)
        _same(name, self, right)
        return Compare(DType.BOOL, (self, right), name)

    def __add__(self, other: object) -> Node:
        return self._binary("+", other)

    def __radd__(self, other: object) -> Node:
        return self._binary("+", other, swapped=True)

    def __sub__(self, other: object) -> Node:
        return self._binary("-", other)

    def __rsub__(self, other: object) -> Node:
        return self._binary("-", other, swapped=True)

    def __mul__(self, other: object) -> Node:
        return self._binary("*", other)

    def __rmul__(self, other: object) -> Node:
        return self._binary("*", other, swapped=True)

    def __truediv__(self, other: object) -> Node:
        return self._binary("/", other)

    def __rtruediv__(self, other: object) -> Node:
        return self._binary("/", other, swapped=True)

    def __floordiv__(self, other: object) -> Node:
        return self._binary("//", other)

    def __mod__(self, other: object) -> Node:
        return self._binary("%", other)

    def __and__(self, other: object) -> Node:
        return self._binary("&", other)

    def __or__(self, other: object) -> Node:
        return self._binary("|", other)

    def __xor__(self, other: object) -> Node:
        return self._binary("^", other)

    def __lshift__(self, other: object) -> Node:
        return self._binary("<<", other)

    def __rshift__(self, other: object) -> Node:
        return self._binary(">>", other)

    def __neg__(self) -> Node:
        if self.dtype.is_float:
            return self._binary("*", -1.0)
        return as_node(0, self.dtype)._binary("-", self)

    def __invert__(self) -> Node:
        return Invert(self.dtype, (self,))

    def __lt__(self, other: object) -> Node:
        return self._compare("<", other)

    def __le__(self, other: object) -> Node:
        return self._compare("<=", other)

    def __gt__(self, other: object) -> Node:
        return self._compare(">", other)

    def __ge__(self, other: object) -> Node:
        return self._compare(">=", other)

    def eq(self, other: object) -> Node:
        return self._compare("==", other)

    def ne(self, other: object) -> Node:
        return self._compare("!=", other)


class Const(Node):
    """A constant; ``value`` holds it, the detail its bits (so that 0.0 and -0.0 stay two nodes)."""

    __slots__ = ()

    @property
    def value(self) -> float | int | bool:
        return cast("float | int | bool", self.detail[1])


class Index(Node):
    """A loop variable running from 0 to ``extent`` (None: known at run time only)."""

    __slots__ = ()

    @property
    def extent(self) -> Dim | None:
        return cast("Dim | None", self.detail[1])


class Extent(Node):
    """The run-time size of a dimension, i64."""

    __slots__ = ()

    @property
    def dim(self) -> Dim:
        return cast("Dim", self.detail[0])


class Load(Node):
    """An element of a tensor; the children are its indices."""

    __slots__ = ()

    @property
    def tensor(self) -> TensorDef:
        return cast("TensorDef", self.detail[0])


class Binary(Node):
    """``x op y`` on equal element types."""

    __slots__ = ()

    @property
    def op(self) -> BinaryName:
        return cast("BinaryName", self.detail[0])


class Compare(Node):
    """``x op y`` as BOOL."""

    __slots__ = ()

    @property
    def op(self) -> CompareName:
        return cast("CompareName", self.detail[0])


class Invert(Node):
    """Logical not of a BOOL, bitwise not of an integer."""

    __slots__ = ()


class Select(Node):
    """``children[0] ? children[1] : children[2]``; a load in a branch happens only where it is taken."""

    __slots__ = ()


class Cast(Node):
    """The value in another element type."""

    __slots__ = ()


class Reinterpret(Node):
    """The bits as another element type of the same width."""

    __slots__ = ()


class Call(Node):
    """An elementary function of one argument."""

    __slots__ = ()

    @property
    def function(self) -> Function1:
        return cast("Function1", self.detail[0])


class IsFinite(Node):
    """Neither NaN nor infinite."""

    __slots__ = ()


class Slot(Node):
    """A value that a kernel supplies (an accumulator, a tile element); its children are indices."""

    __slots__ = ()


_serial = iter(range(1 << 62))


def index(extent: Dim | None) -> Index:
    """A fresh loop variable."""
    return cast("Index", Index(DType.I64, (), next(_serial), extent))


def loop_index(extent: Dim) -> Node:
    """The variable of one axis of a shape; an axis of extent 1 needs none."""
    return const(0, DType.I64) if extent == 1 else index(extent)


def slot(dtype: DType) -> Slot:
    """A fresh kernel-supplied value."""
    return cast("Slot", Slot(dtype, (), next(_serial)))


def const(value: float | int | bool, dtype: DType) -> Node:
    """A constant; raises TypeError for a fraction as an integer."""
    if dtype is DType.BOOL:
        value = bool(value)
    elif dtype.is_float:
        value = float(value)
    elif value != int(value):
        raise TypeError(f"{value} is not a {dtype.value}")
    else:
        value = int(value)
    bits = struct.pack("<d", value).hex() if isinstance(value, float) else str(value)
    return Const(dtype, (), bits, value)


def as_node(value: object, dtype: DType) -> Node:
    """``value`` as a node; a Python number becomes a constant of ``dtype``."""
    if isinstance(value, Node):
        return value
    if isinstance(value, bool | int | float):
        return const(value, dtype)
    raise TypeError(f"a scalar is expected, not {type(value).__name__}")


def _same(name: str, x: Node, y: Node) -> None:
    if x.dtype is not y.dtype:
        raise TypeError(f"operands of {name} have types {x.dtype.value} and {y.dtype.value}")


def binary(name: BinaryName, x: Node, y: Node) -> Node:
    """``x name y``, with integer constants folded (index arithmetic is full of ``+ 0`` and ``* 1``)."""
    _same(name, x, y)
    if x.dtype.is_integer and name in ("+", "-", "*", "//", "%"):
        folded = _fold(name, x, y)
        if folded is not None:
            return folded
    return Binary(x.dtype, (x, y), name)


def _fold(name: BinaryName, x: Node, y: Node) -> Node | None:
    if isinstance(x, Const) and isinstance(y, Const) and x.dtype is DType.I64:
        a, b = int(x.value), int(y.value)
        if name in ("//", "%") and b == 0:
            return None
        quotient = a // b if b else 0
        results = {"+": a + b, "-": a - b, "*": a * b, "//": quotient, "%": a - quotient * b}
        return const(results[name], x.dtype)
    if isinstance(y, Const):
        if (y.value == 0 and name in ("+", "-")) or (y.value == 1 and name in ("*", "//")):
            return x
        if (y.value == 0 and name == "*") or (y.value == 1 and name == "%"):
            return const(0, x.dtype)
    if isinstance(x, Const):
        if (x.value == 0 and name == "+") or (x.value == 1 and name == "*"):
            return y
        if x.value == 0 and name in ("*", "//", "%"):
            return const(0, x.dtype)
    return None


def select(condition: Node, then: Node, otherwise: Node) -> Node:
    """A choice; of one branch alone where the condition is a constant."""
    _same("select", then, otherwise)
    if isinstance(condition, Const):
        return then if condition.value else otherwise
    return Select(then.dtype, (condition, then, otherwise))


def load(tensor: TensorDef, indices: tuple[Node, ...]) -> Load:
    """The element of ``tensor`` at ``indices``."""
    return cast("Load", Load(tensor.dtype, indices, tensor))


def walk(*roots: Node) -> Iterator[Node]:
    """Every node once, operands before what uses them."""
    seen: set[int] = set()
    stack: list[tuple[Node, bool]] = [(root, False) for root in reversed(roots)]
    while stack:
        node, ready = stack.pop()
        if ready:
            yield node
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((child, False) for child in reversed(node.children))


def rewrite(root: Node, change: Callable[[Node], Node]) -> Node:
    """``root`` with ``change`` applied to every node, operands first."""
    done: dict[Node, Node] = {}
    for node in walk(root):
        done[node] = change(node.with_children(tuple(done[child] for child in node.children)))
    return done[root]


def substitute(root: Node, values: Mapping[Node, Node]) -> Node:
    """``root`` with nodes (index variables, as a rule) replaced."""
    return rewrite(root, lambda node: values.get(node, node)) if values else root


def loads(*roots: Node) -> list[Load]:
    """The loads in ``roots``, each once, in order."""
    return [node for node in walk(*roots) if isinstance(node, Load)]


def expr(node: Node) -> Expr:
    """A node under the name that op rules know it by."""
    return cast("Expr", node)


def bounds(node: Node, ranges: Mapping[Node, tuple[int, int]] | None = None) -> tuple[int, int] | None:
    """Smallest and largest value of an integer expression over fixed loop extents, when that is known; ``ranges``
    are closer limits of loop variables."""
    if isinstance(node, Const):
        return int(node.value), int(node.value)
    if ranges and node in ranges:
        return ranges[node]
    if isinstance(node, Index):
        return (0, node.extent - 1) if isinstance(node.extent, int) else None
    if not isinstance(node, Binary):
        return None
    x, y = bounds(node.children[0], ranges), bounds(node.children[1], ranges)
    if x is None or y is None:
        # A remainder is bounded whatever is divided.
        return (0, y[1] - 1) if node.op == "%" and y is not None and y[0] == y[1] > 0 else None
    if node.op == "+":
        return x[0] + y[0], x[1] + y[1]
    if node.op == "-":
        return x[0] - y[1], x[1] - y[0]
    if node.op == "*":
        corners = [a * b for a in x for b in y]
        return min(corners), max(corners)
    if node.op == "//" and y[0] == y[1] > 0:
        return x[0] // y[0], x[1] // y[0]
    if node.op == "%" and y[0] == y[1] > 0:
        return (x[0], x[1]) if x[0] >= 0 and x[1] < y[0] else (0, y[0] - 1)
    if node.op in ("min", "max"):
        chosen = min if node.op == "min" else max
        return chosen(x[0], y[0]), chosen(x[1], y[1])
    return None


def inside(node: Load, shape: Shape) -> bool:
    """Whether every index of a load is within the tensor for all loop values."""
    for position, extent in zip(node.children, shape, strict=True):
        if isinstance(position, Index) and position.extent == extent:
            continue
        limits = bounds(position)
        if limits is None or limits[0] < 0 or not isinstance(extent, int) or limits[1] >= extent:
            return False
    return True
