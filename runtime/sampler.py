"""Drawing lots: which examples a step sees.

Private samplers take a key from the operating system (or the insecure test key) that is made anew for every
run. Ordinary training uses the same shuffle under a key derived from its seed, so that it can be repeated and
resumed; its orders depend on no library's generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from . import keystream
from .errors import SamplerError
from .keystream import Domain, Key
from .privacy import Q_ONE, PrivacySpec

Indices = NDArray[np.int64]


class WordSource(Protocol):
    """Makes keystream words, as `keystream.fast_words` does; a compiled kernel may take its place."""

    def __call__(
        self, key: Key, *, domain: Domain, tensor: int, draw: int, rank: int = 0, count_blocks: int
    ) -> NDArray[np.uint32]:
        """u32[count_blocks, 16] of one (domain, tensor, draw, rank)."""
        ...


@dataclass(frozen=True)
class SamplerState:
    """Where a sampler stands: the epoch of the next lot and the position of its first example in that epoch.

    For Poisson lots ``epoch`` is 0 and ``position`` the number of lots drawn.
    """

    epoch: int = 0
    position: int = 0


@dataclass(frozen=True)
class Course:
    """How ordinary batches are drawn; a resumed run must draw them the same way."""

    sampler: str
    batch: int
    examples: int

    @property
    def text(self) -> str:
        """The course in words."""
        return f"batches of {self.batch} from {self.examples} rows ({self.sampler})"


class Sampler(Protocol):
    """A source of lots without end; `next_lot` is called only after the ledger counted the step."""

    @property
    def epoch(self) -> int:
        """Epoch, from 0, that the next lot will belong to; what `Ledger.step` is told."""
        ...

    @property
    def state(self) -> SamplerState:
        """Where the next lot begins."""
        ...

    def next_lot(self, phase: int = 0) -> Indices:
        """The next lot, of a step in that phase (`PrivacySpec.phase_of`): i64[size], each index at most once, size 0
        included."""
        ...


class PoissonSampler:
    """Every example joins every lot independently with probability q_num / 2^32.

    Args:
        examples: size of the data set.
        q_num: sampling rate times 2^32, in [1, 2^32]; of training in phases one for each.
        key: 256 bits made for this run alone.
        words: source of keystream words.
        state: where to begin; only a test with a known key begins later than at the first lot.

    Raises SamplerError for a rate or a size out of range.
    """

    def __init__(
        self,
        examples: int,
        q_num: int | Sequence[int],
        key: Key,
        *,
        words: WordSource = keystream.fast_words,
        state: SamplerState | None = None,
    ) -> None:
        _check_examples(examples)
        rates = (q_num,) if isinstance(q_num, int) else tuple(q_num)
        for rate in rates:
            if not 1 <= rate <= Q_ONE:
                raise _wrong(f"the sampling rate {rate} / 2^32 is outside (0, 1]", "poisson")
        self._examples = examples
        # word < q_num, written so that a rate of 1 stays within 32 bits
        self._last = [np.uint32(rate - 1) for rate in rates]
        self._key = key
        self._words = words
        self._drawn = 0 if state is None else state.position

    @property
    def epoch(self) -> int:
        """Always 0: Poisson lots have no epochs."""
        return 0

    @property
    def state(self) -> SamplerState:
        """Number of lots drawn, as the position."""
        return SamplerState(0, self._drawn)

    def next_lot(self, phase: int = 0) -> Indices:
        """The next lot, i64[size], in ascending order, at the rate of the step's phase."""
        last = self._last[phase]
        draws = _example_words(self._words, self._key, self._drawn, self._examples)
        self._drawn += 1
        return check_lot(np.flatnonzero(draws <= last), self._examples)


