"""Products by a stand-in for cuBLAS on the emulated device: run in a `cuda_worker.Worker`."""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import ml_dtypes
import numpy as np
from cuda_device import SOURCES, libraries
from cuda_worker import device

from fluidc.runtime.cuda import cublas
from fluidc.runtime.cuda import libraries as nvidia
from fluidc.runtime.cuda.device import open_device
from fluidc.runtime.tvm_abi import Function, global_function

DTYPES = (np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))
"""In the order of the numbers that stand for them."""

NUMBERS = (
    "created", "streams", "workspace_bytes", "math_mode", "calls", "compute_type", "data_type", "has_workspace",
)  # fmt: skip


@dataclass(frozen=True)
class Product:
    """A product of ``batch`` matrices, each row ``gap`` elements longer than it needs to be."""

    dtype: int
    batch: int
    m: int
    n: int
    k: int
    trans_a: bool = False
    trans_b: bool = False
    gap: int = 0
    tf32: bool = False


@cache
def toolkit() -> str:
    """A folder like a CUDA toolkit's, with the stand-in."""
    root = Path(tempfile.mkdtemp(prefix="fluidc-toolkit-"))
    (root / "lib64").mkdir()
    for name in ("libcublas.so.13", "libcublasLt.so.13"):
        command = ["g++", "-O2", "-std=c++17", "-Wall", "-shared", "-fPIC", f"-Wl,-soname,{name}"]
        command += ["-o", str(root / "lib64" / name), str(SOURCES / "cublas.cpp")]
        command += [f"-L{libraries()}", "-l:libcudart.so.13", f"-Wl,-rpath-link,{libraries()}"]
        subprocess.run(command, check=True)
    return str(root)


def products(wanted: Sequence[Product], switch: str = "1") -> tuple[list[float], list[dict[str, int]]]:
    """The largest difference of each from numpy's, in units of the result's size, and what cuBLAS was asked for."""
    os.environ["CUDA_PATH"] = toolkit()
    os.environ[cublas.SWITCH] = switch
    cublas._on.cache_clear()
    open_device(0)
    cublas.register_gemm()
    gemm = global_function(cublas.GEMM)
    differences: list[float] = []
    records: list[dict[str, int]] = []
    for number, each in enumerate(wanted):
        differences.append(_difference(gemm, each, np.random.default_rng(number)))
        records.append(_record() if switch == "1" else {})
    return differences, records


def _difference(gemm: Function, product: Product, draw: np.random.Generator) -> float:
    """-1 where nothing was done."""
    p, dtype = product, DTYPES[product.dtype]
    shapes = [(p.k, p.m) if p.trans_a else (p.m, p.k), (p.n, p.k) if p.trans_b else (p.k, p.n), (p.m, p.n)]
    a, b, c = (draw.normal(size=(p.batch, rows, columns + p.gap)).astype(dtype) for rows, columns in shapes)
    addresses = [device().put(each) for each in (a, b, c)]
    leading = [each.shape[2] for each in (a, b, c)]
    strides = [each.shape[1] * each.shape[2] for each in (a, b, c)]
    done = gemm(
        *addresses, p.dtype, p.batch, p.m, p.n, p.k, int(p.trans_a), int(p.trans_b), *strides, *leading, int(p.tf32)
    )  # fmt: skip
    found = device().get(addresses[2], c)
    if not done:
        assert (found == c).all()
        return -1.0
    left, right = (each[:, :, : each.shape[2] - p.gap].astype(np.float64) for each in (a, b))
    expected = (left.swapaxes(1, 2) if p.trans_a else left) @ (right.swapaxes(1, 2) if p.trans_b else right)
    assert (found[:, :, p.n :] == c[:, :, p.n :]).all(), "what lies between the rows is left alone"
    return float(np.abs(found[:, :, : p.n].astype(np.float64) - expected).max() / max(np.abs(expected).max(), 1e-30))


def _record() -> dict[str, int]:
    library = ctypes.CDLL("libcublas.so.13", mode=os.RTLD_NOLOAD | ctypes.RTLD_GLOBAL)
    library.cublas_record.restype = ctypes.POINTER(ctypes.c_int64 * len(NUMBERS))
    return dict(zip(NUMBERS, library.cublas_record().contents, strict=True))


def without_cublas() -> object:
    """What a caller is answered where there is none."""
    nvidia.CUBLAS = ("libcublas-that-is-not-there.so",)
    cublas.register_gemm()
    return global_function(cublas.GEMM)(*[0] * 17)
