"""What is fuzzed: for each kind of file sound ones, ways to damage them, and what reads them as a user would.

A new kind is a new line of `TARGETS`.  ``read`` raises FluidcError where a file is refused.  Where it accepts one, it
checks that what was understood is the same when it is written and read again.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import json
import pickle
import shutil
import struct
import unittest.mock
import warnings
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from click.testing import CliRunner
from fuzz_mutations import (
    Change,
    damaged_artifact,
    damaged_bytes,
    damaged_document,
    damaged_json,
    damaged_npy,
    damaged_npz,
    damaged_text,
    garbage,
    listed,
    members_of,
)
from linear_engine import LinearEngine, linear_artifact, linear_data
from manifests import PER_GROUP, PHASED, POISSON, QUANTILE, small_artifact

import fluidc.frontend as fluid
from fluidc.compiler.driver import compile_source
from fluidc.compiler.errors import FluidcError
from fluidc.compiler.ir.parser import parse
from fluidc.compiler.ir.printer import to_text
from fluidc.compiler.ir.verify import verify
from fluidc.compiler.ops import OPSET
from fluidc.compiler.passes.manager import run_passes
from fluidc.compiler.pipeline import pipeline
from fluidc.frontend.cli import main
from fluidc.frontend.lower import lower
from fluidc.runtime import archives, certificate, commands, tensors
from fluidc.runtime.archive import pack
from fluidc.runtime.artifact import Artifact, ArtifactFile, PrivacySpec
from fluidc.runtime.buffers import Buffer
from fluidc.runtime.checkpoint import load_checkpoint
from fluidc.runtime.data import load_data
from fluidc.runtime.engine import Array
from fluidc.runtime.feeds import FeedCheck
from fluidc.runtime.fields import canonical_bytes
from fluidc.runtime.ledger import LEDGER, PRIVACY, Ledger, read_ledger
from fluidc.runtime.manifest import Manifest, numpy_dtype
from fluidc.runtime.session import Session
from fluidc.runtime.signature import PublicKey, Signature

PRIVATE = replace(POISSON, clip=0.7, lot=8.0, sigma=0.5, q_num=1 << 29)


@dataclass(frozen=True)
class Target:
    """One kind of file.

    Attributes:
        name: of the kind.
        originals: makes sound files of it, in a folder.
        changes: ways to damage one; each is as likely as the others.
        read: reads one.
        share: inputs of a normal test run.
        distinct: refusals with different words that there must be, at least: what never gets behind the first check
            tests one check.
        accepts: an undamaged one is accepted whatever reads it.
        needs: a package that reads such files, and is not everywhere.
    """

    name: str
    originals: Callable[[Path], list[bytes]]
    changes: tuple[Change, ...]
    read: Callable[[bytes, Path], None]
    share: int
    distinct: int
    accepts: bool = True
    needs: str = ""


# Artifacts -----------------------------------------------------------------------------------------------------


def compiled(folder: Path, private: bool = True) -> Artifact:
    """A network with two layers, with all its texts, for numpy."""
    main_, startup = fluid.Program(), fluid.Program()
    with fluid.program_guard(main_, startup), fluid.unique_name.guard():
        x, y = fluid.layers.data("x", [6]), fluid.layers.data("y", [1], dtype="int64")
        logits = fluid.layers.fc(fluid.layers.fc(x, 5, act="tanh"), 3)
        loss = fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(logits, y))
        if private:
            arguments: dict[str, Any] = {"sample_rate": 0.25, "delta": 1e-5, "max_steps": 8}
            fluid.optimizer.Dpsgd(0.1, clip=1.0, batch_size=16.0, sigma=1.1, **arguments).minimize(loss)
        else:
            fluid.optimizer.Adam(0.1).minimize(loss)
    source = lower(main_, startup=startup, fetches=(loss.name,))
    return compile_source(source, target="reference", keep_ir=True).artifact()


def artifacts(folder: Path) -> list[bytes]:
    made = [small_artifact(spec) for spec in (POISSON, None, PER_GROUP, QUANTILE, PHASED)]
    return [artifact.to_bytes() for artifact in (*made, linear_artifact(PRIVATE, 8))]


class Obliging:
    """An engine that returns what the manifest declares, whatever that is: it stands for code that fits."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest

    @property
    def in_place(self) -> bool:
        return True

    def tensor(self, array: Array, *, secret: bool = False) -> Array:
        return array

    def state(self, buffer: Buffer) -> Array:
        return buffer.array

    def call(self, function: str, arguments: Any) -> list[Array]:
        outputs = [output for output in self._manifest.function(function).outputs if output.kind == "fetch"]
        return [
            np.zeros([dim if isinstance(dim, int) else 8 for dim in output.shape], numpy_dtype(output.dtype, "x"))
            for output in outputs
        ]


