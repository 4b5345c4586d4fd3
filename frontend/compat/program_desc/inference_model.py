"""Inference models: a pruned program beside the values of its variables, as Paddle 1.8 saves and loads them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import invalid, wrong_type
from ...formats import lod_tensor
from ...formats.files import Chunks, read_file, write_files
from ...framework import Program, default_main_program
from ...initializer import NumpyArrayInitializer
from ...scope import Scope, global_scope
from ...source import user_location
from ...variable import Parameter, Variable
from .errors import ProgramDescError
from .loading import MODEL, LoadedProgram, load_program
from .writing import inference_program, inference_to_bytes

Array = NDArray[Any]


class InferenceModel(NamedTuple):
    """What `fluid.io.load_inference_model` returns; a list in Paddle, and unpacked like one.

    Attributes:
        program: The program, without the ops that feed and fetch.
        feed_names: What it is fed, in the order in which it was saved.
        fetch_targets: Its results.
    """

    program: Program
    feed_names: list[str]
    fetch_targets: list[Variable]


def save_inference_model(
    dirname: str | os.PathLike[str],
    feeded_var_names: Sequence[str] | str,
    target_vars: Sequence[Variable | str] | Variable,
    executor: object,
    main_program: Program | None = None,
    model_filename: str | None = None,
    params_filename: str | None = None,
    export_for_deployment: bool = True,
    program_only: bool = False,
) -> list[str]:
    """Write a pruned test form of a program and its values; see `fluid.io.save_inference_model`."""
    del executor, export_for_deployment
    program = default_main_program() if main_program is None else main_program
    if not isinstance(program, Program):
        raise wrong_type(f"save_inference_model: main_program is {type(program).__name__}", "give a fluid.Program")
    feeds = _names("feeded_var_names", feeded_var_names)
    targets = _names("target_vars", target_vars)
    if not targets:
        raise invalid("save_inference_model: there are no target_vars", "give the Variables that are to be predicted")
    data, fetched = inference_to_bytes(program, feeds, targets)
    folder = Path(dirname)
    files: dict[Path, Chunks] = {}
    if not program_only:
        values = _values(inference_program(program, feeds, targets), global_scope())
        files |= _encoded(folder, values, params_filename)
    # Last: who finds the program finds its values.
    files[folder / (os.path.basename(model_filename) if model_filename else MODEL)] = [data]
    write_files(files)
    return fetched


def load_inference_model(
    dirname: str | os.PathLike[str],
    executor: object,
    model_filename: str | None = None,
    params_filename: str | None = None,
    pserver_endpoints: Sequence[str] | None = None,
) -> InferenceModel:
    """Read an inference model, its values into the global scope; see `fluid.io.load_inference_model`."""
    del executor, pserver_endpoints
    model, values = read_inference_model(dirname, model_filename, params_filename)
    scope = global_scope()
    for name, record in values.items():
        tensor = scope.var(name).get_tensor()
        tensor.set(record.array)
        tensor.set_lod(record.lod)
    return InferenceModel(model.program, [var.name for var in model.feeds], model.outputs)


def read_inference_model(
    dirname: str | os.PathLike[str],
    model_filename: str | None = None,
    params_filename: str | None = None,
    trainable: str | Sequence[str] | None = None,
) -> tuple[LoadedProgram, dict[str, lod_tensor.Record]]:
    """An inference model and the values of all its persistable variables, which are checked to fit them.

    Raises:
        ProgramDescError: The program cannot be read or compiled, or a value has another shape or element type.
        StateFileError: The values are missing or damaged.
    """
    folder = Path(dirname)
    if not folder.is_dir():
        raise ProgramDescError(
            "there is no folder of that name", str(folder), "give the folder that save_inference_model wrote"
        )
    file = folder / (os.path.basename(model_filename) if model_filename else MODEL)
    model = load_program(file, trainable=trainable)
    wanted = persistables(model.program)
    if params_filename is not None:
        path = folder / os.path.basename(params_filename)
        # Without names: in the order of the names.
        records = lod_tensor.decode_all(read_file(path), str(path), len(wanted)) if wanted else []
        values = dict(zip(sorted(wanted), records, strict=True))
    else:
        values = {name: _decoded(folder, name) for name in wanted}
    for name, record in values.items():
        check_value(wanted[name], record.array, str(folder))
    return model, values


def persistables(program: Program) -> dict[str, Variable]:
    """What a model's files hold values of, by name."""
    return {var.name: var for var in program.list_vars() if var.persistable and var.has_dtype}


