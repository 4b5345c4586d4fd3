"""Running a fluid script up to its first training step, and choosing what of it is compiled."""

from __future__ import annotations

import contextlib
import sys
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...compiler.ir.types import TensorType
from .. import trained, unique_name
from ..dygraph.traced_layer import TracedLayer
from ..framework import Operator, OpRole, Program, default_main_program, default_startup_program, program_guard
from ..initializer import NumpyArrayInitializer
from ..lower import feed_types_of
from ..paddle.session import Session
from ..reach import producers
from ..scope import Scope, scope_guard
from ..variable import GRAD_SUFFIX, Parameter, Variable
from ..watch import Call, watching
from .script import CaptureError, as_main, compiled, execute, old_scripts


class _Reached(BaseException):
    """Ends the script at its first training step; no ``except Exception`` of the script may keep it."""


@dataclass(frozen=True)
class Script:
    """A script that was run.

    Attributes:
        path: As it was given.
        programs: Its global variables that hold programs, or Layers that were traced.
        main: Its default main program.
        startup: Its default startup program.
        last: The program that an optimizer was put into last, or None.
        call: The ``Executor.run`` of a program with a backward at which it was stopped; None where it ended first.
        outputs: What the Layers return that were traced, by program.
    """

    path: Path
    programs: Mapping[str, Program]
    main: Program
    startup: Program
    last: Program | None
    call: Call | None
    outputs: Mapping[Program, tuple[str, ...]]


@dataclass(frozen=True)
class Chosen:
    """What is to be compiled.

    Attributes:
        path: The script.
        program: The training program, or one without a backward.
        startup: The program that initialises its variables, or None where it has none.
        call: The call that the script was about to make of this very program, or None.
        outputs: The outputs of a model that was imported or traced, which its test form returns too.
    """

    path: Path
    program: Program
    startup: Program | None
    call: Call | None
    outputs: tuple[str, ...] = ()


def run_script(path: Path, arguments: Sequence[str]) -> Script:
    """Run a script as ``python path arguments`` would, up to its first training step.

    What it prints goes to standard error. Startup programs, and others without a backward, are executed.

    A script of Paddle's finds fluidc under Paddle's names, and its data sets as `fluidc exec` has them.

    Raises:
        CaptureError: The script cannot be read, has a syntax error, fails or exits.
        FluidcError: What fluid refuses in it.
    """
    session = Session()
    found: list[Call] = []

    def stop(call: Call) -> None:
        if any(op.type == "backward" for op in call.program.global_block().ops):
            found.append(call)
            raise _Reached

    first, startup = Program(), Program()
    with contextlib.ExitStack() as stack:
        stack.enter_context(program_guard(first, startup))
        stack.enter_context(unique_name.guard())
        stack.enter_context(scope_guard(Scope()))
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        stack.enter_context(old_scripts(session))
        module = stack.enter_context(as_main(path, arguments))
        stack.enter_context(watching(stop))
        code = compiled(path)
        with contextlib.suppress(_Reached):
            _execute(code, module, path)
        # A script may switch its default programs for good.
        main, startup = default_main_program(), default_startup_program()
    for line in session.summary():
        print(line, file=sys.stderr)
    programs = {name: value for name, value in vars(module).items() if isinstance(value, Program)}
    layers = {name: value for name, value in vars(module).items() if isinstance(value, TracedLayer)}
    programs |= {name: layer.program for name, layer in layers.items()}
    outputs = {layer.program: tuple(layer.fetch_names) for layer in layers.values()}
    last = trained.last(since=first)
    return Script(path, programs, main, startup, last, found[0] if found else None, outputs)


def choose(script: Script, name: str | None = None) -> Chosen:
    """The program to compile: the one called ``name``, else the last one that an optimizer was put into.

    Without either it is what the script builds by default, or the only Layer that it traces.

    Raises:
        CaptureError: There is no such program, or none at all.
    """
    program = script.last
    if name is not None:
        program = _named(script, name)
    elif program is None:
        program = script.call.program if script.call is not None else script.main
        if not program.global_block().ops and len(script.outputs) == 1:
            (program,) = script.outputs
    if not program.global_block().ops:
        raise CaptureError(
            "the script builds no program that could be compiled",
            where=str(script.path),
            hint="build layers and call optimizer.minimize(loss), or name a program or a TracedLayer: SCRIPT.py:NAME; "
            "a model of dygraph becomes a program by outputs, traced = TracedLayer.trace(net, [x])",
        )
    call = script.call if script.call is not None and script.call.program is program else None
    startup = _with_values(program, _startup_of(script, program))
    return Chosen(script.path, program, startup, call, script.outputs.get(program, ()))


def feed_types(chosen: Chosen, stated: Mapping[str, Sequence[int]]) -> dict[str, TensorType]:
    """What the program is fed: its data variables and whatever else the captured call feeds.

    Extents that the program leaves open are, on axis 0, the batch; on other axes those stated, else those of the
    arrays in the captured call.

    Args:
        chosen: What is compiled.
        stated: Shapes by feed name, -1 for the batch.

    Raises:
        CaptureError: A stated feed does not exist or has another rank.
        LoweringError: An extent is left open.
    """
    block = chosen.program.global_block()
    read = {name for op in block.ops for name in op.input_arg_names}
    fed = dict(chosen.call.feeds) if chosen.call is not None else {}
    found: dict[str, TensorType] = {}
    for name, var in block.vars.items():
        if name in read and (var.is_data or name in fed):
            found.update(feed_types_of(var, _shape(chosen.path, var, stated.get(name), fed.get(name))))
    for name in stated:
        if name not in found:
            raise CaptureError(
                f"--feed {name}: the program has no such feed",
                where=str(chosen.path),
                hint=f"its feeds are {', '.join(found) or 'none'}",
            )
    return found


