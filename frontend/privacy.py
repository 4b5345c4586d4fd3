"""``fluid.privacy``: data for private programs, and what their training has cost."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..compiler.driver import Source, feed_specs, privacy_block
from ..compiler.errors import PrivacyError
from ..compiler.ir.types import Sym
from ..runtime.artifact import PrivacySpec
from ..runtime.data import open_arrays
from ..runtime.errors import DataError, PrivacyWarning
from ..runtime.feeds import FeedCheck
from .dygraph.private import PrivateTraining
from .dygraph.private_execution import spec_of
from .dygraph.variable import EagerVariable
from .errors import invalid, wrong_type
from .feed_types import feed_type
from .framework import Program, default_main_program
from .lots import Lot
from .lower import lower
from .privacy_spec import Phase
from .private_optimizer import PrivateOptimizer
from .source import user_location
from .steps import PrivateSteps, set_insecure_secret
from .variable import Variable
from .watch import is_watched

__all__ = ["Lot", "Phase", "PoissonBatches", "Spent", "insecure_noise_key", "poisson_batches", "public", "spent"]

_FAR_OFF = 0.1
"""Relative distance between the expected lot and the stated one that is worth a warning."""


@dataclass(frozen=True)
class Spent:
    """What the private steps of a program have cost.

    Attributes:
        steps: Steps counted.
        max_steps: Steps of the budget, or None.
        delta: δ of both epsilons, or None.
        epsilon: ε of the steps so far: holds where stopping here does not depend on anything that was seen.
        budget: ε of all ``max_steps`` steps: the guarantee of the run, whatever its length depends on.
        reason: Why there is no epsilon; empty where there is one.
    """

    steps: int
    max_steps: int | None
    delta: float | None
    epsilon: float | None
    budget: float | None
    reason: str

    def __str__(self) -> str:
        """For people: ``ε = 7.99 (δ = 1e-4) after 100 of 100 steps``."""
        if self.epsilon is None or self.budget is None or self.delta is None:
            return f"{self.reason} ({_steps(self.steps)})"
        taken = f"(δ = {_short(self.delta)}) after {self.steps} of {self.max_steps} steps"
        if self.steps == self.max_steps:
            return f"ε = {_rounded_up(self.budget)} {taken}"
        now, guarantee = _rounded_up(self.epsilon), _rounded_up(self.budget)
        return f"ε = {now} so far {taken}; guaranteed whenever it stops: ε = {guarantee}"


class PoissonBatches(Iterator[Lot]):
    """Lots of a data set, drawn and counted one by one; see `poisson_batches`."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]], whole: frozenset[str], steps: PrivateSteps) -> None:
        self._arrays = arrays
        self._whole = whole
        self._steps = steps
        (rows,) = {len(array) for name, array in arrays.items() if name not in whole}
        self._sampler = steps.sampler(rows)
        self._idle = True
        """Whether the present loop has been given no lot."""
        self._warned = False

    def __iter__(self) -> Self:
        self._idle = True
        return self

    def __next__(self) -> Lot:
        if self._steps.exhausted:
            if self._idle and not self._warned:
                self._warned = True
                warnings.warn(
                    f"poisson_batches: no lot is left: the budget of {_steps(self._steps.counted)} is used up, "
                    "and this loop trains nothing. One loop takes all max_steps; there is none per epoch",
                    PrivacyWarning,
                    stacklevel=2,
                )
            raise StopIteration
        self._idle = False
        return self._steps.draw(self._choose)

    def _choose(self, phase: int) -> dict[str, NDArray[Any]]:
        chosen = self._sampler.next_lot(phase)
        return {name: array if name in self._whole else array[chosen] for name, array in self._arrays.items()}


