"""Eager mode: when records run, what they cost, and that every value is what it was when it was recorded."""

from __future__ import annotations

import gc
import operator
import re
import resource
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fluidc.frontend as fluid
from fluidc.frontend.dygraph.base import eager_program
from fluidc.frontend.dygraph.recorder import MOST_PENDING, Recorder
from fluidc.frontend.dygraph.variable import EagerParameter, EagerVariable
from fluidc.frontend.errors import ArgumentTypeError, ProgramError
from fluidc.frontend.framework import OpRole
from fluidc.runtime.errors import DataError, FluidcError

L = fluid.layers
to_variable = fluid.dygraph.to_variable


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with fluid.dygraph.guard():
        yield eager_program().recorder


def floats(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def parameter(*values: float) -> fluid.Parameter:
    value = np.array(values, np.float32)
    made = L.create_parameter(
        list(value.shape), "float32", default_initializer=fluid.initializer.NumpyArrayInitializer(value)
    )
    np.testing.assert_array_equal(made.numpy(), value)
    return made


def derivative(output: fluid.Variable, x: fluid.Variable) -> EagerVariable:
    """d output / d x, which can be differentiated again."""
    assert isinstance(output, EagerVariable)
    assert isinstance(x, EagerVariable)
    (found,) = fluid.dygraph.grad(output, x, create_graph=True)
    assert found is not None
    return found


def descend(loss: fluid.Variable, *params: fluid.Parameter, rate: float = 0.5) -> None:
    """One step of gradient descent, as an optimizer records it."""
    loss.backward()
    step = to_variable(np.array([rate], np.float32))
    with eager_program().role(OpRole.OPTIMIZE):
        for p in params:
            assert isinstance(p, EagerParameter)
            assert p.grad is not None
            inputs = {"Param": [p], "Grad": [p.grad], "LearningRate": [step]}
            p.block.append_op("sgd", inputs, {"ParamOut": [p]})


def test_values_operators_and_indexing_are_those_of_numpy(recorder: Recorder) -> None:
    a, b = floats(3, 4), floats(3, 4, seed=1)
    x, y = to_variable(a), to_variable(b)
    np.testing.assert_allclose((x * 2 + y / 4 - 1).numpy(), a * 2 + b / 4 - 1, rtol=1e-6)
    np.testing.assert_array_equal(x[1:, ::-1].numpy(), a[1:, ::-1])
    np.testing.assert_array_equal((x > y).numpy(), a > b)
    np.testing.assert_array_equal(np.asarray(x), a)
    assert [len(row) for row in x] == [4, 4, 4]
    assert len(x) == 3
    total = L.reduce_sum(x)
    assert float(total) == pytest.approx(a.sum(), rel=1e-5)
    assert bool(total > 1e6) is False
    assert [10, 20, 30][to_variable(np.array([2], np.int64))] == 30
    assert x.astype("int64").numpy().dtype == np.int64


def test_printing_shows_name_type_and_value(recorder: Recorder) -> None:
    x = to_variable(np.array([[1.5, 2.0]], np.float32), name="x")
    assert repr(x * 2) == "tmp_0 : float32[1, 2], stop_gradient\n[[3. 4.]]"
    assert str(x).startswith("x : float32[1, 2]")


def test_what_is_fed_is_what_it_was_when_it_was_recorded(recorder: Recorder) -> None:
    array = np.ones(3, np.float32)
    x = to_variable(array)
    y = x + 1
    array[:] = 7
    np.testing.assert_array_equal(y.numpy(), [2, 2, 2])
    copy = y.numpy()
    copy[:] = 0
    np.testing.assert_array_equal(y.numpy(), [2, 2, 2])


def test_nothing_runs_before_somebody_looks(recorder: Recorder) -> None:
    x = to_variable(np.ones(3, np.float32))
    y = x
    for _ in range(5):
        y = y + x
    assert isinstance(y, EagerVariable)
    assert y.node.value is None
    z = y * 2
    assert z.numpy()[0] == 12
    assert y.node.value is not None, "what Python holds has its value, too"


def test_too_many_records_run_by_themselves(recorder: Recorder) -> None:
    x = to_variable(np.ones(2, np.float32))
    y = x
    for _ in range(MOST_PENDING + 10):
        y = y + x
    assert len(recorder._pending) <= 11
    assert y.numpy()[0] == MOST_PENDING + 11


def test_set_value_does_not_reach_what_was_recorded_before(recorder: Recorder) -> None:
    p = parameter(1.0, 2.0)
    before = p * 10
    p.set_value(np.array([5.0, 6.0], np.float32))
    after = p * 10
    np.testing.assert_array_equal(before.numpy(), [10, 20])
    np.testing.assert_array_equal(after.numpy(), [50, 60])
    with pytest.raises(ProgramError, match=r"has shape \[2\], the new value \[3\]"):
        p.set_value(np.zeros(3, np.float32))
    with pytest.raises(ArgumentTypeError, match="holds float32, the new value float64"):
        p.set_value(np.zeros(2))


def test_a_gradient_uses_the_values_that_its_forward_read(recorder: Recorder) -> None:
    """Two losses of one parameter, as in adversarial training: the second backward comes after an update."""
    p = parameter(3.0)
    first, second = L.square(p), L.square(p)
    second.numpy()
    descend(first, p)  # p = 3 - 0.5 * 6
    second.backward()
    np.testing.assert_array_equal(p.gradient(), [6.0])
    np.testing.assert_array_equal(p.numpy(), [0.0])
    third = L.square(p)
    third.numpy()
    p.set_value(np.array([9.0], np.float32))
    third.backward()
    np.testing.assert_array_equal(p.gradient(), [0.0])


def test_looking_before_backward_changes_nothing(recorder: Recorder) -> None:
    x = to_variable(floats(4, 5))
    found = []
    for looks in (False, True):
        p = parameter(*floats(5, seed=3))
        h = L.dropout(L.tanh(L.elementwise_mul(x, p)), 0.4)
        loss = L.mean(L.square(h))
        mask = None
        if looks:
            mask = h.numpy() != 0
            loss.numpy()
        loss.backward()
        grad = p.gradient()
        assert grad is not None
        expected = L.mean(L.square(h)).numpy()
        np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-6)
        if mask is not None:
            # The replay draws the mask that was seen: d/dp of mean((m tanh(x p))^2).
            t = np.tanh(x.numpy() * p.numpy())
            by_hand = (2 * mask * t * (1 - t**2) * x.numpy()).sum(0) / t.size
            np.testing.assert_allclose(grad, by_hand, rtol=1e-5)
        found.append(grad)
    assert not np.array_equal(found[0], found[1]), "two draws have two masks"


