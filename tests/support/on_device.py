"""Programs written as on-device training artifacts, trained by ONNX Runtime's API, and by fluidc's own session."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import fluidc.frontend as fluid
from fluidc.compiler.codegen.built import BuildOptions
from fluidc.compiler.codegen.reference import ReferenceEngine
from fluidc.compiler.driver import Compiled, Source, compile_source
from fluidc.frontend.bench.models import BENCHMARKS
from fluidc.frontend.cli import ort_artifacts
from fluidc.frontend.framework import Program
from fluidc.frontend.lower import lower
from fluidc.runtime.keystream import insecure_key, key_words, step_model_key
from fluidc.runtime.model import model_key
from fluidc.runtime.session import Session

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]
L: Any = fluid.layers
CHILD = Path(__file__).with_name("ort_child.py")
SECRET = b"on-device"
SEED = 5
STEPS = 20


def normal(*shape: int) -> Callable[[np.random.Generator, int], Array]:
    return lambda rng, rows: rng.normal(size=(rows, *shape)).astype("f4")


EIGHT = normal(8)


@dataclass(frozen=True)
class Job:
    """A program to be trained for `STEPS` steps.

    Attributes:
        model: Records it, returns the loss and what else is fetched.
        optimizer: Minimises it.
        draw: Rows of ``x``.
        classes: Number of values of ``y``.
        rows: Of a batch, or the largest lot.
        seeded: Whether the program has a random_seed; else its numbers are of keys made of `SEED`.
    """

    model: Callable[[], tuple[Any, ...]]
    optimizer: Callable[[], Any]
    draw: Callable[[np.random.Generator, int], Array] = EIGHT
    classes: int = 4
    rows: int = 24
    seeded: bool = True

    def source(self) -> Source:
        """The program, lowered."""
        main, startup = Program(), Program()
        main.random_seed = startup.random_seed = SEED if self.seeded else 0
        with fluid.unique_name.guard(), fluid.program_guard(main, startup):
            loss, *others = self.model()
            self.optimizer().minimize(loss)
        names = tuple(var.name for var in (*others, loss))
        test = [name for name in names if not name.startswith("learning_rate")]
        return ort_artifacts.prepared(lower(main, startup=startup, fetches=names, infer_fetches=test))

    def compiled(self) -> Compiled:
        """The program, compiled; what is exported is its module."""
        source = self.source()
        return compile_source(source, target="reference", batch=ort_artifacts.rows(source) or 0, keep_ir=True)

    def feeds(self, step: int) -> Arrays:
        """A batch; the lot of a private program changes its size."""
        rng = np.random.default_rng(step)
        rows = self.rows - step % 5 if "Dp" in type(self.optimizer()).__name__ else self.rows
        x = self.draw(rng, rows)
        return {"x": x, "y": x.reshape(rows, -1)[:, : self.classes].argmax(1).reshape(rows, 1)}


def classifier(hidden: Any) -> tuple[Any, ...]:
    """The loss of a classifier on features ``hidden``, and its probabilities."""
    y = L.data("y", [1], dtype="int64")
    logits = L.fc(hidden, 4)
    return L.mean(L.softmax_with_cross_entropy(logits, y)), L.softmax(logits)


def mlp() -> tuple[Any, ...]:
    return classifier(L.fc(L.data("x", [8]), 16, act="relu"))


def dropout() -> tuple[Any, ...]:
    return classifier(L.dropout(L.fc(L.data("x", [8]), 16, act="relu"), 0.3))


def cnn() -> tuple[Any, ...]:
    h = L.conv2d(L.data("x", [1, 8, 8]), 4, 3, padding=1, act="relu")
    return classifier(L.pool2d(h, 2, "max", 2))


def normalised() -> tuple[Any, ...]:
    return classifier(L.batch_norm(L.fc(L.data("x", [8]), 16), act="relu", momentum=0.7))


def scheduled() -> fluid.optimizer.SGD:
    return fluid.optimizer.SGD(L.exponential_decay(0.2, decay_steps=2, decay_rate=0.8))


def dpsgd(**options: Any) -> fluid.optimizer.Dpsgd:
    return fluid.optimizer.Dpsgd(
        0.5, clip=1.0, batch_size=16.0, sigma=0.8, dataset_size=90, delta=1e-3, max_steps=60, **options
    )


def private_adam() -> fluid.optimizer.DpOptimizer:
    return fluid.optimizer.DpOptimizer(
        fluid.optimizer.Adam(0.05), clip=1.0, batch_size=16.0, sigma=0.8, dataset_size=90, delta=1e-3, max_steps=60,
        clipping="quantile",
    )  # fmt: skip


JOBS: Mapping[str, Job] = {
    "sgd": Job(mlp, lambda: fluid.optimizer.SGD(0.3)),
    "adam": Job(mlp, lambda: fluid.optimizer.Adam(0.02, beta1=0.8, beta2=0.95, epsilon=1e-3)),
    "momentum": Job(mlp, lambda: fluid.optimizer.Momentum(0.1, 0.9)),
    "cnn": Job(cnn, lambda: fluid.optimizer.Adam(0.01), normal(1, 8, 8)),
    "schedule": Job(mlp, scheduled),
    "batch norm": Job(normalised, lambda: fluid.optimizer.SGD(0.2)),
    "dropout": Job(dropout, lambda: fluid.optimizer.SGD(0.3), seeded=False),
    "private": Job(mlp, dpsgd),
    "private cnn": Job(cnn, dpsgd, normal(1, 8, 8)),
    "private dropout": Job(dropout, dpsgd),
    "private adam, quantile": Job(mlp, private_adam),
}


def benchmark(name: str, optimizer: Callable[[], Any]) -> Job:
    """A benchmark model of the size that tests have."""
    model = BENCHMARKS[name].small

    def record() -> tuple[Any, ...]:
        logits = model.logits()
        y = L.data("y", [1], dtype="int64")
        return L.mean(L.softmax_with_cross_entropy(logits, y)), L.softmax(logits)

    return Job(record, optimizer, model.rows, model.classes)


MODELS: Mapping[str, Job] = {
    f"benchmark {name}{', private' if private else ''}": benchmark(
        name, dpsgd if private else lambda: fluid.optimizer.Adam(0.002, epsilon=1e-3)
    )
    for name in BENCHMARKS
    for private in (False, True)
}
"""The benchmark models, under Adam and privately; their training takes longer."""


@dataclass(frozen=True)
class Trained:
    """What a training of `STEPS` steps came to.

    Attributes:
        fetches: Of every step: fetch name to value; rows of padding left out.
        state: Every variable at the end.
        evaluation: What the test form gave then, on the batch after the last.
    """

    fetches: list[Arrays]
    state: Arrays
    evaluation: Arrays


def by_session(job: Job, compiled: Compiled) -> Trained:
    """By fluidc's runtime, on the reference target."""
    engine = ReferenceEngine(compiled.module)
    secret = SECRET if compiled.module.privacy is not None else None
    session = Session.load(compiled.artifact(), engine, seed=SEED, insecure_noise_key=secret)
    found = [session.run(job.feeds(step)) for step in range(STEPS)]
    return Trained(found, dict(session.model.state), session.predict(job.feeds(STEPS)))


