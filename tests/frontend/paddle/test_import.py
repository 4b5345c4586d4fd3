"""``import paddle`` inside the hook: fluidc under Paddle's names, and clear words for what is not there."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

import fluidc.frontend as fluid
from fluidc.frontend.errors import UnsupportedError
from fluidc.frontend.paddle.aliases import ALIASES
from fluidc.frontend.paddle.finder import PaddleImportError, installed
from fluidc.frontend.paddle.root import OtherPaddleError
from fluidc.frontend.paddle.session import Session, noting


@pytest.fixture
def session() -> Iterator[Session]:
    with installed(), noting(Session()) as current:
        yield current


def run(text: str) -> dict[str, Any]:
    """The names that a script leaves behind."""
    names: dict[str, Any] = {}
    exec(compile(text, "user.py", "exec"), names)
    return names


@pytest.mark.parametrize("name", sorted(ALIASES))
def test_every_module_can_be_imported(name: str, session: Session) -> None:
    # paddle.batch is a function, as in Paddle.
    found = run(f"import {name} as it")["it"]
    assert isinstance(found, types.ModuleType) or callable(found)


def test_names_are_fluidcs(session: Session) -> None:
    found = run(
        """
import paddle
import paddle.batch
import paddle.fluid as fluid
import paddle.fluid.layers as L
from paddle.fluid.layers import fc
from paddle.fluid.layers.nn import relu
from paddle.fluid.layers.control_flow import While
from paddle.fluid.framework import Program, Variable
from paddle.fluid.dygraph.nn import Linear
from paddle.fluid.param_attr import ParamAttr
from paddle.fluid.executor import Executor, global_scope
from paddle.fluid.incubate.fleet.collective import fleet
from paddle.fluid.initializer import *
"""
    )
    for name in ("Program", "Variable", "ParamAttr", "Executor", "global_scope"):
        assert found[name] is getattr(fluid, name)
    assert found["fc"] is fluid.layers.fc
    assert found["relu"] is fluid.layers.relu
    assert found["While"] is fluid.layers.While
    assert found["Linear"] is fluid.dygraph.Linear
    assert found["Xavier"] is fluid.initializer.Xavier
    assert found["fluid"].layers is found["L"]
    assert found["fleet"] is fluid.incubate.collective.fleet
    assert callable(found["paddle"].batch)
    assert found["paddle"].__version__ == found["paddle"].version.full_version == "1.8.5"
    paddle: Any = found["paddle"]
    assert list(paddle.batch(paddle.reader.firstn(lambda: iter(range(9)), 3), 2)()) == [[0, 1], [2]]


def test_what_a_script_sets_fluidc_sees(session: Session) -> None:
    before = fluid.layers.relu
    try:
        run("import paddle.fluid as fluid\nfluid.layers.relu = 3")
        assert fluid.layers.relu == 3
    finally:
        fluid.layers.relu = before
    assert vars(fluid)["layers"].__name__ == "fluidc.frontend.layers"


def test_only_inside_the_hook() -> None:
    before = list(sys.meta_path)
    hidden = types.ModuleType("paddle")
    sys.modules["paddle"] = hidden
    try:
        with installed():
            assert run("import paddle")["paddle"] is not hidden
        assert sys.modules["paddle"] is hidden
    finally:
        del sys.modules["paddle"]
    assert sys.meta_path == before
    assert not [name for name in sys.modules if name.partition(".")[0] == "paddle"]


@pytest.mark.parametrize(
    ("text", "kind", "what"),
    [
        ("import paddle.v2", PaddleImportError, "paddle.v2 is of Paddle 0.x, before fluid"),
        ("import py_paddle", PaddleImportError, "paddle.v2 is of Paddle 0.x"),
        ("import paddle; paddle.init(use_gpu=False)", OtherPaddleError, "paddle.init is of Paddle 0.x"),
        ("import paddle.nn.functional as F", PaddleImportError, "paddle.nn is of Paddle 2"),
        ("import paddle; paddle.to_tensor(3)", OtherPaddleError, "paddle.to_tensor is of Paddle 2"),
        ("import paddle; paddle.nothing", OtherPaddleError, "paddle 1.8.5 has no nothing"),
        ("import paddle.distributed.launch", PaddleImportError, "paddle.distributed trains on several machines"),
        ("import paddle.fluid.contrib.slim", PaddleImportError, "paddle.fluid.contrib.slim prunes and quantises"),
        (
            "import paddle.fluid.layer",
            PaddleImportError,
            "paddle.fluid has no layer; did you mean paddle.fluid.layers?",
        ),
        ("from paddle.fluid.layers import fcc", PaddleImportError, "no fcc; did you mean paddle.fluid.layers.fc?"),
        ("import paddle.fluid as fluid; fluid.layers.fcc", AttributeError, "did you mean fc?"),
        ("import paddle.fluid as fluid; fluid.layers.roi_align(1, 2)", UnsupportedError, "is not implemented"),
    ],
)
def test_what_is_not_there(text: str, kind: type[Exception], what: str, session: Session) -> None:
    with pytest.raises(kind) as caught:
        run(text)
    assert what in str(caught.value)
    if isinstance(caught.value, PaddleImportError | OtherPaddleError):
        assert caught.value.where == "user.py:1"
        assert caught.value.hint


def test_scripts_may_ask_what_there_is(session: Session) -> None:
    found = run(
        """
import paddle
try:
    import paddle.static
    two = True
except ImportError:
    two = False
old = hasattr(paddle, "nn")
paddle.enable_static()
paddle.enable_static()
"""
    )
    assert not found["two"]
    assert not found["old"]
    assert session.ignored == {"paddle.enable_static()": "user.py:9"}


def test_compat(session: Session) -> None:
    compat = run("import paddle.compat as it")["it"]
    assert compat.to_text({b"a": b"b"}) == {"a": "b"}
    texts = [b"x", "y"]
    assert compat.to_text(texts, inplace=True) is texts
    assert texts == ["x", "y"]
    assert compat.to_bytes({"a"}) == {b"a"}
    assert [compat.round(x) for x in (0.5, 2.5, -0.5, 1.25)] == [1.0, 3.0, -1.0, 1.0]
    assert compat.round(1.25, 1) == 1.3
    assert compat.get_exception_message(ValueError("why")) == "why"
