"""Running a user's script in this process: what it finds there, and what is said when it fails."""

from __future__ import annotations

import contextlib
import linecache
import os
import sys
import sysconfig
import traceback
import types
import warnings
from collections.abc import Collection, Iterator, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path

from ...compiler.errors import FluidcError
from ..paddle.dataset.common import data_home
from ..paddle.finder import installed
from ..paddle.numpy_names import old_numpy
from ..paddle.pillow_names import old_pillow
from ..paddle.python2 import explain_error, explain_syntax
from ..paddle.session import Session, noting
from .calls import explain_call
from .siblings import siblings_of

_ROOMS = Path(__file__).resolve().parents[2]
_LIBRARIES = tuple(
    {*(sysconfig.get_paths()[kind] for kind in ("stdlib", "platstdlib", "purelib", "platlib")), "<frozen "}
    | {f"{_ROOMS / room}{os.sep}" for room in ("compiler", "frontend", "runtime")}
)


class CaptureError(FluidcError):
    """A script that cannot be run, or in which there is nothing to compile."""


NO_SCRIPTS = {
    ".fluidc": "an artifact: run, predict, inspect and dump take it",
    ".ir": "the text of a program: fluidc opt takes it",
    ".npz": "data: run and predict take it",
    ".safetensors": "a checkpoint: run --resume takes it",
}
"""Files that a slip of the fingers must not have executed: suffix -> what it is."""


@contextlib.contextmanager
def old_scripts(session: Session, data: Path | None = None) -> Iterator[None]:
    """Inside the ``with`` block a script written for Paddle 1.x finds what it needs; what that was goes to ``session``.

    ``data`` is the folder of data sets; None: FLUIDC_DATA, else Paddle's own.
    """
    with noting(session), installed(), old_numpy(), old_pillow(), data_home(data):
        yield


@contextlib.contextmanager
def as_main(path: Path, arguments: Sequence[str]) -> Iterator[types.ModuleType]:
    """A module, arguments and a folder where Python has them for the script that it runs.

    Modules that lie beside the script are found by it alone, not by what fluidc imports meanwhile. Those that were
    imported inside the ``with`` block are forgotten after it: the next script may have others of the same names.
    """
    known = set(sys.modules)
    module = types.ModuleType("__main__")
    module.__file__ = str(path)
    before, folder = (sys.modules["__main__"], sys.argv, list(sys.path)), os.getcwd()
    sys.modules["__main__"] = module
    sys.argv = [str(path), *arguments]
    sys.path[0:1] = [str(path.resolve().parent)]
    try:
        with siblings_of(path.resolve().parent):
            yield module
    finally:
        sys.modules["__main__"], sys.argv, sys.path[:] = before
        os.chdir(folder)
        for name in _imported_from(path.resolve().parent, known):
            del sys.modules[name]


def _imported_from(folder: Path, known: Collection[str]) -> list[str]:
    """Names of modules in a folder, but for those that are known and those of libraries that lie below it."""
    found: list[str] = []
    for name, module in list(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        if name in known or not isinstance(spec, ModuleSpec):
            continue
        places = [spec.origin] if spec.has_location else list(spec.submodule_search_locations or ())
        if any(p and Path(p).is_relative_to(folder) and not p.startswith(_LIBRARIES) for p in places):
            found.append(name)
    return found


def read_script(path: Path) -> bytes:
    """The script's text.

    Raises:
        CaptureError: It cannot be read, or is no script.
    """
    if path.suffix in NO_SCRIPTS:
        raise CaptureError("this is no script, and it is not run as one", str(path), f"it is {NO_SCRIPTS[path.suffix]}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise CaptureError(f"the script cannot be read: {error.strerror}", where=str(path)) from None


def compiled(path: Path) -> types.CodeType:
    """The script's code.

    Raises:
        CaptureError: It cannot be read, is no script, or not one for Python 3.
    """
    content = read_script(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # such as escapes that were allowed once
            return compile(content, str(path), "exec")
    except SyntaxError as error:
        raise syntax_error(error, path) from None
    except ValueError as error:
        raise CaptureError(f"the script is not valid Python: {error}", str(path), "correct it") from None
    except (RecursionError, MemoryError):
        raise too_deep(path) from None


def too_deep(path: Path) -> CaptureError:
    """What a script is told whose expressions Python does not parse."""
    what = "the script holds an expression that is nested too deeply for Python"
    return CaptureError(what, str(path), "divide it into several statements")


def execute(code: types.CodeType, module: types.ModuleType, path: Path) -> None:
    """Run the script's code; what it raises becomes a message with the user's line.

    Raises:
        CaptureError: It fails.
        FluidcError: What fluid refuses in it.
        SystemExit: It exits.
    """
    try:
        exec(code, vars(module))
    except FluidcError as error:
        place = user_place(error.__traceback__)
        if place is not None and place.partition(":")[0] not in (error.where or ""):
            # Of a file, a folder or a device: the place that the error names is not the script's.
            error.where = place if error.where is None else f"{place}, {error.where}"
        raise
    except SyntaxError as error:  # of a module that it imports
        raise syntax_error(error, path) from error
    except Exception as error:
        place = user_place(error.__traceback__) or str(path)
        advice = explain_error(error) or explain_call(error)
        raise CaptureError(
            f"the script failed: {type(error).__name__}: {error}",
            where=place,
            hint=advice or "-v shows the whole traceback",
        ) from error


def user_place(trace: types.TracebackType | None) -> str | None:
    """``file:line`` of the innermost frame that is neither fluidc's nor a library's, and where that was called from."""
    frames = [frame for frame in traceback.extract_tb(trace) if not frame.filename.startswith(_LIBRARIES)]
    places = [f"{frame.filename}:{frame.lineno}" for frame in reversed(frames)]
    return ", called at ".join(places[:3]) if places else None


def source_line(where: str | None) -> str | None:
    """The text of the line that ``file:line...`` names, if it can be read."""
    file, _, rest = (where or "").partition(":")
    number = rest.split(",")[0].split(" ")[0]
    if not number.isdecimal():
        return None
    linecache.checkcache(file)
    return linecache.getline(file, int(number)).strip() or None


def syntax_error(error: SyntaxError, path: Path) -> CaptureError:
    """What a script is told that does not parse: where, and whether it is one for Python 2."""
    file = error.filename or str(path)
    where = f"{file}:{error.lineno}" if error.lineno else file
    old = explain_syntax(error, file)
    if old is not None:
        return CaptureError(old[0], where, old[1])
    return CaptureError(f"the script is not valid Python: {error.msg}", where, "correct it")
