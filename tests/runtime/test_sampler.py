from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from manifests import POISSON, SHUFFLE
from scipy import stats

from fluidc.runtime import keystream
from fluidc.runtime.errors import SamplerError
from fluidc.runtime.keystream import Domain
from fluidc.runtime.sampler import (
    BallsSampler,
    PoissonSampler,
    Sampler,
    SamplerState,
    SliceSampler,
    check_lot,
    permutation,
    plain_sampler,
    private_sampler,
)

KEY = hashlib.sha256(b"sampler").digest()


def test_poisson_reads_one_word_per_example_and_step() -> None:
    sampler = PoissonSampler(1000, 1 << 28, KEY)
    for step in range(3):
        words = keystream.words(KEY, domain=Domain.SAMPLER, tensor=0, draw=step, count_blocks=63).reshape(-1)
        expected = [i for i in range(1000) if int(words[i]) < 1 << 28]
        lot = sampler.next_lot()
        assert lot.dtype == np.int64
        assert lot.tolist() == expected
    assert sampler.state == SamplerState(0, 3)
    assert sampler.epoch == 0


def test_poisson_at_rate_one_takes_everything_and_at_the_least_rate_lots_are_empty() -> None:
    assert PoissonSampler(100, 1 << 32, KEY).next_lot().tolist() == list(range(100))
    least = PoissonSampler(100, 1, KEY)
    assert [least.next_lot().size for _ in range(5)] == [0] * 5


def test_poisson_takes_words_below_the_threshold_and_no_others() -> None:
    edge = np.zeros((1, 16), np.uint32)
    edge[0, :4] = 999, 1000, 1001, 2**32 - 1

    def words(key: keystream.Key, **_: object) -> np.ndarray:
        return edge

    assert PoissonSampler(4, 1000, KEY, words=words).next_lot().tolist() == [0]
    assert PoissonSampler(4, 2**32, KEY, words=words).next_lot().tolist() == [0, 1, 2, 3]


def test_poisson_inclusion_pairs_and_lot_sizes_follow_the_law() -> None:
    """200,000 steps of 32 examples at q = 1/4: every example, every pair, and the variance of the lot."""
    examples, steps, q = 32, 200_000, 0.25
    sampler = PoissonSampler(examples, 1 << 30, KEY, words=_CachedWords(examples, steps))
    present = np.zeros((steps, examples), dtype=bool)
    for step in range(steps):
        present[step, sampler.next_lot()] = True
    for count in present.sum(axis=0):
        assert stats.binomtest(int(count), steps, q).pvalue > 1e-9
    together = present.T.astype(np.float64) @ present.astype(np.float64)
    for i in range(examples):
        for j in range(i):
            z = (together[i, j] - steps * q * q) / np.sqrt(steps * q * q * (1 - q * q))
            assert 2 * stats.norm.sf(abs(z)) > 1e-9
    sizes = present.sum(axis=1)
    cells = np.bincount(sizes, minlength=examples + 1)[1:18]
    law = stats.binom.pmf(np.arange(examples + 1), examples, q)[1:18]
    observed = np.append(cells, steps - cells.sum())
    assert stats.chisquare(observed, np.append(law, 1 - law.sum()) * steps).pvalue > 1e-9
    variance = examples * q * (1 - q)
    assert abs(sizes.var() / variance - 1) < 6 * np.sqrt(2 / steps)
    joined = present[1:] & present[:-1]
    for count in joined.sum(axis=0):
        z = (count - (steps - 1) * q * q) / np.sqrt((steps - 1) * q * q * (1 + 2 * q - 3 * q * q))
        assert 2 * stats.norm.sf(abs(z)) > 1e-9


