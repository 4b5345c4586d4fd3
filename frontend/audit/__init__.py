"""Auditing private artifacts: measuring the compiled code instead of trusting it (``fluidc audit``)."""

from .checks import FULL, QUICK, Check, Effort
from .run import AuditReport, Mutant, audit

__all__ = ["FULL", "QUICK", "AuditReport", "Check", "Effort", "Mutant", "audit"]
