"""Running ``infer`` over a data set: outputs row by row, or means over all rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .data import DataSet
from .engine import Array
from .errors import DataError
from .feeds import BATCH
from .manifest import FunctionSpec, Manifest, OutputSpec
from .model import Model

CHUNK_ROWS = 1024


@dataclass(frozen=True)
class Evaluation:
    """Means over a data set.

    Attributes:
        values: fetch -> mean over all rows.
        rows: rows of the data set.
        private: whether a private program was trained: the values depend on the data without noise, and if the
            data is that of the training, they are NOT PRIVATE.
    """

    values: dict[str, float]
    rows: int
    private: bool


def is_by_row(output: OutputSpec) -> bool:
    """Whether a fetch of ``infer`` has one entry per example."""
    return output.combine == "rows" or output.shape[:1] == (BATCH,)


def chosen(manifest: Manifest, function: str, fetches: Sequence[str] | None) -> tuple[str, ...]:
    """``fetches``, or the default ones of ``function``: those of the program, else all.

    Raises DataError for a name that the function does not return.
    """
    names = [output.name for output in _fetchable(manifest.function(function))]
    if fetches is None:
        return tuple(name for name in manifest.fetches if name in names) or tuple(names)
    for name in fetches:
        if name not in names:
            raise DataError(
                f"{name!r} is not fetched by this artifact",
                f"function {function!r}, which returns {', '.join(names) or 'nothing'}",
                "fetch one of these, or compile with --fetch",
            )
    return tuple(fetches)


def predict(model: Model, data: DataSet, fetches: Sequence[str] | None) -> dict[str, Array]:
    """Outputs of ``infer`` for every row of ``data``, in its order; by default all that come row by row.

    Raises DataError for a fetch that is unknown or is no output per row.
    """
    spec = model.manifest.function("infer")
    by_row = [output.name for output in _fetchable(spec) if is_by_row(output)]
    names = tuple(by_row) if fetches is None else chosen(model.manifest, "infer", fetches)
    for name in names:
        if name not in by_row:
            raise DataError(
                f"{name!r} is one value for the whole batch, not one per row",
                f"function 'infer', which returns {', '.join(by_row) or 'nothing'} row by row",
                "fetch one of these, or use evaluate for means over the data set",
            )
    if not names:
        raise DataError(
            "the artifact returns nothing row by row",
            "function 'infer'",
            "compile with --fetch NAME, naming the prediction",
        )
    parts: dict[str, list[Array]] = {name: [] for name in names}
    for start in range(0, data.rows, CHUNK_ROWS):
        values = model.stepper.run("infer", data.slice(start, min(start + CHUNK_ROWS, data.rows)))
        for name in names:
            parts[name].append(values[name])
    return {name: np.concatenate(found) for name, found in parts.items()}


def evaluate(model: Model, data: DataSet, fetches: Sequence[str] | None) -> Evaluation:
    """Means of the scalar fetches of ``infer`` over ``data``, each chunk weighted by its rows.

    By default all scalars of a floating dtype. Raises DataError for a fetch that is unknown or no scalar, and where
    there is none.
    """
    spec = model.manifest.function("infer")
    scalars = [o.name for o in _fetchable(spec) if all(dim == 1 for dim in o.shape) and o.dtype in ("f32", "f64")]
    names = tuple(scalars) if fetches is None else chosen(model.manifest, "infer", fetches)
    for name in names:
        if name not in scalars:
            raise DataError(
                f"{name!r} is no scalar, so it has no mean to report",
                f"function 'infer', whose scalars are {', '.join(scalars) or 'none'}",
                "fetch a loss or a metric, or use predict for values per row",
            )
    if not names:
        raise DataError(
            "the artifact has no scalar to evaluate",
            "function 'infer'",
            "compile with --fetch NAME, naming a loss or a metric",
        )
    totals = dict.fromkeys(names, 0.0)
    for start in range(0, data.rows, CHUNK_ROWS):
        stop = min(start + CHUNK_ROWS, data.rows)
        values = model.stepper.run("infer", data.slice(start, stop))
        for name in names:
            totals[name] += float(values[name].reshape(())) * (stop - start)
    return Evaluation({name: total / data.rows for name, total in totals.items()}, data.rows, model.private)


def _fetchable(spec: FunctionSpec) -> list[OutputSpec]:
    return [output for output in spec.outputs if output.kind == "fetch"]
