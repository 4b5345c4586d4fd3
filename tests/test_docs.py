"""The documents say what is true: links, commands, code, IR and the sentences that must not change."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from imports import ROOT
from small_modules import private_mlp

from fluidc.compiler.ir.core import Module
from fluidc.compiler.ir.parser import parse
from fluidc.compiler.ir.printer import to_text
from fluidc.compiler.ir.stage import Stage
from fluidc.compiler.ops import OPSET
from fluidc.compiler.passes.manager import run_passes
from fluidc.compiler.pipeline import PASSES, pipeline
from fluidc.runtime.limits import ADJACENCIES

DOCUMENTS = sorted(
    [*(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")), *(ROOT / "docs").rglob("*.md")]
)
IDS = [str(path.relative_to(ROOT)) for path in DOCUMENTS]


def blocks(path: Path, language: str | None = None) -> list[tuple[str, str]]:
    """(info string, text) of the fenced blocks of a document."""
    found = re.findall(r"^```([^\n]*)\n(.*?)^```$", path.read_text(), re.M | re.S)
    return [(info, text) for info, text in found if language is None or info.split(" ")[0] == language]


def prose(path: Path) -> str:
    """A document without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.M | re.S)


def links(path: Path) -> list[str]:
    """Where a document links to, the web left out."""
    return [target for target in re.findall(r"\]\(([^)]+)\)", prose(path)) if not target.startswith("https://")]


def anchors(path: Path) -> set[str]:
    """The anchors that are made of the headings."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", prose(path), re.M):
        kept = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower())
        found.add(kept.replace(" ", "-"))
    return found


# Links ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", DOCUMENTS, ids=IDS)
def test_links_lead_somewhere(path: Path) -> None:
    for target in links(path):
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        assert file.exists(), f"{path.name} links to {target}"
        assert file.is_relative_to(ROOT), f"{path.name} links out of the repository: {target}"
        if anchor:
            assert anchor in anchors(file), f"{path.name} links to {target}; the headings are {sorted(anchors(file))}"


def test_every_document_can_be_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    todo = [ROOT / "README.md"]
    while todo:
        path = todo.pop()
        if path in reached or path.suffix != ".md":
            continue
        reached.add(path)
        todo += [(path.parent / target.partition("#")[0]).resolve() for target in links(path)]
    assert reached == set(DOCUMENTS)


def test_every_decision_is_listed_once() -> None:
    index = (ROOT / "docs" / "adr" / "README.md").read_text()
    files = sorted(path for path in (ROOT / "docs" / "adr").glob("[0-9]*.md"))
    for number, path in enumerate(files, 1):
        title = path.read_text().splitlines()[0]
        assert title.startswith(f"# {number}. "), path
        assert f"{number}. [{title.removeprefix(f'# {number}. ')}]({path.name})" in index, path


def test_the_file_map_names_folders_that_exist() -> None:
    text = (ROOT / "README.md").read_text()
    rows = re.findall(r"^\| `([\w/]+/)` \|", text, re.M)
    assert len(rows) > 10
    for name in rows:
        assert (ROOT / name).is_dir(), name
    code = {f"{p.parent.relative_to(ROOT)}/" for room in ("compiler", "frontend", "runtime") for p in room_files(room)}
    assert code - {"compiler/"} <= set(rows), "a folder of code is not in the file map"


def room_files(room: str) -> list[Path]:
    return list((ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=IDS)
def test_files_named_in_prose_exist(path: Path) -> None:
    """``compiler/driver.py`` in backticks is a file; short names are relative to a room or the compiler."""
    for name in re.findall(r"`((?:\w+/)+\w+\.py)`", path.read_text()):
        places = [ROOT / name, ROOT / "compiler" / name, ROOT / "compiler" / "codegen" / name]
        assert any(place.exists() for place in places), f"{path.name} names {name}"


# Commands ---------------------------------------------------------------------------------------------------


def command_lines() -> list[tuple[str, str]]:
    """Every command of fluidc or make in a fenced block or in backticks: (document, command)."""
    found: list[tuple[str, str]] = []
    for path, name in zip(DOCUMENTS, IDS, strict=True):
        lines = [line for info, text in blocks(path) if info in ("", "console") for line in text.splitlines()]
        lines += re.findall(r"`((?:fluidc|make) [^`]+)`", path.read_text())
        for line in lines:
            command = line.strip().removeprefix("$ ").split(" #")[0].strip()
            if command.startswith(("fluidc ", "make ")):
                found.append((name, command))
    return found


@cache
def help_of(command: tuple[str, ...]) -> str:
    run = subprocess.run(
        [sys.executable, "-m", "fluidc.frontend.cli", *command, "--help"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.mark.parametrize(("document", "line"), sorted(set(command_lines())))
def test_commands_exist(document: str, line: str) -> None:
    words = shlex.split(line)
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
        assert words[1] in targets, f"{document}: {line}"
        return
    words = words[1 : words.index("--")] if "--" in words else words[1:]
    path = tuple(words[:2]) if words[0] in ("privacy", "data") and len(words) > 1 else tuple(words[:1])
    told = help_of(path)
    for option in (word.partition("=")[0] for word in words if word.startswith("-") and word != "-"):
        assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", told), f"{document}: {line} ({option})"


def test_there_are_commands_to_check() -> None:
    shown = {line.split()[1] for _, line in command_lines() if line.startswith("fluidc ")}
    assert {"compile", "run", "predict", "inspect", "dump", "opt", "ops", "privacy"} <= shown


# Code -------------------------------------------------------------------------------------------------------


def readme_example(holds: str) -> str:
    """The one block of Python in the README that holds a text."""
    (source,) = (text for _, text in blocks(ROOT / "README.md", "python") if holds in text)
    return source


def test_the_readme_example_of_dygraph_runs(tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text(readme_example("saved/net"))
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert {file.name for file in (tmp_path / "saved").iterdir()} == {"net.pdparams", "net.pdopt"}


def test_the_readme_example_of_private_dygraph_runs(tmp_path: Path) -> None:
    source = readme_example("fluid.dygraph.to_variable(lot)")
    changed = source.replace(".guard()", '.guard(target="reference")')
    assert changed != source
    script = tmp_path / "example.py"
    script.write_text(changed)
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert re.fullmatch(r"ε = \d\.\d\d \(δ = 1e-5\) after 50 of 50 steps", run.stdout.strip())


@pytest.mark.filterwarnings("default")
def test_the_readme_example_runs(tmp_path: Path) -> None:
    """On the reference target: it is the program that is shown here, not the speed."""
    source = readme_example("fluid.privacy.spent")
    lines = [line for line in source.splitlines() if line and not line.startswith("import")]
    assert len(lines) <= 13, "the README promises twelve lines"
    script = tmp_path / "example.py"
    changed = source.replace("fluid.CPUPlace())", 'fluid.CPUPlace(), target="reference")')
    assert changed != source
    script.write_text(changed)
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "ε = 3.00 (δ = 1e-5) after 50 of 50 steps"
    assert run.stdout.strip() in (ROOT / "README.md").read_text()


@pytest.mark.filterwarnings("default")
def test_the_readme_layers_train(tmp_path: Path) -> None:
    source = readme_example("class Net(fluid.Layer)")
    script = tmp_path / "layers.py"
    changed = source.replace("with guard():", 'with guard(target="reference"):')
    assert changed != source
    script.write_text("import numpy\nnumpy.random.seed(0)\n" + changed)
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    loss, _, state = run.stdout.replace("[", "]").split("]")
    assert float(loss) < 0.3
    assert state.split()[:3] == ["conv.weight", "conv.bias", "norm.weight"]


# The IR -----------------------------------------------------------------------------------------------------


@cache
def stages() -> dict[str, set[str]]:
    """The lines of the worked example's module after every pass, by stage."""
    module = private_mlp()
    lines: dict[str, set[str]] = {str(stage): set() for stage in Stage}

    def observe(number: int, name: str, current: Module) -> None:
        lines[str(current.stage)].update(line.strip() for line in to_text(current).splitlines())

    run_passes(module, pipeline(module, batch=16), observe=observe)
    return lines