def test_labels_get_no_gradient(recorder: Recorder) -> None:
    scores, target = parameter(2.0), parameter(0.5)
    soft = L.sigmoid(target)
    L.sigmoid_cross_entropy_with_logits(scores, soft).backward()
    np.testing.assert_allclose(scores.gradient(), [1 / (1 + np.exp(-2.0)) - 1 / (1 + np.exp(-0.5))], rtol=1e-6)
    assert soft.gradient() is None
    assert target.gradient() is None


def test_gradients_of_what_is_held_and_of_shared_branches(recorder: Recorder) -> None:
    p = parameter(2.0)
    h = L.square(p)
    a, b = h * 3, h * 5
    a.backward()
    np.testing.assert_array_equal(p.gradient(), [12.0])
    np.testing.assert_array_equal(h.gradient(), [3.0])
    p.clear_gradient()
    np.testing.assert_array_equal(p.gradient(), [0.0])
    b.backward()  # the part of the graph that both share was given up
    np.testing.assert_array_equal(h.gradient(), [3.0])
    np.testing.assert_array_equal(p.gradient(), [0.0])


def test_no_gradient_passes_what_says_so(recorder: Recorder) -> None:
    p = parameter(2.0)
    with fluid.dygraph.no_grad():
        frozen = p * 3
    cut = (p * 5).detach()
    other = p * 7
    other.stop_gradient = True

    @fluid.dygraph.no_grad
    def constant(v: fluid.Variable) -> fluid.Variable:
        return v * 11

    loss = p * frozen + p * cut + p * other + p * constant(p)
    loss.backward()
    np.testing.assert_array_equal(p.gradient(), [6 + 10 + 14 + 22])
    assert [v.stop_gradient for v in (frozen, cut, other, loss)] == [True, True, True, False]
    assert constant.__name__ == "constant"