def poisson_batches(
    arrays: Mapping[str, ArrayLike] | Path | str,
    program: Program | PrivateOptimizer | None = None,
    run_dir: Path | str | None = None,
) -> PoissonBatches:
    """Lots for a private program, drawn as its privacy is accounted: the only feeds that keep its ε.

    Every example joins every lot by itself with the stated sampling rate, so lots have any size, 0 included; all of
    them are steps. Each is counted in the program's ledger before it is drawn. The iterator ends after
    ``max_steps`` steps, and never where Dpsgd states no ``max_steps``. A loop that begins after them gets no lot, and
    a warning.

    Args:
        arrays: Feed name to data; row i of every array is example i. Public feeds are given whole. Data of declared
            variables that training does not use is left out of the lots. Or the path of a ``.npz`` file or of a folder
            of ``.npy`` files; large ones are mapped, and may be larger than memory.
        program: The program that Dpsgd trains; the default main program if None. In dygraph the optimizer itself, which
            has a ``parameter_list``: names are then the caller's, and every array has a row per example.
        run_dir: Directory of the ledger. Runs on it add up, over processes too. Without it steps are counted in
            memory, with one warning.

    The arrays are looked at once and not copied: do not change them while lots are drawn. An example is its row, and
    what a row holds must not follow from what training showed.

    Returns:
        An iterator of `Lot`, to be fed to ``Executor.run``, or given to ``fluid.dygraph.to_variable``, as they are.

    Raises:
        PrivacyError: The program is not private, states no sampling rate or another sampler, or is not separable.
        ProgramError: Arrays that are not its feeds, or have different numbers of rows.
        DataError: Arrays of another type or shape than its feeds, or with a value out of range in any row.
        LedgerError: The ledger in ``run_dir`` cannot be used.
    """
    owner, spec, source = _of(program, "poisson_batches")
    if run_dir is not None and not isinstance(run_dir, str | Path):
        raise wrong_type(f"poisson_batches: run_dir is {run_dir!r}", "name a directory")
    if isinstance(arrays, str | Path):
        arrays = open_arrays(Path(arrays))
    if not isinstance(arrays, Mapping):
        raise wrong_type(
            f"poisson_batches: arrays is {type(arrays).__name__}",
            "give a dict of feed name to array, or the path of a .npz file or of a folder of .npy files",
        )
    if spec.sampler != "poisson":
        raise PrivacyError(
            f"poisson_batches: the optimizer states sampler={spec.sampler!r}",
            where=user_location().place,
            hint="leave sampler out of Dpsgd, or compile the program: fluidc run draws its lots",
        )
    whole: frozenset[str] = frozenset()
    if source is None:
        found = _as_arrays(arrays)
        _check_rows(found)
    else:
        assert isinstance(owner, Program)
        whole = _public_feeds(source)
        found = _checked(arrays, owner, source, whole)
    if watched := is_watched():
        run_dir = None  # nothing will be trained, so nothing must be counted for good
    steps = PrivateSteps.of(owner, spec, None if run_dir is None else Path(run_dir))
    if steps.run_dir is None and not watched and steps.first_warning():
        warnings.warn(
            "poisson_batches: steps are counted in memory and forgotten with the process; "
            "run_dir='...' keeps the ledger",
            PrivacyWarning,
            stacklevel=2,
        )
    if steps.run_dir is not None and steps.counted and steps.first_warning():
        left = "no step is left" if steps.exhausted else "what is left of the budget goes on from there"
        warnings.warn(
            f"poisson_batches: {_steps(steps.counted)} of earlier runs are counted in {steps.run_dir}: {left}; "
            "their parameters are not loaded",
            PrivacyWarning,
            stacklevel=2,
        )
    batches = PoissonBatches(found, whole, steps)
    _warn_if_far_off(spec, len(next(a for name, a in found.items() if name not in whole)))
    return batches


def spent(program: Program | PrivateOptimizer | None = None) -> Spent:
    """What the private steps of ``program`` have cost so far.

    Args:
        program: A program (the default main program if None); or the private optimizer of a training in dygraph.

    Raises:
        PrivacyError: The program is not private, or the optimizer has taken no step and has no parameter_list.
    """
    owner = _owner(program, "spent")
    steps = PrivateSteps.find(owner)
    if steps is None:
        owner, spec, _ = _of(program, "spent")
        steps = PrivateSteps.of(owner, spec)
    told = steps.spent()
    return Spent(told.steps, steps.spec.max_steps, told.delta, told.so_far, told.budget, told.reason)


