"""Running records: equal structures share one compiled function, bound to the memory at hand."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import NamedTuple

import numpy as np

from ...compiler.codegen.target import BuildOptions
from ...compiler.driver import Compiled, compile_source
from ...compiler.ir.types import DType, TensorType
from ...runtime.engine import Buffer, Engine, aligned_zeros
from ...runtime.errors import DataError, FluidcError
from ...runtime.keystream import seeded_key
from ...runtime.stepper import Stepper
from ..framework import Operator, Program
from ..lower import BATCH, lower
from ..vartype import convert_dtype
from .graph import Array, Cell, Node, Record, told_of
from .signatures import COUNTER

CACHED_PLANS = 256
EXACT_SIZES = 2
"""Batch sizes of a structure that get code of their own; after that one build serves all sizes."""
CACHED_STEPPERS = 8
VALUE = "value@"
"""What the names of values begin with that are no state."""
_HINT = "correct the data, or the sizes of the layer that reads it"
SMALL = 1 << 20
"""Elements of all values of a structure that numpy handles faster than a compiler starts."""


class Encoding(NamedTuple):
    """Records as numbers.

    Values are numbered as they occur; ``structure`` is the same for records that do the same on state of the same
    types, and ``key`` if what is fed has the same types, too.

    Attributes:
        names: The number of every value.
        feeds: Values that are read and known; ``arrays``: what they are.
        cells: State that is read or written.
        wanted: Results that the user holds.
        written: State that is written.
        size: Elements of all values.
    """

    key: Hashable
    structure: Hashable
    names: dict[Node, int]
    feeds: list[Node]
    arrays: list[Array]
    cells: dict[Cell, int]
    wanted: list[Node]
    written: list[Cell]
    size: int


@dataclass
class Plan:
    """A structure as a compiled function.

    Attributes:
        feeds, states, fetches: Names of what it reads, of its state and of its results, in the order of the encoding.
        places: Feed name to the user's line that first read such a feed.
        code: What was compiled, and the engine that runs it; none before the first run.
        is_final: The code is of the target that was asked for.
        steppers: The code on the buffers of cells.
    """

    feeds: list[str]
    states: list[str]
    fetches: list[str]
    places: dict[str, str]
    code: tuple[Compiled, Engine] | None = None
    is_final: bool = False
    steppers: OrderedDict[tuple[int, ...], tuple[Stepper, list[Buffer]]] = field(
        default_factory=OrderedDict[tuple[int, ...], tuple[Stepper, list[Buffer]]]
    )


class Execution:
    """Compiles structures when they are first met, and runs them.

    What is small runs in numpy when it is met for the first time: values are there at once, and what turns out to be
    a loop is compiled the second time.

    Attributes:
        compiled: Functions compiled so far for the target that was asked for.
    """

    def __init__(self) -> None:
        self.compiled = 0
        self._fresh = os.urandom(32)
        self._plans: OrderedDict[Hashable, Plan] = OrderedDict()
        self._sizes: dict[Hashable, set[int]] = {}
        self._fixed: set[Hashable] = set()

    def run(self, records: list[Record], target: str, seed: int) -> None:
        """Run ``records``, which is emptied, and give their results values.

        ``seed`` is that of the random numbers; 0 draws fresh ones.

        Raises:
            FluidcError: Something cannot be compiled or does not fit; state is as it was.
        """
        encoding = encode(records)
        plan = self._plan(records, encoding, target)
        feeds = dict(zip(plan.feeds, encoding.arrays, strict=True))
        told = {name: told_of(node) for name, node in zip(plan.feeds, encoding.feeds, strict=True)}
        cells, wanted, written = list(encoding.cells), encoding.wanted, encoding.written
        overwritten = [(cell, cell.in_memory()) for cell in written]
        leave(records)
        # Whatever of the graph nobody needs is gone with these; older versions of state that live on are needed.
        records.clear()
        del encoding
        for cell, versions in overwritten:
            cell.keep(versions)
        stepper = bound(plan, cells)
        stepper.seed(seeded_key(seed, "model") if seed else self._fresh)
        try:
            values = stepper.run("step", feeds)
        except DataError as error:
            name = next((name for name in told if f"'{name}'" in error.what), "")
            what = error.what.replace(f"feed '{name}'", told.get(name, name))
            raise DataError(what, plan.places.get(name) or error.where or "", _HINT) from None
        for name, node in zip(plan.fetches, wanted, strict=True):
            node.value = values.get(name)  # scratch results of an op have no value

    def _plan(self, records: Sequence[Record], encoding: Encoding, target: str) -> Plan:
        """The plan for these records: of their very sizes, or of any batch where those keep changing."""
        exact = (target, encoding.key)
        plan = self._plans.get(exact)
        if plan is None:
            plan = self._of_any_batch(records, encoding, target)
        if plan is None or not plan.is_final:
            plan = self._plans[exact] = self._compiled(records, encoding, target, plan is None)
        if exact in self._plans:
            self._plans.move_to_end(exact)
        while len(self._plans) > CACHED_PLANS:
            self._plans.popitem(last=False)
        return plan

    def _of_any_batch(self, records: Sequence[Record], encoding: Encoding, target: str) -> Plan | None:
        """A plan that takes any number of rows, once a structure has met `EXACT_SIZES` numbers and meets another."""
        rows = _rows(encoding.arrays)
        if rows is None:
            return None
        types = tuple([(array.dtype.char, _opened(array.shape, rows)) for array in encoding.arrays])
        question = (target, encoding.structure, types)
        plan = self._plans.get(question)
        if plan is not None:
            self._plans.move_to_end(question)
            return plan
        seen = self._sizes.setdefault(question, set())
        if rows not in seen and len(seen) < EXACT_SIZES:
            seen.add(rows)
        if rows in seen or question in self._fixed:
            return None
        try:
            plan = self._compiled(records, encoding, target, False, rows)
        except FluidcError:  # something in it depends on the number of rows; the sizes at hand always work
            self._fixed.add(question)
            return None
        self._plans[question] = plan
        return plan

    def _compiled(
        self, records: Sequence[Record], encoding: Encoding, target: str, is_first: bool, rows: int | None = None
    ) -> Plan:
        """Compile records; ``rows`` is the batch that becomes symbolic, None keeps all sizes as they are."""
        program, made = program_of(records, encoding, rows)
        types: dict[str, TensorType] = {}
        for name, array in zip(made.feeds, encoding.arrays, strict=True):
            extents = _opened(array.shape, rows)
            types[name] = TensorType(DType.of(array.dtype), tuple(BATCH if d < 0 else d for d in extents))
        source = lower(program, fetches=made.fetches, feed_types=types, skip_unknown=True)
        # What reads nothing gives first values, once for each model.
        slots = {slot for record in records for slot, nodes in record.inputs if nodes}
        made.is_final = not (is_first and encoding.size < SMALL) or slots <= {COUNTER} or target == "reference"
        chosen = target if made.is_final and not slots <= {COUNTER} else "reference"
        # The number of a draw is a value here, of which only words in the graph can be made.
        options = BuildOptions(self_contained=target == "onnx" and COUNTER in slots)
        compiled = compile_source(source, target=chosen, options=options)
        made.code = compiled, compiled.built.engine()
        self.compiled += chosen == target
        return made


def encode(records: Sequence[Record]) -> Encoding:
    """Records as numbers: equal ones for equal structures."""
    names: dict[Node, int] = {}
    key: list[Hashable] = []
    types: list[Hashable] = []
    feeds: list[Node] = []
    arrays: list[Array] = []
    cells: dict[Cell, int] = {}
    made: list[Node] = []
    written: dict[Cell, None] = {}
    size = 0
    for record in records:
        key.append(record.signature)
        for _, nodes in record.inputs:
            for node in nodes:
                number = names.get(node)
                if number is None:
                    number = names[node] = len(names)
                    array = node.value
                    if array is not None:
                        feeds.append(node)
                        arrays.append(array)
                        types.append((array.dtype.char, array.shape))
                    else:
                        assert node.cell is not None
                        key.append(_number(node.cell, cells, key))
                    size += prod(node.shape)
                key.append(number)
        for _, refs in record.outputs:
            for ref in refs:
                node = ref()
                if node is None:
                    key.append(-1)
                    continue
                number = names[node] = len(names)
                key.append(number)
                size += prod(node.shape)
                if node.cell is not None:
                    key.append(_number(node.cell, cells, key))
                    written[node.cell] = None
                else:
                    made.append(node)
        if record.type == "backward":
            key.append(("stops", *sorted(names[node] for node in record.stops if node in names)))
    wanted = [node for node in made if node.is_held]
    key.append(tuple([names[node] for node in wanted]))
    structure = tuple(key)
    return Encoding((structure, tuple(types)), structure, names, feeds, arrays, cells, wanted, list(written), size)


def _number(cell: Cell, cells: dict[Cell, int], key: list[Hashable]) -> Hashable:
    """The number of a cell; its type becomes part of the key when it is first met."""
    number = cells.get(cell)
    if number is None:
        number = cells[cell] = len(cells)
        home = cell.buffer.home
        key.append((home.dtype.char, home.shape, cell.parameter, cell.trainable))
    return ("state", number)


def leave(records: Sequence[Record]) -> None:
    """Note that the records ran, and give up what no gradient will need.

    State then holds the last version that they write.  Those between can only be computed again.
    """
    last: dict[Cell, Node] = {}
    for record in records:
        record.has_run = True
        for _, refs in record.outputs:
            for node in (ref() for ref in refs):
                if node is not None and node.cell is not None:
                    last[node.cell] = node
                elif node is not None and node.is_held and not node.needs_grad:
                    node.producer = None
    for node in last.values():
        node.producer = None


def _rows(arrays: Sequence[Array]) -> int | None:
    """The batch: the one first extent of all arrays that have more than one row; None without such."""
    found = {array.shape[0] for array in arrays if array.ndim and array.shape[0] > 1}
    return found.pop() if len(found) == 1 else None


def _opened(shape: Sequence[int], rows: int | None) -> tuple[int, ...]:
    """``shape`` with -1 in front where that is the batch."""
    return (-1, *shape[1:]) if rows is not None and shape and shape[0] == rows else tuple(shape)


def program_of(records: Sequence[Record], encoding: Encoding, rows: int | None) -> tuple[Program, Plan]:
    """The records as a static program; the first extents that are ``rows`` are open in it."""
    program = Program()
    block = program.global_block()
    names = encoding.names
    states: list[str] = []
    taken: set[str] = set()
    for cell in encoding.cells:
        # Neither the name of another cell, nor one that `name_of` gives.
        own = cell.name not in taken and not cell.name.startswith(VALUE)
        name = cell.name if own else f"{cell.name}@{len(taken)}"
        taken.add(name)
        states.append(name)
        home = cell.buffer.home
        kind = convert_dtype(home.dtype)
        if cell.parameter:
            block.create_parameter(home.shape, kind, name, trainable=cell.trainable)
        else:
            block.create_var(name=name, shape=home.shape, dtype=kind, persistable=True)
    number_of = {cell: i for i, cell in enumerate(encoding.cells)}

    def name_of(node: Node) -> str:
        if node.cell is not None and node.value is None:
            return states[number_of[node.cell]]
        return f"{VALUE}{names[node]}"

    for node in names:
        if node.cell is None or node.value is not None:
            kind = node.dtype if node.value is None else convert_dtype(node.value.dtype)
            shape = _opened(node.shape if node.value is None else node.value.shape, rows)
            block.create_var(name=name_of(node), shape=shape, dtype=kind, is_data=node.value is not None)
    places: dict[str, str] = {}
    for number, record in enumerate(records):
        inputs = {slot: [name_of(node) for node in nodes] for slot, nodes in record.inputs if nodes}
        for slot_names in inputs.values():
            for name in slot_names:
                places.setdefault(name, record.loc.place)
        outputs: dict[str, list[str]] = {}
        for slot, refs in record.outputs:
            found = [ref() for ref in refs]
            outputs[slot] = [f"dead{number}.{slot}.{i}" if n is None else name_of(n) for i, n in enumerate(found)]
        attrs = dict(record.attrs)
        if record.type == "backward":
            wrt = dict(record.inputs)["Wrt"]
            attrs["parameters"] = [name_of(n) for n in wrt if n.cell is not None and n.cell.parameter]
            attrs["no_grad_set"] = [name_of(n) for n in record.stops if n in names]
            inputs.setdefault("TargetGradients", [])
        block.ops.append(Operator(block, record.type, inputs, outputs, attrs, record.loc, record.role))
    feeds = [name_of(node) for node in encoding.feeds]
    return program, Plan(feeds, states, [name_of(node) for node in encoding.wanted], places)


def bound(plan: Plan, cells: Sequence[Cell]) -> Stepper:
    """The plan's code on the buffers of ``cells``."""
    assert plan.code is not None
    question = tuple([id(cell.buffer) for cell in cells])
    found = plan.steppers.get(question)
    if found is None:
        compiled, engine = plan.code
        buffers = {name: cell.buffer for name, cell in zip(plan.states, cells, strict=True)}
        for spec in compiled.manifest.state:
            if spec.name not in buffers:  # an array that the records state
                own = Buffer(aligned_zeros(spec.shape, np.dtype(DType(spec.dtype).numpy)))
                if spec.name in compiled.source.initial:
                    own.put(compiled.source.initial[spec.name])
                buffers[spec.name] = own
        # The buffers are kept with it, so that their identities stay theirs.
        found = plan.steppers[question] = Stepper(compiled.manifest, engine, buffers), [c.buffer for c in cells]
        if len(plan.steppers) > CACHED_STEPPERS:
            plan.steppers.popitem(last=False)
    return found[0]
