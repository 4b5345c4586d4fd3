"""From a checked graph to ops, Variables and parameters of a fluid Program."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from ....compiler.errors import FluidcError
from ....compiler.ir.core import OpBase, Value
from ....compiler.ir.types import Dim, DType, Sym, TensorType
from ....compiler.ops.construct import OpBuilder
from ... import unique_name
from ...errors import invalid
from ...framework import Block, Operator, Program, default_main_program, default_startup_program, program_guard
from ...initializer import NumpyArrayInitializer
from ...lower.context import BATCH, Frame, FunctionLowering, Shared
from ...lower.module import rules
from ...lower.onnx import PREFIX
from ...lower.onnx import RULES as ONNX_RULES
from ...lower.onnx.missing import MISSING
from ...source import SourceLocation, user_location
from ...variable import Parameter, Variable
from .errors import OnnxError
from .graph import Graph, Input, Node, graph_of
from .reading import read_model
from .tensors import MOST_ELEMENTS, TensorReader
from .weights import statistics, weights

Shapes: TypeAlias = Mapping[str, Sequence[int | None]]
Inputs: TypeAlias = Mapping[str, "Variable | NDArray[Any]"]

MOST_OPS = 10_000
"""Ops of the IR that one node may become."""

MOST_MODEL_OPS = 1 << 18
"""Ops of the IR that all nodes may become."""

MOST_MADE = 1 << 29
"""Bytes of constants that nodes may become: ranges, places and weights of resized axes."""

_CHANGES = ("Dropout", "BatchNormalization")
"""Ops that may do something else in a clone for testing."""


class OnnxModel(NamedTuple):
    """An imported model.

    Attributes:
        program: Where its ops are.
        feeds: Its inputs, in the file's order: data variables, or the Variables given for them.
        outputs: Its results, in the file's order.
        parameters: What can be trained of it.
        startup: The program that gives the parameters the values of the file.
    """

    program: Program
    feeds: list[Variable]
    outputs: list[Variable]
    parameters: list[Parameter]
    startup: Program


def load_onnx(
    path: str | os.PathLike[str],
    *,
    inputs: Inputs | None = None,
    shapes: Shapes | None = None,
    trainable: str | Sequence[str] | None = None,
    where: SourceLocation | None = None,
) -> OnnxModel:
    """Append the layers of an ONNX file to the default main program; see `fluid.io.load_onnx`.

    Args:
        path, inputs, shapes, trainable: As there.
        where: What its ops say they come from, the user's line if None.
    """
    file = Path(path)
    model = read_model(file)
    tensors = TensorReader(str(file), file.parent)
    return _build(model, tensors, inputs or {}, shapes or {}, trainable, where or user_location())


def import_model(
    model: ModelProto,
    *,
    inputs: Inputs | None = None,
    shapes: Shapes | None = None,
    trainable: str | Sequence[str] | None = None,
) -> OnnxModel:
    """A parsed model as a Program of its own; the arguments are those of `load_onnx`."""
    tensors = TensorReader(model.graph.name or "the model", None)
    with program_guard(Program(), Program()), unique_name.guard():
        return _build(model, tensors, inputs or {}, shapes or {}, trainable, user_location())


def _build(
    model: ModelProto,
    tensors: TensorReader,
    inputs: Inputs,
    shapes: Shapes,
    trainable: str | Sequence[str] | None,
    where: SourceLocation,
) -> OnnxModel:
    importable = [*(name.removeprefix(PREFIX) for name in ONNX_RULES), "If"]
    graph = graph_of(model, tensors, importable, MISSING)
    builder = _Builder(graph, tensors.source, where)
    with _undone_where_refused(builder.program.global_block(), builder.startup.global_block()):
        return builder.build(inputs, shapes, trainable)


@contextmanager
def _undone_where_refused(*blocks: Block) -> Iterator[None]:
    """Leave the blocks as they were if an error is raised: the user states what was missing, and loads again."""
    before = [(block, list(block.ops), dict(block.vars)) for block in blocks]
    try:
        yield
    except BaseException:
        for block, ops, variables in before:
            block.ops[:] = ops
            block.vars.clear()
            block.vars.update(variables)
            block.program.edited()
        raise


class _Bounded(OpBuilder):
    """Refuses nodes that are written with more ops than anybody can have meant."""

    bound = 0

    def emit(self, op: OpBase, *hints: str) -> tuple[Value, ...]:
        if len(self.ops) >= MOST_MODEL_OPS:
            raise OverflowError(f"with it the model takes more than {MOST_MODEL_OPS} ops")
        if len(self.ops) >= self.bound:
            raise OverflowError(f"it takes more than {MOST_OPS} ops")
        return super().emit(op, *hints)


class _Builder:
    """Builds one graph into the default programs."""

    def __init__(self, graph: Graph, source: str, where: SourceLocation) -> None:
        self.graph = graph
        self.source = source
        self.where = where
        self.program = default_main_program()
        self.startup = default_startup_program()
        self.block: Block = self.program.current_block()
        self.vars: dict[str, Variable] = {}  # by ONNX name
        self.opened = False  # an extent that the file fixes was left open
        self.made = 0  # bytes of constants that nodes became
        self.seen = 0  # constants of the lowering that are counted
        self.lowering = FunctionLowering(Shared(), self.program, {}, rules())
        self.lowering.b = self.ops = _Bounded()

    def build(self, inputs: Inputs, shapes: Shapes, trainable: str | Sequence[str] | None) -> OnnxModel:
        """Append everything."""
        if self.block.idx:
            raise invalid(
                "load_onnx: a model cannot be loaded inside of a loop or branch",
                "load it before, and use its outputs there",
            )
        self._check_names("inputs", inputs)
        self._check_names("shapes", shapes)
        feeds: list[Variable] = []
        for each in self.graph.inputs:
            given = inputs.get(each.name)
            if isinstance(given, Variable) or given is None:
                feeds.append(self._feed(each, given, shapes.get(each.name)))
            else:
                array = np.asarray(given)
                self._check_given(each, array.dtype, array.shape)
                self._constant(each.name, array)
        moving = statistics(self.graph)
        chosen = weights(self.graph, trainable, self.where.place) - moving
        parameters: list[Parameter] = []
        for name, array in self.graph.initial.items():
            if name in chosen:
                parameters.append(self._parameter(name, array))
            elif name in moving:
                self._parameter(name, array, trainable=False)
            else:
                self._constant(name, array)
        for node in self.graph.nodes:
            self._record(node)
        outputs = [self.vars[name] for name in self.graph.outputs]
        if self.opened:
            for var in outputs:
                self._check_batch(var)
        return OnnxModel(self.program, feeds, outputs, parameters, self.startup)

    def _check_names(self, argument: str, given: Mapping[str, Any]) -> None:
        names = [each.name for each in self.graph.inputs]
        for name in given:
            if name not in names:
                raise OnnxError(
                    f"load_onnx: {argument} names {name!r}, which is no input of the model",
                    self.where.place,
                    f"its inputs are {', '.join(names) or 'none'}",
                )

    # Variables ----------------------------------------------------------------------------------------

    def _name(self, onnx_name: str) -> str:
        """A name for a Variable: the file's, where it is one and not yet taken."""
        name = re.sub(r"[^\w./:\-]", "_", onnx_name)[:200] or "value"
        taken = self.program.global_block().vars, self.startup.global_block().vars, self.block.vars
        found = name
        while any(found in names for names in taken):
            found = unique_name.generate(name)
        unique_name.reserve(found)  # layers that follow would take a variable of the name for their own
        return found

    def _feed(self, each: Input, given: Variable | None, stated: Sequence[int | None] | None) -> Variable:
        if given is not None:
            self._check_given(each, given.dtype.numpy, given.shape)
            self._bind(each.name, given, self._type(each, given.shape, each.dtype))
            return given
        shape = [d if isinstance(d, int) else -1 for d in each.shape]
        if stated is not None:
            wanted = [-1 if d is None else d for d in stated]
            pairs = list(zip(shape, wanted))
            integers = all(isinstance(d, int | np.integer) and d >= -1 for d in wanted)
            disagree = any(-1 not in (have, want) and have != want for have, want in pairs)
            if not integers or len(wanted) != len(shape) or disagree:
                raise OnnxError(
                    f"load_onnx: the shape {list(stated)} does not fit the input {each.name}, which has {shape}",
                    self.where.place,
                    "state one extent per axis, None for the batch, and keep those that the model fixes",
                )
            self.opened |= any(want == -1 != have for have, want in pairs)
            shape = [int(d) for d in wanted]
        var = self.block.create_var(
            name=self._name(each.name),
            shape=shape,
            dtype=each.dtype,
            is_data=True,
            need_check_feed=True,
            stop_gradient=True,
        )
        self._bind(each.name, var, self._type(each, shape, each.dtype))
        return var

    def _check_given(self, each: Input, dtype: np.dtype[Any], shape: Sequence[int]) -> None:
        """Refuse what is given for an input that takes something else."""
        fits = len(shape) == len(each.shape) and all(
            d in (-1, want) for d, want in zip(shape, each.shape) if isinstance(want, int)
        )
        if dtype != each.dtype or not fits:
            wanted = ", ".join("?" if d is None else str(d) for d in each.shape)
            raise OnnxError(
                f"load_onnx: the input {each.name} is {each.dtype}[{wanted}], but {dtype}{list(shape)} is given for it",
                self.where.place,
                "cast or reshape it first",
            )

    def _type(self, each: Input, shape: Sequence[int], dtype: np.dtype[Any]) -> TensorType:
        """The type of an input while it is imported: the batch is N, every other open extent a symbol of its own."""
        dims: list[Dim] = []
        for axis, (extent, name) in enumerate(zip(shape, each.shape, strict=True)):
            if extent >= 0:
                dims.append(extent)
            elif axis == 0 or sum(d < 0 for d in shape) == 1:
                dims.append(BATCH)
            else:
                found = re.sub(r"\W", "_", name) if isinstance(name, str) else f"{each.name}_{axis}"
                dims.append(Sym(found if found != BATCH.name else f"{found}_"))
        self._check_size(each.name, dims)
        return TensorType(DType.of(dtype), tuple(dims))

    def _bind(self, onnx_name: str, var: Variable, kind: TensorType) -> None:
        self.vars[onnx_name] = var
        self.lowering.give(var.name, kind)

    def _parameter(self, onnx_name: str, array: NDArray[Any], *, trainable: bool = True) -> Parameter:
        """A parameter of both programs; the startup program gives it its value."""
        name = self._name(onnx_name)
        block = self.startup.global_block()
        twin = block.create_parameter(array.shape, array.dtype, name, trainable=trainable)
        NumpyArrayInitializer(array)(twin, block).loc = self.where
        parameter = self.program.global_block().create_parameter(
            array.shape, array.dtype, name, trainable=trainable, stop_gradient=not trainable
        )
        self.vars[onnx_name] = parameter
        return parameter

    def _constant(self, onnx_name: str, array: NDArray[Any]) -> None:
        self._record(Node("Constant", f"Constant {onnx_name}", 1, {}, {"output": [onnx_name]}, {"value": array}))

    # Ops ----------------------------------------------------------------------------------------------

    def _record(self, node: Node) -> None:
        """Append the op of one node, and learn the shapes and types of its results by lowering it."""
        if node.branches:
            self._choose(node)
            return
        inputs = {slot: [self.vars[name] for name in names] for slot, names in node.inputs.items()}
        outputs = {slot: [self._result(node, slot, name) for name in names] for slot, names in node.outputs.items()}
        attrs = {**node.attrs, "version": node.version}
        if node.op_type in _CHANGES:
            attrs["is_test"] = False
        op = self.block.append_op(PREFIX + node.op_type, inputs, outputs, attrs)
        number = len(self.block.ops) if not self.where.line else 0  # a file has nodes in place of lines
        op.loc = SourceLocation(self.where.file, self.where.line or number, node.label)
        self.ops.bound = len(self.ops.ops) + MOST_OPS
        try:
            self.lowering.lower(op, Frame(self.lowering, self.block, self.lowering.b))
        except FluidcError:
            raise
        except (ValueError, TypeError, IndexError, ArithmeticError, AssertionError, KeyError, MemoryError) as error:
            raise OnnxError(
                f"{node.label} has inputs or attributes that its operator does not take: {error}",
                self.source,
                "check the model: python -c 'import onnx; onnx.checker.check_model(PATH, full_check=True)'",
            ) from None
        for var in (var for found in outputs.values() for var in found):
            if not var.persistable:
                self._learn(var, op)
        self._check_made(node, outputs)

    def _choose(self, node: Node) -> None:
        """Append the branch that an ``If`` takes: the condition must be known."""
        (name,) = node.inputs["cond"]
        known = self.lowering.known.get(self.vars[name].name)
        if known is None or known.array.size != 1:
            raise OnnxError(
                f"the condition of {node.label} is computed by the model",
                self.source,
                "export the model with its branches resolved; what follows from shapes and constants is resolved here",
            )
        branch = node.branches["then_branch" if known.array.reshape(-1)[0] else "else_branch"]
        around = dict(self.vars)
        for inner, array in branch.initial.items():
            self._constant(inner, array)
        for each in branch.nodes:
            self._record(each)
        (outputs,) = node.outputs.values()
        if len(branch.outputs) != len(outputs):
            raise OnnxError(
                f"the branches of {node.label} have other outputs than it", self.source, "correct the model"
            )
        # Names of the branch end with it.
        self.vars = around | {outer: self.vars[inner] for outer, inner in zip(outputs, branch.outputs)}

    def _result(self, node: Node, slot: str, onnx_name: str) -> Variable:
        """The Variable of an output; moved statistics are the Variable of the statistics before."""
        before = node.inputs.get(slot.replace("running", "input"), [])
        if node.op_type == "BatchNormalization" and slot.startswith("running") and self.vars[before[0]].persistable:
            var = self.vars[before[0]]
        else:
            var = self.block.create_var(name=self._name(onnx_name), stop_gradient=node.op_type == "Constant")
        self.vars[onnx_name] = var
        return var

    def _learn(self, var: Variable, op: Operator) -> None:
        known = self.lowering.known.get(var.name)
        value = self.lowering.env.get(var.name)
        if known is not None:
            kind = TensorType(known.dtype, known.shape)
        elif value is not None:
            kind = value.tensor
        else:
            raise OnnxError(
                f"{op.loc.layer}: the output {var.name} is not computed by the import", self.source, "leave it out"
            )
        self._check_size(var.name, kind.shape)
        try:
            var.set_dtype(kind.dtype.numpy)
        except FluidcError:
            raise OnnxError(
                f"{op.loc.layer} gives {kind}", self.source, "fluid has no Variables of this type"
            ) from None
        var.shape = [d if isinstance(d, int) else -1 for d in kind.shape]

    def _check_batch(self, var: Variable) -> None:
        """Refuse an output without the batch: the model was written for rows of a fixed number."""
        value = self.lowering.env.get(var.name)
        if value is None or not any(isinstance(d, Sym) and d.scale == 1 for d in value.tensor.shape):
            found = "a constant" if value is None else value.type
            raise OnnxError(
                f"with an open batch the output {var.name} would be {found}: the model is written for its own batch",
                self.source,
                "export it with a dynamic batch: dynamic_shapes, or dynamic_axes, of torch.onnx.export",
            )

    def _check_made(self, node: Node, outputs: Mapping[str, Sequence[Variable]]) -> None:
        """Refuse what takes too much memory together, though every node by itself does not."""
        if node.op_type == "Constant":
            return  # numbers of the file
        known = [self.lowering.known.get(var.name) for found in outputs.values() for var in found]
        self.made += sum(each.array.nbytes for each in known if each is not None)
        initial = self.lowering.shared.initial
        if len(initial) > self.seen:  # known values are counted already, where they are not those of the file
            new = list(initial)[self.seen :]
            self.made += sum(initial[name].nbytes for name in new if name not in self.lowering.known)
            self.seen = len(initial)
        if self.made > MOST_MADE:
            raise OnnxError(
                f"with {node.label} the constants that are computed while importing take more than {MOST_MADE} bytes",
                self.source,
                "compute them before they are fed, or import a part of the model",
            )

    def _check_size(self, name: str, shape: Sequence[Dim]) -> None:
        size = 1
        for d in shape:
            size *= d if isinstance(d, int) else d.scale
        listed = ", ".join(map(str, shape))
        if any(isinstance(d, int) and d < 0 for d in shape):
            raise OnnxError(f"{name} would have the shape [{listed}]", self.source, "an extent is at least 0")
        if size > MOST_ELEMENTS:
            raise OnnxError(
                f"{name} would have the shape [{listed}]", self.source, f"at most {MOST_ELEMENTS} elements are imported"
            )
