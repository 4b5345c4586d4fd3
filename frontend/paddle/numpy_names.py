"""Names that numpy has dropped and old scripts use, put back while such a script runs."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from ..answers import answering
from ..formats import pickle_reader
from ..formats.errors import StateFileError
from .session import note_restored

RESTORED: Mapping[str, tuple[str, Callable[[], Any]]] = {
    "int": ("int", lambda: int),
    "float": ("float", lambda: float),
    "bool": ("bool", lambda: bool),
    "object": ("object", lambda: object),
    "str": ("str", lambda: str),
    "complex": ("complex", lambda: complex),
    "long": ("int", lambda: int),
    "unicode": ("str", lambda: str),
    "float_": ("np.float64", lambda: np.float64),
    "complex_": ("np.complex128", lambda: np.complex128),
    "longfloat": ("np.longdouble", lambda: np.longdouble),
    "string_": ("np.bytes_", lambda: np.bytes_),
    "unicode_": ("np.str_", lambda: np.str_),
    "Inf": ("np.inf", lambda: np.inf),
    "Infinity": ("np.inf", lambda: np.inf),
    "infty": ("np.inf", lambda: np.inf),
    "PINF": ("np.inf", lambda: np.inf),
    "NINF": ("-np.inf", lambda: -np.inf),
    "NaN": ("np.nan", lambda: np.nan),
    "NAN": ("np.nan", lambda: np.nan),
    "product": ("np.prod", lambda: np.prod),
    "cumproduct": ("np.cumprod", lambda: np.cumprod),
    "sometrue": ("np.any", lambda: np.any),
    "alltrue": ("np.all", lambda: np.all),
    "in1d": ("np.isin of flat arrays", lambda: _in1d),
    "row_stack": ("np.vstack", lambda: np.vstack),
    "round_": ("np.round", lambda: np.round),
    "rank": ("np.ndim", lambda: np.ndim),
    "trapz": ("np.trapezoid", lambda: getattr(np, "trapezoid")),  # noqa: B009  # of numpy 2
    "asscalar": ("a.item()", lambda: _asscalar),
    "msort": ("np.sort(a, axis=0)", lambda: functools.partial(np.sort, axis=0)),
    "asfarray": ("np.asarray of floats", lambda: _asfarray),
    "mat": ("np.asmatrix", lambda: np.asmatrix),
    "int0": ("np.intp", lambda: np.intp),
    "uint0": ("np.uintp", lambda: np.uintp),
    "bool8": ("np.bool_", lambda: np.bool_),
    "object0": ("np.object_", lambda: np.object_),
    "str0": ("np.str_", lambda: np.str_),
    "bytes0": ("np.bytes_", lambda: np.bytes_),
    "void0": ("np.void", lambda: np.void),
    "singlecomplex": ("np.complex64", lambda: np.complex64),
    "cfloat": ("np.complex128", lambda: np.complex128),
    "clongfloat": ("np.clongdouble", lambda: np.clongdouble),
    "longcomplex": ("np.clongdouble", lambda: np.clongdouble),
    "cast": ("a.astype", lambda: _Casts()),
    "obj2sctype": ("np.dtype(x).type", lambda: _element_type),
    "find_common_type": ("np.result_type", lambda: _common_type),
    "issctype": ("issubclass(x, np.generic)", lambda: _is_element_type),
    "source": ("inspect.getsource", lambda: _source),
}
"""Name -> what it was, in words, and that value."""

# What tells numpy's release by its names, and needs none of these: fluidc and what it stands on.
_MODERN = frozenset(
    {"fluidc", "numpy", "tvm", "tvm_ffi", "ml_dtypes", "onnx", "onnxruntime", "scipy", "dp_accounting", "safetensors"}
    | {"matplotlib", "pyarrow", "PIL", "cv2", "sklearn", "pandas", "torch"}
)
_OF_OBJECTS = "np.load of objects without allow_pickle"


def _in1d(ar1: Any, ar2: Any, assume_unique: bool = False, invert: bool = False) -> Any:
    return np.isin(np.asarray(ar1).ravel(), ar2, assume_unique=assume_unique, invert=invert)


def _asscalar(a: Any) -> Any:
    return a.item()


def _asfarray(a: Any, dtype: Any = np.float64) -> Any:
    return np.asarray(a, dtype if np.issubdtype(dtype, np.inexact) else np.float64)


class _Casts(Mapping[Any, Callable[[Any], Any]]):
    """``np.cast[dtype](a)``."""

    def __getitem__(self, key: Any) -> Callable[[Any], Any]:
        dtype = np.dtype(key)
        return lambda a: np.asarray(a).astype(dtype)

    def __iter__(self) -> Iterator[Any]:
        return iter(dict.fromkeys(np.dtype(code).type for code in np.typecodes["All"]))

    def __len__(self) -> int:
        return len(tuple(iter(self)))


def _element_type(rep: Any, default: Any = None) -> Any:
    try:
        return np.dtype(rep if isinstance(rep, type) else getattr(rep, "dtype", rep)).type
    except TypeError:
        return default


def _common_type(array_types: Any, scalar_types: Any) -> Any:
    """The type of a result of such arrays and scalars; scalars count where their kind is above that of the arrays."""
    arrays, scalars = [np.result_type(*map(np.dtype, each)) if each else None for each in (array_types, scalar_types)]
    if arrays is None or scalars is None:
        return scalars if arrays is None else arrays
    order = "biufc"
    return scalars if order.find(scalars.kind) > order.find(arrays.kind) else arrays


def _is_element_type(rep: Any) -> bool:
    return isinstance(rep, type | np.dtype) and _element_type(rep, np.object_) is not np.object_


def _source(object: Any) -> None:
    import inspect

    print(inspect.getsource(object))


def _named(before: Callable[[str], Any]) -> Callable[[str], Any]:
    def lookup(name: str) -> Any:
        asking = str(sys._getframe(1).f_globals.get("__name__")).partition(".")[0]
        if name in RESTORED and asking not in _MODERN:
            what, value = RESTORED[name]
            note_restored(f"np.{name}", what)
            return value()
        return before(name)

    return lookup


def _loading(load: Callable[..., Any]) -> Callable[..., Any]:
    """``np.load`` as numpy before 1.16.3 had it, for files of this machine, as far as that is safe.

    Their pickles are read without Python's unpickler: texts, numbers, arrays, and lists, tuples and dicts of them. What
    asks for more is refused; a script that says ``allow_pickle`` itself is numpy's own business.
    """

    @functools.wraps(load)
    def loaded(file: Any, mmap_mode: Any = None, allow_pickle: Any = None, *args: Any, **kwargs: Any) -> Any:
        if allow_pickle is not None or not isinstance(file, str | os.PathLike):
            return load(file, mmap_mode, bool(allow_pickle), *args, **kwargs)
        try:
            found = load(file, mmap_mode, False, *args, **kwargs)
        except ValueError as error:
            if "allow_pickle" not in str(error):
                raise
            note_restored(_OF_OBJECTS, "allowed, where no code would be run")
            with open(file, "rb") as content:
                return _array(content, os.fspath(file))
        return _Archive(found, os.fspath(file)) if isinstance(found, np.lib.npyio.NpzFile) else found

    return loaded


class _Archive(Mapping[str, Any]):
    """An ``.npz`` file whose members may hold objects."""

    def __init__(self, archive: Any, path: str) -> None:
        self._archive = archive
        self._path = path
        self.files: list[str] = archive.files

    def __getitem__(self, key: str) -> Any:
        try:
            return self._archive[key]
        except ValueError as error:
            if "allow_pickle" not in str(error):
                raise
        note_restored(_OF_OBJECTS, "allowed, where no code would be run")
        with zipfile.ZipFile(self._path) as opened, opened.open(f"{key.removesuffix('.npy')}.npy") as content:
            return _array(content, f"{self._path}, {key}")

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._archive, name)

    def __enter__(self) -> _Archive:
        return self

    def __exit__(self, *raised: object) -> None:
        self._archive.close()


def _array(content: Any, source: str) -> Any:
    """The array of objects in an ``.npy`` file."""
    version = np.lib.format.read_magic(content)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    read_header(content)
    value = pickle_reader.read(content.read(), source, objects=True)
    if not isinstance(value, np.ndarray):
        raise StateFileError("the file's array of objects is none", source, "save it again")
    return value


class OldArray(np.ndarray):
    """An array of which ``float()``, ``int()`` and ``%f`` work if it has one element, whatever its shape.

    numpy did so itself before 2.4, and old scripts print their losses that way: Paddle's losses have the shape [1].
    Larger arrays are of this kind too, as their rows and elements (``loss[0]``, ``for row in predictions``) inherit it.
    """

    def _one(self, what: str) -> Any:
        if self.size != 1:
            raise TypeError("only size-1 arrays can be converted to Python scalars")
        if self.ndim:
            note_restored(f"{what}() of an array of one element", "its element")
        return self.item()

    def __repr__(self) -> str:
        return repr(self.view(np.ndarray))

    def __str__(self) -> str:
        return str(self.view(np.ndarray))

    def __float__(self) -> float:
        return float(self._one("float"))

    def __int__(self) -> int:
        return int(self._one("int"))


def is_restored(name: str) -> bool:
    """Whether `old_numpy` gives ``np.NAME``, which this numpy lacks."""
    return name in RESTORED and name not in vars(np)


@contextlib.contextmanager
def old_numpy() -> Iterator[None]:
    """Inside the ``with`` block numpy has the names of `RESTORED`, loads arrays of objects, and values are `OldArray`s.

    Each use is noted.
    """
    names: dict[str, Any] = np.__dict__  # type: ignore[assignment]  # a module's
    lookup, load = names["__getattr__"], np.load
    names.update(__getattr__=_named(lookup), load=_loading(load))
    try:
        with answering(lambda array: array.view(OldArray)):
            yield
    finally:
        names.update(__getattr__=lookup, load=load)
