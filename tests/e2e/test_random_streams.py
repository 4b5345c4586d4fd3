"""Model randomness has an end: calls and lots that would reach it are refused before anything runs."""

from __future__ import annotations

import numpy as np
import pytest

import fluidc.frontend as fluid
from fluidc.compiler import driver
from fluidc.compiler.ops.drawing import Drawing
from fluidc.frontend.cli.engines import choose_engine
from fluidc.frontend.lower import lower
from fluidc.runtime import Session
from fluidc.runtime.errors import DataError

pytest.importorskip("tvm")


def session(private: bool, target: str) -> Session:
    """Dropout of 12 numbers an example."""
    with fluid.program_guard(fluid.Program(), fluid.Program()), fluid.unique_name.guard():
        x = fluid.data("x", [-1, 4], "float32")
        loss = fluid.layers.mean(fluid.layers.fc(fluid.layers.dropout(fluid.layers.fc(x, 12), 0.5), 1))
        inner = fluid.optimizer.SGD(0.1)
        optimizer = fluid.optimizer.DpOptimizer(inner, clip=1.0, batch_size=8.0, sigma=1.0) if private else inner
        optimizer.minimize(loss)
        source = lower(loss.block.program, startup=fluid.default_startup_program())
    artifact = driver.compile_source(source, target=target, batch=16 if private else 0, keep_ir=True).artifact()
    return Session.load(artifact, choose_engine(artifact, None), seed=1)


@pytest.mark.parametrize("target", ["reference", "cpu", "onnx"])
@pytest.mark.parametrize("private", [False, True])
@pytest.mark.filterwarnings("ignore::fluidc.frontend.PrivacyWarning")
def test_rows_beyond_the_stream_are_refused(private: bool, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = session(private, target).model.manifest.max_rows
    assert real == ((2**36 - 160) // 12 if private else 2**36 // 12)
    monkeypatch.setattr(Drawing, "capacity", 40 * 12 + 160 + 11)
    made = session(private, target)
    most = 40 if private else 54
    assert made.model.manifest.max_rows == most
    rows = np.ones((most + 1, 4), np.float32)
    made.run({"x": rows[:-1]})
    before = {name: array.copy() for name, array in made.model.state.items()}
    with pytest.raises(DataError, match=f"{most + 1} rows are too many: .* suffice for {most}"):
        made.run({"x": rows})
    for name, array in before.items():
        np.testing.assert_array_equal(made.model.state[name], array)