def fetches(chosen: Chosen, more: Sequence[str]) -> tuple[str, ...]:
    """What the step returns: the captured call's fetches, else the loss and accuracies; and ``more``.

    Raises:
        CaptureError: ``more`` names a variable that the program does not have.
    """
    block = chosen.program.global_block()
    for name in more:
        if not block.has_var(name):
            raise CaptureError(
                f"--fetch {name}: the program has no such variable",
                where=str(chosen.path),
                hint=f"name a result of a layer, such as {', '.join(_results(block.ops)[-4:]) or 'none'}",
            )
    if chosen.call is not None and chosen.call.fetches:
        found = list(chosen.call.fetches)
    else:
        losses = [name for op in block.ops if op.type == "backward" for name in op.input("Targets")]
        accuracies = [name for op in block.ops if op.type == "accuracy" for name in op.output("Accuracy")]
        found = losses + accuracies
    if not found and not more:
        used = {name for op in block.ops for name in op.input_arg_names}
        found = list(chosen.outputs) or [name for name in _results(block.ops) if name not in used]
    return tuple(dict.fromkeys([*found, *more]))


def infer_fetches(program: Program, names: Sequence[str]) -> tuple[str, ...]:
    """Those of ``names`` that the program's test form still computes."""
    test = program.clone(for_test=True)
    return tuple(
        name
        for name in names
        if not name.endswith(GRAD_SUFFIX) and name in test.global_block().vars and producers(test, name)
    )


def _shape(path: Path, var: Variable, stated: Sequence[int] | None, fed: object) -> list[int]:
    shape = list(var.shape)
    if stated is not None:
        fits = len(stated) == len(shape) and all(have in (-1, want) for have, want in zip(shape, stated))
        if not fits:
            raise CaptureError(
                f"--feed {var.name}={_spelled(stated)} does not fit the declared shape {_spelled(shape)}",
                where=str(path),
                hint="state one size per axis, N for the batch, and keep the sizes that the program fixes",
            )
        return list(stated)
    given = getattr(fed, "shape", ())
    if len(given) == len(shape):
        shape = [given[axis] if axis and size < 0 else size for axis, size in enumerate(shape)]
    return shape


def _spelled(shape: Sequence[int]) -> str:
    return ",".join("N" if size < 0 else str(size) for size in shape)


def _results(ops: Sequence[Operator]) -> list[str]:
    """What the layers among the ops compute."""
    return [name for op in ops if op.role == OpRole.FORWARD for name in op.output_arg_names]


def _named(script: Script, name: str) -> Program:
    if name in script.programs:
        return script.programs[name]
    known = ", ".join(sorted(script.programs))
    stopped = "where the script was stopped" if script.call is not None else "at the end of the script"
    raise CaptureError(
        f"{stopped} there was no Program called {name!r}",
        where=str(script.path),
        hint=f"its global programs are: {known}" if known else "assign the program to a global variable",
    )


def _startup_of(script: Script, program: Program) -> Program | None:
    """The startup program noted with the program, else one of the script that initialises what it needs."""
    noted = trained.startup_of(program)
    if noted is not None:
        return noted
    needed = {param.name for param in program.all_parameters() if param.memory is None}
    candidates = [script.startup, *script.programs.values()]
    candidates += [s for p in script.programs.values() if (s := trained.startup_of(p)) is not None]
    for candidate in candidates:
        if candidate is not program and needed <= set(_results(candidate.global_block().ops)):
            return candidate if candidate.global_block().ops else None
    raise CaptureError(
        "no startup program of the script initialises the parameters of the program to be compiled",
        where=str(script.path),
        hint="build it inside program_guard(main, startup) and keep startup in a global variable",
    )


def _with_values(program: Program, startup: Program | None) -> Program | None:
    """A startup program that also gives variables of dygraph the values that they have now."""
    lent = [(var, var.memory) for var in program.global_block().vars.values() if var.memory is not None]
    if not lent:
        return startup
    made = Program() if startup is None else startup.clone()
    block = made.global_block()
    for var, memory in lent:
        if isinstance(var, Parameter):
            twin: Variable = block.create_parameter(var.shape, var.dtype, var.name, trainable=var.trainable)
        else:
            twin = block.create_var(name=var.name, shape=var.shape, dtype=var.dtype, persistable=True)
        memory.settle()
        NumpyArrayInitializer(memory.buffer.array.copy())(twin, block)
    return made


def _execute(code: types.CodeType, module: types.ModuleType, path: Path) -> None:
    try:
        execute(code, module, path)
    except SystemExit as stop:
        if stop.code not in (None, 0):
            raise CaptureError(
                f"the script exited with status {stop.code} before its first training step",
                where=str(path),
                hint="give its own arguments after --: fluidc compile SCRIPT.py -o OUT.fluidc -- ARGS",
            ) from None
