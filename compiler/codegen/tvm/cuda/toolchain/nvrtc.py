"""NVRTC: the compiler as a library, of a wheel or a toolkit."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from .....errors import TargetError
from .architectures import Architecture
from .compiler import PRECISION, refused
from .fatbin import Part, join
from .places import INSTALL
from .source import needs_headers

OLDEST = (12, 0)
_FILE = "kernels.cu"


@dataclass(frozen=True, eq=False)
class Nvrtc:
    """NVRTC.

    Attributes:
        nvrtc: The loaded library.
        version: Major and minor.
        known: See `Compiler.known`.
        headers: Folders of CUDA's headers.
        fatbin: Path of nvFatbin, if it is there.
    """

    nvrtc: Any
    version: tuple[int, int]
    known: tuple[int, ...]
    headers: tuple[Path, ...]
    fatbin: Path | None

    @property
    def title(self) -> str:
        return f"NVRTC {self.version[0]}.{self.version[1]}"

    def translate(self, text: str, architectures: Sequence[Architecture]) -> tuple[bytes, str]:
        with ThreadPoolExecutor(len(architectures)) as pool:
            made = list(pool.map(partial(self._one, text), architectures))
        images = [Part(architecture, image) for architecture, (image, _) in zip(architectures, made, strict=True)]
        log = "\n".join(log for _, log in made)
        if len(images) == 1 and not architectures[0].virtual:
            return images[0].image, log
        return join(self.fatbin, images), log

    def _one(self, text: str, architecture: Architecture) -> tuple[bytes, str]:
        """PTX or a cubin, and what the compiler says."""
        program = ctypes.c_void_p()
        self._check(self.nvrtc.nvrtcCreateProgram(ctypes.byref(program), text.encode(), _FILE.encode(), 0, None, None))
        try:
            options = self._options(text, architecture)
            values = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
            status = self.nvrtc.nvrtcCompileProgram(program, len(options), values)
            log = self._taken("ProgramLog", program).rstrip(b"\0").decode(errors="replace")
            if status:
                raise refused(self.title, text, log, _FILE)
            return self._taken("PTX" if architecture.virtual else "CUBIN", program), log
        finally:
            self.nvrtc.nvrtcDestroyProgram(ctypes.byref(program))

    def _options(self, text: str, architecture: Architecture) -> list[str]:
        options = [f"--gpu-architecture={architecture}", *PRECISION, "--disable-warnings", "--std=c++17"]
        if not architecture.virtual:
            options.append("--ptxas-options=-v")
        if needs_headers(text):
            if not self.headers:
                raise TargetError(
                    "float16 and bfloat16 kernels need headers of CUDA, which are not there", hint=INSTALL
                )
            options += [f"--include-path={folder}" for folder in self.headers]
        return options

    def _taken(self, what: str, program: ctypes.c_void_p) -> bytes:
        size = ctypes.c_size_t()
        self._check(getattr(self.nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
        content = ctypes.create_string_buffer(size.value)
        self._check(getattr(self.nvrtc, f"nvrtcGet{what}")(program, content))
        return content.raw

    def _check(self, status: int) -> None:
        if status:
            text = self.nvrtc.nvrtcGetErrorString
            text.restype = ctypes.c_char_p
            raise TargetError(f"{self.title} failed: {text(status).decode()}")


def load(path: Path, headers: tuple[Path, ...], fatbin: Path | None) -> Nvrtc:
    """The NVRTC of a file; raises TargetError when it does not load, or is too old."""
    try:
        for builtins in path.parent.glob("libnvrtc-builtins.so.*"):  # found in no other way from inside a wheel
            ctypes.CDLL(str(builtins))
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise TargetError("NVRTC does not load", str(path), f"{error}; install it again: {INSTALL}") from None
    major, minor, count = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    version = (major.value, minor.value)
    if version < OLDEST:
        raise TargetError(f"NVRTC {version[0]}.{version[1]} is too old", str(path), f"12.0 or later: {INSTALL}")
    library.nvrtcGetNumSupportedArchs(ctypes.byref(count))
    known = (ctypes.c_int * count.value)()
    library.nvrtcGetSupportedArchs(known)
    return Nvrtc(library, version, tuple(sorted(known)), headers, fatbin)
