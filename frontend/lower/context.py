"""What the lowering of one function knows: values by name, state read and written, parameters, outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...compiler.errors import FluidcError, LoweringError, VerifyError
from ...compiler.ir.core import Output, Param, Role, StateDecl, StateName, StateRole, Value
from ...compiler.ir.location import Loc
from ...compiler.ir.types import Dim, DType, RaggedType, Shape, Sym, TensorType
from ...compiler.ops import ragged
from ...compiler.ops.construct import OpBuilder
from ...compiler.ops.grad import ClipGradient, StopGradient
from ...compiler.ops.state import Read, Write
from ..framework import AttrValue, Block, Operator, Program
from ..host_types import HOST_TYPES
from ..lod import LENGTHS, OUTER
from ..reach import NO_GRADIENT
from ..variable import Parameter, Variable
from ..vartype import VarType
from .held import Held, uniform
from .known import Known
from .lengths import Sizes

Array: TypeAlias = NDArray[np.generic]
BATCH = Sym("N")

_UNFIT = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, AssertionError, MemoryError)
"""What a rule raises for attributes that no layer of ours records."""


def dtype_of(kind: VarType) -> DType:
    """The IR's element type; raises LoweringError for one it does not have."""
    try:
        return DType.of(kind.numpy)
    except KeyError:
        raise LoweringError(f"element type {kind.numpy.name} cannot be compiled", hint="cast to int32") from None


@dataclass
class Shared:
    """What a whole module shares between its functions.

    Attributes:
        state: Declared variables by name.
        initial: Values of state given as arrays, which no function makes.
        ranges: Integer feeds with their range of valid values ``[low, high)``.
    """

    state: dict[str, StateDecl] = field(default_factory=dict)
    initial: dict[str, Array] = field(default_factory=dict)
    ranges: dict[str, tuple[int, int]] = field(default_factory=dict)

    def declare(self, var: Variable, role: StateRole) -> StateDecl:
        """The state variable for a persistable Variable; a more telling role replaces ``variable``."""
        kind = TensorType(dtype_of(var.dtype), fixed_shape(var))
        trainable = isinstance(var, Parameter) and var.trainable and not var.stop_gradient
        if isinstance(var, Parameter) and role == "variable":
            role = "parameter"
        old = self.state.get(var.name)
        if old is not None and old.type != kind:
            raise LoweringError(
                f"{var.name} is {old.type} in one program and {kind} in another",
                hint="programs that share a variable must agree on its shape and type",
            )
        if old is None or (old.role == "variable" and role != "variable"):
            self.state[var.name] = StateDecl(var.name, kind, role=role, trainable=trainable)
        elif trainable and not old.trainable:
            self.state[var.name] = StateDecl(var.name, kind, role=old.role, trainable=True)
        return self.state[var.name]

    def freeze_all_but(self, trained: Iterable[str]) -> None:
        """Mark only the variables named ``trained`` as trainable."""
        names = set(trained)
        for name, decl in self.state.items():
            self.state[name] = replace(decl, trainable=name in names)

    def constant(self, name: str, array: Array) -> StateDecl:
        """A read-only variable that holds an array of the program."""
        decl = StateDecl(name, TensorType(DType.of(array.dtype), array.shape))
        self.state[name] = decl
        self.initial[name] = array
        return decl


def fixed_shape(var: Variable) -> tuple[int, ...]:
    """The shape of a Variable that must not depend on what is fed."""
    if any(d < 0 for d in var.shape):
        raise LoweringError(
            f"{var.name} is persistable but has the open shape {list(var.shape)}", hint="give it a fixed shape"
        )
    return var.shape


