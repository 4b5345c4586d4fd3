"""Mutation test of the op rules: every rule is broken in many small ways, and every break must be noticed.

Each method of an op class (``evaluate``, ``vjp``, ``example_axis``, ``example_norm_sq``, ...) is changed in one
place at a time: a transposed operand, a swapped sign or factor, a wrong axis, a dropped negation.  The cases of
the ops that use the method then run, in this process; a mutant that no case notices *survives*, and survivors
fail the run unless EQUIVALENT says why they compute the same.

    python tests/mutants.py [FAMILY ...] [-v]
"""

from __future__ import annotations

import argparse
import ast
import copy
import inspect
import sys
import textwrap
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "support"), str(HERE / "ops")]

import numpy as np  # noqa: E402
import test_cases as facets  # noqa: E402
from cases import Case, all_cases  # noqa: E402
from fluidc.compiler.ops import OPS  # noqa: E402
from fluidc.compiler.ops.base import Op  # noqa: E402
from fluidc.compiler.ops.kinds import ExampleKind  # noqa: E402
from mutants_equivalent import EQUIVALENT  # noqa: E402

RULES = ("evaluate", "vjp", "pullback", "example_axis", "example_norm_sq", "example_grad", "decompose", "moved")
FACETS: tuple[tuple[str, Callable[[Case], bool]], ...] = (
    ("test_types", lambda case: True),
    ("test_evaluate", lambda case: True),
    ("test_kinds", lambda case: bool(case.kinds)),
    ("test_vjp", lambda case: bool(case.wrt)),
    ("test_vjp_needs", lambda case: bool(case.wrt)),
    ("test_kinds_hold", lambda case: bool(case.kinds) and any(isinstance(kind, ExampleKind) for kind in case.kinds)),
    ("test_norm", lambda case: case.norm is not None),
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
DROPPED = ("neg", "square", "sqrt", "abs", "sign", "reciprocal")


def mutations(function: ast.FunctionDef) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Every changed copy of a function, with what was changed."""
    nodes = [node for statement in function.body for node in _live(statement)]
    for node in nodes:
        for what, change in _changes(node):
            mutant = copy.deepcopy(function)
            twins = [n for statement in mutant.body for n in _live(statement)]
            twin = twins[nodes.index(node)]
            change(twin)
            yield f"{what} @{getattr(node, 'lineno', 0)}:{getattr(node, 'col_offset', 0)}", mutant


def _live(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes that compute something: no docstrings, errors, assertions or annotations."""
    docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    if docstring or isinstance(node, ast.Raise | ast.Assert):
        return
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _live(child)


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
        case ast.Call(func=ast.Attribute(value=ast.Name(id="b"), attr=name) as called, args=args):
            if name in BUILDERS:
                other_name = BUILDERS[name]
                yield f"b.{name}->b.{other_name}", lambda n: setattr(n.func, "attr", other_name)
            if name in SWAPPED and len(args) >= 2:
                yield f"b.{name} operands swapped", lambda n: n.args.__setitem__(slice(0, 2), n.args[1::-1])
            if name == "where" and len(args) == 3:
                yield "b.where branches swapped", lambda n: n.args.__setitem__(slice(1, 3), n.args[:0:-1])
            if name in DROPPED:
                yield f"b.{name} dropped", lambda n: _drop(n)
            if name == "matmul":
                for flag in ("ta", "tb"):
                    yield f"matmul {flag} flipped", lambda n, flag=flag: _flip(n, flag)
            del called
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


def owners() -> dict[type, list[type[Op]]]:
    """Every class that defines rules, with the ops that inherit them."""
    found: dict[type, list[type[Op]]] = {}
    for op in OPS:
        for cls in op.__mro__:
            if issubclass(cls, Op) and cls is not Op:
                found.setdefault(cls, []).append(op)
    return found


def noticed(cases: list[Case]) -> bool:
    """Whether any facet of any case fails."""
    for name, applies in FACETS:
        test = getattr(facets, name)
        for case in cases:
            if applies(case):
                try:
                    test(case)
                except BaseException as error:
                    if isinstance(error, KeyboardInterrupt):
                        raise
                    return True
    return False


def main() -> int:
    """Number of unexplained survivors and stale explanations, as the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", help="modules of compiler/ops, such as linear; all by default")
    parser.add_argument("-v", action="store_true", help="show every mutant")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    by_op: dict[str, list[Case]] = {}
    for case in all_cases():
        by_op.setdefault(case.op_name, []).append(case)
    killed, explained, survivors = 0, set[str](), list[str]()
    for owner, users in owners().items():
        family = owner.__module__.rpartition(".")[2]
        cases = [case for op in users for case in by_op.get(op.name, ())]
        if not cases or (options.families and family not in options.families):
            continue
        for rule in RULES:
            method = owner.__dict__.get(rule)
            if not isinstance(method, types.FunctionType):
                continue
            definition = ast.parse(textwrap.dedent(inspect.getsource(method))).body[0]
            assert isinstance(definition, ast.FunctionDef)
            for what, changed in mutations(definition):
                name = f"{family}.{owner.__name__}.{rule}: {what}"
                setattr(owner, rule, rebuilt(method, owner, changed))
                try:
                    dead = noticed(cases)
                finally:
                    setattr(owner, rule, method)
                if dead:
                    killed += 1
                elif name in EQUIVALENT:
                    explained.add(name)
                else:
                    survivors.append(name)
                if options.v or not (dead or name in EQUIVALENT):
                    print(f"{'killed' if dead else 'SURVIVED'}  {name}", flush=True)
    stale = [] if options.families else sorted(set(EQUIVALENT) - explained)
    for name in stale:
        print(f"STALE explanation  {name}")
    print(f"{killed} killed, {len(explained)} equivalent, {len(survivors)} survived, {len(stale)} stale explanations")
    return min(1, len(survivors) + len(stale))


if __name__ == "__main__":
    sys.exit(main())
