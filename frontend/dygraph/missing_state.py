"""What `load_dygraph` did not find: it returns None for it, and whoever is handed the None can say why."""

from __future__ import annotations

_note = "there is no optimizer state"


def note_missing_optimizer_state(note: str) -> None:
    """Remember why the last `load_dygraph` gave None for the optimizer: ``no optimizer state in P; found Q.pdopt``."""
    global _note
    _note = note


def missing_optimizer_state() -> str:
    """Why the last `load_dygraph` gave None for the optimizer."""
    return _note
