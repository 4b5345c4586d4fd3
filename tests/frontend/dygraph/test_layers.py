"""`Layer`: attributes, calls, evaluation, state; and layers recorded into a static Program."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fluidc.frontend as fluid
from fluidc.frontend.dygraph import guard, no_grad, to_variable
from fluidc.frontend.dygraph.state import StateDictError
from fluidc.frontend.errors import ArgumentTypeError, ProgramError, UnsupportedError
from fluidc.frontend.formats.state import NAME_TABLE

D = fluid.dygraph
ONES = np.ones((2, 3), np.float32)


@pytest.fixture
def eager() -> Iterator[None]:
    with guard(target="reference"):
        yield


def message(error: pytest.ExceptionInfo[Exception]) -> str:
    return str(error.value)


# -- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "scope"),
    [
        ("Linear", "linear"),
        ("GRUUnit", "gru_unit"),
        ("Conv2DTranspose", "conv2d_transpose"),
        ("MSELoss", "mse_loss"),
        ("MyNetV2", "my_net_v2"),
        ("aBcDe", "a_bc_de"),
        ("A1Bc2De", "a1_bc2_de"),
        ("LeNet5", "le_net5"),
    ],
)
def test_a_layer_is_named_after_its_class(name: str, scope: str, eager: None) -> None:
    """As Paddle's regular expressions make it."""
    made: fluid.Layer = type(name, (fluid.Layer,), {})()
    assert made.full_name() == f"{scope}_0"


def test_import_paths_of_paddle() -> None:
    from fluidc.frontend.dygraph.base import to_variable
    from fluidc.frontend.dygraph.checkpoint import save_dygraph
    from fluidc.frontend.dygraph.container import Sequential
    from fluidc.frontend.dygraph.layers import Layer
    from fluidc.frontend.dygraph.nn import Conv2D

    assert D.container.Sequential is D.Sequential is Sequential
    assert D.to_variable is to_variable
    assert fluid.save_dygraph is D.save_dygraph is save_dygraph
    assert fluid.Layer is D.Layer is D.layers.Layer is Layer
    assert fluid.Conv2D is D.Conv2D is D.nn.Conv2D is Conv2D


@pytest.mark.parametrize("name", ["NCE", "TreeConv"])
def test_missing_layers_say_what_to_do(name: str) -> None:
    for module in (D, D.nn, fluid):
        with pytest.raises(UnsupportedError, match=rf"fluid\.dygraph\.{name} is not implemented\n.*\n  \w+"):
            getattr(module, name)(1)
    with pytest.raises(AttributeError):
        D.nn.Conv4D  # noqa: B018


# -- attributes -----------------------------------------------------------------------------------------------------


def test_attributes_hold_parameters_and_sublayers(eager: None) -> None:
    net = fluid.Layer("net")
    first, second = D.Linear(3, 4), D.Linear(4, 2)
    net.part = first
    net.weight = first.weight
    assert net.part is first
    assert net.weight is first.weight
    assert list(net.state_dict()) == ["weight", "part.weight", "part.bias"]
    assert {"part", "weight", "forward"} <= set(dir(net))
    # The kind of an attribute changes only through None, del, or another Parameter or Layer.
    net.part = second
    with pytest.raises(ArgumentTypeError, match="sublayer part is given int"):
        net.part = 3
    with pytest.raises(ArgumentTypeError, match=r"parameter weight is given ndarray\n.*\n  assign a Parameter or None"):
        net.weight = ONES
    with pytest.raises(ArgumentTypeError, match="parameter weight is given Linear"):
        net.weight = first
    net.weight, net.part = None, None
    assert net.weight is None
    assert net.state_dict() == {}
    net.part = first
    net.weight = first.bias
    del net.part, net.weight
    assert net.state_dict() == {}
    net.part = ONES
    net.part = first
    assert "part" not in vars(net)
    net.part = first.weight
    assert net.sublayers() == []
    assert list(net.state_dict()) == ["part"]
    del net.part
    with pytest.raises(AttributeError, match="Layer has no attribute 'part'"):
        net.part  # noqa: B018
    with pytest.raises(AttributeError):
        del net.part