def public(var: Variable) -> Variable:
    """Declare that a feed is the same for everybody and no secret, such as a table of class weights.

    Only a feed without an example axis needs this, or in dygraph a value of `to_variable` that a private step reads.
    The report of the program lists it; what is declared public is protected by nothing.

    Returns:
        ``var`` itself.

    Raises:
        ArgumentTypeError: ``var`` is no Variable.
        ProgramError: ``var`` is not fed, or has one row per example.
    """
    if not isinstance(var, Variable):
        raise wrong_type(f"public: {var!r} is not a Variable", "pass what fluid.data returned")
    if isinstance(var, EagerVariable):
        _declare_public(var)
        return var
    if not var.is_data:
        raise invalid(f"public: {var.name} is not fed", "declare feeds; what is computed from them follows")
    if -1 in var.shape:
        raise invalid(
            f"public: {var.name} has the shape {list(var.shape)}, so it has one row per example",
            "only a feed of fixed shape can be the same for all examples",
        )
    var.is_public = True
    var.block.program.edited()
    return var


def _declare_public(var: EagerVariable) -> None:
    fed = var.node.fed
    if fed is None:
        raise invalid(
            f"public: {var.name} is not an array of to_variable", "declare those; what is computed from them follows"
        )
    if fed.lot is not None:
        raise invalid(f"public: {var.name} is an array of a lot, which has one row per example", "leave it as it is")
    var.node.fed = replace(fed, is_public=True)


class insecure_noise_key:
    """Make noise and lots reproducible from a known key, for tests: no privacy is left.

    In force at once, and until the end of the ``with`` block where it is used in one. ``None`` ends it. ε of every
    program that takes a step meanwhile is "none (seeded)", for good.

    Args:
        key: Any bytes but none at all.

    Raises:
        PrivacyError: ``key`` is empty or not bytes.
    """

    def __init__(self, key: bytes | None) -> None:
        if key is not None and (not isinstance(key, bytes) or not key):
            raise PrivacyError(
                f"insecure_noise_key: {key!r} cannot be a key",
                where=user_location().place,
                hint="give some bytes, such as bytes.fromhex('00ff')",
            )
        if key is not None:
            warnings.warn(
                "INSECURE: noise and lots now follow from a known key. Whoever knows it removes the noise; nothing "
                "that is trained from here on is private",
                PrivacyWarning,
                stacklevel=2,
            )
        self._before = set_insecure_secret(key)

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        set_insecure_secret(self._before)


def _owner(program: object, asked: str) -> Program | PrivateTraining:
    """What steps are counted for.  Raises ArgumentTypeError, and PrivacyError for what is not private."""
    if program is None:
        program = default_main_program()
    if isinstance(program, PrivateOptimizer) and program.privacy.mechanism == "paddle":
        raise _not_private(asked)
    if isinstance(program, PrivateOptimizer):
        return program.training
    if not isinstance(program, Program):
        raise wrong_type(
            f"{asked}: program is {type(program).__name__}, not a Program",
            "pass a Program, in dygraph a private optimizer, or leave it out",
        )
    if program.is_eager:
        raise wrong_type(f"{asked}: in dygraph steps are counted for an optimizer", f"{asked}(..., optimizer)")
    return program


def _of(program: object, asked: str) -> tuple[Program | PrivateTraining, PrivacySpec, Source | None]:
    """What steps are counted for, their privacy block, and of a program what it was lowered to."""
    owner = _owner(program, asked)
    if isinstance(owner, PrivateTraining):
        return owner, spec_of(owner), None
    source, spec = _private(owner, asked)
    return owner, spec, source


def _not_private(asked: str) -> PrivacyError:
    return PrivacyError(
        f"{asked}: the program is not private: mechanism='paddle' is Paddle's own kernel",
        where=user_location().place,
        hint="feed it batches as any program, or leave mechanism out of Dpsgd for one that is private",
    )


def _private(program: Program, asked: str) -> tuple[Source, PrivacySpec]:
    """The lowered program and its privacy block.  Raises PrivacyError for a plain program."""
    block = program.global_block()
    if block.private_backward() is None:
        if any(op.type == "dpsgd" for op in block.ops):
            raise _not_private(asked)
        raise PrivacyError(
            f"{asked}: the program is not private: Dpsgd did not minimise it",
            where=user_location().place,
            hint="pass the program that fluid.optimizer.Dpsgd(...).minimize(loss) was called on",
        )
    source = lower(program)
    spec = privacy_block(source)
    assert spec is not None
    return source, spec


