"""What a user reads after a mistake: what happened, where, what to do next.  Every message is pinned.

Mistakes in IR text, on the command line and in single layers have tables of their own (tests/ir, tests/cli,
tests/frontend); here are those of a program's life: building it, running it, and training its artifact.
"""

from __future__ import annotations

import inspect
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import fluidc.frontend as fluid
from fluidc.compiler.errors import FluidcError
from fluidc.frontend.cli import main as fluidc
from fluidc.runtime.artifact import Artifact
from fluidc.runtime.ledger import Ledger

L = fluid.layers
X = np.arange(12, dtype=np.float32).reshape(3, 4) / 12
Y = np.array([[0], [2], [1]])


# Programs -----------------------------------------------------------------------------------------------


def data() -> tuple[fluid.Variable, fluid.Variable]:
    return L.data("x", [4]), L.data("y", [1], dtype="int64")


def classifier() -> fluid.Variable:
    """The mean loss of a linear classifier."""
    x, y = data()
    return L.mean(L.softmax_with_cross_entropy(L.fc(x, 3), y))


def sgd(loss: fluid.Variable) -> None:
    fluid.optimizer.SGD(0.1).minimize(loss)


STATED: dict[str, Any] = {"clip": 1.0, "batch_size": 2.0, "sigma": 1.0}


def but(**changed: Any) -> dict[str, Any]:
    """What the examples state, with changes."""
    return STATED | changed


def dpsgd(loss: fluid.Variable) -> None:
    fluid.optimizer.Dpsgd(0.1, **STATED).minimize(loss)


def executor(*, startup: bool = True) -> fluid.Executor:
    exe = fluid.Executor(target="reference")
    if startup:
        exe.run(fluid.default_startup_program())
    return exe


def trainable() -> fluid.Variable:
    """The loss of the classifier, trained by SGD."""
    loss = classifier()
    sgd(loss)
    return loss


# Mistakes while a program is built and run --------------------------------------------------------------


def unfed() -> None:
    loss = classifier()
    sgd(loss)
    executor().run(feed={"x": X}, fetch_list=[loss])


def unfed_after_a_step() -> None:
    loss = classifier()
    sgd(loss)
    exe = executor()
    exe.run(feed={"x": X, "y": Y}, fetch_list=[loss])
    exe.run(feed={"y": Y}, fetch_list=[loss])


def feed_of_another_type() -> None:
    loss = trainable()
    feed = {"x": X, "y": Y} | {"x": X.astype(np.float64)}
    executor().run(feed=feed, fetch_list=[loss])


def feed_of_text() -> None:
    loss = trainable()
    feed = {"x": X, "y": Y} | {"x": np.array([["a"] * 4] * 3)}
    executor().run(feed=feed, fetch_list=[loss])


def feed_of_another_shape() -> None:
    loss = trainable()
    feed = {"x": X, "y": Y} | {"x": np.zeros((3, 5), np.float32)}
    executor().run(feed=feed, fetch_list=[loss])


def feed_of_another_rank() -> None:
    loss = trainable()
    feed = {"x": X, "y": Y} | {"y": np.array([0, 2, 1])}
    executor().run(feed=feed, fetch_list=[loss])


def feeds_of_unequal_rows() -> None:
    loss = trainable()
    feed = {"x": X, "y": Y} | {"y": Y[:2]}
    executor().run(feed=feed, fetch_list=[loss])


def label_out_of_range() -> None:
    loss = trainable()
    feed = {"x": X, "y": Y} | {"y": np.array([[0], [3], [1]])}
    executor().run(feed=feed, fetch_list=[loss])


def id_out_of_range() -> None:
    ids = L.data("ids", [1], dtype="int64")
    rows = L.embedding(ids, size=[5, 2])
    executor().run(feed={"ids": np.array([[1], [5]])}, fetch_list=[rows])


def startup_not_run() -> None:
    loss = classifier()
    sgd(loss)
    executor(startup=False).run(feed={"x": X, "y": Y}, fetch_list=[loss])


def startup_run_before_minimize() -> None:
    loss = classifier()
    exe = executor()
    fluid.optimizer.Adam(0.1).minimize(loss)
    exe.run(feed={"x": X, "y": Y}, fetch_list=[loss])


