"""Which columns of a table a feed is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .errors import DataError
from .feeds import FeedCheck

Columns = Mapping[str, tuple[str, ...]]
"""Feed name -> names of columns, or of first and last ones (``a..b``), as a user states them."""

SUFFIXES = (".csv", ".tsv", ".parquet", ".pq")

_SHOWN = 12


def is_table(path: Path) -> bool:
    """Whether the path's name is that of a table, and it is no folder."""
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def parse_columns(texts: Iterable[str]) -> Columns:
    """What ``--columns x=a,b,c`` says, for every such option. Raises DataError.

    >>> parse_columns(["x=pixel0..pixel783", "y=label"])
    {'x': ('pixel0..pixel783',), 'y': ('label',)}
    """
    found: dict[str, tuple[str, ...]] = {}
    for text in texts:
        feed, equals, listed = text.partition("=")
        names = tuple(name.strip() for name in listed.split(","))
        if not equals or not feed.strip() or not all(names):
            raise DataError(
                f"{text!r} does not say which columns a feed is made of",
                "--columns",
                "write x=a,b,c for these columns, or x=a..c for all from a to c",
            )
        if feed.strip() in found:
            raise DataError(f"the columns of {feed.strip()!r} are given twice", "--columns", "give them once")
        found[feed.strip()] = names
    return found


def width(check: FeedCheck, where: str) -> int:
    """Numbers in one row of a feed. Raises DataError where the feed is not made of rows of one size."""
    sizes = check.spec.shape[1:]
    if check.batch_axis != 0 or not all(isinstance(size, int) for size in sizes):
        raise DataError(
            f"feed {check.spec.name!r} is not made of rows, and a table has nothing else",
            f"{where}, {check.where}",
            "give the data as .npz, or as a folder of .npy files",
        )
    count = 1
    for size in sizes:
        assert isinstance(size, int)
        count *= size
    return count


class Chooser:
    """Finds the columns of feeds in a table.

    Args:
        table: names of its columns, in order.
        columns: what the user stated.
        checks: the feeds.
        where: what errors call the table.

    Raises DataError for a column that is there twice, and for columns stated of no feed.
    """

    def __init__(self, table: Sequence[str], columns: Columns, checks: Sequence[FeedCheck], where: str) -> None:
        self._places = {name: place for place, name in enumerate(table)}
        self._table = tuple(table)
        self._columns = columns
        self._where = where
        twice = next((name for name in table if table.count(name) > 1), None)
        if twice is not None:
            raise DataError(f"the table has two columns {twice!r}", where, "give each column a name of its own")
        unknown = sorted(columns.keys() - {check.spec.name for check in checks})
        if unknown:
            feeds = ", ".join(repr(check.spec.name) for check in checks)
            raise DataError(
                f"{unknown[0]!r} is no feed of the program", "--columns", f"the feeds of this table are {feeds}"
            )

    def choose(self, check: FeedCheck) -> tuple[str, ...]:
        """The columns of one feed: those stated, else one of its name, else ``NAME0`` and so on.

        Raises DataError where they are missing, or are not as many as a row has numbers; a single one may hold lists.
        """
        name, count = check.spec.name, width(check, self._where)
        stated = self._columns.get(name)
        if stated is not None:
            chosen = tuple(each for text in stated for each in self._span(name, text))
        elif name in self._places:
            chosen = (name,)
        else:
            chosen = tuple(f"{name}{place}" for place in range(count))
        missing = [each for each in chosen if each not in self._places]
        if missing:
            wanted = f"{name!r}" if count == 1 or stated else f"{name!r}, nor {chosen[0]!r} to {chosen[-1]!r}"
            if stated:
                wanted = repr(missing[0])
            raise DataError(
                f"the table has no column {wanted}",
                f"{self._where}, {check.where}; its columns are {_listed(self._table)}",
                f"name its columns after the feed, or say which they are: --columns {name}=FIRST..LAST",
            )
        if len(chosen) not in (1, count):
            raise DataError(
                f"feed {name!r} has {count} numbers in a row, and {len(chosen)} columns are given for it",
                f"{self._where}, {check.where}",
                f"name {count} columns, or one that holds lists of {count} numbers",
            )
        return chosen

    def _span(self, feed: str, text: str) -> tuple[str, ...]:
        """The columns that one part of an option names; a column of just that name comes before a span."""
        first, dots, last = text.partition("..")
        if text in self._places or not dots:
            return (text,)
        for name in (first, last):
            if name not in self._places:
                raise DataError(
                    f"the table has no column {name!r}",
                    f"{self._where}, --columns {feed}={text}; its columns are {_listed(self._table)}",
                    "name columns of the table",
                )
        start, stop = self._places[first], self._places[last]
        if start > stop:
            raise DataError(
                f"column {last!r} comes before {first!r}",
                f"{self._where}, --columns {feed}={text}",
                "name the first column, then the last, in the order of the table",
            )
        return self._table[start : stop + 1]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return f"{shown}, and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown or "none"
