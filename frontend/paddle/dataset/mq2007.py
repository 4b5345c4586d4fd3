"""``paddle.dataset.mq2007``: documents of queries with their relevance; points, pairs or lists to rank."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....runtime.errors import DataError
from ...source import user_location
from . import common

URL = "http://www.bigdatalab.ac.cn/benchmark/upload/download_source/7b6dbbe2-842c-11e4-a536-bcaec51b9163_MQ2007.rar"
MD5 = "7be1640ae95c6408dab0ae7207bdc706"

_FEATURES = 46
_MADE_UP = "60 synthetic queries with 8 documents each, for MQ2007's"
_TRAIN = "MQ2007/MQ2007/Fold1/train.txt"
_TEST = "MQ2007/MQ2007/Fold1/test.txt"


class Query:
    """A document found for a query.

    Attributes:
        query_id: Of the query.
        relevance_score: 0, 1 or 2.
        feature_vector: 46 numbers.
        description: What the line says of the document.
    """

    def __init__(
        self,
        query_id: int = -1,
        relevance_score: int = -1,
        feature_vector: list[float] | None = None,
        description: str = "",
    ) -> None:
        self.query_id = query_id
        self.relevance_score = relevance_score
        self.feature_vector = [] if feature_vector is None else feature_vector
        self.description = description

    def __str__(self) -> str:
        return f"{self.relevance_score} {self.query_id} {' '.join(map(str, self.feature_vector))}"


class QueryList:
    """The documents of one query.

    Raises:
        ValueError: They are of several.
    """

    def __init__(self, querylist: Iterable[Query] | None = None) -> None:
        self.query_id = -1
        self.querylist: list[Query] = []
        for query in querylist or ():
            self.add(query)

    def add(self, query: Query) -> None:
        """One document more."""
        if self.querylist and query.query_id != self.query_id:
            raise ValueError("query in list must be same query_id")
        self.query_id = query.query_id
        self.querylist.append(query)

    def __iter__(self) -> Iterator[Query]:
        return iter(self.querylist)

    def __len__(self) -> int:
        return len(self.querylist)

    def __getitem__(self, i: int) -> Query:
        return self.querylist[i]

    def ranked(self) -> QueryList:
        """Itself, with the most relevant documents first."""
        self.querylist.sort(key=lambda query: query.relevance_score, reverse=True)
        return self


def _ranked(querylist: QueryList | Iterable[Query]) -> QueryList:
    return (querylist if isinstance(querylist, QueryList) else QueryList(querylist)).ranked()


def gen_plain_txt(querylist: QueryList | Iterable[Query]) -> Iterator[tuple[int, int, NDArray[np.float64]]]:
    """(query, relevance, features) of each document."""
    for query in _ranked(querylist):
        yield query.query_id, query.relevance_score, np.array(query.feature_vector)


def gen_point(querylist: QueryList | Iterable[Query]) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """(relevance, features) of each document."""
    for query in _ranked(querylist):
        yield query.relevance_score, np.array(query.feature_vector)


def gen_pair(
    querylist: QueryList | Iterable[Query], partial_order: str = "full"
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]]:
    """([1], features of the more relevant, of the less relevant) of each pair of documents that differ."""
    del partial_order
    ranked = _ranked(querylist)
    for at, left in enumerate(ranked):
        for right in ranked.querylist[at + 1 :]:
            if left.relevance_score > right.relevance_score:
                yield np.array([1]), np.array(left.feature_vector), np.array(right.feature_vector)


def gen_list(querylist: QueryList | Iterable[Query]) -> Iterator[tuple[NDArray[Any], NDArray[np.float64]]]:
    """(relevance [documents, 1], features [documents, 46]) of the query."""
    ranked = _ranked(querylist)
    yield np.array([[q.relevance_score] for q in ranked]), np.array([q.feature_vector for q in ranked])


def query_filter(querylists: Iterable[QueryList]) -> list[QueryList]:
    """Those with a document that is relevant."""
    return [found for found in querylists if sum(query.relevance_score for query in found)]


def _synthetic(filepath: str) -> Iterator[str]:
    """Lines of the file: relevance is a linear function of the features, in three steps."""
    weights = np.random.default_rng(90).normal(0, 1, _FEATURES)
    rng = np.random.default_rng(91 if filepath == _TRAIN else 92)
    for query in range(1, 61):
        features = rng.uniform(0, 1, (8, _FEATURES)).round(6)
        ranks = ((features - 0.5) @ weights).argsort().argsort()
        for row, rank in zip(features, ranks):
            listed = " ".join(f"{n}:{value:.6f}" for n, value in enumerate(row, 1))
            yield f"{(0, 0, 0, 0, 1, 1, 1, 2)[rank]} qid:{query} {listed} #docid = made-up-{query}-{rank}"


def _lines(filepath: str) -> Iterator[str]:
    home = Path(common.DATA_HOME, "MQ2007")
    found = [path for path in (home / filepath, Path(common.DATA_HOME, filepath)) if path.is_file()]
    archive = common.locate("MQ2007", URL.rsplit("/", 1)[1])
    if not found and archive is not None:
        raise DataError(
            "paddle.dataset.mq2007: the archive has not been unpacked",
            user_location().place,
            f"unpack {archive} in {archive.parent}: there has to be {home / filepath}",
        )
    if not found:
        common.find("MQ2007", {filepath: ""}, _MADE_UP, "mq2007")
        yield from _synthetic(filepath)
        return
    common.session.note_found("paddle.dataset.mq2007", str(found[0].parent))
    with open(found[0]) as file:
        yield from file


def load_from_text(filepath: str, shuffle: bool = False, fill_missing: int = -1) -> list[QueryList]:
    """The queries of a file, in order; the other arguments are Paddle's and without effect."""
    del shuffle, fill_missing
    found: list[QueryList] = []
    for line in _lines(filepath):
        entry, _, description = line.partition("#")
        fields = entry.split()
        if len(fields) != _FEATURES + 2:
            continue
        number = int(fields[1].split(":")[1])
        features = [float(field.split(":")[1]) for field in fields[2:]]
        if not found or found[-1].query_id != number:
            found.append(QueryList())
        found[-1].add(Query(number, int(fields[0]), features, description.strip()))
    return found


def _reader(filepath: str, format: str = "pairwise", shuffle: bool = False, fill_missing: int = -1) -> Iterator[Any]:
    """Samples in one of the formats ``plain_txt``, ``pointwise``, ``pairwise`` and ``listwise``.

    As in Paddle, the first two give the first document of each query only.
    """
    for queries in query_filter(load_from_text(filepath, shuffle, fill_missing)):
        if format == "plain_txt":
            yield next(gen_plain_txt(queries))
        elif format == "pointwise":
            yield next(gen_point(queries))
        elif format == "pairwise":
            yield from gen_pair(queries)
        elif format == "listwise":
            yield next(gen_list(queries))


train = partial(_reader, filepath=_TRAIN)
test = partial(_reader, filepath=_TEST)


def fetch() -> None:
    """Says whether the files are there."""
    load_from_text(_TRAIN)