def unknown_fetch() -> None:
    loss = classifier()
    sgd(loss)
    executor().run(feed={"x": X, "y": Y}, fetch_list=["accuracy"])


def fetch_that_is_no_variable() -> None:
    classifier()
    executor().run(feed={"x": X, "y": Y}, fetch_list=[3])  # type: ignore[list-item]


def private_gradient_fetched() -> None:
    x, y = data()
    hidden = L.fc(x, 3)
    dpsgd(L.mean(L.softmax_with_cross_entropy(hidden, y)))
    executor().run(feed={"x": X, "y": Y}, fetch_list=[hidden.name + "@GRAD"])


def parameter_of_another_shape() -> None:
    x, _ = data()
    L.fc(x, 3, param_attr="w")
    L.fc(x, 5, param_attr="w")


def op_without_gradient() -> None:
    x, _ = data()
    total, most = L.fc(x, 3), L.fill_constant([1], "float32", 3.0)
    goes_on = L.less_than(L.reduce_sum(L.abs(total)), most)
    loop = L.While(goes_on)
    with loop.block():
        L.assign(L.scale(total, 2.0), total)
        L.less_than(L.reduce_sum(L.abs(total)), most, cond=goes_on)
    sgd(L.mean(total))
    executor().run(feed={"x": X})


def batch_norm_under_dpsgd() -> None:
    x, y = data()
    hidden = L.batch_norm(L.fc(x, 3))
    dpsgd(L.mean(L.softmax_with_cross_entropy(hidden, y)))
    executor().run(feed={"x": X, "y": Y})


def pairs_of_examples_under_dpsgd() -> None:
    x, _ = data()
    score = L.fc(x, 1)
    difference = L.elementwise_sub(score, L.transpose(score, [1, 0]))
    dpsgd(L.mean(difference))
    executor().run(feed={"x": X})


def softmax_over_the_batch_under_dpsgd() -> None:
    x, _ = data()
    weights = L.softmax(L.fc(x, 1), axis=0)
    dpsgd(L.mean(weights))
    executor().run(feed={"x": X})


def loss_times_batch_size_under_dpsgd() -> None:
    x, y = data()
    loss = L.mean(L.softmax_with_cross_entropy(L.fc(x, 3), y))
    size = L.reduce_sum(L.fill_constant_batch_size_like(x, [-1, 1], "float32", 1.0))
    dpsgd(L.elementwise_mul(loss, size))
    executor().run(feed={"x": X, "y": Y})


def no_batch_size() -> None:
    fluid.optimizer.Dpsgd(0.1, **but(batch_size=0)).minimize(classifier())


def negative_clip() -> None:
    fluid.optimizer.Dpsgd(0.1, **but(clip=-1.0)).minimize(classifier())


def unknown_clipping() -> None:
    fluid.optimizer.Dpsgd(0.1, **but(clipping="elastic")).minimize(classifier())


def unknown_mechanism() -> None:
    fluid.optimizer.Dpsgd(0.1, **but(mechanism="laplace")).minimize(classifier())


def quantile_of_small_lots() -> None:
    fluid.optimizer.Dpsgd(0.1, **but(clipping="quantile")).minimize(classifier())
    executor().run(feed={"x": X, "y": Y})


def quantile_outside_its_range() -> None:
    fluid.optimizer.Dpsgd(0.1, **but(clipping="quantile", clipping_options={"c_max": 0.5})).minimize(classifier())


def option_of_another_clipping() -> None:
    fluid.optimizer.Dpsgd(0.1, **but(clipping="automatic", clipping_options={"eta": 0.2})).minimize(classifier())


def phases_of_quantile_clipping() -> None:
    phases = [fluid.privacy.Phase(5)]
    fluid.optimizer.Dpsgd(0.1, **but(clipping="quantile", max_steps=None, phases=phases)).minimize(classifier())


def phases_of_other_steps() -> None:
    phases = [fluid.privacy.Phase(5), fluid.privacy.Phase(7, sigma=2.0)]
    fluid.optimizer.Dpsgd(0.1, **but(max_steps=11, phases=phases)).minimize(classifier())


