"""The privacy block of a manifest: the public constants of a private program, and its table of epsilons."""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, replace
from typing import Literal, get_args

from .errors import ArtifactError, BudgetError
from .fields import Fields, Json, canonical_bytes
from .limits import ADJACENCIES, MAX_GRID_BITS, MAX_SCALE, Adjacency, SamplerKind

Mechanism = Literal["gaussian", "discrete", "paddle"]
Clipping = Literal["flat", "per-group", "automatic", "quantile"]
Accounting = Literal["pld", "none"]

Q_ONE = 1 << 32
"""The denominator of the sampling rate."""


@dataclass(frozen=True)
class EpsilonEntry:
    """``epsilon`` after ``count`` releases (steps, or epochs: `PrivacySpec.unit`) at ``delta``."""

    count: int
    delta: float
    epsilon: float

    def to_json(self) -> Json:
        """The JSON object of this entry."""
        return {"count": self.count, "delta": float(self.delta), "epsilon": float(self.epsilon)}

    @classmethod
    def from_json(cls, fields: Fields) -> EpsilonEntry:
        """Read an entry. Raises ArtifactError."""
        return cls(fields.integer("count", 1), fields.number("delta"), fields.number("epsilon"))


@dataclass(frozen=True)
class AutomaticOptions:
    """``c = C / (norm + gamma)``, the clip factor of automatic clipping; gamma > 0."""

    gamma: float

    def __post_init__(self) -> None:
        if not 0 < self.gamma < math.inf:
            raise _contradiction(f"gamma = {self.gamma:g} must be a positive number")

    def to_json(self) -> Json:
        """The JSON object of these options."""
        return {"gamma": float(self.gamma)}

    @classmethod
    def from_json(cls, fields: Fields) -> AutomaticOptions:
        """Read them. Raises ArtifactError."""
        return cls(fields.number("gamma"))


@dataclass(frozen=True)
class QuantileOptions:
    """How the bound of quantile clipping moves.

    Attributes:
        quantile: share of examples whose norm is to be below the bound, in (0, 1).
        eta: rate of its geometric update, > 0.
        sigma_b: standard deviation of the noise on the count of such examples, > sigma / 2.
        c_min: the least bound, > 0.
        c_max: the greatest bound.
        state: name of the state variable that holds the bound, a public value.
    """

    quantile: float
    eta: float
    sigma_b: float
    c_min: float
    c_max: float
    state: str

    def __post_init__(self) -> None:
        if not 0 < self.quantile < 1:
            raise _contradiction(f"quantile = {self.quantile:g} is outside (0, 1)")
        for name, value in (("eta", self.eta), ("sigma_b", self.sigma_b), ("c_min", self.c_min)):
            if not 0 < value < math.inf:
                raise _contradiction(f"{name} = {value:g} must be a positive number")
        if not self.c_min <= self.c_max < math.inf:
            raise _contradiction(f"c_max = {self.c_max:g} is below c_min = {self.c_min:g}, or not a number")

    def to_json(self) -> Json:
        """The JSON object of these options."""
        return {
            "quantile": float(self.quantile),
            "eta": float(self.eta),
            "sigma_b": float(self.sigma_b),
            "c_min": float(self.c_min),
            "c_max": float(self.c_max),
            "state": self.state,
        }

    @classmethod
    def from_json(cls, fields: Fields) -> QuantileOptions:
        """Read them. Raises ArtifactError."""
        return cls(
            quantile=fields.number("quantile"),
            eta=fields.number("eta"),
            sigma_b=fields.number("sigma_b"),
            c_min=fields.number("c_min"),
            c_max=fields.number("c_max"),
            state=fields.text("state"),
        )


ClippingOptions = AutomaticOptions | QuantileOptions


