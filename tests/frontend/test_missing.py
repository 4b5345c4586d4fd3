"""Every name of fluid 1.8.5 can be imported; what is not implemented says so, and what to do, when it is used."""

from __future__ import annotations

import re
from typing import Any

import pytest

import fluidc.frontend as fluid
from fluidc.frontend import api
from fluidc.frontend.errors import UnsupportedError
from fluidc.frontend.layers.missing import _INSTEAD
from fluidc.frontend.missing import MissingName, is_missing

MODULES = "layers optimizer initializer regularizer clip nets metrics io dygraph backward unique_name contrib"
NAMES = [(f"fluid.{module}", name) for module in MODULES.split() for name in sorted(api.names(f"fluid.{module}"))] + [
    ("fluid", name) for name in sorted(api.names("fluid"))
]


def found(module: str, name: str) -> Any:
    where: Any = fluid
    for part in [*module.split(".")[1:], name]:
        where = getattr(where, part)
    return where


def test_every_name_can_be_imported() -> None:
    assert len(api.names("fluid.layers")) == 355
    for module, name in NAMES:
        value = found(module, name)
        if isinstance(value, MissingName):
            assert name in value.name
            assert value.hint


def test_a_name_that_fluid_never_had() -> None:
    with pytest.raises(AttributeError, match=r"fluid\.layers has no attribute 'softmx'; did you mean softmax\?"):
        fluid.layers.softmx  # noqa: B018
    with pytest.raises(AttributeError, match=r"'embbeding_bag'$"):
        fluid.layers.embbeding_bag  # noqa: B018
    assert not hasattr(fluid, "Progran")


def test_using_a_missing_name() -> None:
    missing: Any = MissingName("fluid.layers.somewhat", "use cond")
    assert repr(missing) == "<fluid.layers.somewhat, not implemented>"
    assert is_missing(missing)
    assert not isinstance(3, missing)
    assert not hasattr(missing, "__wrapped__")

    def derive() -> None:
        class Derived(missing):
            pass

    for use in (lambda: missing(1, name="x"), lambda: missing.block, derive):
        with pytest.raises(UnsupportedError) as caught:
            use()
        assert caught.value.what == "fluid.layers.somewhat is not implemented"
        assert (caught.value.where or "").startswith(__file__)
        assert caught.value.hint == "use cond"


def test_parameters_are_paddles() -> None:
    found = api.parameters("fluid.layers", "fc")
    assert found is not None
    assert found.names == ("input", "size", "num_flatten_dims", "param_attr", "bias_attr", "act", "name")
    assert found.required == ("input", "size")
    assert api.parameters("fluid.layers", "no_layer") is None


def test_uses_are_of_names_that_exist() -> None:
    known = {f"{module}.{name}" for module, names in api.modules().items() for name in names}
    assert set(api.usage()) - known == {"fluid.dygraph.FC"}  # which 1.8.5 has no more
    assert api.usage()["fluid.layers.fc"].files == 383


def test_what_is_used_instead_is_there() -> None:
    """And nobody is sent away from a layer that is there."""
    for name, hint in _INSTEAD.items():
        assert is_missing(getattr(fluid.layers, name)), f"{name} is implemented: take it out of missing.py"
        for word in re.findall(r"[a-z]+_[a-z_0-9]+", hint.replace("fluid.io.", "")):
            assert not is_missing(getattr(fluid.layers, word, getattr(fluid.io, word, None))), (name, word)
