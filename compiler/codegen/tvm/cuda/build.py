"""A module's functions as Relax functions that launch CUDA kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .....runtime.kernels import KernelTable
from ....errors import TargetError
from ....ir.core import Module
from ....ir.stage import Stage
from ..build import tvm_target
from ..cpu import Cpu
from ..graph import Placeholder, TensorDef
from ..module import Described, Signature, add_function, relax_passes, signature
from ..nests import Group
from ..primfunc import Kernel
from ..tvm_api import pipelines, relax, tirx, tvm
from .arch import Options
from .device import MOST_THREADS, SHARED_BYTES, WARP, device_host
from .primfunc import build_kernel
from .together import join_independent
from .toolchain.architectures import oldest

PIPELINE = "fluidc_cuda"


@dataclass(frozen=True, eq=False)
class Compiled:
    """Functions built for CUDA devices.

    Attributes:
        executable: TVM's.
        signatures: How the functions are called.
        options: How they were built.
        tables: Make the tables of their kernels.
    """

    executable: Any
    signatures: tuple[Signature, ...]
    options: Options
    tables: tuple[Described, ...]

    @property
    def kernels(self) -> KernelTable:
        """What the code consists of."""
        return KernelTable(1, tuple(table() for table in self.tables))


def compile_module(module: Module, options: Options) -> Compiled:
    """Compile every function of a module at stage ``target`` for CUDA devices.

    Raises:
        TargetError: An op has no rule for this target, the module is at another stage, or it is private and to be
            compiled with TF32.
    """
    builder, tables = lowered(module, tf32=options.tf32)
    executable = _build(builder.get(), options)
    return Compiled(executable, tuple(signature(module, f) for f in module.functions), options, tables)


def kernel_table(module: Module) -> KernelTable:
    """The kernels that `compile_module` would compile the module to; raises TargetError as it does."""
    return KernelTable(1, tuple(table() for table in lowered(module)[1]))


def lowered(module: Module, *, tf32: bool = False) -> tuple[Any, tuple[Described, ...]]:
    """A Relax builder with every function, and what makes the tables of their kernels; raises TargetError."""
    if module.stage is not Stage.TARGET:
        raise TargetError(f"the cuda target takes a module at stage target, not {module.stage}")
    if tf32 and module.privacy is not None:
        # The slack that is accounted for, and the bounds of norms that may cancel, are those of float32.
        raise TargetError(
            "TF32 rounds products by more than the privacy of this program allows for",
            hint="compile a private program without --tf32",
        )
    builder, host = relax.BlockBuilder(), device_host(tf32=tf32)

    def emit(group: Group, in_place: dict[TensorDef, Placeholder], visible: set[TensorDef]) -> Kernel:
        return build_kernel(group, host, in_place, visible)

    tables = tuple(
        add_function(builder, module, f, host, emit, fuse_noise=False, arrange=join_independent)
        for f in module.functions
    )
    return builder, tables


def cuda_target(cpu: Cpu, architecture: str) -> Any:
    """A CUDA device, and the CPU beside it, as TVM describes them."""
    device = {
        "kind": "cuda",
        "arch": architecture,
        "max_threads_per_block": MOST_THREADS,
        "max_shared_memory_per_block": SHARED_BYTES,
        "thread_warp_size": WARP,
    }
    return tvm.target.Target(device, host=tvm_target(cpu))


def _lean_pipeline() -> Any:
    """Lowering of kernels that are scheduled already; index arithmetic that fits 32 bits runs in 32 bits."""

    @tvm.transform.module_pass(opt_level=0)
    def lower(mod: Any, _context: Any) -> Any:
        t = tirx.transform
        passes = [
            t.FlattenBuffer(), t.BF16ComputeLegalize(), t.NarrowDataType(32), t.StmtSimplify(), t.VerifyMemory(),
            t.AnnotateEntryFunc(), t.SplitHostDevice(), t.MakePackedAPI(), t.BF16StorageLegalize(), t.SkipAssert(),
        ]  # fmt: skip
        return tvm.ir.transform.Sequential(passes)(mod)

    return lower, pipelines.finalize_host_passes, pipelines.finalize_device_passes


pipelines.register_tir_pipeline(PIPELINE, _lean_pipeline)


def _build(mod: Any, options: Options) -> Any:
    target = cuda_target(options.cpu, oldest(options.architectures))
    return relax.build(mod, target=target, exec_mode="compiled", relax_pipeline=relax_passes(), tir_pipeline=PIPELINE)
