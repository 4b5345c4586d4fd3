"""Which programs an optimizer was put into, in order, and where their state is initialised."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from .framework import Program

_startups: WeakKeyDictionary[Program, Program] = WeakKeyDictionary()


def note(program: Program, startup: Program) -> None:
    """An optimizer was put into ``program`` just now; ``startup`` initialises its state."""
    _startups.pop(program, None)
    _startups[program] = startup


def last(since: Program) -> Program | None:
    """The program that an optimizer was put into last, of those not older than ``since``; or None."""
    programs = [program for program in _startups if program.uid >= since.uid]
    return programs[-1] if programs else None


def startup_of(program: Program) -> Program | None:
    """The startup program that belongs to ``program``, or None if no optimizer was put into it."""
    return _startups.get(program)
