"""Ed25519 signatures of artifacts: who vouches for what a file executes.

What is signed is the manifest, byte for byte, and with it every member, since the manifest holds their SHA-256.  The
signature is a member of its own, ``signature.json``, that no hash of the program covers: signing changes neither what
checkpoints nor what ledgers are bound to.  docs/adr/0034-signatures.md has the reasons.
"""

from __future__ import annotations

import hashlib
import importlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from .errors import SignatureError
from .fields import canonical_bytes, parse_object
from .files import read_regular, write_new

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SIGNATURE = "signature.json"
MAX_SIGNATURE_BYTES = 4096
"""Of the member; it has 300."""

FORMAT_VERSION = 1
KEY_BYTES, SIGNATURE_BYTES = 32, 64
PREFIX = b"fluidc artifact manifest, signed, version 1\0"
"""In front of the manifest when it is signed: a signature made for anything else is none here, and none there."""

MAX_KEY_FILE = 64 << 10
MAX_KEYS = 1000

KeySource: TypeAlias = "Path | str | Sequence[Path | str]"
"""A file with a public key, a folder of such files (``*.pub``), or several of both."""

_INSTALL = "pip install 'cryptography>=42'"
_KEYGEN = "make a pair of keys with fluidc keygen KEY.pem, which writes KEY.pub beside it"


@dataclass(frozen=True)
class PublicKey:
    """A key that signatures are checked with.

    Attributes:
        raw: the 32 bytes of RFC 8032.
        where: the file it was read from.
    """

    raw: bytes
    where: str = ""

    @property
    def fingerprint(self) -> str:
        """The first half of the key's SHA-256, in hex: what people compare."""
        return f"ed25519:{hashlib.sha256(self.raw).hexdigest()[:32]}"


