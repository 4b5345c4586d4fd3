"""The IR: values, ops, regions, functions, modules.  Nothing here knows an op by name.

Ops are frozen dataclasses.  What a field is follows from its annotation:

    Value, Value | None, tuple[Value, ...]    operands, in field order
    Region                                    a body; what it reads it takes as parameters, nothing is captured
    anything else                             an attribute (int, float, bool, str, DType, Shape, tuples, None)

Passes never change an op: they build new functions (``Op.clone``), sharing what stays the same.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cache
from typing import ClassVar, Literal, Self, TypeAlias

from .location import UNKNOWN, Loc
from .stage import Stage
from .types import Label, RaggedType, TensorType, Type


class Value:
    """One SSA value: the result of an op, or a parameter of a function or region (then ``op`` is None)."""

    __slots__ = ("hint", "index", "label", "op", "type")

    def __init__(self, type: Type, hint: str = "", op: OpBase | None = None, index: int = 0) -> None:
        self.type = type
        self.hint = hint
        self.op = op
        self.index = index
        self.label: Label | None = None

    @property
    def tensor(self) -> TensorType:
        """The type, for callers that handle dense tensors only; raises TypeError for a ragged value."""
        if isinstance(self.type, RaggedType):
            raise TypeError(f"a dense tensor is expected here, not {self.type}")
        return self.type

    @property
    def ragged(self) -> RaggedType:
        """The type of a ragged value; raises TypeError for a dense one."""
        if isinstance(self.type, TensorType):
            raise TypeError(f"a ragged value is expected here, not {self.type}")
        return self.type

    def __repr__(self) -> str:
        return f"%{self.hint or '?'}: {self.type}"


@dataclass(frozen=True, eq=False)
class Region:
    """A body with its own parameters; ``results`` are what it yields."""

    params: tuple[Value, ...]
    ops: tuple[OpBase, ...]
    results: tuple[Value, ...]

    def reads(self, value: Value) -> bool:
        """Whether an op of the region reads ``value``, or the region yields it."""
        return value in self.results or any(value in op.operands for op in self.ops)


class StateName(str):
    """Attribute: the name of a module's state variable, printed ``@fc_0.w_0``."""

    __slots__ = ()


NO_STATE = StateName("")


class Field(typing.NamedTuple):
    """One declared field of an op class, classified by its annotation."""

    name: str
    kind: Literal["operand", "optional", "variadic", "region", "attribute"]
    annotation: object
    default: object  # dataclasses.MISSING when there is none


@cache
def fields_of(cls: type[OpBase]) -> tuple[Field, ...]:
    """The operand, region and attribute fields of an op class, in declaration order."""
    hints = typing.get_type_hints(cls)
    found: list[Field] = []
    for declared in fields(cls):
        if declared.name in ("loc", "results"):
            continue
        annotation = hints[declared.name]
        found.append(Field(declared.name, _kind(annotation), annotation, declared.default))
    return tuple(found)


def _kind(annotation: object) -> Literal["operand", "optional", "variadic", "region", "attribute"]:
    if annotation is Value:
        return "operand"
    if annotation is Region:
        return "region"
    args = typing.get_args(annotation)
    if isinstance(annotation, types.UnionType) and Value in args:
        return "optional"
    if typing.get_origin(annotation) is tuple and args and args[0] is Value:
        return "variadic"
    return "attribute"