@contextlib.contextmanager
def printed() -> Generator[io.TextIOWrapper]:
    """Standard output as a terminal takes it: UTF-8, and nothing else."""
    written = io.BytesIO()
    shown = io.TextIOWrapper(written, encoding="utf-8", errors="strict")
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
        yield shown
        shown.flush()
    assert b"\x1b" not in written.getvalue(), "an escape sequence goes to the terminal"


def read_artifact(data: bytes, folder: Path) -> None:
    path = folder / "m.fluidc"
    path.write_bytes(data)
    artifact = Artifact.read(path)
    again = artifact.to_bytes()
    assert Artifact.from_bytes(again, "again").to_bytes() == again
    with printed():
        commands.inspect(path)
        if artifact.manifest.privacy is not None:
            commands.inspect(path, verify=True)
    session = Session.load(artifact, Obliging(artifact.manifest), seed=1)
    feeds = {
        feed.name: np.full(
            [dim if isinstance(dim, int) else 8 for dim in feed.shape],
            FeedCheck(feed).filler,
            numpy_dtype(feed.dtype, "feed"),
        )
        for feed in artifact.manifest.feeds
        if np.prod([float(dim) for dim in feed.shape if isinstance(dim, int)]) < 1e6
    }
    if artifact.manifest.has_function("infer"):
        session.predict(feeds)
    if artifact.manifest.has_function("step"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            session.run(feeds)


def certificates(folder: Path) -> list[bytes]:
    return [compiled(folder).to_bytes()]


def damaged_program(random: Random, data: bytes) -> bytes:
    """Texts of a private program, its proof or its privacy block changed, and every hash repaired."""
    members = members_of(data)
    name = random.choice([name for name in members if name.endswith((".ir", ".txt"))])
    if random.random() < 0.8:
        members[name] = damaged_text(random, members[name])
    else:
        document = json.loads(members["manifest.json"])
        document["privacy"] = damaged_document(random, document["privacy"])
        members["manifest.json"] = json.dumps(document).encode()
    members["manifest.json"] = listed(members, members["manifest.json"])
    return pack(members)


def read_certificate(data: bytes, folder: Path) -> None:
    artifact = Artifact.from_bytes(data, "m.fluidc")
    if artifact.manifest.privacy is None:
        return
    report = certificate.verify(artifact)
    lines = "\n".join(report.lines())
    lines.encode("utf-8")
    if not report.ok:
        raise FluidcError(str(report.contradiction))  # a contradiction that is told is a refusal


# Signatures ------------------------------------------------------------------------------------------------------

SECRET = bytes(range(32))


def _key() -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(SECRET)


def signed(folder: Path) -> list[bytes]:
    file = ArtifactFile.from_bytes(small_artifact().to_bytes(), "m")
    return [file.with_signature(Signature.make(file.members["manifest.json"], _key()))]


def damaged_signature(random: Random, data: bytes) -> bytes:
    members = members_of(data)
    change = random.choice((damaged_json, damaged_json, damaged_bytes, damaged_text))
    members["signature.json"] = change(random, members["signature.json"])
    return pack(members)


def read_signed(data: bytes, folder: Path) -> None:
    trusted = PublicKey(_key().public_key().public_bytes_raw(), "key.pub")
    file = ArtifactFile.from_bytes(data, "m.fluidc", [trusted])
    assert file.signer == trusted
    assert data == signed(folder)[0], "another file than the one that was signed is accepted"


# Runs ----------------------------------------------------------------------------------------------------------


def trained(folder: Path, spec: PrivacySpec | None) -> tuple[Session, Path]:
    """A session of `linear_artifact`, and the folder with its checkpoint and ledger."""
    run = folder / f"sound-{'private' if spec else 'plain'}"
    shutil.rmtree(run, ignore_errors=True)
    session = Session.load(linear_artifact(spec, 8 if spec else None), LinearEngine(spec), insecure_noise_key=None)
    session.train(linear_data(40), steps=3, run_dir=run if spec else None)
    session.save(run / "checkpoints")
    return session, run


def checkpoints(folder: Path) -> list[bytes]:
    return [
        (trained(folder, spec)[1] / "checkpoints" / "step-000003.safetensors").read_bytes() for spec in (None, PRIVATE)
    ]


def damaged_checkpoint(random: Random, data: bytes) -> bytes:
    """The header of a checkpoint changed, and its digest repaired."""
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + size])
    stored = json.loads(header["__metadata__"]["fluidc"])
    state = dict(tensors.decode(data))
    if random.random() < 0.6:
        stored = damaged_document(random, stored)
    else:
        name = random.choice(list(state))
        value = state.pop(name)
        shape = random.choice((value.shape, (2, *value.shape), (), (0,), value.shape[::-1]))
        dtype = random.choice(("float32", "float64", "int64", "bool", "uint8", "float16"))
        state[random.choice((name, name, "x", "", "é", "a" * 300, "\0"))] = np.ones(shape, dtype)
    if isinstance(stored, dict):
        stored.pop("digest", None)
        digest = hashlib.sha256(canonical_bytes(stored))
        for name in sorted(state):
            digest.update(canonical_bytes([name, state[name].dtype.str, list(state[name].shape)]))
            digest.update(state[name].tobytes())
        stored["digest"] = digest.hexdigest()
    return tensors.encode(state, json.dumps(stored))


