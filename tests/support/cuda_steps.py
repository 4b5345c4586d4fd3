"""Whole training steps on the emulated device, by the engine that runs artifacts: run in a `cuda_worker.Worker`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from cuda_device import compile_kernels
from cuda_jobs import tvm_for_device
from cuda_worker import device

from fluidc.compiler.codegen.tvm.cuda import kept
from fluidc.compiler.driver import Compiled, Source, compile_source
from fluidc.frontend.bench import step
from fluidc.frontend.bench.models import BENCHMARKS
from fluidc.runtime.engine import Engine

ROWS = 6
KEY = bytes(range(32))


@dataclass(frozen=True)
class EmulatedCompiler:
    """A `toolchain.compiler.Compiler` whose machine code is the emulated device's."""

    checked: bool
    title: str = "emulated"
    known: tuple[int, ...] = (80, 90)

    def translate(self, text: str, architectures: Sequence[object]) -> tuple[bytes, str]:
        return compile_kernels(text, checked=self.checked), ""


def compile_for_device() -> None:
    """Let the target ``cuda`` of this process compile for the emulated device."""
    tvm_for_device()
    kept.find_compiler = lambda: EmulatedCompiler(device().checked)


@dataclass(frozen=True)
class Trained:
    """What some steps came to: their losses, and the parameters after them."""

    losses: list[float]
    parameters: Mapping[str, np.ndarray]


def train(name: str, private: bool, steps: int, targets: Sequence[str]) -> dict[str, Trained]:
    """Train a benchmark model, in the size that tests have, on each target from the same weights."""
    compile_for_device()
    model = BENCHMARKS[name].small
    source = step.source(model, ROWS, private=private)
    batch = step.feeds(model, ROWS)
    return {target: _trained(_compiled(source, target), batch, steps) for target in targets}


def _compiled(source: Source, target: str) -> Compiled:
    return compile_source(source, target=target, batch=ROWS)


def _trained(compiled: Compiled, batch: Any, steps: int) -> Trained:
    engine: Engine = compiled.built.engine()
    buffers = step.state(compiled.manifest, step.weights(compiled.source))
    take = step.take_steps(compiled.manifest, engine, buffers, batch, KEY)
    losses = [take() for _ in range(steps)]
    trained = [spec.name for spec in compiled.manifest.state if spec.trainable]
    return Trained(losses, {name: buffers[name].array.copy() for name in trained})