def by_ort(job: Job, compiled: Compiled, folder: Path, *, without_torch: bool, ort_training: bool = False) -> Trained:
    """By the classes of ``onnxruntime.training.api``, in a process of their own."""
    artifacts = folder / "artifacts"
    ort_artifacts.write(artifacts, compiled, BuildOptions(ort_training=ort_training), SEED)
    index = json.loads((artifacts / ort_artifacts.INDEX).read_text())
    calls: dict[str, Any] = {}
    for step in range(STEPS):
        given = _inputs(index["training"]["inputs"], job.feeds(step), compiled, step)
        calls |= {f"train/{step}/{number}": value for number, value in enumerate(given)}
    feeds = job.feeds(STEPS)
    given = [feeds[wish["name"]] for wish in index["eval"]["inputs"]]
    calls |= {f"eval/{number}": value for number, value in enumerate(given)}
    np.savez(folder / "job.npz", **calls)
    command = [sys.executable, str(CHILD), str(artifacts), str(folder / "job.npz"), str(folder / "out.npz")]
    done = subprocess.run([*command, *(["--without-torch"] if without_torch else [])], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    out = np.load(folder / "out.npz")
    for kind in ("training", "eval"):
        short = kind.removesuffix("ing")
        names = [output["name"] for output in index[kind]["outputs"]]
        assert list(out[f"{short} outputs"]) == names
        assert list(out[f"{short} inputs"])[: len(index[kind]["inputs"])] == [i["name"] for i in index[kind]["inputs"]]
    names = [output["name"] for output in index["training"]["outputs"]]
    fetches = [{name: out[f"train/{step}/{number}"] for number, name in enumerate(names)} for step in range(STEPS)]
    if compiled.module.privacy is not None:
        fetches = [_own_rows(fetched, len(job.feeds(step)["x"])) for step, fetched in enumerate(fetches)]
    state = {name.removeprefix("parameter/"): out[name] for name in out.files if name.startswith("parameter/")}
    evaluation = {o["name"]: out[f"eval/{number}"] for number, o in enumerate(index["eval"]["outputs"])}
    return Trained(fetches, state, evaluation)


def _own_rows(fetched: Arrays, rows: int) -> Arrays:
    return {name: value[:rows] if value.ndim == 2 else value for name, value in fetched.items()}


def _inputs(wanted: list[dict[str, Any]], feeds: Arrays, compiled: Compiled, step: int) -> list[Array]:
    """The arrays of one call, in the order of the index."""
    batch, private = compiled.manifest.batch, compiled.module.privacy is not None
    rows = len(feeds["x"])
    key = insecure_key(SECRET, "step", step)
    model = step_model_key(key) if private else model_key(SEED)
    own: Arrays = {
        "@key": key_words(key),
        "@draw": np.asarray(step, np.uint64),
        "@rng_key": key_words(model),
        "@rng_counter": np.asarray(step, np.uint64),
        "@phase": np.asarray(0, np.int64),
        "@mask": np.arange(batch or rows) < rows,
    }
    padded = {name: _padded(value, batch) for name, value in feeds.items()} if private else feeds
    return [{**padded, **own}[wish["name"]] for wish in wanted]


def _padded(value: Array, batch: int | None) -> Array:
    assert batch is not None
    return np.concatenate([value, np.zeros((batch - len(value), *value.shape[1:]), value.dtype)])
