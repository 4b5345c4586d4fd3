"""Golden files: expected text kept beside the tests, rewritten by ``pytest --update-golden``; and the caches."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TypeAlias

import pytest

from fluidc.compiler.codegen.cache import Cache

GOLDEN = Path(__file__).parent / "golden"
Golden: TypeAlias = Callable[[str, str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden files; read the diff")


@pytest.fixture(autouse=True, scope="session")
def _nothing_compiled_before() -> Generator[None]:
    """Tests compile what they run: they may have changed how, which the key of a kept library cannot tell."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fluidc.compiler.codegen.tvm.kept.user_cache", lambda: Cache(None))
        yield


@pytest.fixture(autouse=True, scope="session")
def _no_ledger_remembered() -> Generator[None]:
    """Ledgers of tests are not remembered among those of the user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLUIDC_STATE", "")
        yield


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """``golden("errors/name.txt", text)``: ``text`` is what tests/golden/errors/name.txt holds."""
    update = bool(request.config.getoption("--update-golden"))

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            return
        if not path.exists():
            pytest.fail(f"{name} does not exist; run pytest --update-golden and read it")
        kept = path.read_text(encoding="utf-8")
        if kept != text:
            diff = difflib.unified_diff(kept.splitlines(), text.splitlines(), name, "now", lineterm="")
            pytest.fail("\n".join(["differs from its golden file (--update-golden rewrites it):", *diff]))

    return check
