"""``fluidc compile``: how a script is run, what of it is compiled, and what is told."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from dp_accounting import get_epsilon_gaussian

from fluidc.compiler.codegen.cache import user_cache
from fluidc.compiler.codegen.tvm.cuda.toolchain import find
from fluidc.frontend.cli import compile as compile_command
from fluidc.frontend.cli import main
from fluidc.runtime.artifact import Artifact
from fluidc.runtime.ledger import Ledger, read_ledger

EXAMPLES = Path(__file__).parents[2] / "examples"

MODEL = """
import sys
import numpy as np
import fluidc.frontend as fluid

def model(optimizer, size=1):
    main, startup = fluid.Program(), fluid.Program()
    main.random_seed = startup.random_seed = 7
    with fluid.program_guard(main, startup), fluid.unique_name.guard():
        x = fluid.layers.data("x", [4])
        loss = fluid.layers.mean(fluid.layers.fc(x, size))
        optimizer.minimize(loss)
    return main, startup, loss

plain, plain_startup, plain_loss = model(fluid.optimizer.SGD(0.1))
private, private_startup, private_loss = model(
    fluid.optimizer.Dpsgd(0.1, clip=1.0, batch_size=20.0, sigma=1.0, sample_rate=1.0, delta=1e-5, max_steps=4), size=2
)
exe = fluid.Executor()
x = np.ones((5, 4), "f4")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def script(text: str, name: str = "script.py", before: str = MODEL) -> str:
    Path(name).write_text(before + textwrap.dedent(text))
    return name


def fluidc(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="fluidc")


def compiled(*arguments: object) -> tuple[Artifact, str]:
    """The artifact of ``fluidc compile ARGUMENTS`` for the reference target, and what was printed."""
    result = fluidc("compile", *arguments[:1], "-o", "out.fluidc", "--target", "reference", *arguments[1:])
    assert result.exit_code == 0, result.output
    return Artifact.read("out.fluidc"), result.stdout


def feeds(artifact: Artifact) -> dict[str, str]:
    return {f.name: f"{f.dtype}[{','.join(map(str, f.shape))}]" for f in artifact.manifest.feeds}


def refused(*arguments: object) -> str:
    """What ``fluidc ARGUMENTS`` says on standard error when it fails."""
    result = fluidc(*arguments)
    assert result.exit_code == 1, result.output
    return "\n".join(line for line in result.stderr.splitlines() if not line.startswith("running"))


@pytest.mark.parametrize("example", ["dpsgd_minimal", "digits", "fit_a_line", "rnn_digits", "sequence_pool"])
def test_every_example_compiles(folder: Path, example: str) -> None:
    artifact, said = compiled(EXAMPLES / f"{example}.py")
    assert artifact.manifest.has_function("startup")
    assert artifact.manifest.has_function("step")
    assert artifact.manifest.has_function("infer")
    assert set(artifact.ir) == {"captured", "core", "grad", "private", "update", "target"}
    assert "written     out.fluidc" in said


def test_the_last_program_minimised_is_compiled_or_the_one_named(folder: Path) -> None:
    name = script("exe.run(plain_startup)\nexe.run(plain, feed={'x': x}, fetch_list=[plain_loss])")
    last, said = compiled(name)
    assert last.manifest.privacy is not None
    assert last.manifest.batch == 32
    assert "types of its data variables" in said
    named, said = compiled(f"{name}:plain")
    assert named.manifest.privacy is None
    assert named.manifest.batch is None
    assert "types of the captured call" in said
    assert feeds(named) == feeds(last) == {"x": "f32[N,4]"}


