"""``paddle.dataset.imikolov``: sentences of the Penn Treebank, as windows of n ids or as (sequence, next words)."""

from __future__ import annotations

import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from ...reader import Reader
from .common import fetched, find
from .made_up import chains, counts, words

URL = "https://dataset.bj.bcebos.com/imikolov%2Fsimple-examples.tgz"
MD5 = "30177ea32e27c525793142b6bf2c8e2d"

_TRAIN = "./simple-examples/data/ptb.train.txt"
_TEST = "./simple-examples/data/ptb.valid.txt"
_FILES = {"imikolov%2Fsimple-examples.tgz": MD5}
_MADE_UP = "2000 and 200 synthetic sentences of 5 to 20 words of 200, for the Penn Treebank; a dictionary of its size"
_TYPES, _FREQUENT = 9_999, 2_071  # words of the Treebank, and those that it has more than 50 times

Word = bytes | str
"""Words of the files are bytes, the marks ``<s>``, ``<e>`` and ``<unk>`` are texts, as in Paddle under Python 3."""


class DataType:
    """What samples are."""

    NGRAM = 1
    SEQ = 2


def _lines(filename: str) -> list[bytes]:
    files = find("imikolov", _FILES, _MADE_UP)
    if files is None:
        seed, count = (11, 2000) if filename == _TRAIN else (12, 200)
        return [" ".join(text).encode() for text in chains(seed, count, words(200, "w"), 5, 20)]
    with tarfile.open(files["imikolov%2Fsimple-examples.tgz"]) as archive:
        file = archive.extractfile(filename)
        return [] if file is None else file.readlines()


def word_count(f: Iterable[bytes], word_freq: dict[Word, int] | None = None) -> dict[Word, int]:
    """How often each word occurs in the lines, added to ``word_freq``; each line has one start and one end."""
    found = Counter[Word]() if word_freq is None else word_freq
    for line in f:
        for word in (*line.strip().split(), "<s>", "<e>"):
            found[word] = found.get(word, 0) + 1
    return found


def build_dict(min_word_freq: int = 50) -> dict[Word, int]:
    """Ids of the words that occur more than ``min_word_freq`` times, the most frequent first; ``<unk>`` is the last."""
    found = word_count(_lines(_TEST), word_count(_lines(_TRAIN)))
    if find("imikolov", _FILES, _MADE_UP) is None:
        for word, n in counts(words(_TYPES, "w"), _FREQUENT, 50).items():
            found[word.encode()] = found.get(word.encode(), 0) + n
    found.pop("<unk>", None)
    frequent = [(word, n) for word, n in found.items() if n > min_word_freq]
    frequent.sort(key=lambda pair: (-pair[1], pair[0] if isinstance(pair[0], bytes) else pair[0].encode()))
    ids = {word: number for number, (word, _) in enumerate(frequent)}
    ids["<unk>"] = len(ids)
    return ids


def reader_creator(filename: str, word_idx: Mapping[Word, int], n: int, data_type: int) -> Reader:
    """Windows of n ids (NGRAM), or pairs of sequences of at most n ids, any number for n <= 0 (SEQ)."""

    def reader() -> Iterator[tuple[int, ...] | tuple[list[int], list[int]]]:
        unknown = word_idx["<unk>"]
        for line in _lines(filename):
            text: list[Word] = [*line.strip().split()]
            if data_type == DataType.NGRAM:
                assert n > -1, "Invalid gram length"
                ids = [word_idx.get(word, unknown) for word in ["<s>", *text, "<e>"]]
                for end in range(n, len(ids) + 1):
                    yield tuple(ids[end - n : end])
            elif data_type == DataType.SEQ:
                ids = [word_idx.get(word, unknown) for word in text]
                if n <= 0 or len(ids) + 1 <= n:
                    yield [word_idx["<s>"], *ids], [*ids, word_idx["<e>"]]
            else:
                raise AssertionError("Unknow data type")

    return reader


def train(word_idx: Mapping[Word, int], n: int, data_type: int = DataType.NGRAM) -> Reader:
    """A reader of the sentences to train on."""
    return reader_creator(_TRAIN, word_idx, n, data_type)


def test(word_idx: Mapping[Word, int], n: int, data_type: int = DataType.NGRAM) -> Reader:
    """A reader of the sentences to test with."""
    return reader_creator(_TEST, word_idx, n, data_type)


fetch = fetched("imikolov", _FILES, _MADE_UP)