def phase_without_sigma() -> None:
    phases = [fluid.privacy.Phase(5)]
    optimizer = fluid.optimizer.Dpsgd(0.1, **but(sigma=None, max_steps=None, epsilon=2.0, phases=phases))
    optimizer.minimize(classifier())
    executor().run(feed={"x": X, "y": Y})


def one_bound_for_groups() -> None:
    fluid.optimizer.Dpsgd(0.1, **but(clipping="per-group")).minimize(classifier())


def groups_that_lack_a_parameter() -> None:
    fluid.optimizer.Dpsgd(0.1, **but(clipping="per-group", clip={"*.w_0": 1.0})).minimize(classifier())
    executor().run(feed={"x": X, "y": Y})


def groups_that_share_a_parameter() -> None:
    clip = {"fc_0": 1.0, "*.b_0": 0.5}
    fluid.optimizer.Dpsgd(0.1, **but(clipping="per-group", clip=clip)).minimize(classifier())
    executor().run(feed={"x": X, "y": Y})


def group_of_no_parameter() -> None:
    clip = {"fc_0": 1.0, "fc_7": 0.5}
    fluid.optimizer.Dpsgd(0.1, **but(clipping="per-group", clip=clip)).minimize(classifier())
    executor().run(feed={"x": X, "y": Y})


def too_few_bounds_for_groups() -> None:
    fluid.optimizer.Dpsgd(0.1, **but(clipping="per-group", clip=[1.0])).minimize(classifier())
    executor().run(feed={"x": X, "y": Y})


def private_optimizer_in_another() -> None:
    inner = fluid.optimizer.Dpsgd(0.1, **but())
    fluid.optimizer.DpOptimizer(inner, **but()).minimize(classifier())


def private_optimizer_without_noise() -> None:
    fluid.optimizer.DpOptimizer(fluid.optimizer.Adam(0.1), 1.0, 16.0).minimize(classifier())


def gradients_of_another_backward() -> None:
    loss = classifier()
    optimizer = fluid.optimizer.DpOptimizer(fluid.optimizer.Adam(0.1), **but())
    optimizer.apply_gradients(fluid.backward.append_backward(loss))


def grid_finer_than_64_bits() -> None:
    stated = but(mechanism="discrete", clipping_options={"grid_bits": 30})
    fluid.optimizer.Dpsgd(0.1, **stated).minimize(classifier())
    executor().run(feed={"x": X, "y": Y})


def grid_on_onnx() -> None:
    loss = classifier()
    fluid.optimizer.Dpsgd(0.1, **but(mechanism="discrete")).minimize(loss)
    exe = fluid.Executor(target="onnx")
    exe.run(fluid.default_startup_program())
    exe.run(feed={"x": X, "y": Y}, fetch_list=[loss])


def kernel_of_paddle() -> None:
    stated = but(sigma=None, epsilon=3.0, dataset_size=100, delta=1e-3, max_steps=10, mechanism="paddle")
    fluid.optimizer.Dpsgd(0.1, **stated).minimize(classifier())
    executor().run(feed={"x": X, "y": Y})


def adjacency_without_a_theorem() -> None:
    fluid.optimizer.Dpsgd(0.1, **but(sampler="balls", adjacency="replace-one")).minimize(classifier())


def epsilon_that_cannot_be_kept() -> None:
    stated = but(sigma=None, epsilon=1e-9, dataset_size=4, delta=1e-12, max_steps=1000000)
    fluid.optimizer.Dpsgd(0.1, **stated).minimize(classifier())
    executor().run(feed={"x": X, "y": Y})


def budget_that_does_not_add_up() -> None:
    fluid.optimizer.Dpsgd(0.1, **but(epsilon=1.0, dataset_size=4, delta=1e-5, max_steps=1000)).minimize(classifier())
    executor().run(feed={"x": X, "y": Y})


def unknown_target() -> None:
    loss = classifier()
    exe = fluid.Executor(target="tpu")
    exe.run(fluid.default_startup_program())
    exe.run(feed={"x": X, "y": Y}, fetch_list=[loss])


