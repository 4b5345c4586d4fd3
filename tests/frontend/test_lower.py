"""What the lowering makes of programs: order, state, gradients, randomness, feeds."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import layer_parity
import numpy as np
import pytest
import random_programs
from layer_parity.table import place as place_call
from sequence_cases import CASES as SEQUENCE_CASES
from sequence_cases import place
from trees import golden

import fluidc.frontend as fluid
from fluidc.compiler.codegen.reference import Reference
from fluidc.compiler.errors import LoweringError
from fluidc.compiler.ir.core import Function
from fluidc.compiler.ir.printer import to_text
from fluidc.compiler.passes.manager import run_passes
from fluidc.compiler.pipeline import pipeline
from fluidc.frontend.framework import Program
from fluidc.frontend.lower import lower, rules
from fluidc.frontend.lower.later import RULES as LATER

L = fluid.layers
WITH_PROGRAMS_OF_THEIR_OWN = {
    *("lstm", "lstmp", "gru", "cudnn_lstm"),  # test_recurrent*
    *("gather_tree", "print"),  # test_host
    *("average_accumulates", "create_py_reader", "create_double_buffer_reader", "read"),  # of averages, and of readers
}


@pytest.fixture(autouse=True)
def program() -> Iterator[Program]:
    main = Program()
    with fluid.unique_name.guard(), fluid.program_guard(main, Program()):
        yield main


def names(function: Function) -> list[str]:
    return [op.name for op in function.ops]


def run(program: Program, fetches: list[str], feeds: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    """One step on the reference target; ``state`` is updated."""
    source = lower(program, fetches=fetches)
    state.update(source.initial)
    return Reference(run_passes(source.module, pipeline(source.module))).run("step", feeds, state)


def test_the_documented_script(program: Program) -> None:
    data = L.data(name="X", shape=[1], dtype="float32")
    loss = L.mean(L.fc(input=data, size=10))
    fluid.optimizer.Dpsgd(learning_rate=0.01, clip=10.0, batch_size=16.0, sigma=1.0).minimize(loss)
    source = lower(program, startup=fluid.default_startup_program(), fetches=[loss.name])
    text = "\n".join(line.split(" loc(")[0] for line in to_text(source.module).splitlines())
    assert (
        text.strip()
        == """\
