"""``paddle.dataset.conll05``: semantic roles.

A sample is nine lists of ids, one entry per word: the words; the words two and one before, at, one and two after the
verb, repeated; the verb, repeated; marks of that neighbourhood; the labels.
"""

from __future__ import annotations

import gzip
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

import numpy as np

from ...reader import Reader
from .common import download, fetched, find
from .made_up import words

DATA_URL = "http://paddlemodels.bj.bcebos.com/conll05st/conll05st-tests.tar.gz"
DATA_MD5 = "387719152ae52d60422c016e92a742fc"
WORDDICT_URL = "http://paddlemodels.bj.bcebos.com/conll05st%2FwordDict.txt"
WORDDICT_MD5 = "ea7fb7d4c75cc6254716f0177a506baa"
VERBDICT_URL = "http://paddlemodels.bj.bcebos.com/conll05st%2FverbDict.txt"
VERBDICT_MD5 = "0d2977293bbb6cbefab5b0f97db1e77c"
TRGDICT_URL = "http://paddlemodels.bj.bcebos.com/conll05st%2FtargetDict.txt"
TRGDICT_MD5 = "d8c7f03ceb5fc2e5a0fa7503a4353751"
EMB_URL = "http://paddlemodels.bj.bcebos.com/conll05st%2Femb"
EMB_MD5 = "bf436eb0faa1f6f9103017f8be57cdb7"
UNK_IDX = 0

_WORDS, _VERBS, _LABELS = "conll05st%2FwordDict.txt", "conll05st%2FverbDict.txt", "conll05st%2FtargetDict.txt"
_CORPUS = "conll05st-tests.tar.gz"
_FILES = {_CORPUS: DATA_MD5, _WORDS: WORDDICT_MD5, _VERBS: VERBDICT_MD5, _LABELS: TRGDICT_MD5}
_MADE_UP = "600 synthetic sentences with one verb each, for CoNLL-2005's; dictionaries of its size"
_WORD_COUNT, _VERB_COUNT = 44_068, 3_162
_EMBEDDING_SIZE = 32
_ROLES = (
    *("A0", "A1", "A2", "A3", "A4", "A5", "AA", "AM", "V"),
    *("AM-ADV", "AM-CAU", "AM-DIR", "AM-DIS", "AM-EXT", "AM-LOC", "AM-MNR", "AM-MOD", "AM-NEG", "AM-PNC", "AM-PRD"),
    *("AM-REC", "AM-TMP", "R-A0", "R-A1", "R-A2", "R-A3", "R-AM-LOC", "R-AM-MNR", "R-AM-TMP"),
)

Sentence = tuple[list[str], str, list[str]]
"""Words, the verb's lemma, labels in the B-I-O scheme."""


@cache
def _synthetic() -> dict[str, list[str]]:
    """The lines of the files: nouns, verbs and adverbs are words of their own, and decide the roles."""
    rng = np.random.default_rng(31)
    nouns, verbs, extras = words(120, "n"), words(30, "v"), words(40, "a")
    known = ["<unk>", "bos", "eos", *nouns, *verbs, *extras]
    files: dict[str, list[str]] = {
        _WORDS: [*known, *words(_WORD_COUNT - len(known), "x")],
        _VERBS: words(_VERB_COUNT, "v"),
        _LABELS: [f"{mark}-{role}" for role in _ROLES for mark in "BI"] + ["O"],
        "words": [],
        "props": [],
    }
    for _ in range(600):
        parts: list[tuple[str, list[str]]] = [("A0", _some(rng, nouns, 2)), ("V", [verbs[rng.integers(len(verbs))]])]
        parts.append(("A1", _some(rng, nouns, 3)))
        if rng.random() < 0.6:
            parts.append((["AM-TMP", "AM-LOC", "AM-ADV", "A2"][rng.integers(4)], _some(rng, extras, 3)))
        for role, text in parts:
            for at, word in enumerate(text):
                opened, closed = "(" + role if at == 0 else "", ")" if at == len(text) - 1 else ""
                files["words"].append(word)
                files["props"].append(f"{word if role == 'V' else '-'} {opened}*{closed}")
        files["words"] += [".", ""]
        files["props"] += ["- *", ""]
    return files


def _some(rng: np.random.Generator, vocabulary: list[str], most: int) -> list[str]:
    return [vocabulary[n] for n in rng.integers(0, len(vocabulary), rng.integers(1, most + 1))]


def _lines(name: str) -> list[str]:
    files = find("conll05st", _FILES, _MADE_UP, "conll05")
    if files is None:
        return _synthetic()[name]
    return Path(files[name]).read_text("utf-8").splitlines()


