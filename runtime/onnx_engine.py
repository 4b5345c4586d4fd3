"""Runs ONNX models that fluidc exported with ONNX Runtime; any release that reads them, with or without training ops.

State is never written where it is read: ONNX Runtime orders a graph's nodes as it likes, and may update a parameter
before the last node that reads its old value.  A call reads one side of each buffer and writes the other
(`buffers.Buffer`), and copies neither: docs/adr/0022-two-sides.md.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .buffers import ALIGNMENT, Array, Buffer, aligned, flip
from .engine import Handle
from .errors import EngineError
from .keystream import BLOCK_WORDS, fill_words
from .onnx_metadata import Signature, Stream
from .threads import thread_count

_BINDINGS = 16
"""Combinations of sides that a function keeps bound: two in a plain run, a few where functions take turns."""

_SILENT = 4  # of ONNX Runtime's log severities: what it would log, it raises as well
_LONGEST = 400  # characters of its messages

_DTYPES: Mapping[str, np.dtype[Any]] = {
    f"tensor({spelled})": np.dtype(name)
    for spelled, name in {
        "float": "float32", "double": "float64", "float16": "float16", "int8": "int8", "int32": "int32",
        "int64": "int64", "uint8": "uint8", "uint32": "uint32", "uint64": "uint64", "bool": "bool",
    }.items()
}  # fmt: skip
_DIM = re.compile(r"(?:(\d+)\*)?(.+)")  # N, or 8*N
_NOISE = re.compile(r"^Error in execution: |\[ONNXRuntimeError\] : \d+ : \w+ : |/\S+\.(?:cc|h):\d+ ")


class OnnxEngine:
    """Exported models on the CPU (``runtime.engine.Engine``).

    In a child that was forked after a function was called, that function runs on one thread: the workers stayed behind.

    Args:
        models: Function name -> model.  All are loaded at once: what cannot be executed here is refused before anything
            is, and before a private step is counted.
        threads: Threads of a step; None takes what `threads.thread_count` says.
        profiles: Folder in which ONNX Runtime writes down the time of every node; None does not clock them.

    Attributes:
        models: As given.
        threads: Threads of a step.

    Raises:
        EngineError: ONNX Runtime is not installed, it does not load a model, a model does not say how it is called, or
            ``threads`` is no number of threads.
    """

    def __init__(
        self, models: Mapping[str, bytes], threads: int | None = None, *, profiles: Path | None = None
    ) -> None:
        self.threads = thread_count(threads)
        self.models = models
        library = _onnxruntime()
        self._wrap: Callable[[Array], Any] = library.OrtValue.ortvalue_from_numpy
        self._functions = {
            name: _Function(self._wrap, name, _session(library, name, model, self.threads, profiles))
            for name, model in models.items()
        }

    @property
    def in_place(self) -> bool:
        """State is read on one side and written on the other."""
        return False

    def tensor(self, array: Array, *, secret: bool = False) -> Handle:
        """Wrap an array without copying; the handle keeps it alive.

        Raises ValueError unless the array is C-contiguous and 64-byte aligned.
        """
        del secret  # nothing is copied
        if array.__array_interface__["data"][0] % ALIGNMENT or not array.flags.c_contiguous:
            raise ValueError("an engine takes C-contiguous arrays on 64-byte boundaries; see `engine.aligned`")
        return _Tensor(array, self._wrap(array))

    def state(self, buffer: Buffer) -> Handle:
        """The buffer itself, once `tensor` would take its array."""
        self.tensor(buffer.home)
        return buffer

    def call(self, function: str, arguments: Sequence[Handle]) -> list[Array]:
        """Run one function to its end; returns its fetches as new arrays.

        When it fails, or is interrupted, state is as it was.  Raises EngineError when there is no such function, or an
        argument does not fit.
        """
        found = self._functions.get(function)
        if found is None:
            raise EngineError(
                f"the artifact has no function {function!r}",
                f"functions: {', '.join(sorted(self.models)) or 'none'}",
                "use one of the functions that the manifest lists",
            )
        return found.call(arguments)

    def end_profile(self, function: str) -> Path:
        """The file with the times of a function that was called; it is clocked no more."""
        return Path(self._functions[function].session.end_profiling())


@dataclass(frozen=True)
class _Tensor:
    """An array, and ONNX Runtime's view of it, which does not keep it alive."""

    array: Array
    value: Any


