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
    """One place per device id; if None, of ``FLAGS_selected_gpus`` of the environment, else of every device here.

    Without a device the list is empty, where Paddle raises an error.
    """
    if device_ids is None:
        selected = os.environ.get(_SELECTED)
        if selected:
            device_ids = [int(d) for d in selected.split(",")]
        else:
            from ..runtime.cuda.cudart import device_count  # most programs never ask

            device_ids = range(device_count())
    return [CUDAPlace(d) for d in device_ids]


def is_compiled_with_cuda() -> bool:
    """Whether this process can run programs on a CUDA device: NVIDIA's driver, libcudart and a device are there.

    Paddle tells how its package was built, with or without a device. Here every installation compiles for CUDA, no
    device is needed for it, and what scripts choose their place by is whether one can be used. Found out once.
    """
    from ..runtime.cuda.cudart import device_count  # most programs never ask

    return device_count() > 0


def cuda_pinned_places(device_count: int | None = None) -> list[CUDAPinnedPlace]:
    """``device_count`` places, 1 if None."""
    return [CUDAPinnedPlace()] * (device_count or 1)
