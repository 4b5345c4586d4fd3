"""What executes the functions of an artifact: the one interface between the runtime and its back ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

from .buffers import ALIGNMENT, Array, Arrays, Buffer, aligned, aligned_copy, aligned_zeros

__all__ = ["ALIGNMENT", "Array", "Arrays", "Buffer", "Engine", "Handle", "aligned", "aligned_copy", "aligned_zeros"]

Handle: TypeAlias = Any


class Engine(Protocol):
    """A loaded module.

    A function takes its inputs in the order of the manifest's ``FunctionSpec.inputs``: the state it reads or
    writes, in declaration order, then its parameters.  State is updated once the function has succeeded; the outputs
    of kind ``fetch`` are returned as new arrays, in the order of ``FunctionSpec.outputs``.
    """

    @property
    def in_place(self) -> bool:
        """Whether `call` works on the arrays of the state's buffers themselves: they must then be at home
        (`Buffer.bring_home`) before each call that another engine's may have preceded.  Other engines see to it."""
        ...

    def tensor(self, array: Array, *, secret: bool = False) -> Handle:
        """Wrap a 64-byte-aligned, C-contiguous array without copying; the handle keeps it alive.

        Args:
            array: Each call reads what is then in it.
            secret: A key, or noise: an engine that copies it for a call wipes the copy before the call ends.
        """
        ...

    def state(self, buffer: Buffer) -> Handle:
        """A handle through which functions read and write ``buffer``, which is as `tensor` wants arrays."""
        ...

    def call(self, function: str, arguments: Sequence[Handle]) -> list[Array]:
        """Run one function to its end; returns its fetches."""
        ...
