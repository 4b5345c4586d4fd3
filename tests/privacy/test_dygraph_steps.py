"""Private steps of dygraph: the updates of the same Program, bounded by C, counted once each."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from two_modes import MODELS, Arrays, Kit, as_program, in_dygraph

import fluidc.frontend as fluid
from fluidc.frontend.dygraph.base import eager_program
from fluidc.frontend.steps import PrivateSteps
from fluidc.runtime.errors import BudgetError, DataError, FluidcError, PrivacyWarning

pytestmark = pytest.mark.filterwarnings("ignore:poisson_batches. steps are counted in memory", "ignore:INSECURE")
L: Any = fluid.layers
to_variable: Any = fluid.dygraph.to_variable
LOT, CLIP, RATE = 16.0, 1.0, 0.5
SIZES = (16, 3, 0, 37, 16, 1)
ROWS, STATED = 60, {"dataset_size": 60, "delta": 1e-4, "max_steps": 5}
LINEAR = MODELS["linear"]


def dpsgd(parameters: list[Any] | None = None, sigma: float = 1.0, **stated: Any) -> Any:
    return fluid.optimizer.Dpsgd(RATE, CLIP, LOT, sigma, parameters, **stated)


def dp_adam(parameters: list[Any] | None = None) -> Any:
    return fluid.optimizer.DpOptimizer(fluid.optimizer.Adam(0.05), CLIP, LOT, 1.0, parameters)


def quantile(parameters: list[Any] | None = None) -> Any:
    return dpsgd(parameters, clipping="quantile")


def automatic(parameters: list[Any] | None = None) -> Any:
    return dpsgd(parameters, clipping="automatic")


def per_group(parameters: list[Any] | None = None) -> Any:
    groups = {"in": 0.5, "out": 2.0}
    return fluid.optimizer.Dpsgd(RATE, groups, LOT, 1.0, parameters, clipping="per-group")


def discrete(parameters: list[Any] | None = None) -> Any:
    return dpsgd(parameters, mechanism="discrete")


def phases(parameters: list[Any] | None = None) -> Any:
    stated = [fluid.privacy.Phase(4, sigma=1.0, batch_size=16), fluid.privacy.Phase(9, sigma=2.0, batch_size=8)]
    return dpsgd(parameters, phases=stated)


def decayed(parameters: list[Any] | None = None) -> Any:
    """What follows the noise: a schedule, weight decay and a clip by global norm."""
    inner = fluid.optimizer.Momentum(
        fluid.layers.noam_decay(16, 3),
        0.9,
        regularization=fluid.regularizer.L2Decay(0.1),
        grad_clip=fluid.clip.GradientClipByGlobalNorm(0.1),
    )
    return fluid.optimizer.DpOptimizer(inner, CLIP, LOT, 1.0, parameters)


@pytest.fixture
def guard() -> Iterator[None]:
    with fluid.dygraph.guard(target="reference"):
        yield


# -- the same step as a Program -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "optimizer", "target"),
    [
        ("linear", dpsgd, "cpu"),
        ("cnn", dpsgd, "reference"),
        ("lstm", dpsgd, "reference"),
        *[
            ("linear", each, "reference")
            for each in (dp_adam, decayed, quantile, automatic, per_group, discrete, phases)
        ],
        pytest.param("cnn", dpsgd, "cpu", marks=pytest.mark.nightly),
        pytest.param("lstm", dpsgd, "cpu", marks=pytest.mark.nightly),
        pytest.param("lstm", dp_adam, "cpu", marks=pytest.mark.nightly),
        pytest.param("linear", dpsgd, "onnx", marks=pytest.mark.nightly),
    ],
)
def test_dygraph_trains_as_the_program_does(name: str, optimizer: Callable[..., Any], target: str) -> None:
    """Bit for bit, under one noise key, over lots of any size, the empty one included.

    Rates of a schedule are rounded otherwise in a Program, which computes them in float32.
    """
    model = MODELS[name]
    lots = [model.data(rows, seed) for seed, rows in enumerate(SIZES * 2)]
    with fluid.privacy.insecure_noise_key(b"key"):
        program, eager = as_program(model, optimizer, lots, target), in_dygraph(model, optimizer, lots, target)
    for key, value in program.items():
        if key in eager:  # the bound of quantile clipping is no parameter
            tolerance = 1e-6 if optimizer is decayed else 0.0
            np.testing.assert_allclose(eager[key], value, rtol=0, atol=tolerance, err_msg=key)
    assert np.isfinite(eager["loss"][np.array(SIZES * 2) > 0]).all()


@pytest.mark.parametrize("name", list(MODELS))
def test_losses_of_fifty_steps(name: str) -> None:
    model = MODELS[name]
    lots = [model.data(16, seed) for seed in range(50)]
    with fluid.privacy.insecure_noise_key(b"key"):
        program, eager = as_program(model, dpsgd, lots, "reference"), in_dygraph(model, dpsgd, lots, "reference")
    np.testing.assert_allclose(eager["loss"], program["loss"], atol=1e-6)
    assert len(program["loss"]) == 50


def test_dropout_of_a_private_step_comes_from_its_key(guard: None) -> None:
    """The seed of the program fixes no mask, and the number of the draw no other: the step's own key decides."""
    eager_program().random_seed = 3
    try:
        masks = []
        for key in (b"one", b"one", b"two"):
            kit = LINEAR.kit()
            optimizer = dpsgd(kit.parameters)
            x, label = (to_variable(rows) for rows in LINEAR.data(12).values())
            with fluid.privacy.insecure_noise_key(key):
                kept = L.dropout(x, 0.5)
                loss = L.mean(L.softmax_with_cross_entropy(LINEAR.scores(kit, {"x": kept}), label))
                loss.backward()
                optimizer.minimize(loss)
                masks.append(kept.numpy() == 0)
    finally:
        eager_program().random_seed = 0
    np.testing.assert_array_equal(masks[0], masks[1])
    assert (masks[0] != masks[2]).any()


