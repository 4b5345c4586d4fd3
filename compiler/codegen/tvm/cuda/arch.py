"""Which chips a module is built for."""

from __future__ import annotations

from dataclasses import dataclass

from ..cpu import Cpu

DEFAULT = ("sm_80", "sm_90")


@dataclass(frozen=True)
class Options:
    """How to build.

    Attributes:
        cpu: The CPU that launches the kernels.
        architectures: The chips to generate machine code for, ``sm_90`` and the like.
    """

    cpu: Cpu
    architectures: tuple[str, ...] = DEFAULT
