"""Mutation test of the op rules: every rule is broken in many small ways, and every break must be noticed.

Each method of an op class (``evaluate``, ``vjp``, ``example_axis``, ``example_norm_sq``, ... and the methods that
these call) is changed in one place at a time: a transposed operand, a swapped sign or factor, a wrong axis, a
dropped negation.  The cases of the ops that use the method then run, in this process; a mutant that no case notices
*survives*, and survivors fail the run unless EQUIVALENT says why they compute the same.

With ``--cpu`` the lowerings (``to_tvm``, ``element`` and the methods that only these call) are broken instead: the
first few mutants of each are compiled with the smallest cases of one op and compared with ``evaluate``.  With
``--onnx`` it is what writes ONNX files and feeds them (``onnx_mutants``).

    python tests/mutants.py [FAMILY ...] [--cpu | --onnx] [-v]
"""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import sys
import types
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / folder) for folder in ("support", "ops", "codegen", "runtime")]

import numpy as np  # noqa: E402
import onnx_mutants  # noqa: E402
import test_cases as facets  # noqa: E402
import test_cpu as compiled  # noqa: E402
from cases import Case, ErrorCase, all_cases, all_errors  # noqa: E402
from mutants_equivalent import EQUIVALENT, EQUIVALENT_COMPILED, EQUIVALENT_ONNX  # noqa: E402
from mutations import changes_of_rules, definition, mutations, rebuilt  # noqa: E402

from fluidc.compiler.ops import OPS  # noqa: E402
from fluidc.compiler.ops.base import Op  # noqa: E402
from fluidc.compiler.ops.kinds import ExampleKind  # noqa: E402

RULES = ("evaluate", "vjp", "example_axis", "example_norm_sq", "example_grad", "example_factors", "decompose")
OTHERS = ("infer", "to_onnx")
CPU_MUTANTS = 3
"""Mutants of one lowering that are compiled."""
CPU_CASES = 10
"""Cases that a mutant of a lowering is compiled with: the smallest of the op that has most."""
CPU_SECONDS = 60
"""How long a mutant of a lowering may take to compile and run; after that it is taken to hang."""
FACETS: tuple[tuple[str, Callable[[Case], bool]], ...] = (
    ("test_types", lambda case: True),
    ("test_evaluate", lambda case: True),
    ("test_kinds", lambda case: bool(case.kinds)),
    ("test_vjp", lambda case: bool(case.wrt)),
    ("test_vjp_needs", lambda case: bool(case.wrt)),
    ("test_kinds_hold", lambda case: bool(case.kinds) and any(isinstance(kind, ExampleKind) for kind in case.kinds)),
    ("test_norm", lambda case: case.norm is not None),
    ("test_gradient_at_kink", lambda case: bool(case.at_kink)),
    ("test_vjp_of_any_batch", facets.has_batch_gradient),
    ("test_example_grad", facets.has_batch_gradient),
    ("test_example_factors", facets.has_batch_gradient),
    ("test_second_vjp", lambda case: bool(case.wrt) and case.second),
)


@dataclass(frozen=True)
class Method:
    """A function or property of an op class, with the cases and errors of the ops that inherit it."""

    owner: type
    name: str
    held: Any
    cases: tuple[Case, ...]
    errors: tuple[ErrorCase, ...]

    @property
    def function(self) -> types.FunctionType:
        function = self.held.fget if isinstance(self.held, property) else self.held
        assert isinstance(function, types.FunctionType)
        return function

    @property
    def family(self) -> str:
        return self.owner.__module__.rpartition(".")[2]

    def mutants(self) -> Iterator[tuple[str, Any]]:
        """Every mutant: its name and what to put in the place of ``held``."""
        source = definition(self.function)
        if source is None:
            return
        for what, changed in mutations(source, changes_of_rules):
            function = rebuilt(self.function, self.owner, changed)
            mutant = property(function) if isinstance(self.held, property) else function
            yield f"{self.family}.{self.owner.__name__}.{self.name}: {what}", mutant


def methods() -> Iterator[Method]:
    """Every function and property that a class of ops defines, where the ops that inherit it have cases."""
    by_op: dict[str, list[Case]] = {}
    errors_by_op: dict[str, list[ErrorCase]] = {}
    for case in all_cases():
        by_op.setdefault(case.op_name, []).append(case)
    for error in all_errors():
        errors_by_op.setdefault(error.id.split("-", 1)[0], []).append(error)
    users: dict[type, list[type[Op]]] = {}
    for op in OPS:
        for cls in op.__mro__:
            if issubclass(cls, Op) and cls is not Op:
                users.setdefault(cls, []).append(op)
    for owner, inherit in users.items():
        cases = tuple(case for op in inherit for case in by_op.get(op.name, ()))
        errors = tuple(error for op in inherit for error in errors_by_op.get(op.name, ()))
        for name, held in vars(owner).items():
            inner = held.fget if isinstance(held, property) else held
            if cases and isinstance(inner, types.FunctionType) and not name.startswith("__"):
                yield Method(owner, name, held, cases, errors)


# Judges -------------------------------------------------------------------------------------------------


