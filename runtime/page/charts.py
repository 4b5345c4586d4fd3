"""Curves and bars as SVG. What is pointed at shows its value by style sheet alone; no script is needed."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

_WIDTH, _HEIGHT = 460, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 14, 16, 40
_MOST_POINTS = 300
"""Points of a curve that are drawn: more are not told apart at this width."""


@dataclass(frozen=True)
class Series:
    """One curve.

    Attributes:
        name: in the legend.
        points: (x, y), x increasing; a y that is not finite is left out.
    """

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Mark:
    """A single point of note."""

    x: float
    y: float
    text: str


def curve_chart(
    title: str,
    series: Sequence[Series],
    x_name: str,
    *,
    spell: Callable[[float], str] = lambda value: f"{value:.4g}",
    mark: Mark | None = None,
    from_zero: bool = False,
) -> str:
    """Curves over whole numbers. Each point shows its values when it is pointed at; empty without any point."""
    shown = [Series(each.name, thinned(each.points)) for each in series]
    shown = [each for each in shown if each.points]
    if not shown:
        return ""
    xs = [x for each in shown for x, _ in each.points] + ([mark.x] if mark else [])
    ys = [y for each in shown for _, y in each.points] + ([mark.y] if mark else [])
    x_low, x_high = min(xs), max(xs)
    y_ticks = ticks(0.0 if from_zero else min(ys), max(ys), 5)
    x_ticks = [each for each in ticks(x_low, x_high, 5) if x_low <= each <= x_high and each == int(each)]
    frame = _Frame(x_low, x_high, min(y_ticks[0], *ys), max(y_ticks[-1], *ys))
    parts = [_opening(title, _summary(shown, x_name, spell))]
    for value in y_ticks:
        y = frame.y(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{short(value)}</text>')
    for value in x_ticks:
        x = frame.x(value)
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 17}" text-anchor="middle">{short(value)}</text>'
        )
    parts.append(_axis_name(x_name))
    for number, each in enumerate(shown):
        line = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in each.points)
        parts.append(f'<polyline class="curve c{number % 6}" points="{line}"/>')
    if mark is not None:
        x, y = frame.x(mark.x), frame.y(mark.y)
        anchor = "end" if x > _WIDTH / 2 else "start"
        parts.append(f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>')
        shift = -9 if anchor == "end" else 9
        place = f'x="{x + shift:.1f}" y="{max(y - 9, _TOP + 15):.1f}" text-anchor="{anchor}"'
        parts.append(f'<text class="label" {place}>{html.escape(mark.text)}</text>')
    parts += _tips(frame, shown, x_name, spell)
    parts.append("</svg>")
    keys = "".join(
        f'<span class="key"><i class="k{number % 6}"></i>{html.escape(each.name)}</span>'
        for number, each in enumerate(shown)
    )
    legend = f'<p class="legend">{keys}</p>' if len(shown) > 1 else ""
    return f"<figure><figcaption>{html.escape(title)}</figcaption>{''.join(parts)}{legend}</figure>"


def bar_chart(title: str, bars: Sequence[tuple[str, str, int]], x_name: str, y_name: str) -> str:
    """Bars side by side.

    Args:
        title: of the chart.
        bars: what stands below each bar (empty for nothing), what pointing at it tells, and its height.
        x_name: of the lower axis.
        y_name: what is counted.
    """
    if not bars:
        return ""
    top = max(count for *_, count in bars)
    y_ticks = [each for each in ticks(0, top, 4) if each == int(each)]
    frame = _Frame(0, len(bars), 0, max(y_ticks[-1], top))
    parts = [_opening(title, f"{len(bars)} bars; the highest is {top} {y_name}")]
    for value in y_ticks:
        y = frame.y(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{short(value)}</text>')
    for place, (below, tip, count) in enumerate(bars):
        x, after, y = frame.x(place), frame.x(place + 1), frame.y(count)
        height = max(_HEIGHT - _BOTTOM - y, 1.5 if count else 0)
        anchor = "start" if x < _WIDTH * 0.35 else "end" if x > _WIDTH * 0.65 else "middle"
        parts.append(
            f'<g class="hit"><rect class="zone" x="{x:.1f}" y="{_TOP}" width="{after - x:.1f}" '
            f'height="{_HEIGHT - _BOTTOM - _TOP}"/><rect class="bar" x="{x + 1:.1f}" '
            f'y="{_HEIGHT - _BOTTOM - height:.1f}" width="{max(after - x - 2, 1):.1f}" height="{height:.1f}"/>'
            f'<text class="tip" x="{(x + after) / 2:.1f}" y="{max(y - 6, 12):.1f}" text-anchor="{anchor}">'
            f"{html.escape(tip)}</text></g>"
        )
        if below:
            parts.append(
                f'<text class="tick" x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 17}" text-anchor="middle">'
                f"{html.escape(below)}</text>"
            )
    parts += [_axis_name(x_name), "</svg>"]
    return f"<figure><figcaption>{html.escape(title)}</figcaption>{''.join(parts)}</figure>"


@dataclass(frozen=True)
class _Frame:
    """Where values lie in the drawing."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        span = self.x_high - self.x_low
        share = (value - self.x_low) / span if span else 0.5
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * share

    def y(self, value: float) -> float:
        span = self.y_high - self.y_low
        share = (value - self.y_low) / span if span else 0.5
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - share)