# -- what one example can change ------------------------------------------------------------------------------------


def example_gradients(kit: Kit, data: Arrays) -> list[Arrays]:
    """Each example's gradient, from plain steps of dygraph on a copy of the model."""
    found: list[Arrays] = []
    for i in range(len(data["x"])):
        one = {name: to_variable(rows[i : i + 1]) for name, rows in data.items()}
        LINEAR.loss(kit, one).backward()
        found.append({p.name: p.gradient().astype("d") for p in kit.parameters})
    return found


def private_gradient(kit: Kit, data: Arrays) -> Arrays:
    """Of the optimizer that ``kit``'s parameters belong to, times the lot size."""
    LINEAR.loss(kit, {name: to_variable(rows) for name, rows in data.items()}).backward()
    return {p.name: LOT * p.gradient() for p in kit.parameters}


def distance(a: Arrays, b: Arrays) -> float:
    return math.sqrt(sum(float(np.sum((a[name].astype("d") - b[name]) ** 2)) for name in a))


def test_the_private_gradient_is_the_sum_of_clipped_ones(guard: None) -> None:
    data = LINEAR.data(21)
    data["x"] *= np.linspace(0.01, 3, 21, dtype="f")[:, None]
    examples = example_gradients(LINEAR.kit(), data)
    kit = LINEAR.kit()
    clip = 1.3
    trained = fluid.optimizer.Dpsgd(RATE, clip, LOT, 0.0, kit.parameters)
    norms = [distance(g, {name: np.zeros_like(value) for name, value in g.items()}) for g in examples]
    assert min(norms) < clip < max(norms)
    found = private_gradient(kit, data)
    for name, value in found.items():
        wanted = sum(g[name] * min(1.0, clip / norm) for g, norm in zip(examples, norms, strict=True))
        np.testing.assert_allclose(value, wanted, atol=2e-5, err_msg=name)
    assert trained.privacy.sigma == 0.0


def test_one_example_moves_the_gradient_by_at_most_c(guard: None) -> None:
    """Neighbouring lots, also with examples that are huge or not finite; the others count as before."""
    kit, rng = LINEAR.kit(), np.random.default_rng(5)
    trained = dpsgd(kit.parameters, sigma=0.0)
    largest = 0.0
    for pair, factor in enumerate([1.0, 10.0, 1e6, 1e18, 1e30, np.nan, np.inf] * 3):
        data = LINEAR.data(9, pair)
        row = int(rng.integers(9))
        data["x"][row] *= np.float32(factor)
        with_it = private_gradient(kit, data)
        without = private_gradient(kit, {name: np.delete(rows, row, axis=0) for name, rows in data.items()})
        moved = distance(with_it, without)
        assert moved <= CLIP * (1 + 2**-11), (pair, factor)
        largest = max(largest, moved)
    assert largest > CLIP / 2
    assert PrivateSteps.find(trained.training) is not None


