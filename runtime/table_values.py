"""Columns of a table as the rows of a feed: which types may stand for which, and that every row has its values.

Values are taken as they are. Decimals may be rounded to the feed's type of float, as text is; integers may change their
width, or become floats, where every one keeps its value; nothing else is cast.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .buffers import Array, aligned
from .columns import width
from .errors import DataError
from .feeds import FeedCheck
from .table_files import Batch, arrow

_MAY_STAND_FOR = {"i": ("integer",), "u": ("integer",), "b": ("bool",)}
"""Kind of a feed -> kinds of columns; floats of all widths take floats and integers."""


class FeedColumns:
    """What one feed reads of a table.

    Args:
        check: the feed.
        columns: as many as a row has numbers, or one that holds lists of so many.
        where: what errors call the table.
    """

    def __init__(self, check: FeedCheck, columns: tuple[str, ...], where: str) -> None:
        self.check = check
        self.columns = columns
        self._where = where
        self._width = width(check, where)
        self._types = arrow(where).types

    def rows(self, batch: Batch, first: int) -> Array:
        """The rows of ``batch`` in the feed's type and shape; the first one is row ``first`` of the table.

        Raises DataError for a column of another type, and for a row without a value or with one that does not fit.
        """
        made = aligned((batch.num_rows, self._width), self.check.dtype)
        if len(self.columns) == self._width:
            for place, name in enumerate(self.columns):
                column = batch.column(name)
                if self._width == 1 and self._holds_lists(column.type):
                    column = self._flat(name, column, first)
                made[:, place] = self._numbers(name, column, first, 1)
        else:
            (name,) = self.columns
            column = batch.column(name)
            if not self._holds_lists(column.type):
                raise self._error(
                    f"column {name!r} holds single values, and a row of {self.check.spec.name!r} has {self._width}",
                    name,
                    f"give {self._width} columns, or one of lists",
                )
            made[...] = self._numbers(name, self._flat(name, column, first), first, self._width).reshape(made.shape)
        sizes = [size for size in self.check.spec.shape[1:] if isinstance(size, int)]
        return made.reshape(batch.num_rows, *sizes)

    def _holds_lists(self, type_: Any) -> bool:
        types = self._types
        return types.is_list(type_) or types.is_large_list(type_) or types.is_fixed_size_list(type_)

    def _flat(self, name: str, column: Any, first: int) -> Any:
        """The numbers of a column of lists, nested ones too, one after another."""
        rows, each = len(column), 1
        while self._holds_lists(column.type):
            self._check_present(name, column, first, each)
            inner = column.flatten()
            lengths = np.asarray(column.value_lengths()) if not self._types.is_fixed_size_list(column.type) else None
            size = len(inner) // len(column) if len(column) else 0
            if lengths is not None and (lengths != lengths[0]).any():
                row = first + int(np.argmax(lengths != lengths[0])) // each
                raise self._error(
                    f"the lists of column {name!r} have different lengths: row {row} is not as long as row {first}",
                    f"{name}, row {row}",
                    f"make every list {self._width} long",
                )
            column, each = inner, each * size
        if each != self._width:
            raise self._error(
                f"the lists of column {name!r} hold {each} numbers, a row of {self.check.spec.name!r} {self._width}",
                f"{name}, row {first}",
                f"make every list {self._width} long",
            )
        assert len(column) == rows * each
        return column

    def _check_present(self, name: str, column: Any, first: int, each: int) -> None:
        if column.null_count:
            place = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
            raise self._missing(name, first + place // each)

    def _numbers(self, name: str, column: Any, first: int, each: int) -> Array:
        """The values of a column, ``each`` to a row, in a type that becomes the feed's without a change."""
        wanted = self.check.dtype
        if self._types.is_dictionary(column.type):
            column = column.dictionary_decode()
        kind = self._kind(column.type)
        if kind not in _MAY_STAND_FOR.get(wanted.kind, ("float", "integer")):
            raise self._error(
                f"column {name!r} is of type {column.type}, the feed {self.check.spec.name!r} wants {wanted.name}",
                name,
                "write the table with this type: integers for labels and indices, numbers for measures",
            )
        self._check_present(name, column, first, each)
        if self._types.is_decimal(column.type):
            column = column.cast("float64")
        values: Array = column.to_numpy(zero_copy_only=False)
        if kind == "float":
            self._check_floats(name, values, first, each)
        elif kind == "integer":
            self._check_integers(name, values, first, each)
        return values

    def _kind(self, type_: Any) -> str:
        types = self._types
        if types.is_floating(type_) or types.is_decimal(type_):
            return "float"
        if types.is_integer(type_):
            return "integer"
        return "bool" if types.is_boolean(type_) else ""

    def _check_floats(self, name: str, values: Array, first: int, each: int) -> None:
        absent = np.isnan(values)
        if absent.any():
            raise self._missing(name, first + int(np.argmax(absent)) // each)
        with np.errstate(over="ignore"):
            lost = np.isinf(values.astype(self.check.dtype)) & ~np.isinf(values)
        self._refuse_first(name, values, lost, first, each)

    def _check_integers(self, name: str, values: Array, first: int, each: int) -> None:
        wanted = self.check.dtype
        if np.can_cast(values.dtype, wanted):
            return
        with np.errstate(all="ignore"):
            made: Array = values.astype(wanted)
            lost: Array = made.astype(values.dtype) != values
        if wanted.kind in "iu":  # a change of sign alone comes back as it was
            lost |= np.less(values, 0) != np.less(made, 0)
        self._refuse_first(name, values, lost, first, each)

    def _refuse_first(self, name: str, values: Array, lost: Array, first: int, each: int) -> None:
        if not lost.any():
            return
        place = int(np.argmax(lost))
        row = first + place // each
        raise self._error(
            f"column {name!r} holds {values[place]} in row {row}, which no {self.check.dtype.name} can hold",
            f"{name}, row {row}",
            "correct the data, or build the program with a wider type",
        )

    def _missing(self, name: str, row: int) -> DataError:
        return self._error(
            f"column {name!r} has no value in row {row}",
            f"{name}, row {row} (counted from 0)",
            "leave the row out, or fill the value in; fluidc guesses none",
        )

    def _error(self, what: str, at: str, hint: str) -> DataError:
        return DataError(what, f"{self._where}, column {at}", hint)
