"""What others may rely on: the public names of these modules, as a list that is committed.

A name that disappears from the golden file breaks somebody's program; a name that appears there is a promise.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType

import pytest

PUBLIC = (
    "compiler.driver",
    "compiler.errors",
    "compiler.ir.core",
    "compiler.ir.parser",
    "compiler.ir.printer",
    "compiler.ir.stage",
    "compiler.ir.types",
    "compiler.ops",
    "compiler.pipeline",
    "compiler.privacy",
    "frontend",
    "frontend.backward",
    "frontend.clip",
    "frontend.dygraph",
    "frontend.dygraph.learning_rate_scheduler",
    "frontend.dygraph.nn",
    "frontend.initializer",
    "frontend.io",
    "frontend.layers",
    "frontend.metrics",
    "frontend.optimizer",
    "frontend.privacy",
    "frontend.reader",
    "frontend.regularizer",
    "frontend.unique_name",
    "runtime",
    "runtime.errors",
)


def public_names(module: ModuleType) -> list[str]:
    """``__all__``, or what the module itself defines without a leading underscore."""
    if hasattr(module, "__all__"):
        return sorted(module.__all__)
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    )


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names(name: str, golden: Callable[[str, str], None]) -> None:
    module = importlib.import_module(f"fluidc.{name}")
    names = public_names(module)
    for each in names:
        assert hasattr(module, each), f"{name}.__all__ names {each}, which does not exist"
    golden(f"public_api/{name}.txt", "\n".join(names) + "\n")
