"""Arguments, their order and their defaults are Paddle 1.8.5's, name by name.

``golden/signatures.json`` was printed by ``inspect`` inside Paddle 1.8.5, for the names that fluidc has.
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest

import fluidc.frontend as fluid

GOLDEN: dict[str, dict[str, str]] = json.loads((Path(__file__).parent / "golden" / "signatures.json").read_text())
NAMES = [(module, name) for module, names in GOLDEN.items() for name in names]


def found(module: str, name: str) -> Any:
    where: Any = fluid
    for part in [*module.split(".")[1:], *name.split(".")]:
        where = getattr(where, part)
    return where


def shown(parameter: inspect.Parameter) -> str:
    star = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    if parameter.default is inspect.Parameter.empty:
        return star + parameter.name
    # A list that nobody may change: a tuple.
    value = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
    return f"{parameter.name}={value if isinstance(value, fluid.VarType) else repr(value)}"


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_signature_is_paddles(module: str, name: str) -> None:
    target = found(module, name)
    parameters = list(inspect.signature(target).parameters.values())
    if inspect.isclass(target):
        mine = ["self", *map(shown, parameters)]
    else:
        mine = list(map(shown, parameters))
    theirs = [part for part in re.split(r", (?![^\[]*\])", GOLDEN[module][name]) if part]
    assert mine[: len(theirs)] == theirs
    # What fluidc adds comes after Paddle's arguments and may be left out.
    for parameter in parameters[len(parameters) - (len(mine) - len(theirs)) :] if len(mine) > len(theirs) else []:
        assert parameter.default is not inspect.Parameter.empty, parameter.name


def test_most_layers_are_covered() -> None:
    assert len(GOLDEN["fluid.layers"]) >= 170
