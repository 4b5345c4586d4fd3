"""What a compiler of CUDA C is, and code that is compiled once and kept."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

from .....errors import TargetError
from ....cache import Cache
from .architectures import Architecture, checked
from .source import kernel_at, prepared
from .usage import KernelUse, usage

PRECISION = ("--fmad=true", "--prec-div=true", "--prec-sqrt=true", "--ftz=false")
"""Arithmetic as IEEE 754 has it, but that products and sums are joined to fused multiply-adds, rounded once.

Never ``--use_fast_math``: it flushes subnormal numbers, and its divisions and exponentials are off by more than
training tolerates in places.  Both compilers take these options, and have them as defaults: stated, they cannot change.
"""


@dataclass(frozen=True)
class MachineCode:
    """Kernels that a driver loads.

    Attributes:
        image: A cubin, which is an ELF file, for one architecture; for several a fatbin.
        kernels: What each kernel takes, on each architecture that machine code was generated for.
        compiler: What generated it: ``NVRTC 13.0``.
    """

    image: bytes
    kernels: tuple[KernelUse, ...]
    compiler: str

    def to_bytes(self) -> bytes:
        """As `from_bytes` reads it."""
        head = json.dumps({"kernels": [asdict(kernel) for kernel in self.kernels], "compiler": self.compiler})
        return head.encode() + b"\n" + self.image

    @classmethod
    def from_bytes(cls, content: bytes) -> MachineCode:
        head, _, image = content.partition(b"\n")
        fields = json.loads(head)
        return cls(image, tuple(KernelUse(**kernel) for kernel in fields["kernels"]), fields["compiler"])


class Compiler(Protocol):
    """A compiler of CUDA C."""

    @property
    def title(self) -> str:
        """Its name and version."""
        ...

    @property
    def known(self) -> tuple[int, ...]:
        """Numbers of the architectures that it generates code for, ascending."""
        ...

    def translate(self, text: str, architectures: Sequence[Architecture]) -> tuple[bytes, str]:
        """The image of a text, and what ptxas says about it.  Raises TargetError.

        Args:
            text: With all that it needs but headers of the toolkit.
            architectures: At least one.
        """
        ...


def compile_code(compiler: Compiler, code: str, architectures: Sequence[str], cache: Cache) -> MachineCode:
    """Compile CUDA C as TVM writes it.

    Args:
        compiler: To compile with.
        code: ``extern "C"`` kernels, with TVM's preamble.
        architectures: Names: ``sm_90``, and ``compute_90`` for PTX.
        cache: Where the result is kept, and found the next time.

    Raises:
        TargetError: Names of nothing or of architectures that the compiler does not know, or it refuses the text.
    """
    wanted, text = checked(architectures, compiler.known, compiler.title), prepared(code)
    parts = ("cuda 1", compiler.title, *PRECISION, *map(str, wanted), text)
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    kept = cache.read(key)
    if kept is not None:
        return MachineCode.from_bytes(kept)
    image, log = compiler.translate(text, wanted)
    made = MachineCode(image, usage(log), compiler.title)
    cache.write(key, made.to_bytes())
    return made


def refused(compiler: str, text: str, log: str, file: str) -> TargetError:
    """The error of a text that a compiler does not take: the first line that it names, and what it says."""
    match = re.search(rf"{re.escape(file)}\((\d+)\): error", log)
    kernel = kernel_at(text, int(match[1])) if match else None
    where = f"kernel {kernel}" if kernel else None
    lines = [line for line in log.splitlines() if line.strip()]
    return TargetError(f"{compiler} does not take the kernels that were generated", where, "\n  ".join(lines[:12]))
