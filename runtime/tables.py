"""CSV and Parquet: tables whose columns become feeds.

A table is no place to draw lots from: its rows lie in compressed pages or in lines of text, so a lot of a few rows
from everywhere would decode all of it, in every step. So a table is decoded once, block by block: into memory while it
is small, else into a folder of ``.npy`` files (`convert`), which are mapped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from .archives import MEMORY_BYTES
from .buffers import Array, aligned
from .columns import Chooser, Columns
from .errors import DataError
from .feeds import FeedCheck, Watch
from .table_files import Table, open_table
from .table_values import FeedColumns

Block = dict[str, Array]
"""Feed name -> its next rows, in the feed's own type and shape."""


def read_table(
    path: Path, checks: Sequence[FeedCheck], columns: Columns, watch: Watch | None = None
) -> dict[str, Array]:
    """The whole table in memory: feed name -> its rows.

    Raises what `blocks` raises, and DataError for more than `MEMORY_BYTES`.
    """
    found: list[Block] = []
    size = 0
    for block in blocks(path, checks, columns, watch):
        found.append(block)
        size += sum(array.nbytes for array in block.values())
        if size > MEMORY_BYTES:
            raise DataError(
                f"decoded, the table takes more than {MEMORY_BYTES / (1 << 30):g} GiB, and lots cannot be drawn from "
                "it where it lies",
                str(path),
                f"make a folder of it once, and give that: fluidc data convert ARTIFACT {path.name} -o FOLDER",
            )
    made: dict[str, Array] = {}
    for check in checks:
        parts = [block.pop(check.spec.name) for block in found]
        whole = aligned((sum(len(part) for part in parts), *parts[0].shape[1:]), parts[0].dtype)
        made[check.spec.name] = np.concatenate(parts, out=whole)
    return made


def blocks(path: Path, checks: Sequence[FeedCheck], columns: Columns, watch: Watch | None = None) -> Iterator[Block]:
    """The rows of a table, some at a time, checked; at least one.

    ``watch`` is told how far it is. Raises DataError for a table that cannot be read or has no rows; columns that are
    missing, of another type, or have no value in some row; labels out of range; and where pyarrow is not installed.
    """
    where = str(path)
    table: Table = open_table(path)
    chooser = Chooser(table.names, columns, checks, where)
    feeds = [FeedColumns(check, chooser.choose(check), where) for check in checks]
    wanted = {name: feed.check.dtype for feed in feeds for name in feed.columns}
    row = 0
    for batch in table.batches(wanted):
        made: Block = {}
        for feed in feeds:
            name = feed.check.spec.name
            made[name] = feed.rows(batch, row)
            try:
                feed.check.check_range(made[name], row)
            except DataError as error:
                raise DataError(error.what, f"{where}, {error.where}", error.hint or "") from None
        row += batch.num_rows
        if watch is not None:
            watch(f"reading {path.name}", row, table.rows or 0)
        yield made
    if not row:
        raise DataError("the table has no rows", where, "give at least one example")
