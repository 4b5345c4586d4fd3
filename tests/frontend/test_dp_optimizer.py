"""`DpOptimizer`, frozen parameters and the clipping modes as a script states them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

import fluidc.frontend as fluid
from fluidc.compiler.driver import Compiled, compile_source
from fluidc.compiler.errors import PrivacyError
from fluidc.compiler.ir.core import walk
from fluidc.compiler.ops.dp import ClipFactor
from fluidc.compiler.ops.dp_noise import AddNoise
from fluidc.frontend.lower import lower

adam, momentum, sgd = fluid.optimizer.Adam, fluid.optimizer.Momentum, fluid.optimizer.SGD
DpOptimizer, Dpsgd = fluid.optimizer.DpOptimizer, fluid.optimizer.Dpsgd
STATED: dict[str, Any] = {"clip": 1.0, "batch_size": 16.0, "sigma": 1.0}
Make = Callable[[], fluid.optimizer.Optimizer]

pytestmark = pytest.mark.filterwarnings("ignore::fluidc.runtime.errors.PrivacyWarning")


@pytest.fixture(autouse=True)
def known_noise() -> Iterator[None]:
    """The same noise in every run, so that runs can be compared."""
    fluid.privacy.insecure_noise_key(bytes(range(32)))
    yield
    fluid.privacy.insecure_noise_key(None)


@dataclass
class Trained:
    """A small classifier and its values after each step."""

    program: fluid.Program
    startup: fluid.Program
    loss: fluid.Variable
    values: list[dict[str, np.ndarray]]


def classifier(frozen: bool = False) -> fluid.Variable:
    x, y = fluid.layers.data("x", [6]), fluid.layers.data("y", [1], dtype="int64")
    first = fluid.ParamAttr("w0", trainable=not frozen)
    hidden = fluid.layers.fc(x, 5, act="tanh", param_attr=first, bias_attr=fluid.ParamAttr("b0", trainable=not frozen))
    logits = fluid.layers.fc(hidden, 3, param_attr=fluid.ParamAttr("w1"), bias_attr=fluid.ParamAttr("b1"))
    return fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(logits, y))


def minimised(optimizer: Make, frozen: bool = False, **arguments: Any) -> Trained:
    main, startup = fluid.Program(), fluid.Program()
    startup.random_seed = 3
    with fluid.program_guard(main, startup), fluid.unique_name.guard():
        loss = classifier(frozen)
        optimizer().minimize(loss, **arguments)
    return Trained(main, startup, loss, [])


def trained(optimizer: Make, steps: int = 3, frozen: bool = False, **arguments: Any) -> Trained:
    made = minimised(optimizer, frozen, **arguments)
    exe, scope = fluid.Executor(target="reference"), fluid.Scope()
    exe.run(made.startup, scope=scope)
    rng = np.random.default_rng(0)
    feed = {"x": rng.normal(size=(16, 6)).astype("f4"), "y": rng.integers(0, 3, (16, 1))}

    def note() -> None:
        names = [v.name for v in made.startup.global_block().vars.values()]
        made.values.append({name: np.array(scope.var(name).get_tensor()) for name in names})

    note()
    for _ in range(steps):
        exe.run(made.program, feed=feed, fetch_list=[made.loss], scope=scope)
        note()
    return made


def compiled(optimizer: Make, **arguments: Any) -> Compiled:
    made = minimised(optimizer, **arguments)
    return compile_source(lower(made.program, startup=made.startup, fetches=[made.loss.name]), target="reference")


def private_gradients() -> dict[str, np.ndarray]:
    """The first private gradient, as SGD of rate 1 shows it."""
    before, after = trained(lambda: Dpsgd(1.0, **STATED), 1).values
    return {name: before[name] - after[name] for name in ("w0", "b0", "w1", "b1")}


def test_dpsgd_is_the_optimizer_over_sgd() -> None:
    wrapped, plain = (
        trained(make).values[-1] for make in (lambda: DpOptimizer(sgd(0.1), **STATED), lambda: Dpsgd(0.1, **STATED))
    )
    for name in ("w0", "b0", "w1", "b1"):
        np.testing.assert_array_equal(wrapped[name], plain[name])


def test_adam_acts_on_the_private_gradient() -> None:
    """Kingma and Ba's first step: m = 0.1 g, v = 0.001 g^2, the rate rescaled by both."""
    before, after = trained(lambda: DpOptimizer(adam(0.01), **STATED), 1).values
    for name, g in private_gradients().items():
        step = 0.01 * np.sqrt(1 - 0.999) / (1 - 0.9) * (0.1 * g) / (np.sqrt(0.001 * g * g) + 1e-8)
        np.testing.assert_allclose(after[name], before[name] - step, rtol=0, atol=2e-6)
    assert sum("moment" in name for name in after) == 8


