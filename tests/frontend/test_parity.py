"""Every layer's results and gradients are Paddle 1.8.5's: the calls of tests/support/layer_parity against its goldens.

Calls are put into programs by the dozens, so that few programs are compiled.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import layer_parity
import numpy as np
import pytest
from layer_parity.table import Case, Recorded, cost, parameter_value, place, wanted
from trees import golden

import fluidc.frontend as fluid
from fluidc.compiler.errors import FluidcError

TOGETHER = 60
"""Calls in one program."""
COMPILED = 1
"""Calls of each layer that are compiled in every run of the tests; the nightly run compiles all."""


def batches(most: int | None = None) -> list[Any]:
    """Keys of a group by the dozens; of each layer the first ``most``."""
    found: list[Any] = []
    for group, table in layer_parity.GROUPS.items():
        keys = [key for key in table if most is None or int(key.split("/")[1]) < most]
        for start in range(0, len(keys), TOGETHER):
            part = keys[start : start + TOGETHER]
            found.append(pytest.param(group, part, id=f"{group}-{part[0].replace('/', '')}"))
    return found


def run(group: str, keys: list[str], target: str) -> dict[str, dict[str, list[np.ndarray | None]]]:
    """What one program of all the calls gives, in the form of the goldens."""
    cases: dict[str, Case] = {key: layer_parity.GROUPS[group][key] for key in keys}
    wants = golden(f"parity_{group}")
    main, startup, scope = fluid.Program(), fluid.Program(), fluid.Scope()
    placed: dict[str, Recorded] = {}
    with fluid.unique_name.guard(), fluid.program_guard(main, startup):
        losses = []
        for key, case in cases.items():
            placed[key] = place(fluid, key, case)
            if "grads" in wants[key]:
                losses.append(cost(fluid, placed[key], [out.shape for out in wants[key]["outs"]], placed[key].feeds))
        targets = {
            key: [v for v, grad in zip(wanted(placed[key]), wants[key]["grads"], strict=True) if grad is not None]
            for key in keys
            if "grads" in wants[key]
        }
        asked = [v for vs in targets.values() for v in vs]
        grads = fluid.gradients(losses, asked) if asked else []
        missing = [v.name for v, grad in zip(asked, grads) if grad is None]
        assert not missing, missing
    with fluid.scope_guard(scope):
        exe = fluid.Executor(fluid.CPUPlace(), target=target)
        if startup.global_block().ops:
            exe.run(startup)
        for key, recorded in placed.items():
            for n, p in enumerate(recorded.parameters):
                value = parameter_value(key, n, p, cases[key].scale).astype(p.dtype.numpy)
                scope.var(p.name).get_tensor().set(value, fluid.CPUPlace())
        fetches = [out for recorded in placed.values() for out in recorded.outs] + grads
        feed = {name: array for recorded in placed.values() for name, array in recorded.feeds.items()}
        values = iter(exe.run(main, feed=feed, fetch_list=fetches))
        found: dict[str, dict[str, list[np.ndarray | None]]] = {}
        for key, recorded in placed.items():
            found[key] = {"outs": [next(values) for _ in recorded.outs]}
        for key in targets:
            found[key]["grads"] = [None if grad is None else next(values) for grad in wants[key]["grads"]]
        for key, recorded in placed.items():
            kept: list[np.ndarray | None] = [
                np.array(scope.var(p.name).get_tensor()) for p in recorded.parameters if not p.trainable
            ]
            if kept:
                found[key]["kept"] = kept
        return found


def differences(got: Any, want: Any, rtol: float, atol: float) -> Iterator[str]:
    """What is not the same."""
    assert list(got) == list(want), (list(got), list(want))
    for part, arrays in want.items():
        for n, (mine, theirs) in enumerate(zip(got[part], arrays, strict=True)):
            if theirs is None:
                continue
            if mine.dtype != theirs.dtype or mine.shape != theirs.shape:
                yield f"{part}[{n}] is {mine.dtype}{mine.shape}, not {theirs.dtype}{theirs.shape}"
            elif not np.allclose(mine, theirs, rtol=rtol, atol=atol, equal_nan=True):
                yield f"{part}[{n}] is\n{mine}\nnot\n{theirs}"


def check(group: str, keys: list[str], target: str, rtol: float, atol: float) -> None:
    wants, found = golden(f"parity_{group}"), run(group, keys, target)
    wrong = [f"{key} {what}" for key in keys for what in differences(found[key], wants[key], rtol, atol)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.filterwarnings("ignore:swish")
@pytest.mark.parametrize(("group", "keys"), batches())
def test_reference_is_paddle(group: str, keys: list[str]) -> None:
    check(group, keys, "reference", 2e-5, 2e-6)


@pytest.mark.filterwarnings("ignore:swish")
@pytest.mark.parametrize(("group", "keys"), batches(COMPILED))
def test_cpu_is_paddle(group: str, keys: list[str]) -> None:
    check(group, keys, "cpu", 1e-4, 1e-5)


@pytest.mark.parametrize("key", sorted(layer_parity.REFUSED))
def test_what_paddle_refuses_is_refused(key: str) -> None:
    with pytest.raises(FluidcError) as caught:
        attempt(key)
    assert caught.value.hint


def attempt(key: str) -> None:
    main, startup = fluid.Program(), fluid.Program()
    with fluid.unique_name.guard(), fluid.program_guard(main, startup):
        recorded = place(fluid, key, layer_parity.REFUSED[key])
    with fluid.scope_guard(fluid.Scope()):
        exe = fluid.Executor(fluid.CPUPlace(), target="reference")
        if startup.global_block().ops:
            exe.run(startup)
        exe.run(main, feed=recorded.feeds, fetch_list=recorded.outs)


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore:swish")
@pytest.mark.parametrize(("group", "keys"), batches())
def test_cpu_is_paddle_in_all_calls(group: str, keys: list[str]) -> None:
    check(group, keys, "cpu", 1e-4, 1e-5)
