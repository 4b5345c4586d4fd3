from __future__ import annotations

import hashlib
import io
import json
import os
import random
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from manifests import AUTOMATIC, PER_GROUP, POISSON, QUANTILE, small_artifact, small_manifest

from fluidc.runtime import manifest, privacy
from fluidc.runtime.archive import pack
from fluidc.runtime.artifact import Artifact, ArtifactError, Binding, FeedSpec, OutputSpec, PrivacySpec, Trained
from fluidc.runtime.ledger_records import Position

DOC = Path(__file__).parents[2] / "docs" / "artifact.md"


def _same(a: Artifact, b: Artifact) -> bool:
    return (
        replace(a.manifest, members=()) == replace(b.manifest, members=())
        and a.ir == b.ir
        and a.modules == b.modules
        and a.proof == b.proof
        and {n: (v.dtype, v.shape, v.tobytes()) for n, v in a.state.items()}
        == {n: (v.dtype, v.shape, v.tobytes()) for n, v in b.state.items()}
    )


def _rezip(members: list[tuple[str, bytes]]) -> bytes:
    return pack(dict(members))


def _members(data: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def _with_manifest(change: Callable[[dict[str, Any]], object]) -> bytes:
    members = _members(small_artifact().to_bytes())
    manifest = json.loads(members[0][1])
    change(manifest)
    return _rezip([(members[0][0], json.dumps(manifest).encode()), *members[1:]])


@pytest.mark.parametrize("privacy", [POISSON, None])
def test_write_then_read(tmp_path: Path, privacy: Any) -> None:
    artifact = small_artifact(privacy)
    artifact.write(tmp_path / "m.fluidc")
    again = Artifact.read(tmp_path / "m.fluidc")
    assert _same(again, artifact)
    assert again.module == b"\x7fELF pretended"
    assert os.listdir(tmp_path) == ["m.fluidc"]
    listed = {m.name: (m.size, m.sha256) for m in again.manifest.members}
    for name, data in _members((tmp_path / "m.fluidc").read_bytes())[1:]:
        assert listed.pop(name) == (len(data), hashlib.sha256(data).hexdigest())
    assert not listed


def test_bytes_are_deterministic() -> None:
    first = small_artifact().to_bytes()
    again = Artifact.from_bytes(first, "m")
    assert again.to_bytes() == first
    assert again.sha256() == hashlib.sha256(first).hexdigest()
    shuffled = replace(small_artifact(), state=dict(reversed(list(small_artifact().state.items()))))
    assert shuffled.to_bytes() == first


def test_scalars_and_views_keep_their_shape_and_order() -> None:
    base = small_artifact()
    column_major = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(3, 2))
    again = Artifact.from_bytes(replace(base, state={"w": column_major}).to_bytes(), "m")
    np.testing.assert_array_equal(again.state["w"], column_major)
    scalar = replace(base.manifest, state=(*base.manifest.state, replace(base.manifest.state[1], name="s", shape=())))
    again = Artifact.from_bytes(Artifact(scalar, state={"s": np.array(3, np.float32)}).to_bytes(), "m")
    assert again.state["s"].shape == ()


def test_every_truncation_is_refused() -> None:
    data = small_artifact().to_bytes()
    for length in range(0, len(data), 7):
        with pytest.raises(ArtifactError):
            Artifact.from_bytes(data[:length], "cut.fluidc")


def test_every_flipped_bit_is_refused() -> None:
    data = small_artifact().to_bytes()
    rng = random.Random(5)
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << rng.randrange(8)
        with pytest.raises(ArtifactError):
            Artifact.from_bytes(bytes(damaged), "flip")


