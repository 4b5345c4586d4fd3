"""Builds a small module for CUDA devices in a process without one, and loads it in another.

python cuda_build.py build OUT.so ARCHITECTURE...   prints what was embedded, and what the kernels take
python cuda_build.py load OUT.so                    without TVM's compiler; prints how the first call fails
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any


def build(path: Path, architectures: list[str]) -> None:
    from small_modules import plain_mlp

    from fluidc.compiler.codegen.cache import Cache
    from fluidc.compiler.codegen.tvm.cpu import named_cpu
    from fluidc.compiler.codegen.tvm.cuda.arch import Options
    from fluidc.compiler.codegen.tvm.cuda.build import compile_module
    from fluidc.compiler.codegen.tvm.cuda.toolchain.embed import embedding
    from fluidc.compiler.codegen.tvm.cuda.toolchain.find import find_compiler
    from fluidc.compiler.codegen.tvm.link import shared_library
    from fluidc.compiler.passes.manager import run_passes
    from fluidc.compiler.pipeline import pipeline

    captured = plain_mlp()
    module = run_passes(captured, pipeline(captured))
    options = Options(named_cpu("native"), tuple(architectures))
    with embedding(find_compiler(), architectures, Cache(None)) as embedded:
        path.write_bytes(shared_library(compile_module(module, options).executable))
    for code in embedded.code:
        print(code.compiler, code.image[:4].hex())
        for kernel in code.kernels:
            print(kernel)


def load(path: Path) -> None:
    os.environ["TVM_USE_RUNTIME_LIB"] = "1"
    tvm: Any = importlib.import_module("tvm")

    from fluidc.compiler.codegen.tvm.cuda.toolchain.device_runtime import load_device_runtime

    load_device_runtime()
    place = tvm.cuda(0)
    module = tvm.runtime.load_module(str(path))
    print("no device; loaded" if module is not None and not place.exist else "a device")
    try:
        importlib.import_module("tvm.runtime.vm").VirtualMachine(module, place)
        tvm.runtime.empty((4,), "float32", place)
    except Exception as error:
        print("failed:", str(error).splitlines()[-1])


if __name__ == "__main__":
    if sys.argv[1] == "build":
        build(Path(sys.argv[2]), sys.argv[3:])
    else:
        load(Path(sys.argv[2]))
