"""How a program with host ops is run: which ops run on the host and why, and in which order all of them.

An op runs on the host where it has no compiled form (`host_types.HOST_TYPES`); where it is a loop or branch whose
block holds such an op; where it is an array op on an array that another host op touches; and inside a loop that the
host steps through, where lengths are known only as it runs. Where the compiler refuses a program, its loops, arrays
and sequence ops run on the host. Everything else is compiled, in as few segments as the order of reads and writes
allows: host ops on feeds alone run first, those whose results no compiled op reads run last.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from ...compiler.errors import LoweringError, PrivacyError
from ..framework import Block, Operator, Program
from ..host_types import ARRAYS, CONTROL, HOST_TYPES, METRICS, SEQUENCES
from ..reach import before
from ..vartype import VarType
from .python_gradients import has_backward, path_of, split_backwards
from .segment import Segment, segment_of, want_printed_gradients


@dataclass(frozen=True)
class Call:
    """One op that runs on the host."""

    op: Operator


@dataclass(frozen=True)
class Control:
    """A loop (``while``) or branch (``conditional_block``) that the host steps through."""

    op: Operator
    body: tuple[Step, ...]


Step: TypeAlias = "Segment | Call | Control"


@dataclass(frozen=True)
class Plan:
    """The steps of a program, in order.

    Attributes:
        steps: Of the global block; those of loops are nested in them.
        reasons: Op and why it runs on the host, in program order.
        warnings: What people must be told of a private program.
    """

    steps: tuple[Step, ...]
    reasons: tuple[tuple[Operator, str], ...]
    warnings: tuple[str, ...] = ()

    def explained(self) -> str:
        """One line per host op: where it was written, what it is, and why it runs there."""
        return "\n".join(f"{op.loc.place} {op.loc.layer or op.type} ({op.type}): {why}" for op, why in self.reasons)


def plan(program: Program, fetches: Sequence[str], lowered: Collection[str], forced: str = "") -> Plan | None:
    """The plan of a program; None where it is compiled as a whole.

    Args:
        program: It.
        fetches: Names whose values are wanted at the end.
        lowered: Op types that can be compiled.
        forced: Why loops, branches, arrays and sequence ops cannot be compiled in this program; "" where they can.

    Raises:
        LoweringError: A host op is on the way from parameters to a loss, or in a loop that has gradients.
        PrivacyError: A host op of a private program that is no metric to be fetched, or that divides its step.
    """
    program = split_backwards(program)
    reasons = _Reasons(program, lowered, forced).found
    if not reasons and not any(op.type == "print" for op in program.global_block().ops):
        _tell_unprinted(program, reasons)
        return None
    want_printed_gradients(program.global_block())
    for record in program.global_block().ops:
        if record.type == "backward":
            _check_gradients(program, record, reasons)
    _tell_unprinted(program, reasons)
    _check_fetches(program, fetches)
    planner = _Planner(program, reasons)
    steps = planner.block(program.global_block(), frozenset(fetches))
    if isinstance(steps[-1], Segment):
        steps = (*steps[:-1], replace(steps[-1], last=True))
    listed = [(op, reasons[id(op)]) for block in program.blocks for op in block.ops if id(op) in reasons]
    private = program.global_block().private_backward() is not None
    told = _private_metrics(program, listed) if private else ()
    if private:
        _check_whole(steps)
    return Plan(steps, tuple(listed), told)


class _Reasons:
    """Which ops run on the host, and why."""

    def __init__(self, program: Program, lowered: Collection[str], forced: str) -> None:
        self._program = program
        self._trains = any(op.type == "backward" for op in program.global_block().ops)
        self.found: dict[int, str] = {}
        for block in program.blocks:
            for op in block.ops:
                if op.type not in HOST_TYPES:
                    continue
                if op.type not in lowered:
                    self.found[id(op)] = HOST_TYPES[op.type]
                elif forced and op.type in {**CONTROL, **ARRAYS, **SEQUENCES}:
                    self.found[id(op)] = f"the program cannot be compiled as a whole: {forced}"
        while self._spread():
            pass

    def _spread(self) -> bool:
        """One more round of what follows from the ops found; whether there was anything."""
        known = len(self.found)
        for block in self._program.blocks:
            for op in block.ops:
                if op.type in CONTROL:
                    self._spread_control(op)
        arrays = self._host_arrays()
        for block in self._program.blocks:
            for op in block.ops:
                if op.type in ARRAYS and arrays.intersection(op.input_arg_names + op.output_arg_names):
                    self.found.setdefault(id(op), "another op on its array runs on the host")
        return len(self.found) > known

    def _spread_control(self, op: Operator) -> None:
        inner = list(_inside(self._program, op))
        held = next((o for o in inner if id(o) in self.found or (o.type == "print" and not self._trains)), None)
        if held is not None:
            self.found.setdefault(id(op), f"its block holds {held.type}")
        if id(op) not in self.found:
            return
        for o in inner:
            if o.type in CONTROL:
                self.found.setdefault(id(o), "it is inside a loop or branch that runs on the host")
            elif o.type in HOST_TYPES:
                self.found.setdefault(id(o), "lengths and sizes are known only as the loop around it runs")
        if op.type == "conditional_block":
            written = set(op.output("Out"))
            for o in op.block.ops:
                if o.type == "select_input" and written.intersection(o.input("X")):
                    self.found.setdefault(id(o), "it chooses between branches that run on the host")

    def _host_arrays(self) -> set[str]:
        found: set[str] = set()
        for block in self._program.blocks:
            for op in block.ops:
                if id(op) in self.found:
                    for name in op.input_arg_names + op.output_arg_names:
                        var = op.block.find_var_recursive(name)
                        if var is not None and var.type in (VarType.LOD_TENSOR_ARRAY, VarType.LOD_RANK_TABLE):
                            found.add(name)
        return found


def _check_fetches(program: Program, fetches: Sequence[str]) -> None:
    """Refuse a fetch that nothing computes before anything runs."""
    made = {name for block in program.blocks for op in block.ops for name in op.output_arg_names}
    for name in fetches:
        var = program.global_block().vars.get(name)
        if name not in made and not (var is not None and (var.is_data or var.persistable)):
            raise LoweringError(
                f"{name} is fetched, but nothing in the program computes it",
                hint="fetch a Variable of this program; list_vars() gives all names",
            )


def _tell_unprinted(program: Program, reasons: dict[int, str]) -> None:
    """Warn of Print in loops and branches that are compiled: it prints between steps, not inside of one."""
    for block in program.blocks[1:]:
        for op in block.ops:
            if op.type == "print" and id(op) not in reasons:
                what = "Print is in a loop or branch that is compiled, and prints nothing there"
                warnings.warn_explicit(what, UserWarning, op.loc.file, op.loc.line)


def _private_metrics(program: Program, listed: Sequence[tuple[Operator, str]]) -> tuple[str, ...]:
    """Warnings for the metrics of a private program, whose host ops may be nothing else."""
    ops = program.global_block().ops
    host = {id(op) for op, _ in listed}
    refused = [op for op, _ in listed if op.type not in METRICS] + [op for op in ops if op.type == "print"]
    for op, _ in listed:
        results = set(op.output_arg_names)
        stays = any(v is not None and v.persistable for v in map(op.block.find_var_recursive, results))
        if stays or any(results.intersection(o.input_arg_names) for o in ops if id(o) not in host):
            refused.append(op)
    if refused:
        raise PrivacyError(
            f"{refused[0].loc.layer or refused[0].type}: {refused[0].type} runs on the host and sees examples as they "
            "are; under Dpsgd only metrics may, and only where nothing reads their results",
            where=refused[0].loc.place,
            hint="leave it out of the program that trains, and evaluate in a clone: program.clone(for_test=True)",
        )
    return tuple(
        f"{op.loc.layer or op.type} at {op.loc.place} is computed from examples on the host: its results are exact "
        "and NOT PRIVATE"
        for op, _ in listed
    )


def _check_whole(steps: Sequence[Step]) -> None:
    """Refuse a private step in parts: what one of them hands to another is not followed by the rules of privacy."""
    compiled = [at for at, step in enumerate(steps) if isinstance(step, Segment)]
    for step in steps[compiled[0] : compiled[-1]]:
        if isinstance(step, Call):
            raise PrivacyError(
                f"{step.op.loc.layer or step.op.type}: {step.op.type} runs on the host and reads a variable that the "
                "program writes later, which would divide the step; under Dpsgd it stays whole",
                where=step.op.loc.place,
                hint="leave it out of the program that trains, and evaluate in a clone: program.clone(for_test=True)",
            )


def _inside(program: Program, op: Operator) -> Iterator[Operator]:
    """The ops in the blocks of an op, at any depth."""
    if op.has_attr("sub_block"):
        for inner in program.blocks[op.attr("sub_block")].ops:
            yield inner
            yield from _inside(program, inner)


def _check_gradients(program: Program, record: Operator, reasons: dict[int, str]) -> None:
    """Refuse host ops that a gradient would have to pass."""
    path = path_of(program, record)
    for op in before(program, record):
        if op.type == "print" or has_backward(op) or not path.intersection(op.output_arg_names):
            continue
        if not path.intersection(op.input_arg_names):
            continue
        held = [o for o in (op, *_inside(program, op)) if id(o) in reasons and o.type != "print"]
        if held and (id(op) in reasons or op.has_attr("sub_block")):
            raise LoweringError(
                f"{held[0].loc.layer or held[0].type}: {held[0].type} runs on the host ({reasons[id(held[0])]}) and "
                f"stands between parameters and the loss {record.input('Targets')[0]}, where it has no gradient",
                where=held[0].loc.place,
                hint="set stop_gradient = True on its result, give py_func a backward_func, or use layers that have "
                "gradients",
            )


class _Planner:
    """Orders the ops of blocks."""

    def __init__(self, program: Program, reasons: dict[int, str]) -> None:
        self._program = program
        self._reasons = reasons
        self._segments = 0

    def block(self, block: Block, wanted: frozenset[str]) -> tuple[Step, ...]:
        """The steps of a block; ``wanted`` are the names that somebody reads after it."""
        ops = list(block.ops)
        levels = self._levels(ops, [0] * len(ops))
        again: dict[int, list[int]] = {}
        for at, op in enumerate(ops):
            if op.type == "backward":
                levels, more = self._with_forward(ops, levels, at)
                again.setdefault(levels[at], []).extend(more)
        members = {
            level: sorted({i for i, at in enumerate(levels) if at == level} | set(again.get(level, ())))
            for level in set(levels)
        }
        steps: list[Step] = []
        for level in sorted(members):
            here = [ops[i] for i in members[level]]
            later = {n for at in members if at > level for i in members[at] for n in self._touched(ops[i])}
            if level % 2:
                steps.extend(self._host(op, wanted) for op in here)
            else:
                self._segments += 1
                steps.append(segment_of(self._program, block, here, later | wanted, self._segments - 1))
        return tuple(steps)

    def _host(self, op: Operator, wanted: frozenset[str]) -> Step:
        if op.type not in CONTROL:
            return Call(op)
        body = self._program.blocks[op.attr("sub_block")]
        carried: set[str] = set()  # what the block reads before it writes it may come from the trip before
        made: set[str] = set()
        for inner in body.ops:
            carried |= self._touched(inner) - made
            made |= self._writes(inner)
        outer = {name for name in made if name not in body.vars}
        return Control(op, self.block(body, frozenset(carried | outer | wanted)))

    def _is_host(self, op: Operator) -> bool:
        return id(op) in self._reasons

    def _reads(self, op: Operator) -> set[str]:
        found = set(op.input_arg_names)
        for inner in _inside(self._program, op):
            found.update(inner.input_arg_names)
        return found

    def _writes(self, op: Operator) -> set[str]:
        found = set(op.output_arg_names)
        for inner in _inside(self._program, op):
            found.update(name for name in inner.output_arg_names if name not in inner.block.vars)
        return found

    def _touched(self, op: Operator) -> set[str]:
        """What an op reads, be it the old value of what it may write."""
        return self._reads(op) | (self._writes(op) if op.has_attr("sub_block") else set[str]())

    def _levels(self, ops: Sequence[Operator], least: Sequence[int]) -> list[int]:
        """When each op runs: even levels are compiled, odd ones run on the host; all of a level before the next."""
        written: dict[str, int] = {}
        read: dict[str, int] = {}
        levels: list[int] = []
        for op, at_least in zip(ops, least):
            host = self._is_host(op)
            reads, writes = self._touched(op), self._writes(op)
            level = max(
                at_least if not host or at_least else -1,
                *(written.get(name, -1) for name in reads | writes),
                *(read.get(name, -1) for name in writes),
                -1,
            )
            level += (level % 2 == 0) if host else (level % 2 == 1)
            levels.append(level)
            for name in reads:
                read[name] = max(read.get(name, -1), level)
            for name in writes:
                written[name] = level
        return levels

    def _with_forward(self, ops: list[Operator], levels: list[int], at: int) -> tuple[list[int], list[int]]:
        """Levels where what the loss is differentiated through runs beside its backward record.

        Also gives ops that run there once more, since a host op reads what they make before.
        """
        record, target = ops[at], levels[at]
        path = path_of(self._program, record)
        inside = [
            i
            for i, op in enumerate(ops[:at])
            if path.intersection(op.output_arg_names) and path.intersection(self._reads(op))
        ]
        if all(levels[i] == target for i in inside):
            return levels, []
        early: set[str] = set()
        for i in reversed(range(at)):
            if levels[i] < target and (self._is_host(ops[i]) or early.intersection(ops[i].output_arg_names)):
                early |= self._reads(ops[i])
        again = [i for i in inside if levels[i] < target and early.intersection(ops[i].output_arg_names)]
        for i in again:
            self._check_repeatable(ops[i])
            for j in range(i + 1, len(ops)):
                if levels[j] < target and self._writes(ops[j]).intersection(self._reads(ops[i])):
                    raise self._twice(ops[i], f"what it reads is written in between, by {ops[j].type}")
        least = [0] * len(ops)
        for i in inside:
            if i not in again:
                least[i] = target
        moved = self._levels(ops, least)
        if moved[at] != target:
            return self._with_forward(ops, moved, at)
        return moved, again

    def _check_repeatable(self, op: Operator) -> None:
        random = op.type in _RANDOM and not op.attrs.get("is_test", False)
        stateful = any(
            var is not None and var.persistable for var in map(op.block.find_var_recursive, op.output_arg_names)
        )
        if random or stateful:
            raise self._twice(op, "it is random" if random else "it updates its statistics")

    def _twice(self, op: Operator, why: str) -> LoweringError:
        return LoweringError(
            f"{op.loc.layer or op.type}: a host op reads what is computed from it, and the loss too; it would run "
            f"twice, and {why}",
            where=op.loc.place,
            hint="compute what the host op reads in a program of its own, and feed its result",
        )


_RANDOM_TYPES = """
dropout gaussian_random uniform_random uniform_random_batch_size_like gaussian_random_batch_size_like
truncated_gaussian_random sampling_id randint randperm
"""
_RANDOM = frozenset(_RANDOM_TYPES.split())


def host_ops(steps: Iterable[Step]) -> Iterator[Operator]:
    """The ops of the steps that run on the host, those in loops included."""
    for step in steps:
        if isinstance(step, Call):
            yield step.op
        elif isinstance(step, Control):
            yield step.op
            yield from host_ops(step.body)