def test_a_replaced_member_is_named() -> None:
    members = _members(small_artifact().to_bytes())
    other = [(n, b"\x7fELF another!!" if n == "module.so" else d) for n, d in members]
    with pytest.raises(ArtifactError, match=r"'module\.so' is not the one that was compiled") as caught:
        Artifact.from_bytes(_rezip(other), "m.fluidc")
    assert caught.value.where == "m.fluidc"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m[:-1], "'proof.txt' is missing"),
        (lambda m: [*m, ("ir/extra.ir", b"")], "'ir/extra.ir' is not listed"),
        (lambda m: [*m, ("../evil.so", b"")], "does not belong here"),
        (lambda m: [*m, ("/abs.so", b"")], "does not belong here"),
        (lambda m: [*m, ("ir/../../evil.ir", b"")], "does not belong here"),
        (lambda m: [*m, ("notes.pkl", b"")], "does not belong here"),
        (lambda m: m[1:], r"no manifest\.json"),
        (lambda m: [*m[1:], m[0]], "not in the order that fluidc writes"),
        (lambda m: [m[0], *reversed(m[1:])], "not in the order of the manifest"),
        (lambda m: [(n, b"[1]" if n == "manifest.json" else d) for n, d in m], "an object is wanted"),
        (lambda m: [(n, b"{" if n == "manifest.json" else d) for n, d in m], "not readable JSON"),
        (lambda m: [(n, b'{"a":1,"a":1}' if n == "manifest.json" else d) for n, d in m], "a key occurs twice"),
        (lambda m: [(n, b"[" * 99999 if n == "manifest.json" else d) for n, d in m], "not readable JSON"),
    ],
)
def test_archives_that_are_not_ours_are_refused(change: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        Artifact.from_bytes(_rezip(change(_members(small_artifact().to_bytes()))), "m.fluidc")


def test_data_in_the_place_of_an_artifact_are_no_artifact(tmp_path: Path) -> None:
    data = tmp_path / "train.npz"
    np.savez(data, image=np.zeros((3, 2), np.float32))
    with pytest.raises(ArtifactError, match=r"this is no artifact: there is no manifest\.json in it") as caught:
        Artifact.read(data)
    assert caught.value.hint == "give a file that fluidc compile wrote; data is named with --data, after the artifact"
    with pytest.raises(ArtifactError, match="this is no artifact") as caught:
        Artifact.from_bytes(data.read_bytes(), "other.zip")
    assert caught.value.hint == "give a file that fluidc compile wrote"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format_version=2), "format 2 is not one that this version reads"),
        (lambda m: m.update(extra=1), "'extra' is unknown"),
        (lambda m: m.pop("seed"), "'seed' is missing"),
        (lambda m: m.update(seed=True), "an integer"),
        (lambda m: m.update(batch=0), "an integer in"),
        (lambda m: m["target"].update(kind="tpu"), "one of cpu, reference, onnx, cuda"),
        (lambda m: m["feeds"][0].update(dtype="f8"), "one of f32"),
        (lambda m: m["feeds"][0].update(shape=["N", -1]), "an integer in"),
        (lambda m: m["feeds"][1].update(name="x"), "twice"),
        (lambda m: m["state"][0].update(shape=["N"]), "symbolic size"),
        (lambda m: m["functions"][0]["inputs"][0].update(name="z"), "unknown state 'z'"),
        (lambda m: m["functions"][0]["outputs"][1].update(shape=[9]), "another type"),
        (lambda m: m["privacy"].update(lot=1e999), "is not a JSON number"),
        (lambda m: m["privacy"].update(sigma=-1), "sigma"),
        (lambda m: m["privacy"].update(lot="16"), "a number is wanted"),
        (lambda m: m.update(trained={"steps": -1, "ledger": None}), "an integer in"),
        (lambda m: m.update(trained={"steps": 1, "ledger": None}, privacy=None), "private steps of an ordinary"),
        (lambda m: m["members"][0].update(sha256="0" * 64), "SHA-256 differs"),
        (lambda m: m["members"][0].update(size=1), "SHA-256 differs"),
    ],
)
def test_manifests_that_are_not_valid_are_refused(change: Callable[[dict[str, Any]], object], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        Artifact.from_bytes(_with_manifest(change), "m.fluidc")


def test_the_place_of_a_bad_field_is_told() -> None:
    data = _with_manifest(lambda m: m["functions"][1]["inputs"][2].update(kind="magic"))
    with pytest.raises(ArtifactError) as caught:
        Artifact.from_bytes(data, "m.fluidc")
    assert caught.value.where == "m.fluidc, manifest.json: functions[1]: inputs[2]: kind"


def test_parts_that_do_not_fit_the_manifest_are_refused() -> None:
    manifest = small_manifest()
    with pytest.raises(ArtifactError, match="no state 'v'"):
        Artifact(manifest, state={"v": np.zeros(1, np.float32)})
    with pytest.raises(ArtifactError, match=r"'w' is f32\[3, 2\], its value is float32\[2, 3\]"):
        Artifact(manifest, state={"w": np.zeros((2, 3), np.float32)})
    with pytest.raises(ArtifactError, match="its value is float64"):
        Artifact(manifest, state={"w": np.zeros((3, 2))})
    with pytest.raises(ArtifactError, match="diagnostic state"):
        Artifact(manifest, state={"seen": np.array(1)})
    with pytest.raises(ArtifactError, match="cannot name a code member"):
        Artifact(manifest, modules={"../a.so": b""})
    with pytest.raises(ArtifactError, match="cannot name a stage"):
        Artifact(manifest, ir={"a/b": ""})
    with pytest.raises(ArtifactError, match="value range on the dtype f32"):
        replace(manifest, feeds=(FeedSpec("x", "f32", ("N", 3), low=0), manifest.feeds[1]))
    with pytest.raises(ArtifactError, match="no function returns it"):
        replace(manifest, fetches=("nothing",))
    step = manifest.functions[0]
    with pytest.raises(ArtifactError, match="input mask carries the name"):
        replace(manifest, functions=(replace(step, inputs=(Binding("mask", "m"),)),))
    output = OutputSpec("state", "b", "f32", (2,), "mean")
    with pytest.raises(ArtifactError, match="combined by mean"):
        replace(manifest, fetches=(), functions=(replace(step, outputs=(output,)),))


CONSTANTS = replace(POISSON, clip=1.0, lot=16.0, sigma=1e-05)


def _compiled(line: str, spec: PrivacySpec | None = CONSTANTS) -> Artifact:
    text = f"module {{stage = target}} {{\n  privacy {{{line}}}\n}}\n"
    return replace(small_artifact(spec), ir={"target": text})


@pytest.mark.parametrize("rest", ["", ', slack=0.5, public_feeds=("clip=9.0, lot=9.0",)'])
def test_constants_that_the_program_was_compiled_with_are_those_of_the_privacy_block(rest: str) -> None:
    made = _compiled("clip=1.0, lot=16.0, sigma=1e-05" + rest)
    assert _same(Artifact.from_bytes(made.to_bytes(), "m.fluidc"), made)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("clip=0.5, lot=16.0, sigma=1e-05", "compiled with clip = 0.5, the privacy block says 1.0"),
        ("clip=1.0, lot=8.0, sigma=1e-05", "compiled with lot = 8.0, the privacy block says 16.0"),
        ("clip=1.0, lot=16.0, sigma=0.0", "compiled with sigma = 0.0, the privacy block says 1e-05"),
        (
            'clip=1.0, lot=16.0, sigma=1e-05, clipping="automatic", gamma=0.01',
            "compiled with gamma = 0.01, the privacy",
        ),
        ('clip=1.0, lot=16.0, sigma=1e-05, clipping="automatic"', "clipping = automatic, the privacy block says flat"),
        ("clip=1.0, lot=16.0, sigma=1e-05, clips=(1.0, 0.5)", r"clips = \[1.0, 0.5\], the privacy block says nothing"),
        ("clip=1.0, sigma=1e-05", "cannot be read"),
        ("clip=one, lot=16.0, sigma=1e-05", "cannot be read"),
        ("clip=1.0, lot=16.0, sigma=1.e-.05", "cannot be read"),
    ],
)
def test_a_privacy_block_with_other_constants_than_the_program_is_refused(line: str, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        _compiled(line)


GROUPS = f'clip={PER_GROUP.joint_clip!r}, lot=16.0, sigma=1.1, clipping="per-group", groups=((@w,), (@b,)), clips='
BY_QUANTILE = 'clip=1.0, lot=16.0, sigma=1.1, clipping="quantile", bound=@dp_clip_0, quantile=0.5, eta=0.2, sigma_b='


@pytest.mark.parametrize(
    ("line", "spec"),
    [
        (GROUPS + "(1.0, 0.5)", PER_GROUP),
        ('clip=1.0, lot=16.0, sigma=1.1, clipping="automatic", gamma=0.01', AUTOMATIC),
        (BY_QUANTILE + "0.8, c_min=0.001, c_max=1000.0", QUANTILE),
    ],
)
def test_constants_of_a_clipping_mode_are_those_of_the_privacy_block(line: str, spec: PrivacySpec) -> None:
    _compiled(line, spec)
    with pytest.raises(ArtifactError, match=r"the privacy block says (flat|nothing)"):
        _compiled(line, replace(POISSON, clip=spec.joint_clip))


@pytest.mark.parametrize(
    ("line", "spec", "message"),
    [
        (GROUPS + "(1.0, 1.0)", PER_GROUP, r"clips = \[1.0, 1.0\], the privacy block says \[1.0, 0.5\]"),
        (BY_QUANTILE + "0.7, c_min=0.001, c_max=1000.0", QUANTILE, "sigma_b = 0.7, the privacy block says 0.8"),
        (BY_QUANTILE + "0.8, c_min=0.001", QUANTILE, "c_max = nothing, the privacy block says 1000.0"),
    ],
)
def test_other_numbers_of_a_clipping_mode_are_refused(line: str, spec: PrivacySpec, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        _compiled(line, spec)


def test_a_private_program_without_its_privacy_block_is_refused() -> None:
    with pytest.raises(ArtifactError, match=r"compiled with clip = 1\.0, the privacy block says nothing"):
        _compiled("clip=1.0, lot=16.0, sigma=1.1", None)


def test_a_privacy_block_changed_in_the_file_is_refused() -> None:
    members = dict(_members(_compiled("clip=1.0, lot=16.0, sigma=1e-05").to_bytes()))
    manifest = json.loads(members["manifest.json"])
    manifest["privacy"]["sigma"] = 1.5
    members["manifest.json"] = json.dumps(manifest).encode()
    with pytest.raises(ArtifactError, match=r"compiled with sigma = 1e-05, the privacy block says 1\.5"):
        Artifact.from_bytes(_rezip(list(members.items())), "m.fluidc")


def test_a_trained_artifact_leaves_diagnostic_state_out() -> None:
    trained = small_artifact().with_state(
        {"w": np.ones((3, 2), np.float32), "b": np.ones(2, np.float32), "seen": np.array(5)}
    )
    assert set(trained.state) == {"w", "b"}
    assert trained.manifest.privacy_block_sha256() == POISSON.sha256()


def test_a_failed_write_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArtifactError, match="cannot be written: No such file"):
        small_artifact().write(tmp_path / "missing" / "m.fluidc")

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(ArtifactError, match="No space left"):
        small_artifact().write(tmp_path / "m.fluidc")
    assert os.listdir(tmp_path) == []


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be read: No such file"):
        Artifact.read(tmp_path / "none.fluidc")


# --- the schema that docs/artifact.md states --------------------------------------------------------------

_TYPES: dict[str, Callable[[object], bool]] = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "boolean": lambda v: isinstance(v, bool),
    "null": lambda v: v is None,
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
}
_KEYWORDS = {"$ref", "$defs", "type", "enum", "anyOf", "properties", "items", "minimum", "minLength"}
_KEYWORDS |= {"exclusiveMinimum", "minItems"}


