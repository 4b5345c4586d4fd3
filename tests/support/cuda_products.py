"""Products on the emulated CUDA device, cut as a test says: a `cuda_worker.Worker` runs `compute`."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import cuda_cases
import numpy as np
from cuda_device import compile_kernels
from cuda_jobs import call, tvm_for_device
from cuda_worker import device
from tvm_rules import module_of

from fluidc.compiler.codegen.tvm.cuda.kernels.tiles import Cut
from fluidc.compiler.ir.core import Function, Module, Output, Param, StateDecl, StateName, Value
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ir.types import DType, Sym, TensorType
from fluidc.compiler.ops import state
from fluidc.compiler.ops.construct import OpBuilder

CONTRACT = "fluidc.compiler.codegen.tvm.cuda.kernels.contract"
LIBRARY = "fluidc.compiler.codegen.tvm.cuda.kernels.gemm"
DTYPES = (DType.F32, DType.F64, DType.F16)


@dataclass(frozen=True)
class Matmul:
    """``max(op(x) @ op(w) + 1, 0)`` of [*batch, m, k] and [*batch, k, n]; with ``symbolic`` batch and m are symbols."""

    m: int
    n: int
    k: int
    transposed: tuple[bool, bool] = (False, False)
    batch: tuple[int, ...] = ()
    cut: Cut | None = None
    dtype: DType = DType.F32
    symbolic: bool = False

    @property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        x = (self.k, self.m) if self.transposed[0] else (self.m, self.k)
        w = (self.n, self.k) if self.transposed[1] else (self.k, self.n)
        return (*self.batch, *x), (*self.batch, *w)

    def function(self, name: str) -> Function:
        def rule(t: Any, x: Any, w: Any) -> Any:
            return t.pointwise(lambda u: t.maximum(u + 1, 0), t.matmul(x, w, *self.transposed))

        m: Any = Sym("M") if self.symbolic else self.m
        x, w = ([m if size == self.m and self.symbolic else size for size in shape] for shape in self.shapes)
        types = [TensorType(self.dtype, tuple(shape)) for shape in (x, w)]
        made = module_of(types, [TensorType(self.dtype, (*self.batch, m, self.n))], rule).functions[0]
        return Function(name, made.params, made.ops, made.outputs)

    def expected(self, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        kind = np.int64 if self.dtype.is_integer else np.float64
        x, w = (
            a.swapaxes(-1, -2) if turned else a
            for a, turned in zip((x.astype(kind), w.astype(kind)), self.transposed, strict=True)
        )
        return np.maximum(x @ w + 1, 0)


@contextmanager
def cuts(chosen: Sequence[Cut | None]) -> Iterator[None]:
    """Products are cut so, in the order in which they are emitted (None: as the compiler would)."""
    from fluidc.compiler.codegen.tvm.cuda.kernels.tiles import choose_cut

    waiting = list(chosen)
    with mock.patch(f"{CONTRACT}.choose_cut", lambda sizes: waiting.pop(0) or choose_cut(sizes)):
        yield
    assert not waiting


def compiled(
    module: Module,
    chosen: Sequence[Cut | None],
    change: Callable[[str], str] = lambda code: code,
    **options: Any,
) -> Any:
    """A module, compiled for the device; the text of their kernels is compiled as ``change(text)``."""
    import tvm_ffi

    from fluidc.compiler.codegen.tvm.cpu import host_cpu
    from fluidc.compiler.codegen.tvm.cuda.arch import Options
    from fluidc.compiler.codegen.tvm.cuda.build import compile_module

    tvm_for_device()
    compile_text: Any = lambda code: compile_kernels(change(code))  # noqa: E731
    tvm_ffi.register_global_func("tvm_callback_cuda_compile", compile_text, override=True)
    with cuts(chosen):
        return compile_module(module, Options(host_cpu(), **options)).executable


def compute(
    cases: Sequence[Matmul],
    arguments: Sequence[Sequence[np.ndarray]],
    change: Callable[..., str] = lambda code: code,
    *details: Any,
) -> list[np.ndarray]:
    """The results of products; the text of their kernels is compiled as ``change(text, *details)``."""
    made = compiled(_module(cases), [case.cut for case in cases], lambda code: change(code, *details))
    return [call(made, f"f{i}", given)[0] for i, given in enumerate(arguments)]


def _module(cases: Sequence[Matmul]) -> Module:
    return Module(Stage.TARGET, (), tuple(case.function(f"f{i}") for i, case in enumerate(cases)))


def images(cut: Cut) -> dict[str, str]:
    """Convolutions and their gradients with every product cut so; the faults of those cases that have one."""
    with mock.patch(f"{CONTRACT}.choose_cut", return_value=cut):
        return {
            cuda_cases.IDS[number]: fault
            for start, end in _conv_jobs()
            for number, fault in cuda_cases.run(start, end).items()
        }


def _conv_jobs() -> list[tuple[int, int]]:
    numbers = [n for n, name in enumerate(cuda_cases.IDS) if name.startswith("conv.")]
    starts = [n for n in numbers if n - 1 not in numbers]
    return [(start, next(n for n in range(start, len(cuda_cases.IDS) + 1) if n not in numbers)) for start in starts]


def _descent(x: np.ndarray, g: np.ndarray, w: np.ndarray, *, with_product: bool) -> Module:
    """``w - 0.5 x^T g`` overwrites w; ``x^T g`` may be returned."""
    b = OpBuilder()
    params = [Value(TensorType(DType.F32, array.shape), name) for name, array in (("x", x), ("g", g))]
    declared = StateDecl("w", TensorType(DType.F32, w.shape), role="parameter", trainable=True)
    product = b.matmul(*params, ta=True)
    step = b.mul(product, b.fill((1, 1), DType.F32, 0.5))
    b.emit(state.Write(b.sub(b(state.Read(StateName("w"), declared.type)), step), StateName("w")))
    outputs = (Output("product", product),) if with_product else ()
    function = Function("f", tuple(Param(v.hint, v) for v in params), tuple(b.ops), outputs)
    return Module(Stage.TARGET, (declared,), (function,))


def _updated(made: Any, x: np.ndarray, g: np.ndarray, w: np.ndarray) -> list[np.ndarray]:
    """The new w, and what the function returns."""
    tvm = tvm_for_device()
    from tvm import relax

    place = tvm.cuda(0)
    held = [tvm.runtime.tensor(a, place) for a in (w, x, g)]
    results = relax.VirtualMachine(made, place)["f"](*held)
    return [held[0].numpy(), *(r.numpy() for r in results)]


def descend(x: np.ndarray, g: np.ndarray, w: np.ndarray, cut: Cut) -> list[np.ndarray]:
    """``w - 0.5 x^T g``, where w lay."""
    return _updated(compiled(_descent(x, g, w, with_product=False), [cut]), x, g, w)


def descend_by_library(x: np.ndarray, g: np.ndarray, w: np.ndarray, answers: bool) -> list[np.ndarray]:
    """``w - 0.5 x^T g``, where w lay, and the product, which a library makes if it ``answers``."""
    with _library(answers):
        made = compiled(_descent(x, g, w, with_product=True), [None])
        return _updated(made, x, g, w)


# The library ----------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Asked:
    """What the library was asked for; the numbers in the order of its arguments."""

    numbers: tuple[int, ...]


def with_library(
    cases: Sequence[Matmul], arguments: Sequence[Sequence[np.ndarray]], answers: bool, tf32: bool = False
) -> tuple[list[np.ndarray], list[Asked]]:
    """Results where a library ``answers`` or declines, and what it was asked."""
    with _library(answers) as asked:
        made = compiled(_module(cases), [case.cut for case in cases], tf32=tf32)
        return [call(made, f"f{i}", given)[0] for i, given in enumerate(arguments)], asked


@contextmanager
def _library(answers: bool) -> Iterator[list[Asked]]:
    """A library that answers or declines; every product is large enough for it.  Yields what it is asked."""
    import tvm_ffi

    asked: list[Asked] = []

    def gemm(a: Any, b: Any, c: Any, *numbers: int) -> int:
        asked.append(Asked(numbers))
        if answers:
            _gemm(*(pointer.value for pointer in (a, b, c)), *numbers)
        return int(answers)

    tvm_for_device()
    tvm_ffi.register_global_func("fluidc.cuda.gemm", gemm, override=True)
    with mock.patch(f"{LIBRARY}.LEAST_WORK", dict.fromkeys(DTYPES, 0)):
        yield asked


def _gemm(
    a: int, b: int, c: int, dtype: int, batch: int, m: int, n: int, k: int, trans_a: int, trans_b: int,
    stride_a: int, stride_b: int, stride_c: int, lda: int, ldb: int, ldc: int, tf32: int,
) -> None:  # fmt: skip
    """The library's function by its contract, on the memory of the device."""
    kind, found = np.dtype(["f4", "f8", "f2"][dtype]), device()

    def matrix(address: int, number: int, stride: int, lead: int, rows: int, columns: int) -> np.ndarray:
        flat = found.get(address + number * stride * kind.itemsize, np.empty((rows - 1) * lead + columns, kind))
        return np.lib.stride_tricks.as_strided(flat, (rows, columns), (lead * kind.itemsize, kind.itemsize))

    for number in range(batch):
        x = matrix(a, number, stride_a, lda, *((k, m) if trans_a else (m, k)))
        y = matrix(b, number, stride_b, ldb, *((n, k) if trans_b else (k, n)))
        result = np.ascontiguousarray((x.T if trans_a else x) @ (y.T if trans_b else y))
        for i, row in enumerate(result):
            to = c + (number * stride_c + i * ldc) * kind.itemsize
            found.check(found.runtime.cudaMemcpy(ctypes.c_void_p(to), row.ctypes, ctypes.c_size_t(row.nbytes), 1))


def without_barrier(code: str, number: int) -> str:
    """A text without one of its barriers."""
    parts = code.split("__syncthreads();")
    assert len(parts) == 3, "a barrier before the first step and one after each"
    return "__syncthreads();".join(parts[: number + 1]) + "__syncthreads();".join(parts[number + 1 :])


def without_edge(code: str) -> str:
    """A text that stores whole tiles."""
    start = code.index("sums", code.rindex("__syncthreads();"))
    head, tail = code[:start], code[start:]
    head, condition = head[: head.rindex("if (")], head[head.rindex("if (") :]
    return head + re.sub(r"if \(.*\) \{", "if (true) {", condition) + tail
