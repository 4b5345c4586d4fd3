"""Programs written as ProgramDescs: what Paddle 1.8.5 needs is there, and what it cannot have is refused.

That Paddle runs them is shown by hand: ``write_for_paddle.py``, then ``run_in_paddle.py`` in Paddle's own Python.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fluid_programs import CASES

import fluidc.frontend as fluid
from fluidc.frontend.compat.program_desc.attributes import AttrType, read_attr
from fluidc.frontend.compat.program_desc.errors import ProgramDescError
from fluidc.frontend.compat.program_desc.op_protos import op_protos
from fluidc.frontend.compat.program_desc.reading import parse_desc
from fluidc.frontend.framework import OpRole, Program
from fluidc.frontend.lower import later, rules

PADDLES = dict(np.load(Path(__file__).parent / "programs.npz"))
# What fluidc does not write: remarks, kernels, and attributes that have Paddle's defaults where they are missing.
BOOKKEEPING = {"op_role", "op_role_var", "op_namescope", "op_callstack", "op_device"}


def build(name: str) -> tuple[Program, Program]:
    main, startup = fluid.Program(), fluid.Program()
    with fluid.unique_name.guard(), fluid.program_guard(main, startup):
        CASES[name](fluid)
    return main, startup


def attrs(op: Any) -> dict[str, tuple[AttrType, Any]]:
    return {a.name: (AttrType(a.type), read_attr(a, "it")) for a in op.attrs if a.name not in BOOKKEEPING}


def slots(messages: Any) -> dict[str, list[str]]:
    return {slot.parameter: sorted(slot.arguments) for slot in messages if slot.arguments}


def is_forward(op: Any) -> bool:
    return next((a.i for a in op.attrs if a.name == "op_role"), 0) in (0, 256)


def variables(block: Any, used: set[str]) -> dict[str, Any]:
    return {var.name: var for var in block.vars if var.name in used and var.type.type == 7}


@pytest.mark.parametrize("name", sorted({key.split("/")[0] for key in PADDLES} & CASES.keys()))
def test_programs_are_written_as_paddle_writes_them(name: str) -> None:
    """Ops, slots, attributes with their types, and variables, of the forward part and of the startup program."""
    for part, program in zip(("main", "startup"), build(name)):
        mine = parse_desc(program.desc.serialize_to_string(), "mine")
        theirs = parse_desc(PADDLES[f"{name}/{part}"].tobytes(), "theirs")
        trained = any(op.type == "backward" for op in program.global_block().ops)
        assert mine.version.version == theirs.version.version == 1008005
        for block, wanted in zip(mine.blocks, theirs.blocks):
            known = [op for op in wanted.ops if not trained or is_forward(op)]
            assert [op.type for op in block.ops] == [op.type for op in known]
            for op, other in zip(block.ops, known):
                assert slots(op.inputs) == slots(other.inputs)
                assert slots(op.outputs) == slots(other.outputs)
                _same_attrs(op, other)
            used = {n for op in block.ops for side in (op.inputs, op.outputs) for s in side for n in s.arguments}
            there = variables(wanted, used)
            for var_name, var in variables(block, used).items():
                assert var.persistable == there[var_name].persistable, var_name
                assert var.need_check_feed == there[var_name].need_check_feed, var_name
                ours, its = var.type.lod_tensor, there[var_name].type.lod_tensor
                assert (ours.tensor.data_type, ours.lod_level) == (its.tensor.data_type, its.lod_level), var_name
                assert all(m == t or t <= 0 for m, t in zip(ours.tensor.dims, its.tensor.dims, strict=True)), var_name


def _same_attrs(op: Any, other: Any) -> None:
    theirs = attrs(other)
    for attr, (kind, value) in attrs(op).items():
        if attr == "str_value":
            continue  # Paddle writes it for some layers only; the number is the same
        assert kind is theirs[attr][0], (op.type, attr)
        if isinstance(value, float):
            assert value == pytest.approx(theirs[attr][1], rel=1e-6), (op.type, attr)
        else:
            assert value == theirs[attr][1], (op.type, attr)


def test_every_op_that_is_lowered_has_a_proto() -> None:
    """A new op needs a line of ``make_op_protos.py``'s, else programs with it cannot be saved as Paddle's."""
    own = {name for name in rules() if name.startswith("onnx.")} | {"backward"}
    assert set(rules()) - own - set(later.RULES) <= set(op_protos())


def test_the_same_program_gives_the_same_bytes() -> None:
    assert build("nets")[0].desc.serialize_to_string() == build("nets")[0].desc.serialize_to_string()


@pytest.mark.parametrize("name", ["minimize_adam_global_norm", "decay_warmup", "conds", "while_loop_block", "fills"])
def test_what_is_written_reads_back(name: str) -> None:
    main, _ = build(name)
    data = main.desc.serialize_to_string()
    again = fluid.Program.parse_from_string(data)
    assert again.desc.serialize_to_string() == fluid.Program.parse_from_string(data).desc.serialize_to_string()
    kept = [op.type for block in main.blocks for op in block.ops if op.role is OpRole.FORWARD]
    assert [op.type for block in again.blocks for op in block.ops] == kept or name == "decay_warmup"
    trained = {p.name for p in main.all_parameters()}
    assert {p.name for p in again.all_parameters()} == trained


def test_a_training_programs_state_is_declared() -> None:
    """The backward, the update and what is computed from gradients are left out; accumulators are declared."""
    x = fluid.Program()
    with fluid.program_guard(x, fluid.Program()), fluid.unique_name.guard():
        data = fluid.data("x", [None, 3])
        loss = fluid.layers.mean(fluid.layers.fc(data, 2))
        optimizer = fluid.optimizer.Adam(0.1)
        ((parameter, gradient), *_) = pairs = optimizer.backward(loss)
        size = fluid.layers.reduce_sum(fluid.layers.square(gradient))
        fluid.layers.scale(size, 2.0)
        optimizer.apply_gradients(pairs)
    desc = parse_desc(x.desc.serialize_to_string(), "it")
    assert [op.type for op in desc.blocks[0].ops] == ["mul", "elementwise_add", "mean"]
    names = {var.name for var in desc.blocks[0].vars}
    assert f"{parameter.name}_moment1_0" in names
    assert "learning_rate_0" in names
    assert not any("@GRAD" in name for name in names)


def test_what_paddle_does_not_have_is_listed_at_once() -> None:
    program = fluid.Program()
    with fluid.program_guard(program, fluid.Program()), fluid.unique_name.guard():
        x = fluid.data("x", [None, 3])
        block = program.global_block()
        for kind, slot, attr in (("onnx.Gemm", "A", {}), ("onnx.Gemm", "A", {}), ("relu", "Mask", {"own": 1})):
            out = block.create_var(name=fluid.unique_name.generate("out"), dtype="float32", shape=[-1, 3])
            block.append_op(kind, {"X": [x], slot: [x]}, {"Out": [out]}, attr)
    with pytest.raises(ProgramDescError) as caught:
        program.desc.serialize_to_string()
    here = Path(__file__).name
    for text in ("2 x onnx.Gemm (first at", "1 x relu with the slot Mask", "1 x relu with the attribute own", here):
        assert text in str(caught.value)


def test_a_number_that_does_not_fit_is_refused() -> None:
    program = fluid.Program()
    with fluid.program_guard(program, fluid.Program()):
        fluid.layers.reshape(fluid.data("x", [None, 3]), [-1, 2**40])
    with pytest.raises(ProgramDescError, match=r"attribute shape = .* does not fit into a ProgramDesc"):
        program.desc.serialize_to_string()


def test_exact_numbers_are_kept() -> None:
    program = fluid.Program()
    with fluid.program_guard(program, fluid.Program()):
        fluid.layers.fill_constant([1], "int64", 2**53 + 1)
        fluid.layers.fill_constant([1], "float64", 0.1)
        fluid.layers.fill_constant([1], "float32", float("inf"))
    ops = parse_desc(program.desc.serialize_to_string(), "it").blocks[0].ops
    assert [attrs(op)["str_value"][1] for op in ops] == [str(2**53 + 1), "0.1", ""]
    again = fluid.Program.parse_from_string(program.desc.serialize_to_string())
    names = [op.output("Out")[0] for op in again.global_block().ops]
    big, tenth, endless = fluid.Executor(target="reference").run(again, fetch_list=names)
    assert (big.item(), tenth.item(), endless.item()) == (2**53 + 1, 0.1, float("inf"))
