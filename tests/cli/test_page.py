"""The report of a run in a browser: laid out, readable, still, and without a request to anywhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Browser, find_browser
from linear_engine import LinearEngine, linear_artifact, linear_data
from manifests import POISSON

from fluidc.runtime import commands
from fluidc.runtime.artifact import Artifact, PrivacySpec
from fluidc.runtime.commands import RunArguments
from fluidc.runtime.observe import History, StepTimes
from fluidc.runtime.page.html import Details, Section, page
from fluidc.runtime.page.layers import LayerGraph, Node
from fluidc.runtime.report import RunReport

PRIVATE = replace(POISSON, clip=0.7, lot=8.0, sigma=0.5, q_num=1 << 29)
EVIL = '<script>document.title="broken"</script><img src=x onerror=alert(1)>"\'&'
IR = """module {stage = captured} {
  state @w : f32[3,1] {role=parameter, trainable=true}
  func @step(feed "x" %x: f32[N,3], feed "y" %y: f32[N,1]) {
    %w = state.read @w : f32[3,1] loc(train.py:3 fc)
    %fc_0.tmp_0 = linear.matmul(%x, %w) : f32[N,1] loc(train.py:3 fc)
    %0 = elementwise.sub(%fc_0.tmp_0, %y) : f32[N,1] loc(train.py:4 square_error_cost)
    %1 = reduce.mean(%0) {axes=(0, 1)} : f32[] loc(train.py:5 mean)
    %w_GRAD = grad.backward([%1], [%w], [], []) {private=true} : f32[3,1] loc(train.py:6 minimize)
    %w#1 = optim.sgd(%w, %w_GRAD, %w) : f32[3,1] loc(train.py:6 minimize)
    state.write @w, %w#1
    return "loss" = %1
  }
}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium is installed")
    with Browser(program) as started:
        yield started


def report_of(folder: Path, spec: PrivacySpec | None, **more: Any) -> Path:
    artifact = linear_artifact(spec, None if spec is None else 16)
    path, data, report = folder / "linear.fluidc", folder / "data.npz", folder / "report.html"
    Artifact(artifact.manifest, {"captured": IR}, artifact.modules, artifact.state, artifact.proof).write(path)
    np.savez(data, **linear_data(90))  # pyright: ignore[reportArgumentType]
    arguments = replace(RunArguments(path, data, steps=60, report=report, evaluate=data), **more)
    assert commands.run(arguments, lambda *_: LinearEngine(spec)) == 0
    return report


@pytest.fixture(scope="module")
def private_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report_of(tmp_path_factory.mktemp("private"), PRIVATE)


