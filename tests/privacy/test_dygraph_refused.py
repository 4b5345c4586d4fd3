"""What dygraph refuses under a private optimizer: with the layer, the line, and what to do instead."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from two_modes import MODELS, STEPS, Kit

import fluidc.frontend as fluid
from fluidc.compiler.errors import PrivacyError
from fluidc.frontend.dygraph.base import eager_program
from fluidc.runtime.errors import FluidcError

pytestmark = pytest.mark.filterwarnings("ignore:poisson_batches. steps are counted in memory", "ignore:INSECURE")
L: Any = fluid.layers
grad: Any = fluid.dygraph.grad
LINEAR = MODELS["linear"]


def to_variable(array: Any) -> Any:
    return fluid.dygraph.to_variable(array)


def dpsgd(parameters: list[Any] | None = None, **stated: Any) -> Any:
    return fluid.optimizer.Dpsgd(0.5, 1.0, 16.0, 1.0, parameters, **stated)


def feeds(rows: int = 8) -> dict[str, Any]:
    return {name: to_variable(array) for name, array in LINEAR.data(rows, rows).items()}


@pytest.fixture(autouse=True)
def guard() -> Iterator[None]:
    """What a refused test leaves pending must not meet the next one."""
    with fluid.dygraph.guard(target="reference"):
        yield
        with contextlib.suppress(FluidcError):
            eager_program().recorder.flush()


class Model:
    """A kit with its optimizer, and the losses of examples."""

    def __init__(self, listed: bool = True) -> None:
        self.kit = LINEAR.kit()
        self.optimizer = dpsgd(self.kit.parameters if listed else None)

    def each(self, data: dict[str, Any], x: Any = None) -> Any:
        return L.softmax_with_cross_entropy(
            LINEAR.scores(self.kit, {"x": data["x"] if x is None else x}), data["label"]
        )

    def step(self, loss: Any) -> None:
        loss.backward()
        self.optimizer.minimize(loss)
        loss.numpy()


# -- no proof that examples are kept apart ---------------------------------------------------------------------------


def batch_mean(m: Model, d: dict[str, Any]) -> Any:
    return L.mean(m.each(d, d["x"] - L.reduce_mean(d["x"], dim=0)))


def detached_batch_mean(m: Model, d: dict[str, Any]) -> Any:
    return L.mean(m.each(d) * L.mean(m.each(d)).detach())


def softmax_over_the_batch(m: Model, d: dict[str, Any]) -> Any:
    return L.mean(m.each(d, L.softmax(d["x"], axis=0)))


def squared_mean(m: Model, d: dict[str, Any]) -> Any:
    return L.square(L.mean(m.each(d)))


def by_the_shape(m: Model, d: dict[str, Any]) -> Any:
    return L.reduce_sum(m.each(d)) / L.cast(L.shape(d["x"])[0], "float32")


def some_rows(m: Model, d: dict[str, Any]) -> Any:
    return L.mean(m.each(d)[0:4])


def statistics_of_the_batch(m: Model, d: dict[str, Any]) -> Any:
    return L.mean(m.each(d, fluid.dygraph.BatchNorm(7)(d["x"])))


def baked_shape(m: Model, d: dict[str, Any]) -> Any:
    return L.mean(m.each(d, L.reshape(d["x"], [d["x"].shape[0], 7])))


def baked_fill(m: Model, d: dict[str, Any]) -> Any:
    return L.mean(m.each(d, d["x"] + L.fill_constant([len(d["x"]), 7], "float32", 1.0)))


def baked_repeats(m: Model, d: dict[str, Any]) -> Any:
    return L.mean(m.each(d, d["x"] * L.expand(L.fill_constant([1, 7], "float32", 1.0), [len(d["x"]), 1])))


def undeclared_table(m: Model, d: dict[str, Any]) -> Any:
    return L.mean(m.each(d, d["x"] * to_variable(np.ones(7, "f"))))


def undeclared_number(m: Model, d: dict[str, Any]) -> Any:
    return L.mean(m.each(d)) * to_variable(np.float32(2))


def undeclared_assigned(m: Model, d: dict[str, Any]) -> Any:
    return L.mean(m.each(d, d["x"] * L.assign(np.ones(7, "f"))))


def looked_at(m: Model, d: dict[str, Any]) -> Any:
    x = d["x"] - L.reduce_mean(d["x"], dim=0)
    x.numpy()
    return L.mean(m.each(d, x))


def no_example(m: Model, d: dict[str, Any]) -> Any:
    del d
    return L.mean(m.kit.parameters[0])


def of_each(m: Model, d: dict[str, Any]) -> Any:
    return m.each(d)


SHAPES = "use -1 or 0 in shapes"
PUBLIC = "fluid.privacy.public"


@pytest.mark.parametrize(
    ("loss", "what", "remedy"),
    [
        (batch_mean, "mixes examples at", "one mean"),
        (detached_batch_mean, r"mixes examples at `\*`", "one mean"),
        (softmax_over_the_batch, "along the batch axis", "another axis"),
        (squared_mean, "mixes examples at `square`", "one mean"),
        (by_the_shape, "the size of the batch depends on every example", "public constant"),
        (some_rows, "selects examples by position", "mask"),
        (statistics_of_the_batch, "mixes examples at `BatchNorm`", "group_norm"),
        (baked_shape, r"lot of any size.*\[8, 7\]", SHAPES),
        (baked_fill, r"lot of any size.*\[8, 7\] do not broadcast", SHAPES),
        (baked_repeats, r"lot of any size.*\[8, 7\] do not broadcast", SHAPES),
        (undeclared_table, "different numbers of rows", PUBLIC),
        (undeclared_number, "without an example axis", PUBLIC),
        (undeclared_assigned, "different numbers of rows", PUBLIC),
        (looked_at, "only the value is left", "after loss.backward"),
        (no_example, "no example reaches the loss", "one row per example"),
        (of_each, "must have one element", "mean"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_losses_that_are_not_sums_over_examples(loss: Callable[..., Any], what: str, remedy: str) -> None:
    model = Model()
    with pytest.raises(PrivacyError, match=what) as error:
        model.step(loss(model, feeds()))
    assert remedy in (error.value.hint or "")
    assert error.value.where is not None
    assert "test_dygraph_refused.py" in error.value.where
    assert model.optimizer.training.core is None, "nothing ran"


def test_a_table_with_as_many_rows_as_the_lot_is_taken_for_examples() -> None:
    """So it stands on the batch axis, and cannot be multiplied along another one."""
    model, data = Model(), feeds(7)
    with pytest.raises(PrivacyError, match=r"\[N, 7\] and \[N\] do not broadcast"):
        model.step(L.mean(model.each(data, data["x"] * to_variable(np.ones(7, "f")))))


def test_declared_values_are_accepted() -> None:
    model, data = Model(), feeds()
    table = fluid.privacy.public(to_variable(np.ones(7, "f")))
    model.step(L.mean(model.each(data, data["x"] * table)) * 0.5)
    assert fluid.privacy.spent(model.optimizer).steps == 1


# -- the same computation in every step ------------------------------------------------------------------------------


def by_the_length(m: Model, d: dict[str, Any], step: int) -> Any:
    del step
    return L.reduce_sum(m.each(d)) * (1.0 / len(d["x"]))


def branch_of_python(m: Model, d: dict[str, Any], step: int) -> Any:
    loss = L.mean(m.each(d))
    return loss * 2.0 if step else loss


def another_layer(m: Model, d: dict[str, Any], step: int) -> Any:
    losses = m.each(d)
    return L.mean(L.exp(losses) if step else L.sqrt(losses))


def other_sizes(m: Model, d: dict[str, Any], step: int) -> Any:
    wide = to_variable(np.ones((len(d["x"]), 2 + step), "f"))
    return L.mean(m.each(d)) + L.mean(L.reduce_sum(wide, dim=1))


def a_frozen_parameter(m: Model, d: dict[str, Any], step: int) -> Any:
    m.kit.parameters[0].trainable = step == 0
    return L.mean(m.each(d))


@pytest.mark.parametrize(
    ("loss", "difference"),
    [
        (by_the_length, r"\* at .*: *\d* has scale = 0.2, and had 0.125|has scale = 0.2, and had 0.125"),
        (branch_of_python, r"\* at .* is new"),
        (another_layer, "exp at .* stands where sqrt at .* stood"),
        (other_sizes, "reads other values, or such of other sizes"),
        (a_frozen_parameter, "the trained parameters are others"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_another_computation_than_in_the_first_step(loss: Callable[..., Any], difference: str) -> None:
    """Each of them is a sum over examples; which of them runs depends on the lot."""
    model = Model()
    model.step(loss(model, feeds(8), 0))
    with pytest.raises(PrivacyError, match=f"otherwise than that of the first.*({difference})") as error:
        model.step(loss(model, feeds(5), 1))
    assert "public constants" in (error.value.hint or "")
    assert fluid.privacy.spent(model.optimizer).steps == 1


def test_a_number_that_was_fed_because_it_changes_is_still_seen_to_change() -> None:
    """A line of dygraph that was called with many numbers takes them as inputs."""
    model = Model()

    def scaled(loss: Any, number: float) -> Any:
        return loss * number

    for number in (1.0, 2.0, 3.0, 4.0, 5.0):
        scaled(L.mean(feeds()["x"]), number).numpy()
    model.step(scaled(L.mean(model.each(feeds())), 0.125))
    model.step(scaled(L.mean(model.each(feeds())), 0.125))
    with pytest.raises(PrivacyError, match=r"has scale = 0.2, and had 0.125"):
        model.step(scaled(L.mean(model.each(feeds(5))), 0.2))


def test_a_first_step_that_was_refused_decides_nothing() -> None:
    model = Model()
    with pytest.raises(PrivacyError):
        model.step(squared_mean(model, feeds()))
    model.step(L.mean(model.each(feeds())))


# -- gradients that are not private ----------------------------------------------------------------------------------


def test_only_the_parameters_that_are_trained_get_gradients() -> None:
    kit = LINEAR.kit()
    optimizer = dpsgd(kit.parameters[:2])
    data = feeds()
    data["x"].stop_gradient = False
    hidden = kit.linear("in", data["x"], 5, "tanh")
    loss = L.mean(L.softmax_with_cross_entropy(kit.linear("out", hidden, 3), data["label"]))
    loss.backward()
    for held in (hidden, data["x"], *kit.parameters[2:]):
        for look in (held.gradient, lambda held=held: held.grad):
            with pytest.raises(PrivacyError, match="until it is clipped and noised"):
                look()
        held.clear_gradient()
        assert held.gradient() is None
    assert all(p.gradient() is not None for p in kit.parameters[:2])
    assert optimizer.training.core is not None
    assert optimizer.training.core.parameters == ("in.w", "in.b")


@pytest.mark.parametrize("options", [{}, {"create_graph": True}, {"retain_graph": True}])
@pytest.mark.parametrize("of", ["parameter", "hidden", "input", "with parameters barred"])
def test_grad_through_private_parameters(of: str, options: dict[str, bool]) -> None:
    model, data = Model(), feeds()
    given: dict[str, Any] = dict(options)
    data["x"].stop_gradient = False
    hidden = model.kit.linear("in", data["x"], 5, "tanh")
    loss = L.mean(model.kit.linear("out", hidden, 3))
    if of == "with parameters barred":
        given["no_grad_vars"] = model.kit.parameters
    wanted = {"parameter": model.kit.parameters[0], "hidden": hidden}.get(of, data["x"])
    with pytest.raises(PrivacyError, match="grad would give gradients before they are clipped"):
        grad(loss, wanted, **given)


def test_a_plain_optimizer_on_private_parameters() -> None:
    model = Model()
    loss = L.mean(model.each(feeds()))
    loss.backward()
    with pytest.raises(PrivacyError, match=r"SGD would update .*, which it trains") as error:
        fluid.optimizer.SGD(0.1).minimize(loss)
    assert "DpOptimizer(SGD(...)" in (error.value.hint or "")
    with pytest.raises(PrivacyError, match="Adam would update"):
        fluid.optimizer.Adam(0.1, parameter_list=model.kit.parameters[:1]).minimize(loss)


def test_a_plain_optimizer_on_the_parameters_beside_private_ones() -> None:
    """Their gradients would be raw ones of the same examples."""
    kit = LINEAR.kit()
    private = dpsgd(kit.parameters[:2])
    loss = LINEAR.loss(kit, feeds())
    loss.backward()
    with pytest.raises(PrivacyError, match=r"the gradient of out\.w is not available"):
        fluid.optimizer.SGD(0.1, parameter_list=kit.parameters[2:]).minimize(loss)
    private.minimize(loss)


def test_gradients_of_the_caller_are_not_applied() -> None:
    model = Model()
    loss = L.mean(model.each(feeds()))
    loss.backward()
    given = [(p, to_variable(np.ones(p.shape, "f"))) for p in model.kit.parameters]
    with pytest.raises(PrivacyError, match=r"does not come from Dpsgd\.backward"):
        model.optimizer.apply_gradients(given)


def test_a_backward_that_was_looked_at_cannot_become_private() -> None:
    model = Model(listed=False)
    loss = L.mean(model.each(feeds()))
    loss.backward()
    loss.numpy()
    with pytest.raises(PrivacyError, match="no private gradient of this loss") as error:
        model.optimizer.minimize(loss)
    assert "parameter_list=model.parameters()" in (error.value.hint or "")


def test_a_backward_whose_raw_gradients_were_used_cannot_become_private() -> None:
    model, data = Model(listed=False), feeds()
    hidden = model.kit.linear("in", data["x"], 5, "tanh")
    loss = L.mean(L.softmax_with_cross_entropy(model.kit.linear("out", hidden, 3), data["label"]))
    loss.backward()
    doubled = hidden.grad * 2.0
    with pytest.raises(PrivacyError, match="others were asked for"):
        model.optimizer.minimize(loss)
    with pytest.raises(FluidcError, match="no value"):
        doubled.numpy()
    with pytest.raises(PrivacyError, match="until it is clipped and noised"):
        model.kit.parameters[0].gradient()


def test_what_was_a_raw_gradient_has_no_value_once_the_backward_is_private() -> None:
    model, data = Model(listed=False), feeds()
    hidden = model.kit.linear("in", data["x"], 5, "tanh")
    loss = L.mean(L.softmax_with_cross_entropy(model.kit.linear("out", hidden, 3), data["label"]))
    loss.backward()
    raw = hidden.grad
    model.optimizer.minimize(loss)
    with pytest.raises(FluidcError, match="no value"):
        raw.numpy()
    with pytest.raises(PrivacyError, match="until it is clipped and noised"):
        hidden.gradient()
    assert model.kit.parameters[0].gradient() is not None


# -- whose step it is ------------------------------------------------------------------------------------------------


def test_a_second_backward_before_the_first_was_used() -> None:
    model = Model()
    first, second = (L.mean(model.each(feeds())) for _ in range(2))
    first.backward()
    with pytest.raises(PrivacyError, match=r"backward\(\) is called again") as error:
        second.backward()
    assert "add the losses up" in (error.value.hint or "")


def test_two_optimizers_on_one_parameter() -> None:
    model = Model()
    with pytest.raises(PrivacyError, match=r"in\.w is trained by another private optimizer"):
        dpsgd(model.kit.parameters[:1])
    del model.optimizer
    dpsgd(model.kit.parameters)  # in its place


def test_one_backward_for_two_optimizers() -> None:
    kit = LINEAR.kit()
    first, second = dpsgd(kit.parameters[:2]), dpsgd(kit.parameters[2:])
    with pytest.raises(PrivacyError, match="one backward cannot be private for both"):
        LINEAR.loss(kit, feeds()).backward()
    assert first.training is not second.training


def test_a_loss_of_parameters_before_their_update() -> None:
    model = Model()
    first, second = (L.mean(model.each(feeds())) for _ in range(2))
    first.backward()
    model.optimizer.minimize(first)
    with pytest.raises(PrivacyError, match=r"was updated after .* was computed"):
        second.backward()


@pytest.mark.parametrize("look", [False, True])
def test_a_value_of_the_examples_kept_for_the_next_step(look: bool) -> None:
    """A running mean of one's own: refused at once, or where a step would read what a plain op wrote."""
    model = Model()
    kept = L.create_global_var([1], 1.0, "float32", persistable=True)
    kept.numpy()

    def loss_of(data: dict[str, Any]) -> Any:
        loss = L.mean(model.each(data) * kept) if look else L.mean(model.each(data))
        L.assign(L.mean(data["x"]), kept)
        return loss

    if look:
        assert np.isfinite(loss_of(feeds()).numpy()).all()
        with pytest.raises(PrivacyError, match=r"assign at .* wrote data into"):
            model.step(loss_of(feeds()))
        kept.set_value(np.ones(1, "f"))
        model.step(L.mean(model.each(feeds()) * kept))
    else:
        with pytest.raises(
            PrivacyError, match=r"assign at .* writes .*, which outlives the step, and reads the examples"
        ):
            model.step(loss_of(feeds()))


