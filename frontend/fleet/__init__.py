"""``fluid.incubate.fleet`` for one trainer: a script that could run on many machines runs on this one.

Two trainers or more, and servers, are refused where a script asks for them.
"""

from . import collective, parameter_server, role_maker

base = role_maker
"""``fleet.base``, where fluid keeps its role makers."""

__all__ = ["base", "collective", "parameter_server", "role_maker"]
