"""Tensors as definitions: what a function computes, before anything is scheduled.

Op rules build these through ``emit.Emitter``; ``fuse.py`` decides which are stored and which are recomputed at
their readers, ``kernels/`` turns the stored ones into loops.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

from ...ir.location import UNKNOWN, Loc
from ...ir.types import DType, Shape
from ...ops.emit import ReduceKind
from .expr import Index, Load, Node, as_node, load, loads

if TYPE_CHECKING:
    from ...ops.emit import Expr
    from ...ops.emit import Index as Position
    from .nests import Plan


@dataclass(eq=False)
class TensorDef:
    """A tensor: element type, shape, and a name for reading dumps.  Subclasses say what its elements are.

    ``serial`` orders definitions as the rules made them; operands come before what reads them.  ``layout`` lists the
    axes from the outermost in memory to the innermost; None is row-major.
    """

    dtype: DType
    shape: Shape
    layout: tuple[int, ...] | None = field(default=None, kw_only=True)
    name: str = field(default="t", kw_only=True)
    loc: Loc = field(default=UNKNOWN, kw_only=True)
    serial: int = field(default=0, kw_only=True)

    def __getitem__(self, index: Position | tuple[Position, ...]) -> Expr:
        given = index if isinstance(index, tuple) else (index,)
        indices = tuple(as_node(i, DType.I64) for i in given)
        if len(indices) != len(self.shape):
            raise TypeError(f"{len(indices)} indices for a tensor of rank {len(self.shape)}")
        if any(i.dtype not in (DType.I64, DType.I32) for i in indices):
            raise TypeError("an index is i64 or i32")
        return cast("Expr", load(self, indices))

    def operands(self) -> Iterator[TensorDef]:
        """Every tensor this one reads, once."""
        yield from dict.fromkeys(read.tensor for read in self.reads())

    def reads(self) -> list[Load]:
        """The element reads in the definition (kernels that take whole tensors list those in ``whole``)."""
        return []

    def whole(self) -> tuple[TensorDef, ...]:
        """Operands that a kernel needs as stored tensors."""
        return ()


@dataclass(eq=False)
class Placeholder(TensorDef):
    """Memory that exists before the function runs: a state variable, a feed, or a loop's workspace."""


@dataclass(eq=False)
class Compute(TensorDef):
    """``self[indices] = body``; an index is a loop variable, or 0 on an axis of extent 1."""

    indices: tuple[Node, ...] = ()
    body: Node = field(kw_only=True)

    def reads(self) -> list[Load]:
        return loads(self.body)


@dataclass(eq=False)
class Reduce(TensorDef):
    """``self[indices] = kind over reduced of body``, added up in ``accumulate``."""

    indices: tuple[Node, ...] = ()
    reduced: tuple[Index, ...] = ()
    kind: ReduceKind = "sum"
    accumulate: DType = DType.F32
    body: Node = field(kw_only=True)

    def reads(self) -> list[Load]:
        return loads(self.body)


@dataclass(eq=False)
class Padded(TensorDef):
    """Some images with zeros around them, put together in scratch memory by the product that reads them.

    ``self[indices + before] = body`` inside the frame, and 0 in it.  ``body`` may also depend on the ``block`` of the
    product: which images these are.
    """

    indices: tuple[Node, ...] = ()
    before: tuple[int, ...] = ()
    body: Node = field(kw_only=True)

    def reads(self) -> list[Load]:
        return loads(self.body)


@dataclass(eq=False)
class Contract(TensorDef):
    """A sum of products: ``self[where] = sum over inner of left * right``, where ``valid`` holds.

    ``left`` depends on (batch, rows, inner), ``right`` on (batch, inner, columns); ``where`` gives the element's
    indices in terms of (batch, rows, columns).  Both may be expressions, evaluated once per element while they are
    packed: ``right`` with the last of ``columns`` along the lanes, ``left`` (a plain load where the rules make it)
    with the rows.

    ``block``, the first of ``rows`` or of ``inner``, numbers the images that are brought together at a time: a left
    operand that is ``Padded`` is made anew for each.
    """

    batch: tuple[Index, ...] = ()
    rows: tuple[Index, ...] = field(kw_only=True)
    columns: tuple[Index, ...] = field(kw_only=True)
    inner: tuple[Index, ...] = field(kw_only=True)
    left: Node = field(kw_only=True)
    right: Node = field(kw_only=True)
    where: tuple[Node, ...] = field(kw_only=True)
    block: Index | None = field(kw_only=True, default=None)
    valid: Node | None = field(kw_only=True, default=None)

    @property
    def padded(self) -> Padded | None:
        """The left operand's images, where it takes such."""
        left = self.left
        return left.tensor if isinstance(left, Load) and isinstance(left.tensor, Padded) else None

    def reads(self) -> list[Load]:
        padded = self.padded
        left = loads(self.left) if padded is None else padded.reads()
        return [*left, *loads(self.right)]


@dataclass(frozen=True, eq=False)
class Store:
    """``tensor[indices] = value``; the value is evaluated when the statement runs."""

    tensor: TensorDef
    indices: tuple[Node, ...]
    value: Node


