"""A bundle for CUDA devices on a Python that has numpy only, with the emulated device's libraries for NVIDIA's."""

from __future__ import annotations

from pathlib import Path

import cuda_bundles
import cuda_device
import numpy as np
import pytest
from bundles import artifact, bare_python, run, write_data
from cuda_worker import Worker

from fluidc.frontend.bundle import bundle_of, write_folder
from fluidc.frontend.cli.engines import choose_engine
from fluidc.runtime.artifact import Artifact
from fluidc.runtime.session import Session

pytestmark = pytest.mark.skipif(cuda_device.available() is not None, reason=str(cuda_device.available()))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bundle, a bare Python, and the data."""
    folder = tmp_path_factory.mktemp("cuda")
    with Worker(checked=False) as worker:
        (folder / "digits.fluidc").write_bytes(worker.run(cuda_bundles.artifact).value)
    write_folder(bundle_of(folder / "digits.fluidc"), folder / "bundle")
    bare_python(folder / "bare", ["numpy"])
    write_data(folder / "data.npz")
    return folder


def test_it_trains_as_numpy_does(made: Path) -> None:
    libraries = ":".join(str(cuda_device.libraries() / name) for name in ("libcuda.so.1", "libcudart.so.13"))
    options = ["--data", "data.npz", "--seed", 3, "--batch", 32, "--steps", 2, "-o", "trained.fluidc"]
    command = [made / "bare" / "bin" / "python", "bundle/run.py", "run", *options]
    done = run(command, made, LD_PRELOAD=libraries)
    assert done.returncode == 0, done.stderr
    assert "Exception ignored" not in done.stderr
    found = Artifact.read(made / "trained.fluidc").state
    read = Artifact.from_bytes(artifact("reference", False), "digits")
    expected = Session.load(read, choose_engine(read, 1), seed=3)
    expected.train(made / "data.npz", steps=2, batch=32, progress=False)
    assert found.keys() == expected.model.state.keys()
    for name, value in expected.model.state.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=2e-6, err_msg=name)


def test_without_a_driver(made: Path) -> None:
    """What looks at the artifact does not need one."""
    command = [made / "bare" / "bin" / "python", made / "bundle" / "run.py"]
    assert run([*command, "inspect"], made).returncode == 0
    done = run([*command, "run", "--data", made / "data.npz", "--steps", 1], made)
    if Path("/proc/driver/nvidia").exists():
        pytest.skip("this machine has a driver")
    assert done.returncode == 1
    assert "error: this machine has no NVIDIA driver: libcuda.so.1 is not found" in done.stderr


def test_what_it_holds_and_says(made: Path) -> None:
    assert (made / "bundle/lib/fluidc/runtime/lib/libtvm_runtime_cuda.so").is_file()
    text = " ".join((made / "bundle/README.txt").read_text().split())
    chips = Artifact.read(made / "digits.fluidc").manifest.target.architectures
    assert chips
    assert f"It runs on an NVIDIA GPU (it has code for {', '.join(chips)})" in text
    assert "libcudart.so.13" in text
