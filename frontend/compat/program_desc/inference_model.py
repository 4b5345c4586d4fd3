"""Inference models: a pruned program beside the values of its variables, as Paddle 1.8 saves and loads them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from ...errors import invalid, wrong_type
from ...formats.files import Chunks, read_file, write_files
from ...formats.lod_tensor import encode
from ...framework import Program
from ...initializer import NumpyArrayInitializer
from ...saved_variables import NewValue, assign, held, is_persistable, program_of
from ...saving import file_of, read_combined, read_separate
from ...scope import Scope, global_scope
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
    program = program_of("save_inference_model", main_program)
    feeds = _names("feeded_var_names", feeded_var_names)
    targets = _names("target_vars", target_vars)
    if not targets:
        raise invalid("save_inference_model: there are no target_vars", "give the Variables that are to be predicted")
    data, fetched = inference_to_bytes(program, feeds, targets)
    folder = Path(dirname)
    files: dict[Path, Chunks] = {}
    if not program_only:
        files |= _values(inference_program(program, feeds, targets), global_scope(), folder, params_filename)
    # Last: who finds the program finds its values.
    model = folder / (os.path.basename(model_filename) if model_filename else MODEL)
    if model in files:
        raise invalid(
            f"save_inference_model: {model.name} would be the file of the program and of values",
            "give another model_filename or params_filename",
        )
    files[model] = [data]
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
    assign(global_scope(), values)
    return InferenceModel(model.program, [var.name for var in model.feeds], model.outputs)


def read_inference_model(
    dirname: str | os.PathLike[str],
    model_filename: str | None = None,
    params_filename: str | None = None,
    trainable: str | Sequence[str] | None = None,
) -> tuple[LoadedProgram, list[NewValue]]:
    """An inference model and the values of all its persistable variables, which are checked to fit them.

    Raises:
        ProgramDescError: The program cannot be read or compiled.
        StateFileError: Values that are missing or damaged, or of another shape or element type.
    """
    folder = Path(dirname)
    if not folder.is_dir():
        raise ProgramDescError(
            "there is no folder of that name", str(folder), "give the folder that save_inference_model wrote"
        )
    file = folder / (os.path.basename(model_filename) if model_filename else MODEL)
    model = load_program(file, trainable=trainable)
    wanted = persistables(model.program)
    path = folder / os.path.basename(params_filename) if params_filename is not None else None
    if not wanted:
        records = {}
    elif path is not None:
        records = read_combined(read_file(path), str(path), list(wanted))
    else:
        records = read_separate(folder, list(wanted))
    values = [
        NewValue(wanted[name], record.array, str(path or folder / name), record.lod) for name, record in records.items()
    ]
    for value in values:
        value.check()
    return model, values


def persistables(program: Program) -> dict[str, Variable]:
    """What a model's files hold values of, by name."""
    return {var.name: var for var in program.list_vars() if is_persistable(var) and var.has_dtype}


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


def _values(program: Program, scope: Scope, folder: Path, together: str | None) -> dict[Path, Chunks]:
    """Files with the values: one for each variable, or all of them one after the other in the order of their names."""
    records: dict[str, Chunks] = {}
    for name, var in persistables(program).items():
        tensor = held("save_inference_model", var, scope)
        NewValue(var, tensor.array, "the global scope").check()
        records[name] = encode(tensor.array, tensor.lod())
    if together is None:
        return {file_of(folder, name): chunks for name, chunks in records.items()}
    if not records:
        return {}
    return {folder / os.path.basename(together): [chunk for name in sorted(records) for chunk in records[name]]}
