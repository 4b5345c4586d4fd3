"""ONNX models as Programs: what they compute, what their Variables are, and how they train."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import AttributeProto, FunctionProto, ModelProto, NodeProto, helper, numpy_helper
from onnx_models import FLOAT, INT64, model, node, results

import fluidc.frontend as fluid
from fluidc.compiler.errors import FluidcError
from fluidc.frontend.compat.onnx import OnnxError, OnnxModel, functions, import_model
from fluidc.frontend.compat.onnx.functions import inlined

RNG = np.random.default_rng(7)
W = RNG.normal(size=(4, 5)).astype(np.float32)
BIAS = RNG.normal(size=5).astype(np.float32)
X = RNG.normal(size=(3, 2, 2)).astype(np.float32)


def flattened_gemm() -> ModelProto:
    """``relu(x.reshape(len(x), -1) @ w + b)`` with the shape arithmetic that exporters write."""
    return model(
        [
            node("Shape", ["x"], ["shape"]),
            node("Gather", ["shape", "zero"], ["rows"]),
            node("Unsqueeze", ["rows", "first"], ["rows1"]),
            node("Concat", ["rows1", "rest"], ["flat_shape"], axis=0),
            node("Reshape", ["x", "flat_shape"], ["flat"]),
            node("Gemm", ["flat", "fc.weight", "fc.bias"], ["h"], name="/fc/Gemm"),
            node("Relu", ["h"], ["y"]),
        ],
        {"x": (FLOAT, ["batch", 2, 2])},
        ["y"],
        {
            "fc.weight": W, "fc.bias": BIAS, "zero": np.array(0), "first": np.array([0]), "rest": np.array([-1]),
        },
    )  # fmt: skip


@pytest.mark.parametrize("target", ["reference", "cpu"])
def test_a_model_computes_what_it_says(target: str) -> None:
    (found,) = results(flattened_gemm(), {"x": X}, target)
    np.testing.assert_allclose(found, np.maximum(X.reshape(3, 4) @ W + BIAS, 0), rtol=1e-5, atol=1e-6)


def test_initialisers_become_parameters_under_their_names() -> None:
    found = import_model(flattened_gemm())
    assert [(p.name, p.shape) for p in found.parameters] == [("fc.weight", (4, 5)), ("fc.bias", (5,))]
    assert all(p.trainable for p in found.parameters)


def test_shapes_come_from_the_rules() -> None:
    found = import_model(flattened_gemm())
    block = found.program.global_block()
    assert found.feeds[0].shape == (-1, 2, 2)
    assert block.var("flat").shape == (-1, 4)
    assert found.outputs[0].shape == (-1, 5)
    assert block.var("flat_shape").dtype == fluid.VarType.INT64


@pytest.mark.parametrize("target", ["reference", "cpu"])
def test_an_imported_model_trains(target: str) -> None:
    found = import_model(flattened_gemm())
    with fluid.program_guard(found.program, found.startup):
        label = fluid.data("label", [None, 1], dtype="int64")
        loss = fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(found.outputs[0], label))
        fluid.optimizer.SGD(0.1).minimize(loss)
    exe, scope = fluid.Executor(fluid.CPUPlace(), target=target), fluid.Scope()
    exe.run(found.startup, scope=scope)
    feed = {"x": X, "label": np.array([[0], [1], [2]])}
    losses = [float(exe.run(found.program, feed=feed, fetch_list=[loss], scope=scope)[0][0]) for _ in range(20)]
    assert losses[-1] < 0.8 * losses[0]


def test_a_model_goes_on_from_layers_and_into_layers() -> None:
    with fluid.program_guard(fluid.Program(), fluid.Program()), fluid.unique_name.guard():
        x = fluid.data("image", [None, 2, 2])
        scaled = fluid.layers.scale(x, 2.0)
        found = import_into(flattened_gemm(), inputs={"x": scaled})
        y = fluid.layers.scale(found.outputs[0], -1.0)
        exe, scope = fluid.Executor(target="reference"), fluid.Scope()
        exe.run(fluid.default_startup_program(), scope=scope)
        (got,) = exe.run(feed={"image": X}, fetch_list=[y], scope=scope)
    assert found.feeds == [scaled]
    np.testing.assert_allclose(got, -np.maximum(2 * X.reshape(3, 4) @ W + BIAS, 0), rtol=1e-5, atol=1e-6)


def import_into(proto: ModelProto, **options: Any) -> OnnxModel:
    """As `fluid.io.load_onnx` does: into the default programs."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(proto.SerializeToString())
        return fluid.io.load_onnx(path, **options)


