"""One of several functions, by the first condition that holds or by a number: nested `cond`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import invalid
from ..layer_helper import LayerHelper
from ..variable import Variable
from ..vartype import VarType
from .compare import equal
from .control_flow import cond
from .tensor import cast, fill_constant

Branch = Callable[[], Any]


def case(
    pred_fn_pairs: Sequence[tuple[Variable, Branch]], default: Branch | None = None, name: str | None = None
) -> Any:
    """The result of the function beside the first condition that is true, else of ``default``.

    Without a default the last function is taken where no condition before it is true. All return Variables of the same
    number, shapes and types.
    """
    del name
    pairs = list(pred_fn_pairs)
    if not pairs or any(not isinstance(pair, tuple) or len(pair) != 2 or not callable(pair[1]) for pair in pairs):
        raise invalid(
            "case: pred_fn_pairs is no list of (condition, function)", "give pairs such as (x < y, lambda: x)"
        )
    if default is None:
        *pairs, (_, default) = pairs
    chosen = default
    for condition, fn in reversed(pairs):
        chosen = _either(condition, fn, chosen)
    return chosen()


def _either(condition: Variable, fn: Branch, other: Branch) -> Branch:
    return lambda: cond(condition, fn, other)


def switch_case(
    branch_index: Variable,
    branch_fns: Mapping[int, Branch] | Sequence[Branch | tuple[int, Branch]],
    default: Branch | None = None,
    name: str | None = None,
) -> Any:
    """The result of the function that ``branch_index`` (an integer of shape [1]) names, else of ``default``.

    ``branch_fns``: functions by number, pairs of both, or functions that are counted from 0. Without a default the
    function of the largest number is taken for all others.
    """
    helper = LayerHelper("switch_case", name)
    helper.check_dtype("branch_index", branch_index, (VarType.INT64, VarType.INT32, VarType.UINT8))
    listed = list(branch_fns.items()) if isinstance(branch_fns, Mapping) else list(branch_fns)
    found: dict[int, Branch] = {}
    for position, entry in enumerate(listed):
        number, fn = entry if isinstance(entry, tuple) else (position, entry)
        if not isinstance(number, int) or number in found or not callable(fn):
            raise invalid(
                f"switch_case: branch_fns has {number!r} twice, or no function for it",
                "give a dict of functions by number, or a list of functions",
            )
        found[number] = fn
    if not found:
        raise invalid("switch_case: branch_fns is empty", "give at least one function")
    branches = sorted(found.items())
    if default is None:
        *branches, (_, default) = branches
    index = branch_index if branch_index.dtype is VarType.INT64 else cast(branch_index, VarType.INT64)
    conditions = [equal(index, fill_constant([1], VarType.INT64, number)) for number, _ in branches]
    chosen = default
    for condition, (_, fn) in zip(conditions, branches):
        chosen = _either(condition, fn, chosen)
    return chosen()