def test_summary(folder: Path) -> None:
    _, said = compiled(script("exe.run(private, feed={'x': x})"))
    lines = said.splitlines()
    assert lines[:7] == [
        "program     script.py, types of the captured call",
        "target      reference, 32 rows per step",
        "feeds       x f32[N,4]",
        "fetches     mean_0.tmp_0",
        "parameters  10 in 2 variables",
        "privacy     ε = 10.0093 at δ = 1e-05 after 4 steps",
        "            C = 1, L = 20, σ = 1, q = 1, T = 4; poisson lots, add-remove neighbours",
    ]
    assert lines[7].startswith("time        script ")
    for phase in ("accounting", "lowering", "passes", "codegen"):
        assert f", {phase} " in lines[7]
    assert "import tvm" not in lines[7]


def test_what_made_the_machine_code_of_gpus_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "find_compiler", lambda: SimpleNamespace(title="NVRTC 13.0"))
    assert compile_command.compiler_rows("cuda") == [("compiler", "NVRTC 13.0")]
    assert compile_command.compiler_rows("cpu") == []


def test_help_tells_what_every_option_means() -> None:
    for name in ("compile", "dump"):
        command = main.get_command(click.Context(main), name)
        assert command is not None
        options = {option.name: option for option in command.params}
        assert all(getattr(options[option], "help", None) for option in ("sampler", "adjacency"))
    said = CliRunner().invoke(main, ["compile", "--help"]).output
    assert "not for private programs" in " ".join(said.split())


def test_verbose_times_every_pass(folder: Path) -> None:
    _, said = compiled(script(""), "-v")
    for step in ("decompose", "separate", "backward", "privatize", "lots"):
        assert re.search(rf"^  \d\d {step} +\d+\.\d{{4}} s$", said, re.MULTILINE), said


def test_a_script_runs_as_python_would_run_it(folder: Path) -> None:
    Path("neighbour.py").write_text("VALUE = 3\n")
    name = script(
        """
        import neighbour, os
        from pathlib import Path
        print("out of the script")
        seen = [__name__, __file__, sys.argv, sys.path[0] == os.getcwd(), neighbour.VALUE]
        Path("seen.txt").write_text(repr(seen))
        exe.run(plain_startup)
        Path("startup.txt").write_text(str(np.array(fluid.global_scope().find_var("fc_0.w_0").get_tensor()).shape))
        os.chdir("/")
        exe.run(plain, feed={"x": x})
        Path("trained.txt").write_text("never")
        """
    )
    before = sys.argv, list(sys.path), sys.modules["__main__"]
    result = fluidc("compile", name, "-o", "a.fluidc", "--target", "reference", "--", "--rate", "3", "file")
    assert result.exit_code == 0, result.output
    assert Path("seen.txt").read_text() == repr(["__main__", name, [name, "--rate", "3", "file"], True, 3])
    assert Path("startup.txt").read_text() == "(4, 1)"
    assert not Path("trained.txt").exists()
    assert "out of the script" in result.stderr
    assert "out of the script" not in result.stdout
    assert (sys.argv, sys.path, sys.modules["__main__"]) == before


def test_no_except_of_the_script_keeps_the_compiler_from_stopping_it(folder: Path) -> None:
    name = script(
        """
        try:
            exe.run(plain, feed={"x": x})
        except Exception:
            print("caught", file=open("caught.txt", "w"))
        """
    )
    artifact, _ = compiled(name)
    assert artifact.manifest.has_function("step")
    assert not Path("caught.txt").exists()


def test_compiling_takes_no_step_from_a_run_directory(folder: Path) -> None:
    name = script("for lot in fluid.privacy.poisson_batches({'x': x}, private, 'run'):\n    exe.run(private, feed=lot)")
    # 5 rows for lots of 20 are told, not hidden.
    with pytest.warns(UserWarning, match="5 rows at sampling rate"):
        compiled(name)
    assert not Path("run").exists()


def test_a_script_without_training_is_compiled_at_its_end(folder: Path) -> None:
    text = """
    import fluidc.frontend as fluid
    x = fluid.data("x", [None, 3])
    y = fluid.layers.fc(x, 2, act="softmax")
    """
    artifact, _ = compiled(script(text, before=""))
    assert artifact.manifest.fetches == ("fc_0.tmp_2",)
    assert not any(s.trainable for s in artifact.manifest.state) or artifact.manifest.has_function("startup")


