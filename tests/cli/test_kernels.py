"""The kernels in `fluidc dump`."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fluidc.compiler.ir.parser import parse
from fluidc.compiler.ir.printer import to_text
from fluidc.compiler.ops import OPSET
from fluidc.frontend.cli import main
from fluidc.runtime.artifact import Artifact

SCRIPT = """
import fluidc.frontend as fluid

x, y = fluid.data("x", [None, 24]), fluid.data("y", [None, 1], dtype="int64")
hidden = fluid.layers.fc(x, 16, act="relu")
loss = fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(fluid.layers.fc(hidden, 3), y))
fluid.optimizer.SGD(0.1).minimize(loss)
"""

# The product, its bias and its activation; the update of the first weights.
FORWARD = """\
//    0 unary_relu  linear.matmul  mlp.py:5 fc
//        fuses      linear.matmul, elementwise.add, unary.relu
//        reads      x f32[32,24], fc_0.w_0 f32[24,16], fc_0.b_0 f32[16]
//        writes     #7 f32[32,16]
"""
UPDATE = re.compile(
    r"""//  +\d+ optim_sgd\d*  linear.matmul  mlp.py:5 fc
//        fuses      [^\n]*linear.matmul, optim.sgd
//        reads      x f32\[32,24\], [^\n]*, learning_rate_0 f32\[1\]
//        updates    fc_0.w_0 f32\[24,16\]
"""
)


def fluidc(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="fluidc")


def out(*arguments: object) -> str:
    result = fluidc(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kernels") / "mlp.py"
    path.write_text(SCRIPT)
    return path


@pytest.fixture(scope="module")
def artifact(script: Path) -> Path:
    path = script.with_suffix(".fluidc")
    out("compile", script, "-o", path, "--batch", 32)
    return path


def test_the_kernels_follow_the_program(script: Path) -> None:
    text = out("dump", script, "--stage", "target", "--batch", 32, "--function", "step")
    assert FORWARD in text
    assert "\n//        predicted  25.6 kflop, 4.67 kB read, 2.05 kB written, 3.81 flop/B\n" in text
    assert UPDATE.search(text), text
    assert re.search(r"^// all of step: .*flop, .* read, .* written", text, re.M)
    assert re.search(r"^// memory of step: .*B of intermediates, .*B at a time$", text, re.M)
    assert "kernels of infer" not in text
    module = to_text(parse(text, OPSET))
    assert text.startswith(module)
    assert len(text.splitlines()) > len(module.splitlines())


def test_symbolic_batches_give_expressions(script: Path) -> None:
    text = out("dump", script, "--stage", "target", "--function", "infer")
    assert "x f32[N,24]" in text
    assert "predicted  800*N flop, (96*N+1600) B read, 64*N B written, 4.81 flop/B at N = 256" in text
    assert re.search(r"^// memory of infer: .*N.* B of intermediates", text, re.M)


def test_an_artifact_shows_the_kernels_it_holds(script: Path, artifact: Path) -> None:
    """Without compiling: the table is read from the file."""
    text = out("dump", artifact, "--stage", "target", "--function", "step")
    assert FORWARD in text
    assert text == out("dump", script, "--stage", "target", "--batch", 32, "--function", "step")
    assert "// kernels" not in out("dump", artifact, "--stage", "update")


def test_the_kernels_as_data(script: Path, artifact: Path) -> None:
    data = json.loads(out("dump", artifact, "--stage", "target", "--format", "json"))
    table = Artifact.read(artifact).kernels
    assert table is not None
    assert data["kernels"] == json.loads(table.to_bytes())
    assert data["stage"] == "target"
    assert data["functions"]
    assert "kernels" not in json.loads(out("dump", artifact, "--format", "json"))
    step = json.loads(out("dump", artifact, "--stage", "target", "--format", "json", "--function", "step"))
    assert [function["name"] for function in step["kernels"]["functions"]] == ["step"]


def test_the_kernels_on_the_page(artifact: Path) -> None:
    page = out("dump", artifact, "--stage", "target", "--format", "html")
    assert "<h2>Kernels of step for cpu" in page
    assert re.search(r'<tr data-at="mlp.py:5 fc"><td>unary_relu</td><td>linear.matmul, elementwise.add', page)
    assert "fc_0.w_0 f32[24,16] in place" in page
    assert "<h2>Kernels" not in out("dump", artifact, "--stage", "update", "--format", "html")


def test_opt_goes_on_from_a_text_with_kernels(script: Path, tmp_path: Path) -> None:
    file = tmp_path / "target.ir"
    out("dump", script, "--stage", "target", "-o", file)
    assert "// kernels of step" in file.read_text()
    assert file.read_text().startswith(out("opt", file, "-p", "dce"))


def test_a_program_that_cpu_cannot_take_is_shown_without_kernels(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fluidc.compiler.codegen.tvm import build
    from fluidc.compiler.errors import TargetError

    def refuse(*_: object) -> None:
        raise TargetError("linear.matmul has no rule")

    monkeypatch.setattr(build, "kernel_table", refuse)
    text = out("dump", script, "--stage", "target")
    assert text.endswith("}\n\n// no kernels: linear.matmul has no rule\n")


def test_kernels_for_a_chip_tell_the_least_time(script: Path) -> None:
    text = out("dump", script, "--arch", "sm_80", "--batch", 64)
    assert "for cuda sm_80" in text
    kernels = [line for line in text.splitlines() if "predicted" in line]
    assert kernels
    assert all(re.search(r"at least \d+\.\d µs \((arithmetic|memory|launch)\)", line) for line in kernels)
    assert re.search(r"least time of step on A100 SXM 80 GB: \d+\.\d µs", text)
    assert "least µs" in out("dump", script, "--target", "cuda", "--format", "html")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--arch", "sm_1"), "no chip is listed for 'sm_1': sm_75"),
        (("--arch", "sm_70"), "no chip is listed for 'sm_70': sm_75"),
        (("--arch", "90"), "no chip is listed for '90': did you mean sm_90?"),
        (("--arch", "SM_90"), "no chip is listed for 'SM_90': did you mean sm_90?"),
        (("--arch", "sm_80,sm_90"), "times are those of one chip, and 'sm_80,sm_90' names"),
        (("--arch", "sm_90", "--target", "cpu"), "chips are of --target cuda"),
    ],
)
def test_a_chip_that_does_not_fit_is_refused(script: Path, options: tuple[str, ...], said: str) -> None:
    result = fluidc("dump", script, *options)
    assert result.exit_code == 2
    assert said in result.output


def test_ptx_counts_as_the_chip_it_is_named_after(script: Path) -> None:
    assert out("dump", script, "--arch", "compute_90", "--batch", 64) == out(
        "dump", script, "--arch", "sm_90", "--batch", 64
    )


@pytest.mark.parametrize(
    ("architectures", "options", "machine", "title"),
    [
        (("sm_80", "sm_90", "compute_90"), ("--arch", "sm_80"), "sm_80", "A100 SXM 80 GB"),
        (("sm_80", "sm_90", "sm_100"), ("--stage", "target"), "sm_90", "H100 SXM"),
        (("sm_80", "compute_86"), ("--stage", "target"), "sm_86", "A10"),
    ],
)
def test_kernels_of_an_artifact_for_a_chip(
    artifact: Path, tmp_path: Path, architectures: tuple[str, ...], options: tuple[str, ...], machine: str, title: str
) -> None:
    read = Artifact.read(artifact)
    target = replace(read.manifest.target, kind="cuda", architectures=architectures)
    replace(read, manifest=replace(read.manifest, target=target)).write(tmp_path / "gpu.fluidc")
    text = out("dump", tmp_path / "gpu.fluidc", *options)
    assert f"for cuda {machine}" in text
    assert re.search(rf"least time of step on {title}: \d+\.\d µs", text)


def test_a_chip_is_not_for_an_artifact_of_another_target(artifact: Path) -> None:
    result = fluidc("dump", artifact, "--arch", "sm_80")
    assert result.exit_code == 2
    assert "--arch" in result.output
    assert "is compiled for cpu, and chips are of cuda" in " ".join(result.output.replace("│", " ").split())


def test_a_batch_is_for_scripts(artifact: Path) -> None:
    result = fluidc("dump", artifact, "--batch", 8)
    assert result.exit_code == 2
    assert "is compiled already" in result.output
