"""``fluidc dump``: a program at any stage of the compiler, for people and for tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...runtime.chips import CHIPS, Chip, chip_of
from .model_kind import is_model
from .script_options import ScriptName, script_options, training_of

if TYPE_CHECKING:
    from ...compiler.ir.core import Module
    from ...compiler.ir.stage import Stage
    from ...runtime.kernels import KernelTable
    from .call_spec import CallSpec
    from .source import Request

STAGES = ("captured", "core", "grad", "private", "update", "target")
DEFAULT = "sm_90"
"""The architecture whose chip is meant where none is named."""


@click.command(name="dump", epilog="Example: fluidc dump examples/digits.py --stage private --function step")
@click.argument("source", type=ScriptName(), metavar="SCRIPT.py[:NAME]|MODEL.onnx|MODEL_DIR|OUT.fluidc")
@click.option("--stage", type=click.Choice(STAGES), help="How far compiled [captured; target with --target or --arch].")
@click.option("--function", "function", metavar="NAME", help="Only this function: step, startup, infer, ...")
@click.option(
    "--format", "form", type=click.Choice(["text", "json", "dot", "html", "onnx"]), default="text", show_default=True
)
@click.option("--self-contained", is_flag=True, help="onnx: the graph makes its random bits of a key by itself.")
@click.option("--batch", type=click.IntRange(1), metavar="N", help="Rows per step of a script [a symbol].")
@click.option(
    "--target",
    type=click.Choice(["cpu", "cuda"]),
    help="What the kernels of a script are for, at stage target [cpu; cuda with --arch].",
)
@click.option("--arch", metavar="NAME", help="cuda: the chip whose least time is told of every kernel [sm_90].")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write a file instead of standard output.")
@script_options
def command(
    source: tuple[Path, str | None],
    stage: str | None,
    function: str | None,
    form: str,
    self_contained: bool,
    batch: int | None,
    target: str | None,
    arch: str | None,
    output: Path | None,
    feeds: tuple[tuple[str, tuple[int, ...]], ...],
    fetches: tuple[str, ...],
    script_args: tuple[str, ...],
    loss: CallSpec | None,
    optimizer: CallSpec | None,
    trainable: tuple[str, ...],
    params: str | None,
    **privacy: Any,
) -> None:
    """Print the IR of a script, a model (in ONNX, or as Paddle saves it) or an artifact.

    A script is run up to its first training step and compiled up to the stage, with a symbolic batch. The html page
    shows all stages side by side, with the graph of the one asked for. Arguments after -- are the script's own.

    At stage target, the kernels for cpu follow the IR in the order they run: ops fused, buffers, workspace, predicted
    operations and bytes, and the memory between them; those of an artifact are the ones it holds. With --target cuda,
    or an artifact for cuda, they are those for CUDA devices, with the least time that each takes on the chip of --arch.

    The format onnx writes one function, step if none is named, as a file for any ONNX Runtime, its state included;
    with --fetch, only these results and the feeds that they need.
    """
    from ...compiler.ir.stage import Stage
    from .source import Overrides, Request

    path, name = source
    chip = None
    if arch is not None:
        if target == "cpu":
            raise click.BadParameter("chips are of --target cuda", param_hint="--arch")
        arch, chip = _chip(arch)
    stage = stage or (STAGES[0] if target is None and arch is None else STAGES[-1])
    if self_contained and form != "onnx":
        raise click.BadParameter("it belongs to --format onnx", param_hint="--self-contained")
    if output is not None and output.suffix == ".onnx" and form != "onnx":
        raise click.BadParameter(f"{output.name} would hold {form}; an ONNX file is --format onnx", param_hint="-o")
    if form == "onnx":
        stated = {
            "--stage": stage != "target" and stage != STAGES[0],
            "--batch": batch,
            "--feed": feeds,
            "--loss": loss,
            "--params": params,
        }
        stated |= {"--optimizer": optimizer, "--trainable": trainable, "arguments of a script": script_args}
        stated |= {f"--{option.replace('_', '-')}": value is not None for option, value in privacy.items()}
        if unfit := [option for option, value in stated.items() if value]:
            raise click.BadParameter("it says how to compile, and an artifact is compiled already", param_hint=unfit[0])
        _write_onnx(path, function or "step", fetches, self_contained, output)
        return
    training = training_of(path, loss, optimizer, trainable, params)
    if path.suffix == ".py" or is_model(path, params):
        request = Request(
            path,
            name,
            script_args,
            dict(feeds),
            fetches,
            overrides=Overrides(**privacy),
            training=training,
            params=params,
        )
        modules, kernels = _of_script(request, batch or 0), None
        kernels = (
            _kernels_of(modules[Stage.TARGET], target or ("cpu" if arch is None else "cuda"), arch)
            if stage == "target" and form != "dot"
            else None
        )
    elif batch is not None or target is not None:
        hint = "--target" if batch is None else "--batch"
        raise click.BadParameter(f"{path} is compiled already", param_hint=hint)
    else:
        modules, kernels = _of_artifact(path, arch, chip)
        if stage != "target":
            kernels = None
    wanted = Stage.parse(stage)
    if wanted not in modules:
        raise click.BadParameter(
            f"there is no stage {stage!r} in {path}; it has {', '.join(map(str, modules))}", param_hint="--stage"
        )
    if function is not None:
        _check_function(modules[wanted], function)
        modules = {at: _only(module, function) for at, module in modules.items() if module.has_function(function)}
        kernels = None if kernels is None else kernels.only(function)
    text = _formatted(modules, wanted, form, path.name, kernels)
    if output is None:
        click.echo(text, nl=False)
    else:
        from .writing import write_text

        write_text(output, text)


def _write_onnx(path: Path, function: str, fetches: tuple[str, ...], self_contained: bool, output: Path | None) -> None:
    from ...compiler.codegen.built import BuildOptions
    from ...runtime.artifact import Artifact
    from .onnx_file import onnx_file
    from .writing import check_file, write_bytes

    if path.suffix == ".py":
        raise click.BadParameter(
            "an ONNX file is written of a compiled program: fluidc compile SCRIPT.py -o NAME.onnx",
            param_hint="--format",
        )
    if output is None:
        raise click.BadParameter("an ONNX file is not text: name one, -o NAME.onnx", param_hint="--format")
    check_file(output, "-o")
    options = BuildOptions(self_contained=self_contained)
    write_bytes(output, onnx_file(Artifact.read(path), function, options, fetches=fetches))


@dataclass(frozen=True)
class _Kernels:
    """The kernels and what they are for; or why there are none."""

    table: KernelTable | None
    machine: str = "cpu"
    missing: str = ""
    chip: Chip | None = None

    def only(self, name: str) -> _Kernels:
        """Those of one function."""
        if self.table is None:
            return self
        found = self.table.function(name)
        return replace(self, table=None if found is None else replace(self.table, functions=(found,)))


def _formatted(modules: Mapping[Stage, Module], wanted: Stage, form: str, title: str, kernels: _Kernels | None) -> str:
    from ...compiler.ir.printer import to_text
    from . import graph, kernel_text

    module, table = modules[wanted], None if kernels is None else kernels.table
    if form == "json":
        return graph.to_json(module, table)
    if form == "dot":
        return graph.to_dot(module)
    from .page import to_html

    if form == "html":
        tables = "" if kernels is None or table is None else kernel_text.to_tables(table, kernels.machine, kernels.chip)
        return to_html(modules, wanted, title, tables)
    text = to_text(module)
    if kernels is None:
        return text
    if table is None:
        return f"{text}\n// no kernels: {kernels.missing}\n" if kernels.missing else text
    return text + kernel_text.to_comments(table, kernels.machine, kernels.chip)


def _kernels_of(module: Module, target: str, architecture: str | None) -> _Kernels:
    """What the module compiles to on this machine, or for a chip; TVM is loaded for it."""
    if target == "cuda":
        return _cuda_kernels(module, architecture or DEFAULT)
    from ...compiler.codegen.built import BuildOptions
    from ...compiler.codegen.tvm.build import kernel_table
    from ...compiler.codegen.tvm.cpu import host_cpu
    from ...compiler.errors import TargetError

    try:
        return _Kernels(kernel_table(module, BuildOptions()), f"cpu {host_cpu().name}")
    except TargetError as error:
        return _Kernels(None, missing=error.what)


def _cuda_kernels(module: Module, architecture: str) -> _Kernels:
    from ...compiler.codegen.tvm.cuda.build import kernel_table
    from ...compiler.errors import TargetError

    try:
        return _Kernels(kernel_table(module), f"cuda {architecture}", chip=chip_of(architecture))
    except TargetError as error:
        return _Kernels(None, missing=error.what)


def _chip(name: str) -> tuple[str, Chip]:
    """An architecture by a name that compile takes too (``compute_90`` is ``sm_90``), and the chip listed for it."""
    if "," in name:
        raise click.BadParameter(f"times are those of one chip, and {name!r} names several", param_hint="--arch")
    architecture = name.replace("compute_", "sm_", 1)
    chip = chip_of(architecture)
    if chip is None:
        meant = f"sm_{''.join(filter(str.isdecimal, name))}"
        hint = f"did you mean {meant}?" if meant in CHIPS else ", ".join(CHIPS)
        raise click.BadParameter(f"no chip is listed for {name!r}: {hint}", param_hint="--arch")
    return architecture, chip


def _own_architecture(names: Sequence[str]) -> str | None:
    """Of the architectures that an artifact has code for, sm_90, else the newest one that a chip is listed for."""
    listed = [name.replace("compute_", "sm_", 1) for name in names]
    newest_first = [name for name in reversed(list(CHIPS)) if any(chip_of(each) is CHIPS[name] for each in listed)]
    return DEFAULT if DEFAULT in newest_first else next(iter(newest_first), None)


def _check_function(module: Module, name: str) -> None:
    if not module.has_function(name):
        known = ", ".join(function.name for function in module.functions)
        raise click.BadParameter(
            f"there is no function {name!r} at stage {module.stage}; there are {known}", param_hint="--function"
        )


def _only(module: Module, name: str) -> Module:
    """The module with one function left."""
    return replace(module, functions=(module.function(name),))


def _of_script(request: Request, batch: int) -> dict[Stage, Module]:
    """The module at every stage."""
    from ...compiler.passes.manager import run_passes
    from ...compiler.pipeline import pipeline, stage_ends
    from .source import lowered

    module = lowered(request).source.module
    ends = stage_ends(module, batch=batch)
    found: dict[Stage, Module] = {}

    def keep(number: int, step: str, current: Module) -> None:
        if number in ends:
            found[ends[number]] = current

    run_passes(module, pipeline(module, batch=batch), observe=keep)
    return found


def _of_artifact(path: Path, architecture: str | None, chip: Chip | None) -> tuple[dict[Stage, Module], _Kernels]:
    from ...compiler.ir.parser import parse
    from ...compiler.ir.stage import Stage
    from ...compiler.ops import OPSET
    from ...runtime.artifact import Artifact

    artifact = Artifact.read(path)
    target = artifact.manifest.target
    machine = target.cpu or target.triple
    if target.kind == "cuda":
        architecture = architecture or _own_architecture(target.architectures)
        if architecture is not None:
            machine, chip = architecture, chip_of(architecture)
    elif architecture is not None:
        raise click.BadParameter(f"{path} is compiled for {target.kind}, and chips are of cuda", param_hint="--arch")
    modules = {
        Stage.parse(stage): parse(artifact.ir[stage], OPSET, f"{path}, ir/{stage}.ir")
        for stage in STAGES
        if stage in artifact.ir
    }
    return modules, _Kernels(artifact.kernels, f"{target.kind} {machine}", chip=chip)
