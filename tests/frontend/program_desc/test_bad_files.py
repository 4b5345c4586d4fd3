"""Files that are damaged, of another kind, or use what fluidc lacks: a message that says so, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trees import GOLDENS

import fluidc.frontend as fluid
from fluidc.compiler.errors import FluidcError
from fluidc.compiler.ops.grad import ClipGradient
from fluidc.frontend.compat.program_desc import reading
from fluidc.frontend.compat.program_desc.errors import ProgramDescError
from fluidc.frontend.compat.program_desc.schema import program_desc_class
from fluidc.frontend.lower import lower

GOLDEN = dict(np.load(Path(__file__).parent / "paddle_programs.npz"))
CNN = (GOLDENS / "files" / "infer_cnn" / "__model__").read_bytes()
SMALL = GOLDEN["private_defaults/main"].tobytes()


def take(data: bytes) -> str | None:
    """Load and lower a program; the error's text, or None.  Errors of other kinds fail the test."""
    try:
        model = fluid.io.load_program(data, mechanism="gaussian")
        lower(model.program, fetches=[var.name for var in model.losses or model.outputs])
    except FluidcError as error:
        return str(error)
    return None


@pytest.mark.filterwarnings("ignore::fluidc.runtime.errors.PrivacyWarning")
def test_a_part_of_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    """Cut anywhere it is refused, but behind the block: what follows says the version only, which old files lack."""
    for data in (SMALL, CNN):
        whole = [end for end in range(len(data)) if take(data[:end]) is None]
        assert len(whole) <= 2
    capsys.readouterr()


