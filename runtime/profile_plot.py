"""The plot of a profile: the roofline with a point per kernel, and the time of each."""

from __future__ import annotations

import io
from typing import Any

from .profile import FunctionTime, KernelTime, Profile

_NAMED = 7
"""Kernels with a name in the plot."""
_BARS = 16
_LEAST = 1e-4
"""Of the peak: kernels that are slower do next to nothing."""
_LETTERS = 30
_COLOURS = ("#2458a6", "#d1652a", "#3b8c4a", "#8a4f9e", "#b3261e", "#3a8fa8", "#a08a1e")
_OTHER = "#9a9a9a"


def drawn(name: str, profile: Profile, form: str, mark: str) -> bytes:
    """The plot of the function that took longest as an image: ``png``, ``svg`` or ``pdf``."""
    from matplotlib.figure import Figure

    function = profile.functions[0]
    ranked = sorted(function.kernels, key=lambda times: -times.seconds)
    figure: Any = Figure(figsize=(11, 5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    _roofline(left, ranked, profile)
    _bars(right, ranked, function)
    title = f"{name}, {function.name}: {function.seconds * 1e3:.3g} ms on {profile.roofline.threads} threads"
    figure.suptitle(f"{title}  ({mark})" if mark else title)
    buffer = io.BytesIO()
    # No date inside: the same numbers give the same file.
    figure.savefig(buffer, format=form, dpi=90, metadata={"Date": None} if form == "svg" else None)
    return buffer.getvalue()


def _colour(place: int) -> str:
    return _COLOURS[place] if place < _NAMED else _OTHER


def _label(times: KernelTime) -> str:
    """The kernel, and the user's line without the layer."""
    line, symbol = times.kernel.ops[times.kernel.main].at.partition(" ")[0], times.kernel.symbol
    name = symbol if len(symbol) <= _LETTERS else symbol[: _LETTERS - 1] + "…"
    return f"{name}  {line}" if line else name


def _roofline(axes: Any, ranked: list[KernelTime], profile: Profile) -> None:
    """Speed over intensity of the kernels with floating-point work, areas by time, below what the machine allows."""
    roofline = profile.roofline
    points = [(place, times) for place, times in enumerate(ranked) if times.intensity > 0]
    least = min((times.intensity for _, times in points), default=roofline.ridge)
    most = max((times.intensity for _, times in points), default=roofline.ridge)
    low, high = min(least, roofline.ridge) / 3, max(most, roofline.ridge) * 4
    corners = (low, roofline.ridge, high)
    axes.plot(corners, [roofline.limit(at) / 1e9 for at in corners], color="#222", linewidth=1.4)
    axes.annotate(
        f"{roofline.flops / 1e9:.0f} GFLOP/s", (high, roofline.flops / 1e9), ha="right", va="bottom", fontsize=8
    )
    axes.annotate(
        f"{roofline.bandwidth / 1e9:.0f} GB/s", (low, roofline.limit(low) / 1e9), va="top", fontsize=8,
        xytext=(6, -2), textcoords="offset points",
    )  # fmt: skip
    longest = max((times.seconds for _, times in points), default=1.0)
    for place, times in reversed(points):
        area = 12 + 260 * times.seconds / longest
        label = _label(times) if place < _NAMED else None
        speed = times.flops_per_second / 1e9
        axes.scatter(times.intensity, speed, s=area, color=_colour(place), alpha=0.75, linewidths=0, label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("flop per byte of inputs and outputs")
    axes.set_ylabel("GFLOP/s")
    axes.set_ylim(bottom=roofline.flops / 1e9 * _LEAST)
    axes.set_title("speed of each kernel, and the roofline", fontsize=9)
    axes.grid(alpha=0.3, which="both", linewidth=0.4)
    handles, labels = axes.get_legend_handles_labels()
    legend = axes.legend(handles[::-1], labels[::-1], fontsize=7, loc="lower right")
    for handle in legend.legend_handles if legend is not None else ():
        handle.set_sizes([30])


def _bars(axes: Any, ranked: list[KernelTime], function: FunctionTime) -> None:
    """The longest kernels, and all the others together."""
    shown = [(_label(times), times.seconds, _colour(place)) for place, times in enumerate(ranked[:_BARS])]
    if rest := ranked[_BARS:]:
        shown.append((f"{len(rest)} others", sum(times.seconds for times in rest), _OTHER))
    places = range(len(shown))
    axes.barh(places, [seconds * 1e6 for _, seconds, _ in shown], color=[colour for *_, colour in shown])
    axes.set_yticks(places, [label for label, *_ in shown], fontsize=7)
    axes.invert_yaxis()
    for place, (_, seconds, _) in enumerate(shown):
        text = f" {seconds * 1e6:.0f} µs, {100 * seconds / function.seconds:.0f} %"
        axes.annotate(text, (seconds * 1e6, place), va="center", fontsize=7)
    axes.set_xlim(0, 1.35e6 * shown[0][1])
    axes.set_xlabel("µs a call")
    axes.set_title(f"{len(ranked)} kernels take {function.in_kernels * 1e6:,.0f} µs", fontsize=9)