def test_a_fed_value_gets_a_gradient_where_it_wants_one(recorder: Recorder) -> None:
    x = to_variable(np.array([1.0, 2.0], np.float32))
    assert x.stop_gradient
    x.stop_gradient = False
    L.reduce_sum(L.square(x)).backward()
    np.testing.assert_array_equal(x.gradient(), [2.0, 4.0])


def test_second_derivatives_and_the_forms_of_grad(recorder: Recorder) -> None:
    x, w = to_variable(np.array([3.0], np.float32)), parameter(2.0)
    x.stop_gradient = False
    y = w * x * x * x
    first = derivative(y, x)
    second = derivative(first, x)
    np.testing.assert_array_equal(first.numpy(), [54.0])
    np.testing.assert_array_equal(second.numpy(), [36.0])
    (first * second).backward()  # 3 w x^2 * 6 w x = 18 w^2 x^3
    np.testing.assert_array_equal(w.gradient(), [36.0 * 2.0 * 27.0])
    np.testing.assert_array_equal(x.gradient(), [54.0 * 4.0 * 9.0])
    unused = parameter(1.0)
    z = x * 2
    with pytest.raises(ProgramError, match=f"do not depend on {unused.name}"):
        fluid.dygraph.grad(z, unused)
    assert fluid.dygraph.grad(z, [unused], allow_unused=True) == [None]
    u = x * 2
    given, none = fluid.dygraph.grad([u, u * x], [x, unused], [None, to_variable(np.array([10.0], np.float32))],
                                     allow_unused=True)  # fmt: skip
    assert none is None
    assert given is not None
    np.testing.assert_array_equal(given.numpy(), [2.0 + 10.0 * 12.0])
    v = w * x
    (barred,) = fluid.dygraph.grad(v * v + v, w, no_grad_vars=[v], allow_unused=True)
    assert barred is None


def test_running_statistics_are_written_once_however_often_it_is_replayed(recorder: Recorder) -> None:
    mean = L.create_global_var([2], 0.0, "float32", persistable=True)
    variance = L.create_global_var([2], 1.0, "float32", persistable=True)
    scale, bias = parameter(1.0, 1.0), parameter(0.0, 0.0)
    x = to_variable(floats(8, 2))

    def normalised() -> fluid.Variable:
        block = x.block
        out = {slot: block.create_var(dtype="float32", shape=s, stop_gradient=slot != "Y")
               for slot, s in (("Y", [8, 2]), ("SavedMean", [2]), ("SavedVariance", [2]))}  # fmt: skip
        block.append_op(
            "batch_norm",
            {"X": x, "Scale": scale, "Bias": bias, "Mean": mean, "Variance": variance},
            {"Y": out["Y"], "MeanOut": mean, "VarianceOut": variance, "SavedMean": out["SavedMean"],
             "SavedVariance": out["SavedVariance"]},
            {"momentum": 0.9, "epsilon": 1e-5, "is_test": False, "data_layout": "NCHW"},
        )  # fmt: skip
        return out["Y"]

    loss = L.reduce_sum(L.square(normalised()))
    loss.numpy()
    expected = 0.1 * x.numpy().mean(0)
    np.testing.assert_allclose(mean.numpy(), expected, rtol=1e-5)
    loss.backward()
    assert scale.gradient() is not None
    np.testing.assert_allclose(mean.numpy(), expected, rtol=1e-5)
    normalised()
    normalised()
    np.testing.assert_allclose(mean.numpy(), x.numpy().mean(0) * (1 - 0.9**3), rtol=1e-5)


def training_step(x: fluid.Variable, w: fluid.Parameter, b: fluid.Parameter) -> fluid.Variable:
    loss = L.mean(L.square(L.elementwise_add(L.matmul(x, w), b)))
    descend(loss, w, b, rate=1e-3)
    w.clear_gradient()
    b.clear_gradient()
    return loss


def linear() -> tuple[fluid.Parameter, fluid.Parameter]:
    return L.create_parameter([5, 3], "float32"), L.create_parameter([3], "float32", is_bias=True)


def test_a_loop_compiles_once(recorder: Recorder) -> None:
    w, b = linear()
    data = [floats(8, 5, seed=i) for i in range(10)]
    for i in range(3):
        training_step(to_variable(data[i]), w, b).numpy()
    before = recorder.compiled
    for i in range(1000):
        loss = training_step(to_variable(data[i % 10]), w, b)
        if i % 100 == 0:
            loss.numpy()
    assert recorder.compiled == before


