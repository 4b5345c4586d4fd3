from __future__ import annotations

import io

import numpy as np
import pytest

from fluidc.runtime.ledger import Spent
from fluidc.runtime.progress import Bar, Lines, Silent, StepReport, at_least, display, epsilon_text, text_of


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


SPENT = Spent(steps=40, epochs=1, delta=1e-5, budget=8.0, so_far=3.14159, reason="", taints=())


def report(step: int = 40, spent: Spent | None = SPENT) -> StepReport:
    fetches = {
        "loss": np.array([0.51234567], np.float32),
        "out": np.zeros((7, 2), np.float32),
        "right": np.array(5),
        "w": np.array(2.0),
    }
    return StepReport(step, 100, 7, fetches, frozenset({"loss"}), 12345.6, spent)


def test_a_report_names_values_speed_and_both_epsilons_rounded_up() -> None:
    expected = "w 2  [NOT PRIVATE: loss 0.5123, 12,346 examples/s]  ε 3.142 so far, budget 8 (δ=1e-05)"
    assert text_of(report()) == expected
    assert text_of(report(spent=None)).endswith("examples/s]")


def test_no_epsilon_is_shown_where_there_is_none_and_taints_are() -> None:
    unknown = Spent(3, 0, None, None, None, "unknown: dataset_size not stated", ())
    assert epsilon_text(unknown) == "ε unknown: dataset_size not stated"
    tainted = Spent(3, 0, 1e-5, 8.0, 1.0, "", ("early stopping",))
    assert "not covering: early stopping" in epsilon_text(tainted)


@pytest.mark.parametrize("value", [1e-9, 0.12341, 0.99999, 1.0, 5.28301, 9.9999, 99.994, 1234.56])
def test_an_epsilon_is_never_rounded_down(value: float) -> None:
    assert value <= float(at_least(value)) <= value * 1.0011


def test_lines_are_shown_when_they_are_due() -> None:
    stream = io.StringIO()
    lines = display(stream)
    assert isinstance(lines.shown, Lines)
    with lines:
        assert lines.due()
        lines.show(report(1))
        assert not lines.due()
        lines.show(report(100))
        lines.note("a note")
    assert [line.split("  ")[0] for line in stream.getvalue().splitlines()] == ["step 1/100", "step 100/100", "a note"]


class Hung(io.StringIO):
    """A terminal that was closed, or a pipe that nobody reads."""

    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")


@pytest.mark.parametrize("closed", [False, True])
def test_a_display_that_fails_is_given_up(closed: bool) -> None:
    stream = Hung()
    lines = display(stream)
    if closed:
        stream.close()
    with lines:
        assert lines.due()
        lines.note("a note")
        lines.show(report(1))
        assert not lines.due()
    assert isinstance(lines.shown, Silent)


def test_a_terminal_gets_a_bar() -> None:
    stream = Terminal()
    bar = display(stream)
    assert isinstance(bar.shown, Bar)
    with bar:
        bar.show(report(40))
        bar.note("[bold] is no markup")
        assert not bar.due()
    assert "40/100" in stream.getvalue()
    assert "[bold] is no markup" in stream.getvalue()


def test_a_terminal_without_rich_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rich.console", None)
    assert isinstance(display(Terminal()).shown, Lines)
