"""``fluid.contrib``: what a program holds, counted from its records."""

from __future__ import annotations

from collections import Counter

from ..errors import invalid, wrong_type
from ..framework import Program
from ..vartype import VarType


def _check(layer: str, program: object) -> Program:
    if not isinstance(program, Program):
        raise wrong_type(f"{layer}: the program is {type(program).__name__}", "give a fluid.Program")
    return program


def memory_usage(program: Program, batch_size: int) -> tuple[float, float, str]:
    """Paddle's estimate of what the results of all ops take, 5 to 10 % added: ``(low, high, unit)``.

    A compiled step reuses memory and takes less.

    Raises:
        ProgramError: ``batch_size`` is not positive, or a variable has several open extents.
    """
    block = _check("memory_usage", program).global_block()
    if batch_size <= 0:
        raise invalid(f"memory_usage: batch_size is {batch_size}", "give a positive number")
    total = 0.0
    for name in dict.fromkeys(name for op in block.ops for name in op.output_arg_names):
        var = block.vars.get(name)
        if var is None or var.type is not VarType.LOD_TENSOR or not var.has_dtype:
            continue
        if sum(extent < 0 for extent in var.shape) > 1:
            raise invalid(f"memory_usage: {name} is {list(var.shape)}", "only the batch may be open")
        size = 1
        for extent in var.shape:
            size *= extent if extent >= 0 else -extent * batch_size
        total += size * var.dtype.numpy.itemsize
    unit = "B"
    for larger in ("KB", "MB"):
        if total > 1024:
            total, unit = total / 1024, larger
    return total * 1.05, total * 1.1, unit


def op_freq_statistic(program: Program) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """How often each op type occurs, and each pair ``producer->consumer``; the most frequent first."""
    block = _check("op_freq_statistic", program).global_block()
    params = {param.name for param in block.all_parameters()}
    ops = Counter(op.type for op in block.ops if any(name not in params for name in op.output_arg_names))
    pairs: Counter[str] = Counter()
    made: dict[str, str] = {}
    for op in block.ops:
        pairs.update(f"{made[name]}->{op.type}" for name in op.input_arg_names if name in made and name not in params)
        made.update(dict.fromkeys(op.output_arg_names, op.type))
    return ops.most_common(), pairs.most_common()