def _schema() -> dict[str, Any]:
    block = re.search(r"```json\n(.*?)```", DOC.read_text(), re.DOTALL)
    assert block
    return json.loads(block[1])


def _errors(value: Any, rule: dict[str, Any], root: dict[str, Any], at: str) -> list[str]:
    assert rule.keys() <= _KEYWORDS, f"the document uses a keyword this test does not know: {rule}"
    if "$ref" in rule:
        return _errors(value, root["$defs"][rule["$ref"].rpartition("/")[2]], root, at)
    if "anyOf" in rule:
        tried = [_errors(value, option, root, at) for option in rule["anyOf"]]
        return [] if any(not errors for errors in tried) else tried[0]
    types = rule.get("type", list(_TYPES))
    if not any(_TYPES[name](value) for name in ([types] if isinstance(types, str) else types)):
        return [f"{at}: not {types}"]
    errors = [f"{at}: not in {rule['enum']}"] if "enum" in rule and value not in rule["enum"] else []
    if "minimum" in rule and value is not None and value < rule["minimum"]:
        errors.append(f"{at}: below {rule['minimum']}")
    if "exclusiveMinimum" in rule and value is not None and value <= rule["exclusiveMinimum"]:
        errors.append(f"{at}: not above {rule['exclusiveMinimum']}")
    if isinstance(value, list) and len(value) < rule.get("minItems", 0):
        errors.append(f"{at}: too few")
    if isinstance(value, str) and len(value) < rule.get("minLength", 0):
        errors.append(f"{at}: too short")
    if "properties" in rule and isinstance(value, dict):
        errors += [f"{at}.{key}: missing or unknown" for key in rule["properties"].keys() ^ value.keys()]
        for key in rule["properties"].keys() & value.keys():
            errors += _errors(value[key], rule["properties"][key], root, f"{at}.{key}")
    if "items" in rule and isinstance(value, list):
        for i, item in enumerate(value):
            errors += _errors(item, rule["items"], root, f"{at}[{i}]")
    return errors


