"""Both forms of the constructors: fluid 1.8's, and the older one with a name scope first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import fluidc.frontend as fluid
from fluidc.frontend.dygraph import guard, to_variable
from fluidc.frontend.errors import ArgumentTypeError, ProgramError

# Type checkers know 1.8's form only.
D: Any = fluid.dygraph


@pytest.fixture(autouse=True)
def eager() -> Iterator[None]:
    with guard(target="reference"):
        yield


def f(*shape: int) -> Any:
    return np.random.default_rng(len(shape)).uniform(-1, 1, shape).astype(np.float32)


IMAGES = f(2, 4, 6, 5)
IDS = np.array([[1, 0, 4]])
AFFINE = {"param_attr": fluid.ParamAttr(), "bias_attr": fluid.ParamAttr()}

# The older form, 1.8's form of the same layer, the inputs, and whether the first input sizes the older one.
FORMS: dict[str, tuple[Callable[[], Any], Callable[[], Any], list[Any], bool]] = {
    "embedding": (lambda: D.Embedding("emb", [10, 10]), lambda: D.Embedding([10, 10]), [IDS], False),
    "embedding_by_name": (
        lambda: D.Embedding(name_scope="emb", size=[10, 10], padding_idx=-1),
        lambda: D.Embedding(size=[10, 10], padding_idx=9),
        [IDS],
        False,
    ),
    "conv2d": (lambda: D.Conv2D("c", 6, 5), lambda: D.Conv2D(4, 6, 5), [IMAGES], True),
    "conv2d_options": (
        lambda: D.Conv2D("c", 6, 3, 2, 1, 1, 2, act="relu", bias_attr=False),
        lambda: D.Conv2D(4, 6, 3, 2, 1, 1, 2, act="relu", bias_attr=False),
        [IMAGES],
        True,
    ),
    "conv2d_transpose": (
        lambda: D.Conv2DTranspose("c", 3, filter_size=3, stride=2),
        lambda: D.Conv2DTranspose(4, 3, 3, stride=2),
        [IMAGES],
        True,
    ),
    "conv2d_transpose_output": (
        lambda: D.Conv2DTranspose("c", 3, [13, 11], stride=2),
        lambda: D.Conv2DTranspose(4, 3, [3, 3], [13, 11], stride=2),
        [IMAGES],
        True,
    ),
    "pool2d": (lambda: D.Pool2D("p", 2, "avg", 2), lambda: D.Pool2D(2, "avg", 2), [IMAGES], False),
    "batch_norm": (lambda: D.BatchNorm("bn", 4, "relu"), lambda: D.BatchNorm(4, "relu"), [IMAGES], False),
    "layer_norm": (lambda: D.LayerNorm("ln"), lambda: D.LayerNorm([4, 6, 5]), [IMAGES], True),
    "layer_norm_axis": (
        lambda: D.LayerNorm("ln", False, True, 3, 1e-3),
        lambda: D.LayerNorm(5, False, True, 1e-3),
        [IMAGES],
        True,
    ),
    "group_norm": (lambda: D.GroupNorm("gn", 2, **AFFINE), lambda: D.GroupNorm(4, 2, **AFFINE), [IMAGES], True),
    "gru_unit": (lambda: D.GRUUnit("g", 12), lambda: D.GRUUnit(12), [f(3, 12), f(3, 4)], False),
    "prelu_all": (lambda: D.PRelu("p", "all"), lambda: D.PRelu("all"), [IMAGES], True),
    "prelu_by_name": (lambda: D.PRelu("all", mode="channel"), lambda: D.PRelu("channel", 4), [IMAGES], True),
    "prelu_element": (
        lambda: D.PRelu(name_scope="p", mode="element"),
        lambda: D.PRelu("element", input_shape=[2, 4, 6, 5]),
        [IMAGES],
        True,
    ),
    "bilinear": (
        lambda: D.BilinearTensorProduct("b", 7, act="tanh"),
        lambda: D.BilinearTensorProduct(5, 3, 7, act="tanh"),
        [f(2, 5), f(2, 3)],
        True,
    ),
    "spectral_norm": (lambda: D.SpectralNorm("s", 1, 2), lambda: D.SpectralNorm([4, 3], 1, 2), [f(4, 3)], True),
    "fc": (lambda: D.FC("fc", 7), lambda: D.Linear(5, 7), [f(2, 5)], True),
    "fc_last_axis": (
        lambda: D.FC("fc", 7, -1, act="relu", bias_attr=False),
        lambda: D.Linear(5, 7, act="relu", bias_attr=False),
        [f(2, 3, 5)],
        True,
    ),
}


def values_of(result: Any) -> list[Any]:
    return [out.numpy() for out in (result if isinstance(result, tuple) else (result,))]


@pytest.mark.parametrize("name", FORMS)
def test_both_forms_make_the_same_layer(name: str) -> None:
    make_older, make_new, arrays, is_lazy = FORMS[name]
    older, new = make_older(), make_new()
    inputs = [to_variable(array) for array in arrays]
    if is_lazy:
        assert older.parameters() == []
        assert older.state_dict() == {}
    older(*inputs)
    assert {key: p.shape for key, p in older.state_dict().items()} == {
        key: p.shape for key, p in new.state_dict().items()
    }
    older.set_dict(new.state_dict())
    for left, right in zip(values_of(older(*inputs)), values_of(new(*inputs)), strict=True):
        np.testing.assert_array_equal(left, right)


def test_names_follow_the_name_scope() -> None:
    layers = [D.Embedding("emb", [10, 10]), D.Embedding("emb", [10, 10]), D.FC("fc", 3), D.PRelu("p", "all")]
    layers[2](to_variable(f(2, 5)))
    assert [layer.full_name() for layer in layers] == ["emb_0", "emb_1", "fc_0", "p_0"]
    assert [p.name for layer in layers[:3] for p in layer.parameters()] == [
        *("emb_0.w_0", "emb_1.w_0", "fc_0.w_0", "fc_0.b_0")
    ]


def test_fc_of_several_inputs() -> None:
    x, y = f(2, 5), f(2, 3)
    layer = D.FC("fc", 4, param_attr=["mine", None])
    out = layer([to_variable(x), to_variable(y)]).numpy()
    assert {key: p.name for key, p in layer.state_dict().items()} == {
        "weight": "mine",
        "weight_1": "fc_0.w_0",
        "bias": "fc_0.b_0",
    }
    np.testing.assert_allclose(out, x @ layer.weight.numpy() + y @ layer.weight_1.numpy(), rtol=1e-5, atol=1e-6)
    with pytest.raises(ProgramError, match="FC: 1 inputs but 2 parameter attributes"):
        D.FC("fc", 4, param_attr=["a", "b"])(to_variable(x))


def test_a_net_of_the_older_form_trains() -> None:
    """As in scripts of fluid 1.5: names first, no sizes of inputs."""

    class Net(fluid.Layer):
        def __init__(self, name_scope: str) -> None:
            super().__init__(name_scope)
            self.conv = D.Conv2D(self.full_name(), 3, 3, act="relu")
            self.pool = D.Pool2D(self.full_name(), pool_size=2, pool_stride=2)
            self.fc = D.FC(self.full_name(), size=2, act="softmax")

        def forward(self, x: Any) -> Any:
            return self.fc(self.pool(self.conv(x)))

    net = Net("net")
    x, label = to_variable(IMAGES), to_variable(np.array([[0], [1]]))
    losses: list[float] = []
    for _ in range(5):
        loss = fluid.layers.mean(fluid.layers.cross_entropy(net(x), label))
        loss.backward()
        for parameter in net.parameters():
            parameter.set_value(parameter.numpy() - 0.5 * parameter.gradient())
        net.clear_gradients()
        losses.append(float(loss))
    assert losses[-1] < 0.7 * losses[0]
    assert list(net.state_dict()) == ["conv.weight", "conv.bias", "fc.weight", "fc.bias"]


@pytest.mark.parametrize(
    "use", [lambda net: fluid.optimizer.SGD(0.1, parameter_list=net.parameters()), lambda net: net.set_dict({})]
)
def test_unsized_layers_are_refused(use: Callable[[Any], Any]) -> None:
    net = D.Sequential(D.Linear(5, 5), D.FC("fc", 3))
    assert len(net.parameters()) == 2
    with pytest.raises(ProgramError, match=r"fc_0 has no parameters yet.*\n.*\n  call the model once before"):
        use(net)
    net(to_variable(f(2, 5)))
    fluid.optimizer.SGD(0.1, parameter_list=net.parameters())
    assert len(net.parameters()) == 4


CONV = (
    r"Conv2D\(num_channels, num_filters, filter_size, stride=1, .*\), or the older form "
    r"Conv2D\(name_scope, num_filters, filter_size, stride=1, .*\)"
)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: D.Conv2D("c", 6), f"missing a required argument: 'filter_size'(.|\n)*{CONV}"),
        (lambda: D.Conv2D(4, 6), f"missing a required argument: 'filter_size'(.|\n)*{CONV}"),
        # A mixture of both: is 1 the number of channels or of filters?
        (lambda: D.Conv2D("c", num_channels=1, num_filters=6, filter_size=5), f"'num_channels'(.|\n)*{CONV}"),
        (lambda: D.Conv2D(1, 6, 5, name_scope="c"), f"multiple values for argument 'num_filters'|{CONV}"),
        (lambda: D.LayerNorm("ln", normalized_shape=5), r"'normalized_shape'(.|\n)*LayerNorm\(name_scope, scale=True"),
        (lambda: D.LayerNorm(5, begin_norm_axis=1), r"'begin_norm_axis'(.|\n)*LayerNorm\(normalized_shape, scale"),
        (lambda: D.PRelu("p"), r"missing a required argument: 'mode'(.|\n)*PRelu\(mode, .*PRelu\(name_scope, mode"),
        (lambda: D.PRelu("p", 3), r"unknown mode 3"),
        (lambda: D.PRelu("channel"), r"PRelu: channel is None"),
        (lambda: D.PRelu("element"), r"input_shape is None"),
        (lambda: D.PRelu("p", "some"), r"unknown mode 'some'"),
        (lambda: D.Linear("fc", 10), r"Linear: input_dim is 'fc'"),
        (lambda: D.FC(5, 10), r"FC: name_scope is 5\n.*\n  write FC\(name_scope, size, ...\).*Linear\(input_dim"),
        (lambda: D.Dropout("d", 1), r"Dropout: p is 'd'"),
        (lambda: D.InstanceNorm("i"), r"InstanceNorm: num_channels is 'i'"),
        (lambda: D.Embedding("emb", 10), r"Embedding: size is 10"),
        (lambda: D.Embedding([10, 0]), r"an extent of size is 0"),
        (lambda: D.Linear(3, 4, param_attr=False), r"Linear: param_attr is False"),
        (lambda: D.Conv2D(3, 4, 3, groups=2), r"3 channels and 4 filters in 2 groups"),
        (lambda: D.GroupNorm(3, 2), r"GroupNorm: 3 channels in 2 groups"),
        (lambda: D.GroupNorm(4, 2, data_layout="NHWC"), r"data_layout is 'NHWC'"),
        (lambda: D.GRUUnit(10), r"GRUUnit: size is 10"),
        (lambda: D.GRUUnit(12, activation="elu"), r"activation is 'elu'\n.*\n  use one of identity, sigmoid, tanh"),
        (lambda: D.Pool2D(), r"Pool2D: there is no pool_size"),
        (lambda: D.Pool2D(2, "min"), r"unknown pool_type 'min'"),
        (lambda: D.SpectralNorm([3, 4], dim=2), r"dim is 2, the weight has shape \[3, 4\]"),
        (lambda: D.MSELoss("average"), r"MSELoss: reduction is 'average'"),
        (lambda: D.BCELoss(weight=f(2)), r"BCELoss: weight is ndarray"),
    ],
)
def test_calls_that_fit_neither_form(make: Callable[[], Any], words: str) -> None:
    with pytest.raises((ProgramError, ArgumentTypeError), match=words) as error:
        make()
    assert __file__ in str(error.value)


@pytest.mark.parametrize(
    ("layer", "arrays", "words"),
    [
        (lambda: D.Conv2D("c", 6, 5), [f(2, 3)], r"Conv2D: input .* has shape \[2, 3\]\n.*\n  it must be \[N, C"),
        (lambda: D.LayerNorm("ln", begin_norm_axis=2), [f(2, 3)], r"begin_norm_axis is 2, input .* \[2, 3\]"),
        (lambda: D.LayerNorm([4, 3]), [f(2, 3)], r"normalized_shape is \[4, 3\], input .* has shape \[2, 3\]"),
        (lambda: D.Conv2DTranspose("c", 6), [IMAGES], r"neither filter_size nor output_size is given"),
        (lambda: D.BilinearTensorProduct(2, 3, 4), [f(5, 2), f(5, 4)], r"y .* \[5, 4\](.|\n)* for \[any, 3\]"),
        (lambda: D.BilinearTensorProduct("b", 4), [f(5), f(5, 4)], r"x .* has shape \[5\](.|\n)* for \[any, any\]"),
        (lambda: D.Conv2D(3, 4, 3), [IMAGES], r"Conv2D: input .* \[2, 4, 6, 5\](.|\n)* for \[any, 3, any, any\]"),
        (lambda: D.Conv2DTranspose(3, 4, 3), [IMAGES], r"Conv2DTranspose: input .* \[2, 4, 6, 5\]"),
        (lambda: D.BatchNorm(3), [IMAGES], r"BatchNorm: input .*(.|\n)* for \[any, 3, \.\.\.\]"),
        (lambda: D.BatchNorm(4, data_layout="NHWC"), [IMAGES], r"for \[any, any, any, 4\]"),
        (lambda: D.GroupNorm(3, 3), [IMAGES], r"GroupNorm: input .*(.|\n)* for \[any, 3, \.\.\.\]"),
        (lambda: D.GroupNorm("g", 3), [IMAGES], r"4 channels in 3 groups"),
        (lambda: D.InstanceNorm(4), [f(2, 4)], r"InstanceNorm: input .*(.|\n)* for \[any, 4, any, \.\.\.\]"),
        (lambda: D.PRelu("channel", 3), [IMAGES], r"PRelu: input .*(.|\n)* for \[any, 3, \.\.\.\]"),
        (lambda: D.PRelu("p", "channel"), [f(3)], r"PRelu: input .* has shape \[3\]"),
        (lambda: D.PRelu("element", input_shape=[2, 3]), [f(2, 4)], r"for \[any, 3\]"),
        (lambda: D.SpectralNorm([3, 4]), [f(4, 3)], r"weight .* has shape \[4, 3\](.|\n)* for \[3, 4\]"),
        (lambda: D.GRUUnit(12), [f(3, 12), f(3, 5)], r"hidden .* has shape \[3, 5\]"),
        (lambda: D.FC("fc", 3, 2), [f(2, 3)], r"FC: input .* has shape \[2, 3\], but num_flatten_dims=2"),
        (lambda: D.Linear(4, 3), [f(2, 3)], r"inner extents differ"),
    ],
)  # fmt: skip
def test_inputs_that_do_not_fit(layer: Callable[[], Any], arrays: list[Any], words: str) -> None:
    made = layer()
    with pytest.raises(ProgramError, match=words):
        made(*(to_variable(array) for array in arrays))


@pytest.mark.parametrize(
    ("make", "op"),
    [
        (lambda: D.Conv2D(4, 8, 3, groups=4, use_cudnn=False), "depthwise_conv2d"),
        (lambda: D.Conv2D(4, 8, 3, groups=4), "conv2d"),
        (lambda: D.Conv2DTranspose(4, 4, 3, groups=4, use_cudnn=False), "depthwise_conv2d_transpose"),
        (lambda: D.Conv2DTranspose(4, 8, 3, groups=4, use_cudnn=False), "conv2d_transpose"),
    ],
)
def test_depthwise_convolutions_have_paddles_op(make: Callable[[], Any], op: str) -> None:
    main = fluid.Program()
    with fluid.program_guard(main, fluid.Program()):
        make()(fluid.data("x", [None, 4, 6, 5]))
    assert main.global_block().ops[0].type == op


LAYERS = {
    "linear": lambda: D.Linear(5, 2),
    "fc": lambda: D.FC("fc", 2),
    "conv": lambda: D.Conv2D("c", 3, 2),
    "norm": lambda: D.BatchNorm(4),
    "layer_norm": lambda: D.LayerNorm("ln"),
    "group_norm": lambda: D.GroupNorm("gn", 2),
    "instance_norm": lambda: D.InstanceNorm(4),
    "prelu": lambda: D.PRelu("p", "all"),
    "spectral_norm": lambda: D.SpectralNorm("s"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_arrays_and_doubles_are_refused(name: str) -> None:
    layer = LAYERS[name]()
    with pytest.raises(ArgumentTypeError, match=r"is ndarray, not a Variable\n.*\n  .*to_variable") as error:
        layer(IMAGES)
    assert str(error.value).startswith(type(layer).__name__)
    with pytest.raises(ArgumentTypeError, match=r"holds float64, the layer's parameters hold float32"):
        layer(to_variable(IMAGES.astype(np.float64)))
    assert layer.state_dict() == {} or layer._sized


def test_doubles_have_layers_of_their_own() -> None:
    x = to_variable(IMAGES.astype(np.float64))
    for layer in (
        D.Linear(5, 2, dtype="float64"),
        D.Conv2D("c", 3, 2, dtype="float64"),
        D.BatchNorm(4, dtype="float64"),
    ):
        assert layer(x).numpy().dtype == np.float64


def test_fc_takes_as_many_inputs_each_time() -> None:
    layer = D.FC("fc", 2)
    layer(to_variable(f(2, 5)))
    with pytest.raises(ProgramError, match="FC: 2 inputs, but 1 in the first call"):
        layer([to_variable(f(2, 5))] * 2)


def test_origin_mode_warns() -> None:
    for make in (lambda: D.GRUUnit(12, origin_mode=True), lambda: D.GRUUnit("g", 12, origin_mode=True)):
        with pytest.warns(UserWarning, match="GRUUnit computes as with origin_mode=False") as warned:
            make()
        assert warned[0].filename == __file__


def test_a_subclass_keeps_both_forms() -> None:
    class Table(D.Embedding):
        def __init__(self, rows: int) -> None:
            super().__init__([rows, 2])

    class Named(D.Embedding):
        def __init__(self, rows: int) -> None:
            super().__init__("table", [rows, 2])

    assert (Table(3).full_name(), Named(3).full_name()) == ("table_0", "table_1")


@pytest.mark.parametrize("args", [(4, 6, 3), ("c", 6, 3)])
def test_a_subclass_may_build_once_itself(args: tuple[Any, ...]) -> None:
    class Scaled(D.Conv2D):
        def _build_once(self, input: Any) -> None:
            self.scale = self.create_parameter([1])

        def forward(self, input: Any) -> Any:
            return super().forward(input) * self.scale

    layer = Scaled(*args)
    assert layer(to_variable(IMAGES)).shape == (2, 6, 4, 3)
    assert list(layer.state_dict()) == ["weight", "bias", "scale"]
