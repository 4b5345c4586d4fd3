"""The examples in docstrings run."""

from __future__ import annotations

import doctest
import importlib

import pytest
from imports import ROOT, modules, package_files


def documented() -> list[str]:
    return sorted(name for name in modules() if not name.endswith("__main__"))


@pytest.mark.parametrize("name", documented())
def test_examples_in_docstrings(name: str) -> None:
    module = importlib.import_module(f"fluidc.{name}")
    result = doctest.testmod(module)
    assert result.failed == 0


def test_there_are_examples() -> None:
    assert sum((ROOT / path).read_text().count(">>> ") for path in package_files()) >= 10