class BallsSampler:
    """In each epoch every example picks one of the epoch's lots by itself, uniformly.

    Args:
        examples: size of the data set.
        lots: lots of an epoch, a public constant.
        key: 256 bits made for this run alone.
        words: source of keystream words.

    Raises SamplerError for sizes below 1.
    """

    def __init__(self, examples: int, lots: int, key: Key, *, words: WordSource = keystream.fast_words) -> None:
        _check_examples(examples)
        if not 1 <= lots < Q_ONE:
            raise _wrong(f"an epoch of {lots} lots cannot be drawn", "balls")
        self._examples = examples
        self._lots = lots
        self._key = key
        self._words = words
        self._drawn = 0
        self._choice: Indices = np.empty(0, np.int64)

    @property
    def epoch(self) -> int:
        """Epoch of the next lot."""
        return self._drawn // self._lots

    @property
    def state(self) -> SamplerState:
        """Epoch of the next lot, and its number in the epoch as the position."""
        return SamplerState(self.epoch, self._drawn % self._lots)

    def next_lot(self, phase: int = 0) -> Indices:
        """The next lot, i64[size], in ascending order."""
        lot = self._drawn % self._lots
        if lot == 0:
            draws = _example_words(self._words, self._key, self.epoch, self._examples)
            # The high half of the product: its bias of at most lots / 2^32 costs nothing, since the
            # accounting claims no amplification from the choice.
            self._choice = ((draws.astype(np.uint64) * np.uint64(self._lots)) >> np.uint64(32)).astype(np.int64)
        self._drawn += 1
        return check_lot(np.flatnonzero(self._choice == lot), self._examples)


