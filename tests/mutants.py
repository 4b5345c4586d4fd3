"""Mutation test of the op rules: every rule is broken in many small ways, and every break must be noticed.

Each method of an op class (``evaluate``, ``vjp``, ``example_axis``, ``example_norm_sq``, ... and the methods that
these call) is changed in one place at a time: a transposed operand, a swapped sign or factor, a wrong axis, a
dropped negation.  The cases of the ops that use the method then run, in this process; a mutant that no case notices
*survives*, and survivors fail the run unless EQUIVALENT says why they compute the same.

With ``--cpu`` the lowerings (``to_tvm``, ``element`` and the methods that only these call) are broken instead: the
first few mutants of each are compiled with the smallest cases of one op and compared with ``evaluate``.

    python tests/mutants.py [FAMILY ...] [--cpu] [-v]
"""

from __future__ import annotations

import argparse
import ast
import copy
import inspect
import itertools
import os
import signal
import sys
import textwrap
import types
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "support"), str(HERE / "ops")]

import numpy as np  # noqa: E402
import test_cases as facets  # noqa: E402
import test_cpu as compiled  # noqa: E402
from cases import Case, ErrorCase, all_cases, all_errors  # noqa: E402
from mutants_equivalent import EQUIVALENT, EQUIVALENT_COMPILED  # noqa: E402

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

ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
}  # fmt: skip
COMPARISON: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
BUILDERS = {
    "add": "sub", "sub": "add", "mul": "div", "div": "mul", "maximum": "minimum", "minimum": "maximum",
    "less": "less_equal", "reduce_max": "reduce_min", "sin": "cos", "cos": "sin", "exp": "log", "log": "exp",
}  # fmt: skip
SWAPPED = ("sub", "div", "matmul", "pow", "less", "less_equal")
UNCHANGED = ("strict", "sparse", "writeable")
"""Keyword arguments that say what must hold, or how it is computed; never what."""
DROPPED = ("neg", "square", "sqrt", "abs", "sign", "reciprocal")


