"""The mistakes that users of fluid make most: what fluidc says, pinned, and docs/messages.md with Paddle's words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from mistakes import HEAD, MISTAKES
from trees import GOLDENS

import fluidc.frontend as fluid
from fluidc.frontend.cli import main

THEIRS: dict[str, str] = json.loads((GOLDENS / "mistakes.json").read_text())
_TWO_LINES = ("startup before minimize",)
SHOWN = 240
"""Characters of Paddle's messages that the page has."""


def said(text: str, folder: Path) -> str:
    """What ``fluidc exec`` says to a script."""
    (folder / "script.py").write_text(text)
    done = CliRunner().invoke(main, ["exec", "script.py", "--target", "reference"])
    assert done.exit_code == 1, done.output
    assert "Traceback" not in done.output
    return "".join(line for line in done.stderr.splitlines(True) if not line.startswith("warning: "))


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name: str, tmp_path: Path, golden: Callable[[str, str], None]) -> None:
    text = said(HEAD + MISTAKES[name], tmp_path)
    golden(f"errors/mistake_{name.replace(' ', '_')}.txt", text)
    lines = text.splitlines()
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("  at script.py:")
    assert len(lines) == 4, "what happened, where, what to do, and the user's line"


def test_the_page_shows_both(tmp_path: Path, golden: Callable[[str, str], None]) -> None:
    golden("../../docs/messages.md", page(tmp_path))


def page(folder: Path) -> str:
    """docs/messages.md."""
    parts = [
        "# Messages",
        "What Paddle 1.8.5 and fluidc say to the mistakes that users of fluid make most. Of Paddle's words the stack\n"
        "of C++ and Python frames before them is left out, and they are cut where they are long. The scripts are in\n"
        "`tests/support/mistakes.py`; `tests/frontend/test_mistakes.py` writes this page.",
    ]
    for name, script in MISTAKES.items():
        theirs = " ".join(THEIRS[name].split())
        theirs = theirs if len(theirs) <= SHOWN else f"{theirs[:SHOWN].rsplit(' ', 1)[0]} ..."
        shown = [line for line in script.splitlines() if line][-2 if name in _TWO_LINES else -1 :]
        parts += [
            f"## {name[0].upper()}{name[1:]}",
            "```python\n" + "\n".join(shown) + "\n```",
            f"Paddle: {theirs}" if theirs else "Paddle says nothing.",
            "```\n" + "\n".join(said(HEAD + script, folder).splitlines()[:3]) + "\n```",
        ]
    return "\n\n".join(parts) + "\n"


def test_lists_of_numbers_are_arrays() -> None:
    """Python's numbers have no element type of their own: they take the declared one."""
    with fluid.program_guard(fluid.Program(), fluid.Program()), fluid.scope_guard(fluid.Scope()):
        x, n = fluid.data("x", [None, 2]), fluid.data("n", [None, 1], dtype="int64")
        total = fluid.layers.elementwise_add(x, fluid.layers.cast(n, "float32"))
        exe = fluid.Executor(target="reference")
        feed = {"x": [[1.5, 2.0], [3, 4]], "n": ((1,), (2,))}
        np.testing.assert_array_equal(exe.run(feed=feed, fetch_list=[total])[0], [[2.5, 3], [5, 6]])


def test_all_missing_feeds_are_named() -> None:
    with fluid.program_guard(fluid.Program(), fluid.Program()), fluid.scope_guard(fluid.Scope()):
        a, b, c = (fluid.data(name, [None, 2]) for name in "abc")
        total = fluid.layers.sums([a, b, c])
        with pytest.raises(ValueError, match=r"feed 'a', 'c' are missing: sums .* reads a, sums .* reads c") as caught:
            fluid.Executor(target="reference").run(feed={"b": np.ones((1, 2), "f4")}, fetch_list=[total])
        assert "add 'a': float32[N, 2], 'c': float32[N, 2]; b was fed" in str(caught.value)
