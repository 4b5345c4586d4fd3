"""Checks and times what the cuda target compiled, on a machine with a GPU: ``gpu_kit.py`` writes the folder around it.

    python gpu.py [--out results.json] [--seconds 0.5] [--rounds 5] [--no-times]

First every op case and every small model is compared with what it must compute; then each benchmark model takes
training steps, alternately with PyTorch's where PyTorch is installed (eager, torch.compile, a captured CUDA graph;
private ones by per-example gradients of torch.func).  Steps fetch their loss, as a training loop that shows it does.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "lib"))

from fluidc.runtime.artifact import Artifact  # noqa: E402
from fluidc.runtime.chips import chip_of  # noqa: E402
from fluidc.runtime.cuda.engine import CudaEngine  # noqa: E402
from fluidc.runtime.engine import Buffer, aligned_copy, aligned_zeros  # noqa: E402
from fluidc.runtime.kernels import typical  # noqa: E402
from fluidc.runtime.manifest import Manifest, numpy_dtype  # noqa: E402
from fluidc.runtime.stepper import Stepper  # noqa: E402

LEARNING_RATE = 1e-3
Arrays = Mapping[str, np.ndarray]
Step = Callable[[], float]


# Checks -----------------------------------------------------------------------------------------------
def check_cases(folder: Path) -> tuple[int, list[str]]:
    """How many op cases were run, and what is wrong with those that are not as expected."""
    listed = json.loads((folder / "cases.json").read_text())
    wrong: list[str] = []
    for number, group in itertools.groupby(listed, key=lambda case: case["module"]):
        engine = CudaEngine(folder / f"{number}.so")
        with np.load(folder / f"{number}.npz") as arrays:
            for case in group:
                fault = _fault(engine, case, arrays)
                if fault:
                    wrong.append(f"{case['title']}: {fault}")
    return len(listed), wrong


def _fault(engine: CudaEngine, case: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """What is wrong with the last of three calls: launched kernel by kernel, captured, and launched as a graph."""
    name = case["function"]
    try:
        arguments = [engine.tensor(aligned_copy(arrays[f"{name}/in{i}"])) for i in range(case["inputs"])]
        for _ in range(3):
            found = engine.call(name, arguments)
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    for i, have in enumerate(found):
        want = arrays[f"{name}/out{i}"]
        precise = want.dtype == np.float64
        try:
            if want.dtype.kind in "iub":
                np.testing.assert_array_equal(have, want)
            else:
                rtol, atol = (1e-10, 1e-12) if precise else (case["rtol"], case["atol"])
                np.testing.assert_allclose(have, want, rtol=rtol, atol=atol)
        except AssertionError as error:
            return " ".join(str(error).split())[:300]
    return ""


def check_model(path: Path) -> tuple[float, float]:
    """The largest differences of a small model's losses and parameters, relative to the largest value."""
    artifact = Artifact.read(path)
    with np.load(path.with_suffix(".npz")) as file:
        arrays = dict(file)
    weights = {name.removeprefix("weight/"): value for name, value in arrays.items() if name.startswith("weight/")}
    buffers = state(artifact.manifest, weights)
    step = stepping(artifact, buffers, {"x": arrays["x"], "label": arrays["label"]}, arrays["key"].tobytes())
    losses = [step() for _ in arrays["losses"]]
    worst = [
        np.abs(buffers[name].array - value).max() / np.abs(value).max()
        for name, value in ((k.removeprefix("after/"), v) for k, v in arrays.items() if k.startswith("after/"))
    ]
    # numpy's max, which a NaN does not pass by.
    return float(np.abs(np.array(losses) / arrays["losses"] - 1).max()), float(np.max(worst))


# Steps ------------------------------------------------------------------------------------------------
def state(manifest: Manifest, weights: Arrays) -> dict[str, Buffer]:
    """Buffers of a program's state."""
    made: dict[str, Buffer] = {}
    for spec in manifest.state:
        dtype = numpy_dtype(spec.dtype, spec.name)
        if spec.kind == "lot":
            made[spec.name] = Buffer(aligned_zeros(spec.shape, dtype))
        else:
            rate = np.full(spec.shape, LEARNING_RATE, dtype)
            made[spec.name] = Buffer(aligned_copy(weights[spec.name] if spec.trainable else rate))
    return made


def stepping(artifact: Artifact, buffers: Mapping[str, Buffer], batch: Arrays, key: bytes | None = None) -> Step:
    """Takes training steps on one batch; returns the loss before each."""
    assert artifact.module is not None
    manifest = artifact.manifest
    stepper = Stepper(manifest, CudaEngine(artifact.module, manifest.target), buffers)
    fed = {name: aligned_copy(value) for name, value in batch.items()}
    (fetch,) = manifest.fetches
    if manifest.privacy is None:
        return lambda: float(stepper.run("step", fed)[fetch].reshape(()))
    draws = itertools.count()
    return lambda: float(stepper.run_lot(fed, key=key or os.urandom(32), draw=next(draws))[fetch].reshape(()))


def random_weights(manifest: Manifest) -> dict[str, np.ndarray]:
    """Parameters of about the size that initialisers give them."""
    rng = np.random.default_rng(0)
    made: dict[str, np.ndarray] = {}
    for spec in manifest.state:
        if spec.trainable:
            shape = tuple(int(dim) for dim in spec.shape)
            fan = shape[0] if len(shape) == 2 else int(np.prod(shape[1:])) or 1
            scale = 0.1 if len(shape) == 1 else fan**-0.5
            made[spec.name] = (scale * rng.normal(size=shape) + spec.name.endswith(".scale")).astype(np.float32)
    return made


