"""What ``inspect`` prints of an artifact: what it is and needs, line by line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path

from .artifact import MANIFEST, Artifact, ArtifactFile
from .errors import SignatureError
from .privacy import AutomaticOptions, QuantileOptions
from .progress import at_least


def described(path: Path, file: ArtifactFile) -> Iterator[str]:
    """The lines about the artifact that was read from ``path``."""
    artifact = file.artifact
    manifest = artifact.manifest
    target = manifest.target
    machine = " ".join(part for part in (target.triple, target.cpu, *target.features) if part)
    built = f"{target.kind} ({machine})" if machine else target.kind
    if target.threads:
        built += f", loops cut for {target.threads} {'thread' if target.threads == 1 else 'threads'}"
    if target.architectures:
        built += f", code for {', '.join(target.architectures)}{' with TF32' if target.tf32 else ''}"
    yield f"{path}: compiled by fluidc {manifest.fluidc_version} for {built}"
    if manifest.caution:
        yield manifest.caution
    yield f"signature  {described_signature(file)}"
    yield f"batch      {'any number of rows' if manifest.batch is None else f'{manifest.batch} rows'}"
    yield f"seed       {'a fresh one per run' if manifest.seed is None else manifest.seed}"
    yield "feeds"
    for feed in manifest.feeds:
        low, high = ("" if bound is None else bound for bound in (feed.low, feed.high))
        bounds = f"  in [{low}, {high})" if (low, high) != ("", "") else ""
        public = "  public" if feed.role == "public" else ""
        yield f"  {feed.name}: {feed.dtype}{_dims(feed.shape)}{bounds}{public}"
    yield "functions"
    for function in manifest.functions:
        names = [
            f"{o.name}: {o.dtype}{_dims(o.shape)}" + ("  NOT PRIVATE" if o.not_private else "")
            for o in function.outputs
            if o.kind == "fetch"
        ]
        yield f"  {function.name}" + (f" -> {', '.join(names)}" if names else "")
    yield "state"
    for state in manifest.state:
        stored = "  stored" if state.name in artifact.state else ""
        kind = "" if state.kind == "model" else f"  {state.kind}"
        yield f"  {state.name}: {state.dtype}{_dims(state.shape)}  {state.role}{kind}{stored}"
    count = sum(prod(s.shape) for s in manifest.state if s.trainable)
    yield f"  {count:,} trainable numbers"
    yield from _described_privacy(artifact)
    yield "members (SHA-256 checked)"
    for member in manifest.members:
        yield f"  {member.name}  {member.size:,} bytes  {member.sha256[:16]}"


def described_signature(file: ArtifactFile) -> str:
    """Who signed, as far as it is known. Whose a key is, a file cannot say."""
    if file.signature is None:
        return "none"
    by = file.signature.fingerprint
    if file.signer is not None:
        return f"valid, by {by}, a required key ({file.signer.where})"
    try:
        holds = file.signature.holds_for(file.members[MANIFEST])
    except SignatureError as error:
        return f"by {by}, NOT CHECKED: {error.what}"
    return f"valid, by {by}; whose key that is, --require-signature KEY.pub checks" if holds else f"INVALID, by {by}"


def _described_privacy(artifact: Artifact) -> Iterator[str]:
    spec = artifact.manifest.privacy
    if spec is None:
        yield f"privacy    none: {artifact.manifest.caution or 'an ordinary program'}"
        return
    yield "privacy"
    clips = ", ".join(f"{clip:g}" for clip in spec.clips)
    alike = "" if spec.phases else f", sigma {spec.sigma:.6g}, lot {spec.lot:g}"
    yield f"  mechanism {spec.mechanism}, clipping {spec.clipping} at {clips}{alike}"
    for number, phase in enumerate(spec.phases, 1):
        at = "" if phase.sample_rate is None else f", sampling rate {phase.sample_rate:.6g}"
        yield f"  phase {number}: {phase.steps} steps, sigma {phase.sigma:.6g}, lot {phase.lot:g}{at}"
    if isinstance(spec.clipping_options, AutomaticOptions):
        yield f"  gamma {spec.clipping_options.gamma:g}"
    elif isinstance(spec.clipping_options, QuantileOptions):
        options = spec.clipping_options
        yield (
            f"  bound {options.state!r} follows quantile {options.quantile:g} at rate {options.eta:g} "
            f"within [{options.c_min:g}, {options.c_max:g}], count noise {options.sigma_b:g}"
        )
    for clip, group in zip(spec.clips, spec.groups):
        yield f"  group at {clip:g}: {', '.join(group)}"
    rate = "" if spec.sample_rate is None or spec.phases else f", sampling rate {spec.sample_rate:.6g}"
    yield f"  sampler {spec.sampler}{rate}, adjacency {spec.adjacency}, slack {spec.slack:.3g}"
    trained = artifact.manifest.trained
    if artifact.manifest.insecure_noise_key:
        yield "  epsilon none (seeded): the noise came from a known key"
    elif trained is not None and trained.ledger is None:
        yield "  epsilon unknown: the steps were counted in memory only"
    elif spec.accounting == "none" or spec.delta is None:
        yield f"  epsilon unknown: {spec.reason}"
    else:
        epsilon = spec.epsilon(spec.budget_count, spec.delta)
        yield (
            f"  epsilon {at_least(epsilon)} at delta {spec.delta:g} after {spec.budget_count} {spec.unit}s "
            f"({spec.accountant} {spec.accountant_version}, {spec.accounting})"
        )
    if trained is not None:
        where = "in memory only" if trained.ledger is None else f"in its ledger up to record {trained.ledger.seq}"
        yield f"  trained {trained.steps} steps, counted {where}"
    if spec.assumed_public:
        yield f"  assumed public: {', '.join(spec.assumed_public)}"
    yield f"  separability proof {'stored' if artifact.proof else 'missing'}"


def _dims(shape: Sequence[int | str]) -> str:
    return "[" + ",".join(str(dim) for dim in shape) + "]"