@pytest.mark.parametrize(
    "privacy",
    [
        POISSON,
        None,
        PER_GROUP,
        AUTOMATIC,
        QUANTILE,
        replace(POISSON, accounting="none", reason="unknown: delta not stated", table=(), delta=None, q_num=None),
    ],
)
def test_a_written_manifest_follows_the_documented_schema(privacy: Any) -> None:
    manifest = json.loads(_members(small_artifact(privacy).to_bytes())[0][1])
    assert _errors(manifest, _schema(), _schema(), "manifest") == []


@pytest.mark.parametrize("ledger", [Position(22, "ab" * 32), None])
def test_a_trained_manifest_follows_the_documented_schema_and_is_read_back(ledger: Position | None) -> None:
    base = small_artifact()
    trained = replace(base, manifest=replace(base.manifest, trained=Trained(20, ledger)))
    data = trained.to_bytes()
    manifest = json.loads(_members(data)[0][1])
    assert _errors(manifest, _schema(), _schema(), "manifest") == []
    assert manifest["trained"]["steps"] == 20
    again = Artifact.from_bytes(data, "m.fluidc").manifest
    assert again.trained == Trained(20, ledger)
    assert again.privacy_block_sha256() == base.manifest.privacy_block_sha256()


def test_the_documented_schema_refuses_what_the_reader_refuses() -> None:
    manifest = json.loads(_members(small_artifact().to_bytes())[0][1])
    for path, value in [
        (("target", "kind"), "tpu"),
        (("feeds", 0, "dtype"), "f8"),
        (("state", 0, "shape"), [-1]),
        (("functions", 0, "outputs", 0, "not_private"), 1),
        (("privacy", "q_num"), 0),
        (("members", 0, "sha256"), ""),
        (("fetches",), [""]),
        (("trained",), {"steps": -1, "ledger": None}),
        (("trained",), {"steps": 1, "ledger": {"seq": 1}}),
        (("extra",), 1),
    ]:
        broken = json.loads(json.dumps(manifest))
        parent = broken
        for key in path[:-1]:
            parent = parent[key]
        parent[path[-1]] = value
        assert _errors(broken, _schema(), _schema(), "manifest"), path


def test_the_documented_choices_are_the_ones_of_the_code() -> None:
    choices = {
        ("target", "kind"): manifest.TargetKind,
        ("feed", "role"): manifest.FeedRole,
        ("state", "kind"): manifest.StateKind,
        ("state", "role"): manifest.StateRole,
        ("binding", "kind"): manifest.BindingKind,
        ("output", "kind"): manifest.OutputKind,
        ("output", "combine"): manifest.Combine,
        ("privacy", "mechanism"): privacy.Mechanism,
        ("privacy", "clipping"): privacy.Clipping,
        ("privacy", "sampler"): privacy.SamplerKind,
        ("privacy", "adjacency"): privacy.Adjacency,
        ("privacy", "accounting"): privacy.Accounting,
    }
    definitions = _schema()["$defs"]
    for (record, key), literal in choices.items():
        assert tuple(definitions[record]["properties"][key]["enum"]) == get_args(literal), (record, key)
    assert tuple(definitions["dtype"]["enum"]) == get_args(manifest.Dtype)


def test_the_documented_members_are_the_ones_written() -> None:
    text = DOC.read_text()
    for name, _ in _members(small_artifact().to_bytes()):
        assert f"`{re.sub('ir/.*', 'ir/STAGE.ir', name)}`" in text
