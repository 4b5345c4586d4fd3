"""Broken copies of the artifact's own mechanism: an audit that lets one of them pass proves nothing.

Each copy runs the same compiled code and breaks one promise around it, by calling it with other arguments or by
putting its answers together in another way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from ...runtime.engine import Array
from .mechanism import Arrays, Base, Mechanism, zeros_like


class Broken:
    """A mechanism that passes on what it is asked; subclasses break one thing, which their docstring names.

    Its step is made of its parts, so that a broken part is broken there too.
    """

    def __init__(self, inner: Mechanism) -> None:
        self.inner = inner
        self.manifest, self.spec, self.groups = inner.manifest, inner.spec, inner.groups
        self.batch, self.written, self.start = inner.batch, inner.written, inner.start

    def sums(self, feeds: Mapping[str, Array], mask: Array) -> Arrays:
        return self.inner.sums(feeds, mask)

    def release(self, sums: Mapping[str, Array], key: bytes, draw: int, base: Base = "zero") -> Arrays:
        return self.inner.release(sums, key, draw, base)

    def step(self, feeds: Mapping[str, Array], mask: Array, key: bytes, draw: int) -> Arrays:
        return self.release(self.sums(feeds, mask), key, draw, "start")

    def left_over(self, sums: Mapping[str, Array], key: bytes) -> float:
        return self.inner.left_over(sums, key)

    def noise_of(self, key: bytes, draw: int) -> Arrays:
        """What ``apply`` writes for an empty lot, from a zero state: the noise alone, under a linear optimizer."""
        return self.inner.release(zeros_like(self), key, draw, "zero")

    def with_noise_times(self, written: Arrays, factor: float, key: bytes, draw: int) -> Arrays:
        """``written`` with its noise scaled, where the optimizer is linear."""
        noise = self.noise_of(key, draw)
        return {
            name: value + (factor - 1) * noise[name] if value.dtype.kind == "f" else value
            for name, value in written.items()
        }


class BrokenNoise(Broken):
    """A mechanism whose sums are sound: its noise is looked at first, which is quicker."""


class NoNoise(BrokenNoise):
    """no noise"""

    def release(self, sums: Mapping[str, Array], key: bytes, draw: int, base: Base = "zero") -> Arrays:
        return self.with_noise_times(super().release(sums, key, draw, base), 0.0, key, draw)


class HalfNoise(BrokenNoise):
    """half the noise"""

    def release(self, sums: Mapping[str, Array], key: bytes, draw: int, base: Base = "zero") -> Arrays:
        return self.with_noise_times(super().release(sums, key, draw, base), 0.5, key, draw)


class QuietEmptyLot(BrokenNoise):
    """no noise on an empty lot"""

    def release(self, sums: Mapping[str, Array], key: bytes, draw: int, base: Base = "zero") -> Arrays:
        written = super().release(sums, key, draw, base)
        empty = not any(value.any() for value in sums.values())
        return self.with_noise_times(written, 0.0, key, draw) if empty else written


class QuietFullLot(BrokenNoise):
    """half the noise on a lot that is not empty"""

    def release(self, sums: Mapping[str, Array], key: bytes, draw: int, base: Base = "zero") -> Arrays:
        written = super().release(sums, key, draw, base)
        empty = not any(value.any() for value in sums.values())
        return written if empty else self.with_noise_times(written, 0.5, key, draw)


class ReusedKey(BrokenNoise):
    """one key for all steps"""

    def release(self, sums: Mapping[str, Array], key: bytes, draw: int, base: Base = "zero") -> Arrays:
        return super().release(sums, bytes(32), draw, base)


class ScalarNoise(BrokenNoise):
    """one noise value for a whole tensor"""

    def release(self, sums: Mapping[str, Array], key: bytes, draw: int, base: Base = "zero") -> Arrays:
        written, noise = super().release(sums, key, draw, base), self.noise_of(key, draw)
        return {
            name: value - noise[name] + noise[name].reshape(-1)[:1] if value.dtype.kind == "f" and value.size else value
            for name, value in written.items()
        }


class SharedStream(BrokenNoise):
    """the same noise in all tensors"""

    def release(self, sums: Mapping[str, Array], key: bytes, draw: int, base: Base = "zero") -> Arrays:
        written, noise = super().release(sums, key, draw, base), self.noise_of(key, draw)
        floats = [name for name, value in written.items() if value.dtype.kind == "f" and value.size > 1]
        if not floats:
            return written
        longest = noise[max(floats, key=lambda name: written[name].size)].reshape(-1)
        return written | {
            name: written[name] - noise[name] + longest[: noise[name].size].reshape(noise[name].shape)
            for name in floats
        }


class NoMask(Broken):
    """the mask is ignored"""

    def sums(self, feeds: Mapping[str, Array], mask: Array) -> Arrays:
        return super().sums(feeds, np.ones_like(mask))


class Unclipped(Broken):
    """one row's clip factor is ten times too large"""

    def sums(self, feeds: Mapping[str, Array], mask: Array) -> Arrays:
        whole = super().sums(feeds, mask)
        live = np.flatnonzero(mask)
        if not live.size:
            return whole
        rest = mask.copy()
        rest[live[0]] = False
        without = super().sums(feeds, rest)
        return {name: value + 9 * (value - without[name]) for name, value in whole.items()}