class FunctionLowering:
    """Lowers the ops of one program into one function.

    Attributes:
        b: Collects the ops.
        env: The latest value of every name; ``history`` has the earlier ones, too.
        known: Names whose values are known already; they become values of ``env`` when they are read as such.
        sizes: Of sequences, as far as they follow from what is fed.
        private: The program's backward is private.
        initialises: The function gives state its first values.
    """

    def __init__(
        self,
        shared: Shared,
        program: Program,
        feeds: Mapping[str, TensorType],
        rules: Rules,
        *,
        private: bool = False,
        initialises: bool = False,
    ) -> None:
        self.shared = shared
        self.program = program
        self.rules = rules
        self.private = private
        self.initialises = initialises
        self.b = OpBuilder()
        self.env: dict[str, Value] = {}
        self.known: dict[str, Known] = {}
        self.params: list[Param] = []
        self.written: dict[str, Value] = {}
        self.reads: dict[str, Value] = {}
        self.history: dict[str, list[Value]] = {}
        self.held = Held()
        self._streams = 0
        self.sizes = Sizes(self.params)
        self._error_clips: dict[str, tuple[float, float]] = {
            name: (low, high)
            for op in program.global_block().ops
            if op.type == "backward"
            for name, low, high in op.attr("error_clip")
        }
        for name, kind in feeds.items():
            self.give(name, kind)
        self._divide([name.removesuffix(LENGTHS) for name in feeds if name.endswith(LENGTHS)])

    def give(self, name: str, kind: TensorType) -> None:
        """Have a name fed."""
        value = Value(kind, name)
        self.params.append(Param(name, value, "feed"))
        self.env[name] = value
        self.history[name] = [value]

    def _divide(self, feeds: Sequence[str]) -> None:
        """Divide the rows of what is fed as sequences; those with one symbol have the same lengths, which are read of
        the first."""
        first: dict[Dim, str] = {}
        for name in feeds:
            rows = self.env[name]
            known = first.setdefault(rows.tensor.shape[0], name)
            divided = self.env[name] = self.b(ragged.FromLengths(rows, self.env[known + LENGTHS]), name)
            self.history[name] = [divided]
            if name + OUTER in self.env:
                self.sizes.outer[self.env[known + LENGTHS]] = self.env[known + OUTER]

    def run(self, ops: Iterable[Operator]) -> None:
        """Lower ops of the global block, in program order."""
        for op in ops:
            self.lower(op, Frame(self, self.program.global_block(), self.b))

    def lower(self, op: Operator, frame: Frame) -> None:
        """Lower one op of a block."""
        rule = frame.instead.get(id(op)) or self.rules.get(op.type)
        if rule is None and op.type in HOST_TYPES:
            raise LoweringError(
                f"{op.loc.layer or op.type}: {op.type} is not compiled, but run on the host by an Executor "
                f"({HOST_TYPES[op.type]})",
                where=op.loc.place,
                hint="leave it out of what is compiled: fetch what it reads, and compute with that",
            )
        if rule is None:
            raise LoweringError(
                f"{op.loc.layer or op.type}: the op {op.type} cannot be compiled yet",
                where=op.loc.place,
                hint="leave the layer out, or write it with other layers",
            )
        with frame.b.at(Loc(op.loc.file, op.loc.line, op.loc.layer or op.type)):
            try:
                rule(OpLowering(self, op, frame))
            except (VerifyError, LoweringError) as error:  # the op was not yet told its line
                error.where = error.where or op.loc.place
                raise
            except FluidcError:
                raise
            except _UNFIT as error:
                if not self.program.foreign_names:
                    raise
                raise LoweringError(
                    f"{op.type} has inputs or attributes that it does not take: {error}",
                    where=op.loc.place,
                    hint="the file of the program is damaged, or of a version with another form of this op",
                ) from error

    def read(self, name: str) -> Value | None:
        """The value of a name at this point: computed, fed, or read from state; None if there is none."""
        if name in self.env:
            return self.env[name]
        if name in self.known:
            value = self.env[name] = self._at_run_time(name, self.known[name])
            self.history[name] = [value]
            return value
        var = self.program.global_block().vars.get(name)
        if var is None or not var.persistable or not var.has_dtype:
            return None
        decl = self.shared.declare(var, "variable")
        value = self.b(Read(StateName(name), decl.type), name)
        self.env[name] = self.reads[name] = value
        self.history[name] = [value]
        return value

    def write(self, name: str, value: Value) -> None:
        """Give a name its new value; a persistable one reaches the state at the end of the function."""
        if name in self._error_clips and not isinstance(value.type, RaggedType):
            value = self.b(ClipGradient(value, *self._error_clips[name]), name)
        self.env[name] = value
        self.history.setdefault(name, []).append(value)
        var = self.program.global_block().vars.get(name)
        if self.initialises and value is self.reads.get(name):
            return  # the array that it begins with
        if var is not None and var.persistable and not var.is_data:
            decl = self.shared.declare(var, "variable")
            if value.type != decl.type:
                raise LoweringError(
                    f"{name} holds {decl.type}, but {value.type} is written into it",
                    hint="a persistable variable keeps its shape and type; reshape or cast before assigning",
                )
            self.written[name] = value

    def constant(self, name: str, array: Array) -> Value:
        """An array that the program states: one fill if all elements agree, else read-only state."""
        kind = TensorType(DType.of(array.dtype), array.shape)
        flat = array.reshape(-1)
        if flat.size and bool(np.all(flat == flat[0])):
            return self.b.fill(kind.shape, kind.dtype, flat[0].item())
        # A name may be assigned several arrays, one after the other: each is state of its own.
        first = name not in self.env and name not in self.shared.initial
        if self.initialises and first and name in self.shared.state and self.shared.state[name].type == kind:
            # What a variable begins with needs no second variable to hold it.
            self.shared.initial[name] = array
            self.reads[name] = self.b(Read(StateName(name), kind), name)
            return self.reads[name]
        held, number = name, 0
        while held in self.reads or held in self.shared.state:
            same = held in self.shared.initial and np.array_equal(self.shared.initial[held], array)
            if same and held in self.reads:
                return self.reads[held]
            if same:
                break
            number += 1
            held = f"{name}@{number}"
        decl = self.shared.constant(held, array)
        self.reads[held] = self.b(Read(StateName(held), decl.type), name)
        return self.reads[held]

    def _at_run_time(self, name: str, known: Known) -> Value:
        if not known.symbolic:
            return self.constant(name, known.array)
        each = [self.b.reshape(self.b.extent(dim, known.dtype), (1,)) for dim in known.array.flat]
        return self.b.reshape(self.b.concat(each, 0), known.shape)

    def generator(self) -> tuple[Value, Value, int]:
        """Key, counter and a stream of its own for one random op; asks the caller for key and counter."""
        key = self.key()
        counter = self._param("rng_counter", TensorType(DType.U64, ()))
        self._streams += 1
        return key, counter, self._streams - 1

    def key(self) -> Value:
        """The key of the model's random numbers, u32[8]; asks the caller for it."""
        return self._param("rng_key", TensorType(DType.U32, (8,)))

    def clock(self) -> Value:
        """Seconds since 1970, u64[]; asks the runtime for them."""
        return self._param("clock", TensorType(DType.U64, ()))

    def longest(self, value: Value) -> Dim:
        """The size of the longest sequence of a ragged value, or the largest of integers (`Sizes.longest`)."""
        return self.sizes.longest(value)

    def _param(self, role: Role, kind: TensorType) -> Value:
        for param in self.params:
            if param.role == role:
                return param.value
        value = Value(kind, role)
        self.params.append(Param(role, value, role))
        return value

    def fetched(self, name: str, value: Value) -> list[Output]:
        """The outputs for a fetch: the value, or of sequences their rows and lengths."""
        if isinstance(value.type, TensorType):
            return [Output(name, value)]
        found = [Output(name, self.b(ragged.Data(value))), Output(name + LENGTHS, self.b(ragged.Lengths(value)))]
        outer = self.sizes.groups(value)
        return found if outer is None else [*found, Output(name + OUTER, outer)]

    def finish(self) -> None:
        """Write what changed, in the order of the names."""
        for name in sorted(self.written):
            self.b.emit(Write(self.written[name], StateName(name)))