def test_properties_are_set_as_properties(eager: None) -> None:
    class Renamed(fluid.Layer):
        @property
        def weight(self) -> Any:
            return self.kernel

        @weight.setter
        def weight(self, value: Any) -> None:
            self.kernel = value

    layer = Renamed()
    layer.weight = layer.create_parameter([2])
    assert list(layer.state_dict()) == ["kernel"]
    assert layer.weight is layer.kernel


def test_init_comes_first(eager: None) -> None:
    class Forgotten(fluid.Layer):
        def __init__(self) -> None:
            self.size = 3
            self.inner = D.Linear(3, 4)

    with pytest.raises(ProgramError, match=r"inner is assigned before Layer.__init__ has run\n.*\n  call super"):
        Forgotten()


def test_adding_by_name(eager: None) -> None:
    net = fluid.Layer("net")
    inner = net.add_sublayer("inner", D.Linear(3, 4))
    assert net.inner is inner
    assert net.add_parameter("none", None) is None
    assert net.add_parameter("shared", inner.weight) is net.shared
    assert [p.name for p in net.parameters()] == ["linear_0.w_0", "linear_0.b_0"]
    with pytest.raises(ArgumentTypeError, match="sublayer x is given int"):
        net.add_sublayer("x", 3)  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError, match="parameter x is given ndarray"):
        net.add_parameter("x", ONES)  # type: ignore[arg-type]


def test_what_create_parameter_and_create_variable_make(eager: None) -> None:
    net = fluid.Layer("net")
    weight = net.create_parameter([2, 3], attr="")
    assert weight is not None
    assert weight.name == "net_0.w_0"
    assert net.create_parameter([3], is_bias=True).name == "net_0.b_0"  # type: ignore[union-attr]
    assert net.create_parameter([3], attr=False) is None
    assert net.state_dict() == {}
    assert net.create_variable("kept", persistable=True, dtype="float32").name == "net_0.kept"
    assert net.create_variable(dtype="float32").name == "net_0._generated_var_0"
    with pytest.raises(ArgumentTypeError, match=r"shape is ParamAttr.*\n.*\n  give the shape first"):
        net.create_parameter(fluid.ParamAttr(), [2, 3])  # type: ignore[arg-type]
    with pytest.raises(ProgramError, match="a parameter named mine exists already"):
        net.a, net.b = (net.create_parameter([2], attr="mine") for _ in range(2))
    with pytest.raises(ArgumentTypeError, match="Layer: name_scope is 3"):
        fluid.Layer(3)  # type: ignore[arg-type]


# -- calls ----------------------------------------------------------------------------------------------------------


def test_forward_is_the_subclasses(eager: None) -> None:
    with pytest.raises(UnsupportedError, match=r"Layer has no forward\n.*\n  define forward"):
        fluid.Layer("net")(1)
    with pytest.raises(NotImplementedError):
        D.LayerList()(1)
    with pytest.raises(ValueError, match=r"Linear\.backward: a Layer has no backward"):
        D.Linear(3, 4).backward()


def test_build_once_is_called_once_with_the_inputs(eager: None) -> None:
    class Late(fluid.Layer):
        def _build_once(self, x: Any, twice: bool = False) -> None:
            self.weight = self.create_parameter([x.shape[1], 2])
            seen.append(twice)

        def forward(self, x: Any, twice: bool = False) -> Any:
            return fluid.layers.matmul(x, self.weight)

    seen: list[bool] = []
    net = Late()
    assert net.parameters() == []
    assert net(to_variable(ONES), twice=True).shape == (2, 2)
    net(to_variable(ONES))
    assert seen == [True]
    assert [p.name for p in net.parameters()] == ["late_0.w_0"]


def test_a_hook_may_return_one_value_or_nothing(eager: None) -> None:
    layer = D.MSELoss("none")
    layer.register_forward_pre_hook(lambda _, inputs: None)
    layer.register_forward_pre_hook(lambda _, inputs: [inputs])
    layer.register_forward_post_hook(lambda _, inputs, out: None)
    with pytest.raises(TypeError):  # a list is one input, not the inputs
        layer(to_variable(ONES), to_variable(ONES))


