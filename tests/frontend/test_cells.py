"""What the cells of recurrent nets refuse; their records and numbers are compared with Paddle's elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import fluidc.frontend as fluid
from fluidc.compiler.errors import LoweringError
from fluidc.frontend.framework import Program
from fluidc.frontend.lower import lower
from fluidc.runtime.errors import FluidcError

L: Any = fluid.layers


@pytest.fixture(autouse=True)
def program() -> Iterator[Program]:
    main = Program()
    with fluid.unique_name.guard(), fluid.program_guard(main, Program()):
        yield main


def rows(name: str, *shape: int) -> Any:
    return L.data(name, list(shape))


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a sequence for a step": (
        lambda: L.lstm_unit(rows("x", 3, 4), rows("h", 5), rows("c", 5)),
        "x_t x has shape [-1, 3, 4]",
    ),
    "states of two widths": (
        lambda: L.lstm_unit(rows("x", 4), rows("h", 5), rows("c", 6)),
        "hidden_t_prev has width 5 and cell_t_prev 6",
    ),
    "states of fixed rows": (
        lambda: L.lstm_unit(rows("x", 4), rows("h", 5), L.data("c", [3, 5], append_batch_size=False)),
        "x_t x has -1 rows and cell_t_prev c has 3",
    ),
    "a size that is no multiple of three": (
        lambda: L.gru_unit(rows("x", 10), rows("h", 3), 10),
        "size is 10",
    ),
    "unprojected inputs": (lambda: L.gru_unit(rows("x", 4), rows("h", 3), 9), "input x has shape [-1, 4], size is 9"),
    "another activation": (lambda: L.gru_unit(rows("x", 9), rows("h", 3), 9, activation="relu"), "'relu'"),
    "no width": (lambda: L.sequence_mask(L.data("n", [], dtype="int64"), maxlen=0), "maxlen is 0"),
    "lengths that are no integers": (lambda: L.sequence_mask(rows("n", 1), maxlen=3), "must hold int64 or int32"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what: str) -> None:
    build, message = REFUSED[what]
    with pytest.raises(FluidcError) as caught:
        build()
    assert message in str(caught.value)
    assert caught.value.where is not None
    assert __file__ in caught.value.where
    assert caught.value.hint


def test_random_numbers_in_a_loop_that_are_no_dropout(program: Program) -> None:
    """Masks of a StaticRNN are drawn before it; other draws must be written so."""
    x = L.transpose(rows("x", 4, 3), [1, 0, 2])
    rnn = L.StaticRNN()
    with rnn.step():
        row = rnn.step_input(x)
        before = rnn.memory(shape=[-1, 3], batch_ref=row)
        after = L.elementwise_add(row, L.elementwise_add(before, L.gaussian_random([3])))
        rnn.update_memory(before, after)
        rnn.step_output(after)
    with pytest.raises(LoweringError, match="random numbers inside a loop") as caught:
        lower(program, startup=None, fetches=(rnn().name,))
    assert caught.value.hint == "draw them before the block"
