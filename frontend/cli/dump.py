"""``fluidc dump``: a program at any stage of the compiler, for people and for tools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .script_options import ScriptName, script_options

if TYPE_CHECKING:
    from ...compiler.ir.core import Module
    from ...compiler.ir.stage import Stage

STAGES = ("captured", "core", "grad", "private", "update", "target")


@click.command(name="dump", epilog="Example: fluidc dump examples/digits.py --stage private --function step")
@click.argument("source", type=ScriptName(), metavar="SCRIPT.py[:NAME]|OUT.fluidc")
@click.option("--stage", type=click.Choice(STAGES), default="captured", show_default=True, help="How far compiled.")
@click.option("--function", "function", metavar="NAME", help="Only this function: step, startup, infer, ...")
@click.option("--format", "form", type=click.Choice(["text", "json", "dot", "html"]), default="text", show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write a file instead of standard output.")
@script_options
def command(
    source: tuple[Path, str | None],
    stage: str,
    function: str | None,
    form: str,
    output: Path | None,
    feeds: tuple[tuple[str, tuple[int, ...]], ...],
    fetches: tuple[str, ...],
    script_args: tuple[str, ...],
    **privacy: Any,
) -> None:
    """Print the IR of a script or an artifact.

    A script is run up to its first training step and compiled up to the stage, with a symbolic batch. The html page
    shows all stages side by side, with the graph of the one asked for. Arguments after -- are the script's own.
    """
    from ...compiler.ir.stage import Stage

    path, name = source
    if path.suffix == ".py":
        modules = _of_script(path, name, script_args, dict(feeds), fetches, privacy)
    else:
        modules = _of_artifact(path)
    wanted = Stage.parse(stage)
    if wanted not in modules:
        raise click.BadParameter(
            f"there is no stage {stage!r} in {path}; it has {', '.join(map(str, modules))}", param_hint="--stage"
        )
    if function is not None:
        _check_function(modules[wanted], function)
        modules = {at: _only(module, function) for at, module in modules.items() if module.has_function(function)}
    text = _formatted(modules, wanted, form, path.name)
    if output is None:
        click.echo(text, nl=False)
    else:
        from .writing import write_text

        write_text(output, text)


def _formatted(modules: Mapping[Stage, Module], wanted: Stage, form: str, title: str) -> str:
    from ...compiler.ir.printer import to_text

    module = modules[wanted]
    if form == "text":
        return to_text(module)
    from . import graph

    if form == "json":
        return graph.to_json(module)
    if form == "dot":
        return graph.to_dot(module)
    from .page import to_html

    return to_html(modules, wanted, title)


def _check_function(module: Module, name: str) -> None:
    if not module.has_function(name):
        known = ", ".join(function.name for function in module.functions)
        raise click.BadParameter(
            f"there is no function {name!r} at stage {module.stage}; there are {known}", param_hint="--function"
        )


def _only(module: Module, name: str) -> Module:
    """The module with one function left."""
    return replace(module, functions=(module.function(name),))


def _of_script(
    path: Path,
    name: str | None,
    arguments: tuple[str, ...],
    feeds: Mapping[str, tuple[int, ...]],
    fetches: tuple[str, ...],
    privacy: Mapping[str, Any],
) -> dict[Stage, Module]:
    """The module at every stage."""
    from ...compiler.passes.manager import run_passes
    from ...compiler.pipeline import pipeline, stage_ends
    from .source import Overrides, Request, lowered

    request = Request(path, name, arguments, feeds, fetches, overrides=Overrides(**privacy))
    module = lowered(request).source.module
    ends = stage_ends(module)
    found: dict[Stage, Module] = {}

    def keep(number: int, step: str, current: Module) -> None:
        if number in ends:
            found[ends[number]] = current

    run_passes(module, pipeline(module), observe=keep)
    return found


def _of_artifact(path: Path) -> dict[Stage, Module]:
    from ...compiler.ir.parser import parse
    from ...compiler.ir.stage import Stage
    from ...compiler.ops import OPSET
    from ...runtime.artifact import Artifact

    artifact = Artifact.read(path)
    return {
        Stage.parse(stage): parse(artifact.ir[stage], OPSET, f"{path}, ir/{stage}.ir")
        for stage in STAGES
        if stage in artifact.ir
    }
