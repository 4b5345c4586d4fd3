"""keygen, sign and --require-signature, on both command lines."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from manifests import small_artifact

from fluidc.frontend.cli import main
from fluidc.runtime.artifact import ArtifactFile

pytest.importorskip("cryptography")

SCRIPT = """
import fluidc.frontend as fluid
x, y = fluid.data("x", [None, 4]), fluid.data("y", [None, 1])
loss = fluid.layers.mean(fluid.layers.square_error_cost(fluid.layers.fc(x, 1), y))
fluid.optimizer.SGD(0.01).minimize(loss)
"""


def fluidc(*arguments: object, **environment: str) -> Result:
    environment = {"FLUIDC_KEY_PASSPHRASE": "", **environment} if environment else {}
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="fluidc", env=environment)


def ok(*arguments: object, **environment: str) -> str:
    result = fluidc(*arguments, **environment)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: object, code: int = 1, **environment: str) -> str:
    result = fluidc(*arguments, **environment)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.stderr


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two pairs of keys, an artifact signed with the first, and data."""
    folder = tmp_path_factory.mktemp("signed")
    (folder / "line.py").write_text(SCRIPT)
    ok("compile", folder / "line.py", "-o", folder / "line.fluidc", "--target", "reference", "--fetch", "fc_0.tmp_1")
    np.savez(folder / "data.npz", x=np.ones((8, 4), np.float32), y=np.ones((8, 1), np.float32))
    for name in ("mine", "other"):
        ok("keygen", folder / f"{name}.pem")
    ok("sign", folder / "line.fluidc", "--key", folder / "mine.pem", "-o", folder / "signed.fluidc")
    return folder


def test_keygen_tells_what_it_wrote(tmp_path: Path) -> None:
    shown = ok("keygen", tmp_path / "release.pem")
    assert re.fullmatch(
        rf"wrote {tmp_path}/release.pem, which signs: keep it secret\n"
        rf"wrote {tmp_path}/release.pub, for --require-signature\nfingerprint ed25519:[0-9a-f]{{32}}\n",
        shown,
    )
    assert "never replaced" in refused("keygen", tmp_path / "release.pem")


def test_keygen_with_a_passphrase_from_the_environment_or_a_person(tmp_path: Path) -> None:
    ok("keygen", tmp_path / "a.pem", "--passphrase", FLUIDC_KEY_PASSPHRASE="sesame")
    small_artifact().write(tmp_path / "m.fluidc")
    sign = ("sign", tmp_path / "m.fluidc", "--key", tmp_path / "a.pem")
    ok(*sign, FLUIDC_KEY_PASSPHRASE="sesame")
    assert "passphrase does not open" in refused(*sign, FLUIDC_KEY_PASSPHRASE="wrong")
    assert "nobody to ask" in refused(*sign)
    assert "is empty" in refused("keygen", tmp_path / "b.pem", "--passphrase", code=2, FLUIDC_KEY_PASSPHRASE="")
    typed = CliRunner().invoke(main, ["keygen", str(tmp_path / "b.pem"), "--passphrase"], input="one\none\n")
    assert typed.exit_code == 0
    assert b"ENCRYPTED" in (tmp_path / "b.pem").read_bytes()
    assert "one" not in typed.output


def test_signing_in_place_keeps_the_permissions_and_says_what_it_replaces(tmp_path: Path, made: Path) -> None:
    path = tmp_path / "m.fluidc"
    small_artifact().write(path)
    path.chmod(0o600)
    first = ok("sign", path, "--key", made / "mine.pem")
    assert first.startswith("signed by ed25519:")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    data = path.read_bytes()
    assert ok("sign", path, "--key", made / "mine.pem") == first
    assert path.read_bytes() == data
    assert "is replaced" in ok("sign", path, "--key", made / "other.pem")
    assert sorted(os.listdir(tmp_path)) == ["m.fluidc"]


