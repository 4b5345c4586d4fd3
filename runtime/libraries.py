"""The shared libraries that artifacts run on, by target, and where they are.

They come with the wheels of apache-tvm, and are found there without importing its Python packages, whose import takes
seconds and 150 MB; or, in a bundle, in a folder beside this file, and then nowhere else.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

from .errors import EngineError
from .manifest import TargetKind

BUNDLED = Path(__file__).with_name("lib")
"""Where a bundle keeps them; the folder is not there in an installation."""


@dataclass(frozen=True)
class SharedLibrary:
    """A library, and the wheel that it comes with.

    Attributes:
        name: of its file.
        package: import name of the package in whose folder ``lib`` it lies.
        distribution: what pip calls the wheel.
    """

    name: str
    package: str
    distribution: str


FFI = SharedLibrary("libtvm_ffi.so", "tvm_ffi", "apache-tvm-ffi")
RUNTIME = SharedLibrary("libtvm_runtime.so", "tvm", "apache-tvm")
RUNTIME_CUDA = SharedLibrary("libtvm_runtime_cuda.so", "tvm", "apache-tvm")

NEEDED: Mapping[TargetKind, tuple[SharedLibrary, ...]] = {
    "cpu": (FFI, RUNTIME),
    "cuda": (FFI, RUNTIME, RUNTIME_CUDA),
    "onnx": (),
    "reference": (),
}
"""Target -> the libraries of its engine, in the order in which they are loaded; a bundle carries them."""


def found(library: SharedLibrary) -> Path:
    """Where ``library`` is; raises EngineError when it is not there."""
    if BUNDLED.is_dir():
        path = BUNDLED / library.name
        if path.is_file():
            return path
        raise EngineError(
            f"{library.name} is not in this bundle, and the artifact runs on it",
            str(BUNDLED),
            "make a bundle of this artifact: fluidc bundle OUT.fluidc -o DIR",
        )
    folders = list(package_folders(library.package))
    for folder in folders:
        path = folder / "lib" / library.name
        if path.is_file():
            return path
    what = f"{library.name} of {library.distribution}" if folders else library.distribution
    raise EngineError(
        f"{what} is not installed, and compiled artifacts run on it",
        "Python environment",
        "pip install 'apache-tvm>=0.27,<0.28', or run a bundle of the artifact: fluidc bundle OUT.fluidc -o DIR",
    )


def package_folders(name: str) -> Iterator[Path]:
    """The folders of a package wherever Python looks for it; nothing of it is executed.

    A module of that name, such as one beside a script, is no package and hides none.
    """
    for entry in sys.path:
        spec = PathFinder.find_spec(name, [entry])
        yield from map(Path, (spec and spec.submodule_search_locations) or ())
