"""Synthetic data in the forms of real data sets: small, the same in every run, and such that models can learn it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, product
from string import ascii_lowercase
from typing import Any

import numpy as np
from numpy.typing import NDArray


def templates(
    rng: np.random.Generator, classes: int, channels: int, side: int, coarse: int
) -> NDArray[np.floating[Any]]:
    """One picture per class, in patches: [classes, channels, side, side] in [0, 1]; ``coarse`` divides ``side``."""
    patches = rng.uniform(0, 1, (classes, channels, coarse, coarse))
    return np.kron(patches, np.ones((side // coarse, side // coarse)))


def pictures(
    seed: int, count: int, classes: int, channels: int, side: int, coarse: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Noisy pictures of the classes' templates, [count, channels, side, side], and their labels, [count].

    Templates are the same for every seed.
    """
    means = templates(np.random.default_rng(classes), classes, channels, side, coarse)
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    noisy = means[labels] + rng.normal(0, 0.25, (count, channels, side, side))
    return (np.clip(noisy, 0, 1) * 255).astype(np.uint8), labels.astype(np.uint8)


def words(count: int, prefix: str) -> list[str]:
    """``count`` different words: the prefix and four letters."""
    return [prefix + "".join(letters) for letters in islice(product(ascii_lowercase, repeat=4), count)]


def counts(vocabulary: Sequence[str], frequent: int, cutoff: int) -> dict[str, int]:
    """How often each word of a large text occurs, by Zipf's law: ``frequent`` of them more than ``cutoff`` times.

    Dictionaries get the size that those of the real data have, without the text.
    """
    return {word: (cutoff + 1) * frequent // rank for rank, word in enumerate(vocabulary, 1)}


def sentence(
    rng: np.random.Generator, vocabulary: Sequence[str], shortest: int, longest: int, skew: float = 1.0
) -> list[str]:
    """Words drawn by a law of Zipf's kind."""
    weights = 1 / np.arange(1, len(vocabulary) + 1) ** skew
    picked = rng.choice(len(vocabulary), size=rng.integers(shortest, longest + 1), p=weights / weights.sum())
    return [vocabulary[int(n)] for n in picked]


def opinions(seed: int, count: int, liked: bool, shortest: int, longest: int) -> Iterator[list[str]]:
    """Texts of a common vocabulary in which one word of four is of those that go with the opinion."""
    rng = np.random.default_rng(seed)
    common, telling = words(150, "w"), words(20, "good" if liked else "bad")
    for _ in range(count):
        text = sentence(rng, common, shortest, longest)
        for at in rng.choice(len(text), size=max(1, len(text) // 4), replace=False):
            text[at] = telling[rng.integers(len(telling))]
        yield text


def chains(seed: int, count: int, vocabulary: Sequence[str], shortest: int, longest: int) -> Iterator[list[str]]:
    """Sentences in which a word has four likely successors."""
    successors = np.random.default_rng(len(vocabulary)).integers(0, len(vocabulary), (len(vocabulary), 4))
    rng = np.random.default_rng(seed)
    for _ in range(count):
        at = int(rng.integers(len(vocabulary)))
        text = [vocabulary[at]]
        for _ in range(int(rng.integers(shortest, longest + 1)) - 1):
            at = int(successors[at][rng.choice(4, p=(0.55, 0.25, 0.15, 0.05))])
            text.append(vocabulary[at])
        yield text


def translations(seed: int, count: int, size: int, shortest: int, longest: int) -> Iterator[tuple[str, str]]:
    """Pairs of sentences: word for word, each pair of neighbours swapped."""
    sources, targets = words(size, "s"), words(size, "t")
    rng = np.random.default_rng(seed)
    for _ in range(count):
        numbers = [int(n) for n in rng.integers(0, size, rng.integers(shortest, longest + 1))]
        swapped = [n for at in range(0, len(numbers), 2) for n in reversed(numbers[at : at + 2])]
        yield " ".join(sources[n] for n in numbers), " ".join(targets[n] for n in swapped)