class SliceSampler:
    """Slices of ``size`` examples of the data in its own order, or of a new permutation each epoch.

    Args:
        examples: size of the data set.
        size: examples of a lot; the last lot of an epoch may be smaller.
        key: 256 bits that fix all permutations; None keeps the order of the data.
        drop_tail: leave out a last lot that is not full.
        state: where to begin.

    Raises SamplerError for sizes below 1, or when no full lot fits and the tail is dropped.
    """

    def __init__(
        self,
        examples: int,
        size: int,
        key: Key | None,
        *,
        drop_tail: bool = False,
        state: SamplerState | None = None,
    ) -> None:
        kind = "sequential" if key is None else "shuffle"
        _check_examples(examples)
        if size < 1:
            raise _wrong(f"lots of {size} examples cannot be drawn", kind)
        if drop_tail and examples < size:
            raise _wrong(f"no lot of {size} fits into {examples} examples", kind)
        self._examples = examples
        self._size = size
        self._key = key
        self._end = examples - examples % size if drop_tail else examples
        self._state = SamplerState() if state is None else state
        if not 0 <= self._state.position <= self._end or self._state.epoch < 0:
            raise _wrong(f"{self._state} is no place in {examples} examples", kind)
        self._order_epoch = -1
        self._order: Indices = np.empty(0, np.int64)
        self._turn()

    @property
    def epoch(self) -> int:
        """Epoch of the next lot."""
        return self._state.epoch

    @property
    def state(self) -> SamplerState:
        """Epoch and position of the next lot; give it to a new sampler to go on from here."""
        return self._state

    @property
    def lots_per_epoch(self) -> int:
        """Lots of one epoch, the smaller last one included."""
        return -(-self._end // self._size)

    def next_lot(self, phase: int = 0) -> Indices:
        """The next lot, i64[size], in the order of the epoch."""
        epoch, start = self._state.epoch, self._state.position
        if self._order_epoch != epoch:
            self._order, self._order_epoch = self._draw_order(epoch), epoch
        stop = min(start + self._size, self._end)
        self._state = SamplerState(epoch, stop)
        self._turn()
        return check_lot(self._order[start:stop].copy(), self._examples)

    def _turn(self) -> None:
        if self._state.position == self._end:
            self._state = SamplerState(self._state.epoch + 1, 0)

    def _draw_order(self, epoch: int) -> Indices:
        if self._key is None:
            return np.arange(self._examples, dtype=np.int64)
        return permutation(self._key, epoch, self._examples)


def permutation(key: Key, draw: int, count: int) -> Indices:
    """A uniformly random order of ``count`` things, i64[count], the same on every machine.

    Sorts by 64 random bits each; equal ones, of probability below count^2 / 2^65, keep their order.
    """
    words = _example_words(keystream.fast_words, key, draw, 2 * count).reshape(-1, 2).astype(np.uint64)
    return np.argsort(words[:, 0] << np.uint64(32) | words[:, 1], kind="stable").astype(np.int64)


def check_lot(indices: Indices, examples: int) -> Indices:
    """``indices`` again, i64[size]. Raises SamplerError when one is out of range or occurs twice."""
    if indices.size and (indices.min() < 0 or indices.max() >= examples):
        raise _wrong(f"a lot holds an index outside [0, {examples})", "lot")
    ordered = np.sort(indices)
    if np.any(ordered[1:] == ordered[:-1]):
        raise _wrong("a lot holds an example twice, which no accounting covers", "lot")
    return indices


def plain_sampler(
    kind: Literal["shuffle", "sequential"],
    examples: int,
    batch: int,
    seed: int,
    *,
    drop_tail: bool = False,
    state: SamplerState | None = None,
) -> SliceSampler:
    """Batches of ordinary training: the same ``seed`` gives the same batches, also when resumed at ``state``."""
    key = keystream.seeded_key(seed, "shuffle") if kind == "shuffle" else None
    return SliceSampler(examples, batch, key, drop_tail=drop_tail, state=state)


def private_sampler(spec: PrivacySpec, examples: int, key: Key, *, words: WordSource = keystream.fast_words) -> Sampler:
    """The sampler that ``spec`` was accounted for; always at the start of an epoch.

    A resumed run makes a new one with a new key: it draws new Poisson lots, or starts a new counted epoch.
    Nothing but the choice of indices depends on ``examples``. Raises SamplerError when ``spec`` lacks a constant
    that the sampler needs.
    """
    if spec.sampler in ("shuffle", "sequential"):
        if spec.lot < 1 or spec.lot != int(spec.lot):
            raise _wrong(f"slices need a whole number of examples, batch_size is {spec.lot:g}", spec.sampler)
        return SliceSampler(examples, int(spec.lot), key if spec.sampler == "shuffle" else None)
    if spec.sampler == "balls":
        if spec.steps_per_epoch is None:
            raise _unstated(spec, "the number of steps of an epoch")
        return BallsSampler(examples, spec.steps_per_epoch, key, words=words)
    rates = poisson_rates(spec)
    if not rates:
        raise _unstated(spec, "the sampling rate")
    return PoissonSampler(examples, rates, key, words=words)


def poisson_rates(spec: PrivacySpec) -> tuple[int, ...]:
    """q_num of each phase, or the one of all steps; empty where none is stated."""
    stated = [phase.q_num for phase in spec.phases] or [spec.q_num]
    return tuple(rate for rate in stated if rate is not None)


def _example_words(words: WordSource, key: Key, draw: int, count: int) -> NDArray[np.uint32]:
    """One 32-bit word per example, u32[count]: word i % 16 of block i // 16 of the sampler's stream."""
    blocks = -(-count // keystream.BLOCK_WORDS)
    drawn = words(key, domain=Domain.SAMPLER, tensor=0, draw=draw, count_blocks=blocks)
    return drawn.reshape(-1)[:count]


def _check_examples(examples: int) -> None:
    if examples < 1:
        raise _wrong("the data set is empty", "data")


def _unstated(spec: PrivacySpec, what: str) -> SamplerError:
    return SamplerError(f"{what} is not stated", f"sampler, {spec.sampler}", "compile with dataset_size or sample_rate")


def _wrong(what: str, where: str) -> SamplerError:
    return SamplerError(what, f"sampler, {where}", "check the data set, batch_size and the sampling rate")
