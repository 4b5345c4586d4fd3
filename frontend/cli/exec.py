"""``fluidc exec``: an old fluid script runs as it is."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import click

from ...compiler.errors import FluidcError
from ...runtime.commands import plain_warnings
from ..paddle.session import Session
from . import detail_wanted, show_error
from .options import OLD_FILE

EXAMPLES = """\b
Examples:
  fluidc exec train.py
  fluidc exec train.py --data ~/.cache/paddle/dataset -- --batch_size 64
  fluidc exec train.py --target reference"""

_KILLED_BY_INTERRUPT = 130


class _Command(click.Command):
    """Says where arguments of the script go."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            hint = "arguments of the script go after --: fluidc exec SCRIPT.py -- ARGS"
            raise click.UsageError(f"no such option: {error.option_name}; {hint}", ctx) from None


@click.command(name="exec", cls=_Command, epilog=EXAMPLES)
@click.argument("script", type=OLD_FILE, metavar="SCRIPT.py")
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder with the files of paddle.dataset [FLUIDC_DATA, else ~/.cache/paddle/dataset].",
)
@click.option(
    "--target", metavar="NAME", help="What compiles: cpu (default), onnx, or reference: numpy, slow and exact."
)
@click.argument("script_args", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def command(
    ctx: click.Context, script: Path, data: Path | None, target: str | None, script_args: tuple[str, ...]
) -> None:
    """Run a script written for Paddle 1.x, unchanged: import paddle and paddle.fluid find fluidc.

    paddle.dataset reads local files in their original formats; where they are missing, small made-up data takes their
    place, which is announced. Nothing is ever downloaded. Names that numpy has dropped are put back. What was
    put in the place of something else is told at the end, on standard error. The exit code is the script's own.
    """
    from ...compiler.codegen.target import check_target

    if target is not None:
        check_target(target)
    session = Session()
    try:
        code = _run(script, script_args, data, target, session)
    finally:
        sys.stdout.flush()
        for line in session.summary():
            click.secho(line, fg="yellow", err=True)
    ctx.exit(code)


def _run(script: Path, arguments: tuple[str, ...], data: Path | None, target: str | None, session: Session) -> int:
    """The script's exit code."""
    from .. import unique_name
    from ..flags import flags_restored
    from ..framework import Program, program_guard
    from ..profiler import profiler_restored
    from ..scope import Scope, scope_guard
    from ..targets import using_target
    from .script import as_main, compiled, execute, old_scripts, source_line

    with (
        plain_warnings(),
        old_scripts(session, data),
        using_target(target or "cpu"),
        program_guard(Program(), Program()),
        unique_name.guard(),
        scope_guard(Scope()),
        flags_restored(),
        profiler_restored(),
        as_main(script, arguments) as main,
    ):
        # Old scripts use what has been deprecated since.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            execute(compiled(script), main, script)
        except SystemExit as stop:
            if stop.code is not None and not isinstance(stop.code, int):
                click.echo(stop.code, err=True)
                return 1
            return stop.code or 0
        except KeyboardInterrupt:
            return _KILLED_BY_INTERRUPT
        except FluidcError as error:
            if detail_wanted():
                raise
            show_error(error)
            if line := source_line(error.where):
                click.secho(f"    {line}", fg="red", err=True)
            return 1
    return 0
