"""Writes the table of steps in README.md from ``results/steps-2.json``, which `make bench-steps` measures.

python benchmarks/readme_table.py            rewrite it
python benchmarks/readme_table.py --check    exit 1 where README says something else
"""

from __future__ import annotations

import sys
from pathlib import Path

from fluidc.frontend.bench.compare import PLAIN, PRIVATE, Comparison, Contestant
from fluidc.frontend.bench.report import Report

HERE = Path(__file__).resolve().parent
RESULTS, README = HERE / "results" / "steps-2.json", HERE.parent / "README.md"
BEGIN, END = "<!-- steps: made by benchmarks/readme_table.py -->\n", "<!-- end of steps -->\n"


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


def rewritten(text: str, report: Report) -> str:
    """README with the table of ``report``."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"README.md lacks {BEGIN if not begin else END}")
    return f"{before}{BEGIN}\n{table(report)}\n{END}{after}"


def main() -> None:
    text = README.read_text()
    made = rewritten(text, Report.from_json(RESULTS.read_text()))
    if "--check" not in sys.argv[1:]:
        README.write_text(made)
    elif made != text:
        sys.exit("README.md does not say what results/steps-2.json says: run python benchmarks/readme_table.py")


if __name__ == "__main__":
    main()
