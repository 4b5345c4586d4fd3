"""``paddle.dataset.wmt14``: translations; (source ids, target ids after the start mark, target ids before the end)."""

from __future__ import annotations

import itertools
import tarfile
from collections.abc import Iterable, Iterator

from ...reader import Reader
from .common import fetched, find
from .made_up import translations, words

URL_DEV_TEST = "http://www-lium.univ-lemans.fr/~schwenk/cslm_joint_paper/data/dev+test.tgz"
MD5_DEV_TEST = "7d7897317ddd8ba0ae5c5fa7248d3ff5"
URL_TRAIN = "http://paddlemodels.bj.bcebos.com/wmt/wmt14.tgz"
MD5_TRAIN = "0791583d57d5beb693b9414c5b36798c"
URL_MODEL = "http://paddlemodels.bj.bcebos.com/wmt%2Fwmt14.tgz"
MD5_MODEL = "0cb4a5366189b6acba876491c8724fa3"
START, END, UNK = "<s>", "<e>", "<unk>"
UNK_IDX = 2

_FILES = {"wmt14.tgz": MD5_TRAIN}
_MADE_UP = "1000, 100 and 50 synthetic pairs of sentences of 3 to 12 words of 100, for WMT 2014's"
_LONGEST = 80
_PARTS = {"train/train": (41, 1000), "test/test": (42, 100), "gen/gen": (43, 50)}


def _lines(suffix: str) -> Iterator[str]:
    """Lines of the archive's members whose names end so."""
    files = find("wmt14", _FILES, _MADE_UP)
    if files is not None:
        with tarfile.open(files["wmt14.tgz"]) as archive:
            for member in archive:
                file = archive.extractfile(member) if member.name.endswith(suffix) else None
                if file is not None:
                    yield from (line.decode() for line in file)
    elif suffix in _PARTS:
        seed, count = _PARTS[suffix]
        yield from (f"{source}\t{target}" for source, target in translations(seed, count, 100, 3, 12))
    else:
        # 30000 as in the real dictionaries: scripts take sizes of layers from there.
        yield from (START, END, UNK, *words(29997, suffix[0]))


def _ids(lines: Iterable[str], size: int) -> dict[str, int]:
    return {line.strip(): number for number, line in enumerate(itertools.islice(lines, size))}


def reader_creator(tar_file: str | None, file_name: str, dict_size: int) -> Reader:
    """A reader of the pairs in the members called so, none longer than 80 words; ``tar_file`` is the data set's own."""
    del tar_file

    def reader() -> Iterator[tuple[list[int], list[int], list[int]]]:
        sources, targets = get_dict(dict_size, reverse=False)
        for line in _lines(file_name):
            fields = line.strip().split("\t")
            if len(fields) != 2:
                continue
            source = [sources.get(word, UNK_IDX) for word in (START, *fields[0].split(), END)]
            target = [targets.get(word, UNK_IDX) for word in fields[1].split()]
            if len(source) <= _LONGEST and len(target) <= _LONGEST:
                yield source, [targets[START], *target], [*target, targets[END]]

    return reader


def _part(name: str, dict_size: int) -> Reader:
    find("wmt14", _FILES, _MADE_UP)
    return reader_creator(None, name, dict_size)


def train(dict_size: int) -> Reader:
    """A reader of the pairs to train on, with the ``dict_size`` most frequent words of either language."""
    return _part("train/train", dict_size)


def test(dict_size: int) -> Reader:
    """A reader of the pairs to test with."""
    return _part("test/test", dict_size)


def gen(dict_size: int) -> Reader:
    """A reader of the pairs to generate from."""
    return _part("gen/gen", dict_size)


def get_dict(dict_size: int, reverse: bool = True) -> tuple[dict, dict]:
    """Words by id in both languages; ids by word if not ``reverse``."""
    found = _ids(_lines("src.dict"), dict_size), _ids(_lines("trg.dict"), dict_size)
    if not reverse:
        return found
    source, target = ({number: word for word, number in ids.items()} for ids in found)
    return source, target


fetch = fetched("wmt14", _FILES, _MADE_UP)
