"""Compilers of CUDA C: what TVM writes becomes machine code, here, without a GPU."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluidc.compiler.codegen.cache import Cache
from fluidc.compiler.codegen.tvm.cuda.toolchain import find, nvcc, nvrtc, places
from fluidc.compiler.codegen.tvm.cuda.toolchain.architectures import checked, oldest
from fluidc.compiler.codegen.tvm.cuda.toolchain.compiler import Compiler, MachineCode, compile_code
from fluidc.compiler.codegen.tvm.cuda.toolchain.places import toolkits
from fluidc.compiler.codegen.tvm.cuda.toolchain.source import kernel_at, kernels, prepared
from fluidc.compiler.codegen.tvm.cuda.toolchain.stub import SYMBOLS, stub_driver
from fluidc.compiler.codegen.tvm.cuda.toolchain.usage import KernelUse, usage
from fluidc.compiler.errors import TargetError

# As TVM 0.27 writes it, but for the middle of the preamble.
CODE = """
#ifdef __CUDACC_RTC__
  #include <cuda/std/cstdint>
#else
  #include <cstdint>
  #include <type_traits>
  #include <cuda.h>
#endif
#ifdef _WIN32
  using uint = unsigned int;
#else
  #define uint unsigned int
  #define uchar unsigned char
  #define ushort unsigned short
#endif
extern "C" __global__ void __launch_bounds__(256) scale_kernel(float* __restrict__ x_ptr, float* __restrict__ y_ptr);
extern "C" __global__ void __launch_bounds__(64) sum_kernel(float* __restrict__ x_ptr, int64_t n);
extern "C" __global__ void __launch_bounds__(256) scale_kernel(float* __restrict__ x_ptr, float* __restrict__ y_ptr) {
  y_ptr[((int)threadIdx.x)] = expf(x_ptr[((int)threadIdx.x)]) / 3.0f + max(x_ptr[0], 0x0p+0f/*0.000000e+00*/);
}

extern "C" __global__ void __launch_bounds__(64) sum_kernel(float* __restrict__ x_ptr, int64_t n) {
  __shared__ alignas(64) float all_ptr[64];
  all_ptr[((int)threadIdx.x)] = ((((int64_t)((int)threadIdx.x)) < n) ? x_ptr[((int)threadIdx.x)] : -INFINITY);
  __syncthreads();
  x_ptr[((int)threadIdx.x)] = all_ptr[(63 - ((int)threadIdx.x))];
}

