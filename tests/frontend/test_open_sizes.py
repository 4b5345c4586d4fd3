"""Padded batches whose length differs from batch to batch: one build serves all, with the numbers of exact code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import fluidc.frontend as fluid
from fluidc.frontend import open_sizes, step_cache
from fluidc.frontend.compiled_code import Code, Types
from fluidc.frontend.open_sizes import Sizes

layers = fluid.layers
Model = Callable[[fluid.Variable, fluid.Variable], fluid.Variable]


@pytest.fixture(autouse=True)
def _programs() -> Iterator[None]:
    with (
        fluid.program_guard(fluid.Program(), fluid.Program()),
        fluid.unique_name.guard(),
        fluid.scope_guard(fluid.Scope()),
    ):
        yield


@pytest.fixture
def compiles(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows that programs were compiled for, in order."""
    from fluidc.frontend import compiled_code

    found: list[int] = []
    compile_source = compiled_code.compile_source

    def counted(*args: object, **kwargs: object) -> object:
        found.append(kwargs["batch"])  # type: ignore[arg-type]
        return compile_source(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(compiled_code, "compile_source", counted)
    return found


def padded_lstm(words: fluid.Variable, lengths: fluid.Variable) -> fluid.Variable:
    states, _ = layers.rnn(layers.LSTMCell(4), fluid.embedding(words, [20, 4]), sequence_length=lengths)
    return states


def attention(words: fluid.Variable, lengths: fluid.Variable) -> fluid.Variable:
    rows = fluid.embedding(words, [20, 4])
    mask = layers.sequence_mask(lengths, maxlen=layers.shape(words)[1], dtype="float32")
    scores = layers.matmul(layers.fc(rows, 4, num_flatten_dims=2), rows, transpose_y=True)
    return layers.matmul(
        layers.softmax(layers.elementwise_add(scores, layers.unsqueeze((mask - 1.0) * 1e9, [1]))), rows
    )


def training(model: Model) -> fluid.Variable:
    """The loss of a program that labels words, [N, L] as they are."""
    fluid.default_main_program().random_seed = fluid.default_startup_program().random_seed = 5
    words, lengths = fluid.data("words", [None, None], "int64"), fluid.data("lengths", [None], "int64")
    labels = fluid.data("labels", [None, None], "int64")
    logits = layers.fc(model(words, lengths), 3, num_flatten_dims=2)
    losses = layers.squeeze(layers.softmax_with_cross_entropy(logits, layers.unsqueeze(labels, [2])), [2])
    mask = layers.sequence_mask(lengths, maxlen=layers.shape(words)[1], dtype="float32")
    loss = layers.reduce_sum(losses * mask) / layers.reduce_sum(mask)
    fluid.optimizer.SGD(0.5).minimize(loss)
    return loss


def batches(count: int) -> Iterator[dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    for step in range(count):
        rows, width = 3 + step % 5 // 4, 2 + step
        yield {
            "words": rng.integers(0, 20, (rows, width)),
            "lengths": rng.integers(1, width + 1, rows),
            "labels": rng.integers(0, 3, (rows, width)),
        }


def trained(model: Model, count: int, target: str) -> list[float]:
    with fluid.program_guard(fluid.Program(), fluid.Program()), fluid.unique_name.guard():
        loss = training(model)
        scope, exe = fluid.Scope(), fluid.Executor(target=target)
        exe.run(fluid.default_startup_program(), scope=scope)
        return [float(exe.run(feed=batch, fetch_list=[loss], scope=scope)[0].item()) for batch in batches(count)]


@pytest.mark.parametrize("model", [padded_lstm, attention])
def test_fifty_lengths_take_four_builds_and_have_the_numbers_of_exact_code(
    model: Model, compiles: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = trained(model, 50, "reference")
    built = len(compiles) - 1  # the first one is the startup program
    assert built <= 4
    monkeypatch.setattr(open_sizes, "EXACT_SIZES", 1000)
    exact = trained(model, 8, "reference")
    assert len(compiles) - built - 2 == 8
    np.testing.assert_allclose(losses[:8], exact, rtol=1e-5)


def test_compiled_code_takes_any_length() -> None:
    x = fluid.data("x", [None, None])
    y = layers.elementwise_mul(layers.softmax(x), x)
    exe = fluid.Executor(target="cpu")
    for width in (1, 2, 5, 9):
        rows = np.linspace(0, 1, 3 * width, dtype=np.float32).reshape(3, width)
        exps = np.exp(rows)
        (value,) = exe.run(feed={"x": rows}, fetch_list=[y])
        np.testing.assert_allclose(value, exps / exps.sum(1, keepdims=True) * rows, rtol=1e-5)


def test_sizes_that_differ_have_symbols_of_their_own_once_they_do(compiles: list[int]) -> None:
    source, target = fluid.data("source", [None, None]), fluid.data("target", [None, None])
    total = layers.reduce_sum(source) + layers.reduce_sum(target)
    exe = fluid.Executor(target="reference")
    for a, b in [(k, k) for k in range(2, 7)] + [(k, 20 - k) for k in range(2, 7)]:
        (value,) = exe.run(
            feed={"source": np.ones((2, a), np.float32), "target": np.ones((2, b), np.float32)}, fetch_list=[total]
        )
        assert value.item() == 2 * (a + b)
    assert compiles == [2, 2, 2, 2]  # two lengths, equal ones, any; the batch has never changed


def test_a_size_that_never_changes_stays_a_number(compiles: list[int]) -> None:
    x = fluid.data("x", [None, None, None])
    y = layers.reduce_sum(x, dim=[1, 2])
    exe = fluid.Executor(target="reference")
    for rows in range(1, 7):
        (value,) = exe.run(feed={"x": np.ones((rows, 5, 3), np.float32)}, fetch_list=[y])
        assert value.tolist() == [15.0] * rows
    assert compiles == [1, 2, 0]


def test_what_needs_a_number_has_code_of_its_own_for_every_size(compiles: list[int]) -> None:
    x = fluid.data("x", [None, None])
    half = layers.split(x, 2, dim=1)[0]
    exe = fluid.Executor(target="reference")
    for width in (2, 4, 6, 8, 10):
        (value,) = exe.run(feed={"x": np.ones((4, width), np.float32)}, fetch_list=[half])
        assert value.shape == (4, width // 2)
    assert compiles == [4] * 5


def test_a_rule_that_fails_on_an_open_size_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    total = layers.reduce_sum(fluid.data("x", [None, None]))
    tried: list[bool] = []
    compiled_code = step_cache.compiled_code

    def expects_a_number(program: fluid.Program, given: Types, *rest: Any) -> Code:
        tried.append(isinstance(given.types["x"].shape[1], int))
        assert tried[-1]
        return compiled_code(program, given, *rest)

    monkeypatch.setattr(step_cache, "compiled_code", expects_a_number)
    exe = fluid.Executor(target="reference")
    for width in (2, 3, 4, 5):
        (value,) = exe.run(feed={"x": np.ones((2, width), np.float32)}, fetch_list=[total])
        assert value.item() == 2 * width
    assert tried == [True, True, False, True, True]


def test_a_row_that_is_repeated_beside_others_is_no_open_size(compiles: list[int]) -> None:
    x, bias = fluid.data("x", [None, None]), fluid.data("bias", [None, None])
    total = layers.elementwise_add(x, bias)
    exe = fluid.Executor(target="reference")
    for width, beside in [(2, 2), (3, 3), (4, 4), (5, 1), (6, 1), (7, 7), (1, 1)]:
        given = {"x": np.ones((2, width), np.float32), "bias": np.ones((2, beside), np.float32)}
        (value,) = exe.run(feed=given, fetch_list=[total])
        assert value.tolist() == [[2.0] * width] * 2
    assert compiles == [2] * 5  # two exact, equal ones, one beside any, two ones


def test_a_pattern_that_was_refused_is_not_chosen_again() -> None:
    fluid.data("x", [None, None])
    sizes = Sizes(fluid.default_main_program())

    def fed(rows: int, width: int) -> dict[str, np.ndarray]:
        return {"x": np.zeros((rows, width))}

    assert [sizes.choose(4, fed(4, k)).symbols for k in (1, 2)] == [{}, {}]
    choice = sizes.choose(4, fed(4, 3))
    assert {place: sym.name for place, sym in choice.symbols.items()} == {("x", 1): "L_x"}
    assert choice.rows == 4
    assert sizes.refuse(choice, 4).rows == 4
    assert sizes.choose(4, fed(4, 5)).pattern is None


def test_the_lone_open_size_that_follows_the_batch_is_the_batch() -> None:
    fluid.data("steps", [7, None, 2])
    fluid.data("labels", [None, 1])
    sizes = Sizes(fluid.default_main_program())
    for rows in (2, 3, 4):
        choice = sizes.choose(rows, {"steps": np.zeros((7, rows, 2)), "labels": np.zeros((rows, 1))})
    assert {place: sym.name for place, sym in choice.symbols.items()} == {("steps", 1): "N"}
    assert choice.rows == 0


def test_in_a_private_program_only_the_batch_is_open() -> None:
    x = fluid.data("x", [None, 3])
    loss = layers.mean(layers.fc(x, 1))
    fluid.optimizer.Dpsgd(0.1, clip=1.0, batch_size=4.0, sigma=1.0).minimize(loss)
    sizes = Sizes(fluid.default_main_program())
    choices = [sizes.choose(rows, {"x": np.zeros((rows, 3))}) for rows in (4, 5, 6)]
    assert all(choice.rows == 0 and not choice.symbols for choice in choices)
