"""Modules that lie beside a script are the script's: what fluidc and its libraries import is not found among them."""

from __future__ import annotations

import contextlib
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import FrameType, ModuleType

from ..errors import UnsupportedError
from ..source import user_location

_INSTALLED = tuple({sysconfig.get_paths()[kind] for kind in ("stdlib", "platstdlib", "purelib", "platlib")})
_OURS = __name__.partition(".")[0]
_LIBRARIES = frozenset(("tvm", "tvm_ffi", "ml_dtypes", "onnx", "onnxruntime", "safetensors", "scipy", "dp_accounting"))
"""What the compiler and the runtime stand on."""
_FOR_SCRIPTS = f"{_OURS}.frontend.paddle"
"""Here fluidc reads a script's files and imports on its behalf."""


@contextlib.contextmanager
def siblings_of(folder: Path) -> Iterator[None]:
    """Inside the ``with`` block modules in ``folder`` are found by the script alone.

    A library may ask for a module that need not be there (``cuda``, say): a file of that name beside the script would
    run while the compiler loads that library, and would hide a real one.
    """
    finder = _Siblings(folder)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Siblings:
    """A finder of the import system that answers for names in one folder only."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What the name is for a library; None for the script, which is to find it as always.

        Raises:
            ModuleNotFoundError: A library asks, and there is none but the script's.
            UnsupportedError: The script asks for its own module of a name that the compiler needs itself.
        """
        if path is not None or (own := PathFinder.find_spec(name, [str(self._folder)])) is None:
            return None
        if not _asked_by_library(sys._getframe(1)):
            if name in _LIBRARIES:
                raise UnsupportedError(
                    f"{own.origin or name} has the name of the library {name}, which the compiler loads",
                    user_location().place,
                    "rename it, and what imports it",
                )
            return None
        elsewhere = [entry for entry in sys.path if Path(entry).resolve() != self._folder]
        for finder in sys.meta_path:
            if finder is self:
                continue
            spec = finder.find_spec(name, elsewhere if finder is PathFinder else None, target)
            if spec is not None:
                return spec
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def _asked_by_library(frame: FrameType | None) -> bool:
    """Whether the innermost frame that is the script's or ours is ours; other libraries work for who calls them."""
    while frame is not None:
        asking = str(frame.f_globals.get("__name__"))
        root = asking.partition(".")[0]
        if root in _LIBRARIES or (root == _OURS and not asking.startswith(_FOR_SCRIPTS)):
            return True
        file = frame.f_code.co_filename
        if root != _OURS and not file.startswith((*_INSTALLED, "<frozen ")):
            return False
        frame = frame.f_back
    return False