"""
HALF = """
#include <cuda_fp16.h>
#include <cuda_bf16.h>
extern "C" __global__ void __launch_bounds__(32) small_kernel(half* __restrict__ x_ptr, nv_bfloat16* y_ptr) {
  x_ptr[((int)threadIdx.x)] = hexp(x_ptr[((int)threadIdx.x)]) + ((half)1.0f);
  y_ptr[((int)threadIdx.x)] = ((nv_bfloat16)((float)y_ptr[0]));
}
"""
ELF, FATBIN = b"\x7fELF", bytes.fromhex("50ed55ba")


@pytest.fixture(scope="module", params=["nvrtc", "nvcc"])
def compiler(request: pytest.FixtureRequest) -> Iterator[Compiler]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(find.VARIABLE, request.param)
        try:
            yield find.find_compiler()
        except TargetError as error:
            pytest.skip(str(error))


def compiled(compiler: Compiler, code: str, *architectures: str) -> MachineCode:
    return compile_code(compiler, code, architectures, Cache(None))


# Compiling --------------------------------------------------------------------------------------------
def test_one_architecture_is_a_cubin(compiler: Compiler) -> None:
    made = compiled(compiler, CODE, "sm_90")
    assert made.image[:4] == ELF
    assert int.from_bytes(made.image[18:20], "little") == 190  # EM_CUDA
    assert all(name.encode() in made.image for name in ("scale_kernel", "sum_kernel"))
    assert made.compiler == compiler.title
    used = {kernel.name: kernel for kernel in made.kernels}
    assert set(used) == {"scale_kernel", "sum_kernel"}
    assert used["sum_kernel"].shared == 256
    assert all(8 <= kernel.registers <= 64 and not kernel.spilled for kernel in made.kernels)


def test_several_architectures_are_a_fatbin(compiler: Compiler) -> None:
    made = compiled(compiler, CODE, "sm_90", "sm_80", "compute_90")
    assert made.image[:4] == FATBIN
    assert [(kernel.name, kernel.architecture) for kernel in made.kernels] == [
        (name, architecture) for architecture in ("sm_80", "sm_90") for name in ("sum_kernel", "scale_kernel")
    ]
    assert made == compiled(compiler, CODE, "compute_90", "sm_80", "sm_90", "sm_80")  # the same bytes


def test_float16_and_bfloat16(compiler: Compiler) -> None:
    assert compiled(compiler, HALF, "sm_80").image[:4] == ELF


def test_spills_are_counted(compiler: Compiler) -> None:
    much = "".join(f"float a{i} = x[{i} * n]; " for i in range(60))
    back = "".join(f"x[{i} * n] = a{i} * a{(i * 7 + 3) % 60}; " for i in range(60))
    body = f"{{\n{much}\n__syncthreads();\n{back}}}\n"
    code = 'extern "C" __global__ void __launch_bounds__(1024, 2) k(float* x, int n) ' + body
    (used,) = compiled(compiler, code, "sm_90").kernels
    assert used.registers == 32
    assert used.spilled > 0


def test_what_does_not_compile(compiler: Compiler) -> None:
    with pytest.raises(TargetError) as caught:
        compiled(compiler, CODE.replace("all_ptr[(63", "none_ptr[(63"), "sm_80", "sm_90")
    assert caught.value.what == f"{compiler.title} does not take the kernels that were generated"
    assert caught.value.where == "kernel sum_kernel"
    assert 'identifier "none_ptr" is undefined' in (caught.value.hint or "")


def test_an_architecture_that_the_compiler_does_not_know(compiler: Compiler) -> None:
    with pytest.raises(TargetError, match=f"{compiler.title} generates no code for sm_35\n  it knows sm_75, sm_80"):
        compiled(compiler, CODE, "sm_35")


PLAIN = "x[0] = x[1] / x[2]; x[3] = sqrtf(x[4]); x[5] = x[6] * x[7] + x[8];"
STATED = "x[0] = __fdiv_rn(x[1], x[2]); x[3] = __fsqrt_rn(x[4]); x[5] = __fmaf_rn(x[6], x[7], x[8]);"


def test_arithmetic_is_rounded_once(compiler: Compiler, monkeypatch: pytest.MonkeyPatch) -> None:
    def image(body: str) -> bytes:
        return compiled(compiler, f'extern "C" __global__ void k(float* x) {{ {body} }}', "sm_90").image

    assert image(PLAIN) == image(STATED)
    for module in (nvrtc, nvcc):
        monkeypatch.setattr(module, "PRECISION", ("--use_fast_math",))
    assert image(PLAIN) != image(STATED)


def test_long_loops_are_not_unrolled_as_a_whole() -> None:
    text = "\n".join(
        ["  for (int i1 = 0; i1 < 4096; ++i1) {", "  for (int64_t j = (int64_t)0; j < (int64_t)200; ++j) {",
         "#pragma unroll", "  for (int k = 0; k < 128; ++k) {", "  for (int l = 0; l < 99; ++l) {"]
    )  # fmt: skip
    found = prepared(text)[-len(text) - 60 :].splitlines()
    assert [line.strip() for line in found if "pragma" in line] == [
        "#pragma unroll 4",
        "#pragma unroll 4",
        "#pragma unroll",
    ]
    assert found[-1].strip().startswith("for (int l")
    assert "pragma" not in found[-2]


def test_what_was_compiled_is_kept(compiler: Compiler, tmp_path: Path) -> None:
    class Counting:
        title, known, calls = compiler.title, compiler.known, 0

        def translate(self, text: str, architectures: object) -> tuple[bytes, str]:
            self.calls += 1
            return compiler.translate(text, architectures)  # type: ignore[arg-type]

    counting, cache = Counting(), Cache(tmp_path)
    first = compile_code(counting, CODE, ["sm_90"], cache)
    assert compile_code(counting, CODE, ["sm_90"], cache) == first
    assert counting.calls == 1
    compile_code(counting, CODE, ["sm_80"], cache)
    compile_code(counting, CODE.replace("3.0f", "5.0f"), ["sm_90"], cache)
    assert counting.calls == 3


# Names, texts and logs --------------------------------------------------------------------------------
def test_names_of_architectures() -> None:
    assert list(map(str, checked(["sm_90a", "compute_90", "sm_80", "sm_90", "sm_80"], [80, 90], "it"))) == [
        "sm_80", "sm_90", "compute_90", "sm_90a",
    ]  # fmt: skip
    assert oldest(["compute_90", "sm_100", "sm_86"]) == "sm_86"
    with pytest.raises(TargetError, match="no CUDA architecture to generate code for"):
        checked([], [80], "it")
    for name in ("sm90", "sm_9", "90", "sm_90x", "compute-90", " sm_90"):
        with pytest.raises(TargetError, match="names no CUDA architecture"):
            checked([name], [90], "it")


def test_texts() -> None:
    assert kernels(CODE) == ("scale_kernel", "sum_kernel")
    lines = CODE.split("\n")
    assert kernel_at(CODE, lines.index("  __syncthreads();") + 1) == "sum_kernel"
    assert kernel_at(CODE, 3) is None
    assert "cuda/std" not in prepared(CODE)
    assert prepared(HALF) == HALF


def test_a_log_of_ptxas() -> None:
    log = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'spill' for 'sm_80'
ptxas info    : Function properties for spill
    152 bytes stack frame, 344 bytes spill stores, 368 bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers, 152 bytes cumulative stack size, 400 bytes smem, 360 bytes cmem[0]
ptxas info    : Compiling entry function 'plain' for 'sm_90'
ptxas info    : Used 8 registers
"""
    assert usage(log) == (KernelUse("spill", "sm_80", 32, 152, 344, 400), KernelUse("plain", "sm_90", 8))


