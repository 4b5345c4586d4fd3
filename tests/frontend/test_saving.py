"""Variables of programs on the disk: save_vars, save_params, save_persistables, and what loads them."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pickles import flipped
from trees import GOLDENS, golden

import fluidc.frontend as fluid
from fluidc.compiler.errors import FluidcError
from fluidc.frontend.errors import ArgumentTypeError, ProgramError
from fluidc.frontend.io import StateFileError
from fluidc.frontend.lod import LoDTensor
from fluidc.frontend.saved_variables import belongs_to_optimizer, listed

FILES = GOLDENS / "files"
EXE = fluid.Executor(target="reference")


class Trained:
    """The training program behind Paddle's files ``static``: fc, batch_norm, fc, Momentum, a decay."""

    def __init__(self) -> None:
        self.main, startup = fluid.Program(), fluid.Program()
        with fluid.program_guard(self.main, startup), fluid.unique_name.guard():
            x = fluid.data("x", [None, 4], "float32")
            label = fluid.data("label", [None, 1], "int64")
            hidden = fluid.layers.batch_norm(fluid.layers.fc(x, 5), act="relu")
            logits = fluid.layers.fc(hidden, 3)
            self.loss = fluid.layers.mean(fluid.layers.softmax_with_cross_entropy(logits, label))
            rate = fluid.layers.exponential_decay(0.1, 2, 0.5)
            regularization = fluid.regularizer.L2Decay(0.01)
            fluid.optimizer.Momentum(rate, 0.9, regularization=regularization).minimize(self.loss)
        EXE.run(startup)

    def values(self) -> dict[str, np.ndarray]:
        scope = fluid.global_scope()
        names = sorted({var.name for var in self.main.list_vars() if var.persistable})
        return {name: np.array(scope.find_var(name).get_tensor()) for name in names}  # type: ignore[union-attr]

    def step(self) -> float:
        return EXE.run(self.main, feed=golden("files")["static"]["feed"], fetch_list=[self.loss])[0].item()


@pytest.fixture
def model() -> Iterator[Trained]:
    with fluid.scope_guard(fluid.Scope()):
        yield Trained()