def startup_of(program: Program, values: Mapping[str, Array]) -> Program:
    """A startup program that gives the persistable variables these values."""
    startup = Program()
    block = startup.global_block()
    for name, var in sorted(persistables(program).items()):
        if isinstance(var, Parameter):
            twin: Variable = block.create_parameter(var.shape, var.dtype, name, trainable=var.trainable)
        else:
            twin = block.create_var(name=name, shape=var.shape, dtype=var.dtype, persistable=True)
        NumpyArrayInitializer(values[name])(twin, block)
    return startup


def _names(argument: str, given: Any) -> list[str]:
    """Names of Variables and strings, one or several."""
    listed = [given] if isinstance(given, str | Variable) else given
    if not isinstance(listed, Iterable):
        raise wrong_type(f"save_inference_model: {argument} is {type(given).__name__}", "give a list of names")
    names: list[str] = []
    for item in listed:
        if not isinstance(item, str | Variable):
            raise wrong_type(
                f"save_inference_model: {argument} holds {type(item).__name__}", "give names, and Variables as targets"
            )
        names.append(item if isinstance(item, str) else item.name)
    return names


def _values(program: Program, scope: Scope) -> dict[str, Array]:
    """The values of a program's persistable variables."""
    found: dict[str, Array] = {}
    for name, var in persistables(program).items():
        held = scope.find_var(name)
        if held is None or not held.get_tensor().is_initialized:
            raise invalid(
                f"save_inference_model: variable {name!r} has no value in the global scope",
                "run the startup program first, or load values; inside scope_guard that scope is the global one",
            )
        array = np.asarray(held.get_tensor())
        if array.dtype != var.dtype.numpy:
            raise invalid(
                f"save_inference_model: {name} holds {array.dtype}, the program declares {var.dtype.numpy.name}",
                "set values of the declared type",
            )
        found[name] = array
    return found


def _encoded(folder: Path, values: Mapping[str, Array], together: str | None) -> dict[Path, Chunks]:
    """Files with the values: one for each, or all of them one after the other in the order of their names."""
    if together is not None:
        chunks = [chunk for name in sorted(values) for chunk in lod_tensor.encode(values[name])]
        return {folder / os.path.basename(together): chunks} if values else {}
    return {_file(folder, name): lod_tensor.encode(array) for name, array in values.items()}


def _decoded(folder: Path, name: str) -> lod_tensor.Record:
    path = _file(folder, name)
    return lod_tensor.decode(read_file(path), str(path))


def _file(folder: Path, name: str) -> Path:
    """The file of one variable; a name with slashes lies in folders, and none leaves the model's."""
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\0" in name:
        raise ProgramDescError(
            f"the variable {name!r} has a name that is no file's inside the folder",
            user_location().place,
            "save all values in one file: params_filename='params'",
        )
    return folder.joinpath(*parts)


def check_value(var: Variable, array: Array, source: str) -> None:
    """Refuse a value that is not of its variable's shape and element type.  Raises ProgramDescError."""
    if array.dtype != var.dtype.numpy or array.shape != var.shape:
        raise ProgramDescError(
            f"the value of {var.name} is {array.dtype.name}{list(array.shape)}, the program declares "
            f"{var.dtype.numpy.name}{list(var.shape)}",
            source,
            "the program and the values are of different models, or damaged: copy them anew",
        )
