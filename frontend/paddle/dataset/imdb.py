"""``paddle.dataset.imdb``: reviews of films; (ids of the words, 0 for a good one or 1 for a bad one)."""

from __future__ import annotations

import re
import string
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping

from ...reader import Reader
from .common import fetched, find
from .made_up import counts, opinions, words

URL = "https://dataset.bj.bcebos.com/imdb%2FaclImdb_v1.tar.gz"
MD5 = "7c2ac02c03563afcf9b574c7e56c153a"

_FILES = {"imdb%2FaclImdb_v1.tar.gz": MD5}
_MADE_UP = "1600 synthetic texts of 20 to 60 words, for IMDB's reviews; a dictionary of their size"
_TYPES, _FREQUENT = 20_000, 5_106  # words, and those that occur more than 150 times besides the telling ones
_PUNCTUATION = string.punctuation.encode()


def _texts(pattern: re.Pattern[str]) -> Iterator[bytes]:
    files = find("imdb", _FILES, _MADE_UP)
    if files is None:
        for seed, (part, opinion) in enumerate((p, o) for p in ("train", "test") for o in ("pos", "neg")):
            for number, text in enumerate(opinions(seed, 400, opinion == "pos", 20, 60)):
                if pattern.match(f"aclImdb/{part}/{opinion}/{number}_7.txt"):
                    yield " ".join(text).encode()
        return
    # Members in order: going back and forth in a compressed archive takes very long.
    with tarfile.open(files["imdb%2FaclImdb_v1.tar.gz"]) as archive:
        for member in archive:
            file = archive.extractfile(member) if pattern.match(member.name) else None
            if file is not None:
                yield file.read()


def tokenize(pattern: re.Pattern[str]) -> Iterator[list[bytes]]:
    """The words of each text whose name in the archive matches: without punctuation, in small letters, as bytes."""
    for text in _texts(pattern):
        yield text.rstrip(b"\n\r").translate(None, _PUNCTUATION).lower().split()


def build_dict(pattern: re.Pattern[str], cutoff: int) -> dict[bytes | str, int]:
    """Ids of the words that occur more than ``cutoff`` times, the most frequent first; ``<unk>``, a str, is last."""
    found = Counter(word for text in tokenize(pattern) for word in text)
    if find("imdb", _FILES, _MADE_UP) is None:
        found.update({word.encode(): n for word, n in counts(words(_TYPES, "w"), _FREQUENT, 150).items()})
    frequent = sorted(((word, n) for word, n in found.items() if n > cutoff), key=lambda pair: (-pair[1], pair[0]))
    ids: dict[bytes | str, int] = {word: number for number, (word, _) in enumerate(frequent)}
    ids["<unk>"] = len(ids)
    return ids


def reader_creator(
    pos_pattern: re.Pattern[str], neg_pattern: re.Pattern[str], word_idx: Mapping[bytes | str, int]
) -> Reader:
    """A reader of the good reviews (label 0), then the bad ones (label 1); all are read at once."""
    unknown = word_idx["<unk>"]
    samples = [
        ([word_idx.get(word, unknown) for word in text], label)
        for label, pattern in enumerate((pos_pattern, neg_pattern))
        for text in tokenize(pattern)
    ]

    def reader() -> Iterator[tuple[list[int], int]]:
        yield from samples

    return reader


def _part(name: str, word_idx: Mapping[bytes | str, int]) -> Reader:
    return reader_creator(
        re.compile(rf"aclImdb/{name}/pos/.*\.txt$"), re.compile(rf"aclImdb/{name}/neg/.*\.txt$"), word_idx
    )


def train(word_idx: Mapping[bytes | str, int]) -> Reader:
    """A reader of the reviews to train on."""
    return _part("train", word_idx)


def test(word_idx: Mapping[bytes | str, int]) -> Reader:
    """A reader of the reviews to test with."""
    return _part("test", word_idx)


def word_dict() -> dict[bytes | str, int]:
    """Ids of the words that occur more than 150 times."""
    return build_dict(re.compile(r"aclImdb/((train)|(test))/((pos)|(neg))/.*\.txt$"), 150)


fetch = fetched("imdb", _FILES, _MADE_UP)
