"""What a model that fluidc exported says of its own inputs and outputs, in its file's metadata (docs/onnx.md)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import get_args

from .errors import EngineError
from .fields import Fields, parse_object
from .keystream import MAX_BLOCKS, MAX_TENSORS, Domain
from .manifest import BindingKind, OutputKind

INPUTS, OUTPUTS, SYMBOLS, STREAMS = "fluidc.inputs", "fluidc.outputs", "fluidc.symbols", "fluidc.streams"


@dataclass(frozen=True)
class Argument:
    """One argument of the function.

    Attributes:
        kind: where it comes from (`manifest.Binding`).
        name: of state, feeds and noise; the rule of an extent; else empty.
        input: the graph's input; empty where the graph takes none: state that is only written, a key of streams.
    """

    kind: BindingKind
    name: str
    input: str

    @classmethod
    def from_json(cls, fields: Fields) -> Argument:
        """Read an argument. Raises EngineError."""
        return cls(
            fields.choice("kind", get_args(BindingKind)),
            fields.text("name", empty=True),
            fields.text("input", empty=True),
        )


@dataclass(frozen=True)
class Result:
    """One result of the function: a fetch, or the new value of the state ``name``; ``output`` is the graph's."""

    kind: OutputKind
    name: str
    output: str

    @classmethod
    def from_json(cls, fields: Fields) -> Result:
        """Read a result. Raises EngineError."""
        return cls(fields.choice("kind", get_args(OutputKind)), fields.text("name"), fields.text("output"))


@dataclass(frozen=True)
class Size:
    """Where the size of a symbol is read: it is the extent of an argument along ``axis``, over ``scale``."""

    argument: int
    axis: int
    scale: int


@dataclass(frozen=True)
class Window:
    """Where a stream begins in a part of a lot: at block ``first_row * part // group * per``.

    ``row`` is the number of the argument that holds the first row's index in the lot, i64[].
    """

    row: int
    part: int
    group: int
    per: int

    @classmethod
    def from_json(cls, fields: Fields) -> Window:
        """Read a window. Raises EngineError."""
        return cls(
            fields.integer("row"),
            fields.integer("part", 1, MAX_BLOCKS),
            fields.integer("group", 1, MAX_BLOCKS),
            fields.integer("per", 1, MAX_BLOCKS),
        )

    def first_block(self, first_row: int) -> int:
        """Where the stream begins."""
        return first_row * self.part // self.group * self.per


@dataclass(frozen=True)
class Stream:
    """An input of random words, u32[16 * blocks], which the runtime makes (`keystream.words`).

    Attributes:
        input: the graph's input.
        key, draw: numbers of the arguments that hold the key, u32[8], and the number of the draw, u64[].
        domain, tensor: of the stream.
        scale, symbol: it has ``scale`` blocks, times the size of ``symbol`` unless that is empty.
        window: where it begins; at block 0 without one.
    """

    input: str
    key: int
    draw: int
    domain: Domain
    tensor: int
    scale: int
    symbol: str
    window: Window | None

    @classmethod
    def from_json(cls, fields: Fields) -> Stream:
        """Read a stream. Raises EngineError."""
        scale, symbol = fields.record("blocks", lambda f: (f.integer("scale", 1), f.text("symbol", empty=True)))
        domains = {int(domain): domain for domain in Domain}
        number = fields.integer("domain")
        if number not in domains:
            fields.fail("domain", f"there is no domain {number} of streams")
        return cls(
            input=fields.text("input"),
            key=fields.integer("key"),
            draw=fields.integer("draw"),
            domain=domains[number],
            tensor=fields.integer("tensor", 0, MAX_TENSORS - 1),
            scale=scale,
            symbol=symbol,
            window=fields.optional_record("window", Window.from_json),
        )


@dataclass(frozen=True)
class Signature:
    """How a function is called through its model.

    Attributes:
        arguments: in the order of the manifest's ``FunctionSpec.inputs``.
        results: in the order of ``FunctionSpec.outputs``.
        symbols: where their sizes are read.
        streams: inputs that are no arguments.
    """

    arguments: tuple[Argument, ...]
    results: tuple[Result, ...]
    symbols: Mapping[str, Size]
    streams: tuple[Stream, ...]

    @classmethod
    def read(cls, metadata: Mapping[str, str], function: str) -> Signature:
        """The signature in a model's metadata. Raises EngineError for one that is missing or makes no sense."""
        where = f"{function}.onnx"

        def refuse(what: str, at: str) -> EngineError:
            return EngineError(
                f"the model does not say how it is called: {what}", f"{where}, {at}", "compile the script again"
            )

        def parsed(key: str) -> Fields:
            if key not in metadata:
                raise refuse(f"it has no metadata {key!r}", "metadata_props")
            # Lists are read as fields of an object are.
            text = metadata[key] if key == SYMBOLS else f'{{"list": {metadata[key]}}}'
            return parse_object(text.encode("utf-8", "replace"), key, refuse)

        inputs, outputs, streams = parsed(INPUTS), parsed(OUTPUTS), parsed(STREAMS)
        made = cls(
            arguments=inputs.records("list", Argument.from_json),
            results=outputs.records("list", Result.from_json),
            symbols=_symbols(parsed(SYMBOLS)),
            streams=streams.records("list", Stream.from_json),
        )
        for fields in (inputs, outputs, streams):
            fields.done()
        problem = next(made._problems(), None)
        if problem is not None:
            raise refuse(problem, "metadata_props")
        return made

    def _problems(self) -> Iterator[str]:
        """What contradicts itself."""
        kinds = [argument.kind for argument in self.arguments]
        state = [argument.name for argument in self.arguments if argument.kind == "state"]
        results = [result.name for result in self.results if result.kind == "state"]
        inputs = [argument.input for argument in self.arguments if argument.input]
        inputs += [stream.input for stream in self.streams]
        for names in (state, results, inputs, [result.output for result in self.results]):
            yield from (f"{name!r} is listed twice" for name in _doubles(names))
        yield from (f"the result {name!r} is no state of the function" for name in results if name not in state)
        for name, size in self.symbols.items():
            if size.argument >= len(kinds):
                yield f"the size of {name} is read from argument {size.argument} of {len(kinds)}"
            elif kinds[size.argument] == "state":
                yield f"the size of {name} is read from state, whose sizes are fixed"
        for stream in self.streams:
            row = [] if stream.window is None else [(stream.window.row, ("row",))]
            for number, wanted in ((stream.key, ("key", "rng_key")), (stream.draw, ("draw", "rng_counter")), *row):
                if number >= len(kinds) or kinds[number] not in wanted:
                    yield f"the stream {stream.input!r} takes argument {number} for a {wanted[0]}"
            if stream.symbol and stream.symbol not in self.symbols:
                yield f"the stream {stream.input!r} has the length {stream.symbol}, which no argument tells"


def _symbols(fields: Fields) -> dict[str, Size]:
    found: dict[str, Size] = {}
    for name in fields.names():
        numbers = fields.integers(name)
        if len(numbers) != 3 or not numbers[2]:
            fields.fail(name, "argument, axis and scale are wanted")
        found[name] = Size(*numbers)
    return found


def _doubles(names: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            yield name
        seen.add(name)