module {stage = captured} {
  privacy {clip=10.0, lot=16.0, sigma=1.0}
  state @fc_0.w_0 : f32[1,10] {role=parameter, trainable=true}
  state @fc_0.b_0 : f32[10] {role=parameter, trainable=true}
  state @learning_rate_0 : f32[1] {role=learning_rate}
  func @startup(rng_key %rng_key: u32[8], rng_counter %rng_counter: u64[]) {
    %learning_rate_0 = elementwise.fill() {value=0.01} : f32[1]
    %fc_0.b_0 = elementwise.fill() {value=0.0} : f32[10]
    %fc_0.w_0 = random.uniform(%rng_key, %rng_counter) {low=-0.7385489458759964, high=0.7385489458759964} : f32[1,10]
    state.write @fc_0.b_0, %fc_0.b_0
    state.write @fc_0.w_0, %fc_0.w_0
    state.write @learning_rate_0, %learning_rate_0
    return
  }
  func @step(feed "X" %X: f32[N,1]) {
    %fc_0.w_0 = state.read @fc_0.w_0 : f32[1,10]
    %fc_0.tmp_0 = linear.matmul(%X, %fc_0.w_0) : f32[N,10]
    %fc_0.b_0 = state.read @fc_0.b_0 : f32[10]
    %fc_0.tmp_1 = elementwise.add(%fc_0.tmp_0, %fc_0.b_0) : f32[N,10]
    %0 = reduce.mean(%fc_0.tmp_1) {axes=(0, 1)} : f32[]
    %mean_0.tmp_0 = shape.reshape(%0) {shape=(1,)} : f32[1]
    %fc_0.w_0_GRAD, %fc_0.b_0_GRAD = grad.backward([%mean_0.tmp_0], [%fc_0.w_0, %fc_0.b_0], [], []) \
{private=true} : f32[1,10], f32[10]
    %learning_rate_0 = state.read @learning_rate_0 : f32[1]
    %fc_0.b_0#1 = optim.sgd(%fc_0.b_0, %fc_0.b_0_GRAD, %learning_rate_0) : f32[10]
    %fc_0.w_0#1 = optim.sgd(%fc_0.w_0, %fc_0.w_0_GRAD, %learning_rate_0) : f32[1,10]
    state.write @fc_0.b_0, %fc_0.b_0#1
    state.write @fc_0.w_0, %fc_0.w_0#1
    return "mean_0.tmp_0" = %mean_0.tmp_0
  }
}"""
    )


def test_ops_carry_the_users_line(program: Program) -> None:
    L.relu(L.data("x", [4]))
    (op,) = lower(program).module.function("step").ops
    assert (op.loc.file, op.loc.layer) == (__file__, "relu")


def test_several_writes_become_one(program: Program) -> None:
    counter = L.create_global_var([1], 0.0, "float32", persistable=True, name="c")
    L.increment(counter)
    before = L.scale(counter, 10.0)
    L.increment(counter, value=2.0)
    step = lower(program, fetches=[before.name, "c"]).module.function("step")
    assert names(step).count("state.read") == names(step).count("state.write") == 1
    state = {"c": np.array([5.0], np.float32)}
    found = run(program, [before.name, "c"], {}, state)
    # A fetch reads the value at the end of the step, an op the value at its place.
    assert (found[before.name].item(), found["c"].item(), state["c"].item()) == (60.0, 8.0, 8.0)


def test_a_gradient_uses_what_the_forward_pass_read(program: Program) -> None:
    """Two losses of one weight: the second gradient is taken where its forward pass read the weight."""
    x = L.data("x", [2])
    y = L.fc(x, 1, param_attr="w", bias_attr=False)
    first, second = L.mean(y), L.mean(L.square(y))
    fluid.optimizer.SGD(0.5).minimize(first)
    _, pairs = fluid.optimizer.SGD(0.25).minimize(second)
    w, rows = np.array([[1.0], [2.0]], np.float32), np.array([[1.0, 3.0], [2.0, -1.0]], np.float32)
    state = {"w": w.copy(), "learning_rate_0": np.array([0.5], "f"), "learning_rate_1": np.array([0.25], "f")}
    with pytest.warns(UserWarning, match="w was updated earlier in this program"):
        found = run(program, [pairs[0][1].name], {"x": rows}, state)
    g1 = rows.mean(0)[:, None]
    g2 = (2 * (rows @ w) * rows).mean(0)[:, None]
    np.testing.assert_allclose(found[pairs[0][1].name], g2, rtol=1e-6)
    np.testing.assert_allclose(state["w"], w - 0.5 * g1 - 0.25 * g2, rtol=1e-6)


def test_gan_in_one_program_trains_each_half(program: Program) -> None:
    z = L.data("z", [2])
    fake = L.fc(z, 2, param_attr="g", bias_attr=False)
    score = L.fc(fake, 1, param_attr="d", bias_attr=False)
    loss = L.mean(score)
    fluid.optimizer.SGD(1.0).minimize(loss, parameter_list=["d"])
    fluid.optimizer.SGD(1.0).minimize(L.scale(loss, -1.0), parameter_list=["g"])
    g, d = np.array([[1.0, 2.0], [3.0, 4.0]], "f"), np.array([[1.0], [-1.0]], "f")
    state = {"g": g.copy(), "d": d.copy(), "learning_rate_0": np.ones(1, "f"), "learning_rate_1": np.ones(1, "f")}
    rows = np.array([[1.0, 1.0], [0.0, 2.0]], "f")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the generator's gradient passes through the old discriminator
        run(program, [], {"z": rows}, state)
    np.testing.assert_allclose(state["d"], d - (rows @ g).mean(0)[:, None], rtol=1e-6)
    np.testing.assert_allclose(state["g"], g + rows.mean(0)[:, None] @ d.T, rtol=1e-6)


def test_stop_gradient_stops(program: Program) -> None:
    x = L.data("x", [2], stop_gradient=False)
    h = L.square(x)
    h.stop_gradient = True
    loss = L.reduce_sum(L.elementwise_mul(h, x))
    grad = fluid.gradients(loss, x)[0]
    assert grad is not None
    rows = np.array([[2.0, -3.0]], "f")
    found = run(program, [grad.name], {"x": rows}, {})
    np.testing.assert_allclose(found[grad.name], rows**2)  # and not 3 x^2


def test_no_grad_set_and_target_gradients(program: Program) -> None:
    x = L.data("x", [2], stop_gradient=False)
    a, b = L.square(x), L.scale(x, 3.0)
    out = L.elementwise_add(a, b)
    start = L.data("s", [2])
    grad = fluid.gradients(out, x, target_gradients=start, no_grad_set={a.name})[0]
    assert grad is not None
    rows, seeds = np.array([[1.0, 2.0]], "f"), np.array([[10.0, 100.0]], "f")
    found = run(program, [grad.name], {"x": rows, "s": seeds}, {})
    np.testing.assert_allclose(found[grad.name], 3 * seeds)


def test_fetched_activation_gradient(program: Program) -> None:
    x = L.data("x", [2])
    h = L.fc(x, 2, param_attr="w", bias_attr=False)
    loss = L.mean(L.square(h))
    fluid.optimizer.SGD(0.0).minimize(loss)
    w, rows = np.eye(2, dtype="f"), np.array([[1.0, 2.0], [3.0, 4.0]], "f")
    found = run(program, [h.name + "@GRAD"], {"x": rows}, {"w": w, "learning_rate_0": np.zeros(1, "f")})
    np.testing.assert_allclose(found[h.name + "@GRAD"], 2 * rows / 4)


def test_infer_is_pruned_and_in_test_mode(program: Program) -> None:
    x, y = L.data("x", [4]), L.data("y", [1], dtype="int64")
    logits = L.fc(L.dropout(x, 0.25), 3)
    loss = L.mean(L.softmax_with_cross_entropy(logits, y))
    fluid.optimizer.SGD(0.1).minimize(loss)
    source = lower(program, fetches=[loss.name], infer_fetches=[logits.name])
    infer = source.module.function("infer")
    assert [p.name for p in infer.params] == ["x"]
    assert names(infer) == ["unary.scale", "state.read", "linear.matmul", "state.read", "elementwise.add"]
    assert [p.name for p in source.module.function("step").params] == ["x", "y", "rng_key", "rng_counter"]


def test_ranges_of_labels_and_ids(program: Program) -> None:
    ids, y = L.data("ids", [1], dtype="int64"), L.data("y", [1], dtype="int64")
    rows = L.embedding(ids, [50, 4])
    L.softmax_with_cross_entropy(L.fc(rows, 7), y)
    L.embedding(ids, [40, 4])
    assert lower(program).ranges == {"ids": (0, 40), "y": (0, 7)}


def test_state_has_roles(program: Program) -> None:
    x = L.data("x", [3, 4, 4])
    h = L.batch_norm(x)
    fluid.optimizer.Momentum(0.1, 0.9).minimize(L.mean(L.fc(h, 1, bias_attr=False)))
    found = {d.name: (d.role, d.trainable) for d in lower(program).module.state}
    assert found["batch_norm_0.w_1"] == found["batch_norm_0.w_2"] == ("statistic", False)
    assert found["fc_0.w_0"] == found["batch_norm_0.w_0"] == ("parameter", True)
    assert found["fc_0.w_0_velocity_0"] == ("optimizer", False)
    assert found["learning_rate_0"] == ("learning_rate", False)


def test_arrays_become_state_given_as_values(program: Program) -> None:
    table = np.arange(6, dtype=np.float32).reshape(2, 3)
    a, b = L.assign(table), L.assign(np.full((2, 3), 7.0, np.float32))
    source = lower(program, fetches=[a.name, b.name])
    assert list(source.initial) == [a.name]
    assert names(source.module.function("step")) == ["state.read", "elementwise.fill"]
    found = run(program, [a.name, b.name], {}, {})
    np.testing.assert_array_equal(found[a.name], table)


def test_random_ops_draw_from_streams_of_their_own(program: Program) -> None:
    x = L.data("x", [4])
    L.dropout(L.dropout(x, 0.5), 0.5)
    L.dropout(x, 0.5, seed=3)
    drawn = [dict(op.attributes()) for op in lower(program).module.function("step").ops]
    assert drawn == [{"p": 0.5}, {"p": 0.5, "stream": 1}, {"p": 0.5, "seed": 3, "generator": "paddle"}]


def test_feed_types_replace_the_declared_ones(program: Program) -> None:
    from fluidc.compiler.ir.types import DType, TensorType

    L.relu(L.data("x", [-1, -1], append_batch_size=False))
    step = lower(program, feed_types={"x": TensorType(DType.F32, (8, 3))}).module.function("step")
    assert str(step.ops[0].results[0].type) == "f32[8,3]"


def test_private_gradients_have_no_error_clip(program: Program) -> None:
    h = L.fc(L.data("x", [4]), 3)
    h.error_clip = fluid.clip.ErrorClipByValue(1.0)
    fluid.optimizer.Dpsgd(learning_rate=0.01, clip=10.0, batch_size=16.0, sigma=1.0).minimize(L.mean(h))
    with pytest.raises(LoweringError, match=r"fc_0\.tmp_1 has an error_clip, which private gradients do not have"):
        lower(program)


def test_an_array_that_a_parameter_begins_with_is_held_once(program: Program) -> None:
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    start = fluid.initializer.NumpyArrayInitializer(values)
    h = L.fc(L.data("x", [4]), 3, param_attr=fluid.ParamAttr(initializer=start), bias_attr=False)
    source = lower(program, startup=fluid.default_startup_program(), fetches=[h.name])
    assert list(source.initial) == ["fc_0.w_0"]
    np.testing.assert_array_equal(source.initial["fc_0.w_0"], values)
    assert [decl.name for decl in source.module.state] == ["fc_0.w_0"]
    assert not source.module.has_function("startup")  # it would make nothing


def test_a_mean_over_pairs_of_examples_where_the_batch_is_open(program: Program) -> None:
    x = L.data("x", [4])
    mean = L.mean(L.matmul(x, x, transpose_y=True))
    exe, rows = fluid.Executor(), np.arange(12, dtype=np.float32).reshape(3, 4)
    for feed in (rows, rows[:2], rows[:1], rows[1:]):
        (found,) = exe.run(program, {"x": feed}, [mean])
        np.testing.assert_allclose(found, [np.mean(feed @ feed.T)], rtol=1e-6)


def test_every_rule_has_a_layer() -> None:
    """No rule for an op that no program of this suite records, but for those of older Paddle's saved models."""
    folder = Path(__file__).parent / "golden"
    goldens = [json.loads((folder / f"{name}.json").read_text()) for name in ("programs", "layers")]
    goldens += [{name: {"main": case["record"]} for name, case in golden(group).items()} for group in ("control",)]
    recorded = {
        op["type"]
        for cases in goldens
        for case in cases.values()
        for part in case.values()
        for block in part
        for op in block["ops"]
    }
    for name in SEQUENCE_CASES:
        with fluid.program_guard(Program(), Program()):
            place(fluid, name)
            recorded |= {op.type for op in fluid.default_main_program().global_block().ops}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        calls = [partial(build, fluid) for build in random_programs.LAYERS.values()]
        for table in layer_parity.GROUPS.values():
            calls += [partial(place_call, fluid, key, case) for key, case in table.items()]
        for call in calls:
            with fluid.unique_name.guard(), fluid.program_guard(Program(), Program()):
                call()
                recorded |= {op.type for op in fluid.default_main_program().global_block().ops}
    own = {name for name in rules() if not name.startswith("onnx.")} - set(LATER)
    older = {"fc", "flatten", "reshape", "squeeze", "transpose", "unsqueeze"}
    assert own - recorded == {"backward"} | older | WITH_PROGRAMS_OF_THEIR_OWN