# What is not there ------------------------------------------------------------------------------------
@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A machine without wheels and toolkits."""
    monkeypatch.setattr(find, "wheels", tuple)
    monkeypatch.setattr(find, "toolkits", tuple)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(find.VARIABLE, raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("wanted", "missing"), [("", "libnvrtc.so.13 or .12, or nvcc"), ("nvcc", "nvcc"), ("nvrtc", "libnvrtc")]
)
def test_no_compiler(bare: pytest.MonkeyPatch, wanted: str, missing: str) -> None:
    bare.setenv(find.VARIABLE, wanted)
    with pytest.raises(TargetError, match=f"no compiler of CUDA C found: {missing}") as caught:
        find.find_compiler()
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("pip install 'nvidia-cuda-nvrtc==13.0.*' 'nvidia-nvfatbin==13.0.*' ")


def test_the_wheels_that_are_named_are_those_of_the_extra() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
    assert [f"{wheel}==13.0.*" for wheel in places.WHEELS] == project["project"]["optional-dependencies"]["cuda"]


def test_a_compiler_of_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(find.VARIABLE, "clang")
    with pytest.raises(TargetError, match="FLUIDC_CUDA_COMPILER=clang names no compiler of CUDA C\n  nvrtc or nvcc"):
        find.find_compiler()


def test_several_architectures_without_nvfatbin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(find.VARIABLE, "nvrtc")
    try:
        compiler = find.find_compiler()
    except TargetError as error:
        pytest.skip(str(error))
    assert isinstance(compiler, nvrtc.Nvrtc)
    lacking = nvrtc.Nvrtc(compiler.nvrtc, compiler.version, compiler.known, (), None)
    with pytest.raises(TargetError, match="code for sm_80, sm_90 in one artifact needs nvFatbin") as caught:
        compiled(lacking, CODE, "sm_80", "sm_90")
    assert "nvidia-nvfatbin" in (caught.value.hint or "")
    assert compiled(lacking, CODE, "sm_90").image[:4] == ELF
    with pytest.raises(TargetError, match="float16 and bfloat16 kernels need headers of CUDA"):
        compiled(lacking, HALF, "sm_90")


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ("echo 'Cuda compilation tools, release 11.8, V11.8.89'", "nvcc 11.8 is too old"),
        ("echo hello", "nvcc does not tell its version"),
    ],
)
def test_an_nvcc_that_does_not_do(tmp_path: Path, stated: str, message: str) -> None:
    path = tmp_path / "nvcc"
    path.write_text(f"#!/bin/sh\n{stated}\n")
    path.chmod(0o755)
    with pytest.raises(TargetError, match=message):
        nvcc.load(str(path))
    with pytest.raises(TargetError, match="nvcc does not run"):
        nvcc.load(str(tmp_path / "none"))


def test_an_nvrtc_that_does_not_load(tmp_path: Path) -> None:
    path = tmp_path / "libnvrtc.so.13"
    path.write_bytes(b"nothing")
    with pytest.raises(TargetError, match="NVRTC does not load"):
        nvrtc.load(path, (), None)


def test_toolkits_are_looked_for_where_variables_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "include").mkdir()
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert toolkits()[0] == tmp_path


# A machine without a driver ---------------------------------------------------------------------------
def test_the_stub_of_the_driver(tmp_path: Path) -> None:
    path = tmp_path / "stub.so"
    path.write_bytes(stub_driver(platform.machine()))
    code = f"""
import ctypes
stub = ctypes.CDLL({str(path)!r})
print([getattr(stub, name)() for name in {SYMBOLS!r}])
print(ctypes.CDLL("libcuda.so.1")._handle == stub._handle)  # by its name, as those that need it ask for it
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [str([100] * len(SYMBOLS)), "True"], done.stderr
    assert stub_driver("aarch64") != stub_driver("x86_64")
    with pytest.raises(TargetError, match="built on x86_64 and aarch64, not on riscv64"):
        stub_driver("riscv64")


def test_an_artifact_holds_machine_code_and_fails_cleanly_without_a_device(compiler: Compiler, tmp_path: Path) -> None:
    path, script = tmp_path / "module.so", Path(__file__).parents[1] / "support" / "cuda_build.py"

    def run(*arguments: str, **environment: str) -> str:
        variables = os.environ | {"PYTHONPATH": str(script.parent)} | environment
        command = [sys.executable, str(script), *arguments]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    wanted = "nvrtc" if compiler.title.startswith("NVRTC") else "nvcc"
    said = run("build", str(path), "sm_80", "sm_90", **{find.VARIABLE: wanted}).splitlines()
    assert said[0] == f"{compiler.title} {FATBIN.hex()}"
    assert any("'sm_80'" in line for line in said)
    content = path.read_bytes()
    assert FATBIN in content
    assert b"__global__" not in content
    said = run("load", str(path)).splitlines()
    assert said[0] == "no device; loaded"
    assert re.fullmatch(r"failed: .*CUDA.*", said[1]), said