@dataclass(frozen=True, eq=False)
class Loop:
    """``for index in range(extent): body``.

    Iterations of an ``independent`` loop touch disjoint memory; those of a ``parallel`` one are worth threads of a CPU.
    """

    index: Index
    extent: Node
    parallel: bool
    independent: bool
    body: tuple[Statement, ...]


@dataclass(frozen=True, eq=False)
class When:
    """``if condition: then`` or else ``otherwise``."""

    condition: Node
    then: tuple[Statement, ...]
    otherwise: tuple[Statement, ...]


@dataclass(frozen=True, eq=False)
class Allocate:
    """Scratch memory of one iteration."""

    tensor: Placeholder


Statement: TypeAlias = Store | Loop | When | Allocate


@dataclass(eq=False)
class Program:
    """Explicit loops that store one or several tensors."""

    statements: tuple[Statement, ...] = ()
    outputs: tuple[ProgramOutput, ...] = ()

    def reads(self) -> list[Load]:
        """Reads of tensors that the program does not make itself."""
        own: set[int] = {id(output) for output in self.outputs}
        roots: list[Node] = []
        for statement in walk_statements(self.statements):
            match statement:
                case Store():
                    roots += [statement.value, *statement.indices]
                case Loop():
                    roots.append(statement.extent)
                case When():
                    roots.append(statement.condition)
                case Allocate():
                    own.add(id(statement.tensor))
        return [read for read in loads(*roots) if id(read.tensor) not in own]

    def rewrite(self, change: Callable[[Node], Node]) -> None:
        """Replace every expression by what ``change`` makes of it."""

        def each(statement: Statement) -> Statement:
            match statement:
                case Store():
                    return Store(statement.tensor, tuple(map(change, statement.indices)), change(statement.value))
                case Loop():
                    inside = tuple(map(each, statement.body))
                    return replace(statement, extent=change(statement.extent), body=inside)
                case When():
                    branches = tuple(map(each, statement.then)), tuple(map(each, statement.otherwise))
                    return When(change(statement.condition), *branches)
                case Allocate():
                    return statement

        self.statements = tuple(map(each, self.statements))


def walk_statements(statements: tuple[Statement, ...]) -> Iterator[Statement]:
    """Every statement, nested ones after the statement that holds them."""
    for statement in statements:
        yield statement
        if isinstance(statement, Loop):
            yield from walk_statements(statement.body)
        elif isinstance(statement, When):
            yield from walk_statements(statement.then + statement.otherwise)


@dataclass(eq=False)
class ProgramOutput(TensorDef):
    """One tensor that a ``Program`` stores."""

    program: Program = field(kw_only=True)

    def reads(self) -> list[Load]:
        return self.program.reads()


@dataclass(eq=False)
class Keystream(TensorDef):
    """Words (u32) or standard normals (f32) of one ChaCha20 stream, from block ``first`` on (0 if None)."""

    key: TensorDef = field(kw_only=True)
    draw: TensorDef = field(kw_only=True)
    first: TensorDef | None = field(kw_only=True, default=None)
    tensor: int = field(kw_only=True)
    domain: int = field(kw_only=True)

    def whole(self) -> tuple[TensorDef, ...]:
        return (self.key, self.draw) if self.first is None else (self.key, self.draw, self.first)

    def operands(self) -> Iterator[TensorDef]:
        yield from dict.fromkeys(self.whole())


@dataclass(eq=False)
class StreamTile:
    """Normals of a stream made where they are used, a few whole groups at a time.

    ``made[i]`` is number ``first + i`` of the stream, for the elements that a task of the nest is about to store.
    """

    stream: Keystream
    made: Placeholder
    first: Index


@dataclass(eq=False)
class Body:
    """One region of a loop or branch, planned like a function of its own.

    ``outer`` maps the placeholders that the body reads to tensors outside; ``carried`` are placeholders that the
    body's plan overwrites; ``results`` its other results, each in memory of its own.
    """

    plan: Plan
    outer: dict[Placeholder, TensorDef]
    carried: list[Placeholder]
    results: list[TensorDef]


@dataclass(eq=False)
class Structured:
    """Control flow with bodies: scan, map, while, if.

    ``outputs`` holds one tensor per result; those of a scan or while start as ``init`` and are carried.  ``index``
    numbers the trips; results of a scan or map beyond the carried ones are stacked along it.
    """

    kind: Literal["scan", "map", "if", "while"]
    bodies: tuple[Body, ...]
    init: tuple[TensorDef, ...] = ()
    index: Index | None = None
    reverse: bool = False
    predicate: TensorDef | None = None
    max_trip: int | None = None
    outputs: tuple[StructuredOutput, ...] = ()

    def operands(self) -> list[TensorDef]:
        """Every outer tensor that is read, each once."""
        found = [*self.init, *((self.predicate,) if self.predicate is not None else ())]
        for body in self.bodies:
            found += body.outer.values()
        return list(dict.fromkeys(found))


@dataclass(eq=False)
class StructuredOutput(TensorDef):
    """One result of a loop or branch."""

    program: Structured = field(kw_only=True)

    def whole(self) -> tuple[TensorDef, ...]:
        return tuple(self.program.operands())

    def operands(self) -> Iterator[TensorDef]:
        yield from self.program.operands()
