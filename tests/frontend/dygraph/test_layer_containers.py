"""`Sequential`, `LayerList` and `ParameterList`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import fluidc.frontend as fluid
from fluidc.frontend.dygraph import LayerList, Linear, ParameterList, Sequential, guard, to_variable
from fluidc.frontend.errors import ArgumentTypeError, ProgramError


@pytest.fixture(autouse=True)
def eager() -> Iterator[None]:
    with guard(target="reference"):
        yield


def keys(layer: fluid.Layer) -> list[str]:
    return [key for key in layer.state_dict() if not key.endswith("bias")]


def test_sequential_calls_its_layers_in_turn() -> None:
    first, second = Linear(3, 4, act="relu"), Linear(4, 2)
    net = Sequential(first, second)
    x = to_variable(np.ones((2, 3), np.float32))
    assert (net(x).numpy() == second(first(x)).numpy()).all()
    assert (net[0], net[1], net[-1], net["1"], list(net)) == (first, second, second, second, [first, second])
    net[0] = third = Linear(3, 4)
    assert net[0] is third
    del net[1]
    assert len(net) == 1
    with pytest.raises(ProgramError, match="Sequential: there is no element 1, it holds 1"):
        net[1]


def test_sequential_by_name() -> None:
    net = Sequential(("first", Linear(3, 4)), ("last", Linear(4, 2)))
    assert keys(net) == ["first.weight", "last.weight"]
    assert net["last"] is net.last
    net["more"] = Linear(2, 2)
    assert len(net) == 3
    with pytest.raises(ProgramError, match=r"there is no layer 'lost'\n.*\n  it has first, last, more"):
        net["lost"]
    with pytest.raises(ProgramError, match="there is no layer 0"):
        net[0]
    with pytest.raises(ArgumentTypeError, match="Sequential: argument 1 is function"):
        Sequential(Linear(3, 4), lambda x: x)  # type: ignore[arg-type]


def test_layer_list_is_a_list() -> None:
    layers = [Linear(1, 1) for _ in range(4)]
    held = LayerList(layers[:2])
    assert held.append(layers[3]) is held
    held.insert(2, layers[2])
    assert list(held) == layers
    assert (held[1], held[-1], len(held)) == (layers[1], layers[3], 4)
    part = held[1:3]
    assert isinstance(part, LayerList)
    assert list(part) == layers[1:3]
    del held[0]
    assert list(held) == layers[1:]
    assert keys(held) == ["0.weight", "1.weight", "2.weight"]
    del held[1:]
    assert list(held) == [layers[1]]
    held.extend(layers[2:]).insert(0, layers[0])
    held[-1] = layers[0]
    assert list(held) == [layers[0], layers[1], layers[2], layers[0]]
    held.extend(held)
    assert len(held) == 8
    assert len(held.parameters()) == 6


def test_layer_list_refuses() -> None:
    held = LayerList([Linear(1, 1)])
    for index in (1, -2):
        with pytest.raises(ProgramError, match=f"LayerList: there is no element {index}, it holds 1"):
            held[index]
    with pytest.raises(ProgramError, match=r"LayerList\.insert: index is -1"):
        held.insert(-1, Linear(1, 1))
    for put in (held.append, lambda x: held.insert(0, x), lambda x: held.__setitem__(0, x), lambda x: held.extend([x])):
        with pytest.raises(ArgumentTypeError, match=r"LayerList: sublayer . is given int"):
            put(3)  # type: ignore[arg-type]
    assert len(held) == 1


def test_parameter_list() -> None:
    parameters = [fluid.layers.create_parameter([2], "float32") for _ in range(3)]
    held = ParameterList(parameters[:1] * 2)
    assert len(held.parameters()) == 1
    assert held.append(parameters[1]) is held
    held[1] = parameters[2]
    assert [p is q for p, q in zip(held, [parameters[0], parameters[2], parameters[1]], strict=True)] == [True] * 3
    assert held[-1] is parameters[1]
    assert list(held.state_dict()) == ["0", "1", "2"]
    for put in (held.append, lambda x: held.__setitem__(0, x)):
        with pytest.raises(ArgumentTypeError, match=r"ParameterList: parameter . is given NoneType"):
            put(None)  # type: ignore[arg-type]
    with pytest.raises(ProgramError, match=r"there is no element 0, it holds 0\n.*\n  append something first"):
        ParameterList()[0]