@pytest.mark.filterwarnings("ignore::fluidc.runtime.errors.PrivacyWarning")
@pytest.mark.parametrize("seed", range(2))
def test_flipped_bits(seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(seed)
    files = [CNN, *(value.tobytes() for key, value in GOLDEN.items() if key.endswith("/main"))]
    refused = 0
    for _ in range(1000):
        data = bytearray(files[rng.integers(len(files))])
        for at in rng.integers(len(data), size=rng.integers(1, 4)):
            data[at] ^= 1 << rng.integers(8)
        refused += take(bytes(data)) is not None
    assert 300 < refused < 950  # many flips change a name or a number, and nothing else
    capsys.readouterr()


def changed(data: bytes, change: Callable[[Any], None]) -> bytes:
    desc = program_desc_class()()
    desc.ParseFromString(data)
    change(desc)
    return desc.SerializeToString()


def _op(desc: Any, kind: str) -> Any:
    return next(op for op in desc.blocks[0].ops if op.type == kind)


def _attr(desc: Any, kind: str, name: str) -> Any:
    return next(attr for attr in _op(desc, kind).attrs if attr.name == name)


def _unfit(desc: Any) -> None:
    _attr(desc, "conv2d", "strides").ints.append(1)


CHANGES: list[tuple[str, Callable[[Any], None], str]] = [
    ("no blocks", lambda d: d.ClearField("blocks"), "this is no ProgramDesc: it has no blocks"),
    ("version", lambda d: setattr(d.version, "version", 3000000), "the program is of version 3000000"),
    ("block number", lambda d: setattr(d.blocks[0], "idx", 3), "block 0 is numbered 3"),
    ("block parent", lambda d: d.blocks.add(idx=1, parent_idx=1), "block 1 lies in block 1"),
    ("op type", lambda d: setattr(d.blocks[0].ops[1], "type", ""), "the type of op 1 has no name"),
    ("var name", lambda d: d.blocks[0].vars.add(), "a variable has no name"),
    ("slot twice", lambda d: _op(d, "relu").inputs.add(parameter="X", arguments=["image"]), "slot X is there twice"),
    ("attr type", lambda d: setattr(_attr(d, "conv2d", "groups"), "type", 17), "attribute groups is of type 17"),
    ("attr kind", lambda d: setattr(_attr(d, "conv2d", "groups"), "type", 2), "is of type STRING, and should be INT"),
    ("role", lambda d: setattr(_attr(d, "conv2d", "op_role"), "i", 4), "op_role is 4"),
    ("var kind", lambda d: setattr(d.blocks[0].vars[2].type, "type", 99), "it is of type 99"),
    ("elements", lambda d: setattr(d.blocks[0].vars[2].type.lod_tensor.tensor, "data_type", 7), "elements are of type"),
    ("lod", lambda d: setattr(d.blocks[0].vars[2].type.lod_tensor, "lod_level", -1), "the lod_level is -1"),
    ("undeclared", lambda d: _op(d, "relu").inputs[0].arguments.__setitem__(0, "gone"), "relu reads gone"),
    ("sub block", lambda d: _op(d, "relu").attrs.add(name="sub_block", type=8, block_idx=5), "relu"),
    ("fetched", lambda d: _op(d, "fetch").inputs[0].arguments.__setitem__(0, "gone"), "the program fetches gone"),
    ("unfit", _unfit, "conv2d has inputs or attributes that it does not take"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "text"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES])
def test_programs_that_do_not_hang_together(change: Callable[[Any], None], text: str) -> None:
    told = take(changed(CNN, change))
    assert told is not None
    assert text in told
    assert "\n  at " in told


def test_ops_that_cannot_be_compiled_are_listed_at_once() -> None:
    def change(desc: Any) -> None:
        _op(desc, "batch_norm").type = "data_norm"
        _op(desc, "mul").type = "hsigmoid"
        _op(desc, "elementwise_add").type = "hsigmoid"
        _op(desc, "relu").attrs.add(name="newer", type=6, b=True)
        _attr(desc, "conv2d", "fuse_relu").b = True
        _op(desc, "pool2d").inputs.add(parameter="Extra", arguments=["image"])

    with pytest.raises(ProgramDescError) as caught:
        fluid.io.load_program(changed(CNN, change))
    assert caught.value.what == (
        "the program has ops that cannot be compiled: 1 x conv2d with fuse_relu=True, 1 x data_norm, 2 x hsigmoid, "
        "1 x pool2d with the input Extra, 1 x relu with the attribute newer of a later version"
    )


def test_an_optimizer_that_cannot_be_compiled() -> None:
    def change(desc: Any) -> None:
        _op(desc, "dpsgd").type = "proximal_gd"

    with pytest.raises(ProgramDescError, match=r"cannot be compiled: 1 x proximal_gd(.|\n)*minimize anew"):
        fluid.io.load_program(changed(SMALL, change))


def test_unknown_fields_are_skipped() -> None:
    """Fields that later versions added: 15 of a ProgramDesc, a message; and the remarks of a call stack."""
    model = fluid.io.load_program(CNN + bytes([0x7A, 3, 1, 2, 3]))
    assert [var.name for var in model.feeds] == ["image"]


def test_gradient_ops_of_unknown_meaning() -> None:
    data = GOLDEN["stopped/main"].tobytes()

    def allreduce(desc: Any) -> None:
        _op(desc, "square_grad").type = "c_allreduce_sum"

    with pytest.raises(ProgramDescError, match="some of unknown meaning: 1 x c_allreduce_sum"):
        fluid.Program.parse_from_string(changed(data, allreduce))

    def scaled(desc: Any) -> None:
        next(
            a for op in desc.blocks[0].ops if op.type == "fill_constant" for a in op.attrs if a.name == "value"
        ).f = 2.0

    with pytest.raises(ProgramDescError, match="do not begin at a loss"):
        fluid.Program.parse_from_string(changed(data, scaled))


def test_an_error_clip_is_read_and_compiled() -> None:
    model = fluid.io.load_program(GOLDEN["clipped_error/main"].tobytes())
    record = next(op for op in model.program.global_block().ops if op.type == "backward")
    ((name, low, high),) = record.attr("error_clip")
    assert (name, low, high) == ("fc_0.tmp_2", pytest.approx(-0.01), pytest.approx(0.01))
    step = lower(model.program, fetches=[model.losses[0].name]).module.function("step")
    assert [(op.low, op.high) for op in step.ops if isinstance(op, ClipGradient)] == [(low, high)]


def test_what_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ProgramDescError, match="cannot be read: No such file"):
        fluid.io.load_program(tmp_path / "nothing")
    with pytest.raises(ProgramDescError, match="int in place of a path or bytes"):
        fluid.io.load_program(3)  # type: ignore[arg-type]
    with pytest.raises(ProgramDescError, match="str in place of bytes"):
        fluid.Program.parse_from_string("__model__")  # type: ignore[arg-type]
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ProgramDescError, match="this is no file"):
        fluid.io.load_program(tmp_path / "pipe")
    monkeypatch.setattr(reading, "MOST_BYTES", 100)
    (tmp_path / "large").write_bytes(CNN)
    with pytest.raises(ProgramDescError, match="the file has 8645 bytes"):
        fluid.io.load_program(tmp_path / "large")
    monkeypatch.setattr(reading, "MOST_OPS", 3)
    with pytest.raises(ProgramDescError, match="the program has 12 ops"):
        fluid.io.load_program(CNN)
    monkeypatch.undo()
    with pytest.raises(ProgramDescError, match=r"trainable names 'conv\.\*', which matches no persistable variable"):
        fluid.io.load_program(SMALL, trainable=["fc_*", "conv.*"], mechanism="paddle")