MaskOf: TypeAlias = Callable[[TensorType, float, str], Value]


class Frame:
    """Where a block is lowered: its builder, and the values of the names it sees.

    The global block reads and writes the function's names; the body of a loop or branch has only what it was
    given, since regions capture nothing.
    """

    def __init__(
        self,
        function: FunctionLowering,
        block: Block,
        b: OpBuilder,
        local: dict[str, Value] | None = None,
        mask: MaskOf | None = None,
        held: Held | None = None,
        instead: Mapping[int, Rule] | None = None,
    ) -> None:
        self.function = function
        self.block = block
        self.b = b
        self.local = local
        self.mask = mask  # what a step of a loop reads of a dropout mask that is drawn before the loop
        self.held = (function.held if local is None else Held()) if held is None else held
        self.instead = {} if instead is None else instead  # rules of single ops, by their ids

    def read(self, name: str) -> Value | None:
        """The value of a name, or None."""
        found = self.function.read(name) if self.local is None else self.local.get(name)
        if found is None and name in self.held.ranked:
            return self.held.ranked[name].sorted(self.b)
        return found

    def write(self, name: str, value: Value) -> None:
        """Give a name its new value."""
        self.held.ranked.pop(name, None)
        self.held.split.pop(name, None)
        if self.local is None:
            self.function.write(name, value)
        else:
            self.local[name] = self._stopped(name, value)

    def _stopped(self, name: str, value: Value) -> Value:
        """``value``, from which no gradient flows back where the block's Variable says so."""
        var = self.block.vars.get(name)
        if var is None or not var.stop_gradient or not value.type.dtype.is_float or uniform(value):
            return value
        if isinstance(value.type, RaggedType):
            return self.b(ragged.Like(self.b(StopGradient(self.b(ragged.Data(value)))), value))
        return self.b(StopGradient(value))


