"""What the modules of fluidc import, read from their syntax trees: nothing is executed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("compiler", "frontend", "runtime")


@dataclass(frozen=True)
class Import:
    """One import.

    Attributes:
        importer: the importing module, without ``fluidc.``: ``compiler.ir.core``.
        imported: a module of fluidc, spelt likewise, or the absolute name of another one.
        place: ``file:line``.
        own: whether ``imported`` belongs to fluidc.
        typing_only: under ``if TYPE_CHECKING``, so it never runs.
    """

    importer: str
    imported: str
    place: str
    own: bool
    typing_only: bool

    def __str__(self) -> str:
        return f"{self.place}: {self.importer} imports {self.imported}"


def package_files() -> list[Path]:
    """Every Python file of the three rooms, relative to the root."""
    return [path.relative_to(ROOT) for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def module_name(path: Path) -> str:
    """``compiler/ir/core.py`` is ``compiler.ir.core``; a package has its folder's name."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> frozenset[str]:
    """The names of all modules and packages of fluidc."""
    return frozenset(module_name(path) for path in package_files())


@cache
def imports() -> tuple[Import, ...]:
    """Every import of every module: at the top, inside functions, and by a literal ``import_module``."""
    return tuple(found for path in package_files() for found in imports_of(path, (ROOT / path).read_text()))


def imports_of(path: Path, source: str) -> Iterator[Import]:
    """The imports in ``source``, the text of the file ``path``."""
    tree = ast.parse(source)
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for statement in node.body
        for inner in ast.walk(statement)
    }
    importer = module_name(path)
    for node in ast.walk(tree):
        for name in _imported(node, path):
            own = name.split(".")[0] == "fluidc"
            target = name.removeprefix("fluidc.")
            yield Import(importer, target, f"{path}:{getattr(node, 'lineno', 0)}", own, id(node) in guarded)


def _imported(node: ast.AST, path: Path) -> Iterator[str]:
    """Absolute names of the modules that one statement or call imports."""
    package = ["fluidc", *path.parts[:-1]]
    match node:
        case ast.Import(names):
            yield from (alias.name for alias in names)
        case ast.ImportFrom(module, names, level):
            base = ".".join([*package[: len(package) - level + 1], *([module] if module else [])]) if level else module
            assert base is not None
            for alias in names:
                inner = f"{base}.{alias.name}"
                yield inner if inner.removeprefix("fluidc.") in modules() else base
        case ast.Call(ast.Attribute(ast.Name("importlib"), "import_module"), [ast.Constant(str(name)), *_]):
            yield ".".join([*package, name[1:]]) if name.startswith(".") else name
        case _:
            return
