"""``paddle.dataset.wmt16``: English and German; (source ids, target ids after a start, target ids before an end)."""

from __future__ import annotations

import tarfile
from collections import Counter
from collections.abc import Iterator

from ...reader import Reader
from ..session import once
from .common import fetched, find
from .made_up import translations, words

DATA_URL = "http://paddlemodels.bj.bcebos.com/wmt/wmt16.tar.gz"
DATA_MD5 = "0c38be43600334966403524a40dcd81e"
TOTAL_EN_WORDS = 11250
TOTAL_DE_WORDS = 19220
START_MARK, END_MARK, UNK_MARK = "<s>", "<e>", "<unk>"

_FILES = {"wmt16.tar.gz": DATA_MD5}
_MADE_UP = (
    "1000, 100 and 100 synthetic pairs of sentences of 3 to 12 words of 300, for Multi30K's; dictionaries of their size"
)
_PARTS = {"wmt16/train": (51, 1000), "wmt16/test": (52, 100), "wmt16/val": (53, 100)}
_LANGUAGES = ("en", "de")


def _pairs(name: str) -> Iterator[list[str]]:
    """[English, German] of each line that has both."""
    files = find("wmt16", _FILES, _MADE_UP)
    if files is None:
        seed, count = _PARTS[name]
        yield from ([source, target] for source, target in translations(seed, count, 300, 3, 12))
        return
    with tarfile.open(files["wmt16.tar.gz"]) as archive:
        file = archive.extractfile(name)
        for line in file if file is not None else ():
            fields = line.decode().strip().split("\t")
            if len(fields) == 2:
                yield fields


@once
def _by_frequency(lang: str) -> tuple[str, ...]:
    """The words of the training data, the most frequent first, then in the order in which they occur."""
    counts = Counter(w for pair in _pairs("wmt16/train") for w in pair[_LANGUAGES.index(lang)].split())
    ranked = sorted(counts, key=lambda word: -counts[word])
    if find("wmt16", _FILES, _MADE_UP) is None:
        every = words(_size(lang, TOTAL_DE_WORDS), "s" if lang == "en" else "t")
        ranked += [word for word in every if word not in counts]
    return tuple(ranked)


def _size(lang: str, stated: int) -> int:
    return min(stated, TOTAL_EN_WORDS if lang == "en" else TOTAL_DE_WORDS)


def get_dict(lang: str, dict_size: int, reverse: bool = False) -> dict:
    """Ids by word, words by id if ``reverse``: three marks, then the most frequent words; at most ``dict_size``."""
    known = [START_MARK, END_MARK, UNK_MARK, *_by_frequency(lang)[: max(0, _size(lang, dict_size) - 3)]]
    return dict(enumerate(known)) if reverse else {word: number for number, word in enumerate(known)}


def _part(name: str, src_dict_size: int, trg_dict_size: int, src_lang: str) -> Reader:
    if src_lang not in _LANGUAGES:
        raise ValueError("An error language type. Only support: en (for English); de(for Germany).")
    find("wmt16", _FILES, _MADE_UP)
    column = _LANGUAGES.index(src_lang)

    def reader() -> Iterator[tuple[list[int], list[int], list[int]]]:
        sources = get_dict(src_lang, src_dict_size)
        targets = get_dict(_LANGUAGES[1 - column], trg_dict_size)
        start, end, unknown = sources[START_MARK], sources[END_MARK], sources[UNK_MARK]
        for pair in _pairs(name):
            source = [sources.get(word, unknown) for word in pair[column].split()]
            target = [targets.get(word, unknown) for word in pair[1 - column].split()]
            yield [start, *source, end], [start, *target], [*target, end]

    return reader


def train(src_dict_size: int, trg_dict_size: int, src_lang: str = "en") -> Reader:
    """A reader of the pairs to train on, with dictionaries of these sizes; ``src_lang`` is ``en`` or ``de``."""
    return _part("wmt16/train", src_dict_size, trg_dict_size, src_lang)


def test(src_dict_size: int, trg_dict_size: int, src_lang: str = "en") -> Reader:
    """A reader of the pairs to test with."""
    return _part("wmt16/test", src_dict_size, trg_dict_size, src_lang)


def validation(src_dict_size: int, trg_dict_size: int, src_lang: str = "en") -> Reader:
    """A reader of the pairs to validate with."""
    return _part("wmt16/val", src_dict_size, trg_dict_size, src_lang)


fetch = fetched("wmt16", _FILES, _MADE_UP)
