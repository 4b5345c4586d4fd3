"""What of a program runs in numpy on the host, between compiled segments: see docs/host.md.

`plan` says which ops these are and in which order everything runs; `Runner` runs it.
"""

from .call import Environment
from .plan import Plan, host_ops, plan
from .runner import Runner
from .segment import Fed, Segment, fed
from .values import Value

__all__ = ["Environment", "Fed", "Plan", "Runner", "Segment", "Value", "fed", "host_ops", "plan"]
