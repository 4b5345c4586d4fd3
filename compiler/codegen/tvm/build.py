"""A module's functions as a Relax module, an executable in memory, or a shared library."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from ....runtime.kernels import FunctionKernels, KernelTable
from ....runtime.manifest import TargetSpec
from ....runtime.threads import thread_count
from ....runtime.tvm_engine import TvmEngine
from ...errors import TargetError
from ...ir.core import Function, Module
from ...ir.stage import Stage
from ...ir.types import Dim
from ...ops.state import state_of
from ..built import BuildOptions
from .conv import CHANNELS_LAST
from .cpu import Cpu, Options, host_cpu, named_cpu
from .define import FunctionScope
from .describe import describe
from .fuse import plan
from .graph import TensorDef
from .kernels.roofline import roofline_kernels
from .kit import TVM_NAMES, Host, symbol_size
from .link import shared_library
from .primfunc import Kernel, build_kernel
from .streams import fuse_streams
from .tvm_api import pipelines, relax, tirx, tvm

RelaxVar: TypeAlias = Any
Described: TypeAlias = Callable[[], FunctionKernels]
"""Makes a function's table of kernels, which a program that is run at once never needs."""

PIPELINE = "fluidc_cpu"


@dataclass(frozen=True)
class Signature:
    """How a compiled function is called: state variables, then parameters; it returns its outputs."""

    name: str
    state: tuple[str, ...]
    params: tuple[str, ...]
    outputs: tuple[str, ...]


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
        return TvmEngine(self.executable.jit(), self.options.threads)

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
    return KernelTable(Host(options.cpu.vector_bytes, options.threads).lanes, tuple(table() for table in tables))


def lowered(module: Module, options: Options) -> tuple[Any, tuple[Described, ...]]:
    """A Relax builder with every function, and what makes the tables of their kernels; raises TargetError."""
    if module.stage is not Stage.TARGET:
        raise TargetError(f"the cpu target takes a module at stage target, not {module.stage}")
    builder = relax.BlockBuilder()
    tables = tuple(_add_function(builder, module, function, options) for function in module.functions)
    for name, function in roofline_kernels(Host(options.cpu.vector_bytes, options.threads)).items():
        builder.add_func(function, name)
    return builder, tables


def signature(module: Module, function: Function) -> Signature:
    """The calling convention of a function, known without compiling it."""
    return Signature(
        function.name,
        state_of(module, function),
        tuple(p.name for p in function.params),
        tuple(o.name for o in function.outputs),
    )


# From definitions to Relax ----------------------------------------------------------------------------
def _add_function(builder: Any, module: Module, function: Function, options: Options) -> Described:
    made = FunctionScope(module, function)
    if options.channels_last:
        _lay(function, made, options.channels_last)
    schedule = plan(made.emitter.tensors, made.outputs, made.writes, made.emitter.keep)
    fuse_streams(schedule)
    visible = set(made.outputs)
    for group in schedule.groups:
        visible.update(group.inputs())
    host = Host(options.cpu.vector_bytes, options.threads)
    kernels = [build_kernel(group, host, schedule.in_place, visible) for group in schedule.groups]
    symbols: dict[str, Any] = {}
    env: dict[TensorDef, RelaxVar] = {}
    inputs = [*made.state.values(), *made.params]
    for tensor in inputs:
        env[tensor] = relax.Var(tensor.name, _relax_type(tensor, symbols))
    with builder.function(function.name, [env[tensor] for tensor in inputs]):
        with builder.dataflow():
            names: list[str] = []
            for kernel in kernels:
                names.append(_call(builder, kernel, env, symbols))
                # A value that several variables take lies in the first of them, where the copies read it.
                env.update((value, env[at]) for value, at in schedule.in_place.items() if at in kernel.in_place)
            results = builder.emit_output(relax.Tuple([env[output] for output in made.outputs]))
        builder.emit_func_output(results)
    return partial(describe, function.name, inputs, made.outputs, schedule, kernels, names)


def _lay(function: Function, made: FunctionScope, names: Sequence[str]) -> None:
    """Let the parameters and outputs with these names, images all, lie with their channels innermost."""
    declared = (*function.params, *function.outputs)
    for border, tensor in zip(declared, (*made.params, *made.outputs), strict=True):  # no ragged ones among them
        if border.name in names:
            tensor.layout = CHANNELS_LAST


def _size(dim: Dim, symbols: dict[str, Any]) -> Any:
    """An extent as Relax writes it."""
    if isinstance(dim, int):
        return dim
    return symbol_size(dim, lambda name: symbols.setdefault(name, tirx.Var(name, "int64")))


def _argument(size: Dim, symbols: dict[str, Any]) -> Any:
    return tirx.IntImm("int64", size) if isinstance(size, int) else _size(size, symbols)


def _relax_type(tensor: TensorDef, symbols: dict[str, Any]) -> Any:
    return relax.TensorType(tuple(_size(dim, symbols) for dim in tensor.shape), TVM_NAMES[tensor.dtype])


def _call(builder: Any, kernel: Kernel, env: dict[TensorDef, RelaxVar], symbols: dict[str, Any]) -> str:
    """Emit the call of a kernel; returns the kernel's name in the module, which equal kernels share."""
    # A kernel that copies a variable is called after it; linkers take no `/` or `@` in a name.
    function = builder.add_func(kernel.function, re.sub(r"\W", "_", kernel.name, flags=re.ASCII))
    arguments = [*(env[tensor] for tensor in kernel.inputs), *(_argument(size, symbols) for size in kernel.sizes)]
    fresh = [_relax_type(tensor, symbols) for tensor in kernel.outputs]
    if not kernel.in_place:
        result = builder.emit(relax.call_tir(function, arguments, fresh if len(fresh) > 1 else fresh[0]))
        _bind(builder, result, list(kernel.outputs), env)
        return str(function.name_hint)
    positions = [kernel.inputs.index(state) for state in kernel.in_place] + [-1] * len(fresh)
    types = [_relax_type(state, symbols) for state in kernel.in_place] + fresh
    single = len(types) == 1
    result = builder.emit(relax.op.call_tir_inplace(function, arguments, positions, types[0] if single else types))
    _bind(builder, result, [*kernel.in_place, *kernel.outputs], env)
    return str(function.name_hint)


def _bind(builder: Any, result: RelaxVar, tensors: Sequence[TensorDef], env: dict[TensorDef, RelaxVar]) -> None:
    if len(tensors) == 1:
        env[tensors[0]] = result
        return
    for number, tensor in enumerate(tensors):
        env[tensor] = builder.emit(relax.TupleGetItem(result, number))


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


def relax_passes() -> Any:
    """The passes that lower the Relax functions."""
    r = relax.transform
    return tvm.transform.Sequential(
        [
            r.ToNonDataflow(), r.RemovePurityChecking(), r.CallTIRRewrite(), r.StaticPlanBlockMemory(),
            r.LowerAllocTensor(), r.KillAfterLastUse(), r.LowerRuntimeBuiltin(), r.ComputePrimValue(),
            r.VMShapeLower(), r.AttachGlobalSymbol(),
        ]
    )  # fmt: skip


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