class OwnBoundPerTensor(Broken):
    """every tensor is clipped by a bound of its own"""

    def sums(self, feeds: Mapping[str, Array], mask: Array) -> Arrays:
        whole = super().sums(feeds, mask)
        live = np.flatnonzero(mask)
        if not live.size:
            return whole
        rest = mask.copy()
        rest[live[0]] = False
        without = super().sums(feeds, rest)
        clip = {name: group.clip for group in self.groups for name in group.parameters}
        made: Arrays = {}
        for name, value in whole.items():
            change = value - without[name]
            length = float(np.linalg.norm(change.astype(np.float64)))
            factor = clip[name] / length if math.isfinite(length) and length > 0 else 1.0
            made[name] = without[name] + _scaled(change, factor)
        return made


class ClippedBatch(Broken):
    """the sum of the batch is clipped, not every example"""

    def sums(self, feeds: Mapping[str, Array], mask: Array) -> Arrays:
        whole = super().sums(feeds, mask)
        made = dict(whole)
        for group in self.groups:
            length = math.sqrt(sum(float(np.sum(np.square(whole[n].astype(np.float64)))) for n in group.parameters))
            factor = min(1.0, group.clip / length) if length > 0 else 1.0
            made |= {n: _scaled(whole[n], factor) for n in group.parameters}
        return made


class AddedTwice(Broken):
    """the sums are added twice"""

    def sums(self, feeds: Mapping[str, Array], mask: Array) -> Arrays:
        return {name: 2 * value for name, value in super().sums(feeds, mask).items()}


class KeptSums(Broken):
    """apply keeps the sums for the next lot"""

    def left_over(self, sums: Mapping[str, Array], key: bytes) -> float:
        return max(float(np.abs(value).max(initial=0.0)) for value in sums.values())


class TwiceInTheStep(Broken):
    """the fused step moves twice as far as accumulate and apply"""

    def step(self, feeds: Mapping[str, Array], mask: Array, key: bytes, draw: int) -> Arrays:
        made = super().step(feeds, mask, key, draw)
        return {
            name: 2 * value - self.start[name] if value.dtype.kind == "f" else value for name, value in made.items()
        }


MUTANTS: tuple[type[Broken], ...] = (
    NoNoise, HalfNoise, QuietEmptyLot, QuietFullLot, ReusedKey, ScalarNoise, SharedStream, NoMask, Unclipped,
    OwnBoundPerTensor, ClippedBatch, AddedTwice, KeptSums, TwiceInTheStep,
)  # fmt: skip


def _scaled(value: Array, factor: float) -> Array:
    """``value`` times ``factor``, of its own type: integers towards zero."""
    return (value * factor).astype(value.dtype) if value.dtype.kind == "i" else value * value.dtype.type(factor)


def name_of(mutant: type[Broken]) -> str:
    """What the copy breaks, in words."""
    return (mutant.__doc__ or mutant.__name__).strip()


def applies(mutant: type[Broken], mechanism: Mechanism, measured: int) -> str:
    """Empty where the audit can be expected to notice, else why not.

    Args:
        mutant: the broken copy.
        mechanism: the sound one.
        measured: number of tensors whose noise can be measured.
    """
    sizes = [int(np.prod(shape)) for shape in mechanism.written.values()]
    if mutant is OwnBoundPerTensor and all(len(group.parameters) < 2 for group in mechanism.groups):
        return "there is one tensor per bound"
    if mutant is SharedStream and sum(size > 1 for size in sizes) < 2:
        return "there is one tensor"
    if mutant is ScalarNoise and max(sizes, default=0) < 2:
        return "every tensor has one entry"
    if issubclass(mutant, BrokenNoise) and not measured:
        return "the optimizer hides its noise"
    return ""
