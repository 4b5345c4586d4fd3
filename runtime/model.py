"""A loaded artifact with its engine, its state, and the place where its training stands."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from .artifact import Artifact
from .engine import Array, Arrays, Buffer, Engine, aligned_zeros
from .errors import ArtifactError, DataError, EngineError
from .keystream import seeded_key
from .ledger_records import Position
from .manifest import Trained, numpy_dtype
from .sampler import Course, SamplerState
from .stepper import Stepper


def init_key(seed: int) -> bytes:
    """Key of a program's initialisers: the same for every way of running it."""
    return seeded_key(seed, "init")


def model_key(seed: int) -> bytes:
    """Key of dropout and other randomness inside steps; the stepper counts the calls."""
    return seeded_key(seed, "model")


class Model:
    """State buffers, initialised, and the stepper that runs on them.

    Args:
        artifact: the compiled program.
        engine: executes it.
        seed: of initialisers, shuffles and dropout; None takes the artifact's, else a fresh one.

    Attributes:
        seed: the seed in use.
        buffers: name -> buffer, for every state variable.
        state: name -> array with the newest values, for every state variable; change values in place only, and look
            the array up again after a step.
        step: training steps whose result is in the state, those behind the artifact's own values apart.
        sampler: where the next ordinary batch begins, or None before the first.
        course: how those batches are drawn, or None.
        ledger: last record of the ledger on disk that counts the private steps behind the state, or None.
        uncounted: private steps are behind the state that no ledger on disk counts.
        insecure: noise came from a known key, in this run or in one before it.

    Raises ArtifactError when a variable has no first value, DataError for a seed out of range, EngineError where the
    memory does not suffice.
    """

    def __init__(self, artifact: Artifact, engine: Engine, seed: int | None = None) -> None:
        manifest = artifact.manifest
        chosen = manifest.seed if seed is None else seed
        if chosen is not None and not 0 <= chosen < 1 << 64:
            raise DataError(f"the seed {chosen} is outside [0, 2^64)", "argument seed", "give a seed in this range")
        self.artifact = artifact
        self.manifest = manifest
        self.seed = int.from_bytes(os.urandom(8), "little") if chosen is None else chosen
        try:
            self.buffers = {
                spec.name: Buffer(aligned_zeros(spec.shape, numpy_dtype(spec.dtype, f"state {spec.name!r}")))
                for spec in manifest.state
            }
        except (MemoryError, ValueError) as error:  # numpy says ValueError where the number of bytes has no name
            raise EngineError(
                f"there is not enough memory for the state of the program ({error})",
                f"{len(manifest.state)} state variables",
                "run it on a machine with more memory",
            ) from None
        self.state: Mapping[str, Array] = Arrays(self.buffers)
        self.stepper = Stepper(manifest, engine, self.buffers)
        self.step = 0
        self.sampler: SamplerState | None = None
        self.course: Course | None = None
        before = manifest.trained
        self.ledger: Position | None = None if before is None else before.ledger
        self.uncounted = before is not None and before.ledger is None
        self.insecure = manifest.insecure_noise_key
        self._sha256 = ""
        self._initialise()

    def _initialise(self) -> None:
        stored, made = set(self.artifact.state), set[str]()
        if self.manifest.has_function("startup"):
            self.stepper.seed(init_key(self.seed))
            self.stepper.run("startup", {})
            made = {o.name for o in self.manifest.function("startup").outputs if o.kind == "state"}
        self.stepper.seed(model_key(self.seed))
        for spec in self.manifest.state:
            if spec.name in stored:
                self.buffers[spec.name].put(self.artifact.state[spec.name])
            elif spec.name not in made and spec.kind == "model":
                raise ArtifactError(
                    f"the state {spec.name!r} has no first value: no startup makes it and none is stored",
                    f"state {spec.name!r}",
                    "compile the script again; its startup program must initialise every variable",
                )

    @property
    def private(self) -> bool:
        """Whether training steps are private."""
        return self.manifest.privacy is not None

    @property
    def effective_steps(self) -> int:
        """Steps whose result is in the state, those behind the artifact's own values included."""
        before = self.manifest.trained
        return self.step + (0 if before is None else before.steps)

    @property
    def artifact_sha256(self) -> str:
        """SHA-256 of the artifact: what a checkpoint is bound to."""
        self._sha256 = self._sha256 or self.artifact.sha256()
        return self._sha256

    def saved_state(self) -> dict[str, Array]:
        """The arrays that a checkpoint holds.

        Metric counters of a private program stay out of it: they are not private.
        """
        kinds = ("model",) if self.private else ("model", "diagnostic")
        return {spec.name: self.buffers[spec.name].values for spec in self.manifest.state if spec.kind in kinds}

    def load_state(self, values: Mapping[str, Array]) -> None:
        """Copy ``values`` into the buffers of the same names."""
        for name, value in values.items():
            self.buffers[name].put(value)

    def first_not_finite(self) -> str | None:
        """Name of the first model state that holds NaN or infinity, or None."""
        for spec in self.manifest.state:
            array = self.buffers[spec.name].values
            if spec.kind == "model" and array.dtype.kind == "f" and not np.isfinite(array).all():
                return spec.name
        return None

    def export(self) -> Artifact:
        """The same program with the present values, and for a private one the steps behind them."""
        made = self.artifact.with_state({name: buffer.values.copy() for name, buffer in self.buffers.items()})
        manifest = replace(made.manifest, insecure_noise_key=self.insecure, trained=self._trained())
        return replace(made, manifest=manifest)

    def _trained(self) -> Trained | None:
        steps = self.effective_steps
        # Begun counts, also where no step is known to have ended: an interrupt may have come right after one.
        if not self.private or not (steps or self.uncounted or self.ledger is not None):
            return None
        return Trained(steps, None if self.uncounted else self.ledger)