def test_noise_is_of_the_stated_size_and_fresh(guard: None) -> None:
    """An empty lot gives noise alone: sigma C / L, no two steps alike."""
    kit = LINEAR.kit()
    optimizer = dpsgd(kit.parameters, sigma=2.0)
    draws = [np.concatenate([g.ravel() for g in private_gradient(kit, LINEAR.data(0)).values()]) for _ in range(60)]
    assert optimizer.privacy.sigma == 2.0
    spread = float(np.std(draws))
    assert spread == pytest.approx(2.0 * CLIP, rel=0.1)  # 3480 draws: 8 standard errors
    assert len({draw.tobytes() for draw in draws}) == 60


# -- what is counted ------------------------------------------------------------------------------------------------


def train(kit: Kit, optimizer: Any, feeds: Any) -> Any:
    loss = LINEAR.loss(kit, feeds)
    loss.backward()
    optimizer.minimize(loss)
    optimizer.clear_gradients()
    return loss


def test_a_budget_of_accounted_lots(guard: None) -> None:
    kit = LINEAR.kit()
    optimizer = dpsgd(kit.parameters, **STATED)
    before = [p.numpy() for p in kit.parameters]
    lots = fluid.privacy.poisson_batches(LINEAR.data(ROWS), optimizer)
    sizes = [len(feeds["x"]) for feeds in _stepped(kit, optimizer, lots)]
    assert len(sizes) == 5
    assert len(set(sizes)) > 1
    told = fluid.privacy.spent(optimizer)
    assert (told.steps, told.max_steps, told.reason) == (5, 5, "")
    assert told.epsilon is not None
    assert told.epsilon > 0
    assert all((p.numpy() != old).any() for p, old in zip(kit.parameters, before, strict=True))
    with pytest.raises(BudgetError):
        train(kit, optimizer, {name: to_variable(rows) for name, rows in LINEAR.data(3).items()}).numpy()


def _stepped(kit: Kit, optimizer: Any, lots: Any) -> Iterator[dict[str, Any]]:
    for lot in lots:
        feeds = to_variable(lot)
        train(kit, optimizer, feeds).numpy()
        yield feeds


def test_it_costs_what_the_program_costs(guard: None) -> None:
    kit = LINEAR.kit()
    optimizer = dpsgd(kit.parameters, **STATED)
    for feeds in _stepped(kit, optimizer, fluid.privacy.poisson_batches(LINEAR.data(ROWS), optimizer)):
        del feeds
    program, scope = fluid.Program(), fluid.Scope()
    with fluid.program_guard(program, fluid.Program()), fluid.scope_guard(scope):
        feeds = {"x": fluid.data("x", [-1, 7]), "label": fluid.data("label", [-1, 1], "int64")}
        dpsgd(**STATED).minimize(LINEAR.loss(Kit(), feeds))
    assert fluid.privacy.spent(optimizer).budget == fluid.privacy.spent(program).budget


def test_steps_of_different_structure_are_counted_together(guard: None) -> None:
    """With an accuracy, with a gradient that is looked at, with neither; what is computed anew is one step, too."""
    kit = LINEAR.kit()
    optimizer = dpsgd(kit.parameters, **STATED)
    lots = fluid.privacy.poisson_batches(LINEAR.data(ROWS), optimizer)
    for number, lot in enumerate(lots):
        feeds = to_variable(lot)
        scores = LINEAR.scores(kit, feeds)
        loss = L.mean(L.softmax_with_cross_entropy(scores, feeds["label"]))
        accuracy = L.accuracy(L.softmax(scores), feeds["label"]) if number == 1 else None
        seen = loss.numpy() if number == 2 else None  # the forward pass runs by itself, and again in the step
        loss.backward()
        if number == 3:
            assert kit.parameters[0].gradient().shape == (7, 5)
        optimizer.minimize(loss)
        if accuracy is not None:
            accuracy.numpy()
        np.testing.assert_array_equal(loss.numpy(), loss.numpy())
        if seen is not None:
            np.testing.assert_array_equal(seen, loss.numpy())
        assert fluid.privacy.spent(optimizer).steps == number + 1
    assert fluid.privacy.spent(optimizer).reason == ""
    assert len(optimizer.training.plans) > 2


