"""Where a program runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class CPUPlace:
    """This machine's processor."""

    def __str__(self) -> str:
        return "CPUPlace"


@dataclass(frozen=True)
class CUDAPlace:
    """One CUDA device, counted from 0."""

    device_id: int = 0

    def __str__(self) -> str:
        return f"CUDAPlace({self.device_id})"


@dataclass(frozen=True)
class CUDAPinnedPlace:
    """Host memory that a CUDA device can read; data is held in ordinary host memory."""

    def __str__(self) -> str:
        return "CUDAPinnedPlace"


_SELECTED = "FLAGS_selected_gpus"  # Paddle's name, lower case included

Place = CPUPlace | CUDAPlace | CUDAPinnedPlace


def cpu_places(device_count: int | None = None) -> list[CPUPlace]:
    """``device_count`` places; ``CPU_NUM`` of the environment, or 1, if None."""
    count = int(os.environ.get("CPU_NUM", "1")) if device_count is None else device_count
    return [CPUPlace()] * count


def cuda_places(device_ids: Sequence[int] | None = None) -> list[CUDAPlace]:
    """One place per device id; ``FLAGS_selected_gpus`` of the environment, or device 0, if None."""
    if device_ids is None:
        device_ids = [int(d) for d in os.environ.get(_SELECTED, "0").split(",")]
    return [CUDAPlace(d) for d in device_ids]


def cuda_pinned_places(device_count: int | None = None) -> list[CUDAPinnedPlace]:
    """``device_count`` places, 1 if None."""
    return [CUDAPinnedPlace()] * (device_count or 1)