def load_label_dict(filename: str | Iterable[str]) -> dict[str, int]:
    """Ids of the labels: B-X and I-X for each X in alphabetical order, then O (Paddle's order varies)."""
    lines = _read(filename)
    tags = sorted({line[2:] for line in lines if line.startswith(("B-", "I-"))})
    ids = {f"{mark}-{tag}": 2 * n + at for n, tag in enumerate(tags) for at, mark in enumerate("BI")}
    return ids | {"O": len(ids)}


def load_dict(filename: str | Iterable[str]) -> dict[str, int]:
    """Ids of the words of a file: the numbers of their lines, from 0."""
    return {line: number for number, line in enumerate(_read(filename))}


def _read(source: str | Iterable[str]) -> list[str]:
    lines = Path(source).read_text("utf-8").splitlines() if isinstance(source, str) else source
    return [line.strip() for line in lines]


def _spans(column: Iterable[str]) -> list[str]:
    """Labels in the B-I-O scheme of one column of bracketed roles.

    Raises:
        RuntimeError: An entry that is none.
    """
    labels: list[str] = []
    role, inside = "O", False
    for entry in column:
        if entry == "*":
            labels.append(f"I-{role}" if inside else "O")
        elif entry == "*)":
            labels.append(f"I-{role}")
            inside = False
        elif "(" in entry:
            role = entry[1 : entry.find("*")]
            labels.append(f"B-{role}")
            inside = ")" not in entry
        else:
            raise RuntimeError(f"Unexpected label: {entry}")
    return labels


def _sentences(texts: Iterable[str], props: Iterable[str]) -> Iterator[Sentence]:
    """Each sentence once for each of its verbs; an empty line ends one."""
    text: list[str] = []
    rows: list[list[str]] = []
    for word, line in zip(texts, props):
        if fields := line.split():
            text.append(word.strip())
            rows.append(fields)
            continue
        columns = list(zip(*rows))
        verbs = [entry for entry in columns[0] if entry != "-"] if columns else []
        for verb, column in zip(verbs, columns[1:]):
            yield text, verb, _spans(column)
        text, rows = [], []


def corpus_reader(data_path: str, words_name: str, props_name: str) -> Callable[[], Iterator[Sentence]]:
    """A reader of the sentences of two gzipped members of an archive: words, and verbs with their roles."""

    def reader() -> Iterator[Sentence]:
        with tarfile.open(data_path) as archive:
            files = [archive.extractfile(name) for name in (words_name, props_name)]
            texts, props = (gzip.decompress(file.read()).decode().splitlines() for file in files if file is not None)
        yield from _sentences(texts, props)

    return reader


def reader_creator(
    corpus_reader: Callable[[], Iterable[Sentence]],
    word_dict: Mapping[str, int],
    predicate_dict: Mapping[str, int],
    label_dict: Mapping[str, int],
) -> Reader:
    """A reader of samples, of sentences that have been read."""

    def reader() -> Iterator[tuple[list[int | None], ...]]:
        for sentence, verb, labels in corpus_reader():
            at, count = labels.index("B-V"), len(sentence)
            near: list[list[int | None]] = []
            mark: list[int | None] = [0] * len(labels)
            for offset in (-2, -1, 0, 1, 2):
                place = at + offset
                inside = 0 <= place < len(labels)
                word = sentence[place] if inside else ("bos" if offset < 0 else "eos")
                near.append([word_dict.get(word, UNK_IDX)] * count)
                if inside:
                    mark[place] = 1
            yield (
                [word_dict.get(word, UNK_IDX) for word in sentence],
                *near,
                [predicate_dict.get(verb)] * count,
                mark,
                [label_dict.get(label) for label in labels],
            )

    return reader


def get_dict() -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """Ids of the words, of the verbs, and of the labels."""
    return load_dict(_lines(_WORDS)), load_dict(_lines(_VERBS)), load_label_dict(_lines(_LABELS))


def get_embedding() -> str:
    """A file of word vectors: 16 bytes, then float32[words, 32] in little endian."""
    if find("conll05st", _FILES, _MADE_UP, "conll05") is not None:
        return download(EMB_URL, "conll05st", EMB_MD5)
    vectors = np.random.default_rng(32).normal(0, 0.1, (len(get_dict()[0]), _EMBEDDING_SIZE)).astype("<f4")
    path = Path(tempfile.mkdtemp(prefix="fluidc-conll05-"), "emb")
    path.write_bytes(bytes(16) + vectors.tobytes())
    return str(path)


def test() -> Reader:
    """A reader of the sentences that are public, which tutorials train on."""
    files = find("conll05st", _FILES, _MADE_UP, "conll05")
    if files is None:
        raw = _synthetic()
        return reader_creator(lambda: _sentences(raw["words"], raw["props"]), *get_dict())
    release = "conll05st-release/test.wsj"
    corpus = corpus_reader(files[_CORPUS], f"{release}/words/test.wsj.words.gz", f"{release}/props/test.wsj.props.gz")
    return reader_creator(corpus, *get_dict())


fetch = fetched("conll05st", _FILES, _MADE_UP)