@pytest.fixture(scope="module")
def plain_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report_of(tmp_path_factory.mktemp("plain"), None)


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every text that comes from outside is markup."""
    history = History()
    history.not_private = frozenset({EVIL})
    graph = LayerGraph([Node("feed", EVIL, EVIL, EVIL, [EVIL], [EVIL]), Node("layer", EVIL)], {(0, 1): [EVIL]})
    report = RunReport(
        EVIL,
        EVIL,
        EVIL,
        EVIL,
        ((EVIL, EVIL),),
        (EVIL,),
        ((EVIL, EVIL, EVIL),),
        ((10, 1.0), (20, 2.0)),
        (5, 0.5),
        "step",
    )
    details = Details(history, StepTimes(), None, graph, ((EVIL, EVIL, 3),), (Section(EVIL, ((EVIL, EVIL),)),), (EVIL,))
    path = tmp_path_factory.mktemp("hostile") / "report.html"
    path.write_text(page(report, details))
    return path


PAGES = ("private_page", "plain_page", "hostile_page")


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [400, 1400])
def test_a_page_is_still_and_fits(name: str, width: int, browser: Browser, request: pytest.FixtureRequest) -> None:
    path: Path = request.getfixturevalue(name)
    browser.open(path, width)
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.requests == [path.as_uri()]
    assert browser.complaints == []
    assert browser.value("document.title") != "broken"
    assert browser.value("document.scripts.length + document.images.length") == 0
    sizes = browser.value(
        "[...document.querySelectorAll('svg')].map(e => e.getBoundingClientRect()).map(r => [r.width, r.height])"
    )
    assert len(sizes) >= 2
    assert all(w > 150 and h > 60 for w, h in sizes), sizes
    # No text sticks out of its box in the graph, and none is cut off by the page.
    out = browser.value(
        "[...document.querySelectorAll('.graph g')].filter(g => { const r = g.querySelector('rect')."
        "getBoundingClientRect(); return [...g.querySelectorAll('text')].map(t => t.getBoundingClientRect())"
        ".some(b => b.left < r.left || b.right > r.right); }).map(g => g.textContent)"
    )
    assert out == [] or name == "hostile_page"


def luminance(colour: str) -> float:
    numbers = [float(part) for part in re.findall(r"[\d.]+", colour)][:3]
    linear = [v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in (n / 255 for n in numbers)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("dark", [False, True])
def test_texts_stand_out_from_what_they_stand_on(dark: bool, browser: Browser, private_page: Path) -> None:
    """4.5 to 1 at least, as WCAG 2 asks of texts."""
    browser.open(private_page, 1400, dark=dark)
    browser.value("document.querySelectorAll('details').forEach(d => d.open = true)")
    found = browser.value("""[...document.querySelectorAll('body *')].filter(e => [...e.childNodes].some(
      n => n.nodeType === 3 && n.data.trim()) && e.getClientRects().length && !e.classList.contains('tip')
      && !['TITLE', 'STYLE', 'title', 'tspan'].includes(e.tagName)).map(e => {
        const style = getComputedStyle(e), ink = e instanceof SVGElement ? style.fill : style.color;
        const box = e.closest('.graph g');
        if (box) return [ink, getComputedStyle(box.querySelector('rect')).fill, e.textContent];
        for (let under = e; under; under = under.parentElement) {
          const colour = getComputedStyle(under).backgroundColor;
          if (colour !== 'rgba(0, 0, 0, 0)') return [ink, colour, e.textContent];
        }
      })""")
    assert len(found) > 60
    for ink, paper, text in found:
        lighter, darker = sorted((luminance(ink), luminance(paper)), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (ink, paper, text)
    page_is_dark = luminance(browser.value("getComputedStyle(document.body).backgroundColor")) < 0.1
    assert page_is_dark == dark


def test_pointing_at_a_curve_shows_its_value(browser: Browser, private_page: Path) -> None:
    browser.open(private_page, 1400)
    x, y = browser.value(
        "(() => { const e = document.querySelector('figure svg'); e.scrollIntoView();"
        "const r = e.getBoundingClientRect(); return [r.x + r.width * 0.6, r.y + r.height * 0.5]; })()"
    )
    tips = "[...document.querySelectorAll('.tip')]"
    shown = f"{tips}.filter(e => getComputedStyle(e).opacity === '1').map(e => e.textContent)"
    assert browser.value(shown) == []
    browser.point_at(x, y)
    (told,) = browser.value(shown)
    assert re.match(r"step \d+", told)


def test_what_a_reader_looks_for_is_there(browser: Browser, private_page: Path, plain_page: Path) -> None:
    browser.open(private_page, 1400)
    text = browser.value("document.body.innerText")
    for part in (
        "linear.fluidc", "60 of 100 steps counted", "ε against steps counted", "loss (NOT PRIVATE)",
        "Time from step to step", "private gradients", "SHA-256", "fluidc run linear.fluidc --data data.npz --steps 60",
        "poisson", "numpy", "evaluation",
    ):  # fmt: skip
        assert part in text or part in browser.value("document.querySelector('.graph').textContent"), part
    browser.open(plain_page, 1400)
    text = browser.value("document.body.innerText")
    assert "NOT PRIVATE" not in text
    assert "examples/s" in text
    headings = browser.value("[...document.querySelectorAll('h1, h2')].map(e => e.textContent)")
    assert headings == ["linear.fluidc", "Curves", "Model", "Configuration", "Results"]
    names = browser.value("[...document.querySelectorAll('svg')].map(e => e.getAttribute('aria-label') || '')")
    assert all(names)


def test_a_page_can_be_printed(browser: Browser, private_page: Path) -> None:
    browser.open(private_page, 1000)
    printed = browser.pdf()
    assert printed.startswith(b"%PDF-")
    assert 1 <= printed.count(b"/Type /Page\n") <= 8


def test_a_private_page_holds_no_value_of_an_example(tmp_path: Path) -> None:
    text = report_of(tmp_path, PRIVATE, private_report=True, evaluate=None).read_text()
    for part in ("loss", "NOT PRIVATE", "Time from", "examples", "seed"):
        assert part not in re.sub(r"<style>.*?</style>|<svg class=\"graph\".*?</svg>", "", text, flags=re.S), part
    assert "ε against steps counted" in text
    assert "private gradients" in text
