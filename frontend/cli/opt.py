"""``fluidc opt``: compiler passes on IR text, one by one or up to a stage."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .dump import STAGES
from .options import NEW_FILE, OLD_FILE

if TYPE_CHECKING:
    from ...compiler.ir.core import Module
    from ...compiler.passes.base import Pass

# NAME or NAME{option=value, option=value}, followed by a comma or the end.
_PASS = re.compile(r"\s*([a-z][a-z-]*)\s*(?:\{([^{}]*)\})?\s*(?:,|$)")
_OPTION = re.compile(r"\s*([a-z_]+)\s*=\s*([^\s=]+)\s*")


@click.command(name="opt", epilog="Example: fluidc opt ir/00-input.ir --to target --batch 32 -o step.ir")
@click.argument("file", type=OLD_FILE, metavar="FILE.ir")
@click.option(
    "-p",
    "--passes",
    metavar="PASS[,PASS{opt=val}]",
    multiple=True,
    help="Passes in order, such as 'fold,cse,specialise{batch=16}'; may be repeated.",
)
@click.option("--to", "stage", type=click.Choice(STAGES), help="All passes up to this stage, after those of -p.")
@click.option("--batch", type=click.IntRange(min=1), help="Rows of a step at stage target; as compile if left out.")
@click.option("-o", "--output", type=NEW_FILE, help="Write a file instead of standard output.")
@click.option("--dump-ir", type=click.Path(file_okay=False, path_type=Path), help="Write the IR after every pass.")
@click.option("--print-ir-after-all", is_flag=True, help="Print the IR after every pass, to standard error.")
@click.option("--print-ir-after", multiple=True, metavar="PASS", help="Print the IR after this pass.")
def command(
    file: Path,
    passes: tuple[str, ...],
    stage: str | None,
    batch: int | None,
    output: Path | None,
    dump_ir: Path | None,
    print_ir_after_all: bool,
    print_ir_after: tuple[str, ...],
) -> None:
    """Run passes on a module in text form and print what they make of it.

    The module is verified before the first pass and after each one. Without passes and stage it is checked and
    printed in the layout that all tools use.
    """
    from ...compiler.ir.parser import parse
    from ...compiler.ir.printer import to_text
    from ...compiler.ops import OPSET
    from ...compiler.passes.manager import run_passes
    from .observe import Observing

    watch = Observing(dump_ir, print_ir_after_all, print_ir_after)
    chosen = [step for text in passes for step in parse_passes(text)]
    module = parse(_read(file), OPSET, str(file))
    if stage is not None:
        chosen += _route(file, module, chosen, stage, batch)
    text = to_text(run_passes(module, chosen, observe=watch))
    if output is None:
        click.echo(text, nl=False)
    else:
        from .writing import write_text

        write_text(output, text)


def parse_passes(text: str) -> list[Pass]:
    """The passes that ``text`` names, with their options.

    >>> parse_passes("fold,specialise{batch=16}")
    [Fold(), Specialise(batch=16)]

    Raises:
        click.BadParameter: A pass or an option that does not exist, or text that is no list of passes.
    """
    from ...compiler.pipeline import PASSES

    known = {step.name: step for step in PASSES}
    found: list[Pass] = []
    at = 0
    while at < len(text):
        match = _PASS.match(text, at)
        if match is None:
            raise click.BadParameter(f"cannot read {text[at:]!r}; write PASS,PASS{{option=value}}", param_hint="-p")
        name, at = match[1], match.end()
        if name not in known:
            raise click.BadParameter(f"there is no pass {name!r}; use one of {', '.join(known)}", param_hint="-p")
        found.append(known[name](**_options(known[name], match[2] or "")))
    return found


def _options(step: type[Pass], text: str) -> dict[str, int]:
    """The options of a pass; all there are are whole numbers."""
    known = [f.name for f in fields(step)]
    found: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = _OPTION.fullmatch(part)
        if match is None or match[1] not in known or not match[2].isdecimal():
            has = f"has the options {', '.join(known)}, whole numbers" if known else "has no options"
            raise click.BadParameter(f"{part!r} does not fit: {step.name} {has}", param_hint="-p")
        found[match[1]] = int(match[2])
    return found


def _route(file: Path, module: Module, before: Sequence[Pass], to: str, batch: int | None) -> tuple[Pass, ...]:
    """The passes up to a stage for a module that ``before`` has run on."""
    from ...compiler.driver import default_batch
    from ...compiler.errors import PassError
    from ...compiler.ir.stage import Stage
    from ...compiler.pipeline import pipeline

    wanted = Stage.parse(to)
    reached = max([module.stage, *(step.ensures for step in before if step.ensures is not None)])
    if wanted < reached:
        raise PassError(
            f"the module is at stage {reached}, which is after {to}",
            where=str(file),
            hint="a module only moves forward; take the text of an earlier stage (--dump-ir, fluidc dump)",
        )
    if batch is None and module.privacy is not None:
        batch = default_batch(module.privacy.largest_lot)
    return pipeline(replace(module, stage=reached), to=wanted, batch=batch or 0)


def _read(path: Path) -> str:
    from ...compiler.errors import ParseError

    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ParseError(f"the file cannot be read as text: {error}", where=str(path), hint="give IR text") from None
