"""The Python API and ``fluidc compile`` with ``fluidc run`` take the same private steps."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from fluidc.frontend.cli import main
from fluidc.runtime.artifact import Artifact

SCRIPT = """
import numpy as np
import fluidc.frontend as fluid

program, startup = fluid.Program(), fluid.Program()
program.random_seed = startup.random_seed = 5
with fluid.program_guard(program, startup), fluid.unique_name.guard():
    x, y = fluid.layers.data("x", [4]), fluid.layers.data("y", [1], dtype="int64")
    loss = fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(fluid.layers.fc(x, 2), y))
    fluid.optimizer.Dpsgd(
        0.5, clip=1.0, batch_size=20.0, sigma=1.0, dataset_size=200, delta=1e-4, max_steps=12
    ).minimize(loss)
exe, scope = fluid.Executor(target="reference"), fluid.Scope()
exe.run(startup, scope=scope)
fluid.privacy.insecure_noise_key(bytes.fromhex("00ff"))
with np.load("data.npz") as data:
    for lot in fluid.privacy.poisson_batches(dict(data), program):
        exe.run(program, feed=lot, fetch_list=[loss], scope=scope)
fluid.privacy.insecure_noise_key(None)
weights = np.array(scope.find_var("fc_0.w_0").get_tensor())
"""


@pytest.mark.filterwarnings("ignore::fluidc.frontend.dpsgd.PrivacyWarning")
def test_private_training_agrees_bit_by_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4)).astype("f4")
    np.savez("data.npz", x=x, y=(x[:, :1] > 0).astype("i8"))
    Path("script.py").write_text(SCRIPT)
    weights = runpy.run_path("script.py")["weights"]
    for line in (
        "compile script.py -o out.fluidc --target reference",
        "run out.fluidc --data data.npz -o trained.fluidc --steps 12 --insecure-noise-key 00ff",
    ):
        result = CliRunner().invoke(main, line.split(), prog_name="fluidc")
        assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(Artifact.read("trained.fluidc").state["fc_0.w_0"], weights)
