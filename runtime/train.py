"""The run loop: plain and private training on a data set, with checkpoints, and never a lot before its count."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from .data import DataSet
from .engine import Array
from .errors import BudgetError, CheckpointError, DataError, LedgerError, NumericsError
from .keeper import Keeper
from .keystream import fresh_key, insecure_key
from .ledger import Ledger, Spent
from .model import Model, model_key
from .prefetch import Prefetcher
from .privacy import Q_ONE, PrivacySpec
from .progress import Display, StepReport
from .sampler import Course, Indices, Sampler, SamplerState, plain_sampler, private_sampler
from .signals import StopSignals
from .stepper import Fetches

Callback = Callable[[StepReport], None]

DEFAULT_BATCH = 32
"""Rows of an ordinary batch where neither the program nor the caller says."""

_RESERVE_SECONDS = 1.0
_MAX_RESERVED = 1024
"""A private run reserves in the ledger what takes a second, so that its fsync costs little beside the steps."""


@dataclass(frozen=True)
class TrainOptions:
    """What a run does.

    Attributes:
        steps: last step of the run, counted from its very beginning, resumptions included.
        fetches: names shown and handed to callbacks.
        check_numerics: undo and refuse a step that makes a parameter NaN or infinite (and, in an ordinary
            program, a fetched value).
        public_only: show, and return, public values only.
    """

    steps: int
    fetches: tuple[str, ...]
    check_numerics: bool = False
    public_only: bool = False


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Attributes:
        step: steps whose result is in the state, over all resumptions.
        taken: steps of this run.
        examples: examples of this run; None for private runs.
        seconds: wall time of this run.
        fetches: fetched values of the last step.
        interrupted: whether a signal ended it.
        checkpoint: the last one written, or None.
        unsaved: why the checkpoint that the run ended with could not be written, or None: the newest state is then in
            memory only.
        spent: what the privacy ledger says; None for ordinary programs.
    """

    step: int
    taken: int
    examples: int | None
    seconds: float
    fetches: Mapping[str, Array]
    interrupted: bool
    checkpoint: Path | None
    unsaved: CheckpointError | None
    spent: Spent | None


@dataclass(frozen=True)
class Taken:
    """A step that was taken: its fetches and its number of examples."""

    fetches: Fetches
    rows: int


class Source(Protocol):
    """Takes one step after another on a model."""

    def take(self, left: int) -> Taken:
        """Take one step; ``left`` more are planned, this one included."""
        ...

    def close(self) -> None:
        """End what works ahead; no step is taken afterwards."""
        ...


@dataclass(frozen=True)
class _Drawn:
    """A lot with its rows: the examples, their feeds, and where the sampler stands behind it."""

    indices: Indices
    feeds: Mapping[str, Array]
    after: SamplerState


def _draw(sampler: Sampler, data: DataSet, phase: int = 0) -> _Drawn:
    indices = sampler.next_lot(phase)
    return _Drawn(indices, data.take(indices), sampler.state)


