"""What a script takes from Python 2, or from libraries that came with paddlepaddle, and will not find.

Read from its syntax tree, as `fluidc.frontend.paddle.uses` reads names of Paddle. What a script guards is left alone:
an import in a ``try`` that catches its failure, and all of an ``if`` that asks for the version of Python.
"""

from __future__ import annotations

import ast
import builtins
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .python2 import advice_on_module, advice_on_name

_CAUGHT = frozenset({"ImportError", "ModuleNotFoundError", "NameError", "Exception", "BaseException"})
_VERSIONS = frozenset({"version_info", "hexversion", "PY2", "PY3", "python_version", "major"})


@dataclass(frozen=True)
class OldName:
    """A name or a module that is not there.

    Attributes:
        name: ``xrange``, ``six``.
        line: Where it is used.
        advice: What to do instead.
        imported: Whether it is a module.
    """

    name: str
    line: int
    advice: str
    imported: bool


def old_names(tree: ast.Module, folder: Path) -> list[OldName]:
    """All of a script that lies in ``folder``, whose own modules are found first, in the order of lines."""
    reader = _Reader(folder)
    reader.visit(tree)
    # Names are bound anywhere: a script may define xrange for both Pythons.
    found = [each for each in reader.found if each.imported or not (reader.open or each.name in reader.bound)]
    return sorted(found, key=lambda each: each.line)


class _Reader(ast.NodeVisitor):
    def __init__(self, folder: Path) -> None:
        self.found: list[OldName] = []
        self.bound: set[str] = set()
        self.open = False  # whether names come from a module that is not read
        self._folder = folder
        self._guarded = 0

    def visit_Import(self, node: ast.Import) -> None:
        """``import cPickle as pickle``."""
        for alias in node.names:
            self.bound.add(alias.asname or alias.name.split(".")[0])
            self._note_module(alias.name, node.lineno)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """``from six.moves import xrange``."""
        module = node.module or ""
        for alias in node.names:
            self.bound.add(alias.asname or alias.name)
            self.open |= alias.name == "*" and module.split(".")[0] not in ("paddle", "numpy", "math")
        if node.level == 0:
            self._note_module(module, node.lineno)

    def visit_Name(self, node: ast.Name) -> None:
        """A name that is read, or bound."""
        if not isinstance(node.ctx, ast.Load):
            self.bound.add(node.id)
        elif not hasattr(builtins, node.id) and (advice := advice_on_name(node.id)) and not self._guarded:
            self.found.append(OldName(node.id, node.lineno, advice, imported=False))

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        """Its name is bound."""
        self.bound.add(node.name)
        self.generic_visit(node)

    visit_AsyncFunctionDef = visit_ClassDef = visit_FunctionDef

    def visit_arg(self, node: ast.arg) -> None:
        """So is that of a parameter."""
        self.bound.add(node.arg)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        """So is that of a caught error."""
        if node.name:
            self.bound.add(node.name)
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        """One of the branches is for Python 2."""
        if _VERSIONS & set(_words(node.test)):
            self._visit_guarded([*node.body, *node.orelse])
        else:
            self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        """``input if PY3 else raw_input``."""
        if _VERSIONS & set(_words(node.test)):
            self._visit_guarded([node.body, node.orelse])
        else:
            self.generic_visit(node)

    def visit_Try(self, node: ast.Try) -> None:
        """What fails in its body is caught."""
        if any(handler.type is None or _CAUGHT & set(_words(handler.type)) for handler in node.handlers):
            self._visit_guarded(node.body)
            # The other way round, `import pickle` failing, never gets to `import cPickle`: it is guarded as well.
            self._visit_guarded([*node.handlers, *node.orelse])
            for statement in node.finalbody:
                self.visit(statement)
        else:
            self.generic_visit(node)

    def _visit_guarded(self, nodes: Sequence[ast.AST]) -> None:
        self._guarded += 1
        for node in nodes:
            self.visit(node)
        self._guarded -= 1

    def _note_module(self, module: str, line: int) -> None:
        top = module.split(".")[0]
        advice = advice_on_module(top)
        if advice is not None and not self._guarded and not self._is_there(top):
            self.found.append(OldName(top, line, advice, imported=True))

    def _is_there(self, top: str) -> bool:
        if top in sys.modules or (self._folder / f"{top}.py").exists() or (self._folder / top).is_dir():
            return True
        try:
            return importlib.util.find_spec(top) is not None
        except (ImportError, ValueError):
            return False


def _words(node: ast.AST) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Name):
            yield each.id
        elif isinstance(each, ast.Attribute):
            yield each.attr