def test_an_error_names_the_layer_and_the_users_line(eager: None) -> None:
    class Net(fluid.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.chain = D.Sequential(D.Embedding([5, 2]))

        def forward(self, x: Any) -> Any:
            return self.chain(x)

    with pytest.raises(ArgumentTypeError) as error:
        Net()(to_variable(ONES))
    assert message(error).startswith("Embedding: input generated_var_0 holds float32, but must hold int64")
    line = Net.forward.__code__.co_firstlineno + 1
    assert f"{__file__}:{line}" in message(error)


def test_a_backward_strategy_changes_nothing(eager: None) -> None:
    strategy = D.BackwardStrategy()
    strategy.sort_sum_gradient = True
    layer = D.Linear(3, 4)
    fluid.layers.reduce_sum(layer(to_variable(ONES))).backward(strategy)
    assert layer.bias is not None
    assert (layer.bias.gradient() == 2).all()


def test_clear_gradients(eager: None) -> None:
    layer = D.Linear(3, 4)
    fluid.layers.reduce_sum(layer(to_variable(ONES))).backward()
    assert layer.weight.gradient() is not None
    layer.clear_gradients()
    gradient = layer.weight.gradient()
    assert gradient is not None
    np.testing.assert_array_equal(gradient, np.zeros((3, 4), np.float32))


# -- evaluation -----------------------------------------------------------------------------------------------------


def test_eval_is_for_the_layer_and_its_sublayers(eager: None) -> None:
    net = D.Sequential(D.Linear(3, 4), D.Sequential(D.Dropout(0.5)))
    other = D.Dropout(0.5)
    net.eval()
    assert [layer.training for layer in (net, *net.sublayers(), other)] == [False, False, False, False, True]
    net.train()
    assert all(layer.training for layer in net.sublayers())


def test_eval_stops_gradients_everywhere_until_train(eager: None) -> None:
    """Paddle switches the tracer of the process."""
    layer, other = D.Linear(3, 4), D.Linear(3, 4)
    other.eval()
    loss = fluid.layers.reduce_sum(layer(to_variable(ONES)))
    assert loss.stop_gradient
    loss.backward()
    assert layer.weight.gradient() is None
    other.train()
    fluid.layers.reduce_sum(layer(to_variable(ONES))).backward()
    assert layer.weight.gradient() is not None


def test_a_new_guard_begins_in_training() -> None:
    with guard(target="reference"):
        D.Linear(3, 4).eval()
        with guard(target="reference"):
            assert not D.Linear(3, 4)(to_variable(ONES)).stop_gradient
        assert D.Linear(3, 4)(to_variable(ONES)).stop_gradient
    D.Linear(3, 4).eval()  # of a static Program: only the layer's own flag
    with guard(target="reference"):
        assert not D.Linear(3, 4)(to_variable(ONES)).stop_gradient


def test_the_function_dropout_obeys_the_mode_and_the_layer_itself(eager: None) -> None:
    x = to_variable(np.ones((50, 50), np.float32))
    half = np.full((50, 50), np.float32(0.5))
    layer = D.Dropout(0.5, is_test=True)  # says nothing in dygraph
    with no_grad():
        assert (fluid.layers.dropout(x, 0.5).numpy() == half).all()
        assert (layer(x).numpy() == 0).any()
    assert (fluid.layers.dropout(x, 0.5).numpy() == 0).any()
    assert (fluid.layers.dropout(x, 0.5, is_test=True).numpy() == half).all()
    layer.training = False
    assert (layer(x).numpy() == half).all()


# -- state ----------------------------------------------------------------------------------------------------------


def net_of_two() -> fluid.Layer:
    return D.Sequential(("a", D.Linear(3, 4)), ("b", D.Linear(4, 2)))


def arrays(layer: fluid.Layer) -> dict[str, Any]:
    return {key: parameter.numpy() for key, parameter in layer.state_dict().items()}


def same(left: dict[str, Any], right: dict[str, Any]) -> bool:
    return left.keys() == right.keys() and all((left[key] == right[key]).all() for key in left)


def test_state_goes_from_layer_to_layer(eager: None) -> None:
    one, two = net_of_two(), net_of_two()
    assert not same(arrays(one), arrays(two))
    two.set_dict(arrays(one))
    assert same(arrays(one), arrays(two))
    three = net_of_two()
    three.load_dict(one.state_dict())  # Variables as well
    assert same(arrays(one), arrays(three))
    four = net_of_two()
    tensors = {key: fluid.create_lod_tensor(array, [], fluid.CPUPlace()) for key, array in arrays(one).items()}
    four.set_dict(tensors)
    assert same(arrays(one), arrays(four))


def test_set_dict_calls_load_dict(eager: None) -> None:
    class Noting(fluid.Layer):
        def load_dict(self, stat_dict: Any, include_sublayers: bool = True, use_structured_name: bool = True) -> None:
            noted.append((stat_dict, include_sublayers, use_structured_name))

    noted: list[Any] = []
    Noting().set_dict({}, use_structured_name=False)
    assert noted == [({}, True, False)]


def test_state_by_parameter_name(eager: None) -> None:
    net = net_of_two()
    by_name = {p.name: np.full(p.shape, np.float32(i)) for i, p in enumerate(net.parameters())}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net.set_dict(by_name, use_structured_name=False)
    assert [float(p.numpy().mean()) for p in net.parameters()] == [0, 1, 2, 3]


def test_state_of_the_layer_alone(eager: None) -> None:
    net = net_of_two()
    net.add_parameter("own", net.create_parameter([2]))
    before = arrays(net)
    given = {key: value + 1 for key, value in before.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net.set_dict({**given, NAME_TABLE: {}}, include_sublayers=False)
    assert same(arrays(net), {**before, "own": before["own"] + 1})


def test_a_shared_parameter_has_each_key(eager: None) -> None:
    net = net_of_two()
    net.tied = net.a
    assert list(net.state_dict()) == ["a.weight", "a.bias", "b.weight", "b.bias", "tied.weight", "tied.bias"]
    assert len(net.parameters()) == 4
    assert [path for path, _ in net.named_sublayers()] == ["a", "b"]


def test_unused_keys_warn(eager: None) -> None:
    net = net_of_two()
    with pytest.warns(UserWarning, match="set_dict: zz, y belongs to no parameter of sequential_0") as warned:
        net.set_dict({**arrays(net), "zz": ONES, "y": ONES})
    assert warned[0].filename == __file__


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"a.weight": None}, r"the state dict has no a\.weight; it has a\.bias, b\.weight, b\.bias"),
        (
            {"b.weight": np.zeros((2, 4), np.float32)},
            r"b\.weight \(linear_1\.w_0\) has shape \[4, 2\], but its value has \[2, 4\]",
        ),
        ({"b.bias": np.zeros(2)}, r"b\.bias \(linear_1\.b_0\) holds float32, but its value holds float64"),
        ({"b.bias": [0.0, 0.0]}, r"b\.bias \(linear_1\.b_0\) is given list, not an array"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change: dict[str, Any], words: str, eager: None) -> None:
    net = net_of_two()
    before = arrays(net)
    given = {key: value + 1 for key, value in before.items()}
    given.update(change)
    given = {key: value for key, value in given.items() if value is not None}
    with pytest.raises(StateDictError, match=words + r"(.|\n)*nothing was changed") as error:
        net.set_dict(given)
    assert isinstance(error.value, RuntimeError)  # what scripts catch for a missing key
    assert same(arrays(net), before)