@dataclass(frozen=True)
class PhaseSpec:
    """The constants of some steps in a row.

    Attributes:
        steps: how many.
        sigma: their noise multiplier σ.
        lot: their stated lot size L.
        q_num: their sampling rate times 2^32, or None where it was not stated.
    """

    steps: int
    sigma: float
    lot: float
    q_num: int | None

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise _contradiction(f"a phase of {self.steps} steps")
        if not (0 <= self.sigma < math.inf and 0 < self.lot < math.inf):
            raise _contradiction(f"a phase with sigma = {self.sigma:g}, lot = {self.lot:g}")
        if self.q_num is not None and not 1 <= self.q_num <= Q_ONE:
            raise _contradiction(f"a phase with q_num = {self.q_num}, outside [1, 2^32]")

    @property
    def sample_rate(self) -> float | None:
        """The accounted sampling rate q, or None."""
        return None if self.q_num is None else self.q_num / Q_ONE

    def to_json(self) -> Json:
        """The JSON object of this phase."""
        return {"steps": self.steps, "sigma": float(self.sigma), "lot": float(self.lot), "q_num": self.q_num}

    @classmethod
    def from_json(cls, fields: Fields) -> PhaseSpec:
        """Read a phase. Raises ArtifactError."""
        return cls(
            fields.integer("steps", 1),
            fields.number("sigma"),
            fields.number("lot"),
            fields.optional_integer("q_num", 1, Q_ONE),
        )


