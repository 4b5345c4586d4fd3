"""From a file that nobody vouches for to a checked ProgramDesc message."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from .errors import ProgramDescError, shown
from .schema import program_desc_class

MOST_BYTES = 1 << 30
"""Of a file: models have no numbers in them, so the largest are some megabytes."""

MOST_BLOCKS, MOST_OPS, MOST_VARS = 10_000, 1_000_000, 2_000_000
"""Of a whole program."""

NEWEST = 2_006_999
"""Later versions of Paddle write files of another format under this name."""

_DAMAGED = "the file is damaged, or only a part of it: copy it anew"


def read_desc(path: Path) -> Any:
    """The ProgramDesc in a file.

    Raises:
        ProgramDescError: It cannot be read, is too large, or is no ProgramDesc.
    """
    try:
        # O_NONBLOCK: a pipe is refused, not waited for.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with open(handle, "rb") as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise ProgramDescError("this is no file", str(path), "give the path of a __model__ that Paddle wrote")
            if status.st_size > MOST_BYTES:
                raise ProgramDescError(
                    f"the file has {status.st_size} bytes", str(path), "a __model__ holds no parameters, and is small"
                )
            data = file.read(MOST_BYTES)
    except OSError as error:
        raise ProgramDescError(
            f"the file cannot be read: {error.strerror}", str(path), "give a __model__ that Paddle wrote"
        ) from None
    return parse_desc(data, str(path))


def parse_desc(data: bytes, source: str) -> Any:
    """The ProgramDesc in these bytes, checked to hang together; ``source`` is what messages call them.

    Raises:
        ProgramDescError: They are no ProgramDesc, are damaged, or of a version that is not read.
    """
    desc = program_desc_class()()
    try:
        desc.ParseFromString(data)
    except DecodeError:
        raise ProgramDescError("this is no ProgramDesc, or a part of one", source, _DAMAGED) from None
    if not desc.blocks:
        raise ProgramDescError("this is no ProgramDesc: it has no blocks", source, "give a __model__ that Paddle wrote")
    version = desc.version.version
    if not 0 <= version <= NEWEST:
        raise ProgramDescError(
            f"the program is of version {version}, of files written by Paddle up to 2.6 only",
            source,
            "save the model with Paddle 1.8",
        )
    _check_sizes(desc, source)
    for number, block in enumerate(desc.blocks):
        _check_block(block, number, source)
    return desc


def _check_sizes(desc: Any, source: str) -> None:
    counts = (
        ("blocks", len(desc.blocks), MOST_BLOCKS),
        ("ops", sum(len(block.ops) for block in desc.blocks), MOST_OPS),
        ("variables", sum(len(block.vars) for block in desc.blocks), MOST_VARS),
    )
    for what, count, most in counts:
        if count > most:
            raise ProgramDescError(f"the program has {count} {what}", source, f"at most {most} are read")


def _check_block(block: Any, number: int, source: str) -> None:
    if block.idx != number:
        raise ProgramDescError(f"block {number} is numbered {block.idx}", source, _DAMAGED)
    fits = block.parent_idx == -1 if number == 0 else 0 <= block.parent_idx < number
    if not fits:
        raise ProgramDescError(f"block {number} lies in block {block.parent_idx}", source, _DAMAGED)
    for var in block.vars:
        _check_name(var.name, "a variable", number, source)
    for position, op in enumerate(block.ops):
        _check_name(op.type, f"the type of op {position}", number, source)
        for slot in (*op.inputs, *op.outputs):
            for name in (slot.parameter, *slot.arguments):
                _check_name(name, f"{shown(op.type)}, op {position}: a slot or an argument", number, source)
        for attr in op.attrs:
            _check_name(attr.name, f"{shown(op.type)}, op {position}: an attribute", number, source)


def _check_name(name: str | bytes, what: str, number: int, source: str) -> None:
    """Refuse a name that is empty, or no UTF-8: the protobuf library gives bytes for such."""
    if not name or isinstance(name, bytes):
        raise ProgramDescError(f"{what} has no name", f"{source}, block {number}", _DAMAGED)