def batch_of(artifact: Artifact, sample: Arrays) -> dict[str, np.ndarray]:
    """A batch of the physical size, of rows as those of ``sample``."""
    rows = artifact.manifest.batch
    assert rows is not None
    rng = np.random.default_rng(1)
    made: dict[str, np.ndarray] = {}
    for name, value in sample.items():
        shape = (rows, *value.shape[1:])
        if value.dtype.kind == "f":
            made[name] = rng.normal(size=shape).astype(value.dtype)
        else:
            made[name] = rng.choice(value.reshape(-1), size=shape)
    return made


def burst(step: Step, seconds: float) -> float:
    """Seconds per step, over about so many seconds."""
    start = time.perf_counter()
    step()
    calls = max(1, round(seconds / max(time.perf_counter() - start, 1e-6)))
    start = time.perf_counter()
    for _ in range(calls):
        step()
    return (time.perf_counter() - start) / calls


def contestants(name: str, private: bool, artifact: Artifact, sample: Arrays) -> Iterator[tuple[str, Step]]:
    """The ways to take a step, each warmed up, with its label; those that fail are told of and left out."""
    weights, batch = random_weights(artifact.manifest), batch_of(artifact, sample)
    makers: dict[str, Callable[[], Step]] = {
        "fluidc": lambda: stepping(artifact, state(artifact.manifest, weights), batch)
    }
    try:
        import torch_gpu
    except ImportError as error:
        print(f"PyTorch: {error}", file=sys.stderr)
    else:
        makers |= torch_gpu.steps(name, private, {**weights, **batch})
    for label, make in makers.items():
        try:
            step = make()
            for _ in range(5):
                step()
        except Exception as error:
            print(f"{name}, {label}: {type(error).__name__}: {error}".splitlines()[0], file=sys.stderr)
        else:
            yield label, step


def least_seconds(artifact: Artifact, capability: str) -> float | None:
    """What a step takes at least by its operations and bytes on the chip listed for the device, or None."""
    chip, table = chip_of(capability), artifact.kernels
    if chip is None or table is None:
        return None
    found = [table.function(name) for name in ("step", "accumulate", "apply")]
    work = [kernel.work for function in found if function is not None for kernel in function.kernels]
    return sum(max(typical(w.flops + w.integer) / chip.flops, typical(w.bytes) / chip.bandwidth) for w in work)


def time_model(path: Path, seconds: float, rounds: int, capability: str) -> dict[str, Any]:
    """Seconds per step of every contestant, the median of some rounds in which they take turns."""
    name, _, kind = path.stem.partition("-")
    artifact = Artifact.read(path)
    with np.load(path.with_name(f"{name}.npz")) as file:
        sample = dict(file)
    steps = dict(contestants(name, kind == "private", artifact, sample))
    times: dict[str, list[float]] = {label: [] for label in steps}
    for _ in range(rounds):
        for label, step in steps.items():
            times[label].append(burst(step, seconds))
    medians = {label: float(np.median(found)) for label, found in times.items()}
    return {"batch": artifact.manifest.batch, "seconds": medians, "least": least_seconds(artifact, capability)}


# The command ------------------------------------------------------------------------------------------
def main(arguments: list[str] | None = None) -> int:
    """Check, time, print and write; returns 1 when something is wrong."""
    parser = argparse.ArgumentParser(description="Check and time compiled programs on a GPU.")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="where the results go [gpu.json]")
    parser.add_argument("--seconds", type=float, default=0.5, help="of a burst [0.5]")
    parser.add_argument("--rounds", type=int, default=5, help="in which contestants take turns [5]")
    parser.add_argument("--no-times", action="store_true", help="only check")
    options = parser.parse_args(arguments)
    (first,) = itertools.islice(sorted((HERE / "checks").glob("*.fluidc")), 1)
    artifact = Artifact.read(first)
    device = CudaEngine(artifact.module or b"", artifact.manifest.target).device
    capability = "sm_{}{}".format(*device.capability)
    record: dict[str, Any] = {
        "device": device.name, "capability": capability, "python": platform.python_version(), "numpy": np.__version__,
        "fluidc": artifact.manifest.fluidc_version,
    }  # fmt: skip
    print(f"{device.name}, {capability}")
    count, wrong = check_cases(HERE / "cases")
    print(f"op cases: {count}, wrong: {len(wrong)}", *wrong, sep="\n  ")
    record["cases"] = {"count": count, "wrong": wrong}
    record["models"], bad = {}, len(wrong)
    for path in sorted((HERE / "checks").glob("*.fluidc")):
        losses, parameters = check_model(path)
        good = losses < 1e-4 and parameters < 1e-4
        bad += not good
        record["models"][path.stem] = {"losses": losses, "parameters": parameters}
        print(f"{path.stem:22} losses within {losses:.1e}, parameters {parameters:.1e}{'' if good else '  WRONG'}")
    record["times"] = {}
    for path in [] if options.no_times else sorted((HERE / "programs").glob("*.fluidc")):
        found = record["times"][path.stem] = time_model(path, options.seconds, options.rounds, capability)
        _tell(path.stem, found)
        options.out.write_text(json.dumps(record, indent=1) + "\n")
    options.out.write_text(json.dumps(record, indent=1) + "\n")
    print(f"wrote {options.out}")
    return 1 if bad else 0


def _tell(name: str, found: Mapping[str, Any]) -> None:
    times = found["seconds"]
    own = times.get("fluidc")
    line = [f"{label} {1e6 * seconds:.0f} µs" for label, seconds in times.items()]
    if own:
        line += [f"{label} / fluidc {seconds / own:.2f}" for label, seconds in times.items() if label != "fluidc"]
        if found["least"]:
            line.append(f"roofline / fluidc {found['least'] / own:.2f}")
    print(f"{name:22} " + ", ".join(line))


if __name__ == "__main__":
    sys.exit(main())
