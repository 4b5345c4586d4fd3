"""Counting the private steps of a program: which lot they ran on, under which key, at what cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol
from weakref import WeakKeyDictionary, finalize

from ..compiler.errors import PrivacyError
from ..runtime.artifact import PrivacySpec
from ..runtime.errors import DataError
from ..runtime.keystream import fresh_key, insecure_key
from ..runtime.ledger import Ledger, Spent
from ..runtime.sampler import PoissonSampler, poisson_rates
from ..runtime.stepper import Stepper
from .lineage import Lineage
from .lots import Array, Lot
from .source import user_location


class Spends(Protocol):
    """What private steps are counted for: a program, or the training of one private optimizer in dygraph."""

    lineage: Lineage


class PrivateSteps:
    """The private steps of one program in this process, counted in its ledger.

    Make it with `of`: executors, `fluid.privacy.poisson_batches` and `fluid.privacy.spent` share one per program,
    its training clones included.
    """

    def __init__(self, spec: PrivacySpec, ledger: Ledger, run_dir: Path | None) -> None:
        self.spec = spec
        self.run_dir = run_dir
        self._ledger = ledger
        self._outstanding: set[int] = set()
        self._before = ledger.steps
        self._void = ""
        self._warned = False
        # Ends the run in the ledger when the program is gone, at the latest at the end of the process.
        finalize(self, ledger.close)

    @classmethod
    def of(cls, program: Spends, spec: PrivacySpec, run_dir: Path | None = None) -> PrivateSteps:
        """The steps of ``program``, begun now if there are none yet.

        Args:
            program: A program trained by Dpsgd, or a private training of dygraph.
            spec: Its privacy block; a block that differs from the one steps were counted under is refused.
            run_dir: Where the ledger lives; None keeps the ledger there is, or counts in memory.

        Raises:
            PrivacyError: The program, or the run directory, changed after steps were counted.
            LedgerError: The ledger in ``run_dir`` cannot be used.
        """
        found = _steps.get(program.lineage)
        if found is not None and found._fits(spec, run_dir):
            return found
        if found is not None:
            found._ledger.close()
            del _steps[program.lineage]
        ledger = Ledger.in_memory(spec) if run_dir is None else Ledger.open(run_dir, spec)
        made = _steps[program.lineage] = cls(spec, ledger, run_dir)
        return made

    @classmethod
    def find(cls, program: Spends) -> PrivateSteps | None:
        """The steps of ``program``, or None before the first."""
        return _steps.get(program.lineage)

    def run(self, stepper: Stepper, feeds: Mapping[str, Array], lot: Lot | None = None) -> dict[str, Array]:
        """Take one step.

        A lot is used up before the engine starts: whether the step was interrupted or failed, its result may have
        been seen.

        Args:
            stepper: The compiled step on its state.
            feeds: The rows of the lot, by name.
            lot: The accounted lot that they come from; without one no epsilon holds for this ledger any more.

        Returns:
            The fetches.

        Raises:
            LedgerError: The steps belong to another process, or cannot be written down; nothing ran.
            DataError: The feeds do not fit; nothing ran and nothing was counted.
            BudgetError: max_steps steps are counted; nothing ran.
            FluidcError: The step failed; state is as before it, the step stays counted.
        """
        self._ledger.check_usable()
        try:
            stepper.check("step", feeds)
        except DataError:
            self.refused(lot)
            raise
        if lot is not None and lot.steps is self and lot.number in self._outstanding:
            claimed = lot.number
            self._outstanding.remove(claimed)
        else:
            claimed = self._count()
            self._void_by("user-fed")
        secret = insecure_secret()
        if secret is None:
            key = fresh_key()
        else:
            self._void_by("seeded")
            key = insecure_key(secret, "step", claimed)
        return stepper.run_lot(feeds, key=key, draw=claimed)

    def refused(self, lot: Lot | None) -> None:
        """Note that what a lot holds kept its step from being taken, or from being kept.

        Which lots are refused depends on the data, and training on the others alone is no Poisson sampling.
        """
        if lot is not None and lot.steps is self:
            self._void_by("user-fed")

    def draw(self, choose: Callable[[int], Mapping[str, Array]]) -> Lot:
        """Count one more step, and only then have its lot chosen, as one of the step's phase.

        Raises:
            BudgetError: The budget is used up.
            LedgerError: The step cannot be written down; nothing is drawn.
        """
        number = self._count()
        lot = Lot(self, number, choose(self.spec.phase_of(number)))
        self._outstanding.add(number)
        return lot

    def _count(self) -> int:
        return self._ledger.step()

    @property
    def counted(self) -> int:
        """Steps counted so far, those of earlier runs on the same directory included."""
        return self._ledger.steps

    @property
    def exhausted(self) -> bool:
        """Whether no step is left."""
        return self.spec.max_steps is not None and self._ledger.steps >= self.spec.max_steps

    def sampler(self, examples: int) -> PoissonSampler:
        """A new sampler under a new key.  Raises PrivacyError where the sampling rate is not stated."""
        rates = poisson_rates(self.spec)
        if not rates:
            raise PrivacyError(
                "lots cannot be drawn: the sampling rate is not stated",
                where=user_location().place,
                hint="give Dpsgd dataset_size (a public number) or sample_rate",
            )
        secret = insecure_secret()
        if secret is None:
            key = fresh_key()
        else:
            self._void_by("seeded")
            key = insecure_key(secret, "sampler", self._ledger.steps)
        return PoissonSampler(examples, rates, key)

    def first_warning(self) -> bool:
        """True once: the caller then warns that the ledger is in memory only."""
        warned, self._warned = self._warned, True
        return not warned

    def spent(self) -> Spent:
        """What the ledger says."""
        return self._ledger.spent()

    def _void_by(self, reason: str) -> None:
        """From here on the ledger gives no epsilon; the graver of the two reasons is kept."""
        if self._void == reason or self._void == "seeded":
            return
        self._ledger.void("seeded" if reason == "seeded" else "user-fed")
        self._void = reason

    def _fits(self, spec: PrivacySpec, run_dir: Path | None) -> bool:
        """Whether these steps go on; False where they can be begun again, as none was counted."""
        same_spec = spec == self.spec
        same_place = run_dir is None or run_dir == self.run_dir
        if same_spec and same_place:
            return True
        taken = self._ledger.steps - self._before
        if not taken:
            return False
        what = "run directory was given" if same_spec else "program's parameters or its Dpsgd arguments changed"
        raise PrivacyError(
            f"the {what} after private steps were counted ({taken} so far)",
            where=user_location().place,
            hint="make both final before the first step, or build a new program: its steps are counted apart",
        )


_steps: WeakKeyDictionary[Lineage, PrivateSteps] = WeakKeyDictionary()
_secret: bytes | None = None


def insecure_secret() -> bytes | None:
    """The known key in force (`fluid.privacy.insecure_noise_key`), or None: keys come from the system."""
    return _secret


def set_insecure_secret(secret: bytes | None) -> bytes | None:
    """Put a known key into force, or None for none; returns the one before."""
    global _secret
    before, _secret = _secret, secret
    return before