def test_momentum_keeps_its_state() -> None:
    one, two = (trained(lambda m=m: DpOptimizer(momentum(0.1, m), **STATED), 2).values for m in (0.0, 0.9))
    g = private_gradients()
    for name in g:
        np.testing.assert_allclose(two[1][name], two[0][name] - 0.1 * g[name], rtol=0, atol=2e-6)
    assert not np.allclose(one[2]["w0"], two[2]["w0"])


def test_decay_clip_and_rate_act_after_the_noise() -> None:
    decayed = lambda: sgd(0.1, regularization=fluid.regularizer.L2Decay(0.5))  # noqa: E731
    before, after = trained(lambda: DpOptimizer(decayed(), **STATED), 1).values
    g = private_gradients()
    for name in g:
        np.testing.assert_allclose(after[name], before[name] - 0.1 * (g[name] + 0.5 * before[name]), rtol=0, atol=2e-6)
    clipped = lambda: sgd(0.1, grad_clip=fluid.clip.GradientClipByValue(0.01))  # noqa: E731
    before, after = trained(lambda: DpOptimizer(clipped(), **STATED), 1).values
    for name in g:
        np.testing.assert_allclose(after[name], before[name] - 0.1 * np.clip(g[name], -0.01, 0.01), rtol=0, atol=2e-6)


def test_backward_and_apply_gradients_are_minimize() -> None:
    main, startup = fluid.Program(), fluid.Program()
    with fluid.program_guard(main, startup), fluid.unique_name.guard():
        optimizer = DpOptimizer(adam(0.01), **STATED)
        pairs = optimizer.backward(classifier())
        optimizer.apply_gradients(pairs)
    whole = minimised(lambda: DpOptimizer(adam(0.01), **STATED)).program
    assert [op.type for op in main.global_block().ops] == [op.type for op in whole.global_block().ops]
    assert sum("moment" in name for name in optimizer.get_opti_var_name_list()) == 8


def test_a_schedule_by_step_is_public() -> None:
    def scheduled() -> fluid.optimizer.Optimizer:
        return DpOptimizer(adam(fluid.layers.exponential_decay(0.01, 1, 0.5)), **STATED)

    values = trained(scheduled, 2).values
    assert not np.array_equal(values[1]["w0"], values[2]["w0"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"parameter_list": ["w0"]}, "both it and inner have a parameter_list"),
        ({"mechanism": "paddle"}, "an update rule of its own"),
        ({"batch_size": 0.0}, "batch_size is 0.0"),
        ({"clipping": "automatic", "clipping_options": {"gamma": 0.0}}, "clipping_options gamma is 0.0"),
    ],
)
def test_refused_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(PrivacyError, match=message):
        DpOptimizer(adam(0.1, parameter_list=["w1"]), **{**STATED, **arguments})


