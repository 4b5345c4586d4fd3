"""Layers of dygraph against the real Paddle 1.8.5: names, state, first values, outputs, gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from trees import golden

import fluidc.frontend as fluid
from fluidc.frontend.dygraph import guard, to_variable

CASES: dict[str, Any] = golden("layers")["cases"]

# Gradients of the input that are not the derivative of the output in Paddle 1.8.5: group_norm's without a scale does
# not sum to zero over a group, spectral_norm's is taken element by element.
WRONG_IN_PADDLE = {"spectral_norm", "spectral_norm_dim"}


@pytest.fixture(autouse=True)
def eager() -> Iterator[None]:
    with guard(target="reference"):
        fluid.default_main_program().random_seed = 7
        yield
        fluid.default_main_program().random_seed = 0


def build(spec: dict[str, Any]) -> fluid.Layer:
    def value(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        return to_variable(node["variable"]) if "variable" in node else fluid.ParamAttr(**node["attr"])

    args = list(spec["args"])
    for name, sub in spec.get("layers", []):
        args.append(build(sub) if name is None else (name, build(sub)))
    return getattr(fluid.dygraph, spec["class"])(*args, **{key: value(node) for key, node in spec["kwargs"].items()})


def outputs_of(layer: fluid.Layer, inputs: list[Any]) -> list[Any]:
    result = layer(*inputs)
    return list(result) if isinstance(result, tuple) else [result]


@pytest.mark.filterwarnings("ignore:GRUUnit computes")
@pytest.mark.parametrize("name", CASES)
def test_layer_is_paddles(name: str) -> None:
    case = CASES[name]
    layer = build(case)
    assert layer.full_name() == case["full_name"]
    state = layer.state_dict()
    assert [(key, p.name, p.trainable, p.stop_gradient) for key, p in state.items()] == [
        (kept["key"], kept["name"], kept["trainable"], kept["stop_gradient"]) for kept in case["state"]
    ]
    assert [p.name for p in layer.parameters()] == case["parameters"]
    for kept in case["state"]:
        np.testing.assert_allclose(state[kept["key"]].numpy(), kept["default"], rtol=1e-6, atol=2e-7)

    layer.set_dict(case["values"])
    inputs = [to_variable(array) for array in case["inputs"]]
    for x, gradient in zip(inputs, case["input_gradients"], strict=True):
        x.stop_gradient = gradient is None
    outputs = outputs_of(layer, inputs)
    for out, expected in zip(outputs, case["outputs"], strict=True):
        assert out.numpy().dtype == expected.dtype
        np.testing.assert_allclose(out.numpy(), expected, rtol=1e-5, atol=1e-6)
    terms = [fluid.layers.reduce_sum(out * to_variable(w)) for out, w in zip(outputs, case["weights"], strict=True)]
    fluid.layers.sums(terms).backward()
    for key, expected in case["after"].items():
        np.testing.assert_allclose(state[key].numpy(), expected, rtol=1e-5, atol=1e-6)
    for key, expected in case["gradients"].items():
        compare(state[key].gradient(), expected)
    if name not in WRONG_IN_PADDLE:
        for x, expected in zip(inputs, case["input_gradients"], strict=True):
            compare(x.gradient(), expected)

    if case["evaluated"]:
        layer.eval()
        for out, expected in zip(outputs_of(layer, inputs), case["evaluated"], strict=True):
            np.testing.assert_allclose(out.numpy(), expected, rtol=1e-5, atol=1e-6)


def compare(gradient: Any, expected: Any) -> None:
    if expected is None:
        assert gradient is None
    else:
        np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["downgrade_in_infer", "upscale_in_train"])
def test_dropout_is_paddles(kind: str) -> None:
    kept = golden("layers")["dropout"][kind]
    layer = fluid.dygraph.Dropout(0.4, dropout_implementation=kind)
    layer.eval()
    np.testing.assert_allclose(layer(to_variable(kept["x"])).numpy(), kept["evaluated"], rtol=1e-6)
    layer.train()
    trained = layer(to_variable(kept["x"])).numpy()
    assert 0 < (trained == 0).sum() < trained.size
    scale = trained[trained != 0] / kept["x"][trained != 0]
    np.testing.assert_allclose(scale, kept["kept_scale"], rtol=1e-5)


class Everything(fluid.Layer):
    """The same class as in the script that made the goldens."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.late = None
        self.own = self.create_parameter([2, 3])
        self.offset = self.create_parameter([3], is_bias=True)
        self.named = self.create_parameter([3], attr=fluid.ParamAttr(name=name))
        self.first = fluid.dygraph.Linear(3, 4)
        self.norm = fluid.dygraph.BatchNorm(4)
        self.blocks = fluid.dygraph.LayerList([fluid.dygraph.Linear(4, 4, bias_attr=False) for _ in range(2)])
        tables = [self.create_parameter([2]) for _ in range(2)]
        self.tables = fluid.dygraph.ParameterList([table for table in tables if table is not None])
        self.chain = fluid.dygraph.Sequential(("a", fluid.dygraph.Linear(4, 2)), ("b", fluid.dygraph.Pool2D(2)))
        self.add_sublayer("added", fluid.dygraph.Embedding([3, 2]))
        self.add_parameter("extra", self.create_parameter([1], dtype="float64"))
        self.plain = 3
        self.frozen = self.create_parameter([2], attr=fluid.ParamAttr(trainable=False))


