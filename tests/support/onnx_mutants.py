"""Mutants of what writes ONNX files and feeds them: op rules, node writers, local functions, the runtime's streams.

A function is judged by the tests that call it, which a first run of all of them tells: those of ``tests/ops`` that
export (every op case is one), and those of the local functions and of the engine.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import os
import pkgutil
import re
import resource
import signal
import sys
import time
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any

import pytest
import test_onnx
import test_onnx_conv
import test_onnx_engine
import test_onnx_exact
import test_onnx_noise
import test_onnx_open
import test_onnx_places
import test_onnx_pool
import test_onnx_random
import test_onnx_types
from mutations import changes_of_rules, definition, mutations, rebuilt
from onnx_jobs import check, exported
from op_jobs import job

from fluidc.compiler import ops
from fluidc.compiler.codegen.onnx import emit, noise, streams
from fluidc.compiler.ops.base import Op
from fluidc.runtime import onnx_engine, onnx_metadata

MODULES = (
    test_onnx_random, test_onnx_conv, test_onnx_open, test_onnx_places, test_onnx_pool, test_onnx_types,
    test_onnx_exact, test_onnx_engine,
)  # fmt: skip
SECONDS = 60
"""How long the tests of one mutant may take; after that it is taken to hang."""
MEMORY = 4 << 30
"""Bytes that a process with mutants may take beyond what it has at first."""
NAMING = frozenset({"__init__", "output", "finish", "_of", "_name_of", "_doc", "_add", "_emit", "_constant_name"})
"""What finds names, types and texts for a file; none of it is computed with."""


# Mutants ---------------------------------------------------------------------------------------------------

NODES = {
    "Add": "Sub", "Sub": "Add", "Mul": "Div", "Div": "Mul", "Max": "Min", "Min": "Max", "And": "Or", "Or": "And",
    "Less": "LessOrEqual", "LessOrEqual": "Less", "Greater": "GreaterOrEqual", "GreaterOrEqual": "Greater",
    "ReduceSum": "ReduceMean", "ReduceMean": "ReduceSum", "ReduceMax": "ReduceMin", "ReduceMin": "ReduceMax",
    "ReduceSumSquare": "ReduceL2", "ArgMax": "ArgMin", "ArgMin": "ArgMax", "Exp": "Log", "Log": "Exp", "Floor": "Ceil",
    "Softmax": "LogSoftmax", "LogSoftmax": "Softmax", "BitwiseXor": "BitwiseOr", "Equal": "Less",
}  # fmt: skip
ORDERED = frozenset({
    "Sub", "Div", "MatMul", "Pow", "Mod", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Concat", "Gather",
    "GatherElements", "QuarterRounds",
})  # fmt: skip
"""Nodes whose first two inputs do not commute."""
TEXTS = {"add": "max", "max": "min", "min": "max", "mul": "add", "RIGHT": "LEFT", "nearest": "linear", "floor": "ceil"}
"""Texts of attributes."""


def changes_of_writers(node: ast.AST) -> Iterator[tuple[str, Callable[[Any], None]]]:
    """Of what rules write through an emitter, besides what any rule may have."""
    yield from changes_of_rules(node)
    match node:
        case ast.Call(func=ast.Attribute(attr="node"), args=[ast.Constant(value=str(op_type)), *inputs]):
            if op_type in NODES:
                yield f"{op_type}->{NODES[op_type]}", lambda n: setattr(n.args[0], "value", NODES[op_type])
            if op_type in ORDERED and len(inputs) > 1 and not any(isinstance(x, ast.Starred) for x in inputs[:2]):
                yield f"{op_type} inputs swapped", lambda n: n.args.__setitem__(slice(1, 3), n.args[2:0:-1])
            if op_type == "Where":
                yield "Where branches swapped", lambda n: n.args.__setitem__(slice(2, 4), n.args[:1:-1])
            if inputs:
                for i in range(min(2, len(inputs))):
                    yield f"{op_type} dropped for input {i}", lambda n, i=i: _only_input(n, i)
        case ast.keyword(value=ast.Constant(value=str(text))) if text in TEXTS:
            yield f"{text}->{TEXTS[text]}", lambda n: setattr(n.value, "value", TEXTS[text])
        case ast.keyword(arg=name, value=ast.Name()) if name in ("tensor", "domain", "draw"):
            yield f"{name} is 0", lambda n: setattr(n, "value", ast.Constant(0))
        case ast.Expr(value=ast.Call()):
            yield "dropped", lambda n: setattr(n, "value", ast.Constant(None))
        case ast.If():
            yield "condition negated", lambda n: setattr(n, "test", ast.UnaryOp(ast.Not(), n.test))
        case _:
            return


def _only_input(call: ast.Call, number: int) -> None:
    """``o.node("Add", x, y)`` becomes ``o.node("Identity", x)``."""
    call.args = [ast.Constant("Identity"), call.args[1 + number]]
    call.keywords = []


@dataclass(frozen=True)
class Mutant:
    """One change; ``patch`` makes it, for a process that ends with it."""

    name: str
    patch: Callable[[], None]


@dataclass(frozen=True)
class Writer:
    """A function that is mutated.

    Attributes:
        module: In which it is defined.
        owner: Its class; None of a function of the module.
        name: Its name.
        function: As it is.
    """

    module: types.ModuleType
    owner: type | None
    name: str
    function: Any

    @property
    def family(self) -> str:
        return self.module.__name__.rpartition(".")[2]

    @property
    def code(self) -> types.CodeType:
        """By which a profile knows it."""
        return self.function.__code__

    def mutants(self) -> Iterator[Mutant]:
        source = definition(self.function)
        assert source is not None
        where = self.name if self.owner is None else f"{self.owner.__name__}.{self.name}"
        for what, changed in mutations(source, changes_of_writers):
            made = rebuilt(self.function, self.owner or object, changed)
            yield Mutant(f"{self.family}.{where}: {what}", partial(setattr, self.function, "__code__", made.__code__))


def writers() -> Iterator[Writer]:
    """The functions and methods that write nodes, or words into the inputs of a graph."""
    yield from _functions(emit, lambda owner, name, function: name not in NAMING)
    yield from _functions(streams, lambda owner, name, function: True)
    yield from _functions(onnx_engine, lambda owner, name, function: owner is onnx_engine._Function)
    yield from _functions(onnx_metadata, lambda owner, name, function: owner is onnx_metadata.Window)
    for info in pkgutil.iter_modules(ops.__path__):
        module = importlib.import_module(f"{ops.__name__}.{info.name}")
        every = info.name.startswith("onnx_")
        yield from _functions(module, lambda owner, name, function, every=every: every or _writes(owner, function))


def _functions(
    module: types.ModuleType, wanted: Callable[[type | None, str, types.FunctionType], bool]
) -> Iterator[Writer]:
    places = [None, *(x for x in vars(module).values() if isinstance(x, type) and x.__module__ == module.__name__)]
    for owner in places:
        for name, held in vars(module if owner is None else owner).items():
            function = _function(held)
            if function is None or function.__module__ != module.__name__ or function.__name__ == "<lambda>":
                continue
            if function.__code__.co_filename == module.__file__ and wanted(owner, name, function):
                yield Writer(module, owner, name, function)


def _function(held: Any) -> types.FunctionType | None:
    if isinstance(held, property):
        held = held.fget
    elif isinstance(held, cached_property):
        held = held.func
    return held if isinstance(held, types.FunctionType) else None


def _writes(owner: type | None, function: types.FunctionType) -> bool:
    """Whether it, or its class where that is no op, is handed an emitter."""
    if owner is not None and not issubclass(owner, Op):
        init = vars(owner).get("__init__")
        return "OnnxEmitter" in [
            *inspect.get_annotations(owner).values(),
            *getattr(init, "__annotations__", {}).values(),
        ]
    return any(kind in ("OnnxEmitter", "Rows") for kind in function.__annotations__.values())


# Local functions -------------------------------------------------------------------------------------------

LINE = re.compile(r"^(?P<start>\s*[\w, ]+ = (?P<op>[\w.]+))(?P<attributes> <.*>)? \((?P<inputs>[^()]*)\)$")
NUMBER = re.compile(r"(?<![\w.@])-?\d+(?:\.\d+)?(?:e-?\d+)?(?![\w.])")


def changed_lines(text: str) -> Iterator[tuple[str, str]]:
    """Every changed copy of a local function in ONNX's text, and what was changed in which line."""
    lines = text.splitlines()
    for i, line in enumerate(lines):
        if (found := LINE.match(line)) is None:
            continue
        for what, new in _changes_of_line(line, found):
            yield f"{what} in `{line.strip()}`", "\n".join([*lines[:i], new, *lines[i + 1 :]])