def failures(method: Method) -> Iterator[tuple[str, str, BaseException]]:
    """Facets that fail, with the case and what was raised."""
    jobs = [(name, case) for name, applies in FACETS for case in method.cases if applies(case)]
    for name, case in [*jobs, *(("test_error", error) for error in method.errors)]:
        try:
            getattr(facets, name)(case)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            yield name, case.id, error


def noticed(method: Method) -> bool:
    """Whether any facet of any case fails."""
    return next(failures(method), None) is not None


def noticed_compiled(method: Method) -> bool:
    """Whether cases of one op do not compile, or compute something else than ``evaluate``."""
    by_op: dict[str, list[Case]] = {}
    for case in method.cases:
        if case.cpu is True:
            by_op.setdefault(case.op_name, []).append(case)
    richest = max(by_op.values(), key=len, default=[])
    smallest = sorted(richest, key=lambda case: sum(np.size(getattr(x, "data", x)) for x in case.inputs))
    try:
        numbered = enumerate(smallest[:CPU_CASES])
        jobs = [compiled.job(case, f"case{i}", symbolic=False, backward=False) for i, case in numbered]
        engine = compiled.compile_together(jobs).engine()
        for job in jobs:
            compiled.check(engine, job)
    except KeyboardInterrupt:
        raise
    except BaseException:
        return True
    return False


def apart(judge: Callable[[Method], bool], method: Method) -> bool:
    """What ``judge`` says in a process of its own: a broken lowering may write anywhere, or never end."""
    child = os.fork()
    if child == 0:
        signal.alarm(CPU_SECONDS)
        os._exit(int(judge(method)))
    _, status = os.waitpid(child, 0)
    return status != 0


def executed(methods: Iterable[Method]) -> set[types.CodeType]:
    """The functions that the facets of the cases call.  Raises AssertionError where a facet fails unmutated."""
    by_cases = {tuple(case.id for case in method.cases): method for method in methods}
    called: set[types.CodeType] = set()

    def profile(frame: types.FrameType, event: str, _: Any) -> None:
        if event == "call":
            called.add(frame.f_code)

    sys.setprofile(profile)
    try:
        failed = next((found for method in by_cases.values() for found in failures(method)), None)
    finally:
        sys.setprofile(None)
    if failed is not None:
        raise AssertionError(f"{failed[0]} fails without any mutation: {failed[1]}") from failed[2]
    return called


# The run ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Options:
    families: tuple[str, ...]
    cpu: bool
    onnx: bool
    verbose: bool


def options() -> Options:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", help="modules of compiler/ops, such as linear; all by default")
    target = parser.add_mutually_exclusive_group()
    target.add_argument("--cpu", action="store_true", help="break the lowerings, and compile")
    target.add_argument("--onnx", action="store_true", help="break what writes ONNX files, and run them")
    parser.add_argument("-v", action="store_true", help="show every mutant")
    given = parser.parse_args()
    return Options(tuple(given.families), given.cpu, given.onnx, given.v)


def judged(chosen: Options) -> Iterator[tuple[str, bool]]:
    """Every mutant of rules, or of lowerings, and whether it was noticed."""
    all_methods = [m for m in methods() if not chosen.families or m.family in chosen.families]
    called = executed(all_methods)
    if chosen.cpu:  # the code generator is loaded once, not by every child
        compiled.compile_together([compiled.job(all_cases()[0], "first", symbolic=False, backward=False)])
    for method in all_methods:
        in_process = method.name in RULES or method.function.__code__ in called
        if method.name in OTHERS or in_process == chosen.cpu:
            continue
        mutants = list(itertools.islice(method.mutants(), CPU_MUTANTS if chosen.cpu else None))
        if chosen.cpu and mutants and apart(noticed_compiled, method):
            raise AssertionError(f"{method.owner.__name__}: a case fails without any mutation")
        for name, mutant in mutants:
            setattr(method.owner, method.name, mutant)
            try:
                dead = apart(noticed_compiled, method) if chosen.cpu else noticed(method)
            finally:
                setattr(method.owner, method.name, method.held)
            yield name, dead


def main() -> int:
    """1 where a mutant survives unexplained or an explanation is stale, else 0."""
    chosen = options()
    warnings.simplefilter("ignore")
    equivalent = EQUIVALENT_ONNX if chosen.onnx else EQUIVALENT_COMPILED if chosen.cpu else EQUIVALENT
    killed, explained, survivors = 0, set[str](), list[str]()
    for name, dead in onnx_mutants.judged(chosen.families) if chosen.onnx else judged(chosen):
        if dead:
            killed += 1
        elif name in equivalent:
            explained.add(name)
        else:
            survivors.append(name)
        if chosen.verbose or not (dead or name in equivalent):
            print(f"{'killed' if dead else 'SURVIVED'}  {name}", flush=True)
    stale = [] if chosen.families else sorted(set(equivalent) - explained)
    for name in stale:
        print(f"STALE explanation  {name}")
    print(f"{killed} killed, {len(explained)} equivalent, {len(survivors)} survived, {len(stale)} stale explanations")
    return min(1, len(survivors) + len(stale))


if __name__ == "__main__":
    sys.exit(main())
