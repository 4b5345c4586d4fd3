"""The ``.fluidc`` file: one zip with the manifest, the program's text at each stage, its code and numbers.

docs/artifact.md describes the format, `archive` the container.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from . import tensors
from .archive import pack, unpack
from .errors import ArtifactError
from .fields import parse_object
from .files import MAX_FILE_BYTES, read_regular, write_atomically
from .kernels import KernelTable
from .limits import ADJACENCIES, Adjacency, SamplerKind
from .manifest import (
    DTYPES,
    FORMAT_VERSION,
    Binding,
    BindingKind,
    Combine,
    Dtype,
    FeedRole,
    FeedSpec,
    FunctionSpec,
    Manifest,
    Member,
    OutputKind,
    OutputSpec,
    Shape,
    StateKind,
    StateRole,
    StateSpec,
    TargetKind,
    TargetSpec,
    Trained,
    dtype_name,
    numpy_dtype,
)
from .privacy import (
    Q_ONE,
    Accounting,
    AutomaticOptions,
    Clipping,
    EpsilonEntry,
    Mechanism,
    PrivacySpec,
    QuantileOptions,
)
from .signature import (
    MAX_SIGNATURE_BYTES,
    SIGNATURE,
    KeySource,
    PublicKey,
    Signature,
    check_signature,
    trusted_keys,
)
from .tensors import Array

__all__ = [
    "ADJACENCIES",
    "DTYPES",
    "FORMAT_VERSION",
    "Q_ONE",
    "Accounting",
    "Adjacency",
    "Artifact",
    "ArtifactError",
    "ArtifactFile",
    "Binding",
    "BindingKind",
    "Clipping",
    "Combine",
    "Dtype",
    "EpsilonEntry",
    "FeedRole",
    "FeedSpec",
    "FunctionSpec",
    "Manifest",
    "Mechanism",
    "Member",
    "OutputKind",
    "OutputSpec",
    "PrivacySpec",
    "SamplerKind",
    "Shape",
    "StateKind",
    "StateRole",
    "StateSpec",
    "TargetKind",
    "TargetSpec",
    "Trained",
    "dtype_name",
    "numpy_dtype",
]

MANIFEST = "manifest.json"
STATE = "state.safetensors"
PROOF = "proof.txt"
KERNELS = "kernels.json"

MAX_MANIFEST_BYTES = 16 << 20
MAX_TEXT_BYTES = 256 << 20

_CODE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}\.(so|onnx)")
_IR_NAME = re.compile(r"ir/([A-Za-z0-9_][A-Za-z0-9_-]{0,99})\.ir")
_PRIVACY_LINE = re.compile(r"^  privacy \{(.*)\}$", re.MULTILINE)
_NUMBER = r"\d+(?:\.\d+)?(?:e[+-]?\d+)?"
_CONSTANTS = re.compile(
    rf"clip=(?P<clip>{_NUMBER}), lot=(?P<lot>{_NUMBER}), sigma=(?P<sigma>{_NUMBER})"
    r'(?:, mechanism="[\w-]+")?(?:, clipping="(?P<clipping>[\w-]+)")?(?:, |$)'
)
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_OPTION = re.compile(rf"(?:^|, )(gamma|quantile|eta|sigma_b|c_min|c_max)=({_NUMBER})(?=, |$)")
_CLIPS = re.compile(rf"(?:^|, )clips=\(((?:{_NUMBER},? ?)+)\)")
_PHASES = re.compile(r"(?:^|, )phases=\(((?:\([^()]*\),? ?)+)\)")
_REBUILD = "copy the file again, or compile the script again"


@dataclass(frozen=True)
class Artifact:
    """A compiled program.

    Attributes:
        manifest: what it is and needs.
        ir: stage name -> text of the module at that stage.
        modules: member name -> code: ``module.so``, or ``NAME.onnx`` per function; none for ``reference``.
        state: values that were given as arrays, imported or trained; ``startup`` makes the rest.
        proof: the separability proof of a private program, as text.
        kernels: what the code consists of; None for targets without kernels, and in files of before there was a table.

    Raises ArtifactError when the parts do not fit the manifest.
    """

    manifest: Manifest
    ir: Mapping[str, str] = field(default_factory=dict[str, str])
    modules: Mapping[str, bytes] = field(default_factory=dict[str, bytes], repr=False)
    state: Mapping[str, Array] = field(default_factory=dict[str, Array], repr=False)
    proof: str | None = None
    kernels: KernelTable | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for stage in self.ir:
            if not _IR_NAME.fullmatch(f"ir/{stage}.ir"):
                raise _unfit(f"{stage!r} cannot name a stage", "ir")
        for name in self.modules:
            if not _CODE_NAME.fullmatch(name):
                raise _unfit(f"{name!r} cannot name a code member; NAME.so or NAME.onnx can", "modules")
        _check_constants(self.manifest.privacy, self.ir.get("target", ""))
        declared = {spec.name: spec for spec in self.manifest.state}
        for name, value in self.state.items():
            spec = declared.get(name)
            if spec is None:
                raise _unfit(f"the program has no state {name!r}", STATE)
            if spec.kind != "model":
                raise _unfit(f"{name!r} is {spec.kind} state, which is not private and never exported", STATE)
            if value.dtype != numpy_dtype(spec.dtype, name) or value.shape != spec.shape:
                wanted = f"{spec.dtype}{list(spec.shape)}"
                raise _unfit(f"{name!r} is {wanted}, its value is {value.dtype}{list(value.shape)}", STATE)

    @property
    def module(self) -> bytes | None:
        """The shared library ``module.so``, or None."""
        return self.modules.get("module.so")

    def with_state(self, state: Mapping[str, Array]) -> Artifact:
        """The same program with other numbers: what a trained artifact is. Diagnostic state is left out."""
        exported = {spec.name for spec in self.manifest.state if spec.kind == "model"}
        return replace(self, state={name: value for name, value in state.items() if name in exported})

    def to_bytes(self) -> bytes:
        """The file, byte for byte the same for the same artifact."""
        members = self._members()
        listed = tuple(Member(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in members.items())
        manifest = replace(self.manifest, members=listed).to_json()
        text = json.dumps(manifest, indent=1, allow_nan=False) + "\n"
        return pack({MANIFEST: text.encode("ascii"), **members})

    def sha256(self) -> str:
        """SHA-256 in hex of the file as it is without a signature: what a checkpoint is bound to."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def write(self, path: Path | str) -> None:
        """Write the file; ``path`` holds the old content or the new at every moment. Raises ArtifactError."""
        try:
            write_atomically(Path(path), self.to_bytes())
        except OSError as error:
            raise ArtifactError(
                f"the artifact cannot be written: {error.strerror}",
                str(path),
                "choose a folder that exists, is writable and has space",
            ) from None

    @classmethod
    def read(cls, path: Path | str, require_signature: KeySource | None = None) -> Artifact:
        """Read a file and check every hash.

        Args:
            path: the file.
            require_signature: public keys, one of which the file must be signed with; None asks for no signature.

        Raises ArtifactError for whatever is wrong with it.
        """
        return ArtifactFile.read(path, require_signature).artifact

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Artifact:
        """`read` of a file already in memory; ``where`` names it in errors. Raises ArtifactError."""
        return ArtifactFile.from_bytes(data, where).artifact

    def _members(self) -> dict[str, bytes]:
        members = {f"ir/{stage}.ir": text.encode("utf-8") for stage, text in self.ir.items()}
        members |= {name: bytes(self.modules[name]) for name in sorted(self.modules)}
        if self.kernels is not None:
            members[KERNELS] = self.kernels.to_bytes()
        if self.state:
            members[STATE] = tensors.encode(self.state)
        if self.proof is not None:
            members[PROOF] = self.proof.encode("utf-8")
        return members


