"""LSTM, GRU and RNN against loops over time and examples, in float64, written from the operators' equations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto
from onnx_models import FLOAT, Array, model, node, results

TIME, BATCH, WIDTH, HIDDEN = 4, 3, 2, 5
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


FUNCTIONS: dict[str, Any] = {
    "Sigmoid": sigmoid,
    "Tanh": np.tanh,
    "Relu": lambda x: np.maximum(x, 0),
    "HardSigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "Softsign": lambda x: x / (1 + abs(x)),
}
DEFAULTS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}


def weights(op: str, directions: int, seed: int = 0) -> dict[str, Array]:
    rng, gates = np.random.default_rng(seed), GATES[op]
    return {
        "W": rng.normal(size=(directions, gates * HIDDEN, WIDTH)).astype(np.float32),
        "R": 0.5 * rng.normal(size=(directions, gates * HIDDEN, HIDDEN)).astype(np.float32),
        "B": rng.normal(size=(directions, 2 * gates * HIDDEN)).astype(np.float32),
        "P": rng.normal(size=(directions, 3 * HIDDEN)).astype(np.float32),
        "h": rng.normal(size=(directions, BATCH, HIDDEN)).astype(np.float32),
        "c": rng.normal(size=(directions, BATCH, HIDDEN)).astype(np.float32),
        "x": rng.normal(size=(TIME, BATCH, WIDTH)).astype(np.float32),
    }


def one_step(op: str, x: Array, h: Array, c: Array, w: Array, r: Array, b: Array, p: Array, how: dict[str, Any]) -> Any:
    """New (h, c) of one example; ``w``, ``r`` by gate, ``b`` [2, gates, H], ``p`` [3, H]."""
    functions = [FUNCTIONS[name] for name in how["activations"]]
    clip = how.get("clip", np.inf)

    def bounded(value: Array) -> Array:
        return np.clip(value, -clip, clip)

    if op == "RNN":
        return functions[0](bounded(w[0] @ x + b[0, 0] + r[0] @ h + b[1, 0])), c
    if op == "GRU":
        f, g = functions
        z = f(bounded(w[0] @ x + b[0, 0] + r[0] @ h + b[1, 0]))
        reset = f(bounded(w[1] @ x + b[0, 1] + r[1] @ h + b[1, 1]))
        if how.get("linear_before_reset"):
            new = g(bounded(w[2] @ x + b[0, 2] + reset * (r[2] @ h + b[1, 2])))
        else:
            new = g(bounded(w[2] @ x + b[0, 2] + r[2] @ (reset * h) + b[1, 2]))
        return (1 - z) * new + z * h, c
    f, g, last = functions
    i = f(bounded(w[0] @ x + b[0, 0] + r[0] @ h + b[1, 0] + p[0] * c))
    forget = f(bounded(w[2] @ x + b[0, 2] + r[2] @ h + b[1, 2] + p[2] * c))
    forget = 1 - i if how.get("input_forget") else forget
    new = forget * c + i * g(bounded(w[3] @ x + b[0, 3] + r[3] @ h + b[1, 3]))
    o = f(bounded(w[1] @ x + b[0, 1] + r[1] @ h + b[1, 1] + p[1] * new))
    return o * last(bounded(new)), new


def expected(
    op: str, given: dict[str, Array], names: set[str], lengths: Array, how: dict[str, Any]
) -> tuple[Array, ...]:
    """Y [T, D, N, H], Y_h and Y_c [D, N, H]."""
    gates, directions = GATES[op], len(given["W"])
    y = np.zeros((TIME, directions, BATCH, HIDDEN))
    ends = np.zeros((2, directions, BATCH, HIDDEN))
    for d in range(directions):
        w = given["W"][d].reshape(gates, HIDDEN, WIDTH).astype(float)
        r = given["R"][d].reshape(gates, HIDDEN, HIDDEN).astype(float)
        b = (given["B"][d] * ("B" in names)).reshape(2, gates, HIDDEN).astype(float)
        p = (given["P"][d] * ("P" in names)).reshape(3, HIDDEN).astype(float)
        each = {**how, "activations": how["activations"][d * len(DEFAULTS[op]) : (d + 1) * len(DEFAULTS[op])]}
        for n in range(BATCH):
            h, c = given["h"][d, n] * ("h" in names), given["c"][d, n] * ("c" in names)
            backwards = how["direction"] == "reverse" or d == 1
            steps = range(lengths[n])
            for t in reversed(steps) if backwards else steps:
                h, c = one_step(op, given["x"][t, n].astype(float), h, c, w, r, b, p, each)
                y[t, d, n] = h
            ends[:, d, n] = h, c
    return y, ends[0], ends[1]


CASES: list[tuple[str, set[str], dict[str, Any]]] = [
    ("LSTM", set(), {}),
    ("LSTM", {"B", "h", "c", "P"}, {}),
    ("LSTM", {"B", "h"}, {"direction": "reverse", "clip": 0.5}),
    ("LSTM", {"B", "lens"}, {"direction": "bidirectional"}),
    ("LSTM", {"B", "c", "lens"}, {"input_forget": 1}),
    ("LSTM", {"B", "h", "c"}, {"layout": 1}),
    ("LSTM", {"B"}, {"activations": ["HardSigmoid", "Softsign", "Relu"]}),
    ("GRU", set(), {}),
    ("GRU", {"B", "h"}, {"linear_before_reset": 1}),
    ("GRU", {"B", "h"}, {"clip": 0.5}),
    ("GRU", {"B", "lens"}, {"direction": "bidirectional", "linear_before_reset": 1}),
    ("GRU", {"B"}, {"layout": 1, "direction": "reverse"}),
    ("RNN", set(), {}),
    ("RNN", {"B", "h", "lens"}, {"direction": "bidirectional", "activations": ["Relu", "Tanh"]}),
]


RUNS = [*((case, "reference") for case in range(len(CASES))), *((case, "cpu") for case in (1, 3, 8, 13))]


@pytest.mark.parametrize(("case", "target"), RUNS)
def test_against_loops(case: int, target: str) -> None:
    op, names, stated = CASES[case]
    directions = 2 if stated.get("direction") == "bidirectional" else 1
    given = weights(op, directions)
    how = {"direction": "forward", "activations": DEFAULTS[op] * directions, **stated}
    lengths = np.array([2, TIME, 1], np.int32) if "lens" in names else np.full(BATCH, TIME, np.int32)
    want = expected(op, given, names, lengths, how)

    by_batch = bool(stated.get("layout"))
    feeds = {"x": given["x"], "h": given["h"], "c": given["c"], "lens": lengths}
    if by_batch:
        feeds |= {name: feeds[name].swapaxes(0, 1) for name in ("x", "h", "c")}
        want = (want[0].transpose(2, 0, 1, 3), *(each.swapaxes(0, 1) for each in want[1:]))
    kinds = {"lens": TensorProto.INT32}
    slots = ["x", "W", "R", "B", "lens", "h", "c", "P"]
    inputs = [name if name in names | {"x", "W", "R"} else "" for name in slots[: 8 if op == "LSTM" else 6]]
    outputs = ["Y", "Y_h", "Y_c"][: 3 if op == "LSTM" else 2]
    proto = model(
        [node(op, inputs, outputs, hidden_size=HIDDEN, **stated)],
        {name: (kinds.get(name, FLOAT), feeds[name].shape) for name in ("x", "lens", "h", "c") if name in inputs},
        outputs,
        {name: given[name] for name in ("W", "R", "B", "P") if name in inputs},
    )
    found = results(proto, feeds, target)
    for have, expect in zip(found, want, strict=False):
        np.testing.assert_allclose(have, expect, rtol=1e-5, atol=1e-6)