def _changes_of_line(line: str, found: re.Match[str]) -> Iterator[tuple[str, str]]:
    op_type, inputs = found["op"].rpartition(".")[2], found["inputs"].split(", ")
    start = len(found["start"]) - len(found["op"])
    if op_type in NODES:
        yield f"{op_type}->{NODES[op_type]}", line[:start] + NODES[op_type] + line[found.end("op") :]
    if op_type in ORDERED and len(inputs) > 1:
        swapped = ", ".join([inputs[1], inputs[0], *inputs[2:]])
        yield f"{op_type} inputs swapped", f"{line[: found.start('inputs')]}{swapped})"
    if op_type not in ("Constant", "Loop") and "," not in line[: line.index("=")]:
        yield f"{op_type} dropped", f"{line[:start]}Identity ({inputs[0]})"
    for text, other in TEXTS.items():
        if f'"{text}"' in line:
            yield f"{text}->{other}", line.replace(f'"{text}"', f'"{other}"')
    values = line.find("{") if "value = " in line else line.find("= ", start + 1)
    for number in NUMBER.finditer(line, max(values, 0)):
        if number[0] not in ("-1",) or op_type == "Constant":
            real = "float {" in line or "double {" in line
            new = repr(float(number[0]) * 1.25 or 0.5) if real else str(int(number[0]) + 1)
            yield f"{number[0]}->{new}", line[: number.start()] + new + line[number.end() :]