class ABTestNet(fluid.Layer):
    def __init__(self, name_scope: str | None = None) -> None:
        super().__init__(name_scope)
        self.inner = fluid.dygraph.Linear(2, 2)
        self.w = self.create_parameter([2])


def described(layer: fluid.Layer) -> dict[str, Any]:
    return {
        "full_name": layer.full_name(),
        "state": [[k, p.name, list(p.shape), p.trainable] for k, p in layer.state_dict().items()],
        "parameters": [p.name for p in layer.parameters()],
        "own_parameters": [p.name for p in layer.parameters(include_sublayers=False)],
        "named_parameters": [[k, p.name] for k, p in layer.named_parameters()],
        "named_parameters_prefix": [k for k, _ in layer.named_parameters(prefix="root")],
        "own_state": list(layer.state_dict(include_sublayers=False)),
        "prefixed_state": list(layer.state_dict(structured_name_prefix="root.")),
        "sublayers": [sub.full_name() for sub in layer.sublayers()],
        "named_sublayers": [[k, sub.full_name()] for k, sub in layer.named_sublayers()],
        "named_sublayers_self": [[k, sub.full_name()] for k, sub in layer.named_sublayers(include_self=True)],
        "training": [sub.training for sub in layer.sublayers()],
    }


def test_names_and_orders_are_paddles() -> None:
    structure = golden("layers")["structure"]
    layers = [Everything("mine"), Everything("yours"), ABTestNet(), ABTestNet(), ABTestNet("my_scope")]
    assert [described(layer) for layer in layers] == [structure["everything"], structure["again"], *structure["camel"]]


def test_hooks_are_paddles() -> None:
    kept = golden("layers")["structure"]["hooks"]
    calls: list[list[Any]] = []
    layer = fluid.dygraph.Linear(2, 2)
    layer.weight.set_value(kept["weight"])
    layer.register_forward_pre_hook(lambda _, inputs: calls.append(["pre", type(inputs).__name__, len(inputs)]))
    layer.register_forward_post_hook(lambda _, inputs, out: calls.append(["post", type(out).__name__ != ""]))
    doubled = layer.register_forward_pre_hook(lambda _, inputs: (inputs[0] * 2.0,))
    tripled = layer.register_forward_post_hook(lambda _, inputs, out: out * 3.0)
    x = to_variable(kept["x"])
    np.testing.assert_allclose(layer(x).numpy(), kept["hooked"], rtol=1e-5)
    assert calls == kept["calls"]
    doubled.remove()
    tripled.remove()
    tripled.remove()
    np.testing.assert_allclose(layer(x).numpy(), kept["plain"], rtol=1e-5)
