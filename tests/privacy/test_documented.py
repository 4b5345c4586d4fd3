"""The table of tests in the privacy documentation names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_tests_named_in_the_documentation_exist() -> None:
    text = (ROOT / "docs/privacy.md").read_text(encoding="utf-8")
    section = text.split("### The tests behind this", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in section.splitlines() if re.match(r"\| \d+ \|", line)]
    assert [int(line.split("|")[1]) for line in rows] == list(range(1, 16))
    for line in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", line)
        assert named, line
        for path, test in named:
            tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
            names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            assert test in names if test else any(name.startswith("test_") for name in names), f"{path}::{test}"
