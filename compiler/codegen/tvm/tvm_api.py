"""TVM's Python API under untyped names: the package has no types that a strict checker could use."""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any

_start = time.perf_counter()
tvm: Any = import_module("tvm")
tirx: Any = import_module("tvm.tirx")
relax: Any = import_module("tvm.relax")
sym: Any = import_module("tvm.sym")
pipelines: Any = import_module("tvm.tirx.compilation_pipeline")
IMPORT_SECONDS = time.perf_counter() - _start
"""What loading TVM took: nothing the compiler could do about it."""
