"""What is in a bundle, how it is written, and what cannot be one."""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from bundles import artifact
from click.testing import CliRunner, Result

from fluidc.compiler.errors import FluidcError
from fluidc.frontend.bundle import Bundle, bundle_of, contents, write_archive, write_folder
from fluidc.frontend.cli import main
from fluidc.runtime import libraries
from fluidc.runtime.artifact import Artifact
from fluidc.runtime.manifest import TargetSpec
from fluidc.runtime.signature import new_key

MOST_MB = 15
"""Of a compressed bundle for the cpu target, the runtime's whole code, libraries and licences included."""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plain") / "digits.fluidc"
    path.write_bytes(artifact("cpu", False))
    return path


@pytest.fixture(scope="module")
def bundle(plain: Path) -> Bundle:
    return bundle_of(plain)


@pytest.fixture(scope="module")
def small(bundle: Bundle) -> Bundle:
    """The same without libraries, which take seconds to compress."""
    members = {name: data for name, data in bundle.members.items() if not name.endswith(".so")}
    return replace(bundle, members=members)


def fluidc(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="fluidc")


def held(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Contents -------------------------------------------------------------------------------------------------


def test_a_folder_is_what_its_manifest_says(bundle: Bundle, tmp_path: Path) -> None:
    write_folder(bundle, tmp_path / "made")
    files = held(tmp_path / "made")
    manifest = json.loads(files.pop("bundle.json"))
    assert {member["name"]: member["sha256"] for member in manifest["members"]} == {
        name: hashlib.sha256(data).hexdigest() for name, data in files.items()
    }
    assert {member["name"]: member["size"] for member in manifest["members"]} == {n: len(d) for n, d in files.items()}
    assert manifest["target"] == "cpu"
    assert manifest["needs"] == {"numpy": "1.26"}
    assert os.access(tmp_path / "made" / "run.py", os.X_OK)


def test_the_same_bytes_every_time(plain: Path, bundle: Bundle, small: Bundle, tmp_path: Path) -> None:
    again = bundle_of(plain)
    assert (again.members, again.manifest) == (bundle.members, bundle.manifest)
    for suffix in (".tar.xz", ".zip"):
        paths = [tmp_path / name / f"digits{suffix}" for name in ("a", "b")]
        for path in paths:
            path.parent.mkdir(exist_ok=True)
            write_archive(small, path)
        assert paths[0].read_bytes() == paths[1].read_bytes()


def test_archives_unpack_to_the_folder(small: Bundle, tmp_path: Path) -> None:
    write_folder(small, tmp_path / "folder")
    size = write_archive(small, tmp_path / "digits.tar.xz")
    assert size == (tmp_path / "digits.tar.xz").stat().st_size
    write_archive(small, tmp_path / "digits.zip")
    with tarfile.open(tmp_path / "digits.tar.xz") as archive:
        archive.extractall(tmp_path / "tar", filter="data")
    with zipfile.ZipFile(tmp_path / "digits.zip") as archive:
        archive.extractall(tmp_path / "zip")
        assert archive.getinfo("digits/run.py").external_attr >> 16 == 0o100755
    assert held(tmp_path / "tar" / "digits") == held(tmp_path / "folder") == held(tmp_path / "zip" / "digits")
    assert os.access(tmp_path / "tar" / "digits" / "run.py", os.X_OK)


@pytest.mark.parametrize("private", [False, True])
def test_compressed_it_is_small(private: bool, tmp_path: Path) -> None:
    path = tmp_path / "digits.fluidc"
    path.write_bytes(artifact("cpu", private))
    size = sum(len(lzma.compress(data, preset=0)) for _, data in bundle_of(path).files())  # an upper bound, fast
    assert size < MOST_MB * 1e6
    assert private or size < MOST_MB * 1e6 / 3


def test_what_is_for_every_version_of_python(bundle: Bundle) -> None:
    """Extension modules of one version would lie in a folder of that version."""
    libraries_ = [name for name in bundle.members if name.endswith(".so")]
    assert {Path(name).name for name in libraries_} == {
        "libtvm_ffi.so",
        "libtvm_runtime.so",
        "_safetensors_rust.abi3.so",
    }
    assert not any(name.startswith("lib-cpython") for name in bundle.members)
    assert bundle.only is None


@pytest.mark.parametrize("target", ["cpu", "onnx"])
def test_private_programs_carry_cryptography(target: str, tmp_path: Path) -> None:
    path = tmp_path / "digits.fluidc"
    path.write_bytes(artifact(target, True))
    made = bundle_of(path)
    own = {name.split("/")[0] for name in made.members if "cryptography" in name and name.endswith(".so")}
    assert own == {f"lib-cpython-{made.only.replace('.', '')}" if made.only else ""}
    assert any("/_cffi_backend." in name for name in made.members)
    assert "privacy ledger" in made.members["README.txt"].decode()
    assert any("libtvm" in name for name in made.members) == (target == "cpu")


def test_signed_programs_carry_cryptography_and_their_signature(plain: Path, tmp_path: Path) -> None:
    signed = tmp_path / "digits.fluidc"
    signed.write_bytes(plain.read_bytes())
    new_key(tmp_path / "key.pem")
    assert fluidc("sign", signed, "--key", tmp_path / "key.pem").exit_code == 0
    made = bundle_of(signed)
    assert made.members["digits.fluidc"] == signed.read_bytes() != plain.read_bytes()
    assert any("/cryptography/" in name for name in made.members)


def test_licences_travel(bundle: Bundle) -> None:
    for name in ("apache-tvm/LICENSE", "apache-tvm/tvm/NOTICE", "apache-tvm-ffi/LICENSE", "safetensors/LICENSE"):
        assert bundle.members[f"licenses/{name}"]


def test_every_target_says_which_libraries_it_needs() -> None:
    from typing import get_args

    from fluidc.runtime.manifest import TargetKind

    assert set(libraries.NEEDED) == set(get_args(TargetKind))
    assert libraries.RUNTIME_CUDA in libraries.NEEDED["cuda"]


# Writing --------------------------------------------------------------------------------------------------


def test_an_earlier_bundle_is_replaced(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "made"
    path.mkdir()
    write_folder(bundle, path)  # an empty folder
    (path / "lib" / "fluidc" / "__pycache__").mkdir()
    (path / "lib" / "fluidc" / "__pycache__" / "x.pyc").touch()
    (path / "README.txt").write_text("damaged")
    write_folder(bundle, path)
    assert held(path) == dict(bundle.files())
    assert [entry.name for entry in tmp_path.iterdir()] == ["made"]


@pytest.mark.parametrize("stranger", ["notes.txt", "digits.fluidc.run/ledger.jsonl", "lib/own.py"])
def test_what_somebody_else_put_there_stays(bundle: Bundle, tmp_path: Path, stranger: str) -> None:
    path = tmp_path / "made"
    write_folder(bundle, path)
    (path / stranger).parent.mkdir(exist_ok=True)
    (path / stranger).write_text("precious")
    with pytest.raises(FluidcError, match=f"what no bundle of fluidc put there: {stranger}"):
        write_folder(bundle, path)
    assert (path / stranger).read_text() == "precious"


@pytest.mark.parametrize("manifest", [None, "{}", "[]", "no json", '{"format": 7, "members": []}'])
def test_a_folder_that_is_no_bundle_stays(bundle: Bundle, tmp_path: Path, manifest: str | None) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "run.py").touch()
    if manifest is not None:
        (tmp_path / "made" / "bundle.json").write_text(manifest)
    with pytest.raises(FluidcError, match="what no bundle of fluidc put there"):
        write_folder(bundle, tmp_path / "made")


def test_a_file_stays(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "made").write_text("precious")
    with pytest.raises(FluidcError, match="there is a file of this name"):
        write_folder(bundle, tmp_path / "made")
    with pytest.raises(FluidcError, match="there is no folder to write the bundle into"):
        write_folder(bundle, tmp_path / "missing" / "made")


@pytest.mark.parametrize("calls", [0, 3, 50])
@pytest.mark.parametrize("before", [False, True])
def test_a_failure_leaves_what_was_there(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int, before: bool
) -> None:
    if before:
        write_folder(bundle, tmp_path / "made")
    left, sync = [calls], os.fsync

    def failing(handle: int) -> None:
        if not left[0]:
            raise OSError(28, "No space left on device")
        left[0] -= 1
        sync(handle)

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(FluidcError, match="the bundle cannot be written: No space left on device"):
        write_folder(bundle, tmp_path / "made")
    assert [entry.name for entry in tmp_path.iterdir()] == (["made"] if before else [])
    if before:
        assert held(tmp_path / "made") == dict(bundle.files())


def test_an_archive_that_cannot_be_written(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(FluidcError, match="the archive cannot be written"):
        write_archive(bundle, tmp_path / "missing" / "digits.zip")


# Refusals -------------------------------------------------------------------------------------------------


def changed(path: Path, plain: Path, change: Callable[[TargetSpec], TargetSpec]) -> Path:
    """The artifact with another target."""
    read = Artifact.read(plain)
    replace(read, manifest=replace(read.manifest, target=change(read.manifest.target))).write(path)
    return path


def test_code_for_other_processors(plain: Path, tmp_path: Path) -> None:
    path = changed(tmp_path / "a.fluidc", plain, lambda target: replace(target, triple="riscv64-linux-gnu"))
    with pytest.raises(FluidcError, match="the artifact is for riscv64 processors, and the libraries of this env"):
        bundle_of(path)


def test_reference_programs(tmp_path: Path) -> None:
    (tmp_path / "a.fluidc").write_bytes(artifact("reference", False))
    with pytest.raises(FluidcError, match="a reference artifact is executed by the compiler"):
        bundle_of(tmp_path / "a.fluidc")


@pytest.mark.parametrize("name", ["run.py", "README.txt", "bundle.json"])
def test_names_that_a_bundle_has_itself(plain: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(plain.read_bytes())
    with pytest.raises(FluidcError, match=f"a bundle has a file {name} of its own"):
        bundle_of(tmp_path / name)


def test_a_package_that_is_not_installed(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> list[object]:
        raise contents.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(contents.metadata, "files", missing)
    with pytest.raises(FluidcError, match="apache-tvm-ffi is not installed as a package"):
        bundle_of(plain)


def test_the_command(plain: Path, tmp_path: Path) -> None:
    made = fluidc("bundle", plain, "-o", tmp_path / "made")
    assert made.exit_code == 0, made.output
    assert f"wrote the folder {tmp_path / 'made'}: " in made.output
    made = fluidc("bundle", plain, "-o", tmp_path / "digits.tar.xz")
    assert f"wrote the archive {tmp_path / 'digits.tar.xz'}: " in made.output
    for name in ("q.tar.gz", "q.TGZ", "q.tar", "q.7z", "q.tar.bz2", "q.rar"):
        refused = fluidc("bundle", plain, "-o", tmp_path / name)
        assert refused.exit_code == 2
        assert f"an archive is written as q.tar.xz or q.zip, not as {name}" in refused.output
        assert not (tmp_path / name).exists()
    refused = fluidc("bundle", plain, "-o", plain)
    assert refused.exit_code == 1
    assert "there is a file of this name" in refused.output
