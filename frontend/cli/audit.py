"""``fluidc audit``: measure the privacy of a compiled artifact."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...runtime.artifact import Artifact
from ...runtime.threads import numpy_threads
from .engines import choose_engine, reference_engine
from .options import NEW_FILE, OLD_FILE, artifact_argument, signature_option, threads_option
from .writing import write_text

if TYPE_CHECKING:
    from ..audit import AuditReport

_MARKS = {"passed": "✓", "failed": "✗", "not measured": "–"}
_WIDTH = 140  # of the table where it goes into a file or a pipe


@click.command("audit", epilog="Example:  fluidc audit digits.fluidc --full -o report.json")
@artifact_argument
@click.option("--data", type=OLD_FILE, help=".npz file whose keys are the feeds; random rows if left out.")
@click.option("--quick/--full", "quick", default=True, help="2e3 or 2e4 releases per side of the canary [quick].")
@click.option("-o", "--output", type=NEW_FILE, metavar="REPORT.json", help="Write the numbers here.")
@signature_option
@threads_option
@click.pass_context
def command(
    ctx: click.Context,
    artifact: Path,
    data: Path | None,
    quick: bool,
    output: Path | None,
    require_signature: tuple[Path, ...],
    threads: int | None,
) -> None:
    """Measure the privacy of the compiled code of ARTIFACT.

    What one example can change in the clipped sums, the law of the noise, and how well a canary's presence can be
    told from what is released; then the same on deliberately broken copies, each of which must be caught. Exit code 1
    when a check fails. Nothing is trained and no budget is spent.
    """
    from ..audit import FULL, QUICK, audit

    if output is not None and not output.parent.is_dir():
        raise click.BadParameter(f"there is no folder {str(output.parent)!r}", param_hint="-o")
    read = Artifact.read(artifact, require_signature or None)
    compiled = read.manifest.target.kind != "reference"
    # The oracle's products alternate with compiled steps.
    with numpy_threads(1):
        report = audit(
            read,
            choose_engine(read, threads),
            QUICK if quick else FULL,
            data,
            oracle=reference_engine(read) if compiled and "target" in read.ir else None,
            progress=_tell if sys.stderr.isatty() else lambda _: None,
        )
    if output is not None:
        write_text(output, json.dumps({"artifact": str(artifact), **report.to_json()}, indent=1) + "\n")
    _show(artifact, report)
    ctx.exit(0 if report.passed else 1)


def _tell(text: str) -> None:
    click.echo(f"\r\x1b[K{text}", nl=False, err=True)


def _show(path: Path, report: AuditReport) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if sys.stderr.isatty():
        click.echo("\r\x1b[K", nl=False, err=True)
    console = Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False)
    mark = "  (NOT PRIVATE: the numbers depend on the rows given)" if report.own_data else ""
    table = Table("check", "measured", "bound", "", title=Text(f"audit of {path}{mark}"), title_justify="left")
    for check in report.checks:
        table.add_row(*map(Text, (check.name, check.measured, check.bound, _MARKS[check.verdict])))
    console.print(table)
    if report.mutants:
        killed = sum(bool(m.killed_by) for m in report.mutants)
        skipped = sum(bool(m.skipped) for m in report.mutants)
        console.print(f"broken copies: {killed} of {len(report.mutants) - skipped} caught", markup=False)
        for mutant in report.mutants:
            if mutant.survived:
                console.print(f"  ✗ survived: {mutant.name}", markup=False)
            elif mutant.skipped:
                console.print(f"  – {mutant.name}: not made, {mutant.skipped}", markup=False)
            else:
                console.print(f"  ✓ {mutant.name}: {mutant.killed_by}", markup=False)
    failed = [check.name for check in report.checks if check.verdict == "failed"]
    unknown = [check.name for check in report.checks if check.verdict == "not measured"]
    if failed:
        console.print(f"FAILED: {', '.join(failed)}", markup=False)
    elif not report.passed:
        console.print("FAILED: the audit did not notice a broken copy", markup=False)
    else:
        rest = f"; not measured: {', '.join(unknown)}" if unknown else ""
        console.print(f"passed{rest}", markup=False)