@dataclass(frozen=True)
class _Fetch:
    """A fetched output: its sizes, as numbers or (scale, symbol); None where only a run tells them."""

    output: str
    dtype: np.dtype[Any]
    dims: tuple[int | tuple[int, str], ...] | None

    def made(self, symbols: Mapping[str, int]) -> Array | None:
        """Memory for it, or None."""
        if self.dims is None:
            return None
        return np.empty([dim if isinstance(dim, int) else dim[0] * symbols[dim[1]] for dim in self.dims], self.dtype)


@dataclass(frozen=True)
class _Binding:
    """A graph's inputs and outputs with one combination of sides; all but state is bound anew in each call.

    Attributes:
        io: ONNX Runtime's object.
        written: the buffers whose other side it writes.
        kept: the memory that it refers to.
    """

    io: Any
    written: tuple[Buffer, ...]
    kept: tuple[object, ...]


class _Function:
    """A loaded model.  Raises EngineError as `OnnxEngine` does."""

    def __init__(self, wrap: Callable[[Array], Any], name: str, session: Any) -> None:
        self.session = session
        self._wrap = wrap
        self._where = f"function {name!r}"
        self._signature = signature = Signature.read(session.get_modelmeta().custom_metadata_map, name)
        inputs = {given.name for given in session.get_inputs()}
        outputs = {given.name: given for given in session.get_outputs()}
        arguments = tuple(enumerate(signature.arguments))
        streams = {stream.input for stream in signature.streams}
        _check_names("inputs", name, {a.input for a in signature.arguments if a.input} | streams, inputs)
        _check_names("outputs", name, {result.output for result in signature.results}, outputs.keys())
        # Places among the arguments, and names in the graph.
        self._state = [place for place, a in arguments if a.kind == "state"]
        self._read = [(place, a.input) for place, a in arguments if a.kind == "state" and a.input]
        self._given = [(place, a.input) for place, a in arguments if a.kind != "state" and a.input]
        place_of = {a.name: place for place, a in arguments if a.kind == "state"}
        self._written = [(place_of[r.name], r.output) for r in signature.results if r.kind == "state"]
        self._fetches = [
            _fetch(outputs[r.output], signature, self._where) for r in signature.results if r.kind == "fetch"
        ]
        self._words: dict[str, _Tensor] = {}
        self._bindings: dict[tuple[int, ...], _Binding] = {}

    def call(self, arguments: Sequence[Handle]) -> list[Array]:
        """Run it on handles of `OnnxEngine`; its fetches."""
        if len(arguments) != len(self._signature.arguments):
            raise self._refusal(f"it takes {len(self._signature.arguments)} arguments, {len(arguments)} were given")
        for place in self._state:
            if arguments[place].remote is not None:
                arguments[place].bring_home()
        key = tuple([id(arguments[place].sides[0]) for place in self._state])
        binding = self._bindings.get(key) or self._bind(key, arguments)
        io = binding.io
        for place, name in self._given:
            io.bind_ortvalue_input(name, arguments[place].value)
        symbols = self._sizes(arguments)
        fetched = [fetch.made(symbols) for fetch in self._fetches]
        for fetch, array in zip(self._fetches, fetched, strict=True):
            if array is None:
                io.bind_output(fetch.output, "cpu")
            else:
                io.bind_ortvalue_output(fetch.output, self._wrap(array))
        try:
            for stream in self._signature.streams:
                io.bind_ortvalue_input(stream.input, self._make(stream, arguments, symbols))
            self._run(io)
        finally:
            for words in self._words.values():
                words.array.fill(0)
        flip(binding.written)
        return [self._found(io, place) if array is None else array for place, array in enumerate(fetched)]

    def _run(self, io: Any) -> None:
        try:
            self.session.run_with_iobinding(io)
        except Exception as error:  # ONNX Runtime's own have no other base
            raise self._refusal(f"ONNX Runtime did not run it: {_said(error)}") from error

    def _bind(self, key: tuple[int, ...], arguments: Sequence[Handle]) -> _Binding:
        """Bind the newest values of state as inputs, and the other sides of what is written as outputs."""
        io = self.session.io_binding()
        kept: list[object] = [arguments[place] for place in self._state]
        for place, name in self._read:
            io.bind_ortvalue_input(name, self._wrap(arguments[place].sides[0]))
        for place, name in self._written:
            io.bind_ortvalue_output(name, self._wrap(arguments[place].spare))
        if len(self._bindings) >= _BINDINGS:
            del self._bindings[next(iter(self._bindings))]
        made = _Binding(io, tuple(arguments[place] for place, _ in self._written), tuple(kept))
        self._bindings[key] = made
        return made

    def _sizes(self, arguments: Sequence[Handle]) -> dict[str, int]:
        """The sizes of symbols in this call."""
        found: dict[str, int] = {}
        for name, size in self._signature.symbols.items():
            shape = arguments[size.argument].array.shape
            if size.axis >= len(shape):
                raise self._refusal(f"argument {size.argument} has no axis {size.axis}: it is {list(shape)}")
            found[name] = shape[size.axis] // size.scale
        return found

    def _make(self, stream: Stream, arguments: Sequence[Handle], symbols: Mapping[str, int]) -> Any:
        """The words of a stream, in memory that is kept from call to call."""
        count = BLOCK_WORDS * stream.scale * (symbols[stream.symbol] if stream.symbol else 1)
        words = self._words.get(stream.input)
        if words is None or words.array.size != count:
            memory = aligned((count,), np.dtype(np.uint32))
            words = self._words[stream.input] = _Tensor(memory, self._wrap(memory))
        window = stream.window
        try:
            fill_words(
                words.array,
                arguments[stream.key].array,
                domain=stream.domain,
                tensor=stream.tensor,
                draw=int(arguments[stream.draw].array),
                first_block=0 if window is None else window.first_block(int(arguments[window.row].array)),
            )
        except ValueError as error:
            raise self._refusal(f"there are no random words for {stream.input!r}: {error}") from error
        return words.value

    def _found(self, io: Any, place: int) -> Array:
        """A fetch in memory of ONNX Runtime, copied; outputs are in the order in which they were bound."""
        return np.array(io.get_outputs()[len(self._written) + place].numpy())

    def _refusal(self, what: str) -> EngineError:
        return EngineError(what, self._where, "pass arrays of the types and shapes that the artifact's manifest lists")


