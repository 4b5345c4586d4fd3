"""``fluidc check``: which names of fluid a script uses, and what becomes of them; the script is not run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import show_error
from .options import OLD_FILE

if TYPE_CHECKING:
    from ..paddle.verdicts import Verdict
    from .script import CaptureError

EXAMPLES = """\b
Examples:
  fluidc check train.py
  fluidc check model.py reader.py train.py --missing
  fluidc check train.py --format json"""

_COLOURS = {"exact": "green", "different": "yellow", "arguments": "red", "missing": "red", "unknown": "red"}
_MANY_LINES = 6


@click.command(name="check", epilog=EXAMPLES)
@click.argument("scripts", type=OLD_FILE, nargs=-1, required=True, metavar="SCRIPT.py...")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--missing", "only", is_flag=True, help="List only what a script would fail at.")
@click.pass_context
def command(ctx: click.Context, scripts: tuple[Path, ...], form: str, only: bool) -> None:
    """List the names of Paddle that scripts use, where, and what becomes of each.

    exact: as in Paddle 1.8.5. different: it works, with the difference that is told. arguments: the call does not fit
    the signature. missing: fluidc has no such function; what comes nearest is told. unknown: nor has Paddle 1.8.5.

    With them: names and modules of Python 2, and of libraries that came with Paddle, that are not there.

    Nothing is run: names are followed through imports and assignments. The exit code is 1 if a script would
    fail at a name, or cannot be read.
    """
    from ..paddle.verdicts import verdicts
    from .script import CaptureError, read_script, syntax_error, too_deep

    found: dict[Path, list[Verdict]] = {}
    unread: dict[Path, CaptureError] = {}
    for script in scripts:
        try:
            found[script] = verdicts(read_script(script), str(script))
        except SyntaxError as error:
            unread[script] = syntax_error(error, script)
        except (RecursionError, MemoryError):
            unread[script] = too_deep(script)
        except CaptureError as error:
            unread[script] = error
    every = [verdict for each in found.values() for verdict in each]
    if form == "json":
        click.echo(json.dumps(_as_json(found, unread), indent=2))
    else:
        for script, each in found.items():
            shown = [verdict for verdict in each if verdict.status.fails or not only]
            if shown:
                _print_table(script, shown)
        for error in unread.values():
            show_error(error)
        if found:
            click.echo(_summary(every))
        if len(scripts) > 1 and unread:
            click.echo(f"{len(unread)} of {len(scripts)} scripts cannot be read")
    ctx.exit(1 if unread or any(verdict.status.fails for verdict in every) else 0)


def _as_json(found: dict[Path, list[Verdict]], unread: dict[Path, CaptureError]) -> dict[str, Any]:
    scripts: list[dict[str, Any]] = [
        {
            "script": str(script),
            "names": [
                {"name": v.name, "status": str(v.status), "uses": v.uses, "lines": v.lines, "note": v.note}
                for v in each
            ],
        }
        for script, each in found.items()
    ]
    scripts += [
        {"script": str(script), "error": error.what, "where": error.where, "hint": error.hint}
        for script, error in unread.items()
    ]
    counts = Counter(str(verdict.status) for each in found.values() for verdict in each)
    return {"scripts": scripts, "summary": {status: counts[status] for status in _COLOURS}}


def _print_table(script: Path, shown: Sequence[Verdict]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", title=str(script), title_justify="left")
    for heading in ("name", "lines", "", "what to know"):
        table.add_column(heading, no_wrap=heading in ("name", ""), overflow="fold")
    for verdict in shown:
        status = str(verdict.status)
        table.add_row(Text(verdict.name), _lines(verdict.lines), Text(status, _COLOURS[status]), Text(verdict.note))
    console = Console(highlight=False)
    console.print(table) if console.is_terminal else Console(highlight=False, width=160).print(table)


def _lines(lines: Sequence[int]) -> str:
    more = f", +{len(lines) - _MANY_LINES}" if len(lines) > _MANY_LINES else ""
    return ", ".join(map(str, lines[:_MANY_LINES])) + more


def _summary(every: Sequence[Verdict]) -> str:
    counts = Counter(str(verdict.status) for verdict in every)
    told = ", ".join(f"{counts[status]} {status}" for status in _COLOURS if counts[status])
    failing = list(dict.fromkeys(verdict.name for verdict in every if verdict.status.fails))
    places = sum(verdict.uses for verdict in every)
    if not every:
        return "no name of Paddle is used"
    used = f"{_counted(len(every), 'name')} in {_counted(places, 'place')}"
    return f"{used}: {told}" + (f"; fails at {', '.join(failing)}" if failing else "")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