def test_signing_refuses_what_is_no_artifact_and_what_cannot_be_written(tmp_path: Path, made: Path) -> None:
    assert "no artifact" in refused("sign", made / "line.py", "--key", made / "mine.pem")
    assert "this is a public key" in refused(
        "sign", made / "line.fluidc", "--key", made / "mine.pub", "-o", tmp_path / "s"
    )
    where = tmp_path / "missing" / "s.fluidc"
    assert "cannot be written" in refused("sign", made / "line.fluidc", "--key", made / "mine.pem", "-o", where)


COMMANDS = {
    "inspect": (),
    "predict": ("--data", "data.npz", "-o", "out.npz"),
    "run": ("--data", "data.npz", "--steps", 2, "--batch", 8),
    "audit": (),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_executes_refuses_without_the_signature(
    command: str, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made)
    for file, key, message in [
        ("line.fluidc", "mine.pub", "is not signed"),
        ("signed.fluidc", "other.pub", "not trusted"),
        ("signed.fluidc", "mine.pem", "private key"),
        ("signed.fluidc", "line.py", "no public key"),
    ]:
        error = refused(command, file, *COMMANDS[command], "--require-signature", key)
        assert message in error
        assert error.count("\n") == 3, "what, where, what to do"
    assert "does not exist" in refused(command, "signed.fluidc", *COMMANDS[command], "--require-signature", "x", code=2)


@pytest.mark.parametrize("command", ["inspect", "predict", "run"])
def test_commands_execute_what_is_signed(command: str, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)
    for keys in (("mine.pub",), ("other.pub", "--require-signature", "mine.pub"), (".",)):
        ok(command, "signed.fluidc", *COMMANDS[command], "--require-signature", *keys)


def test_a_trained_artifact_is_said_to_be_unsigned(made: Path, tmp_path: Path) -> None:
    trained = tmp_path / "trained.fluidc"
    shown = ok("run", made / "signed.fluidc", "--data", made / "data.npz", "--steps", 2, "--batch", 8, "-o", trained)
    assert f"{trained} is not signed: the signature of signed.fluidc is of other numbers (fluidc sign)" in shown
    assert ArtifactFile.read(trained).signature is None
    again = ok("run", made / "line.fluidc", "--data", made / "data.npz", "--steps", 2, "--batch", 8, "-o", trained)
    assert "not signed" not in again
    ok("sign", trained, "--key", made / "mine.pem")
    ok("predict", trained, "--data", made / "data.npz", "-o", tmp_path / "o.npz", "--require-signature", made)


def test_inspect_shows_who_signed(made: Path, tmp_path: Path) -> None:
    fingerprint = ArtifactFile.read(made / "signed.fluidc", made / "mine.pub").signer
    assert fingerprint is not None
    by = fingerprint.fingerprint
    assert "\nsignature  none\n" in ok("inspect", made / "line.fluidc")
    assert f"\nsignature  valid, by {by}; whose key that is," in ok("inspect", made / "signed.fluidc")
    required = ok("inspect", made / "signed.fluidc", "--require-signature", made / "mine.pub")
    assert f"\nsignature  valid, by {by}, a required key ({made / 'mine.pub'})\n" in required
    file = ArtifactFile.read(made / "signed.fluidc")
    assert file.signature is not None
    wrong = file.with_signature(replace(file.signature, value=bytes(64)))
    (tmp_path / "bad.fluidc").write_bytes(wrong)
    assert f"\nsignature  INVALID, by {by}\n" in ok("inspect", tmp_path / "bad.fluidc")


def test_the_runtime_alone_asks_for_signatures_too(made: Path) -> None:
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "fluidc.runtime", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    good = run("inspect", made / "signed.fluidc", "--require-signature", made / "mine.pub")
    assert good.returncode == 0, good.stderr
    assert "a required key" in good.stdout
    for command in ("run", "predict"):
        extra = ("--data", made / "data.npz", *(("-o", made / "o.npz") if command == "predict" else ()))
        bad = run(command, made / "line.fluidc", *extra, "--require-signature", made / "mine.pub")
        assert bad.returncode == 1
        assert bad.stderr.startswith("error: the artifact is not signed")


def test_a_key_without_a_name_is_refused() -> None:
    assert "the key needs a name" in refused("keygen", "/")
