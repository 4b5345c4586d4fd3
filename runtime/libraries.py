"""The shared libraries that artifacts run on, by target, and where they are.

They come with the wheels of apache-tvm, and are found there without importing its Python packages, whose import takes
seconds and 150 MB; or, in a bundle, in a folder beside this file, and then nowhere else.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
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
    spec = importlib.util.find_spec(library.package)  # executes nothing of the package
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder, "lib", library.name)
        if path.is_file():
            return path
    what = library.distribution if spec is None else f"{library.name} of {library.distribution}"
    raise EngineError(
        f"{what} is not installed, and compiled artifacts run on it",
        "Python environment",
        "pip install 'apache-tvm>=0.27,<0.28', or run a bundle of the artifact: fluidc bundle OUT.fluidc -o DIR",
    )
