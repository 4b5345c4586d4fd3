"""Which names of Paddle a script uses, and where: read from its syntax tree, with aliases followed; nothing is run.

Followed are imports in all their forms and assignments of names to names (``L = fluid.layers``), in the scopes in which
Python sees them. A parameter or a loop variable of the same name hides an alias.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..api import names
from .aliases import is_module

ROOTS = {"paddle": "paddle", "fluidc.frontend": "paddle.fluid", "py_paddle": "py_paddle", "numpy": "numpy"}
"""Modules that are followed, by the name under which their names are given."""


@dataclass(frozen=True)
class Arguments:
    """What a call gives.

    Attributes:
        positional: How many arguments by position.
        keywords: The names of the others.
        open: Whether there may be more: ``*args`` or ``**kwargs``.
    """

    positional: int
    keywords: tuple[str, ...]
    open: bool


@dataclass(frozen=True)
class Use:
    """One place at which a script uses a name.

    Attributes:
        path: The whole dotted name: ``paddle.fluid.layers.fc``.
        line: Its line.
        call: What it is called with; None where it is not called.
        imported: Whether the name is only imported here.
    """

    path: str
    line: int
    call: Arguments | None = None
    imported: bool = False


def uses_in(tree: ast.Module) -> list[Use]:
    """All uses in a script, in the order of their lines."""
    reader = _Reader()
    reader.run(tree.body, {})
    return sorted(reader.found, key=lambda use: use.line)


Names = dict[str, str | None]
"""What names of a scope stand for; None for something else than a name of Paddle."""


class _Reader(ast.NodeVisitor):
    """Walks one scope after another: functions when all of the scope around them is known."""

    def __init__(self) -> None:
        self.found: list[Use] = []
        self._scope: Names = {}
        self._later: list[tuple[Sequence[ast.stmt], Names]] = []
        self._calls: dict[int, Arguments] = {}

    def run(self, body: Sequence[ast.stmt], scope: Names) -> None:
        """Read statements in a scope, then the functions that they define."""
        before = self._scope, self._later
        self._scope, self._later = scope, []
        for statement in body:
            self.visit(statement)
        for inner, hidden in self._later:
            # What is assigned later in this scope is known when the function is called.
            self.run(inner, self._scope | hidden)
        self._scope, self._later = before

    # -- what names stand for -----------------------------------------------------------------------------------

    def visit_Import(self, node: ast.Import) -> None:
        """``import paddle.fluid as fluid`` and ``import paddle.fluid``."""
        for alias in node.names:
            path = _followed(alias.name)
            if path is None:
                self._bind(alias.asname or alias.name.split(".")[0], None)
                continue
            self.found.append(Use(path, node.lineno, imported=True))
            if alias.asname is not None:
                self._bind(alias.asname, path)
            else:
                top = alias.name.split(".")[0]
                self._bind(top, _followed(top))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """``from paddle.fluid.layers import fc as f`` and ``import *``."""
        path = _followed(node.module or "") if node.level == 0 else None
        for alias in node.names:
            if path is None:
                # Modules above a followed one: from fluidc import frontend as fluid.
                whole = f"{node.module}.{alias.name}" if node.module and node.level == 0 else ""
                self._bind(alias.asname or alias.name, _followed(whole))
            elif alias.name == "*":
                self._scope.update({name: f"{path}.{name}" for name in names(path.removeprefix("paddle."))})
            else:
                self.found.append(Use(f"{path}.{alias.name}", node.lineno, imported=True))
                self._bind(alias.asname or alias.name, f"{path}.{alias.name}")

    def visit_Assign(self, node: ast.Assign) -> None:
        """``L = fluid.layers``, and tuples of such; any other value hides the name."""
        self.visit(node.value)
        for target in node.targets:
            self._assign(target, node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """The same with a type."""
        if node.value is not None:
            self.visit(node.value)
        self._assign(node.target, node.value)

    def _assign(self, target: ast.expr, value: ast.expr | None) -> None:
        if isinstance(target, ast.Name):
            self._bind(target.id, self._path(value))
        elif isinstance(target, ast.Tuple | ast.List):
            values = value.elts if isinstance(value, ast.Tuple | ast.List) else []
            for at, inner in enumerate(target.elts):
                self._assign(inner, values[at] if len(values) == len(target.elts) else None)
        else:
            self.visit(target)

    def _bind(self, name: str, path: str | None) -> None:
        self._scope[name] = path

    def _path(self, node: ast.expr | None) -> str | None:
        """The dotted name of Paddle that an expression is."""
        if isinstance(node, ast.Name):
            return self._scope.get(node.id)
        if isinstance(node, ast.Attribute):
            base = self._path(node.value)
            return None if base is None else f"{base}.{node.attr}"
        return None

    # -- uses -----------------------------------------------------------------------------------------------------

    def visit_Call(self, node: ast.Call) -> None:
        """A call notes what it gives before the name that is called is seen."""
        open_ended = any(isinstance(each, ast.Starred) for each in node.args)
        open_ended |= any(keyword.arg is None for keyword in node.keywords)
        given = tuple(keyword.arg for keyword in node.keywords if keyword.arg is not None)
        self._calls[id(node.func)] = Arguments(len(node.args), given, open_ended)
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """The longest chain of names counts."""
        path = self._path(node)
        if path is None:
            self.generic_visit(node)
        else:
            self.found.append(Use(path, node.lineno, self._calls.get(id(node))))

    def visit_Name(self, node: ast.Name) -> None:
        """A name that was imported from a module."""
        path = self._scope.get(node.id)
        if path is not None and isinstance(node.ctx, ast.Load) and not is_module(path) and path != "numpy":
            self.found.append(Use(path, node.lineno, self._calls.get(id(node))))

    # -- scopes -----------------------------------------------------------------------------------------------------

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        """Defaults and decorators belong to the scope around; the body comes later."""
        for outer in (*node.decorator_list, *node.args.defaults, *node.args.kw_defaults):
            if outer is not None:
                self.visit(outer)
        self._bind(node.name, None)
        self._later.append((node.body, dict.fromkeys(_parameters(node.args))))

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        """The same."""
        self.visit_FunctionDef(node)  # type: ignore[arg-type]

    def visit_Lambda(self, node: ast.Lambda) -> None:
        """An expression in a scope of its own."""
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default is not None:
                self.visit(default)
        self._later.append(([ast.Expr(node.body)], dict.fromkeys(_parameters(node.args))))

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Its methods do not see the names that its body binds."""
        for outer in (*node.decorator_list, *node.bases, *(keyword.value for keyword in node.keywords)):
            self.visit(outer)
        self._bind(node.name, None)
        before = dict(self._scope)
        for statement in node.body:
            self.visit(statement)
        self._scope.clear()
        self._scope.update(before)

    def visit_For(self, node: ast.For) -> None:
        """The loop variable hides."""
        self.visit(node.iter)
        self._assign(node.target, None)
        for statement in (*node.body, *node.orelse):
            self.visit(statement)

    def visit_If(self, node: ast.If) -> None:
        """What one branch binds does not hide what another does."""
        self.visit(node.test)
        self._branch(node.body)
        self._branch(node.orelse)

    def visit_Try(self, node: ast.Try) -> None:
        """Nor does what is done after an error: ``except ImportError: fluid = None``."""
        for statement in node.body:
            self.visit(statement)
        for handler in node.handlers:
            self._branch(handler.body)
        self._branch([*node.orelse, *node.finalbody])

    def _branch(self, body: Sequence[ast.stmt]) -> None:
        before = dict(self._scope)
        for statement in body:
            self.visit(statement)
        for name, path in before.items():
            if path is not None and self._scope[name] is None:
                self._scope[name] = path

    def visit_With(self, node: ast.With) -> None:
        """So does what a context manager gives."""
        for item in node.items:
            self.visit(item.context_expr)
            if item.optional_vars is not None:
                self._assign(item.optional_vars, None)
        for statement in node.body:
            self.visit(statement)


def _parameters(arguments: ast.arguments) -> Iterator[str]:
    every = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg)
    yield from (each.arg for each in every if each is not None)


def _followed(module: str) -> str | None:
    """The name of a module that is followed, as Paddle's; None for another one."""
    for root, name in ROOTS.items():
        if module == root or module.startswith(f"{root}."):
            return name + module.removeprefix(root)
    return None
