"""Running the functions of an artifact on state buffers that somebody else owns."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .engine import ALIGNMENT, Array, Buffer, Engine, Handle, aligned
from .errors import ArtifactError, DataError, EngineError
from .extents import Rule
from .feeds import BATCH, LENGTHS, FeedCheck, SequenceCheck, check_names, different_lengths
from .keystream import Key, key_words, step_model_key
from .manifest import Binding, FunctionSpec, Manifest, OutputSpec, numpy_dtype
from .privacy import PrivacySpec
from .rounded_gaussian import rounded_gaussian
from .signals import PutOffInterrupt

Feeds = Mapping[str, object]
Fetches = dict[str, Array]

_MAX_STAGED = 4
"""Batch shapes for which a feed keeps a staging buffer: full and last batch of training and of evaluation."""


@dataclass(frozen=True)
class _Slot:
    """A feed among the arguments of one function."""

    index: int
    check: FeedCheck


@dataclass(frozen=True)
class _Extent:
    """A size among the arguments of one function."""

    index: int
    rule: Rule


@dataclass(frozen=True)
class _Plan:
    """A function with everything that does not change from call to call.

    ``arguments`` holds the handles of state and of the runtime's own inputs; feeds and the mask are None.
    ``of_lots`` says that it takes part in private steps: it reads a mask, noise, or the key and number of a noise
    draw, which only `Stepper.run_lot` sets.
    """

    spec: FunctionSpec
    arguments: tuple[Handle | None, ...]
    slots: tuple[_Slot, ...]
    sequences: SequenceCheck
    extents: tuple[_Extent, ...]
    mask: int | None
    of_lots: bool
    fetches: tuple[OutputSpec, ...]
    names: tuple[str, ...]
    random: bool
    clock: bool
    batch: int | None


class Stepper:
    """Binds state buffers to compiled functions and calls them.

    The buffers belong to the caller (a session, or a scope); what the caller writes into ``buffer.array`` between two
    calls is what the next call reads, and there it finds what the call has made of it. Handles are made once.

    Args:
        manifest: of the artifact that ``engine`` has loaded.
        engine: executes the functions.
        state: name -> buffer of every state variable that a function touches; its array is 64-byte aligned and
            contiguous (`engine.aligned`).

    Raises EngineError when a buffer is missing or is not what the manifest declares.
    """

    def __init__(self, manifest: Manifest, engine: Engine, state: Mapping[str, Buffer]) -> None:
        self._manifest = manifest
        self._engine = engine
        self._state = state
        self._checks = {feed.name: FeedCheck(feed) for feed in manifest.feeds}
        self._staged: dict[tuple[str, tuple[int, ...]], tuple[Array, Handle]] = {}
        self._key, self._key_handle = self._own((8,), np.dtype(np.uint32), secret=True)
        self._draw, self._draw_handle = self._own((), np.dtype(np.uint64))
        # A secret in private steps only, but its handle is made once.
        self._rng_key, self._rng_key_handle = self._own((8,), np.dtype(np.uint32), secret=True)
        self._rng_counter, self._rng_counter_handle = self._own((), np.dtype(np.uint64))
        self._row, self._row_handle = self._own((), np.dtype(np.int64))
        self._phase, self._phase_handle = self._own((), np.dtype(np.int64))
        self._clock, self._clock_handle = self._own((), np.dtype(np.uint64))
        self._mask, self._mask_handle = self._own((manifest.batch or 1,), np.dtype(np.bool_))
        self._handles = self._bind_state()
        # Buffers are shared by steppers; the engine of another one may leave values where this one does not look.
        self._to_bring_home = tuple(state[name] for name in self._handles) if engine.in_place else ()
        self._noise = self._noise_buffers()
        self._plans: dict[str, _Plan] = {spec.name: self._make_plan(spec) for spec in manifest.functions}

    # -- model randomness ---------------------------------------------------------------------------------------

    def seed(self, key: Key, counter: int = 0) -> None:
        """Set the key of initialisers and dropout, and the counter that tells one call from the next.

        Private steps count too, but take their numbers from keys of their own.
        """
        self._rng_key[...] = key_words(key)
        self._rng_counter[...] = counter

    @property
    def rng_counter(self) -> int:
        """Counter that the next call uses; each call of a random function other than ``infer`` adds one.

        A private step adds one, however many batches its lot is divided into: the index in the lot tells their rows
        apart.
        """
        return int(self._rng_counter)

    # -- calls --------------------------------------------------------------------------------------------------

    def run(self, function: str, feeds: Feeds) -> Fetches:
        """Call ``function`` once; returns its fetches by name, as arrays of their own.

        Feeds that the program declares but this function does not read are ignored. Arrays that are aligned and
        contiguous are not copied. Everything is checked before anything runs, so a refused call leaves state as
        it was. Raises DataError for feeds that do not fit and for the parts of a private step, which `run_lot`
        calls; ArtifactError for an unknown function.
        """
        plan = self._plan(function)
        arrays, rows = self._accept(plan, feeds)
        if plan.of_lots:
            raise DataError(
                f"{function} runs on lots, with noise and a mask",
                f"function {function!r}",
                "train the artifact through Session.run or Session.train",
            )
        if plan.batch is not None and rows is not None and rows != plan.batch:
            raise DataError(
                f"the batch has {rows} rows, the program was compiled for {plan.batch}",
                f"function {function!r}",
                f"feed {plan.batch} rows, or compile without --batch for any number of rows",
            )
        arguments = list(plan.arguments)
        for slot, array in zip(plan.slots, arrays, strict=True):
            arguments[slot.index] = self._handle(slot.check.spec.name, array)
        if plan.extents:
            self._set_extents(plan, arguments, arrays)
        return dict(zip(plan.names, self._call(plan, arguments), strict=True))

    def check(self, function: str, feeds: Feeds) -> None:
        """Raise what `run` or `run_lot` of ``function`` would raise for ``feeds``, and run nothing."""
        plan = self._plan(function)
        self._accept(plan, feeds, empty=plan.mask is not None)

    def run_lot(self, feeds: Feeds, *, key: Key, draw: int) -> Fetches:
        """Take one private step on a lot of any size, the empty one included.

        At most ``manifest.batch`` rows run as one ``step``; more are accumulated batch by batch and applied once;
        none is an ``apply`` alone. Padded rows are masked. Fetches cover the lot's own rows only: a mean over no
        rows is NaN.

        Args:
            feeds: the rows of the lot.
            key: 32 bytes made for this step alone; wiped from the stepper's memory before this returns. The model's
                randomness in the step comes from it too, not from the seed.
            draw: number of the noise draw: of the step, as the ledger counts it, which tells its phase too.

        Raises DataError for feeds that do not fit, BudgetError for a step after the last phase; state is then, and
        after any failure, as it was. A KeyboardInterrupt leaves it as it was too, or with the whole step taken.
        """
        plan = self._plan("step")
        batch = self._manifest.batch
        if plan.mask is None or batch is None:
            raise ArtifactError("the program has no private step", "function 'step'", "use run for its batches")
        arrays, rows = self._accept(plan, feeds, empty=True)
        phase = 0 if self._manifest.privacy is None else self._manifest.privacy.phase_of(draw)
        public = self._rng_key.copy()
        self._key[...] = key_words(key)
        self._draw[...] = draw
        self._phase[...] = phase
        try:
            if plan.random:
                self._rng_key[...] = key_words(step_model_key(key))
            draw_noise(self._manifest.privacy, {name: buffer for name, (buffer, _) in self._noise.items()}, key, draw)
            if rows and rows <= batch:
                arguments = self._padded(plan, arrays, 0, rows, batch)
                with PutOffInterrupt():
                    values = self._call(plan, arguments)
                return {
                    spec.name: _own_rows(spec, value, rows) for spec, value in zip(plan.fetches, values, strict=True)
                }
            return self._accumulated(plan, arrays, rows or 0, batch)
        finally:
            self._key[...] = 0
            self._rng_key[...] = public
            for buffer, _ in self._noise.values():
                buffer[...] = 0

    # -- parts --------------------------------------------------------------------------------------------------

    def _accumulated(self, step: _Plan, arrays: list[Array], rows: int, batch: int) -> Fetches:
        """ceil(rows / batch) calls of ``accumulate`` and one of ``apply``."""
        accumulate, apply = self._plan("accumulate"), self._plan("apply")
        by_name = {slot.check.spec.name: array for slot, array in zip(step.slots, arrays, strict=True)}
        chosen = [by_name[slot.check.spec.name] for slot in accumulate.slots]
        written = [self._state[o.name] for o in accumulate.spec.outputs if o.kind == "state"]
        restore = [buffer.save() for buffer in written] if rows else []
        parts: list[list[Array]] = []
        sizes: list[int] = []
        applied = False
        try:
            for start in range(0, rows, batch):
                size = min(batch, rows - start)
                arguments = self._padded(accumulate, chosen, start, size, batch)
                parts.append(self._execute(accumulate, arguments))
                sizes.append(size)
            with PutOffInterrupt():
                last = self._execute(apply, apply.arguments)
                self._advance(step)
                applied = True
        except BaseException:  # an interrupt too: a half-summed lot must not leak into the next one
            if not applied:
                for back in restore:
                    back()
            raise
        values = {
            spec.name: _combine(spec, [part[i] for part in parts], sizes) for i, spec in enumerate(accumulate.fetches)
        }
        return values | dict(zip(apply.names, last, strict=True))

    def _call(self, plan: _Plan, arguments: Sequence[Handle]) -> list[Array]:
        if plan.clock:
            self._clock[...] = int(time.time())
        values = self._execute(plan, arguments)
        self._advance(plan)
        return values

    def _execute(self, plan: _Plan, arguments: Sequence[Handle]) -> list[Array]:
        for buffer in self._to_bring_home:
            if buffer.is_away:
                buffer.bring_home()
        return self._engine.call(plan.spec.name, arguments)

    def _advance(self, plan: _Plan) -> None:
        if plan.random:
            self._rng_counter += np.uint64(1)

    def _accept(self, plan: _Plan, feeds: Feeds, empty: bool = False) -> tuple[list[Array], int | None]:
        """The arrays of the plan's feeds, checked one by one and against each other, and their rows."""
        arrays: list[Array] = []
        sizes: dict[str, int] = {}
        try:
            for slot in plan.slots:
                check = slot.check
                array = check.accept(feeds[check.spec.name])
                for axis, symbol in check.symbols:
                    size = array.shape[axis]
                    if sizes.setdefault(symbol, size) != size:
                        raise self._disagreement(plan, feeds, symbol)
                arrays.append(array)
        except KeyError:
            self._check_names(plan, feeds)
            raise
        if len(feeds) > len(arrays):
            self._check_names(plan, feeds)
        plan.sequences.check(arrays)
        if not empty and 0 in sizes.values():
            raise DataError("the batch has no rows", f"function {plan.spec.name!r}", "feed at least one row")
        most = self._manifest.max_rows
        if most is not None and max(sizes.values(), default=0) > most:
            raise DataError(
                f"{max(sizes.values()):,} rows are too many: the random numbers of one call suffice for {most:,}",
                f"function {plan.spec.name!r}",
                "feed fewer rows at a time; for a private program, state a smaller batch_size",
            )
        return arrays, sizes.get(BATCH)

    def _check_names(self, plan: _Plan, feeds: Feeds) -> None:
        needed = [slot.check.spec.name for slot in plan.slots]
        check_names(self._manifest, needed, feeds, f"feeds of {plan.spec.name}")

    def _disagreement(self, plan: _Plan, feeds: Feeds, symbol: str) -> DataError:
        found: list[str] = []
        divided = [
            slot.check.spec.name
            for slot in plan.slots
            if slot.check.spec.shape[:1] == (symbol,) and slot.check.spec.name + LENGTHS in feeds
        ]
        lengths = {name: self._checks[name + LENGTHS].accept(feeds[name + LENGTHS]) for name in divided}
        for name in divided[1:]:
            if not np.array_equal(lengths[divided[0]], lengths[name]):
                return different_lengths(divided[0], lengths[divided[0]], name, lengths[name])
        for slot in plan.slots:
            name = slot.check.spec.name
            shape = np.shape(slot.check.accept(feeds[name]))
            found += [f"{name!r} has {shape[axis]}" for axis, dim in slot.check.symbols if dim == symbol]
        what = "rows" if symbol == BATCH else f"sizes of {symbol}"
        return DataError(
            f"the feeds have different numbers of {what}: {', '.join(found)}",
            f"feeds of {plan.spec.name}",
            "feed arrays whose rows belong together, one row per example in each",
        )

    def _set_extents(self, plan: _Plan, arguments: list[Handle | None], arrays: Sequence[Array]) -> None:
        """Work out the sizes that lengths decide. Raises DataError for lengths that give none."""
        fed = {slot.check.spec.name: array for slot, array in zip(plan.slots, arrays, strict=True)}
        for extent in plan.extents:
            try:
                size = extent.rule.at(fed)
            except ValueError as error:
                raise DataError(
                    f"the size {extent.rule} cannot be worked out: {error}",
                    f"feeds {', '.join(map(repr, extent.rule.feeds))} of {plan.spec.name}",
                    "feed lengths that fit each other, none of them negative",
                ) from None
            _, arguments[extent.index] = self._staging(f"@extent/{extent.rule}", (size,), np.dtype(np.bool_))

    def _handle(self, name: str, array: Array) -> Handle:
        """A handle of ``array`` itself where the engine can read it, else of an aligned copy."""
        flags = array.flags  # numpy exports no array that may not be written, and engines take it by its export
        if flags.c_contiguous and flags.writeable and array.__array_interface__["data"][0] % ALIGNMENT == 0:
            return self._engine.tensor(array)
        buffer, handle = self._staging(name, array.shape, array.dtype)
        buffer[...] = array
        return handle

    def _padded(self, plan: _Plan, arrays: Sequence[Array], start: int, size: int, batch: int) -> list[Handle]:
        """Arguments for rows [start, start + size) of a lot, padded to ``batch`` rows."""
        arguments = list(plan.arguments)
        for slot, array in zip(plan.slots, arrays, strict=True):
            check = slot.check
            axis = check.batch_axis
            if axis is None or (start == 0 and size == batch == array.shape[axis]):
                arguments[slot.index] = self._handle(check.spec.name, array)
                continue
            shape = (*array.shape[:axis], batch, *array.shape[axis + 1 :])
            buffer, handle = self._staging(check.spec.name, shape, array.dtype)
            before = (slice(None),) * axis
            buffer[(*before, slice(0, size))] = array[(*before, slice(start, start + size))]
            buffer[(*before, slice(size, None))] = check.filler
            arguments[slot.index] = handle
        self._row[...] = start
        self._mask[:size] = True
        self._mask[size:] = False
        if plan.mask is not None:
            arguments[plan.mask] = self._mask_handle
        return arguments

    def _staging(self, name: str, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> tuple[Array, Handle]:
        """An aligned buffer for this feed and shape, kept for the next call."""
        found = self._staged.get((name, shape))
        if found is None:
            older = [key for key in self._staged if key[0] == name]
            if len(older) >= _MAX_STAGED:
                del self._staged[older[0]]
            found = self._staged[name, shape] = self._own(shape, dtype)
        return found

    # -- binding ------------------------------------------------------------------------------------------------

    def _own(
        self, shape: tuple[int, ...], dtype: np.dtype[np.generic], *, secret: bool = False
    ) -> tuple[Array, Handle]:
        buffer = aligned(shape, dtype)
        buffer.fill(0)
        return buffer, self._engine.tensor(buffer, secret=secret)

    def _bind_state(self) -> dict[str, Handle]:
        used = {b.name for f in self._manifest.functions for b in f.inputs if b.kind == "state"}
        handles: dict[str, Handle] = {}
        for spec in self._manifest.state:
            if spec.name not in used:
                continue
            buffer = self._state.get(spec.name)
            if buffer is None:
                raise EngineError(
                    f"the state {spec.name!r} has no value",
                    f"state {spec.name!r}, {spec.dtype}{list(spec.shape)}",
                    "initialise it first: run the startup program",
                )
            array = buffer.home
            if array.dtype != numpy_dtype(spec.dtype, spec.name) or array.shape != spec.shape:
                raise EngineError(
                    f"the state {spec.name!r} is {array.dtype}{list(array.shape)}, "
                    f"the program declares {spec.dtype}{list(spec.shape)}",
                    f"state {spec.name!r}",
                    "run the startup program that belongs to this program",
                )
            usable = array.flags.c_contiguous and array.flags.writeable and array.ctypes.data % ALIGNMENT == 0
            if not usable:
                raise EngineError(
                    f"the buffer of state {spec.name!r} is not contiguous, writeable and {ALIGNMENT}-byte aligned",
                    f"state {spec.name!r}",
                    "allocate it with fluidc.runtime.engine.aligned",
                )
            handles[spec.name] = self._engine.state(buffer)
        return handles

    def _noise_buffers(self) -> dict[str, tuple[Array, Handle]]:
        """By parameter, for every one that a function takes noise for."""
        wanted = {b.name for f in self._manifest.functions for b in f.inputs if b.kind == "noise"}
        integer = np.dtype(np.int64)
        return {s.name: self._own(s.shape, integer, secret=True) for s in self._manifest.state if s.name in wanted}

    def _make_plan(self, spec: FunctionSpec) -> _Plan:
        own: dict[str, Handle] = {
            "key": self._key_handle,
            "draw": self._draw_handle,
            "rng_key": self._rng_key_handle,
            "rng_counter": self._rng_counter_handle,
            "row": self._row_handle,
            "phase": self._phase_handle,
            "clock": self._clock_handle,
        }

        def made(binding: Binding) -> Handle | None:
            if binding.kind == "state":
                return self._handles[binding.name]
            return self._noise[binding.name][1] if binding.kind == "noise" else own.get(binding.kind)

        kinds = [binding.kind for binding in spec.inputs]
        fetches = tuple(output for output in spec.outputs if output.kind == "fetch")
        return _Plan(
            spec=spec,
            arguments=tuple(made(binding) for binding in spec.inputs),
            slots=tuple(_Slot(i, self._checks[b.name]) for i, b in enumerate(spec.inputs) if b.kind == "feed"),
            sequences=SequenceCheck.of([self._checks[b.name].spec for b in spec.inputs if b.kind == "feed"]),
            extents=tuple(_Extent(i, Rule.parse(b.name)) for i, b in enumerate(spec.inputs) if b.kind == "extent"),
            mask=kinds.index("mask") if "mask" in kinds else None,
            of_lots=not {"mask", "key", "draw", "noise", "phase"}.isdisjoint(kinds),
            fetches=fetches,
            names=tuple(output.name for output in fetches),
            random="rng_counter" in kinds and spec.name != "infer",
            clock="clock" in kinds,
            # Training steps may have one size; evaluation takes any number of rows.
            batch=self._manifest.batch if spec.name != "infer" else None,
        )

    def _plan(self, function: str) -> _Plan:
        plan = self._plans.get(function)
        if plan is None:
            raise ArtifactError(
                f"the artifact has no function {function!r}",
                f"functions: {', '.join(self._plans) or 'none'}",
                "compile a program that has it (a training step needs minimize)",
            )
        return plan


def draw_noise(spec: PrivacySpec | None, noise: Mapping[str, Array], key: Key, draw: int) -> None:
    """Fill ``noise`` with the integers of a step: i64 of each parameter's shape, by name; none for a float program.

    A tensor's stream is its parameter's place in the privacy block, so every step and tensor has numbers of its own.
    """
    for name, buffer in noise.items():
        assert spec is not None
        assert spec.grid_bits is not None
        made = rounded_gaussian(
            key, tensor=spec.parameters.index(name), draw=draw, scale=spec.noise_scale, count=buffer.size
        )
        buffer[...] = made.reshape(buffer.shape)
        made[...] = 0


def _own_rows(spec: OutputSpec, value: Array, rows: int) -> Array:
    return value[:rows].copy() if spec.combine == "rows" else value


def _combine(spec: OutputSpec, parts: Sequence[Array], sizes: Sequence[int]) -> Array:
    """The fetch of a whole lot from those of its batches; ``sizes`` are their real rows."""
    dtype = numpy_dtype(spec.dtype, spec.name)
    if spec.combine == "rows":
        rows = [part[:size] for part, size in zip(parts, sizes, strict=True)]
        return np.concatenate(rows) if rows else np.zeros((0, *_fixed(spec.shape[1:])), dtype)
    if spec.combine == "sum":
        total = np.sum(parts, axis=0, dtype=_wide(dtype)) if parts else np.zeros(_fixed(spec.shape))
        return np.asarray(total).astype(dtype)
    if spec.combine == "mean":
        if not parts:
            return np.full(_fixed(spec.shape), np.nan, dtype)
        total = sum(part.astype(np.float64) * size for part, size in zip(parts, sizes, strict=True))
        return np.asarray(total / sum(sizes)).astype(dtype)
    if not parts:
        raise ArtifactError(
            f"the fetch {spec.name!r} needs rows, and the lot has none",
            "function 'accumulate'",
            "compile the script again; if this persists, report the program that shows it",
        )
    return parts[-1]


def _fixed(shape: Sequence[int | str]) -> tuple[int, ...]:
    return tuple(dim if isinstance(dim, int) else 0 for dim in shape)


def _wide(dtype: np.dtype[np.generic]) -> np.dtype[np.generic]:
    return np.dtype(np.float64) if dtype.kind == "f" else dtype
