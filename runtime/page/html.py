"""The page: what a run was, what it gave, and what that means, in one file."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError
from ..files import write_atomically
from ..observe import History, StepTimes
from ..profile import KernelTime, Profile
from ..progress import at_least
from ..report import NOT_PRIVATE, RunReport
from .charts import Mark, Series, bar_chart, curve_chart
from .graph import drawn
from .layers import LayerGraph
from .style import STYLE

_KERNELS = 15
_MOST_CURVES = 6
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""The page may load nothing and run nothing, whatever should come to stand in it."""


@dataclass(frozen=True)
class Section:
    """A table of what was fixed before the run."""

    title: str
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Details:
    """What the page shows beyond the report for a terminal; None and empty where it is not for the reader.

    Attributes:
        history: values of steps, for curves.
        times: how long steps took.
        profile: times of kernels.
        graph: of the step.
        parameters: (name, type, numbers) of what is trained.
        sections: what was fixed beforehand.
        warnings: that were given while it ran.
    """

    history: History | None = None
    times: StepTimes | None = None
    profile: Profile | None = None
    graph: LayerGraph | None = None
    parameters: tuple[tuple[str, str, int], ...] = ()
    sections: tuple[Section, ...] = ()
    warnings: tuple[str, ...] = ()


def write_page(path: Path, report: RunReport, details: Details) -> None:
    """Write the page, whole or not at all. Raises DataError."""
    try:
        write_atomically(path, page(report, details).encode("utf-8"))
    except OSError as error:
        raise DataError(
            f"the report cannot be written: {error.strerror}",
            str(path),
            "choose a folder that exists, is writable and has space",
        ) from None


def page(report: RunReport, details: Details) -> str:
    """The report as one HTML page."""
    title = html.escape(report.name)
    parts = [
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}: report of a run</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><style>{STYLE}</style></head><body>',
        f'<header><h1>{title}</h1><p class="lead">{_marked(report.headline)}</p></header><main>',
        *_verdict(report, details),
        *_cards(report),
        *_curves(report, details),
        *_model(details),
        *_kernels(details),
        *_constants(report, details),
        *_values(report),
        "</main><footer>Written by fluidc. This page loads nothing and runs no script.</footer>",
        "</body></html>\n",
    ]
    return "\n".join(parts)


def _verdict(report: RunReport, details: Details) -> Iterator[str]:
    if report.caution:
        yield f'<p class="notice" role="note">{html.escape(report.caution)}</p>'
    if report.privacy:
        yield f'<p class="verdict">{html.escape(report.privacy)}</p>'
    for text in details.warnings:
        yield f'<p class="notice" role="note">{html.escape(text)}</p>'
    if report.remarks:
        yield f"<ul>{''.join(f'<li>{html.escape(remark)}</li>' for remark in report.remarks)}</ul>"


def _cards(report: RunReport) -> Iterator[str]:
    """The numbers that a reader looks for first."""
    cards: list[tuple[str, str, str]] = []
    if report.spent is not None:
        cards.append((f"ε {at_least(report.spent[1])}", f"so far, after {report.spent[0]} {report.unit}s", ""))
    if report.curve:
        cards.append((f"ε {at_least(report.curve[-1][1])}", "the whole budget: the guarantee", ""))
    cards += [
        (value, f"evaluation, {name.strip()}" if name.startswith(" ") else name, mark)
        for name, value, mark in report.values
        if not name.startswith("evaluation on")
    ]
    if not cards:
        return
    yield '<div class="cards">'
    for value, name, mark in cards[:8]:
        yield f'<div class="card"><b>{html.escape(value)}</b><span>{html.escape(name)}</span> {_mark(mark)}</div>'
    yield "</div>"


def _curves(report: RunReport, details: Details) -> Iterator[str]:
    charts = [*_value_charts(details), _epsilon_chart(report), _time_chart(details, bool(report.privacy))]
    charts = [chart for chart in charts if chart]
    if charts:
        yield '<section><h2>Curves</h2><div class="charts">'
        yield from charts
        yield "</div>"
        yield from _as_table(details)
        yield "</section>"


