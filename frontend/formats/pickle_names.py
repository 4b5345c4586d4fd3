"""The globals that pickles of state may name, each with what it stands for here."""

from __future__ import annotations

import enum


class Name(enum.Enum):
    """A global of a pickle: a mark on the reader's stack, which nothing is ever imported for."""

    RECONSTRUCT = "numpy.core.multiarray._reconstruct"
    FROM_BUFFER = "numpy.core.numeric._frombuffer"
    SCALAR = "numpy.core.multiarray.scalar"
    NDARRAY = "numpy.ndarray"
    DTYPE = "numpy.dtype"
    ENCODE = "_codecs.encode"
    BYTES = "builtins.bytes"
    TUPLE = "builtins.tuple"
    ORDERED_DICT = "collections.OrderedDict"


# What numpy 2 and Python 2 call these modules.
_MODULES = {
    "numpy._core.multiarray": "numpy.core.multiarray",
    "numpy._core.numeric": "numpy.core.numeric",
    "__builtin__": "builtins",
}


def find_name(module: str, name: str) -> Name | None:
    """The global ``name`` of ``module``, or None where no state needs it."""
    try:
        return Name(f"{_MODULES.get(module, module)}.{name}")
    except ValueError:
        return None
