"""The nodes of one function: what the ``to_onnx`` rules of ops write through (``ops.emit.OnnxEmitter``)."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from onnx import FunctionProto, GraphProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from ...errors import TargetError
from ...ir.core import Function, OpBase, Region, Value, fields_of
from ...ir.location import UNKNOWN
from ...ir.printer import op_lines, place_text, value_names
from ...ir.types import Dim, DType, RaggedType, Shape, Sym, TensorType, static_shape
from ...ops.base import Op
from ...ops.emit import OnnxGraph, OnnxValue, Window
from ...ops.state import Read, Write
from . import noise
from .names import Names, rename
from .streams import Stream
from .types import ELEMENT_TYPES, value_info


@dataclass(frozen=True)
class Argument:
    """An input of the function, in the order in which the runtime passes them.

    Attributes:
        kind: What it is (the manifest's binding kinds).
        name: Of the feed or state variable.
        input: What the graph calls it.
        type: Its type.
    """

    kind: str
    name: str
    input: str
    type: TensorType


@dataclass
class Scope:
    """One graph being written: the function's own, or a nested one."""

    nodes: list[NodeProto] = field(default_factory=list[NodeProto])
    infos: dict[str, ValueInfoProto] = field(default_factory=dict[str, ValueInfoProto])


class Emitter:
    """Writes the nodes of one function.

    Args:
        function: At stage ``target``.
        arguments: Its inputs; `Argument.input` are the names that the graph's inputs have.
        outputs: Names that `output` will be given.
        self_contained: Random bits are made by nodes, of a key, and not taken as inputs.
        ort_training: Nodes of onnxruntime-training are allowed.

    Attributes:
        streams: The keystreams that the graph takes as inputs.
        functions: Local functions that nodes call.
        constants: The initialisers.
    """

    def __init__(
        self,
        function: Function,
        arguments: Sequence[Argument],
        outputs: Sequence[str],
        *,
        self_contained: bool,
        ort_training: bool,
    ) -> None:
        self.ort_training = ort_training
        self.streams: list[Stream] = []
        self.functions: list[FunctionProto] = []
        self.constants: list[TensorProto] = []
        self._arguments = arguments
        self._self_contained = self_contained
        self._names = Names([*(argument.input for argument in arguments), *outputs])
        self._value_names = value_names(function)
        self._lines = op_lines(function)
        self._env: dict[Value, OnnxValue] = {}
        self._main = Scope()
        self._prologue = Scope()  # sizes: read by every graph, so they stand before everything
        self._scopes = [self._main]
        self._op: OpBase | None = None
        self._prefix = ""
        self._renamed: dict[str, str] = {}
        self._outputs: set[str] = set()
        self._interned: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._extents: dict[str, str] = {}
        states = {argument.name: argument.input for argument in arguments if argument.kind == "state"}
        inputs = iter([argument.input for argument in arguments if argument.kind != "state"])
        for param in function.params:
            name = next(inputs)
            self._env[param.value] = (name, next(inputs)) if isinstance(param.value.type, RaggedType) else name
        for op in function.ops:
            if isinstance(op, Read):
                self._env[op.result] = states[op.state]

    # -- the function -------------------------------------------------------------------------------------------

    def ops(self, ops: Sequence[OpBase]) -> None:
        """Write the nodes of ops, in program order; reads and writes of state are no nodes.

        Raises MissingRule for an op that has no ONNX form.
        """
        for op in ops:
            if not isinstance(op, Read | Write):
                with self._of(op):
                    self._emit(cast(Op, op))

    def output(self, value: Value, name: str) -> None:
        """Make a value the output ``name`` of the function."""
        held = self._env[value]
        assert isinstance(held, str)
        made = {output for node in self._main.nodes for output in node.output}
        if held in made and self._renamed.get(held, "") not in self._outputs:
            self._renamed[held] = name
        else:  # an input, a constant, or an output already
            self._main.nodes.append(helper.make_node("Identity", [held], [name], name="output"))
        self._outputs.add(name)

    def finish(self) -> tuple[list[NodeProto], list[ValueInfoProto]]:
        """All nodes under their final names, and the types noted of intermediate values."""
        nodes = [*self._prologue.nodes, *self._main.nodes]
        rename(nodes, self._renamed)
        infos = {**self._prologue.infos, **self._main.infos}
        for name, info in infos.items():
            info.name = self._renamed.get(name, name)
        return nodes, [info for info in infos.values() if info.name not in self._outputs]

    # -- one op -------------------------------------------------------------------------------------------------

    @contextmanager
    def _of(self, op: OpBase) -> Generator[None]:
        before = self._op, self._prefix
        self._op = op
        self._prefix = self._name_of(op.results[0]) if op.results else op.name
        try:
            yield
        finally:
            self._op, self._prefix = before

    def _name_of(self, value: Value) -> str:
        return self._value_names.get(value, value.hint).removeprefix("%")

    def _emit(self, op: Op) -> None:
        arguments: list[Any] = []
        for spec in fields_of(type(op)):
            held = getattr(op, spec.name)
            if spec.kind == "variadic":
                arguments.append(tuple(self._env[value] for value in held))
            elif spec.kind in ("operand", "optional"):
                arguments.append(None if held is None else self._env[held])
        start = len(self._scopes[-1].nodes)
        found = op.to_onnx(self, *arguments)
        values: tuple[OnnxValue, ...] = (found,) if len(op.results) == 1 else tuple(found)
        made = {name for node in self._scopes[-1].nodes[start:] for name in node.output}
        for result, value in zip(op.results, values, strict=True):
            self._env[result] = value
            kind = result.type
            parts = value if isinstance(value, tuple) else (value,)
            kinds = (kind.data, kind.offsets) if isinstance(kind, RaggedType) else (kind,)
            for part, part_kind in zip(parts, kinds, strict=True):
                if part in made:
                    self.typed(part, part_kind)
                    if part not in self._renamed:
                        self._renamed[part] = self._names.unique(self._name_of(result))

    # -- OnnxEmitter --------------------------------------------------------------------------------------------

    def node(self, op_type: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """A node with one output."""
        return self.many(op_type, 1, *inputs, domain=domain, **attributes)[0]

    def many(
        self, op_type: str, outputs: int, *inputs: str, domain: str = "", unused: Sequence[int] = (), **attributes: Any
    ) -> tuple[str, ...]:
        """A node with several outputs, those numbered in ``unused`` left out."""
        return self._add(self._scopes[-1], op_type, outputs, inputs, domain, attributes, unused)

    def _add(
        self,
        scope: Scope,
        op_type: str,
        outputs: int,
        inputs: Sequence[str],
        domain: str = "",
        attributes: Mapping[str, Any] | None = None,
        unused: Sequence[int] = (),
    ) -> tuple[str, ...]:
        names = tuple("" if i in unused else self._names.unique(f"{self._prefix}/{op_type}") for i in range(outputs))
        name = "size" if self._op is None else self._op.name
        node = helper.make_node(
            op_type, inputs, names, name=name, domain=domain, doc_string=self._doc(), **(attributes or {})
        )
        scope.nodes.append(node)
        return names

    def _doc(self) -> str:
        """The user's line, and the op as it stands in the IR."""
        op = self._op
        if op is None:
            return ""
        place = place_text(op.loc) if op.loc is not UNKNOWN else ""
        line = self._lines.get(op, op.name).partition(" loc(")[0]
        return f"{place}\n{line}" if place else line

    def typed(self, name: str, kind: TensorType) -> str:
        """``name``, its type noted in the file."""
        self._scopes[-1].infos[name] = value_info(name, kind)
        return name

    def array(self, value: NDArray[Any]) -> str:
        """A constant array; equal ones are stored once."""
        value = np.asarray(value)
        key = value.dtype.str, value.shape, value.tobytes()
        found = self._interned.get(key)
        if found is None:
            found = self._interned[key] = self._names.unique(_constant_name(value))
            self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), found))
        return found

    def scalar(self, value: float | bool, dtype: DType) -> str:
        """A constant of rank 0."""
        return self.array(np.asarray(value, dtype.numpy))

    def ints(self, *values: int) -> str:
        """A constant i64[n]."""
        return self.array(np.asarray(values, np.int64))

    def extent(self, dim: Dim) -> str:
        """The run-time size of an extent, i64[]."""
        if isinstance(dim, int):
            return self.scalar(dim, DType.I64)
        found = self._extents.get(str(dim))
        if found is None:
            found = self._extents[str(dim)] = self._measured(dim)
        return found

    def _measured(self, dim: Sym) -> str:
        if len(dim.factors) > 1:
            return self._product(dim)
        rows = f"{dim.name}+1"  # of a ragged value whose offsets alone tell their number
        source = symbol_source(self._arguments, dim.name)
        index, axis, scale = source or symbol_source(self._arguments, rows) or (-1, 0, 0)
        if index < 0:
            raise TargetError(
                f"no input of the function tells the size {dim.name}", hint="fix the size: compile with --batch"
            )
        before = self._op, self._prefix
        self._op, self._prefix = None, str(dim)
        name = self._arguments[index].input
        scope = self._prologue
        (size,) = self._add(scope, "Shape", 1, [name], attributes={"start": axis, "end": axis + 1})
        (size,) = self._add(scope, "Squeeze", 1, [size, self.ints(0)])
        if source is None:
            (size,) = self._add(scope, "Sub", 1, [size, self.scalar(1, DType.I64)])
        shared = math.gcd(scale, dim.scale)
        if scale != shared:
            (size,) = self._add(scope, "Div", 1, [size, self.scalar(scale // shared, DType.I64)])
        if dim.scale != shared:
            (size,) = self._add(scope, "Mul", 1, [size, self.scalar(dim.scale // shared, DType.I64)])
        self._op, self._prefix = before
        return size

    def _product(self, dim: Sym) -> str:
        """A product of open extents."""
        sizes = [self.extent(Sym(name)) for name in dim.factors]
        before = self._op, self._prefix
        self._op, self._prefix = None, str(dim)
        size = self.scalar(dim.scale, DType.I64)
        for factor in sizes:
            (size,) = self._add(self._prologue, "Mul", 1, [size, factor])
        self._op, self._prefix = before
        return size

    def shape(self, shape: Shape) -> str:
        """A shape as i64[rank]."""
        if not any(isinstance(dim, Sym) for dim in shape):
            return self.ints(*static_shape(shape))
        parts = [
            self.ints(dim) if isinstance(dim, int) else self.node("Unsqueeze", self.extent(dim), self.ints(0))
            for dim in shape
        ]
        return self.node("Concat", *parts, axis=0) if len(parts) > 1 else parts[0]

    def reshape(self, x: str, shape: Shape) -> str:
        """``x`` in another shape."""
        open_dims = [dim for dim in shape if isinstance(dim, Sym)]
        if len(open_dims) == 1 and 0 not in shape:
            return self.node("Reshape", x, self.ints(*(-1 if isinstance(dim, Sym) else dim for dim in shape)))
        return self.node("Reshape", x, self.shape(shape), allowzero=1 if 0 in shape or open_dims else None)

    def expand(self, x: str, shape: Shape) -> str:
        """``x`` broadcast to ``shape``."""
        return self.node("Expand", x, self.shape(shape))

    def cast(self, x: str, dtype: DType) -> str:
        """``x`` converted to ``dtype``."""
        return self.node("Cast", x, to=ELEMENT_TYPES[dtype])

    def full(self, shape: Shape, value: float | bool, dtype: DType) -> str:
        """A tensor whose elements are all ``value``."""
        if not shape:
            return self.scalar(value, dtype)
        filler = numpy_helper.from_array(np.full((1,), value, dtype.numpy))
        return self.node("ConstantOfShape", self.shape(shape), value=filler)

    # -- regions ------------------------------------------------------------------------------------------------

    def graph(
        self,
        parameters: Sequence[tuple[str, TensorType]],
        results: Sequence[TensorType],
        body: Callable[..., Sequence[str]],
    ) -> OnnxGraph:
        """A nested graph."""
        scope = Scope()
        self._scopes.append(scope)
        names = [self._names.unique(f"{self._prefix}/{hint}") for hint, _ in parameters]
        try:
            found = list(body(*names))
            made = {output for node in scope.nodes for output in node.output}
            used: set[str] = set()
            for i, name in enumerate(found):
                # The outputs of a nested graph are made in it, each under a name of its own.
                if name not in made or name in used:
                    found[i] = self.node("Identity", name)
                used.add(found[i])
        finally:
            self._scopes.pop()
        inputs = [value_info(name, kind) for name, (_, kind) in zip(names, parameters, strict=True)]
        outputs = [value_info(name, kind) for name, kind in zip(found, results, strict=True)]
        infos = [info for name, info in scope.infos.items() if name not in found]
        graph: GraphProto = helper.make_graph(
            scope.nodes, self._names.unique(f"{self._prefix}/body"), inputs, outputs, value_info=infos
        )
        return graph

    def inline(self, region: Region, arguments: Sequence[OnnxValue]) -> tuple[OnnxValue, ...]:
        """The nodes of a region's ops, on ``arguments``; returns what it yields."""
        for parameter, name in zip(region.params, arguments, strict=True):
            self._env[parameter] = name
        self.ops(region.ops)
        return tuple(self._env[value] for value in region.results)

    # -- random bits --------------------------------------------------------------------------------------------

    def keystream(
        self, key: str, draw: str, *, domain: int, tensor: int, blocks: Dim, window: Window | None = None
    ) -> str:
        """ChaCha20 words, u32[16 * blocks], of one stream."""
        if self._self_contained:
            first = self.scalar(0, DType.I64) if window is None else self._first_block(window)
            return self._call(noise.chacha20(), key, draw, first, self.extent(blocks), purpose=domain, tensor=tensor)
        positions = {argument.input: i for i, argument in enumerate(self._arguments)}
        wanted = [key, draw] if window is None else [key, draw, window.row]
        if not all(name in positions for name in wanted):
            raise TargetError(
                "random numbers inside a loop need another key in every step, which the onnx target does not have",
                where=self._op.loc.place if self._op is not None else None,
                hint="draw them before the loop, write a self-contained file, or use another target",
            )
        stream = Stream(
            self._names.unique(f"@bits/{domain}/{tensor}"),
            positions[key], positions[draw], domain, tensor, blocks,
            None if window is None else (positions[window.row], window.part, window.group, window.per),
        )  # fmt: skip
        same = next((s for s in self.streams if s.same_words(stream)), None)
        if same is not None:
            return same.input
        self.streams.append(stream)
        return stream.input

    def _first_block(self, window: Window) -> str:
        start = self.node("Mul", window.row, self.scalar(window.part, DType.I64))
        group = self.node("Div", start, self.scalar(window.group, DType.I64))
        return self.node("Mul", group, self.scalar(window.per, DType.I64))

    def normals(self, words: str, count: Dim) -> str:
        """The first ``count`` standard normals of keystream words."""
        return self._call(noise.normals(), words, self.extent(count))

    def _call(self, functions: Sequence[FunctionProto], *inputs: str, **attributes: Any) -> str:
        """A node that calls the first of some local functions; the others are those that it calls."""
        function, *_ = functions
        if all(known.name != function.name for known in self.functions):
            self.functions.extend(functions)
        return self.node(function.name, *inputs, domain=function.domain, **attributes)


def symbol_source(arguments: Sequence[Argument], symbol: str) -> tuple[int, int, int] | None:
    """Where the size of a symbol is read: number of the argument, its axis, and the scale it has there; or None."""
    for index, argument in enumerate(arguments):
        for axis, dim in enumerate(argument.type.shape):
            if isinstance(dim, Sym) and dim.name == symbol:
                return index, axis, dim.scale
    return None


def _constant_name(value: NDArray[Any]) -> str:
    """What a constant is called: its number or numbers where they are few."""
    if value.size > 4:
        return f"constant{list(value.shape)}"
    listed = ",".join(f"{number:g}" if value.dtype.kind == "f" else str(number) for number in value.reshape(-1))
    return f"[{listed}]" if value.ndim else listed
