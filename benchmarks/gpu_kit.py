"""Writes a folder with which a bare machine with a GPU checks and times what the cuda target compiles.

    python benchmarks/gpu_kit.py OUT [--arch sm_90] [--models mlp,cnn] [--no-cases]
    python OUT/gpu.py                    there: needs Python, numpy and NVIDIA's driver and libcudart; PyTorch if it is

The folder holds the runtime, every op case compiled with what it must compute, small models with the trajectories of
the reference target (plain ones in float64), and the benchmark models in the sizes that are timed.  No GPU is needed to
write it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fluidc.compiler.codegen.built import BuildOptions
from fluidc.compiler.codegen.reference import Reference
from fluidc.compiler.codegen.target import build
from fluidc.compiler.driver import Compiled, Source, compile_source
from fluidc.compiler.ir.core import Module
from fluidc.compiler.ir.stage import Stage
from fluidc.frontend.bench import step
from fluidc.frontend.bench.models import BENCHMARKS, Benchmark, Mlp
from fluidc.frontend.bundle import launcher
from fluidc.frontend.bundle.contents import bundle_of

HERE = Path(__file__).resolve().parent
CASES_PER_MODULE = 100
SMALL_ROWS, STEPS = 8, 10
KEY = bytes(range(32))

MODELS: Mapping[str, Benchmark] = {
    **BENCHMARKS,
    "wide": Benchmark(Mlp(4096, (4096, 4096), 4096), 4096, "MLP 4096-4096-4096-4096", Mlp(16, (16, 16), 16)),
}
"""What is timed: the benchmark models, and a perceptron whose products fill any GPU."""


def write_kit(out: Path, names: Sequence[str], options: BuildOptions, cases: Iterable[Any]) -> None:
    """Write the folder.

    Args:
        out: Must not exist.
        names: Of `MODELS`.
        options: How to compile.
        cases: Jobs of ``tests/support/op_jobs.py``.
    """
    with tempfile.TemporaryDirectory(dir=out.parent) as name:
        folder = Path(name) / "kit"
        for part in ("programs", "checks", "cases"):
            (folder / part).mkdir(parents=True)
        for model in names:
            for private in (False, True):
                _model(folder, model, private, options)
        some = next(iter(sorted((folder / "checks").glob("*.fluidc"))))
        for member, content in bundle_of(some).members.items():
            if member.startswith(f"{launcher.PACKAGES}/"):
                path = folder / member
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        _cases(folder / "cases", list(cases), options)
        for source in (HERE / "gpu.py", HERE / "peers" / "torch_gpu.py", HERE / "peers" / "torch_models.py"):
            shutil.copy(source, folder)
        folder.rename(out)


def _model(folder: Path, name: str, private: bool, options: BuildOptions) -> None:
    benchmark = MODELS[name]
    label = f"{name}-{'private' if private else 'plain'}"
    print(f"{label}: {benchmark.title}", file=sys.stderr)
    large = _compiled(step.source(benchmark.model, benchmark.batch, private=private), benchmark.batch, options)
    large.artifact().write(folder / "programs" / f"{label}.fluidc")
    _feeds(folder / "programs" / f"{name}.npz", step.feeds(benchmark.model, 2))
    source = step.source(benchmark.small, SMALL_ROWS, private=private)
    _compiled(source, SMALL_ROWS, options).artifact().write(folder / "checks" / f"{label}.fluidc")
    batch, weights = step.feeds(benchmark.small, SMALL_ROWS), step.weights(source)
    losses, parameters = _trajectory(source, batch, weights, exact=not private)
    arrays = {f"weight/{k}": v for k, v in weights.items()} | {f"after/{k}": v for k, v in parameters.items()}
    _feeds(folder / "checks" / f"{label}.npz", {**batch, **arrays, "losses": losses, "key": np.frombuffer(KEY, "u1")})


def _compiled(source: Source, rows: int, options: BuildOptions) -> Compiled:
    return compile_source(source, target="cuda", batch=rows, options=options)


def _feeds(path: Path, arrays: Mapping[str, Any]) -> None:
    np.savez_compressed(path, **arrays)


def _trajectory(
    source: Source, batch: step.Arrays, weights: step.Arrays, *, exact: bool
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Losses and parameters after `STEPS` steps on the reference target; ``exact``: in float64."""
    compiled = compile_source(source, target="reference", batch=SMALL_ROWS)
    trained = [spec.name for spec in compiled.manifest.state if spec.trainable]
    if not exact:
        buffers = step.state(compiled.manifest, weights)
        take = step.take_steps(compiled.manifest, compiled.built.engine(), buffers, batch, KEY)
        losses = [take() for _ in range(STEPS)]
        return np.array(losses), {name: buffers[name].array for name in trained}
    step_alone = replace(compiled.module, functions=(compiled.module.function("step"),))
    reference = Reference(step_alone, promote=True)
    state = {k: np.asarray(b.array, np.float64) for k, b in step.state(compiled.manifest, weights).items()}
    feeds = {k: v.astype(np.float64) if v.dtype == np.float32 else v for k, v in batch.items()}
    (fetch,) = compiled.manifest.fetches
    losses = [float(reference.run("step", feeds, state)[fetch].reshape(())) for _ in range(STEPS)]
    return np.array(losses), {name: state[name] for name in trained}