def _value_charts(details: Details) -> Iterator[str]:
    history = details.history
    if history is None or not history.points:
        return
    names = list(dict.fromkeys(name for point in history.points for name in point.values))
    for name in names[:_MOST_CURVES]:
        points = [(float(point.step), point.values[name]) for point in history.points if name in point.values]
        mark = f" ({NOT_PRIVATE})" if name in history.not_private else ""
        yield curve_chart(f"{name}{mark}", [Series(name, points)], "step")


def _epsilon_chart(report: RunReport) -> str:
    if not report.curve:
        return ""
    points = [(0.0, 0.0), *((float(count), epsilon) for count, epsilon in report.curve)]
    mark = None
    if report.spent is not None:
        mark = Mark(float(min(report.spent[0], report.curve[-1][0])), report.spent[1], "so far")
    return curve_chart(
        f"ε against {report.unit}s counted",
        [Series("ε at most", points)],
        report.unit,
        spell=lambda value: f"ε {at_least(value)}",
        mark=mark,
        from_zero=True,
    )


def _time_chart(details: Details, private: bool) -> str:
    times = details.times
    if times is None or not times.steps:
        return ""
    bars: list[tuple[str, str, int]] = []
    for place, (low, high, count) in enumerate(times.bars()):
        tip = f"{seconds(low)} to {seconds(high)}: {count} step{'s' if count != 1 else ''}"
        bars.append((seconds(low) if place % 2 == 0 else "", tip, count))
    mark = f" ({NOT_PRIVATE})" if private else ""
    mean = seconds(times.total / times.steps)
    return bar_chart(f"Time from step to step, {mean} on average{mark}", bars, "time", "steps")


