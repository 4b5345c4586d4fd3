"""The emulated CUDA device: right results of right kernels, and a report of every fault that it is there to find."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from math import erf
from typing import Any

import cuda_device
import cuda_jobs
import numpy as np
import pytest
from cuda_device import Launched
from cuda_jobs import Empty
from cuda_worker import Outcome, Worker, WorkerError
from ml_dtypes import bfloat16

pytestmark = pytest.mark.skipif(cuda_device.available() is not None, reason=str(cuda_device.available()))

HEAD = 'extern "C" __global__ void '
SUM = (
    HEAD
    + """__launch_bounds__(64) k(const float* x, float* y, int* n) {
  __shared__ alignas(64) float part[64];
  part[threadIdx.x] = x[blockIdx.x * 64 + threadIdx.x];
  for (int step = 32; step > 0; step /= 2) {
    __syncthreads();
    if (threadIdx.x < step) part[threadIdx.x] += part[threadIdx.x + step];
  }
  if (threadIdx.x == 0) { y[blockIdx.x] = part[0]; atomicAdd(n, 1); }
}"""
)


@pytest.fixture(scope="module")
def worker() -> Generator[Worker]:
    with Worker() as made:
        yield made


def run(worker: Worker, code: str, grid: Any, block: Any, arguments: Sequence[Any], **options: Any) -> Outcome:
    options = {"shared": 0, "checked": True} | options
    grid, block = ((n,) if isinstance(n, int) else n for n in (grid, block))
    return worker.run(cuda_jobs.kernel, code, grid, block, arguments, options["shared"], options["checked"])


def floats(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(n).astype("f4")


# Right kernels ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("order", cuda_device.ORDERS)
def test_a_sum_in_shared_memory(order: str, checked: bool) -> None:
    x = floats(256)
    with Worker(order=order) as worker:
        outcome = run(worker, SUM, 4, 64, [x, Empty((4,)), np.zeros(1, "i4")], checked=checked)
    np.testing.assert_allclose(outcome.value[1], x.reshape(4, 64).sum(1), rtol=1e-5)
    assert outcome.value[2] == [4]
    assert outcome.trace == [Launched("k", (4, 1, 1), (64, 1, 1), 256, 0, 0, False)]
    counted = outcome.counters
    assert (counted["launches"], counted["blocks"], counted["threads"]) == (1, 4, 256)
    assert (counted["allocations"], counted["host_to_device"], counted["device_to_host"]) == (3, 2, 3)


def test_indices_of_three_dimensions(worker: Worker) -> None:
    code = (
        HEAD
        + """k(int* y) {
      int t = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
      int b = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
      y[b * 24 + t] = t * 1000 + blockIdx.x * 100 + blockIdx.y * 10 + blockIdx.z;
    }"""
    )
    found = run(worker, code, (2, 3, 5), (4, 3, 2), [Empty((30, 24), "int32")]).value[0]
    z, y, x = np.meshgrid(range(5), range(3), range(2), indexing="ij")
    np.testing.assert_array_equal(found, (x * 100 + y * 10 + z).reshape(30, 1) + np.arange(24) * 1000)


def test_dynamic_shared_memory(worker: Worker) -> None:
    code = (
        HEAD
        + """k(float* x, int n) {
      extern __shared__ alignas(128) float all[];
      for (int i = threadIdx.x; i < 20000; i += 64) all[i] = x[i % 64];
      __syncthreads();
      float sum = 0;
      for (int i = threadIdx.x; i < 20000; i += 64) sum += all[19999 - i];
      x[threadIdx.x] = sum;
    }""".replace(", int n", "")
    )
    x = np.arange(64, dtype="f4")
    outcome = run(worker, code, 1, 64, [x], shared=80000)
    every = np.resize(x, 20000)[::-1]
    np.testing.assert_allclose(outcome.value[0], [every[i::64].sum() for i in range(64)])
    assert outcome.trace[0].dynamic_shared == 80000


def test_shuffles_and_votes(worker: Worker) -> None:
    code = (
        HEAD
        + """k(float* x, int* votes, double* wide) {
      int lane = threadIdx.x & 31;
      float v = x[threadIdx.x];
      for (int offset = 16; offset > 0; offset /= 2) v += __shfl_down_sync(0xffffffffu, v, offset, 32);
      v = __shfl_sync(0xffffffffu, v, 0);
      float up = __shfl_up_sync(0xffffffffu, v + lane, 1), other = __shfl_xor_sync(0xffffffffu, v + lane, 5);
      __syncwarp();
      wide[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1.0 / (lane + 1), 1);
      if (lane < 8) v += __shfl_down_sync(0xffu, (float)lane, 4, 8);
      votes[threadIdx.x] = __ballot_sync(0xffffffffu, lane % 3 == 0) + __any_sync(0xffffffffu, lane == 40)
          + __all_sync(0xffffffffu, lane < 32) + __reduce_add_sync(0xffffffffu, lane);
      x[threadIdx.x] = v + up * 0.5f + other * 0.25f;
    }"""
    )
    x = floats(64)
    found, votes, wide = run(worker, code, 1, 64, [x, Empty((64,), "int32"), Empty((64,), "float64")]).value
    lane = np.arange(64) % 32
    v = x.reshape(2, 32).sum(1).repeat(32)
    up, other = v + np.maximum(lane - 1, 0), v + (lane ^ 5)
    part = np.where(lane < 8, np.where(lane < 4, lane + 4, lane), 0)
    np.testing.assert_allclose(found, v + part + up * 0.5 + other * 0.25, rtol=1e-5)
    np.testing.assert_array_equal(votes.view("u4"), np.uint32(sum(1 << i for i in range(0, 32, 3)) + 0 + 1 + 31 * 16))
    np.testing.assert_allclose(wide, 1 / ((lane ^ 1) + 1))


def test_shuffles_of_the_active_lanes(worker: Worker) -> None:
    code = (
        HEAD
        + """k(float* x) {
      float v = x[threadIdx.x];
      if (threadIdx.x < 16) {
        unsigned mask = __activemask();
        v += __shfl_down_sync(mask, v, 8, 32);
      }
      __syncthreads();
      x[threadIdx.x] = v;
    }"""
    )
    x = floats(48)
    found = run(worker, code, 1, 48, [x]).value[0]
    np.testing.assert_allclose(found[:8], x[:8] + x[8:16])
    np.testing.assert_array_equal(found[16:], x[16:])


def test_lanes_may_write_the_same(worker: Worker) -> None:
    code = HEAD + "k(float* x, double* y) { x[threadIdx.x / 32] = 7; y[threadIdx.x / 32] = threadIdx.x / 32; }"
    found = run(worker, code, 1, 64, [floats(2), Empty((2,), "float64")]).value
    assert [list(x) for x in found] == [[7, 7], [0, 1]]


def test_the_last_block_takes_the_sum(worker: Worker) -> None:
    code = (
        HEAD
        + """k(float* x, float* part, unsigned* count, float* y) {
      part[blockIdx.x] = x[blockIdx.x];
      __threadfence();
      if (atomicInc(count, gridDim.x - 1) == gridDim.x - 1) {
        float sum = 0;
        for (int i = 0; i < gridDim.x; ++i) sum += part[i];
        y[0] = sum;
      }
    }"""
    )
    x = floats(10)
    found = run(worker, code, 10, 1, [x, Empty((10,)), np.zeros(1, "u4"), Empty((1,))]).value
    np.testing.assert_allclose(found[3], [x.sum()], rtol=1e-5)
    assert found[2] == [0]


def test_mathematics(worker: Worker) -> None:
    singles = [
        "expf(x)",
        "logf(x)",
        "log1pf(x)",
        "erff(x)",
        "tanhf(x)",
        "sqrtf(x)",
        "rsqrtf(x)",
        "powf(x,1.5f)",
        "fmaf(x,x,1.0f)",
        "__fdiv_rn(1.0f,x)",
        "max(x,0.5f)",
        "fminf(x,0.5f)",
        "__int_as_float(__float_as_int(x)+1)",
        "(float)__umulhi(3000000000u,(unsigned)(x*1000000.0f))",
        "(float)isnan(x)",
        "__fmul_rn(x,x)",
    ]
    doubles = [
        "exp(z)",
        "log(z)",
        "log1p(z)",
        "erf(z)",
        "tanh(z)",
        "sqrt(z)",
        "rsqrt(z)",
        "pow(z,1.5)",
        "fma(z,z,1.0)",
        "max(z,0.5)",
        "__longlong_as_double(__double_as_longlong(z)+1)",
    ]
    body = "".join(f"y[{i} * 32 + t] = {e};" for i, e in enumerate(singles))
    body += "".join(f"w[{i} * 32 + t] = {e};" for i, e in enumerate(doubles))
    code = HEAD + f"k(float* u, float* y, double* w) {{ int t = threadIdx.x; float x = u[t]; double z = x; {body} }}"
    x = np.random.default_rng(1).uniform(0.1, 2, 32).astype("f4")
    found = run(worker, code, 1, 32, [x, Empty((len(singles), 32)), Empty((len(doubles), 32), "float64")]).value
    z = x.astype("f8")
    base = [
        np.exp(z),
        np.log(z),
        np.log1p(z),
        np.vectorize(erf)(z),
        np.tanh(z),
        np.sqrt(z),
        1 / np.sqrt(z),
        z**1.5,
        z * z + 1,
    ]
    above = np.nextafter(x, np.float32(9))
    high = np.floor(3e9 * np.floor((x * np.float32(1e6)).astype("f8")) / 2**32)
    rest = [1 / z, np.maximum(z, 0.5), np.minimum(z, 0.5), above, high, 0 * z, x * x]
    np.testing.assert_allclose(found[1], [*base, *rest], rtol=3e-7)
    np.testing.assert_allclose(found[2], [*base, np.maximum(z, 0.5), np.nextafter(z, 9)], rtol=1e-15)


def test_vectors_and_small_types(worker: Worker) -> None:
    code = (
        HEAD
        + """k(float* x, uchar* bytes, unsigned short* words, long long* wide) {
      int t = threadIdx.x;
      float4 v = *(float4*)(x + t * 4);
      *(float2*)(x + t * 4) = make_float2(v.w, v.z);
      bytes[t] = (uchar)(v.x > 0);
      words[t] = (unsigned short)(t * 1000);
      wide[t] = (long long)t << 40;
    }"""
    )
    x = floats(64)
    found = run(worker, code, 1, 16, [x, Empty((16,), "uint8"), Empty((16,), "uint16"), Empty((16,), "int64")]).value
    rows = x.reshape(16, 4)
    np.testing.assert_array_equal(found[0].reshape(16, 4), rows[:, [3, 2, 2, 3]])
    np.testing.assert_array_equal(found[1], rows[:, 0] > 0)
    np.testing.assert_array_equal(found[2], np.arange(16) * 1000)
    np.testing.assert_array_equal(found[3], np.arange(16) << 40)


def test_float16_and_bfloat16(worker: Worker) -> None:
    code = (
        HEAD
        + """k(float* x, half* h, nv_bfloat16* b, float* y) {
      int t = threadIdx.x;
      h[t] = (half)x[t];
      b[t] = __float2bfloat16(x[t]);
      y[t] = __half2float(h[t] * h[t] + (half)1.0f) + max((float)b[t], 0.5f);
    }"""
    )
    special = [0, -0.0, 65504, 65519, 65520, 1e-7, 6e-8, 2e-8, 6.1e-5, np.inf, -np.inf, np.nan, 1e-45, 3e38, 0.1, 1 / 3]
    x = np.concatenate([np.array(special, "f4"), np.exp(floats(112, 2) * 9).astype("f4") * np.sign(floats(112, 3))])
    with np.errstate(over="ignore"):
        found = run(worker, code, 1, 128, [x, Empty((128,), "float16"), Empty((128,), "uint16"), Empty((128,))]).value
        h, b = x.astype("f2"), x.astype(bfloat16)
        want = (h * h + np.float16(1)).astype("f4") + np.maximum(b.astype("f4"), np.float32(0.5))
    np.testing.assert_array_equal(found[1], h)
    np.testing.assert_array_equal(found[2].view(bfloat16).astype("f4"), b.astype("f4"))
    finite = np.isfinite(want)
    np.testing.assert_array_equal(found[3][finite], want[finite])


# Faults -----------------------------------------------------------------------------------------------
COPY = HEAD + "k(const float* x, float* y) { int i = blockIdx.x * 8 + threadIdx.x; y[i] = x[i]; }"
EXCHANGE = (
    HEAD
    + """k(float* x) {
  __shared__ float s[64];
  s[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  x[threadIdx.x] = s[63 - threadIdx.x];
}"""
)


@dataclass(frozen=True)
class Fault:
    """A kernel that does something wrong, and what is said about it."""

    code: str
    arguments: list[Any]
    message: str
    block: int = 1
    grid: int = 1
    shared: int = 0


FAULTS = {
    "read out of bounds by one": Fault(
        COPY,
        [floats(15), Empty((16,))],
        r"kernel k: thread \(7,0,0\) of block \(1,0,0\) reads 4 bytes at offset 60 of parameter 0, a buffer of 60 ",
        block=8,
        grid=2,
    ),
    "write out of bounds by one": Fault(
        COPY,
        [floats(16), Empty((15,))],
        r"thread \(7,0,0\) of block \(1,0,0\) writes 4 bytes at offset 60 of parameter 1, a buffer of 60 bytes: out",
        block=8,
        grid=2,
    ),
    "read before the first": Fault(
        HEAD + "k(float* x) { x[0] = x[(int)threadIdx.x - 1]; }",
        [floats(4)],
        "reads 4 bytes at offset -4 of parameter 0",
    ),
    "read of fresh memory": Fault(
        COPY, [Empty((8,)), Empty((8,))], "offset 0 of parameter 0, .*which nothing has written", block=8
    ),
    "read of fresh shared memory": Fault(
        EXCHANGE.replace("s[threadIdx.x] =", "if (threadIdx.x) s[threadIdx.x] ="),
        [floats(64)],
        r"thread \(63,0,0\) .* reads 4 bytes at offset 0 of 256 bytes of shared memory, which nothing has written",
        block=64,
    ),
    "out of shared memory": Fault(
        EXCHANGE.replace("s[threadIdx.x] =", "s[threadIdx.x + 1] ="), [floats(64)], "offset 256 of 256 bytes", block=64
    ),
    "no barrier": Fault(
        EXCHANGE.replace("__syncthreads();", ""), [floats(64)], r"shared memory, (which nothing|.*a race)", block=64
    ),
    "no barrier after reading": Fault(
        EXCHANGE.replace("x[threadIdx.x] = s[63 - threadIdx.x]", "s[threadIdx.x] = s[63 - threadIdx.x]"),
        [floats(64)],
        "shared memory, written without a barrier in between: a race, with the write by thread",
        block=64,
    ),
    "a write over what another reads": Fault(
        HEAD + "k(float* x) { float r = x[63 - threadIdx.x]; x[threadIdx.x] = r; }", [floats(64)], "a race", block=64
    ),
    "threads that write one word": Fault(
        HEAD + "k(float* x) { x[0] = threadIdx.x; }", [floats(1)], "a race, with the write", block=2
    ),
    "lanes of which one writes something else": Fault(
        HEAD + "k(double* x) { x[0] = threadIdx.x == 30; }", [np.zeros(1)], "has written 8 bytes .*race", block=32
    ),
    "warps that write one word": Fault(
        HEAD + "k(float* x) { x[0] = 7; }", [floats(1)], "a race, with the write", block=64
    ),
    "a lane that reads what others write": Fault(
        HEAD + "k(float* x) { x[0] = 7; x[threadIdx.x + 1] = *(volatile float*)x; }", [floats(33)], "race", block=32
    ),
    "blocks that write one word": Fault(
        HEAD + "k(float* x) { x[0] = blockIdx.x; }", [floats(1)], "by another block", grid=2
    ),
    "a sum without atomics": Fault(
        HEAD + "k(int* n) { n[0] += 1; }", [np.zeros(1, "i4")], "by another block of this launch", grid=8
    ),
    "a barrier in a branch": Fault(
        HEAD + "k(float* x) { if (threadIdx.x < 3) { __syncthreads(); } x[threadIdx.x] = 0; }",
        [floats(8)],
        r"divergent barrier in block \(0,0,0\): of 8 threads, 3 wait at __syncthreads, .* 5 have ended \(.* line 1\)",
        block=8,
    ),
    "two barriers": Fault(
        HEAD + "k(float* x) {\nif (threadIdx.x < 3) { __syncthreads(); }\nelse { __syncthreads(); } }",
        [floats(8)],
        "8 wait at __syncthreads, .*line 2, 3",
        block=8,
    ),
    "a shuffle in a branch": Fault(
        HEAD + "k(float* x) { if (threadIdx.x < 16) x[threadIdx.x] = __shfl_xor_sync(~0u, 1.0f, 1); __syncthreads(); }",
        [floats(32)],
        "divergent barrier .* 16 at a warp barrier",
        block=32,
    ),
    "a pointer that is none": Fault(
        HEAD + "k(float* x) { *(float*)(x[0] > 99 ? x : (float*)64) = 0; }", [floats(1)], "none of the device"
    ),
    "a misaligned vector": Fault(
        HEAD + "k(float* x) { *(float4*)(x + 1) = make_float4(0, 0, 0, 0); }", [floats(8)], "address is misaligned"
    ),
    "more threads than the bounds": Fault(
        SUM, [floats(256), Empty((4,)), np.zeros(1, "i4")], "128 threads, but launch bounds of 64", block=128, grid=4
    ),
    "too large a block": Fault(COPY, [floats(8), floats(8)], "a block of 1025x1x1 threads", block=1025),
    "an empty grid": Fault(COPY, [floats(8), floats(8)], "a grid of 0x1x1 blocks", grid=0),
    "too much shared memory": Fault(
        EXCHANGE, [floats(64)], "300000 bytes of dynamic shared memory, at most 232448", block=64, shared=300000
    ),
    "too much static shared memory": Fault(
        EXCHANGE.replace("s[64]", "s[12289]"), [floats(64)], "49156 bytes of static shared memory", block=64
    ),
    "a trap": Fault(
        HEAD + "k(float* x) { if (x[threadIdx.x] > 0)\n__trap(); }", [np.ones(1, "f4")], r"trap \(line 2\)"
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_reported(worker: Worker, name: str) -> None:
    fault = FAULTS[name]
    with pytest.raises(WorkerError, match=fault.message):
        run(worker, fault.code, fault.grid, fault.block, fault.arguments, shared=fault.shared)


def test_the_kernels_of_the_faults_are_right_otherwise(worker: Worker) -> None:
    x = floats(64)
    np.testing.assert_array_equal(run(worker, COPY, 2, 8, [x[:16], Empty((16,))]).value[1], x[:16])
    np.testing.assert_array_equal(run(worker, EXCHANGE, 1, 64, [x]).value[0], x[::-1])


def test_every_barrier_of_the_sum_is_needed(worker: Worker) -> None:
    x = floats(256)
    with pytest.raises(WorkerError, match=r"a race|nothing has written"):
        run(worker, SUM.replace("__syncthreads();", "__syncwarp();"), 4, 64, [x, Empty((4,)), np.zeros(1, "i4")])
    # In one warp, a warp's barrier is enough.
    code = SUM.replace("__syncthreads();", "__syncwarp();").replace("64", "32").replace("step = 32", "step = 16")
    np.testing.assert_allclose(
        run(worker, code, 4, 32, [x[:128], Empty((4,)), np.zeros(1, "i4")]).value[1],
        x[:128].reshape(4, 32).sum(1),
        rtol=1e-5,
    )


def test_without_checks_a_guard_page_stops_what_runs_away(worker: Worker) -> None:
    code = HEAD + "k(float* x) { for (int i = 0; i < 5000; ++i) x[i] = 0; }"
    with pytest.raises(
        WorkerError, match=r"kernel k: thread \(0,0,0\) .* touches offset \d+ of parameter 0, a buffer of 40 by"
    ):
        run(worker, code, 1, 1, [floats(10)], checked=False)
    assert np.isnan(run(worker, COPY, 1, 8, [Empty((8,)), Empty((8,))], checked=False).value[1]).all()


def test_a_text_that_is_no_kernel(worker: Worker) -> None:
    with pytest.raises(WorkerError, match=re.escape("KernelError")):
        run(worker, HEAD + "k(float* x) { x[0] = nonsense; }", 1, 1, [floats(1)])
