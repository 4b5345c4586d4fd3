"""``fluidc compile``: a script, or a model in ONNX, becomes an artifact."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...runtime.commands import plain_warnings
from ...runtime.feeds import LENGTHS
from . import detail_wanted, ort_artifacts
from .options import threads_option
from .script_options import ScriptName, script_options, training_of

if TYPE_CHECKING:
    from ...compiler.driver import Compiled
    from ...compiler.ir.core import PrivacyConfig
    from ...compiler.privacy import PhasePlan, PrivacyPlan
    from .call_spec import CallSpec
    from .source import Lowered


_TVM_API = "fluidc.compiler.codegen.tvm.tvm_api"


@click.command(
    name="compile",
    epilog="Example: fluidc compile examples/digits.py:plain -o plain.fluidc --batch 64 -- --seed 3",
)
@click.argument("script", type=ScriptName(), metavar="SCRIPT.py[:NAME]|MODEL.onnx|MODEL_DIR")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True,
    help="The artifact, NAME.fluidc; or NAME.onnx: the training step alone, self-contained, for any ONNX Runtime.",
)  # fmt: skip
@click.option(
    "--target", metavar="NAME",
    help="cpu (default); cuda: for NVIDIA GPUs, none is needed here; onnx: ONNX Runtime executes it; reference: numpy, "
    "slow and exact; ort-artifacts: a folder for ONNX Runtime's on-device training API.",
)  # fmt: skip
@click.option(
    "--arch", metavar="NAME,...",
    help="cuda: chips to generate machine code for [sm_80,sm_90,compute_90]; compute_90 adds code that drivers compile "
    "for later chips.",
)  # fmt: skip
@click.option(
    "--tf32",
    is_flag=True,
    help="cuda: products may round their factors to TF32: faster, 10 bits; not for private programs.",
)
@click.option("--self-contained", is_flag=True, help="onnx: the graph makes its random bits of a key by itself.")
@click.option("--ort-training", is_flag=True, help="onnx: use gradient kernels that only onnxruntime-training has.")
@click.option(
    "--cpu", default="native", metavar="NAME",
    help="Processor to compile for: native (default), x86-64-v2, -v3 or -v4, znver2 to 5, haswell, skylake-avx512, "
    "cascadelake, icelake-server, sapphirerapids, aarch64, neoverse-n1, -n2, -v1 or -v2.",
)  # fmt: skip
@click.option("--batch", type=click.IntRange(min=1), help="Physical rows of a step; any number if left out.")
@threads_option
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), help="For what the script leaves unseeded; never noise.")
@click.option(
    "--prior", multiple=True, type=click.Path(exists=True, path_type=Path), metavar="LEDGER",
    help="Earlier runs on the same data: epsilon is then that of all runs together; may be repeated.",
)  # fmt: skip
@click.option("--dump-ir", type=click.Path(file_okay=False, path_type=Path), help="Write the IR after every pass.")
@click.option("--print-ir-after-all", is_flag=True, help="Print the IR after every pass, to standard error.")
@click.option("--print-ir-after", multiple=True, metavar="PASS", help="Print the IR after this pass.")
@script_options
def command(
    script: tuple[Path, str | None],
    output: Path,
    target: str | None,
    arch: str | None,
    tf32: bool,
    self_contained: bool,
    ort_training: bool,
    cpu: str,
    batch: int | None,
    threads: int | None,
    seed: int | None,
    prior: tuple[Path, ...],
    dump_ir: Path | None,
    print_ir_after_all: bool,
    print_ir_after: tuple[str, ...],
    feeds: tuple[tuple[str, tuple[int, ...]], ...],
    fetches: tuple[str, ...],
    script_args: tuple[str, ...],
    loss: CallSpec | None,
    optimizer: CallSpec | None,
    trainable: tuple[str, ...],
    params: str | None,
    **privacy: Any,
) -> None:
    """Compile the training step of a fluid script, or of a model.

    The script runs up to the first Executor.run of a program with a backward pass; startup programs are executed,
    nothing is trained. Compiled is the program that an optimizer minimised last, or the one in the script's
    global variable NAME. Arguments after -- are the script's own.

    A forward MODEL.onnx is fine-tuned: its initialisers become parameters, and --loss and --optimizer say how it is
    trained; what is said of scripts' privacy holds for --optimizer dpsgd:... too. Without them it is compiled as it is.
    So is a folder that fluid.io.save_inference_model wrote, here or in Paddle 1.x; a .pdmodel of a training program is
    compiled with the optimizer that it has, and private SGD takes the place of Paddle's dpsgd.
    """
    from ...compiler.codegen.built import BuildOptions
    from ...compiler.codegen.target import check_target
    from ...compiler.codegen.tvm.cpu import named_cpu
    from ...compiler.driver import compile_source, feed_specs
    from .observe import Observing
    from .privacy import runs_in
    from .source import Overrides, Request, lowered

    target = _target(target, output, self_contained, ort_training)
    architectures = _architectures(target, arch, tf32)
    on_device = target == ort_artifacts.TARGET
    if on_device:
        ort_artifacts.check(output)
    else:
        check_target(target)
        _check_output(output, script[0])
    if target in ("cpu", "cuda") or cpu != "native":
        named_cpu(cpu)
    path, name = script
    training = training_of(path, loss, optimizer, trainable, params)
    watch = Observing(dump_ir, print_ir_after_all, print_ir_after)
    overrides = Overrides(**privacy)
    earlier = tuple(run for ledger in prior for run in runs_in(ledger))
    request = Request(path, name, script_args, dict(feeds), fetches, seed, overrides, earlier, training, params)
    _tell(f"importing {path}" if request.is_model else f"running {path} up to its first training step")
    made = lowered(request)
    if request.is_model and (fixed := [f for f in feed_specs(made.source) if f.shape and isinstance(f.shape[0], int)]):
        rows = fixed[0].shape[0]
        _tell(f"note: {path.name} was exported for {rows} row{'s' if rows != 1 else ''} of {fixed[0].name} at a time; "
              "export it with a dynamic batch for any number")  # fmt: skip
    seconds = made.seconds
    plan = made.source.plan
    if plan is not None:
        for warning in plan.warnings:
            _tell(f"warning: {warning}")
    _tell(f"compiling for {target}")
    imported = _TVM_API in sys.modules
    options = BuildOptions(cpu, threads or 0, self_contained, ort_training, architectures, tf32)
    files = on_device or output.suffix == ".onnx"  # written of the program's text, for callers without a runtime
    with plain_warnings():
        if on_device:
            made = replace(made, source=ort_artifacts.prepared(made.source))
        if files:  # nobody divides a lot then
            batch = ort_artifacts.rows(made.source, batch)
        compiled = compile_source(
            made.source, target="reference" if files else target, batch=batch or 0, options=options, observe=watch,
            keep_ir=True,
        )  # fmt: skip
        artifact = compiled.artifact()
    if on_device:
        size = ort_artifacts.write(output, compiled, options, seed)
    else:
        if output.suffix == ".onnx":
            from .onnx_file import onnx_file
            from .writing import write_bytes

            # A caller without fluidc's runtime has no keystream to feed.
            write_bytes(output, onnx_file(artifact, "step", replace(options, self_contained=True), seed))
        else:
            artifact.write(output)
        size = output.stat().st_size
    if ort_training and output.suffix == ".onnx":
        _tell(f"note: {output.name} may have kernels that only onnxruntime-training executes")
    if plan is not None and files:
        _tell(f"note: {output.name} clips and adds noise; lots, keys and the count of steps are its caller's part")
    *passes, (_, seconds["codegen"]) = compiled.trace.timings
    if not imported and (api := sys.modules.get(_TVM_API)) is not None:
        # Code that is kept is found without TVM.
        seconds["import tvm"] = api.IMPORT_SECONDS
        seconds["codegen"] -= seconds["import tvm"]
    seconds["passes"] = sum(taken for _, taken in passes)
    for line in _summary(request.path, made, compiled, target, seconds):
        click.echo(line)
    if detail_wanted():
        for number, (step, taken) in enumerate(passes, start=1):
            click.echo(f"  {number:02d} {step:<18}{taken:8.4f} s")
    click.echo(f"{'written':<12}{output}, {_size(size)}")


def _target(target: str | None, output: Path, self_contained: bool, ort_training: bool) -> str:
    """The target that is meant: an ONNX file is of the target onnx.  Raises BadParameter for what does not fit."""
    from ...compiler.codegen.target import check_target

    if output.suffix == ".onnx":
        if target not in (None, "onnx", ort_artifacts.TARGET):
            check_target(target)
        if target not in (None, "onnx"):
            raise click.BadParameter(
                f"{output.name} is an ONNX file, and the target is {target}", param_hint="--target"
            )
        target = "onnx"
    for option, given in (("--self-contained", self_contained), ("--ort-training", ort_training)):
        if given and target not in ("onnx", "ort-artifacts"):
            raise click.BadParameter("it belongs to --target onnx", param_hint=option)
    return target or "cpu"


def _architectures(target: str, names: str | None, tf32: bool) -> tuple[str, ...]:
    """The chips that are named.  Raises BadParameter for what is of cuda alone."""
    for option, given in (("--arch", names is not None), ("--tf32", tf32)):
        if given and target != "cuda":
            raise click.BadParameter("it belongs to --target cuda", param_hint=option)
    return tuple(dict.fromkeys(name.strip() for name in (names or "").split(",") if name.strip()))


def _check_output(path: Path, source: Path) -> None:
    """Refuse at once what could not be written after all the work, or would be written over what is compiled."""
    if not path.parent.is_dir():
        raise click.BadParameter(f"there is no folder {str(path.parent)!r}", param_hint="-o")
    if path.is_dir() or path.suffix in (".py", ".npz") or (path.exists() and path.samefile(source)):
        raise click.BadParameter(f"{str(path)!r} is not to be overwritten by an artifact", param_hint="-o")


def _tell(text: str) -> None:
    click.echo(text, err=True)


def _summary(path: Path, made: Lowered, compiled: Compiled, target: str, seconds: dict[str, float]) -> list[str]:
    """What was compiled, in lines for people."""
    manifest, source = compiled.manifest, made.source
    call = made.chosen.call
    seen = "types of the captured call" if call is not None else "types of its data variables"
    is_open = not manifest.feeds or any(isinstance(dim, str) for feed in manifest.feeds for dim in feed.shape)
    batch = (
        f"{manifest.batch} rows" if manifest.batch is not None else "any number of rows" if is_open else "fixed rows"
    )
    shape = " ".join(part for part in (target, *manifest.target.architectures, manifest.target.cpu) if part)
    trainable = [s for s in manifest.state if s.trainable]
    count = sum(_product(s.shape) for s in trainable)
    rows = [
        ("program", f"{path.name}, {seen}"),
        ("target", f"{shape}, {batch} per step"),
        *compiler_rows(target),
        ("feeds", ", ".join(f"{f.name} {f.dtype}[{','.join(map(str, f.shape))}]" for f in manifest.feeds) or "none"),
        ("fetches", ", ".join(manifest.fetches) or "none"),
        ("parameters", f"{count} in {len(trainable)} variables"),
    ]
    if any(feed.name.endswith(LENGTHS) for feed in manifest.feeds):
        rows.append(("note", "fed with sequences: run it step by step from Python, Session.run; fluidc run refuses it"))
    if manifest.caution:
        rows.append(("caution", manifest.caution))
    if source.plan is not None:
        rows += _privacy_rows(source.module.privacy, source.plan, made.joint)
    order = ("script", "import", "accounting", "lowering", "passes", "codegen", "import tvm")
    times = ", ".join(f"{phase} {seconds[phase]:.2f} s" for phase in order if phase in seconds)
    return [f"{title:<12}{text}" for title, text in [*rows, ("time", times)]]


def _clip_text(config: PrivacyConfig | None, plan: PrivacyPlan) -> str:
    """The clipping bound, or the bounds, and the mode where it is not flat."""
    if config is None or config.clipping == "flat":
        return f"C = {plan.clip:g}"
    if config.clipping == "per-group":
        return f"C = {', '.join(f'{clip:g}' for clip in config.clips)} ({len(config.clips)} groups)"
    if config.clipping == "automatic":
        return f"C = {config.clip:g} (automatic, γ = {config.gamma:g})"
    return f"C = {config.clip:g} at first (quantile {config.quantile:g}, σ_b = {config.sigma_b:g})"


def _privacy_rows(config: PrivacyConfig | None, plan: PrivacyPlan, joint: float | None) -> list[tuple[str, str]]:
    constants = _clip_text(config, plan)
    if config is not None and config.mechanism == "discrete":
        constants += f", discrete mechanism of {config.grid_bits} grid_bits"
    if not plan.phases:
        constants += f", L = {plan.lot:g}, σ = {plan.sigma:.6g}"
    if plan.q_num is not None and not plan.phases:
        constants += f", q = {plan.q_num / 2**32:.6g}"
    if plan.max_steps is not None:
        constants += f", T = {plan.max_steps}"
    phases = [("", _phase_text(number, phase)) for number, phase in enumerate(plan.phases, 1)]
    if plan.budget is None:
        return [("privacy", f"ε {plan.reason}"), ("", constants), *phases]
    rows = [
        ("privacy", f"ε = {plan.budget.epsilon:.4f} at δ = {plan.budget.delta:g} after {plan.budget.max_steps} steps"),
        ("", f"{constants}; {plan.sampler} lots, {plan.adjacency} neighbours"),
        *phases,
    ]
    if joint is not None:
        rows.append(("", f"ε = {joint:.4f} together with the earlier runs"))
    return rows


def _phase_text(number: int, phase: PhasePlan) -> str:
    rate = "" if phase.q_num is None else f", q = {phase.q_num / 2**32:.6g}"
    return f"phase {number}: {phase.steps} steps, L = {phase.lot:g}, σ = {phase.sigma:.6g}{rate}"


def compiler_rows(target: str) -> list[tuple[str, str]]:
    """What made, or for code that was kept had made, the machine code of GPUs."""
    if target != "cuda":
        return []
    from ...compiler.codegen.tvm.cuda.toolchain.find import find_compiler

    return [("compiler", find_compiler().title)]


def _product(shape: tuple[int, ...]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


def _size(count: int) -> str:
    return f"{count} bytes" if count < 10_000 else f"{count / 1000:.0f} kB"
