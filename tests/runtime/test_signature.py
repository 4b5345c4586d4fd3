"""Signatures of artifacts, and the keys that make and check them."""

from __future__ import annotations

import base64
import io
import json
import os
import stat
import subprocess
import sys
import textwrap
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from linear_engine import LinearEngine, linear_artifact, linear_data
from manifests import POISSON, small_artifact

from fluidc.runtime.archive import pack
from fluidc.runtime.artifact import MANIFEST, Artifact, ArtifactFile
from fluidc.runtime.errors import ArtifactError, SignatureError
from fluidc.runtime.session import Checkpoints, Session
from fluidc.runtime.signature import (
    PREFIX,
    SIGNATURE,
    Signature,
    load_private,
    load_public,
    new_key,
    trusted_keys,
)

cryptography = pytest.importorskip("cryptography")

from cryptography.hazmat.primitives import serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import rsa, x25519  # noqa: E402
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey  # noqa: E402

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
ORDER = (1 << 252) + 27742317777372353535851937790883648493  # of the group, RFC 8032


def no_passphrase() -> bytes:
    raise AssertionError("the key is not encrypted")


def public_file(folder: Path, key: Ed25519PrivateKey = KEY, name: str = "key.pub") -> Path:
    pem = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    path = folder / name
    path.write_bytes(key.public_key().public_bytes(*pem))
    return path


def parts(artifact: Artifact | None = None) -> dict[str, bytes]:
    return dict(ArtifactFile.from_bytes((artifact or small_artifact()).to_bytes(), "m").members)


def signed(members: dict[str, bytes] | None = None, key: Ed25519PrivateKey = KEY) -> bytes:
    members = members or parts()
    return pack({**members, SIGNATURE: Signature.make(members[MANIFEST], key).to_bytes()})


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_a_signed_file_is_read_where_its_key_is_required(tmp_path: Path) -> None:
    path = write(tmp_path / "m.fluidc", signed())
    key = public_file(tmp_path)
    file = ArtifactFile.read(path, key)
    assert file.signer is not None
    assert file.signer.fingerprint == Signature.make(b"", KEY).fingerprint
    assert file.artifact.to_bytes() == small_artifact().to_bytes()
    assert Artifact.read(path, [public_file(tmp_path, OTHER, "other.pub"), key]).modules
    assert Artifact.read(path, tmp_path).modules  # a folder of keys
    assert ArtifactFile.read(path).signer is None
    assert Artifact.read(path).modules


def test_the_signature_is_ed25519_of_the_prefix_and_the_manifest_as_anybody_computes_it() -> None:
    members = parts()
    with zipfile.ZipFile(io.BytesIO(signed(members))) as opened:
        stored = json.loads(opened.read("signature.json"))
    assert stored["algorithm"] == "ed25519"
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(stored["public_key"]))
    key.verify(bytes.fromhex(stored["signature"]), b"fluidc artifact manifest, signed, version 1\0" + members[MANIFEST])


def test_signing_is_deterministic_and_changes_no_other_byte() -> None:
    file = ArtifactFile.from_bytes(small_artifact().to_bytes(), "m")
    once = file.with_signature(Signature.make(file.members[MANIFEST], KEY))
    assert once == signed()
    again = ArtifactFile.from_bytes(once, "m")
    assert again.members == file.members
    assert again.with_signature(Signature.make(again.members[MANIFEST], KEY)) == once
    assert again.with_signature(Signature.make(again.members[MANIFEST], OTHER)) == signed(key=OTHER)


def test_what_checkpoints_and_ledgers_are_bound_to_is_the_same_signed_or_not() -> None:
    plain, after = small_artifact(), Artifact.from_bytes(signed(), "m")
    assert after.sha256() == plain.sha256()
    assert after.manifest.privacy_block_sha256() == plain.manifest.privacy_block_sha256()


@pytest.mark.parametrize("spec", [None, replace(POISSON, clip=0.7, lot=8.0, sigma=0.5, q_num=1 << 29)])
def test_a_run_goes_on_when_its_artifact_is_signed_meanwhile(tmp_path: Path, spec: Any) -> None:
    artifact = linear_artifact(spec, 8 if spec else None)
    path, run = tmp_path / "m.fluidc", tmp_path / "run"
    artifact.write(path)
    data, policy = linear_data(40), Checkpoints(run / "checkpoints", every_steps=1)

    def train(steps: int, resume: bool, **options: Any) -> int:
        session = Session.load(path, LinearEngine(spec), **options)
        where = run if spec else None
        return session.train(data, steps=steps, run_dir=where, checkpoints=policy, resume=resume).step

    assert train(3, False) == 3
    path.write_bytes(signed(parts(artifact)))
    assert train(5, True, require_signature=public_file(tmp_path)) == 5


