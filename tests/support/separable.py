"""Programs whose loss is, or is not, a sum over examples: how they are built, separated and run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

import fluidc.frontend as fluid
from fluidc.compiler.codegen.reference import Reference
from fluidc.compiler.ir.core import Function, Module, Output, Param, Value
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ir.types import DType, Sym, TensorType
from fluidc.compiler.ops.grad import Backward
from fluidc.compiler.ops.kinds import TotalKind
from fluidc.compiler.passes.manager import run_passes
from fluidc.compiler.passes.separability import extend, param_kinds
from fluidc.compiler.passes.separate import Separate
from fluidc.compiler.pipeline import pipeline
from fluidc.frontend.framework import Program
from fluidc.frontend.lower import lower

layers = fluid.layers
Array = np.ndarray[Any, Any]
Feeds = Mapping[str, Array]

ROWS = 3


@dataclass
class Fed:
    """The data variables of a program; each is made when the program first reads it."""

    made: dict[str, fluid.Variable] = field(default_factory=dict[str, fluid.Variable])

    def _data(self, name: str, shape: list[int], dtype: str = "float32", **more: Any) -> fluid.Variable:
        if name not in self.made:
            self.made[name] = layers.data(name, shape, dtype=dtype, append_batch_size=False, **more)
        return self.made[name]

    @property
    def x(self) -> fluid.Variable:
        """f32[N,4]."""
        return self._data("x", [-1, 4])

    @property
    def s(self) -> fluid.Variable:
        """Sequences of three steps, f32[N,3,2]."""
        return self._data("s", [-1, 3, 2])

    @property
    def image(self) -> fluid.Variable:
        """f32[N,2,5,5]."""
        return self._data("image", [-1, 2, 5, 5])

    @property
    def y(self) -> fluid.Variable:
        """Class labels, i64[N,1]."""
        return self._data("y", [-1, 1], "int64")

    @property
    def ids(self) -> fluid.Variable:
        """Three of seven words, i64[N,3]."""
        return self._data("ids", [-1, 3], "int64")

    @property
    def u(self) -> fluid.Variable:
        """A target, f32[N,1]."""
        return self._data("u", [-1, 1])

    @property
    def m(self) -> fluid.Variable:
        """A mask over the three steps of `s`, f32[N,3]; no row is all zeros."""
        return self._data("m", [-1, 3])

    @property
    def time_major(self) -> fluid.Variable:
        """`s` with the batch on axis 1, f32[3,N,2]."""
        return self._data("time_major", [3, -1, 2])

    @property
    def constant(self) -> fluid.Variable:
        """f32[4] without a batch axis, not declared public."""
        return self._data("constant", [4])

    @property
    def known(self) -> fluid.Variable:
        """f32[4] without a batch axis, declared public."""
        return fluid.privacy.public(self._data("known", [4]))

    @property
    def square(self) -> fluid.Variable:
        """f32[N,N]."""
        return self._data("square", [-1, -1])

    @property
    def ragged(self) -> fluid.Variable:
        """Sequences of different lengths, f32[T,2] with LoD."""
        return self._data("ragged", [-1, 2], lod_level=1)


Build = Callable[[Fed], fluid.Variable]


def draw(name: str, rng: np.random.Generator, rows: int) -> Array:
    """Values of the data variable ``name``."""
    if name in ("y", "ids"):
        return rng.integers(0, 3, (rows, 1)) if name == "y" else rng.integers(0, 7, (rows, 3))
    if name == "m":
        mask = rng.integers(0, 2, (rows, 3))
        mask[np.arange(rows), rng.integers(0, 3, rows)] = 1
        return mask.astype(np.float32)
    shape = {
        "x": (rows, 4), "s": (rows, 3, 2), "image": (rows, 2, 5, 5), "u": (rows, 1), "time_major": (3, rows, 2),
        "constant": (4,), "known": (4,),
    }[name]  # fmt: skip
    return rng.normal(size=shape).astype(np.float32)


def batch_axis(name: str) -> int | None:
    return {"time_major": 1, "constant": None, "known": None}.get(name, 0)


@dataclass
class Separated:
    """One program twice: as plain SGD, and as private SGD taken apart into examples.

    ``form`` says whether the loss is the mean or the sum of the examples'.
    Raises what `lower` and the pass ``separate`` raise.
    """

    build: Build

    def __post_init__(self) -> None:
        main, startup = Program(), Program()
        with fluid.unique_name.guard(), fluid.program_guard(main, startup):
            loss = self.build(Fed())
            fluid.optimizer.Dpsgd(0.1, 1.0, 4.0, 1.0).minimize(loss)
        module = lower(main, startup=startup).module
        passes = pipeline(module, to=Stage.CORE)
        proving = next(number for number, step in enumerate(passes) if isinstance(step, Separate))
        before = run_passes(module, passes[:proving])
        self.module = run_passes(before, passes[proving:])
        step = before.function("step")
        kinds = param_kinds(before, step)
        (request,) = (op for op in step.ops if isinstance(op, Backward))
        extend(kinds, before, step.ops[: step.ops.index(request)])
        loss = kinds[request.targets[0]]
        assert isinstance(loss, TotalKind)
        self.form = loss.form

    @cached_property
    def plain(self) -> Plain:
        return Plain(self.build)

    @cached_property
    def terms(self) -> tuple[Value, Value | None]:
        """The per-example loss and the term free of data."""
        (private,) = (op for op in self.step.ops if isinstance(op, Backward) and op.private)
        free = [op.targets[0] for op in self.step.ops if isinstance(op, Backward) and not op.private]
        return private.targets[0], free[0] if free else None

    @property
    def feeds(self) -> list[str]:
        return [p.name for p in self.step.params if p.role == "feed"]

    @property
    def step(self) -> Function:
        return self.module.function("step")

    @cached_property
    def _reference(self) -> Reference:
        """The separated step with its terms as outputs, and gradients of the examples weighted by ``seed``."""
        rows, free = self.terms
        seed = Value(TensorType(DType.F32, (Sym("N"),)), "seed")
        ops: list[Any] = []
        outputs = [Output("rows", rows), *([Output("free", free)] if free is not None else [])]
        names: list[str] = []
        for op in self.step.ops:
            if not isinstance(op, Backward):
                if any(v.op is not None and v.op not in ops for v in op.operands):
                    continue  # behind the gradients
                ops.append(op)
                continue
            names = [value.hint or f"w{i}" for i, value in enumerate(op.inputs)]
            kind = "g" if op.private else "h"
            request = replace(op, private=False, seeds=(seed,) if op.private else ())
            ops.append(request)
            outputs += [Output(f"{kind}_{n}", v) for n, v in zip(names, request.results, strict=True)]
        self.names = names
        step = Function("step", (*self.step.params, Param("seed", seed)), tuple(ops), tuple(outputs))
        module = Module(self.module.stage, self.module.state, (step,))
        return Reference(run_passes(module, pipeline(module)))

    def run(self, feeds: Feeds, seed: Array, counter: int = 0) -> dict[str, Array]:
        """``rows`` f32[N], ``free``, and per parameter ``g_NAME`` (weighted by ``seed``) and ``h_NAME`` (free)."""
        given = runtime_inputs(counter, len(seed)) | dict(feeds) | {"seed": seed}
        reference = self._reference
        names = [p.name for p in reference.module.function("step").params]
        return reference.run("step", {name: given[name] for name in names}, dict(self.plain.state))


class Plain:
    """A program under plain SGD: its loss and, unless it is only evaluated, the gradients of its parameters."""

    def __init__(self, build: Build, *, gradients: bool = True) -> None:
        main, startup = Program(), Program()
        with fluid.unique_name.guard(), fluid.program_guard(main, startup):
            loss = build(Fed())
            if gradients:
                fluid.optimizer.SGD(0.1).minimize(loss)
        self.loss = loss.name
        self.parameters = [p.name for p in main.global_block().all_parameters() if p.trainable and not p.stop_gradient]
        fetches = [self.loss, *(f"{name}@GRAD" for name in self.parameters if gradients)]
        source = lower(main, startup=startup, fetches=fetches)
        self.reference = Reference(run_passes(source.module, pipeline(source.module)))
        self.state: dict[str, Array] = dict(source.initial)
        self.reference.run("startup", _those(self.reference, "startup", runtime_inputs(0, 0)), self.state)
        # Biases begin at zero, where much is symmetric.
        rng = np.random.default_rng(1)
        for name in self.parameters:
            self.state[name] = self.state[name] + rng.normal(0, 0.3, self.state[name].shape).astype(np.float32)

    @property
    def feeds(self) -> list[str]:
        return [p.name for p in self.reference.module.function("step").params if p.role == "feed"]

    def run(self, feeds: Feeds, counter: int = 0) -> dict[str, Array]:
        """The loss as ``loss`` and the gradients under ``NAME@GRAD``."""
        given = _those(self.reference, "step", runtime_inputs(counter, 0) | dict(feeds))
        out = self.reference.run("step", given, dict(self.state))
        return out | {"loss": out[self.loss]}


def _those(reference: Reference, function: str, given: Mapping[str, Array]) -> dict[str, Array]:
    return {p.name: given[p.name] for p in reference.module.function(function).params}


def runtime_inputs(counter: int, rows: int, row: int = 0) -> dict[str, Array]:
    """What the runtime supplies, for a lot of ``rows`` live rows."""
    return {
        "mask": np.ones(rows, np.bool_),
        "rng_key": np.arange(8, dtype=np.uint32),
        "rng_counter": np.asarray(counter, np.uint64),
        "row": np.asarray(row, np.int64),
    }
