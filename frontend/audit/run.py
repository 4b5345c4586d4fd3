"""The whole audit of one artifact: checks on its compiled code, and on broken copies of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ...runtime.artifact import Artifact
from ...runtime.certificate import verify
from ...runtime.data import DataSource, load_data
from ...runtime.engine import Array, Engine
from ...runtime.keystream import fresh_key
from .canary import canary_check
from .checks import FOR_MUTANTS, Check, Effort, judged, unmeasured
from .mechanism import Compiled, Mechanism, audited_spec, zeros_like
from .mutants import MUTANTS, Broken, BrokenNoise, applies, name_of
from .neighbours import UPDATE_ERROR, difference, neighbour_checks
from .noise import noise_checks, probe, responses
from .rows import Rows

Progress = Callable[[str], None]

SEED = 20_600
"""Of the rows and probes: two audits of one artifact look at the same lots. Keys are fresh every time."""


@dataclass(frozen=True)
class Mutant:
    """A broken copy, and the check that caught it.

    Attributes:
        name: what was broken.
        killed_by: name of the first check that failed; empty where none did.
        skipped: why the copy could not be made of this artifact; empty where it was.
    """

    name: str
    killed_by: str
    skipped: str = ""

    @property
    def survived(self) -> bool:
        """Whether the audit let it pass."""
        return not self.killed_by and not self.skipped


@dataclass(frozen=True)
class AuditReport:
    """What an audit found.

    Attributes:
        sha256: of the artifact.
        effort: how much was measured.
        checks: on the artifact.
        mutants: on broken copies; empty where the artifact itself failed.
        own_data: whether rows of a data set were used: the numbers are then NOT PRIVATE.
    """

    sha256: str
    effort: Effort
    checks: tuple[Check, ...]
    mutants: tuple[Mutant, ...]
    own_data: bool

    @property
    def passed(self) -> bool:
        """Whether no check failed and no broken copy got through."""
        return all(c.verdict != "failed" for c in self.checks) and not any(m.survived for m in self.mutants)

    def to_json(self) -> dict[str, object]:
        """The report as JSON."""
        return {
            "artifact_sha256": self.sha256,
            "passed": self.passed,
            "not_private": self.own_data,
            "pairs": self.effort.pairs,
            "trials": self.effort.trials,
            "checks": [check.to_json() for check in self.checks],
            "mutants": [
                {"name": m.name, "killed_by": m.killed_by, "skipped": m.skipped, "survived": m.survived}
                for m in self.mutants
            ],
        }


def audit(
    artifact: Artifact,
    engine: Engine,
    effort: Effort,
    data: DataSource | None = None,
    *,
    oracle: Engine | None = None,
    progress: Progress = lambda _: None,
) -> AuditReport:
    """Audit the compiled code of a private artifact.

    Nothing is trained, and nothing is counted in a ledger: what the audit computes stays in this process.

    Args:
        artifact: a private one.
        engine: has its code loaded.
        effort: how much to measure.
        data: rows for the feeds; None draws random ones.
        oracle: executes the program text of the artifact, for compiled code to be compared with; None compares
            nothing.
        progress: told what is being done.

    Raises:
        ArtifactError: There is nothing to audit, or it cannot be.
        DataError: ``data`` does not fit the feeds.
    """
    audited_spec(artifact.manifest)
    mechanism = Compiled(artifact, engine)
    given = None if data is None else load_data(data, artifact.manifest, "step")

    def rows() -> Rows:
        return Rows(artifact.manifest, mechanism.batch, np.random.default_rng(SEED), given)

    checks: list[Check] = [_certified(artifact)]
    for check in checks_of(mechanism, rows(), effort):
        progress(check.name)
        checks.append(check)
    if oracle is not None:
        checks.append(_as_written(mechanism, Compiled(artifact, oracle, mechanism.start)))
    assert artifact.manifest.privacy is not None, "refused above"
    for number in range(1, len(artifact.manifest.privacy.phases)):
        for check in _of_phase(artifact, number, engine, oracle, rows(), effort, mechanism.start):
            named = replace(check, name=f"{check.name}, phase {number + 1}")
            progress(named.name)
            checks.append(named)
    mutants: list[Mutant] = []
    if all(check.verdict != "failed" for check in checks):
        measured = sum(r is not None for r in responses(mechanism, np.random.default_rng(SEED)).values())
        for kind in MUTANTS:
            progress(f"broken copy: {name_of(kind)}")
            skipped = applies(kind, mechanism, measured)
            killer = "" if skipped else killed_by(kind(mechanism), rows())
            mutants.append(Mutant(name_of(kind), killer, skipped))
    return AuditReport(artifact.sha256(), effort, tuple(checks), tuple(mutants), given is not None)


def checks_of(mechanism: Mechanism, rows: Rows, effort: Effort, *, sums_last: bool = False) -> Iterator[Check]:
    """All checks, each when it is done; ``sums_last`` begins with the noise."""
    random = np.random.default_rng(SEED)
    if not sums_last:
        yield from neighbour_checks(mechanism, rows, effort, random)
    found = responses(mechanism, random)
    yield from noise_checks(mechanism, found, effort, random)
    yield from canary_check(mechanism, rows, found, effort, random)
    if sums_last:
        yield from neighbour_checks(mechanism, rows, effort, random)


def _of_phase(
    artifact: Artifact,
    number: int,
    engine: Engine,
    oracle: Engine | None,
    rows: Rows,
    effort: Effort,
    start: Mapping[str, Array],
) -> Iterator[Check]:
    """The noise of a later phase: sums do not know their phase, what is made of them does."""
    mechanism = Compiled(artifact, engine, start, number)
    random = np.random.default_rng(SEED)
    found = responses(mechanism, random)
    yield from noise_checks(mechanism, found, effort, random)
    yield from canary_check(mechanism, rows, found, effort, random)
    if oracle is not None:
        yield _as_written(mechanism, Compiled(artifact, oracle, start, number))


def _certified(artifact: Artifact) -> Check:
    """What the second checker says of the program text."""
    report = verify(artifact)
    found = report.contradiction
    if found is not None and "has no rules" in found.what:
        return unmeasured("certificate", found.what, "no contradiction")
    told = f"{len(report.checks)} parts derived again" if found is None else str(found).splitlines()[0]
    return judged("certificate", told, "no contradiction", found is None, parts=len(report.checks))


def _as_written(mechanism: Mechanism, oracle: Mechanism) -> Check:
    """The compiled ``apply`` writes what the program text says, noise included, under the same keys.

    This is what is left to hold an optimizer to that answers to its gradient in no linear way.
    """
    random = np.random.default_rng(SEED)
    largest = 0.0
    for draw, sums in enumerate((zeros_like(mechanism), probe(mechanism, random))):
        key = fresh_key()
        compiled = mechanism.release(sums, key, draw, "start")
        largest = max(largest, difference(oracle.release(sums, key, draw, "start"), compiled, mechanism.start))
    return judged(
        "apply = program text",
        f"off by {largest:.2g} of the update",
        f"≤ {UPDATE_ERROR:g}",
        largest <= UPDATE_ERROR,
        largest=largest,
    )


def killed_by(mutant: Broken, rows: Rows) -> str:
    """Name of the first check that a broken copy fails; empty where it passes all."""
    checks = checks_of(mutant, rows, FOR_MUTANTS, sums_last=isinstance(mutant, BrokenNoise))
    return next((check.name for check in checks if check.verdict == "failed"), "")
