"""``fluidc check``: names are found through aliases, and each gets the right verdict; nothing is run."""

from __future__ import annotations

import importlib.util
import json
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fluidc.frontend.cli import main
from fluidc.frontend.paddle.verdicts import verdicts

SCRIPT = """
import numpy as np
import paddle
import paddle.fluid as fluid
from paddle.fluid import layers
from paddle.fluid.layers import fc as dense, roi_align
from paddle.fluid.layers.nn import relu
from paddle.fluid.initializer import *

L = fluid.layers
x = L.data("x", [4], dtype="int64")

def net(x, layers):
    layers.nothing_of_fluid(x)
    return dense(x, 3, act="relu"), relu(x), later(x), Xavier()

later = L.softmax
hidden = layers.reduce_mean(x, dim=1, keepdim=True)
ids = fluid.embedding(x, [10, 4], is_sparse=True)
roi_align(x, x)
layers.softmx(x)
layers.conv2d(x, 3)
train = paddle.dataset.mnist.train()
a = np.zeros(3, np.int)
exit(1)
"""


def check(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["check", *map(str, arguments)], prog_name="fluidc")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("old.py").write_text(SCRIPT)
    Path("good.py").write_text("import paddle.fluid as f\nf.layers.fc(f.layers.data('x', [3]), size=3)\n")


def found(text: str) -> dict[str, tuple[str, list[int]]]:
    return {v.name: (str(v.status), v.lines) for v in verdicts(textwrap.dedent(text), "old.py")}


def test_json() -> None:
    done = check("old.py", "--format", "json")
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    names = {each["name"]: each for each in told["scripts"][0]["names"]}
    assert {name: (each["status"], each["lines"]) for name, each in names.items()} == {
        "fluid.layers.data": ("exact", [11]),
        "fluid.layers.fc": ("exact", [15]),
        "fluid.layers.relu": ("exact", [15]),
        "fluid.layers.softmax": ("exact", [15, 17]),
        "fluid.initializer.Xavier": ("exact", [15]),
        "fluid.layers.reduce_mean": ("arguments", [18]),
        "fluid.embedding": ("different", [19]),
        "fluid.layers.roi_align": ("missing", [20]),
        "fluid.layers.softmx": ("unknown", [21]),
        "fluid.layers.conv2d": ("arguments", [22]),
        "paddle.dataset.mnist.train": ("different", [23]),
        "np.int": ("different", [24]),
    }
    assert names["fluid.layers.reduce_mean"]["note"] == "no argument 'keepdim'; did you mean keep_dim?"
    assert names["fluid.layers.conv2d"]["note"] == "argument 'filter_size' is not given"
    assert names["fluid.layers.softmx"]["note"] == "did you mean softmax?"
    assert "dense" in names["fluid.embedding"]["note"]
    assert told["summary"] == {"exact": 5, "different": 3, "arguments": 2, "missing": 1, "unknown": 1}


def test_text(golden: Callable[..., None]) -> None:
    done = check("old.py")
    assert done.exit_code == 1
    golden("check_old_script.txt", "\n".join(line.rstrip() for line in done.stdout.splitlines()) + "\n")
    only = check("old.py", "--missing").stdout
    assert "fluid.layers.softmx" in only
    assert "fluid.layers.fc" not in only


def test_several_scripts() -> None:
    done = check("good.py", "good.py")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1].endswith("2 exact")
    assert check("good.py", "old.py").exit_code == 1


def test_a_script_for_python_2() -> None:
    Path("two.py").write_text("print 'a'\n")
    done = check("two.py")
    assert done.exit_code == 1
    assert "this is a script for Python 2: it has a print statement" in done.stderr


def test_every_script_is_reported() -> None:
    for name in ("two.py", "three.py"):
        Path(name).write_text("print 'a'\n")
    done = check("two.py", "good.py", "three.py")
    assert done.exit_code == 1
    assert done.stderr.count("this is a script for Python 2") == 2
    assert "fluid.layers.fc" in done.stdout
    assert done.stdout.splitlines()[-2:] == ["2 names in 2 places: 2 exact", "2 of 3 scripts cannot be read"]
    told = json.loads(check("two.py", "good.py", "--format", "json").stdout)
    assert [each["script"] for each in told["scripts"]] == ["good.py", "two.py"]
    assert told["scripts"][1]["error"].startswith("this is a script for Python 2")


OLD_NAMES = """
import cPickle as pickle
import funcsigs, os
from six.moves import urllib
try:
    import urllib2
except ImportError:
    import urllib.request as urllib2
if sys.version_info[0] < 3:
    text = unicode
try:
    raw_input
except NameError:
    raw_input = input
def f(long, file=None):
    return long, [x for x in xrange(3)], file
xrange(2)
"""


