"""The programs of examples/classic from one seed to the curves of Paddle 1.8.5 (golden/paddle185/programs.json).

Initial values agree to the last bit.  Losses agree to 1e-4: a rounding moves one by 1e-6, and where it carries an
element over the kink of a relu or to another maximum, by 1e-5.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from classic_programs import NAMES, STEPS, curve, digest, load, state
from trees import GOLDENS

import fluidc.frontend as fluid

GOLDEN: dict[str, Any] = json.loads((GOLDENS / "programs.json").read_text())
SLOW_IN_NUMPY = {
    "gan": 2, "label_semantic_roles": 4, "mnist_cnn": 4, "resnet": 2, "sentiment_lstm": 2, "seq2seq": 2, "vgg": 2,
}  # fmt: skip
"""Steps on the reference target in the quick suite; the nightly one takes all."""


@pytest.fixture
def _fluidc_for_paddle(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The programs import paddle.fluid, and get fluidc."""
    paddle = ModuleType("paddle")
    paddle.__dict__["fluid"] = fluid
    monkeypatch.setitem(sys.modules, "paddle", paddle)
    monkeypatch.setitem(sys.modules, "paddle.fluid", fluid)
    with fluid.scope_guard(fluid.Scope()):
        yield


def trained(name: str, target: str, steps: int) -> None:
    module = load(name)
    model = module.build()
    exe = fluid.Executor(fluid.CPUPlace(), target=target)
    exe.run(model.startup)
    initial = {key: digest(array) for key, array in sorted(state(fluid, model, fluid.global_scope()).items())}
    assert initial == GOLDEN[name]["initial"]
    found, wanted = curve(module, exe, model, steps), GOLDEN[name]["curve"][:steps]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, err_msg=name)


def test_every_program_has_a_golden() -> None:
    assert tuple(GOLDEN) == NAMES
    assert all(len(entry["curve"]) == STEPS for entry in GOLDEN.values())


@pytest.mark.usefixtures("_fluidc_for_paddle")
@pytest.mark.parametrize("name", NAMES)
def test_compiled(name: str) -> None:
    trained(name, "cpu", STEPS)


@pytest.mark.usefixtures("_fluidc_for_paddle")
@pytest.mark.parametrize("name", NAMES)
def test_in_numpy(name: str) -> None:
    trained(name, "reference", SLOW_IN_NUMPY.get(name, STEPS))


@pytest.mark.nightly
@pytest.mark.usefixtures("_fluidc_for_paddle")
@pytest.mark.parametrize("name", SLOW_IN_NUMPY)
def test_in_numpy_to_the_end(name: str) -> None:
    trained(name, "reference", STEPS)