def _fetch(output: Any, signature: Signature, where: str) -> _Fetch:
    if output.type not in _DTYPES:
        raise EngineError(
            f"the output {output.name!r} is a {output.type}, which numpy has no type for",
            where,
            "compile the script again, and fetch another variable",
        )
    dims: list[int | tuple[int, str]] = []
    for dim in output.shape:
        found = _DIM.fullmatch(dim) if isinstance(dim, str) else None
        if isinstance(dim, int):
            dims.append(dim)
        elif found is not None and found[2] in signature.symbols:
            dims.append((int(found[1] or 1), found[2]))
        else:
            return _Fetch(output.name, _DTYPES[output.type], None)
    return _Fetch(output.name, _DTYPES[output.type], tuple(dims))


def _check_names(what: str, function: str, said: Collection[str], found: Collection[str]) -> None:
    for name in sorted(set(said) ^ set(found)):
        which = "lacks" if name in said else "has"
        raise EngineError(
            f"the model's {what} are not those that it says it has: it {which} {name!r}",
            f"{function}.onnx",
            "compile the script again",
        )


def _session(library: Any, function: str, model: bytes, threads: int, profiles: Path | None) -> Any:
    options = library.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = library.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _SILENT
    # Workers wait for work by spinning, for some 40 ms: only inside a call, or they take the cores from what follows.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if profiles is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profiles / function)
    try:
        return library.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own have no other base
        raise EngineError(
            f"ONNX Runtime {library.__version__} does not load the model: {_said(error)}",
            f"{function}.onnx",
            "compile the script again; what was compiled with --ort-training needs onnxruntime-training",
        ) from error


def _said(error: Exception) -> str:
    text = _NOISE.sub("", " ".join(str(error).split()))
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


def _onnxruntime() -> Any:
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise EngineError(
            f"onnxruntime is not installed, and onnx artifacts run on it ({error})",
            "Python environment",
            "pip install onnxruntime, or onnxruntime-training for artifacts of --ort-training; never both",
        ) from error
