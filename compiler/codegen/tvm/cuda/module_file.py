"""From a module to the bytes of a shared library that holds machine code for the chips."""

from __future__ import annotations

from collections.abc import Callable

from .....runtime.kernels import KernelTable
from ....ir.core import Module
from ...cache import user_cache
from ..link import shared_library
from .arch import Options
from .build import compile_module
from .toolchain.compiler import Compiler
from .toolchain.embed import embedding


def compile_library(module: Module, options: Options, compiler: Compiler) -> tuple[bytes, Callable[[], KernelTable]]:
    """Compile every function of a module at stage ``target``; returns the library, and what tells of its kernels.

    Raises:
        TargetError: An op has no rule for this target, the module is at another stage, the compiler does not know an
            architecture, or there is no linker.
    """
    with embedding(compiler, options.architectures, user_cache()):
        made = compile_module(module, options)
    return shared_library(made.executable, options.cpu.machine), lambda: made.kernels