def _as_table(details: Details) -> Iterator[str]:
    """The curves once more as numbers: for those who cannot see them, and for copying."""
    history = details.history
    if history is None or not history.points:
        return
    names = list(dict.fromkeys(name for point in history.points for name in point.values))
    every = max(1, len(history.points) // 50)
    chosen = [point for place, point in enumerate(history.points) if place % every == 0 or point is history.points[-1]]
    has_epsilon = any(point.epsilon is not None for point in chosen)
    head = ["step", *(f"{n} ({NOT_PRIVATE})" if n in history.not_private else n for n in names)]
    rows = [
        [
            str(point.step),
            *(f"{point.values[name]:.6g}" if name in point.values else "" for name in names),
            *([] if not has_epsilon else ["" if point.epsilon is None else at_least(point.epsilon)]),
        ]
        for point in chosen
    ]
    yield "<details><summary>The curves as numbers</summary>"
    yield _table([*head, *(["ε so far"] if has_epsilon else [])], rows, numbers=True)
    yield "</details>"


def _model(details: Details) -> Iterator[str]:
    picture = "" if details.graph is None else drawn(details.graph)
    if not picture and not details.parameters:
        return
    yield "<section><h2>Model</h2>"
    if picture:
        yield (
            '<p class="lead">What one training step computes, from the feeds down. Pointing at a box tells its line in '
            "the script, its ops and the parameters it reads.</p>"
        )
        yield f'<div class="scroll" tabindex="0" role="region" aria-label="graph of the step">{picture}</div>'
    if details.parameters:
        total = sum(count for *_, count in details.parameters)
        yield f"<details><summary>{total:,} trainable numbers in {len(details.parameters)} parameters</summary>"
        rows = [[name, type_, f"{count:,}"] for name, type_, count in details.parameters]
        yield _table(["parameter", "type", "numbers"], rows, numbers=True)
        yield "</details>"
    yield "</section>"


def _kernels(details: Details) -> Iterator[str]:
    profile = details.profile
    if profile is None or not profile.functions:
        return
    function = profile.functions[0]
    ranked = sorted(function.kernels, key=lambda each: -each.seconds)
    whole = function.in_kernels or 1.0
    most = (ranked[0].seconds if ranked else 0.0) or 1.0
    rows: list[str] = []
    for each in ranked[:_KERNELS]:
        share = each.seconds / whole
        rows.append(
            f"<tr><td>{_spelled(each)}</td>"
            f'<td class="number">{seconds(each.seconds)}</td><td class="number">{100 * share:.1f} %</td>'
            f'<td class="share"><div class="part" style="width:{100 * each.seconds / most:.1f}%"></div></td></tr>'
        )
    rest = sum(each.seconds for each in ranked[_KERNELS:])
    if rest:
        rows.append(
            f'<tr><td>{len(ranked) - _KERNELS} more</td><td class="number">{seconds(rest)}</td>'
            f'<td class="number">{100 * rest / whole:.1f} %</td><td></td></tr>'
        )
    threads = profile.roofline.threads
    yield "<section><h2>Kernels</h2>"
    yield (
        f'<p class="lead">{html.escape(function.name)} takes {seconds(function.seconds)} on {threads} '
        f"thread{'s' if threads != 1 else ''}.</p>"
    )
    yield (
        '<div class="wide"><table><thead><tr><th>kernel</th><th class="number">time</th><th class="number">share</th>'
        f"<th></th></tr></thead><tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _spelled(times: KernelTime) -> str:
    """What a kernel computes, and where that stands in the script."""
    main, others = times.kernel.ops[times.kernel.main], len(times.kernel.ops) - 1
    more = f" and {others} more" if others else ""
    at = f" <code>{html.escape(main.at)}</code>" if main.at else ""
    return f"{html.escape(main.op)}{more}{at}"


def _constants(report: RunReport, details: Details) -> Iterator[str]:
    sections = [*details.sections]
    if report.constants:
        sections.append(Section("Privacy" if report.privacy else "Program", report.constants))
    if not sections:
        return
    yield '<section><h2>Configuration</h2><div class="columns">'
    for section in sections:
        yield f"<section><h3>{html.escape(section.title)}</h3>"
        yield _table([], [list(row) for row in section.rows]).replace("<table>", '<table class="facts">', 1)
        yield "</section>"
    yield "</div></section>"


def _values(report: RunReport) -> Iterator[str]:
    if not report.values:
        return
    yield "<section><h2>Results</h2>"
    rows = "".join(
        f'<tr><td>{html.escape(name.strip())}</td><td class="number">{html.escape(value)}</td>'
        f"<td>{_mark(mark)}</td></tr>\n"
        for name, value, mark in report.values
    )
    yield (
        '<div class="wide"><table><thead><tr><th>from the data</th><th class="number">value</th><th></th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div></section>"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = False) -> str:
    """A table; with ``numbers`` all columns but the first are set as such."""

    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(
            f'<{tag} class="number">{html.escape(cell)}</{tag}>'
            if numbers and place
            else f"<{tag}>{html.escape(cell)}</{tag}>"
            for place, cell in enumerate(row)
        )

    titles = f"<thead><tr>{cells(head, 'th')}</tr></thead>" if head else ""
    body = "".join(f"<tr>{cells(row, 'td')}</tr>\n" for row in rows)
    return f'<div class="wide"><table>{titles}<tbody>{body}</tbody></table></div>'


def _mark(text: str) -> str:
    return f'<span class="mark">{html.escape(text)}</span>' if text else ""


def _marked(text: str) -> str:
    """A line with the mark in it, if there is one, set apart."""
    before, found, after = html.escape(text).partition(NOT_PRIVATE)
    return f'{before}<span class="mark">{found}</span>{after}' if found else before


def seconds(value: float) -> str:
    """A time with its unit.

    >>> [seconds(v) for v in (0.0, 2.5e-6, 0.00123, 0.25, 12.0)]
    ['0', '2.5 µs', '1.23 ms', '250 ms', '12 s']
    """
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e-6:.3g} µs" if value else "0"
