"""Layers of eager mode against Paddle 1.8.5 (tests/golden/make_paddle185/layers.py says more)."""

from typing import Any

import numpy as np
import pytest
from trees import assert_same, golden

import fluidc.frontend as fluid

GOLDEN = golden("layers")
# Gradients of these inputs are none of the function in Paddle: make_paddle185/layers.py, tests/ops say how one sees it.
WRONG_IN_PADDLE = {"group_norm", "group_norm_affine", "spectral_norm", "spectral_norm_dim"}


def build(spec: Any) -> Any:
    def value(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        return fluid.dygraph.to_variable(node["variable"]) if "variable" in node else fluid.ParamAttr(**node["attr"])

    args = list(spec["args"])
    for name, sub in spec.get("layers", []):
        args.append(build(sub) if name is None else (name, build(sub)))
    return getattr(fluid.dygraph, spec["class"])(*args, **{k: value(v) for k, v in spec["kwargs"].items()})


def tuple_of(outputs: Any) -> tuple[Any, ...]:
    return tuple(outputs) if isinstance(outputs, list | tuple) else (outputs,)


def values(layer: Any) -> dict[str, Any]:
    return {key: p.numpy() for key, p in layer.state_dict().items()}


@pytest.mark.filterwarnings("ignore:GRUUnit computes as with origin_mode=False")
@pytest.mark.parametrize("name", GOLDEN["cases"])
def test_layer(name: str) -> None:
    spec = GOLDEN["cases"][name]
    with fluid.dygraph.guard():
        fluid.default_main_program().random_seed = 7
        layer = build(spec)
        assert layer.full_name() == spec["full_name"]
        state = [
            {
                "key": key,
                "name": p.name,
                "trainable": p.trainable,
                "stop_gradient": p.stop_gradient,
                "default": p.numpy(),
            }
            for key, p in layer.state_dict().items()
        ]
        assert_same(state, spec["state"])
        assert [p.name for p in layer.parameters()] == spec["parameters"]
        layer.set_dict(spec["values"])
        inputs = []
        for array in spec["inputs"]:
            inputs.append(fluid.dygraph.to_variable(array))
            inputs[-1].stop_gradient = array.dtype.kind != "f"
        outputs = tuple_of(layer(*inputs))
        loss: Any = None
        for out, weights in zip(outputs, spec["weights"], strict=True):
            term = fluid.layers.reduce_sum(out * fluid.dygraph.to_variable(weights))
            loss = term if loss is None else loss + term
        loss.backward()
        assert_same([out.numpy() for out in outputs], spec["outputs"], rtol=2e-5, atol=2e-6)
        assert_same(loss.numpy(), spec["loss"], rtol=2e-5, atol=1e-5)
        assert_same(values(layer), spec["after"])
        if name not in WRONG_IN_PADDLE:
            gradients = [x.gradient() for x in inputs]
            if spec["class"] == "BCELoss":  # in Paddle its labels get no gradient
                assert gradients.pop() is not None
                gradients.append(None)
            assert_same(gradients, spec["input_gradients"], rtol=5e-5, atol=5e-6)
        gradients = {key: p.gradient() for key, p in layer.state_dict().items()}
        assert_same(gradients, spec["gradients"], rtol=5e-5, atol=1e-5)
        if spec["evaluated"]:
            layer.eval()
            evaluated = [out.numpy() for out in tuple_of(layer(*inputs))]
            layer.train()
            assert_same(evaluated, spec["evaluated"], rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("kind", GOLDEN["dropout"])
def test_dropout(kind: str) -> None:
    want = GOLDEN["dropout"][kind]
    with fluid.dygraph.guard():
        layer = fluid.dygraph.Dropout(0.4, dropout_implementation=kind)
        x = fluid.dygraph.to_variable(want["x"])
        trained = layer(x).numpy()
        layer.eval()
        assert_same(layer(x).numpy(), want["evaluated"])
        layer.train()
    kept = trained != 0
    assert kept.any()
    np.testing.assert_allclose(trained[kept] / want["x"][kept], want["kept_scale"], rtol=1e-5)


def everything(name: str) -> Any:
    dygraph = fluid.dygraph

    class Everything(dygraph.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.late = None
            self.own = self.create_parameter([2, 3])
            self.offset = self.create_parameter([3], is_bias=True)
            self.named = self.create_parameter([3], attr=fluid.ParamAttr(name=name))
            self.first = dygraph.Linear(3, 4)
            self.norm = dygraph.BatchNorm(4)
            self.blocks = dygraph.LayerList([dygraph.Linear(4, 4, bias_attr=False) for _ in range(2)])
            self.tables = dygraph.ParameterList([self.create_parameter([2]) for _ in range(2)])
            self.chain = dygraph.Sequential(("a", dygraph.Linear(4, 2)), ("b", dygraph.Pool2D(2)))
            self.add_sublayer("added", dygraph.Embedding([3, 2]))
            self.add_parameter("extra", self.create_parameter([1], dtype="float64"))
            self.plain = 3
            self.frozen = self.create_parameter([2], attr=fluid.ParamAttr(trainable=False))

    return Everything()


def ab_test_net(name_scope: str | None = None) -> Any:
    class ABTestNet(fluid.dygraph.Layer):
        def __init__(self) -> None:
            super().__init__(name_scope)
            self.inner = fluid.dygraph.Linear(2, 2)
            self.w = self.create_parameter([2])

    return ABTestNet()


def described(layer: Any) -> Any:
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


def test_names_and_orders() -> None:
    want = GOLDEN["structure"]
    with fluid.dygraph.guard():
        first, second = everything("mine"), everything("yours")
        assert_same(described(first), want["everything"])
        assert_same(described(second), want["again"])
        nets = [ab_test_net(), ab_test_net(), ab_test_net("my_scope")]
        assert_same([described(net) for net in nets], want["camel"])


def test_hooks() -> None:
    want = GOLDEN["structure"]["hooks"]
    calls: list[Any] = []
    with fluid.dygraph.guard():
        layer = fluid.dygraph.Linear(2, 2)
        layer.weight.set_value(want["weight"])
        layer.register_forward_pre_hook(lambda la, inputs: calls.append(["pre", type(inputs).__name__, len(inputs)]))
        layer.register_forward_post_hook(lambda la, inputs, out: calls.append(["post", out is not None]))
        doubled = layer.register_forward_pre_hook(lambda la, inputs: (inputs[0] * 2.0,))
        tripled = layer.register_forward_post_hook(lambda la, inputs, out: out * 3.0)
        hooked = layer(fluid.dygraph.to_variable(want["x"])).numpy()
        doubled.remove()
        tripled.remove()
        plain = layer(fluid.dygraph.to_variable(want["x"])).numpy()
    assert calls[:2] == want["calls"]
    assert_same([hooked, plain], [want["hooked"], want["plain"]])