def test_two_copies_have_parameters_of_their_own() -> None:
    with fluid.program_guard(fluid.Program(), fluid.Program()), fluid.unique_name.guard():
        first, second = import_into(flattened_gemm()), import_into(flattened_gemm())
    assert [p.name for p in second.parameters] == ["fc.weight_0", "fc.bias_0"]
    assert [v.name for v in (*first.feeds, *second.feeds)] == ["x", "x_0"]


def named_as_fluid_does() -> ModelProto:
    nodes = [node("MatMul", ["x", "fc_0.w_0"], ["fc_0.tmp_0"]), node("Add", ["fc_0.tmp_0", "fc_0.b_0"], ["fc_0.tmp_1"])]
    return model(
        nodes, {"x": (FLOAT, ["n", 4])}, ["fc_0.tmp_1"], {"fc_0.w_0": np.eye(4, dtype="f"), "fc_0.b_0": BIAS[:4]}
    )


def test_layers_that_follow_have_names_of_their_own() -> None:
    """What was exported from fluid has the names that fluid gives to the first layers of a program."""
    with fluid.program_guard(fluid.Program(), fluid.Program()), fluid.unique_name.guard():
        found = import_into(named_as_fluid_does())
        head = fluid.layers.fc(found.outputs[0], 4)
        names = [p.name for p in fluid.default_main_program().all_parameters()]
    assert names == ["fc_0.w_0", "fc_0.b_0", "fc_0.w_1", "fc_0.b_1"]
    assert head.name not in {"fc_0.tmp_0", "fc_0.tmp_1"}


def test_a_model_that_is_refused_leaves_nothing_behind() -> None:
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Reshape", ["h", "s"], ["y"])]
    proto = model(nodes, {"x": (FLOAT, ["n", "t", 4])}, ["y"], {"w": np.eye(4, dtype="f"), "s": np.array([-1, 8])})
    main, startup = fluid.Program(), fluid.Program()
    with fluid.program_guard(main, startup), fluid.unique_name.guard():
        fluid.layers.fc(fluid.data("z", [None, 2]), 3)
        before = [program.to_string(True) for program in (main, startup)]
        with pytest.raises(FluidcError, match="cannot take the shape"):
            import_into(proto)
        assert [program.to_string(True) for program in (main, startup)] == before
        found = import_into(proto, shapes={"x": [None, 2, 4]})
    assert [v.name for v in (*found.feeds, *found.parameters)] == ["x", "w"]


@pytest.mark.parametrize("shape", [[None, -5], ["n", 4], [None, 4.0]])
def test_shapes_are_extents(shape: Any) -> None:
    with pytest.raises(OnnxError, match="does not fit the input x"):
        import_model(named_as_fluid_does(), shapes={"x": shape})


def test_an_extent_called_as_the_batch_is_another_one() -> None:
    proto = model(
        [node("Transpose", ["x"], ["t"]), node("MatMul", ["x", "t"], ["y"])], {"x": (FLOAT, ["n", "N"])}, ["y"]
    )
    found = import_model(proto)
    assert found.outputs[0].shape == (-1, -1)
    wrong = model([node("MatMul", ["x", "x"], ["y"])], {"x": (FLOAT, ["n", "N"])}, ["y"])
    with pytest.raises(FluidcError, match="inner sizes differ"):
        import_model(wrong)


def test_one_pattern_needs_no_list() -> None:
    assert [p.name for p in import_model(named_as_fluid_does(), trainable="*.b_0").parameters] == ["fc_0.b_0"]


