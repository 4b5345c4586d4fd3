"""What a kernel takes of a multiprocessor, as ``ptxas -v`` reports it."""

from __future__ import annotations

import re
from dataclasses import dataclass

_KERNEL = re.compile(r"Compiling entry function '(\w+)' for '(\w+)'")
_FRAME = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")


@dataclass(frozen=True)
class KernelUse:
    """What a kernel takes.

    Attributes:
        name: of the kernel.
        architecture: ``sm_90`` and the like.
        registers: of a thread, 32 bits each.
        stack: bytes of a thread's own memory that are no registers.
        spilled: bytes that a thread stores for want of registers; zero in a kernel that is scheduled well.
        shared: static bytes that a block shares.
    """

    name: str
    architecture: str
    registers: int
    stack: int = 0
    spilled: int = 0
    shared: int = 0


def usage(log: str) -> tuple[KernelUse, ...]:
    """What the kernels take, in the order of a log of ptxas; other lines are skipped."""
    found: list[KernelUse] = []
    kernel, frame = None, (0, 0)
    for line in log.splitlines():
        if match := _KERNEL.search(line):
            kernel, frame = (match[1], match[2]), (0, 0)
        elif match := _FRAME.search(line):
            frame = (int(match[1]), int(match[2]))
        elif kernel and (match := _USED.search(line)):
            shared = _SHARED.search(line)
            found.append(KernelUse(*kernel, int(match[1]), *frame, int(shared[1]) if shared else 0))
            kernel = None
    return tuple(found)