@dataclass(frozen=True, eq=False)
class OpBase:
    """An operation.  ``name`` is its spelling in IR text; results are typed by ``infer`` when it is built."""

    name: ClassVar[str]
    results: tuple[Value, ...] = field(init=False, repr=False)
    loc: Loc = field(default=UNKNOWN, kw_only=True)

    def __post_init__(self) -> None:
        inferred = self.infer()
        kinds = inferred if isinstance(inferred, tuple) else (inferred,)
        values = tuple(Value(kind, op=self, index=i) for i, kind in enumerate(kinds))
        object.__setattr__(self, "results", values)

    def infer(self) -> Type | tuple[Type, ...]:
        """Result types from operand types and attributes; raises VerifyError when they do not fit."""
        raise NotImplementedError(self.name)

    @property
    def result(self) -> Value:
        """The result of an op that has exactly one."""
        (value,) = self.results
        return value

    @property
    def operands(self) -> tuple[Value, ...]:
        """Every value the op reads, in field order; absent optional operands are left out."""
        found: list[Value] = []
        for spec in fields_of(type(self)):
            value = getattr(self, spec.name)
            if spec.kind == "variadic":
                found.extend(value)
            elif spec.kind in ("operand", "optional") and value is not None:
                found.append(value)
        return tuple(found)

    @property
    def regions(self) -> tuple[Region, ...]:
        return tuple(getattr(self, f.name) for f in fields_of(type(self)) if f.kind == "region")

    def attributes(self) -> Iterator[tuple[str, object]]:
        """``(name, value)`` of every attribute that differs from its default."""
        for spec in fields_of(type(self)):
            if spec.kind == "attribute":
                value = getattr(self, spec.name)
                if spec.default is MISSING or value != spec.default:
                    yield spec.name, value

    def clone(self, mapping: Mapping[Value, Value], loc: Loc | None = None, **fields: object) -> Self:
        """The same op on other operands, with ``fields`` replaced; hints of its results carry over."""
        changed: dict[str, object] = {}
        for spec in fields_of(type(self)):
            value = getattr(self, spec.name)
            if spec.kind == "variadic":
                changed[spec.name] = tuple(mapping.get(v, v) for v in value)
            elif spec.kind in ("operand", "optional") and value is not None:
                changed[spec.name] = mapping.get(value, value)
        op = replace(self, loc=loc or self.loc, **(changed | fields))
        for new, old in zip(op.results, self.results, strict=False):
            new.hint = old.hint
        return op


@dataclass(frozen=True, eq=False)
class Param:
    """An input of a function.

    ``role`` says who supplies it: ``feed`` (the caller, under ``name``), ``mask`` (bool[N], live rows of a
    padded batch), ``key`` (u32[8]) and ``draw`` (u64[]) of the noise, ``noise`` (i64, of the shape of the parameter
    called ``name``: integer noise drawn by the runtime), ``rng_key`` (u32[8]) and ``rng_counter`` (u64[]) of model
    randomness, ``row`` (i64[]) the index in the lot of the batch's first row, ``phase`` (i64[]) the index of the
    step's phase of training, ``clock`` (u64[], seconds since 1970), ``extent`` (bool[S] of any content: the runtime
    gives it the size S that the rule ``name`` makes of the feeds, ``runtime.extents``).
    """

    name: str
    value: Value
    role: Role = "feed"


Role = Literal["feed", "mask", "key", "draw", "noise", "rng_key", "rng_counter", "row", "phase", "clock", "extent"]
Combine = Literal["last", "mean", "sum", "rows"]


@dataclass(frozen=True, eq=False)
class Output:
    """A fetch.  ``combine`` says how the values of several micro-batches of one lot become one:
    the ``last`` one, their ``mean`` weighted by live rows, their ``sum``, or their ``rows`` concatenated."""

    name: str
    value: Value
    combine: Combine = "last"


@dataclass(frozen=True, eq=False)
class Function:
    """A list of ops in SSA order.  State is read and written by ops (``state.read``, ``state.write``)."""

    name: str
    params: tuple[Param, ...]
    ops: tuple[OpBase, ...]
    outputs: tuple[Output, ...]

    def param(self, role: Role) -> Value | None:
        """The parameter with a role other than ``feed``, if the function has it."""
        return next((p.value for p in self.params if p.role == role), None)


StateKind = Literal["model", "diagnostic", "lot"]
StateRole = Literal["parameter", "optimizer", "learning_rate", "statistic", "counter", "accumulator", "variable"]


@dataclass(frozen=True)
class StateDecl:
    """A variable that outlives a step.  ``model`` state is exported and feeds the next step;
    ``diagnostic`` state (metric counters) may hold unprivatised values and never flows back; ``lot`` state holds
    the clipped sums of a lot between its micro-batches and is never exported."""

    name: str
    type: TensorType
    kind: StateKind = "model"
    role: StateRole = "variable"
    trainable: bool = False


PhaseConstants: TypeAlias = tuple[int, float, float]
"""A phase of training: number of its steps, sigma, L."""