@dataclass(frozen=True)
class PrivacySpec:
    """What was promised at compile time; nothing here is ever computed from the data set.

    Attributes:
        mechanism: ``gaussian`` | ``discrete`` | ``paddle`` (comparison only, never accounted).
        clipping: how per-example gradients are bounded.
        clip: bound C on the 2-norm, or one bound C_k per entry of ``groups``; for ``quantile`` where it starts.
        lot: stated lot size L, the divisor of the noisy sum.
        sigma: noise multiplier σ; the noise has standard deviation σ·C, on each of K groups σ·C_k·√K.
        grid_bits: k of the integer grid C / 2^k that clipped gradients are cut to; None but for ``discrete``.
        slack: relative slack s of the float norms; σ/(1+s) is what was accounted.
        sampler: how lots are drawn.
        adjacency: neighbouring relation of the guarantee.
        q_num: sampling rate times 2^32, or None where it was not stated.
        delta: δ of the stated budget, or None.
        max_steps: T_max, or None.
        max_epochs: greatest number of times one example may appear (every sampler but ``poisson``), or None.
        steps_per_epoch: lots that ``balls`` splits an epoch into, and steps of an epoch that the accountant
            assumed for ``shuffle`` and ``sequential``; None for ``poisson``.
        table: ε on a full grid of counts and deltas; empty without accounting.
        accounting: ``pld``, or ``none`` with the reason in ``reason``.
        reason: what is said instead of ε, such as ``unknown: dataset_size not stated``; empty with accounting.
        accountant: name of the accounting library; empty without accounting.
        accountant_version: its version.
        parameters: sorted names of the trainable parameters; the position is the tensor index of the noise.
        assumed_public: state that enters the program as public: pretrained weights, frozen statistics.
        groups: parameters of each clip group of ``per-group`` clipping; every parameter is in exactly one.
        clipping_options: numbers of ``automatic`` and ``quantile`` clipping; None for the others.
        phases: steps with constants of their own, in the order they are taken; empty where all steps are alike.
            ``sigma``, ``lot`` and ``q_num`` are then the first phase's, ``max_steps`` their steps together.

    Raises ArtifactError when the fields contradict each other.
    """

    mechanism: Mechanism
    clipping: Clipping
    clip: float | tuple[float, ...]
    lot: float
    sigma: float
    grid_bits: int | None
    slack: float
    sampler: SamplerKind
    adjacency: Adjacency
    q_num: int | None
    delta: float | None
    max_steps: int | None
    max_epochs: int | None
    steps_per_epoch: int | None
    table: tuple[EpsilonEntry, ...]
    accounting: Accounting
    reason: str
    accountant: str
    accountant_version: str
    parameters: tuple[str, ...]
    assumed_public: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...] = ()
    clipping_options: ClippingOptions | None = None
    phases: tuple[PhaseSpec, ...] = ()

    def __post_init__(self) -> None:
        for name, value in (("lot", self.lot), *(("clip", clip) for clip in self.clips)):
            if not (value > 0 and math.isfinite(value)):
                raise _contradiction(f"{name} = {value:g} must be a positive number")
        for name, value in (("sigma", self.sigma), ("slack", self.slack)):
            if not (value >= 0 and math.isfinite(value)):
                raise _contradiction(f"{name} = {value:g} must not be negative")
        self._check_grid()
        if self.adjacency not in ADJACENCIES[self.sampler]:
            fitting = " or ".join(ADJACENCIES[self.sampler])
            raise _contradiction(f"sampler {self.sampler} needs adjacency {fitting}, not {self.adjacency}")
        if self.q_num is not None and not 1 <= self.q_num <= Q_ONE:
            raise _contradiction(f"q_num = {self.q_num} is outside [1, 2^32]")
        if self.delta is not None and not 0 < self.delta < 1:
            raise _contradiction(f"delta = {self.delta:g} is outside (0, 1)")
        counts = {
            "max_steps": self.max_steps,
            "max_epochs": self.max_epochs,
            "steps_per_epoch": self.steps_per_epoch,
        }
        for name, bound in counts.items():
            if bound is not None and bound < 1:
                raise _contradiction(f"{name} = {bound} must be at least 1")
        if list(self.parameters) != sorted(set(self.parameters)):
            raise _contradiction("the parameters are not sorted, or one is listed twice")
        self._check_clipping()
        self._check_phases()
        if self.accounting == "none":
            self._check_unaccounted()
        else:
            self._check_accounted()

    def _check_clipping(self) -> None:
        grouped = self.clipping == "per-group"
        if grouped != isinstance(self.clip, tuple) or grouped != bool(self.groups):
            raise _contradiction(f"clipping {self.clipping} with {len(self.clips)} bounds, {len(self.groups)} groups")
        if grouped:
            if len(self.clips) != len(self.groups):
                raise _contradiction(f"{len(self.clips)} clip bounds for {len(self.groups)} groups")
            if sorted(name for group in self.groups for name in group) != list(self.parameters):
                raise _contradiction("the clip groups do not hold every parameter exactly once")
        options = self.clipping_options
        automatic, quantile = isinstance(options, AutomaticOptions), isinstance(options, QuantileOptions)
        if (automatic, quantile) != (self.clipping == "automatic", self.clipping == "quantile"):
            raise _contradiction(f"clipping {self.clipping} has the options of another mode")
        if isinstance(options, QuantileOptions):
            if not options.sigma_b > self.sigma / 2:
                raise _contradiction(f"sigma_b = {options.sigma_b:g} is not above sigma / 2 = {self.sigma / 2:g}")
            if not options.c_min <= self.clips[0] <= options.c_max:
                raise _contradiction(f"clip = {self.clips[0]:g} is outside [c_min, c_max]")

    def _check_phases(self) -> None:
        if not self.phases:
            return
        if (self.mechanism, self.sampler) != ("gaussian", "poisson") or self.clipping == "quantile":
            raise _contradiction(
                f"phases with mechanism {self.mechanism}, sampler {self.sampler}, clipping {self.clipping}"
            )
        first = self.phases[0]
        if (first.sigma, first.lot, first.q_num) != (self.sigma, self.lot, self.q_num):
            raise _contradiction("sigma, lot or q_num are not those of the first phase")
        if self.max_steps != sum(phase.steps for phase in self.phases):
            raise _contradiction(f"max_steps = {self.max_steps} is not what the phases take together")
        if len({phase.q_num is None for phase in self.phases}) > 1:
            raise _contradiction("some phases have a sampling rate and some have none")

    def _check_grid(self) -> None:
        if (self.grid_bits is None) != (self.mechanism != "discrete"):
            raise _contradiction(f"mechanism {self.mechanism} with grid_bits = {self.grid_bits}")
        if self.grid_bits is None:
            return
        if not 1 <= self.grid_bits <= MAX_GRID_BITS:
            raise _contradiction(f"grid_bits = {self.grid_bits} is outside [1, {MAX_GRID_BITS}]")
        if self.noise_scale > MAX_SCALE:
            raise _contradiction(f"noise of {self.noise_scale:g} grid units is more than the {MAX_SCALE:g} it may be")
        if self.slack or self.clipping != "flat":
            raise _contradiction("mechanism discrete has no slack, and clips flat")

    def _check_unaccounted(self) -> None:
        if not self.reason:
            raise _contradiction("accounting is none, but no reason is given")
        if self.table:
            raise _contradiction("accounting is none, but there is a table of epsilons")

    def _check_accounted(self) -> None:
        if self.mechanism == "paddle":
            raise _contradiction("mechanism paddle is not private and cannot be accounted")
        if self.reason:
            raise _contradiction("there is accounting, and a reason why there is none")
        if self.q_num is None or self.delta is None or self.max_steps is None or not self.accountant:
            raise _contradiction("accounting needs q_num, delta, max_steps and the accountant's name")
        if self.unit == "epoch" and (self.max_epochs is None or self.steps_per_epoch is None):
            raise _contradiction(f"accounting of {self.sampler} needs max_epochs and steps_per_epoch")
        grid = {(entry.count, entry.delta) for entry in self.table}
        counts, deltas = self._counts(), self._deltas()
        if len(grid) != len(self.table) or len(grid) != len(counts) * len(deltas):
            raise _contradiction("the table of epsilons is not a full grid of counts and deltas")
        for entry in self.table:
            if not (0 < entry.delta < 1 and entry.epsilon >= 0 and math.isfinite(entry.epsilon)):
                raise _contradiction(f"the table holds epsilon {entry.epsilon:g} at delta {entry.delta:g}")
        if not counts or counts[-1] < self.budget_count or deltas[0] > self.delta:
            raise _contradiction("the table of epsilons does not reach the stated budget")

    @property
    def clips(self) -> tuple[float, ...]:
        """The clip bounds as a tuple: one, or one per group."""
        return self.clip if isinstance(self.clip, tuple) else (self.clip,)

    @property
    def joint_clip(self) -> float:
        """The bound on one example's gradient over all parameters: C, or sqrt(sum C_k^2)."""
        return math.hypot(*self.clips)

    @property
    def noise_scale(self) -> float:
        """Standard deviation of integer noise before it is rounded, in units of the grid: σ·2^k, exact."""
        return self.sigma * 2.0 ** (self.grid_bits or 0)

    @property
    def sample_rate(self) -> float | None:
        """The accounted sampling rate q = q_num / 2^32, or None."""
        return None if self.q_num is None else self.q_num / Q_ONE

    def phase_of(self, step: int) -> int:
        """Index of the phase that step number ``step``, from 0, belongs to; 0 where there are no phases.

        Steps are counted as the ledger counts them: one that was lost in a crash belongs to its phase too.
        Raises BudgetError for a step after the last phase.
        """
        left = step
        for index, phase in enumerate(self.phases):
            if left < phase.steps:
                return index
            left -= phase.steps
        if self.phases:
            raise BudgetError(
                f"step {step + 1} is after the last phase",
                f"phases of {self.max_steps} steps",
                "stop here, or compile with more steps in a phase: that costs more epsilon",
            )
        return 0

    def in_phase(self, index: int) -> PrivacySpec:
        """This block with the constants of one phase for all steps; for looking at the steps of that phase."""
        if not self.phases:
            return self
        phase = self.phases[index]
        return replace(self, sigma=phase.sigma, lot=phase.lot, q_num=phase.q_num, phases=())

    @property
    def unit(self) -> Literal["step", "epoch"]:
        """What is accounted: one release per step (Poisson) or per counted epoch (the rest)."""
        return "step" if self.sampler == "poisson" else "epoch"

    @property
    def budget_count(self) -> int:
        """Units of the whole budget. Raises BudgetError where none is stated."""
        bound = self.max_steps if self.unit == "step" else self.max_epochs
        if bound is None:
            raise BudgetError(
                "no privacy budget is stated",
                f"privacy block, max_{self.unit}s",
                "compile with dataset_size (or sample_rate), delta and max_steps",
            )
        return bound

    def epsilon(self, count: int, delta: float) -> float:
        """ε at ``delta`` after ``count`` units (steps for Poisson, counted epochs otherwise); an upper bound.

        Looks up the next larger count and the next smaller delta of the table.
        Raises BudgetError outside the table and where nothing was accounted.
        """
        where = f"epsilon({count} {self.unit}s, delta={delta:g})"
        if self.accounting == "none":
            raise BudgetError(
                f"epsilon is {self.reason}",
                where,
                "compile with dataset_size (or sample_rate), delta and max_steps",
            )
        counts, deltas = self._counts(), self._deltas()
        column = bisect_right(deltas, delta) - 1
        if column < 0 or not delta < 1:
            raise BudgetError(
                f"delta = {delta:g} is outside the stored table [{deltas[0]:g}, 1)",
                where,
                "ask for a delta in this range",
            )
        row = bisect_left(counts, count)
        if count < 0 or row == len(counts):
            raise BudgetError(
                f"{count} {self.unit}s are outside the stored table [0, {counts[-1]}]",
                where,
                "compile with a larger max_steps",
            )
        if count == 0:
            return 0.0
        return next(
            entry.epsilon for entry in self.table if entry.count == counts[row] and entry.delta == deltas[column]
        )

    def _counts(self) -> list[int]:
        return sorted({entry.count for entry in self.table})

    def _deltas(self) -> list[float]:
        return sorted({entry.delta for entry in self.table})

    def canonical_bytes(self) -> bytes:
        """The byte form that `sha256` is taken of."""
        return canonical_bytes(self.to_json())

    def sha256(self) -> str:
        """What a ledger is bound to, 64 hex digits."""
        return hashlib.sha256(self.canonical_bytes()).hexdigest()

    def to_json(self) -> Json:
        """The JSON object of docs/artifact.md."""
        return {
            "mechanism": self.mechanism,
            "clipping": self.clipping,
            "clip": [float(c) for c in self.clip] if isinstance(self.clip, tuple) else float(self.clip),
            "lot": float(self.lot),
            "sigma": float(self.sigma),
            "grid_bits": self.grid_bits,
            "slack": float(self.slack),
            "sampler": self.sampler,
            "adjacency": self.adjacency,
            "q_num": self.q_num,
            "delta": None if self.delta is None else float(self.delta),
            "max_steps": self.max_steps,
            "max_epochs": self.max_epochs,
            "steps_per_epoch": self.steps_per_epoch,
            "table": [entry.to_json() for entry in self.table],
            "accounting": self.accounting,
            "reason": self.reason,
            "accountant": self.accountant,
            "accountant_version": self.accountant_version,
            "parameters": self.parameters,
            "assumed_public": self.assumed_public,
            "groups": [list(group) for group in self.groups],
            "clipping_options": None if self.clipping_options is None else self.clipping_options.to_json(),
            "phases": [phase.to_json() for phase in self.phases],
        }

    @classmethod
    def from_json(cls, fields: Fields) -> PrivacySpec:
        """Read a privacy block. Raises ArtifactError."""
        clipping = fields.choice("clipping", get_args(Clipping))
        read = AutomaticOptions.from_json if clipping == "automatic" else QuantileOptions.from_json
        return cls(
            mechanism=fields.choice("mechanism", get_args(Mechanism)),
            clipping=clipping,
            clip=fields.numbers("clip"),
            lot=fields.number("lot"),
            sigma=fields.number("sigma"),
            grid_bits=fields.optional_integer("grid_bits", 1, MAX_GRID_BITS),
            slack=fields.number("slack"),
            sampler=fields.choice("sampler", get_args(SamplerKind)),
            adjacency=fields.choice("adjacency", get_args(Adjacency)),
            q_num=fields.optional_integer("q_num", 1, Q_ONE),
            delta=fields.optional_number("delta"),
            max_steps=fields.optional_integer("max_steps", 1),
            max_epochs=fields.optional_integer("max_epochs", 1),
            steps_per_epoch=fields.optional_integer("steps_per_epoch", 1),
            table=fields.records("table", EpsilonEntry.from_json),
            accounting=fields.choice("accounting", get_args(Accounting)),
            reason=fields.text("reason", empty=True),
            accountant=fields.text("accountant", empty=True),
            accountant_version=fields.text("accountant_version", empty=True),
            parameters=fields.texts("parameters"),
            assumed_public=fields.texts("assumed_public"),
            groups=fields.text_lists("groups"),
            clipping_options=fields.optional_record("clipping_options", read),
            phases=fields.records("phases", PhaseSpec.from_json),
        )


def _contradiction(what: str) -> ArtifactError:
    return ArtifactError(
        f"the privacy block contradicts itself: {what}",
        "manifest, privacy",
        "compile the script again; if this persists, report the program that shows it",
    )
