"""``fluidc exec`` and what ``fluidc compile`` makes of the same scripts: unchanged scripts of Paddle 1.x run."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from dataset_files import write_files

import fluidc.frontend as fluid
from fluidc.frontend.cli import main

TRAINING = """
from __future__ import print_function
import sys
import numpy as np
import paddle
import paddle.fluid as fluid

def network():
    img = fluid.layers.data(name="img", shape=[784], dtype="float32")
    label = fluid.layers.data(name="label", shape=[1], dtype="int64")
    predict = fluid.layers.fc(input=img, size=10, act="softmax")
    loss = fluid.layers.mean(fluid.layers.cross_entropy(input=predict, label=label))
    return [img, label], loss, fluid.layers.accuracy(input=predict, label=label)

feeds, loss, acc = network()
test_program = fluid.default_main_program().clone(for_test=True)
fluid.optimizer.Adam(learning_rate=0.01).minimize(loss)
place = fluid.CPUPlace()
exe = fluid.Executor(place)
exe.run(fluid.default_startup_program())
feeder = fluid.DataFeeder(feed_list=feeds, place=place)
reader = paddle.batch(paddle.reader.shuffle(paddle.dataset.mnist.train(), buf_size=500), batch_size=100)
losses = []
for data in reader():
    losses.append(exe.run(feed=feeder.feed(data), fetch_list=[loss])[0])
losses = np.array(losses).astype(np.float)
print("fell", bool(losses[-1] < losses[0]), len(losses), sys.argv[1:])
sys.exit(len(sys.argv) - 1)
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLUIDC_DATA", str(tmp_path / "no data"))


def fluidc(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="fluidc")


def script(text: str, name: str = "old.py") -> str:
    Path(name).write_text(textwrap.dedent(text))
    return name


def test_a_script_trains_on_made_up_data_and_says_so() -> None:
    done = fluidc("exec", script(TRAINING), "--target", "reference", "--", "--rate", "3")
    assert done.exit_code == 2, done.output
    assert done.stdout == "fell True 20 ['--rate', '3']\n"
    assert done.stderr.count("paddle.dataset.mnist IS SUBSTITUTED") == 1
    assert done.stderr.splitlines()[-2:] == [
        "substituted: paddle.dataset.mnist: 2000 and 500 synthetic pictures of 10 classes, 28 x 28, for MNIST's digits",
        "restored: np.float, first used at old.py:26",
    ]


def test_a_script_trains_on_files(tmp_path: Path) -> None:
    write_files(tmp_path / "sets", "mnist")
    done = fluidc("exec", script(TRAINING), "--data", tmp_path / "sets", "--target", "reference")
    assert done.exit_code == 0, done.output
    assert done.stdout.split() == ["fell", "False", "1", "[]"]
    assert "SUBSTITUTED" not in done.stderr
    assert f"data: paddle.dataset.mnist from {tmp_path / 'sets' / 'mnist'} (not the files that" in done.stderr


def test_the_same_script_compiles() -> None:
    done = fluidc("compile", script(TRAINING), "-o", "out.fluidc", "--target", "reference")
    assert done.exit_code == 0, done.output
    assert "feeds       img f32[N,784], label i64[N,1]" in done.stdout
    assert "paddle.dataset.mnist IS SUBSTITUTED" in done.stderr
    assert "paddle" not in sys.modules
    shown = fluidc("dump", "old.py", "--stage", "captured")
    assert shown.exit_code == 0, shown.output
    assert 'feed "img"' in shown.stdout


def test_as_a_process_of_its_own() -> None:
    """Standard output is the script's alone, as when Python runs it."""
    script("import helper\nimport paddle.fluid as fluid\nprint(__name__, helper.VALUE, fluid.__name__)\nexit(5)")
    script("VALUE = 3", "helper.py")
    done = subprocess.run(
        [sys.executable, "-m", "fluidc.frontend.cli", "exec", "old.py"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (5, "__main__ 3 paddle.fluid\n", "")


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("import sys; sys.exit()", 0, ""),
        ("import sys; sys.exit('the end')", 1, "the end\n"),
        ("raise KeyboardInterrupt", 130, ""),
    ],
)
def test_exit_codes(text: str, code: int, said: str) -> None:
    done = fluidc("exec", script(text))
    assert (done.exit_code, done.stderr) == (code, said)


