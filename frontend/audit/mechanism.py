"""The compiled mechanism of a private artifact, taken apart: clipped sums, released state, whole steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from ...runtime.artifact import Artifact
from ...runtime.engine import Array, Engine, Handle, aligned
from ...runtime.errors import ArtifactError, EngineError
from ...runtime.feeds import BATCH, FeedCheck
from ...runtime.keystream import key_words
from ...runtime.manifest import FunctionSpec, Manifest, numpy_dtype
from ...runtime.model import Model
from ...runtime.privacy import PrivacySpec, QuantileOptions
from ...runtime.stepper import draw_noise

Arrays = dict[str, Array]
Base = Literal["start", "zero"]
"""Where a call begins: the state of the artifact, or the same with parameters and optimizer state zero."""

LOT = "lot/"
"""What the name of a parameter's clipped sum begins with."""

COUNT_BOUND = 0.5
"""What one example changes in the count that moves the bound of quantile clipping."""

_AUDITED = ("gaussian", "discrete")


@dataclass(frozen=True)
class Group:
    """Parameters that are clipped together.

    Attributes:
        parameters: their names.
        clip: C, the bound on the norm of one example's gradient over all of them; on the integer grid, of which the
            sums are units, K = 2^grid_bits.
        std: standard deviation of the noise on each coordinate of their sums, before it is rounded to the grid.
    """

    parameters: tuple[str, ...]
    clip: float
    std: float


def groups_of(spec: PrivacySpec, start: Mapping[str, Array]) -> tuple[Group, ...]:
    """The clip groups that the privacy block states, and for quantile clipping the count that moves the bound.

    ``start`` holds the bound of quantile clipping. Of K groups each gets noise σ C_k √K; beside a count whose noise is
    σ_b, gradients get C (σ⁻² − (2σ_b)⁻²)^(−1/2) (Andrew et al., NeurIPS'21).
    """
    options = spec.clipping_options
    if isinstance(options, QuantileOptions):
        sigma = 0.0 if spec.sigma == 0 else (spec.sigma**-2 - (2 * options.sigma_b) ** -2) ** -0.5
        clip = float(start[options.state].reshape(-1)[0])
        return (Group(spec.parameters, clip, sigma * clip), Group((options.state,), COUNT_BOUND, options.sigma_b))
    if spec.grid_bits is not None:
        return (Group(spec.parameters, 2.0**spec.grid_bits, spec.noise_scale),)
    groups = spec.groups or (spec.parameters,)
    spread = spec.sigma * math.sqrt(len(groups))
    return tuple(Group(tuple(names), clip, spread * clip) for names, clip in zip(groups, spec.clips, strict=True))


class Mechanism(Protocol):
    """What an audit may ask for; broken copies answer in another way.

    Attributes:
        manifest: of the artifact.
        spec: its privacy block.
        groups: the clip groups; their parameters are the names of all sums.
        batch: physical rows of a call.
        written: model state that ``apply`` writes, with shapes.
        start: all state, as it was before the audit.
    """

    manifest: Manifest
    spec: PrivacySpec
    groups: tuple[Group, ...]
    batch: int
    written: dict[str, tuple[int, ...]]
    start: Arrays

    def sums(self, feeds: Mapping[str, Array], mask: Array) -> Arrays:
        """Clipped sums by parameter, of one ``accumulate`` on zero sums: i64 on the grid, else floating.

        Args:
            feeds: arrays of ``batch`` rows.
            mask: bool[batch], true for the rows of the lot.
        """
        ...

    def release(self, sums: Mapping[str, Array], key: bytes, draw: int, base: Base = "zero") -> Arrays:
        """Model state that ``apply`` writes when the lot's sums are ``sums``."""
        ...

    def step(self, feeds: Mapping[str, Array], mask: Array, key: bytes, draw: int) -> Arrays:
        """Model state that ``step`` writes, from the state of the artifact."""
        ...

    def left_over(self, sums: Mapping[str, Array], key: bytes) -> float:
        """The largest entry of the lot's sums after ``apply``."""
        ...


