"""dump, opt and ops: the compiler seen from outside."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fluidc.compiler.ir.parser import parse
from fluidc.compiler.ir.printer import to_text
from fluidc.compiler.ops import OPSET
from fluidc.frontend.cli import main
from fluidc.frontend.lower.onnx import FAMILIES
from fluidc.runtime.artifact import Artifact

ROOT = Path(__file__).parents[2]
EXAMPLES = [f"examples/{name}.py" for name in ("dpsgd_minimal", "fit_a_line", "rnn_digits", "sequence_pool")]
EXAMPLES += ["examples/digits.py", "examples/digits.py:plain"]
STAGES = ("captured", "core", "grad", "private", "update", "target")


def fluidc(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="fluidc")


def out(*arguments: object) -> str:
    result = fluidc(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script of Paddle's documentation, compiled."""
    path = tmp_path_factory.mktemp("artifact") / "minimal.fluidc"
    out("compile", ROOT / "examples/dpsgd_minimal.py", "-o", path, "--target", "reference")
    return path


@pytest.mark.parametrize("example", EXAMPLES)
def test_opt_makes_every_later_stage_of_a_captured_file(example: str, tmp_path: Path) -> None:
    path, ir = tmp_path / "a.fluidc", tmp_path / "ir"
    out("compile", ROOT / example, "-o", path, "--target", "reference", "--dump-ir", ir)
    stored = Artifact.read(path).ir
    assert tuple(stored) == STAGES
    for stage, text in stored.items():
        assert to_text(parse(text, OPSET)) == text, stage
        assert out("opt", ir / "00-input.ir", "--to", stage) == text, stage
        assert out("dump", path, "--stage", stage) == text, stage
    assert "grad.backward" in stored["captured"]
    assert "grad.use" in stored["grad"]


def test_dump_prints_every_stage_of_a_script() -> None:
    for stage in STAGES:
        text = out("dump", ROOT / "examples/dpsgd_minimal.py", "--stage", stage)
        assert text.startswith(f"module {{stage = {stage}}}"), stage
        printed = to_text(parse(text, OPSET))
        assert text.startswith(printed), stage
        behind = text.removeprefix(printed).splitlines()
        assert all(not line or line.startswith("// ") for line in behind), "kernels are comments"
        assert bool(behind) == (stage == "target")
        assert "f32[N,10]" in text, "without --batch the batch stays a symbol"


@pytest.mark.parametrize("example", EXAMPLES)
def test_dump_of_a_script_at_its_last_stage(example: str) -> None:
    text = out("dump", ROOT / example, "--stage", "target", "--batch", 32)
    assert text.startswith("module {stage = target}")
    assert "// kernels of step: " in text


def test_opt_goes_on_from_any_stage(artifact: Path, tmp_path: Path) -> None:
    stored = Artifact.read(artifact).ir
    for stage in STAGES[:-1]:
        file = tmp_path / f"{stage}.ir"
        out("dump", artifact, "--stage", stage, "-o", file)
        assert out("opt", file, "--to", "target") == stored["target"], stage


def test_opt_with_single_passes(artifact: Path, tmp_path: Path) -> None:
    file = tmp_path / "core.ir"
    out("dump", artifact, "--stage", "core", "-o", file)
    text = file.read_text()
    assert out("opt", file) == text, "no pass: checked and printed"
    sized = out("opt", file, "-p", "fold,specialise{batch=16}", "-o", tmp_path / "sized.ir")
    assert sized == ""
    sized = (tmp_path / "sized.ir").read_text()
    assert "[16,1]" in sized
    assert "[N,1]" not in sized.split("func @infer")[0]
    assert out("opt", file, "-p", "cse", "-p", "dce", "--to", "grad").startswith("module {stage = grad}")


def test_opt_batch(artifact: Path, tmp_path: Path) -> None:
    file = tmp_path / "captured.ir"
    out("dump", artifact, "--stage", "captured", "-o", file)
    assert "mask %mask: bool[48]" in out("opt", file, "--to", "target", "--batch", "48")


def test_dump_of_one_function(artifact: Path) -> None:
    text = out("dump", artifact, "--stage", "target", "--function", "apply")
    assert re.findall(r"func @(\w+)", text) == ["apply"]
    wrong = fluidc("dump", artifact, "--function", "nope")
    assert wrong.exit_code == 2
    assert "there are startup, step, infer" in wrong.stderr


