"""Python inside a program: functions of the script, and printing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..errors import invalid, wrong_type
from ..host import functions
from ..layer_helper import LayerHelper
from ..variable import Variable
from ..vartype import VarType

Variables = Variable | Sequence[Variable] | None
_PHASES = ("forward", "backward", "both")


def _listed(argument: str, given: Variables) -> list[Variable]:
    found = [given] if isinstance(given, Variable) else list(given or ())
    for item in found:
        if not isinstance(item, Variable):
            raise wrong_type(f"py_func: {argument} holds {type(item).__name__}", "give Variables")
    return found


def py_func(
    func: Callable[..., Any],
    x: Variables,
    out: Variables,
    backward_func: Callable[..., Any] | None = None,
    skip_vars_in_backward_input: Variables = None,
) -> Variables:
    """Call a Python function on the values of ``x`` whenever the program runs.

    Args:
        func: Gets one LoDTensor per Variable in ``x`` (``numpy.array(t)`` makes an array of it) and returns an array or
            LoDTensor per Variable in ``out``; None for one without a value.
        x: What it is given.
        out: Variables for its results, made with ``create_var``, whose shape and element type say what it returns.
        backward_func: Gets ``x``, ``out`` and the gradients of ``out``; returns those of ``x``.
        skip_vars_in_backward_input: Those of ``x`` and ``out`` that it is not given.

    Returns:
        ``out``.
    """
    if not callable(func) or not (backward_func is None or callable(backward_func)):
        raise wrong_type("py_func: func and backward_func must be functions", "give a function of LoDTensors")
    helper = LayerHelper("py_func")
    given, results = _listed("x", x), _listed("out", out)
    for var in results:
        if not var.shape:
            raise invalid(f"py_func: {var.name} has no shape", "give create_var the shape that the function returns")
    skipped: list[str] = []
    if backward_func is not None:
        known = {var.name for var in (*given, *results)}
        skipped = [var.name for var in _listed("skip_vars_in_backward_input", skip_vars_in_backward_input)]
        for name in skipped:
            if name not in known:
                raise invalid(f"py_func: {name} is to be skipped, and is in neither x nor out", "leave it out")
    helper.op(
        "py_func",
        {"X": given},
        {"Out": results},
        {
            "forward_callable_id": functions.register(func),
            "backward_callable_id": -1 if backward_func is None else functions.register(backward_func),
            "backward_skip_vars": skipped,
        },
    )
    return out


def Print(
    input: Variable,
    first_n: int = -1,
    message: str | None = None,
    summarize: int = 20,
    print_tensor_name: bool = True,
    print_tensor_type: bool = True,
    print_tensor_shape: bool = True,
    print_tensor_lod: bool = True,
    print_phase: str = "both",
) -> Variable:
    """The same value; it is printed in every step, and its gradient.

    Args:
        input: What is printed.
        first_n: How often a run prints it at most; -1 for every time.
        message: Printed before it.
        summarize: How many elements are printed; -1 for all.
        print_tensor_name, print_tensor_type, print_tensor_shape, print_tensor_lod: What is printed with it.
        print_phase: ``forward`` prints the value, ``backward`` the gradient where there is one, ``both`` both.
    """
    helper = LayerHelper(f"print_{getattr(input, 'name', '')}")
    helper.check_dtype("input", input, (VarType.FP32, VarType.FP64, VarType.INT32, VarType.INT64, VarType.BOOL))
    if str(print_phase).lower() not in _PHASES:
        raise invalid(f"Print: print_phase is {print_phase!r}", f"use one of {', '.join(_PHASES)}")
    out = helper.temporary(input.dtype, input.shape, lod_level=input.lod_level)
    attrs = {
        "first_n": first_n,
        "summarize": summarize,
        "message": message or "",
        "print_tensor_name": print_tensor_name,
        "print_tensor_type": print_tensor_type,
        "print_tensor_shape": print_tensor_shape,
        "print_tensor_lod": print_tensor_lod,
        "print_phase": str(print_phase).upper(),
    }
    helper.op("print", {"In": [input]}, {"Out": [out]}, attrs)
    return out