def test_what_is_no_state_dict(eager: None) -> None:
    with pytest.raises(ArgumentTypeError, match="set_dict: the state dict is NoneType"):
        net_of_two().set_dict(None)  # type: ignore[arg-type]


def test_many_keys_are_counted(eager: None) -> None:
    net = D.LayerList([D.Linear(1, 1) for _ in range(5)])
    with pytest.raises(StateDictError, match=r"no 0\.weight, .*, 2\.bias and 4 more; it has no keys"):
        net.set_dict({})


# -- static programs ------------------------------------------------------------------------------------------------


class Convolutional(fluid.Layer):
    def __init__(self, is_test: bool = False) -> None:
        super().__init__()
        self.conv = D.Conv2D(1, 2, 3, act="relu")
        self.norm = D.BatchNorm(2, is_test=is_test)
        self.pool = D.Pool2D(2, pool_stride=2)
        self.drop = D.Dropout(0.3, is_test=is_test)
        self.out = D.Linear(2 * 3 * 3, 4)

    def forward(self, x: Any) -> Any:
        h = self.drop(self.pool(self.norm(self.conv(x))))
        return self.out(fluid.layers.reshape(h, [-1, 2 * 3 * 3]))


def test_layers_are_recorded_into_a_program() -> None:
    images = np.random.default_rng(0).normal(size=(3, 1, 8, 8)).astype(np.float32)
    main, startup, scope = fluid.Program(), fluid.Program(), fluid.Scope()
    with fluid.program_guard(main, startup), fluid.unique_name.guard(), fluid.scope_guard(scope):
        net = Convolutional(is_test=True)
        x = fluid.data("x", [None, 1, 8, 8])
        y = net(x)
        exe = fluid.Executor(target="reference")
        exe.run(startup)
        (static,) = exe.run(main, {"x": images}, [y])
        values = {
            key: np.array(scope.find_var(parameter.name).get_tensor())  # type: ignore[union-attr]
            for key, parameter in net.state_dict().items()
        }
    assert " ".join(op.type for op in main.global_block().ops) == (
        "conv2d elementwise_add relu batch_norm pool2d dropout reshape2 matmul elementwise_add"
    )
    assert y.name == "linear_0.tmp_1"
    assert [p.name for p in main.all_parameters()] == [
        *("conv2d_0.w_0", "conv2d_0.b_0"),
        *("batch_norm_0.w_0", "batch_norm_0.b_0", "batch_norm_0.w_1", "batch_norm_0.w_2"),
        *("linear_0.w_0", "linear_0.b_0"),
    ]
    with guard(target="reference"):
        net = Convolutional()
        net.set_dict(values)
        net.eval()
        np.testing.assert_allclose(net(to_variable(images)).numpy(), static, rtol=1e-5, atol=1e-6)


