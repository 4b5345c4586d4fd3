"""Optimizers around optimizers: mistakes, what clones leave out, and private training, whose released values they take.

Their numbers are held to Paddle's in test_running_as_paddle.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import fluidc.frontend as fluid
from fluidc.compiler.errors import FluidcError
from fluidc.frontend.errors import ProgramError

O = fluid.optimizer  # noqa: E741 - the module that all of them are of
X = (np.arange(12, dtype=np.float32).reshape(4, 3) - 5.0) / 10
Y = np.array([[0.5], [-0.2], [0.1], [0.9]], np.float32)
THREE: Any = 3  # what no argument takes
FEED = {"x": X, "y": Y}
PRIVATE: dict[str, Any] = {
    "clip": 1.0, "batch_size": 4.0, "sigma": 1.0, "dataset_size": 40, "delta": 1e-3, "max_steps": 50,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _programs() -> Iterator[None]:
    with (
        fluid.program_guard(fluid.Program(), fluid.Program()),
        fluid.unique_name.guard(),
        fluid.scope_guard(fluid.Scope()),
    ):
        yield


def loss() -> fluid.Variable:
    x, y = fluid.data("x", [None, 3]), fluid.data("y", [None, 1])
    return fluid.layers.mean(fluid.layers.square_error_cost(fluid.layers.fc(x, 1), y))


def value(name: str) -> np.ndarray:
    return np.array(fluid.global_scope().var(name).get_tensor())


def private() -> Any:
    return O.Dpsgd(0.1, **PRIVATE)


def steps(target: str, count: int) -> tuple[fluid.Executor, list[np.ndarray]]:
    """``count`` private steps; the weights after each."""
    exe = fluid.Executor(target=target)
    exe.run(fluid.default_startup_program())
    found = [value("fc_0.w_0")]
    for _ in range(count):
        exe.run(feed=FEED)
        found.append(value("fc_0.w_0"))
    assert fluid.privacy.spent().steps == count
    return exe, found


def test_averages_of_private_parameters() -> None:
    private().minimize(loss())
    moving = O.ExponentialMovingAverage(0.8)
    moving.update()
    windows = O.ModelAverage(0.5, min_average_window=2, max_average_window=3)
    exe, weights = steps("reference", 5)
    expected = np.zeros_like(weights[0])
    for each in weights[1:]:
        expected = 0.8 * expected + 0.2 * each
    with moving.apply(exe):
        np.testing.assert_allclose(value("fc_0.w_0"), expected / (1 - 0.8**5), rtol=1e-5)
    np.testing.assert_array_equal(value("fc_0.w_0"), weights[5])
    # Windows close after steps 2 and 4; the fifth begins another.
    with windows.apply(exe):
        np.testing.assert_allclose(value("fc_0.w_0"), np.mean(weights[3:], axis=0), rtol=1e-5)
    assert fluid.privacy.spent().steps == 5, "averages cost no privacy"


@pytest.mark.parametrize("target", ["reference", "cpu"])
def test_lookahead_of_private_parameters(target: str) -> None:
    O.LookaheadOptimizer(private(), alpha=0.25, k=2).minimize(loss())
    _, weights = steps(target, 4)
    np.testing.assert_array_equal(value("fc_0.w_0@SLOW"), weights[4])
    assert not np.array_equal(weights[3], weights[4])


def decayed(kind: type[Any]) -> type[Any]:
    return fluid.contrib.extend_with_decoupled_weight_decay(kind)


def dp_optimizer(learning_rate: float, **arguments: Any) -> Any:
    return decayed(O.DpOptimizer)(inner=O.SGD(learning_rate), **arguments)


@pytest.mark.filterwarnings("ignore:INSECURE")
@pytest.mark.parametrize("kind", [decayed(O.Dpsgd), dp_optimizer])
def test_decay_apart_from_the_private_gradient(kind: Callable[..., Any]) -> None:
    with fluid.privacy.insecure_noise_key(bytes(32)):
        found = {}
        for decay in (0.0, 0.5):
            with (
                fluid.program_guard(fluid.Program(), fluid.Program()),
                fluid.unique_name.guard(),
                fluid.scope_guard(fluid.Scope()),
            ):
                fluid.default_startup_program().random_seed = 5
                kind(learning_rate=0.1, weight_decay=decay, **PRIVATE).minimize(loss())
                found[decay] = steps("reference", 1)[1]
    np.testing.assert_allclose(found[0.5][1], found[0.0][1] - 0.5 * found[0.0][0], rtol=1e-5)


def test_test_clones_leave_it_out() -> None:
    O.LookaheadOptimizer(O.SGD(0.1), k=1).minimize(loss())
    average = O.ExponentialMovingAverage(0.9)
    average.update()
    O.ModelAverage(0.5)
    test = fluid.default_main_program().clone(for_test=True)
    assert {op.type for op in test.global_block().ops} == {
        "mul",
        "elementwise_add",
        "elementwise_sub",
        "square",
        "mean",
    }


def test_checkpoints_are_kept_in_the_program() -> None:
    optimizer = O.RecomputeOptimizer(O.Momentum(0.1, 0.9, regularization=fluid.regularizer.L2Decay(0.1)))
    with pytest.raises(ProgramError, match="there are no checkpoints"):
        optimizer.minimize(loss())
    cost = loss()
    optimizer._set_checkpoints(["fc_1.tmp_1"])
    _, pairs = optimizer.minimize(cost)
    assert [param.name for param, _ in pairs] == ["fc_1.w_0", "fc_1.b_0"]
    (record,) = [op for op in fluid.default_main_program().global_block().ops if op.type == "backward"]
    assert record.attr("checkpoints") == ["fc_1.tmp_1"]
    with pytest.raises(FluidcError, match="load"):
        optimizer.load({})


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda: O.LookaheadOptimizer(THREE), "the optimizer is int"),
        (lambda: O.LookaheadOptimizer(O.SGD(0.1), alpha=1.5), "alpha is 1.5"),
        (lambda: O.LookaheadOptimizer(O.SGD(0.1), k=0), "k is 0"),
        (lambda: O.RecomputeOptimizer(THREE), "the optimizer is int"),
        (lambda: O.RecomputeOptimizer(private()), "Dpsgd makes the gradients itself"),
        (
            lambda: O.DpOptimizer(O.RecomputeOptimizer(O.SGD(0.1)), **PRIVATE),
            "inner is RecomputeOptimizer, whose minimize",
        ),
        (lambda: O.DpOptimizer(decayed(O.SGD)(0.1, learning_rate=0.1), **PRIVATE), "WeightDecay, whose minimize"),
        (lambda: O.ExponentialMovingAverage(), "the default main program has no parameters"),
        (lambda: O.ModelAverage(0.5), "the default main program has no parameters"),
        (lambda: [loss(), O.ExponentialMovingAverage(thres_steps=THREE)], "thres_steps is int"),
        (lambda: O.DGCMomentumOptimizer(0.1, 0.9, -1), "rampup_begin_step is -1"),
        (lambda: O.DGCMomentumOptimizer(0.1, 0.9, 0, num_trainers=2), "num_trainers is 2"),
        (
            lambda: O.DGCMomentumOptimizer(0.1, 0.9, 0, grad_clip=fluid.clip.GradientClipByValue(1.0)),
            "grad_clip is GradientClipByValue",
        ),
        (lambda: O.PipelineOptimizer(THREE), "the optimizer is int"),
        (lambda: fluid.contrib.extend_with_decoupled_weight_decay(O.Adam)(1, learning_rate=0.1), "weight_decay is 1"),
    ],
)
def test_mistakes_are_refused_where_they_are_made(act: Callable[[], object], says: str) -> None:
    with pytest.raises(FluidcError, match=says) as caught:
        act()
    assert "test_optimizer_wrappers.py:" in (caught.value.where or "")
    assert caught.value.hint


def test_integers_make_no_schedule() -> None:
    O.SGD(0.1).minimize(loss())
    counter = fluid.layers.autoincreased_step_counter()
    with pytest.warns(UserWarning, match=r"thres_steps holds int64, so that the decay stays 0\.9"):
        O.ExponentialMovingAverage(0.9, thres_steps=counter)


def test_they_are_for_programs() -> None:
    with fluid.dygraph.guard():
        for act in (
            lambda: O.LookaheadOptimizer(O.SGD(0.1)),
            lambda: O.ExponentialMovingAverage(),
            lambda: O.ModelAverage(0.5),
        ):
            with pytest.raises(NotImplementedError, match="is for Programs"):
                act()


def test_one_device_has_the_whole_program() -> None:
    """What fluid does between devices leaves nothing to do on one, and says so."""

    def losses(make: Callable[[], Any], warning: str) -> list[float]:
        with (
            fluid.program_guard(fluid.Program(), fluid.Program()),
            fluid.unique_name.guard(),
            fluid.scope_guard(fluid.Scope()),
        ):
            fluid.default_startup_program().random_seed = 5
            cost = loss()
            if warning:
                with pytest.warns(UserWarning, match=warning):
                    optimizer = make()
            else:
                optimizer = make()
            optimizer.minimize(cost)
            exe = fluid.Executor(target="reference")
            exe.run(fluid.default_startup_program())
            return [float(exe.run(feed=FEED, fetch_list=[cost])[0][0]) for _ in range(3)]

    expected = losses(lambda: O.Momentum(0.1, 0.9, use_nesterov=True), "")
    assert losses(lambda: O.DGCMomentumOptimizer(0.1, 0.9, 10, use_nesterov=True), "trains as Momentum") == expected
    inner = lambda: O.PipelineOptimizer(O.Momentum(0.1, 0.9, use_nesterov=True), cut_list=[[]])  # noqa: E731
    assert losses(inner, "not cut; it trains as Momentum does") == expected
