"""Mutants of op rules that compute the same as the original, each with the reason."""

from __future__ import annotations

EQUIVALENT: dict[str, str] = {}
