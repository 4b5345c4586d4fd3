"""save_dygraph and load_dygraph: files of state dicts, Paddle's and our own."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pickles import attacks, flipped, is_state
from trees import GOLDENS, golden

import fluidc.frontend as fluid
from fluidc.frontend.errors import ArgumentTypeError, ProgramError
from fluidc.frontend.io import StateFileError
from fluidc.frontend.state_dicts import missing_optimizer_state

FILES = GOLDENS / "files"
TABLE = "StructuredToParameterName@@"


def assert_same(found: Any, wanted: Any) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        if isinstance(value, dict):
            assert_same(found[name], value)
        else:
            assert np.asarray(found[name]).dtype == np.asarray(value).dtype, name
            np.testing.assert_array_equal(found[name], value, name)


def parameters() -> dict[str, Any]:
    """What a layer's state_dict is: eager Parameters under structured names."""
    weight = fluid.layers.create_parameter([2, 3], "float32", attr=fluid.ParamAttr(name="fc.w_0"))
    bias = fluid.layers.create_parameter([3], "float32", attr=fluid.ParamAttr(name="fc.b_0"), is_bias=True)
    return {"out.weight": weight, "out.bias": bias}


@pytest.mark.parametrize("name", ["dygraph_adam", "dygraph_decay"])
def test_paddles_files_are_read(name: str) -> None:
    wanted = golden("files")[name]
    found, optimizer = fluid.load_dygraph(str(FILES / name))
    assert_same(found, wanted["parameters"])
    assert_same(optimizer, wanted["optimizer"])
    with_names, _ = fluid.dygraph.load_dygraph(str(FILES / f"{name}.pdparams"), keep_name_table=True)
    assert_same(with_names, wanted["parameters"] | {TABLE: wanted["names"]})
    assert missing_optimizer_state() == "no optimizer state was given"


def test_layers_go_to_one_file_and_optimizers_to_the_other(tmp_path: Path) -> None:
    path = str(tmp_path / "new" / "model")
    with fluid.dygraph.guard():
        state = parameters()
        values = {name: value.numpy() for name, value in state.items()}
        step = fluid.dygraph.to_variable(np.array([3], np.int32))
        optimizer = {"fc.w_0_moment1_0": np.ones((2, 3)), "LR_Scheduler": {"step_num": 3}, "global_step": step}
        fluid.save_dygraph(state, path)
        fluid.save_dygraph(optimizer, path)
        found, kept = fluid.load_dygraph(path)
    assert_same(found, values)
    assert_same(kept, optimizer | {"global_step": np.array([3], np.int32)})
    assert type(kept["LR_Scheduler"]["step_num"]) is int  # type: ignore[index, call-overload]
    raw = pickle.loads(Path(path + ".pdparams").read_bytes())
    assert_same(raw, values | {TABLE: {"out.weight": "fc.w_0", "out.bias": "fc.b_0"}})
    assert pickle.loads(Path(path + ".pdopt").read_bytes())[TABLE] == {"global_step": step.name}


def test_the_state_of_an_optimizer_that_keeps_nothing(tmp_path: Path) -> None:
    fluid.save_dygraph({}, str(tmp_path / "a"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.pdopt"]
    assert fluid.load_dygraph(str(tmp_path / "a")) == (None, {})


def test_what_was_not_saved_is_none_and_its_neighbour_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The documentation saves ``paddle_dy`` and ``padle_dy``, and loads the first."""
    monkeypatch.chdir(tmp_path)
    with fluid.dygraph.guard():
        state = parameters()
        fluid.save_dygraph(state, "paddle_dy")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, optimizer = fluid.load_dygraph("paddle_dy")
    assert found is not None
    assert optimizer is None
    assert missing_optimizer_state() == "no optimizer state in paddle_dy"
    fluid.save_dygraph({}, "padle_dy")
    fluid.save_dygraph({}, "another")
    fluid.load_dygraph("paddle_dy")
    assert missing_optimizer_state() == "no optimizer state in paddle_dy; found padle_dy.pdopt"
    fluid.load_dygraph("another")
    assert missing_optimizer_state() == "no optimizer state was given"
    with pytest.raises(StateFileError) as missing:
        fluid.load_dygraph("padddle_dy")
    assert missing.value.what == "there is no padddle_dy.pdparams and no padddle_dy.pdopt"
    assert missing.value.hint == "found paddle_dy.pdparams, padle_dy.pdopt"
    with pytest.raises(StateFileError, match="give the prefix that was given to save_dygraph"):
        fluid.load_dygraph("no/such/folder")


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    path = str(tmp_path / "a")
    static = fluid.Program().global_block().create_var(name="x", shape=[1], dtype="float32")
    fluid.save_dygraph({"x": np.ones(1)}, path)
    for state, where, error, message in (
        ([1], path, ArgumentTypeError, "state_dict is list"),
        ({"x": static}, path, ArgumentTypeError, "x is a Variable of a static program"),
        ({"x": object()}, path, StateFileError, r"state_dict\['x'\] is object, which state cannot hold"),
        ({"x": np.ones(1)}, path + "/", ProgramError, "names a folder"),
        ({"x": np.ones(1)}, 3, ArgumentTypeError, "model_path is int"),
        ({"x": np.ones(1)}, path + ".pdopt/b", StateFileError, "cannot be written: .*a.pdopt is a file, not a folder"),
    ):
        with pytest.raises(error, match=message):
            fluid.save_dygraph(state, where)  # type: ignore[arg-type]
    assert [file.name for file in tmp_path.iterdir()] == ["a.pdopt"]
    assert fluid.load_dygraph(path)[1] == {"x": np.ones(1)}


def test_attacks_on_who_loads_are_refused(tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    for suffix in (".pdparams", ".pdopt"):
        (tmp_path / "a.pdparams").write_bytes((FILES / "dygraph_adam.pdparams").read_bytes())
        for _, data in list(attacks(f"touch {trace}"))[:12]:
            (tmp_path / f"a{suffix}").write_bytes(data)
            for load in (fluid.load_dygraph, fluid.load_program_state):
                with pytest.raises(StateFileError):
                    load(str(tmp_path / "a"))
    assert not trace.exists()


@pytest.mark.parametrize("file", ["dygraph_decay.pdopt", "static.pdparams"])
def test_paddles_files_with_wrong_bits_are_refused_or_have_the_right_types(file: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pdparams"
    refused = 0
    for data in flipped((FILES / file).read_bytes(), 300, seed=3):
        path.write_bytes(data)
        try:
            found = fluid.load_dygraph(str(path))
        except StateFileError:
            refused += 1
        else:
            assert is_state(found)
    assert 0 < refused < 300
