"""CUDA chips in numbers: what a kernel may take at least, and how many blocks keep one busy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from .kernels import Work, typical

LAUNCH_SECONDS = 2e-6
"""From one kernel to the next within a captured graph, roughly, on every chip listed."""

Bound = Literal["arithmetic", "memory", "launch"]


@dataclass(frozen=True)
class Chip:
    """A chip of an architecture, by the figures of its vendor's data sheet.

    Attributes:
        architecture: what code is generated for (``sm_90``).
        title: the product.
        multiprocessors: units that run thread blocks.
        flops: operations per second in float32, multiply-adds counted as two, without tensor cores.
        bandwidth: bytes per second from and to its memory.
    """

    architecture: str
    title: str
    multiprocessors: int
    flops: float
    bandwidth: float

    def seconds(self, work: Work) -> tuple[float, Bound]:
        """The least time of one call (of symbolic work at `kernels.TYPICAL`), and what sets it."""
        times: dict[Bound, float] = {
            "arithmetic": (typical(work.flops) + typical(work.integer)) / self.flops,
            "memory": typical(work.bytes) / self.bandwidth,
            "launch": LAUNCH_SECONDS,
        }
        bound = max(times, key=lambda name: times[name])
        return times[bound], bound


CHIPS: Mapping[str, Chip] = {
    chip.architecture: chip
    for chip in (
        Chip("sm_75", "T4", 40, 8.1e12, 0.32e12),
        Chip("sm_80", "A100 SXM 80 GB", 108, 19.5e12, 2.04e12),
        Chip("sm_86", "A10", 72, 31.2e12, 0.60e12),
        Chip("sm_89", "L40S", 142, 91.6e12, 0.86e12),
        Chip("sm_90", "H100 SXM", 132, 66.9e12, 3.35e12),
        Chip("sm_100", "B200", 148, 80.0e12, 8.0e12),
        Chip("sm_120", "RTX 5090", 170, 104.8e12, 1.79e12),
    )
}
"""One chip for each architecture, the widely used one."""


def chip_of(architecture: str) -> Chip | None:
    """The chip listed for an architecture (``sm_90a`` counts as ``sm_90``), or None."""
    return CHIPS.get(architecture.rstrip("af"))
