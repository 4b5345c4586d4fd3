"""The mechanism, broken in one place each: small changes of the real rules, passes and runtime.

A change of a pass writes a module that the verifier must refuse; with the verifier switched off, and for changes that
it cannot see, tests that measure must fail. ``tests/privacy/mutants.py`` runs both, and
``tests/privacy/listed.py`` names the tests.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from fluidc.compiler.codegen.onnx import emit
from fluidc.compiler.codegen.onnx.streams import Stream
from fluidc.compiler.ir.clipping import ClipGroup
from fluidc.compiler.ir.core import Module
from fluidc.compiler.ir.types import DType
from fluidc.compiler.ops import dp, dp_noise, example_norm
from fluidc.compiler.ops.dp import ClipFactor, CountBelow, ScaleRows, SelectRows
from fluidc.compiler.ops.dp_noise import AddNoise, NoisyMean
from fluidc.compiler.ops.grad import Backward
from fluidc.compiler.ops.kinds import PUBLIC, MixedKind, TotalKind
from fluidc.compiler.passes import manager, privatize, separate
from fluidc.compiler.passes.example_gradients import Gradient
from fluidc.runtime import keystream, ledger, onnx_engine, sampler, session, stepper, train
from fluidc.runtime.sampler import PoissonSampler

Patch = Callable[[pytest.MonkeyPatch], None]
Array = np.ndarray[Any, Any]


def without_verifier(patch: pytest.MonkeyPatch) -> None:
    """Modules are built without the check of their privacy flow."""

    def passed(module: Module, *, specialised: bool = False) -> None:
        return None

    patch.setattr(manager, "check_privacy_flow", passed)


# -- clipping ---------------------------------------------------------------------------------------------------------


def no_clip(patch: pytest.MonkeyPatch) -> None:
    """Live examples keep their gradients as they are."""
    evaluate, lower = ClipFactor.evaluate, ClipFactor.to_tvm
    patch.setattr(ClipFactor, "evaluate", lambda op, *args: evaluate(replace(op, clip=1e30), *args))
    patch.setattr(ClipFactor, "to_tvm", lambda op, *args: lower(replace(op, clip=1e30), *args))


def batch_clip(patch: pytest.MonkeyPatch) -> None:
    """The sum over the batch is clipped, tensor by tensor, instead of every example."""
    patch.setattr(
        privatize, "ClipFactor", lambda terms, mask, clip, *rest: ClipFactor(terms, mask, 1e30, *rest)
    )  # fmt: skip
    noisy_mean = privatize._Privatization._noisy_mean

    def clipped(self: Any, total: Any, c: Any, clip: float, param: Any) -> Any:
        b = self.b
        length = b.sqrt(b.reduce_sum(b.square(total), tuple(range(total.tensor.rank))))
        factor = b.minimum(b.fill((), DType.F32, 1.0), b.div(b.fill((), DType.F32, clip), length))
        return noisy_mean(self, b.mul(total, factor), c, clip, param)

    patch.setattr(privatize._Privatization, "_noisy_mean", clipped)


def own_bound_per_tensor(patch: pytest.MonkeyPatch) -> None:
    """Every tensor is clipped to C by its own norm, with the noise of one group."""
    patch.setattr(
        privatize, "clip_groups", lambda privacy, names: tuple(ClipGroup(privacy.clip, (name,)) for name in names)
    )
    patch.setattr(
        privatize, "NoisyMean", lambda total, c, bits, sigma, clip, lot, param, groups=1, *rest: NoisyMean(
            total, c, bits, sigma, clip, lot, param, 1, *rest
        ),
    )  # fmt: skip


def tied_norms_apart(patch: pytest.MonkeyPatch) -> None:
    """A parameter read several times: |a|² + |b|² for |a + b|²."""
    norm_sq = Gradient.norm_sq

    def apart(self: Gradient) -> Any:
        uses = self.request.uses
        if len(uses) == 1:
            return norm_sq(self)
        total = None
        for use in uses:
            part = norm_sq(Gradient(self.b, self.kinds, replace(self.request, uses=(use,)), self.preferred))
            total = part if total is None else self.b.add(total, part)
        return total

    patch.setattr(Gradient, "norm_sq", apart)


def multiplied_not_selected(patch: pytest.MonkeyPatch) -> None:
    """Dead rows are multiplied by zero, and rows that meet them stay: 0·Inf is NaN."""

    def scaled(op: ScaleRows, x: Array, c: Array) -> Array:
        with np.errstate(all="ignore"):
            return x * op._factor(c, x.ndim).astype(x.dtype)

    patch.setattr(ScaleRows, "evaluate", scaled)
    patch.setattr(SelectRows, "evaluate", lambda op, x, c: x)
    patch.setattr(SelectRows, "to_tvm", lambda op, t, x, c: x)
    patch.setattr(
        dp, "element_of",
        lambda t, dtype, scaled: lambda value, factor: value * t.cast(factor, dtype) if scaled else value,
    )  # fmt: skip
    lowered = dp._Rows._lowered

    def multiplied(op: Any, t: Any, x: Any, c: Any, scaled: bool) -> Any:
        if not op.pre == op.post == 1:
            return lowered(op, t, x, c, scaled)
        dtype = op.x.type.dtype
        return t.compute(op.x.tensor.shape, dtype, lambda *index: x[index] * t.cast(c[index[op.axis]], dtype))

    patch.setattr(dp._Rows, "_lowered", multiplied)


def gram_without_guard(patch: pytest.MonkeyPatch) -> None:
    """Norms from sums of signed terms are stated as they come, 0 at least."""

    def bare(squares: Array, lengths: Array, gram: float, terms: int) -> Array:
        return np.maximum(squares, 0.0)

    patch.setattr(example_norm, "guarded", bare)
    patch.setattr(
        example_norm, "lower_guarded",
        lambda t, squares, lengths, gram, terms: t.maximum(squares, t.const(0.0, DType.F64)),
    )  # fmt: skip


# -- noise ------------------------------------------------------------------------------------------------------------


def half_the_noise(patch: pytest.MonkeyPatch) -> None:
    multiplier = dp_noise._multiplier
    patch.setattr(dp_noise, "_multiplier", lambda op, sigma: multiplier(op, sigma) / 2)


def noise_over_the_batch(patch: pytest.MonkeyPatch) -> None:
    """σ is divided by the lot once more, as in a mean of noise."""
    patch.setattr(
        privatize, "NoisyMean", lambda total, c, bits, sigma, clip, lot, *rest: NoisyMean(
            total, c, bits, sigma / lot, clip, lot, *rest
        ),
    )  # fmt: skip


def scalar_noise(patch: pytest.MonkeyPatch) -> None:
    """One number for all coordinates of a tensor."""

    def noisy(total: Array, bits: Array, std: float, lot: float) -> Array:
        z = keystream.normals_from_words(bits, total.size)[:1]
        return ((total + np.float32(std) * z) * np.float32(1 / lot)).astype(total.dtype)

    patch.setattr(dp_noise, "_noisy_mean", noisy)
    lower = AddNoise.to_tvm

    class First:
        def __init__(self, normals: Any) -> None:
            self.normals = normals

        def __getitem__(self, index: Any) -> Any:
            return self.normals[0]

    class Emitter:
        def __init__(self, t: Any) -> None:
            self.t = t

        def chacha_normals(self, *args: Any) -> First:
            return First(self.t.chacha_normals(*args))

        def __getattr__(self, name: str) -> Any:
            return getattr(self.t, name)

    patch.setattr(AddNoise, "to_tvm", lambda op, t, *args: lower(op, cast(Any, Emitter(t)), *args))
    normals = emit.Emitter.normals

    def first(self: Any, words: str, count: int) -> str:
        return self.expand(self.node("Slice", normals(self, words, count), self.ints(0), self.ints(1)), (count,))

    patch.setattr(emit.Emitter, "normals", first)


def words_fed_again(patch: pytest.MonkeyPatch) -> None:
    """A graph that takes its words gets those of the first step in every step."""
    fill, kept = onnx_engine.fill_words, dict[tuple[int, int, int], Array]()

    def again(out: Array, key: Any, **stream: Any) -> None:
        fill(out, key, **stream)
        out[...] = kept.setdefault((stream["domain"], stream["tensor"], out.size), out.copy())

    patch.setattr(onnx_engine, "fill_words", again)


def shared_bits(patch: pytest.MonkeyPatch) -> None:
    """All tensors take the stream of the first."""
    bits = privatize.Bits
    patch.setattr(privatize, "Bits", lambda key, draw, tensor, *rest: bits(key, draw, 0, *rest))


def touched_rows_only(patch: pytest.MonkeyPatch) -> None:
    """Rows of a table that no example touched get no noise."""

    def noisy(total: Array, bits: Array, std: float, lot: float) -> Array:
        z = keystream.normals_from_words(bits, total.size).reshape(total.shape)
        touched = (total != 0).any(axis=-1, keepdims=True) if total.ndim else total != 0
        return ((total + np.float32(std) * np.where(touched, z, 0)) * np.float32(1 / lot)).astype(total.dtype)

    patch.setattr(dp_noise, "_noisy_mean", noisy)
    lower = AddNoise.to_tvm

    def to_tvm(op: AddNoise, t: Any, total: Any, *rest: Any) -> Any:
        made, shape, dtype = lower(op, t, total, *rest), op.total.tensor.shape, op.total.type.dtype
        return t.compute(
            shape, dtype, lambda *i: t.select(total[i].ne(t.const(0, dtype)), made[i], t.const(0, dtype))
        )  # fmt: skip

    patch.setattr(AddNoise, "to_tvm", to_tvm)


def logarithm_of_single_precision(patch: pytest.MonkeyPatch) -> None:
    """-log(U) of a float32 uniform of 24 bits."""

    def normals(words: Array, count: int) -> Array:
        hi, _, angle = keystream._triples(words, count)
        uniform = ((hi >> np.uint32(8)).astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-24)
        radius = np.sqrt(np.float32(2) * -np.log(uniform))
        a = keystream._odd_angle(angle).astype(np.float32) * np.float32(np.pi / 4 * 2.0**-30)
        return keystream._rotate(radius, np.cos(a), np.sin(a), angle >> np.uint32(30))[:count]

    for module in (keystream, dp_noise):
        patch.setattr(module, "normals_from_words", normals)


def votes_without_the_half(patch: pytest.MonkeyPatch) -> None:
    """Quantile clipping counts [n ≤ C] itself: an example moves the count by 1, not by 1/2."""

    def count(op: CountBelow, terms: tuple[Array, ...], mask: Array, bound: Array) -> Array:
        norm = np.sqrt(sum(terms, np.zeros(mask.shape)))
        return np.asarray((mask & (norm <= bound[0])).sum(), np.float32)

    patch.setattr(CountBelow, "evaluate", count)


# -- divisors ---------------------------------------------------------------------------------------------------------


def divided_by_the_actual_lot(patch: pytest.MonkeyPatch) -> None:
    """By the number of live examples, which is private."""
    noisy_mean = privatize._Privatization._noisy_mean

    def divided(self: Any, total: Any, c: Any, clip: float, param: Any) -> Any:
        b = self.b
        made = noisy_mean(self, total, c, clip, param)
        live = b.reduce_sum(b.cast(self.mask, DType.F32), (0,))
        stated = b.fill((), DType.F32, self.privacy.lot)
        return b.mul(made, b.div(stated, b.maximum(live, b.fill((), DType.F32, 1.0))))

    patch.setattr(privatize._Privatization, "_noisy_mean", divided)


def divided_by_live_rows(patch: pytest.MonkeyPatch) -> None:
    """The same inside the rule, where no check of the module sees it."""
    for cls in (NoisyMean, AddNoise):
        evaluate = cls.evaluate

        def divided(op: Any, total: Array, c: Array | None, *rest: Any, evaluate: Any = evaluate) -> Array:
            lot = op.lot if c is None else max(1.0, float((c > 0).sum()))
            return evaluate(replace(op, lot=lot), total, c, *rest)

        patch.setattr(cls, "evaluate", divided)


def divided_by_the_physical_batch(patch: pytest.MonkeyPatch) -> None:
    """The 1/N of the loss is kept: N is the number of rows of the physical batch."""
    for cls in (NoisyMean, AddNoise):
        evaluate = cls.evaluate

        def divided(op: Any, total: Array, c: Array | None, *rest: Any, evaluate: Any = evaluate) -> Array:
            return evaluate(op if c is None else replace(op, lot=float(c.size)), total, c, *rest)

        patch.setattr(cls, "evaluate", divided)


# -- what mixes examples ----------------------------------------------------------------------------------------------


def running_statistics_written(patch: pytest.MonkeyPatch) -> None:
    """Whatever a program writes to its state is written."""
    patch.setattr(separate._Separation, "_written", lambda self, op, value: value)


def stop_gradient_is_public(patch: pytest.MonkeyPatch) -> None:
    """What no gradient passes through is taken for a constant, whatever it was computed from."""
    op_kinds = separate._Separation._op

    def known(self: Any, op: Any) -> None:
        op_kinds(self, op)
        if not hasattr(self, "moved"):
            (request,) = (other for other in self.function.ops if isinstance(other, Backward))
            self.moved, self.stops = set(request.inputs), set(request.stops)
        if any(v in self.moved for v in (*op.operands, *op.results)):
            self.moved.update(v for v in op.results if v not in self.stops)
        for old in op.results:
            new = self.mapping.get(old, old)
            if old not in self.moved and isinstance(self.kinds.get(new), TotalKind | MixedKind):
                self.kinds[old] = self.kinds[new] = PUBLIC

    patch.setattr(separate._Separation, "_op", known)


# -- the runtime ------------------------------------------------------------------------------------------------------


def _keys(patch: pytest.MonkeyPatch, make: Callable[[], bytes]) -> None:
    for module in (train, session, keystream):
        patch.setattr(module, "fresh_key", make)


def one_key(patch: pytest.MonkeyPatch) -> None:
    """A key is made when the process starts, and kept."""
    kept = os.urandom(32)
    _keys(patch, lambda: kept)


def key_of_the_time(patch: pytest.MonkeyPatch) -> None:
    """The key is the hash of the second."""
    _keys(patch, lambda: hashlib.sha256(str(int(time.time())).encode()).digest())


def key_kept_for_a_retry(patch: pytest.MonkeyPatch) -> None:
    """A step that failed is taken again with the key and the number that it had."""
    run_lot, kept = stepper.Stepper.run_lot, dict[int, tuple[bytes, int]]()

    def again(self: Any, feeds: Any, *, key: Any, draw: int) -> Any:
        key, draw = kept.pop(id(self), (key, draw))
        try:
            return run_lot(self, feeds, key=key, draw=draw)
        except RuntimeError:
            kept[id(self)] = key, draw
            raise

    patch.setattr(stepper.Stepper, "run_lot", again)


def draws_begin_again(patch: pytest.MonkeyPatch) -> None:
    """The number of a draw counts from 0 in every run on a ledger."""
    step = ledger.Ledger.step

    def counted(self: Any, *args: Any, **options: Any) -> int:
        step(self, *args, **options)
        return self._begun - 1

    patch.setattr(ledger.Ledger, "step", counted)


def quiet_empty_lot(patch: pytest.MonkeyPatch) -> None:
    """A lot without examples changes nothing."""
    run_lot = stepper.Stepper.run_lot

    def skipped(self: Any, feeds: Any, *, key: Any, draw: int) -> Any:
        if all(np.shape(value)[0] == 0 for value in feeds.values()):
            self.check("step", feeds)
            return {}
        return run_lot(self, feeds, key=key, draw=draw)

    patch.setattr(stepper.Stepper, "run_lot", skipped)


def _applied(patch: pytest.MonkeyPatch, early: Callable[[int, int], bool]) -> None:
    """``apply`` after those micro-batches of a lot, of how many, for which ``early`` holds."""
    accumulated = stepper.Stepper._accumulated

    def run(self: Any, step: Any, arrays: Any, rows: int, batch: int) -> Any:
        engine, apply = self._engine, self._plan("apply")
        count, done = -(-rows // batch), 0

        class Between:
            def call(self, function: str, arguments: Any) -> Any:
                nonlocal done
                if function == "accumulate":
                    if early(done, count):
                        engine.call("apply", apply.arguments)
                    done += 1
                return engine.call(function, arguments)

            def __getattr__(self, name: str) -> Any:
                return getattr(engine, name)

        self._engine = Between()
        try:
            return accumulated(self, step, arrays, rows, batch)
        finally:
            self._engine = engine

    patch.setattr(stepper.Stepper, "_accumulated", run)


def noise_per_micro_batch(patch: pytest.MonkeyPatch) -> None:
    """Every micro-batch is applied, and so noised, by itself."""
    _applied(patch, lambda done, count: done > 0)


def noise_before_the_last_accumulate(patch: pytest.MonkeyPatch) -> None:
    """The update is taken before the last micro-batch of a lot was added; another one follows."""
    _applied(patch, lambda done, count: done == count - 1 > 0)


def reserve_after_the_step(patch: pytest.MonkeyPatch) -> None:
    """The step is taken first, and counted when it is done."""

    def take(self: Any, left: int) -> Any:
        indices = self._sampler.next_lot()
        key = train.fresh_key() if self._secret is None else train.insecure_key(self._secret, "step", 0)
        fetches = self._model.stepper.run_lot(self._data.take(indices), key=key, draw=self._ledger.steps)
        self._ledger.step(self._first_epoch + self._sampler.epoch)
        return train.Taken(fetches, len(indices))

    patch.setattr(train.PrivateSteps, "take", take)


def no_fsync(patch: pytest.MonkeyPatch) -> None:
    """Records are written, and not made durable."""
    patch.setattr(ledger._File, "append", lambda self, data: ledger.write_all(self._handle, data))


def rate_from_the_data(patch: pytest.MonkeyPatch) -> None:
    """q = L / len(data) instead of the stated one."""

    def made(spec: Any, examples: int, key: Any, **options: Any) -> Any:
        return PoissonSampler(examples, round(min(1.0, spec.lot / examples) * 2**32), key)

    for module in (sampler, train):
        patch.setattr(module, "private_sampler", made)


def truncated_lots(patch: pytest.MonkeyPatch) -> None:
    """A lot is cut to the expected size."""
    next_lot = PoissonSampler.next_lot

    def cut(self: Any, phase: int = 0) -> Any:
        return next_lot(self, phase)[: max(1, self._examples * (int(self._last[phase]) + 1) >> 32)]

    patch.setattr(PoissonSampler, "next_lot", cut)


# -- the onnx target --------------------------------------------------------------------------------------------------


def words_of_the_last_step(patch: pytest.MonkeyPatch) -> None:
    """The engine makes the words of a stream once, and feeds them again."""
    kept: dict[tuple[int, int], Array] = {}
    fill = onnx_engine.fill_words

    def filled(out: Array, key: Array, **stream: Any) -> None:
        name = int(stream["domain"]), stream["tensor"]
        if name not in kept:
            fill(out, key, **stream)
            kept[name] = out.copy()
        out[:] = np.resize(kept[name], out.shape)

    patch.setattr(onnx_engine, "fill_words", filled)


def shared_stream(patch: pytest.MonkeyPatch) -> None:
    """The exporter takes streams of equal length for one, whatever tensor they are for."""
    patch.setattr(
        Stream, "same_words", lambda self, other: replace(self, input=other.input, tensor=other.tensor) == other
    )


def product_whatever_the_rows(patch: pytest.MonkeyPatch) -> None:
    """Rows are selected by a product with 0 and 1 though one of them is not finite."""
    patch.setattr(dp, "selected", lambda o, condition, x, kind: o.node("Mul", x, o.cast(condition, kind.dtype)))
    patch.setattr(dp, "if_finite", lambda o, x, kind, then, otherwise, **limits: then())
    patch.setattr(dp, "MANY", 0)
