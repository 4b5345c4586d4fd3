"""Scripts of dygraph on the command line: a traced Layer as an artifact and as an ONNX file."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from click.testing import CliRunner, Result

from fluidc.frontend.cli import main
from fluidc.runtime.artifact import Artifact

SCRIPT = """
import numpy as np
import fluidc.frontend as fluid
from fluidc.frontend.dygraph import BatchNorm, Layer, Linear, TracedLayer, to_variable

class Net(Layer):
    def __init__(self):
        super().__init__()
        self.hidden, self.norm, self.out = Linear(4, 8, act="tanh"), BatchNorm(8), Linear(8, 3, act="softmax")

    def forward(self, x):
        return self.out(self.norm(self.hidden(x)))

rng = np.random.default_rng(0)
with fluid.dygraph.guard(target="reference"):
    net = Net()
    adam = fluid.optimizer.Adam(0.01, parameter_list=net.parameters())
    for step in range(5):
        x = rng.standard_normal((16, 4)).astype("float32")
        label = to_variable((x[:, :1] > 0).astype("int64"))
        loss = fluid.layers.mean(fluid.layers.cross_entropy(net(to_variable(x)), label))
        loss.backward()
        adam.minimize(loss)
        net.clear_gradients()
    example = [to_variable(x[:7])]
    _, training = TracedLayer.trace(net, example)
    net.eval()
    predicted, traced = TracedLayer.trace(net, example)
    np.savez("data.npz", feed_0=x[:7])
    np.save("expected.npy", predicted.numpy())

startup = fluid.Program()
with fluid.program_guard(training.program, startup):
    label = fluid.data("label", [None, 1], "int64")
    scores = training.program.global_block().var(training.fetch_names[0])
    loss = fluid.layers.mean(fluid.layers.cross_entropy(scores, label))
    fluid.optimizer.Adam(0.01).minimize(loss)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("script.py").write_text(SCRIPT)
    return tmp_path


def fluidc(*arguments: str) -> Result:
    result = CliRunner().invoke(main, arguments, prog_name="fluidc")
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.parametrize("target", ["cpu", "reference"])
def test_a_traced_layer_becomes_an_artifact_that_predicts_the_same(target: str) -> None:
    fluidc("compile", "script.py:traced", "-o", "net.fluidc", "--target", target)
    fluidc("predict", "net.fluidc", "--data", "data.npz", "-o", "predicted.npz")
    (predicted,) = np.load("predicted.npz").values()
    np.testing.assert_allclose(predicted, np.load("expected.npy"), rtol=1e-5, atol=1e-6)


def test_a_traced_layer_becomes_an_onnx_file_that_predicts_the_same() -> None:
    fluidc("compile", "script.py:traced", "-o", "net.onnx")
    session = onnxruntime.InferenceSession("net.onnx", providers=["CPUExecutionProvider"])
    (predicted,) = session.run(None, dict(np.load("data.npz")))
    np.testing.assert_allclose(predicted, np.load("expected.npy"), rtol=1e-5, atol=1e-6)


def test_the_only_traced_layer_of_a_script_needs_no_name() -> None:
    lines = """
        import numpy as np
        import fluidc.frontend as fluid
        with fluid.dygraph.guard(target="reference"):
            _, layer = fluid.dygraph.TracedLayer.trace(fluid.dygraph.Linear(3, 2), [np.ones((4, 3), "f4")])
    """
    Path("small.py").write_text(textwrap.dedent(lines))
    fluidc("compile", "small.py", "-o", "small.fluidc", "--target", "reference")
    assert Artifact.read("small.fluidc").manifest.fetches == ("linear_0.tmp_1",)


def test_a_program_that_trains_a_traced_layer_begins_with_its_values() -> None:
    fluidc("compile", "script.py", "-o", "training.fluidc", "--target", "reference")
    artifact = Artifact.read("training.fluidc")
    assert {"linear_0.w_0", "linear_1.b_0", "batch_norm_0.w_1", "batch_norm_0.w_2"} <= artifact.state.keys()
    functions = {function.name: function for function in artifact.manifest.functions}
    # The test form gives the layer's output beside the loss.
    outputs = [output.name for output in functions["infer"].outputs]
    assert [name.partition(".")[0] for name in outputs] == ["mean_0", "linear_1"]
    rows = np.zeros((20, 4), np.float32)
    np.savez("train.npz", feed_0=rows, label=np.zeros((20, 1), np.int64))
    told = fluidc(
        "run", "training.fluidc", "--data", "train.npz", "--steps", "3", "--batch", "10", "-o", "trained.fluidc"
    )
    assert "steps" in told.output
    state = Artifact.read("trained.fluidc").state
    assert not np.array_equal(state["linear_1.b_0"], artifact.state["linear_1.b_0"])
