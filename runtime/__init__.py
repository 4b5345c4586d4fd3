"""Run compiled programs: ``from fluidc.runtime import Session``.

Importing it loads nothing else; names come when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .artifact import Artifact
    from .errors import FluidcError, PrivacyWarning, SignatureError
    from .evaluate import Evaluation
    from .keeper import Checkpoints
    from .ledger import Spent
    from .progress import StepReport
    from .session import Session
    from .train import RunResult

__all__ = [
    "Artifact",
    "Checkpoints",
    "Evaluation",
    "FluidcError",
    "PrivacyWarning",
    "RunResult",
    "Session",
    "SignatureError",
    "Spent",
    "StepReport",
]

_HOMES = {
    "Artifact": "artifact",
    "Checkpoints": "keeper",
    "Evaluation": "evaluate",
    "FluidcError": "errors",
    "PrivacyWarning": "errors",
    "RunResult": "train",
    "Session": "session",
    "SignatureError": "errors",
    "Spent": "ledger",
    "StepReport": "progress",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
