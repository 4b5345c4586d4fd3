"""Opening CSV and Parquet files by pyarrow, which is loaded when there is one to open."""

from __future__ import annotations

import csv as text_csv
import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .errors import DataError

Batch = Any
"""A pyarrow.RecordBatch; pyarrow states no types."""

Wanted = Mapping[str, np.dtype[Any]]
"""Column -> element type of the feed that it belongs to."""

_BLOCK_ROWS = 1 << 14
_BLOCK_BYTES = 4 << 20


class Table(Protocol):
    """An open table.

    Attributes:
        names: of all its columns, in order.
        rows: how many it has, or None where only reading tells.
    """

    names: tuple[str, ...]
    rows: int | None

    def batches(self, wanted: Wanted) -> Iterator[Batch]:
        """Its rows in order, some at a time, none of them empty; the wanted columns only. Raises DataError."""
        ...


def open_table(path: Path) -> Table:
    """Open a table and read the names of its columns. Raises DataError."""
    if not path.exists():
        raise DataError("the data file does not exist", str(path), "check the path")
    return _Parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _Csv(path)


def arrow(where: str) -> Any:
    """pyarrow, with what tables need of it. Raises DataError where it is not installed."""
    try:
        loaded: Any = importlib.import_module("pyarrow")
        importlib.import_module("pyarrow.compute")
        importlib.import_module("pyarrow.csv")
        importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise DataError(
            "tables are read by pyarrow, which is not installed",
            where,
            "pip install pyarrow, or give the data as .npz or as a folder of .npy files",
        ) from None
    return loaded


class _Parquet:
    """A Parquet file: its schema names the columns, and its rows come group by group."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._arrow = arrow(str(path))
        try:
            self._file = self._arrow.parquet.ParquetFile(path)
            self.names = tuple(self._file.schema_arrow.names)
            self.rows: int | None = int(self._file.metadata.num_rows)
        except (self._arrow.ArrowException, OSError, ValueError) as error:
            raise self._broken(error) from None

    def batches(self, wanted: Wanted) -> Iterator[Batch]:
        """See `Table`."""
        try:
            for batch in self._file.iter_batches(_BLOCK_ROWS, columns=list(wanted), use_threads=False):
                if batch.num_rows:
                    yield batch
        except (self._arrow.ArrowException, OSError, ValueError) as error:
            raise self._broken(error) from None

    def _broken(self, error: Exception) -> DataError:
        return DataError(
            f"the file is not a Parquet table that pyarrow can read ({_first_line(error)})",
            str(self._path),
            "write it again, or copy it again if it was cut off",
        )


class _Csv:
    """A CSV or TSV file: its first line names the columns; fields are parsed as the feed's element type."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._arrow = arrow(str(path))
        self._delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
        self.rows: int | None = None
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                names = next(text_csv.reader(file, delimiter=self._delimiter), list[str]())
        except (OSError, UnicodeDecodeError, text_csv.Error) as error:
            raise self._broken(error) from None
        self.names = tuple(names)
        if not names:
            raise DataError("the table is empty", str(path), "write the names of the columns, then a line per example")
        if all(_is_number(name) for name in names):
            raise DataError(
                "the first line of the table holds numbers, and no names of columns",
                f"{path}, line 1",
                "put a line of names above it, such as x0,x1,x2,label",
            )

    def batches(self, wanted: Wanted) -> Iterator[Batch]:
        """See `Table`. Fields are parsed here; the DataError of one that cannot be names its row and column."""
        types = {name: self._type(dtype) for name, dtype in wanted.items()}
        try:
            for batch in self._read(types):
                if batch.num_rows:
                    yield batch
        except (self._arrow.ArrowException, OSError, UnicodeDecodeError) as error:
            raise self._unparsed(wanted, types) or self._broken(error) from None

    def _read(self, types: Mapping[str, Any], **more: Any) -> Iterator[Batch]:
        options = self._arrow.csv.ConvertOptions(column_types=dict(types), include_columns=list(types), **more)
        with self._arrow.csv.open_csv(
            self._path,
            read_options=self._arrow.csv.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False),
            parse_options=self._arrow.csv.ParseOptions(delimiter=self._delimiter),
            convert_options=options,
        ) as reader:
            yield from reader

    def _type(self, dtype: np.dtype[Any]) -> Any:
        # Text has no half-precision form of its own; it is rounded once more, to the feed's type.
        return self._arrow.float32() if dtype.itemsize == 2 else self._arrow.from_numpy_dtype(dtype)

    def _unparsed(self, wanted: Wanted, types: Mapping[str, Any]) -> DataError | None:
        """The error for the first field that is no number of its column's type, or None if that is not what failed."""
        text = self._arrow.string()
        row = 0
        try:
            for batch in self._read(dict.fromkeys(types, text), strings_can_be_null=True):
                bad = [
                    (place, name)
                    for name, type_ in types.items()
                    if (place := self._first_unparsed(batch.column(name), type_)) is not None
                ]
                if bad:
                    place, name = min(bad)
                    field = str(batch.column(name)[place])
                    return DataError(
                        f"column {name!r} holds {field[:40]!r} in row {row + place}, which is no {wanted[name].name}",
                        f"{self._path}, row {row + place} (counted from 0, the line of names apart)",
                        "correct the table, or leave the row out",
                    )
                row += batch.num_rows
        except (self._arrow.ArrowException, OSError, UnicodeDecodeError):
            return None
        return None

    def _first_unparsed(self, column: Any, type_: Any) -> int | None:
        """Place of the first field of a column of text that cannot be cast, by halving."""
        compute = self._arrow.compute
        column = compute.utf8_trim_whitespace(column)

        def fits(low: int, high: int) -> bool:
            try:
                compute.cast(column.slice(low, high - low), type_)
            except self._arrow.ArrowException:
                return False
            return True

        low, high = 0, len(column)
        if fits(low, high):
            return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(low, middle) else (low, middle)
        return low

    def _broken(self, error: Exception) -> DataError:
        return DataError(
            f"the file is not a table of text that pyarrow can read ({_first_line(error)})",
            str(self._path),
            "give each line one field per column, divided by commas (.csv) or tabs (.tsv), in UTF-8",
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return not text.strip()
    return True


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