def mutants_of_functions() -> Iterator[list[Mutant]]:
    """Of ``Normals``, ``ChaCha20`` and ``QuarterRounds``."""
    texts = {"_NORMALS": noise._NORMALS, "_CHACHA20": noise._CHACHA20, "_quarter_rounds": noise._quarter_rounds()}
    for name, text in texts.items():
        yield [Mutant(f"noise.{name}: {w}", partial(_replaced, name, changed)) for w, changed in changed_lines(text)]


def _replaced(name: str, text: str) -> None:
    setattr(noise, name, text if name.isupper() else lambda: text)
    noise.normals.cache_clear()
    noise.chacha20.cache_clear()


# Tests -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Test:
    """One case of a test."""

    name: str
    run: Callable[[], object]


def tests() -> Iterator[Test]:
    """The tests of exported files, op cases first."""
    for case, symbolic in test_onnx.JOBS:
        made = cache(partial(job, case, "f", symbolic=symbolic, backward=case.id in test_onnx.BACKWARD))
        yield Test(f"{case.id}{'-N' if symbolic else ''}", lambda made=made: check(made(), exported(made())))
    for module in MODULES:
        yield from tests_of(module)


def tests_of(module: types.ModuleType) -> Iterator[Test]:
    """The tests of a module that need nothing from pytest but parameters, and a fixture of the module or a patch."""
    for name, function in list(vars(module).items()):
        if not name.startswith("test_") or not isinstance(function, types.FunctionType):
            continue
        marks = [mark for mark in getattr(function, "pytestmark", []) if mark.name == "parametrize"]
        fixtures = set(inspect.signature(function).parameters) - {n for mark in marks for n in _names(mark)}
        if fixtures <= {"box_muller"} and not name.startswith("test_workers"):
            for number, chosen in enumerate(itertools.product(*(_choices(mark) for mark in marks))):
                given = {key: value for some in chosen for key, value in some.items()}
                yield Test(f"{name}#{number}", partial(_run, module, function, given, fixtures))