def test_an_array_for_an_input_is_a_constant() -> None:
    shape = {"x": (FLOAT, ["batch", 4]), "shape": (INT64, [2])}
    proto = model([node("Reshape", ["x", "shape"], ["y"])], shape, ["y"])
    found = import_model(proto, inputs={"shape": np.array([-1, 2])})
    assert [v.name for v in found.feeds] == ["x"]
    assert found.outputs[0].shape == (-1, 2)


@pytest.mark.parametrize("given", [np.array([2], np.int32), np.array([2, 2, 2])])
def test_what_does_not_fit_an_input_is_refused(given: Any) -> None:
    proto = model([node("Reshape", ["x", "s"], ["y"])], {"x": (FLOAT, ["batch", 4]), "s": (INT64, [2])}, ["y"])
    with pytest.raises(OnnxError, match=r"the input s is int64\[2\]"):
        import_model(proto, inputs={"s": given})


def test_the_users_line_and_the_node_are_kept() -> None:
    found = import_model(flattened_gemm())
    gemm = next(op for op in found.program.global_block().ops if op.type == "onnx.Gemm")
    assert gemm.loc.file == __file__
    assert gemm.loc.layer == "Gemm /fc/Gemm"


def test_only_stated_weights_are_trained() -> None:
    found = import_model(flattened_gemm(), trainable=["*.bias"])
    assert [p.name for p in found.parameters] == ["fc.bias"]
    (got,) = results(flattened_gemm(), {"x": X}, trainable=["*.bias"])
    np.testing.assert_allclose(got, np.maximum(X.reshape(3, 4) @ W + BIAS, 0), rtol=1e-5, atol=1e-6)


def for_one_row(shape: list[int]) -> ModelProto:
    nodes = [node("Reshape", ["x", "shape"], ["h"]), node("MatMul", ["h", "w"], ["y"])]
    weights = {"shape": np.array(shape), "w": np.ones((4, 5), np.float32)}
    return model(nodes, {"x": (FLOAT, [1, 2, 2])}, ["y"], weights)


def test_masks_and_filled_tensors_are_no_weights() -> None:
    """A causal mask that is compared with 0, as PyTorch exports one, and zeros that the model's code makes."""
    proto = model(
        [
            node("Slice", ["mask", "start", "end"], ["part"]),
            node("Equal", ["part", "zero"], ["hidden"]),
            node("Cast", ["seen"], ["known"], to=9),
            node("Or", ["hidden", "known"], ["off"]),
            node("Where", ["off", "zeros_like_1", "w"], ["weights"]),
            node("MatMul", ["x", "weights"], ["y"]),
        ],
        {"x": (FLOAT, ["N", 2])},
        ["y"],
        {
            "mask": np.tril(np.ones((3, 2), np.float32)), "start": np.array([0]), "end": np.array([2]),
            "zero": np.array(0, np.float32), "seen": np.zeros((2, 2), np.float32),
            "zeros_like_1": np.zeros((2, 2), np.float32), "w": np.ones((2, 2), np.float32),
        },
    )  # fmt: skip
    assert [p.name for p in import_model(proto).parameters] == ["w"]


def test_the_batch_of_a_model_for_one_row_can_be_opened() -> None:
    found = import_model(for_one_row([-1, 4]), shapes={"x": [None, 2, 2]})
    assert found.outputs[0].shape == (-1, 5)
    (y,) = results(for_one_row([-1, 4]), {"x": X}, shapes={"x": [None, 2, 2]})
    np.testing.assert_allclose(y, np.repeat(X.reshape(3, 4).sum(axis=1)[:, None], 5, axis=1), rtol=1e-5)


def test_a_model_that_counts_on_its_one_row_is_refused() -> None:
    proto = model([node("Reshape", ["x", "s"], ["y"])], {"x": (FLOAT, [1, 2])}, ["y"], {"s": np.array([1, -1])})
    with pytest.raises(OnnxError, match=r"the output y would be f32\[1,2\*N\]: the model is written for its own batch"):
        import_model(proto, shapes={"x": [None, 2]})