def test_gradients_without_an_optimizer(folder: Path) -> None:
    text = """
    import numpy as np
    import fluidc.frontend as fluid
    x = fluid.data("x", [None, 3])
    loss = fluid.layers.mean(fluid.layers.fc(x, 2, param_attr="w", bias_attr=False))
    fluid.append_backward(loss)
    fluid.Executor().run(feed={"x": np.ones((2, 3), "f4")}, fetch_list=[loss, "w@GRAD"])
    """
    artifact, _ = compiled(script(text, before=""))
    assert artifact.manifest.fetches == ("mean_0.tmp_0", "w@GRAD")


OPEN = """
import numpy as np
import fluidc.frontend as fluid
x = fluid.data("x", [None, None, 3])
loss = fluid.layers.mean(fluid.layers.fc(x, 2, num_flatten_dims=2))
fluid.optimizer.SGD(0.1).minimize(loss)
exe = fluid.Executor()
"""


def test_open_sizes_come_from_the_call_or_the_command_line(folder: Path) -> None:
    called = script("exe.run(feed={'x': np.ones((2, 7, 3), 'f4')})", before=OPEN)
    assert feeds(compiled(called)[0]) == {"x": "f32[N,7,3]"}
    assert feeds(compiled(called, "--feed", "x=N,5,3")[0]) == {"x": "f32[N,5,3]"}
    assert feeds(compiled(called, "--feed", "x=8,5,3")[0]) == {"x": "f32[8,5,3]"}
    said = refused("compile", script("", before=OPEN), "-o", "out.fluidc", "--target", "reference")
    assert "--feed x=N," in said


def test_fetches_are_the_calls_or_loss_and_accuracies_and_more(folder: Path) -> None:
    name = script("exe.run(plain, feed={'x': x}, fetch_list=['fc_0.tmp_1'])")
    assert compiled(f"{name}:plain")[0].manifest.fetches == ("fc_0.tmp_1",)
    assert compiled(f"{name}:private")[0].manifest.fetches == ("mean_0.tmp_0",)
    more = compiled(name, "--fetch", "fc_0.tmp_1")[0].manifest
    assert more.fetches == ("mean_0.tmp_0", "fc_0.tmp_1")
    assert {o.name for o in more.function("infer").outputs} == {"mean_0.tmp_0", "fc_0.tmp_1"}
    assert compiled(EXAMPLES / "digits.py")[0].manifest.fetches == ("mean_0.tmp_0", "accuracy_0.tmp_0")


def test_privacy_arguments_of_the_command_line(folder: Path) -> None:
    name = script("")
    options = ("--sample-rate", "0.5", "--delta", "1e-6", "--max-steps", "9", "--adjacency", "replace-one")
    block = compiled(name, *options)[0].manifest.privacy
    assert block is not None
    assert (block.sample_rate, block.delta, block.max_steps, block.adjacency) == (0.5, 1e-6, 9, "replace-one")
    said = refused("compile", f"{name}:plain", "-o", "out.fluidc", "--target", "reference", "--delta", "1e-6")
    assert "--delta states privacy for a program that is not private" in said


def test_earlier_runs_are_added(folder: Path) -> None:
    name = script("")
    artifact, _ = compiled(name)
    assert artifact.manifest.privacy is not None
    with Ledger.open("run", artifact.manifest.privacy) as ledger:
        for _ in range(4):
            ledger.step()
    _, said = compiled(name, "--prior", "run")
    # Eight full-batch releases instead of four.
    assert "ε = 15.4755" in said.split("together with the earlier runs")[0].splitlines()[-1]
    said = refused("compile", name, "-o", "o.fluidc", "--target", "reference", "--prior", "run", "--epsilon", "13")
    assert "costs epsilon=15.48 with the earlier runs" in said
    said = refused("compile", f"{name}:plain", "-o", "o.fluidc", "--target", "reference", "--prior", "run")
    assert "--prior counts earlier runs in for a program that is not private" in said
    assert read_ledger("run")[1].totals.steps == 4