def cuda_place() -> None:
    fluid.Executor(fluid.CUDAPlace(0), target="onnx")


BUILDING: tuple[Callable[[], None], ...] = (
    unfed, unfed_after_a_step, feed_of_another_type, feed_of_text, feed_of_another_shape, feed_of_another_rank,
    feeds_of_unequal_rows, label_out_of_range, id_out_of_range, startup_not_run, startup_run_before_minimize,
    unknown_fetch, fetch_that_is_no_variable, private_gradient_fetched, parameter_of_another_shape,
    op_without_gradient, batch_norm_under_dpsgd, pairs_of_examples_under_dpsgd, softmax_over_the_batch_under_dpsgd,
    loss_times_batch_size_under_dpsgd, no_batch_size, negative_clip, unknown_clipping, unknown_mechanism,
    quantile_of_small_lots, quantile_outside_its_range, option_of_another_clipping, one_bound_for_groups,
    phases_of_quantile_clipping, phases_of_other_steps, phase_without_sigma,
    groups_that_lack_a_parameter, groups_that_share_a_parameter, group_of_no_parameter, too_few_bounds_for_groups,
    private_optimizer_in_another, private_optimizer_without_noise, gradients_of_another_backward,
    grid_finer_than_64_bits, grid_on_onnx, kernel_of_paddle, adjacency_without_a_theorem,
    epsilon_that_cannot_be_kept, budget_that_does_not_add_up, unknown_target, cuda_place,
)  # fmt: skip


def portable(text: str, mistake: Callable[[], None]) -> str:
    """Lines of the mistake's own function counted from its ``def``; other lines of this file by their text."""
    start = inspect.getsourcelines(mistake)[1]
    length = len(inspect.getsourcelines(mistake)[0])

    def place(match: re.Match[str]) -> str:
        line = int(match[1]) - start
        if 0 <= line < length:
            return f"script.py:{line}"
        return f"script.py, `{Path(__file__).read_text().splitlines()[int(match[1]) - 1].strip()}`"

    return re.sub(re.escape(__file__) + r":(\d+)", place, text)


@pytest.mark.parametrize("mistake", BUILDING, ids=lambda mistake: mistake.__name__)
@pytest.mark.filterwarnings("ignore::fluidc.runtime.errors.PrivacyWarning")
def test_a_program(mistake: Callable[[], None], golden: Callable[..., None]) -> None:
    fresh = fluid.program_guard(fluid.Program(), fluid.Program()), fluid.unique_name.guard(), fluid.Scope()
    with fresh[0], fresh[1], fluid.scope_guard(fresh[2]), pytest.raises(FluidcError) as caught:
        mistake()
    golden(f"errors/program_{mistake.__name__}.txt", portable(str(caught.value), mistake) + "\n")
    assert "script.py" in portable(str(caught.value.where), mistake)
    assert caught.value.hint
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_refused_step_changes_nothing() -> None:
    with fluid.program_guard(fluid.Program(), fluid.Program()), fluid.unique_name.guard():
        scope = fluid.Scope()
        with fluid.scope_guard(scope):
            loss = classifier()
            fluid.optimizer.Adam(0.1).minimize(loss)
            exe = executor()
            exe.run(feed={"x": X, "y": Y}, fetch_list=[loss])
            names = [v.name for v in fluid.default_main_program().list_vars() if v.persistable]
            before = {name: _value(scope, name) for name in names}
            for feed in ({"x": X}, {"x": X, "y": Y[:2]}, {"x": X, "y": Y + 2}, {"x": X.astype(np.float64), "y": Y}):
                with pytest.raises(FluidcError):
                    exe.run(feed=feed, fetch_list=[loss])
            for name, value in before.items():
                np.testing.assert_array_equal(value, _value(scope, name))


def _value(scope: fluid.Scope, name: str) -> np.ndarray:
    variable = scope.find_var(name)
    assert variable is not None
    return np.array(variable.get_tensor().array)


# Mistakes with artifacts --------------------------------------------------------------------------------

