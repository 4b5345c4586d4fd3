"""Names of chips: ``sm_90`` for machine code, ``compute_90`` for PTX, which drivers compile for later chips."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .....errors import TargetError

_NAME = re.compile(r"(sm|compute)_(\d{2,3})([af]?)")


@dataclass(frozen=True)
class Architecture:
    """What code is generated for.

    Attributes:
        number: Ten times the compute capability.
        variant: ``a`` or ``f`` for what only this chip or family has; else empty.
        virtual: PTX rather than machine code.
    """

    number: int
    variant: str = ""
    virtual: bool = False

    def __str__(self) -> str:
        return f"{'compute' if self.virtual else 'sm'}_{self.number}{self.variant}"

    @property
    def compute(self) -> str:
        """The name of its instruction set: ``compute_90``."""
        return f"compute_{self.number}{self.variant}"


def parse(name: str) -> Architecture:
    """An architecture by its name; raises TargetError for what is none."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise TargetError(
            f"{name!r} names no CUDA architecture",
            hint="machine code is for sm_80, sm_90 and the like; PTX, for chips to come, is compute_90 and the like",
        )
    kind, number, variant = match.groups()
    return Architecture(int(number), variant, kind == "compute")


def oldest(names: Sequence[str]) -> str:
    """The name of the chip that knows least, on which all code has to run; raises TargetError as `checked` does."""
    return f"sm_{min(parse(name).number for name in names)}"


def checked(names: Sequence[str], known: Sequence[int], compiler: str) -> tuple[Architecture, ...]:
    """The architectures of these names, each once, in the order of their numbers.

    Args:
        names: At least one.
        known: Numbers of those that the compiler generates code for.
        compiler: As the error calls it.

    Raises:
        TargetError: No name, a name of nothing, or an architecture that the compiler does not know.
    """
    if not names:
        raise TargetError("no CUDA architecture to generate code for", hint="name some: sm_80, sm_90")
    found = {parse(name) for name in names}
    for architecture in found:
        if architecture.number not in known:
            listed = ", ".join(f"sm_{number}" for number in known)
            raise TargetError(f"{compiler} generates no code for {architecture}", hint=f"it knows {listed}")
    return tuple(sorted(found, key=lambda a: (a.number, a.variant, a.virtual)))
