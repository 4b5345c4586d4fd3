"""``paddle.dataset.sentiment``: NLTK's movie reviews; (ids of the words, 0 for a bad one or 1 for a good one)."""

from __future__ import annotations

import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence

from ....runtime.errors import DataError
from ..session import once
from .common import fetched, find
from .made_up import opinions, words

URL = "https://corpora.bj.bcebos.com/movie_reviews%2Fmovie_reviews.zip"
MD5 = "155de2b77c6834dd8eea7cbe88e93acb"
NUM_TRAINING_INSTANCES = 1600
NUM_TOTAL_INSTANCES = 2000

_FILES = {"movie_reviews.zip": MD5}
_MADE_UP = "2000 synthetic texts of 10 to 30 words, for NLTK's movie reviews; a dictionary of their size"
_WORD_COUNT = 39_768
_CATEGORIES = ("neg", "pos")
# How NLTK reads this corpus: runs of letters and digits, and runs of other signs.
_TOKEN = re.compile(r"\w+|[^\w\s]+")

Sample = tuple[list[int], int]


@once
def _reviews() -> dict[str, list[list[str]]]:
    """The words of the reviews, by category, in the order of their files."""
    files = find("corpora", _FILES, _MADE_UP, "sentiment")
    if files is None:
        return {name: list(opinions(61 + at, 1000, at == 1, 10, 30)) for at, name in enumerate(_CATEGORIES)}
    path = files["movie_reviews.zip"]
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(name for name in archive.namelist() if name.endswith(".txt"))
            return {
                category: [
                    _TOKEN.findall(archive.read(name).decode("ascii"))
                    for name in names
                    if name.startswith(f"movie_reviews/{category}/")
                ]
                for category in _CATEGORIES
            }
    except (OSError, UnicodeError, zipfile.BadZipFile) as error:
        raise DataError(f"no archive of the movie reviews: {error}", path, "put NLTK's corpus there") from None


def get_word_dict() -> list[tuple[str, int]]:
    """(word, id), the most frequent first, then in the order in which they occur."""
    counts = Counter(word for category in _CATEGORIES for text in _reviews()[category] for word in text)
    ranked = sorted(counts, key=lambda word: -counts[word])
    if find("corpora", _FILES, _MADE_UP, "sentiment") is None:
        ranked += words(_WORD_COUNT - len(ranked), "x")
    return [(word, number) for number, word in enumerate(ranked)]


def load_sentiment_data() -> list[Sample]:
    """All samples, bad and good reviews in turn."""
    ids = dict(get_word_dict())
    reviews = _reviews()
    return [
        ([ids[word.lower()] for word in text], label)
        for pair in zip(*(reviews[category] for category in _CATEGORIES))
        for label, text in enumerate(pair)
    ]


def reader_creator(data: Sequence[Sample]) -> Iterator[Sample]:
    """The samples one by one: as in Paddle an iterator, not a reader."""
    yield from data


def train() -> Iterator[Sample]:
    """The first 1600 samples."""
    return reader_creator(load_sentiment_data()[:NUM_TRAINING_INSTANCES])


def test() -> Iterator[Sample]:
    """The other 400."""
    return reader_creator(load_sentiment_data()[NUM_TRAINING_INSTANCES:])


fetch = fetched("corpora", _FILES, _MADE_UP)