def test_state_of_a_static_layer_is_in_a_scope() -> None:
    with fluid.program_guard(fluid.Program(), fluid.Program()):
        layer = D.Linear(3, 4)
        with pytest.raises(StateDictError, match="belongs to a static Program, whose values are in a scope"):
            layer.set_dict({"weight": np.zeros((3, 4), np.float32), "bias": np.zeros(4, np.float32)})
        layer.clear_gradients()


# -- one process ----------------------------------------------------------------------------------------------------


def test_data_parallel_wraps_on_one_process(eager: None, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = D.Linear(3, 4)
    assert D.prepare_context() is None
    model = D.DataParallel(inner, D.parallel.ParallelStrategy())
    x = to_variable(ONES)
    assert (model(x).numpy() == inner(x).numpy()).all()
    assert list(model.state_dict()) == ["weight", "bias"]
    model.set_dict({key: value + 1 for key, value in arrays(inner).items()})
    loss = fluid.layers.mean(model(x))
    assert model.scale_loss(loss) is loss
    model.apply_collective_grads()
    assert [p.name for p in model.parameters()] == ["linear_0.w_0", "linear_0.b_0"]
    assert (D.ParallelEnv().nranks, D.ParallelEnv().local_rank, D.ParallelEnv().dev_id) == (1, 0, 0)
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    with pytest.raises(UnsupportedError, match="prepare_context: training on 2 processes is not implemented"):
        D.prepare_context()
    with pytest.raises(UnsupportedError, match="DataParallel: training on 4 processes"):
        D.DataParallel(inner, D.parallel.ParallelStrategy(nranks=4))
