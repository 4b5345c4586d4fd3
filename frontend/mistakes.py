"""What is said of a program that cannot be run as it is: which variable, feed or label is wrong, and who wants it."""

from __future__ import annotations

import re
from collections.abc import Collection

from ..runtime.errors import DataError
from . import trained
from .errors import ProgramError, invalid
from .framework import Operator, Program, default_startup_program
from .scope import Scope
from .source import user_location
from .variable import Variable

_RANGES = frozenset(
    ("cross_entropy", "cross_entropy2", "softmax_with_cross_entropy", "lookup_table", "lookup_table_v2", "gather")
)
"""Ops that take numbers of rows or classes."""
_FEED = re.compile(r"feed '(.+?)'")


def no_value(program: Program, scope: Scope, name: str) -> ProgramError:
    """A variable is read that has no value: its startup program was not run, or before the variable was added to it."""
    startup = trained.startup_of(program) or default_startup_program()
    maker = next((op for op in startup.global_block().ops if name in op.output_arg_names), None)
    if maker is None:
        return invalid(
            f"variable {name!r} has no value: it was never initialised in this scope",
            "run the startup program first, and after minimize(): exe.run(fluid.default_startup_program())",
        )
    called = "fluid.default_startup_program()" if startup is default_startup_program() else "startup"
    if startup.uid not in scope.ran:
        return invalid(
            f"variable {name!r} of {_by(maker)} has no value: the startup program has not been run in this scope",
            f"after minimize(), and before this line: exe.run({called})",
        )
    return invalid(
        f"variable {name!r} has no value: {_by(maker)} added it after the startup program had been run",
        f"move that line up, before exe.run({called}); or run it again there: all parameters then begin anew",
    )


def check_fed(program: Program, fed: Collection[str]) -> None:
    """Look for data variables that ops read and nobody feeds.

    Raises:
        ProgramError: There are some; all of them are named.
    """
    block = program.global_block()
    known = set(fed)
    missing: dict[str, Operator] = {}
    for op in block.ops:
        for name in op.input_arg_names:
            if name not in known and name in block.vars and block.vars[name].is_data:
                missing.setdefault(name, op)
        known.update(op.output_arg_names)
    if missing:
        given = ", ".join(name for name in fed if name in block.vars) or "nothing"
        wanted = ", ".join(f"{name!r}: {_described(block.vars[name])}" for name in missing)
        several = len(missing) > 1
        raise invalid(
            f"feed {', '.join(map(repr, missing))} {'are' if several else 'is'} missing: "
            + ", ".join(f"{_by(op)} reads {name}" for name, op in missing.items()),
            f"add {wanted}; {given} was fed",
        )


def read_by(program: Program, error: DataError) -> DataError:
    """The same error at the user's line, with the layer that reads the feed it is about, and that layer's line."""
    where = f"{user_location().place}, {error.where}"
    found = _FEED.search(error.what)
    reader = _reader(program, found[1]) if found is not None and "must be in" in error.what else None
    if reader is not None:
        where += f"; {_by(reader)} reads it"
    return DataError(error.what, where, error.hint or "")


def _reader(program: Program, name: str) -> Operator | None:
    """The op that a feed's values have to fit: one that takes classes or rows by number, else its first reader."""
    readers = [op for op in program.global_block().ops if name in op.input_arg_names]
    return next((op for op in readers if op.type in _RANGES), readers[0] if readers else None)


def _by(op: Operator) -> str:
    """``fc (train.py:12)``."""
    return f"{(op.loc.layer or op.type).removesuffix('_v2')} ({op.loc.place})"


def _described(variable: Variable) -> str:
    sizes = ", ".join("N" if size < 0 else str(size) for size in variable.shape)
    sequences = f", sequences of lod_level {variable.lod_level}" if variable.lod_level else ""
    return f"{variable.dtype.numpy}[{sizes}]{sequences}"
