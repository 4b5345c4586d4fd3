"""What recurrent layers compute where Paddle shows nothing, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from layer_programs import numbers

import fluidc.frontend as fluid
from fluidc.runtime.errors import FluidcError

L: Any = fluid.layers
T, N, D, INPUTS = 3, 2, 2, 3


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def layered(flat: np.ndarray, x: np.ndarray, h0: np.ndarray, c0: np.ndarray) -> tuple[np.ndarray, ...]:
    """Two layers of two directions in float64: cuDNN's matrices i, f, c, o, then its two biases of each."""
    widths, at = [INPUTS, 2 * D], 0
    biases = sum(4 * D * (width + D) * 2 for width in widths)
    last_h, last_c = [], []
    for layer, width in enumerate(widths):
        sides = []
        for direction in range(2):
            w = flat[at : at + 4 * D * width].reshape(4, D, width)
            r = flat[at + 4 * D * width : at + 4 * D * (width + D)].reshape(4, D, D)
            bias = flat[biases : biases + 8 * D].reshape(2, 4, D).sum(axis=0)
            at, biases = at + 4 * D * (width + D), biases + 8 * D
            h, c = h0[2 * layer + direction], c0[2 * layer + direction]
            rows = [np.zeros((N, D))] * T
            for t in range(T) if direction == 0 else reversed(range(T)):
                i, f, g, o = (x[t] @ w[k].T + h @ r[k].T + bias[k] for k in range(4))
                c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
                h = rows[t] = sigmoid(o) * np.tanh(c)
            sides.append(np.stack(rows))
            last_h.append(h)
            last_c.append(c)
        x = np.concatenate(sides, axis=2)
    return x, np.stack(last_h), np.stack(last_c)


def test_layers_of_lstms() -> None:
    main, startup, scope = fluid.Program(), fluid.Program(), fluid.Scope()
    with fluid.program_guard(main, startup), fluid.unique_name.guard(), fluid.scope_guard(scope):
        x = L.data("x", [T, N, INPUTS], append_batch_size=False)
        h, c = (L.data(name, [4, N, D], append_batch_size=False) for name in "hc")
        outs = L.lstm(x, h, c, T, D, 2, is_bidirec=True)
        loss = L.sums([L.reduce_sum(L.square(out)) for out in outs])
        ((weight, gradient),) = fluid.backward.append_backward(loss)
        exe = fluid.Executor(fluid.CPUPlace(), target="reference")
        exe.run(startup)
        flat = numbers("weight", weight.shape)
        scope.var(weight.name).get_tensor().set(flat)
        feeds = {"x": numbers("x", (T, N, INPUTS)), "h": numbers("h", (4, N, D)), "c": numbers("c", (4, N, D))}
        *found, slope = exe.run(main, feed=feeds, fetch_list=[*outs, gradient])
    wide = [a.astype(np.float64) for a in (flat, feeds["x"], feeds["h"], feeds["c"])]
    for mine, wanted in zip(found, layered(*wide), strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-5, atol=1e-6)
    for k in range(0, flat.size, 17):
        ends = []
        for step in (1e-5, -1e-5):
            moved = wide[0].copy()
            moved[k] += step
            ends.append(sum(float(np.square(out).sum()) for out in layered(moved, *wide[1:])))
        np.testing.assert_allclose(slope[k], (ends[0] - ends[1]) / 2e-5, rtol=1e-3, atol=1e-4)


def tokens(width: int) -> Any:
    return L.data("x", [width], lod_level=1)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "no sequences": (lambda: L.dynamic_lstm(L.data("x", [8]), 8), "has no sequences"),
    "unprojected tokens": (lambda: L.dynamic_gru(tokens(4), 4), "size makes it [-1, 12]"),
    "a size that is no multiple of four": (lambda: L.dynamic_lstm(tokens(6), 6), "size is 6"),
    "an unknown activation": (lambda: L.dynamic_gru(tokens(6), 2, gate_activation="elu"), "gate_activation is 'elu'"),
    "no bias": (lambda: L.dynamic_lstm(tokens(8), 8, bias_attr=False), "bias_attr is False"),
    "a state of another width": (lambda: L.dynamic_lstm(tokens(8), 8, h_0=L.data("h", [3])), "h_0 h has shape [-1, 3]"),
    "no projection": (lambda: L.dynamic_lstmp(tokens(8), 8, 0), "proj_size is 0"),
    "a negative clip": (lambda: L.dynamic_lstmp(tokens(8), 8, 2, cell_clip=-1.0), "cell_clip is -1.0"),
    "states of a cell as a pair": (
        lambda: L.LSTMCell(2)(L.data("x", [2]), (L.data("h", [2]), L.data("c", [2]))),
        "give the list [hidden, cell]",
    ),
    "beams without steps": (
        lambda: L.gather_tree(L.data("i", [3], dtype="int64"), L.data("p", [3], dtype="int64")),
        "must be [T, N, beams]",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what: str) -> None:
    build, message = REFUSED[what]
    with fluid.program_guard(fluid.Program(), fluid.Program()), pytest.raises(FluidcError) as caught:
        build()
    assert message in f"{caught.value.what} {caught.value.hint}"
    assert __file__ in (caught.value.where or "")
