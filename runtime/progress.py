"""What a run shows while it trains: a bar on a terminal, lines of text elsewhere, or nothing."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TextIO

from .engine import Array
from .ledger import Spent

if TYPE_CHECKING:
    from rich.live import Live
    from rich.progress import Progress

_LINES_EVERY = 2.0
_LINES_EVERY_STEPS = 50
_BAR_EVERY = 0.1


@dataclass(frozen=True)
class StepReport:
    """One step, as callbacks and displays get it.

    Attributes:
        step: number of the step, from 1, over all resumptions.
        of: the last one planned.
        rows: examples of the batch; None where it is not for the reader.
        fetches: fetched values by name; for callbacks of a private run the public ones only.
        not_private: names in ``fetches`` that depend on single examples without noise.
        examples_per_second: since the run began; None where it is not for the reader.
        spent: what the privacy ledger says; None for ordinary programs and between two looks at the ledger.
    """

    step: int
    of: int
    rows: int | None
    fetches: Mapping[str, Array]
    not_private: frozenset[str]
    examples_per_second: float | None
    spent: Spent | None


class Display(Protocol):
    """Shows reports. Enter it before the first step, leave it after the last."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def due(self) -> bool:
        """Whether it is time to show another step."""
        ...

    def show(self, report: StepReport) -> None:
        """Show a step."""
        ...

    def note(self, text: str) -> None:
        """Show a line that stays."""
        ...


def text_of(report: StepReport) -> str:
    """``report`` without its step numbers: values, speed, and both epsilons; what is not private is marked so."""
    public: list[str] = []
    exposed: list[str] = []
    for name, value in report.fetches.items():
        if value.size == 1 and value.dtype.kind == "f":
            (exposed if name in report.not_private else public).append(f"{name} {float(value.reshape(())):.4g}")
    if report.examples_per_second is not None:
        # The speed in examples follows the sizes of the lots, which are a secret of a private run.
        private = bool(report.not_private) or report.spent is not None
        (exposed if private else public).append(f"{report.examples_per_second:,.0f} examples/s")
    if exposed:
        public.append(f"[NOT PRIVATE: {', '.join(exposed)}]")
    if report.spent is not None:
        public.append(epsilon_text(report.spent))
    return "  ".join(public)


def epsilon_text(spent: Spent) -> str:
    """Both epsilons of ``spent``, or why there are none."""
    if spent.so_far is None or spent.budget is None or spent.delta is None:
        return f"ε {spent.reason}"
    tainted = f", not covering: {'; '.join(spent.taints)}" if spent.taints else ""
    return f"ε {at_least(spent.so_far)} so far, budget {at_least(spent.budget)} (δ={spent.delta:g}{tainted})"


def at_least(value: float) -> str:
    """An epsilon with four digits, rounded up: what is shown must hold.

    >>> at_least(5.28301), at_least(5.283), at_least(0.0)
    ('5.284', '5.283', '0')
    """
    text = f"{value:.4g}"
    if float(text) < value:
        text = f"{value + 10.0 ** (math.floor(math.log10(value)) - 3) / 2:.4g}"
    return text


class Silent:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def due(self) -> bool:
        return False

    def show(self, report: StepReport) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class Lines(Silent):
    """A line of text every two seconds; ``untimed``, every fifty steps: the lines then say nothing of the speed."""

    def __init__(self, stream: TextIO, *, untimed: bool = False) -> None:
        self._stream = stream
        self._next = 0.0
        self._untimed = untimed
        self._asked = 0

    def due(self) -> bool:
        if self._untimed:
            self._asked += 1
            return self._asked % _LINES_EVERY_STEPS == 1
        return time.monotonic() >= self._next

    def show(self, report: StepReport) -> None:
        self._next = time.monotonic() + _LINES_EVERY
        print(f"step {report.step}/{report.of}  {text_of(report)}", file=self._stream, flush=True)

    def note(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


class Lasting:
    """Shows what another display does until that fails: a run outlives its terminal, and the reader of its pipe.

    Attributes:
        shown: the other display, or one that is silent after a failure.
    """

    def __init__(self, shown: Display) -> None:
        self.shown: Display = shown

    def __enter__(self) -> Self:
        self._try(lambda: self.shown.__enter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._try(lambda: self.shown.__exit__(kind, error, trace))

    def due(self) -> bool:
        return self.shown.due()

    def show(self, report: StepReport) -> None:
        self._try(lambda: self.shown.show(report))

    def note(self, text: str) -> None:
        self._try(lambda: self.shown.note(text))

    def _try(self, call: Callable[[], object]) -> None:
        try:
            call()
        except (OSError, ValueError):  # broken, hung up; or closed
            self.shown = Silent()


class Bar(Silent):
    """A bar drawn by rich, with the values on a line below it."""

    def __init__(self, live: Live, progress: Progress) -> None:
        self._live = live
        self._progress = progress
        self._task = progress.add_task("", total=None)
        self._next = 0.0

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def due(self) -> bool:
        return time.monotonic() >= self._next

    def show(self, report: StepReport) -> None:
        from rich.console import Group
        from rich.text import Text

        self._next = time.monotonic() + _BAR_EVERY
        self._progress.update(self._task, completed=report.step, total=report.of)
        self._live.update(Group(self._progress, Text(text_of(report))), refresh=True)

    def note(self, text: str) -> None:
        self._live.console.print(text, markup=False, highlight=False)


class Counted:
    """Tells how far a long piece of work is: nothing for two seconds, then a line every two.

    Args:
        note: shows a line.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._next = time.monotonic() + _LINES_EVERY

    def __call__(self, what: str, done: int, of: int) -> None:
        """``done`` of ``of`` parts are behind; 0 where nobody knows how many there are."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _LINES_EVERY
        self._note(f"{what}: {100 * done // of} %" if of else f"{what}: {done:,} rows")


def display(stream: TextIO | None = None, *, untimed: bool = False) -> Lasting:
    """A bar where ``stream`` (standard error by default) is a terminal and rich is installed, else lines.

    ``untimed`` shows no time and nothing that would tell one.
    """
    target: TextIO = sys.stderr if stream is None else stream
    return Lasting(_bar(target, untimed) or Lines(target, untimed=untimed))


def _bar(target: TextIO, untimed: bool) -> Bar | None:
    if not target.isatty():
        return None
    try:
        from rich.console import Console
        from rich.live import Live
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:  # rich is optional where artifacts are only run
        return None
    live = Live(console=Console(file=target), auto_refresh=False)
    timed = () if untimed else (TimeRemainingColumn(),)
    columns = (TextColumn("step"), MofNCompleteColumn(), BarColumn(), *timed)
    return Bar(live, Progress(*columns, console=live.console, auto_refresh=False))
