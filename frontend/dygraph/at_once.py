"""Ops of eager mode that run in numpy as soon as they are called: how long their results are only data says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..framework import Block, Operator
from ..host.call import Environment, HostCall
from ..host.printing import Printer
from ..host.registry import RULES
from ..host.values import Value
from ..op_role import OpRole
from ..scope import Scope
from ..source import SourceLocation
from .graph import Array

_TYPES = """
bipartite_match chunk_eval ctc_align edit_distance hash multiclass_nms target_assign unique
unique_with_counts where_index
"""
AT_ONCE = frozenset(_TYPES.split())

Named = Mapping[str, list[str]]


def run_at_once(
    block: Block,
    type: str,
    inputs: Named,
    outputs: Named,
    attrs: Mapping[str, Any],
    loc: SourceLocation,
    values: Mapping[str, Array],
) -> dict[str, Array]:
    """The results of an op by name, from the values of what it reads.

    Raises:
        ProgramError: Values that the op cannot take, at the user's line.
    """
    given = {name: Value(array) for name, array in values.items()}
    environment = Environment(block, Scope(), given)
    op = Operator(block, type, dict(inputs), dict(outputs), dict(attrs), loc, OpRole.FORWARD)
    if type == "print":
        Printer().call(HostCall(op, environment))
    else:
        RULES[type](HostCall(op, environment))
    made = ((name, environment.find(name)) for names in outputs.values() for name in names)
    return {name: value.array for name, value in made if isinstance(value, Value)}
