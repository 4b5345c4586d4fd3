"""A profile to be read: lines for a terminal, JSON for tools, and a plot."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from .errors import DataError
from .fields import Json
from .files import write_atomically
from .kernels import KernelCall
from .profile import FunctionTime, KernelTime, Profile

_ROWS = 24
"""Kernels shown; the rest share a line."""

_HEAD = ("µs", "least", "% of call", "Mflop", "MB", "GFLOP/s", "GB/s", "roofline", "kernel", "op", "at")
_LEFT = ("kernel", "op", "at")
_SUFFIXES = (".png", ".svg", ".pdf", ".json")


def check_file(path: Path) -> None:
    """Refuse, before anything runs, a file that could not be written. Raises DataError."""
    if path.suffix.lower() not in _SUFFIXES:
        raise DataError(
            f"a profile is a plot or data, not {path.suffix or 'a file without suffix'}",
            f"--profile {path}",
            f"name a file that ends in one of {', '.join(_SUFFIXES)}",
        )
    if path.suffix.lower() != ".json" and find_spec("matplotlib") is None:
        raise DataError(
            "the plot of a profile needs matplotlib, which is not installed",
            f"--profile {path}",
            "pip install matplotlib, or name a file that ends in .json",
        )


@dataclass(frozen=True)
class ProfileReport:
    """A profile with what it is of.

    Attributes:
        name: of the artifact.
        profile: what was measured.
        mark: what is said of it, since times and numbers of calls follow the sizes of lots; or empty.
    """

    name: str
    profile: Profile
    mark: str = ""

    def lines(self) -> Iterator[str]:
        """The tables for a terminal."""
        roofline = self.profile.roofline
        mark = f"  ({self.mark})" if self.mark else ""
        threads = f"{roofline.threads} thread{'s' if roofline.threads > 1 else ''}"
        yield f"profile of {self.name} on {threads}{mark}"
        yield (
            f"machine: {roofline.flops / 1e9:.0f} GFLOP/s in multiply-adds of {roofline.lanes} lanes, "
            f"{roofline.bandwidth / 1e9:.1f} GB/s from memory, ridge at {roofline.ridge:.1f} flop/B"
        )
        for function in self.profile.functions:
            yield ""
            yield from _function(function, self.profile)
        yield ""
        yield f"every reading of a kernel holds {self.profile.reading * 1e6:.2f} µs of clock and call"
        yield (
            "roofline: share of what the machine allows for this work; 'cache': data came faster than memory gives it, "
            "with the share of the arithmetic peak; 'integer': most of the work is on integers"
        )

    def write(self, path: Path) -> None:
        """Write the plot, or the data as JSON, whole or not at all. Raises DataError."""
        if path.suffix.lower() == ".json":
            data = (json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n").encode("ascii")
        else:
            from .profile_plot import drawn  # matplotlib is an extra

            data = drawn(self.name, self.profile, path.suffix.lower()[1:], self.mark)
        try:
            write_atomically(path, data)
        except OSError as error:
            raise DataError(
                f"the profile cannot be written: {error.strerror}",
                str(path),
                "choose a folder that exists, is writable and has space",
            ) from None

    def to_json(self) -> Json:
        """All numbers."""
        profile = self.profile
        return {
            "artifact": self.name,
            "mark": self.mark,
            "roofline": profile.roofline.to_json(),
            "reading_seconds": profile.reading,
            "functions": [
                {
                    "name": function.name,
                    "calls": len(function.whole),
                    "seconds": function.seconds,
                    "seconds_in_kernels": function.in_kernels,
                    "seconds_unattributed": unattributed(function, profile),
                    "seconds_between": _mean(function.between),
                    "kernels": [_kernel(times, profile) for times in function.kernels],
                }
                for function in profile.functions
            ],
        }


def _kernel(times: KernelTime, profile: Profile) -> Json:
    kernel, calls = times.kernel, max(len(times.readings), 1)
    return {
        "symbol": kernel.symbol,
        "op": kernel.ops[kernel.main].op,
        "at": kernel.ops[kernel.main].at,
        "calls": len(times.readings),
        "seconds": times.seconds,
        "least_seconds": min(times.readings, default=0.0),
        "flops": times.flops / calls,
        "integer": times.integer / calls,
        "bytes": times.moved / calls,
        "roofline_share": times.share(profile.roofline),
    }


def unattributed(function: FunctionTime, profile: Profile) -> float:
    """Seconds of a call as a whole that its kernels, less the readings' own cost, do not account for."""
    return function.seconds - function.in_kernels + profile.reading * len(function.kernels)


