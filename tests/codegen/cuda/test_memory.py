"""What kernels promise compilers about memory, and what becomes of that."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from large_cases import LARGE
from op_jobs import job

from fluidc.compiler.codegen.cache import Cache
from fluidc.compiler.codegen.tvm.cuda import lint
from fluidc.compiler.codegen.tvm.cuda.build import lowered
from fluidc.compiler.codegen.tvm.cuda.device import DeviceBlock, device_host
from fluidc.compiler.codegen.tvm.cuda.machine import CUDA
from fluidc.compiler.codegen.tvm.cuda.toolchain.compiler import Compiler, compile_code
from fluidc.compiler.codegen.tvm.cuda.toolchain.find import find_compiler
from fluidc.compiler.codegen.tvm.kit import Value as Tir
from fluidc.compiler.codegen.tvm.kit import const, integer
from fluidc.compiler.codegen.tvm.tvm_api import tirx
from fluidc.compiler.errors import TargetError
from fluidc.compiler.ir.core import Function, Module, Output, Param, Value
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ir.types import DType, TensorType
from fluidc.compiler.ops.reduce import Sum


def promises(name: str) -> dict[str, bool]:
    """The kernels of a large case, and whether their pointers are ``__restrict__``."""
    (case,) = (case for case in LARGE if case.id == f"large.{name}")
    made = job(case, "f", symbolic=False, backward=bool(case.wrt))
    builder, _ = lowered(Module(Stage.TARGET, (), (made.function,)))
    functions = {str(name.name_hint): f for name, f in builder.get().functions_items() if isinstance(f, tirx.PrimFunc)}
    return {name: "tirx.noalias" in (f.attrs or {}) for name, f in functions.items()}


@pytest.mark.parametrize("name", ["softmax", "cross_entropy", "lookup_grad"])
def test_pointers_through_which_threads_talk_are_not_restricted(name: str) -> None:
    """NVCC and NVRTC move a load of ``__restrict__`` memory over the barrier before it."""
    assert not all(promises(name).values())


@pytest.mark.parametrize("name", ["add-wide", "sum-by-blocks", "sum-in-parts", "softmax-apart", "transpose"])
def test_other_pointers_are(name: str) -> None:
    assert all(promises(name).values())


@pytest.mark.parametrize("barrier", ["sync", "sync_warp"])
def test_a_barrier_between_writing_and_reading_counts(barrier: str) -> None:
    def talks(*launches: str) -> bool:
        block = DeviceBlock(device_host())
        x, y = (tirx.decl_buffer((64,), "float32", name=name) for name in "xy")

        def emit(what: str, thread: Tir) -> None:
            for letter in what:
                match letter:
                    case "w":
                        block.write(x, thread, const(1, DType.F32))
                    case "r":
                        block.write(y, thread, block.read(x, integer(63) - thread))
                    case _:
                        getattr(block, barrier)()

        for what in launches:
            with block.launch(integer(1), 64) as (_, thread):
                first, _, repeated = what.partition(":")
                emit(first, thread)
                with block.loop(2):
                    emit(repeated, thread)
        return block.talks

    assert talks("w|r")
    assert talks("wr", "r|w", "|")
    assert talks(":rw|")
    assert talks(":|", "w:|r")
    assert not talks("wr", "w|", "|r", "|")
    assert not talks("|rw|", "w:|")
    assert not talks("|:rw")


def test_sums_side_by_side_take_the_shared_memory_of_one() -> None:
    """32 of f64 would else have 64 KiB, more than a block gets."""
    operands = [Value(TensorType(DType.F64, (256, 512)), f"x{number}") for number in range(32)]
    sums = [Sum(operand, (0,)) for operand in operands]
    parameters = tuple(Param(value.hint or "", value) for value in operands)
    function = Function("f", parameters, tuple(sums), tuple(Output(f"y{i}", s.results[0]) for i, s in enumerate(sums)))
    found = lint.launches(lowered(Module(Stage.TARGET, (), (function,)))[0].get())
    assert [(launch.threads, launch.shared) for launch in found] == [(256, 256 * 8)]


# What compilers make of it -------------------------------------------------------------------------------


@pytest.fixture
def compiler() -> Iterator[Compiler]:
    try:
        yield find_compiler()
    except TargetError as error:
        pytest.skip(str(error))


def test_what_is_rounded_is_not_contracted(compiler: Compiler) -> None:
    def image(value: str) -> bytes:
        code = f'extern "C" __global__ void k(float* x) {{ x[0] = x[1] + {value}; }}'
        return compile_code(compiler, code, ("sm_90",), Cache(None)).image

    fence = CUDA.fence(tirx.Var("x", "float32"), DType.F32)
    name, other = re.sub(r'"', "", str(fence.args[0])), float(fence.args[2].value)

    def fenced(value: str) -> str:
        return f"{name}({value}, {other!r}f)"

    assert image("x[2] * x[3]") == image("__fmul_rn(x[2] * x[3], 1.0f)")  # contracted, both
    assert image(fenced("x[2] * x[3]")) == image(fenced("__fmul_rn(x[2], x[3])")) != image("x[2] * x[3]")
