"""What a verification says: what was checked, or the first contradiction."""

from __future__ import annotations

from dataclasses import dataclass, field

RULES: dict[str, str] = {
    "text": "the IR text does not follow its syntax, so nothing can be said about it",
    "batch": "where a batch is one row, examples cannot be told from other axes: compile it with --batch 2 or more",
    "manifest": "manifest and IR text describe different programs: the manifest promises what the text does not do",
    "proof": "the stated proof is not what the text gives: it was edited, or belongs to another program",
    "3": "values of different examples meet before clipping, so no clipping of single examples bounds the step",
    "3b.i": "the sums under a clip factor are not those of its parameters, so their joint norm is not bounded by C",
    "3b.ii": "the norm under a clip factor has not one term per parameter, so it may be too small",
    "3b.iii": "a norm term is not seen to bound the gradient that is clipped by it: an example may count more than C",
    "3b.iv": "noise of one tensor is used twice, is not the runtime's, or is missing",
    "3b.v": "clip, sigma or lot differ from what the guarantee was computed with",
    "3b.vi": "clipped sums are combined otherwise than over the micro-batches of one lot",
    "flow": "a value that depends on examples leaves the step, or reaches model state, without noise",
}
"""Rule -> what breaking it means.  The numbers are sections of docs/privacy.md."""


@dataclass(frozen=True)
class Check:
    """One line of a report: a part that was checked, and what was found there."""

    what: str
    detail: str


@dataclass(eq=False)
class Contradiction(Exception):
    """The first thing that does not hold.

    Attributes:
        rule: a key of `RULES`.
        what: what was found, and what should be there.
        member: the member it was found in, such as ``ir/private.ir``.
        line: its line, from 1; 0 where there is none.
        op: the text of that line.
        place: the user's ``file:line layer``; empty where the text names none.
    """

    rule: str
    what: str
    member: str = ""
    line: int = 0
    op: str = ""
    place: str = ""

    @property
    def meaning(self) -> str:
        """What breaking the rule means."""
        return RULES[self.rule]

    def __str__(self) -> str:
        lines = [f"[{self.rule}] {self.what}"]
        if self.op:
            lines.append(f"  {self.op}")
        where = self.member + (f":{self.line}" if self.line else "")
        if where:
            lines.append(f"  at {where}" + (f", from {self.place}" if self.place else ""))
        lines.append(f"  {self.meaning}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Report:
    """The outcome of `verify`.

    Attributes:
        checks: what holds, in the order it was checked.
        contradiction: what does not, or None.
        limits: what this verification cannot say.
    """

    checks: tuple[Check, ...]
    contradiction: Contradiction | None = None
    limits: tuple[str, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Whether nothing contradicts the artifact's privacy block."""
        return self.contradiction is None

    def lines(self) -> list[str]:
        """The report for people."""
        width = max((len(check.what) for check in self.checks), default=0)
        shown = [f"✓ {check.what:<{width}}  {check.detail}" for check in self.checks]
        if self.contradiction is not None:
            shown += [f"✗ {line}" if i == 0 else line for i, line in enumerate(str(self.contradiction).split("\n"))]
        else:
            shown += [f"· not checked: {limit}" for limit in self.limits]
        return shown
