"""``paddle.dataset.common``: where the files of data sets are found."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from glob import glob
from pathlib import Path
from typing import Any, BinaryIO

from ....runtime.errors import DataError
from ...formats import pickle_reader
from ...reader import Reader
from ...source import user_location
from .. import session

PADDLES_HOME = os.path.expanduser("~/.cache/paddle/dataset")
DATA_HOME = os.environ.get("FLUIDC_DATA") or PADDLES_HOME
"""The folder with one folder for each data set; a script may set it."""


@contextlib.contextmanager
def data_home(folder: str | os.PathLike[str] | None) -> Iterator[None]:
    """Look for files in ``folder`` inside the ``with`` block; None: FLUIDC_DATA, else Paddle's own folder."""
    global DATA_HOME
    before = DATA_HOME
    DATA_HOME = os.fspath(folder) if folder is not None else os.environ.get("FLUIDC_DATA") or PADDLES_HOME
    try:
        yield
    finally:
        DATA_HOME = before


def md5file(fname: str | os.PathLike[str]) -> str:
    """The MD5 of a file, in hexadecimal."""
    with open(fname, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def locate(folder: str, name: str) -> Path | None:
    """The file ``name`` of a data set: in its folder under DATA_HOME, else in DATA_HOME itself; None if in neither."""
    for place in (Path(DATA_HOME, folder, name), Path(DATA_HOME, name)):
        if place.is_file():
            return place
    return None


def find(folder: str, wanted: Mapping[str, str], made_up: str, dataset: str | None = None) -> dict[str, str] | None:
    """The files of a data set by name; None where there is none of them, and synthetic data is to be used.

    Either is noted for the summary, the second announced at once.

    Args:
        folder: Under DATA_HOME.
        wanted: The names, and the MD5 of Paddle's own files; a file may differ, which is told. "" if not known.
        made_up: What takes their place, in words.
        dataset: The data set's name where it is not the folder's.

    Raises:
        DataError: Some of the files are there, others are not: real and synthetic data are never mixed.
    """
    name = f"paddle.dataset.{dataset or folder}"
    found = {file: locate(folder, file) for file in wanted}
    missing = [file for file, path in found.items() if path is None]
    if not missing:
        paths = {file: str(path) for file, path in found.items()}
        others = [file for file, path in paths.items() if wanted[file] and md5file(path) != wanted[file]]
        remark = f" (not the files that Paddle downloads: {', '.join(others)})" if others else ""
        session.note_found(name, os.path.dirname(next(iter(paths.values()))) + remark)
        return paths
    if len(missing) < len(wanted):
        raise DataError(
            f"{name}: {', '.join(missing)} is missing",
            user_location().place,
            f"put it beside the others in {Path(DATA_HOME, folder)}, or take them away for synthetic data",
        )
    session.note_substituted(
        name,
        made_up,
        [
            f"looked for {', '.join(wanted)}",
            f"in {Path(DATA_HOME, folder)}; nothing is ever downloaded",
            "what is learnt from made-up data says nothing of the real data",
            "for the real data put the files there, or name their folder: --data DIR, or FLUIDC_DATA=DIR",
        ],
    )
    return None


def download(url: str, module_name: str, md5sum: str, save_name: str | None = None) -> str:
    """The path of a file that is there already: nothing is downloaded.

    Raises:
        DataError: It is not there.
    """
    name = url.split("/")[-1] if save_name is None else save_name
    path = locate(module_name, name)
    if path is None:
        raise DataError(
            f"paddle.dataset.common.download: {name} is not on this machine, and nothing is ever downloaded",
            user_location().place,
            f"fetch {url} and save it as {Path(DATA_HOME, module_name, name)}; --data DIR names another folder",
        )
    differs = bool(md5sum) and md5file(path) != md5sum
    session.note_found(f"{module_name}/{name}", f"{path.parent}{' (not the file that was asked for)' * differs}")
    return str(path)


def fetched(folder: str, wanted: Mapping[str, str], made_up: str) -> Callable[[], None]:
    """A data set's ``fetch``: says whether its files are there."""

    def fetch() -> None:
        find(folder, wanted, made_up)

    return fetch


def _load(file: BinaryIO) -> Any:
    return pickle_reader.read(file.read(), file.name)


def split(
    reader: Reader, line_count: int, suffix: str = "%05d.pickle", dumper: Callable[[Any, BinaryIO], Any] = pickle.dump
) -> None:
    """Write the samples of a reader to files ``suffix % 0``, ...: each with a list of ``line_count`` samples.

    As in Paddle, the first file has one more.
    """
    if not callable(dumper):
        raise TypeError("dumper should be callable.")
    lines: list[Any] = []
    number = 0
    for at, sample in enumerate(reader()):
        lines.append(sample)
        if at >= line_count and at % line_count == 0:
            with open(suffix % number, "wb") as file:
                dumper(lines, file)
            lines = []
            number += 1
    if lines:
        with open(suffix % number, "wb") as file:
            dumper(lines, file)


def cluster_files_reader(
    files_pattern: str, trainer_count: int, trainer_id: int, loader: Callable[[BinaryIO], Any] = _load
) -> Reader:
    """A reader of those of the files that `split` wrote which belong to one of several trainers.

    Pickles are read without Python's unpickler: they may hold numbers, texts, arrays, and lists and tuples of them.
    """

    def reader() -> Iterator[Any]:
        if not callable(loader):
            raise TypeError("loader should be callable.")
        for path in sorted(glob(files_pattern))[trainer_id::trainer_count]:
            print(f"append file: {path}")
            with open(path, "rb") as file:
                yield from loader(file)

    return reader