# -- lots ------------------------------------------------------------------------------------------------------------


def test_lots_need_to_know_what_is_trained() -> None:
    with pytest.raises(PrivacyError, match="which parameters it trains is not known yet") as error:
        fluid.privacy.poisson_batches(LINEAR.data(30), Model(listed=False).optimizer)
    assert "parameter_list" in (error.value.hint or "")
    with pytest.raises(PrivacyError, match="not known yet"):
        fluid.privacy.spent(Model(listed=False).optimizer)


def test_lots_are_drawn_for_an_optimizer_and_not_for_dygraph() -> None:
    for asked in (fluid.privacy.spent, lambda: fluid.privacy.poisson_batches(LINEAR.data(30))):
        with pytest.raises(FluidcError, match="in dygraph steps are counted for an optimizer"):
            asked()
    with pytest.raises(FluidcError, match="pass a Program, in dygraph a private optimizer"):
        fluid.privacy.spent(fluid.optimizer.SGD(0.1))  # type: ignore[arg-type]


def test_lots_of_another_sampler() -> None:
    kit = LINEAR.kit()
    optimizer = dpsgd(kit.parameters, sampler="shuffle", dataset_size=64, delta=1e-4, max_steps=4)
    with pytest.raises(PrivacyError, match="sampler='shuffle'"):
        fluid.privacy.poisson_batches(LINEAR.data(64), optimizer)


