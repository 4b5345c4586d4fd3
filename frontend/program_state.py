"""The state of a static program under one prefix: ``.pdparams``, ``.pdopt``, ``.pdmodel``."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from .errors import invalid, wrong_type
from .formats.errors import StateFileError
from .formats.files import Chunks, read_file, write_files
from .formats.lod_tensor import Record, decode
from .formats.pickle_reader import Value
from .formats.state import NAME_TABLE, encode_state, read_state
from .framework import Program
from .saved_variables import (
    NewValue,
    assign,
    belongs_to_optimizer,
    chosen,
    get_program_parameter,
    get_program_persistable_vars,
    held,
    is_persistable,
    listed,
    program_of,
    put,
)
from .saving import assign_records, read_combined, read_separate
from .scope import global_scope
from .state_dicts import OPTIMIZER, PARAMETERS, near_spellings, prefix_of
from .variable import Variable

MODEL = ".pdmodel"
_PROGRAM_FILE = "__model__"  # lies beside the values of an inference model


def save(program: Program, model_path: str) -> None:
    """Write the values that the program's variables have in the global scope, and its forward part.

    ``PREFIX.pdparams`` holds the parameters, ``PREFIX.pdopt`` what else lives between runs, ``PREFIX.pdmodel`` the ops.
    All files are written, or none; those of an earlier call stay where writing fails. Paddle 1.8 loads them. A program
    with ops that Paddle does not have is saved without ``.pdmodel``, and a warning; `load` needs none.

    Args:
        program: A program after its startup program was run.
        model_path: PREFIX, with the folder, which is made if it is not there.

    Raises:
        ProgramError: A variable without a value.
        StateFileError: The files cannot be written.
    """
    program = program_of("save", program)
    prefix = prefix_of("save", model_path)
    files: dict[Path, Chunks] = {}
    parameters, others = get_program_parameter(program), list(filter(belongs_to_optimizer, program.list_vars()))
    for suffix, variables in ((PARAMETERS, parameters), (OPTIMIZER, others)):
        values = {var.name: held("save", var, global_scope()).array for var in variables}
        files[Path(prefix + suffix)] = encode_state(values, "the program's state")
    model = Path(prefix + MODEL)
    description = _described(program, model)
    if description is not None:
        files[model] = [description]
    write_files(files)
    if description is None:
        model.unlink(missing_ok=True)  # of an earlier program


def load(
    program: Program,
    model_path: str,
    executor: object = None,
    var_list: Sequence[Variable] | None = None,
) -> None:
    """Give the program's variables in the global scope the values that were saved: all of them, or none.

    Args:
        program: The program that was saved, or one with variables of the same names and shapes.
        model_path: PREFIX of `fluid.save`, here or in Paddle; or the folder, or the one file, that `save_vars`,
            `save_params` or `save_persistables` wrote. Of a folder, the variables that have a file are loaded.
        executor: fluid's; not needed, and neither is the startup program.
        var_list: The variables in that one file, all of them.

    Raises:
        StateFileError: A file is missing or damaged, lacks a variable of the program, or holds another shape or element
            type for one.
    """
    del executor
    program = program_of("load", program)
    prefix = _stem("load", model_path)
    parameters = Path(prefix + PARAMETERS)
    if parameters.exists():
        values = _values_for(get_program_parameter(program), parameters)
        others = list(filter(belongs_to_optimizer, program.list_vars()))
        if others:
            values += _values_for(others, Path(prefix + OPTIMIZER))
        assign(global_scope(), values)
    elif Path(model_path).is_dir():
        _load_folder(program, Path(model_path))
    elif Path(model_path).exists():
        if var_list is None:
            raise invalid(
                f"load: {model_path} holds variables of several names, and does not say which",
                "give var_list=[...], all variables that were saved to it",
            )
        wanted = chosen("load", program, var_list, None)
        names = {var.name for var in program.list_vars()}
        for var in wanted:
            if var.name not in names:
                raise invalid(f"load: the program has no variable {var.name!r}", "give variables of the program")
        records = read_combined(read_file(Path(model_path)), str(model_path), [var.name for var in wanted])
        assign_records(wanted, records, str(model_path))
    else:
        raise _missing(prefix)


def load_program_state(model_path: str, var_list: Sequence[Variable] | None = None) -> dict[str, Value]:
    """What `fluid.save`, or `fluid.io.save_vars` and its like, wrote, by name; no program is changed.

    Args:
        model_path: PREFIX of `fluid.save`, or the folder or file of the others, as for `fluid.load`.
        var_list: Variables whose names are wanted, of a folder; of one file all that are in it.

    Returns:
        Arrays by name; of PREFIX the parameters and what the optimizer keeps, if both were saved.

    Raises:
        StateFileError: A file is missing or damaged.
    """
    prefix = _stem("load_program_state", model_path)
    path = Path(model_path)
    if Path(prefix + PARAMETERS).exists():
        state = read_state(Path(prefix + PARAMETERS))
        if Path(prefix + OPTIMIZER).exists():
            state |= read_state(Path(prefix + OPTIMIZER))
        state.pop(NAME_TABLE, None)
        return state
    names = None if var_list is None else [var.name for var in chosen("load_program_state", Program(), var_list, None)]
    if path.is_dir() and names is None:
        files = _files_in(path)
        records = _read(files, files)
    elif path.is_dir():
        records = read_separate(path, names or ())
    elif not path.exists():
        raise _missing(prefix)
    elif names is None:
        raise invalid(
            f"load_program_state: {model_path} holds variables of several names, and does not say which",
            "give var_list=[...], all variables that were saved to it",
        )
    else:
        records = read_combined(read_file(path), str(path), names)
    return {name: record.array for name, record in records.items()}


def set_program_state(program: Program, state_dict: Mapping[str, object]) -> None:
    """Give the program's variables in the global scope the values of the same names: all of them, or none.

    The startup program must have been run. A warning names what the program has no variable for.

    Raises:
        ProgramError: A variable without a value, or of another shape.
        ArgumentTypeError: Of another element type.
    """
    program = program_of("set_program_state", program)
    if not isinstance(state_dict, Mapping):
        raise wrong_type(
            f"set_program_state: state_dict is {type(state_dict).__name__}", "give what load_program_state returned"
        )
    new: list[tuple[str, np.ndarray, tuple[()]]] = []
    persistables = {var.name: var for var in get_program_persistable_vars(program)}
    for name, var in persistables.items():
        tensor = held("set_program_state", var, global_scope())
        if name in state_dict:
            new.append((name, _checked(name, state_dict[name], tensor.array), ()))
    put(global_scope(), new)
    unused = [name for name in state_dict if name not in persistables]
    if unused:
        warnings.warn(
            f"set_program_state: the program has no variables for {listed(unused)}; they are not set", stacklevel=2
        )


def _described(program: Program, path: Path) -> bytes | None:
    """The program as Paddle writes it, or None, with a warning, where it cannot."""
    from .compat.program_desc.errors import ProgramDescError  # loads protobuf
    from .compat.program_desc.writing import program_to_bytes

    try:
        return program_to_bytes(program)
    except ProgramDescError as error:
        warnings.warn(f"save: {path} is not written: {error.what}", stacklevel=3)
        return None


def _checked(name: str, value: object, old: np.ndarray) -> np.ndarray:
    if not isinstance(value, np.ndarray):
        raise wrong_type(f"set_program_state: the value of {name} is {type(value).__name__}", "give an array")
    if value.shape != old.shape:
        raise invalid(
            f"set_program_state: {name} has shape {list(old.shape)}, its value {list(value.shape)}",
            "leave it out of the state, or build the program that was saved; no variable was changed",
        )
    if value.dtype != old.dtype:
        raise wrong_type(
            f"set_program_state: {name} holds {old.dtype.name}, its value {value.dtype.name}",
            f"convert it: value.astype('{old.dtype.name}'); no variable was changed",
        )
    return value


def _stem(what: str, model_path: str) -> str:
    """PREFIX, of which people also give one of the files."""
    prefix = os.fspath(model_path)
    for suffix in (PARAMETERS, OPTIMIZER, MODEL):
        prefix = prefix.removesuffix(suffix)
    return prefix


def _values_for(variables: Sequence[Variable], path: Path) -> list[NewValue]:
    """The value of every variable.  Raises StateFileError for one that the file lacks."""
    state = read_state(path)
    values: list[NewValue] = []
    for var in variables:
        array = state.get(var.name)
        if not isinstance(array, np.ndarray):
            raise StateFileError(
                f"the file has no array for variable {var.name!r}",
                str(path),
                "build the program that was saved; to set only what is there: "
                "fluid.set_program_state(program, fluid.load_program_state(path))",
            )
        values.append(NewValue(var, array, str(path)))
    return values


def _load_folder(program: Program, folder: Path) -> None:
    files = _files_in(folder)
    wanted = [var for var in program.list_vars() if is_persistable(var) and var.name in files]
    if not wanted:
        raise StateFileError(
            "no file in the folder has the name of a variable of the program",
            str(folder),
            "give the folder that was saved to, and the program that was saved",
        )
    assign_records(wanted, _read(files, [var.name for var in wanted]), str(folder))
    unused = sorted(files.keys() - {var.name for var in wanted})
    if unused:
        warnings.warn(f"load: {folder} has files for no variable of the program: {listed(unused)}", stacklevel=3)
    left = [var.name for var in get_program_parameter(program) if var.name not in files]
    if left:
        warnings.warn(f"load: {folder} has no files for {listed(left)}, which stay as they are", stacklevel=3)


def _files_in(folder: Path) -> dict[str, Path]:
    """The files of a folder by the names of their variables; the program that may lie there is none."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != _PROGRAM_FILE]
    return {path.relative_to(folder).as_posix(): path for path in sorted(paths)}


def _read(files: Mapping[str, Path], names: Iterable[str]) -> dict[str, Record]:
    return {name: decode(read_file(files[name]), str(files[name])) for name in names}


def _missing(prefix: str) -> StateFileError:
    near = near_spellings(prefix, PARAMETERS)
    hint = (
        f"found {near[0]}" if near else "give the path that was given to fluid.save, or the folder of fluid.io.save_*"
    )
    return StateFileError(f"there is no {prefix}{PARAMETERS}, and no folder or file {prefix}", None, hint)