@dataclass(frozen=True)
class Signature:
    """What ``signature.json`` holds; it says nothing before `holds_for` was asked.

    Attributes:
        key: the public key, 32 bytes, that it claims to be made with.
        value: the signature, 64 bytes.
    """

    key: bytes
    value: bytes

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the key."""
        return PublicKey(self.key).fingerprint

    def to_bytes(self) -> bytes:
        """The member; one form only."""
        return canonical_bytes(
            {
                "format_version": FORMAT_VERSION,
                "algorithm": "ed25519",
                "public_key": self.key.hex(),
                "signature": self.value.hex(),
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Signature:
        """Read what `to_bytes` wrote. Raises SignatureError for every other spelling of it, too."""

        def refuse(what: str, at: str) -> SignatureError:
            return SignatureError(f"the signature is not readable: {what}", at, "sign the artifact again: fluidc sign")

        at = f"{where}, {SIGNATURE}"
        fields = parse_object(data, at, refuse)
        version = fields.integer("format_version")
        if version != FORMAT_VERSION:
            fields.fail("format_version", f"format {version} is not one that this version reads")
        fields.choice("algorithm", ("ed25519",))
        made = cls(
            _from_hex(fields.text("public_key"), KEY_BYTES, at, refuse),
            _from_hex(fields.text("signature"), SIGNATURE_BYTES, at, refuse),
        )
        fields.done()
        if made.to_bytes() != data:
            raise refuse("it is spelled in another way than fluidc writes it", at)
        return made

    @classmethod
    def make(cls, manifest: bytes, key: Ed25519PrivateKey) -> Signature:
        """Sign the bytes of a manifest; the same bytes and key give the same signature."""
        return cls(key.public_key().public_bytes_raw(), key.sign(PREFIX + manifest))

    def holds_for(self, manifest: bytes) -> bool:
        """Whether the holder of the key signed these bytes. Raises SignatureError without ``cryptography``."""
        _need_cryptography()
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.key).verify(self.value, PREFIX + manifest)
        except (InvalidSignature, ValueError):
            return False
        return True


def check_signature(
    signature: Signature | None, manifest: bytes, trusted: Sequence[PublicKey], where: str
) -> PublicKey:
    """The key of ``trusted`` that ``manifest`` is signed with.

    Raises SignatureError: not signed, signed with another key, or changed since.
    """
    names = ", ".join(key.fingerprint for key in trusted[:3]) + (", ..." if len(trusted) > 3 else "")
    if signature is None:
        raise SignatureError(
            "the artifact is not signed, and a signature is required",
            where,
            f"get a file signed with {names}; a trained artifact has to be signed after its training: fluidc sign",
        )
    found = next((key for key in trusted if key.raw == signature.key), None)
    if found is None:
        raise SignatureError(
            f"the artifact is signed with a key that is not trusted: {signature.fingerprint}",
            where,
            f"trusted is {names}; add the other key's file to --require-signature only if you know whose it is",
        )
    if not signature.holds_for(manifest):
        raise SignatureError(
            f"the signature by {found.fingerprint} is not one of this manifest: the file was changed after it was "
            "signed, or the signature was taken from another file",
            where,
            "do not run this file; get it again from where it was signed",
        )
    return found


def trusted_keys(source: KeySource) -> tuple[PublicKey, ...]:
    """The public keys in ``source``, at least one. Raises SignatureError for a file that is no public key."""
    sources = [source] if isinstance(source, str | Path) else list(source)
    files = [file for each in sources for file in _key_files(Path(each))]
    if not files:
        raise SignatureError("no key is named", "argument require_signature", _KEYGEN)
    if len(files) > MAX_KEYS:
        raise SignatureError(f"{len(files)} keys are more than {MAX_KEYS}", str(sources[0]), "name a smaller folder")
    return tuple(load_public(file) for file in files)


def load_public(path: Path) -> PublicKey:
    """The Ed25519 public key in the PEM file ``path``. Raises SignatureError."""
    data = _read_key(path)
    if b"PRIVATE KEY" in data:
        raise SignatureError(
            "this is a private key, and a public one is wanted", str(path), f"name {path.with_suffix('.pub')}"
        )
    _need_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise SignatureError("this file holds no public key in PEM form", str(path), _KEYGEN) from None
    if not isinstance(key, Ed25519PublicKey):
        raise SignatureError("this is not an Ed25519 key", str(path), _KEYGEN)
    return PublicKey(key.public_bytes_raw(), str(path))


def load_private(path: Path, ask: Callable[[], bytes]) -> Ed25519PrivateKey:
    """The Ed25519 private key in the PEM file ``path``; ``ask`` gives the passphrase of an encrypted one.

    Warns where others can read the file. Raises SignatureError.
    """
    data = _read_key(path)
    _need_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if data.lstrip().startswith(b"-----BEGIN PUBLIC KEY-----"):
        private = path.with_suffix(".pem")
        beside = f"; {private} is beside it" if path.suffix == ".pub" and private.is_file() else ""
        raise SignatureError(
            "this is a public key, which checks signatures; what signs is the private key",
            str(path),
            f"name the file KEY.pem that fluidc keygen wrote beside KEY.pub{beside}",
        )
    if path.stat().st_mode & 0o077:
        warnings.warn(f"{path} can be read by others; chmod 600 {path}", UserWarning, stacklevel=2)
    # An encrypted key in the one form that says so in its first line; older forms are refused below.
    passphrase = ask() if b"ENCRYPTED PRIVATE KEY" in data else None
    try:
        key = load_pem_private_key(data, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        if passphrase is not None:
            raise SignatureError("the passphrase does not open this key", str(path), "try again") from None
        raise SignatureError("this file holds no private key in PEM form", str(path), _KEYGEN) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise SignatureError("this is not an Ed25519 key", str(path), _KEYGEN)
    return key


def new_key(path: Path, passphrase: bytes | None = None) -> tuple[Path, PublicKey]:
    """Make a pair of keys: ``path``, readable by its owner only, and beside it the public key, ``*.pub``.

    Returns the second file and the key in it. Raises SignatureError, and writes nothing, where one of the files
    exists.
    """
    if not path.name:
        raise SignatureError("the key needs a name", str(path), "name a new file: fluidc keygen KEY.pem")
    public = path.with_suffix(".pub")
    for file in (path, public):
        if file.exists() or file.is_symlink() or path == public:
            raise SignatureError("the key file exists, and keys are never replaced", str(file), "choose another name")
    _need_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    key = Ed25519PrivateKey.generate()
    protection = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection)
    shown = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    try:
        write_new(path, secret, 0o600)
        try:
            write_new(public, shown, 0o644)
        except OSError:
            path.unlink()
            raise
    except OSError as error:
        raise SignatureError(
            f"the key cannot be written: {error.strerror}", str(path), "choose a folder that exists and is writable"
        ) from None
    return public, PublicKey(key.public_key().public_bytes_raw(), str(public))


def _key_files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    found = sorted(path.glob("*.pub"))
    if not found:
        raise SignatureError("the folder holds no public key, no file *.pub", str(path), _KEYGEN)
    yield from found


def _read_key(path: Path) -> bytes:
    try:
        return read_regular(path, MAX_KEY_FILE)
    except OSError as error:
        raise SignatureError(f"the key cannot be read: {error.strerror}", str(path), "check the path") from None


def _from_hex(text: str, size: int, at: str, refuse: Callable[[str, str], SignatureError]) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != size:
        raise refuse(f"{size} bytes in hex are wanted, found {text[:20]!r}", at)
    return value


def _need_cryptography() -> None:
    try:
        importlib.import_module("cryptography.hazmat.primitives.asymmetric.ed25519")
    except ImportError:
        raise SignatureError(
            "the package cryptography is not installed, and signatures are checked with it",
            "Python environment",
            _INSTALL,
        ) from None
