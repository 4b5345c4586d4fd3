"""The second checker of privacy: it reads an artifact's IR text by itself and derives the guarantee's premises again.

Nothing of the compiler is imported, and no rule is shared with it: a mistake would have to be made twice.
"""

from .check import verify
from .report import Check, Contradiction, Report

__all__ = ["Check", "Contradiction", "Report", "verify"]
