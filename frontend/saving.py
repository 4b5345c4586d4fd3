"""Variables of a program as files of Paddle's binary form: one for each, or all of them in one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from .errors import invalid, wrong_type
from .formats.errors import StateFileError
from .formats.files import Chunks, read_file, write_files
from .formats.lod_tensor import Record, decode, decode_all, encode
from .framework import Program
from .saved_variables import NewValue, Predicate, assign, chosen, held, is_parameter, is_persistable, listed, program_of
from .scope import global_scope
from .variable import Variable

Folder = str | os.PathLike[str] | None
_MEMORY = "the bytes given"
_MAX_NAME = 255
"""Bytes of a file's name."""


def save_vars(
    executor: object,
    dirname: Folder,
    main_program: Program | None = None,
    vars: Sequence[Variable] | None = None,
    predicate: Predicate | None = None,
    filename: str | None = None,
) -> bytes | None:
    """Write the values that variables have in the global scope.

    All files are written, or none; what was there before stays where writing fails.

    Args:
        executor: fluid's; not needed.
        dirname: The folder, made if it is not there; None, with no ``filename``, to have the bytes returned.
        main_program: Where ``predicate`` chooses from; the default main program if None.
        vars: The variables.
        predicate: Without ``vars``: what tells which variables, such as `is_persistable`.
        filename: One file for all, in the order of their names, which are not in it; else a file for each, which has
            the variable's name.

    Returns:
        None, or the bytes of what would be one file.

    Raises:
        ProgramError: A variable without a value, or whose name is no file's in ``dirname``.
        StateFileError: The folder cannot be written.
    """
    return _save("save_vars", executor, dirname, main_program, vars, predicate, filename)


def save_params(
    executor: object, dirname: Folder, main_program: Program | None = None, filename: str | None = None
) -> bytes | None:
    """`save_vars` for the parameters of the program: enough to predict, not to train on."""
    return _save("save_params", executor, dirname, main_program, None, is_parameter, filename)


def save_persistables(
    executor: object, dirname: Folder, main_program: Program | None = None, filename: str | None = None
) -> bytes | None:
    """`save_vars` for all that the program keeps between runs: what training goes on with."""
    return _save("save_persistables", executor, dirname, main_program, None, is_persistable, filename)


def load_vars(
    executor: object,
    dirname: Folder,
    main_program: Program | None = None,
    vars: Sequence[Variable] | None = None,
    predicate: Predicate | None = None,
    filename: str | bytes | None = None,
) -> None:
    """Give variables of the global scope the values that `save_vars`, or Paddle 1.8, wrote: all of them, or none.

    Args:
        executor: fluid's; not needed.
        dirname: The folder; None if ``filename`` is the bytes themselves.
        main_program: Where ``predicate`` chooses from; the default main program if None.
        vars: The variables; for a file of several, all that are in it.
        predicate: Without ``vars``: what tells which variables, such as `is_persistable`.
        filename: The file that holds all of them; None: each has its own.

    Raises:
        StateFileError: A file is missing or damaged, or a variable has another shape or element type in it.
    """
    _load("load_vars", executor, dirname, main_program, vars, predicate, filename)


def load_params(
    executor: object, dirname: Folder, main_program: Program | None = None, filename: str | bytes | None = None
) -> None:
    """`load_vars` for the parameters of the program."""
    _load("load_params", executor, dirname, main_program, None, is_parameter, filename)


def load_persistables(
    executor: object, dirname: Folder, main_program: Program | None = None, filename: str | bytes | None = None
) -> None:
    """`load_vars` for all that the program keeps between runs."""
    _load("load_persistables", executor, dirname, main_program, None, is_persistable, filename)


def file_of(folder: Path, name: str) -> Path:
    """The file of one variable; a name with slashes lies in folders of its own.

    Raises ProgramError for a name that would leave the folder, or is longer than any file's: programs, and so names,
    may come from anybody.
    """
    parts = name.split("/")
    outside = any(part in ("", ".", "..") for part in parts) or "\0" in name
    if outside or any(len(part.encode("utf-8", "surrogatepass")) > _MAX_NAME for part in parts):
        raise invalid(
            f"the variable {name[:80]!r} has a name that is no file's inside the folder",
            "put all variables into one file: filename='params'",
        )
    return folder.joinpath(*parts)