# Frozen parameters ----------------------------------------------------------------------------------------------
FROZEN: dict[str, tuple[Make, dict[str, Any]]] = {
    "trainable=False": (lambda: Dpsgd(0.1, **STATED), {"frozen": True}),
    "parameter_list": (lambda: Dpsgd(0.1, **STATED, parameter_list=["w1", "b1"]), {}),
    "parameter_list of minimize": (lambda: Dpsgd(0.1, **STATED), {"parameter_list": ["w1", "b1"]}),
    "no_grad_set": (lambda: Dpsgd(0.1, **STATED), {"no_grad_set": ["w0", "b0"]}),
    "DpOptimizer": (lambda: DpOptimizer(adam(0.1), **STATED, parameter_list=["w1", "b1"]), {}),
    "its inner": (lambda: DpOptimizer(adam(0.1, parameter_list=["w1", "b1"]), **STATED), {}),
}


@pytest.mark.parametrize("how", FROZEN)
def test_frozen_parameters_cost_nothing(how: str) -> None:
    """Neither in the norm nor among the noisy tensors: the step has fewer ops, and streams are those of the rest."""
    optimizer, arguments = FROZEN[how]
    made, whole = compiled(optimizer, **arguments), compiled(lambda: Dpsgd(0.1, **STATED))
    ops, every = (list(walk(c.module.function("step").ops)) for c in (made, whole))
    assert {op.param: op.tensor for op in ops if isinstance(op, AddNoise)} == {"b1": 0, "w1": 1}
    (factor,) = (op for op in ops if isinstance(op, ClipFactor))
    assert set(factor.params) == {"w1", "b1"}
    assert made.manifest.privacy is not None
    assert made.manifest.privacy.parameters == ("b1", "w1")
    assert [d.name for d in made.module.state if d.kind == "lot"] == ["lot/w1", "lot/b1"]
    assert [s.name for s in made.manifest.state if s.trainable] == ["w1", "b1"]
    if how != "DpOptimizer" and how != "its inner":  # Adam's own ops come on top
        assert len(ops) < len(every) - 8


def test_frozen_parameters_stay_as_they_are() -> None:
    values = trained(lambda: Dpsgd(0.1, **STATED), 2, frozen=True).values
    for name in ("w0", "b0"):
        np.testing.assert_array_equal(values[0][name], values[-1][name])
    assert not np.array_equal(values[0]["w1"], values[-1]["w1"])


# Clipping modes -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("clip", "groups", "bounds"),
    [
        ({"w*": 1.0, "b0": 0.5, "b1": 0.25}, (("w0", "w1"), ("b0",), ("b1",)), (1.0, 0.5, 0.25)),
        ({"?0": 1, "?1": 2}, (("w0", "b0"), ("w1", "b1")), (1.0, 2.0)),
        ([4.0, 3.0, 2.0, 1.0], (("w0",), ("b0",), ("w1",), ("b1",)), (4.0, 3.0, 2.0, 1.0)),
    ],
)
def test_groups_by_name_and_by_order(clip: object, groups: object, bounds: tuple[float, ...]) -> None:
    made = compiled(lambda: Dpsgd(0.1, clip, 16.0, 1.0, clipping="per-group"))  # type: ignore[arg-type]
    config, spec = made.source.module.privacy, made.manifest.privacy
    assert config is not None
    assert spec is not None
    assert config.groups == spec.groups == groups
    assert config.clips == spec.clip == bounds
    assert spec.joint_clip == config.clip == np.sqrt(np.sum(np.square(bounds)))


def test_a_layers_name_stands_for_its_parameters() -> None:
    main, startup = fluid.Program(), fluid.Program()
    with fluid.program_guard(main, startup), fluid.unique_name.guard():
        loss = fluid.layers.mean(fluid.layers.fc(fluid.layers.fc(fluid.layers.data("x", [2]), 2), 1))
        Dpsgd(0.1, {"fc_0": 1.0, "fc_1": 2.0}, 16.0, 1.0, clipping="per-group").minimize(loss)
    config = lower(main, fetches=[loss.name]).module.privacy
    assert config is not None
    assert config.groups == (("fc_0.w_0", "fc_0.b_0"), ("fc_1.w_0", "fc_1.b_0"))


