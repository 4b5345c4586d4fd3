"""Rows to audit with: random ones, by the types and ranges of the feeds, or those of a data set."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...runtime.data import DataSet
from ...runtime.engine import Array
from ...runtime.feeds import FeedCheck
from ...runtime.manifest import Manifest
from .mechanism import Arrays, feed_shape

_UNKNOWN_IDS = 2
"""Values of an integer feed without a range: 0 and 1, which every table and every loss has."""


class Rows:
    """Draws batches of rows for the training step.

    Args:
        manifest: of the artifact.
        batch: physical rows.
        random: generator; the audit of one artifact with one seed takes the same rows every time.
        data: rows to draw from; None draws standard normal numbers, and integers within the feed's range.
    """

    def __init__(self, manifest: Manifest, batch: int, random: np.random.Generator, data: DataSet | None) -> None:
        names = [b.name for b in manifest.function("step").inputs if b.kind == "feed"]
        # Feeds of other functions only (there are none today) still need a value.
        self._checks = [FeedCheck(manifest.feed(name)) for name in names]
        self._batch = batch
        self._random = random
        self._data = data

    def draw(self) -> Arrays:
        """A batch."""
        if self._data is not None:
            return dict(self._data.take(self._random.integers(0, self._data.rows, self._batch)))
        return {check.spec.name: self._values(check) for check in self._checks}

    def changed(self, feeds: Mapping[str, Array], row: int, factor: float) -> Arrays:
        """``feeds`` with the floating-point entries of one row times ``factor``; NaN and infinity replace them."""
        changed = dict(feeds)
        for check in self._checks:
            axis, array = check.batch_axis, feeds[check.spec.name]
            if axis is None or array.dtype.kind != "f":
                continue
            array = array.copy()
            at = (*(slice(None),) * axis, row)
            with np.errstate(over="ignore", invalid="ignore"):
                array[at] = array[at] * array.dtype.type(factor) if np.isfinite(factor) else factor
            changed[check.spec.name] = array
        return changed

    @property
    def scalable(self) -> bool:
        """Whether a row has floating-point entries, so that `changed` can enlarge its gradient."""
        return any(check.batch_axis is not None and check.dtype.kind == "f" for check in self._checks)

    def _values(self, check: FeedCheck) -> Array:
        shape, spec = feed_shape(check, self._batch), check.spec
        if check.dtype.kind == "f":
            return self._random.normal(size=shape).astype(check.dtype)
        if check.dtype.kind == "b":
            return self._random.integers(0, 2, shape).astype(check.dtype)
        low = spec.low or 0
        high = low + _UNKNOWN_IDS if spec.high is None else spec.high
        return self._random.integers(low, high, shape).astype(check.dtype)