@dataclass(frozen=True)
class ArtifactFile:
    """A file that was read: the program in it, and who signed it, which is no part of the program.

    Attributes:
        artifact: the program.
        members: member name -> bytes, as they are in the file; without the signature.
        signature: of the manifest, or None; it was checked where `read` was given keys, and not otherwise.
        signer: the key that the signature was checked with, or None.
    """

    artifact: Artifact
    members: Mapping[str, bytes] = field(repr=False)
    signature: Signature | None = None
    signer: PublicKey | None = None

    @classmethod
    def read(cls, path: Path | str, require_signature: KeySource | None = None) -> ArtifactFile:
        """Read a file, check its signature where keys are given, and every hash. Raises ArtifactError."""
        trusted = None if require_signature is None else trusted_keys(require_signature)
        try:
            data = read_regular(Path(path), MAX_FILE_BYTES)
        except OSError as error:
            raise ArtifactError(f"the artifact cannot be read: {error.strerror}", str(path), "check the path") from None
        return cls.from_bytes(data, str(path), trusted)

    @classmethod
    def from_bytes(cls, data: bytes, where: str, trusted: Sequence[PublicKey] | None = None) -> ArtifactFile:
        """`read` of a file already in memory; ``where`` names it in errors. Raises ArtifactError."""
        if not data.startswith(b"PK"):
            hint = "compile a script to one: fluidc compile SCRIPT.py -o OUT.fluidc"
            if where.endswith(".onnx"):
                hint = "a forward model becomes one: fluidc compile MODEL.onnx -o OUT.fluidc; steps run in ONNX Runtime"
            raise ArtifactError("this is no artifact", where, hint)
        if MANIFEST.encode("ascii") not in data:  # of an artifact it is the first member: found at once
            hint = "give a file that fluidc compile wrote"
            if where.endswith(".npz"):
                hint += "; data is named with --data, after the artifact"
            raise ArtifactError(f"this is no artifact: there is no {MANIFEST} in it", where, hint)
        members = unpack(data, where, _most_bytes)
        if MANIFEST not in members:
            raise ArtifactError(f"there is no {MANIFEST} in it", where, "give a file that fluidc compile wrote")
        if next(iter(members)) != MANIFEST or SIGNATURE in list(members)[:-1]:
            raise ArtifactError("the members are not in the order that fluidc writes", where, _REBUILD)
        signed = members.pop(SIGNATURE, None)
        found = None if signed is None else Signature.from_bytes(signed, where)
        # Before anything else of an untrusted file is read.
        signer = None if trusted is None else check_signature(found, members[MANIFEST], trusted, where)
        return cls(_artifact_of(members, where), members, found, signer)

    def with_signature(self, made: Signature) -> bytes:
        """The file with this signature in place of any other; its other members are as they were, byte for byte."""
        return pack({**self.members, SIGNATURE: made.to_bytes()})


