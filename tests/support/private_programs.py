"""Models as fluid scripts, each a loss per batch: plain ones to differentiate, private ones under Dpsgd.

``PROGRAMS`` maps a name to what builds the model into the default main program, and to rows of its feeds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import fluidc.frontend as fluid

Arrays = dict[str, np.ndarray]
L: Any = fluid.layers
STEPS, PIXELS, HIDDEN, WORDS, WIDTH = 6, 5, 4, 11, 8


@dataclass(frozen=True)
class PrivateProgram:
    """``build()`` records the model and returns its loss; ``rows(rng, n)`` draws n examples."""

    build: Callable[[], Any]
    rows: Callable[[np.random.Generator, int], Arrays]


def _floats(*shape: int) -> Callable[[np.random.Generator, int], np.ndarray]:
    return lambda rng, n: rng.normal(size=(n, *shape)).astype(np.float32)


def _ids(high: int, *shape: int) -> Callable[[np.random.Generator, int], np.ndarray]:
    return lambda rng, n: rng.integers(0, high, (n, *shape))


def _feeds(**drawn: Callable[[np.random.Generator, int], np.ndarray]) -> Callable[[np.random.Generator, int], Arrays]:
    return lambda rng, n: {name: draw(rng, n) for name, draw in drawn.items()}


def _classified(features: Any, classes: int = 3) -> Any:
    label = L.data("label", [1], dtype="int64")
    logits = L.fc(features, classes, param_attr="out.w", bias_attr="out.b")
    return L.mean(L.softmax_with_cross_entropy(logits, label))


def _mlp() -> Any:
    x = L.data("x", [7])
    return _classified(L.fc(L.fc(x, 6, act="tanh"), 5, act="relu"))


def _lenet() -> Any:
    x = L.data("x", [1, 12, 12])
    first = L.pool2d(L.conv2d(x, 4, 3, padding=1, act="relu"), 2, "max", 2)
    second = L.pool2d(L.conv2d(first, 6, 3, act="tanh"), 2, "avg", 2)
    return _classified(L.fc(second, 8, act="sigmoid"))


def _words() -> Any:
    """Ids repeat within an example; id 0 is padding."""
    ids = L.data("ids", [9, 1], dtype="int64")
    rows = L.embedding(ids, [WORDS, 6], padding_idx=0)
    return _classified(L.fc(L.reduce_mean(rows, dim=1), 5, act="tanh"))


def _cell(x: Any, hidden: Any, cell: Any) -> tuple[Any, Any]:
    """An LSTM cell of elementary layers; every call reads the same parameters."""
    gates = L.fc(L.concat([x, hidden], axis=1), 4 * HIDDEN, param_attr="lstm.w", bias_attr="lstm.b")
    i, f, o, g = L.split(gates, 4, dim=1)
    cell = L.elementwise_add(
        L.elementwise_mul(L.sigmoid(L.scale(f, 1.0, 1.0)), cell), L.elementwise_mul(L.sigmoid(i), L.tanh(g))
    )
    return L.elementwise_mul(L.sigmoid(o), L.tanh(cell)), cell


def _scanned() -> Any:
    x = L.transpose(L.data("x", [STEPS, PIXELS]), [1, 0, 2])
    rnn = L.StaticRNN()
    with rnn.step():
        row = rnn.step_input(x)
        hidden = rnn.memory(shape=[-1, HIDDEN], batch_ref=row)
        cell = rnn.memory(shape=[-1, HIDDEN], batch_ref=row)
        new_hidden, new_cell = _cell(row, hidden, cell)
        rnn.update_memory(hidden, new_hidden)
        rnn.update_memory(cell, new_cell)
        rnn.step_output(new_hidden)
    return _classified(L.reduce_mean(rnn(), dim=0))


def _unrolled() -> Any:
    x = L.data("x", [STEPS, PIXELS])
    rows = L.unstack(x, axis=1)
    hidden = L.fill_constant_batch_size_like(x, [-1, HIDDEN], "float32", 0.0)
    cell = L.fill_constant_batch_size_like(x, [-1, HIDDEN], "float32", 0.0)
    states = []
    for row in rows:
        hidden, cell = _cell(row, hidden, cell)
        states.append(hidden)
    return _classified(L.scale(L.sums(states), 1.0 / STEPS))


def _lstm_unit() -> Any:
    """fluid's own cell over embedded words, which the loop looks up itself."""
    ids = L.transpose(L.data("ids", [STEPS, 1], dtype="int64"), [1, 0, 2])
    first, second = (
        L.fill_constant_batch_size_like(ids, [-1, HIDDEN], "float32", value, input_dim_idx=1) for value in (0.1, 0.0)
    )
    rnn = L.StaticRNN()
    with rnn.step():
        word = rnn.step_input(ids)
        hidden = rnn.memory(init=first)
        cell = rnn.memory(init=second)
        row = L.embedding(word, [WORDS, PIXELS], param_attr="table")
        new_hidden, new_cell = L.lstm_unit(row, hidden, cell, forget_bias=1.0)
        rnn.update_memory(hidden, new_hidden)
        rnn.update_memory(cell, new_cell)
        rnn.step_output(new_hidden)
    return _classified(L.reduce_max(rnn(), dim=0))