def read_separate(folder: Path, names: Sequence[str]) -> dict[str, Record]:
    """Values of variables that have a file each.  Raises StateFileError."""
    paths = {name: file_of(folder, name) for name in names}
    missing = [name for name, path in paths.items() if not path.exists()]
    if missing:
        if not folder.is_dir():
            what = "this is a file, not a folder" if folder.exists() else "there is no such folder"
            raise StateFileError(what, str(folder), "give the folder that was saved to")
        raise StateFileError(
            f"the folder has no file for {listed(missing)}",
            str(folder),
            "give the folder that was saved to; if all were saved in one file, give its filename",
        )
    return {name: decode(read_file(path), str(path)) for name, path in paths.items()}


def read_combined(data: bytes, source: str, names: Sequence[str]) -> dict[str, Record]:
    """Values of variables that are in one file, in the order of their names.  Raises StateFileError."""
    return dict(zip(sorted(names), decode_all(data, source, len(names))))


def _save(
    what: str,
    executor: object,
    dirname: Folder,
    main_program: Program | None,
    variables: Sequence[Variable] | None,
    predicate: Predicate | None,
    filename: str | None,
) -> bytes | None:
    _check_places(what, executor, dirname)
    wanted = chosen(what, program_of(what, main_program), variables, predicate)
    if not wanted:
        raise invalid(f"{what}: there are no variables to save", "build the program first, or give it as main_program")
    tensors = {var.name: held(what, var, global_scope()) for var in wanted}
    records = {name: encode(tensor.array, tensor.lod()) for name, tensor in tensors.items()}
    together = [chunk for name in sorted(records) for chunk in records[name]]
    if dirname is None:
        if filename is not None:
            raise invalid(f"{what}: a filename without a dirname", "give a folder; dirname='.' is the current one")
        return b"".join(together)
    folder = Path(dirname)
    files: dict[Path, Chunks] = {folder / filename: together} if filename is not None else {}
    if filename is None:
        files = {file_of(folder, name): chunks for name, chunks in records.items()}
    write_files(files)
    return None


def _load(
    what: str,
    executor: object,
    dirname: Folder,
    main_program: Program | None,
    variables: Sequence[Variable] | None,
    predicate: Predicate | None,
    filename: str | bytes | None,
) -> None:
    _check_places(what, executor, dirname)
    wanted = {var.name: var for var in chosen(what, program_of(what, main_program), variables, predicate)}
    if not wanted:
        raise invalid(f"{what}: there are no variables to load", "build the program first, or give it as main_program")
    if dirname is None or isinstance(filename, bytes):
        if dirname is not None or not isinstance(filename, bytes):
            raise invalid(
                f"{what}: values come from a folder, or from bytes",
                "give dirname, and filename for one file of several; or dirname=None and filename=the bytes",
            )
        source, records = _MEMORY, read_combined(filename, _MEMORY, list(wanted))
    elif filename is not None:
        path = Path(dirname) / filename
        source, records = str(path), read_combined(read_file(path), str(path), list(wanted))
    else:
        source, records = str(dirname), read_separate(Path(dirname), list(wanted))
    assign_records(list(wanted.values()), records, source)


def assign_records(variables: Sequence[Variable], records: dict[str, Record], source: str) -> None:
    """Give variables of the global scope the values in records.  Raises StateFileError where one does not fit."""
    values = [NewValue(var, records[var.name].array, source, records[var.name].lod) for var in variables]
    assign(global_scope(), values)


def _check_places(what: str, executor: object, dirname: object) -> None:
    if isinstance(executor, str | os.PathLike):
        raise wrong_type(f"{what}: the executor is {executor!r}", f"write fluid.io.{what}(exe, dirname, ...)")
    if dirname is not None and not isinstance(dirname, str | os.PathLike):
        raise wrong_type(f"{what}: dirname is {type(dirname).__name__}", "give the path of a folder")
