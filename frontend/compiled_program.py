"""fluid.CompiledProgram: a program with a word on how to compile it."""

from __future__ import annotations

from ..compiler.codegen.target import check_target
from ..compiler.errors import TargetError
from .errors import unsupported, wrong_type
from .framework import Program
from .source import user_location


class CompiledProgram:
    """A program that `Executor.run` compiles for a target of its own.

    Args:
        program: What is run.
        build_strategy: fluid's; None.

    Attributes:
        program: What is run.
        target: Where; None: the executor's target.
    """

    def __init__(self, program: Program, build_strategy: object = None) -> None:
        if not isinstance(program, Program):
            raise wrong_type(f"CompiledProgram: the program is {type(program).__name__}", "pass a fluid.Program")
        if build_strategy is not None:
            raise unsupported("CompiledProgram(build_strategy=...) is not part of this version", "leave it out")
        self.program = program
        self.target: str | None = None

    def with_target(self, target: str) -> CompiledProgram:
        """Compile for ``target`` (``cpu``, ``onnx``, ``reference``) whatever the executor's is; returns itself.

        Raises TargetError for a target that there is not.
        """
        try:
            check_target(target)
        except TargetError as error:
            raise TargetError(error.what, user_location().place, error.hint) from None
        self.target = target
        return self

    def with_data_parallel(self, *arguments: object, **named: object) -> CompiledProgram:
        """fluid's; not part of this version."""
        raise unsupported(
            "CompiledProgram.with_data_parallel is not part of this version", "run the program by Executor.run"
        )
