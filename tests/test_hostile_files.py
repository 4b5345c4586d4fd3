"""Single things that fuzzing found, or that it finds too seldom."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from fuzz_mutations import listed, members_of
from linear_engine import LinearEngine, linear_artifact, linear_data
from manifests import small_artifact

from fluidc.compiler.errors import ParseError
from fluidc.compiler.ir.lexer import MAX_DEPTH
from fluidc.compiler.ir.parser import parse
from fluidc.compiler.ops import OPSET
from fluidc.frontend.cli import main
from fluidc.runtime.archive import pack
from fluidc.runtime.artifact import Artifact
from fluidc.runtime.certificate.reader import Unreadable, read
from fluidc.runtime.checkpoint import load_checkpoint, save_checkpoint
from fluidc.runtime.errors import ArtifactError, CheckpointError, DataError, EngineError, FluidcError, printable
from fluidc.runtime.session import Session


def with_manifest(change: Callable[[dict[str, Any]], object]) -> bytes:
    members = members_of(small_artifact().to_bytes())
    document = json.loads(members["manifest.json"])
    change(document)
    members["manifest.json"] = listed(members, json.dumps(document).encode())
    return pack(members)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(caution="\x1b[2Jall is well"), "a text is wanted"),
        (lambda m: m.update(caution="half \ud800"), "a text is wanted"),
        (lambda m: m.update(caution="\u202ednuora"), "a text is wanted"),
        (lambda m: m.update(fetches=["loss\n"]), "a list of texts is wanted"),
        (lambda m: m["state"][0].update(shape=[1 << 40, 1 << 40]), "variables of more than"),
        (lambda m: m["state"][0].update(shape=[1] * 33), "a shape of 33 dims"),
        (lambda m: m.update(batch=1 << 40), "an integer in"),
    ],
)
def test_manifests_that_would_do_harm_later_are_refused(change: Callable[[Any], object], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        Artifact.from_bytes(with_manifest(change), "m.fluidc")


def test_json_in_another_encoding_is_refused() -> None:
    members = members_of(small_artifact().to_bytes())
    members["manifest.json"] = members["manifest.json"].decode().encode("utf-16")
    with pytest.raises(ArtifactError, match="not readable JSON"):
        Artifact.from_bytes(pack(members), "m.fluidc")


def test_state_that_no_memory_holds_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object) -> None:
        raise MemoryError("Unable to allocate 9 TiB")

    monkeypatch.setattr("fluidc.runtime.model.aligned_zeros", none_left)
    with pytest.raises(EngineError, match="not enough memory for the state"):
        Session.load(linear_artifact(), LinearEngine())


@pytest.mark.parametrize("opening", ["(", "[", "{", "<"])
def test_brackets_are_nested_so_deep_and_no_deeper(opening: str) -> None:
    text = "module {stage = core} {" + opening * 50_000
    with pytest.raises(ParseError, match=f"nested more than {MAX_DEPTH} deep") as caught:
        parse(text, OPSET)
    assert len(str(caught.value)) < 1000, "the line is shown around the place only"
    with pytest.raises(Unreadable, match="deep"):
        read(text)


def test_what_a_terminal_would_obey_is_shown_and_not_obeyed() -> None:
    assert str(FluidcError("no feed '\x1b[1mx'", "a\u202eb", "c\ud800")) == (
        "no feed '\\x1b[1mx'\n  at a\\u202eb\n  c\\ud800"
    )
    assert printable("été 東京\tok\n") == "été 東京\tok\n"


@pytest.mark.parametrize("suffix", [".fluidc", ".ir", ".npz", ".safetensors"])
def test_files_that_are_no_scripts_are_not_run_as_scripts(suffix: str, tmp_path: Path) -> None:
    path, sign = tmp_path / f"f{suffix}", tmp_path / "executed"
    path.write_text(f"open({str(sign)!r}, 'w')")
    result = CliRunner().invoke(main, ["compile", str(path), "-o", str(tmp_path / "o.fluidc")])
    assert result.exit_code == 1
    assert "this is no script, and it is not run as one" in result.output
    assert not sign.exists()


@pytest.mark.parametrize("changed", [{"rng_counter": 1 << 48}, {"step": 1 << 60}])
def test_checkpoints_that_could_not_go_on_are_refused(changed: dict[str, Any], tmp_path: Path) -> None:
    session = Session.load(linear_artifact(), LinearEngine())
    session.train(linear_data(40), steps=1)
    sound = load_checkpoint(session.save(tmp_path / "sound"), session.model.artifact_sha256)
    state = {name: np.array(value) for name, value in sound.state.items()}
    path = save_checkpoint(tmp_path / "far", state, replace(sound.meta, **changed))
    with pytest.raises(CheckpointError, match="an integer in"):
        load_checkpoint(path, session.model.artifact_sha256)


def test_an_artifact_that_cannot_predict_says_so() -> None:
    artifact = linear_artifact()
    functions = tuple(function for function in artifact.manifest.functions if function.name != "infer")
    session = Session.load(replace(artifact, manifest=replace(artifact.manifest, functions=functions)), LinearEngine())
    with pytest.raises(DataError, match="no function 'infer' that data could be given to"):
        session.predict_all(linear_data(8))