def test_dump_json(artifact: Path) -> None:
    module = json.loads(out("dump", artifact, "--stage", "private", "--format", "json"))
    text = Artifact.read(artifact).ir["private"]
    assert module["stage"] == "private"
    assert [s["name"] for s in module["state"]] == re.findall(r"state @([\w.]+) :", text)
    step = next(f for f in module["functions"] if f["name"] == "step")
    body = text.split("func @step")[1].split("func @")[0]
    assert [op["line"] for op in step["ops"]] == [
        line.strip() for line in body.splitlines()[1:] if line.strip() and not line.strip().startswith(("return", "}"))
    ]
    made = {p["value"] for p in step["params"]}
    for op in step["ops"]:
        assert made.issuperset(op["operands"]), op["line"]
        made.update(result["name"] for result in op["results"])
    clipped = [r for op in step["ops"] for r in op["results"] if (r["label"] or "").startswith("clipped")]
    assert {r["label"] for r in clipped} == {"clipped<%c>"}


def test_dump_json_with_regions() -> None:
    module = json.loads(out("dump", ROOT / "examples/rnn_digits.py", "--format", "json", "--function", "step"))
    (scan,) = [op for op in module["functions"][0]["ops"] if op["op"] == "control.scan"]
    (region,) = scan["regions"]
    assert any(op["op"] == "linear.matmul" for op in region["ops"])
    assert region["params"]


def test_dump_dot(artifact: Path) -> None:
    text = out("dump", artifact, "--stage", "core", "--format", "dot", "--function", "step")
    nodes = set(re.findall(r"^    (f0[por]\d+) \[label=", text, re.MULTILINE))
    edges = re.findall(r"^    (f0\w+) -> (f0\w+)", text, re.MULTILINE)
    assert edges
    assert nodes.issuperset(end for edge in edges for end in edge)
    assert text.count("{") == text.count("}")


def test_dump_html_is_one_page_with_all_stages(artifact: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert out("dump", artifact, "--stage", "core", "--format", "html", "-o", page) == ""
    text = page.read_text()
    for stage in STAGES:
        assert f"<h2>{stage}</h2>" in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", ""), "nothing is loaded from elsewhere"
    assert "%fc_0.w_0 = linear.matmul" not in text
    assert "linear.matmul(%X, %fc_0.w_0)" in text
    assert re.search(r'<span data-at="dpsgd_minimal.py:\d+ fc">', text)
    assert re.search(r'<g data-at="dpsgd_minimal.py:\d+ fc">', text)


def test_dump_refuses_what_is_neither(tmp_path: Path) -> None:
    other = tmp_path / "notes.txt"
    other.write_text("not an artifact")
    result = fluidc("dump", other)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: this is no artifact")
    assert fluidc("dump", tmp_path / "nothing.fluidc").exit_code == 2


def test_ops() -> None:
    table = out("ops")
    assert len(table.splitlines()) == len(OPSET) + 1
    (row,) = [line for line in table.splitlines() if line.startswith("linear.matmul ")]
    path, line = row.split()[-1].split(":")
    assert "class MatMul" in "".join((ROOT / path).read_text().splitlines()[int(line) - 1 : int(line) + 1])
    assert {line.split(".")[0] for line in out("ops", "linear").splitlines()[1:]} == {"linear"}
    assert fluidc("ops", "nope").exit_code == 2


def test_operators_of_onnx() -> None:
    told = out("ops", "--onnx")
    assert f"{sum(map(len, FAMILIES.values()))} ONNX ops can be imported" in told
    assert re.search(r"conv: .*Conv, ConvTranspose", told)
    reasons = out("ops", "--onnx", "--reasons")
    assert reasons.startswith(told)
    assert re.search(r"Loop, Scan: nested graphs are not imported", reasons)


def test_ops_reasons_and_coverage() -> None:
    told = out("ops", "linear", "--reasons")
    assert "compiler/ops/linear.py:" in told
    assert re.search(r"evaluate +\d+ of the \d+", out("ops", "--rules"))
    counted = out("ops", "--coverage")
    assert re.search(r"^fluid\.layers +356 +\d+ ", counted, re.M)
    assert re.search(r"^fluid\.optimizer +31 +31 +100\.0% +417 +100\.0%", counted, re.M)
    assert "-v lists every name" in counted
    assert re.search(r"^  fluid\.dygraph: .*TreeConv", out("ops", "--coverage", "-v"), re.M)


@pytest.mark.parametrize(
    ("family", "says"),
    [
        ("fc", "fluid.layers.fc is a layer, which is lowered to several ops"),
        ("convolution", "did you mean conv?"),
        ("lineer", "did you mean linear?"),
        ("zzz", "there is no family 'zzz'; use one of"),
    ],
)
def test_a_family_of_ops_that_there_is_not(family: str, says: str) -> None:
    done = CliRunner().invoke(main, ["ops", family], prog_name="fluidc")
    assert done.exit_code == 2
    assert says in done.stderr
