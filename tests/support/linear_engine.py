"""A small engine with real maths: linear regression, plain and private, under the runtime's calling convention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fluidc.runtime.artifact import (
    Artifact,
    Binding,
    BindingKind,
    FeedSpec,
    FunctionSpec,
    Manifest,
    OutputSpec,
    PrivacySpec,
    StateSpec,
    TargetSpec,
)
from fluidc.runtime.buffers import ALIGNMENT, Buffer, flip
from fluidc.runtime.keystream import Domain, gaussian

Array = NDArray[Any]
RATE = np.float32(0.1)
D = 3


class LinearEngine:
    """y = x w + b with square loss; ``b`` starts from the model key, labels only count in ``label``.

    Private functions follow DP-SGD: per-example gradients clipped to ``clip``, summed, noised once, divided by lot.
    """

    def __init__(self, privacy: PrivacySpec | None = None) -> None:
        self.privacy = privacy
        self.calls: list[str] = []
        self.fail_at: int | None = None
        self.wrapped = 0

    in_place = True

    def tensor(self, array: Array, *, secret: bool = False) -> Array:
        assert array.flags.c_contiguous
        assert array.ctypes.data % ALIGNMENT == 0
        self.wrapped += 1
        return array

    def state(self, buffer: Buffer) -> Array:
        return self.tensor(buffer.array)

    def call(self, function: str, arguments: Sequence[Array]) -> list[Array]:
        if self.fail_at is not None and len(self.calls) == self.fail_at:
            raise RuntimeError("the engine was told to fail")
        self.calls.append(function)
        run: Callable[..., list[Array]] = getattr(self, f"_{'private_' if self.privacy else ''}{function}")
        return run(*arguments)

    def _startup(self, w: Array, b: Array, seen: Array, key: Array, counter: Array) -> list[Array]:
        w[...] = 0
        b[...] = gaussian(key, domain=Domain.MODEL, tensor=0, draw=int(counter), count=1)
        seen[...] = 0
        return []

    def _private_startup(self, w: Array, b: Array, seen: Array, lot: Array, key: Array, counter: Array) -> list[Array]:
        lot[...] = 0
        return self._startup(w, b, seen, key, counter)

    def _infer(self, w: Array, b: Array, x: Array, y: Array) -> list[Array]:
        out = x @ w + b
        return [np.float32(((out - y) ** 2).mean()).reshape(1), out]

    _private_infer = _infer

    def _step(self, w: Array, b: Array, seen: Array, x: Array, y: Array, label: Array, counter: Array) -> list[Array]:
        del label
        out = x @ w + b
        residual = out - y
        loss = (residual**2).mean()
        w -= RATE * 2 * (x.T @ residual) / np.float32(len(x))
        b -= RATE * 2 * residual.mean(0)
        seen += len(x)
        return [np.float32(loss).reshape(1), out, counter.copy()]

    def _sums(self, w: Array, b: Array, x: Array, y: Array, mask: Array) -> tuple[Array, Array, Array]:
        """(clipped sum of [gw, gb], masked mean loss, rows out)."""
        assert self.privacy is not None
        out = x @ w + b
        residual = out - y
        gradients = np.concatenate([2 * residual * x, 2 * residual], axis=1).astype(np.float64)
        norms = np.sqrt((gradients**2).sum(1))
        factors = np.where(mask, np.minimum(1, self.privacy.clips[0] / np.maximum(norms, 1e-30)), 0)
        loss = np.where(mask, (residual**2)[:, 0], 0).sum() / max(1, mask.sum())
        return (factors[:, None] * gradients).sum(0), np.float32(loss).reshape(1), out

    def _update(self, w: Array, b: Array, total: Array, key: Array, draw: Array) -> None:
        assert self.privacy is not None
        noise = gaussian(key, domain=Domain.GRADIENT, tensor=0, draw=int(draw), count=D + 1)
        mean = (total + self.privacy.sigma * self.privacy.clips[0] * noise) / self.privacy.lot
        w -= RATE * mean[:D, None].astype(np.float32)
        b -= RATE * mean[D:].astype(np.float32)

    def _private_step(
        self, w: Array, b: Array, seen: Array, x: Array, y: Array, label: Array, mask: Array, counter: Array,
        key: Array, draw: Array,
    ) -> list[Array]:  # fmt: skip
        del label, counter
        total, loss, out = self._sums(w, b, x, y, mask)
        self._update(w, b, total, key, draw)
        seen += int(mask.sum())
        return [loss, out, np.array(mask.sum(), np.int64), np.array(w.sum(), np.float32)]

    def _private_accumulate(
        self, w: Array, b: Array, seen: Array, lot: Array, x: Array, y: Array, label: Array, mask: Array,
        counter: Array,
    ) -> list[Array]:  # fmt: skip
        del label, counter
        total, loss, out = self._sums(w, b, x, y, mask)
        lot += total
        seen += int(mask.sum())
        return [loss, out, np.array(mask.sum(), np.int64)]

    def _private_apply(self, w: Array, b: Array, lot: Array, key: Array, draw: Array) -> list[Array]:
        self._update(w, b, lot, key, draw)
        lot[...] = 0
        return [np.array(w.sum(), np.float32)]


class TwoSidedEngine(LinearEngine):
    """The same without writing what it reads: new state is left on the other side of its buffers."""

    in_place = False

    def state(self, buffer: Buffer) -> Any:
        self.tensor(buffer.home)
        return buffer

    def call(self, function: str, arguments: Sequence[Any]) -> list[Array]:
        buffers = [each for each in arguments if isinstance(each, Buffer)]
        for buffer in buffers:
            buffer.spare[...] = buffer.sides[0]
        results = super().call(function, [each.spare if isinstance(each, Buffer) else each for each in arguments])
        if function != "infer":
            flip(buffers)
            for buffer in buffers:
                buffer.sides[1].fill(77)  # what was newest is not looked at again
        return results


def _inputs(*names: str) -> tuple[Binding, ...]:
    kinds: dict[str, BindingKind] = {
        "mask": "mask", "key": "key", "draw": "draw", "rng_key": "rng_key", "rng_counter": "rng_counter",
        "row": "row",
    }  # fmt: skip
    states = ("w", "b", "seen", "lot")
    return tuple(Binding(kinds[n]) if n in kinds else Binding("state" if n in states else "feed", n) for n in names)


def _written(*names: str) -> tuple[OutputSpec, ...]:
    types = {"w": ("f32", (D, 1)), "b": ("f32", (1,)), "seen": ("i64", ()), "lot": ("f64", (D + 1,))}
    return tuple(OutputSpec("state", n, types[n][0], types[n][1]) for n in names)  # pyright: ignore[reportArgumentType]


LOSS = OutputSpec("fetch", "loss", "f32", (1,), "mean", not_private=True)
OUT = OutputSpec("fetch", "out", "f32", ("N", 1), "rows", not_private=True)
COUNT = OutputSpec("fetch", "count", "i64", (), "sum", not_private=True)
W_SUM = OutputSpec("fetch", "w_sum", "f32", ())
CALL = OutputSpec("fetch", "call", "u64", ())


def linear_manifest(privacy: PrivacySpec | None = None, batch: int | None = None, seed: int | None = 7) -> Manifest:
    """What `LinearEngine` runs; ``batch`` is needed with ``privacy``."""
    state = (
        StateSpec("w", "f32", (D, 1), "model", trainable=True, role="parameter"),
        StateSpec("b", "f32", (1,), "model", trainable=True, role="parameter"),
        StateSpec("seen", "i64", (), "diagnostic", trainable=False, role="counter"),
    )
    infer = FunctionSpec("infer", _inputs("w", "b", "x", "y"), (LOSS, OUT))
    if privacy is None:
        startup = _inputs("w", "b", "seen", "rng_key", "rng_counter")
        functions = (
            FunctionSpec("startup", startup, _written("w", "b", "seen")),
            FunctionSpec(
                "step",
                _inputs("w", "b", "seen", "x", "y", "label", "rng_counter"),
                (LOSS, OUT, CALL, *_written("w", "b", "seen")),
            ),
            infer,
        )
    else:
        state += (StateSpec("lot", "f64", (D + 1,), "diagnostic", trainable=False, role="accumulator"),)
        data = ("x", "y", "label", "mask", "rng_counter")
        startup = _inputs("w", "b", "seen", "lot", "rng_key", "rng_counter")
        functions = (
            FunctionSpec("startup", startup, _written("w", "b", "seen", "lot")),
            FunctionSpec(
                "step",
                _inputs("w", "b", "seen", *data, "key", "draw"),
                (LOSS, OUT, COUNT, W_SUM, *_written("w", "b", "seen")),
            ),
            FunctionSpec(
                "accumulate", _inputs("w", "b", "seen", "lot", *data), (LOSS, OUT, COUNT, *_written("seen", "lot"))
            ),
            FunctionSpec("apply", _inputs("w", "b", "lot", "key", "draw"), (W_SUM, *_written("w", "b", "lot"))),
            infer,
        )
    return Manifest(
        fluidc_version="0.1.0",
        target=TargetSpec("reference", "", "", ()),
        batch=batch,
        feeds=(
            FeedSpec("x", "f32", ("N", D)),
            FeedSpec("y", "f32", ("N", 1)),
            FeedSpec("label", "i64", ("N", 1), low=1, high=5),
        ),
        fetches=("loss",),
        state=state,
        functions=functions,
        privacy=None if privacy is None else replace(privacy, parameters=("b", "w")),
        seed=seed,
    )


def linear_artifact(privacy: PrivacySpec | None = None, batch: int | None = None, seed: int | None = 7) -> Artifact:
    """An artifact of `linear_manifest`; `LinearEngine` is its engine."""
    return Artifact(linear_manifest(privacy, batch, seed))


def linear_data(rows: int, seed: int = 0) -> dict[str, Array]:
    """Rows of y = x [1, -2, 0.5] + 0.3 + noise, with labels in 1..4."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, D)).astype(np.float32)
    y = x @ np.array([[1.0], [-2.0], [0.5]], np.float32) + np.float32(0.3)
    y += 0.01 * random.normal(size=y.shape).astype(np.float32)
    return {"x": x, "y": y, "label": random.integers(1, 5, size=(rows, 1))}
