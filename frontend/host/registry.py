"""Every op type that can run on the host, with its function."""

from __future__ import annotations

from . import arrays, average_precision, beam, detection, evaluation, python, select, sequence
from .call import HostRules

_FAMILIES: tuple[HostRules, ...] = (
    arrays.RULES,
    average_precision.RULES,
    beam.RULES,
    detection.RULES,
    evaluation.RULES,
    python.RULES,
    select.RULES,
    sequence.RULES,
)
RULES: HostRules = {name: rule for family in _FAMILIES for name, rule in family.items()}
