"""Programs: names, versions, clones, locations, gradients on demand."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

import fluidc.frontend as fluid
from fluidc.compiler.errors import PrivacyError
from fluidc.frontend.errors import ProgramError
from fluidc.frontend.framework import OpRole, Program

layers = fluid.layers


@pytest.fixture
def program() -> Iterator[Program]:
    """A fresh default program with names counted from 0."""
    main = Program()
    with fluid.unique_name.guard(), fluid.program_guard(main, Program()):
        yield main


def mlp() -> fluid.Variable:
    x, y = layers.data("x", [8]), layers.data("y", [1], dtype="int64")
    h = layers.fc(x, 6, act="relu")
    return layers.mean(layers.softmax_with_cross_entropy(layers.fc(h, 3), y))


def test_import_loads_no_compiler() -> None:
    script = (
        "import sys, fluidc.frontend as fluid\n"
        "x = fluid.layers.data('x', [4]); fluid.layers.fc(x, 3)\n"
        "bad = [m for m in sys.modules if m.split('.')[0] in ('tvm', 'onnx', 'onnxruntime', 'dp_accounting')\n"
        "       or m.startswith(('fluidc.compiler.', 'fluidc.runtime.'))\n"
        "       and not m.endswith(('.errors', '.files', '.limits', '.buffers'))]\n"
        "assert not bad, bad\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_every_edit_bumps_the_version(program: Program) -> None:
    seen = [program.version]

    def edited() -> None:
        assert program.version > seen[-1]
        seen.append(program.version)

    x = layers.data("x", [4])
    edited()
    y = layers.fc(x, 3)
    edited()
    y.stop_gradient = True
    edited()
    program.random_seed = 5
    edited()
    program.global_block().ops[0].set_attr("x_num_col_dims", 1)
    edited()
    program.all_parameters()[0].trainable = False
    edited()
    for look in (program.clone, program.list_vars, y.describe, program.__repr__):
        look()
    assert program.version == seen[-1]


def test_uids_are_never_reused() -> None:
    first = Program()
    uid = first.uid
    del first
    assert Program().uid > uid


def test_ops_know_the_users_line(program: Program) -> None:
    x = layers.data("x", [4])
    line = sys._getframe().f_lineno + 1
    y = layers.batch_norm(x + 1.0, act="relu")
    names = [op.loc.layer for op in program.global_block().ops]
    assert names == ["+", "batch_norm", "batch_norm"]
    assert all(op.loc.file == __file__ and op.loc.line == line for op in program.global_block().ops)
    with fluid.name_scope("head"), fluid.name_scope("out"):
        layers.fc(y, 2)
    assert program.global_block().ops[-1].namescope == "/head/out/"


def test_location_inside_a_step_block(program: Program) -> None:
    x = layers.data("x", [3, 2, 4], append_batch_size=False)
    rnn = layers.StaticRNN()
    with rnn.step():
        rnn.step_output(rnn.step_input(x))
    recurrent = program.global_block().ops[-1]
    assert (recurrent.type, recurrent.loc.file) == ("recurrent", __file__)


def test_program_guard_restores_after_an_error() -> None:
    before = fluid.default_main_program()
    with pytest.raises(RuntimeError), fluid.program_guard(Program(), Program()):
        raise RuntimeError
    assert fluid.default_main_program() is before


def test_global_seed_reaches_later_programs() -> None:
    program = Program()
    program.global_seed(11)
    try:
        assert (program.random_seed, Program().random_seed) == (11, 11)
    finally:
        program.global_seed(0)


def test_clone_for_test_drops_training(program: Program) -> None:
    x = layers.data("x", [4])
    h = layers.dropout(layers.batch_norm(layers.fc(x, 3)), 0.5)
    loss = layers.mean(h)
    early = program.clone(for_test=True)
    fluid.optimizer.Adam(layers.noam_decay(64, 4)).minimize(loss)
    test = program.clone(for_test=True)
    assert [op.type for op in test.global_block().ops] == [op.type for op in early.global_block().ops]
    assert [op.attr("is_test") for op in test.global_block().ops if op.has_attr("is_test")] == [True, True]
    assert not any(op.attr("is_test") for op in program.global_block().ops if op.has_attr("is_test"))
    names = set(test.global_block().vars)
    assert "fc_0.w_0" in names
    assert not [n for n in names if "@GRAD" in n or "moment" in n or n == "@LR_DECAY_COUNTER@"]
    assert test.uid != program.uid
    whole = program.clone()
    assert [op.type for op in whole.global_block().ops] == [op.type for op in program.global_block().ops]
    whole.global_block().ops[0].set_attr("step", 7.0)
    assert program.global_block().ops[0].attr("step") == 1.0


def test_minimize_returns_raw_gradients(program: Program) -> None:
    loss = mlp()
    clip = fluid.clip.GradientClipByValue(0.1)
    ops, params_grads = fluid.optimizer.SGD(0.1, regularization=fluid.regularizer.L2Decay(0.1)).minimize(
        loss, grad_clip=clip
    )
    assert [p.name for p, _ in params_grads] == ["fc_0.w_0", "fc_0.b_0", "fc_1.w_0", "fc_1.b_0"]
    assert [g.name for _, g in params_grads] == [p.name + "@GRAD" for p, _ in params_grads]
    assert [op.input("Param") for op in ops] == [["fc_0.b_0"], ["fc_0.w_0"], ["fc_1.b_0"], ["fc_1.w_0"]]
    assert all(op.role is OpRole.OPTIMIZE for op in ops)


def test_grad_clip_of_minimize_equals_the_constructors() -> None:
    texts: list[str] = []
    for given in ("constructor", "minimize"):
        main = Program()
        with fluid.unique_name.guard(), fluid.program_guard(main, Program()):
            clip = fluid.clip.GradientClipByGlobalNorm(1.0)
            if given == "constructor":
                fluid.optimizer.SGD(0.1, grad_clip=clip).minimize(mlp())
            else:
                fluid.optimizer.SGD(0.1).minimize(mlp(), grad_clip=clip)
        texts.append(str(main))
    assert texts[0] == texts[1]


def test_set_gradient_clip_of_some_parameters_clips_nothing(program: Program) -> None:
    loss = mlp()
    fluid.clip.set_gradient_clip(fluid.clip.GradientClipByGlobalNorm(1.0), ["fc_0.w_0", "fc_1.w_0"])
    with pytest.warns(UserWarning, match=r"fc_0.b_0 has no clip, and so nothing is clipped, as in Paddle 1.8.5"):
        fluid.optimizer.SGD(0.1).minimize(loss)
    kinds = [op.type for op in program.global_block().ops if op.role is OpRole.OPTIMIZE]
    assert (kinds.count("square"), kinds.count("sgd")) == (0, 4)


def test_set_gradient_clip_uses_that_of_the_last_parameter(program: Program) -> None:
    loss = mlp()
    fluid.clip.set_gradient_clip(fluid.clip.GradientClipByGlobalNorm(1.0))
    fluid.clip.set_gradient_clip(fluid.clip.GradientClipByValue(0.5), ["fc_1.w_0"])
    with pytest.warns(UserWarning, match=r"differ, and that of fc_1.w_0 is used for all, as in Paddle 1.8.5"):
        fluid.optimizer.SGD(0.1).minimize(loss)
    kinds = [op.type for op in program.global_block().ops if op.role is OpRole.OPTIMIZE]
    assert (kinds.count("square"), kinds.count("clip"), kinds.count("sgd")) == (0, 4, 4)


@pytest.mark.parametrize("as_names", [True, False])
def test_parameter_list_and_no_grad_set(program: Program, as_names: bool) -> None:
    loss = mlp()
    block = program.global_block()
    chosen = ["fc_1.w_0", "fc_0.w_0"]
    listed = chosen if as_names else [block.var(n) for n in chosen]
    _, params_grads = fluid.optimizer.SGD(0.1).minimize(loss, parameter_list=listed)
    assert [p.name for p, _ in params_grads] == chosen
    stop = {"fc_0.tmp_2"} if as_names else {block.var("fc_0.tmp_2")}
    _, params_grads = fluid.optimizer.SGD(0.1).minimize(loss, no_grad_set=stop)
    assert [p.name for p, _ in params_grads] == ["fc_1.w_0", "fc_1.b_0"]


def test_frozen_and_unused_parameters_get_no_gradient(program: Program) -> None:
    x = layers.data("x", [4])
    used = layers.fc(x, 3, param_attr=fluid.ParamAttr("frozen", trainable=False), bias_attr="bias")
    layers.fc(x, 3, param_attr="unused")
    pairs = fluid.append_backward(layers.mean(used))
    assert [p.name for p, _ in pairs] == ["bias"]


def test_gradients_are_made_on_demand(program: Program) -> None:
    loss = mlp()
    block = program.global_block()
    assert not block.has_var("fc_0.tmp_2@GRAD")
    fluid.optimizer.SGD(0.1).minimize(loss)
    version = program.version
    assert block.has_var("fc_0.tmp_2@GRAD")
    assert program.version == version  # asking is not an edit
    grad = block.var("fc_0.tmp_2@GRAD")
    assert (grad.shape, program.version > version) == ((-1, 6), True)
    record = next(op for op in block.ops if op.type == "backward")
    assert record.input("Wrt")[-1] == "fc_0.tmp_2"
    assert record.output("Grads")[-1] == "fc_0.tmp_2@GRAD"
    for name in ("x@GRAD", "y@GRAD", "learning_rate_0@GRAD", "nothing@GRAD"):
        assert not block.has_var(name)
    with pytest.raises(ProgramError, match="there is no variable x@GRAD"):
        block.var("x@GRAD")


def test_later_backwards_have_names_of_their_own(program: Program) -> None:
    x = layers.data("x", [4], stop_gradient=False)
    h = layers.fc(x, 3)
    loss = layers.mean(h)
    names = [[g.name if g is not None else None for g in fluid.gradients(loss, [x, h])] for _ in range(3)]
    assert names == [
        ["x@GRAD", "fc_0.tmp_1@GRAD"],
        ["grad/grad/x@GRAD", "grad/grad/fc_0.tmp_1@GRAD"],
        ["grad/grad/grad/x@GRAD", "grad/grad/grad/fc_0.tmp_1@GRAD"],
    ]


def test_two_losses_share_names_only_where_they_must(program: Program) -> None:
    x = layers.data("x", [4])
    h = layers.fc(x, 3)
    first = fluid.optimizer.SGD(0.1).minimize(layers.mean(h))[1]
    second = fluid.optimizer.SGD(0.1).minimize(layers.mean(layers.fc(h, 2)))[1]
    assert [g.name for _, g in first] == ["fc_0.w_0@GRAD", "fc_0.b_0@GRAD"]
    assert [g.name for _, g in second] == [
        "grad/grad/fc_0.w_0@GRAD",
        "grad/grad/fc_0.b_0@GRAD",
        "fc_1.w_0@GRAD",
        "fc_1.b_0@GRAD",
    ]
    assert program.global_block().has_var("fc_1.tmp_0@GRAD")


def test_gradients_of_what_does_not_matter_are_none(program: Program) -> None:
    x, z = layers.data("x", [4], stop_gradient=False), layers.data("z", [4], stop_gradient=False)
    assert fluid.gradients(layers.mean(layers.fc(x, 3)), [z]) == [None]


def test_layers_may_follow_a_gradient(program: Program) -> None:
    optimizer = fluid.optimizer.SGD(0.1)
    pairs = optimizer.backward(mlp())
    scaled = [(p, layers.scale(g, 0.5)) for p, g in pairs]
    ops = optimizer.apply_gradients(scaled)
    assert ops[0].input("Grad") == ["scale_1.tmp_0"]


def test_private_gradients_are_guarded(program: Program) -> None:
    loss = mlp()
    optimizer = fluid.optimizer.Dpsgd(0.1, clip=1.0, batch_size=16.0, sigma=1.0)
    pairs = optimizer.backward(loss)
    block = program.global_block()
    assert block.var("fc_0.w_0@GRAD") is pairs[0][1]
    assert not block.has_var("fc_0.tmp_2@GRAD")
    with pytest.raises(PrivacyError, match=r"fc_0.tmp_2@GRAD is not available.*clipped and noised"):
        block.var("fc_0.tmp_2@GRAD")
    halved = [(p, layers.scale(g, 0.5)) for p, g in pairs]
    assert len(optimizer.apply_gradients(halved)) == 4


def test_dpsgd_refuses_other_gradients(program: Program) -> None:
    loss = mlp()
    plain = fluid.append_backward(loss)
    optimizer = fluid.optimizer.Dpsgd(0.1, clip=1.0, batch_size=16.0, sigma=1.0)
    with pytest.raises(PrivacyError, match="is not private"):
        optimizer.apply_gradients(plain)
    private = optimizer.backward(loss)
    mixed = [(p, layers.sum([g, raw])) for (p, g), (_, raw) in zip(private, plain)]
    with pytest.raises(PrivacyError, match="is not private"):
        optimizer.apply_gradients(mixed)
    constant = [(p, layers.fill_constant(list(p.shape), "float32", 0.0)) for p, _ in private]
    with pytest.raises(PrivacyError, match="is not private"):
        optimizer.apply_gradients(constant)


def test_shared_parameters_keep_one_initialiser(program: Program) -> None:
    x = layers.data("x", [4])
    for value in (1.0, 2.0):
        layers.fc(x, 3, param_attr=fluid.ParamAttr("w", fluid.initializer.Constant(value)), bias_attr=False)
    startup = fluid.default_startup_program().global_block().ops
    assert [op.attr("value") for op in startup] == [1.0]
    assert [p.name for p in program.all_parameters()] == ["w"]


def test_unique_names_nest_and_prefix() -> None:
    with fluid.unique_name.guard():
        assert [fluid.unique_name.generate("fc") for _ in range(2)] == ["fc_0", "fc_1"]
        with fluid.unique_name.guard("model/"):
            assert fluid.unique_name.generate("fc") == "model/fc_0"
        assert fluid.unique_name.generate("fc") == "fc_2"


def test_text_of_a_program(program: Program) -> None:
    layers.assign(np.array([[1.0, 2.0]], "float32"))
    layers.relu(layers.data("x", [4]))
    assert program.to_string(True) == (
        "{ // block 0\n"
        "    var assign_0.tmp_0 : float32[1, 2]\n"
        "    var x : float32[-1, 4], stop_gradient\n"
        "    var relu_0.tmp_0 : float32[-1, 4]\n"
        "    {Out=[assign_0.tmp_0]} = assign_value() [dtype=VarType.FP32, shape=[1, 2], values=array[1, 2]]\n"
        "    {Out=[relu_0.tmp_0]} = relu(X=[x]) []\n"
        "}"
    )


def test_version_check() -> None:
    fluid.require_version("1.7")
    fluid.require_version("1.8.0", "1.8.5")
    with pytest.raises(ProgramError, match=r"requires fluid 2.0"):
        fluid.require_version("2.0")


def test_what_printers_ask_of_an_op(program: Program) -> None:
    layers.fc(layers.data("x", [4]), 3)
    mul, add = program.global_block().ops
    assert (mul.type, mul.input_names, mul.output_names, mul.idx, add.idx) == ("mul", ["X", "Y"], ["Out"], 0, 1)
    assert mul.attr_names == ["x_num_col_dims", "y_num_col_dims"]
    assert mul.all_attrs() == {name: mul.attr(name) for name in mul.attr_names}
    assert [p.name for p in program.global_block().iter_parameters()] == ["fc_0.w_0", "fc_0.b_0"]
    with program.sub_block() as inner:
        assert program.current_block_idx == inner.idx == 1
    assert program.current_block_idx == 0