def read_checkpoint(data: bytes, folder: Path) -> None:
    spec = PRIVATE if b'"step\\":3' in data and b'"ledger\\":{' in data else None
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(folder / f"sound-{'private' if spec else 'plain'}", run)
    path = run / "checkpoints" / "step-000003.safetensors"
    path.write_bytes(data)
    session = Session.load(linear_artifact(spec, 8 if spec else None), LinearEngine(spec))
    sound = load_checkpoint(path, session.model.artifact_sha256)
    assert {n: v.tobytes() for n, v in sound.state.items()} == {
        n: v.tobytes() for n, v in load_checkpoint(path, session.model.artifact_sha256).state.items()
    }
    session.resume(run / "checkpoints")
    session.train(linear_data(40), steps=session.model.step + 1, run_dir=run if spec else None, resume=True)


def ledgers(folder: Path) -> list[bytes]:
    run = folder / "ledger"
    shutil.rmtree(run, ignore_errors=True)
    for void in ("", "", "user-fed"):
        with Ledger.open(run, PRIVATE, void=void) as ledger:
            for _ in range(3):
                ledger.step(ahead=2)
            ledger.taint("somebody looked")
    return [(run / LEDGER).read_bytes()]


def damaged_ledger(random: Random, data: bytes) -> bytes:
    """Records changed, doubled, exchanged or lost, and every hash of the chain repaired."""
    records = [json.loads(line) for line in data.splitlines()]
    for _ in range(random.choice((1, 1, 2))):
        at, other = random.randrange(len(records)), random.randrange(len(records))
        match random.randrange(6):
            case 0:
                records.insert(at, dict(records[other]))
            case 1 if len(records) > 1:
                del records[at]
            case 2:
                records[at], records[other] = records[other], records[at]
            case _:
                records[at] = damaged_document(random, records[at])
    if random.random() < 0.9:
        last = PRIVATE.sha256()
        for number, record in enumerate(records):
            if isinstance(record, dict):
                if random.random() < 0.97:
                    record |= {"seq": number, "prev": last}
                record.pop("hash", None)
                last = hashlib.sha256(canonical_bytes(record)).hexdigest()
                record["hash"] = last
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def read_run(data: bytes, folder: Path, name: str = LEDGER) -> None:
    run = folder / "ledger"
    before = (run / LEDGER).read_bytes(), (run / PRIVACY).read_bytes()
    (run / name).write_bytes(data)
    try:
        _, reading = read_ledger(run)
        steps = reading.totals.steps
        with Ledger.open(run, PRIVATE) as ledger:
            assert ledger.steps == steps
            if PRIVATE.max_steps is not None and steps < PRIVATE.max_steps:
                ledger.step()
                assert ledger.steps == steps + 1
            ledger.spent()
        assert read_ledger(run)[1].totals.steps >= steps
    finally:
        (run / LEDGER).write_bytes(before[0])
        (run / PRIVACY).write_bytes(before[1])


