"""Changed copies of functions: each has one expression that computes something else."""

from __future__ import annotations
import __future__

import ast
import copy
import inspect
import textwrap
import types
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np

Changes: TypeAlias = Callable[[ast.AST], "Iterator[tuple[str, Callable[[Any], None]]]"]
"""What may be changed in a node: what is said of it, and a function that changes a copy of the node in place."""

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


def definition(function: types.FunctionType) -> ast.FunctionDef | None:
    """The function's source; None of a lambda."""
    found = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    return found if isinstance(found, ast.FunctionDef) else None


def mutations(function: ast.FunctionDef, changes: Changes) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Every changed copy of a function, with what was changed in which expression (and which of equal ones)."""
    live = list(_live(function))
    seen = Counter[str]()
    for number, (node, inside) in enumerate(live):
        for what, change in changes(node):
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


def changes_of_rules(node: ast.AST) -> Iterator[tuple[str, Callable[[Any], None]]]:
    """Of what rules write through builders and numpy: operators, constants, operands."""
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


def rebuilt(method: types.FunctionType, owner: type, changed: ast.FunctionDef) -> types.FunctionType:
    """The changed definition as a method of ``owner`` (``super()`` finds its class)."""
    changed.decorator_list = []
    outer = ast.parse("def make(__class__):\n    def method(): pass\n    return method")
    frame = outer.body[0]
    assert isinstance(frame, ast.FunctionDef)
    changed.name = "method"
    frame.body[0] = changed
    namespace: dict[str, Any] = {}
    lazy = __future__.annotations.compiler_flag  # as in every module
    code = compile(ast.fix_missing_locations(outer), method.__code__.co_filename, "exec", lazy, dont_inherit=True)
    exec(code, method.__globals__ | {"__builtins__": __builtins__}, namespace)
    return namespace["make"](owner)
