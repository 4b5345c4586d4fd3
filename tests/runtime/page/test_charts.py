"""Curves and bars: where points lie, and what is told of them."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from fluidc.runtime.page.charts import Mark, Series, bar_chart, curve_chart, short, thinned, ticks

SVG = "{http://www.w3.org/2000/svg}"


def svg(figure: str) -> ElementTree.Element:
    return ElementTree.fromstring(figure[figure.index("<svg") : figure.index("</svg>") + 6])


def test_a_curve_goes_through_its_points() -> None:
    drawing = svg(curve_chart("loss", [Series("loss", [(0, 0.0), (5, 1.0), (10, 4.0)])], "step"))
    line = drawing.find(f"{SVG}polyline")
    assert line is not None
    (x0, y0), (x1, y1), (x2, y2) = (map(float, point.split(",")) for point in line.attrib["points"].split())
    assert x1 - x0 == pytest.approx(x2 - x1)
    assert (y1 - y2) == pytest.approx(3 * (y0 - y1), abs=0.2)
    told = ["".join(text.itertext()) for text in drawing.iter(f"{SVG}text") if text.get("class") == "tip"]
    assert told == ["step 00", "step 51", "step 104"]
    assert drawing.attrib["aria-label"] == "loss: loss from 0 at 0 to 4 at 10 step"


@pytest.mark.parametrize("values", [[1.0], [1.0, 1.0], [0.0, 0.0], [-3.0, -3.0], [1e300, -1e300], [1e-300, 3e-300]])
def test_flat_and_extreme_curves_are_drawn(values: list[float]) -> None:
    drawing = svg(curve_chart("c", [Series("c", list(enumerate(values)))], "step"))
    for element in drawing.iter():
        for name in ("x", "y", "cx", "cy", "x1", "x2", "y1", "y2", "width", "height"):
            if name in element.attrib:
                assert -20 <= float(element.attrib[name]) <= 500, (element.tag, element.attrib)


def test_what_is_not_finite_is_left_out() -> None:
    points = [(0.0, 1.0), (1.0, math.nan), (2.0, math.inf), (3.0, 2.0)]
    assert thinned(points) == [(0.0, 1.0), (3.0, 2.0)]
    assert curve_chart("c", [Series("c", [(0.0, math.nan)])], "step") == ""
    many = thinned([(float(x), 0.0) for x in range(10_000)])
    assert (len(many), many[0][0], many[-1][0]) == (300, 0, 9999)


def test_names_are_text() -> None:
    figure = curve_chart("<b>", [Series("<i>", [(0, 1)]), Series('"', [(0, 2)])], "<s>", mark=Mark(0, 1, "<u>"))
    figure += bar_chart("<b>", [("<i>", "<s>", 3)], "<u>", "<p>")
    assert not re.search(r"<(b|i|s|u|p)>", figure)
    svg(figure)


def test_bars_are_as_high_as_what_they_count() -> None:
    drawing = svg(bar_chart("times", [("0", "none", 0), ("1", "two", 2), ("", "four", 4)], "time", "steps"))
    heights = [float(e.attrib["height"]) for e in drawing.iter(f"{SVG}rect") if e.get("class") == "bar"]
    assert heights[0] == 0
    assert heights[2] == pytest.approx(2 * heights[1], abs=0.2)
    assert bar_chart("times", [], "time", "steps") == ""


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.03, 1.9), (-5, 17), (1e-9, 2e-9), (0, 0), (1e6, 1e6 + 3)])
def test_ticks_are_round_and_cover(low: float, high: float) -> None:
    found = ticks(low, high, 5)
    assert found[0] <= low
    assert found[-1] >= high
    assert 2 <= len(found) <= 9
    steps = {round((b - a) / (found[1] - found[0]), 6) for a, b in pairwise(found)}
    assert steps == {1.0}
    assert all(len(short(each)) < 12 for each in found)