MISTAKES = {
    "python_2": "import sys\nfor name in sys.argv:\n    print name\n",
    "python_2_error": "import paddle.fluid\nrows = {}\n\ndef count():\n    return rows.has_key(3)\n\ncount()\n",
    "fails": "import paddle.fluid as fluid\n\ndef look(rates):\n    return rates['rate']\n\nlook({})\n",
    "paddle_0": "import paddle.v2 as paddle\n",
    "paddle_2": "import paddle\nx = paddle.static.data('x', [3])\n",
    "machines": "import paddle.distributed.launch\n",
    "layer_that_is_missing": """
        import paddle.fluid as fluid
        from paddle.fluid.layers import roi_align
        x = fluid.layers.data("x", [4])
        y = roi_align(x, x)
        """,
    "layer_that_never_was": "import paddle.fluid as fluid\nfluid.layers.fully_connected(3)\n",
    "layer_refuses": 'import paddle.fluid as fluid\nfluid.layers.fc(fluid.layers.data("x", [4]), 0)\n',
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name: str, golden: Callable[..., None]) -> None:
    done = fluidc("exec", script(MISTAKES[name]))
    assert done.exit_code == 1
    assert "Traceback" not in done.output
    golden(f"errors/exec_{name}.txt", done.stderr)


def test_verbose_shows_all() -> None:
    done = fluidc("exec", "-v", script(MISTAKES["fails"]))
    assert done.exit_code == 1
    assert "KeyError: 'rate'" in done.stderr
    assert "Traceback" in done.stderr


def test_a_module_for_python_2_is_named() -> None:
    script("import helper")
    script("print 'a'", "helper.py")
    done = fluidc("exec", "old.py")
    assert "this is a script for Python 2: it has a print statement" in done.stderr
    assert f"at {Path.cwd() / 'helper.py'}:1" in done.stderr


def test_what_is_no_script() -> None:
    Path("model.fluidc").write_bytes(b"PK")
    done = fluidc("exec", "model.fluidc")
    assert done.exit_code == 1
    assert "this is no script" in done.stderr
    assert fluidc("exec", "nowhere.py").exit_code == 2


@pytest.mark.parametrize("command", ["exec", "check"])
def test_what_python_does_not_parse(command: str) -> None:
    done = fluidc(command, script(f"x = {'-' * 5000}1"))
    assert done.exit_code == 1
    assert "error: the script holds an expression that is nested too deeply for Python\n  at old.py" in done.stderr


def test_arguments_go_after_two_dashes() -> None:
    done = fluidc("exec", script("pass"), "--epochs", "3")
    assert done.exit_code == 2
    assert "arguments of the script go after --: fluidc exec SCRIPT.py -- ARGS" in done.stderr


def test_modules_beside_a_script_are_its_own() -> None:
    """The next script finds the helper of its own folder; libraries stay as they are."""
    for folder, value in (("one", 1), ("two", 2)):
        Path(folder, "parts").mkdir(parents=True)
        script(f"VALUE = {value}", f"{folder}/helper.py")
        script(f"VALUE = {-value}", f"{folder}/parts/more.py")
        done = fluidc(
            "exec", script("import helper, parts.more\nprint(helper.VALUE, parts.more.VALUE)", f"{folder}/a.py")
        )
        assert done.stdout == f"{value} {-value}\n"
    assert not {"helper", "parts", "parts.more"} & sys.modules.keys()
    assert np is sys.modules["numpy"]


def test_the_process_is_as_before() -> None:
    before = sys.argv, list(sys.path), sys.modules["__main__"], os.getcwd(), np.load
    fluidc("exec", script("import os, sys\nsys.path.append('x')\nos.chdir('/')\nimport paddle"))
    assert before == (sys.argv, sys.path, sys.modules["__main__"], os.getcwd(), np.load)
    assert "paddle" not in sys.modules