def _most_bytes(name: str) -> int | None:
    """The most bytes of the member ``name``; None where no artifact has such a member."""
    if name == MANIFEST:
        return MAX_MANIFEST_BYTES
    if name == SIGNATURE:
        return MAX_SIGNATURE_BYTES
    if name in (PROOF, KERNELS) or _IR_NAME.fullmatch(name):
        return MAX_TEXT_BYTES
    return MAX_FILE_BYTES if name == STATE or _CODE_NAME.fullmatch(name) else None


def _artifact_of(members: Mapping[str, bytes], where: str) -> Artifact:
    """The parts of a file, ``manifest.json`` among them. Raises ArtifactError."""

    def refuse(what: str, at: str) -> ArtifactError:
        return ArtifactError(
            f"the manifest is not valid: {what}", f"{where}, {at}", "compile the script with this version"
        )

    contents = dict(members)
    manifest = Manifest.from_json(parse_object(contents.pop(MANIFEST), MANIFEST, refuse))
    _check_members(manifest, contents, where)
    ir: dict[str, str] = {}
    modules: dict[str, bytes] = {}
    state: dict[str, Array] = {}
    proof: str | None = None
    kernels: KernelTable | None = None
    for name, member in contents.items():
        stage = _IR_NAME.fullmatch(name)
        try:
            if stage:
                ir[stage[1]] = member.decode("utf-8")
            elif name == STATE:
                state = tensors.decode(member)
            elif name == PROOF:
                proof = member.decode("utf-8")
            elif name == KERNELS:
                kernels = KernelTable.from_bytes(member, where)
            else:
                modules[name] = member
        except ValueError as error:
            raise ArtifactError(f"{name} is not readable ({error})", where, _REBUILD) from None
    return Artifact(manifest, ir, modules, state, proof, kernels)