SCRIPT = """
import numpy as np
import fluidc.frontend as fluid

x, y = fluid.layers.data("x", [4]), fluid.layers.data("y", [1], dtype="int64")
hidden = fluid.layers.fc(x, {size})
loss = fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(hidden, y))
fluid.optimizer.{optimizer}.minimize(loss)
exe = fluid.Executor(target="reference")
exe.run(fluid.default_startup_program())
"""
SGD = "SGD(0.1)"
DPSGD = "Dpsgd(0.1, clip=1.0, batch_size=4.0, sigma=1.0, dataset_size=12, delta=1e-3, max_steps=3)"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(fluidc, [str(argument) for argument in arguments], prog_name="fluidc")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with artifacts of a plain, another plain and a private program, and their data."""
    folder = tmp_path_factory.mktemp("made")
    for name, size, optimizer in (("plain", 3, SGD), ("other", 5, SGD), ("private", 3, DPSGD)):
        script = folder / f"{name}.py"
        script.write_text(SCRIPT.format(size=size, optimizer=optimizer))
        done = run("compile", script, "-o", folder / f"{name}.fluidc", "--target", "reference")
        assert done.exit_code == 0, done.output
    rows(folder / "data.npz")
    return folder


def rows(path: Path, **changed: np.ndarray) -> Path:
    x = np.linspace(-1, 1, 48, dtype=np.float32).reshape(12, 4)
    np.savez(path, **{"x": x, "y": np.arange(12)[:, None] % 3} | changed)  # pyright: ignore[reportArgumentType]
    return path


def truncated_artifact() -> Result:
    Path("cut.fluidc").write_bytes(Path("plain.fluidc").read_bytes()[:1000])
    return run("run", "cut.fluidc", "--data", "data.npz", "--epochs", 1)


def corrupted_artifact() -> Result:
    content = bytearray(Path("plain.fluidc").read_bytes())
    at = content.index(b"module {")
    content[at] ^= 1
    Path("bad.fluidc").write_bytes(content)
    return run("run", "bad.fluidc", "--data", "data.npz", "--epochs", 1)


def artifact_that_is_none() -> Result:
    Path("notes.fluidc").write_text("Remember to train the model.")
    return run("run", "notes.fluidc", "--data", "data.npz", "--epochs", 1)


def missing_artifact() -> Result:
    return run("run", "nowhere.fluidc", "--data", "data.npz", "--epochs", 1)


def wrong_key_in_the_data() -> Result:
    with np.load("data.npz") as data:
        np.savez("renamed.npz", x=data["x"], label=data["y"])
    return run("run", "plain.fluidc", "--data", "renamed.npz", "--epochs", 1)


def wrong_type_in_the_data() -> Result:
    rows(Path("wide.npz"), x=np.zeros((12, 4)))
    return run("run", "plain.fluidc", "--data", "wide.npz", "--epochs", 1)


def wrong_label_in_the_data() -> Result:
    rows(Path("labels.npz"), y=np.arange(12)[:, None] % 4)
    return run("run", "plain.fluidc", "--data", "labels.npz", "--epochs", 1)


def data_of_unequal_rows() -> Result:
    rows(Path("short.npz"), y=np.zeros((11, 1), np.int64))
    return run("run", "plain.fluidc", "--data", "short.npz", "--epochs", 1)


def data_of_objects() -> Result:
    np.savez("objects.npz", x=np.array([None, "a"], object))
    return run("run", "plain.fluidc", "--data", "objects.npz", "--epochs", 1)


def nan_loss() -> Result:
    x = np.zeros((12, 4), np.float32)
    x[5, 2] = np.nan
    rows(Path("nan.npz"), x=x)
    return run(
        "run", "plain.fluidc", "--data", "nan.npz", "--epochs", 1, "--sampler", "sequential", "--batch", 4,
        "--check-numerics",
    )  # fmt: skip


def length_not_said() -> Result:
    return run("run", "plain.fluidc", "--data", "data.npz")


def earlier_run_in_the_folder() -> Result:
    assert run("run", "plain.fluidc", "--data", "data.npz", "--epochs", 1, "--checkpoint", "kept").exit_code == 0
    return run("run", "plain.fluidc", "--data", "data.npz", "--epochs", 1, "--checkpoint", "kept")


def checkpoint_of_another_artifact() -> Result:
    assert run("run", "plain.fluidc", "--data", "data.npz", "--epochs", 1, "--checkpoint", "kept").exit_code == 0
    return run("run", "other.fluidc", "--data", "data.npz", "--epochs", 2, "--checkpoint", "kept", "--resume")


def budget_used_up() -> Result:
    assert run("run", "private.fluidc", "--data", "data.npz").exit_code == 0
    return run("run", "private.fluidc", "--data", "data.npz")


def more_steps_than_the_budget() -> Result:
    return run("run", "private.fluidc", "--data", "data.npz", "--steps", 4)


def run_directory_of_another_artifact() -> Result:
    assert run("run", "private.fluidc", "--data", "data.npz", "--steps", 1, "--run-dir", "steps").exit_code == 0
    Path("second.py").write_text(SCRIPT.format(size=3, optimizer=DPSGD.replace("sigma=1.0", "sigma=2.0")))
    assert run("compile", "second.py", "-o", "second.fluidc", "--target", "reference").exit_code == 0
    return run("run", "second.fluidc", "--data", "data.npz", "--run-dir", "steps")


def run_directory_in_use() -> Result:
    spec = Artifact.read("private.fluidc").manifest.privacy
    assert spec is not None
    with Ledger.open("private.fluidc.run", spec):
        return run("run", "private.fluidc", "--data", "data.npz")


def prediction_that_is_no_output() -> Result:
    return run("predict", "plain.fluidc", "--data", "data.npz", "-o", "out.npz", "--fetch", "accuracy")


TRAINING: tuple[Callable[[], Result], ...] = (
    truncated_artifact, corrupted_artifact, artifact_that_is_none, missing_artifact, wrong_key_in_the_data,
    wrong_type_in_the_data, wrong_label_in_the_data, data_of_unequal_rows, data_of_objects, nan_loss, length_not_said,
    earlier_run_in_the_folder, checkpoint_of_another_artifact, budget_used_up, more_steps_than_the_budget,
    run_directory_of_another_artifact, run_directory_in_use, prediction_that_is_no_output,
)  # fmt: skip
CONTINUED = (earlier_run_in_the_folder, checkpoint_of_another_artifact, budget_used_up)


@pytest.mark.parametrize("mistake", TRAINING, ids=lambda mistake: mistake.__name__)
def test_an_artifact(
    mistake: Callable[[], Result],
    made: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    golden: Callable[..., None],
) -> None:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    result = mistake()
    said = [line for line in result.stderr.splitlines(True) if line.startswith(("error: ", "Error: ", "  "))]
    golden(
        f"errors/artifact_{mistake.__name__}.txt",
        re.sub(r"process \d+", "process 1", "".join(said).replace(str(tmp_path), ".")),
    )
    assert result.exit_code in (1, 2)
    assert "Traceback" not in result.output
    assert result.exit_code == 2 or len(said) == 3
    assert not list(tmp_path.rglob("*.tmp*"))
    assert not Path("out.npz").exists()
    if mistake not in CONTINUED and mistake is not run_directory_of_another_artifact:
        assert not list(tmp_path.rglob("step-*")), "a refused run has trained"


@pytest.mark.parametrize("mistake", CONTINUED, ids=lambda mistake: mistake.__name__)
def test_a_refused_run_leaves_the_earlier_one(
    mistake: Callable[[], Result], made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    mistake()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    again = {
        earlier_run_in_the_folder: ("plain", "--epochs", 1, "--checkpoint", "kept"),
        checkpoint_of_another_artifact: ("other", "--epochs", 2, "--checkpoint", "kept", "--resume"),
        budget_used_up: ("private",),
    }[mistake]
    assert run("run", f"{again[0]}.fluidc", "--data", "data.npz", *again[1:]).exit_code == 1
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {path.name for path in after} == {path.name for path in before}
    for path, content in before.items():
        if path.name == "ledger.jsonl":  # that the run was opened again is noted, no step
            assert after[path].startswith(content)
            assert b'"reserve"' not in after[path][len(content) :]
        else:
            assert path.suffix == ".pid" or after[path] == content, path
