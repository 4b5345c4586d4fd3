"""The ``cuda`` target as the driver sees it: a shared library with machine code in it, compiled or kept.

TVM is imported only where something is compiled, the compiler of CUDA C used only there.
"""

from __future__ import annotations

from collections.abc import Callable

from .....runtime.cuda.engine import CudaEngine
from .....runtime.engine import Engine
from .....runtime.kernels import KernelTable
from .....runtime.manifest import TargetSpec
from .....runtime.processor import check_cpu
from ....ir.core import Module
from ...built import BuildOptions, Built
from ..cpu import named_cpu
from ..kept import library
from .arch import DEFAULT, Options
from .toolchain.architectures import checked
from .toolchain.find import find_compiler


def build(module: Module, options: BuildOptions) -> Built:
    """Compile a module for the ``cuda`` target, or find it compiled; see ``codegen.target.build``."""
    cpu, compiler = named_cpu(options.cpu or "native"), find_compiler()
    chosen = Options(cpu, options.architectures or DEFAULT, options.tf32)
    checked(chosen.architectures, compiler.known, compiler.title)
    spec = TargetSpec("cuda", cpu.triple, cpu.name, cpu.features, architectures=chosen.architectures, tf32=chosen.tf32)

    def compiled() -> tuple[bytes, Callable[[], KernelTable]]:
        from .module_file import compile_library

        return compile_library(module, chosen, compiler)

    def table() -> KernelTable:
        from .build import kernel_table

        return kernel_table(module)

    def engine(code: bytes) -> Engine:
        check_cpu(spec)
        return CudaEngine(code, spec)

    return library(module, (chosen, compiler.title), spec, compiled, table, engine)