def test_flags_and_the_profiler_are_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    flags = "import paddle.fluid as fluid\nfluid.set_flags({'FLAGS_benchmark': True})\n"
    done = fluidc("exec", script(f"{flags}fluid.profiler.start_profiler('CPU')"))
    assert done.exit_code == 0, done.output
    assert fluid.get_flags("FLAGS_benchmark") == {"FLAGS_benchmark": False}
    fluid.profiler.stop_profiler()
    assert capsys.readouterr().out == "", "it does not run"


_NETWORK = """
import numpy as np, paddle.fluid as fluid
x = fluid.layers.data("x", [4])
y = fluid.layers.fc(x, 1)
exe = fluid.Executor(fluid.CPUPlace())
exe.run(fluid.default_startup_program())
print(exe.run(feed={"x": np.ones((2, 4), "float32")}, fetch_list=[y])[0].shape)
"""


def test_libraries_do_not_see_modules_beside_a_script() -> None:
    """TVM asks for an optional ``cuda`` while it is loaded: in a new process."""
    for name in ("cuda", "tvm", "tvm_ffi", "onnx", "mine"):
        script("print('sibling', __name__)", f"{name}.py")
    path = script(_NETWORK)
    command = [sys.executable, "-m", "fluidc.frontend.cli", "exec", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "FLUIDC_CACHE": ""})
    assert (done.returncode, done.stdout) == (0, "(2, 1)\n"), done.stderr
    done = fluidc("exec", script("import cuda, importlib; importlib.import_module('mine')" + _NETWORK, "b.py"))
    assert done.stdout == "sibling cuda\nsibling mine\n(2, 1)\n"


def test_a_module_named_as_a_library_of_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    script("raise AssertionError", "onnxruntime.py")
    done = fluidc("exec", script("import sys\nimport onnxruntime"))
    assert done.exit_code == 1
    for said in ("old.py:2", "has the name of the library onnxruntime", "rename it"):
        assert said in done.stderr


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("fluid.layers.fc(x, 3, activation='relu')", "did you mean act? fc takes input, size, num_flatten_dims"),
        ("fluid.layers.fc(x)", "fc takes input, size"),
        ("fluid.optimizer.Adam(learning_rat=0.1)", "did you mean learning_rate? Adam"),
    ],
)
def test_a_call_that_does_not_fit(call: str, said: str) -> None:
    done = fluidc("exec", script(f"import paddle.fluid as fluid\nx = fluid.layers.data('x', [4])\n{call}"))
    assert done.exit_code == 1
    assert "old.py:3" in done.stderr
    assert said in done.stderr


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("fluid.io.load_params(fluid.Executor(), 'nodir')", "there is no such folder"),
        ("fluid.io.load_inference_model('nodir', fluid.Executor())", "nodir"),
        ("fluid.layers.fc(x, 3, act='sotfmax')", "did you mean 'softmax'?"),
        ("fluid.layers.data('z', [4], dtype='flaot32')", "did you mean 'float32'?"),
        ("fluid.Executor().run(feed={'X': 1}, fetch_list=[y])", "did you mean 'x'?"),
    ],
)
def test_errors_name_the_line_and_what_was_meant(call: str, said: str) -> None:
    text = f"import paddle.fluid as fluid\nx = fluid.layers.data('x', [4])\ny = fluid.layers.fc(x, 2)\n{call}"
    done = fluidc("exec", script(text))
    assert done.exit_code == 1
    assert "old.py:4" in done.stderr
    assert said in done.stderr


def test_fetch_var() -> None:
    text = """
    import paddle.fluid as fluid
    from paddle.fluid.executor import _fetch_var
    fluid.layers.create_global_var([1], 2.0, "float32", persistable=True, name="g")
    fluid.Executor().run(fluid.default_startup_program())
    print(repr(_fetch_var("g")), _fetch_var("g", return_numpy=False).shape())
    _fetch_var("h")
    """
    done = fluidc("exec", script(text))
    assert done.stdout == "array([2.], dtype=float32) [1]\n"
    assert "the scope has no variable 'h'" in done.stderr