def test_expand_by_minus_one_as_exporters_write_it() -> None:
    """``x.expand(-1, 3, -1)``: what -1 stands for is chosen by Equal and Where, among extents with a symbol."""
    proto = model(
        [
            node("Shape", ["x"], ["s"]),
            node("ConstantOfShape", ["three"], ["ones"], value=numpy_helper.from_array(np.array([1]))),
            node("Equal", ["wanted", "minus"], ["kept"]),
            node("Where", ["kept", "ones", "wanted"], ["shape"]),
            node("Expand", ["x", "shape"], ["y"]),
            node("Equal", ["s", "minus"], ["never"]),
            node("Where", ["never", "ones", "s"], ["extents"]),
            node("Expand", ["y", "extents"], ["z"]),
        ],
        {"x": (FLOAT, ["batch", 1, 2])},
        ["y", "z"],
        {"three": np.array([3]), "wanted": np.array([-1, 3, -1]), "minus": np.array([-1, -1, -1])},
    )
    x = np.arange(8, dtype=np.float32).reshape(4, 1, 2)
    y, z = results(proto, {"x": x})
    np.testing.assert_array_equal(y, np.repeat(x, 3, axis=1))
    np.testing.assert_array_equal(z, y)
    assert import_model(proto).outputs[1].shape == (-1, 3, 2)


# Branches -----------------------------------------------------------------------------------------------


def with_branches(condition: list[NodeProto], inputs: dict[str, Any]) -> ModelProto:
    """``relu(h) * 3`` or ``h`` for ``h = -x``, by a condition; both branches take ``h`` from around them."""
    value = helper.make_empty_tensor_value_info("inner")
    three = numpy_helper.from_array(np.array([3], np.float32), "three")
    taken = [node("Relu", ["h"], ["r"]), node("Mul", ["r", "three"], ["inner"])]
    then = helper.make_graph(taken, "then", [], [value], [three])
    otherwise = helper.make_graph([node("Identity", ["h"], ["inner"])], "else", [], [value])
    branching = node("If", ["c"], ["y"], name="choice", then_branch=then, else_branch=otherwise)
    return model([branching, node("Neg", ["x"], ["h"]), *condition], inputs, ["y"], {"rank": np.array(2)})


def test_branches_that_shapes_decide_are_resolved() -> None:
    rank = [node("Shape", ["x"], ["s"]), node("Size", ["s"], ["n"]), node("Equal", ["n", "rank"], ["c"])]
    for x, want in ((np.array([[-1, 2]], np.float32), [[3, 0]]), (np.array([-1, 2], np.float32), [1, -2])):
        extents = ["batch", *x.shape[1:]]
        (y,) = results(with_branches(rank, {"x": (FLOAT, extents)}), {"x": x})
        np.testing.assert_array_equal(y, want)


@pytest.mark.parametrize(
    ("op", "bound", "holds"),
    [
        ("Greater", -1, True),
        ("GreaterOrEqual", 0, True),
        ("Less", 0, False),
        ("LessOrEqual", -1, False),
        ("Less", 5, None),
    ],
)
def test_branches_that_every_batch_decides_alike_are_resolved(op: str, bound: int, holds: bool | None) -> None:
    rows = [node("Shape", ["x"], ["s"], end=1), node(op, ["s", "bound"], ["c"])]
    proto = with_branches(rows, {"x": (FLOAT, ["batch", 2])})
    proto.graph.initializer.append(numpy_helper.from_array(np.array([bound]), "bound"))
    if holds is None:
        with pytest.raises(OnnxError, match="the condition of If choice is computed by the model"):
            import_model(proto)
        return
    x = np.array([[-1, 2]], np.float32)
    np.testing.assert_array_equal(results(proto, {"x": x})[0], [[3, 0]] if holds else -x)


def test_branches_that_data_decide_are_refused() -> None:
    data = [node("ReduceMax", ["x"], ["m"], keepdims=0), node("Greater", ["m", "zero"], ["c"])]
    proto = with_branches(data, {"x": (FLOAT, ["batch", 2]), "zero": (FLOAT, [])})
    with pytest.raises(OnnxError, match="the condition of If choice is computed by the model"):
        import_model(proto)


# Functions of a model -----------------------------------------------------------------------------------