class Compiled:
    """`Mechanism` of an artifact, on its own copy of the state; nothing is kept, counted or written.

    Args:
        artifact: a private one with ``accumulate``, ``apply`` and ``step``.
        engine: has its code loaded.
        start: state to begin with; None takes the artifact's, else what ``startup`` makes.
        phase: of training in phases, the one whose steps are looked at, from 0; its constants are the block's.

    Raises:
        ArtifactError: The artifact is not private, or not of a kind that can be audited.
        EngineError: A function takes an input that the audit does not know.
    """

    def __init__(
        self, artifact: Artifact, engine: Engine, start: Mapping[str, Array] | None = None, phase: int = 0
    ) -> None:
        self.manifest = manifest = artifact.manifest
        self.spec = audited_spec(manifest).in_phase(phase)
        assert manifest.batch is not None, "refused by audited_spec"
        self.batch = manifest.batch
        self._engine = engine
        # The audit draws no lots and keeps nothing: a fixed seed makes its start the same every time.
        model = Model(artifact, engine, manifest.seed or 0)
        self._state = model.state
        self.start = {name: (array if start is None else start[name]).copy() for name, array in self._state.items()}
        self.groups = groups_of(self.spec, self.start)
        self._handles = {name: engine.state(buffer) for name, buffer in model.buffers.items()}
        self._lots = [LOT + name for group in self.groups for name in group.parameters]
        options = self.spec.clipping_options
        bound = options.state if isinstance(options, QuantileOptions) else ""  # without it there would be no noise
        self._zeroed = {
            s.name
            for s in manifest.state
            if s.kind == "model" and (s.trainable or s.role == "optimizer") and s.name != bound
        }
        self._buffers = {feed.name: self._own_feed(FeedCheck(feed)) for feed in manifest.feeds}
        runtimes = {
            "mask": aligned((self.batch,), np.dtype(np.bool_)),
            "key": aligned((8,), np.dtype(np.uint32)),
            "draw": aligned((), np.dtype(np.uint64)),
            "rng_key": aligned((8,), np.dtype(np.uint32)),
            "rng_counter": aligned((), np.dtype(np.uint64)),
            "row": aligned((), np.dtype(np.int64)),
            "phase": aligned((), np.dtype(np.int64)),
        }
        for array in runtimes.values():
            array.fill(0)
        runtimes["phase"][...] = phase
        self._runtimes = {kind: (array, engine.tensor(array)) for kind, array in runtimes.items()}
        noised = {b.name for f in manifest.functions for b in f.inputs if b.kind == "noise"}
        self._noise = {s.name: self._own(s.shape, np.dtype(np.int64)) for s in manifest.state if s.name in noised}
        self._arguments = {name: self._bound(manifest.function(name)) for name in ("accumulate", "apply", "step")}
        kinds = {s.name: s for s in manifest.state if s.kind == "model"}
        self.written = {
            o.name: kinds[o.name].shape
            for o in manifest.function("apply").outputs
            if o.kind == "state" and o.name in kinds
        }

    # -- Mechanism ----------------------------------------------------------------------------------------------

    def sums(self, feeds: Mapping[str, Array], mask: Array) -> Arrays:
        """See `Mechanism.sums`."""
        self._reset("start")
        self._feed(feeds, mask)
        self._call("accumulate")
        return {name[len(LOT) :]: self._state[name].copy() for name in self._lots}

    def release(self, sums: Mapping[str, Array], key: bytes, draw: int, base: Base = "zero") -> Arrays:
        """See `Mechanism.release`."""
        self._reset(base)
        self._apply(sums, key, draw)
        return {name: self._state[name].copy() for name in self.written}

    def step(self, feeds: Mapping[str, Array], mask: Array, key: bytes, draw: int) -> Arrays:
        """See `Mechanism.step`."""
        self._reset("start")
        self._feed(feeds, mask)
        self._key(key, draw)
        self._call("step")
        return {name: self._state[name].copy() for name in self.written}

    def left_over(self, sums: Mapping[str, Array], key: bytes) -> float:
        """See `Mechanism.left_over`."""
        self._reset("zero")
        self._apply(sums, key, 0)
        return max(float(np.abs(self._state[name]).max(initial=0.0)) for name in self._lots)

    # -- parts --------------------------------------------------------------------------------------------------

    def _apply(self, sums: Mapping[str, Array], key: bytes, draw: int) -> None:
        for name, value in sums.items():
            self._state[LOT + name][...] = value
        self._key(key, draw)
        self._call("apply")

    def _call(self, function: str) -> None:
        self._engine.call(function, self._arguments[function])

    def _reset(self, base: Base) -> None:
        for name, array in self._state.items():
            array[...] = 0 if base == "zero" and name in self._zeroed else self.start[name]
        for name in self._lots:
            self._state[name][...] = 0

    def _key(self, key: bytes, draw: int) -> None:
        self._runtimes["key"][0][...] = key_words(key)
        self._runtimes["draw"][0][...] = draw
        draw_noise(self.spec, {name: buffer for name, (buffer, _) in self._noise.items()}, key, draw)

    def _feed(self, feeds: Mapping[str, Array], mask: Array) -> None:
        for name, (buffer, _) in self._buffers.items():
            buffer[...] = feeds[name]
        self._runtimes["mask"][0][...] = mask

    def _own_feed(self, check: FeedCheck) -> tuple[Array, Handle]:
        buffer, handle = self._own(feed_shape(check, self.batch), check.dtype)
        buffer.fill(check.filler)
        return buffer, handle

    def _own(self, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> tuple[Array, Handle]:
        buffer = aligned(shape, dtype)
        buffer.fill(0)
        return buffer, self._engine.tensor(buffer)

    def _bound(self, function: FunctionSpec) -> list[Handle]:
        arguments: list[Handle] = []
        for binding in function.inputs:
            if binding.kind == "state":
                arguments.append(self._handles[binding.name])
            elif binding.kind == "feed":
                arguments.append(self._buffers[binding.name][1])
            elif binding.kind == "noise":
                arguments.append(self._noise[binding.name][1])
            elif binding.kind in self._runtimes:
                arguments.append(self._runtimes[binding.kind][1])
            else:
                raise EngineError(
                    f"{function.name} takes the input {binding.kind}, which the audit does not provide",
                    f"function {function.name!r}",
                    "compile the script again with this version",
                )
        return arguments


def audited_spec(manifest: Manifest) -> PrivacySpec:
    """The privacy block. Raises ArtifactError where there is nothing to audit, saying why."""
    spec = manifest.privacy
    if spec is None:
        raise ArtifactError(
            "this is an ordinary program: there is no private mechanism to audit",
            "manifest, privacy",
            "train with fluid.optimizer.Dpsgd, and compile that program",
        )
    if spec.mechanism not in _AUDITED:
        why = "reproduces Paddle's kernel and is not private" if spec.mechanism == "paddle" else "is not audited yet"
        raise ArtifactError(
            f"mechanism {spec.mechanism} {why}",
            "manifest, privacy",
            f"audit an artifact of mechanism {' or '.join(_AUDITED)}",
        )
    missing = [name for name in ("accumulate", "apply", "step") if not manifest.has_function(name)]
    if missing or manifest.batch is None:
        raise ArtifactError(
            f"the artifact has no {missing[0] if missing else 'fixed batch'}, so its step cannot be taken apart",
            "manifest, functions",
            "compile the script again with this version",
        )
    return spec


def feed_shape(check: FeedCheck, batch: int) -> tuple[int, ...]:
    """Sizes of a feed in a step of ``batch`` rows. Raises ArtifactError for other open sizes."""
    sizes: list[int] = []
    for dim in check.spec.shape:
        if isinstance(dim, str) and dim != BATCH:
            raise ArtifactError(
                f"the feed {check.spec.name!r} has the open size {dim}", check.where, "compile it with --feed"
            )
        sizes.append(batch if isinstance(dim, str) else dim)
    return tuple(sizes)


def zeros_like(mechanism: Mechanism) -> Arrays:
    """Sums of an empty lot."""
    specs = {s.name: s for s in mechanism.manifest.state}
    made: Arrays = {}
    for name in (name for group in mechanism.groups for name in group.parameters):
        made[name] = np.zeros(specs[LOT + name].shape, numpy_dtype(specs[LOT + name].dtype, name))
    return made