def ir_blocks() -> list[Any]:
    found = blocks(ROOT / "docs" / "ir.md", "ir")
    return [pytest.param(info.split(" ")[1], text, id=f"{n}-{info}") for n, (info, text) in enumerate(found)]


@pytest.mark.parametrize(("stage", "text"), ir_blocks())
def test_the_ir_shown_is_what_the_compiler_prints(stage: str, text: str) -> None:
    missing = [line for line in map(str.strip, text.splitlines()) if line != "..." and line not in stages()[stage]]
    assert not missing, "\n".join(missing)


def test_the_whole_module_shown_parses() -> None:
    text = next(text for info, text in blocks(ROOT / "docs" / "ir.md", "ir") if info == "ir captured")
    assert to_text(parse(text, OPSET)) == text


def test_every_stage_is_shown() -> None:
    assert {info.split(" ")[1] for info, _ in blocks(ROOT / "docs" / "ir.md", "ir")} >= {
        "captured", "core", "grad", "private", "target",
    }  # fmt: skip


def test_the_passes_named_are_the_pipeline() -> None:
    """The table of stages names every pass of both routes."""
    text = (ROOT / "docs" / "ir.md").read_text()
    table = text[text.index("## Stages") : text.index("## Text")]
    for each in PASSES:
        assert re.search(rf"\b{each.name}\b", table), each.name


# Privacy ----------------------------------------------------------------------------------------------------


def flat(path: Path) -> str:
    """The text with quotes' marks and line ends taken out."""
    return re.sub(r"\s+", " ", re.sub(r"^> ?", "", path.read_text(), flags=re.M))


@pytest.mark.parametrize(
    "sentence",
    [
        "float mode is private in the real-number model; a bit-level adversary needs `discrete`",
        "The ledger protects against mistakes and crashes. It cannot detect that a directory was copied or restored "
        "from a backup and trained twice, nor other artifacts trained on the same data; the joint release then costs "
        "the composition of all runs.",
    ],
)
def test_sentences_that_must_stand(sentence: str) -> None:
    assert sentence in flat(ROOT / "docs" / "privacy.md")


@pytest.mark.parametrize("name", ["docs/privacy.md", "docs/artifact.md"])
def test_samplers_and_adjacencies_are_those_of_the_code(name: str) -> None:
    shown: dict[str, tuple[str, ...]] = {}
    for samplers, adjacencies in re.findall(
        r"^\| ((?:`\w+`[^|]*)+) \| ((?:`[\w-]+`[^|]*)+)\|", (ROOT / name).read_text(), re.M
    ):
        for sampler in re.findall(r"`(\w+)`", samplers):
            shown[sampler] = tuple(re.findall(r"`([\w-]+)`", adjacencies))
    code = dict(ADJACENCIES)
    assert {sampler: shown[sampler] for sampler in code} == code


# Figures ----------------------------------------------------------------------------------------------------


def test_the_table_of_steps_is_that_of_the_results() -> None:
    run = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "readme_table.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
