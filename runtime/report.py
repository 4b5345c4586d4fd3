"""What a run leaves to be read: the lines at its end, which `page` also makes a web page of.

A private report holds public values only: constants, counts of steps and both epsilons. Losses, accuracies, speeds and
wall times depend on single examples, and so does every text that would tell how many there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .evaluate import Evaluation
from .manifest import Manifest
from .model import Model
from .privacy import PrivacySpec
from .progress import epsilon_text
from .train import RunResult

NOT_PRIVATE = "NOT PRIVATE"

_GUARANTEE = (
    "ε of the budget is the guarantee; ε so far holds only if the number of steps was fixed before the run, "
    "or a crash ended it"
)
_ROUNDED = "ε so far is rounded up to the next entry of the table in the artifact"
_UNCOVERED = "decisions taken on values marked NOT PRIVATE, and the rows that were evaluated"


@dataclass(frozen=True)
class RunReport:
    """A finished run.

    Attributes:
        name: of the artifact.
        headline: how far the run went.
        caution: what everybody who runs the artifact is told first, or empty.
        privacy: epsilon, or why there is none; empty for an ordinary program.
        constants: name and value of what was fixed in advance.
        remarks: one sentence each: what the numbers do and do not cover.
        values: name, value and mark of what was computed from the data; empty in a private report.
        curve: (count, epsilon) at the stated delta, increasing; empty without accounting.
        spent: (count, epsilon) of the steps so far, or None.
        unit: what ``count`` counts.
    """

    name: str
    headline: str
    caution: str
    privacy: str
    constants: tuple[tuple[str, str], ...]
    remarks: tuple[str, ...]
    values: tuple[tuple[str, str, str], ...]
    curve: tuple[tuple[int, float], ...]
    spent: tuple[int, float] | None
    unit: str

    def lines(self) -> Iterator[str]:
        """The report for a terminal."""
        yield self.headline
        for name, value, mark in self.values:
            yield f"{name}: {value}" + (f"  ({mark})" if mark else "")
        if self.caution:
            yield self.caution
        if not self.privacy:
            return
        yield f"privacy: {self.privacy}"
        yield "  " + ", ".join(f"{name} {value}" for name, value in self.constants)
        for remark in self.remarks:
            yield f"  {remark}"


def run_report(
    name: str, model: Model, result: RunResult, evaluation: tuple[Evaluation, str] | None, *, private: bool
) -> RunReport:
    """Put a report together.

    Args:
        name: of the artifact.
        model: what was trained.
        result: how the run ended.
        evaluation: means over held-out rows and what those are called, or None.
        private: leave out everything that depends on examples without noise.
    """
    manifest, spec = model.manifest, model.manifest.privacy
    values = () if private else tuple(_values(manifest, result, evaluation))
    headline = f"trained {result.taken} steps"
    if not private:
        speed = ""
        if result.examples is not None and result.seconds > 0:
            speed = f", {result.examples / result.seconds:,.0f} examples/s"
        headline += f" in {result.seconds:.1f} s{speed}" + (f"  ({NOT_PRIVATE}: the time)" if model.private else "")
    if spec is None or result.spent is None:
        constants = (("target", manifest.target.kind), ("batch", str(manifest.batch or "any")))
        return RunReport(name, headline, manifest.caution, "", constants, (), values, (), None, "step")
    of = f" of {spec.max_steps}" if spec.max_steps is not None else ""
    counted = result.spent.steps if spec.unit == "step" else result.spent.epochs
    so_far = result.spent.so_far
    return RunReport(
        name=name,
        headline=headline,
        caution=manifest.caution,
        privacy=f"{epsilon_text(result.spent)}; {result.spent.steps}{of} steps counted",
        constants=tuple(_constants(spec)),
        remarks=tuple(_remarks(model, spec, result, private=private)),
        values=values,
        curve=_curve(spec) if so_far is not None else (),
        spent=None if so_far is None else (counted, so_far),
        unit=spec.unit,
    )


def _values(
    manifest: Manifest, result: RunResult, evaluation: tuple[Evaluation, str] | None
) -> Iterator[tuple[str, str, str]]:
    marked = {o.name for o in manifest.function("step").outputs if o.not_private and manifest.privacy is not None}
    for name, value in result.fetches.items():
        if value.size == 1:
            mark = NOT_PRIVATE if name in marked else ""
            yield f"{name} of the last step", f"{value.reshape(()).item():.6g}", mark
    if evaluation is None:
        return
    found, where = evaluation
    mark = f"{NOT_PRIVATE} if any of these rows is private" if found.private else ""
    yield f"evaluation on {where}", f"{found.rows} rows", mark
    for name, value in found.values.items():
        yield f"  {name}", f"{value:.6g}", mark


def _constants(spec: PrivacySpec) -> Iterator[tuple[str, str]]:
    if spec.phases:
        yield from _phases(spec)
    else:
        yield "σ", f"{spec.sigma:.6g}"
    yield "C", ", ".join(f"{clip:g}" for clip in spec.clips)
    if not spec.phases:
        yield "L", f"{spec.lot:g}"
        if spec.sample_rate is not None:
            yield "q", f"{spec.sample_rate:.6g}"
    if spec.delta is not None:
        yield "δ", f"{spec.delta:g}"
    if spec.max_steps is not None:
        yield "T_max", str(spec.max_steps)
    yield "sampler", spec.sampler
    yield "adjacency", spec.adjacency
    yield "clipping", spec.clipping
    yield "mechanism", spec.mechanism
    yield "slack", f"{spec.slack:.3g}"
    if spec.accountant:
        yield "accountant", f"{spec.accountant} {spec.accountant_version} ({spec.accounting})"


def _phases(spec: PrivacySpec) -> Iterator[tuple[str, str]]:
    for number, phase in enumerate(spec.phases, 1):
        rate = "" if phase.sample_rate is None else f", q = {phase.sample_rate:.6g}"
        yield f"phase {number}", f"{phase.steps} steps, σ = {phase.sigma:.6g}, L = {phase.lot:g}{rate}"


def _remarks(model: Model, spec: PrivacySpec, result: RunResult, *, private: bool) -> Iterator[str]:
    assert result.spent is not None, "asked of private runs only"
    yield f"{result.spent.steps} steps counted, {model.effective_steps} of them are in the parameters"
    if result.spent.so_far is not None:
        yield f"{_GUARANTEE}; {_ROUNDED}"
    if spec.assumed_public:
        yield f"assumed public: {', '.join(spec.assumed_public)}"
    feeds = [feed.name for feed in model.manifest.feeds if feed.role == "public"]
    if feeds:
        yield f"public feeds, protected by nothing: {', '.join(feeds)}"
    for taint in result.spent.taints:
        yield f"ε does not cover: {taint}"
    if not private:
        yield f"ε does not cover: {_UNCOVERED}"


def _curve(spec: PrivacySpec) -> tuple[tuple[int, float], ...]:
    return tuple(sorted((entry.count, entry.epsilon) for entry in spec.table if entry.delta == spec.delta))
