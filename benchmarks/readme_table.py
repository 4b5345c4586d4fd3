"""Writes the tables of README.md: of steps, from ``results/steps-2.json``, which `make bench-steps` measures, and of
first steps, from ``results/cold_start-2.json`` (``cold_start.py``).

python benchmarks/readme_table.py            rewrite it
python benchmarks/readme_table.py --check    exit 1 where README says something else
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from fluidc.frontend.bench.compare import PLAIN, PRIVATE, Comparison, Contestant
from fluidc.frontend.bench.report import Report

HERE = Path(__file__).resolve().parent
STEPS, FIRST = HERE / "results" / "steps-2.json", HERE / "results" / "cold_start-2.json"
README = HERE.parent / "README.md"


def table(report: Report) -> str:
    """Markdown: own times, and times of the others over them."""
    here = report.machine
    noisy = " Other work was running." if here.noisy else ""
    versions = ", ".join(
        f"{name} {here.versions[name]}" for name in ("torch", "jax", "opacus", "paddle") if name in here.versions
    )
    lines = [
        f"{here.cpu}{' with AVX-512' if 'avx512f' in here.flags else ''}, {here.threads} threads; {versions}.{noisy}",
        "",
        "| model, rows | plain ms | PyTorch | JAX | Paddle | private ms | Opacus hooks | ghost | JAX vmap | memory |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for model in report.models.values():
        own = model.contestants
        plain, private = own[PLAIN], own[PRIVATE]
        torch = [c for label, c in own.items() if not c.private and label.startswith("torch")]
        cells = [
            f"{model.title}, {model.batch}",
            f"{1e3 * plain.median:.2f}",
            over(plain, min(torch, key=lambda c: c.median, default=None)),
            over(plain, own.get("jax")),
            over(plain, own.get("paddle")),
            f"{1e3 * private.median:.2f} ({private.median / plain.median:.2f})",
            *(over(private, own.get(label)) for label in ("opacus hooks", "opacus ghost", "jax vmap")),
            memory(model),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def over(own: Contestant, other: Contestant | None) -> str:
    """Another's time over our own."""
    if other is None:
        return "-"
    ratio = other.median / own.median
    return f"{ratio:.0f} x" if ratio >= 20 else f"{ratio:.1f} x" if ratio >= 3 else f"{ratio:.2f} x"


def memory(model: Comparison) -> str:
    """Growth over private steps over that of plain ones."""
    plain, private = (model.contestants[label].megabytes for label in (PLAIN, PRIVATE))
    return "-" if plain is None or private is None else f"{private / plain:.2f}"


def first_steps(record: dict[str, Any]) -> str:
    """Markdown: the digits MLP's first step by everybody that was measured."""
    here, figures = record["machine"], record["figures"]
    versions = ", ".join(f"{name} {here['versions'][name]}" for name in ("torch", "opacus") if name in here["versions"])
    lines = [
        f"{here['cpu']}, {here['threads']} threads; {versions}.{' Other work was running.' if here['noisy'] else ''}",
        "",
        "| digits MLP | plain | memory | disk | compressed | private | memory | disk | compressed |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for way in dict.fromkeys(label.split(", ", 1)[1] for label in figures):
        cells = [way.replace("PyTorch", "PyTorch, Opacus")]
        for kind in ("plain", "private"):
            found = figures[f"{kind}, {way}"]
            sizes = (f"{found[name]:.3g} MB" if name in found else "-" for name in ("megabytes", "folder", "archive"))
            cells += [f"{found['seconds']:.2f} s", *sizes]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def rewritten(text: str, name: str, made: str) -> str:
    """README with another table between the marks of ``name``."""
    begin, end = f"<!-- {name}: made by benchmarks/readme_table.py -->\n", f"<!-- end of {name} -->\n"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"README.md lacks {end if found else begin}")
    return f"{before}{begin}\n{made}\n{end}{after}"


def main() -> None:
    text = README.read_text()
    made = rewritten(text, "steps", table(Report.from_json(STEPS.read_text())))
    made = rewritten(made, "first steps", first_steps(json.loads(FIRST.read_text())))
    if "--check" not in sys.argv[1:]:
        README.write_text(made)
    elif made != text:
        sys.exit("README.md does not say what the results say: run python benchmarks/readme_table.py")


if __name__ == "__main__":
    main()
