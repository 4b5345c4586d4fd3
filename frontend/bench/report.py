"""What was measured, as JSON, as a table for a terminal, and as a bar chart."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...runtime.errors import FluidcError
from .compare import PLAIN, Comparison, Contestant
from .machine import Machine

if TYPE_CHECKING:
    from rich.table import Table

_PLOTS = (".png", ".svg", ".pdf")


@dataclass
class Report:
    """The comparisons of one run by model, and the machine."""

    models: dict[str, Comparison]
    machine: Machine

    def to_json(self) -> str:
        """The text that `read` takes."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Report:
        """What `to_json` wrote; raises KeyError or TypeError for other JSON."""
        found: dict[str, Any] = json.loads(text)
        models = {
            name: Comparison(
                **model | {"contestants": {label: Contestant(**c) for label, c in model["contestants"].items()}}
            )
            for name, model in found["models"].items()
        }
        return cls(models, Machine(**found["machine"]))


def table(report: Report) -> Table:
    """One line per model and contestant."""
    from rich.table import Table

    noisy = "; NOISY: other work was running" if report.machine.noisy else ""
    shown = Table(
        title=f"{report.machine.cpu}, {report.machine.threads} threads, load {report.machine.load:g}{noisy}",
        title_justify="left",
    )
    for heading in ("model", "step"):
        shown.add_column(heading)
    for heading in ("ms (median)", "best", "over fluidc", "GFLOP/s", "MB", "compiled in"):
        shown.add_column(heading, justify="right")
    for name, model in report.models.items():
        for place, (label, found) in enumerate(model.contestants.items()):
            shown.add_row(
                f"{name}, {model.batch} rows" if not place else "",
                label,
                f"{1e3 * found.median:.3f}",
                f"{1e3 * found.best:.3f}",
                _ratio(model, found),
                "" if found.flops is None else f"{found.flops / found.median / 1e9:.0f}",
                "" if found.megabytes is None else f"{found.megabytes:.1f}",
                "" if found.compile_seconds is None else f"{found.compile_seconds:.1f} s",
            )
        shown.add_section()
    return shown


def missing(report: Report) -> list[str]:
    """A line per contestant that could not be had."""
    return [f"{name}: no {label}: {why}" for name, m in report.models.items() for label, why in m.missing.items()]


def _ratio(model: Comparison, found: Contestant) -> str:
    """Time over that of fluidc's plain step."""
    own = model.contestants.get(PLAIN)
    return "" if own is None or own is found else f"{found.median / own.median:.2f} x"


def check_plot(path: Path) -> None:
    """Refuse, before anything is measured, what `draw` could not write.  Raises FluidcError."""
    if path.suffix.lower() not in _PLOTS:
        raise FluidcError(
            f"a plot is not written as {path.suffix or 'a file without ending'}",
            where=str(path),
            hint=f"name a file that ends in one of {', '.join(_PLOTS)}",
        )
    if find_spec("matplotlib") is None:
        raise FluidcError("matplotlib is not installed", where="Python environment", hint="pip install matplotlib")


def draw(report: Report, path: Path) -> None:
    """Bars of the times over fluidc's plain step, one group per model, on a logarithmic axis.

    Args:
        report: What was measured.
        path: A file that `check_plot` takes.

    Raises:
        FluidcError: The file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.8 + 1.7 * len(report.models), 4.5), layout="constrained")
    axes = figure.subplots()
    labels = list(dict.fromkeys(label for model in report.models.values() for label in model.contestants))
    width = 0.85 / max(1, len(labels))
    for number, label in enumerate(labels):
        heights = list(_heights(report.models, label))
        places = [place + (number - (len(labels) - 1) / 2) * width for place in range(len(heights))]
        private = any(m.contestants[label].private for m in report.models.values() if label in m.contestants)
        bars = axes.bar(places, heights, width, label=label, hatch="///" if private else None, edgecolor="white")
        axes.bar_label(bars, [f"{h:.2g}" if h else "" for h in heights], fontsize=6)
    axes.axhline(1.0, color="black", linewidth=0.8)
    axes.set_yscale("log")
    axes.set_xticks(range(len(report.models)), [f"{name}\n{m.batch} rows" for name, m in report.models.items()])
    axes.set_ylabel("time of a step over fluidc's plain one")
    axes.set_title(f"{report.machine.cpu}, {report.machine.threads} threads; hatched: private", fontsize=10)
    axes.legend(fontsize=7, ncols=2)
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise FluidcError(
            f"the plot cannot be written: {error.strerror}",
            where=str(path),
            hint="choose a folder that exists, is writable and has space",
        ) from None


def _heights(models: Mapping[str, Comparison], label: str) -> Iterable[float]:
    """Times of a contestant over the base of each model: fluidc's plain step, else its first contestant; 0 without."""
    for model in models.values():
        base = model.contestants.get(PLAIN) or next(iter(model.contestants.values()), None)
        found = model.contestants.get(label)
        yield 0.0 if found is None or base is None else found.median / base.median
