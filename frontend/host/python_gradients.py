"""Gradients through ``py_func``: a backward pass in parts, with the script's own backward functions between them.

A backward record whose gradients pass functions becomes several: one from the targets to what the functions returned
and to everything behind them, then for each function, the last first, a call of its backward function and a record
from what it was given, which starts from that call's results. Contributions to one gradient are added up.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..framework import Block, Operator, Program
from ..op_role import OpRole
from ..reach import ancestors, before, descendants, gradient_path
from ..variable import GRAD_SUFFIX


def has_backward(op: Operator) -> bool:
    """Whether an op is a function with a backward function."""
    return op.type == "py_func" and op.attrs.get("backward_callable_id", -1) >= 0


def path_of(program: Program, record: Operator) -> set[str]:
    """`gradient_path` that does not look through functions with backward functions."""
    ops = [op for op in before(program, record) if not has_backward(op)]
    blocked, sources = _blocked(program, record)
    on_way = ancestors(program, ops, set(record.input("Targets")))
    return on_way & descendants(program, ops, sources - blocked, blocked)


def _blocked(program: Program, record: Operator) -> tuple[set[str], set[str]]:
    """Names that stop gradients, and those where they may end."""
    blocked = set(record.attr("no_grad_set"))
    sources = set(record.input("Wrt"))
    for var in program.global_block().vars.values():
        if var.stop_gradient:
            blocked.add(var.name)
        elif var.is_data or var.persistable:
            sources.add(var.name)
    return blocked, sources


def split_backwards(program: Program) -> Program:
    """The program itself, or a copy whose backward records do not pass functions."""
    passed = {
        at: functions
        for at, op in enumerate(program.global_block().ops)
        if op.type == "backward" and op.attr("privacy") is None and (functions := _passed(program, op))
    }
    if not passed:
        return program
    copied = program.clone()
    block = copied.global_block()
    ops: list[Operator] = []
    for at, op in enumerate(list(block.ops)):
        if at not in passed:
            ops.append(op)
            continue
        ops += _Split(copied, op, [block.ops[i] for i in passed[at]]).ops
    block.ops[:] = ops
    return copied


def _passed(program: Program, record: Operator) -> list[int]:
    """Where the functions are that a record's gradients pass."""
    path = gradient_path(program, record)
    return [
        at
        for at, op in enumerate(before(program, record))
        if has_backward(op) and path.intersection(op.output_arg_names) and path.intersection(op.input_arg_names)
    ]


class _Split:
    """One backward record taken apart; ``ops`` stand in its place."""

    def __init__(self, program: Program, record: Operator, functions: Sequence[Operator]) -> None:
        self._program = program
        self._record = record
        self._block: Block = program.global_block()
        self._before = [op for op in before(program, record) if not has_backward(op)]
        self._wanted = list(dict.fromkeys([*record.input("Wrt"), *(n for f in functions for n in f.output("Out"))]))
        self._parts: dict[str, list[str]] = {name: [] for name in self._wanted}
        self._count = 0
        self.ops: list[Operator] = []
        self._back(record.input("Targets"), record.input("TargetGradients"))
        for function in reversed(functions):
            self._through(function)
        for name, gradient in zip(record.input("Wrt"), record.output("Grads")):
            self._sum(name, gradient)

    def _gradient(self, name: str) -> str:
        """A new variable for a contribution to the gradient of a name."""
        self._count += 1
        like = self._block.var(name)
        made = f"{name}{GRAD_SUFFIX}@{self._record.input('Targets')[0]}@{self._count}"
        self._block.create_var(name=made, shape=like.shape, dtype=like.dtype, lod_level=like.lod_level)
        return made

    def _add(
        self, kind: str, inputs: dict[str, list[str]], outputs: dict[str, list[str]], attrs: dict[str, object]
    ) -> None:
        self.ops.append(Operator(self._block, kind, inputs, outputs, attrs, self._record.loc, OpRole.BACKWARD))

    def _back(self, targets: Sequence[str], starts: Sequence[str]) -> None:
        """A record from some names to everything that has a gradient, as far as functions do not lie between."""
        blocked, _ = _blocked(self._program, self._record)
        reached = [
            name
            for name in self._wanted
            if name not in targets and set(targets) & descendants(self._program, self._before, {name}, blocked - {name})
        ]
        if not reached:
            return
        gradients = [self._gradient(name) for name in reached]
        for name, gradient in zip(reached, gradients):
            self._parts[name].append(gradient)
        parameters = [name for name in self._record.attr("parameters") if name in reached]
        self._add(
            "backward",
            {"Targets": list(targets), "TargetGradients": list(starts), "Wrt": reached},
            {"Grads": gradients},
            {**self._record.attrs, "parameters": parameters},
        )

    def _sum(self, name: str, into: str) -> None:
        """Add up the contributions to a gradient."""
        parts = self._parts[name]
        if parts:
            self._add("sum", {"X": parts}, {"Out": [into]}, {})
        else:
            self._add("fill_zeros_like", {"X": [name]}, {"Out": [into]}, {})

    def _through(self, function: Operator) -> None:
        """A call of the backward function, and a record from what the function was given."""
        known = [name for name in function.output("Out") if self._parts[name]]
        if not known:
            return
        gradients = [self._gradient(name) for name in known]
        for name, gradient in zip(known, gradients):
            self._sum(name, gradient)
        given = function.input("X")
        results = [self._gradient(name) for name in given]
        self.ops.append(
            Operator(
                self._block,
                "py_func_grad",
                {"X": list(given), "Out": list(function.output("Out")), "OutGrad": gradients},
                {"XGrad": results},
                {**function.attrs, "known": known},
                function.loc,
                OpRole.BACKWARD,
            )
        )
        for name, result in zip(given, results):
            if name in self._parts:
                self._parts[name].append(result)
        floats = [
            (name, result)
            for name, result in zip(given, results)
            if self._block.var(name).dtype.is_float and not self._block.var(name).stop_gradient
        ]
        if floats:
            self._back([name for name, _ in floats], [result for _, result in floats])
