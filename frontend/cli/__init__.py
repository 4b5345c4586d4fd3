"""``fluidc COMMAND``: each command lives in a file of its own, loaded when it is asked for."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Mapping
from typing import Any

import click

from ...runtime.errors import FluidcError

COMMANDS: Mapping[str, str] = {
    "exec": "Run a script written for Paddle 1.x, unchanged.",
    "check": "List the fluid API that a script uses, and what of it is there.",
    "compile": "Compile a fluid script, or a model in ONNX, to an artifact.",
    "run": "Train an artifact on a data set.",
    "predict": "Write an artifact's outputs for a data set.",
    "data": "Make data ready to be mapped.",
    "inspect": "Show what an artifact is and needs.",
    "bundle": "Write an artifact with all that it runs on.",
    "sign": "Sign an artifact, so that others can require it.",
    "keygen": "Make a pair of keys to sign artifacts with.",
    "audit": "Measure the privacy of a compiled artifact.",
    "dump": "Print a program at any stage of the compiler.",
    "opt": "Run compiler passes on IR text.",
    "ops": "List the ops and their rules.",
    "privacy": "Compute epsilon, sigma and what ledgers spent.",
    "bench": "Time training steps of known models.",
}
"""Command -> its help line. The click command is ``command`` in the file of the same name."""


class LazyGroup(click.Group):
    """A group that imports a command only to run it or to show its own help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the file of a command; every command gets ``-v``."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"{__name__}.{cmd_name}").command
        if not any("--verbose" in parameter.opts for parameter in command.params):
            command.params.append(_verbose())
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table of commands, from their help lines alone: no command is imported."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does; an unknown command also gets a list of the known ones."""
        if args[0] not in COMMANDS:
            ctx.fail(f"there is no command {args[0]!r}; the commands are {', '.join(COMMANDS)}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error of the user's program, data or files becomes a message and exit code 1."""
        try:
            return super().invoke(ctx)
        except FluidcError as error:
            if ctx.ensure_object(_Detail).wanted:
                traceback.print_exc()
            show_error(error)
            ctx.exit(1)


class _Detail:
    """Whether -v was given, before or after the command."""

    wanted = False


def detail_wanted() -> bool:
    """Whether the command being run was given -v."""
    return click.get_current_context().ensure_object(_Detail).wanted


def _verbose() -> click.Option:
    def note(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
        ctx.ensure_object(_Detail).wanted |= value

    return click.Option(
        ["-v", "--verbose"],
        is_flag=True,
        expose_value=False,
        callback=note,
        help="Show more, and where an error was raised.",
    )


def show_error(error: FluidcError) -> None:
    """Print an error on standard error: what happened, where, and what to do next."""
    for line in f"error: {error}".splitlines():
        click.secho(line, fg="red", err=True)


@click.group(cls=LazyGroup, params=[_verbose()], context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fluidc", prog_name="fluidc")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Compile fluid programs, train them with or without differential privacy, and look inside."""
    ctx.ensure_object(_Detail)
