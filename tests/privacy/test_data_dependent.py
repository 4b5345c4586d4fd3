"""What is chosen by looking at the data, and is refused under Dpsgd: learning rates, loss scales, kept values."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from separable import Fed

import fluidc.frontend as fluid
from fluidc.compiler.errors import FluidcError, PrivacyError
from fluidc.compiler.passes.decompose import Decompose
from fluidc.compiler.passes.manager import run_passes
from fluidc.compiler.passes.separate import Separate
from fluidc.frontend.errors import UnsupportedError
from fluidc.frontend.framework import Program
from fluidc.frontend.lower import lower

L = fluid.layers
STATED: dict[str, Any] = {"clip": 1.0, "batch_size": 4.0, "sigma": 1.0}


def separated(train: Callable[[Fed, fluid.Variable], object]) -> None:
    main, startup = Program(), Program()
    with fluid.unique_name.guard(), fluid.program_guard(main, startup):
        fed = Fed()
        train(fed, L.mean(L.square(L.fc(fed.x, 1))))
    run_passes(lower(main, startup=startup).module, (Decompose(), Separate()))


def dpsgd(rate: Any, loss: fluid.Variable) -> None:
    fluid.optimizer.Dpsgd(rate, **STATED).minimize(loss)


def kept(name: str, value: float) -> fluid.Variable:
    return L.create_global_var([1], value, "float32", persistable=True, name=name)


def rate_by_loss(p: Fed, loss: fluid.Variable) -> None:
    rate = L.scale(loss, 0.1)
    dpsgd(rate, loss)


def rate_by_clipped_loss(p: Fed, loss: fluid.Variable) -> None:
    rate = L.clip(loss, 0.01, 0.1)
    dpsgd(rate, loss)


def rate_by_feed(p: Fed, loss: fluid.Variable) -> None:
    rate = L.reduce_max(p.u)
    dpsgd(rate, loss)


def rate_halved_by_loss(p: Fed, loss: fluid.Variable) -> None:
    rate = kept("rate", 0.1)
    dpsgd(rate, loss)
    worse = L.cast(L.less_than(L.fill_constant([1], "float32", 1.0), L.reshape(loss, [1])), "float32")
    L.assign(rate * (1.0 - 0.5 * worse), rate)


def rate_switched_by_loss(p: Fed, loss: fluid.Variable) -> None:
    rate = kept("rate", 0.1)
    dpsgd(rate, loss)
    with L.Switch() as switch, switch.case(L.less_than(loss, L.fill_constant([1], "float32", 1.0))):
        L.assign(rate * 0.5, rate)


def one_parameter_slower(p: Fed, loss: fluid.Variable) -> None:
    slow = fluid.ParamAttr(name="slow", learning_rate=0.5)
    total = loss + L.mean(L.fc(p.x, 1, param_attr=slow))
    rate = L.scale(total, 0.1)
    dpsgd(rate, total)


@pytest.mark.parametrize(
    ("train", "line"),
    [
        (rate_by_loss, 1), (rate_by_clipped_loss, 1), (rate_by_feed, 1), (rate_halved_by_loss, 4),
        (rate_switched_by_loss, 3), (one_parameter_slower, 3),
    ],
)  # fmt: skip
def test_learning_rate_computed_from_the_data(train: Callable[[Fed, fluid.Variable], object], line: int) -> None:
    with pytest.raises(PrivacyError, match="the learning rate depends on the data, through `") as caught:
        separated(train)
    assert caught.value.where == f"{__file__}:{inspect.getsourcelines(train)[1] + line}"
    assert "use fluid.layers.*_decay" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "rate",
    [
        lambda: 0.1,
        lambda: L.exponential_decay(0.1, 10, 0.5),
        lambda: L.piecewise_decay([3, 6], [0.3, 0.2, 0.1]),
        lambda: L.linear_lr_warmup(L.cosine_decay(0.1, 10, 3), 5, 0.0, 0.1),
        lambda: kept("by_hand", 0.1),
    ],
)
def test_schedules_by_step_are_public(rate: Callable[[], Any]) -> None:
    separated(lambda p, loss: dpsgd(rate(), loss))


def best_so_far(p: Fed, loss: fluid.Variable) -> None:
    dpsgd(0.1, loss)
    best = kept("best", 1e9)
    L.assign(L.elementwise_min(best, loss), best)


def smoothed(p: Fed, loss: fluid.Variable) -> None:
    dpsgd(0.1, loss)
    average = kept("average", 0.0)
    L.assign(0.9 * average + 0.1 * loss, average)


@pytest.mark.parametrize("train", [best_so_far, smoothed])
def test_values_kept_from_step_to_step(train: Callable[[Fed, fluid.Variable], object]) -> None:
    with pytest.raises(PrivacyError) as caught:
        separated(train)
    assert caught.value.where == f"{__file__}:{inspect.getsourcelines(train)[1] + 3}"
    assert caught.value.hint == (
        "only privatised gradients may change what outlives a step; fetch the value and keep it yourself"
    )


def test_running_statistics_of_a_batch() -> None:
    """They are refused where the loss does not read what they normalise, too: they would tell of every batch."""

    def kept_beside(p: Fed, loss: fluid.Variable) -> None:
        L.batch_norm(L.fc(p.x, 3))
        dpsgd(0.1, loss)

    with pytest.raises(PrivacyError) as caught:
        separated(kept_beside)
    assert "the value written to 'batch_norm_0.w_" in caught.value.what
    assert "takes mean and variance over the examples of a batch" in caught.value.what
    assert caught.value.hint == "use group_norm or layer_norm, or use_global_stats"


def plateau() -> Any:
    return fluid.dygraph.ReduceLROnPlateau(0.1, mode="min", decay_rate=0.5, patience=5)


def test_plateau_is_refused_for_good_under_dpsgd() -> None:
    with pytest.raises(PrivacyError, match="ReduceLROnPlateau chooses the learning rate by losses") as caught:
        fluid.optimizer.Dpsgd(plateau(), **STATED)
    assert (caught.value.where or "").startswith(__file__)
    assert "use fluid.layers.*_decay" in (caught.value.hint or "")


@pytest.mark.parametrize("optimizer", [fluid.optimizer.SGD, fluid.optimizer.Adam])
def test_plateau_in_a_program_says_where_it_works(optimizer: Callable[..., Any]) -> None:
    with pytest.raises(UnsupportedError, match="ReduceLROnPlateau is a learning rate of dygraph") as caught:
        optimizer(plateau())
    assert "works inside fluid.dygraph.guard()" in (caught.value.hint or "")


def test_plateau_inside_a_warm_up_is_refused_under_dpsgd() -> None:
    for rate in (plateau(), fluid.dygraph.LinearLrWarmup(plateau(), 5, 0.0, 0.1)):
        with pytest.raises(PrivacyError, match="ReduceLROnPlateau chooses the learning rate by losses"):
            fluid.optimizer.Dpsgd(rate, **STATED)


def test_dynamic_loss_scaling() -> None:
    decorate = fluid.contrib.mixed_precision.decorate
    private = fluid.optimizer.Dpsgd(0.1, **STATED)
    with pytest.raises(PrivacyError, match="a dynamic loss scale follows overflows") as caught:
        decorate(private)
    assert (caught.value.where or "").startswith(__file__)
    with pytest.raises(UnsupportedError, match="is for Programs"), fluid.dygraph.guard():
        decorate(private, use_dynamic_loss_scaling=False)
    with pytest.raises(FluidcError, match="the optimizer is int"):
        decorate(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("private", [True, False])
def test_mixed_precision_trains_in_float32(private: bool) -> None:
    def losses(wrapped: bool) -> list[float]:
        main, startup = fluid.Program(), fluid.Program()
        main.random_seed = startup.random_seed = 3
        with fluid.program_guard(main, startup), fluid.unique_name.guard(), fluid.scope_guard(fluid.Scope()):
            x = fluid.data("x", [None, 4])
            loss = fluid.layers.mean(fluid.layers.square(fluid.layers.fc(x, 2)))
            # Without noise, and clipped: a scale of the loss would show.
            optimizer: Any = (
                fluid.optimizer.Dpsgd(0.1, clip=0.5, batch_size=8.0, sigma=0.0) if private else fluid.optimizer.SGD(0.1)
            )
            scale = None
            if wrapped:
                with pytest.warns(UserWarning, match="trains in float32, without a loss scale"):
                    optimizer = fluid.contrib.mixed_precision.decorate(
                        optimizer,
                        fluid.contrib.mixed_precision.AutoMixedPrecisionLists(custom_black_list=["mul"]),
                        use_dynamic_loss_scaling=not private,
                    )
                assert optimizer.get_scaled_loss() is None
                scale = optimizer.get_loss_scaling()
            _, params_grads = optimizer.minimize(loss)
            assert len(params_grads) == 2
            executor = fluid.Executor(fluid.CPUPlace())
            executor.run(startup)
            fetches = [loss] if scale is None else [optimizer.get_scaled_loss(), scale]
            found = [executor.run(main, {"x": np.ones((8, 4), "float32")}, fetches) for _ in range(3)]
            if scale is not None:
                assert [float(each[1][0]) for each in found] == [1.0] * 3
            return [float(np.ravel(each[0])[0]) for each in found]

    assert losses(wrapped=True) == losses(wrapped=False)


@pytest.mark.parametrize(
    ("get", "what"),
    [
        (lambda: fluid.contrib.layers.shuffle_batch(), "shuffle_batch is not implemented"),
        (lambda: fluid.contrib.shuffle_batch(), "shuffle_batch is not implemented"),
        (lambda: fluid.contrib.QuantizeTranspiler(), "QuantizeTranspiler is not implemented"),
    ],
)
def test_names_of_paddle_that_are_missing(get: Callable[[], object], what: str) -> None:
    with pytest.raises(FluidcError, match=what) as caught:
        get()
    assert caught.value.hint
    for module in (fluid.dygraph, fluid.contrib, fluid.contrib.layers, fluid.contrib.mixed_precision):
        with pytest.raises(AttributeError):
            _ = module.no_such_name
