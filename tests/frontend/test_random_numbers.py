"""What seeds decide is Paddle 1.8.5's: first values of parameters to the bit, and what layers draw."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from random_programs import LAYERS, RUNS, SEED, feeds, initialised
from trees import golden

import fluidc.frontend as fluid

GOLDEN = golden("random_numbers")
ROUNDED = ("gaussian", "gaussian_like")


def check(array: np.ndarray, wanted: dict[str, Any], name: str) -> None:
    assert (str(array.dtype), list(array.shape)) == (wanted["dtype"], wanted["sizes"]), name
    np.testing.assert_array_equal(array.ravel()[:8], wanted["first"], err_msg=name)
    assert hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest() == wanted["sha256"], name


@pytest.mark.parametrize("target", ["reference", "cpu"])
def test_first_values_are_paddles_to_the_bit(target: str) -> None:
    main, startup, scope = fluid.Program(), fluid.Program(), fluid.Scope()
    with fluid.unique_name.guard(), fluid.program_guard(main, startup):
        initialised(fluid)
    with fluid.scope_guard(scope):
        fluid.Executor(fluid.CPUPlace(), target=target).run(startup)
    wanted = GOLDEN["initialised"]
    assert {p.name for p in main.all_parameters()} == set(wanted)
    for name, described in wanted.items():
        check(np.array(scope.var(name).get_tensor()), described, name)


def test_first_values_of_dygraph_are_paddles_to_the_bit() -> None:
    with fluid.dygraph.guard(fluid.CPUPlace()), fluid.unique_name.guard():
        fluid.default_startup_program().random_seed = fluid.default_main_program().random_seed = SEED
        try:
            layers: list[Any] = [
                fluid.dygraph.Linear(30, 20),
                fluid.dygraph.Conv2D(3, 8, 3),
                fluid.dygraph.Embedding([50, 6]),
                fluid.dygraph.Linear(7, 5, param_attr=fluid.initializer.TruncatedNormal(0.0, 0.5)),
            ]
            found = {p.name: p.numpy() for each in layers for p in each.parameters()}
        finally:
            fluid.default_startup_program().random_seed = fluid.default_main_program().random_seed = 0
    assert set(found) == set(GOLDEN["eager"])
    for name, described in GOLDEN["eager"].items():
        check(found[name], described, name)


@pytest.mark.parametrize("target", ["reference", "cpu"])
@pytest.mark.parametrize("name", sorted(LAYERS))
def test_drawn_numbers_are_paddles(name: str, target: str) -> None:
    main, startup = fluid.Program(), fluid.Program()
    main.random_seed = startup.random_seed = SEED
    with fluid.unique_name.guard(), fluid.program_guard(main, startup):
        out = LAYERS[name](fluid)
    with fluid.scope_guard(fluid.Scope()):
        exe = fluid.Executor(fluid.CPUPlace(), target=target)
        if startup.global_block().ops:
            exe.run(startup)
        found = np.stack([exe.run(main, feed=feeds(main), fetch_list=[out])[0] for _ in range(RUNS)])
    wanted = GOLDEN["layers"][name]
    assert found.dtype == wanted.dtype
    if target == "reference" and name not in ROUNDED:
        np.testing.assert_array_equal(found, wanted)
    else:
        np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=1e-6)


def test_numbers_without_a_seed_lie_in_their_range() -> None:
    L = fluid.layers
    with fluid.program_guard(fluid.Program(), fluid.Program()):
        outs = [
            L.randint(-3, 8, [400]),
            L.randint(-3, 8, [400]),
            L.randperm(50),
            L.randint(0, 2**31 - 2, [400]),
            L.sampling_id(L.assign(np.array([[0.0, 0.75, 0.25]] * 200, "float32"))),
        ]
        exe = fluid.Executor(fluid.CPUPlace())
        first, second = (exe.run(fetch_list=outs) for _ in range(2))
    near, other, order, far, columns = first
    assert near.min() == -3
    assert near.max() == 7
    assert (near != other).any()
    assert (near != second[0]).any()
    np.testing.assert_array_equal(np.sort(order), np.arange(50))
    assert far.max() > 2**30
    assert 120 < (columns == 1).sum() < 180
    assert (columns != 0).all()
