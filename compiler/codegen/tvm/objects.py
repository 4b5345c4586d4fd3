"""From a module to the bytes of a shared library: its kernels are compiled side by side.

The functions that drive the kernels are one object file, and the kernels lie in others, a few to each.  Which kernel
lies where depends on the module alone, so that the bytes do not depend on the number of cores.  TVM leaves Python's
lock while it works, so that threads suffice; processes would have to import TVM first.
"""

from __future__ import annotations

import importlib
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

from ....runtime.kernels import KernelTable
from ....runtime.threads import available_cores
from ...errors import TargetError
from ...ir.core import Module
from .build import PIPELINE, described, lowered, relax_passes, tvm_target
from .cpu import Options
from .link import link
from .tvm_api import relax, tirx, tvm

Functions: TypeAlias = Mapping[Any, Any]

_PER_OBJECT = 8
"""Kernels of one object file: fewer leave less to wait for at the end, and cost a few milliseconds of LLVM each."""
_ROOM = 32 << 20
"""Bytes that must be free for temporary files: LLVM ends the process when it cannot write one."""
_DRIVER = "__vmtir__"  # what TVM calls the lowered form of a Relax function begins with this
_SYMBOL = "__tvm_ffi_"  # before the name of an exported function
_CALL = "call_"  # before the name of a kernel: the driver's own entry to it


def compile_library(module: Module, options: Options) -> tuple[bytes, Callable[[], KernelTable]]:
    """Compile every function of a module at stage ``target``; returns the library, and what tells of its kernels.

    Raises:
        TargetError: An op has no rule for this target, the module is at another stage, there is no linker, or no room
            for temporary files.
    """
    _check_room()
    target = tvm_target(options.cpu)
    ffi: Any = importlib.import_module("tvm_ffi")
    lowering, tables = lowered(module, options)
    with target:
        made = relax_passes()(lowering.get())
    builder = relax.ExecBuilder()
    made = importlib.import_module("tvm.relax.vm_build")._vmcodegen(builder, made, "compiled")
    functions = {var: f for var, f in made.functions.items() if isinstance(f, tirx.PrimFunc)}
    kernels = sorted((v for v in functions if not v.name_hint.startswith(_DRIVER)), key=lambda v: v.name_hint)
    names = {var.name_hint for var in kernels}

    def entry(text: Any) -> Any:
        return tvm.ir.StringImm(_CALL + text.value) if text.value in names else text

    driver = {
        var: ffi.structural_map(f, (tvm.ir.StringImm, entry)) for var, f in functions.items() if var not in kernels
    }
    count = -(-len(kernels) // _PER_OBJECT)
    parts: list[Functions] = [{var: functions[var] for var in kernels[i::count]} for i in range(count)]
    with tempfile.TemporaryDirectory(prefix="fluidc-") as folder, ThreadPoolExecutor(available_cores()) as pool:
        paths = [str(Path(folder, f"{number}.o")) for number in range(count + 2)]
        jobs = [
            pool.submit(_compile, driver, made.attrs, target, paths[0], sorted(names)),
            *(pool.submit(_compile, part, made.attrs, target, path) for part, path in zip(parts, paths[1:])),
        ]
        main, *_ = [job.result() for job in jobs]
        executable = importlib.import_module("tvm.relax")._ffi_api.VMLink(builder, target, main, [], {})
        pack: Any = importlib.import_module("tvm.runtime")._ffi_api.ModulePackImportsToLLVM
        pack(executable, False, main.get_function("_get_target_string")(), "").write_to_file(paths[-1], "o")
        library = link(paths, options.cpu.machine, Path(folder, "module.so"))
    return library, lambda: described(tables, options)


def _check_room() -> None:
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if free < _ROOM:
        raise TargetError(
            f"no room to compile: {free / 1e6:.1f} MB are free for temporary files",
            where=folder,
            hint=f"free {_ROOM / 1e6:.0f} MB there, or name another folder in TMPDIR",
        )


def _compile(functions: Functions, attrs: Any, target: Any, path: str, entries: Sequence[str] = ()) -> Any:
    """Write an object file; returns TVM's module of it.

    Args:
        functions: What it holds.
        attrs: Of the module they come from.
        target: Machine to compile for.
        path: Where it goes.
        entries: Kernels of other object files that the functions call.
    """
    lower, finalize, _ = tirx.get_tir_pipeline(PIPELINE)
    mod = tirx.transform.BindTarget(target.with_host(target))(tvm.IRModule(functions, attrs=attrs))
    mod = finalize()(lower(mod))
    if entries:
        bound = next(iter(mod.functions.values())).attrs["target"]
        added = {tvm.ir.GlobalVar(_CALL + name): _entry(name, bound) for name in entries}
        mod = tvm.IRModule({**dict(mod.functions.items()), **added}, attrs=mod.attrs)
    built = tvm.get_global_func("target.build.llvm")(mod, target)
    built.write_to_file(path, "o")
    return built


def _entry(name: str, target: Any) -> Any:
    """A function beside the driver that calls a kernel of another object file.

    TVM declares what it calls by name anew at every call, under another symbol each time, unless the same object
    file defines it.
    """
    handles = [tirx.Var("self", "handle"), tirx.Var("args", "handle")]
    parameters = [*handles, tirx.Var("count", "int32"), tirx.Var("result", "handle")]
    zero = tirx.IntImm("int32", 0)
    failed = tirx.NE(tirx.call_extern("int32", _SYMBOL + name, *parameters), zero)
    give_up = tirx.Evaluate(tirx.call_intrin("int32", "tirx.tvm_throw_last_error"))
    body = tirx.SeqStmt([tirx.IfThenElse(failed, give_up, None), tirx.stmt.Return(zero)])
    made = tirx.PrimFunc(parameters, body, ret_type=tvm.ir.PrimType("int32"))
    packed_call = 1  # TVM's calling convention kCPackedFunc
    attrs = {"global_symbol": _SYMBOL + _CALL + name, "calling_conv": tirx.IntImm("int32", packed_call)}
    return made.with_attrs(attrs).with_attr("target", target)
