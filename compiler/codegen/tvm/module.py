"""A module's functions as Relax functions around kernels, for every machine that TVM generates code for."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from ....runtime.kernels import FunctionKernels
from ...ir.core import Function, Module
from ...ir.types import Dim
from ...ops.state import state_of
from .conv import CHANNELS_LAST
from .define import FunctionScope
from .describe import describe
from .fuse import plan
from .graph import Placeholder, TensorDef
from .kit import TVM_NAMES, Host, symbol_size
from .nests import Group, Plan
from .primfunc import Kernel
from .streams import fuse_streams
from .tvm_api import relax, tirx, tvm

RelaxVar: TypeAlias = Any
Described: TypeAlias = Callable[[], FunctionKernels]
"""Makes a function's table of kernels, which a program that is run at once never needs."""

EmitKernel: TypeAlias = Callable[[Group, dict[TensorDef, Placeholder], set[TensorDef]], Kernel]


@dataclass(frozen=True)
class Signature:
    """How a compiled function is called: state variables, then parameters; it returns its outputs."""

    name: str
    state: tuple[str, ...]
    params: tuple[str, ...]
    outputs: tuple[str, ...]


def signature(module: Module, function: Function) -> Signature:
    """The calling convention of a function, known without compiling it."""
    return Signature(
        function.name,
        state_of(module, function),
        tuple(p.name for p in function.params),
        tuple(o.name for o in function.outputs),
    )


def add_function(
    builder: Any,
    module: Module,
    function: Function,
    host: Host,
    emit: EmitKernel,
    channels_last: Sequence[str] = (),
    *,
    fuse_noise: bool = True,
    arrange: Callable[[Plan], None] | None = None,
) -> Described:
    """Plan a function, emit its kernels and add the Relax function that calls them.

    Args:
        builder: A Relax builder.
        module: What the function belongs to.
        function: What is added.
        host: The machine that kernels are written for.
        emit: Makes a kernel of a group, given what overwrites a state variable and what others read.
        channels_last: Names of parameters and outputs that lie with their channels innermost.
        fuse_noise: Whether the kernel that adds a stream of noise may make it.
        arrange: Changes which groups the plan has, if any.

    Returns what makes the table of its kernels.  Raises TargetError for an op without a rule for the target.
    """
    made = FunctionScope(module, function, host.machine.target)
    if channels_last:
        _lay(function, made, channels_last)
    schedule = plan(made.emitter.tensors, made.outputs, made.writes, made.emitter.keep)
    if fuse_noise:
        fuse_streams(schedule, host)
    if arrange is not None:
        arrange(schedule)
    visible = set(made.outputs)
    for group in schedule.groups:
        visible.update(group.inputs())
    kernels = [emit(group, schedule.in_place, visible) for group in schedule.groups]
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