def test_the_noise_is_calibrated_to_the_budget_that_earlier_runs_leave(folder: Path) -> None:
    name = script("")
    first = compiled(name)[0].manifest.privacy
    assert first is not None
    for run in ("one", "two"):
        with Ledger.open(run, first) as ledger:
            for _ in range(2):
                ledger.step()
    stated = MODEL.replace("sigma=1.0,", "sigma=None, epsilon=15.0,")
    assert stated != MODEL
    free = script("", before=stated)
    alone, _ = compiled(free)
    after, said = compiled(free, "--prior", "one", "--prior", "two")
    before, left = alone.manifest.privacy, after.manifest.privacy
    assert before is not None
    assert left is not None
    assert left.sigma > before.sigma
    assert left.max_steps == 4
    # One Gaussian of the joint precision: 4 releases at sigma 1, and 4 at the calibrated one.
    joint = float(re.findall(r"ε = ([\d.]+) together with the earlier runs", said)[0])
    assert 15.0 * (1 - 2e-3) <= joint <= 15.0
    exact = get_epsilon_gaussian((4 / first.sigma**2 + 4 / left.sigma**2) ** -0.5 / (1 + 2**-10), 1e-5)
    assert joint == pytest.approx(exact, abs=1e-3)
    assert left.epsilon(4, 1e-5) < 15.0
    said = refused("compile", free, "-o", "o.fluidc", "--target", "reference", "--prior", "one", "--epsilon", "5")
    assert "the earlier runs alone cost epsilon=" in said


def test_batch_and_seed(folder: Path) -> None:
    name = script("")
    assert compiled(name, "--batch", "8")[0].manifest.batch == 8
    assert compiled(name)[0].manifest.seed == 7
    assert compiled(name, "--seed", "5")[0].manifest.seed == 5


def test_the_ir_after_every_pass(folder: Path) -> None:
    artifact, _ = compiled(script(""), "--dump-ir", "ir/deep")
    files = sorted(path.name for path in Path("ir/deep").iterdir())
    assert files[:4] == ["00-input.ir", "01-decompose.ir", "02-hoist.ir", "03-separate.ir"]
    assert Path("ir/deep/00-input.ir").read_text() == artifact.ir["captured"]
    assert (Path("ir/deep") / files[-1]).read_text() == artifact.ir["target"]


def test_printing_the_ir(folder: Path) -> None:
    name = script("")
    one = fluidc("compile", name, "-o", "o.fluidc", "--target", "reference", "--print-ir-after", "backward")
    assert one.stderr.count("\nmodule {stage = ") == 1
    assert "// after backward\nmodule {stage = grad}" in one.stderr
    every = fluidc("compile", name, "-o", "o.fluidc", "--target", "reference", "--print-ir-after-all")
    assert every.stderr.count("\nmodule {stage = ") > 8
    wrong = fluidc("compile", name, "-o", "o.fluidc", "--print-ir-after", "nope")
    assert wrong.exit_code == 2
    assert "use one of decompose, hoist, separate" in wrong.stderr


def test_the_same_script_gives_the_same_bytes(folder: Path) -> None:
    name = script("exe.run(private, feed={'x': x})")
    compiled(name)
    first = Path("out.fluidc").read_bytes()
    compiled(name)
    assert Path("out.fluidc").read_bytes() == first


def test_a_failed_compilation_leaves_the_old_artifact(folder: Path) -> None:
    name = script("")
    compiled(name)
    old = Path("out.fluidc").read_bytes()
    refused("compile", script("1 / 0", "broken.py"), "-o", "out.fluidc", "--target", "reference")
    assert Path("out.fluidc").read_bytes() == old
    assert sorted(path.name for path in folder.iterdir()) == ["broken.py", "out.fluidc", "script.py"]