def assert_same(found: dict[str, np.ndarray], wanted: dict[str, Any]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype, name
        np.testing.assert_array_equal(found[name], value, name)


# Paddle's files ------------------------------------------------------------------------------------------------

LOADS: dict[str, Callable[[Trained], None]] = {
    "fluid.load": lambda m: fluid.load(m.main, str(FILES / "static")),
    "fluid.load of a suffix": lambda m: fluid.load(m.main, str(FILES / "static.pdparams"), EXE),
    "fluid.load of a folder": lambda m: fluid.load(m.main, str(FILES / "save_persistables")),
    "fluid.load of one file": lambda m: fluid.load(
        m.main, str(FILES / "save_persistables_combined" / "all"), EXE, fluid.io.get_program_persistable_vars(m.main)
    ),
    "load_persistables": lambda m: fluid.io.load_persistables(EXE, str(FILES / "save_persistables"), m.main),
    "load_persistables, combined": lambda m: fluid.io.load_persistables(
        EXE, str(FILES / "save_persistables_combined"), m.main, filename="all"
    ),
    "load_persistables of bytes": lambda m: fluid.io.load_persistables(
        EXE, None, m.main, filename=(FILES / "save_persistables_combined" / "all").read_bytes()
    ),
    "set_program_state": lambda m: fluid.set_program_state(m.main, fluid.load_program_state(str(FILES / "static"))),
    "set_program_state of a folder": lambda m: fluid.set_program_state(
        m.main, fluid.io.load_program_state(str(FILES / "save_persistables"))
    ),
}


@pytest.mark.parametrize("how", LOADS)
def test_paddles_files_are_read_and_training_goes_on(how: str, model: Trained) -> None:
    wanted = golden("files")["static"]
    LOADS[how](model)
    assert_same(model.values(), wanted["persistables"])
    np.testing.assert_allclose([model.step(), model.step()], np.ravel(wanted["next_losses"]), rtol=1e-5)


def test_paddles_parameters_alone_are_read(model: Trained) -> None:
    wanted = golden("files")["static"]
    names = wanted["parameters"]
    others = {name: value for name, value in model.values().items() if name not in names}
    for options in (
        {"dirname": str(FILES / "save_params")},
        {"dirname": str(FILES / "save_params_combined"), "filename": "all"},
    ):
        with fluid.scope_guard(fluid.Scope()):
            fluid.io.load_params(EXE, main_program=model.main, **options)
            scope = fluid.global_scope()
            assert sorted(scope.local_var_names()) == sorted(names)  # without a startup program
            for name in names:
                np.testing.assert_array_equal(scope.var(name).get_tensor(), wanted["persistables"][name])
    fluid.load(model.main, str(FILES / "save_params"))
    assert_same(model.values(), others | {name: wanted["persistables"][name] for name in names})


def test_files_are_bytes_that_paddle_writes(model: Trained, tmp_path: Path) -> None:
    fluid.load(model.main, str(FILES / "static"))
    for save in (fluid.io.save_params, fluid.io.save_persistables):
        name = save.__name__
        save(EXE, str(tmp_path / name), model.main)
        save(EXE, str(tmp_path / f"{name}_combined"), model.main, filename="all")
        for folder in (name, f"{name}_combined"):
            ours, paddles = ({p.name: p.read_bytes() for p in (root / folder).iterdir()} for root in (tmp_path, FILES))
            assert ours == paddles
        assert save(EXE, None, model.main) == (FILES / f"{name}_combined" / "all").read_bytes()


def test_a_folder_with_too_much_and_too_little(model: Trained, tmp_path: Path) -> None:
    """What the program lacks is not even read; what the folder lacks stays."""
    folder = tmp_path / "saved"
    shutil.copytree(FILES / "save_params", folder)
    (folder / "fc_1.w_0").rename(folder / "fc_9.w_0")
    (folder / "__model__").write_bytes(b"a program")
    (folder / "fc_8.w_0").write_bytes(b"no tensor")
    before = model.values()["fc_1.w_0"]
    with pytest.warns(UserWarning, match="load: ") as warned:
        fluid.load(model.main, str(folder))
    assert [str(warning.message) for warning in warned] == [
        f"load: {folder} has files for no variable of the program: fc_8.w_0, fc_9.w_0",
        f"load: {folder} has no files for fc_1.w_0, which stay as they are",
    ]
    np.testing.assert_array_equal(model.values()["fc_1.w_0"], before)
    with pytest.raises(StateFileError, match=r"fc_8\.w_0"):
        fluid.load_program_state(str(folder))
    names = [var for var in fluid.io.get_program_parameter(model.main) if var.name != "fc_1.w_0"]
    assert list(fluid.load_program_state(str(folder), names)) == [var.name for var in names]


# fluid.save ----------------------------------------------------------------------------------------------------


def test_what_fluid_save_writes(model: Trained, tmp_path: Path) -> None:
    """numpy's own unpickler finds what Paddle finds: parameters in one file, the rest in the other."""
    wanted = golden("files")["static"]
    fluid.load(model.main, str(FILES / "static"))
    fluid.save(model.main, str(tmp_path / "new" / "model"))
    state = {suffix: (tmp_path / "new" / f"model.{suffix}").read_bytes() for suffix in ("pdparams", "pdopt", "pdmodel")}
    for suffix in ("pdparams", "pdopt"):
        paddles = pickle.loads((FILES / f"static.{suffix}").read_bytes())
        ours = pickle.loads(state[suffix])
        assert list(ours) == list(paddles)
        assert_same(ours, paddles)
    assert fluid.io.load_program(state["pdmodel"]).program.global_block().ops
    fluid.save(model.main, str(tmp_path / "again"))
    assert all((tmp_path / f"again.{suffix}").read_bytes() == data for suffix, data in state.items())
    assert_same(fluid.load_program_state(str(tmp_path / "again")), wanted["persistables"])  # type: ignore[arg-type]


def test_a_test_clone_needs_no_optimizer(model: Trained, tmp_path: Path) -> None:
    clone = model.main.clone(for_test=True)
    shutil.copy(FILES / "static.pdparams", tmp_path / "a.pdparams")
    fluid.load(clone, str(tmp_path / "a"))
    np.testing.assert_array_equal(model.values()["fc_0.w_0"], golden("files")["static"]["persistables"]["fc_0.w_0"])
    with pytest.raises(StateFileError, match="cannot be read: No such file"):
        fluid.load(model.main, str(tmp_path / "a"))


def test_a_program_without_a_form_in_paddle_is_saved_without_it(
    model: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fluid.save(model.main, str(tmp_path / "a"))
    product = next(op for op in model.main.global_block().ops if op.type == "mul")
    monkeypatch.setattr(product, "type", "onnx.Gemm")
    with pytest.warns(UserWarning, match=r"a\.pdmodel is not written: .*onnx\.Gemm"):
        fluid.save(model.main, str(tmp_path / "a"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pdopt", "a.pdparams"]


def test_a_save_that_fails_leaves_the_earlier_one(model: Trained, tmp_path: Path) -> None:
    fluid.save(model.main, str(tmp_path / "a"))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    model.step()
    tensor = fluid.global_scope().var("fc_1.w_0_velocity_0").get_tensor()
    tensor.set(np.zeros((5, 3), np.complex64))  # which a state file cannot hold
    with pytest.raises(
        StateFileError, match=r"the program's state\['fc_1.w_0_velocity_0'\] has elements of type complex64"
    ):
        fluid.save(model.main, str(tmp_path / "a"))
    with pytest.raises(StateFileError, match="LoDTensors have no elements of type complex64"):
        fluid.io.save_persistables(EXE, tmp_path / "b", model.main)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_state_that_the_program_has_no_variable_for(model: Trained) -> None:
    state = fluid.load_program_state(str(FILES / "static")) | {"other": np.zeros(1)}
    with pytest.warns(UserWarning, match="has no variables for other; they are not set"):
        fluid.set_program_state(model.main, state)
    assert_same(model.values(), golden("files")["static"]["persistables"])


# Which variables -----------------------------------------------------------------------------------------------


def test_which_variables_are_meant(model: Trained) -> None:
    wanted = golden("files")["static"]
    assert [var.name for var in fluid.io.get_program_parameter(model.main)] == wanted["parameters"]
    persistables = fluid.io.get_program_persistable_vars(model.main)
    assert sorted(var.name for var in persistables) == sorted(wanted["persistables"])
    assert all(map(fluid.io.is_persistable, persistables))
    assert not fluid.io.is_persistable(model.loss)
    assert not fluid.io.is_parameter(model.loss)
    others = {var.name for var in model.main.list_vars() if belongs_to_optimizer(var)}
    assert others == wanted["persistables"].keys() - set(wanted["parameters"])
    feed = model.main.global_block().create_var(name="feed", type=fluid.VarType.FEED_MINIBATCH, persistable=True)
    assert not fluid.io.is_persistable(feed)


def test_vars_go_before_the_predicate(model: Trained, tmp_path: Path) -> None:
    names = ["fc_1.w_0", "fc_0.b_0"]
    block = model.main.global_block()
    before = model.values()
    fluid.io.save_vars(EXE, tmp_path / "a", vars=[block.var(name) for name in names], predicate=lambda var: False)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(names)
    fluid.io.save_vars(EXE, tmp_path / "b", model.main, predicate=lambda var: "velocity" in var.name)
    assert len(list((tmp_path / "b").iterdir())) == 6
    model.step()
    fluid.io.load_vars(EXE, tmp_path / "a", vars=[block.var(name) for name in names])
    fluid.io.load_vars(EXE, tmp_path / "b", model.main, predicate=lambda var: "velocity" in var.name)
    for name, value in model.values().items():
        assert (value == before[name]).all() == (name in names or "velocity" in name or (before[name] == value).all())
    assert not (model.values()["fc_0.w_0"] == before["fc_0.w_0"]).all()


def test_lod_is_kept(tmp_path: Path) -> None:
    program = fluid.Program()
    rows = program.global_block().create_var(
        name="nested/rows", shape=[-1, 1], dtype="float32", persistable=True, lod_level=1
    )
    with fluid.scope_guard(fluid.Scope()):
        tensor = fluid.global_scope().var("nested/rows").get_tensor()
        tensor.set(np.ones((3, 1), np.float32))
        tensor.set_lod([[0, 1, 3]])
        fluid.io.save_vars(EXE, tmp_path, program, vars=[rows])
        assert (tmp_path / "nested" / "rows").is_file()
    with fluid.scope_guard(fluid.Scope()):
        fluid.io.load_vars(EXE, tmp_path, program, vars=[rows])
        assert fluid.global_scope().var("nested/rows").get_tensor().lod() == [[0, 1, 3]]
        assert list(fluid.load_program_state(str(tmp_path))) == ["nested/rows"]


# All or nothing ------------------------------------------------------------------------------------------------


def test_steps_see_what_is_loaded(model: Trained, tmp_path: Path) -> None:
    """A compiled step keeps its buffers; loading writes into them."""
    model.step()
    fluid.save(model.main, str(tmp_path / "a"))
    first = [model.step(), model.step()]
    fluid.load(model.main, str(tmp_path / "a"))
    assert [model.step(), model.step()] == first


MISFITS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "shape": (lambda array: array[:2], r"fc_1.b_0 has shape \[2\] in the file, the program declares \[3\]"),
    "rank": (lambda array: array[None], r"fc_1.b_0 has shape \[1, 3\] in the file, the program declares \[3\]"),
    "type": (
        lambda array: array.astype(np.float64),
        "fc_1.b_0 has elements of type float64 in the file, the program declares float32",
    ),
}


@pytest.mark.parametrize("misfit", MISFITS)
@pytest.mark.parametrize("how", ["prefix", "folder", "file"])
def test_a_value_that_does_not_fit_changes_nothing(how: str, misfit: str, model: Trained, tmp_path: Path) -> None:
    change, message = MISFITS[misfit]
    model.step()
    tensor = fluid.global_scope().var("fc_1.b_0").get_tensor()
    good = np.array(tensor)
    tensor.set(change(good))
    path = str(tmp_path / "saved")
    filename = "all" if how == "file" else None
    if how == "prefix":
        fluid.save(model.main, path)
    else:
        fluid.io.save_persistables(EXE, path, model.main, filename)
    tensor.set(good)
    model.step()
    before = model.values()
    load = (
        partial(fluid.load, model.main, path)
        if how == "prefix"
        else partial(fluid.io.load_persistables, EXE, path, model.main, filename)
    )
    with pytest.raises(StateFileError, match=message) as refused:
        load()
    assert path in str(refused.value)
    assert_same(model.values(), before)


@pytest.mark.parametrize("seed", range(3))
def test_damaged_files_change_nothing(seed: int, model: Trained, tmp_path: Path) -> None:
    data = (FILES / "save_persistables_combined" / "all").read_bytes()
    before = model.values()
    refused = 0
    for broken in (*flipped(data, 40, seed), data[: 300 + seed], data + b"\0"):
        try:
            fluid.io.load_persistables(EXE, None, model.main, filename=broken)
        except StateFileError:
            refused += 1
            assert_same(model.values(), before)
        else:
            before = model.values()
            assert all(value.dtype.kind in "if" for value in before.values())
    assert refused > 2


def test_an_interrupt_while_loading_loads_all(model: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    real = LoDTensor.set
    calls = 0

    def interrupted(self: LoDTensor, array: object, place: Any = None) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        real(self, array, place)

    monkeypatch.setattr(LoDTensor, "set", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fluid.load(model.main, str(FILES / "static"))
    assert_same(model.values(), golden("files")["static"]["persistables"])


# What goes wrong -----------------------------------------------------------------------------------------------


def wrong(model: Trained, folder: Path) -> Iterator[tuple[Callable[[], object], type[FluidcError], str]]:
    io, main, path = fluid.io, model.main, str(folder)
    variables = fluid.io.get_program_parameter(main)
    outside = main.global_block().create_var(name="../outside", shape=[1], dtype="float32")
    fluid.global_scope().var("../outside").get_tensor().set(np.zeros(1, np.float32))
    absent = main.global_block().create_var(name="absent", shape=[1], dtype="float32")
    yield lambda: io.save_params(path, EXE), ArgumentTypeError, "save_params: the executor is"  # type: ignore[arg-type]
    yield lambda: io.load_vars(EXE, 3), ArgumentTypeError, "load_vars: dirname is int"  # type: ignore[arg-type]
    yield lambda: io.save_vars(EXE, path, main), ProgramError, "neither vars nor predicate"
    yield lambda: io.save_vars(EXE, path, vars=["fc_0.w_0"]), ArgumentTypeError, "vars holds str"  # type: ignore[list-item]
    yield lambda: io.save_vars(EXE, path, vars=[]), ProgramError, "there are no variables to save"
    yield lambda: io.load_params(EXE, path, fluid.Program()), ProgramError, "there are no variables to load"
    yield lambda: io.save_params(EXE, None, main, "all"), ProgramError, "a filename without a dirname"
    yield lambda: io.load_params(EXE, None, main), ProgramError, "values come from a folder, or from bytes"
    yield lambda: io.save_params(EXE, path, "main"), ArgumentTypeError, "the program is str"  # type: ignore[arg-type]
    yield lambda: io.save_vars(EXE, path, vars=[absent]), ProgramError, "variable 'absent' has no value in this scope"
    yield lambda: io.save_vars(EXE, path, vars=[outside]), ProgramError, "a name that is no file's inside the folder"
    yield lambda: io.load_vars(EXE, path, vars=[outside]), ProgramError, "a name that is no file's inside the folder"
    yield (
        lambda: io.load_params(EXE, path, main),
        StateFileError,
        "no file for fc_0.w_0, fc_0.b_0, .*, fc_1.w_0, fc_1.b_0",
    )
    yield lambda: io.load_params(EXE, path, main, "all"), StateFileError, "cannot be read: No such file"
    yield lambda: fluid.save(main, path + "/"), ProgramError, "names a folder"
    yield lambda: fluid.save(main, None), ArgumentTypeError, "model_path is NoneType"  # type: ignore[arg-type]
    yield lambda: fluid.load(main, path), StateFileError, "no file in the folder has the name of a variable"
    yield lambda: fluid.load(main, path + "/x"), StateFileError, "there is no .*x.pdparams, and no folder or file"
    yield lambda: fluid.load(main, str(FILES / "statik")), StateFileError, "found static.pdparams"
    one = str(FILES / "save_params_combined" / "all")
    yield lambda: fluid.load(main, one), ProgramError, "load: .* does not say which"
    yield lambda: fluid.load_program_state(one), ProgramError, "load_program_state: .* does not say which"
    yield lambda: fluid.load(main, one, var_list=variables[1:]), StateFileError, "goes on after 7 tensors"
    other = fluid.Program().global_block().create_var(name="other", shape=[1], dtype="float32")
    yield lambda: fluid.load(main, one, var_list=[other]), ProgramError, "the program has no variable 'other'"
    more = main.global_block().create_parameter([1], "float32", "more")
    yield lambda: fluid.load(main, str(FILES / "static")), StateFileError, "the file has no array for variable 'more'"
    yield lambda: fluid.set_program_state(main, {}), ProgramError, "variable 'more' has no value"
    fluid.global_scope().var("more").get_tensor().set(np.zeros(1, np.float32))
    for state, error, message in (
        (3, ArgumentTypeError, "state_dict is int"),
        ({"more": 1.0}, ArgumentTypeError, "the value of more is float"),
        ({"more": np.zeros(2, np.float32)}, ProgramError, r"more has shape \[1\], its value \[2\]"),
        ({"more": np.zeros(1)}, ArgumentTypeError, "more holds float32, its value float64"),
    ):
        yield lambda state=state: fluid.set_program_state(main, state), error, message  # type: ignore[arg-type]
    del more


def test_what_goes_wrong_is_said_and_changes_nothing(model: Trained, tmp_path: Path) -> None:
    before = model.values()
    for call, error, message in wrong(model, tmp_path):
        with pytest.raises(error, match=message):
            call()
    assert_same({name: value for name, value in model.values().items() if name != "more"}, before)
    assert not list(tmp_path.parent.glob("outside"))
    assert not list(tmp_path.iterdir())


def test_names_in_messages_are_few_and_printable() -> None:
    names = [f"w_{i}" for i in range(12)]
    assert listed(["\x1b[31m", "x" * 200, *names]).startswith(r"'\x1b[31m', '" + "x" * 80 + "', w_0, ")
    assert listed(names).endswith("w_9 and 2 more")


def test_eager_mode_has_no_programs_to_save(tmp_path: Path) -> None:
    with fluid.dygraph.guard(), pytest.raises(ProgramError, match="in eager mode there is no program"):
        fluid.io.save_params(EXE, tmp_path)


def test_a_compiled_program_stands_for_its_program(model: Trained, tmp_path: Path) -> None:
    fluid.io.save_params(EXE, tmp_path, fluid.CompiledProgram(model.main))  # type: ignore[arg-type]
    assert len(list(tmp_path.iterdir())) == 8
