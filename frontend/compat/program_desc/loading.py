"""Whole files: a ProgramDesc, what is fed and fetched, and the program that initialises it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from ... import trained
from ...framework import Program
from ...source import user_location
from ...variable import Parameter, Variable
from .building import Draft, build, draft_of
from .dpsgd import PrivacyRequest, Replacement
from .errors import ProgramDescError
from .reading import parse_desc, read_desc
from .supported import check_supported

MODEL = "__model__"
"""The file of an inference model's program."""


class LoadedProgram(NamedTuple):
    """An imported program.

    Attributes:
        program: The program.
        startup: The one that initialises its variables; without ops where none was given.
        feeds: What is fed: in the order of the file's feed ops where it has some.
        outputs: The targets of an inference model; [] of another program.
        losses: What is minimised; [] where nothing is.
        parameters: What can be trained of it.
    """

    program: Program
    startup: Program
    feeds: list[Variable]
    outputs: list[Variable]
    losses: list[Variable]
    parameters: list[Parameter]


def load_program(
    model: str | os.PathLike[str] | bytes,
    startup: str | os.PathLike[str] | bytes | None = None,
    *,
    trainable: str | Sequence[str] | None = None,
    request: PrivacyRequest | None = None,
    tell: Callable[[str], None] = print,
) -> LoadedProgram:
    """Read a program that Paddle, or this package, saved; see `fluid.io.load_program`.

    Args:
        model, startup, trainable: As there.
        request: What is stated for the program's ``dpsgd`` ops.
        tell: Gets the report of their replacement.
    """
    draft = read_draft(model)
    initialiser = None if startup is None else read_draft(startup)
    drafts = [draft] if initialiser is None else [draft, initialiser]
    for each in drafts:
        check_supported(each.blocks.values(), each.source)
    replacement = Replacement(request or PrivacyRequest(), draft.source)
    program, first = Program(), Program()
    feeds = build(draft, program, _chosen(draft, trainable), replacement)
    if initialiser is not None:
        build(initialiser, first)
    block = program.global_block()
    losses = [name for op in block.ops if op.type == "backward" for name in op.input("Targets")]
    if replacement.report is not None:
        tell(replacement.report)
    if losses:
        trained.note(program, first)
    outputs = [_output(program, name, draft.source) for name in draft.fetches]
    trained_ones = [parameter for parameter in block.all_parameters() if parameter.trainable]
    return LoadedProgram(
        program, first, [block.vars[n] for n in feeds], outputs, [block.vars[n] for n in losses], trained_ones
    )


def read_draft(model: str | os.PathLike[str] | bytes) -> Draft:
    """A file, a folder's ``__model__``, or the bytes of a ProgramDesc, taken apart.

    Raises:
        ProgramDescError: It cannot be read, or not be understood.
    """
    if isinstance(model, bytes):
        source = user_location().place
        return draft_of(parse_desc(model, source), source)
    if not isinstance(model, str | os.PathLike):
        raise ProgramDescError(
            f"load_program: {type(model).__name__} in place of a path or bytes",
            user_location().place,
            "give a __model__ or .pdmodel file, or its bytes",
        )
    path = Path(model)
    path = path / MODEL if path.is_dir() else path
    return draft_of(read_desc(path), str(path))


def _output(program: Program, name: str, source: str) -> Variable:
    found = program.global_block().vars.get(name)
    if found is None:
        raise ProgramDescError(
            f"the program fetches {name}, which it does not declare", source, "the file is damaged: copy it anew"
        )
    return found


def _chosen(draft: Draft, patterns: str | Sequence[str] | None) -> Callable[[str], bool] | None:
    """Which parameters are trained, by globs; None for all."""
    if patterns is None:
        return None
    listed = [patterns] if isinstance(patterns, str) else list(patterns)
    names = [
        n for n, var in draft.variables[0].items() if var.persistable and var.dtype is not None and var.dtype.is_float
    ]
    for pattern in listed:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ProgramDescError(
                f"load_program: trainable names {pattern!r}, which matches no persistable variable",
                draft.source,
                f"they are {', '.join(sorted(names)) or 'none'}",
            )
    return lambda name: any(fnmatchcase(name, pattern) for pattern in listed)