def test_defaults_of_the_modes() -> None:
    made = compiled(lambda: Dpsgd(0.1, 2.0, 64.0, 1.0, clipping="automatic"))
    assert made.source.module.privacy is not None
    assert made.source.module.privacy.gamma == 0.01
    made = compiled(lambda: Dpsgd(0.1, 2.0, 64.0, 1.0, clipping="quantile", clipping_options={"eta": 0.3}))
    config = made.source.module.privacy
    assert config is not None
    assert (config.bound, config.quantile, config.eta, config.sigma_b) == ("dp_clip_0", 0.5, 0.3, 3.2)
    assert (config.c_min, config.c_max) == (0.002, 2000.0)
    assert made.manifest.privacy is not None
    assert made.manifest.privacy.sigma == 1.0


def test_the_bound_of_quantile_clipping_is_state_of_the_program() -> None:
    values = trained(lambda: Dpsgd(0.1, 2.0, 16.0, 1.0, clipping="quantile"), 3).values
    bounds = [float(step["dp_clip_0"][0]) for step in values]
    assert bounds[0] == 2.0
    assert len(set(bounds)) == 4
    two = minimised(lambda: Dpsgd(0.1, 2.0, 16.0, 1.0, clipping="quantile"))
    with fluid.program_guard(two.program, two.startup):
        fluid.layers.assign(
            fluid.layers.fill_constant([1], "float32", 9.0), two.program.global_block().var("dp_clip_0")
        )
    source = lower(two.program, startup=two.startup, fetches=[two.loss.name])
    with pytest.raises(PrivacyError, match="holds the clip bound"):
        compile_source(source, target="reference")


def test_the_bound_can_be_fetched() -> None:
    """As it was before the step; it is public."""
    made = minimised(lambda: Dpsgd(0.1, 2.0, 16.0, 1.0, clipping="quantile"))
    source = lower(made.program, startup=made.startup, fetches=[made.loss.name, "dp_clip_0"])
    step = compile_source(source, target="reference").manifest.function("step")
    marked = {output.name: output.not_private for output in step.outputs if output.kind == "fetch"}
    assert marked == {made.loss.name: True, "dp_clip_0": False}


def test_dp_adam_learns_the_digits() -> None:
    """Real data: 30 steps of Poisson lots on cpu, quantile clipping, at least 80 % of the training set."""
    images, labels = map(np.asarray, load_digits(return_X_y=True))
    data = {"image": (images / 16).astype("f4"), "label": labels.astype("i8").reshape(-1, 1)}
    main, startup, scope = fluid.Program(), fluid.Program(), fluid.Scope()
    main.random_seed = startup.random_seed = 1
    with fluid.program_guard(main, startup), fluid.unique_name.guard():
        image, label = fluid.layers.data("image", [64]), fluid.layers.data("label", [1], dtype="int64")
        logits = fluid.layers.fc(fluid.layers.fc(image, 32, act="tanh"), 10)
        accuracy = fluid.layers.accuracy(fluid.layers.softmax(logits), label)
        loss = fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(logits, label))
        stated: dict[str, Any] = {"dataset_size": 1797, "delta": 1e-4, "max_steps": 30, "clipping": "quantile"}
        DpOptimizer(adam(0.02), clip=1.0, batch_size=256, sigma=1.0, **stated).minimize(loss)
    exe = fluid.Executor()
    exe.run(startup, scope=scope)
    for lot in fluid.privacy.poisson_batches(data, main):
        exe.run(main, feed=lot, fetch_list=[loss], scope=scope)
    (found,) = exe.run(main.clone(for_test=True), feed=data, fetch_list=[accuracy], scope=scope)
    assert float(np.asarray(found).reshape(-1)[0]) >= 0.8