def test_lots_of_arrays_that_do_not_fit() -> None:
    kit = LINEAR.kit()
    optimizer = dpsgd(kit.parameters, dataset_size=60, delta=1e-4, max_steps=4)
    for arrays in ({}, {"x": np.ones(3), "label": np.ones(4)}, {"x": np.float32(1)}, {"x": np.ones((0, 7))}):
        with pytest.raises(FluidcError, match="the arrays must have the same number of rows"):
            fluid.privacy.poisson_batches(arrays, optimizer)


def test_a_parameter_that_the_lots_are_accounted_with_gets_no_gradient() -> None:
    kit = LINEAR.kit()
    unused = L.create_parameter([2], "float32", name="unused")
    optimizer = dpsgd([*kit.parameters, unused], dataset_size=60, delta=1e-4, max_steps=4)
    lot = next(fluid.privacy.poisson_batches(LINEAR.data(60), optimizer))
    with pytest.raises(PrivacyError, match="unused gets no gradient from this loss") as error:
        LINEAR.loss(kit, to_variable(lot)).backward()
    assert "parameter_list" in (error.value.hint or "")


def test_what_can_be_declared_public() -> None:
    model = Model()
    optimizer = dpsgd([L.create_parameter([2], "float32")], dataset_size=60, delta=1e-4, max_steps=4)
    lot = to_variable(next(fluid.privacy.poisson_batches(LINEAR.data(60), optimizer)))
    with pytest.raises(FluidcError, match="an array of a lot, which has one row per example"):
        fluid.privacy.public(lot["x"])
    for computed in (feeds()["x"] * 2.0, model.kit.parameters[0]):
        with pytest.raises(FluidcError, match="is not an array of to_variable"):
            fluid.privacy.public(computed)


def test_names_that_belong_to_two_parameters() -> None:
    first = LINEAR.kit()
    second = LINEAR.kit()
    with pytest.raises(PrivacyError, match=r"two of its parameters are named in\.w"):
        dpsgd([*first.parameters, *second.parameters])


def test_a_schedule_that_follows_the_loss() -> None:
    kit = Kit()
    schedule = fluid.dygraph.ReduceLROnPlateau(0.1)
    with pytest.raises(PrivacyError, match="chooses the learning rate by losses"):
        fluid.optimizer.Dpsgd(schedule, 1.0, 16.0, 1.0, kit.parameters)


def test_the_models_of_this_file_train() -> None:
    """What is refused is so for its own reason."""
    assert STEPS > 1
    for model in MODELS.values():
        kit = model.kit()
        optimizer = dpsgd(kit.parameters)
        loss = model.loss(kit, {name: to_variable(rows) for name, rows in model.data(8).items()})
        loss.backward()
        optimizer.minimize(loss)
        assert np.isfinite(loss.numpy()).all()