def _mean(seconds: Sequence[float]) -> float:
    return sum(seconds) / len(seconds) if seconds else 0.0


def _function(function: FunctionTime, profile: Profile) -> Iterator[str]:
    calls = len(function.kernels[0].readings)
    yield f"{function.name}: {function.seconds * 1e6:,.1f} µs a call, mean of {len(function.whole)} calls"
    ranked = sorted(function.kernels, key=lambda times: -times.seconds)
    rows = [_row(times, function, profile) for times in ranked[:_ROWS]]
    if rest := ranked[_ROWS:]:
        seconds = sum(times.seconds for times in rest)
        share = f"{100 * seconds / function.seconds:.1f}"
        rows.append((f"{seconds * 1e6:.1f}", "", share, "", "", "", "", "", f"{len(rest)} others", "", ""))
    yield from _aligned(rows)
    flops = sum(times.flops for times in function.kernels) / calls
    left, between = unattributed(function, profile), _mean(function.between)
    yield (
        f"  {len(function.kernels)} kernels take {function.in_kernels * 1e6:,.1f} µs, one by one in {calls} calls; "
        f"{left * 1e6:+.1f} µs of a call are not theirs (Python, virtual machine, and what one kernel leaves the next)"
    )
    yield (
        f"  {flops / function.seconds / 1e9:.1f} GFLOP/s over the call; {between * 1e6:.1f} µs between calls "
        "(batches, feeds, progress)"
    )


def _row(times: KernelTime, function: FunctionTime, profile: Profile) -> tuple[str, ...]:
    calls, main = len(times.readings), times.kernel.ops[times.kernel.main]
    return (
        f"{times.seconds * 1e6:.1f}",
        f"{min(times.readings) * 1e6:.1f}",
        f"{100 * times.seconds / function.seconds:.1f}",
        _three(times.flops / calls / 1e6),
        _three(times.moved / calls / 1e6),
        _three(times.flops_per_second / 1e9),
        _three(times.bytes_per_second / 1e9),
        share(times, profile),
        times.kernel.symbol,
        _ops(times.kernel),
        main.at,
    )


def share(times: KernelTime, profile: Profile) -> str:
    """The share of the roofline in words."""
    found = times.share(profile.roofline)
    if found is not None:
        return f"{100 * found:.0f} %"
    if times.integer > times.flops:
        return "integer"
    peak = 100 * times.flops_per_second / profile.roofline.flops
    return f"cache {peak:.0f} %" if peak >= 0.5 else "cache"


def _ops(kernel: KernelCall) -> str:
    main, others = kernel.ops[kernel.main], len(kernel.ops) - 1
    return f"{main.op} +{others}" if others else main.op


def _three(value: float) -> str:
    """Three digits without exponents; a dash for nothing."""
    if not value:
        return "-"
    return f"{value:.0f}" if value >= 99.95 else f"{value:.3g}" if value >= 0.001 else "<0.001"


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(_HEAD, *rows)]
    for row in (_HEAD, *rows):
        cells = (
            cell.ljust(width) if name in _LEFT else cell.rjust(width)
            for name, cell, width in zip(_HEAD, row, widths, strict=True)
        )
        yield f"  {'  '.join(cells)}".rstrip()