def test_names_of_python_2_and_libraries_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name in ("six", "funcsigs", "cPickle") else there(name)
    )
    for name in ("six", "funcsigs", "cPickle"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert found(OLD_NAMES) == {
        "cPickle": ("missing", [2]),
        "funcsigs": ("missing", [3]),
        "six": ("missing", [4]),
        "xrange": ("missing", [16, 17]),
    }
    notes = {verdict.name: verdict.note for verdict in verdicts(OLD_NAMES, "old.py")}
    assert notes["xrange"] == "Python 2's xrange: write range"
    assert notes["six"] == "paddlepaddle brought six along, fluidc does not: pip install six"
    # A module beside the script is what it means, and what is imported by name is there.
    Path("six.py").write_text("")
    assert "six" not in found(OLD_NAMES)
    assert found("from six.moves import xrange\nxrange(3)") == {}
    assert found("from tools import *\nxrange(3)") == {}
    Path("old.py").write_text("import cPickle\n")
    assert check("old.py").stdout.splitlines()[-1] == "1 name in 1 place: 1 missing; fails at cPickle"


def test_functions_that_have_the_name_of_a_module() -> None:
    text = "import paddle, paddle.fluid as fluid\nfrom paddle import batch\n"
    uses = "fluid.data('x', [3])\npaddle.batch(None, 3)\nbatch(None, 4)\nfluid.layers.rnn(fluid, fluid)"
    assert found(text + uses) == {
        "fluid.data": ("exact", [3]),
        "paddle.batch": ("exact", [4, 5]),
        "fluid.layers.rnn": ("exact", [6]),
    }


def test_a_script_without_paddle() -> None:
    Path("none.py").write_text("import os\nprint(os.path.join('a', 'b'))\n")
    done = check("none.py")
    assert (done.exit_code, done.stdout) == (0, "no name of Paddle is used\n")


def test_other_releases() -> None:
    assert found("import paddle.v2 as paddle\npaddle.layer.fc()")["paddle.v2"][0] == "unknown"
    assert found("import paddle\npaddle.nn.Linear(3, 4)\npaddle.to_tensor(3)") == {
        "paddle.nn": ("unknown", [2]),
        "paddle.to_tensor": ("unknown", [3]),
    }
    slim = "from paddle.fluid.contrib.slim.prune import Pruner\nPruner()"
    assert found(slim) == {"fluid.contrib.slim": ("missing", [1, 2])}


def test_scopes() -> None:
    text = """
    import paddle.fluid as fluid
    def f(fluid):
        return fluid.layers.nothing
    def g():
        fluid = 3
        return fluid.layers.nothing
    class Net(fluid.dygraph.Layer):
        fluid = None
        def forward(self, x):
            return fluid.layers.relu(x)
    for fluid in []:
        fluid.layers.nothing
    """
    # The loop hides the module for good; methods see what the script's scope has in the end.
    assert "fluid.layers.nothing" not in found(text)
    assert found(text)["fluid.dygraph.Layer"] == ("exact", [8])
    both = """
    try:
        import paddle.fluid as fluid
    except ImportError:
        fluid = None
    fluid.layers.relu(3)
    a, b = fluid.layers, fluid.optimizer
    a.fc(3, 4), b.Adam(0.1), (lambda q: a.tanh(q))
    """
    assert set(found(both)) == {"fluid.layers.relu", "fluid.layers.fc", "fluid.optimizer.Adam", "fluid.layers.tanh"}


def test_arguments() -> None:
    def note(call: str) -> str:
        (verdict,) = verdicts(f"import paddle.fluid as fluid\nfluid.layers.{call}", "old.py")
        return verdict.note

    assert note("fc(x, 3, 1, None, None, None, None, 8)") == "8 arguments by position; it takes 7"
    assert note("fc(input=x)") == "argument 'size' is not given"
    assert note("fc(*rest)") == note("fc(**rest)") == note("fc(x, 3)") == note("fc") == ""
    assert note("cast(x, dtyp='int64')") == "no argument 'dtyp'; did you mean dtype?"


def test_methods_of_classes() -> None:
    told = found("import paddle.fluid as fluid\nfluid.Program.clone\nfluid.Program.clon")
    assert told == {"fluid.Program": ("exact", [2]), "fluid.Program.clon": ("missing", [3])}


def test_fluidc_itself_is_followed_too() -> None:
    assert found("import fluidc.frontend as fluid\nfluid.layers.fc(3, 4)") == {"fluid.layers.fc": ("exact", [2])}
    assert found("from fluidc import frontend as fluid\nfluid.layers.fcc(3)") == {"fluid.layers.fcc": ("unknown", [2])}
