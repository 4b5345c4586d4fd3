"""Images for several architectures as one, of which the driver takes what fits its chip."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .....errors import TargetError
from .architectures import Architecture
from .places import INSTALL


@dataclass(frozen=True)
class Part:
    """A cubin or, for a virtual architecture, PTX."""

    architecture: Architecture
    image: bytes


def join(path: Path | None, parts: Sequence[Part]) -> bytes:
    """A fatbin of the parts.

    Args:
        path: The library nvFatbin; None where it is not there.
        parts: At least one.

    Raises:
        TargetError: There is no nvFatbin, or it fails.
    """
    if path is None:
        names = ", ".join(str(part.architecture) for part in parts)
        raise TargetError(
            f"code for {names} in one artifact needs nvFatbin, which is not there",
            hint=f"{INSTALL} (its wheel is nvidia-nvfatbin), or name one architecture, or use nvcc, which does without "
            "(FLUIDC_CUDA_COMPILER=nvcc)",
        )
    library = ctypes.CDLL(str(path))
    library.nvFatbinGetErrorString.restype = ctypes.c_char_p
    handle = ctypes.c_void_p()

    def check(status: int) -> None:
        if status:
            raise TargetError(f"nvFatbin failed: {library.nvFatbinGetErrorString(status).decode()}", str(path))

    options = (ctypes.c_char_p * 1)(b"-64")
    check(library.nvFatbinCreate(ctypes.byref(handle), options, ctypes.c_size_t(1)))
    try:
        for part in parts:
            number = f"{part.architecture.number}{part.architecture.variant}".encode()
            size = ctypes.c_size_t(len(part.image))
            if part.architecture.virtual:
                check(library.nvFatbinAddPTX(handle, part.image, size, number, b"kernels", None))
            else:
                check(library.nvFatbinAddCubin(handle, part.image, size, number, b"kernels"))
        size = ctypes.c_size_t()
        check(library.nvFatbinSize(handle, ctypes.byref(size)))
        joined = ctypes.create_string_buffer(size.value)
        check(library.nvFatbinGet(handle, joined))
        return joined.raw
    finally:
        library.nvFatbinDestroy(ctypes.byref(handle))
