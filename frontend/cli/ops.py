"""``fluidc ops``: which op has which rule, and where it is written; and how much of fluid there is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from . import detail_wanted

if TYPE_CHECKING:
    from ...compiler.ops.matrix import Cell, Row

_SHORT = {"rule": "✓", "default": "·", "none": "-", "gap": "?"}


EXAMPLES = """\b
Examples:
  fluidc ops linear --reasons
  fluidc ops --rules
  fluidc ops --coverage"""


@click.command(name="ops", epilog=EXAMPLES)
@click.argument("family", required=False)
@click.option("--reasons", is_flag=True, help="Show why an op lacks a rule or is not imported, and where rules are.")
@click.option("--onnx", "importable", is_flag=True, help="List the ONNX ops that can be imported instead.")
@click.option("--rules", is_flag=True, help="Only count, per rule, the ops that have it.")
@click.option("--coverage", is_flag=True, help="Count what there is of fluid 1.8.5; with -v: list what is not.")
def command(family: str | None, reasons: bool, importable: bool, rules: bool, coverage: bool) -> None:
    """List the ops of the IR and their rules.

    ✓ the op has the rule, · it does what every op does without one, - it cannot have it.
    """
    if coverage:
        if family is not None:
            raise click.BadParameter("it counts all of fluid, no family of ops", param_hint="--coverage")
        _print_coverage(every=detail_wanted())
        return
    if importable:
        _print_importable(reasons=reasons)
        return
    from ...compiler.ops import matrix

    rows = matrix.matrix()
    if family is not None:
        families = list(dict.fromkeys(row.family for row in rows))
        if family not in families:
            raise click.BadParameter(_no_family(family, families), param_hint="FAMILY")
        rows = tuple(row for row in rows if row.family == family)
    if rules:
        _print_rules(rows)
    elif reasons:
        for row in rows:
            _print_reasons(row)
    else:
        _print_table(rows)


def _no_family(family: str, families: Sequence[str]) -> str:
    """What a name that is no family of ops may mean: one of nearly that name, or a layer of fluid."""
    from ..api import names, similar

    what = f"there is no family {family!r}"
    if family in names("fluid.layers"):
        what += f"; fluid.layers.{family} is a layer, which is lowered to several ops"
    else:
        stem = [each for each in families if each.startswith(family[:4]) or family.startswith(each)]
        near = similar(family, families) or (stem[0] if stem and len(family) >= 4 else None)
        what += f"; did you mean {near}?" if near else ""
    return f"{what}; use one of {', '.join(families)}"


def _print_importable(*, reasons: bool) -> None:
    from ..lower.onnx import FAMILIES
    from ..lower.onnx.missing import MISSING

    click.echo(f"{sum(map(len, FAMILIES.values()))} ONNX ops can be imported")
    for name, family in FAMILIES.items():
        click.echo(f"  {name}: {', '.join(sorted(family))}")
    if reasons:
        click.echo(f"{len(MISSING)} cannot")
        for reason in dict.fromkeys(MISSING.values()):
            click.echo(f"  {', '.join(op for op, why in MISSING.items() if why == reason)}: {reason}")


def _print_table(rows: tuple[Row, ...]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("op", no_wrap=True)
    for cell in rows[0].cells:
        table.add_column(cell.rule.replace("_", " "), justify="center")
    table.add_column("where", no_wrap=True)
    for row in rows:
        table.add_row(row.name, *(_SHORT[cell.state] for cell in row.cells), row.place)
    # A pipe has no width of its own: nothing is cut or wrapped there.
    console = Console(highlight=False)
    console.print(table) if console.is_terminal else Console(highlight=False, width=200).print(table)


def _print_reasons(row: Row) -> None:
    click.echo(f"{row.name}  ({row.stages})  {row.place}")
    click.echo(f"    {row.summary}")
    for cell in row.cells:
        click.echo(f"    {_SHORT[cell.state]} {cell.rule:<17}{_told(cell)}")


def _told(cell: Cell) -> str:
    return cell.place if cell.state == "rule" else cell.text


def _print_coverage(*, every: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    from ..api.coverage import MODULES, coverage

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("module", "names", "there", "", "uses", "weighted"):
        table.add_column(heading, justify="left" if heading == "module" else "right")
    lacking: dict[str, int] = {}
    missing: dict[str, tuple[str, ...]] = {}
    for module in MODULES:
        found = coverage(module)
        uses = found.uses + sum(found.missing_uses.values())
        count = found.implemented + len(found.missing)
        weighted = f"{found.weighted:.1%}" if uses else "-"
        table.add_row(found.module, str(count), str(found.implemented), f"{found.share:.1%}", str(uses), weighted)
        missing[found.module] = found.missing
        lacking |= {f"{found.module}.{name}": uses for name, uses in found.missing_uses.items()}
    Console(highlight=False, width=100).print(table)
    click.echo("uses: references in 1,402 public files, known of the names that occur most")
    if lacking:
        click.echo("missing, by uses:")
        for name, uses in sorted(lacking.items(), key=lambda item: -item[1]):
            click.echo(f"  {uses:>5}  {name}")
    if every:
        click.echo("missing, by module, those used most first:")
        for module, lacks in missing.items():
            if lacks:
                click.echo(f"  {module}: {', '.join(lacks)}")
    else:
        click.echo("-v lists every name that is missing")


def _print_rules(rows: tuple[Row, ...]) -> None:
    from ...compiler.ops import matrix

    click.echo(f"{len(rows)} ops")
    for rule, (have, could) in matrix.coverage([row.cls for row in rows]).items():
        click.echo(f"  {rule:<17}{have} of the {could} that can have one")