class PlainSteps:
    """Batches of a data set, in an order that the model's seed fixes.

    Goes on where the model's last batches ended, if they were drawn in the same way, else with a new epoch.
    ``prefetch`` draws and gathers the next batch while a step runs (see `Prefetcher`); the model's place moves on with
    the step that uses it. Raises DataError when a fixed batch does not fit into the data.
    """

    def __init__(
        self,
        model: Model,
        data: DataSet,
        batch: int,
        kind: Literal["shuffle", "sequential"],
        *,
        prefetch: bool | None = None,
    ) -> None:
        fixed = model.manifest.batch
        if fixed is not None and data.rows < fixed:
            raise DataError(
                f"the data set has {data.rows} rows, the program was compiled for batches of {fixed}",
                data.where,
                "give more data, or compile with a smaller --batch",
            )
        self._model = model
        self._data = data
        course = Course(kind, batch, data.rows)
        start = model.sampler
        if start is not None and model.course != course:
            start = SamplerState(start.epoch + (start.position > 0), 0)
        model.course = course
        self._sampler = plain_sampler(kind, data.rows, batch, model.seed, drop_tail=fixed is not None, state=start)
        self._ahead = Prefetcher[_Drawn](enabled=prefetch)
        self.lots_per_epoch = self._sampler.lots_per_epoch
        self.dropped = data.rows % batch if fixed is not None else 0

    def take(self, left: int) -> Taken:
        """One step on the next batch."""
        model = self._model
        drawn = self._ahead.take(self._draw)
        if left > 1 and self._ahead.worthwhile:
            self._ahead.start(self._draw)
        fetches = model.stepper.run("step", drawn.feeds)
        model.sampler = drawn.after
        return Taken(fetches, len(drawn.indices))

    def close(self) -> None:
        """End what works ahead."""
        self._ahead.close()

    def _draw(self) -> _Drawn:
        return _draw(self._sampler, self._data)


class PrivateSteps:
    """Lots from the sampler that the artifact was accounted for, each counted in the ledger before it is drawn.

    Args:
        model: what is trained.
        data: the examples; nothing but the choice of indices depends on their number.
        ledger: open, and held by this run.
        secret: key of a reproducible test run without any privacy guarantee, or None.
        first_epoch: epochs that this ledger's run has counted already.
        prefetch: draw and gather the next lot while a step runs, if the ledger holds a reservation for its step.
    """

    def __init__(
        self,
        model: Model,
        data: DataSet,
        ledger: Ledger,
        secret: bytes | None,
        first_epoch: int = 0,
        *,
        prefetch: bool | None = None,
    ) -> None:
        self._model = model
        self._data = data
        self._ledger = ledger
        self._secret = secret
        self._first_epoch = first_epoch
        key = fresh_key() if secret is None else insecure_key(secret, "sampler", ledger.steps)
        self._spec = spec_of(model)
        self._sampler: Sampler = private_sampler(self._spec, data.rows, key)
        self._ahead = Prefetcher[_Drawn](enabled=prefetch)
        self._epoch = self._sampler.epoch
        """Epoch of the next lot, drawn already or not."""
        self._reserve = 1
        model.insecure = model.insecure or secret is not None

    def take(self, left: int) -> Taken:
        """One step on the next lot. Raises BudgetError when it would exceed the budget; nothing happens then."""
        number = self._ledger.step(self._first_epoch + self._epoch, ahead=max(1, min(left, self._reserve)))
        start = time.monotonic()
        drawn = self._ahead.take(lambda: self._draw(number))
        self._epoch = self._sampler.epoch
        if left > 1 and self._ahead.worthwhile and self._ledger.holds_next(self._first_epoch + self._epoch):
            self._ahead.start(lambda: self._draw(number + 1))
        key = fresh_key() if self._secret is None else insecure_key(self._secret, "step", number)
        fetches = self._model.stepper.run_lot(drawn.feeds, key=key, draw=number)
        seconds = max(time.monotonic() - start, 1e-6)
        self._reserve = max(1, min(_MAX_RESERVED, int(_RESERVE_SECONDS / seconds)))
        return Taken(fetches, len(drawn.indices))

    def close(self) -> None:
        """End what works ahead; a lot that was drawn for a reserved step and not used is forgotten."""
        self._ahead.close()

    def _draw(self, number: int) -> _Drawn:
        return _draw(self._sampler, self._data, self._spec.phase_of(number))


def spec_of(model: Model) -> PrivacySpec:
    """The privacy block of a private model."""
    spec = model.manifest.privacy
    assert spec is not None, "asked of private models only"
    return spec


