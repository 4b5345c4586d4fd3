"""Which chips a module is built for."""

from __future__ import annotations

from dataclasses import dataclass

from ..cpu import Cpu

DEFAULT = ("sm_80", "sm_90", "compute_90")
"""Machine code for chips of compute capability 8.x and 9.0, and PTX, which drivers compile for later ones."""


@dataclass(frozen=True)
class Options:
    """How to build.

    Attributes:
        cpu: The CPU that launches the kernels.
        architectures: The chips to generate machine code for, ``sm_90`` and the like; ``compute_90`` for PTX.
        tf32: Whether large products of float32 may round their operands to 10 bits of mantissa, which tensor cores
            multiply several times as fast.
    """

    cpu: Cpu
    architectures: tuple[str, ...] = DEFAULT
    tf32: bool = False
