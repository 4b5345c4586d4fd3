"""Record and replay on neighbouring lots: what one example can change in the clipped sums.

Source: the record/replay test of privacy libraries (arXiv:2602.17454), on the functions of the compiled artifact.
Two lots differ in one bit of the mask; everything else, feeds of the masked row included, stays in place.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping

import numpy as np

from ...runtime.engine import Array
from ...runtime.keystream import fresh_key
from .checks import Check, Effort, judged, unmeasured
from .mechanism import Arrays, Group, Mechanism, zeros_like
from .noise import probe
from .rows import Rows

FACTORS = (1.0, 1e1, 1e2, 1e3, 1e6, 1e12, 1e20, 1e30, 0.0, math.nan, math.inf, -math.inf)
"""What the differing example's numbers are multiplied by; what is not finite replaces them."""

_SUM_ERROR = 1e-5
"""Rounding of a float32 sum, relative to the sum of the norms of its terms. Integers have none."""

UPDATE_ERROR = 1e-4
"""Rounding of an update, relative to it."""


def neighbour_checks(mechanism: Mechanism, rows: Rows, effort: Effort, random: np.random.Generator) -> Iterator[Check]:
    """Sensitivity of the sums, influence of one example on others, dead rows, and the fused step.

    Yields each check when it is done.
    """
    yield from _pairs(mechanism, rows, effort, random)
    yield _dead_rows(mechanism, rows)
    yield _fused_step(mechanism, rows, random)
    yield _cleared(mechanism, random)


def distance(a: Mapping[str, Array], b: Mapping[str, Array], group: Group) -> float:
    """``‖a − b‖₂`` over the parameters of a group, in float64; infinite where a number is not finite.

    Of integers it is exact, rounded up to the next integer: at most K where the norm is.
    """
    if all(a[name].dtype.kind == "i" for name in group.parameters):
        squares = sum(int(v) ** 2 for name in group.parameters for v in (a[name] - b[name]).flat if v)
        root = math.isqrt(squares)
        return float(root + (root * root < squares))
    total = 0.0
    for name in group.parameters:
        with np.errstate(invalid="ignore", over="ignore"):
            difference = a[name].astype(np.float64) - b[name].astype(np.float64)
            total += float(np.sum(difference * difference))
    return math.sqrt(total) if math.isfinite(total) else math.inf


def _pairs(mechanism: Mechanism, rows: Rows, effort: Effort, random: np.random.Generator) -> Iterator[Check]:
    batch, slack = mechanism.batch, mechanism.spec.slack
    bound = 1.0 + slack / 2
    rounding = _SUM_ERROR if mechanism.spec.grid_bits is None else 0.0
    largest, influence, clipped, moved = 0.0, 0.0, 0, 0
    worst = ""
    feeds: Arrays = {}
    nobody = zeros_like(mechanism)
    end, done = time.monotonic() + effort.seconds, 0
    for number in range(effort.pairs):
        if number >= len(FACTORS) and time.monotonic() > end:
            break
        done = number + 1
        if number % 8 == 0:
            feeds = rows.draw()
        factor = FACTORS[number % len(FACTORS)]
        row = int(random.integers(batch))
        # Every third lot holds nobody else: nothing then hides in the rounding of other rows.
        mask = np.zeros(batch, np.bool_) if number % 3 == 0 else random.random(batch) < random.random()
        changed = rows.changed(feeds, row, factor)
        mask[row] = True
        with_row = mechanism.sums(changed, mask)
        mask[row] = False
        without = mechanism.sums(changed, mask)
        others = int(mask.sum())
        alone = with_row
        if others:
            mask[:] = False
            mask[row] = True
            alone = mechanism.sums(changed, mask)
        for group in mechanism.groups:
            change = distance(with_row, without, group) / group.clip
            if change > largest:
                largest, worst = change, f"{factor:g}"
            clipped += change > 0.999
            moved += change > 0
            if others:
                own = {name: _change(with_row[name], without[name]) for name in group.parameters}
                off = distance(own, alone, group) / group.clip
                influence = max(influence, off / (others + 1))
            else:
                largest = max(largest, distance(with_row, nobody, group) / group.clip)
    name, text = "one example's change", f"≤ {bound:.7g} C"
    if not moved:
        yield unmeasured(name, "no row had a gradient: give real rows by --data", text)
        return
    yield judged(
        name,
        f"{largest:.7g} C at most, {done} pairs, {clipped} at the bound",
        text,
        largest <= bound,
        largest=largest,
        bound=bound,
        pairs=done,
        at_bound=clipped,
        worst_factor=worst,
    )
    yield judged(
        "influence on other rows",
        f"{influence:.2g} C per row",
        f"≤ {rounding:g} C per row" if rounding else "exactly 0",
        influence <= rounding,
        largest=influence,
        bound=rounding,
    )


