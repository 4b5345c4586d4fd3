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


def _py_func_grad(o: HostCall) -> None:
    """Call a backward function: with what the function was given and returned, and the gradients of that."""
    skipped, known = set(o.attr("backward_skip_vars", [])), o.attr("known")
    given, results = o.op.input("X"), o.op.input("Out")
    values = dict(zip((*given, *results), (*o.xs("X"), *o.xs("Out"))))
    gradients = dict(zip(known, o.xs("OutGrad")))
    passed: list[Value | None] = [values[name] for name in (*given, *results) if name not in skipped]
    passed += [gradients.get(name, Value(np.zeros_like(values[name].array), values[name].lod)) for name in results]
    found = called(o.attr("backward_callable_id"), passed)
    if len(found) < len(given):
        raise o.error(
            f"backward_func returned {len(found)} values, the op has {len(given)} inputs ({', '.join(given)})",
            "return one gradient for each Variable in x, None where there is none",
        )
    for name, out, value in zip(given, o.op.output("XGrad"), found):
        like = values[name]
        if value is not None and value.array.size != like.array.size:
            raise o.error(
                f"backward_func returned {list(value.array.shape)} for {name} {list(like.array.shape)}",
                "a gradient has the shape of its variable",
            )
        array = np.zeros_like(like.array) if value is None else value.array.reshape(like.array.shape)
        o.values.write(out, Value(array.astype(like.array.dtype), like.lod))


RULES: HostRules = {"py_func": _py_func, "py_func_grad": _py_func_grad}
