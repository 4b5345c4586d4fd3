"""Damaged text is refused with a ParseError, never with an error from inside the compiler."""

from __future__ import annotations

import contextlib
from itertools import pairwise

import pytest
from graphs import modules
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fluidc.compiler.errors import ParseError
from fluidc.compiler.ir.core import Module
from fluidc.compiler.ir.lexer import Source, tokenise
from fluidc.compiler.ir.parser import parse
from fluidc.compiler.ir.printer import to_text
from fluidc.compiler.ops import OPSET

slow = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def read(text: str) -> None:
    with contextlib.suppress(ParseError):
        parse(text, OPSET)


def tokens(text: str) -> list[tuple[int, int]]:
    """Where every token starts and ends (up to the next one)."""
    starts = [token.offset for token in tokenise(Source(text, "text"))]
    return list(pairwise(starts))


@given(modules(composites=True, backward=True, most=4), st.data())
@slow
def test_tokens_lost_moved_and_doubled(module: Module, data: st.DataObject) -> None:
    text = to_text(module)
    places = tokens(text)
    for _ in range(20):
        (a, b), (c, d) = data.draw(st.sampled_from(places)), data.draw(st.sampled_from(places))
        other = text[c:d]
        read(text[:a] + data.draw(st.sampled_from(["", other, text[a:b] * 2, "3 ", "-1", "1.5 ", "(N,) "])) + text[b:])


@given(modules(most=3), st.data())
@slow
def test_cut_anywhere(module: Module, data: st.DataObject) -> None:
    text = to_text(module)
    end = data.draw(st.integers(0, len(text) - 3))
    with pytest.raises(ParseError) as caught:
        parse(text[:end], OPSET)
    assert caught.value.where is not None
    assert caught.value.where.startswith("text:")


@given(st.text(max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_text(text: str) -> None:
    read(text)
    read("module {stage = core} { func @f() { " + text + " return } }")
