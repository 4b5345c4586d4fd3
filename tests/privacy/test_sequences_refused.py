"""Private programs have no sequences of different lengths, nor gradients that are clipped on their way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import fluidc.frontend as fluid
from fluidc.compiler.driver import compile_source
from fluidc.compiler.errors import FluidcError, PrivacyError
from fluidc.compiler.ir.core import Value
from fluidc.compiler.ir.types import DType, RaggedType, Sym, TensorType
from fluidc.compiler.ops import OPS, ragged
from fluidc.compiler.ops.base import Op
from fluidc.compiler.ops.grad import ClipGradient
from fluidc.compiler.ops.kinds import ExampleKind, MixedKind
from fluidc.compiler.ops.ragged_move import Reverse
from fluidc.compiler.ops.ragged_pad import Pad
from fluidc.compiler.ops.unary import Square
from fluidc.compiler.passes.rewrite import rewrite
from fluidc.frontend.lower import lower
from fluidc.runtime.certificate import verify

L = fluid.layers


def source(build: Callable[[], Any]) -> Any:
    """A private program whose loss is the mean of what ``build`` makes."""
    main, startup = fluid.Program(), fluid.Program()
    with fluid.unique_name.guard(), fluid.program_guard(main, startup):
        loss = L.mean(build())
        fluid.optimizer.Dpsgd(0.1, 1.0, 4.0, 1.0).minimize(loss)
    return lower(main, startup=startup)


def tokens(width: int = 4) -> Any:
    return L.data("x", [width], lod_level=1)


def labels() -> Any:
    return L.data("y", [1], dtype="int64", lod_level=1)


def dynamic_rnn() -> Any:
    rnn = L.DynamicRNN()
    with rnn.block():
        word, before = rnn.step_input(tokens()), rnn.memory(shape=[3])
        state = L.fc([word, before], 3)
        rnn.update_memory(before, state)
        rnn.output(state)
    return rnn()


def sliced() -> Any:
    offset, length = (L.data(name, [1], dtype="int64") for name in ("offset", "length"))
    return L.fc(L.sequence_slice(tokens(), offset, length), 2)


PROGRAMS: dict[str, Callable[[], Any]] = {
    "token by token": lambda: L.fc(tokens(), 3),
    "sequence_pool": lambda: L.sequence_pool(L.fc(tokens(), 3), "sum"),
    "sequence_softmax": lambda: L.sequence_softmax(L.fc(tokens(), 1)),
    "sequence_conv": lambda: L.sequence_conv(tokens(), 3),
    "sequence_expand": lambda: L.sequence_expand(L.fc(L.data("z", [4]), 3), tokens()),
    "sequence_expand_as": lambda: L.sequence_expand_as(L.fc(L.data("z", [4]), 3), tokens()),
    "sequence_pad": lambda: L.sequence_pad(L.fc(tokens(), 3), L.fill_constant([1], "float32", 0.0))[0],
    "sequence_reverse": lambda: L.sequence_reverse(L.fc(tokens(), 3)),
    "sequence_slice": sliced,
    "sequence_concat": lambda: L.sequence_concat([L.fc(tokens(), 3), L.fc(tokens(), 3)]),
    "lod_reset": lambda: L.sequence_pool(L.lod_reset(L.fc(L.data("z", [4]), 3), target_lod=[0, 2, 4]), "sum"),
    "dynamic_lstm": lambda: L.dynamic_lstm(L.fc(tokens(), 12), 12)[0],
    "dynamic_gru": lambda: L.dynamic_gru(L.fc(tokens(), 9), 3),
    "DynamicRNN": dynamic_rnn,
    "linear_chain_crf": lambda: L.linear_chain_crf(L.fc(tokens(), 3), labels()),
    "warpctc": lambda: L.warpctc(L.fc(tokens(), 3), L.cast(labels(), "int32")),
    "row_conv": lambda: L.row_conv(L.fc(tokens(), 3), 2),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_private_program_takes_sequences(name: str) -> None:
    with pytest.raises(FluidcError) as caught:
        compile_source(source(PROGRAMS[name]), target="reference", batch=2)
    assert caught.value.hint


def test_what_has_no_rule_of_kinds_keeps_no_examples_apart() -> None:
    """Ops on sequences, and whatever is added without a rule: the analysis takes their results for mixed."""
    without = {op.name for op in OPS if op.example_axis is Op.example_axis}
    of_rows = {op.name for op in OPS if op.name.startswith("ragged.")}
    assert of_rows
    assert of_rows <= without
    rows = Value(RaggedType(TensorType(DType.F32, (Sym("T"), 3)), Sym("N")), "x")
    for op in (ragged.Data(rows), ragged.Lengths(rows), ragged.Pool(rows, "sum"), Pad(rows, 4), Reverse(rows)):
        assert isinstance(op.example_axis([ExampleKind(0)]), MixedKind)


def clipped(op: Any) -> Callable[[Any, Any], Any]:
    return lambda b, found: (b(ClipGradient(b(replace(found)), -1.0, 1.0)),) if isinstance(found, op) else None


def test_gradients_clipped_on_their_way_are_refused_in_the_ir() -> None:
    """Else an example's part of a lot could be longer than the bound: it is not its gradient, scaled."""
    program = source(lambda: L.square(L.fc(L.data("x", [4]), 3, bias_attr=False)))
    artifact = compile_source(program, target="reference", batch=2, keep_ir=True).artifact()
    assert verify(artifact).contradiction is None
    functions = tuple(rewrite(f, clipped(Square)) for f in program.module.functions)
    assert functions != program.module.functions
    changed = replace(program, module=replace(program.module, functions=functions))
    with pytest.raises(PrivacyError, match="is clipped on its way to the parameters"):
        compile_source(changed, target="reference", batch=2)