def test_a_trained_artifact_is_written_without_the_signature(tmp_path: Path) -> None:
    path, key = write(tmp_path / "m.fluidc", signed(parts(linear_artifact()))), public_file(tmp_path)
    session = Session.load(path, LinearEngine(), require_signature=key)
    session.train(linear_data(40), steps=2)
    session.export(tmp_path / "trained.fluidc")
    assert ArtifactFile.read(tmp_path / "trained.fluidc").signature is None
    with pytest.raises(SignatureError, match="not signed") as caught:
        Session.load(tmp_path / "trained.fluidc", LinearEngine(), require_signature=key)
    assert "fluidc sign" in str(caught.value)


# --- what is refused ------------------------------------------------------------------------------------------


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def with_member(name: str, data: bytes) -> bytes:
    members = parts()
    return pack({**members, name: data, SIGNATURE: Signature.make(members[MANIFEST], KEY).to_bytes()})


def with_signature(data: bytes) -> bytes:
    return pack({**parts(), SIGNATURE: data})


def with_value(change: Callable[[bytes], bytes]) -> bytes:
    made = Signature.make(parts()[MANIFEST], KEY)
    return with_signature(Signature(made.key, change(made.value)).to_bytes())


def plus_order(value: bytes) -> bytes:
    """The same signature in its other, malleable, form: S + L."""
    return value[:32] + (int.from_bytes(value[32:], "little") + ORDER).to_bytes(32, "little")


def respelled(change: Callable[[dict[str, object]], object], **style: Any) -> bytes:
    stored = json.loads(Signature.make(parts()[MANIFEST], KEY).to_bytes())
    change(stored)
    return with_signature(json.dumps(stored, **{"sort_keys": True, "separators": (",", ":"), **style}).encode())


def another_manifest() -> bytes:
    members = parts()
    other = members[MANIFEST].replace(b'"seed": 7', b'"seed": 8')
    assert other != members[MANIFEST]
    return pack({**members, MANIFEST: other, SIGNATURE: Signature.make(members[MANIFEST], KEY).to_bytes()})


def another_member_listed() -> bytes:
    """A member changed, and its hash in the manifest with it."""
    members = parts(replace(small_artifact(), modules={"module.so": b"\x7fELF another"}))
    return pack({**members, SIGNATURE: Signature.make(parts()[MANIFEST], KEY).to_bytes()})


def signed_without_prefix() -> bytes:
    members = parts()
    value = KEY.sign(members[MANIFEST])
    return pack({**members, SIGNATURE: Signature(KEY.public_key().public_bytes_raw(), value).to_bytes()})