def with_functions(*functions: FunctionProto, call: NodeProto) -> ModelProto:
    proto = model([call], {"x": (FLOAT, ["batch", 3])}, ["y"])
    proto.functions.extend(functions)
    proto.opset_import.append(helper.make_opsetid("own", 1))
    return proto


def own_function(name: str, nodes: list[NodeProto], attributes: list[str] | None = None) -> FunctionProto:
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    return helper.make_function("own", name, ["a"], ["b"], nodes, opsets, attributes)


def test_functions_of_the_model_are_inlined() -> None:
    """``b = leaky(2 * leaky(a))`` by a function that calls another twice and hands an attribute on."""
    slope = node("LeakyRelu", ["a"], ["b"])
    slope.attribute.add(name="alpha", ref_attr_name="slope", type=AttributeProto.FLOAT)
    leaky = own_function("leaky", [slope], ["slope"])
    inner = [node("leaky", [i], [o], domain="own", name=o) for i, o in (("a", "c"), ("d", "b"))]
    for call in inner:
        call.attribute.add(name="slope", ref_attr_name="slope", type=AttributeProto.FLOAT)
    twice = own_function("twice", [inner[0], node("Add", ["c", "c"], ["d"]), inner[1]], ["slope"])
    proto = with_functions(leaky, twice, call=node("twice", ["x"], ["y"], domain="own", name="t", slope=0.5))
    x = np.array([[-4, 1, 2]], np.float32)
    (got,) = results(proto, {"x": x})
    np.testing.assert_allclose(got, [[-2, 2, 4]])
    labels = [op.loc.layer for op in import_model(proto).program.global_block().ops]
    assert labels == ["LeakyRelu t/c/LeakyRelu", "Add t/Add", "LeakyRelu t/b/LeakyRelu"]


def test_functions_that_call_themselves_are_refused() -> None:
    loop = own_function("loop", [node("loop", ["a"], ["b"], domain="own")])
    with pytest.raises(OnnxError, match="the function loop calls itself"):
        import_model(with_functions(loop, call=node("loop", ["x"], ["y"], domain="own")))


def test_functions_that_call_each_other_too_deep_are_refused() -> None:
    made = [own_function("f0", [node("Relu", ["a"], ["b"])])]
    made += [own_function(f"f{k}", [node(f"f{k - 1}", ["a"], ["b"], domain="own")]) for k in range(1, 2000)]
    with pytest.raises(OnnxError, match="more than 50 functions call each other"):
        import_model(with_functions(*made, call=node("f1999", ["x"], ["y"], domain="own")))
    found = import_model(with_functions(*made, call=node("f49", ["x"], ["y"], domain="own")))
    assert [op.type for op in found.program.global_block().ops] == ["onnx.Relu"]


def test_functions_that_grow_without_end_are_refused() -> None:
    """Thirty functions that each call the one before twice: a thousand million nodes."""
    made = [own_function("f0", [node("Relu", ["a"], ["b"])])]
    for k in range(1, 30):
        made.append(own_function(f"f{k}", [node(f"f{k - 1}", [i], [o], domain="own") for i, o in ("ac", "cb")]))
    with pytest.raises(OnnxError, match="more than 1000 nodes"):
        inlined(with_functions(*made, call=node("f29", ["x"], ["y"], domain="own")), 1000, "test")
    made[0] = own_function("f0", [])  # calls count, too
    with pytest.raises(OnnxError, match="more than 1000 nodes"):
        inlined(with_functions(*made, call=node("f29", ["x"], ["y"], domain="own")), 1000, "test")


def test_functions_whose_names_grow_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes inside of calls have the names of all calls in front: kilobytes here, 256 times."""
    monkeypatch.setattr(functions, "MOST_BYTES", 1 << 20)
    name = "n" * 1000
    made = [own_function("f0", [node("Sum", ["a"] * 4, ["b"])])]
    for k in range(1, 9):
        calls = [node(f"f{k - 1}", [i], [o], domain="own", name=f"{name}{i}") for i, o in ("ac", "cb")]
        made.append(own_function(f"f{k}", calls))
    with pytest.raises(OnnxError, match="functions take more than"):
        import_model(with_functions(*made, call=node("f8", ["x"], ["y"], domain="own")))
