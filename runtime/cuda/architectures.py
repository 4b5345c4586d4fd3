"""Which chips run which code."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import EngineError
from ..manifest import TargetSpec

_NAME = re.compile(r"(sm|compute)_(\d+)(\d)([af]?)")


@dataclass(frozen=True)
class Architecture:
    """Code for one kind of chip.

    Attributes:
        major, minor: Compute capability that it was made for.
        portable: It is PTX (``compute_90``), which the driver compiles for any later chip.
        only: The letter of code that later chips do not run: ``a`` that chip only, ``f`` its family; or empty.
    """

    major: int
    minor: int
    portable: bool
    only: str

    @classmethod
    def parse(cls, name: str) -> Architecture | None:
        """The one that is called ``sm_90``, ``sm_90a`` or ``compute_90``; None for another text."""
        found = _NAME.fullmatch(name)
        if found is None:
            return None
        kind, major, minor, only = found.groups()
        return cls(int(major), int(minor), kind == "compute", only)

    def runs_on(self, capability: tuple[int, int]) -> bool:
        """Whether a chip of this compute capability executes it."""
        made = (self.major, self.minor)
        if self.only == "a":
            return capability == made
        if self.portable and not self.only:
            return capability >= made
        return capability[0] == self.major and capability >= made


def check_architecture(target: TargetSpec, capability: tuple[int, int], where: str) -> None:
    """Raise EngineError when none of the artifact's code runs on a chip of this compute capability."""
    known = [(name, Architecture.parse(name)) for name in target.architectures]
    if any(code is not None and code.runs_on(capability) for _, code in known):
        return
    has = ", ".join(target.architectures) or "no architecture"
    raise EngineError(
        f"the artifact has no code for this chip, sm_{capability[0]}{capability[1]}: it has {has}",
        where,
        f"compile the program again with --arch sm_{capability[0]}{capability[1]}",
    )