def _change(after: Array, before: Array) -> Array:
    """``after - before``: of floats in float64, of integers exactly."""
    return after - before if after.dtype.kind == "i" else after.astype(np.float64) - before


def _dead_rows(mechanism: Mechanism, rows: Rows) -> Check:
    """All rows masked: sums are zero to the bit, whatever the rows hold."""
    mask = np.zeros(mechanism.batch, np.bool_)
    largest = 0.0
    for factor in (1.0, 1e30, math.nan, math.inf):
        feeds = rows.draw()
        for row in range(min(mechanism.batch, 16)):
            feeds = rows.changed(feeds, row, factor)
        for value in mechanism.sums(feeds, mask).values():
            found = float(np.abs(value).max(initial=0.0))
            largest = max(largest, found if math.isfinite(found) else math.inf)
    return judged("masked rows", f"{largest:g}", "exactly 0", largest == 0, largest=largest)


def _fused_step(mechanism: Mechanism, rows: Rows, random: np.random.Generator) -> Check:
    """``step`` ends where ``accumulate`` and ``apply`` end, under one key."""
    largest = 0.0
    for draw in range(3):
        feeds, mask = rows.draw(), random.random(mechanism.batch) < (draw + 1) / 3
        key = fresh_key()
        once = mechanism.step(feeds, mask, key, draw)
        parts = mechanism.release(mechanism.sums(feeds, mask), key, draw, "start")
        largest = max(largest, difference(parts, once, mechanism.start))
    return judged(
        "step = accumulate + apply",
        f"off by {largest:.2g} of the update",
        f"≤ {UPDATE_ERROR:g}",
        largest <= UPDATE_ERROR,
        largest=largest,
    )


def difference(a: Mapping[str, Array], b: Mapping[str, Array], start: Mapping[str, Array]) -> float:
    """The largest difference of two updates of one state, as a share of the update; units in the last place of the
    state are not held against either."""
    largest = 0.0
    for name, value in a.items():
        if value.dtype.kind != "f":
            largest = max(largest, float(not np.array_equal(value, b[name])))
            continue
        wide = value.astype(np.float64)
        moved = float(np.abs(wide - start[name]).max(initial=0.0))
        off = float(np.abs(wide - b[name]).max(initial=0.0))
        if not math.isfinite(off):
            largest = largest if np.array_equal(value, b[name], equal_nan=True) else math.inf
            continue
        grain = 4 * float(np.finfo(value.dtype).eps) * float(np.abs(wide).max(initial=0.0))
        largest = max(largest, max(0.0, off - grain) / max(moved, 1e-30))
    return largest


def _cleared(mechanism: Mechanism, random: np.random.Generator) -> Check:
    """``apply`` leaves no sum behind for the next lot."""
    left = mechanism.left_over(probe(mechanism, random), fresh_key())
    return judged("sums after apply", f"{left:g}", "exactly 0", left == 0, largest=left)
