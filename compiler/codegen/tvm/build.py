"""A module's functions as a Relax module, an executable in memory, or a shared library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ....runtime.kernels import KernelTable
from ....runtime.manifest import TargetSpec
from ....runtime.threads import thread_count
from ....runtime.tvm_abi import Module as LoadedModule
from ....runtime.tvm_engine import TvmEngine
from ...errors import TargetError
from ...ir.core import Module
from ...ir.stage import Stage
from ..built import BuildOptions
from .cpu import Cpu, Options, host_cpu, named_cpu
from .graph import Placeholder, TensorDef
from .kernels.roofline import roofline_kernels
from .link import shared_library
from .llvm import cpu_host
from .module import Described, Signature, add_function, relax_passes, signature
from .nests import Group
from .primfunc import Kernel, build_kernel
from .tvm_api import pipelines, relax, tirx, tvm

PIPELINE = "fluidc_cpu"


@dataclass(frozen=True, eq=False)
class Compiled:
    """Functions built for a CPU: runnable in this process, and as one shared library."""

    executable: Any
    signatures: tuple[Signature, ...]
    options: Options
    tables: tuple[Described, ...]

    @property
    def spec(self) -> TargetSpec:
        """The machine the code is for."""
        cpu = self.options.cpu
        return TargetSpec("cpu", cpu.triple, cpu.name, cpu.features, self.options.threads)

    @property
    def kernels(self) -> KernelTable:
        """What the code consists of."""
        return described(self.tables, self.options)

    def engine(self) -> TvmEngine:
        """An engine over the code in memory: no linker is needed."""
        return TvmEngine(LoadedModule.shared(self.executable.jit().__chandle__()), self.options.threads)

    def members(self) -> Mapping[str, bytes]:
        """``module.so``, the same bytes for the same input.  Raises TargetError when there is no linker."""
        return {"module.so": shared_library(self.executable, self.options.cpu.machine)}


def compile_module(module: Module, options: Options | None = None) -> Compiled:
    """Compile every function of a module at stage ``target`` for the CPU.

    Raises:
        TargetError: An op has no rule for this target, or the module is at another stage.
    """
    options = options or Options(host_cpu())
    builder, tables = lowered(module, options)
    executable = _build(builder.get(), options)
    signatures = tuple(signature(module, function) for function in module.functions)
    return Compiled(executable, signatures, options, tables)


def kernel_table(module: Module, options: BuildOptions) -> KernelTable:
    """The kernels that `build` would compile the module to; raises TargetError as it does."""
    cpu = named_cpu(options.cpu or "native")
    return table_of(module, Options(cpu, thread_count(options.threads or None)))


def table_of(module: Module, options: Options) -> KernelTable:
    """The kernels of a module; raises TargetError as `compile_module` does."""
    return described(lowered(module, options)[1], options)


def described(tables: Sequence[Described], options: Options) -> KernelTable:
    """The kernels of functions that were lowered."""
    return KernelTable(cpu_host(options.cpu.vector_bytes, options.threads).lanes, tuple(table() for table in tables))


def lowered(module: Module, options: Options) -> tuple[Any, tuple[Described, ...]]:
    """A Relax builder with every function, and what makes the tables of their kernels; raises TargetError."""
    if module.stage is not Stage.TARGET:
        raise TargetError(f"the cpu target takes a module at stage target, not {module.stage}")
    builder = relax.BlockBuilder()
    host = cpu_host(options.cpu.vector_bytes, options.threads)

    def emit(group: Group, in_place: dict[TensorDef, Placeholder], visible: set[TensorDef]) -> Kernel:
        return build_kernel(group, host, in_place, visible)

    tables = tuple(add_function(builder, module, f, host, emit, options.channels_last) for f in module.functions)
    for name, function in roofline_kernels(host).items():
        builder.add_func(function, name)
    return builder, tables


# Building ---------------------------------------------------------------------------------------------
def _lean_pipeline() -> Any:
    """Lowering of raw loop nests: nothing here schedules, vectorises or unrolls, the kernels already did.

    Kernels do not check their arguments (half of the code would be checks): the Relax function around them does.
    Index arithmetic stays in 64 bits: ``NarrowDataType`` would cut the vector of offsets of a gather to 32 bits and
    leave the register that holds it at 64, half of its lanes then undefined.
    """

    @tvm.transform.module_pass(opt_level=0)
    def lower(mod: Any, _context: Any) -> Any:
        t = tirx.transform
        passes = [
            t.FlattenBuffer(), t.BF16ComputeLegalize(), t.StmtSimplify(), t.VerifyMemory(),
            t.AnnotateEntryFunc(), t.SplitHostDevice(), t.MakePackedAPI(), t.BF16StorageLegalize(), t.SkipAssert(),
        ]  # fmt: skip
        return tvm.ir.transform.Sequential(passes)(mod)

    return lower, pipelines.finalize_host_passes, pipelines.finalize_device_passes


pipelines.register_tir_pipeline(PIPELINE, _lean_pipeline)


def tvm_target(cpu: Cpu) -> Any:
    """A CPU as TVM describes it.  LLVM adds no vectors of its own: every row of a batch takes the same instructions."""
    return tvm.target.Target(
        {
            "kind": "llvm",
            "mtriple": cpu.triple,
            "mcpu": cpu.processor,
            "cl-opt": ["-vectorize-loops=0", "-vectorize-slp=0"],
        }
    )


def _build(mod: Any, options: Options) -> Any:
    return relax.build(
        mod, target=tvm_target(options.cpu), exec_mode="compiled", relax_pipeline=relax_passes(), tir_pipeline=PIPELINE
    )
