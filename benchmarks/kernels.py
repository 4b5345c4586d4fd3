"""Matrix products and convolutions beside PyTorch and numpy, as ratios (above 1: fluidc is faster).

    python kernels.py [SHAPE...] [--rounds N] [--save]

Operands and results are row-major, but for the convolutions without "NCHW" in their names: their images lie with
channels innermost, as they do between the layers of a step; those with it pay for turning them.  PyTorch gets its
operands in the layout it is named after.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import harness
import numpy as np

from fluidc.compiler.codegen.tvm.build import Options, compile_module
from fluidc.compiler.codegen.tvm.cpu import host_cpu
from fluidc.compiler.ir.core import Function, Module, Output, Param, Value
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ir.types import DType, TensorType
from fluidc.compiler.ops import conv
from fluidc.compiler.ops.construct import OpBuilder
from fluidc.frontend.bench.machine import load, machine
from fluidc.frontend.bench.peers import Peer
from fluidc.frontend.bench.timing import PAUSE, burst
from fluidc.runtime.engine import aligned_copy
from fluidc.runtime.threads import thread_count

BURST = 0.1
PYTHON = Path(__file__).resolve().parent.parent / ".venv-peers" / "bin" / "python"
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Kernel:
    """``kind`` as the peer knows it, the operands, the function, and its floating-point operations.

    ``channels_last`` names operands, and the result ``y``, that lie as [N, H, W, C]; ``arrays`` are [N, C, H, W] all.
    """

    kind: str
    arrays: Arrays
    record: Callable[[OpBuilder, dict[str, Value]], Value]
    flops: float
    channels_last: tuple[str, ...] = ()

    def function(self, name: str) -> Function:
        b = OpBuilder()
        operands = {
            key: Value(TensorType(DType.F32, array.shape), key)
            for key, array in self.arrays.items()
            if array.dtype == np.float32
        }
        result = self.record(b, operands)
        params = tuple(Param(key, value) for key, value in operands.items())
        return Function(name, params, tuple(b.ops), (Output("y", result),))


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).normal(size=shape).astype(np.float32)


def product(m: int, k: int, n: int, form: str = "NN", batch: tuple[int, ...] = ()) -> Kernel:
    """``[M, K] @ [K, N]``, either operand stored transposed, for every index of ``batch``."""
    ta, tb = form == "TN", form == "NT"
    x, w = drawn(*batch, *((k, m) if ta else (m, k))), drawn(*batch, *((n, k) if tb else (k, n)))
    count = int(np.prod(batch)) if batch else 1
    return Kernel(
        f"product {form}",
        {"x": x, "w": w},
        lambda b, v: b.matmul(v["x"], v["w"], ta=ta, tb=tb),
        2.0 * count * m * k * n,
    )


def convolutions(
    name: str, x: tuple[int, int, int, int], out: int, size: int, stride: int, pad: int
) -> dict[str, Kernel]:
    """The three kernels of a convolution."""
    rows, columns = ((side + 2 * pad - size) // stride + 1 for side in x[2:])
    w, ct = (out, x[1], size, size), (x[0], out, rows, columns)
    arrays: Arrays = {"x": drawn(*x), "w": drawn(*w), "ct": drawn(*ct)}
    arrays |= {"stride": np.array(stride), "pad": np.array(pad)}
    flops = 2.0 * np.prod(ct) * np.prod(w[1:])
    strides, pads = (stride, stride), (pad,) * 4
    rules: dict[str, Callable[[OpBuilder, dict[str, Value]], Value]] = {
        "forward": lambda b, v: b(conv.Conv2d(v["x"], v["w"], strides=strides, pads=pads)),
        "input gradient": lambda b, v: b(conv.Conv2dInputGrad(v["w"], v["ct"], x, strides=strides, pads=pads)),
        "filter gradient": lambda b, v: b(conv.Conv2dFilterGrad(v["x"], v["ct"], w, strides=strides, pads=pads)),
    }
    inner = {"forward": ("x", "y"), "input gradient": ("ct", "y"), "filter gradient": ("x", "ct")}
    found = {f"conv {name} {kind}": Kernel(kind, arrays, rule, flops, inner[kind]) for kind, rule in rules.items()}
    return found | {f"conv {name} {kind} NCHW": Kernel(kind, arrays, rule, flops) for kind, rule in rules.items()}


KERNELS: dict[str, Kernel] = {
    "256x784x512": product(256, 784, 512),
    "784x256x512 TN": product(784, 256, 512, "TN"),
    "256x512x256 NT": product(256, 512, 256, "NT"),
    "1024x1024x1024": product(1024, 1024, 1024),
    "2048x2048x2048": product(2048, 2048, 2048),
    "256x256x10": product(256, 256, 10),
    "256x10x256 NT": product(256, 10, 256, "NT"),
    "256x256x10 TN": product(256, 256, 10, "TN"),
    **{f"{m}x784x512": product(m, 784, 512) for m in (1, 2, 3, 4)},
    "64x64x32 NT, 512 times": product(64, 32, 64, "NT", (512,)),
    "64x64x32 NN, 512 times": product(64, 64, 32, "NN", (512,)),
    "128x64x128, 8 times": product(128, 64, 128, "NN", (8,)),
    **convolutions("A", (256, 1, 28, 28), 16, 8, 2, 3),
    **convolutions("B", (256, 16, 13, 13), 32, 4, 2, 0),
    **convolutions("C", (32, 64, 32, 32), 64, 3, 1, 1),
}


def steps(names: list[str], threads: int) -> dict[str, Callable[[], float]]:
    """A call of each kernel; the result stays in the engine's memory, as it would within a step."""
    made: dict[str, Callable[[], float]] = {}
    for name in names:
        kernel = KERNELS[name]
        function = kernel.function("kernel")
        options = Options(host_cpu(), threads, kernel.channels_last)
        engine = compile_module(Module(Stage.TARGET, (), (function,)), options).engine()
        operands = [_laid(kernel.arrays[p.name], p.name in kernel.channels_last) for p in function.params]
        handles = [engine.tensor(aligned_copy(array)) for array in operands]
        engine.call("kernel", handles)
        # Engine.call would copy the result, which may cost more than the kernel.
        call = engine._lookup("kernel")

        def step(call=call, handles=handles) -> float:
            (result,) = call(*handles)
            found = np.from_dlpack(result)
            return float(found[(-1,) * found.ndim])  # the same element in both layouts

        made[name] = step
    return made