CHANGED = "the file was changed after it was signed"
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "no signature": (lambda: small_artifact().to_bytes(), "is not signed, and a signature is required"),
    "another key": (lambda: signed(key=OTHER), "signed with a key that is not trusted: ed25519:"),
    "the key of another, named as if trusted": (
        lambda: with_signature(
            replace(Signature.make(parts()[MANIFEST], OTHER), key=KEY.public_key().public_bytes_raw()).to_bytes()
        ),
        CHANGED,
    ),
    "a changed manifest": (another_manifest, CHANGED),
    "a changed member": (lambda: with_member("module.so", b"\x7fELF pretendeD"), "'module.so' is not the one"),
    "a member taken away": (
        lambda: pack({n: d for n, d in ArtifactFile.from_bytes(signed(), "m").members.items() if n != "proof.txt"}
                     | {SIGNATURE: Signature.make(parts()[MANIFEST], KEY).to_bytes()}),
        "'proof.txt' is missing",
    ),
    "a member put in": (lambda: with_member("other.so", b"\x7fELF"), "'other.so' is not listed"),
    "a changed member and manifest": (another_member_listed, CHANGED),
    "a signature of another artifact": (
        lambda: with_signature(Signature.make(parts(linear_artifact())[MANIFEST], KEY).to_bytes()), CHANGED,
    ),
    "a signature of something else than a manifest": (signed_without_prefix, CHANGED),
    "a flipped bit of R": (lambda: with_value(lambda v: flipped(v, 0)), CHANGED),
    "a flipped bit of S": (lambda: with_value(lambda v: flipped(v, 40)), CHANGED),
    "S beyond the order of the group": (lambda: with_value(plus_order), CHANGED),
    "zeros": (lambda: with_value(lambda _: bytes(64)), CHANGED),
    "a truncated signature": (lambda: with_value(lambda v: v[:-1]), "64 bytes in hex are wanted"),
    "a signature too long": (lambda: with_value(lambda v: v + b"\0"), "64 bytes in hex are wanted"),
    "a key too short": (lambda: respelled(lambda s: s.update(public_key="00" * 31)), "32 bytes in hex are wanted"),
    "not hex": (lambda: respelled(lambda s: s.update(signature="x" * 128)), "64 bytes in hex are wanted"),
    "upper case": (lambda: respelled(lambda s: s.update(signature=str(s["signature"]).upper())), "spelled in another"),
    "spaces in it": (lambda: respelled(lambda s: None, separators=(", ", ": ")), "spelled in another way"),
    "spaces in hex": (lambda: respelled(lambda s: s.update(public_key=f" {s['public_key']}")), "spelled in another"),
    "another algorithm": (lambda: respelled(lambda s: s.update(algorithm="none")), "one of ed25519 is wanted"),
    "another format": (lambda: respelled(lambda s: s.update(format_version=2)), "format 2 is not one"),
    "a field more": (lambda: respelled(lambda s: s.update(note="hi")), "'note' is unknown"),
    "an empty signature": (lambda: with_signature(b""), "not readable JSON"),
    "a list": (lambda: with_signature(b"[]"), "an object is wanted"),
    "a large signature": (lambda: with_signature(b" " * 5000), "has 5000 bytes, too many"),
    "a signature that is not last": (
        lambda: pack({MANIFEST: parts()[MANIFEST], SIGNATURE: b"{}", **parts()}), "not in the order",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_signed_by_the_key_is_refused(name: str, tmp_path: Path) -> None:
    make, message = REFUSED[name]
    path = write(tmp_path / "m.fluidc", make())
    with pytest.raises(ArtifactError, match=message) as caught:
        Session.load(path, require_signature=public_file(tmp_path))  # no engine is given: none must be wanted
    assert caught.value.hint
    assert str(path) in str(caught.value)


def test_every_flipped_bit_of_a_signed_file_is_refused(tmp_path: Path) -> None:
    data, keys = signed(), trusted_keys(public_file(tmp_path))
    ArtifactFile.from_bytes(data, "m", keys)
    for at in range(len(data)):
        with pytest.raises(ArtifactError):
            ArtifactFile.from_bytes(flipped(data, at), "m", keys)


def test_nothing_is_loaded_of_a_file_that_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object) -> None:
        raise AssertionError("code of an artifact that was not checked")

    monkeypatch.setattr("fluidc.runtime.session.engine_for", load)
    path = write(tmp_path / "m.fluidc", signed(key=OTHER))
    with pytest.raises(SignatureError):
        Session.load(path, require_signature=public_file(tmp_path))
    with pytest.raises(AssertionError, match="not checked"):
        Session.load(path, require_signature=public_file(tmp_path, OTHER))


def test_a_signature_cannot_be_required_of_what_was_read_before(tmp_path: Path) -> None:
    with pytest.raises(SignatureError, match="signatures are of files"):
        Session.load(small_artifact(), require_signature=public_file(tmp_path))


# --- key files --------------------------------------------------------------------------------------------------


def test_new_keys_sign_and_check(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        public, made = new_key(tmp_path / "release.pem")
    finally:
        os.umask(old)
    assert public == tmp_path / "release.pub"
    assert stat.S_IMODE((tmp_path / "release.pem").stat().st_mode) == 0o600
    assert load_public(public).fingerprint == made.fingerprint
    key = load_private(tmp_path / "release.pem", no_passphrase)
    path = write(tmp_path / "m.fluidc", signed(key=key))
    assert ArtifactFile.read(path, public).signer == load_public(public)
    assert sorted(os.listdir(tmp_path)) == ["m.fluidc", "release.pem", "release.pub"]


def test_two_new_keys_differ(tmp_path: Path) -> None:
    assert new_key(tmp_path / "a.pem")[1].raw != new_key(tmp_path / "b.pem")[1].raw


@pytest.mark.parametrize("name", ["k.pem", "k.pub"])
@pytest.mark.parametrize("kind", ["file", "link to nowhere"])
def test_keys_are_never_replaced(tmp_path: Path, name: str, kind: str) -> None:
    if kind == "file":
        (tmp_path / name).write_text("precious")
    else:
        (tmp_path / name).symlink_to(tmp_path / "nowhere")
    with pytest.raises(SignatureError, match="never replaced"):
        new_key(tmp_path / "k.pem")
    assert os.listdir(tmp_path) == [name]


def test_a_private_key_cannot_be_named_as_its_public_one(tmp_path: Path) -> None:
    with pytest.raises(SignatureError, match="choose another name"):
        new_key(tmp_path / "k.pub")
    with pytest.raises(SignatureError, match="cannot be written: No such file"):
        new_key(tmp_path / "missing" / "k.pem")
    assert os.listdir(tmp_path) == []


def test_an_encrypted_key_needs_its_passphrase(tmp_path: Path) -> None:
    new_key(tmp_path / "k.pem", b"sesame")
    assert b"ENCRYPTED" in (tmp_path / "k.pem").read_bytes()
    assert load_private(tmp_path / "k.pem", lambda: b"sesame").sign(b"x")
    for wrong in (b"other", b""):
        with pytest.raises(SignatureError, match="passphrase does not open"):
            load_private(tmp_path / "k.pem", lambda wrong=wrong: wrong)


def test_a_key_that_others_can_read_is_told(tmp_path: Path) -> None:
    new_key(tmp_path / "k.pem")
    (tmp_path / "k.pem").chmod(0o644)
    with pytest.warns(UserWarning, match="can be read by others; chmod 600"):
        load_private(tmp_path / "k.pem", no_passphrase)


def test_a_public_key_does_not_sign(tmp_path: Path) -> None:
    public, _ = new_key(tmp_path / "k.pem")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(SignatureError) as caught:
            load_private(public, no_passphrase)
    assert str(caught.value) == (
        f"this is a public key, which checks signatures; what signs is the private key\n  at {public}\n"
        f"  name the file KEY.pem that fluidc keygen wrote beside KEY.pub; {tmp_path / 'k.pem'} is beside it"
    )


def pem(key: Any) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, form)