def test_another_model_of_the_same_structure_compiles_nothing(recorder: Recorder) -> None:
    before = recorder.compiled
    for _ in range(3):
        w, b = linear()
        for i in range(3):
            training_step(to_variable(floats(8, 5, seed=i)), w, b).numpy()
    assert recorder.compiled - before <= 2


def test_many_batch_sizes_share_one_function(recorder: Recorder) -> None:
    w, b = linear()
    before = recorder.compiled
    for rows in [8, 8, 7, 7, *range(2, 40)]:
        x = floats(rows, 5, seed=rows)
        predicted = x @ w.numpy() + b.numpy()
        loss = training_step(to_variable(x), w, b)
        np.testing.assert_allclose(loss.numpy(), [np.mean(predicted**2)], rtol=1e-5)
    assert recorder.compiled - before <= 4


def test_a_structure_that_depends_on_the_batch_still_runs(recorder: Recorder) -> None:
    w, b = linear()
    for rows in (2, 3, 4, 5, 6):
        x = floats(rows, 5, seed=rows)
        h = L.elementwise_add(L.matmul(to_variable(x), w), b)
        flat = L.reshape(h, [rows * 3])
        np.testing.assert_allclose(flat.numpy(), (x @ w.numpy() + b.numpy()).reshape(-1), rtol=1e-5)


def test_numbers_that_change_do_not_compile_anew(recorder: Recorder) -> None:
    x = to_variable(np.array([2.0, 4.0], np.float32))
    compiled = []
    for i in range(20):
        y = L.pow((x * (i + 0.5) - i) + L.fill_constant([2], "float32", float(i)), factor=1.0 + i / 10)
        np.testing.assert_allclose(y.numpy(), (x.numpy() * (i + 0.5)) ** (1.0 + i / 10), rtol=2e-5)
        z = L.scale(x, 1.0 + i, bias=float(i), bias_after_scale=False)
        np.testing.assert_allclose(z.numpy(), (x.numpy() + i) * (1.0 + i), rtol=1e-6)
        compiled.append(recorder.compiled)
    assert compiled[5] == compiled[-1]