def private_steps(
    spec: PrivacySpec, epochs: int | None, steps: int | None, counted: int, done: int, resumed: bool
) -> int:
    """The last step of a private run, from public constants alone.

    Args:
        spec: the privacy block.
        epochs: stands for ceil(epochs / q) steps, or None.
        steps: asked for, or None; the default is what is left of the budget.
        counted: steps that the ledger counts already, over all runs.
        done: steps whose result is in the state.
        resumed: the run goes on: ``steps`` and ``epochs`` count from its beginning, and steps lost in a crash
            shorten it.

    Raises BudgetError when the steps asked for are beyond the budget.
    """
    if epochs is not None:
        if spec.phases:
            raise BudgetError(
                "epochs have no one length: the phases may sample at different rates",
                "epochs",
                "say --steps, or nothing: the default is all steps of all phases",
            )
        if spec.q_num is None:
            raise BudgetError(
                "how many steps an epoch has is unknown: the sampling rate is not stated",
                "epochs",
                "say --steps, or compile with dataset_size or sample_rate",
            )
        steps = -(-epochs * Q_ONE // spec.q_num)
    left = None if spec.max_steps is None else spec.max_steps - counted
    if steps is None:
        if left is None:
            raise BudgetError(
                "how long to train is not said", "steps", "say --steps or --epochs; the artifact states no max_steps"
            )
        if left < 1 and not resumed:
            raise BudgetError(
                f"the privacy budget of {spec.max_steps} steps is used up",
                f"{counted} steps are counted already",
                "stop here, or compile with more max_steps: that costs more epsilon",
            )
        return done + left
    wanted = max(0, steps - done) if resumed else steps
    if left is not None and wanted > left:
        if not resumed:
            raise BudgetError(
                f"{wanted} steps are wanted, the privacy budget has {left} of {spec.max_steps} left",
                f"{counted} steps are counted already",
                "ask for fewer steps, or compile with more max_steps: that costs more epsilon",
            )
        wanted = left
    return done + wanted


def lost_steps(run_dir: Path | str, counted: int, model: Model, *, resumed: bool) -> str:
    """What is said where a private run begins with steps in its ledger that are not in the state; public values only.

    Args:
        run_dir: of the ledger.
        counted: steps in the ledger.
        model: with fewer steps behind its state.
        resumed: it was to go on from a checkpoint, and did if a step is in its state.
    """
    text = (
        f"note: steps counted in {run_dir} already: {counted}, of them in the parameters: {model.effective_steps}; "
        "the others cost budget and are not in this result"
    )
    if resumed and model.step:
        return text  # what a crash lost cannot be had again
    return (
        f"{text}; to go on from them, {'' if resumed else '--resume from a checkpoint, or '}run what they trained (-o)"
    )


def run(
    model: Model,
    source: Source,
    options: TrainOptions,
    show: Display,
    ledger: Ledger | None = None,
    callback: Callback | None = None,
    keeper: Keeper | None = None,
    *,
    allow_nonprivate: bool = False,
) -> RunResult:
    """Take steps until ``options.steps``, a signal, or an error.

    SIGINT, SIGTERM and SIGHUP, where checkpoints are written and this is the main thread, let the step end, write a
    checkpoint and end the run; a second one acts as usual. Callbacks of a private run get public values only,
    unless ``allow_nonprivate``: then the ledger records that epsilon does not cover what they decide.

    A checkpoint that cannot be written does not end the run: it warns, and tries again when the next one is due. When
    the run fails between two steps, the steps before are kept as those of an interrupted one are.

    Args:
        model: what is trained.
        source: takes the steps.
        options: how far, what is fetched, and checks.
        show: where progress is shown.
        ledger: what counts the steps of a private source; None for ordinary ones.
        callback: called after every step.
        keeper: writes the checkpoints; None writes none, not even when interrupted.
        allow_nonprivate: let the callback of a private run see everything.

    Raises NumericsError (state is then as before the step), and what the source and the callback raise.
    """
    if ledger is not None and callback is not None and allow_nonprivate:
        ledger.taint("a callback saw values that are not private")
    marked = frozenset(o.name for o in model.manifest.function("step").outputs if o.not_private)
    first = model.step
    examples = 0
    began = time.monotonic()
    last: Fetches = {}
    if keeper is not None:
        keeper.begin()

    with StopSignals(enabled=keeper is not None) as signals, show:
        try:
            while model.step < options.steps and not signals.raised:
                try:
                    taken = _take(model, source, options)
                except BudgetError as error:
                    if model.step == first:
                        raise
                    # A run may end before its last step: a resumed one starts a new epoch, and epochs are counted too.
                    show.note(f"training ends after step {model.step}: {error.what}")
                    break
                model.step += 1
                examples += taken.rows
                last = {name: taken.fetches[name] for name in options.fetches if name in taken.fetches}
                shown = signals.raised or model.step == options.steps or show.due()
                if shown or callback is not None:
                    report = StepReport(
                        step=model.step,
                        of=options.steps,
                        rows=taken.rows,
                        fetches=last,
                        not_private=marked,
                        examples_per_second=examples / max(time.monotonic() - began, 1e-9),
                        spent=None if ledger is None else ledger.spent(),
                    )
                    if shown:
                        show.show(_public(report) if options.public_only else report)
                    if callback is not None:
                        callback(report if ledger is None or allow_nonprivate else _public(report))
                if keeper is not None:
                    keeper.after_step(ledger)
        except Exception as error:
            if keeper is not None:
                _keep(keeper, ledger, error, show)
            raise
        if signals.raised:
            show.note(f"{signals.name}: stopping after step {model.step}")
        if keeper is not None:
            keeper.at_end(ledger, cut_short=signals.raised)
    return RunResult(
        step=model.step,
        taken=model.step - first,
        examples=examples if ledger is None else None,
        seconds=time.monotonic() - began,
        fetches={n: v for n, v in last.items() if n not in marked} if options.public_only else last,
        interrupted=signals.raised and model.step < options.steps,
        checkpoint=None if keeper is None else keeper.written,
        unsaved=None if keeper is None else keeper.failure,
        spent=None if ledger is None else ledger.spent(),
    )


def _keep(keeper: Keeper, ledger: Ledger | None, error: Exception, show: Display) -> None:
    """Keep the steps before the one that failed: their state is whole.

    A ledger that takes no more steps ends a run from outside, like a signal.
    """
    before = keeper.written
    keeper.at_end(ledger, cut_short=isinstance(error, LedgerError))
    if keeper.written is not None and keeper.written != before:
        show.note(f"the steps before are kept: {keeper.written}")


def _take(model: Model, source: Source, options: TrainOptions) -> Taken:
    """One step, undone when it gives numbers that are not finite and that is to be checked."""
    left = options.steps - model.step
    if not options.check_numerics:
        return source.take(left)
    before = [buffer.save() for buffer in model.buffers.values()]
    sampler, counter = model.sampler, model.stepper.rng_counter
    taken = source.take(left)
    name, what = model.first_not_finite(), "parameter"
    if name is None and not model.private:  # what is fetched from a private step is nobody's to decide by
        name, what = _first_not_finite(taken.fetches, options.fetches), "fetched value"
    if name is None:
        return taken
    for back in before:
        back()
    model.sampler = sampler
    model.stepper.seed(model_key(model.seed), counter)
    raise NumericsError(
        f"the {what} {name!r} became NaN or infinite",
        f"step {model.step + 1}",
        "lower the learning rate, clip gradients, or look for log and division near 0; the state is as before the step",
    )


def _first_not_finite(fetches: Fetches, names: tuple[str, ...]) -> str | None:
    for name in names:
        value = fetches.get(name)
        if value is not None and value.dtype.kind == "f" and not np.isfinite(value).all():
            return name
    return None


def _public(report: StepReport) -> StepReport:
    """``report`` without what depends on single examples: such values, lot sizes and speed."""
    fetches = {name: value for name, value in report.fetches.items() if name not in report.not_private}
    return replace(report, rows=None, fetches=fetches, examples_per_second=None)
