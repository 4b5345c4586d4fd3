"""What `make gpu` runs on a machine with a GPU, here on the emulated device."""

from __future__ import annotations

import json
from pathlib import Path

import cuda_device
import cuda_kit
import pytest
from cuda_worker import Worker

pytestmark = pytest.mark.skipif(cuda_device.available() is not None, reason=str(cuda_device.available()))


@pytest.mark.parametrize("wrong", [False, True], ids=["right", "wrong"])
def test_a_kit_checks_and_times(tmp_path: Path, wrong: bool) -> None:
    with Worker(checked=False) as worker:
        code, said = worker.run(cuda_kit.write_and_run, tmp_path / "kit", wrong).value
    assert code == int(wrong), said
    assert f"op cases: 3, wrong: {int(wrong)}" in said
    found = json.loads((tmp_path / "kit" / "found.json").read_text())
    assert set(found["models"]) == set(found["times"]) == {"mlp-plain", "mlp-private"}
    for times in found["times"].values():
        assert times["seconds"]["fluidc"] > times["least"] > 0
    assert (tmp_path / "kit" / "lib" / "fluidc" / "runtime" / "lib" / "libtvm_runtime_cuda.so").exists()