def test_a_running_total_keeps_no_graph(recorder: Recorder) -> None:
    w, b = linear()
    total = to_variable(np.zeros(1, np.float32))
    data = floats(8, 5)
    sizes = []
    for i in range(10_000):
        loss = L.mean(L.square(L.elementwise_add(L.matmul(to_variable(data), w), b)))
        total += loss
        descend(loss, w, b, rate=1e-4)
        w.clear_gradient()
        b.clear_gradient()
        if i % 100 == 99:
            total.numpy()
        if i in (2000, 9_999):
            gc.collect()
            sizes.append((len(gc.get_objects()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
    assert sizes[1][0] - sizes[0][0] < 500
    assert sizes[1][1] - sizes[0][1] < 4096, "kilobytes"


def test_control_flow_is_pythons(recorder: Recorder) -> None:
    i, ten = L.fill_constant([1], "int64", 0), L.fill_constant([1], "int64", 10)
    (out,) = L.while_loop(lambda i: i < ten, lambda i: [i + 3], [i])
    assert int(out) == 12
    chosen = L.cond(out > ten, lambda: out * 2, lambda: out)
    assert int(chosen) == 24
    with pytest.raises(ProgramError, match="use Python's if, for and while"), L.While(i < ten).block():
        pass


def test_a_label_out_of_range_names_the_line_and_leaves_state(recorder: Recorder) -> None:
    w = L.create_parameter([5, 3], "float32")
    before = w.numpy()
    x = to_variable(floats(4, 5))
    loss = L.mean(L.softmax_with_cross_entropy(L.matmul(x, w), to_variable(np.array([[0], [1], [3], [2]]))))
    descend(loss, w)
    with pytest.raises(DataError, match=r"3") as error:
        loss.numpy()
    assert re.search(r"test_eager\.py:\d+", str(error.value))
    np.testing.assert_array_equal(w.numpy(), before)
    with pytest.raises(ProgramError, match="the step that computed it failed"):
        loss.numpy()


def test_errors_say_what_was_given(recorder: Recorder) -> None:
    x = to_variable(floats(2, 3))
    with pytest.raises(FluidcError, match=r"do not fit together"):
        print(x + to_variable(floats(2, 4)))
    with pytest.raises(ArgumentTypeError, match="ndarray"):
        L.matmul(x, floats(3, 2))  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError, match="must be floating point"):
        to_variable(np.array([1])).backward()
    with pytest.raises(ProgramError, match=r"the truth value of .* shape \[2, 3\]"):
        bool(x)
    with pytest.raises(ProgramError, match="trace the model"):
        fluid.default_main_program().clone()
    program = fluid.Program()
    with fluid.program_guard(program):
        static = fluid.data("s", [2, 3])
    with pytest.raises(ProgramError, match="belongs to a static Program"):
        L.relu(static)
    L.create_parameter([2], "float32", name="w")
    kept = L.create_parameter([2], "float32", name="kept")
    with pytest.raises(ProgramError, match="a parameter named kept exists already"):
        L.create_parameter([2], "float32", name="kept")
    del kept


def test_outside_a_guard() -> None:
    assert not fluid.dygraph.enabled()
    with pytest.raises(ProgramError, match=r"write: with fluid\.dygraph\.guard"):
        to_variable(np.zeros(2, np.float32))
    with fluid.dygraph.guard():
        assert fluid.dygraph.enabled()
        assert fluid.in_dygraph_mode()
        x = to_variable(np.ones(2, np.float32)) * 3
    np.testing.assert_array_equal(x.numpy(), [3, 3])
    with pytest.raises(FluidcError, match="target"):
        fluid.dygraph.enable_dygraph(target="tpu")
    fluid.dygraph.enable_dygraph()
    fluid.dygraph.enable_dygraph()
    fluid.dygraph.disable_dygraph()
    assert fluid.dygraph.enabled()
    fluid.dygraph.disable_dygraph()
    assert not fluid.dygraph.enabled()
    fluid.dygraph.disable_dygraph()


def test_a_seed_repeats_the_draws() -> None:
    def drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        with fluid.dygraph.guard(target="reference"):
            fluid.default_main_program().random_seed = 0
            fluid.default_main_program().random_seed = 7
            w = L.create_parameter([3, 2], "float32")
            fluid.default_main_program().random_seed = 0
            return w.numpy(), L.gaussian_random([4]).numpy(), L.gaussian_random([4]).numpy()

    a, b = drawn(), drawn()
    np.testing.assert_array_equal(a[0], b[0])
    assert not np.array_equal(a[1], a[2])
    assert not np.array_equal(a[1], b[1])


def test_targets_agree() -> None:
    found = []
    for target in ("reference", "cpu", "onnx"):
        with fluid.dygraph.guard(target=target):
            w, b = parameter_like(5, 3), parameter_like(3)
            losses = [training_step(to_variable(floats(6, 5, seed=i)), w, b) for i in range(4)]
            found.append((losses[-1].numpy(), w.numpy(), b.numpy()))
    for other in found[1:]:
        for x, y in zip(found[0], other, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


def parameter_like(*shape: int) -> fluid.Parameter:
    value = floats(*shape, seed=sum(shape))
    return L.create_parameter(
        list(shape), "float32", default_initializer=fluid.initializer.NumpyArrayInitializer(value)
    )


def test_shapes_are_tuples_that_join_with_lists(recorder: Recorder) -> None:
    shape: Any = to_variable(np.zeros((2, 3, 4), np.float32)).shape
    assert shape == [2, 3, 4]
    assert shape == (2, 3, 4)
    assert shape != [2, 3]
    assert not operator.ne(shape, [2, 3, 4])
    assert hash(shape) == hash((2, 3, 4))
    assert operator.add(shape[:2], [5]) == [2, 3, 5]
    assert operator.add([5], shape) == [5, 2, 3, 4]
    assert operator.add(shape[:1], (7,)) == (2, 7)
    with pytest.raises(TypeError):
        operator.add(shape, 1)


def test_a_clip_for_no_parameters(recorder: Recorder) -> None:
    with pytest.raises(ProgramError, match=r"set_gradient_clip: there are no parameters yet(.|\n)*grad_clip="):
        fluid.clip.set_gradient_clip(fluid.clip.GradientClipByValue(0.1), param_list=[])