def _cases(folder: Path, jobs: Sequence[Any], options: BuildOptions) -> None:
    """Op cases, many to a module: the library, the arrays, and what belongs to what."""
    listed: list[dict[str, object]] = []
    for start in range(0, len(jobs), CASES_PER_MODULE):
        some = jobs[start : start + CASES_PER_MODULE]
        number = start // CASES_PER_MODULE
        print(f"op cases {start} to {start + len(some)}", file=sys.stderr)
        module = Module(Stage.TARGET, (), tuple(job.function for _, job in some))
        (folder / f"{number}.so").write_bytes(build(module, "cuda", options).members()["module.so"])
        arrays: dict[str, np.ndarray] = {}
        for title, job in some:
            named = {f"{job.function.name}/in{i}": a for i, a in enumerate(job.arguments)}
            named |= {f"{job.function.name}/out{i}": a for i, a in enumerate(job.expected)}
            arrays |= named
            listed.append(
                {"title": title, "module": number, "function": job.function.name, "inputs": len(job.arguments),
                 "outputs": len(job.expected), "rtol": job.rtol, "atol": job.atol}
            )  # fmt: skip
        np.savez_compressed(folder / f"{number}.npz", **{k: np.asarray(v) for k, v in arrays.items()})
    (folder / "cases.json").write_text(json.dumps(listed, indent=1))


def op_jobs() -> list[tuple[str, Any]]:
    """Every op case that the tests compile, with its title."""
    sys.path[:0] = [str(HERE.parent / "tests" / part) for part in ("support", "ops")]
    import cuda_cases

    return [(title, cuda_cases.job_of(number)) for number, title in enumerate(cuda_cases.IDS)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a kit that checks and times the cuda target on a GPU machine.")
    parser.add_argument("out", type=Path, help="a folder that does not exist yet")
    parser.add_argument("--arch", default="sm_90", help="architectures to compile for, with commas between them")
    parser.add_argument("--models", default=",".join(MODELS), help="of those timed")
    parser.add_argument("--no-cases", action="store_true", help="leave out the op cases, which take minutes to compile")
    arguments = parser.parse_args()
    options = BuildOptions("x86-64-v3", architectures=tuple(arguments.arch.split(",")))
    write_kit(arguments.out, arguments.models.split(","), options, [] if arguments.no_cases else op_jobs())
    size = sum(path.stat().st_size for path in arguments.out.rglob("*") if path.is_file())
    print(f"{arguments.out}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