def _laid(array: np.ndarray, channels_last: bool) -> np.ndarray:
    """The array as it lies in memory, under its own shape."""
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1)).reshape(array.shape) if channels_last else array


def measure(names: list[str], threads: int, rounds: int) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """Median seconds of every contestant, by kernel; and the versions of the peer's libraries.

    Raises AssertionError where two contestants compute another number.
    """
    own = steps(names, threads)
    seconds: dict[str, dict[str, list[float]]] = {}
    command = f"{PYTHON} {Path(__file__).parent / 'peers' / 'torch_kernels.py'}"
    with Peer(command, threads) as peer, tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "arrays.npz")
        for name in names:
            kernel = KERNELS[name]
            np.savez(file, allow_pickle=False, **kernel.arrays)
            labels = [offered.label for offered in peer.contestants(kernel.kind)]
            expected = own[name]()
            for label in labels:
                loaded = peer.load(label, kernel.kind, file)
                assert not isinstance(loaded, str), f"{name}: {label}: {loaded}"
                assert abs(loaded[0] - expected) <= 1e-4 * max(1.0, kernel.flops**0.25), (name, label, loaded, expected)
            times: dict[str, list[float]] = {label: [] for label in ("fluidc", *labels)}
            for _ in range(rounds):
                for label, taken in times.items():
                    time.sleep(PAUSE / 2)
                    taken.append(burst(own[name], BURST) if label == "fluidc" else peer.time(label, BURST))
            seconds[name] = times
            peer.forget()
        versions = dict(peer.versions)
    return {name: {label: median(s) for label, s in times.items()} for name, times in seconds.items()}, versions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", help=f"of {', '.join(KERNELS)}; default all")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--save", action="store_true", help="add the shapes given to the file of results")
    args = parser.parse_args()
    if unknown := set(args.shapes) - set(KERNELS):
        parser.error(f"unknown shape {sorted(unknown)[0]!r}")
    if not PYTHON.exists():
        parser.error(f"there is no {PYTHON}: `make bench-peers` installs what kernels are compared with")
    before, threads = load(), thread_count()
    found, versions = measure(args.shapes or list(KERNELS), threads, args.rounds)
    for name, times in found.items():
        rate = KERNELS[name].flops / times["fluidc"] / 1e9
        others = {label: value for label, value in times.items() if label != "fluidc"}
        ratios = ", ".join(f"{value / times['fluidc']:.2f} x {label}" for label, value in others.items())
        print(f"{name:28} {1e3 * times['fluidc']:8.3f} ms {rate:6.0f} GFLOP/s   {ratios}", flush=True)
    if not args.shapes or args.save:
        known = harness.figures("kernels", threads) if args.shapes else {}
        found = {name: times for name, times in {**known, **found}.items() if name in KERNELS}
        harness.save("kernels", found, machine(threads, before, versions))


if __name__ == "__main__":
    main()
