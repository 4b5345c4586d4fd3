"""``py_func``: functions of the script between the steps of its program."""

from __future__ import annotations

import numpy as np

from ..lod import LoDTensor
from .call import HostCall, HostRules
from .functions import registered
from .values import Value, lod_of


def called(number: int, given: list[Value | None]) -> list[Value | None]:
    """What a function returns for some tensors; None stands for no tensor."""
    found = registered(number)(*[None if value is None else value.tensor() for value in given])
    if found is None:
        return []
    return [_taken(item) for item in (found if isinstance(found, list | tuple) else [found])]


def _taken(item: object) -> Value | None:
    if item is None:
        return None
    if isinstance(item, LoDTensor):
        return Value(item.array.copy(), lod_of(item.lod()))
    return Value(np.array(item))


def _py_func(o: HostCall) -> None:
    found = called(o.attr("forward_callable_id"), list(o.xs("X")))
    names = o.op.output("Out")
    if len(found) < len(names):
        raise o.error(
            f"the function returned {len(found)} values, the op has {len(names)} results ({', '.join(names)})",
            "return one array for each Variable in out",
        )
    for name, value in zip(names, found):
        if value is not None:
            o.values.write(name, value)


RULES: HostRules = {"py_func": _py_func}
