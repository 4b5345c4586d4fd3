"""How much of fluid 1.8.5 there is, by the uses of its names in public scripts."""

from __future__ import annotations

import pytest

import fluidc.frontend as fluid
from fluidc.frontend.api.coverage import MODULES, coverage, implemented
from fluidc.frontend.missing import MissingName


@pytest.mark.parametrize("module", ["optimizer", "initializer", "regularizer", "clip"])
def test_all_of_it(module: str) -> None:
    found = coverage(module)
    assert found.missing == ()
    assert found.share == found.weighted == 1.0


def test_layers_by_their_use() -> None:
    assert coverage("layers").weighted >= 0.97


def test_names_that_are_refused_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    before = coverage("layers")
    monkeypatch.setattr(fluid.layers, "fc", MissingName("fluid.layers.fc", "use mul"))
    after = coverage("layers")
    assert after.implemented == before.implemented - 1
    assert after.missing[0] == "fc"
    assert after.missing_uses["fc"] == 1303
    assert after.weighted < before.weighted - 0.08
    assert not implemented("", "WeightNormParamAttr") or fluid.WeightNormParamAttr(dim=0)


@pytest.mark.parametrize("module", MODULES)
def test_implemented_and_missing_are_all(module: str) -> None:
    found = coverage(module)
    assert set(found.missing_uses) <= set(found.missing)
    assert not any(implemented(module, name) for name in found.missing if not name.startswith("_"))
    assert 0 <= found.weighted <= 1