def _names(mark: pytest.Mark) -> list[str]:
    names = mark.args[0]
    return [n.strip() for n in names.split(",")] if isinstance(names, str) else list(names)


def _choices(mark: pytest.Mark) -> list[dict[str, Any]]:
    names = _names(mark)
    return [dict(zip(names, values if len(names) > 1 else (values,), strict=True)) for values in mark.args[1]]


def _run(module: types.ModuleType, function: types.FunctionType, given: dict[str, Any], fixtures: set[str]) -> None:
    function(**given, **({"box_muller": module.normals_session()} if fixtures else {}))


def called(every: Sequence[Test]) -> dict[types.CodeType, list[int]]:
    """By the functions that they call, the numbers of tests, quickest first.

    Raises AssertionError where one fails without any mutation.
    """
    found: dict[types.CodeType, list[tuple[float, int]]] = {}
    for number, test in enumerate(every):
        seen: set[types.CodeType] = set()

        def profile(frame: types.FrameType, event: str, _: Any, seen: set[types.CodeType] = seen) -> None:
            if event == "call":
                seen.add(frame.f_code)

        start = time.perf_counter()
        sys.setprofile(profile)
        try:
            test.run()
        except Exception as error:
            raise AssertionError(f"{test.name} fails without any mutation") from error
        finally:
            sys.setprofile(None)
        for code in seen:
            found.setdefault(code, []).append((time.perf_counter() - start, number))
    return {code: [number for _, number in sorted(numbers)] for code, numbers in found.items()}


# Judges ----------------------------------------------------------------------------------------------------


def verdicts(mutants: Sequence[Mutant], some: Sequence[Test]) -> Iterator[bool]:
    """Whether any test notices each mutant; also one that ends the process, or never ends, is noticed.

    Mutants are judged in other processes, each of which goes on until one of them ends it.
    """
    begun = 0
    while begun < len(mutants):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            _judge(mutants[begun:], some, writing)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            said = pipe.read()
        os.waitpid(child, 0)
        yield from (byte == 1 for byte in said)
        begun += len(said)
        if begun < len(mutants):
            yield True
            begun += 1


def _judge(mutants: Sequence[Mutant], some: Sequence[Test], pipe: int) -> None:
    with open("/proc/self/statm") as sizes:
        most = int(sizes.read().split()[0]) * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    silence = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(silence, stream)
    order = list(some)
    for mutant in mutants:
        signal.alarm(SECONDS)
        mutant.patch()
        killer = next((test for test in order if _fails(test)), None)
        if killer is not None:  # it may notice the next one too
            order.remove(killer)
            order.insert(0, killer)
        os.write(pipe, bytes([killer is not None]))
    os._exit(0)


def _fails(test: Test) -> bool:
    try:
        test.run()
    except BaseException:
        return True
    return False


def judged(families: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Every mutant of the families (all if there are none), and whether it was noticed."""
    if not families or "noise" in families:
        some = list(tests_of(test_onnx_noise))
        called(some)
        for mutants in mutants_of_functions():
            yield from zip((m.name for m in mutants), verdicts(mutants, some), strict=True)
    chosen = [writer for writer in writers() if not families or writer.family in families]
    if not chosen:
        return
    every = list(tests())
    by_code = called(every)
    for writer in chosen:
        mutants = list(writer.mutants())
        some = [every[number] for number in by_code.get(writer.code, ())]
        yield from zip((m.name for m in mutants), verdicts(mutants, some), strict=True)
