"""``fleet`` with servers: ``fluid.incubate.fleet.parameter_server``; its one trainer keeps the parameters itself."""

from __future__ import annotations

from .trainer import Fleet


class DistributedTranspiler(Fleet):
    """The one trainer of a job whose servers are not needed."""


fleet = DistributedTranspiler()

__all__ = ["DistributedTranspiler", "fleet"]
