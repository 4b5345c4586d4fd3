"""What an op record is for."""

from __future__ import annotations

import enum


class OpRole(enum.IntEnum):
    """What an op is for; the numbers are Paddle's."""

    FORWARD = 0
    BACKWARD = 1
    OPTIMIZE = 2
    LR_SCHED = 16