@dataclass(frozen=True)
class PrivacyConfig:
    """The public constants of a private step that the compiler writes into ops (privacy documentation §1).

    Attributes:
        clip: C, the bound on the 2-norm of one example's gradient over all trainable parameters. With groups it is the
            joint bound sqrt(sum C_k^2); of quantile clipping it is where the bound starts.
        lot: L, the divisor of the noisy sum.
        sigma: Noise multiplier that is accounted.
        mechanism: gaussian, discrete or paddle.
        clipping: flat, per-group, automatic or quantile.
        slack: Share by which float sums may exceed C.
        grid_bits: k of the integer grid C / 2^k of the mechanism discrete; 0 for the others.
        public_feeds: Feeds that hold no private data.
        groups: Per-group clipping: the parameters of each group; every trainable parameter is in exactly one.
        clips: Per-group clipping: C_k of each group.
        gamma: Automatic clipping: c = C / (norm + gamma).
        bound: Quantile clipping: the state variable that holds C_t, f32[1], a public value; "" otherwise.
        quantile: Quantile clipping: the share of examples whose norm is to be below C_t.
        eta: Quantile clipping: the rate of the geometric update of C_t.
        sigma_b: Quantile clipping: standard deviation of the noise on the count of such examples.
        c_min: Quantile clipping: the least C_t.
        c_max: Quantile clipping: the greatest C_t.
        phases: Training in phases: steps, sigma and L of each, in their order; ``sigma`` and ``lot`` are the first's.
    """

    clip: float
    lot: float
    sigma: float
    mechanism: str = "gaussian"
    clipping: str = "flat"
    slack: float = 2.0**-10
    public_feeds: tuple[str, ...] = ()
    groups: tuple[tuple[StateName, ...], ...] = ()
    clips: tuple[float, ...] = ()
    gamma: float = 0.0
    bound: StateName = NO_STATE
    quantile: float = 0.0
    eta: float = 0.0
    sigma_b: float = 0.0
    c_min: float = 0.0
    c_max: float = 0.0
    grid_bits: int = 0
    phases: tuple[PhaseConstants, ...] = ()

    @property
    def sigmas(self) -> tuple[float, ...]:
        """Sigma of each phase; empty without phases."""
        return tuple(sigma for _, sigma, _ in self.phases)

    @property
    def lots(self) -> tuple[float, ...]:
        """L of each phase; empty without phases."""
        return tuple(lot for *_, lot in self.phases)

    @property
    def largest_lot(self) -> float:
        """The largest L of all phases."""
        return max((self.lot, *self.lots))


@dataclass(frozen=True, eq=False)
class Module:
    """State declarations and the functions over them, all at one stage."""

    stage: Stage
    state: tuple[StateDecl, ...]
    functions: tuple[Function, ...]
    privacy: PrivacyConfig | None = None
    proof: tuple[str, ...] = ()

    def function(self, name: str) -> Function:
        """The function called ``name``; raises KeyError."""
        for function in self.functions:
            if function.name == name:
                return function
        raise KeyError(name)

    def has_function(self, name: str) -> bool:
        return any(function.name == name for function in self.functions)

    def declaration(self, name: str) -> StateDecl:
        """The state variable called ``name``; raises KeyError."""
        for decl in self.state:
            if decl.name == name:
                return decl
        raise KeyError(name)

    def map_functions(self, change: Callable[[Function], Function], stage: Stage | None = None) -> Module:
        """This module with every function passed through ``change``."""
        functions = tuple(change(function) for function in self.functions)
        return replace(self, functions=functions, stage=self.stage if stage is None else stage)


def walk(ops: Iterable[OpBase]) -> Iterator[OpBase]:
    """Every op, regions included, in program order (an op comes before the ops of its regions)."""
    for op in ops:
        yield op
        for region in op.regions:
            yield from walk(region.ops)


def users(ops: Iterable[OpBase]) -> dict[Value, list[OpBase]]:
    """For every value the ops that read it, in program order (region bodies read only their own values)."""
    found: dict[Value, list[OpBase]] = {}
    for op in ops:
        for value in dict.fromkeys(op.operands):
            found.setdefault(value, []).append(op)
    return found