def _check_members(manifest: Manifest, contents: Mapping[str, bytes], where: str) -> None:
    listed = {member.name: member for member in manifest.members}
    for name in sorted(listed.keys() ^ contents.keys()):
        state = "missing" if name in listed else "not listed in the manifest"
        raise ArtifactError(f"the member {name!r} is {state}", where, _REBUILD)
    if list(listed) != list(contents):
        raise ArtifactError("the members are not in the order of the manifest", where, _REBUILD)
    for name, member in listed.items():
        if hashlib.sha256(contents[name]).hexdigest() != member.sha256 or len(contents[name]) != member.size:
            raise ArtifactError(
                f"the member {name!r} is not the one that was compiled (its SHA-256 differs)", where, _REBUILD
            )


def _check_constants(spec: PrivacySpec | None, text: str) -> None:
    """Refuse a privacy block with other constants than ``text``, the program as it was compiled, was built with.

    The code adds noise by the program's constants, epsilon is told by the block's.
    """
    line = _PRIVACY_LINE.search(text)
    if line is None:
        return
    found = _CONSTANTS.match(line[1])
    if found is None:
        raise _unfit(f"the constants in {line[1]!r} cannot be read", "ir/target.ir")
    plain = _QUOTED.sub("", line[1])
    clips = _CLIPS.search(plain)
    compiled: dict[str, object] = {name: float(found[name]) for name in ("clip", "lot", "sigma")}
    compiled |= {name: float(value) for name, value in _OPTION.findall(plain)}
    compiled["clipping"] = found["clipping"] or "flat"
    phases = _PHASES.search(plain)
    if phases is not None:
        rows = re.findall(r"[^(]*\(([^)]*)\)", phases[1])
        compiled["phases"] = [[float(number) for number in row.split(",")] for row in rows]
    if clips is not None:
        compiled["clips"] = [float(value) for value in clips[1].replace(",", " ").split()]
    stated = {} if spec is None else _constants(spec)
    for name in (*compiled, *stated):
        if compiled.get(name) != stated.get(name):
            raise _unfit(
                f"the program was compiled with {name} = {compiled.get(name, 'nothing')}, "
                f"the privacy block says {stated.get(name, 'nothing')}",
                "ir/target.ir",
            )


def _constants(spec: PrivacySpec) -> dict[str, object]:
    """What the privacy line of a program compiled under ``spec`` says."""
    stated: dict[str, object] = {"clip": spec.joint_clip, "lot": spec.lot, "sigma": spec.sigma}
    stated["clipping"] = spec.clipping
    if spec.groups:
        stated["clips"] = list(spec.clips)
    if spec.phases:
        stated["phases"] = [[phase.steps, phase.sigma, phase.lot] for phase in spec.phases]
    if isinstance(spec.clipping_options, AutomaticOptions):
        stated["gamma"] = spec.clipping_options.gamma
    elif isinstance(spec.clipping_options, QuantileOptions):
        options = spec.clipping_options
        stated |= {"quantile": options.quantile, "eta": options.eta, "sigma_b": options.sigma_b}
        stated |= {"c_min": options.c_min, "c_max": options.c_max}
    return stated


def _unfit(what: str, where: str) -> ArtifactError:
    return ArtifactError(what, f"artifact, {where}", "compile the script again")
