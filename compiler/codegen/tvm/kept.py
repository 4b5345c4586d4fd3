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

from ....runtime.engine import Engine
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
    cpu = chosen.cpu
    spec = TargetSpec("cpu", cpu.triple, cpu.name, cpu.features, chosen.threads)

    def compiled() -> tuple[bytes, Callable[[], KernelTable]]:
        from .objects import compile_library

        return compile_library(module, chosen)

    def table() -> KernelTable:
        from .build import table_of

        return table_of(module, chosen)

    def engine(code: bytes) -> Engine:
        check_cpu(spec)
        return TvmEngine(code, chosen.threads)

    return library(module, (cpu, chosen.threads), spec, compiled, table, engine)


def library(
    module: Module,
    options: tuple[object, ...],
    spec: TargetSpec,
    compiled: Callable[[], tuple[bytes, Callable[[], KernelTable]]],
    table: Callable[[], KernelTable],
    engine: Callable[[bytes], Engine],
) -> Library:
    """A module's library: one that is kept, or compiled now and kept.

    Args:
        module: At stage ``target``.
        options: All that the code depends on beside the module, the versions of TVM and this package.
        spec: What the code is for.
        compiled: Compiles it; also gives what makes the table of its kernels.
        table: Makes the table where the code was found.
        engine: Runs the code.

    Raises what ``compiled`` does.
    """
    store = user_cache()
    key = _key("code", module, (spec.kind, *options), locations=False)
    code = store.read(key)
    if code is None:
        code, table = compiled()
        store.write(key, code)
    return Library(code, spec, engine, _key("kernels", module, (spec.kind, *options), locations=True), store, table)


@dataclass(frozen=True, eq=False)
class Library:
    """A module's code as one shared library.

    Attributes:
        code: The library.
        spec: What it is for.
        run: Makes an engine of it.
        key: Under which the table of its kernels is kept.
        store: Where.
        table: Makes that table.
    """

    code: bytes
    spec: TargetSpec
    run: Callable[[bytes], Engine]
    key: str
    store: Cache
    table: Callable[[], KernelTable]

    @property
    def kernels(self) -> KernelTable:
        """What the code consists of; it names lines of the user's, so that it is kept apart from the code."""
        kept = self.store.read(self.key)
        if kept is not None:
            try:
                return KernelTable.from_bytes(kept, self.key)
            except ArtifactError:
                pass
        table = self.table()
        self.store.write(self.key, table.to_bytes())
        return table

    def engine(self) -> Engine:
        """An engine over the library.  Raises EngineError for code that this machine cannot execute."""
        return self.run(self.code)

    def members(self) -> Mapping[str, bytes]:
        """``module.so``, the same bytes for the same input (`objects.compile_library`)."""
        return {"module.so": self.code}


def _key(kind: str, module: Module, options: tuple[object, ...], *, locations: bool) -> str:
    """Hexadecimal digits that differ wherever the result may: text, machine, threads, and what generates code."""
    question = (kind, _generator(), *options, to_text(module, locations=locations))
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
