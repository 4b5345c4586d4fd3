"""Files that are damaged, malicious or ask for too much are refused with a message; none is believed."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, save
from onnx_models import FLOAT, INT64, MODELS, model, node

import fluidc.frontend as fluid
from fluidc.compiler.errors import FluidcError
from fluidc.frontend.compat.onnx import import_model
from fluidc.frontend.compat.onnx.reading import parse_model

W = np.arange(12, dtype=np.float32).reshape(4, 3)
X = {"x": (FLOAT, ["batch", 4])}


def linear(**options: Any) -> ModelProto:
    return model([node("MatMul", ["x", "w"], ["y"], name="product")], X, ["y"], {"w": W}, **options)


def graph(*nodes: Any, inputs: Any = X, **initial: Any) -> ModelProto:
    return model(list(nodes), inputs, ["y"], initial)


# What is wrong with the model, by the name of the golden file.


def no_model(folder: Path) -> Path:
    (folder / "model.onnx").write_bytes(b"import numpy as np\n")
    return folder / "model.onnx"


def truncated(folder: Path) -> Path:
    data = linear().SerializeToString()
    (folder / "model.onnx").write_bytes(data[: len(data) // 2])
    return folder / "model.onnx"


def missing_file(folder: Path) -> Path:
    return folder / "model.onnx"


def folder_for_a_file(folder: Path) -> Path:
    return folder


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "model.onnx")
    return folder / "model.onnx"


def cyclic() -> ModelProto:
    return graph(node("Add", ["x", "b"], ["a"], name="first"), node("Relu", ["a"], ["b"]), node("Relu", ["b"], ["y"]))


def reads_what_nothing_computes() -> ModelProto:
    return graph(node("Add", ["x", "absent"], ["y"]))


def computed_twice() -> ModelProto:
    return graph(node("Relu", ["x"], ["y"]), node("Tanh", ["x"], ["y"]))


def unsupported_ops() -> ModelProto:
    return graph(
        node("Unique", ["x"], ["a"], name="/head/Unique"),
        node("Unique", ["x"], ["b"], name="/tail/Unique"),
        node("StringNormalizer", ["x"], ["c"]),
        node("Quantum", ["x"], ["d"], name="q"),
        node("Attention", ["x"], ["y"], name="fused", domain="com.microsoft"),
    )


def old_opset() -> ModelProto:
    return linear(opset=6)


def future_opset() -> ModelProto:
    return linear(opset=99)


def no_opset() -> ModelProto:
    proto = linear()
    del proto.opset_import[:]
    return proto


def strings() -> ModelProto:
    return graph(node("Identity", ["x"], ["y"]), inputs={"x": (TensorProto.STRING, ["batch"])})


def bfloat16_weights() -> ModelProto:
    proto = linear()
    proto.graph.initializer[0].CopyFrom(helper.make_tensor("w", TensorProto.BFLOAT16, [4, 3], np.zeros(12)))
    return proto


def huge_weights() -> ModelProto:
    proto = linear()
    proto.graph.initializer[0].dims[:] = [2**40, 2**40]
    return proto


def weights_of_another_size() -> ModelProto:
    proto = linear()
    proto.graph.initializer[0].dims[:] = [40, 3]
    return proto


def huge_result() -> ModelProto:
    return graph(node("Expand", ["x", "shape"], ["y"]), shape=np.array([2**20, 2**20, 1, 4]))


def huge_input() -> ModelProto:
    return graph(node("Relu", ["x"], ["y"]), inputs={"x": (FLOAT, [2**30, 2**30])})


def extents_that_do_not_fit() -> ModelProto:
    return graph(node("MatMul", ["x", "w"], ["y"], name="product"), w=W.T.copy())


def shape_that_is_computed() -> ModelProto:
    inputs = {"x": (FLOAT, ["batch", 4]), "shape": (INT64, [2])}
    return graph(node("Reshape", ["x", "shape"], ["y"], name="flat"), inputs=inputs)


def attribute_of_another_op() -> ModelProto:
    return graph(node("Relu", ["x"], ["y"], alpha=0.1))


def attribute_of_another_type() -> ModelProto:
    return graph(node("Softmax", ["x"], ["y"], axis=0.5))


def missing_input() -> ModelProto:
    return graph(node("MatMul", ["x"], ["y"], name="product"))


def input_without_rank() -> ModelProto:
    proto = linear()
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    return proto


def sequence_input() -> ModelProto:
    proto = linear()
    proto.graph.input[0].type.CopyFrom(helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, [2])))
    return proto


def two_open_extents() -> ModelProto:
    return graph(
        node("Reshape", ["x", "shape"], ["y"], name="flat"),
        inputs={"x": (FLOAT, ["batch", "length", 4])},
        shape=np.array([-1, 8]),
    )


FILES: tuple[Callable[[Path], Path], ...] = (no_model, truncated, missing_file, folder_for_a_file, pipe)
MISTAKES: tuple[Callable[[], ModelProto], ...] = (
    cyclic, reads_what_nothing_computes, computed_twice, unsupported_ops, old_opset, future_opset, no_opset, strings,
    bfloat16_weights, huge_weights, weights_of_another_size, huge_result, huge_input, extents_that_do_not_fit,
    shape_that_is_computed, attribute_of_another_op, attribute_of_another_type, missing_input, input_without_rank,
    sequence_input, two_open_extents,
)  # fmt: skip


def refused(path: Path, **options: Any) -> FluidcError:
    with fluid.program_guard(fluid.Program(), fluid.Program()), pytest.raises(FluidcError) as caught:
        fluid.io.load_onnx(path, **options)
    assert caught.value.hint
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value


def pinned(golden: Callable[[str, str], None], name: str, error: FluidcError, folder: Path) -> None:
    text = str(error).replace(str(folder), "FOLDER")
    lines = [line if __file__ not in line else "  at script.py" for line in text.splitlines()]
    golden(f"errors/onnx_{name}.txt", "\n".join(lines) + "\n")


@pytest.mark.parametrize("mistake", FILES, ids=lambda mistake: mistake.__name__)
def test_a_file(mistake: Callable[[Path], Path], tmp_path: Path, golden: Callable[[str, str], None]) -> None:
    pinned(golden, mistake.__name__, refused(mistake(tmp_path)), tmp_path)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_model(mistake: Callable[[], ModelProto], tmp_path: Path, golden: Callable[[str, str], None]) -> None:
    (tmp_path / "model.onnx").write_bytes(mistake().SerializeToString())
    pinned(golden, mistake.__name__, refused(tmp_path / "model.onnx"), tmp_path)


OPTIONS: dict[str, dict[str, Any]] = {
    "shape_that_does_not_fit": {"shapes": {"x": [None, 5]}},
    "shape_of_no_input": {"shapes": {"image": [None, 4]}},
    "trainable_that_matches_nothing": {"trainable": ["head.*"]},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option(name: str, tmp_path: Path, golden: Callable[[str, str], None]) -> None:
    (tmp_path / "model.onnx").write_bytes(linear().SerializeToString())
    pinned(golden, name, refused(tmp_path / "model.onnx", **OPTIONS[name]), tmp_path)


# External data ------------------------------------------------------------------------------------------


def with_external_data(folder: Path, **entries: str) -> Path:
    """The linear model with its weights in another file; entries change what it says of them."""
    path = folder / "model.onnx"
    save(linear(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    proto = ModelProto.FromString(path.read_bytes())
    stated = {entry.key: entry for entry in proto.graph.initializer[0].external_data}
    for key, value in entries.items():
        stated[key].value = value
    path.write_bytes(proto.SerializeToString())
    return path


def test_external_data_are_read(tmp_path: Path) -> None:
    path = with_external_data(tmp_path)
    with fluid.program_guard(fluid.Program(), fluid.Program()), fluid.scope_guard(fluid.Scope()):
        found = fluid.io.load_onnx(path)
        exe = fluid.Executor(target="reference")
        exe.run(found.startup)
        (y,) = exe.run(feed={"x": np.eye(4, dtype=np.float32)}, fetch_list=found.outputs)
    np.testing.assert_array_equal(y, W)


@pytest.mark.parametrize("location", ["../secret", "/etc/hostname", "a/../../secret", "..\\secret", "C:\\secret", ""])
def test_external_data_stay_in_the_folder(location: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(W.tobytes())
    inside = tmp_path / "model"
    inside.mkdir()
    error = refused(with_external_data(inside, location=location))
    assert "outside of the model's folder" in error.what


@pytest.mark.parametrize("link", ["file", "folder"])
def test_external_data_follow_no_link_out_of_the_folder(link: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(W.tobytes())
    inside = tmp_path / "model"
    inside.mkdir()
    (inside / "link").symlink_to(tmp_path / "secret" if link == "file" else tmp_path)
    error = refused(with_external_data(inside, location="link" if link == "file" else "link/secret"))
    assert "outside of the model's folder" in error.what


@pytest.mark.parametrize(
    ("entries", "what"),
    [
        ({"offset": "8"}, "has 48 bytes; 56 are needed"),
        ({"offset": "-8"}, "offset '-8'"),
        ({"offset": "9" * 30}, "offset '999"),
        ({"length": "44"}, "44 bytes for 48 bytes"),
        ({"location": "other.bin"}, "other.bin cannot be read"),
    ],
)
def test_external_data_are_what_the_model_says(entries: dict[str, str], what: str, tmp_path: Path) -> None:
    assert what in refused(with_external_data(tmp_path, **entries)).what


def several(folder: Path, offsets: list[int]) -> Path:
    """A model with weights at several places of one file of 48 bytes."""
    path = with_external_data(folder)
    proto = ModelProto.FromString(path.read_bytes())
    for number, offset in enumerate(offsets):
        tensor = proto.graph.initializer.add()
        tensor.CopyFrom(proto.graph.initializer[0])
        tensor.name, tensor.dims[:] = f"w{number}", [6]
        stated = {entry.key: entry for entry in tensor.external_data}
        stated["offset"].value, stated["length"].value = str(offset), "24"
    del proto.graph.initializer[0], proto.graph.node[0]
    proto.graph.node.append(node("Relu", ["x"], ["y"]))
    path.write_bytes(proto.SerializeToString())
    return path


def test_external_data_may_be_shared_but_do_not_overlap(tmp_path: Path) -> None:
    """One file of a gigabyte would else be as many gigabytes of memory as there are tensors."""
    with fluid.program_guard(fluid.Program(), fluid.Program()):
        assert len(fluid.io.load_onnx(several(tmp_path, [0, 24, 24, 0]), trainable="w*").parameters) == 4
    (tmp_path / "other").mkdir()
    assert "has 48 bytes; tensors take 72 of it" in refused(several(tmp_path / "other", [0, 4, 8])).what


def test_names_of_a_file_are_shown_without_control_characters(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(graph(node("Op\x1b[2J", ["x"], ["y"], name="n\x1b[31m")).SerializeToString())
    assert "\x1b" not in str(refused(path))
    assert "\x1b" not in str(refused(with_external_data(tmp_path, location="w\x1b[2J")))


# Fuzzing ------------------------------------------------------------------------------------------------


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The bytes with some overwritten, a part replaced by one of another length, or the end cut off."""
    changed = bytearray(data)
    how = rng.randrange(4)
    if how == 0:
        return data[: rng.randrange(len(data))]
    if how == 1:
        at = rng.randrange(len(data))
        changed[at : at + rng.randrange(1, 8)] = rng.randbytes(rng.randrange(9))
    else:
        for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
            changed[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(changed)


@pytest.mark.parametrize("name", ["mlp.ts", "cnn.dynamo", "transformer.dynamo", "lstm.ts"])
def test_mutated_bytes_are_imported_or_refused(name: str) -> None:
    """250 mutations of each of four models: an error of ours or a model, and in no time."""
    data = (MODELS / f"{name}.onnx").read_bytes()
    rng = random.Random(name)
    refusals = 0
    for number in range(250):
        start = time.perf_counter()
        try:
            import_model(parse_model(mutated(data, rng), name))
        except FluidcError:
            refusals += 1
        assert time.perf_counter() - start < 10, number
    assert 50 < refusals < 250
