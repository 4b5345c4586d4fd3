"""Matrix products by cuBLAS, for the host code of compiled modules.

`GEMM` is called with raw device pointers: ``(a, b, c, dtype, batch, m, n, k, trans_a, trans_b, stride_a, stride_b,
stride_c, lda, ldb, ldc, tf32) -> int``.  Matrices are row-major; C[m, n] = op(A)[m, k] @ op(B)[k, n] overwrites C, for
each of ``batch`` matrices that are ``stride`` elements apart.  ``dtype``: 0 f32, 1 f64, 2 f16, 3 bf16; products of the
last two are summed in f32.  It returns 1, or 0 where there is no cuBLAS: the caller then launches a kernel of its own.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import byref, c_double, c_float, c_int, c_longlong, c_size_t, c_void_p
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np

from ..errors import EngineError
from ..tvm_abi import Function, set_global_function
from . import libraries
from .cudart import runtime
from .device import Device, open_device
from .machine import allocate

GEMM = "fluidc.cuda.gemm"
SWITCH = "FLUIDC_CUBLAS"

WORKSPACE = 32 << 20
"""Bytes that cuBLAS gets, once per device: what it would take by itself may neither be captured nor be told apart."""

_SUMS_STAY_WIDE = 16  # CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION: partial sums of halves are added in f32
_DEFAULT_ALGORITHM = -1
_PLAIN, _TRANSPOSED = 0, 1

Pointer: TypeAlias = "c_void_p | int | None"


@dataclass(frozen=True)
class _Kind:
    """How cuBLAS is told of an element type: cudaDataType, and cublasComputeType without and with TF32."""

    data: int
    exact: int
    tf32: int
    scalar: Any


# CUDA_R_32F, _64F, _16F, _16BF; CUBLAS_COMPUTE_32F 68, _32F_PEDANTIC 69, _32F_FAST_TF32 77, _64F_PEDANTIC 71.  Sums of
# 16-bit products are exact enough in 32F, whose pedantic form would leave the tensor cores idle.
_KINDS = (_Kind(0, 69, 77, c_float), _Kind(1, 71, 71, c_double), _Kind(2, 68, 68, c_float), _Kind(14, 68, 68, c_float))


class Cublas:
    """cuBLAS on one device, in its stream.  Raises EngineError where it does not start."""

    def __init__(self, library: ctypes.CDLL, device: Device) -> None:
        self._gemm = library.cublasGemmStridedBatchedEx
        self._gemm.argtypes = (
            c_void_p, c_int, c_int, c_int, c_int, c_int, c_void_p,
            c_void_p, c_int, c_int, c_longlong, c_void_p, c_int, c_int, c_longlong,
            c_void_p, c_void_p, c_int, c_int, c_longlong, c_int, c_int, c_int,
        )  # fmt: skip
        self._handle = c_void_p()
        self._workspace = allocate(device, (WORKSPACE,), np.dtype(np.uint8), "cuBLAS")
        started = (
            library.cublasCreate_v2(byref(self._handle)),
            library.cublasSetStream_v2(self._handle, c_void_p(device.stream)),
            # After the stream, which gives back the one that was set before.
            library.cublasSetWorkspace_v2(self._handle, c_void_p(self._workspace.data), c_size_t(WORKSPACE)),
            library.cublasSetMathMode(self._handle, c_int(_SUMS_STAY_WIDE)),
        )
        if any(started):
            raise EngineError(
                f"cuBLAS does not start: status {max(started)}",
                device.name,
                f"free device memory, or leave cuBLAS out: {SWITCH}=0",
            )
        self._scalars = {kind: (kind.scalar(1), kind.scalar(0)) for kind in _KINDS}
        device.resources.add(self)

    def gemm(
        self, a: Pointer, b: Pointer, c: Pointer, dtype: int, batch: int, m: int, n: int, k: int,
        trans_a: int, trans_b: int, stride_a: int, stride_b: int, stride_c: int, lda: int, ldb: int, ldc: int,
        tf32: int,
    ) -> int:  # fmt: skip
        """As `GEMM`.  cuBLAS is column-major: it computes the transposed product, which lies in memory the same."""
        kind = _KINDS[dtype]
        one, zero = self._scalars[kind]
        status: int = self._gemm(
            self._handle, _TRANSPOSED if trans_b else _PLAIN, _TRANSPOSED if trans_a else _PLAIN, n, m, k, byref(one),
            b, kind.data, ldb, stride_b, a, kind.data, lda, stride_a,
            byref(zero), c, kind.data, ldc, stride_c, batch, kind.tf32 if tf32 else kind.exact, _DEFAULT_ALGORITHM,
        )  # fmt: skip
        return int(status == 0)


@cache
def register_gemm() -> None:
    """Let modules find `GEMM`; whether it does anything is decided when it is first called."""
    set_global_function(GEMM, Function.of(_gemm))


def _gemm(*arguments: Any) -> int:
    found = _on(open_device(runtime().current()))  # modules are called with their device in use
    return 0 if found is None else found.gemm(*arguments)


@cache
def _on(device: Device) -> Cublas | None:
    if os.environ.get(SWITCH, "1") == "0":
        return None
    loaded = [libraries.load(name) for name in libraries.CUBLAS]
    library = loaded[-1]
    return None if library is None else Cublas(library, device)