def short_key() -> bytes:
    der = base64.b64decode(b"".join(pem(KEY.public_key()).splitlines()[1:-1]))
    return b"-----BEGIN PUBLIC KEY-----\n" + base64.b64encode(der[:-1]) + b"\n-----END PUBLIC KEY-----\n"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "holds no public key"),
        (b"\0" * 32, "holds no public key"),
        (b"ssh-ed25519 AAAA", "holds no public key"),
        (short_key(), "holds no public key|not an Ed25519"),
        (b"-----BEGIN PUBLIC KEY-----\n!!\n-----END PUBLIC KEY-----\n", "holds no public key"),
        (pem(x25519.X25519PrivateKey.generate().public_key()), "not an Ed25519 key"),
        (pem(rsa.generate_private_key(65537, 1024).public_key()), "not an Ed25519 key"),
        (b"-----BEGIN PRIVATE KEY-----\n", r"this is a private key, .* name .*key\.pub|this is a private key"),
        (b" " * 70000, "cannot be read: It has 70000 bytes"),
    ],
)
def test_files_that_are_no_public_keys_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(SignatureError, match=message) as caught:
        trusted_keys(write(tmp_path / "key.pub", data))
    assert caught.value.hint


@pytest.mark.parametrize("data", [b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_files_that_are_no_private_keys_are_refused(tmp_path: Path, data: bytes) -> None:
    path = write(tmp_path / "k.pem", data)
    path.chmod(0o600)
    with pytest.raises(SignatureError, match="holds no private key"):
        load_private(path, no_passphrase)
    with pytest.raises(SignatureError, match="cannot be read: No such file"):
        load_private(tmp_path / "none.pem", no_passphrase)


def test_a_private_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    secret = x25519.X25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = write(tmp_path / "k.pem", secret)
    path.chmod(0o600)
    with pytest.raises(SignatureError, match="not an Ed25519 key"):
        load_private(path, no_passphrase)


def test_no_keys_are_no_permission(tmp_path: Path) -> None:
    with pytest.raises(SignatureError, match="no key is named"):
        trusted_keys([])
    with pytest.raises(SignatureError, match="holds no public key"):
        trusted_keys(tmp_path)
    for i in range(3):
        public_file(tmp_path, KEY, f"{i}.pub")
    assert len(trusted_keys(tmp_path)) == 3


def test_a_folder_of_too_many_keys_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fluidc.runtime.signature.MAX_KEYS", 2)
    for i in range(3):
        public_file(tmp_path, KEY, f"{i}.pub")
    with pytest.raises(SignatureError, match="3 keys are more than 2"):
        trusted_keys(tmp_path)


def test_without_the_package_nothing_signed_is_trusted(tmp_path: Path) -> None:
    path, key = write(tmp_path / "m.fluidc", signed()), public_file(tmp_path)
    script = f"""
        import sys
        sys.modules["cryptography"] = None
        from fluidc.runtime import Artifact, SignatureError
        from fluidc.runtime.__main__ import main
        Artifact.read({str(path)!r})
        assert main(["inspect", {str(path)!r}]) == 0
        assert main(["inspect", {str(path)!r}, "--require-signature", {str(key)!r}]) == 1
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "NOT CHECKED: the package cryptography is not installed" in done.stdout
    assert "pip install 'cryptography" in done.stderr


def test_the_prefix_ends_where_no_manifest_begins() -> None:
    """So prefix and manifest can be told apart: no other pair gives the same bytes."""
    assert PREFIX.endswith(b"\0")
    assert PREFIX.count(b"\0") == 1
    assert parts()[MANIFEST].startswith(b"{")
