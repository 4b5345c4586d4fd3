"""The manifest of an artifact: everything about a compiled program but its code and its numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Literal, get_args

import numpy as np

from .errors import ArtifactError
from .extents import Rule
from .fields import Fields, Json
from .ledger_records import Position
from .privacy import PrivacySpec

FORMAT_VERSION = 1

Dtype = Literal["f32", "f64", "f16", "bf16", "i8", "i32", "i64", "u8", "u32", "u64", "bool"]
Shape = tuple[int | str, ...]
"""Each dim a size or a symbol; the batch dim is "N"."""

TargetKind = Literal["cpu", "reference", "onnx", "cuda"]
FeedRole = Literal["data", "public"]
StateKind = Literal["model", "diagnostic", "lot"]
StateRole = Literal["parameter", "optimizer", "learning_rate", "statistic", "counter", "accumulator", "variable"]
BindingKind = Literal[
    "state", "feed", "mask", "key", "draw", "noise", "rng_key", "rng_counter", "row", "phase", "clock", "extent"
]
OutputKind = Literal["fetch", "state"]
Combine = Literal["none", "mean", "sum", "rows"]

DTYPES: tuple[Dtype, ...] = get_args(Dtype)

MAX_STATE_BYTES = 1 << 46
"""Of all state together: more than a process can address on most machines."""

MAX_ROWS = 1 << 31
"""Of a batch."""

_NUMPY_NAMES: dict[Dtype, str] = {
    "f32": "float32",
    "f64": "float64",
    "f16": "float16",
    "i8": "int8",
    "i32": "int32",
    "i64": "int64",
    "u8": "uint8",
    "u32": "uint32",
    "u64": "uint64",
    "bool": "bool",
}
_INTEGERS: tuple[Dtype, ...] = ("i8", "i32", "i64", "u8", "u32", "u64")
_ANONYMOUS: tuple[BindingKind, ...] = ("mask", "key", "draw", "rng_key", "rng_counter", "row", "phase", "clock")


def numpy_dtype(dtype: Dtype, where: str) -> np.dtype[np.generic]:
    """The numpy dtype of ``dtype``. Raises ArtifactError for bf16, which numpy lacks."""
    if dtype not in _NUMPY_NAMES:
        raise ArtifactError(
            f"numpy has no dtype for {dtype}", where, "keep this value in f32 and cast inside the program"
        )
    return np.dtype(_NUMPY_NAMES[dtype])


def dtype_name(dtype: np.dtype[np.generic], where: str) -> Dtype:
    """The name here of a numpy dtype. Raises ArtifactError for one that programs do not have."""
    for name, spelled in _NUMPY_NAMES.items():
        if dtype == np.dtype(spelled):
            return name
    known = ", ".join(_NUMPY_NAMES.values())
    raise ArtifactError(f"the dtype {dtype} is not supported", where, f"use one of {known}")


@dataclass(frozen=True)
class TargetSpec:
    """The machine the code was made for.

    Attributes:
        kind: which engine executes it.
        triple: LLVM triple, or empty where the code is portable.
        cpu: name of the processor (``x86-64-v3``), of ``cuda`` the one beside the GPU, or empty.
        features: instruction sets the code uses, as the operating system names them.
        threads: threads that its loops are cut for; it runs on any number.  0 where nothing is cut.
        architectures: chips of ``cuda`` that there is code for: machine code (``sm_90``), and PTX that the driver
            compiles for later ones (``compute_90``).
        tf32: whether products of f32 on ``cuda`` may round their factors to TF32.
    """

    kind: TargetKind
    triple: str
    cpu: str
    features: tuple[str, ...]
    threads: int = 0
    architectures: tuple[str, ...] = ()
    tf32: bool = False

    def to_json(self) -> Json:
        """The JSON object of docs/artifact.md."""
        return {
            "kind": self.kind,
            "triple": self.triple,
            "cpu": self.cpu,
            "features": self.features,
            "threads": self.threads,
            "architectures": self.architectures,
            "tf32": self.tf32,
        }

    @classmethod
    def from_json(cls, fields: Fields) -> TargetSpec:
        """Read a target. Raises ArtifactError."""
        return cls(
            fields.choice("kind", get_args(TargetKind)),
            fields.text("triple", empty=True),
            fields.text("cpu", empty=True),
            fields.texts("features"),
            fields.integer("threads"),
            fields.texts("architectures"),
            fields.truth("tf32"),
        )


@dataclass(frozen=True)
class FeedSpec:
    """One array the caller supplies per step.

    Attributes:
        name: the data variable.
        dtype: its element type.
        shape: sizes and symbols.
        low: least value allowed, or None; integers only.
        high: first value no longer allowed, or None; integers only.
        role: ``data`` has one row per example; ``public`` was declared the same for all and not secret.
    """

    name: str
    dtype: Dtype
    shape: Shape
    low: int | None = None
    high: int | None = None
    role: FeedRole = "data"

    def to_json(self) -> Json:
        """The JSON object of docs/artifact.md."""
        return {
            "name": self.name,
            "dtype": self.dtype,
            "shape": self.shape,
            "low": self.low,
            "high": self.high,
            "role": self.role,
        }

    @classmethod
    def from_json(cls, fields: Fields) -> FeedSpec:
        """Read a feed. Raises ArtifactError."""
        return cls(
            fields.text("name"),
            fields.choice("dtype", DTYPES),
            fields.dims("shape"),
            fields.optional_integer("low", -(1 << 63)),
            fields.optional_integer("high", -(1 << 63), (1 << 64)),
            fields.choice("role", get_args(FeedRole)),
        )


@dataclass(frozen=True)
class StateSpec:
    """One array that lives from step to step.

    Attributes:
        name: the persistable variable.
        dtype: its element type.
        shape: sizes; state has no symbols.
        kind: ``model``, ``diagnostic`` (metric counters), or ``lot`` (the sums of a lot under way); only model
            state is ever exported, the others are NOT PRIVATE.
        trainable: whether the optimizer updates it.
        role: what it is for.
    """

    name: str
    dtype: Dtype
    shape: tuple[int, ...]
    kind: StateKind
    trainable: bool
    role: StateRole

    def to_json(self) -> Json:
        """The JSON object of docs/artifact.md."""
        return {
            "name": self.name,
            "dtype": self.dtype,
            "shape": self.shape,
            "kind": self.kind,
            "trainable": self.trainable,
            "role": self.role,
        }

    @classmethod
    def from_json(cls, fields: Fields) -> StateSpec:
        """Read a state declaration. Raises ArtifactError."""
        name, dtype = fields.text("name"), fields.choice("dtype", DTYPES)
        dims = fields.dims("shape")
        shape = tuple(dim for dim in dims if isinstance(dim, int))
        if len(shape) != len(dims):
            fields.fail("shape", f"the state {name!r} has a symbolic size")
        return cls(
            name,
            dtype,
            shape,
            fields.choice("kind", get_args(StateKind)),
            fields.truth("trainable"),
            fields.choice("role", get_args(StateRole)),
        )


@dataclass(frozen=True)
class Binding:
    """Where one input of a function comes from.

    ``state`` and ``feed`` carry a name. The others are made by the runtime: ``mask`` is bool[N], true for real rows;
    ``key`` u32[8] is the fresh noise key and ``draw`` u64[] the number of the noise draw; ``noise`` is integer noise
    for the parameter that it names, i64 of its shape; ``rng_key`` and ``rng_counter`` drive initialisers and dropout,
    and in private steps ``row`` i64[] is the index in the lot of the batch's first row; ``phase`` i64[] is the index of
    the step's phase of training; ``clock`` u64[] is the time in seconds since 1970; ``extent`` is bool[S] of any
    content, whose size S follows the rule that is its name (`extents.Rule`). The others have an empty name.
    """

    kind: BindingKind
    name: str = ""

    def to_json(self) -> Json:
        """The JSON object of docs/artifact.md."""
        return {"kind": self.kind, "name": self.name}

    @classmethod
    def from_json(cls, fields: Fields) -> Binding:
        """Read a binding. Raises ArtifactError."""
        return cls(fields.choice("kind", get_args(BindingKind)), fields.text("name", empty=True))


@dataclass(frozen=True)
class OutputSpec:
    """Where one output of a function goes.

    Attributes:
        kind: ``fetch`` is shown to the caller, ``state`` is written back.
        name: variable fetched or state written.
        dtype: its element type.
        shape: sizes and symbols.
        combine: how the micro-batches of one lot are put together: ``mean`` weighted by real rows, ``sum``,
            ``rows`` one after the other, ``none`` the last one (all state).
        not_private: the value depends on single examples without noise; shown as NOT PRIVATE.
    """

    kind: OutputKind
    name: str
    dtype: Dtype
    shape: Shape
    combine: Combine = "none"
    not_private: bool = False

    def to_json(self) -> Json:
        """The JSON object of docs/artifact.md."""
        return {
            "kind": self.kind,
            "name": self.name,
            "dtype": self.dtype,
            "shape": self.shape,
            "combine": self.combine,
            "not_private": self.not_private,
        }

    @classmethod
    def from_json(cls, fields: Fields) -> OutputSpec:
        """Read an output. Raises ArtifactError."""
        return cls(
            fields.choice("kind", get_args(OutputKind)),
            fields.text("name"),
            fields.choice("dtype", DTYPES),
            fields.dims("shape"),
            fields.choice("combine", get_args(Combine)),
            fields.truth("not_private"),
        )


@dataclass(frozen=True)
class FunctionSpec:
    """One compiled function: ``startup``, ``step``, ``infer``, ``accumulate`` or ``apply``.

    ``inputs`` and ``outputs`` are in the order of the compiled function's arguments and results.
    """

    name: str
    inputs: tuple[Binding, ...]
    outputs: tuple[OutputSpec, ...]

    def to_json(self) -> Json:
        """The JSON object of docs/artifact.md."""
        return {
            "name": self.name,
            "inputs": [binding.to_json() for binding in self.inputs],
            "outputs": [output.to_json() for output in self.outputs],
        }

    @classmethod
    def from_json(cls, fields: Fields) -> FunctionSpec:
        """Read a function. Raises ArtifactError."""
        return cls(
            fields.text("name"),
            fields.records("inputs", Binding.from_json),
            fields.records("outputs", OutputSpec.from_json),
        )


@dataclass(frozen=True)
class Trained:
    """Private steps behind the values of a trained artifact: what training it further must go on counting from.

    Attributes:
        steps: private steps whose result is in the values; one more where an interrupt ended the training.
        ledger: last record of the ledger that counts them, or None where some were counted in memory only.
    """

    steps: int
    ledger: Position | None

    def to_json(self) -> Json:
        """The JSON object of docs/artifact.md."""
        return {"steps": self.steps, "ledger": None if self.ledger is None else self.ledger.to_json()}

    @classmethod
    def from_json(cls, fields: Fields) -> Trained:
        """Read what `to_json` wrote. Raises ArtifactError."""
        return cls(fields.integer("steps"), fields.optional_record("ledger", Position.from_json))


@dataclass(frozen=True)
class Member:
    """One file of the archive: its name, its size in bytes and its SHA-256 in hex."""

    name: str
    size: int
    sha256: str

    def to_json(self) -> Json:
        """The JSON object of docs/artifact.md."""
        return {"name": self.name, "size": self.size, "sha256": self.sha256}

    @classmethod
    def from_json(cls, fields: Fields) -> Member:
        """Read a member. Raises ArtifactError."""
        return cls(fields.text("name"), fields.integer("size"), fields.text("sha256"))


@dataclass(frozen=True)
class Manifest:
    """What an artifact is and needs; ``members`` is filled in when the artifact is written.

    Attributes:
        fluidc_version: version of the compiler.
        target: the machine the code was made for.
        batch: physical batch size of training steps, or None where any size runs; ``infer`` takes any size.
        feeds: arrays the caller supplies.
        fetches: names fetched by default.
        state: arrays that live from step to step.
        functions: the compiled functions.
        privacy: public constants of a private program, else None.
        seed: seed of initialisers, shuffles and dropout, or None for a fresh one per run.
        caution: what everybody who reads or runs the artifact is told first, or empty.
        insecure_noise_key: noise came, or comes, from a known key: no privacy guarantee.
        max_rows: most rows of a call, or of a lot, for which streams of model randomness (dropout) suffice; None where
            nothing is drawn for rows.
        trained: the steps behind the values of a private program, or None for one that was not trained.
        members: files of the archive other than manifest.json.
        format_version: version of this format.

    Raises ArtifactError when names clash or refer to nothing.
    """

    fluidc_version: str
    target: TargetSpec
    batch: int | None
    feeds: tuple[FeedSpec, ...]
    fetches: tuple[str, ...]
    state: tuple[StateSpec, ...]
    functions: tuple[FunctionSpec, ...]
    privacy: PrivacySpec | None
    seed: int | None
    caution: str = ""
    insecure_noise_key: bool = False
    max_rows: int | None = None
    trained: Trained | None = None
    members: tuple[Member, ...] = field(default=(), repr=False)
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        _refuse_doubles("feed", [feed.name for feed in self.feeds])
        _refuse_doubles("state", [state.name for state in self.state])
        _refuse_doubles("function", [function.name for function in self.functions])
        _refuse_doubles("member", [member.name for member in self.members])
        for feed in self.feeds:
            if (feed.low, feed.high) != (None, None) and feed.dtype not in _INTEGERS:
                raise _contradiction(f"feed {feed.name!r}", f"a value range on the dtype {feed.dtype}")
        if sum(8 * prod(state.shape) for state in self.state) > MAX_STATE_BYTES:
            raise _contradiction("state", f"variables of more than {MAX_STATE_BYTES} bytes")
        for function in self.functions:
            self._check_function(function)
        if self.trained is not None and self.privacy is None:
            raise _contradiction("trained", "private steps of an ordinary program")
        fetched = {o.name for f in self.functions for o in f.outputs if o.kind == "fetch"}
        for name in self.fetches:
            if name not in fetched:
                raise _contradiction(f"fetch {name!r}", "no function returns it")

    def _check_function(self, function: FunctionSpec) -> None:
        where = f"function {function.name!r}"
        feeds = {feed.name for feed in self.feeds}
        states = {state.name: state for state in self.state}
        for binding in function.inputs:
            if binding.kind == "noise":
                if self.privacy is None or self.privacy.mechanism != "discrete":
                    raise _contradiction(where, "integer noise, and no privacy block of the mechanism discrete")
                if binding.name not in self.privacy.parameters or binding.name not in states:
                    raise _contradiction(where, f"noise for {binding.name!r}, which is no trained parameter")
                if function.name not in ("step", "apply"):
                    raise _contradiction(where, "integer noise outside the functions that release a lot")
            elif binding.kind == "extent":
                self._check_extent(function, binding.name)
            elif binding.kind in _ANONYMOUS:
                if binding.kind == "phase" and (self.privacy is None or not self.privacy.phases):
                    raise _contradiction(where, "the index of a phase, and a privacy block without phases")
                if binding.name:
                    raise _contradiction(where, f"input {binding.kind} carries the name {binding.name!r}")
            elif binding.name not in (feeds if binding.kind == "feed" else states):
                raise _contradiction(where, f"it reads the unknown {binding.kind} {binding.name!r}")
        if self.privacy is not None and self.privacy.mechanism == "discrete" and function.name in ("step", "apply"):
            noised = [binding.name for binding in function.inputs if binding.kind == "noise"]
            _refuse_doubles(f"noise of {where}", noised)
            for name in self.privacy.parameters:
                if name not in noised:
                    raise _contradiction(where, f"the parameter {name!r} is trained without noise")
        for kind in get_args(OutputKind):
            _refuse_doubles(f"{kind} of {where}", [o.name for o in function.outputs if o.kind == kind])
        for output in function.outputs:
            if output.kind == "fetch":
                continue
            state = states.get(output.name)
            if state is None:
                raise _contradiction(where, f"it writes the unknown state {output.name!r}")
            if (state.dtype, state.shape) != (output.dtype, output.shape):
                raise _contradiction(where, f"it writes the state {output.name!r} with another type")
            if output.combine != "none":
                raise _contradiction(where, f"the state {output.name!r} is combined by {output.combine}")

    def _check_extent(self, function: FunctionSpec, text: str) -> None:
        where = f"function {function.name!r}"
        try:
            rule = Rule.parse(text)
        except ValueError as error:
            raise _contradiction(where, f"a size whose rule cannot be read: {error}") from None
        if self.privacy is not None:
            raise _contradiction(where, f"a size that follows private data, {rule}")
        read = {binding.name for binding in function.inputs if binding.kind == "feed"}
        integers = {feed.name for feed in self.feeds if feed.dtype in _INTEGERS}
        for name in rule.integers:
            if name not in read & integers:
                raise _contradiction(where, f"the size {rule}, while {name!r} is no feed of integers that it reads")
        divided = {feed.name for feed in self.feeds if feed.shape}
        for name in rule.feeds:
            if name not in read & divided:
                raise _contradiction(where, f"the size {rule}, while {name!r} is no feed with rows that it reads")

    def feed(self, name: str) -> FeedSpec:
        """The feed ``name``. Raises KeyError."""
        for feed in self.feeds:
            if feed.name == name:
                return feed
        raise KeyError(name)

    def function(self, name: str) -> FunctionSpec:
        """The function ``name``. Raises KeyError."""
        for function in self.functions:
            if function.name == name:
                return function
        raise KeyError(name)

    def has_function(self, name: str) -> bool:
        """Whether the function ``name`` was compiled."""
        return any(function.name == name for function in self.functions)

    def privacy_block_sha256(self) -> str | None:
        """What a ledger is bound to, or None for a program without privacy."""
        return None if self.privacy is None else self.privacy.sha256()

    def to_json(self) -> Json:
        """The JSON object of docs/artifact.md."""
        return {
            "format_version": self.format_version,
            "fluidc_version": self.fluidc_version,
            "target": self.target.to_json(),
            "batch": self.batch,
            "feeds": [feed.to_json() for feed in self.feeds],
            "fetches": self.fetches,
            "state": [state.to_json() for state in self.state],
            "functions": [function.to_json() for function in self.functions],
            "privacy": None if self.privacy is None else self.privacy.to_json(),
            "seed": self.seed,
            "caution": self.caution,
            "insecure_noise_key": self.insecure_noise_key,
            "max_rows": self.max_rows,
            "trained": None if self.trained is None else self.trained.to_json(),
            "members": [member.to_json() for member in self.members],
        }

    @classmethod
    def from_json(cls, fields: Fields) -> Manifest:
        """Read a manifest. Raises ArtifactError, first of all for a version this reader does not know."""
        version = fields.integer("format_version")
        if version != FORMAT_VERSION:
            fields.fail("format_version", f"format {version} is not one that this version reads")
        made = cls(
            fluidc_version=fields.text("fluidc_version"),
            target=fields.record("target", TargetSpec.from_json),
            batch=fields.optional_integer("batch", 1, MAX_ROWS),
            feeds=fields.records("feeds", FeedSpec.from_json),
            fetches=fields.texts("fetches"),
            state=fields.records("state", StateSpec.from_json),
            functions=fields.records("functions", FunctionSpec.from_json),
            privacy=fields.optional_record("privacy", PrivacySpec.from_json),
            seed=fields.optional_integer("seed", 0, (1 << 64) - 1),
            caution=fields.text("caution", empty=True),
            insecure_noise_key=fields.truth("insecure_noise_key"),
            max_rows=fields.optional_integer("max_rows", 1),
            trained=fields.optional_record("trained", Trained.from_json),
            members=fields.records("members", Member.from_json),
        )
        fields.done()
        return made


def _refuse_doubles(what: str, names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise _contradiction(f"{what} {name!r}", "the name occurs twice")
        seen.add(name)


def _contradiction(where: str, what: str) -> ArtifactError:
    return ArtifactError(f"the manifest contradicts itself: {what}", f"manifest, {where}", "compile the script again")
