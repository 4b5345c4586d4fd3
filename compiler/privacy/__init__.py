"""Differential-privacy accounting at compile time.

``resolve`` turns the arguments of ``Dpsgd`` into a ``PrivacyPlan``; its ``budget.table()`` goes into the
artifact. ``epsilon_report`` and ``compose`` serve ``fluidc privacy``.
"""

from .accounting import Run, compose, epsilon, rdp_epsilon
from .cache import Cache
from .mechanism import Adjacency, Mechanism, Sampler, inclusion_threshold
from .phases import PhasePlan, PhaseRequest
from .plan import FLOAT32_SLACK, Budget, PrivacyPlan, resolve
from .report import EpsilonReport, epsilon_report
from .table import EpsilonTable

__all__ = [
    "FLOAT32_SLACK",
    "Adjacency",
    "Budget",
    "Cache",
    "EpsilonReport",
    "EpsilonTable",
    "Mechanism",
    "PhasePlan",
    "PhaseRequest",
    "PrivacyPlan",
    "Run",
    "Sampler",
    "compose",
    "epsilon",
    "epsilon_report",
    "inclusion_threshold",
    "rdp_epsilon",
    "resolve",
]
