"""What ``program.desc`` is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .writing import program_to_bytes

if TYPE_CHECKING:
    from ...framework import Program


class ProgramView:
    """A program seen as a ProgramDesc; it is written anew whenever it is asked for."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def serialize_to_string(self) -> bytes:
        """The program as Paddle 1.8.5 reads it; see `program_to_bytes` for what a training program becomes."""
        return program_to_bytes(self._program)
