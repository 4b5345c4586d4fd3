"""The ``cpu`` target as the driver sees it: a shared library, compiled or kept from an earlier time.

TVM is imported only where something is compiled: what is kept is found without it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from ....runtime.errors import ArtifactError
from ....runtime.kernels import KernelTable
from ....runtime.manifest import TargetSpec
from ....runtime.processor import check_cpu
from ....runtime.processor import machine as here
from ....runtime.threads import thread_count
from ....runtime.tvm_engine import TvmEngine
from ...ir.core import Module
from ...ir.printer import to_text
from ..built import BuildOptions, Built
from ..cache import Cache, user_cache
from .cpu import Options, named_cpu
from .link import has_linker

_ROOT = Path(__file__).parents[3]


def build(module: Module, options: BuildOptions) -> Built:
    """Compile a module for the ``cpu`` target, or find it compiled; see ``codegen.target.build``."""
    chosen = Options(named_cpu(options.cpu or "native"), thread_count(options.threads or None))
    if chosen.cpu.machine == here() and not has_linker():
        # Code for this process needs no file; only who writes an artifact is told that there is no linker.
        from .build import compile_module

        return compile_module(module, chosen)
    store = user_cache()
    key = _key("code", module, chosen, locations=False)
    code, describe = store.read(key), None
    if code is None:
        from .objects import compile_library

        code, describe = compile_library(module, chosen)
        store.write(key, code)
    return Library(module, chosen, code, store, describe)


@dataclass(frozen=True, eq=False)
class Library:
    """A module's code as one shared library.

    Attributes:
        module: What was compiled.
        options: How.
        code: The library.
        store: Where the table of its kernels is kept.
        describe: Makes that table; None where the library was found compiled.
    """

    module: Module
    options: Options
    code: bytes
    store: Cache
    describe: Callable[[], KernelTable] | None

    @property
    def spec(self) -> TargetSpec:
        """The machine the code is for."""
        cpu = self.options.cpu
        return TargetSpec("cpu", cpu.triple, cpu.name, cpu.features, self.options.threads)

    @property
    def kernels(self) -> KernelTable:
        """What the code consists of; it names lines of the user's, so that it is kept apart from the code."""
        key = _key("kernels", self.module, self.options, locations=True)
        kept = self.store.read(key)
        if kept is not None:
            try:
                return KernelTable.from_bytes(kept, key)
            except ArtifactError:
                pass
        if self.describe is not None:
            table = self.describe()
        else:
            from .build import table_of

            table = table_of(self.module, self.options)
        self.store.write(key, table.to_bytes())
        return table

    def engine(self) -> TvmEngine:
        """An engine over the library.  Raises EngineError for code that this processor cannot execute."""
        check_cpu(self.spec)
        return TvmEngine(self.code, self.options.threads)

    def members(self) -> Mapping[str, bytes]:
        """``module.so``, the same bytes for the same input (`objects.compile_library`)."""
        return {"module.so": self.code}


def _key(kind: str, module: Module, options: Options, *, locations: bool) -> str:
    """Hexadecimal digits that differ wherever the result may: text, machine, threads, and what generates code."""
    question = (kind, _generator(), options.cpu, options.threads, to_text(module, locations=locations))
    return hashlib.sha256("\n".join(map(repr, question)).encode()).hexdigest()


@cache
def _generator() -> str:
    """The versions of TVM, and every line of the compiler and of what it takes from the runtime."""
    digest = hashlib.sha256()
    for name in ("apache-tvm", "apache-tvm-ffi"):
        digest.update(f"{name} {metadata.version(name)}\n".encode())
    for room in ("compiler", "runtime"):
        for path in sorted((_ROOT / room).rglob("*.py")):
            digest.update(f"{path.relative_to(_ROOT)}\n".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
