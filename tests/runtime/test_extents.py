from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fluidc.runtime.extents import Combined, Fed, Fixed, Rule

FEEDS: dict[str, Any] = {"a": np.array([2, 0, 3]), "b": np.array([[1], [4], [0]], np.int32), "x y": np.array([1, 1, 2])}
FEEDS["ascending"] = np.array([0, 0, 3, 7])


@pytest.mark.parametrize(
    ("text", "size", "feeds"),
    [
        ("max(a)", 3, ("a",)),
        ("sum(a)", 5, ("a",)),
        ("count(b)", 3, ("b",)),
        ('max(add(a, "x y"))', 5, ("a", "x y")),
        ("sum(mul(a, b))", 2, ("a", "b")),
        ("sum(mul(a, 3))", 15, ("a",)),
        ("sum(div(mul(a, 4), 2))", 10, ("a",)),
        ("max(repeat(a, b))", 2, ("a", "b")),  # the longest is left out
        ("sum(repeat(a, b))", 2, ("a", "b")),
        ("count(repeat(a, b))", 5, ("a", "b")),
        ("sum(repeat(7, b))", 35, ("b",)),
        ("max(mul(a, 0))", 1, ("a",)),
        ("max(9)", 9, ()),
        ("sum([4, 0, 2])", 6, ()),
        ("max(add(a, [1, 9, 0]))", 9, ("a",)),
        ("max(a) <= 3", 3, ("a",)),
        ("sum(rows(b))", 3, ("b",)),
        ('sum(mul(rows("x y"), 2))', 6, ("x y",)),
        ("sum(between(ascending))", 7, ("ascending",)),
        ("max(within(a, 3))", 3, ("a",)),
        ("sum(divide([3, 2], a))", 5, ("a",)),
        ("count(divide([1, 2], rows(b)))", 2, ("b",)),
    ],
)
def test_rules(text: str, size: int, feeds: tuple[str, ...]) -> None:
    rule = Rule.parse(text)
    assert (rule.at(FEEDS), rule.feeds, str(rule)) == (size, feeds, text)


def test_a_feed_may_have_the_name_of_a_combination() -> None:
    rule = Rule("sum", Combined("repeat", Fed("repeat"), Fed("max")))
    assert str(rule) == "sum(repeat(repeat, max))"
    assert Rule.parse(str(rule)) == rule
    assert rule.at({"repeat": np.array([5]), "max": np.array([2])}) == 10


def test_odd_names_are_quoted() -> None:
    rule = Rule("max", Combined("add", Fed('a"b, c)'), Fixed(1)))
    assert str(rule) == 'max(add("a\\"b, c)", 1))'
    assert Rule.parse(str(rule)) == rule


@pytest.mark.parametrize(
    "text",
    [
        "", "max", "max(", "max()", "max(a", "max(a))", "least(a)", "max(add(a))", "max(add(a, b, c))", "max(a) b",
        "max(a) <=", "max(a) <= b", "max(a) <= 3 4", "max([])", "max([1)", "max([1, a])",
        "rows(a)", "max(rows(3))", "max(rows(add(a, b)))", "max(between([0, 1]))", "max(within(a))",
        "(a)", "max(-1)", "max(1.5)", "sum(mul(a b))", 'max("a)', 'max("\\q")', "max(a, b)",
    ],
)  # fmt: skip
def test_other_text_is_no_rule(text: str) -> None:
    with pytest.raises(ValueError):
        Rule.parse(text)


def test_a_deep_rule_is_refused_before_it_is_followed() -> None:
    with pytest.raises(ValueError, match="too many parts"):
        Rule.parse("max(" + "add(1, " * 5000 + "1" + ")" * 5001)


@pytest.mark.parametrize(
    ("text", "feeds", "what"),
    [
        ("sum(add(a, b))", {"a": np.array([1, 2]), "b": np.array([1, 2, 3])}, "of 2 and 3 numbers"),
        ("sum(a)", {"a": np.array([1, -2])}, "it is -1, which is no size"),
        ("sum(a)", {"a": np.array([1 << 40])}, "which is no size"),
        ("sum(div(a, b))", {"a": np.array([1]), "b": np.array([0])}, "div(a, b) is not whole"),
        ("sum(div(a, 2))", {"a": np.array([4, 3])}, "div(a, 2) is not whole"),
        ("max(a) <= 3", {"a": np.array([4, 3])}, "it is 4, and the program has room for 3"),
        ("count(repeat(a, b))", {"a": np.array([1, 1]), "b": np.array([-1, 2])}, "repeats -1 to 1 times"),
        ("count(repeat(a, b))", {"a": np.array([1]), "b": np.array([1 << 40])}, "repeats 0 to"),
        ("count(repeat(1, b))", {"b": np.array([1 << 62] * 4 + [3])}, "repeats 0 to"),
        ("sum(a)", {"a": np.array([1 << 62] * 4 + [3])}, "which is no size"),
        ("sum(a)", {"a": np.array([(1 << 64) - 1], np.uint64)}, "'a' holds"),
        ("sum(mul(a, 4294967296))", {"a": np.array([1 << 32])}, "of numbers up to 4294967296 and 4294967296"),
        ("sum(add(a, a))", {"a": np.array([1 << 62])}, "of numbers up to"),
        (
            "max(within(a, b))",
            {"a": np.array([2, 1]), "b": np.array([1, 1])},
            "a is [2, 1], and not within 0 and [1, 1]",
        ),
        ("max(within(a, 2))", {"a": np.array([-1, 1])}, "and not within 0 and 2"),
        ("sum(divide([2, 3], rows(a)))", {"a": np.zeros((6, 2))}, "the parts [2, 3] add up to 5, and not to 6"),
        ("sum(between(a))", {"a": np.array([0, 3, 2])}, "[0, 3, 2] do not ascend from 0"),
        ("sum(between(a))", {"a": np.array([1, 3])}, "[1, 3] do not ascend from 0"),
    ],
)
def test_numbers_that_give_no_size(text: str, feeds: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        Rule.parse(text).at(feeds)
    assert what in str(caught.value)


def test_a_missing_feed_is_named() -> None:
    with pytest.raises(KeyError, match="c"):
        Rule.parse("max(c)").at(FEEDS)