class _CachedWords:
    """Keystream words of all steps from one call; 200,000 calls of the vectorised cipher would take minutes."""

    def __init__(self, examples: int, steps: int) -> None:
        blocks = -(-examples // 16)
        self._words = keystream.words(
            KEY, domain=Domain.SAMPLER, tensor=0, draw=0, count_blocks=blocks * steps
        ).reshape(steps, blocks, 16)

    def __call__(
        self,
        key: keystream.Key,
        *,
        domain: Domain,
        tensor: int,
        draw: int,
        rank: int = 0,
        count_blocks: int,
    ) -> np.ndarray:
        assert (domain, tensor, rank) == (Domain.SAMPLER, 0, 0)
        return self._words[draw]


def test_balls_split_each_epoch_and_choose_uniformly() -> None:
    sampler = BallsSampler(3000, 7, KEY)
    choices: list[np.ndarray] = []
    for epoch in range(3):
        lots: list[np.ndarray] = []
        for lot in range(7):
            assert (sampler.epoch, sampler.state) == (epoch, SamplerState(epoch, lot))
            lots.append(sampler.next_lot())
        assert sorted(np.concatenate(lots).tolist()) == list(range(3000))
        assert stats.chisquare([lot.size for lot in lots]).pvalue > 1e-9
        choice = np.empty(3000, np.int64)
        for number, lot in enumerate(lots):
            choice[lot] = number
        choices.append(choice)
    table = np.zeros((7, 7))
    np.add.at(table, (choices[0], choices[1]), 1)
    assert stats.chi2_contingency(table).pvalue > 1e-9  # pyright: ignore[reportAttributeAccessIssue]
    assert not np.array_equal(choices[1], choices[2])


@pytest.mark.parametrize(("drop_tail", "sizes"), [(False, [4, 4, 2]), (True, [4, 4])])
def test_shuffle_slices_a_new_permutation_each_epoch(drop_tail: bool, sizes: list[int]) -> None:
    sampler = SliceSampler(10, 4, KEY, drop_tail=drop_tail)
    assert sampler.lots_per_epoch == len(sizes)
    orders: list[list[int]] = []
    for epoch in range(4):
        lots: list[list[int]] = []
        for _ in sizes:
            assert sampler.epoch == epoch
            lots.append(sampler.next_lot().tolist())
        assert [len(lot) for lot in lots] == sizes
        order = [index for lot in lots for index in lot]
        assert len(set(order)) == len(order)
        orders.append(order)
    assert len({tuple(order) for order in orders}) == 4


def test_sequential_keeps_the_order_of_the_data() -> None:
    sampler = SliceSampler(5, 2, None)
    assert [sampler.next_lot().tolist() for _ in range(4)] == [[0, 1], [2, 3], [4], [0, 1]]


def test_permutations_are_uniform_and_stay_as_they_are() -> None:
    assert permutation(bytes(32), 0, 10).tolist() == _sorted_by_word_pairs(bytes(32), 0, 10)
    ranks = np.stack([permutation(KEY, draw, 4) for draw in range(4800)])
    codes = ranks @ np.array([64, 16, 4, 1])
    counts = np.unique(codes, return_counts=True)[1]
    assert counts.size == 24
    assert stats.chisquare(counts).pvalue > 1e-9


def _sorted_by_word_pairs(key: bytes, draw: int, count: int) -> list[int]:
    words = keystream.words(key, domain=Domain.SAMPLER, tensor=0, draw=draw, count_blocks=2).reshape(-1)
    return sorted(range(count), key=lambda i: (int(words[2 * i]), int(words[2 * i + 1])))


@pytest.mark.parametrize("kind", ["shuffle", "sequential"])
@pytest.mark.parametrize("drop_tail", [False, True])
@pytest.mark.parametrize("batches", [0, 1, 3, 4, 9])
def test_plain_training_resumes_bit_for_bit(kind: str, drop_tail: bool, batches: int) -> None:
    def make(state: SamplerState | None = None) -> SliceSampler:
        return plain_sampler(kind, 23, 6, 11, drop_tail=drop_tail, state=state)  # pyright: ignore[reportArgumentType]

    whole = make()
    for _ in range(batches):
        whole.next_lot()
    resumed = make(whole.state)
    for _ in range(12):
        assert resumed.epoch == whole.epoch
        assert resumed.next_lot().tolist() == whole.next_lot().tolist()


def test_plain_shuffles_depend_on_the_seed_alone() -> None:
    first = [plain_sampler("shuffle", 50, 50, seed).next_lot().tolist() for seed in (1, 1, 2)]
    assert first[0] == first[1] != first[2]


def test_the_stored_constants_choose_the_private_sampler() -> None:
    poisson = private_sampler(POISSON, 10_000, KEY)
    assert isinstance(poisson, PoissonSampler)
    expected = PoissonSampler(10_000, POISSON.q_num or 0, KEY).next_lot()
    np.testing.assert_array_equal(poisson.next_lot(), expected)
    shuffle = private_sampler(SHUFFLE, 10, KEY)
    assert isinstance(shuffle, SliceSampler)
    assert shuffle.next_lot().tolist() == permutation(KEY, 0, 10)[:4].tolist()
    sequential = private_sampler(replace(SHUFFLE, sampler="sequential"), 10, KEY)
    assert sequential.next_lot().tolist() == [0, 1, 2, 3]
    balls = private_sampler(replace(SHUFFLE, sampler="balls", adjacency="add-remove", steps_per_epoch=100), 10, KEY)
    assert _epochs(balls, 101) == [0] * 100 + [1]


def _epochs(sampler: Sampler, lots: int) -> list[int]:
    epochs: list[int] = []
    for _ in range(lots):
        epochs.append(sampler.epoch)
        sampler.next_lot()
    return epochs


def test_the_number_of_lots_of_balls_does_not_depend_on_the_data() -> None:
    spec = replace(SHUFFLE, sampler="balls", adjacency="add-remove")
    for examples in (1, 7, 1000):
        assert _epochs(private_sampler(spec, examples, KEY), 5) == [0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PoissonSampler(10, 0, KEY), "outside"),
        (lambda: PoissonSampler(10, 2**32 + 1, KEY), "outside"),
        (lambda: PoissonSampler(0, 5, KEY), "data set is empty"),
        (lambda: BallsSampler(10, 0, KEY), "0 lots"),
        (lambda: SliceSampler(10, 0, KEY), "lots of 0 examples"),
        (lambda: SliceSampler(3, 4, KEY, drop_tail=True), "no lot of 4 fits"),
        (lambda: SliceSampler(3, 4, KEY, state=SamplerState(0, 4)), "is no place in 3 examples"),
        (lambda: private_sampler(replace(SHUFFLE, lot=2.5), 10, KEY), "whole number"),
        (
            lambda: private_sampler(replace(POISSON, accounting="none", reason="-", table=(), q_num=None), 10, KEY),
            "not stated",
        ),
        (
            lambda: private_sampler(
                replace(
                    SHUFFLE,
                    sampler="balls",
                    adjacency="add-remove",
                    accounting="none",
                    reason="-",
                    table=(),
                    steps_per_epoch=None,
                ),
                10,
                KEY,
            ),
            "steps of an epoch is not stated",
        ),
        (lambda: check_lot(np.array([1, 2, 1]), 5), "an example twice"),
        (lambda: check_lot(np.array([5]), 5), "outside"),
        (lambda: check_lot(np.array([-1]), 5), "outside"),
    ],
)
def test_what_cannot_be_drawn_is_refused(make: object, message: str) -> None:
    with pytest.raises(SamplerError, match=message):
        make()  # pyright: ignore[reportCallIssue]