def _public_feeds(source: Source) -> frozenset[str]:
    privacy = source.module.privacy
    return frozenset(() if privacy is None else privacy.public_feeds)


def _checked(
    arrays: Mapping[str, ArrayLike], program: Program, source: Source, whole: frozenset[str]
) -> dict[str, NDArray[Any]]:
    """The arrays, named, typed and sized as the program's feeds are, with no value out of range.

    All rows are looked at before the first lot is drawn: refusing only the lots with a bad row would change how
    lots are sampled.
    """
    feeds = {p.name: p.value.tensor.shape for p in source.module.function("step").params if p.role == "feed"}
    declared = program.global_block().vars
    for name in feeds:
        if name in declared and declared[name].lod_level:
            raise invalid(
                f"poisson_batches: the feed {name} has lod_level {declared[name].lod_level}: "
                "lots are made of rows, and a sequence has no row of its own",
                "pad the sequences to one length T, declare them as [-1, T, ...] without lod_level, and feed a mask",
            )
    # As in Executor.run, data of a variable that nothing depends on is no mistake.
    arrays = {n: a for n, a in arrays.items() if n in feeds or n not in declared or not declared[n].is_data}
    if set(arrays) != set(feeds):
        raise invalid(
            f"poisson_batches: the program feeds {', '.join(sorted(feeds))}; "
            f"given: {', '.join(sorted(map(str, arrays))) or '-'}",
            "name the arrays as the program's data variables are named",
        )
    found = _as_arrays(arrays)
    by_example = {name: array for name, array in found.items() if name not in whole}
    for name in by_example:
        if not feeds[name] or not isinstance(feeds[name][0], Sym):
            raise invalid(
                f"poisson_batches: the feed {name} has no example axis",
                "declare it with shape [-1, ...], or as public: fluid.privacy.public(var)",
            )
    _check_rows(by_example)
    types = {name: feed_type(program, name, array) for name, array in found.items()}
    try:
        for spec in feed_specs(lower(program, feed_types=types)):
            FeedCheck(spec).accept(found[spec.name])
    except DataError as error:
        raise DataError(error.what, f"{user_location().place}, {error.where}", error.hint or "") from None
    return found


def _as_arrays(arrays: Mapping[str, ArrayLike]) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {}
    for name, array in arrays.items():
        try:
            found[name] = np.asarray(array)
        except ValueError:
            raise invalid(
                f"poisson_batches: {name} is no array: its rows have different sizes",
                "pad them to one length and feed a mask",
            ) from None
    return found


def _check_rows(arrays: Mapping[str, NDArray[Any]]) -> None:
    rows = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if len(set(rows.values())) != 1 or 0 in rows.values():
        told = ", ".join(f"{name} has {count}" for name, count in rows.items()) or "there is none"
        raise invalid(
            f"poisson_batches: the arrays must have the same number of rows, at least one: {told}",
            "row i of every array must belong to example i",
        )


def _warn_if_far_off(spec: PrivacySpec, rows: int) -> None:
    """Tell the user, on this machine only, that the stated constants do not describe the data at hand."""
    for phase in spec.phases or (spec,):
        assert phase.sample_rate is not None
        expected = phase.sample_rate * rows
        if abs(expected - phase.lot) > _FAR_OFF * phase.lot:
            warnings.warn(
                f"poisson_batches: {rows} rows at sampling rate {phase.sample_rate:.3g} make lots of about "
                f"{expected:.3g} examples, but batch_size = {phase.lot:g}; the privacy holds, the step is mis-scaled",
                PrivacyWarning,
                stacklevel=3,
            )
            return


def _steps(count: int) -> str:
    return f"{count} step" if count == 1 else f"{count} steps"


def _rounded_up(epsilon: float) -> str:
    """Two decimals, never below the bound itself."""
    return f"{math.ceil(epsilon * 100) / 100:.2f}"


def _short(number: float) -> str:
    """``1e-4`` rather than ``0.0001``."""
    mantissa, exponent = f"{number:.3e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