def mutations(function: ast.FunctionDef) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Every changed copy of a function, with what was changed in which expression (and which of equal ones)."""
    live = list(_live(function))
    seen = Counter[str]()
    for number, (node, inside) in enumerate(live):
        for what, change in _changes(node):
            mutant = copy.deepcopy(function)
            change(list(_live(mutant))[number][0])
            name = f"{what} in `{_shown(inside)}`"
            seen[name] += 1
            yield name + (f" #{seen[name]}" if seen[name] > 1 else ""), mutant


def _live(function: ast.FunctionDef) -> Iterator[tuple[ast.AST, ast.AST]]:
    """Nodes that compute something, each with the expression it is part of: no docstrings, errors, annotations."""

    def visit(node: ast.AST, inside: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if docstring or isinstance(node, ast.Raise | ast.Assert):
            return
        if isinstance(node, ast.keyword) and node.arg in UNCHANGED:
            return
        yield node, node if isinstance(inside, ast.stmt) else inside
        below = inside if isinstance(node, ast.Tuple | ast.keyword | ast.Slice | ast.UnaryOp) else node
        if isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant):
            return  # a negative number: that the sign is dropped says enough
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from visit(child, below)

    for statement in function.body:
        yield from visit(statement, statement)


def _shown(node: ast.AST) -> str:
    return ast.unparse(node).splitlines()[0]


def _changes(node: ast.AST) -> Iterator[tuple[str, Callable[[Any], None]]]:
    match node:
        case ast.BinOp(op=op) if type(op) in ARITHMETIC:
            other = ARITHMETIC[type(op)]
            yield f"{type(op).__name__}->{other.__name__}", lambda n: setattr(n, "op", other())
        case ast.Compare(ops=[op]) if type(op) in COMPARISON:
            flipped = COMPARISON[type(op)]
            yield f"{type(op).__name__}->{flipped.__name__}", lambda n: setattr(n, "ops", [flipped()])
        case ast.Constant(value=bool(value)):
            yield f"{value}->{not value}", lambda n: setattr(n, "value", not value)
        case ast.Constant(value=int(value)):
            yield f"{value}->{value + 1}", lambda n: setattr(n, "value", value + 1)
        case ast.Constant(value=float(value)) if np.isfinite(value):
            yield f"{value}->{value * 1.5 + 0.5}", lambda n: setattr(n, "value", value * 1.5 + 0.5)
        case ast.Call(func=ast.Attribute(value=ast.Name(id="b" | "t"), attr=name), args=args):
            if name in BUILDERS:
                other_name = BUILDERS[name]
                yield f"{name}->{other_name}", lambda n: setattr(n.func, "attr", other_name)
            if name in SWAPPED and len(args) >= 2:
                yield f"{name} operands swapped", lambda n: n.args.__setitem__(slice(0, 2), n.args[1::-1])
            if name in ("where", "select") and len(args) == 3:
                yield f"{name} branches swapped", lambda n: n.args.__setitem__(slice(1, 3), n.args[:0:-1])
            if name in DROPPED:
                yield f"{name} dropped", lambda n: _drop(n)
            if name == "matmul":
                for flag in ("ta", "tb"):
                    yield f"matmul {flag} flipped", lambda n, flag=flag: _flip(n, flag)
        case ast.UnaryOp(op=ast.USub()):
            yield "negation dropped", lambda n: setattr(n, "op", ast.UAdd())
        case ast.IfExp():
            yield "branches swapped", lambda n: _swap_branches(n)
        case _:
            return


def _drop(call: ast.Call) -> None:
    """``b.neg(x)`` becomes ``b.scale(x, 1.0)``."""
    assert isinstance(call.func, ast.Attribute)
    call.func.attr = "scale"
    call.args = [call.args[0], ast.Constant(1.0)]


def _flip(call: ast.Call, flag: str) -> None:
    for keyword in call.keywords:
        if keyword.arg == flag:
            keyword.value = ast.UnaryOp(ast.Not(), keyword.value)
            return
    call.keywords.append(ast.keyword(flag, ast.Constant(True)))


def _swap_branches(node: ast.IfExp) -> None:
    node.body, node.orelse = node.orelse, node.body


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
        definition = ast.parse(textwrap.dedent(inspect.getsource(self.function))).body[0]
        if not isinstance(definition, ast.FunctionDef):  # a lambda
            return
        for what, changed in mutations(definition):
            function = rebuilt(self.function, self.owner, changed)
            mutant = property(function) if isinstance(self.held, property) else function
            yield f"{self.family}.{self.owner.__name__}.{self.name}: {what}", mutant


def rebuilt(method: types.FunctionType, owner: type, changed: ast.FunctionDef) -> types.FunctionType:
    """The changed definition as a method of ``owner`` (``super()`` finds its class)."""
    changed.decorator_list = []
    outer = ast.parse("def make(__class__):\n    def method(): pass\n    return method")
    frame = outer.body[0]
    assert isinstance(frame, ast.FunctionDef)
    changed.name = "method"
    frame.body[0] = changed
    namespace: dict[str, Any] = {}
    code = compile(ast.fix_missing_locations(outer), method.__code__.co_filename, "exec", dont_inherit=True)
    exec(code, method.__globals__ | {"__builtins__": __builtins__}, namespace)
    return namespace["make"](owner)


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
        jobs = [compiled.job(case, f"case{i}", symbolic=False) for i, case in numbered]
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
    verbose: bool


def options() -> Options:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", help="modules of compiler/ops, such as linear; all by default")
    parser.add_argument("--cpu", action="store_true", help="break the lowerings, and compile")
    parser.add_argument("-v", action="store_true", help="show every mutant")
    given = parser.parse_args()
    return Options(tuple(given.families), given.cpu, given.v)


def main() -> int:
    """1 where a mutant survives unexplained or an explanation is stale, else 0."""
    chosen = options()
    warnings.simplefilter("ignore")
    all_methods = [m for m in methods() if not chosen.families or m.family in chosen.families]
    called = executed(all_methods)
    if chosen.cpu:  # the code generator is loaded once, not by every child
        compiled.compile_together([compiled.job(all_cases()[0], "first", symbolic=False)])
    equivalent = EQUIVALENT_COMPILED if chosen.cpu else EQUIVALENT
    killed, explained, survivors = 0, set[str](), list[str]()
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