def test_the_compiled_step_runs(folder: Path) -> None:
    compiled(script("exe.run(plain, feed={'x': x})") + ":plain", "--fetch", "fc_0.tmp_1")
    np.savez("x.npz", x=np.ones((5, 4), "f4"))
    result = fluidc("predict", "out.fluidc", "--data", "x.npz", "-o", "y.npz")
    assert result.exit_code == 0, result.output
    with np.load("y.npz") as outputs:
        assert outputs["fc_0.tmp_1"].shape == (5, 1)


def test_help_loads_neither_the_compiler_nor_tvm() -> None:
    code = (
        "import sys; from fluidc.frontend.cli import main\n"
        "for command in ('compile', 'dump', 'opt', 'ops', 'privacy'):\n"
        "    main([command, '--help'], standalone_mode=False)\n"
        "print([name for name in sys.modules if name == 'tvm' or name.startswith('fluidc.compiler.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "['fluidc.compiler.errors']"
    assert len(re.findall(r"Examples?:\s+fluidc ", done.stdout)) >= 4


def test_an_artifact_that_is_fed_with_sequences_says_how_it_is_run(tmp_path: Path) -> None:
    path, artifact = tmp_path / "seq.py", tmp_path / "seq.fluidc"
    path.write_text(
        "import paddle.fluid as fluid\n"
        "words = fluid.data('words', [None, 4], lod_level=1)\n"
        "loss = fluid.layers.mean(fluid.layers.fc(fluid.layers.sequence_pool(words, 'sum'), 2))\n"
        "fluid.optimizer.SGD(0.1).minimize(loss)\n"
    )
    done = CliRunner().invoke(main, ["compile", str(path), "-o", str(artifact), "--target", "reference"])
    assert done.exit_code == 0, done.output
    assert "fed with sequences: run it step by step from Python, Session.run; fluidc run refuses it" in done.output


def test_python_dash_m(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fluidc.frontend.cli", "compile", script("", before=""), "-o", "o.fluidc"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "the script builds no program that could be compiled" in done.stderr
    assert "traced = TracedLayer.trace(net, [x])" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("target", ["cpu", "reference"])
def test_a_processor_without_a_name_is_refused_at_once(folder: Path, target: str) -> None:
    name = script("raise SystemExit('it ran')")
    said = refused("compile", name, "-o", "out.fluidc", "--target", target, "--cpu", "")
    assert said.startswith("error: unknown CPU ''\n  known are native, x86-64-v2, ")


def test_a_number_of_threads_is_checked_at_once(folder: Path) -> None:
    name = script("raise SystemExit('it ran')")
    result = fluidc("compile", name, "-o", "out.fluidc", "--threads", 2000)
    assert result.exit_code == 2
    assert "Invalid value for '--threads': 2000 is not in the range 1<=x<=1024." in result.stderr


def test_an_unsafe_cache_is_told_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUIDC_CACHE", str(folder / "kept"))
    monkeypatch.setattr("fluidc.compiler.codegen.tvm.kept.user_cache", user_cache)
    (folder / "kept" / "code").mkdir(parents=True)
    (folder / "kept" / "code").chmod(0o777)
    name = script("exe.run(plain_startup)\nexe.run(plain, feed={'x': x}, fetch_list=[plain_loss])")
    result = fluidc("compile", f"{name}:plain", "-o", "out.fluidc", "--threads", 1)
    assert result.exit_code == 0, result.output
    told = [line for line in result.stderr.splitlines() if "not kept" in line or "UserWarning" in line]
    assert told == [
        f"warning: compiled code is not kept: {folder}/kept/code can be written by others; make the folder yours alone "
        "(chmod 700), or name another in FLUIDC_CACHE"
    ]
