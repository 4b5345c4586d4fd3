"""Private programs compiled for a target, trained by the runtime, with what the engine was handed written down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

import fluidc.frontend as fluid
from fluidc.compiler.driver import compile_source
from fluidc.frontend.framework import Program
from fluidc.frontend.lower import lower
from fluidc.runtime import keystream
from fluidc.runtime.artifact import Artifact
from fluidc.runtime.engine import Buffer, Engine
from fluidc.runtime.manifest import Manifest
from fluidc.runtime.session import Session

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]
L: Any = fluid.layers
STATED = {"dataset_size": 90, "delta": 1e-3, "max_steps": 60}
MASTER = bytes(range(32))


@dataclass(frozen=True)
class Program_:
    """A private program, compiled: its artifact and what makes an engine for it."""

    artifact: Artifact
    engine: Callable[[], Engine]

    def session(self, **options: Any) -> tuple[Session, Recording]:
        """A session on an engine that writes down what it is handed."""
        engine = Recording(self.engine(), self.artifact.manifest)
        return Session.load(self.artifact, engine, **options), engine


def compiled(build: Callable[[], Any], target: str, batch: int, optimizer: Callable[[], Any]) -> Program_:
    """``build()`` records a model and returns its loss; ``optimizer()`` is a private one."""
    main, startup = Program(), Program()
    with fluid.unique_name.guard(), fluid.program_guard(main, startup):
        optimizer().minimize(build())
    made = compile_source(lower(main, startup=startup), target=target, batch=batch, keep_ir=True)
    return Program_(made.artifact(), made.built.engine)


def classifier(inputs: int = 5, hidden: int = 8) -> Any:
    x, label = L.data("x", [inputs]), L.data("label", [1], dtype="int64")
    return L.mean(L.softmax_with_cross_entropy(L.fc(L.fc(x, hidden, act="tanh"), 3), label))


def dpsgd(clip: float = 0.7, lot: float = 16.0, sigma: float = 1.0, rate: float = 0.5) -> Callable[[], Any]:
    return lambda: fluid.optimizer.Dpsgd(rate, clip, lot, sigma, **STATED)


@cache
def classifying(target: str, batch: int = 16) -> Program_:
    """A small classifier under Dpsgd."""
    return compiled(classifier, target, batch, dpsgd())


def rows(count: int, seed: int = 0, inputs: int = 5) -> Arrays:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, inputs)).astype(np.float32)
    return {"x": x, "label": rng.integers(0, 3, (count, 1))}


@dataclass(frozen=True)
class Use:
    """A key and the number of a draw, handed to a function that draws noise."""

    function: str
    key: bytes
    draw: int

    def words(self, tensor: int, count: int) -> Array:
        """The keystream blocks, u32[blocks, 16], of ``count`` normals of one tensor."""
        return keystream.fast_words(
            self.key, domain=keystream.Domain.GRADIENT, tensor=tensor, draw=self.draw,
            count_blocks=keystream.blocks_for(count),
        )  # fmt: skip

    def normals(self, tensor: int, count: int) -> Array:
        return keystream.normals_from_words(self.words(tensor, count), count)


class Recording:
    """An engine that passes everything on, and keeps every key and draw that a function was called with."""

    def __init__(self, inner: Engine, manifest: Manifest) -> None:
        self.inner, self.manifest = inner, manifest
        self.uses: list[Use] = []
        self.calls: list[str] = []
        self.fail_at: int | None = None

    @property
    def in_place(self) -> bool:
        return self.inner.in_place

    def tensor(self, array: Array, *, secret: bool = False) -> tuple[Any, Array]:
        return self.inner.tensor(array, secret=secret), array

    def state(self, buffer: Buffer) -> tuple[Any, Array]:
        return self.inner.state(buffer), buffer.home

    def call(self, function: str, arguments: Sequence[tuple[Any, Array]]) -> list[Array]:
        bound = zip(self.manifest.function(function).inputs, arguments, strict=True)
        given = {binding.kind: array for binding, (_, array) in bound if binding.kind in ("key", "draw")}
        if "key" in given:
            self.uses.append(Use(function, given["key"].tobytes(), int(given["draw"])))
        if self.fail_at == len(self.calls):
            self.fail_at = None
            raise RuntimeError("the engine was told to fail")
        self.calls.append(function)
        return self.inner.call(function, [handle for handle, _ in arguments])


def trained(session: Session) -> Arrays:
    """Copies of the trainable parameters."""
    spec = session.model.manifest.privacy
    assert spec is not None
    return {name: session.model.state[name].copy() for name in spec.parameters}


def emitted(session: Session, before: Arrays, gain: float) -> Arrays:
    """What the last updates added to the parameters, in units of the noise: standard normals for empty lots."""
    after = trained(session)
    return {name: (before[name].astype(np.float64) - after[name]) / gain for name in before}


def keys_of(nightly: bool, count: int, purpose: bytes = b"") -> list[bytes]:
    """Keys for ``count`` draws: fixed ones, or fresh ones that are shown when a test fails."""
    master = keystream.fresh_key() if nightly else MASTER + purpose
    print(f"master key {master.hex()}")
    return [keystream.insecure_key(master, "step", draw) for draw in range(count)]


FIXED_AND_FRESH = pytest.mark.parametrize("fresh", [False, pytest.param(True, marks=pytest.mark.nightly)])