def _opening(title: str, summary: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{html.escape(f"{title}: {summary}")}">'
    )


def _axis_name(name: str) -> str:
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    return f'<text class="axis" x="{middle}" y="{_HEIGHT - 5}" text-anchor="middle">{html.escape(name)}</text>'


def _summary(series: Sequence[Series], x_name: str, spell: Callable[[float], str]) -> str:
    parts: list[str] = []
    for each in series:
        (first, start), (last, end) = each.points[0], each.points[-1]
        parts.append(f"{each.name} from {spell(start)} at {first:g} to {spell(end)} at {last:g} {x_name}")
    return "; ".join(parts)


def _tips(frame: _Frame, series: Sequence[Series], x_name: str, spell: Callable[[float], str]) -> list[str]:
    """For each x a zone that shows, when pointed at, a line and the values there."""
    values: dict[float, list[str]] = {}
    for each in series:
        for x, y in each.points:
            values.setdefault(x, []).append(f"{each.name} {spell(y)}" if len(series) > 1 else spell(y))
    places = sorted(values)
    edges = [frame.x(places[0]), *((frame.x(a) + frame.x(b)) / 2 for a, b in pairwise(places))]
    edges.append(frame.x(places[-1]))
    parts: list[str] = []
    for place, x in enumerate(places):
        left, right = edges[place] - (4 if place == 0 else 0), edges[place + 1] + (4 if place == len(places) - 1 else 0)
        at = frame.x(x)
        anchor = "start" if at < _WIDTH / 2 else "end"
        shift = 6 if anchor == "start" else -6
        lines = [f"{x_name} {x:g}", *values[x]]
        text = "".join(
            f'<tspan x="{at + shift:.1f}" dy="{0 if number == 0 else 15}">{html.escape(line)}</tspan>'
            for number, line in enumerate(lines)
        )
        parts.append(
            f'<g class="hit"><rect class="zone" x="{left:.1f}" y="{_TOP}" width="{max(right - left, 0.5):.1f}" '
            f'height="{_HEIGHT - _TOP - _BOTTOM}"/><line class="cursor" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" '
            f'y2="{_HEIGHT - _BOTTOM}"/><text class="tip" y="{_TOP + 11}" text-anchor="{anchor}">{text}</text></g>'
        )
    return parts


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most 300 of the finite points, evenly, the first and the last among them."""
    finite = [(x, y) for x, y in points if math.isfinite(y)]
    if len(finite) <= _MOST_POINTS:
        return finite
    last = len(finite) - 1
    return [finite[round(place * last / (_MOST_POINTS - 1))] for place in range(_MOST_POINTS)]


def ticks(low: float, high: float, wanted: int) -> list[float]:
    """Round numbers at equal distances that cover [low, high], about ``wanted`` of them.

    >>> ticks(0.03, 1.9, 5)
    [0.0, 0.5, 1.0, 1.5, 2.0]
    """
    span = high - low
    if not span > 0 or not math.isfinite(span):
        span = abs(high) or 1.0
        high = low + span
    raw = span / max(wanted - 1, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [float(f"{place * step:.12g}") for place in range(first, last + 1)]


def short(value: float) -> str:
    """A number for an axis.

    >>> [short(v) for v in (0.0, 0.25, 1500.0, 20000.0, 3e6, 1e-7)]
    ['0', '0.25', '1,500', '20k', '3M', '1e-07']
    """
    if abs(value) >= 1e6 and value % 1e5 == 0:
        return f"{value / 1e6:g}M"
    if abs(value) >= 1e4 and value % 1e3 == 0:
        return f"{value / 1e3:g}k"
    return f"{value:,.0f}" if value == int(value) and abs(value) >= 1000 else f"{value:g}"