def blocks(folder: Path) -> list[bytes]:
    ledgers(folder)
    return [(folder / "ledger" / PRIVACY).read_bytes()]


# Programs --------------------------------------------------------------------------------------------------------


def programs(folder: Path) -> list[bytes]:
    texts = [text for private in (True, False) for text in compiled(folder, private).ir.values()]
    return [text.encode() for text in texts]


def read_program(data: bytes, folder: Path) -> None:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return
    module = parse(text, OPSET, "m.ir")
    verify(module)
    shown = to_text(module)
    assert to_text(parse(shown, OPSET)) == shown
    if len(data) % 3 == 0:  # passes take longer
        run_passes(module, pipeline(module, batch=16))


# Data ------------------------------------------------------------------------------------------------------------


def npz(folder: Path) -> list[bytes]:
    made: list[bytes] = []
    for write in (np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        write(buffer, **linear_data(20))  # pyright: ignore[reportArgumentType]
        made.append(buffer.getvalue())
    return made


class Evil:
    """What Python's unpickler would execute."""

    def __reduce__(self) -> Any:
        return exec, ("import os; os.system('touch /tmp/fluidc-fuzz-executed')",)


def with_pickle(random: Random, data: bytes) -> bytes:
    buffer = io.BytesIO()
    arrays: dict[str, Any] = dict(linear_data(20))
    evil = np.empty(20, object)
    evil[random.randrange(20)] = Evil()
    arrays[random.choice(list(arrays))] = evil
    np.savez(buffer, **arrays)
    return random.choice((buffer.getvalue(), pickle.dumps(Evil()), damaged_bytes(random, buffer.getvalue())))


def read_data(data: bytes, folder: Path) -> None:
    path = folder / "data.npz"
    path.write_bytes(data)
    found = load_data(path, linear_artifact().manifest, "step")
    found.take(np.arange(found.rows))


def npy(folder: Path) -> list[bytes]:
    made: list[bytes] = []
    for x in (linear_data(20)["x"], np.asfortranarray(linear_data(20)["x"])):
        buffer = io.BytesIO()
        np.save(buffer, x)
        made.append(buffer.getvalue())
    return made


def read_folder(data: bytes, folder: Path) -> None:
    """One file of a folder of arrays, read at once and mapped."""
    path = folder / "arrays"
    path.mkdir(exist_ok=True)
    for name, value in linear_data(20).items():
        np.save(path / f"{name}.npy", value)
    (path / "x.npy").write_bytes(data)
    for limit in (archives.MAPPED_BYTES, 1):
        with unittest.mock.patch.object(archives, "MAPPED_BYTES", limit):
            found = load_data(path, linear_artifact().manifest, "step")
            found.take(np.arange(found.rows))


COLUMNS = {"x": ("x0..x2",), "y": ("y",), "label": ("label",)}


def _table() -> dict[str, list[float] | list[int]]:
    data = linear_data(20)
    columns = {f"x{i}": data["x"][:, i].tolist() for i in range(3)}
    return columns | {"y": data["y"][:, 0].tolist(), "label": data["label"][:, 0].tolist()}


def csv(folder: Path) -> list[bytes]:
    table = _table()
    rows = zip(*table.values(), strict=True)
    return ["\n".join([",".join(table), *(",".join(map(str, row)) for row in rows), ""]).encode()]


def parquet(folder: Path) -> list[bytes]:
    pyarrow: Any = importlib.import_module("pyarrow")
    writer: Any = importlib.import_module("pyarrow.parquet")
    buffer = io.BytesIO()
    writer.write_table(pyarrow.table(_table()), buffer)
    return [buffer.getvalue()]


def read_table(data: bytes, folder: Path, name: str) -> None:
    path = folder / name
    path.write_bytes(data)
    found = load_data(path, linear_artifact().manifest, "step", COLUMNS)
    found.take(np.arange(found.rows))


# Command lines -----------------------------------------------------------------------------------------------------


def files(folder: Path) -> list[bytes]:
    run = ledgers(folder)
    (folder / "data.npz").write_bytes(npz(folder)[0])
    made = [compiled(folder).to_bytes(), programs(folder)[0], *run, npz(folder)[0]]
    for data in (made[0], b"PK", b"?"):  # every command loads its parts
        for suffix in SUFFIXES[:1] if data == made[0] else SUFFIXES:
            for command in COMMANDS:
                if (command[0] != "compile" or suffix == ".onnx") and (command[0] != "audit" or data != made[0]):
                    with contextlib.suppress(FluidcError):
                        by_command(data, folder, suffix, command)
    return made


COMMANDS: tuple[tuple[str, ...], ...] = (
    ("inspect", "FILE"),
    ("inspect", "FILE", "--verify"),
    ("dump", "FILE"),
    ("dump", "FILE", "--stage", "grad"),
    ("opt", "FILE"),
    ("opt", "FILE", "--to", "target"),
    ("audit", "FILE"),
    ("privacy", "compose", "RUN", "--delta", "1e-5"),
    ("run", "FILE", "--data", "data.npz", "--steps", "1"),
    ("run", "FILE", "--data", "FILE", "--steps", "1"),
    ("predict", "FILE", "--data", "data.npz", "-o", "out.npz"),
    ("compile", "FILE", "-o", "out.fluidc"),
)


SUFFIXES = (".fluidc", ".ir", ".npz", ".onnx", "")


def read_by_command(data: bytes, folder: Path) -> None:
    """One of `COMMANDS`, chosen by what is in the file."""
    number = hashlib.sha256(data).digest()[0]
    by_command(data, folder, SUFFIXES[number % 5], COMMANDS[number // 5 % len(COMMANDS)])


def by_command(data: bytes, folder: Path, suffix: str, command: tuple[str, ...]) -> None:
    run = folder / "garbage.run"
    run.mkdir(exist_ok=True)
    for name in (f"garbage{suffix}", f"garbage.run/{LEDGER}", f"garbage.run/{PRIVACY}"):
        (folder / name).write_bytes(data)
    named = {name: folder / name for name in ("data.npz", "out.npz", "out.fluidc")}
    named |= {"FILE": folder / f"garbage{suffix}", "RUN": run}
    result = CliRunner().invoke(main, [str(named.get(word, word)) for word in command], prog_name="fluidc")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in (0, 1, 2), result.output
    if result.exit_code:
        assert "Traceback" not in result.output
        raise FluidcError(result.stderr.strip().replace("\x1b", "?")[:300] or result.stdout.strip()[:300])


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("artifacts", artifacts, (damaged_artifact, damaged_artifact, damaged_bytes), read_artifact, 600, 40),
        Target("certificates", certificates, (damaged_program,), read_certificate, 150, 20),
        Target("signatures", signed, (damaged_signature, damaged_artifact, damaged_bytes), read_signed, 250, 8),
        Target("checkpoints", checkpoints, (damaged_checkpoint, damaged_bytes), read_checkpoint, 250, 10),
        Target("ledgers", ledgers, (damaged_ledger, damaged_bytes), read_run, 250, 10),
        Target("privacy blocks", blocks, (damaged_json, damaged_bytes), partial(read_run, name=PRIVACY), 100, 5),
        Target("programs", programs, (damaged_text,), read_program, 400, 30),
        Target("data", npz, (damaged_npz, damaged_npz, damaged_bytes, with_pickle), read_data, 300, 8),
        Target("arrays", npy, (damaged_npy, damaged_npy, damaged_bytes), read_folder, 150, 8),
        Target("csv", csv, (damaged_text, damaged_bytes), partial(read_table, name="t.csv"), 150, 5, needs="pyarrow"),
        Target("parquet", parquet, (damaged_bytes,), partial(read_table, name="t.parquet"), 150, 3, needs="pyarrow"),
        Target("command lines", files, (garbage,), read_by_command, 150, 10, accepts=False),
    )
}
