"""What is in a bundle: the runtime, the shared libraries and packages that it needs, the artifact, and who says so."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ...runtime import libraries
from ...runtime.artifact import ArtifactFile
from ...runtime.errors import EngineError, FluidcError
from ...runtime.manifest import TargetKind
from ...runtime.processor import machine
from . import launcher
from .readme import readme

LAUNCHER, README = "run.py", "README.txt"
LICENSES = "licenses"
LEAST_PYTHON = (3, 11)
LEAST: Mapping[str, str] = {"numpy": "1.26", "onnxruntime": "1.19"}
"""Packages that a bundle takes from the machine, and their oldest versions."""

_RUNTIME = Path(libraries.__file__).parent
_GLIBC = {"manylinux2014": (2, 17), "manylinux2010": (2, 12), "manylinux1": (2, 5)}
_TAG = re.compile(r"^Tag: .*?-(manylinux\d*)(?:_(\d+)_(\d+))?_\w+$", re.MULTILINE)
_LICENSE = re.compile(r"(?:.*/)?(?:LICEN[CS]E|NOTICE|COPYING)[^/]*", re.IGNORECASE)


@dataclass(frozen=True)
class Bundle:
    """The files of a bundle, and ``bundle.json`` about them.

    Attributes:
        members: name -> content, sorted by name; without ``bundle.json``.
        manifest: the content of ``bundle.json``, which lists them.
        only: the version of Python that some of the packages are for; None where every version loads all.
    """

    members: Mapping[str, bytes]
    manifest: bytes
    only: str | None

    def files(self) -> Iterator[tuple[str, bytes]]:
        """All files, ``bundle.json`` last: a folder that has it has the others."""
        yield from self.members.items()
        yield launcher.MANIFEST, self.manifest


def bundle_of(path: Path) -> Bundle:
    """The bundle of the artifact in the file ``path``; the same bytes for the same artifact and installation.

    Raises ArtifactError for a file that cannot be trusted, EngineError for one that no bundle can run, or when a
    package that belongs into it is not installed.
    """
    data = _read(path)
    file = ArtifactFile.from_bytes(data, str(path))
    artifact = file.artifact
    target = artifact.manifest.target
    _check_target(target.kind, target.triple, path)
    members = {LAUNCHER: Path(launcher.__file__).read_bytes(), path.name: data, **_runtime()}
    packages = _Packages(members)
    for library in libraries.NEEDED[target.kind]:
        members[f"{launcher.PACKAGES}/fluidc/runtime/lib/{library.name}"] = libraries.found(library).read_bytes()
        packages.add_notices(library.distribution)
    packages.add("safetensors", ("safetensors/__init__.py", "safetensors/numpy.py", "safetensors/_safetensors_rust"))
    only = None
    if artifact.manifest.privacy is not None or file.signature is not None:
        version = sys.version_info
        only, folder = f"{version.major}.{version.minor}", f"lib-cpython-{version.major}{version.minor}"
        packages.add("cryptography", ("cryptography/",), folder)
        packages.add("cffi", ("_cffi_backend",), folder)
    needs = {name: LEAST[name] for name in (["numpy", "onnxruntime"] if target.kind == "onnx" else ["numpy"])}
    members[README] = readme(path.name, artifact, needs, packages.glibc, only).encode()
    members = dict(sorted(members.items()))
    facts = {
        "format": launcher.FORMAT,
        "fluidc": metadata.version("fluidc"),
        "artifact": path.name,
        "target": target.kind,
        "python": list(LEAST_PYTHON),
        "system": os.uname().sysname,
        "machine": os.uname().machine,
        "glibc": list(packages.glibc),
        "needs": needs,
        "members": [
            {"name": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in members.items()
        ],
    }
    return Bundle(members, (json.dumps(facts, indent=1) + "\n").encode(), only)


def _read(path: Path) -> bytes:
    reserved = (LAUNCHER, README, launcher.MANIFEST)
    if path.name in reserved:
        raise FluidcError(
            f"a bundle has a file {path.name} of its own", str(path), "give the artifact another name: NAME.fluidc"
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise FluidcError(f"the artifact cannot be read: {error.strerror}", str(path), "check the path") from None


def _check_target(kind: TargetKind, triple: str, path: Path) -> None:
    if kind == "reference":
        raise EngineError(
            "a reference artifact is executed by the compiler, which no bundle contains",
            f"{path}, target reference",
            "compile with --target cpu, or --target onnx",
        )
    built = triple.partition("-")[0]
    if built and built != machine():
        raise EngineError(
            f"the artifact is for {built} processors, and the libraries of this environment are for {machine()}",
            f"{path}, target {triple}",
            f"make the bundle on a {built} machine with fluidc",
        )


def _runtime() -> dict[str, bytes]:
    """The runtime's own files, by name in the bundle."""
    root = f"{launcher.PACKAGES}/fluidc"
    found = {f"{root}/__init__.py": b'"""The runtime of fluidc."""\n'}
    for path in sorted(_RUNTIME.rglob("*.py")):
        found[f"{root}/runtime/{path.relative_to(_RUNTIME).as_posix()}"] = path.read_bytes()
    return found


class _Packages:
    """Puts files of installed packages into a bundle.

    Attributes:
        glibc: version of the C library that the packages for every version of Python need.
    """

    def __init__(self, members: dict[str, bytes]) -> None:
        self._members = members
        self.glibc = (2, 17)

    def add(self, distribution: str, wanted: Iterable[str], folder: str = launcher.PACKAGES) -> None:
        """Copy the modules whose names begin with one of ``wanted``; raises EngineError where there are none."""
        prefixes = tuple(wanted)
        found = [
            file
            for file in _files(distribution)
            if str(file).startswith(prefixes) and file.suffix in (".py", ".so") and ".dist-info" not in str(file)
        ]
        if not found:
            raise _not_installed(distribution)
        for file in found:
            self._members[f"{folder}/{file.as_posix()}"] = Path(str(file.locate())).read_bytes()
        self.add_notices(distribution, binary=folder == launcher.PACKAGES)

    def add_notices(self, distribution: str, *, binary: bool = True) -> None:
        """Copy licences and notices; with ``binary``, note what the wheel needs of the system."""
        for file in _files(distribution):
            if _LICENSE.fullmatch(file.as_posix()):
                name = re.sub(r"^[^/]*\.dist-info/(licenses/)?", "", file.as_posix())
                self._members[f"{LICENSES}/{distribution}/{name}"] = Path(str(file.locate())).read_bytes()
        if binary:
            self.glibc = max(self.glibc, _needed_glibc(metadata.distribution(distribution)))


def _files(distribution: str) -> list[metadata.PackagePath]:
    try:
        return metadata.files(distribution) or []
    except metadata.PackageNotFoundError:
        raise _not_installed(distribution) from None


def _not_installed(distribution: str) -> EngineError:
    return EngineError(
        f"{distribution} is not installed as a package, and belongs into the bundle",
        "Python environment",
        f"pip install {distribution}",
    )


def _needed_glibc(distribution: metadata.Distribution) -> tuple[int, int]:
    """The oldest C library that a wheel says it runs on; this machine's, where it says nothing."""
    tags = _TAG.findall(distribution.read_text("WHEEL") or "")
    needed = [(int(major), int(minor)) if major else _GLIBC[name] for name, major, minor in tags]
    if needed:
        return min(needed)  # they are names for the same files
    version = (os.confstr("CS_GNU_LIBC_VERSION") or "glibc 2.17").partition(" ")[2]
    major, minor = version.split(".")[:2]
    return int(major), int(minor)