def _gru_unit() -> Any:
    x = L.transpose(L.data("x", [STEPS, PIXELS]), [1, 0, 2])
    rnn = L.StaticRNN()
    with rnn.step():
        row = rnn.step_input(x)
        hidden = rnn.memory(shape=[-1, HIDDEN], batch_ref=row)
        new, _, _ = L.gru_unit(L.fc(row, 3 * HIDDEN, bias_attr=False), hidden, 3 * HIDDEN)
        rnn.update_memory(hidden, new)
        rnn.step_output(new)
    return _classified(L.reduce_mean(rnn(), dim=0))


def _cells() -> Any:
    """Cells over padded sequences, forwards and backwards, with the lengths of each."""
    ids, lengths = L.data("ids", [STEPS, 1], dtype="int64"), L.data("lengths", [], dtype="int64")
    words = L.embedding(ids, [WORDS, PIXELS], param_attr="table")
    _, (hidden, _) = L.rnn(L.LSTMCell(HIDDEN), words, sequence_length=lengths)
    rows, last = L.rnn(L.GRUCell(HIDDEN), words, sequence_length=lengths, is_reverse=True)
    return _classified(L.concat([hidden, last, L.reduce_mean(rows, dim=1)], axis=1))


def _normalised(x: Any) -> Any:
    return L.layer_norm(x, begin_norm_axis=2)


def _heads(x: Any, heads: int) -> Any:
    """[N, T, heads * d] -> [N, heads, T, d]."""
    return L.transpose(L.reshape(x, [-1, STEPS, heads, WIDTH // heads]), [0, 2, 1, 3])


def _encoder() -> Any:
    """A block of a transformer that predicts words: masked attention, layer_norm, gelu, tied table."""
    ids = L.data("ids", [STEPS, 1], dtype="int64")
    targets = L.data("targets", [STEPS, 1], dtype="int64")
    mask = L.data("mask_", [STEPS])
    table = L.create_parameter([WORDS, WIDTH], "float32", name="table")
    places = L.create_parameter([STEPS, WIDTH], "float32", name="places")
    rows = L.elementwise_add(L.embedding(ids, [WORDS, WIDTH], param_attr="table"), places, axis=1)
    x = _normalised(rows)
    q, k, v = (_heads(L.fc(x, WIDTH, num_flatten_dims=2), 2) for _ in range(3))
    scores = L.matmul(q, k, transpose_y=True, alpha=(WIDTH // 2) ** -0.5)
    hidden_words = L.scale(L.unsqueeze(mask, [1, 2]), 1e4, -1.0, bias_after_scale=False)
    weights = L.softmax(L.elementwise_add(scores, hidden_words))
    context = L.reshape(L.transpose(L.matmul(weights, v), [0, 2, 1, 3]), [-1, STEPS, WIDTH])
    x = L.elementwise_add(rows, L.fc(context, WIDTH, num_flatten_dims=2))
    wide = L.fc(_normalised(x), 2 * WIDTH, num_flatten_dims=2, act="gelu")
    x = _normalised(L.elementwise_add(x, L.fc(wide, WIDTH, num_flatten_dims=2)))
    logits = L.matmul(x, table, transpose_y=True)
    losses = L.squeeze(L.softmax_with_cross_entropy(logits, targets), [2])
    total = L.reduce_sum(L.elementwise_mul(losses, mask), dim=1)
    return L.mean(L.elementwise_div(total, L.reduce_sum(mask, dim=1)))


def _token_mask(rng: np.random.Generator, n: int) -> np.ndarray:
    lengths = rng.integers(1, STEPS + 1, n)
    return (np.arange(STEPS) < lengths[:, None]).astype(np.float32)


PROGRAMS: dict[str, PrivateProgram] = {
    "mlp": PrivateProgram(_mlp, _feeds(x=_floats(7), label=_ids(3, 1))),
    "lenet": PrivateProgram(_lenet, _feeds(x=_floats(1, 12, 12), label=_ids(3, 1))),
    "words": PrivateProgram(_words, _feeds(ids=_ids(5, 9, 1), label=_ids(3, 1))),
    "scanned_lstm": PrivateProgram(_scanned, _feeds(x=_floats(STEPS, PIXELS), label=_ids(3, 1))),
    "unrolled_lstm": PrivateProgram(_unrolled, _feeds(x=_floats(STEPS, PIXELS), label=_ids(3, 1))),
    "lstm_unit": PrivateProgram(_lstm_unit, _feeds(ids=_ids(WORDS, STEPS, 1), label=_ids(3, 1))),
    "gru_unit": PrivateProgram(_gru_unit, _feeds(x=_floats(STEPS, PIXELS), label=_ids(3, 1))),
    "cells": PrivateProgram(
        _cells,
        _feeds(ids=_ids(WORDS, STEPS, 1), lengths=lambda rng, n: rng.integers(1, STEPS + 1, n), label=_ids(3, 1)),
    ),
    "encoder": PrivateProgram(
        _encoder, _feeds(ids=_ids(WORDS, STEPS, 1), targets=_ids(WORDS, STEPS, 1), mask_=_token_mask)
    ),
}