class OpLowering:
    """One op on its way into the IR: its arguments as values, its attributes, its results."""

    def __init__(self, function: FunctionLowering, op: Operator, frame: Frame) -> None:
        self.function = function
        self.op = op
        self.frame = frame
        self._rows: Value | None = None
        self._seen: Value | None = None

    @property
    def b(self) -> OpBuilder:
        return self.frame.b

    @property
    def layer(self) -> str:
        """The layer as the user wrote it."""
        return self.op.loc.layer or self.op.type

    def error(self, what: str, hint: str) -> LoweringError:
        """An error at the user's line."""
        return LoweringError(f"{self.layer}: {what}", where=self.op.loc.place, hint=hint)

    def value(self, name: str) -> Value:
        """The value of a name that the op reads."""
        found = self.frame.read(name)
        if found is None:
            if name in self.frame.held.split:
                raise self.error(
                    f"{name} holds some rows of a batch, and how many is known only when the program runs",
                    "read it inside the block of an IfElse that it was split for, or give both blocks an output",
                )
            var = self.frame.block.find_var_recursive(name)
            if var is not None and var.is_data:
                raise self.error(f"{name} is read but not fed", f"feed it: feed={{'{name}': ...}}")
            raise self.error(
                f"{name} is read before anything writes it", "give it a value first, or make it persistable"
            )
        return found

    def has(self, slot: str) -> bool:
        return bool(self.op.input(slot))

    def ins(self, slot: str) -> list[Value]:
        """All values in a slot."""
        return [self.value(name) for name in self.op.input(slot)]

    def any(self, slot: str) -> Value:
        """The only value in a slot, dense or ragged; no gradient flows through what fluid takes as given there."""
        names = self.op.input(slot)
        if len(names) != 1:
            raise self.error(f"slot {slot} holds {len(names)} variables", "it takes exactly one")
        found = self.value(names[0])
        if slot in NO_GRADIENT.get(self.op.type, ()) and not isinstance(found.type, RaggedType):
            var = self.frame.block.find_var_recursive(names[0])
            if found.type.dtype.is_float and not (var is not None and var.stop_gradient):
                return self.b(StopGradient(found))
        return found

    def x(self, slot: str = "X") -> Value:
        """The only value in a slot, dense: of sequences all their rows, as fluid's ops see them.

        A result that the program declares with sequences has those of the first such operand.
        """
        found = self.any(slot)
        if isinstance(found.type, RaggedType):
            self._seen = self._seen or found
            return self.b(ragged.Data(found))
        return found

    def xs(self, slot: str = "X") -> list[Value]:
        """All values in a slot, as `x` gives them."""
        found = self.ins(slot)
        self._seen = self._seen or next((v for v in found if isinstance(v.type, RaggedType)), None)
        return [self.b(ragged.Data(v)) if isinstance(v.type, RaggedType) else v for v in found]

    def tokens(self, slot: str = "X") -> Value:
        """The only value in a slot; of sequences all their rows, and `set` divides the result again."""
        found = self.any(slot)
        if isinstance(found.type, RaggedType):
            self._rows = found
            return self.b(ragged.Data(found))
        return found

    def apart(self) -> None:
        """Have `set` leave the result as it is, though its operand was sequences."""
        self._rows = None

    def optional(self, slot: str) -> Value | None:
        """The value in a slot that may be empty."""
        return self.x(slot) if self.has(slot) else None

    def attr(self, name: str, default: AttrValue = None) -> AttrValue:
        """An attribute, or its default where the record lacks it."""
        return self.op.attrs.get(name, default)

    def set(self, value: Value, slot: str = "Out") -> None:
        """Give the result in ``slot`` its value; nothing happens if the record does not name it."""
        if self._rows is not None and not isinstance(value.type, RaggedType):
            value = self.b(ragged.Like(value, self._rows))
        self.set_all([value] if self.op.output(slot) else [], slot)

    def set_all(self, values: Sequence[Value], slot: str = "Out") -> None:
        """Give the results in ``slot`` their values, in order."""
        for name, value in zip(self.op.output(slot), map(self._divided, self.op.output(slot), values), strict=True):
            if value.op is not None and not value.hint:
                value.hint = name
            self.frame.write(name, value)

    def _divided(self, name: str, value: Value) -> Value:
        """A result, divided as an operand was that the rule took for dense, if the program declares sequences."""
        if self._seen is None or isinstance(value.type, RaggedType):
            return value
        var = self.frame.block.find_var_recursive(name)
        tokens = self._seen.ragged.data.shape[0]
        if var is None or not var.lod_level or value.tensor.shape[:1] != (tokens,):
            return value
        return self.b(ragged.Like(value, self._seen))

    def variable(self, slot: str = "Out") -> Variable:
        """The Variable that a result slot names."""
        name = self.op.output(slot)[0]
        found = self.frame.block.find_var_recursive(name)
        assert found is not None
        return found

    def axes(self, x: Value, dims: Iterable[int]) -> tuple[int, ...]:
        """Axes counted from the front."""
        return tuple(d % max(x.tensor.rank, 1) for d in dims)

    def one(self, x: Value) -> Value:
        """A number as fluid has it, of shape [1]."""
        return self.b.reshape(x, (1,))

    def number(self, x: Value) -> Value:
        """A Variable of one element as a number of rank 0."""
        return self.b.reshape(x, ())

    def shape(self, extents: Iterable[int], like: Value | None = None, axis: int = 0) -> Shape:
        """A shape of the program: fixed extents, and one -1 that is ``like``'s extent on ``axis``."""
        found: list[Dim] = []
        for d in extents:
            if d >= 0:
                found.append(d)
            elif like is not None:
                found.append(like.tensor.shape[axis])
            else:
                raise self.error(f"shape {list(extents)} is open", "give all extents")
        return tuple(found)


Rule: TypeAlias = Callable[[OpLowering], None]
Rules: TypeAlias = Mapping[str, Rule]