def test_lots_of_any_size_run_one_compiled_step(guard: None) -> None:
    kit = LINEAR.kit()
    optimizer = dpsgd(kit.parameters)
    for rows in (1, 2, 0, 7, 16, 17, 40, 5):
        train(kit, optimizer, {name: to_variable(data) for name, data in LINEAR.data(rows).items()})
    eager_program().recorder.flush()
    assert len(optimizer.training.plans) == 1
    assert fluid.privacy.spent(optimizer).steps == 8


@pytest.mark.parametrize(
    "changed",
    [
        lambda lot: {name: to_variable(np.array(lot[name])) for name in lot},
        lambda lot: {**to_variable(lot), "label": to_variable(np.array(lot["label"]))},
        lambda lot: {**to_variable(lot), "x": _set(to_variable(lot)["x"])},
    ],
    ids=["arrays", "one array", "another value"],
)
def test_what_is_not_the_lot_itself_ends_epsilon(changed: Callable[[Any], Any], guard: None) -> None:
    kit = LINEAR.kit()
    optimizer = dpsgd(kit.parameters, **STATED)
    train(kit, optimizer, changed(next(fluid.privacy.poisson_batches(LINEAR.data(ROWS), optimizer)))).numpy()
    told = fluid.privacy.spent(optimizer)
    assert (told.epsilon, told.steps) == (None, 2)
    assert "fed by the caller" in told.reason


def _set(variable: Any) -> Any:
    variable.set_value(variable.numpy() * 2)
    return variable


def test_a_lot_buys_one_step(guard: None) -> None:
    kit = LINEAR.kit()
    optimizer = dpsgd(kit.parameters, **STATED)
    lot = next(fluid.privacy.poisson_batches(LINEAR.data(ROWS), optimizer))
    train(kit, optimizer, to_variable(lot)).numpy()
    assert fluid.privacy.spent(optimizer).epsilon is not None
    train(kit, optimizer, to_variable(lot)).numpy()
    assert fluid.privacy.spent(optimizer).epsilon is None
    assert fluid.privacy.spent(optimizer).steps == 2


def test_a_step_reads_the_lot_and_not_the_copy_that_the_caller_has(guard: None) -> None:
    found = []
    for spoil in (False, True):
        with fluid.privacy.insecure_noise_key(b"key"):
            kit = LINEAR.kit()
            optimizer = dpsgd(kit.parameters, **STATED)
            feeds = to_variable(next(fluid.privacy.poisson_batches(LINEAR.data(ROWS), optimizer)))
            if spoil:
                feeds["x"].value()[...] = 100.0
            train(kit, optimizer, feeds)
            found.append([p.numpy() for p in kit.parameters])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_failed_step_stays_counted_and_changes_nothing(guard: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from fluidc.runtime.stepper import Stepper

    kit = LINEAR.kit()
    optimizer = dpsgd(kit.parameters, **STATED)
    lots = fluid.privacy.poisson_batches(LINEAR.data(ROWS), optimizer)
    train(kit, optimizer, to_variable(next(lots))).numpy()
    before = [p.numpy() for p in kit.parameters]
    loss = train(kit, optimizer, to_variable(next(lots)))
    with monkeypatch.context() as patched:
        patched.setattr(Stepper, "run_lot", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            loss.numpy()
    with pytest.raises(FluidcError, match="has no value"):
        loss.numpy()
    for p, old in zip(kit.parameters, before, strict=True):
        np.testing.assert_array_equal(p.numpy(), old)
    told = fluid.privacy.spent(optimizer)
    assert (told.steps, told.reason) == (2, "")
    train(kit, optimizer, to_variable(next(lots))).numpy()
    assert fluid.privacy.spent(optimizer).steps == 3


def _interrupted(*args: object, **kwargs: object) -> None:
    raise KeyboardInterrupt


def test_a_label_out_of_range_refuses_the_lot_and_ends_epsilon(guard: None) -> None:
    """Which lots are refused depends on the data."""
    kit = LINEAR.kit()
    optimizer = dpsgd(kit.parameters, **STATED)
    data = LINEAR.data(ROWS)
    data["label"][:] = 7
    lots = fluid.privacy.poisson_batches(data, optimizer)
    loss = train(kit, optimizer, to_variable(next(lot for lot in lots if len(lot["x"]))))
    with pytest.raises(DataError, match="label"):
        loss.numpy()
    assert fluid.privacy.spent(optimizer).epsilon is None


def test_the_ledger_of_a_directory(guard: None, tmp_path: Path) -> None:
    """Runs on it add up."""
    counted = []
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PrivacyWarning)
            kit = LINEAR.kit()
            optimizer = dpsgd(kit.parameters, **STATED)
            lots = fluid.privacy.poisson_batches(LINEAR.data(ROWS), optimizer, run_dir=tmp_path)
            for _ in range(2):
                train(kit, optimizer, to_variable(next(lots))).numpy()
            counted.append(fluid.privacy.spent(optimizer).steps)
            del lots, optimizer, kit
        _collect()
    assert counted == [2, 4]


def _collect() -> None:
    import gc

    gc.collect()


def test_gradients_of_a_step_that_updates_nothing(guard: None) -> None:
    """Nobody wants them, and the step is taken and counted all the same."""
    kit = LINEAR.kit()
    optimizer = dpsgd(kit.parameters)
    loss = LINEAR.loss(kit, {name: to_variable(rows) for name, rows in LINEAR.data(4).items()})
    loss.backward()
    optimizer.clear_gradients()
    assert np.isfinite(loss.numpy()).all()
    assert fluid.privacy.spent(optimizer).steps == 1


def test_without_a_list_the_backward_becomes_private_in_minimize(guard: None) -> None:
    """Bit for bit as with one; from the second step on it is private from the beginning."""
    found = []
    for listed in (True, False):
        with fluid.privacy.insecure_noise_key(b"key"):
            kit = LINEAR.kit()
            optimizer = dpsgd(kit.parameters if listed else None)
            for seed in range(3):
                data = LINEAR.data(16, seed)
                x, label = to_variable(data["x"]), to_variable(data["label"])
                loss = LINEAR.loss(kit, {"x": x, "label": label})
                loss.backward()
                optimizer.minimize(loss)
            found.append([p.numpy() for p in kit.parameters])
            assert fluid.privacy.spent(optimizer).steps == 3
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_paddle_mechanism_is_a_plain_step(guard: None) -> None:
    """It clips whole gradients and is not private, so nothing is withheld and nothing counted."""
    kit = LINEAR.kit()
    with pytest.warns(PrivacyWarning, match="no differential privacy"):
        optimizer = dpsgd(kit.parameters, mechanism="paddle")
    loss = LINEAR.loss(kit, {name: to_variable(rows) for name, rows in LINEAR.data(4).items()})
    loss.backward()
    before = kit.parameters[0].numpy()
    optimizer.minimize(loss)
    assert (kit.parameters[0].numpy() != before).any()
    with pytest.raises(FluidcError, match="Paddle's own kernel"):
        fluid.privacy.spent(optimizer)


def test_public_numbers_may_change_from_step_to_step(guard: None) -> None:
    kit = LINEAR.kit()
    optimizer = dpsgd(kit.parameters, sigma=0.0)
    sizes = []
    for weight in (1.0, 0.25, 0.5):
        feeds = {name: to_variable(rows) for name, rows in LINEAR.data(8).items()}
        loss = LINEAR.loss(kit, feeds) * fluid.privacy.public(to_variable(np.array([weight], "f")))
        loss.backward()
        sizes.append(distance({"g": kit.parameters[1].gradient()}, {"g": np.zeros(5)}))
    assert len(optimizer.training.plans) == 1
    assert sizes[1] < sizes[2] < sizes[0]


def test_memory_of_the_first_lot_is_not_kept(guard: None) -> None:
    import weakref

    kit = LINEAR.kit()
    optimizer = dpsgd(kit.parameters)
    x = to_variable(LINEAR.data(8)["x"])
    node = weakref.ref(x.node)
    train(kit, optimizer, {"x": x, "label": to_variable(LINEAR.data(8)["label"])}).numpy()
    del x
    _collect()
    assert node() is None
